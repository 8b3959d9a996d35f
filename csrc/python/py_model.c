/* py_model - Model of the extension: opening, facts, statistics. */
#include "python/pycommon.h"

static PyObject *refuse_budget(const cch_py_module *module, Py_ssize_t bytes) {
    return PyErr_Format(module->errors[CCH_E_ARGUMENT], "kv_budget is %zd bytes, allowed: 1 or more, or 0 for 1 GiB",
                        bytes);
}

static PyObject *open_model(PyTypeObject *type, PyObject *path, const cch_model_options *options) {
    const cch_py_module *module = PyType_GetModuleState(type);
    cch_model *model = NULL;
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cch_model_open(PyBytes_AS_STRING(path), options, &model, &err);
    Py_END_ALLOW_THREADS
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    cch_py_model *self = PyObject_New(cch_py_model, type);
    if (self == NULL) {
        cch_model_unref(model);
        return NULL;
    }
    cch_py_owned_init(&self->owned);
    self->model = model;
    return (PyObject *)self;
}

static PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"path", "threads", "kv_budget", "isa", "tokenizer", "dtype", "kv_dtype", NULL};
    PyObject *path = NULL, *tokenizer = NULL, *given = Py_None, *result = NULL;
    cch_model_options options = CCH_MODEL_OPTIONS_INIT;
    Py_ssize_t budget = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|inzOzz:Model", names, PyUnicode_FSConverter, &path,
                                     &options.n_threads, &budget, &options.isa, &given, &options.dtype,
                                     &options.kv_dtype))
        return NULL;
    if (budget < 0) refuse_budget(PyType_GetModuleState(type), budget);
    else if (given == Py_None || PyUnicode_FSConverter(given, &tokenizer)) {
        options.kv_budget_bytes = (size_t)budget;
        options.tokenizer = tokenizer != NULL ? PyBytes_AS_STRING(tokenizer) : NULL;
        result = open_model(type, path, &options);
    }
    Py_XDECREF(tokenizer);
    Py_DECREF(path);
    return result;
}

static void model_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    cch_py_model *self = (cch_py_model *)object;
    if (cch_py_owned_here(&self->owned)) cch_model_unref(self->model);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* New; -1 is None. */
static PyObject *id_or_none(int32_t id) { return id >= 0 ? PyLong_FromLong(id) : Py_NewRef(Py_None); }

/* New tuple of a classifier's labels. */
static PyObject *labels_of(const cch_model *model, int32_t n) {
    PyObject *labels = PyTuple_New(n);
    for (int32_t i = 0; labels != NULL && i < n; i++) {
        PyObject *label = PyUnicode_FromString(cch_model_label_view(model, i));
        if (label == NULL) Py_CLEAR(labels);
        else PyTuple_SET_ITEM(labels, i, label);
    }
    return labels;
}

static const char *const pooling_names[] = {[CCH_POOL_MEAN] = "mean", [CCH_POOL_CLS] = "cls",
                                            [CCH_POOL_LAST] = "last"};

static PyObject *model_info(PyObject *object, PyObject *unused) {
    (void)unused;
    cch_model_info info;
    const cch_model *model = ((cch_py_model *)object)->model;
    cch_model_get_info(model, &info);
    PyObject *eos = PyTuple_New(info.n_eos);
    for (int32_t i = 0; eos != NULL && i < info.n_eos; i++) {
        PyObject *id = PyLong_FromLong(info.eos_token_ids[i]);
        if (id == NULL) Py_CLEAR(eos);
        else PyTuple_SET_ITEM(eos, i, id);
    }
    PyObject *labels = eos != NULL ? labels_of(model, info.n_labels) : NULL;
    if (labels == NULL) {
        Py_XDECREF(eos);
        return NULL;
    }
    return Py_BuildValue("{s:s,s:s,s:N,s:s,s:s,s:z,s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,"
                         "s:N,s:N,s:N,s:z,s:i,s:L,s:n,s:n}",
                         "model_type", cch_model_type_name(info.model_type), "architecture", info.architecture,
                         "labels", labels, "isa", info.isa, "dtype", info.dtype,
                         "kv_dtype", info.kv_dtype[0] != '\0' ? info.kv_dtype : NULL, "fingerprint", info.fingerprint,
                         "vocab_size", info.vocab_size, "hidden_size", info.hidden_size,
                         "intermediate_size", info.intermediate_size, "n_layers", info.n_layers,
                         "n_heads", info.n_heads, "n_kv_heads", info.n_kv_heads, "head_dim", info.head_dim,
                         "n_ctx", info.n_ctx, "bos_token_id", id_or_none(info.bos_token_id), "eos_token_ids", eos,
                         "pad_token_id", id_or_none(info.pad_token_id),
                         "pooling", info.model_type == CCH_ENCODER ? pooling_names[info.pooling] : NULL,
                         "n_threads", info.n_threads, "n_parameters", (long long)info.n_parameters,
                         "weight_bytes", (Py_ssize_t)info.weight_bytes, "page_bytes", (Py_ssize_t)info.page_bytes);
}

static PyObject *model_suppressed(PyObject *object, PyObject *unused) {
    (void)unused;
    int32_t n;
    const int32_t *ids = cch_model_suppressed_view(((cch_py_model *)object)->model, &n);
    PyObject *list = PyList_New(n);
    for (int32_t i = 0; list != NULL && i < n; i++) {
        PyObject *id = PyLong_FromLong(ids[i]);
        if (id == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, i, id);
    }
    return list;
}

static PyObject *model_warning(PyObject *object, PyObject *unused) {
    (void)unused;
    return PyUnicode_FromString(cch_model_warning_view(((cch_py_model *)object)->model));
}

static PyObject *model_stats(PyObject *object, PyObject *unused) {
    (void)unused;
    cch_model *model = ((cch_py_model *)object)->model;
    cch_model_stats stats;
    Py_BEGIN_ALLOW_THREADS
    cch_model_get_stats(model, &stats);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("{s:L,s:L,s:L,s:n,s:n,s:L,s:L,s:L,s:L}",
                         "pages_live", (long long)stats.pages_live, "pages_cached", (long long)stats.pages_cached,
                         "pages_shared", (long long)stats.pages_shared, "kv_bytes", (Py_ssize_t)stats.kv_bytes,
                         "kv_budget_bytes", (Py_ssize_t)stats.kv_budget_bytes,
                         "tokens_computed", (long long)stats.tokens_computed,
                         "tokens_reused", (long long)stats.tokens_reused,
                         "pages_evicted", (long long)stats.pages_evicted, "forwards", (long long)stats.forwards);
}

static PyObject *model_tokenizer(PyObject *object, PyObject *unused) {
    (void)unused;
    cch_tokenizer *tok = cch_model_tokenizer_view(((cch_py_model *)object)->model);
    if (tok == NULL) Py_RETURN_NONE;
    return cch_py_tokenizer_take(cch_py_module_of(object), cch_tokenizer_ref(tok));
}

static PyObject *model_state(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    unsigned long long salt = 0;
    cch_state *state = NULL;
    cch_error err = {0};
    if (!PyArg_ParseTuple(args, "|K:state", &salt)) return NULL;
    cch_status status = cch_state_new(((cch_py_model *)object)->model, &state, &err);
    if (status == CCH_OK) status = cch_state_set_salt(state, salt, &err);
    if (status == CCH_OK) status = cch_state_unbound(state, &err); /* Python bounds its states itself */
    if (status == CCH_OK) return cch_py_state_take(module, state);
    cch_state_free(state);
    return cch_py_raise(module, status, &err);
}

/* The states of a tuple as an array for the core; the tuple keeps them alive.  NULL with TypeError or MemoryError. */
static cch_state **states_of(const cch_py_module *module, PyObject *tuple) {
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    cch_state **states = PyMem_New(cch_state *, (size_t)(n ? n : 1));
    if (states == NULL) return (cch_state **)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (!Py_IS_TYPE(item, module->state_type)) {
            PyErr_Format(PyExc_TypeError, "states must be State objects, got %.100s", Py_TYPE(item)->tp_name);
            PyMem_Free(states);
            return NULL;
        }
        states[i] = ((cch_py_state *)item)->state;
    }
    return states;
}

static PyObject *model_eval(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    PyObject *source = NULL, *progress = Py_None;
    int store_top_k = 0, chunk_tokens = 0;
    if (!PyArg_ParseTuple(args, "O|iiO:eval", &source, &store_top_k, &chunk_tokens, &progress)) return NULL;
    PyObject *tuple = PySequence_Tuple(source);
    if (tuple == NULL) return NULL;
    cch_state **states = states_of(module, tuple);
    bool ok = false;
    if (states != NULL) {
        cch_py_flag cancel = {0, 0};
        cch_py_call call;
        cch_error err = {0};
        cch_py_call_begin(&call, &cancel, progress);
        cch_eval_options options = cch_py_eval_options(&call, chunk_tokens, store_top_k);
        cch_status status = cch_eval(((cch_py_model *)object)->model, states, (size_t)PyTuple_GET_SIZE(tuple), &options,
                                     NULL, &err);
        ok = cch_py_call_end(&call, module, status, &err);
    }
    PyMem_Free(states);
    Py_DECREF(tuple);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

static PyObject *model_classify(PyObject *object, PyObject *source) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_model *model = ((cch_py_model *)object)->model;
    PyObject *tuple = PySequence_Tuple(source);
    if (tuple == NULL) return NULL;
    cch_model_info info;
    cch_model_get_info(model, &info);
    float *data = NULL;
    Py_ssize_t n = PyTuple_GET_SIZE(tuple), shape[2] = {n, info.n_labels};
    cch_state **states = states_of(module, tuple);
    PyObject *result = states != NULL ? cch_py_array_new(module, 'f', 2, shape, &data) : NULL;
    if (result != NULL) {
        cch_py_flag cancel = {0, 0};
        cch_py_call call;
        cch_error err = {0};
        cch_py_call_begin(&call, &cancel, NULL);
        cch_eval_options options = cch_py_eval_options(&call, 0, 0);
        cch_status status = cch_classify(model, states, (size_t)n, &options, data, &err);
        if (!cch_py_call_end(&call, module, status, &err)) Py_CLEAR(result);
    }
    PyMem_Free(states);
    Py_DECREF(tuple);
    return result;
}

static PyObject *model_set_threads(PyObject *object, PyObject *args) {
    cch_model *model = ((cch_py_model *)object)->model;
    int n_threads = 0;
    if (!PyArg_ParseTuple(args, "i:set_threads", &n_threads)) return NULL;
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cch_model_set_threads(model, n_threads, &err);
    Py_END_ALLOW_THREADS
    if (status != CCH_OK) return cch_py_raise(cch_py_module_of(object), status, &err);
    Py_RETURN_NONE;
}

static PyObject *model_set_prompt_lookup(PyObject *object, PyObject *args) {
    int on = 0;
    if (!PyArg_ParseTuple(args, "p:set_prompt_lookup", &on)) return NULL;
    cch_model_set_prompt_lookup(((cch_py_model *)object)->model, on);
    Py_RETURN_NONE;
}

static PyObject *model_set_budget(PyObject *object, PyObject *args) {
    cch_model *model = ((cch_py_model *)object)->model;
    Py_ssize_t bytes = 0;
    int drop_cached = 0;
    if (!PyArg_ParseTuple(args, "n|p:set_budget", &bytes, &drop_cached)) return NULL;
    if (bytes < 0) return refuse_budget(cch_py_module_of(object), bytes);
    Py_BEGIN_ALLOW_THREADS
    cch_model_set_budget(model, (size_t)bytes, drop_cached);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *model_embedding(PyObject *object, PyObject *arg) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_model *model = ((cch_py_model *)object)->model;
    int32_t id = 0;
    if (cch_py_id_get(module, arg, &id) < 0) return NULL;
    cch_model_info info;
    cch_model_get_info(model, &info);
    float *data = NULL;
    Py_ssize_t shape = info.hidden_size;
    PyObject *result = cch_py_array_new(module, 'f', 1, &shape, &data);
    if (result == NULL) return NULL;
    cch_error err = {0};
    cch_status status = cch_model_embedding(model, id, data, &err);
    if (status != CCH_OK) {
        Py_DECREF(result);
        return cch_py_raise(module, status, &err);
    }
    return result;
}

static PyObject *model_check(PyObject *object, PyObject *unused) {
    (void)unused;
    cch_model *model = ((cch_py_model *)object)->model;
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cch_model_check(model, &err);
    Py_END_ALLOW_THREADS
    if (status != CCH_OK) return cch_py_raise(cch_py_module_of(object), status, &err);
    Py_RETURN_NONE;
}

static PyObject *model_pack(PyObject *object, PyObject *arg) {
    cch_model *model = ((cch_py_model *)object)->model;
    PyObject *path = NULL;
    cch_error err = {0};
    cch_status status;
    if (!PyUnicode_FSConverter(arg, &path)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = cch_model_pack(model, PyBytes_AS_STRING(path), &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    if (status != CCH_OK) return cch_py_raise(cch_py_module_of(object), status, &err);
    Py_RETURN_NONE;
}

static PyMethodDef model_methods[] = {
    {"info", model_info, METH_NOARGS, PyDoc_STR("info() -> dict of fixed facts")},
    {"suppressed", model_suppressed, METH_NOARGS, PyDoc_STR("suppressed() -> ids that are never drawn")},
    {"warning", model_warning, METH_NOARGS, PyDoc_STR("warning() -> what is odd about its files, or \"\"")},
    {"stats", model_stats, METH_NOARGS, PyDoc_STR("stats() -> dict of counters")},
    {"tokenizer", model_tokenizer, METH_NOARGS, PyDoc_STR("tokenizer() -> Tokenizer or None")},
    {"state", model_state, METH_VARARGS, PyDoc_STR("state(salt=0) -> new empty State, sharing pages within its salt")},
    {"eval", model_eval, METH_VARARGS,
     PyDoc_STR("eval(states, store_top_k=0, chunk_tokens=0, progress=None): bring states up to date together")},
    {"classify", model_classify, METH_O, PyDoc_STR("classify(states) -> Array [states, labels]")},
    {"embed", cch_py_model_embed, METH_VARARGS,
     PyDoc_STR("embed(ids, lengths, chunk_tokens=0, progress=None) -> Array [texts, hidden_size], unit rows")},
    {"embed_tokens", cch_py_model_embed_tokens, METH_O, PyDoc_STR("embed_tokens(ids) -> Array [ids, hidden_size]")},
    {"set_threads", model_set_threads, METH_VARARGS, PyDoc_STR("set_threads(n)")},
    {"set_prompt_lookup", model_set_prompt_lookup, METH_VARARGS, PyDoc_STR("set_prompt_lookup(on)")},
    {"set_budget", model_set_budget, METH_VARARGS, PyDoc_STR("set_budget(bytes, drop_cached=False)")},
    {"embedding", model_embedding, METH_O, PyDoc_STR("embedding(token_id) -> Array [hidden_size]")},
    {"pack", model_pack, METH_O, PyDoc_STR("pack(path): write the packed weights to a file")},
    {"check", model_check, METH_NOARGS, PyDoc_STR("check(): verify the page pool's invariants")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot model_slots[] = {
    {Py_tp_new, model_new},
    {Py_tp_dealloc, model_dealloc},
    {Py_tp_getattro, cch_py_owned_getattro},
    {Py_tp_methods, model_methods},
    {Py_tp_doc, PyDoc_STR("Model(path, threads=0, kv_budget=0, isa=None, tokenizer=None, dtype=None, "
                          "kv_dtype=\"f32\"): an opened model folder or checkpoint.")},
    {0, NULL},
};

PyType_Spec cch_py_model_spec = {
    .name = "cacher._core.Model",
    .basicsize = sizeof(cch_py_model),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = model_slots,
};
