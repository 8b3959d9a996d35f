/* keymap - where the row of a key is: a hash table of 4 bytes per entry, which finds the keys in the rows themselves.
 *
 * Open addressing with linear probing, at most 7/8 full; a removed entry closes its gap, so there are no tombstones.
 * A place is a block's number in the writer's list and a row of it.
 * Threads: the writer's.
 */
#ifndef CCH_SIM_KEYMAP_H
#define CCH_SIM_KEYMAP_H

#include "sim/rows.h"

#define CCH_NO_PLACE UINT32_MAX
#define CCH_MAX_BLOCKS 65535 /* the last number of 16 bits is that of no place */

typedef struct cch_keymap {
    uint32_t *places; /* owned [mask + 1], CCH_NO_PLACE where empty; NULL before the first reserve */
    size_t mask, n;
    cch_rows **blocks; /* owned [n_blocks]: block of a number, borrowed from the newest snapshot; NULL: free */
    size_t n_blocks;
} cch_keymap;

static inline uint32_t cch_place(const cch_rows *rows, size_t i) { return rows->id << 16 | (uint32_t)i; }
static inline cch_rows *cch_place_rows(const cch_keymap *map, uint32_t place) { return map->blocks[place >> 16]; }
static inline size_t cch_place_row(uint32_t place) { return place & 0xFFFF; }

void cch_keymap_deinit(cch_keymap *map);
size_t cch_keymap_bytes(const cch_keymap *map);
/* Room for `extra` more keys and a block.  E_MEMORY: as it was. */
cch_status cch_keymap_reserve(cch_keymap *map, size_t extra, cch_error *err);
/* Gives a block a number.  E_ARGUMENT: all are taken; E_MEMORY. */
cch_status cch_keymap_add_block(cch_keymap *map, cch_rows *rows, cch_error *err);
void cch_keymap_drop_block(cch_keymap *map, const cch_rows *rows);
/* CCH_NO_PLACE: the key is not there. */
uint32_t cch_keymap_find(const cch_keymap *map, int64_t key);
/* The key of row i of a block that has a number: not there yet, and there is room. */
void cch_keymap_put(cch_keymap *map, const cch_rows *rows, size_t i);
/* The key is there, and its row still says so. */
void cch_keymap_drop(cch_keymap *map, int64_t key);
/* Row i of `rows` has the key of another place now, whose row still says so as well. */
void cch_keymap_move(cch_keymap *map, const cch_rows *rows, size_t i);

#endif
