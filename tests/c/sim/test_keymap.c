/* The key table against a plain list, through growth, removal and failing memory. */
#include "vectors.h"

#include "base/alloc.h"
#include "sim/keymap.h"

#define ROWS 2000

static const cch_shape shape = {1, 32, CCH_ROWS_INT8};

static cch_rows *block(cch_keymap *map, size_t capacity) {
    cch_rows *rows = NULL;
    cch_error err;
    CHECK_OK(cch_rows_new(&shape, capacity, &rows, &err), err);
    CHECK_OK(cch_keymap_add_block(map, rows, &err), err);
    return rows;
}

TEST(keys_are_found_where_they_were_put_and_nowhere_after_they_were_dropped) {
    cch_keymap map = {0};
    cch_error err;
    bool there[ROWS] = {false};
    cch_rows *rows = block(&map, ROWS);
    CHECK(cch_keymap_find(&map, 0) == CCH_NO_PLACE);
    for (size_t i = 0; i < ROWS; i++) rows->keys[i] = (int64_t)(i % 3 == 0 ? i * 4096 : i);
    for (int step = 0; step < 20000; step++) {
        const size_t i = drawn_below(ROWS);
        if (rows->keys[i] % 4096 == 0 && i % 3 != 0) continue;
        if (there[i]) {
            cch_keymap_drop(&map, rows->keys[i]);
        } else {
            CHECK_OK(cch_keymap_reserve(&map, 1, &err), err);
            cch_keymap_put(&map, rows, i);
        }
        there[i] = !there[i];
        const size_t j = drawn_below(ROWS);
        CHECK(cch_keymap_find(&map, rows->keys[j]) == (there[j] ? cch_place(rows, j) : CCH_NO_PLACE));
    }
    for (size_t i = 0; i < ROWS; i++)
        CHECK(cch_keymap_find(&map, rows->keys[i]) == (there[i] ? cch_place(rows, i) : CCH_NO_PLACE));
    cch_rows_unref(rows);
    cch_keymap_deinit(&map);
}

TEST(a_moved_key_is_found_in_its_new_place) {
    cch_keymap map = {0};
    cch_error err;
    cch_rows *from = block(&map, 8), *to = block(&map, 8);
    CHECK(from->id != to->id);
    CHECK_OK(cch_keymap_reserve(&map, 2, &err), err);
    from->keys[3] = to->keys[1] = 77;
    cch_keymap_put(&map, from, 3);
    cch_keymap_move(&map, to, 1);
    CHECK_EQ(cch_keymap_find(&map, 77), cch_place(to, 1));
    cch_keymap_drop_block(&map, from);
    cch_rows *again = block(&map, 8);
    CHECK_EQ(again->id, from->id);
    cch_rows_unref(from), cch_rows_unref(to), cch_rows_unref(again);
    cch_keymap_deinit(&map);
}

TEST(more_keys_than_places_are_refused) {
    cch_keymap map = {0};
    cch_error err;
    CHECK_STATUS(cch_keymap_reserve(&map, SIZE_MAX, &err), CCH_E_ARGUMENT, err, "do not fit");
    cch_keymap_deinit(&map);
}

static cch_status reserve_twice(void) {
    cch_keymap map = {0};
    cch_status status = cch_keymap_reserve(&map, 10, NULL);
    if (status == CCH_OK) status = cch_keymap_reserve(&map, 1000, NULL);
    cch_keymap_deinit(&map);
    return status;
}

TEST(a_table_that_cannot_grow_stays_as_it_is) { CHECK_OOM(reserve_twice()); }

CHECK_MAIN()
