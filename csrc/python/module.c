/* module - cacher._core: the module, its state, and its exceptions, which are the classes of cacher/errors.py.
 *
 * Multi-phase initialisation with per-module state.  See pycommon.h for the rules of the binding and
 * cacher/_core.pyi for what each function takes and gives.
 */
#include "python/pycommon.h"

/* The class in cacher.errors (or builtins) for each status, by value. */
static const char *const error_names[CCH_PY_STATUSES] = {
    [CCH_OK] = "InternalError",
    [CCH_E_MEMORY] = NULL, /* MemoryError */
    [CCH_E_ARGUMENT] = "ParameterError",
    [CCH_E_IO] = "FileError",
    [CCH_E_FORMAT] = "ModelFormatError",
    [CCH_E_UNSUPPORTED] = "UnsupportedModelError",
    [CCH_E_TOKEN_ID] = "TokenIdError",
    [CCH_E_CONTEXT] = "ContextOverflowError",
    [CCH_E_BUDGET] = "BudgetError",
    [CCH_E_BUSY] = "StateBusyError",
    [CCH_E_CANCELLED] = "GenerationCancelled",
    [CCH_E_ENCODING] = "EncodingError",
    [CCH_E_MISMATCH] = "ModelMismatchError",
    [CCH_E_EMPTY] = "EmptyStateError",
    [CCH_E_INTERNAL] = "InternalError",
    [CCH_E_MODEL_TYPE] = "WrongModelTypeError",
};

#define COUNT_STATUS(name, value, text) +1
_Static_assert(0 CCH_STATUS_LIST(COUNT_STATUS) == CCH_PY_STATUSES, "a status has no exception class");

static PyObject *live_bytes(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    return PyLong_FromSize_t(cch_live_bytes());
}

static PyObject *fail_alloc(PyObject *self, PyObject *args) {
    (void)self;
    long long nth = 0;
    if (!PyArg_ParseTuple(args, "L:fail_alloc", &nth)) return NULL;
    return PyLong_FromLongLong(cch_fail_alloc(nth));
}

static PyMethodDef module_methods[] = {
    {"live_bytes", live_bytes, METH_NOARGS, PyDoc_STR("live_bytes() -> bytes the core holds")},
    {"fail_alloc", fail_alloc, METH_VARARGS,
     PyDoc_STR("fail_alloc(nth) -> allocations since the last call; for tests")},
    {"distribution", cch_py_distribution, METH_VARARGS, PyDoc_STR("distribution(logits, history, sampling) -> Array")},
    {"read_checkpoint", cch_py_read_checkpoint, METH_O, PyDoc_STR("read_checkpoint(path) -> dict")},
    {"sample", cch_py_sample, METH_VARARGS,
     PyDoc_STR("sample(logits, history, sampling) -> (token_id, probability, logprob, entropy)")},
    {"top_logits", cch_py_top_logits, METH_VARARGS, PyDoc_STR("top_logits(logits, k) -> (ids, values, logsumexp)")},
    {"sample_traced", cch_py_sample_traced, METH_VARARGS,
     PyDoc_STR("sample_traced(logits, history, sampling) -> (token_id, entropy, ((id, probability), ...))")},
    {"splitmix_uniform", cch_py_splitmix_uniform, METH_VARARGS,
     PyDoc_STR("splitmix_uniform(seed, i) -> float in [0, 1)")},
    {"uniform", cch_py_uniform, METH_VARARGS, PyDoc_STR("uniform(seed, stream, position) -> float in [0, 1)")},
    {NULL, NULL, 0, NULL},
};

static int add_errors(cch_py_module *module) {
    PyObject *errors = PyImport_ImportModule("cacher.errors");
    if (errors == NULL) return -1;
    int result = 0;
    for (int i = 0; i < CCH_PY_STATUSES && result == 0; i++) {
        const char *name = error_names[i];
        module->errors[i] = name != NULL ? PyObject_GetAttrString(errors, name) : Py_NewRef(PyExc_MemoryError);
        if (module->errors[i] == NULL) result = -1;
    }
    if (result == 0) {
        module->tokenizer_error = PyObject_GetAttrString(errors, "TokenizerError");
        module->model_error = PyObject_GetAttrString(errors, "ModelError");
        module->index_error = PyObject_GetAttrString(errors, "VectorIndexError");
        module->index_file_error = PyObject_GetAttrString(errors, "IndexFileError");
        if (module->tokenizer_error == NULL || module->model_error == NULL || module->index_error == NULL ||
            module->index_file_error == NULL)
            result = -1;
    }
    Py_DECREF(errors);
    return result;
}

static int add_type(PyObject *self, PyType_Spec *spec, PyTypeObject **slot) {
    *slot = (PyTypeObject *)PyType_FromModuleAndSpec(self, spec, NULL);
    if (*slot == NULL) return -1;
    return PyModule_AddType(self, *slot);
}

static int module_exec(PyObject *self) {
    cch_py_module *module = PyModule_GetState(self);
    cch_py_fork_watch();
    if (add_errors(module) < 0) return -1;
    if (add_type(self, &cch_py_array_spec, &module->array_type) < 0) return -1;
    if (add_type(self, &cch_py_tokenizer_spec, &module->tokenizer_type) < 0) return -1;
    if (add_type(self, &cch_py_decoder_spec, &module->decoder_type) < 0) return -1;
    if (add_type(self, &cch_py_model_spec, &module->model_type) < 0) return -1;
    if (add_type(self, &cch_py_state_spec, &module->state_type) < 0) return -1;
    if (add_type(self, &cch_py_batch_spec, &module->batch_type) < 0) return -1;
    if (add_type(self, &cch_py_index_spec, &module->index_type) < 0) return -1;
    if (PyModule_AddIntConstant(self, "PAGE_TOKENS", CCH_PAGE_TOKENS) < 0) return -1;
    if (PyModule_AddIntConstant(self, "FINISH_EOS", CCH_FINISH_EOS) < 0) return -1;
    if (PyModule_AddIntConstant(self, "FINISH_CONTEXT", CCH_FINISH_CONTEXT) < 0) return -1;
    if (PyModule_AddIntConstant(self, "FINISH_READ", CCH_FINISH_READ) < 0) return -1;
    return PyModule_AddStringConstant(self, "__version__", CCH_VERSION);
}

static int module_traverse(PyObject *self, visitproc visit, void *arg) {
    cch_py_module *module = PyModule_GetState(self);
    for (int i = 0; i < CCH_PY_STATUSES; i++) Py_VISIT(module->errors[i]);
    Py_VISIT(module->tokenizer_error);
    Py_VISIT(module->model_error);
    Py_VISIT(module->index_error);
    Py_VISIT(module->index_file_error);
    Py_VISIT(module->array_type);
    Py_VISIT(module->tokenizer_type);
    Py_VISIT(module->decoder_type);
    Py_VISIT(module->model_type);
    Py_VISIT(module->state_type);
    Py_VISIT(module->batch_type);
    Py_VISIT(module->index_type);
    return 0;
}

static int module_clear(PyObject *self) {
    cch_py_module *module = PyModule_GetState(self);
    for (int i = 0; i < CCH_PY_STATUSES; i++) Py_CLEAR(module->errors[i]);
    Py_CLEAR(module->tokenizer_error);
    Py_CLEAR(module->model_error);
    Py_CLEAR(module->index_error);
    Py_CLEAR(module->index_file_error);
    Py_CLEAR(module->array_type);
    Py_CLEAR(module->tokenizer_type);
    Py_CLEAR(module->decoder_type);
    Py_CLEAR(module->model_type);
    Py_CLEAR(module->state_type);
    Py_CLEAR(module->batch_type);
    Py_CLEAR(module->index_type);
    return 0;
}

static void module_free(void *self) {
    module_clear(self);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cacher._core",
    .m_doc = PyDoc_STR("The C core of cacher: arithmetic and memory. Policy is in the Python modules around it."),
    .m_size = sizeof(cch_py_module),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&module_def);
}
