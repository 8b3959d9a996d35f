/* json_scan - recognises strict JSON (RFC 8259, UTF-8) without building anything.
 *
 * json_parse runs it before json-c builds the tree and compares the census of both: a repeated key, of which json-c
 * keeps only the last, or a string it could not allocate in full shows as a difference.
 * Threads: pure.
 */
#ifndef CCH_IO_JSON_SCAN_H
#define CCH_IO_JSON_SCAN_H

#include "base/status.h"

typedef struct cch_json_census {
    size_t first, last;  /* the value's bytes are [first, last): white space around it is cut off */
    size_t members;      /* of all objects, repeated keys counted each time */
    size_t elements;     /* of all arrays */
    size_t string_bytes; /* of all keys and strings, decoded */
} cch_json_census;

/* E_FORMAT with the byte position when text [len] is not exactly one value, nests deeper than max_depth, or has a key
 * that holds \u0000.  find_repeats (slow): also when an object repeats a key, which is named; E_MEMORY then. */
cch_status cch_json_scan(const char *text, size_t len, const char *name, int max_depth, bool find_repeats,
                         cch_json_census *out, cch_error *err);

#endif
