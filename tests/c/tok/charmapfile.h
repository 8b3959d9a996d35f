/* charmapfile - a character map written by hand: "A" becomes "a", "AB" becomes "xy", U+00C3's first byte nothing, and
 * a tab a space. */
#ifndef CCH_TESTS_CHARMAPFILE_H
#define CCH_TESTS_CHARMAPFILE_H

#include <string.h>

#include "tok/piecesfile.h"

#define CHARMAP_UNITS 0x800
#define CHARMAP_POOL "a\0xy\0\0 " /* and the NUL that ends it: "a" 0, "xy" 2, "" 5, " " 6 */

static inline void charmap_write(uint32_t units[CHARMAP_UNITS]) {
    memset(units, 0, 4 * CHARMAP_UNITS);
    units[0] = 0x100u << 10;                                  /* a walk begins at 0x100 */
    units[0x100 ^ 'A'] = 'A' | 0x100u | 0x200u << 10;         /* in the map; goes on from 0x141 ^ 0x200 */
    units[0x341] = 0x80000000u | 0;
    units[0x341 ^ 'B'] = 'B' | 0x100u | 1u << 10;          /* leads to 0x303 ^ 0x001 */
    units[0x302] = 0x80000000u | 2;
    units[0x100 ^ 0xC3] = 0xC3 | 0x100u | 0x200u | 4u << 10;  /* bit 9: the offset 4 counts in 256s */
    units[0x1C3 ^ 0x400] = 0x80000000u | 5;
    units[0x100 ^ '\t'] = '\t' | 0x100u | 0x600u << 10;
    units[0x109 ^ 0x600] = 0x80000000u | 6;
}

static inline pieces charmap_blob(const uint32_t units[CHARMAP_UNITS]) {
    pieces blob = {.n = 0};
    const uint32_t size = 4 * CHARMAP_UNITS;
    put_raw(&blob, &size, 4);
    put_raw(&blob, units, size);
    put_raw(&blob, CHARMAP_POOL, sizeof CHARMAP_POOL);
    return blob;
}

#endif
