/* py_checkpoint - what is in a checkpoint, as Python's own values and Arrays. */
#include "python/pycommon.h"

#include <string.h>

/* A conversion: values that are shared in the file are shared here. */
typedef struct conversion {
    const cch_py_module *module;
    const cch_checkpoint *checkpoint;
    PyObject **made; /* owned [n]: by id, owned or NULL */
} conversion;

static PyObject *convert(conversion *c, const cch_value *value);

/* New list or tuple. */
static PyObject *convert_sequence(conversion *c, const cch_value *value) {
    const bool list = value->kind == CCH_VALUE_LIST;
    PyObject *result = list ? PyList_New((Py_ssize_t)value->n) : PyTuple_New((Py_ssize_t)value->n);
    for (size_t i = 0; result != NULL && i < value->n; i++) {
        cch_value item;
        cch_checkpoint_item(c->checkpoint, value, i, &item);
        PyObject *object = convert(c, &item);
        if (object == NULL) Py_CLEAR(result);
        else if (list) PyList_SET_ITEM(result, (Py_ssize_t)i, object);
        else PyTuple_SET_ITEM(result, (Py_ssize_t)i, object);
    }
    return result;
}

/* New dict. */
static PyObject *convert_dict(conversion *c, const cch_value *value) {
    PyObject *result = PyDict_New();
    for (size_t i = 0; result != NULL && i + 1 < value->n; i += 2) {
        cch_value key, item;
        cch_checkpoint_item(c->checkpoint, value, i, &key);
        cch_checkpoint_item(c->checkpoint, value, i + 1, &item);
        PyObject *name = convert(c, &key), *object = name != NULL ? convert(c, &item) : NULL;
        if (object == NULL || PyDict_SetItem(result, name, object) < 0) Py_CLEAR(result);
        Py_XDECREF(name);
        Py_XDECREF(object);
    }
    return result;
}

static PyObject *convert_fresh(conversion *c, const cch_value *value) {
    switch (value->kind) {
    case CCH_VALUE_NONE: return Py_NewRef(Py_None);
    case CCH_VALUE_BOOL: return PyBool_FromLong(value->integer != 0);
    case CCH_VALUE_INT: return PyLong_FromLongLong(value->integer);
    case CCH_VALUE_LONG: return _PyLong_FromByteArray((const unsigned char *)value->bytes, value->n, 1, 1);
    case CCH_VALUE_FLOAT: return PyFloat_FromDouble(value->real);
    case CCH_VALUE_TEXT: return PyUnicode_DecodeUTF8(value->bytes, (Py_ssize_t)value->n, NULL);
    case CCH_VALUE_BYTES: return PyBytes_FromStringAndSize(value->bytes, (Py_ssize_t)value->n);
    case CCH_VALUE_LIST:
    case CCH_VALUE_TUPLE: return convert_sequence(c, value);
    case CCH_VALUE_DICT: return convert_dict(c, value);
    case CCH_VALUE_OTHER: break;
    }
    return PyErr_Format(c->module->errors[CCH_E_FORMAT], "the checkpoint holds a tensor among its plain values");
}

/* New.  Containers are nested at most 100 deep. */
static PyObject *convert(conversion *c, const cch_value *value) {
    PyObject **made = &c->made[value->id];
    if (*made == NULL) *made = convert_fresh(c, value);
    return Py_XNewRef(*made);
}

/* New; None when absent. */
static PyObject *convert_key(conversion *c, const char *key) {
    cch_value value;
    return cch_checkpoint_get(c->checkpoint, key, &value) ? convert(c, &value) : Py_NewRef(Py_None);
}

/* New Array of a tensor's numbers. */
static PyObject *tensor_numbers(const conversion *c, size_t i, const cch_checkpoint_tensor *tensor) {
    Py_ssize_t shape[2] = {(Py_ssize_t)tensor->shape[0], (Py_ssize_t)tensor->shape[1]};
    float *data = NULL;
    PyObject *result = cch_py_array_new(c->module, 'f', tensor->n_dims, shape, &data);
    if (result == NULL) return NULL;
    Py_BEGIN_ALLOW_THREADS
    cch_checkpoint_read_tensor(c->checkpoint, i, data);
    Py_END_ALLOW_THREADS
    return result;
}

/* New dict of names and (shape, Array). */
static PyObject *convert_tensors(const conversion *c) {
    PyObject *result = PyDict_New();
    for (size_t i = 0; result != NULL && i < cch_checkpoint_tensors(c->checkpoint); i++) {
        cch_checkpoint_tensor tensor;
        cch_checkpoint_get_tensor(c->checkpoint, i, &tensor);
        PyObject *numbers = tensor_numbers(c, i, &tensor);
        PyObject *shape = numbers != NULL ? PyObject_GetAttrString(numbers, "shape") : NULL;
        PyObject *pair = shape != NULL ? PyTuple_Pack(2, shape, numbers) : NULL;
        if (pair == NULL || PyDict_SetItemString(result, tensor.name, pair) < 0) Py_CLEAR(result);
        Py_XDECREF(pair);
        Py_XDECREF(shape);
        Py_XDECREF(numbers);
    }
    return result;
}

static PyObject *convert_all(conversion *c) {
    static const char *const keys[] = {"model_cfg", "train_cfg", "step", "best_val_loss"};
    PyObject *result = Py_BuildValue("{s:i}", "generation", (int)cch_checkpoint_generation(c->checkpoint));
    for (size_t i = 0; result != NULL && i <= sizeof keys / sizeof *keys; i++) {
        const bool tensors = i == sizeof keys / sizeof *keys;
        PyObject *object = tensors ? convert_tensors(c) : convert_key(c, keys[i]);
        if (object == NULL || PyDict_SetItemString(result, tensors ? "tensors" : keys[i], object) < 0) Py_CLEAR(result);
        Py_XDECREF(object);
    }
    return result;
}

PyObject *cch_py_read_checkpoint(PyObject *self, PyObject *path) {
    PyObject *name = NULL, *result = NULL;
    conversion c = {.module = PyModule_GetState(self)};
    cch_checkpoint *checkpoint = NULL;
    cch_error err = {0};
    cch_status status;
    if (!PyUnicode_FSConverter(path, &name)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = cch_checkpoint_open(PyBytes_AS_STRING(name), &checkpoint, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(name);
    if (status != CCH_OK) return cch_py_raise(c.module, status, &err);
    const size_t n = (size_t)cch_checkpoint_values(checkpoint);
    c.checkpoint = checkpoint;
    c.made = PyMem_Calloc(n > 0 ? n : 1, sizeof *c.made);
    result = c.made != NULL ? convert_all(&c) : PyErr_NoMemory();
    for (size_t i = 0; c.made != NULL && i < n; i++) Py_XDECREF(c.made[i]);
    PyMem_Free(c.made);
    cch_checkpoint_close(checkpoint);
    return result;
}
