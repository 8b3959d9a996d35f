/* pickle - reads the pickle of a checkpoint without running anything that it asks for.
 *
 * A pickle is a program for a small stack machine; in Python its instructions call any function by name.  This
 * interpreter builds plain values, and knows the few names that torch writes into a checkpoint: each is a marker for
 * what it makes, nothing is looked up.  An instruction or a name that is not in the lists of pickle.c is refused.
 *
 * Bounds, which hold while it is read:
 *   1. at most CCH_PICKLE_MAX bytes, CCH_PICKLE_OBJECTS objects (whatever is pushed counts), CCH_PICKLE_DEPTH levels;
 *   2. memory grows with the objects that are there, never with a length that the pickle claims;
 *   3. a container that has been put into another one does not change any more: values form no cycle.  They may be
 *      shared, so that who walks along all paths can walk for ever: visit each value once.
 *
 * Threads: immutable once read.
 */
#ifndef CCH_IO_PICKLE_H
#define CCH_IO_PICKLE_H

#include "base/status.h"

#define CCH_PICKLE_MAX ((size_t)64 << 20)
#define CCH_PICKLE_OBJECTS 1000000
#define CCH_PICKLE_DEPTH 100

typedef enum cch_pickle_kind {
    CCH_PICKLE_NONE, CCH_PICKLE_BOOL, CCH_PICKLE_INT, CCH_PICKLE_LONG, CCH_PICKLE_FLOAT, CCH_PICKLE_TEXT,
    CCH_PICKLE_BYTES, CCH_PICKLE_LIST, CCH_PICKLE_TUPLE, CCH_PICKLE_DICT,
    CCH_PICKLE_NAME,    /* of something that Python would import */
    CCH_PICKLE_STORAGE, /* items: NAME of its class, TEXT of its key, INT how many numbers it has */
    CCH_PICKLE_TENSOR   /* items: STORAGE, INT offset, TUPLE of INT sizes, TUPLE of INT strides: as many as sizes */
} cch_pickle_kind;

/* The names that a checkpoint may hold. */
typedef enum cch_pickle_name {
    CCH_PICKLE_ORDERED_DICT, CCH_PICKLE_REBUILD_TENSOR, CCH_PICKLE_REBUILD_PARAMETER,
    CCH_PICKLE_FLOAT_STORAGE, CCH_PICKLE_DOUBLE_STORAGE, CCH_PICKLE_HALF_STORAGE, CCH_PICKLE_BFLOAT16_STORAGE,
    CCH_PICKLE_LONG_STORAGE, CCH_PICKLE_INT_STORAGE, CCH_PICKLE_SHORT_STORAGE, CCH_PICKLE_CHAR_STORAGE,
    CCH_PICKLE_BYTE_STORAGE, CCH_PICKLE_BOOL_STORAGE
} cch_pickle_name;

typedef struct cch_pickle_value {
    uint8_t kind;  /* cch_pickle_kind */
    uint8_t depth; /* levels of containers in it; 0 for other values */
    bool ordered;  /* DICT: an OrderedDict */
    bool placed;   /* is in a container, and does not change any more */
    uint32_t n;    /* TEXT (UTF-8), BYTES, LONG (two's complement, little end first): bytes; containers: items, keys and
                      values of a DICT taking turns */
    uint32_t cap;
    union {
        int64_t integer;   /* BOOL, INT; NAME: cch_pickle_name */
        double real;       /* FLOAT */
        const char *bytes; /* view into the pickle */
        size_t first;      /* of the items, in cch_pickle.items */
    } as;
} cch_pickle_value;

typedef struct cch_pickle {
    cch_pickle_value *values; /* owned [n_values] */
    uint32_t *items;          /* owned [n_items]: indices of values */
    size_t n_values, cap_values, n_items, cap_items;
    uint32_t root;
} cch_pickle;

/* The pickle [size bytes], which must stay valid; `path` is for messages.
 *   E_FORMAT (position: byte of the pickle), E_UNSUPPORTED (an instruction or a name that is not allowed: it is shown),
 *   E_MEMORY.   On failure *out is all zeros. */
cch_status cch_pickle_read(const unsigned char *data, size_t size, const char *path, cch_pickle *out, cch_error *err);
/* A zeroed struct is a no-op. */
void cch_pickle_free(cch_pickle *pickle);

static inline const cch_pickle_value *cch_pickle_root(const cch_pickle *p) { return &p->values[p->root]; }
/* Item i < n of a container, a STORAGE or a TENSOR. */
static inline const cch_pickle_value *cch_pickle_item(const cch_pickle *p, const cch_pickle_value *v, size_t i) {
    return &p->values[p->items[v->as.first + i]];
}
/* What a DICT has under a text, the last if it is there twice; NULL when absent. */
const cch_pickle_value *cch_pickle_find(const cch_pickle *p, const cch_pickle_value *dict, const char *key);
bool cch_pickle_is_text(const cch_pickle_value *v, const char *text);
/* "a list", for messages. */
const char *cch_pickle_kind_name(const cch_pickle_value *v);

#endif
