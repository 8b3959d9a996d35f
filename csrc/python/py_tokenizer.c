/* py_tokenizer - Tokenizer and Decoder of the extension. */
#include "python/pycommon.h"

typedef struct tokenizer {
    PyObject_HEAD
    cch_tokenizer *tok;  /* owned reference */
    PyObject **numbers;  /* owned [size]: the int of each id that was given out, else NULL; NULL before the first */
} tokenizer;

typedef struct decoder {
    PyObject_HEAD
    cch_decoder *dec; /* owned; holds what it needs of the tokenizer */
} decoder;

PyObject *cch_py_tokenizer_take(const cch_py_module *module, cch_tokenizer *tok) {
    tokenizer *self = PyObject_New(tokenizer, module->tokenizer_type);
    if (self == NULL) {
        cch_tokenizer_unref(tok);
        return NULL;
    }
    self->tok = tok;
    self->numbers = NULL;
    return (PyObject *)self;
}

/* New reference to a tokenizer that was just opened, or the exception of why it was not. */
static PyObject *opened(const cch_py_module *module, cch_status status, cch_tokenizer *tok, const cch_error *err) {
    if (status != CCH_OK) return cch_py_raise_as(module, module->tokenizer_error, status, err);
    return cch_py_tokenizer_take(module, tok);
}

static PyObject *tokenizer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)kwargs;
    const cch_py_module *module = PyType_GetModuleState(type);
    PyObject *path = NULL;
    if (!PyArg_ParseTuple(args, "O&:Tokenizer", PyUnicode_FSConverter, &path)) return NULL;
    cch_tokenizer *tok = NULL;
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cch_tokenizer_open(PyBytes_AS_STRING(path), &tok, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    return opened(module, status, tok, &err);
}

static PyObject *tokenizer_of_bytes(PyObject *type, PyObject *unused) {
    (void)unused;
    cch_tokenizer *tok = NULL;
    cch_error err = {0};
    cch_status status = cch_tokenizer_new_bytes(&tok, &err);
    return opened(PyType_GetModuleState((PyTypeObject *)type), status, tok, &err);
}

static PyObject *tokenizer_of_chat(PyObject *type, PyObject *args) {
    PyObject *path = NULL;
    if (!PyArg_ParseTuple(args, "O&:of_chat", PyUnicode_FSConverter, &path)) return NULL;
    cch_tokenizer *tok = NULL;
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cch_tokenizer_open_chat(PyBytes_AS_STRING(path), &tok, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    return opened(PyType_GetModuleState((PyTypeObject *)type), status, tok, &err);
}

static PyObject *tokenizer_open_for(PyObject *type, PyObject *args) {
    PyObject *checkpoint = NULL, *given = NULL, *path = NULL;
    int vocab_size = 0;
    if (!PyArg_ParseTuple(args, "O&iO:open_for", PyUnicode_FSConverter, &checkpoint, &vocab_size, &given)) return NULL;
    if (given != Py_None && !PyUnicode_FSConverter(given, &path)) {
        Py_DECREF(checkpoint);
        return NULL;
    }
    cch_tokenizer *tok = NULL;
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cch_tokenizer_open_for(PyBytes_AS_STRING(checkpoint), path == NULL ? NULL : PyBytes_AS_STRING(path),
                                    vocab_size, &tok, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(checkpoint);
    Py_XDECREF(path);
    return opened(PyType_GetModuleState((PyTypeObject *)type), status, tok, &err);
}

static void tokenizer_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    tokenizer *self = (tokenizer *)object;
    for (int32_t id = 0; self->numbers != NULL && id < cch_tokenizer_size(self->tok); id++)
        Py_XDECREF(self->numbers[id]);
    PyMem_Free(self->numbers);
    cch_tokenizer_unref(self->tok);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* New reference: an array of ids, which are freed whatever happens. */
static PyObject *ids_take(const cch_py_module *module, int32_t *ids, size_t n) {
    Py_ssize_t shape = (Py_ssize_t)n;
    int32_t *data = NULL;
    PyObject *result = cch_py_array_new(module, 'i', 1, &shape, &data);
    if (result != NULL && n > 0) memcpy(data, ids, n * sizeof *ids);
    cch_free(ids);
    return result;
}

/* New reference: a list of ids.  All lists share the ints: an id takes 8 bytes, and no time to make. */
static PyObject *ids_list(tokenizer *self, const int32_t *ids, size_t n) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    if (list != NULL && self->numbers == NULL) {
        self->numbers = PyMem_Calloc((size_t)cch_tokenizer_size(self->tok), sizeof *self->numbers);
        if (self->numbers == NULL) {
            Py_DECREF(list);
            return PyErr_NoMemory();
        }
    }
    for (size_t i = 0; list != NULL && i < n; i++) {
        PyObject **number = &self->numbers[ids[i]];
        if (*number == NULL) *number = PyLong_FromLong(ids[i]);
        if (*number == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, (Py_ssize_t)i, Py_NewRef(*number));
    }
    return list;
}

static PyObject *tokenizer_encode(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_tokenizer *tok = ((tokenizer *)object)->tok;
    PyObject *text = NULL;
    int add_special = 0, specials = 1, continues = 0;
    if (!PyArg_ParseTuple(args, "O|ppp:encode", &text, &add_special, &specials, &continues)) return NULL;
    Py_ssize_t len = 0;
    const char *utf8 = cch_py_utf8(module, text, &len);
    if (utf8 == NULL) return NULL;
    int flags = (add_special ? CCH_ENCODE_ADD_SPECIALS : 0) | (specials ? 0 : CCH_ENCODE_PLAIN_SPECIALS) |
                (continues ? CCH_ENCODE_CONTINUES : 0);
    int32_t *ids = NULL;
    size_t n = 0;
    cch_error err = {0};
    cch_status status;
    Py_INCREF(text);
    Py_BEGIN_ALLOW_THREADS
    status = cch_tokenizer_encode(tok, utf8, (size_t)len, flags, &ids, &n, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(text);
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    PyObject *list = ids_list((tokenizer *)object, ids, n);
    cch_free(ids);
    return list;
}

static PyObject *tokenizer_encode_cut(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_tokenizer *tok = ((tokenizer *)object)->tok;
    PyObject *text = NULL;
    int limit = 0;
    if (!PyArg_ParseTuple(args, "Oi:encode_cut", &text, &limit)) return NULL;
    Py_ssize_t len = 0;
    const char *utf8 = cch_py_utf8(module, text, &len);
    if (utf8 == NULL) return NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    cch_error err = {0};
    cch_status status;
    Py_INCREF(text);
    Py_BEGIN_ALLOW_THREADS
    status = cch_tokenizer_encode_cut(tok, utf8, (size_t)len, limit, &ids, &n, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(text);
    return status == CCH_OK ? ids_take(module, ids, n) : cch_py_raise(module, status, &err);
}

static PyObject *tokenizer_decode(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_tokenizer *tok = ((tokenizer *)object)->tok;
    PyObject *source = NULL;
    int skip_special = 0;
    if (!PyArg_ParseTuple(args, "O|p:decode", &source, &skip_special)) return NULL;
    cch_py_ids ids;
    if (cch_py_ids_get(module, source, &ids) < 0) return NULL;
    char *text = NULL;
    size_t len = 0;
    cch_error err = {0};
    cch_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cch_tokenizer_decode(tok, ids.ids, (size_t)ids.n, skip_special, &text, &len, &err);
    Py_END_ALLOW_THREADS
    cch_py_ids_release(&ids);
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    PyObject *result = PyUnicode_DecodeUTF8(text, (Py_ssize_t)len, "strict");
    cch_free(text);
    return result;
}

/* ------------------------------------------------------------------------------------------------ batches ---- */

/* New reference: the items of a batch, held by nobody else, and memory [4][n] of their pointers and sizes, zeroed,
 * which is freed with PyMem_Free; NULL with an exception. */
static PyObject *batch_items(PyObject *source, const char *what, void *out_block) {
    if (PyUnicode_Check(source) || PyBytes_Check(source)) {
        PyErr_Format(PyExc_TypeError, "%s, got %.100s", what, Py_TYPE(source)->tp_name);
        return NULL;
    }
    PyObject *items = PySequence_Tuple(source);
    if (items == NULL) return NULL;
    void *block = PyMem_Calloc((size_t)PyTuple_GET_SIZE(items) + 1, 4 * sizeof(void *));
    if (block == NULL) {
        Py_DECREF(items);
        return PyErr_NoMemory();
    }
    *(void **)out_block = block;
    return items;
}

static bool texts_get(const cch_py_module *module, PyObject *items, const char **texts, size_t *lens) {
    char name[32];
    for (Py_ssize_t i = 0, len = 0; i < PyTuple_GET_SIZE(items); i++) {
        snprintf(name, sizeof name, "text %lld", (long long)i);
        texts[i] = cch_py_utf8_of(module, PyTuple_GET_ITEM(items, i), name, &len);
        if (texts[i] == NULL) return false;
        lens[i] = (size_t)len;
    }
    return true;
}

/* New reference: a list of the n lists of ids, which are freed whatever happens. */
static PyObject *ids_lists(tokenizer *self, int32_t **ids, const size_t *n_ids, Py_ssize_t n) {
    PyObject *lists = PyList_New(n);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *list = lists == NULL ? NULL : ids_list(self, ids[i], n_ids[i]);
        cch_free(ids[i]);
        if (list == NULL) Py_CLEAR(lists);
        else PyList_SET_ITEM(lists, i, list);
    }
    return lists;
}

static PyObject *tokenizer_encode_batch(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_tokenizer *tok = ((tokenizer *)object)->tok;
    PyObject *source = NULL, *lists = NULL;
    int add_special = 0, specials = 1, n_threads = 0;
    const char **texts = NULL;
    if (!PyArg_ParseTuple(args, "Oppi:encode_batch", &source, &add_special, &specials, &n_threads)) return NULL;
    PyObject *items = batch_items(source, "texts must be a sequence of str", &texts);
    if (items == NULL) return NULL;
    const Py_ssize_t n = PyTuple_GET_SIZE(items);
    size_t *lens = (size_t *)(texts + n), *n_ids = lens + n;
    int32_t **ids = (int32_t **)(n_ids + n);
    if (texts_get(module, items, texts, lens)) {
        const int flags = (add_special ? CCH_ENCODE_ADD_SPECIALS : 0) | (specials ? 0 : CCH_ENCODE_PLAIN_SPECIALS);
        cch_error err = {0};
        cch_status status;
        Py_BEGIN_ALLOW_THREADS
        status = cch_tokenizer_encode_batch(tok, texts, lens, (size_t)n, flags, n_threads, ids, n_ids, &err);
        Py_END_ALLOW_THREADS
        lists = status == CCH_OK ? ids_lists((tokenizer *)object, ids, n_ids, n) : cch_py_raise(module, status, &err);
    }
    PyMem_Free(texts);
    Py_DECREF(items);
    return lists;
}

/* New reference: a list of the n texts, which are freed whatever happens. */
static PyObject *texts_list(char **texts, const size_t *lens, Py_ssize_t n) {
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *text = list == NULL ? NULL : PyUnicode_DecodeUTF8(texts[i], (Py_ssize_t)lens[i], "strict");
        cch_free(texts[i]);
        if (text == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, i, text);
    }
    return list;
}

static PyObject *tokenizer_decode_batch(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_tokenizer *tok = ((tokenizer *)object)->tok;
    PyObject *source = NULL, *list = NULL;
    int skip_special = 0, n_threads = 0;
    const int32_t **rows = NULL;
    if (!PyArg_ParseTuple(args, "Opi:decode_batch", &source, &skip_special, &n_threads)) return NULL;
    PyObject *items = batch_items(source, "rows must be a sequence of sequences of ids", &rows);
    if (items == NULL) return NULL;
    const Py_ssize_t n = PyTuple_GET_SIZE(items);
    size_t *lens = (size_t *)(rows + n), *text_lens = lens + n;
    char **texts = (char **)(text_lens + n);
    Py_ssize_t held = 0;
    cch_py_ids *ids = PyMem_Calloc((size_t)n + 1, sizeof *ids);
    if (ids == NULL) PyErr_NoMemory();
    for (; ids != NULL && held < n; held++) {
        if (cch_py_ids_get(module, PyTuple_GET_ITEM(items, held), &ids[held]) < 0) break;
        rows[held] = ids[held].ids;
        lens[held] = (size_t)ids[held].n;
    }
    if (ids != NULL && held == n) {
        cch_error err = {0};
        cch_status status;
        Py_BEGIN_ALLOW_THREADS
        status = cch_tokenizer_decode_batch(tok, rows, lens, (size_t)n, skip_special, n_threads, texts, text_lens,
                                            &err);
        Py_END_ALLOW_THREADS
        list = status == CCH_OK ? texts_list(texts, text_lens, n) : cch_py_raise(module, status, &err);
    }
    while (held > 0) cch_py_ids_release(&ids[--held]);
    PyMem_Free(ids);
    PyMem_Free(rows);
    Py_DECREF(items);
    return list;
}

/* The vocabulary entry as a str; entries need not be valid UTF-8 (byte tokens), then U+FFFD stands in. */
static PyObject *tokenizer_token(PyObject *object, PyObject *arg) {
    cch_tokenizer *tok = ((tokenizer *)object)->tok;
    int32_t id = 0;
    size_t len = 0;
    if (cch_py_id_get(cch_py_module_of(object), arg, &id) < 0) return NULL;
    const char *entry = cch_tokenizer_token_view(tok, id, &len);
    if (entry == NULL) Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(entry, (Py_ssize_t)len, "replace");
}

static PyObject *tokenizer_bytes(PyObject *object, PyObject *arg) {
    int32_t id = 0;
    char byte;
    size_t len = 0;
    if (cch_py_id_get(cch_py_module_of(object), arg, &id) < 0) return NULL;
    const char *bytes = cch_tokenizer_bytes_view(((tokenizer *)object)->tok, id, &byte, &len);
    if (bytes == NULL) Py_RETURN_NONE;
    return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)len);
}

static PyObject *tokenizer_find(PyObject *object, PyObject *args) {
    PyObject *text = NULL;
    Py_ssize_t len = 0;
    if (!PyArg_ParseTuple(args, "O:find", &text)) return NULL;
    const char *utf8 = cch_py_utf8(cch_py_module_of(object), text, &len);
    if (utf8 == NULL) return NULL;
    return PyLong_FromLong(cch_tokenizer_find(((tokenizer *)object)->tok, utf8, (size_t)len));
}

static PyObject *tokenizer_is_special(PyObject *object, PyObject *arg) {
    int32_t id = 0;
    if (cch_py_id_get(cch_py_module_of(object), arg, &id) < 0) return NULL;
    return PyBool_FromLong(cch_tokenizer_is_special(((tokenizer *)object)->tok, id));
}

static PyObject *tokenizer_kind(PyObject *object, void *unused) {
    static const char *const names[] = {[CCH_TOKENIZER_BPE] = "bpe", [CCH_TOKENIZER_WORDPIECE] = "wordpiece",
                                        [CCH_TOKENIZER_UNIGRAM] = "unigram", [CCH_TOKENIZER_BYTES] = "bytes"};
    (void)unused;
    return PyUnicode_FromString(names[cch_tokenizer_get_kind(((tokenizer *)object)->tok)]);
}

static PyObject *tokenizer_chat_tokens(PyObject *object, PyObject *unused) {
    int32_t ids[CCH_CHAT_TOKENS];
    (void)unused;
    PyObject *result = PyDict_New();
    if (result == NULL || !cch_tokenizer_chat_tokens(((tokenizer *)object)->tok, ids)) return result;
    for (int i = 0; i < CCH_CHAT_TOKENS; i++) {
        PyObject *id = PyLong_FromLong(ids[i]);
        if (id == NULL || PyDict_SetItemString(result, cch_chat_token_name((cch_chat_token)i), id) < 0) {
            Py_XDECREF(id);
            Py_DECREF(result);
            return NULL;
        }
        Py_DECREF(id);
    }
    return result;
}

static PyObject *tokenizer_decoder(PyObject *object, PyObject *args) {
    const cch_py_module *module = cch_py_module_of(object);
    int skip_special = 0;
    if (!PyArg_ParseTuple(args, "|p:decoder", &skip_special)) return NULL;
    cch_decoder *dec = NULL;
    cch_error err = {0};
    cch_status status = cch_decoder_new(((tokenizer *)object)->tok, skip_special, &dec, &err);
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    decoder *result = PyObject_New(decoder, module->decoder_type);
    if (result == NULL) cch_decoder_free(dec);
    else result->dec = dec;
    return (PyObject *)result;
}

static Py_ssize_t tokenizer_length(PyObject *object) {
    return cch_tokenizer_size(((tokenizer *)object)->tok);
}

static PyObject *decoder_prime(PyObject *object, PyObject *source) {
    const cch_py_module *module = cch_py_module_of(object);
    cch_py_ids ids;
    if (cch_py_ids_get(module, source, &ids) < 0) return NULL;
    cch_error err = {0};
    cch_status status = cch_decoder_prime(((decoder *)object)->dec, ids.ids, (size_t)ids.n, &err);
    cch_py_ids_release(&ids);
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    Py_RETURN_NONE;
}

static PyObject *decoder_push(PyObject *object, PyObject *arg) {
    int32_t id = 0;
    if (cch_py_id_get(cch_py_module_of(object), arg, &id) < 0) return NULL;
    const char *text = NULL;
    size_t len = 0;
    cch_error err = {0};
    cch_status status = cch_decoder_push(((decoder *)object)->dec, id, &text, &len, &err);
    if (status != CCH_OK) return cch_py_raise(cch_py_module_of(object), status, &err);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)len, "strict");
}

static PyObject *decoder_finish(PyObject *object, PyObject *unused) {
    (void)unused;
    const char *text = NULL;
    size_t len = 0;
    cch_error err = {0};
    cch_status status = cch_decoder_finish(((decoder *)object)->dec, &text, &len, &err);
    if (status != CCH_OK) return cch_py_raise(cch_py_module_of(object), status, &err);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)len, "strict");
}

static void decoder_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    cch_decoder_free(((decoder *)object)->dec);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyMethodDef tokenizer_methods[] = {
    {"encode", tokenizer_encode, METH_VARARGS,
     PyDoc_STR("encode(text, add_special=False, specials=True, continues=False) -> list[int]")},
    {"encode_cut", tokenizer_encode_cut, METH_VARARGS,
     PyDoc_STR("encode_cut(text, limit) -> Array of at most `limit` ids, the template's among them")},
    {"decode", tokenizer_decode, METH_VARARGS, PyDoc_STR("decode(ids, skip_special=False) -> str")},
    {"encode_batch", tokenizer_encode_batch, METH_VARARGS,
     PyDoc_STR("encode_batch(texts, add_special, specials, threads) -> list[list[int]]; threads 0: one a core")},
    {"decode_batch", tokenizer_decode_batch, METH_VARARGS,
     PyDoc_STR("decode_batch(rows, skip_special, threads) -> list[str]")},
    {"decoder", tokenizer_decoder, METH_VARARGS, PyDoc_STR("decoder(skip_special=False) -> Decoder")},
    {"token", tokenizer_token, METH_O, PyDoc_STR("token(id) -> str or None")},
    {"bytes", tokenizer_bytes, METH_O, PyDoc_STR("bytes(id) -> bytes or None")},
    {"find", tokenizer_find, METH_VARARGS, PyDoc_STR("find(token) -> id, -1 when absent")},
    {"is_special", tokenizer_is_special, METH_O, PyDoc_STR("is_special(id) -> bool")},
    {"chat_tokens", tokenizer_chat_tokens, METH_NOARGS,
     PyDoc_STR("chat_tokens() -> ids of sys, usr, asst and eot by name; empty when one is missing")},
    {"of_bytes", tokenizer_of_bytes, METH_NOARGS | METH_CLASS, PyDoc_STR("of_bytes() -> Tokenizer of bytes")},
    {"of_chat", tokenizer_of_chat, METH_VARARGS | METH_CLASS,
     PyDoc_STR("of_chat(path) -> Tokenizer of a chat model's spm.model")},
    {"open_for", tokenizer_open_for, METH_VARARGS | METH_CLASS,
     PyDoc_STR("open_for(checkpoint, vocab_size, path or None) -> Tokenizer of a chat model's checkpoint")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef tokenizer_getset[] = {
    {"kind", tokenizer_kind, NULL, PyDoc_STR("\"bpe\", \"wordpiece\", \"unigram\" or \"bytes\""), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot tokenizer_slots[] = {
    {Py_tp_new, tokenizer_new},
    {Py_tp_dealloc, tokenizer_dealloc},
    {Py_tp_methods, tokenizer_methods},
    {Py_tp_getset, tokenizer_getset},
    {Py_sq_length, tokenizer_length},
    {Py_tp_doc, PyDoc_STR("Tokenizer(path): text to token ids and back.")},
    {0, NULL},
};

PyType_Spec cch_py_tokenizer_spec = {
    .name = "cacher._core.Tokenizer",
    .basicsize = sizeof(tokenizer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tokenizer_slots,
};

static PyMethodDef decoder_methods[] = {
    {"prime", decoder_prime, METH_O, PyDoc_STR("prime(ids): what is pushed next goes on from these")},
    {"push", decoder_push, METH_O, PyDoc_STR("push(id) -> str")},
    {"finish", decoder_finish, METH_NOARGS, PyDoc_STR("finish() -> str")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot decoder_slots[] = {
    {Py_tp_dealloc, decoder_dealloc},
    {Py_tp_methods, decoder_methods},
    {Py_tp_doc, PyDoc_STR("Streaming decoder, made by Tokenizer.decoder().")},
    {0, NULL},
};

PyType_Spec cch_py_decoder_spec = {
    .name = "cacher._core.Decoder",
    .basicsize = sizeof(decoder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = decoder_slots,
};
