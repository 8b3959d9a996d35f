/* py_inspect - State methods that look inside the model: logits, labels, attention, hidden states, keys and values.
 *
 * Each allocates its result first, computes into it without the GIL, and hands it out without a copy.
 */
#include "python/pycommon.h"

/* Rows of one pass: enough for the kernels, and few enough that those who generate meanwhile hardly wait. */
enum { LOOK_ROWS = 64 };

static cch_model_info info_of(const cch_py_state *self) {
    cch_model_info info;
    cch_model_get_info(cch_state_model_view(self->state), &info);
    return info;
}

/* Keys that rows before `upto` are shown with: those up to it, or all that an encoder sees. */
static Py_ssize_t context(const cch_py_state *self, Py_ssize_t upto) {
    return info_of(self).model_type == CCH_ENCODER ? cch_state_len(self->state) : upto;
}

static PyObject *finish(cch_py_call *call, PyObject *object, cch_status status, const cch_error *err,
                        PyObject *result) {
    if (!cch_py_call_end(call, cch_py_module_of(object), status, err)) Py_CLEAR(result);
    return result;
}

PyObject *cch_py_state_next_logits(PyObject *object, PyObject *args) {
    cch_py_state *self = (cch_py_state *)object;
    int store_top_k = 0;
    if (!PyArg_ParseTuple(args, "|i:next_logits", &store_top_k)) return NULL;
    float *data = NULL;
    Py_ssize_t shape = info_of(self).vocab_size;
    PyObject *result = cch_py_array_new(cch_py_module_of(object), 'f', 1, &shape, &data);
    if (result == NULL) return NULL;
    cch_py_call call;
    cch_error err = {0};
    cch_py_call_begin(&call, &self->cancel, NULL);
    cch_eval_options options = cch_py_eval_options(&call, 0, store_top_k);
    cch_status status = cch_eval(cch_state_model_view(self->state), &self->state, 1, &options, data, &err);
    return finish(&call, object, status, &err, result);
}

/* A function of the core that gives `width` numbers for each of the positions. */
typedef cch_status (*rows_of)(cch_state *state, int32_t first, int32_t n, float *dst, const cch_eval_options *options,
                              cch_error *err);

static PyObject *rows(PyObject *object, int first, int n, int32_t width, rows_of compute) {
    cch_py_state *self = (cch_py_state *)object;
    const cch_py_module *module = cch_py_module_of(object);
    if (!cch_py_range(module, self->state, first, n)) return NULL;
    float *data = NULL;
    Py_ssize_t shape[2] = {n, width};
    PyObject *result = cch_py_array_new(module, 'f', 2, shape, &data);
    if (result == NULL) return NULL;
    cch_py_call call;
    cch_error err = {0};
    cch_py_call_begin(&call, &self->cancel, NULL);
    cch_eval_options options = cch_py_eval_options(&call, LOOK_ROWS, 0);
    cch_status status = compute(self->state, first, n, data, &options, &err);
    return finish(&call, object, status, &err, result);
}

PyObject *cch_py_state_logits(PyObject *object, PyObject *args) {
    int first = 0, n = 0;
    if (!PyArg_ParseTuple(args, "ii:logits", &first, &n)) return NULL;
    return rows(object, first, n, info_of((cch_py_state *)object).vocab_size, cch_state_logits);
}

PyObject *cch_py_state_classify(PyObject *object, PyObject *args) {
    int first = 0, n = 0;
    if (!PyArg_ParseTuple(args, "ii:classify", &first, &n)) return NULL;
    return rows(object, first, n, info_of((cch_py_state *)object).n_labels, cch_state_classify);
}

PyObject *cch_py_state_attention(PyObject *object, PyObject *args) {
    cch_py_state *self = (cch_py_state *)object;
    const cch_py_module *module = cch_py_module_of(object);
    int layer = 0, head = 0, first = 0, n = 0;
    if (!PyArg_ParseTuple(args, "iiii:attention", &layer, &head, &first, &n) ||
        !cch_py_range(module, self->state, first, n))
        return NULL;
    float *data = NULL;
    Py_ssize_t shape[3] = {head >= 0 ? 1 : info_of(self).n_heads, n, context(self, (Py_ssize_t)first + n)};
    PyObject *result = cch_py_array_new(module, 'f', 3, shape, &data);
    if (result == NULL) return NULL;
    cch_py_call call;
    cch_error err = {0};
    cch_py_call_begin(&call, &self->cancel, NULL);
    cch_eval_options options = cch_py_eval_options(&call, LOOK_ROWS, 0);
    cch_status status = cch_state_attention(self->state, layer, head, first, n, data, &options, &err);
    return finish(&call, object, status, &err, result);
}

PyObject *cch_py_state_hidden(PyObject *object, PyObject *args) {
    cch_py_state *self = (cch_py_state *)object;
    const cch_py_module *module = cch_py_module_of(object);
    int layer = 0, first = 0, n = 0;
    if (!PyArg_ParseTuple(args, "iii:hidden", &layer, &first, &n) || !cch_py_range(module, self->state, first, n))
        return NULL;
    float *data = NULL;
    Py_ssize_t shape[2] = {n, info_of(self).hidden_size};
    PyObject *result = cch_py_array_new(module, 'f', 2, shape, &data);
    if (result == NULL) return NULL;
    cch_py_call call;
    cch_error err = {0};
    cch_py_call_begin(&call, &self->cancel, NULL);
    cch_eval_options options = cch_py_eval_options(&call, LOOK_ROWS, 0);
    cch_status status = cch_state_hidden(self->state, layer, first, n, data, &options, &err);
    return finish(&call, object, status, &err, result);
}

PyObject *cch_py_state_kv(PyObject *object, PyObject *args) {
    cch_py_state *self = (cch_py_state *)object;
    const cch_py_module *module = cch_py_module_of(object);
    int layer = 0, first = 0, n = 0;
    if (!PyArg_ParseTuple(args, "iii:kv", &layer, &first, &n) || !cch_py_range(module, self->state, first, n))
        return NULL;
    cch_model_info info = info_of(self);
    float *keys = NULL, *values = NULL;
    Py_ssize_t shape[3] = {info.n_kv_heads, n, info.head_dim};
    PyObject *key_array = cch_py_array_new(module, 'f', 3, shape, &keys);
    if (key_array == NULL) return NULL;
    PyObject *value_array = cch_py_array_new(module, 'f', 3, shape, &values);
    if (value_array == NULL) {
        Py_DECREF(key_array);
        return NULL;
    }
    cch_py_call call;
    cch_error err = {0};
    cch_py_call_begin(&call, &self->cancel, NULL);
    cch_eval_options options = cch_py_eval_options(&call, LOOK_ROWS, 0);
    cch_status status = cch_state_kv(self->state, layer, first, n, keys, values, &options, &err);
    if (cch_py_call_end(&call, module, status, &err)) return Py_BuildValue("(NN)", key_array, value_array);
    Py_DECREF(key_array);
    Py_DECREF(value_array);
    return NULL;
}

/* ---- attention of all layers ---- */

typedef struct layers_call {
    cch_py_call *call;
    const cch_py_module *module;
    PyObject *visit; /* borrowed from the caller's arguments */
    Py_ssize_t heads, context;
} layers_call;

static void show_layer(void *arg, int32_t layer, int32_t at, int32_t n, const float *weights) {
    layers_call *v = arg;
    if (v->call->failed) return;
    cch_py_call_enter(v->call);
    float *data = NULL;
    Py_ssize_t shape[3] = {v->heads, n, v->context};
    PyObject *result = NULL, *array = cch_py_array_new(v->module, 'f', 3, shape, &data);
    if (array != NULL) {
        memcpy(data, weights, (size_t)v->heads * (size_t)n * (size_t)v->context * sizeof *data);
        result = PyObject_CallFunction(v->visit, "iiO", (int)layer, (int)at, array);
    }
    Py_XDECREF(array);
    Py_XDECREF(result);
    cch_py_call_leave(v->call, result == NULL);
}

PyObject *cch_py_state_attention_layers(PyObject *object, PyObject *args) {
    cch_py_state *self = (cch_py_state *)object;
    const cch_py_module *module = cch_py_module_of(object);
    PyObject *visit = NULL;
    int head = 0, first = 0, n = 0, chunk_tokens = LOOK_ROWS;
    if (!PyArg_ParseTuple(args, "Oiii|i:attention_layers", &visit, &head, &first, &n, &chunk_tokens) ||
        !cch_py_range(module, self->state, first, n))
        return NULL;
    cch_py_call call;
    cch_error err = {0};
    layers_call v = {&call, module, visit, head >= 0 ? 1 : info_of(self).n_heads, context(self, (Py_ssize_t)first + n)};
    cch_py_call_begin(&call, &self->cancel, NULL);
    cch_eval_options options = cch_py_eval_options(&call, chunk_tokens, 0);
    cch_status status = cch_state_attention_layers(self->state, head, first, n, show_layer, &v, &options, &err);
    if (!cch_py_call_end(&call, module, status, &err)) return NULL;
    Py_RETURN_NONE;
}
