/* bytes - a growing run of bytes, the scratch of encoding and decoding.
 *
 * An all-zero cch_bytes is empty.  Threads: one user.
 */
#ifndef CCH_TOK_BYTES_H
#define CCH_TOK_BYTES_H

#include <string.h> /* memcpy */

#include "base/alloc.h"

typedef struct cch_bytes {
    char *data; /* owned */
    size_t n, cap;
} cch_bytes;

static inline void cch_bytes_deinit(cch_bytes *b) {
    cch_free(b->data);
    *b = (cch_bytes){NULL, 0, 0};
}

/* Room for `more` bytes behind the n there are.  E_MEMORY; b is unchanged then. */
static inline cch_status cch_bytes_reserve(cch_bytes *b, size_t more, cch_error *err) {
    size_t need, cap;
    if (more <= b->cap - b->n) return CCH_OK;
    if (!cch_add(b->n, more, &need) || !cch_add(need, need / 2 + 64, &cap))
        CCH_FAIL(err, CCH_E_MEMORY, -1, "%zu and %zu bytes of text do not fit together", b->n, more);
    char *data = cch_resize(b->data, cap, 1);
    if (data == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes of text", cap);
    b->data = data;
    b->cap = cap;
    return CCH_OK;
}

/* Adds text [len], which does not lie in b.  E_MEMORY; b is unchanged then. */
static inline cch_status cch_bytes_append(cch_bytes *b, const char *text, size_t len, cch_error *err) {
    CCH_RETURN_IF(cch_bytes_reserve(b, len, err));
    if (len > 0) memcpy(b->data + b->n, text, len);
    b->n += len;
    return CCH_OK;
}

#endif
