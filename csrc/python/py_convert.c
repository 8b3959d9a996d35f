/* py_convert - exceptions from cch_error, and C values from Python arguments. */
#include "python/pycommon.h"

PyObject *cch_py_raise_as(const cch_py_module *module, PyObject *format_error, cch_status status,
                          const cch_error *err) {
    bool known = (int)status > 0 && (int)status < CCH_PY_STATUSES;
    PyObject *type = known ? module->errors[status] : PyExc_SystemError;
    if (status == CCH_E_FORMAT) type = format_error;
    const char *text = err->message[0] != '\0' ? err->message : cch_status_text(status);
    PyObject *message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    if (message == NULL) return NULL;
    PyObject *exception = PyObject_CallOneArg(type, message);
    Py_DECREF(message);
    if (exception == NULL) return NULL;
    if (PyObject_IsInstance(exception, PyExc_MemoryError) != 1 || status == CCH_E_BUDGET) {
        PyObject *code = PyUnicode_FromString(cch_status_name(status));
        PyObject *position = err->position >= 0 ? PyLong_FromLongLong(err->position) : Py_NewRef(Py_None);
        if (code == NULL || position == NULL || PyObject_SetAttrString(exception, "code", code) < 0 ||
            PyObject_SetAttrString(exception, "position", position) < 0)
            PyErr_Clear(); /* the message matters more than its attributes */
        Py_XDECREF(code);
        Py_XDECREF(position);
    }
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
    return NULL;
}

PyObject *cch_py_raise(const cch_py_module *module, cch_status status, const cch_error *err) {
    return cch_py_raise_as(module, module->errors[CCH_E_FORMAT], status, err);
}

static int id_out_of_range(const cch_py_module *module, PyObject *value) {
    PyObject *text = PyObject_Repr(value);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) { /* Python prints no number of that length */
        PyErr_Clear();
        text = PyUnicode_FromString("of thousands of digits");
    }
    if (text != NULL) PyErr_Format(module->errors[CCH_E_TOKEN_ID], "token id %U is outside every vocabulary", text);
    Py_XDECREF(text);
    return -1;
}

int cch_py_id_get(const cch_py_module *module, PyObject *object, int32_t *out) {
    if (PyBool_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "token ids must be integers, got bool");
        return -1;
    }
    if (!PyIndex_Check(object)) {
        PyErr_Format(PyExc_TypeError, "token ids must be integers, got %.100s", Py_TYPE(object)->tp_name);
        return -1;
    }
    PyObject *value = PyNumber_Index(object);
    if (value == NULL) return -1;
    int overflow = 0;
    long id = PyLong_AsLongAndOverflow(value, &overflow);
    int result = 0;
    if (overflow != 0 || id < INT32_MIN || id > INT32_MAX) result = id_out_of_range(module, value);
    else *out = (int32_t)id;
    Py_DECREF(value);
    return result;
}

/* One-dimensional buffers of 4- or 8-byte integers.  1: done, 0: not such a buffer, -1: exception. */
static int ids_from_buffer(const cch_py_module *module, PyObject *object, cch_py_ids *out) {
    if (!PyObject_CheckBuffer(object)) return 0;
    if (PyObject_GetBuffer(object, &out->view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) {
        PyErr_Clear(); /* strided: the slow path reads it item by item */
        out->view.obj = NULL;
        return 0;
    }
    const char *format = out->view.format ? out->view.format : "B";
    bool integers = format[1] == '\0' && strchr("ilq", format[0]) != NULL;
    if (out->view.ndim != 1) {
        PyErr_Format(PyExc_TypeError, "token ids must have one dimension, got %d", out->view.ndim);
        return -1;
    }
    if (!integers || (out->view.itemsize != 4 && out->view.itemsize != 8)) {
        PyBuffer_Release(&out->view);
        return 0;
    }
    out->n = out->view.shape[0];
    if (out->view.itemsize == 4) {
        out->ids = out->view.buf;
        return 1;
    }
    const int64_t *wide = out->view.buf;
    out->owned = PyMem_New(int32_t, (size_t)(out->n ? out->n : 1));
    if (out->owned == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < out->n; i++) {
        if (wide[i] < INT32_MIN || wide[i] > INT32_MAX) {
            PyObject *value = PyLong_FromLongLong(wide[i]);
            if (value != NULL) id_out_of_range(module, value);
            Py_XDECREF(value);
            return -1;
        }
        out->owned[i] = (int32_t)wide[i];
    }
    out->ids = out->owned;
    return 1;
}

/* Lists and tuples of plain ints, of which reading runs no code.  1: done, 0: something else is among them, or an int
 * that is no id; -1: exception. */
static int ids_from_ints(PyObject *object, cch_py_ids *out) {
    if (!PyList_CheckExact(object) && !PyTuple_CheckExact(object)) return 0;
    PyObject *const *items = PySequence_Fast_ITEMS(object);
    out->n = PySequence_Fast_GET_SIZE(object);
    out->owned = PyMem_New(int32_t, (size_t)(out->n ? out->n : 1));
    if (out->owned == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int overflow = 0;
    for (Py_ssize_t i = 0; i < out->n; i++) {
        const long id = PyLong_CheckExact(items[i]) ? PyLong_AsLongAndOverflow(items[i], &overflow) : LONG_MAX;
        if (overflow != 0 || id < INT32_MIN || id > INT32_MAX) {
            PyMem_Free(out->owned);
            out->owned = NULL;
            return 0;
        }
        out->owned[i] = (int32_t)id;
    }
    out->ids = out->owned;
    return 1;
}

static int ids_from_iterable(const cch_py_module *module, PyObject *object, cch_py_ids *out) {
    /* A tuple of our own: an item's __index__ may run code that changes a list under our feet. */
    PyObject *items = PySequence_Tuple(object);
    if (items == NULL) return -1;
    int result = -1;
    out->n = PyTuple_GET_SIZE(items);
    out->owned = PyMem_New(int32_t, (size_t)(out->n ? out->n : 1));
    if (out->owned == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < out->n; i++)
        if (cch_py_id_get(module, PyTuple_GET_ITEM(items, i), &out->owned[i]) < 0) goto done;
    out->ids = out->owned;
    result = 0;
done:
    Py_DECREF(items);
    return result;
}

int cch_py_ids_get(const cch_py_module *module, PyObject *object, cch_py_ids *out) {
    memset(out, 0, sizeof *out);
    if (PyUnicode_Check(object) || PyBytes_Check(object) || PyByteArray_Check(object)) {
        PyErr_Format(PyExc_TypeError, "token ids must be integers, got %.100s", Py_TYPE(object)->tp_name);
        return -1;
    }
    int found = ids_from_ints(object, out);
    if (found == 0) found = ids_from_buffer(module, object, out);
    if (found == 0) found = ids_from_iterable(module, object, out) < 0 ? -1 : 1;
    if (found < 0) cch_py_ids_release(out);
    return found < 0 ? -1 : 0;
}

void cch_py_ids_release(cch_py_ids *ids) {
    PyMem_Free(ids->owned);
    ids->owned = NULL;
    if (ids->view.obj != NULL) PyBuffer_Release(&ids->view);
}

const char *cch_py_utf8_of(const cch_py_module *module, PyObject *text, const char *name, Py_ssize_t *out_len) {
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "%s must be str, got %.100s", name, Py_TYPE(text)->tp_name);
        return NULL;
    }
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, out_len);
    if (utf8 == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear();
        cch_error err = {CCH_E_ENCODING, __func__, -1, ""};
        for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(text) && err.position < 0; i++) {
            Py_UCS4 c = PyUnicode_READ_CHAR(text, i);
            if (!Py_UNICODE_IS_SURROGATE(c)) continue;
            err.position = i;
            snprintf(err.message, sizeof err.message,
                     "character %lld of %s is U+%04X, half of a surrogate pair: text must be valid Unicode",
                     (long long)i, name, (unsigned)c);
        }
        cch_py_raise(module, CCH_E_ENCODING, &err);
    }
    return utf8;
}

const char *cch_py_utf8(const cch_py_module *module, PyObject *text, Py_ssize_t *out_len) {
    return cch_py_utf8_of(module, text, "the text", out_len);
}

bool cch_py_range(const cch_py_module *module, const cch_state *state, int first, int n) {
    int len = cch_state_len(state);
    if (first >= 0 && n >= 0 && first <= len && n <= len - first) return true;
    PyErr_Format(module->errors[CCH_E_ARGUMENT], "positions %d to %lld are outside the state's 0 to %d", first,
                 (long long)first + n, len);
    return false;
}

bool cch_py_tape(const cch_py_module *module, PyObject *object, cch_state **out) {
    *out = NULL;
    if (object == Py_None) return true;
    if (!Py_IS_TYPE(object, module->state_type)) {
        PyErr_Format(PyExc_TypeError, "tape must be a State or None, got %.100s", Py_TYPE(object)->tp_name);
        return false;
    }
    *out = ((cch_py_state *)object)->state;
    return true;
}

int cch_py_sampling(PyObject *tuple, cch_sampling *out) {
    unsigned long long seed = 0;
    int adaptive_top_p = 0, adaptive_top_k = 0, splitmix = 0;
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "sampling must be a tuple of 15 numbers");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "fifffiKIiifippp:sampling", &out->temperature, &out->top_k, &out->top_p, &out->min_p,
                          &out->repetition_penalty, &out->no_repeat_ngram_size, &seed, &out->stream, &out->min_tokens,
                          &out->step, &out->temperature_end, &out->schedule_steps, &adaptive_top_p, &adaptive_top_k,
                          &splitmix))
        return -1;
    out->seed = seed;
    out->adaptive_top_p = adaptive_top_p;
    out->adaptive_top_k = adaptive_top_k;
    out->splitmix = splitmix;
    return 0;
}

int cch_py_numbers(PyObject *object, const char *format, Py_buffer *view) {
    if (PyObject_GetBuffer(object, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) return -1;
    if (view->ndim == 1 && view->format != NULL && strcmp(view->format, format) == 0) return 0;
    PyErr_Format(PyExc_TypeError, "expected one dimension of float%d, got %d of format %s", format[0] == 'd' ? 64 : 32,
                 view->ndim, view->format ? view->format : "B");
    PyBuffer_Release(view);
    return -1;
}
