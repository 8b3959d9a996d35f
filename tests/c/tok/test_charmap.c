/* Walks of a double array written by hand, and every way an array can be wrong. */
#include "tok/charmap.h"

#include "check.h"
#include "tok/charmapfile.h"

static cch_error err;
static uint32_t units[CHARMAP_UNITS];

static void check_find(const cch_charmap *map, const char *text, size_t len, size_t found, const char *want) {
    const char *out = "?";
    size_t out_len = 1;
    CHECK_EQ(cch_charmap_find(map, text, len, &out, &out_len), found);
    CHECK(found == 0 ? *out == '?' : out_len == strlen(want) && memcmp(out, want, out_len) == 0);
}

static cch_status load(cch_charmap *map, cch_error *e) {
    pieces blob = charmap_blob(units);
    *map = (cch_charmap){0};
    return cch_charmap_load(map, (const char *)blob.data, blob.n, e);
}

TEST(the_longest_string_is_replaced) {
    cch_charmap map;
    charmap_write(units);
    CHECK_OK(load(&map, &err), err);
    check_find(&map, "A", 1, 1, "a");
    check_find(&map, "AC", 2, 1, "a");
    check_find(&map, "ABA", 3, 2, "xy");
    check_find(&map, "AB", 1, 1, "a"); /* the text ends */
    check_find(&map, "\xC3\xA9", 2, 1, "");
    check_find(&map, "\tA", 2, 1, " ");
    check_find(&map, "B", 1, 0, NULL);
    check_find(&map, "", 0, 0, NULL);
    check_find(&map, "\0", 1, 0, NULL);
    cch_charmap_deinit(&map);
    CHECK_OK(cch_charmap_load(&map, "", 0, &err), err);
    check_find(&map, "A", 1, 0, NULL);
}

TEST(walks_that_leave_the_array_or_turn_in_circles) {
    cch_charmap map;
    charmap_write(units);
    units['A' ^ 0x100] = 'A' | 0x1FFFFFu << 10 | 0x200u; /* far outside */
    units['C' ^ 0x100] = 'C';                            /* to itself */
    units[0x100 ^ 'D'] = 'D' | 0x100u;                   /* says it is in the map, but names no replacement */
    CHECK_OK(load(&map, &err), err);
    check_find(&map, "AB", 2, 0, NULL);
    check_find(&map, "CCCCCC", 6, 0, NULL);
    check_find(&map, "D", 1, 0, NULL);
    cch_charmap_deinit(&map);
}

static void refused(const void *data, size_t size, const char *words) {
    cch_charmap map = {0};
    CHECK_STATUS(cch_charmap_load(&map, data, size, &err), CCH_E_FORMAT, err, words);
    CHECK(map.units == NULL && map.pool == NULL);
}

TEST(damaged_maps) {
    cch_charmap map;
    refused("abc", 3, "character map: an array of 0 bytes in 3");
    refused("\4\0\0\0abcd", 8, "an array of 4 bytes in 8");
    refused("\0\0\0\0a", 5, "an array of 0 bytes in 5");
    refused("\3\0\0\0abcd", 8, "an array of 3 bytes");
    refused("\xFF\xFF\xFF\xFF" "abcd", 8, "an array of 4294967295 bytes in 8");
    refused("\4\0\0\0\0\0\0\0a", 9, "not UTF-8 that ends in NUL");
    refused("\4\0\0\0\0\0\0\0\xFF\0", 10, "not UTF-8 that ends in NUL");
    charmap_write(units);
    units[7] = 0x80000000u | (uint32_t)sizeof CHARMAP_POOL;
    CHECK_STATUS(load(&map, &err), CCH_E_FORMAT, err, "unit 7 names byte 8 of the replacements, which have 8");
    units[7] = 0xFFFFFFFF;
    CHECK_STATUS(load(&map, &err), CCH_E_FORMAT, err, "unit 7 names byte 2147483647");
}

TEST(a_replacement_begins_where_a_character_does) {
    static const char blob[] = "\4\0\0\0\1\0\0\x80\xC3\xA9";
    refused(blob, sizeof blob, "unit 0 names byte 1 of the replacements");
}

static cch_status load_and_free(void) {
    cch_charmap map;
    CCH_RETURN_IF(load(&map, NULL));
    cch_charmap_deinit(&map);
    return CCH_OK;
}

TEST(memory_runs_out) {
    charmap_write(units);
    CHECK_OOM(load_and_free());
}

CHECK_MAIN()
