#include "tok/charmap.h"

#include <string.h> /* memcpy, strlen */

#include "base/alloc.h"
#include "base/utf8.h"

#define IS_VALUE 0x80000000u  /* the unit names a replacement */
#define HAS_VALUE 0x100u      /* the string that ends at the unit is in the map */
#define LABEL (IS_VALUE | 0xFFu)
#define HEAD 4                /* bytes of the array's size */

static inline size_t offset(uint32_t unit) { return (size_t)(unit >> 10) << ((unit & 0x200u) >> 6); }

static inline uint32_t read_u32(const char *bytes) {
    const uint8_t *b = (const uint8_t *)bytes;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

void cch_charmap_deinit(cch_charmap *map) {
    cch_free(map->units);
    cch_free(map->pool);
    *map = (cch_charmap){0};
}

/* Every replacement that a unit names begins where a character of the pool does. */
static cch_status check_values(const cch_charmap *map, cch_error *err) {
    for (size_t i = 0; i < map->n_units; i++) {
        const size_t place = map->units[i] & ~IS_VALUE;
        if ((map->units[i] & IS_VALUE) == 0) continue;
        if (place >= map->pool_size || ((uint8_t)map->pool[place] & 0xC0) == 0x80)
            CCH_FAIL(err, CCH_E_FORMAT, i, "character map: unit %zu names byte %zu of the replacements, which have %zu",
                     i, place, map->pool_size);
    }
    return CCH_OK;
}

cch_status cch_charmap_load(cch_charmap *map, const char *data, size_t size, cch_error *err) {
    cch_status status = CCH_OK;
    cch_charmap made = {0};
    if (size == 0) return CCH_OK;
    const size_t array = size < HEAD ? 0 : read_u32(data);
    if (array == 0 || array % 4 != 0 || array >= size - HEAD)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "character map: an array of %zu bytes in %zu, allowed: whole units of 4, and "
                 "replacements behind them", array, size);
    made.n_units = array / 4;
    made.pool_size = size - HEAD - array;
    CCH_NEW(made.units, made.n_units, err);
    for (size_t i = 0; i < made.n_units; i++) made.units[i] = read_u32(data + HEAD + 4 * i);
    made.pool = cch_strndup(data + HEAD + array, made.pool_size);
    if (made.pool == NULL) CCH_THROW(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes", made.pool_size);
    if (made.pool[made.pool_size - 1] != '\0' || cch_utf8_valid_prefix(made.pool, made.pool_size) < made.pool_size)
        CCH_THROW(err, CCH_E_FORMAT, -1, "character map: the replacements are not UTF-8 that ends in NUL");
    CCH_TRY(check_values(&made, err));
    *map = made;
    made = (cch_charmap){0};
done:
    cch_charmap_deinit(&made);
    return status;
}

size_t cch_charmap_find(const cch_charmap *map, const char *text, size_t len, const char **out, size_t *out_len) {
    size_t found = 0, place = 0;
    if (map->n_units == 0) return 0;
    for (size_t pos = offset(map->units[0]), i = 0; i < len; i++) {
        pos ^= (uint8_t)text[i];
        if (pos >= map->n_units || (map->units[pos] & LABEL) != (uint8_t)text[i]) break;
        const uint32_t unit = map->units[pos];
        pos ^= offset(unit);
        if ((unit & HAS_VALUE) == 0) continue;
        if (pos >= map->n_units || (map->units[pos] & IS_VALUE) == 0) break;
        place = map->units[pos] & ~IS_VALUE;
        found = i + 1;
    }
    if (found == 0) return 0;
    *out = map->pool + place;
    *out_len = strlen(*out);
    return found;
}
