/* py_embed - what an encoder makes of texts: methods of Model. */
#include "python/pycommon.h"

/* Sum of the lengths; -1 with ValueError when they do not make up the ids. */
static int check_lengths(const cch_py_ids *ids, const cch_py_ids *lengths) {
    Py_ssize_t total = 0;
    for (Py_ssize_t i = 0; i < lengths->n; i++) {
        if (lengths->ids[i] < 0 || lengths->ids[i] > ids->n - total) {
            PyErr_Format(PyExc_ValueError, "length %zd is %d, of %zd ids %zd are left", i, (int)lengths->ids[i], ids->n,
                         ids->n - total);
            return -1;
        }
        total += lengths->ids[i];
    }
    if (total == ids->n) return 0;
    PyErr_Format(PyExc_ValueError, "the lengths make up %zd of %zd ids", total, ids->n);
    return -1;
}

static Py_ssize_t hidden_size_of(const cch_model *model) {
    cch_model_info info;
    cch_model_get_info(model, &info);
    return info.hidden_size;
}

static PyObject *embed(PyObject *object, const cch_py_ids *ids, const cch_py_ids *lengths, int chunk_tokens,
                       PyObject *progress) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_model *model = ((cch_py_model *)object)->model;
    float *data = NULL;
    Py_ssize_t shape[2] = {lengths->n, hidden_size_of(model)};
    PyObject *result = cch_py_array_new(module, 'f', 2, shape, &data);
    if (result == NULL) return NULL;
    cch_py_flag cancel = {0, 0};
    cch_py_call call;
    cch_error err = {0};
    cch_py_call_begin(&call, &cancel, progress);
    cch_eval_options options = cch_py_eval_options(&call, chunk_tokens, 0);
    cch_status status = cch_embed(model, ids->ids, lengths->ids, (size_t)lengths->n, &options, data, &err);
    if (!cch_py_call_end(&call, module, status, &err)) Py_CLEAR(result);
    return result;
}

PyObject *cch_py_model_embed(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    PyObject *all = NULL, *each = NULL, *progress = Py_None, *result = NULL;
    int chunk_tokens = 0;
    cch_py_ids ids, lengths;
    if (!PyArg_ParseTuple(args, "OO|iO:embed", &all, &each, &chunk_tokens, &progress)) return NULL;
    if (cch_py_ids_get(module, all, &ids) < 0) return NULL;
    if (cch_py_ids_get(module, each, &lengths) == 0) {
        if (check_lengths(&ids, &lengths) == 0) result = embed(object, &ids, &lengths, chunk_tokens, progress);
        cch_py_ids_release(&lengths);
    }
    cch_py_ids_release(&ids);
    return result;
}

PyObject *cch_py_model_embed_tokens(PyObject *object, PyObject *source) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_model *model = ((cch_py_model *)object)->model;
    cch_py_ids ids;
    if (cch_py_ids_get(module, source, &ids) < 0) return NULL;
    float *data = NULL;
    Py_ssize_t shape[2] = {ids.n, hidden_size_of(model)};
    PyObject *result = cch_py_array_new(module, 'f', 2, shape, &data);
    if (result != NULL) {
        cch_py_flag cancel = {0, 0};
        cch_py_call call;
        cch_error err = {0};
        const int32_t n = ids.n > INT32_MAX ? INT32_MAX : (int32_t)ids.n; /* far more than any model reads */
        cch_py_call_begin(&call, &cancel, NULL);
        cch_eval_options options = cch_py_eval_options(&call, 0, 0);
        cch_status status = cch_embed_tokens(model, ids.ids, n, &options, data, &err);
        if (!cch_py_call_end(&call, module, status, &err)) Py_CLEAR(result);
    }
    cch_py_ids_release(&ids);
    return result;
}
