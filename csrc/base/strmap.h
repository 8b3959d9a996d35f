/* strmap - bytes -> int32, insert and look up; made for vocabularies.
 *
 * Open addressing with linear probing over 8-byte slots {hash bits, entry}; entries and key bytes lie in two growing
 * arrays, in order of insertion.  Keys have explicit lengths and may hold any byte, NUL included.  The hash is seeded
 * by a constant, so the layout (not the results) can be steered by a hostile file; probing is bounded by a full 32-bit
 * hash compare before any key is touched.
 * Threads: look-ups are pure; one writer.
 */
#ifndef CCH_BASE_STRMAP_H
#define CCH_BASE_STRMAP_H

#include "base/status.h"

typedef struct cch_strmap_entry {
    size_t offset; /* of the key in bytes */
    uint32_t len;
    int32_t value;
} cch_strmap_entry;

typedef struct cch_strmap_slot {
    uint32_t hash;
    uint32_t entry; /* index + 1; 0 = free */
} cch_strmap_slot;

typedef struct cch_strmap {
    cch_strmap_slot *slots;    /* owned [n_slots], a power of two; NULL while empty */
    cch_strmap_entry *entries; /* owned [cap] */
    char *bytes;               /* owned */
    size_t n_slots, n, cap, n_bytes, bytes_cap;
} cch_strmap;

/* An empty map is all zeros: `cch_strmap map = {0}`; put allocates. */
void cch_strmap_deinit(cch_strmap *map);

/* Makes room for n keys of together `bytes` bytes, so that loading a vocabulary allocates once.  E_MEMORY. */
cch_status cch_strmap_reserve(cch_strmap *map, size_t n, size_t bytes, cch_error *err);

/* Maps key [len] to value; the key is copied.  *out_old (may be NULL): false for a new key; true when the key was
 * there, whose value is then left as it is.  E_MEMORY, E_ARGUMENT (a key over 4 GiB, over 2^31 keys); the map is
 * unchanged. */
cch_status cch_strmap_put(cch_strmap *map, const char *key, size_t len, int32_t value, bool *out_old, cch_error *err);

/* Does the map hold key [len]?  *out_value (may be NULL) is written only then. */
bool cch_strmap_find(const cch_strmap *map, const char *key, size_t len, int32_t *out_value);

/* The i-th key in order of insertion, i < map->n.  View, valid until the next put; not NUL-terminated. */
const char *cch_strmap_key_view(const cch_strmap *map, size_t i, size_t *out_len, int32_t *out_value);

#endif
