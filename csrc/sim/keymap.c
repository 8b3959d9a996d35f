#include "sim/keymap.h"

#include <string.h>

#include "base/alloc.h"

#define LEAST_PLACES 64

static int64_t key_at(const cch_keymap *map, uint32_t place) {
    return cch_place_rows(map, place)->keys[cch_place_row(place)];
}

/* Neighbouring keys, the usual case, are spread over the table. */
static size_t home(const cch_keymap *map, int64_t key) {
    uint64_t z = (uint64_t)key + 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (size_t)(z ^ z >> 31) & map->mask;
}

void cch_keymap_deinit(cch_keymap *map) {
    cch_free(map->places);
    cch_free(map->blocks);
    *map = (cch_keymap){0};
}

size_t cch_keymap_bytes(const cch_keymap *map) {
    return (map->places != NULL ? (map->mask + 1) * sizeof *map->places : 0) + map->n_blocks * sizeof *map->blocks;
}

/* The key's slot, or the empty one where it would be. */
static size_t slot_of(const cch_keymap *map, int64_t key) {
    size_t slot = home(map, key);
    while (map->places[slot] != CCH_NO_PLACE && key_at(map, map->places[slot]) != key) slot = (slot + 1) & map->mask;
    return slot;
}

cch_status cch_keymap_reserve(cch_keymap *map, size_t extra, cch_error *err) {
    cch_status status = CCH_OK;
    cch_keymap grown = *map;
    size_t size = map->places != NULL ? map->mask + 1 : LEAST_PLACES, wanted;
    if (!cch_add(map->n, extra, &wanted) || wanted > CCH_NO_PLACE)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "the index has %zu rows, %zu more do not fit", map->n, extra);
    while (wanted > size / 8 * 7) size *= 2;
    if (map->places != NULL && size == map->mask + 1) return CCH_OK;
    CCH_NEW(grown.places, size, err);
    memset(grown.places, 0xFF, size * sizeof *grown.places);
    grown.mask = size - 1;
    for (size_t i = 0; map->places != NULL && i <= map->mask; i++)
        if (map->places[i] != CCH_NO_PLACE) grown.places[slot_of(&grown, key_at(map, map->places[i]))] = map->places[i];
    cch_free(map->places);
    *map = grown;
done:
    return status;
}

cch_status cch_keymap_add_block(cch_keymap *map, cch_rows *rows, cch_error *err) {
    size_t id = 0;
    while (id < map->n_blocks && map->blocks[id] != NULL) id++;
    if (id == CCH_MAX_BLOCKS) CCH_FAIL(err, CCH_E_ARGUMENT, -1, "the index is full: it has %zu blocks of rows", id);
    if (id == map->n_blocks) {
        const size_t n = id < 8 ? 8 : 2 * id;
        cch_rows **blocks = cch_resize(map->blocks, n, sizeof *blocks);
        if (blocks == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate a list of %zu blocks", n);
        memset(blocks + id, 0, (n - id) * sizeof *blocks);
        map->blocks = blocks;
        map->n_blocks = n;
    }
    rows->id = (uint32_t)id;
    map->blocks[id] = rows;
    return CCH_OK;
}

void cch_keymap_drop_block(cch_keymap *map, const cch_rows *rows) { map->blocks[rows->id] = NULL; }

uint32_t cch_keymap_find(const cch_keymap *map, int64_t key) {
    return map->places != NULL ? map->places[slot_of(map, key)] : CCH_NO_PLACE;
}

void cch_keymap_put(cch_keymap *map, const cch_rows *rows, size_t i) {
    map->places[slot_of(map, rows->keys[i])] = cch_place(rows, i);
    map->n++;
}

/* Entries behind the gap move up, unless they would come to lie before their home. */
void cch_keymap_drop(cch_keymap *map, int64_t key) {
    size_t gap = slot_of(map, key);
    for (size_t next = (gap + 1) & map->mask; map->places[next] != CCH_NO_PLACE; next = (next + 1) & map->mask) {
        const size_t from_home = (next - home(map, key_at(map, map->places[next]))) & map->mask;
        if (from_home < ((next - gap) & map->mask)) continue;
        map->places[gap] = map->places[next];
        gap = next;
    }
    map->places[gap] = CCH_NO_PLACE;
    map->n--;
}

void cch_keymap_move(cch_keymap *map, const cch_rows *rows, size_t i) {
    map->places[slot_of(map, rows->keys[i])] = cch_place(rows, i);
}
