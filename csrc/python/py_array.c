/* py_array - memory of the binding's results, handed to NumPy and memoryview through the buffer protocol.
 *
 * An Array owns a C-contiguous block of float32, float64, int32 or int64 numbers; consumers share it without a copy
 * and keep it alive.  So NumPy is needed neither to build nor to import the package.
 */
#include "python/pycommon.h"

enum { MAX_DIMS = 3 };

_Static_assert(sizeof(long) == sizeof(int64_t), "'l' is int64");

typedef struct array {
    PyObject_HEAD
    void *data; /* owned */
    int n_dims;
    char format[2];
    Py_ssize_t item_bytes, bytes;
    Py_ssize_t shape[MAX_DIMS], strides[MAX_DIMS];
} array;

PyObject *cch_py_array_new(const cch_py_module *module, char type, int n_dims, const Py_ssize_t *shape,
                           void *out_data) {
    Py_ssize_t item_bytes = type == 'd' || type == 'l' ? 8 : 4;
    Py_ssize_t bytes = item_bytes;
    for (int i = 0; i < n_dims; i++) {
        if (shape[i] != 0 && bytes > PY_SSIZE_T_MAX / shape[i]) return PyErr_NoMemory();
        bytes *= shape[i];
    }
    array *self = PyObject_New(array, module->array_type);
    if (self == NULL) return NULL;
    self->n_dims = n_dims;
    self->format[0] = type;
    self->format[1] = '\0';
    self->item_bytes = item_bytes;
    self->bytes = bytes;
    Py_ssize_t stride = item_bytes;
    for (int i = n_dims - 1; i >= 0; i--) {
        self->shape[i] = shape[i];
        self->strides[i] = stride;
        stride *= shape[i];
    }
    self->data = PyMem_RawCalloc(1, (size_t)(bytes ? bytes : 1));
    if (self->data == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    *(void **)out_data = self->data;
    return (PyObject *)self;
}

static void array_dealloc(PyObject *object) {
    array *self = (array *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyMem_RawFree(self->data);
    PyObject_Free(object);
    Py_DECREF(type);
}

static int array_getbuffer(PyObject *object, Py_buffer *view, int flags) {
    array *self = (array *)object;
    view->obj = Py_NewRef(object);
    view->buf = self->data;
    view->len = self->bytes;
    view->readonly = 0;
    view->itemsize = self->item_bytes;
    view->format = (flags & PyBUF_FORMAT) ? self->format : NULL;
    view->ndim = self->n_dims;
    view->shape = (flags & PyBUF_ND) ? self->shape : NULL;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? self->strides : NULL;
    view->suboffsets = NULL;
    view->internal = NULL;
    return 0;
}

static Py_ssize_t array_length(PyObject *object) {
    return ((array *)object)->shape[0];
}

static PyObject *array_shape(PyObject *object, void *closure) {
    (void)closure;
    array *self = (array *)object;
    PyObject *shape = PyTuple_New(self->n_dims);
    for (int i = 0; shape != NULL && i < self->n_dims; i++) {
        PyObject *size = PyLong_FromSsize_t(self->shape[i]);
        if (size == NULL) Py_CLEAR(shape);
        else PyTuple_SET_ITEM(shape, i, size);
    }
    return shape;
}

static PyObject *array_tolist(PyObject *object, PyObject *unused) {
    (void)unused;
    PyObject *view = PyMemoryView_FromObject(object);
    PyObject *list = view != NULL ? PyObject_CallMethod(view, "tolist", NULL) : NULL;
    Py_XDECREF(view);
    return list;
}

static PyMethodDef array_methods[] = {
    {"tolist", array_tolist, METH_NOARGS, PyDoc_STR("tolist() -> nested lists of the numbers")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef array_getset[] = {
    {"shape", array_shape, NULL, PyDoc_STR("Sizes of the dimensions."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot array_slots[] = {
    {Py_tp_dealloc, array_dealloc},
    {Py_tp_methods, array_methods},
    {Py_tp_getset, array_getset},
    {Py_sq_length, array_length},
    {Py_bf_getbuffer, array_getbuffer},
    {Py_tp_doc, PyDoc_STR("Numbers of a result, read through the buffer protocol.")},
    {0, NULL},
};

PyType_Spec cch_py_array_spec = {
    .name = "cacher._core.Array",
    .basicsize = sizeof(array),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = array_slots,
};
