/* charmap - the character map of a SentencePiece model: strings that are replaced before a text is cut into pieces.
 *
 *   u32 bytes of the array, the array, a pool of NUL-terminated UTF-8 replacements      (all little-endian)
 *
 * The array is a double array of 32-bit units.  off(u) = (u >> 10) << ((u & 0x200) >> 6).  A walk starts at
 * off(unit[0]); for a byte c it goes to pos ^ c, whose unit must have c in bits 0-7 and bit 31 clear, and from there to
 * pos ^ off(unit).  Bit 8 of the unit says that the bytes so far are a string of the map: the unit then reached has bit
 * 31 set and the replacement's place in the pool in its other bits.
 *
 * Hostile input: a walk takes a byte of the text with each step and stops outside the array, so that cycles do no
 * harm; what units say about the pool is checked at loading, and so is that the pool is UTF-8.
 * Threads: immutable after loading.
 */
#ifndef CCH_TOK_CHARMAP_H
#define CCH_TOK_CHARMAP_H

#include "base/status.h"

typedef struct cch_charmap {
    uint32_t *units; /* owned [n_units]; NULL: nothing is replaced */
    size_t n_units;
    char *pool;      /* owned [pool_size], its last byte is NUL */
    size_t pool_size;
} cch_charmap;

void cch_charmap_deinit(cch_charmap *map);
/* Reads a map from data [size], which is copied; size 0 is the empty map.   E_FORMAT, E_MEMORY. */
cch_status cch_charmap_load(cch_charmap *map, const char *data, size_t size, cch_error *err);

/* Length of the longest string of the map that text [len] starts with, 0 when none does; *out [*out_len] is then its
 * replacement, a view, which may be empty. */
size_t cch_charmap_find(const cch_charmap *map, const char *text, size_t len, const char **out, size_t *out_len);

#endif
