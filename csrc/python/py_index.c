/* py_index - Index of the extension: rows under keys, and searches among them without the GIL. */
#include "python/pycommon.h"

enum { FEW = 16 }; /* results that need no memory */

typedef struct index_object {
    cch_py_owned owned;
    cch_index *index; /* owned reference */
    int32_t dimension;
} index_object;

static cch_index *index_of(PyObject *object) {
    return ((index_object *)object)->index;
}

static const char *const dtype_names[] = {"f32", "bf16", "int8"};

static int dtype_get(const cch_py_module *module, const char *name, cch_index_dtype *out) {
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, dtype_names[i]) != 0) continue;
        *out = (cch_index_dtype)i;
        return 0;
    }
    PyErr_Format(module->errors[CCH_E_ARGUMENT], "dtype is \"%.40s\", allowed: \"f32\", \"bf16\", \"int8\"", name);
    return -1;
}

/* New Index around a reference that is taken over, also on failure. */
static PyObject *index_take(const cch_py_module *module, cch_index *index) {
    index_object *self = PyObject_New(index_object, module->index_type);
    if (self == NULL) {
        cch_index_unref(index);
        return NULL;
    }
    cch_index_info info;
    cch_index_get_info(index, &info);
    cch_py_owned_init(&self->owned);
    self->index = index;
    self->dimension = info.dimension;
    return (PyObject *)self;
}

static PyObject *index_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"dimension", "dtype", "threads", "isa", NULL};
    const cch_py_module *module = PyType_GetModuleState(type);
    cch_index_options options = CCH_INDEX_OPTIONS_INIT;
    const char *dtype = "f32";
    int dimension = 0, threads = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|siz:Index", names, &dimension, &dtype, &threads, &options.isa))
        return NULL;
    if (dtype_get(module, dtype, &options.dtype) < 0) return NULL;
    options.n_threads = threads;
    cch_index *index = NULL;
    cch_error err = {0};
    cch_status status = cch_index_new(dimension, &options, &index, &err);
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    return index_take(module, index);
}

static void index_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    if (cch_py_owned_here((cch_py_owned *)object)) {
        cch_index *index = index_of(object);
        Py_BEGIN_ALLOW_THREADS /* joins its threads */
        cch_index_unref(index);
        Py_END_ALLOW_THREADS
    }
    PyObject_Free(object);
    Py_DECREF(type);
}

/* ---------------------------------------------------------------------------------------------- arguments ---- */

/* A C-contiguous buffer of float32, [dimension] or, where n_dims is 2, [n, dimension].  0 or -1 with an exception. */
static int vectors_get(PyObject *self, PyObject *object, int n_dims, Py_buffer *view) {
    const int dimension = ((index_object *)self)->dimension;
    if (PyObject_GetBuffer(object, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) return -1;
    const char *format = view->format != NULL ? view->format : "B";
    if (view->ndim != n_dims || strcmp(format, "f") != 0) {
        PyErr_Format(PyExc_TypeError, "expected float32 in %d dimension%s, got %d of format %s", n_dims,
                     n_dims == 1 ? "" : "s", view->ndim, format);
    } else if (view->shape[n_dims - 1] != dimension) {
        PyErr_Format(cch_py_module_of(self)->errors[CCH_E_ARGUMENT],
                     "vectors have %zd numbers, the index is of dimension %d", view->shape[n_dims - 1], dimension);
    } else {
        return 0;
    }
    PyBuffer_Release(view);
    return -1;
}

/* A C-contiguous buffer of int64 in one dimension.  0 or -1 with TypeError. */
static int keys_get(PyObject *object, Py_buffer *view) {
    if (PyObject_GetBuffer(object, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) return -1;
    const char *format = view->format != NULL ? view->format : "B";
    if (view->ndim == 1 && view->itemsize == 8 && (strcmp(format, "l") == 0 || strcmp(format, "q") == 0)) return 0;
    PyErr_Format(PyExc_TypeError, "expected int64 in 1 dimension, got %d of format %s", view->ndim, format);
    PyBuffer_Release(view);
    return -1;
}

/* ------------------------------------------------------------------------------------------------ changes ---- */

static PyObject *index_add(PyObject *self, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(self);
    PyObject *vectors = NULL, *keys = Py_None, *result = NULL;
    Py_buffer rows, given = {0};
    int64_t *out_keys = NULL;
    if (!PyArg_ParseTuple(args, "O|O:add", &vectors, &keys) || vectors_get(self, vectors, 2, &rows) < 0) return NULL;
    const Py_ssize_t n = rows.shape[0];
    if (keys != Py_None && keys_get(keys, &given) < 0) goto done;
    if (keys != Py_None && given.shape[0] != n) {
        PyErr_Format(module->errors[CCH_E_ARGUMENT], "%zd keys were given for %zd vectors", given.shape[0], n);
        goto done;
    }
    result = cch_py_array_new(module, 'l', 1, &n, &out_keys);
    if (result == NULL) goto done;
    cch_index *index = index_of(self);
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cch_index_add(index, rows.buf, (size_t)n, given.buf, out_keys, &err);
    Py_END_ALLOW_THREADS
    if (status != CCH_OK) {
        Py_CLEAR(result);
        cch_py_raise(module, status, &err);
    }
done:
    if (given.obj != NULL) PyBuffer_Release(&given);
    PyBuffer_Release(&rows);
    return result;
}

static PyObject *index_remove(PyObject *self, PyObject *keys) {
    cch_index *index = index_of(self);
    Py_buffer view;
    size_t n = 0;
    cch_error err = {0};
    cch_status status;
    if (keys_get(keys, &view) < 0) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = cch_index_remove(index, view.buf, (size_t)view.shape[0], &n, &err);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    if (status != CCH_OK) return cch_py_raise(cch_py_module_of(self), status, &err);
    return PyLong_FromSize_t(n);
}

/* ------------------------------------------------------------------------------------------------ reading ---- */

static PyObject *index_has(PyObject *self, PyObject *arg) {
    cch_index *index = index_of(self);
    long long key = PyLong_AsLongLong(arg);
    bool there;
    if (key == -1 && PyErr_Occurred()) return NULL;
    Py_BEGIN_ALLOW_THREADS
    there = cch_index_has(index, key);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(there);
}

static PyObject *index_row(PyObject *self, PyObject *arg) {
    const cch_py_module *module = cch_py_module_of(self);
    cch_index *index = index_of(self);
    const Py_ssize_t dimension = ((index_object *)self)->dimension;
    long long key = PyLong_AsLongLong(arg);
    float *data = NULL;
    cch_error err = {0};
    cch_status status;
    if (key == -1 && PyErr_Occurred()) return NULL;
    PyObject *result = cch_py_array_new(module, 'f', 1, &dimension, &data);
    if (result == NULL) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = cch_index_row(index, key, data, &err);
    Py_END_ALLOW_THREADS
    if (status == CCH_OK) return result;
    Py_DECREF(result);
    return cch_py_raise(module, status, &err);
}

static PyObject *index_keys(PyObject *self, PyObject *unused) {
    (void)unused;
    const cch_py_module *module = cch_py_module_of(self);
    cch_index *index = index_of(self);
    int64_t *keys = NULL, *data = NULL;
    size_t n = 0;
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cch_index_keys(index, &keys, &n, &err);
    Py_END_ALLOW_THREADS
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    const Py_ssize_t shape = (Py_ssize_t)n;
    PyObject *result = cch_py_array_new(module, 'l', 1, &shape, &data);
    if (result != NULL && n > 0) memcpy(data, keys, n * sizeof *keys);
    cch_free(keys);
    return result;
}

static PyObject *index_info(PyObject *self, PyObject *unused) {
    (void)unused;
    cch_index *index = index_of(self);
    cch_index_info info;
    Py_BEGIN_ALLOW_THREADS
    cch_index_get_info(index, &info);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("{s:i,s:s,s:i,s:s,s:n,s:n,s:n}", "dimension", info.dimension, "dtype",
                         dtype_names[info.dtype], "threads", info.n_threads, "isa", info.isa, "rows",
                         (Py_ssize_t)info.n_rows, "bytes", (Py_ssize_t)info.bytes, "mapped_bytes",
                         (Py_ssize_t)info.mapped_bytes);
}

/* -------------------------------------------------------------------------------------------------- files ---- */

static PyObject *index_save(PyObject *self, PyObject *arg) {
    const cch_py_module *module = cch_py_module_of(self);
    cch_index *index = index_of(self);
    PyObject *path = NULL;
    cch_error err = {0};
    cch_status status;
    if (!PyUnicode_FSConverter(arg, &path)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = cch_index_save(index, PyBytes_AS_STRING(path), &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    Py_RETURN_NONE;
}

static PyObject *index_open(PyObject *type, PyObject *args) {
    const cch_py_module *module = PyType_GetModuleState((PyTypeObject *)type);
    cch_index_options options = CCH_INDEX_OPTIONS_INIT;
    PyObject *path = NULL;
    int threads = 0;
    if (!PyArg_ParseTuple(args, "O&|iz:open", PyUnicode_FSConverter, &path, &threads, &options.isa)) return NULL;
    options.n_threads = threads;
    cch_index *index = NULL;
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cch_index_open(PyBytes_AS_STRING(path), &options, &index, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    if (status == CCH_E_UNSUPPORTED) status = CCH_E_FORMAT; /* a version to come: a file that cannot be read, too */
    if (status != CCH_OK) return cch_py_raise_as(module, module->index_file_error, status, &err);
    return index_take(module, index);
}

/* ---------------------------------------------------------------------------------------------- searching ---- */

static PyObject *hits_list(const int64_t *keys, const double *scores, size_t n) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list != NULL && i < n; i++) {
        PyObject *hit = Py_BuildValue("(Ld)", (long long)keys[i], scores[i]);
        if (hit == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, (Py_ssize_t)i, hit);
    }
    return list;
}

/* Results to make room for: k, or one more than there are rows, so that a wild k takes no memory.  When all of the
 * latter come back, the index has grown meanwhile and is asked again. */
static size_t places_for(cch_index *index, Py_ssize_t k) {
    cch_index_info info;
    cch_index_get_info(index, &info);
    return k < 1 ? 0 : (size_t)k <= info.n_rows ? (size_t)k : info.n_rows + 1;
}

static PyObject *index_search(PyObject *self, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(self);
    cch_index *index = index_of(self);
    PyObject *vector = NULL, *result = NULL;
    Py_ssize_t k = 0;
    double threshold = 0.0, few_scores[FEW], *scores = few_scores;
    int64_t few_keys[FEW], *keys = few_keys;
    size_t n = 0, places;
    Py_buffer view;
    cch_error err = {0};
    cch_status status = CCH_E_MEMORY;
    if (!PyArg_ParseTuple(args, "Ond:search", &vector, &k, &threshold) || vectors_get(self, vector, 1, &view) < 0)
        return NULL;
    do {
        if (keys != few_keys) PyMem_Free(keys);
        if (scores != few_scores) PyMem_Free(scores);
        places = places_for(index, k);
        keys = places <= FEW ? few_keys : PyMem_New(int64_t, places);
        scores = places <= FEW ? few_scores : PyMem_New(double, places);
        if (keys == NULL || scores == NULL) break;
        Py_BEGIN_ALLOW_THREADS
        status = cch_index_search(index, view.buf, 1, places, threshold, NULL, keys, scores, &n, &err);
        Py_END_ALLOW_THREADS
    } while (status == CCH_OK && n == places && places < (size_t)k);
    PyBuffer_Release(&view);
    if (keys == NULL || scores == NULL) PyErr_NoMemory();
    else result = status == CCH_OK ? hits_list(keys, scores, n) : cch_py_raise(module, status, &err);
    if (keys != few_keys) PyMem_Free(keys);
    if (scores != few_scores) PyMem_Free(scores);
    return result;
}

/* Searches with `places` results for each query.  New tuple (keys, scores, counts), or NULL with an exception; *full:
 * one of the queries has as many. */
static PyObject *search_block(PyObject *self, const Py_buffer *queries, size_t places, double threshold, bool *full) {
    const cch_py_module *module = cch_py_module_of(self);
    const Py_ssize_t n = queries->shape[0], shape[2] = {n, (Py_ssize_t)places};
    double *scores = NULL;
    int64_t *keys = NULL, *counts = NULL;
    bool done = false;
    _Static_assert(sizeof(size_t) == sizeof(int64_t), "counts are read as int64");
    PyObject *key_array = cch_py_array_new(module, 'l', 2, shape, &keys);
    PyObject *score_array = key_array != NULL ? cch_py_array_new(module, 'd', 2, shape, &scores) : NULL;
    PyObject *count_array = score_array != NULL ? cch_py_array_new(module, 'l', 1, &n, &counts) : NULL;
    *full = false;
    if (count_array != NULL) {
        cch_py_flag cancel = {0}; /* of this call: Ctrl-C ends the search of the main thread only */
        cch_py_call call;
        cch_error err = {0};
        cch_py_call_begin(&call, &cancel, Py_None);
        cch_status status = cch_index_search(index_of(self), queries->buf, (size_t)n, places, threshold, &cancel.set,
                                             keys, scores, (size_t *)counts, &err);
        done = cch_py_call_end(&call, module, status, &err);
        for (Py_ssize_t i = 0; done && i < n; i++) *full |= (size_t)counts[i] == places;
    }
    if (done) return Py_BuildValue("(NNN)", key_array, score_array, count_array);
    Py_XDECREF(key_array);
    Py_XDECREF(score_array);
    Py_XDECREF(count_array);
    return NULL;
}

static PyObject *index_search_all(PyObject *self, PyObject *args) {
    PyObject *vectors = NULL, *result = NULL;
    Py_ssize_t k = 0;
    double threshold = 0.0;
    size_t places;
    bool full;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "Ond:search_all", &vectors, &k, &threshold)) return NULL;
    if (vectors_get(self, vectors, 2, &view) < 0) return NULL;
    do {
        Py_XDECREF(result);
        places = places_for(index_of(self), k);
        result = search_block(self, &view, places, threshold, &full);
    } while (result != NULL && full && places < (size_t)k);
    PyBuffer_Release(&view);
    return result;
}

static PyMethodDef index_methods[] = {
    {"add", index_add, METH_VARARGS, PyDoc_STR("add(vectors, keys=None) -> Array of keys")},
    {"remove", index_remove, METH_O, PyDoc_STR("remove(keys) -> how many there were")},
    {"has", index_has, METH_O, PyDoc_STR("has(key) -> bool")},
    {"row", index_row, METH_O, PyDoc_STR("row(key) -> Array")},
    {"keys", index_keys, METH_NOARGS, PyDoc_STR("keys() -> Array, in the order of storage")},
    {"info", index_info, METH_NOARGS, PyDoc_STR("info() -> dict")},
    {"save", index_save, METH_O, PyDoc_STR("save(path)")},
    {"open", index_open, METH_VARARGS | METH_CLASS, PyDoc_STR("open(path, threads=0, isa=None) -> Index")},
    {"search", index_search, METH_VARARGS, PyDoc_STR("search(vector, k, threshold) -> [(key, score), ...]")},
    {"search_all", index_search_all, METH_VARARGS,
     PyDoc_STR("search_all(vectors, k, threshold) -> (keys, scores, counts)")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot index_slots[] = {
    {Py_tp_new, index_new},
    {Py_tp_dealloc, index_dealloc},
    {Py_tp_getattro, cch_py_owned_getattro},
    {Py_tp_methods, index_methods},
    {Py_tp_doc, PyDoc_STR("Index(dimension, dtype=\"f32\", threads=0, isa=None): rows, and the nearest ones.")},
    {0, NULL},
};

PyType_Spec cch_py_index_spec = {
    .name = "cacher._core.Index",
    .basicsize = sizeof(index_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = index_slots,
};
