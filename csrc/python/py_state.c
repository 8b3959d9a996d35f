/* py_state - State of the extension: its life, its tokens, and bringing it up to date.
 *
 * What it remembers and what it shows of the model's insides is in py_scores.c and py_inspect.c.
 */
#include "python/pycommon.h"

PyObject *cch_py_state_take(const cch_py_module *module, cch_state *state) {
    cch_py_state *self = PyObject_New(cch_py_state, module->state_type);
    if (self == NULL) {
        cch_state_free(state);
        return NULL;
    }
    cch_py_owned_init(&self->owned);
    self->state = state;
    self->cancel = (cch_py_flag){0, 0};
    return (PyObject *)self;
}

static void state_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    cch_py_state *self = (cch_py_state *)object;
    if (cch_py_owned_here(&self->owned)) cch_state_free(self->state);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyObject *none_or_raise(PyObject *object, cch_status status, const cch_error *err) {
    if (status != CCH_OK) return cch_py_raise(cch_py_module_of(object), status, err);
    Py_RETURN_NONE;
}

static PyObject *int_or_raise(PyObject *object, cch_status status, const cch_error *err, int32_t value) {
    if (status != CCH_OK) return cch_py_raise(cch_py_module_of(object), status, err);
    return PyLong_FromLong(value);
}

static PyObject *state_fork(PyObject *object, PyObject *unused) {
    (void)unused;
    const cch_py_module *module = cch_py_module_of(object);
    cch_state *copy = NULL;
    cch_error err = {0};
    cch_status status = cch_state_fork(((cch_py_state *)object)->state, &copy, &err);
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    return cch_py_state_take(module, copy);
}

static PyObject *state_append(PyObject *object, PyObject *arg) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_py_ids ids;
    if (cch_py_ids_get(module, arg, &ids) < 0) return NULL;
    cch_error err = {0};
    cch_status status = cch_state_append(((cch_py_state *)object)->state, ids.ids, (size_t)ids.n, &err);
    cch_py_ids_release(&ids);
    return none_or_raise(object, status, &err);
}

static PyObject *state_truncate(PyObject *object, PyObject *args) {
    int len = 0;
    if (!PyArg_ParseTuple(args, "i:truncate", &len)) return NULL;
    cch_error err = {0};
    cch_status status = cch_state_truncate(((cch_py_state *)object)->state, len, &err);
    return none_or_raise(object, status, &err);
}

static PyObject *state_tokens(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_state *state = ((cch_py_state *)object)->state;
    int first = 0, n = -1;
    if (!PyArg_ParseTuple(args, "|ii:tokens", &first, &n)) return NULL;
    if (n == -1 && first >= 0) n = cch_state_len(state) - first;
    if (!cch_py_range(module, state, first, n)) return NULL;
    int32_t *data = NULL;
    Py_ssize_t shape = n;
    PyObject *result = cch_py_array_new(module, 'i', 1, &shape, &data);
    if (result == NULL) return NULL;
    cch_error err = {0};
    cch_status status = cch_state_tokens(state, first, n, data, &err);
    if (status != CCH_OK) {
        Py_DECREF(result);
        return cch_py_raise(module, status, &err);
    }
    return result;
}

static PyObject *state_common_prefix(PyObject *object, PyObject *args) {
    PyObject *other = NULL;
    if (!PyArg_ParseTuple(args, "O!:common_prefix", Py_TYPE(object), &other)) return NULL;
    int32_t n = 0;
    cch_error err = {0};
    cch_status status =
        cch_state_common_prefix(((cch_py_state *)object)->state, ((cch_py_state *)other)->state, &n, &err);
    return int_or_raise(object, status, &err, n);
}

static PyObject *state_ready(PyObject *object, PyObject *unused) {
    (void)unused;
    int32_t n = 0;
    cch_error err = {0};
    cch_status status = cch_state_ready(((cch_py_state *)object)->state, &n, &err);
    return int_or_raise(object, status, &err, n);
}

static PyObject *state_evict(PyObject *object, PyObject *unused) {
    (void)unused;
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS /* it may have to wait for a forward pass */
    status = cch_state_evict(((cch_py_state *)object)->state, &err);
    Py_END_ALLOW_THREADS
    return none_or_raise(object, status, &err);
}

static PyObject *state_check(PyObject *object, PyObject *unused) {
    (void)unused;
    cch_error err = {0};
    return none_or_raise(object, cch_state_check(((cch_py_state *)object)->state, &err), &err);
}

static PyObject *state_eval(PyObject *object, PyObject *args) {
    cch_py_state *self = (cch_py_state *)object;
    int store_top_k = 0, chunk_tokens = 0;
    PyObject *progress = Py_None;
    if (!PyArg_ParseTuple(args, "|iiO:eval", &store_top_k, &chunk_tokens, &progress)) return NULL;
    cch_py_call call;
    cch_error err = {0};
    cch_py_call_begin(&call, &self->cancel, progress);
    cch_eval_options options = cch_py_eval_options(&call, chunk_tokens, store_top_k);
    cch_status status = cch_eval(cch_state_model_view(self->state), &self->state, 1, &options, NULL, &err);
    if (!cch_py_call_end(&call, cch_py_module_of(object), status, &err)) return NULL;
    Py_RETURN_NONE;
}

/* The flag is a plain int that the computing thread reads between layers: setting it needs no lock. */
static PyObject *state_cancel(PyObject *object, PyObject *unused) {
    (void)unused;
    ((cch_py_state *)object)->cancel.set = 1;
    Py_RETURN_NONE;
}

static Py_ssize_t state_length(PyObject *object) {
    return cch_state_len(((cch_py_state *)object)->state);
}

static PyMethodDef state_methods[] = {
    {"fork", state_fork, METH_NOARGS, PyDoc_STR("fork() -> State that shares all pages")},
    {"append", state_append, METH_O, PyDoc_STR("append(ids)")},
    {"truncate", state_truncate, METH_VARARGS, PyDoc_STR("truncate(len)")},
    {"tokens", state_tokens, METH_VARARGS, PyDoc_STR("tokens(first=0, n=-1) -> Array of int32")},
    {"common_prefix", state_common_prefix, METH_VARARGS, PyDoc_STR("common_prefix(other) -> tokens")},
    {"ready", state_ready, METH_NOARGS, PyDoc_STR("ready() -> leading tokens with KV entries in memory")},
    {"evict", state_evict, METH_NOARGS, PyDoc_STR("evict(): drop the KV entries, keep the tokens")},
    {"check", state_check, METH_NOARGS, PyDoc_STR("check(): verify the state's invariants")},
    {"eval", state_eval, METH_VARARGS, PyDoc_STR("eval(store_top_k=0, chunk_tokens=0, progress=None)")},
    {"cancel", state_cancel, METH_NOARGS, PyDoc_STR("cancel(): end the evaluation that runs in another thread")},
    {"scores", cch_py_state_scores, METH_VARARGS, PyDoc_STR("scores(first, n, k) -> (logprob, top_ids, top_logits)")},
    {"restore_scores", cch_py_state_restore_scores, METH_VARARGS,
     PyDoc_STR("restore_scores(first, logprob, k, top_ids, top_logits)")},
    {"lse", cch_py_state_lse, METH_VARARGS, PyDoc_STR("lse(first, n) -> Array of float64")},
    {"restore_lse", cch_py_state_restore_lse, METH_VARARGS, PyDoc_STR("restore_lse(first, lse)")},
    {"analyze", cch_py_state_analyze, METH_VARARGS,
     PyDoc_STR("analyze(first, n, k=0, logits=False) -> (logprob, entropy, rank, top_ids, top_logits, lse, logits)")},
    {"next_logits", cch_py_state_next_logits, METH_VARARGS, PyDoc_STR("next_logits(store_top_k=0) -> Array [vocab]")},
    {"logits", cch_py_state_logits, METH_VARARGS, PyDoc_STR("logits(first, n) -> Array [n, vocab]")},
    {"classify", cch_py_state_classify, METH_VARARGS, PyDoc_STR("classify(first, n) -> Array [n, labels]")},
    {"attention", cch_py_state_attention, METH_VARARGS, PyDoc_STR("attention(layer, head, first, n) -> Array")},
    {"attention_layers", cch_py_state_attention_layers, METH_VARARGS,
     PyDoc_STR("attention_layers(visit, head, first, n, chunk_tokens=64): visit(layer, at, Array) for each layer")},
    {"hidden", cch_py_state_hidden, METH_VARARGS, PyDoc_STR("hidden(layer, first, n) -> Array [n, hidden_size]")},
    {"kv", cch_py_state_kv, METH_VARARGS, PyDoc_STR("kv(layer, first, n) -> (keys, values)")},
    {"beam", cch_py_state_beam, METH_VARARGS, PyDoc_STR("beam(params, stop=None) -> (beams, trace)")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot state_slots[] = {
    {Py_tp_dealloc, state_dealloc},
    {Py_tp_getattro, cch_py_owned_getattro},
    {Py_tp_methods, state_methods},
    {Py_sq_length, state_length},
    {Py_tp_doc, PyDoc_STR("A token sequence of a model, made by Model.state() and State.fork().")},
    {0, NULL},
};

PyType_Spec cch_py_state_spec = {
    .name = "cacher._core.State",
    .basicsize = sizeof(cch_py_state),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = state_slots,
};
