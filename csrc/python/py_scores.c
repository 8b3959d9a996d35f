/* py_scores - State methods for what a state remembers of its own evaluation, and for what can be recomputed of it. */
#include "python/pycommon.h"

#include <math.h>

PyObject *cch_py_state_scores(PyObject *object, PyObject *args) {
    cch_state *state = ((cch_py_state *)object)->state;
    const cch_py_module *module = cch_py_module_of(object);
    int first = 0, n = 0, k = 0;
    if (!PyArg_ParseTuple(args, "iii:scores", &first, &n, &k)) return NULL;
    if (n < 0 || n > cch_state_len(state) || k < 0 || k > 65536) {
        PyErr_Format(module->errors[CCH_E_ARGUMENT],
                     "scores of %d tokens, top %d: allowed 0 to %d tokens, top 0 to 65536", n, k, cch_state_len(state));
        return NULL;
    }
    Py_ssize_t shape[2] = {n, k};
    float *logprob = NULL, *logits = NULL;
    int32_t *ids = NULL;
    PyObject *arrays[3] = {NULL, NULL, NULL};
    arrays[0] = cch_py_array_new(module, 'f', 1, shape, &logprob);
    arrays[1] = arrays[0] ? cch_py_array_new(module, 'i', 2, shape, &ids) : NULL;
    arrays[2] = arrays[1] ? cch_py_array_new(module, 'f', 2, shape, &logits) : NULL;
    if (arrays[2] != NULL) {
        cch_error err = {0};
        cch_status status =
            cch_state_scores(state, first, n, logprob, k, k > 0 ? ids : NULL, k > 0 ? logits : NULL, &err);
        if (status == CCH_OK) return Py_BuildValue("(NNN)", arrays[0], arrays[1], arrays[2]);
        cch_py_raise(module, status, &err);
    }
    for (int i = 0; i < 3; i++) Py_XDECREF(arrays[i]);
    return NULL;
}

PyObject *cch_py_state_restore_scores(PyObject *object, PyObject *args) {
    cch_state *state = ((cch_py_state *)object)->state;
    const cch_py_module *module = cch_py_module_of(object);
    PyObject *logprob_object = NULL, *ids_object = NULL, *logits_object = NULL;
    int first = 0, k = 0;
    Py_ssize_t n = 0;
    cch_error err = {0};
    cch_status status = CCH_OK;
    if (!PyArg_ParseTuple(args, "iOiOO:restore_scores", &first, &logprob_object, &k, &ids_object, &logits_object))
        return NULL;
    PyObject *result = NULL;
    Py_buffer logprob = {0}, logits = {0};
    cch_py_ids ids = {0};
    if (cch_py_numbers(logprob_object, "f", &logprob) < 0) return NULL;
    if (cch_py_numbers(logits_object, "f", &logits) < 0) goto done;
    if (cch_py_ids_get(module, ids_object, &ids) < 0) goto done;
    n = logprob.shape[0];
    if (k < 0 || n > INT32_MAX || ids.n != n * k || logits.shape[0] != n * k) {
        PyErr_Format(module->errors[CCH_E_ARGUMENT],
                     "%zd log-probabilities with top %d need %zd ids and logits, got %zd and %zd", n, k, n * k, ids.n,
                     logits.shape[0]);
        goto done;
    }
    status = cch_state_restore_scores(state, first, (int32_t)n, logprob.buf, k, k > 0 ? ids.ids : NULL,
                                      k > 0 ? logits.buf : NULL, &err);
    result = status == CCH_OK ? Py_NewRef(Py_None) : cch_py_raise(module, status, &err);
done:
    cch_py_ids_release(&ids);
    if (logits.obj != NULL) PyBuffer_Release(&logits);
    PyBuffer_Release(&logprob);
    return result;
}

PyObject *cch_py_state_lse(PyObject *object, PyObject *args) {
    cch_state *state = ((cch_py_state *)object)->state;
    const cch_py_module *module = cch_py_module_of(object);
    int first = 0, n = 0;
    if (!PyArg_ParseTuple(args, "ii:lse", &first, &n)) return NULL;
    double *lse = NULL;
    Py_ssize_t shape = n > 0 && n <= cch_state_len(state) ? n : 0; /* another n is refused by the core */
    PyObject *result = cch_py_array_new(module, 'd', 1, &shape, &lse);
    if (result == NULL) return NULL;
    cch_error err = {0};
    cch_status status = cch_state_lse(state, first, n, lse, &err);
    if (status == CCH_OK) return result;
    Py_DECREF(result);
    return cch_py_raise(module, status, &err);
}

PyObject *cch_py_state_restore_lse(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    PyObject *source = NULL;
    Py_buffer lse;
    int first = 0;
    if (!PyArg_ParseTuple(args, "iO:restore_lse", &first, &source)) return NULL;
    if (cch_py_numbers(source, "d", &lse) < 0) return NULL;
    cch_error err = {0};
    cch_status status = CCH_E_ARGUMENT;
    if (lse.shape[0] <= INT32_MAX)
        status = cch_state_restore_lse(((cch_py_state *)object)->state, first, (int32_t)lse.shape[0], lse.buf, &err);
    PyBuffer_Release(&lse);
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    Py_RETURN_NONE;
}

typedef struct analysis {
    float *logprob, *entropy; /* of the distribution that predicted the token */
    int32_t *rank;            /* from 1; equal logits rank by id */
} analysis;

static void analyze_row(const float *logits, int32_t vocab, int32_t token, analysis *out, int32_t at) {
    int32_t top_id = 0, rank = 1;
    float top_value = 0.0f;
    double lse = 0.0, mean = 0.0;
    cch_top_logits(logits, vocab, 1, &top_id, &top_value, &lse);
    for (int32_t i = 0; i < vocab; i++) {
        double logprob = (double)logits[i] - lse;
        if (logprob > -700.0) mean += exp(logprob) * logprob;
        if (logits[i] > logits[token] || (logits[i] == logits[token] && i < token)) rank++;
    }
    out->logprob[at] = (float)((double)logits[token] - lse);
    out->entropy[at] = (float)(mean < 0.0 ? -mean : 0.0);
    out->rank[at] = rank;
}

/* Positions [first, first + n): the logits after the token before each, a few rows at a time; position 0 is predicted
 * by an empty state. */
static cch_status analyze_range(cch_state *state, int32_t first, int32_t n, int32_t vocab, const int32_t *tokens,
                                const cch_eval_options *options, analysis *out, cch_error *err) {
    enum { ROWS = 32 };
    cch_model *model = cch_state_model_view(state);
    cch_state *empty = NULL;
    cch_status status = CCH_OK;
    float *logits = PyMem_RawMalloc((size_t)ROWS * (size_t)vocab * sizeof *logits);
    if (logits == NULL) return CCH_E_MEMORY;
    int32_t done = 0;
    if (first == 0 && n > 0) {
        status = cch_state_new(model, &empty, err);
        if (status == CCH_OK) status = cch_eval(model, &empty, 1, options, logits, err);
        if (status == CCH_OK) analyze_row(logits, vocab, tokens[0], out, 0);
        cch_state_free(empty);
        done = 1;
    }
    while (status == CCH_OK && done < n) {
        int32_t rows = n - done < ROWS ? n - done : ROWS;
        status = cch_state_logits(state, first + done - 1, rows, logits, options, err);
        for (int32_t i = 0; status == CCH_OK && i < rows; i++)
            analyze_row(logits + (size_t)i * (size_t)vocab, vocab, tokens[done + i], out, done + i);
        done += rows;
    }
    PyMem_RawFree(logits);
    return status;
}

PyObject *cch_py_state_analyze(PyObject *object, PyObject *args) {
    cch_py_state *self = (cch_py_state *)object;
    const cch_py_module *module = cch_py_module_of(object);
    int first = 0, n = 0;
    if (!PyArg_ParseTuple(args, "ii:analyze", &first, &n)) return NULL;
    if (first < 0 || n < 0 || n > cch_state_len(self->state)) {
        PyErr_Format(module->errors[CCH_E_ARGUMENT], "positions %d to %lld are outside the state's 0 to %d", first,
                     (long long)first + n, cch_state_len(self->state));
        return NULL;
    }
    cch_model_info info;
    cch_model_get_info(cch_state_model_view(self->state), &info);
    Py_ssize_t shape = n;
    analysis out = {NULL, NULL, NULL};
    int32_t *tokens = NULL;
    PyObject *arrays[4] = {NULL, NULL, NULL, NULL}; /* the last: the tokens, ours alone */
    arrays[0] = cch_py_array_new(module, 'f', 1, &shape, &out.logprob);
    arrays[1] = arrays[0] ? cch_py_array_new(module, 'f', 1, &shape, &out.entropy) : NULL;
    arrays[2] = arrays[1] ? cch_py_array_new(module, 'i', 1, &shape, &out.rank) : NULL;
    arrays[3] = arrays[2] ? cch_py_array_new(module, 'i', 1, &shape, &tokens) : NULL;
    PyObject *result = NULL;
    if (arrays[3] != NULL) {
        cch_py_call call;
        cch_error err = {0};
        cch_py_call_begin(&call, &self->cancel, NULL);
        cch_eval_options options = cch_py_eval_options(&call, 0, 0);
        cch_status status = cch_state_tokens(self->state, first, n, tokens, &err);
        if (status == CCH_OK)
            status = analyze_range(self->state, first, n, info.vocab_size, tokens, &options, &out, &err);
        if (cch_py_call_end(&call, module, status, &err))
            result = PyTuple_Pack(3, arrays[0], arrays[1], arrays[2]);
    }
    for (int i = 0; i < 4; i++) Py_XDECREF(arrays[i]);
    return result;
}
