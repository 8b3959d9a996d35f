/* py_scores - State methods for what a state remembers of its own evaluation, and for what can be recomputed of it. */
#include "python/pycommon.h"

static bool check_k(const cch_py_module *module, const cch_state *state, int k) {
    cch_model_info info;
    cch_model_get_info(cch_state_model_view(state), &info);
    if (k >= 0 && k <= info.vocab_size) return true;
    PyErr_Format(module->errors[CCH_E_ARGUMENT], "k is %d, allowed: 0 to the vocabulary's %d", k, info.vocab_size);
    return false;
}

PyObject *cch_py_state_scores(PyObject *object, PyObject *args) {
    cch_state *state = ((cch_py_state *)object)->state;
    const cch_py_module *module = cch_py_module_of(object);
    int first = 0, n = 0, k = 0;
    if (!PyArg_ParseTuple(args, "iii:scores", &first, &n, &k)) return NULL;
    if (!cch_py_range(module, state, first, n) || !check_k(module, state, k)) return NULL;
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
    if (!PyArg_ParseTuple(args, "ii:lse", &first, &n) || !cch_py_range(module, state, first, n)) return NULL;
    double *lse = NULL;
    Py_ssize_t shape = n;
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

PyObject *cch_py_state_analyze(PyObject *object, PyObject *args) {
    cch_py_state *self = (cch_py_state *)object;
    const cch_py_module *module = cch_py_module_of(object);
    int first = 0, n = 0, k = 0, with_logits = 0;
    if (!PyArg_ParseTuple(args, "ii|ip:analyze", &first, &n, &k, &with_logits)) return NULL;
    /* The prediction of the token to come may be among them: one more than there are tokens. */
    int behind = first >= 0 && n > 0 && n - 1 == cch_state_len(self->state) - first;
    if (!cch_py_range(module, self->state, first, n - behind) || !check_k(module, self->state, k)) return NULL;
    cch_model_info info;
    cch_model_get_info(cch_state_model_view(self->state), &info);
    cch_predictions out = {.k = k};
    Py_ssize_t top[2] = {n, k}, all[2] = {with_logits ? n : 0, info.vocab_size};
    const struct {
        char type;
        int n_dims;
        const Py_ssize_t *shape;
        void *data;
    } parts[] = {
        {'f', 1, top, &out.logprob}, {'f', 1, top, &out.entropy},    {'i', 1, top, &out.rank},
        {'i', 2, top, &out.top_ids}, {'f', 2, top, &out.top_logits}, {'d', 1, top, &out.lse},
        {'f', 2, all, &out.logits},
    };
    enum { PARTS = sizeof parts / sizeof *parts };
    PyObject *result = PyTuple_New(PARTS);
    for (int i = 0; i < PARTS && result != NULL; i++) {
        PyObject *array = cch_py_array_new(module, parts[i].type, parts[i].n_dims, parts[i].shape, parts[i].data);
        if (array == NULL) Py_CLEAR(result);
        else PyTuple_SET_ITEM(result, i, array);
    }
    if (result == NULL) return NULL;
    if (!with_logits) out.logits = NULL;
    cch_py_call call;
    cch_error err = {0};
    cch_py_call_begin(&call, &self->cancel, NULL);
    cch_eval_options options = cch_py_eval_options(&call, 0, 0);
    cch_status status = cch_state_analyze(self->state, first, n, &out, &options, &err);
    if (!cch_py_call_end(&call, module, status, &err)) Py_CLEAR(result);
    return result;
}
