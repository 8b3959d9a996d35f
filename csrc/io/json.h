/* json - strict JSON documents, read only.  The one place that knows json-c.
 *
 * The text is read by our own scanner (io/json_scan.h), json-c's objects hold the tree; so its leniency never shows:
 *   - exactly one value, UTF-8, RFC 8259 grammar: no NaN, Infinity, comments, single quotes, trailing commas or bytes;
 *   - no key repeats inside its object; no key holds NUL (json-c would cut it there); no unpaired surrogate escapes;
 *   - containers nest at most max_depth deep; the text is below 2 GiB.
 * A cch_json is a small value to copy freely; it borrows from its document.  Every message of a getter says where:
 * "tokenizer.json: model.vocab is [1, 2], expected an object".
 *
 * Threads: a document is immutable; any number of readers.
 */
#ifndef CCH_IO_JSON_H
#define CCH_IO_JSON_H

#include "base/status.h"

#define CCH_JSON_MAX_DEPTH 64 /* largest max_depth */
#define CCH_JSON_DEPTH 16     /* enough for every file of a model folder */

typedef enum cch_json_kind {
    CCH_JSON_NULL, CCH_JSON_BOOL, CCH_JSON_INT, CCH_JSON_DOUBLE, CCH_JSON_STRING, CCH_JSON_ARRAY, CCH_JSON_OBJECT
} cch_json_kind;

typedef struct cch_json_doc cch_json_doc;

typedef struct cch_json {
    const cch_json_doc *doc; /* borrowed */
    void *node;              /* the document's; NULL for null */
    void *parent;            /* container the value was found in, NULL for the root */
    const char *key;         /* when the parent is an object, else NULL */
    size_t index;            /* when the parent is an array */
} cch_json;

/* Parses text [len]; `name` (a file name) starts every message.  max_depth 1..CCH_JSON_MAX_DEPTH.
 *   E_FORMAT (position = byte), E_MEMORY.   *out: new document; the text is not needed afterwards. */
cch_status cch_json_parse(const char *text, size_t len, const char *name, int max_depth, cch_json_doc **out,
                          cch_error *err);
/* The same for a file.  E_IO too. */
cch_status cch_json_open(const char *path, int max_depth, cch_json_doc **out, cch_error *err);
void cch_json_close(cch_json_doc *doc);
cch_json cch_json_root(const cch_json_doc *doc);

cch_json_kind cch_json_get_kind(cch_json value);

/* Member `key` of an object.  find: false when absent (or when `object` is none), *out untouched.
 * get: E_FORMAT when absent or when `object` is none. */
bool cch_json_find(cch_json object, const char *key, cch_json *out);
cch_status cch_json_get(cch_json object, const char *key, cch_json *out, cch_error *err);

/* find, but a member that is null counts as absent. */
bool cch_json_has(cch_json object, const char *key, cch_json *out);

/* The value as a C value; E_FORMAT when it has another type or lies outside [min, max] (no clamping, no rounding:
 * cch_json_get_double takes integers too, cch_json_get_int takes only integers).
 * Strings: view of *out_len bytes, NUL-terminated, may hold NUL too. */
cch_status cch_json_get_bool(cch_json value, bool *out, cch_error *err);
cch_status cch_json_get_int(cch_json value, int64_t min, int64_t max, int64_t *out, cch_error *err);
cch_status cch_json_get_double(cch_json value, double min, double max, double *out, cch_error *err);
cch_status cch_json_get_string(cch_json value, const char **out, size_t *out_len, cch_error *err);
/* E_FORMAT unless the value is of `kind` (for arrays and objects, before iterating). */
cch_status cch_json_expect(cch_json value, cch_json_kind kind, cch_error *err);

/* Elements of an array or members of an object; 0 for anything else. */
size_t cch_json_len(cch_json container);
/* Element i of an array, i < cch_json_len. */
cch_json cch_json_at(cch_json array, size_t i);

/* Members of an object in file order (none for anything else):
 *     cch_json_iter it = cch_json_members(object);
 *     while (cch_json_next(&it, &key, &key_len, &value)) ...        key: view, NUL-terminated, never holds NUL */
typedef struct cch_json_iter {
    cch_json object;
    void *entry;
} cch_json_iter;
cch_json_iter cch_json_members(cch_json object);
bool cch_json_next(cch_json_iter *it, const char **out_key, size_t *out_key_len, cch_json *out_value);

/* Is a string [len], which may hold NUL, this text? */
bool cch_json_is(const char *text, size_t len, const char *wanted);
/* E_UNSUPPORTED: "name: path is value, supported: ...". */
cch_status cch_json_refuse(cch_json value, const char *supported, cch_error *err);

/* For callers' own messages: "name: path" and the value's text, both cut to fit; dst is returned, NUL-terminated. */
#define CCH_JSON_TEXT 160
const char *cch_json_where(cch_json value, char dst[CCH_JSON_TEXT]);
const char *cch_json_show(cch_json value, char dst[CCH_JSON_TEXT]);

#endif
