/* py_sampling - the module's functions on bare logits: what is drawn, and from which distribution. */
#include "python/pycommon.h"

/* (logits, history, sampling): the buffers are held until release. */
typedef struct inputs {
    Py_buffer logits;
    cch_py_ids history;
    cch_sampling sampling;
} inputs;

static bool inputs_get(const cch_py_module *module, PyObject *args, inputs *in) {
    PyObject *logits = NULL, *history = NULL, *sampling = NULL;
    if (!PyArg_ParseTuple(args, "OOO", &logits, &history, &sampling)) return false;
    if (cch_py_sampling(sampling, &in->sampling) < 0 || cch_py_numbers(logits, "f", &in->logits) < 0) return false;
    if (in->logits.shape[0] < 1 || in->logits.shape[0] > INT32_MAX) {
        PyErr_Format(module->errors[CCH_E_ARGUMENT], "there are %zd logits, allowed: 1 to %d", in->logits.shape[0],
                     INT32_MAX);
    } else if (cch_py_ids_get(module, history, &in->history) == 0) {
        if (in->history.n <= INT32_MAX) return true;
        PyErr_Format(module->errors[CCH_E_ARGUMENT], "the history holds %zd tokens, allowed: 0 to %d", in->history.n,
                     INT32_MAX);
        cch_py_ids_release(&in->history);
    }
    PyBuffer_Release(&in->logits);
    return false;
}

static void inputs_release(inputs *in) {
    cch_py_ids_release(&in->history);
    PyBuffer_Release(&in->logits);
}

PyObject *cch_py_distribution(PyObject *self, PyObject *args) {
    const cch_py_module *module = PyModule_GetState(self);
    inputs in = {0};
    if (!inputs_get(module, args, &in)) return NULL;
    double *data = NULL;
    PyObject *result = cch_py_array_new(module, 'd', 1, in.logits.shape, &data);
    if (result != NULL) {
        cch_error err = {0};
        cch_status status = cch_distribution(in.logits.buf, (int32_t)in.logits.shape[0], &in.sampling, in.history.ids,
                                             (int32_t)in.history.n, data, &err);
        if (status != CCH_OK) {
            Py_CLEAR(result);
            cch_py_raise(module, status, &err);
        }
    }
    inputs_release(&in);
    return result;
}

static bool sample(const cch_py_module *module, PyObject *args, cch_sampled *out, cch_trace *trace) {
    inputs in = {0};
    if (!inputs_get(module, args, &in)) return false;
    cch_error err = {0};
    cch_status status = cch_sample_traced(in.logits.buf, (int32_t)in.logits.shape[0], &in.sampling, in.history.ids,
                                          (int32_t)in.history.n, trace, out, &err);
    inputs_release(&in);
    if (status != CCH_OK) cch_py_raise(module, status, &err);
    return status == CCH_OK;
}

PyObject *cch_py_sample(PyObject *self, PyObject *args) {
    cch_sampled sampled = {0};
    if (!sample(PyModule_GetState(self), args, &sampled, NULL)) return NULL;
    return Py_BuildValue("(ifff)", sampled.token_id, (double)sampled.probability, (double)sampled.logprob,
                         (double)sampled.entropy);
}

PyObject *cch_py_sample_traced(PyObject *self, PyObject *args) {
    cch_sampled sampled = {0};
    cch_trace trace = {0};
    if (!sample(PyModule_GetState(self), args, &sampled, &trace)) return NULL;
    return Py_BuildValue("(idN)", sampled.token_id, trace.entropy, cch_py_trace_top(&trace));
}

PyObject *cch_py_top_logits(PyObject *self, PyObject *args) {
    const cch_py_module *module = PyModule_GetState(self);
    PyObject *logits_object = NULL;
    int k = 0;
    if (!PyArg_ParseTuple(args, "Oi:top_logits", &logits_object, &k)) return NULL;
    Py_buffer logits;
    if (cch_py_numbers(logits_object, "f", &logits) < 0) return NULL;
    Py_ssize_t vocab = logits.shape[0];
    Py_ssize_t shape = k < vocab ? k : vocab;
    int32_t *ids = NULL;
    float *values = NULL;
    double lse = 0.0;
    PyObject *id_array = NULL, *value_array = NULL, *result = NULL;
    if (k < 1 || vocab < 1 || vocab > INT32_MAX) {
        PyErr_Format(module->errors[CCH_E_ARGUMENT], "the top %d of %zd logits: both must be 1 or more", k, vocab);
        goto done;
    }
    id_array = cch_py_array_new(module, 'i', 1, &shape, &ids);
    value_array = id_array != NULL ? cch_py_array_new(module, 'f', 1, &shape, &values) : NULL;
    if (value_array == NULL) goto done;
    cch_top_logits(logits.buf, (int32_t)vocab, (int32_t)shape, ids, values, &lse);
    result = Py_BuildValue("(OOd)", id_array, value_array, lse);
done:
    Py_XDECREF(id_array);
    Py_XDECREF(value_array);
    PyBuffer_Release(&logits);
    return result;
}

PyObject *cch_py_uniform(PyObject *self, PyObject *args) {
    (void)self;
    unsigned long long seed = 0, pos = 0;
    unsigned int stream = 0;
    if (!PyArg_ParseTuple(args, "KIK:uniform", &seed, &stream, &pos)) return NULL;
    return PyFloat_FromDouble(cch_uniform(seed, stream, pos));
}

PyObject *cch_py_splitmix_uniform(PyObject *self, PyObject *args) {
    (void)self;
    unsigned long long seed = 0, i = 0;
    if (!PyArg_ParseTuple(args, "KK:splitmix_uniform", &seed, &i)) return NULL;
    return PyFloat_FromDouble(cch_splitmix_uniform(seed, i));
}
