#include "io/json.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h> /* snprintf */
#include <string.h>

#include "base/alloc.h"
#include "base/filemap.h"
#include "base/utf8.h"
#include "io/json_scan.h"

struct cch_json_doc {
    json_object *root; /* owned; NULL for the text "null" */
    char *name;        /* owned */
};

/* ---------------------------------------------------------------------------------------------- building ---- */

static void count_tree(json_object *node, cch_json_census *census) {
    if (json_object_is_type(node, json_type_object)) {
        json_object_object_foreach(node, key, child) {
            census->members++;
            census->string_bytes += strlen(key);
            count_tree(child, census);
        }
    } else if (json_object_is_type(node, json_type_array)) {
        size_t n = json_object_array_length(node);
        census->elements += n;
        for (size_t i = 0; i < n; i++) count_tree(json_object_array_get_idx(node, i), census);
    } else if (json_object_is_type(node, json_type_string)) {
        census->string_bytes += (size_t)json_object_get_string_len(node);
    }
}

/* The text is known to be one well-formed value, so the only thing that can go wrong here is memory. */
static cch_status build_tree(const char *text, size_t len, int max_depth, json_object **out, cch_error *err) {
    /* json-c counts the innermost scalar as a level */
    json_tokener *tokener = json_tokener_new_ex(max_depth + 2);
    if (tokener == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate a JSON parser");
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    *out = json_tokener_parse_ex(tokener, text, (int)len);
    if (json_tokener_get_error(tokener) == json_tokener_continue) /* a number shows its end only by what follows */
        *out = json_tokener_parse_ex(tokener, "", 1);
    bool complete = json_tokener_get_error(tokener) == json_tokener_success;
    json_tokener_free(tokener);
    if (!complete || (*out == NULL && text[0] != 'n')) {
        json_object_put(*out);
        *out = NULL;
        CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate the tree of a JSON text of %zu bytes", len);
    }
    return CCH_OK;
}

cch_status cch_json_parse(const char *text, size_t len, const char *name, int max_depth, cch_json_doc **out,
                          cch_error *err) {
    cch_status status = CCH_OK;
    cch_json_census scanned, built = {0};
    cch_json_doc *doc = NULL;
    *out = NULL;
    if (max_depth < 1 || max_depth > CCH_JSON_MAX_DEPTH)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "max_depth is %d, allowed: 1 to %d", max_depth, CCH_JSON_MAX_DEPTH);
    if (len > INT32_MAX - 1)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s: has %zu bytes, allowed: below 2 GiB", name, len);
    CCH_RETURN_IF(cch_json_scan(text, len, name, max_depth, false, &scanned, err));
    CCH_ZNEW(doc, 1, err);
    doc->name = cch_strndup(name, strlen(name));
    if (doc->name == NULL) CCH_THROW(err, CCH_E_MEMORY, -1, "could not allocate the name %s", name);
    CCH_TRY(build_tree(text + scanned.first, scanned.last - scanned.first, max_depth, &doc->root, err));
    count_tree(doc->root, &built);
    if (built.members != scanned.members)
        CCH_TRY(cch_json_scan(text, len, name, max_depth, true, &scanned, err)); /* names the repeated key */
    if (built.members != scanned.members || built.elements != scanned.elements ||
        built.string_bytes != scanned.string_bytes)
        CCH_THROW(err, CCH_E_MEMORY, -1, "%s: the tree of this file could not be allocated in full", name);
    *out = doc;
    doc = NULL;
done:
    cch_json_close(doc);
    return status;
}

cch_status cch_json_open(const char *path, int max_depth, cch_json_doc **out, cch_error *err) {
    cch_filemap map;
    *out = NULL;
    CCH_RETURN_IF(cch_filemap_open(path, &map, err));
    cch_status status = cch_json_parse((const char *)map.data, map.size, path, max_depth, out, err);
    cch_filemap_close(&map);
    return status;
}

void cch_json_close(cch_json_doc *doc) {
    if (doc == NULL) return;
    json_object_put(doc->root);
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
        bool large = number_value == INT64_MAX; /* json-c keeps what is above as unsigned, and clamps what is above that */
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
    bool is_number = json_object_is_type(value.node, json_type_double) || json_object_is_type(value.node, json_type_int);
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
