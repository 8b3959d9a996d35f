#include "base/strmap.h"

#include <string.h>

#include "base/alloc.h"

static uint64_t mix(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Multiply-and-fold over 8-byte words; the tail is zero-padded, which the length in the seed makes unambiguous. */
static uint32_t hash_key(const char *key, size_t len) {
    uint64_t h = 0x9E3779B97F4A7C15u ^ len, word;
    for (; len >= sizeof word; key += sizeof word, len -= sizeof word) {
        memcpy(&word, key, sizeof word);
        h = mix(h ^ word, 0xD6E8FEB86659FD93u);
    }
    word = 0;
    for (size_t i = 0; i < len; i++) word |= (uint64_t)(unsigned char)key[i] << 8 * i;
    h = mix(h ^ word, 0xA0761D6478BD642Fu);
    return (uint32_t)(h ^ h >> 32);
}

static bool is_key(const cch_strmap *map, size_t entry, const char *key, size_t len) {
    const cch_strmap_entry *e = &map->entries[entry];
    return e->len == len && (len == 0 || memcmp(map->bytes + e->offset, key, len) == 0);
}

/* The slot that holds the key, or the free slot where it belongs.  Needs a free slot: load stays at or below 3/4. */
static size_t find_slot(const cch_strmap *map, uint32_t hash, const char *key, size_t len) {
    size_t mask = map->n_slots - 1, at = hash & mask;
    while (map->slots[at].entry != 0) {
        if (map->slots[at].hash == hash && is_key(map, map->slots[at].entry - 1, key, len)) break;
        at = (at + 1) & mask;
    }
    return at;
}

static cch_status grow_slots(cch_strmap *map, size_t n_slots, cch_error *err) {
    cch_strmap_slot *fresh = cch_zalloc(n_slots, sizeof *fresh);
    if (fresh == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate a map of %zu slots", n_slots);
    for (size_t i = 0; i < map->n_slots; i++) {
        if (map->slots[i].entry == 0) continue;
        size_t at = map->slots[i].hash & (n_slots - 1);
        while (fresh[at].entry != 0) at = (at + 1) & (n_slots - 1);
        fresh[at] = map->slots[i];
    }
    cch_free(map->slots);
    map->slots = fresh;
    map->n_slots = n_slots;
    return CCH_OK;
}

/* Room for `wanted` elements in an array of *cap: at least doubles. */
static cch_status grow_array(void **array, size_t *cap, size_t wanted, size_t size, cch_error *err) {
    if (wanted <= *cap) return CCH_OK;
    size_t fresh_cap = *cap * 2 > wanted ? *cap * 2 : wanted;
    void *fresh = cch_resize(*array, fresh_cap, size);
    if (fresh == NULL)
        CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu map entries of %zu bytes", fresh_cap, size);
    *array = fresh;
    *cap = fresh_cap;
    return CCH_OK;
}

cch_status cch_strmap_reserve(cch_strmap *map, size_t n, size_t bytes, cch_error *err) {
    size_t n_slots = map->n_slots == 0 ? 16 : map->n_slots;
    void *entries = map->entries, *key_bytes = map->bytes;
    if (n > INT32_MAX) CCH_FAIL(err, CCH_E_ARGUMENT, -1, "a map of %zu keys, allowed: at most %d", n, INT32_MAX);
    cch_status status = grow_array(&entries, &map->cap, n, sizeof *map->entries, err);
    map->entries = entries;
    CCH_RETURN_IF(status);
    status = grow_array(&key_bytes, &map->bytes_cap, bytes, 1, err);
    map->bytes = key_bytes;
    CCH_RETURN_IF(status);
    while (n > n_slots / 4 * 3) n_slots *= 2;
    return n_slots == map->n_slots ? CCH_OK : grow_slots(map, n_slots, err);
}

cch_status cch_strmap_put(cch_strmap *map, const char *key, size_t len, int32_t value, bool *out_old, cch_error *err) {
    size_t bytes;
    uint32_t hash = hash_key(key, len);
    if (len > UINT32_MAX || !cch_add(map->n_bytes, len, &bytes))
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "a map key of %zu bytes, allowed: at most %u", len, UINT32_MAX);
    CCH_RETURN_IF(cch_strmap_reserve(map, map->n + 1, bytes, err));
    cch_strmap_slot *slot = &map->slots[find_slot(map, hash, key, len)];
    if (out_old != NULL) *out_old = slot->entry != 0;
    if (slot->entry != 0) return CCH_OK;
    map->entries[map->n] = (cch_strmap_entry){map->n_bytes, (uint32_t)len, value};
    if (len > 0) memcpy(map->bytes + map->n_bytes, key, len);
    map->n++;
    map->n_bytes = bytes;
    *slot = (cch_strmap_slot){hash, (uint32_t)map->n};
    return CCH_OK;
}

bool cch_strmap_find(const cch_strmap *map, const char *key, size_t len, int32_t *out_value) {
    if (map->n == 0) return false;
    uint32_t entry = map->slots[find_slot(map, hash_key(key, len), key, len)].entry;
    if (entry != 0 && out_value != NULL) *out_value = map->entries[entry - 1].value;
    return entry != 0;
}

const char *cch_strmap_key_view(const cch_strmap *map, size_t i, size_t *out_len, int32_t *out_value) {
    const cch_strmap_entry *e = &map->entries[i];
    if (out_len != NULL) *out_len = e->len;
    if (out_value != NULL) *out_value = e->value;
    return map->bytes + e->offset;
}

void cch_strmap_deinit(cch_strmap *map) {
    cch_free(map->slots);
    cch_free(map->entries);
    cch_free(map->bytes);
    *map = (cch_strmap){0};
}
