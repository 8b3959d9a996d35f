/* Blocks and snapshots: what a row is in each form, and that nothing shown ever changes. */
#include "vectors.h"

#include "sim/rows.h"

static const cch_kernels *kernels(void) {
    const cch_kernels *kern = NULL;
    cch_kernels_get(NULL, &kern, NULL);
    return kern;
}

static cch_rows *block(const cch_shape *shape, size_t capacity) {
    cch_rows *rows = NULL;
    cch_error err;
    CHECK_OK(cch_rows_new(shape, capacity, &rows, &err), err);
    return rows;
}

TEST(a_row_is_held_as_its_dtype_says) {
    const float x[3] = {1.00390625f, -3.4e38f, 0.3f};
    float scratch[3];
    for (int dtype = 0; dtype < 3; dtype++) {
        const cch_shape shape = {3, 32, (cch_index_dtype)dtype};
        cch_rows *rows = block(&shape, 2), *other = block(&shape, 2);
        cch_rows_put(rows, &shape, kernels(), 1, x, scratch);
        rows->keys[1] = 9;
        cch_rows_move(other, &shape, 0, rows, 1);
        const float *held = cch_rows_values(other, &shape, 0, scratch);
        if (dtype == CCH_ROWS_F32) CHECK(memcmp(held, x, sizeof x) == 0);
        if (dtype == CCH_ROWS_BF16) CHECK(held[0] == 1.0f && held[1] == -0x1.FEp127f && held[2] == 0.30078125f);
        if (dtype == CCH_ROWS_INT8) CHECK(held[0] == 0.0f && held[1] == -127.0f && other->error[0] == 0.0f);
        CHECK(other->keys[0] == 9 && other->weight[0] == rows->weight[1] && other->error[0] == rows->error[1]);
        cch_rows_unref(rows);
        cch_rows_unref(other);
    }
}

TEST(signs_are_read_of_groups_that_no_row_is_added_to) {
    const cch_shape shape = {3, 32, CCH_ROWS_F32}, codes = {3, 32, CCH_ROWS_INT8};
    cch_rows *rows = block(&shape, 150), *none = block(&codes, 150);
    CHECK_EQ(cch_rows_signed(rows, 63), 0);
    CHECK_EQ(cch_rows_signed(rows, 149), 128);
    CHECK_EQ(cch_rows_signed(rows, 150), 150);
    CHECK_EQ(cch_rows_signed(none, 150), 0);
    cch_rows_unref(rows);
    cch_rows_unref(none);
}

TEST(a_snapshot_keeps_what_it_shows) {
    const cch_shape shape = {1, 32, CCH_ROWS_F32};
    cch_snapshot *first = NULL, *second = NULL, *third = NULL;
    cch_error err;
    CHECK_OK(cch_snapshot_copy(NULL, 1, &first, &err), err);
    cch_snapshot_append(first, block(&shape, 100));
    first->spans[0].n = first->n_live = first->n_rows = 100;
    CHECK_OK(cch_snapshot_copy(first, 0, &second, &err), err);
    CHECK_OK(cch_snapshot_kill(second, first, 0, 70, &err), err);
    CHECK_OK(cch_snapshot_kill(second, first, 0, 71, &err), err);
    CHECK_OK(cch_snapshot_copy(second, 0, &third, &err), err);
    CHECK_OK(cch_snapshot_kill(third, second, 0, 0, &err), err);
    CHECK(!cch_span_is_dead(&first->spans[0], 70) && first->n_live == 100);
    CHECK(cch_span_is_dead(&second->spans[0], 70) && !cch_span_is_dead(&second->spans[0], 0));
    CHECK(cch_span_is_dead(&third->spans[0], 71) && cch_span_is_dead(&third->spans[0], 0));
    CHECK(second->n_live == 98 && third->n_live == 97 && cch_span_live(&third->spans[0]) == 97);
    cch_snapshot_unref(second);
    cch_snapshot_unref(first);
    cch_snapshot_unref(third);
}

static cch_status make_and_kill(void) {
    const cch_shape shape = {40, 64, CCH_ROWS_BF16};
    cch_snapshot *first = NULL, *second = NULL;
    cch_rows *rows = NULL;
    cch_status status = cch_rows_new(&shape, 3, &rows, NULL);
    if (status == CCH_OK && (status = cch_snapshot_copy(NULL, 1, &first, NULL)) == CCH_OK) {
        cch_snapshot_append(first, rows);
        rows = NULL;
        if ((status = cch_snapshot_copy(first, 0, &second, NULL)) == CCH_OK)
            status = cch_snapshot_kill(second, first, 0, 1, NULL);
    }
    cch_rows_unref(rows);
    cch_snapshot_unref(first);
    cch_snapshot_unref(second);
    return status;
}

TEST(nothing_leaks_when_memory_runs_out) { CHECK_OOM(make_and_kill()); }

CHECK_MAIN()
