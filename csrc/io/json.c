#include "io/json.h"

#include <json-c/json.h>
#include <locale.h> /* newlocale */
#include <math.h>
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* strtod_l */
#include <string.h>

#include "base/alloc.h"
#include "base/filemap.h"
#include "base/utf8.h"
#include "io/json_scan.h"

struct cch_json_doc {
    json_object *root; /* owned; NULL for the text "null" */
    char *name;        /* owned */
    char *keys;        /* owned: all keys, NUL-terminated, one after the other; the tree borrows them */
};

/* ---------------------------------------------------------------------------------------------- building ---- */

/* The tree is made by our own hands from json-c's objects: its parser reads through a null pointer when it cannot copy
 * a key, keeps the last of two equal keys, and clamps numbers.  Every open container hangs in its parent already, so
 * whatever happens the root owns all. */
typedef struct builder {
    cch_json_doc *doc;
    cch_json_sink sink;
    json_object *open[CCH_JSON_MAX_DEPTH]; /* borrowed from the tree, outermost first */
    const char *key;                       /* of the member to come; in doc->keys */
    int depth;
    locale_t c_locale;                     /* owned; made when numbers need it: elsewhere "1.5" may end at the point */
    cch_error *err;
} builder;

/* Hangs a value into the innermost open container, or makes it the root.  `made`: the value is there (NULL may also be
 * the value null).  Takes the value, also on failure. */
static cch_status add_take(builder *b, json_object *value, bool made) {
    json_object *parent = b->depth == 0 ? NULL : b->open[b->depth - 1];
    const unsigned flags = JSON_C_OBJECT_ADD_KEY_IS_NEW | JSON_C_OBJECT_ADD_CONSTANT_KEY;
    int failed = !made;
    if (made && parent == NULL) b->doc->root = value;
    else if (made && json_object_is_type(parent, json_type_array)) failed = json_object_array_add(parent, value);
    else if (made) failed = json_object_object_add_ex(parent, b->key, value, flags);
    if (failed == 0) return CCH_OK;
    json_object_put(value);
    CCH_FAIL(b->err, CCH_E_MEMORY, -1, "%s: its tree could not be allocated", b->doc->name);
}

static cch_status on_open(void *arg, bool object) {
    builder *b = arg;
    json_object *value = object ? json_object_new_object() : json_object_new_array();
    CCH_RETURN_IF(add_take(b, value, value != NULL));
    b->open[b->depth++] = value;
    return CCH_OK;
}

static void on_close(void *arg) { ((builder *)arg)->depth--; }

static cch_status on_key(void *arg, const char *text, size_t len, size_t position) {
    builder *b = arg;
    if (json_object_object_get_ex(b->open[b->depth - 1], text, NULL))
        CCH_FAIL(b->err, CCH_E_FORMAT, position, "%s: key \"%.*s\" at byte %zu is there twice", b->doc->name,
                 (int)cch_utf8_cut(text, len, 80), text, position);
    b->key = text;
    b->sink.buffer += len + 1; /* keeps it: the text was decoded to where it stays */
    return CCH_OK;
}

static cch_status on_string(void *arg, const char *text, size_t len) {
    json_object *value = json_object_new_string_len(text, (int)len);
    return add_take(arg, value, value != NULL);
}

/* The value of a whole number; false when it fits neither int64 nor uint64. */
static bool parse_whole(const char *text, size_t len, bool *out_negative, uint64_t *out) {
    *out = 0;
    *out_negative = text[0] == '-';
    for (size_t i = *out_negative; i < len; i++)
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, (uint64_t)(text[i] - '0'), out))
            return false;
    return !*out_negative || *out <= INT64_MAX;
}

/* A whole number too large for an integer becomes a double, which no integer getter takes. */
static cch_status on_number(void *arg, const char *text, size_t len, bool is_whole) {
    builder *b = arg;
    json_object *value = NULL;
    uint64_t magnitude;
    bool negative;
    if (is_whole && parse_whole(text, len, &negative, &magnitude)) {
        if (magnitude > INT64_MAX) value = json_object_new_uint64(magnitude);
        else value = json_object_new_int64(negative ? -(int64_t)magnitude : (int64_t)magnitude);
    } else {
        if (b->c_locale == (locale_t)0) b->c_locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
        memcpy(b->sink.buffer, text, len);
        b->sink.buffer[len] = '\0';
        if (b->c_locale != (locale_t)0) value = json_object_new_double(strtod_l(b->sink.buffer, NULL, b->c_locale));
    }
    return add_take(b, value, value != NULL);
}

static cch_status on_word(void *arg, char first) {
    json_object *value = first == 'n' ? NULL : json_object_new_boolean(first == 't');
    return add_take(arg, value, first == 'n' || value != NULL);
}

cch_status cch_json_parse(const char *text, size_t len, const char *name, int max_depth, cch_json_doc **out,
                          cch_error *err) {
    cch_status status = CCH_OK;
    cch_json_doc *doc = NULL;
    builder b = {.err = err, .sink = {.open = on_open, .close = on_close, .key = on_key, .string = on_string,
                                      .number = on_number, .word = on_word}};
    *out = NULL;
    if (max_depth < 1 || max_depth > CCH_JSON_MAX_DEPTH)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "max_depth is %d, allowed: 1 to %d", max_depth, CCH_JSON_MAX_DEPTH);
    if (len > INT32_MAX)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s: has %zu bytes, allowed: below 2 GiB", name, len);
    CCH_ZNEW(doc, 1, err);
    doc->name = cch_strndup(name, strlen(name));
    if (doc->name == NULL) CCH_THROW(err, CCH_E_MEMORY, -1, "could not allocate the name %s", name);
    /* Decoded text is shorter than its literal, so what is kept and what is being decoded fit together. */
    CCH_NEW(doc->keys, len + 1, err);
    b.doc = doc;
    b.sink.arg = &b;
    b.sink.buffer = doc->keys;
    CCH_TRY(cch_json_scan(text, len, name, max_depth, &b.sink, err));
    *out = doc;
    doc = NULL;
done:
    if (b.c_locale != (locale_t)0) freelocale(b.c_locale);
    cch_json_close(doc);
    return status;
}

cch_status cch_json_open(const char *path, int max_depth, cch_json_doc **out, cch_error *err) {
    char *text;
    size_t len;
    *out = NULL;
    CCH_RETURN_IF(cch_file_read(path, &text, &len, err));
    cch_status status = cch_json_parse(text, len, path, max_depth, out, err);
    cch_free(text);
    return status;
}

void cch_json_close(cch_json_doc *doc) {
    if (doc == NULL) return;
    json_object_put(doc->root);
    cch_free(doc->keys);
    cch_free(doc->name);
    cch_free(doc);
}

cch_json cch_json_root(const cch_json_doc *doc) { return (cch_json){doc, doc->root, NULL, NULL, 0}; }

/* ----------------------------------------------------------------------------------------------- messages ---- */

typedef struct text_out {
    char *dst;
    size_t len;
} text_out;

/* Appends what fits; keeps room for the NUL. */
static void put_text(text_out *out, const char *text, size_t len) {
    size_t room = CCH_JSON_TEXT - 1 - out->len;
    if (len > room) len = cch_utf8_cut(text, len, room);
    memcpy(out->dst + out->len, text, len);
    out->len += len;
    out->dst[out->len] = '\0';
}

static void put_step(text_out *out, const char *key, size_t index, bool first) {
    if (key != NULL) {
        size_t len = strlen(key);
        if (!first) put_text(out, ".", 1);
        put_text(out, key, cch_utf8_cut(key, len, 60));
    } else {
        char text[32];
        put_text(out, text, (size_t)snprintf(text, sizeof text, "[%zu]", index));
    }
}

/* Writes the path from `node` down to the container `target`; errors are rare, so values need not carry their path. */
static bool put_path(json_object *node, const void *target, bool first, text_out *out) {
    size_t len = out->len;
    if (node == target) return true;
    if (json_object_is_type(node, json_type_object)) {
        json_object_object_foreach(node, key, child) {
            if (!json_object_is_type(child, json_type_object) && !json_object_is_type(child, json_type_array)) continue;
            put_step(out, key, 0, first);
            if (put_path(child, target, false, out)) return true;
            out->len = len;
        }
    } else if (json_object_is_type(node, json_type_array)) {
        size_t n = json_object_array_length(node);
        for (size_t i = 0; i < n; i++) {
            put_step(out, NULL, i, first);
            if (put_path(json_object_array_get_idx(node, i), target, false, out)) return true;
            out->len = len;
        }
    }
    return false;
}

const char *cch_json_where(cch_json value, char dst[CCH_JSON_TEXT]) {
    text_out out = {dst, 0};
    size_t name_len = strlen(value.doc->name), keep = 80;
    if (name_len > keep) put_text(&out, "...", 3);
    size_t skip = name_len > keep ? name_len - keep : 0; /* the end of a long path says more than its start */
    while (skip > 0 && skip < name_len && ((unsigned char)value.doc->name[skip] & 0xC0) == 0x80) skip++;
    put_text(&out, value.doc->name + skip, name_len - skip);
    put_text(&out, ": ", 2);
    if (value.parent == NULL) {
        put_text(&out, "the whole text", strlen("the whole text"));
        return dst;
    }
    size_t before = out.len;
    put_path(value.doc->root, value.parent, true, &out);
    put_step(&out, value.key, value.index, out.len == before);
    return dst;
}

const char *cch_json_show(cch_json value, char dst[CCH_JSON_TEXT]) {
    text_out out = {dst, 0};
    char number[64];
    switch (cch_json_get_kind(value)) {
    case CCH_JSON_NULL: put_text(&out, "null", 4); break;
    case CCH_JSON_BOOL: put_text(&out, json_object_get_boolean(value.node) ? "true" : "false",
                                 json_object_get_boolean(value.node) ? 4 : 5); break;
    case CCH_JSON_STRING: {
        const char *text = json_object_get_string(value.node);
        size_t len = (size_t)json_object_get_string_len(value.node);
        put_text(&out, "\"", 1);
        put_text(&out, text, cch_utf8_cut(text, len, 60));
        put_text(&out, len > 60 ? "...\"" : "\"", len > 60 ? 4 : 1);
        break;
    }
    case CCH_JSON_INT: {
        int64_t number_value = json_object_get_int64(value.node);
        bool large = number_value == INT64_MAX; /* what lies above is kept unsigned, and clamped when read as signed */
        if (large) snprintf(number, sizeof number, "%llu", (unsigned long long)json_object_get_uint64(value.node));
        else snprintf(number, sizeof number, "%lld", (long long)number_value);
        put_text(&out, number, strlen(number));
        break;
    }
    case CCH_JSON_DOUBLE:
        snprintf(number, sizeof number, "%.9g", json_object_get_double(value.node));
        put_text(&out, number, strlen(number));
        break;
    case CCH_JSON_ARRAY:
    case CCH_JSON_OBJECT:
        snprintf(number, sizeof number, "an %s of %zu",
                 cch_json_get_kind(value) == CCH_JSON_ARRAY ? "array" : "object", cch_json_len(value));
        put_text(&out, number, strlen(number));
        break;
    }
    return dst;
}

static const char *kind_text(cch_json_kind kind) {
    static const char *const texts[] = {"null", "true or false", "a whole number", "a number", "a string", "an array",
                                        "an object"};
    return texts[kind];
}

static cch_status fail_value(cch_json value, const char *function, const char *expected, cch_error *err) {
    char where[CCH_JSON_TEXT], shown[CCH_JSON_TEXT];
    return cch_fail(err, CCH_E_FORMAT, function, -1, "%s is %s, expected %s", cch_json_where(value, where),
                    cch_json_show(value, shown), expected);
}

cch_status cch_json_refuse(cch_json value, const char *supported, cch_error *err) {
    char where[CCH_JSON_TEXT], shown[CCH_JSON_TEXT];
    CCH_FAIL(err, CCH_E_UNSUPPORTED, -1, "%s is %s, supported: %s", cch_json_where(value, where),
             cch_json_show(value, shown), supported);
}

/* ----------------------------------------------------------------------------------------------- reading ---- */

cch_json_kind cch_json_get_kind(cch_json value) {
    switch (json_object_get_type(value.node)) {
    case json_type_null: return CCH_JSON_NULL;
    case json_type_boolean: return CCH_JSON_BOOL;
    case json_type_double: return CCH_JSON_DOUBLE;
    case json_type_int: return CCH_JSON_INT;
    case json_type_object: return CCH_JSON_OBJECT;
    case json_type_array: return CCH_JSON_ARRAY;
    case json_type_string: return CCH_JSON_STRING;
    }
    return CCH_JSON_NULL;
}

bool cch_json_find(cch_json object, const char *key, cch_json *out) {
    if (!json_object_is_type(object.node, json_type_object)) return false;
    struct lh_entry *entry = lh_table_lookup_entry(json_object_get_object(object.node), key);
    if (entry == NULL) return false;
    *out = (cch_json){object.doc, lh_entry_v(entry), object.node, lh_entry_k(entry), 0};
    return true;
}

bool cch_json_has(cch_json object, const char *key, cch_json *out) {
    return cch_json_find(object, key, out) && cch_json_get_kind(*out) != CCH_JSON_NULL;
}

cch_status cch_json_get(cch_json object, const char *key, cch_json *out, cch_error *err) {
    char where[CCH_JSON_TEXT];
    CCH_RETURN_IF(cch_json_expect(object, CCH_JSON_OBJECT, err));
    if (cch_json_find(object, key, out)) return CCH_OK;
    CCH_FAIL(err, CCH_E_FORMAT, -1, "%s has no key \"%s\"", cch_json_where(object, where), key);
}

cch_status cch_json_expect(cch_json value, cch_json_kind kind, cch_error *err) {
    return cch_json_get_kind(value) == kind ? CCH_OK : fail_value(value, __func__, kind_text(kind), err);
}

cch_status cch_json_get_bool(cch_json value, bool *out, cch_error *err) {
    CCH_RETURN_IF(cch_json_expect(value, CCH_JSON_BOOL, err));
    *out = json_object_get_boolean(value.node);
    return CCH_OK;
}

cch_status cch_json_get_int(cch_json value, int64_t min, int64_t max, int64_t *out, cch_error *err) {
    int64_t number = 0;
    bool is_int = json_object_is_type(value.node, json_type_int);
    if (is_int) number = json_object_get_int64(value.node); /* clamps to the ends of int64 */
    if (!is_int || number < min || number > max) {
        char expected[96];
        snprintf(expected, sizeof expected, "a whole number from %lld to %lld", (long long)min, (long long)max);
        return fail_value(value, __func__, expected, err);
    }
    *out = number;
    return CCH_OK;
}

cch_status cch_json_get_double(cch_json value, double min, double max, double *out, cch_error *err) {
    double number = 0;
    bool is_number = json_object_is_type(value.node, json_type_double) ||
                     json_object_is_type(value.node, json_type_int);
    if (is_number) number = json_object_get_double(value.node);
    if (!is_number || !isfinite(number) || number < min || number > max) {
        char expected[96];
        snprintf(expected, sizeof expected, "a number from %.9g to %.9g", min, max);
        return fail_value(value, __func__, expected, err);
    }
    *out = number;
    return CCH_OK;
}

cch_status cch_json_get_string(cch_json value, const char **out, size_t *out_len, cch_error *err) {
    CCH_RETURN_IF(cch_json_expect(value, CCH_JSON_STRING, err));
    *out = json_object_get_string(value.node);
    *out_len = (size_t)json_object_get_string_len(value.node);
    return CCH_OK;
}

bool cch_json_is(const char *text, size_t len, const char *wanted) {
    return strlen(wanted) == len && memcmp(text, wanted, len) == 0;
}

size_t cch_json_len(cch_json container) {
    if (json_object_is_type(container.node, json_type_array)) return json_object_array_length(container.node);
    if (json_object_is_type(container.node, json_type_object)) return (size_t)json_object_object_length(container.node);
    return 0;
}

cch_json cch_json_at(cch_json array, size_t i) {
    return (cch_json){array.doc, json_object_array_get_idx(array.node, i), array.node, NULL, i};
}

cch_json_iter cch_json_members(cch_json object) {
    bool is_object = json_object_is_type(object.node, json_type_object);
    return (cch_json_iter){object, is_object ? lh_table_head(json_object_get_object(object.node)) : NULL};
}

bool cch_json_next(cch_json_iter *it, const char **out_key, size_t *out_key_len, cch_json *out_value) {
    struct lh_entry *entry = it->entry;
    if (entry == NULL) return false;
    const char *key = lh_entry_k(entry);
    *out_key = key;
    *out_key_len = strlen(key);
    *out_value = (cch_json){it->object.doc, lh_entry_v(entry), it->object.node, key, 0};
    it->entry = lh_entry_next(entry);
    return true;
}
