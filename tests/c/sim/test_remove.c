/* Removal against a plain list: order, scores and keys stay, and memory comes back. */
#include "vectors.h"

#define D 5
#define MOST 3000

typedef struct mirror { /* what the index should hold, in the order of storage */
    int64_t keys[MOST];
    float rows[MOST][D];
    size_t n;
} mirror;

static size_t bytes_of(cch_index *index) {
    cch_index_info info;
    cch_index_get_info(index, &info);
    return info.bytes;
}

static void mirror_remove(mirror *m, size_t i) {
    m->n--;
    memmove(m->keys + i, m->keys + i + 1, (m->n - i) * sizeof *m->keys);
    memmove(m->rows + i, m->rows + i + 1, (m->n - i) * sizeof *m->rows);
}

static void check_mirror(cch_index *index, const mirror *m) {
    int64_t *keys = NULL, got_keys[5];
    double scores[5];
    size_t n, n_got;
    float query[D], dst[D];
    found *want = malloc((m->n + 1) * sizeof *want);
    cch_error err;
    CHECK_OK(cch_index_keys(index, &keys, &n, &err), err);
    CHECK_EQ(n, m->n);
    CHECK(n != m->n || memcmp(keys, m->keys, n * sizeof *keys) == 0);
    cch_free(keys);
    draw_row(query, query, D, 0);
    CHECK_OK(cch_index_search(index, query, 1, 5, -1.0, NULL, got_keys, scores, &n_got, &err), err);
    n = brute_force(m->rows[0], m->n, D, query, -1.0, want);
    CHECK_EQ(n_got, n < 5 ? n : 5);
    for (size_t i = 0; i < n_got; i++)
        CHECK(got_keys[i] == m->keys[want[i].key] && scores[i] == want[i].score);
    if (m->n > 0) {
        const size_t i = drawn_below(m->n);
        CHECK_OK(cch_index_row(index, m->keys[i], dst, &err), err);
        CHECK(memcmp(dst, m->rows[i], sizeof dst) == 0);
    }
    free(want);
}

TEST(any_order_of_changes_leaves_what_a_list_would_hold) {
    static mirror m;
    cch_index *index = NULL;
    cch_error err;
    int64_t gone[MOST];
    CHECK_OK(cch_index_new(D, NULL, &index, &err), err);
    m.n = 0;
    for (int step = 0; step < 400; step++) {
        size_t n = drawn_below(step % 3 == 0 ? 60 : 3), removed;
        for (; n > 0 && m.n < MOST; n--) {
            draw_row(m.rows[m.n], m.rows[0], D, (int)drawn_below(8));
            CHECK_OK(cch_index_add(index, m.rows[m.n], 1, NULL, &m.keys[m.n], &err), err);
            m.n++;
        }
        /* of all sizes, from the front, the back or anywhere; some keys twice, some not there */
        const size_t many = step % 7 == 0 ? m.n / 2 : drawn_below(12), from = drawn_below(3);
        size_t n_gone = 0, expected = 0;
        for (size_t i = 0; i < many && m.n > 0; i++) {
            const size_t at = from == 0 ? 0 : from == 1 ? m.n - 1 : drawn_below(m.n);
            gone[n_gone++] = m.keys[at];
            mirror_remove(&m, at);
            expected++;
        }
        if (n_gone > 0) gone[n_gone++] = gone[0];
        gone[n_gone++] = INT64_MAX - 1;
        CHECK_OK(cch_index_remove(index, gone, n_gone, &removed, &err), err);
        CHECK_EQ(removed, expected);
        check_mirror(index, &m);
    }
    cch_index_unref(index);
}

TEST(first_in_first_out_does_not_grow) {
    cch_index *index = NULL;
    cch_error err;
    float row[D];
    size_t n, most = 0;
    CHECK_OK(cch_index_new(D, NULL, &index, &err), err);
    for (int64_t i = 0; i < 20000; i++) {
        const int64_t oldest = i - 500;
        draw_row(row, row, D, 0);
        CHECK_OK(cch_index_add(index, row, 1, NULL, NULL, &err), err);
        if (oldest >= 0) CHECK_OK(cch_index_remove(index, &oldest, 1, &n, &err), err);
        if (i % 97 == 0 && bytes_of(index) > most) most = bytes_of(index);
    }
    CHECK(most < 3 * 500 * 100);
    cch_index_unref(index);
}

/* One survivor of each block must not keep a block each. */
TEST(scattered_survivors_are_gathered) {
    cch_index *index = NULL;
    cch_error err;
    int64_t *gone = malloc(64000 * sizeof *gone);
    size_t n_gone = 0, n;
    float *rows = draw_rows(64, D);
    CHECK_OK(cch_index_new(D, NULL, &index, &err), err);
    for (int i = 0; i < 1000; i++) CHECK_OK(cch_index_add(index, rows, 64, NULL, NULL, &err), err);
    for (int64_t key = 0; key < 64000; key++)
        if (key % 640 != 0) gone[n_gone++] = key;
    for (size_t i = 0; i < n_gone; i += 639) CHECK_OK(cch_index_remove(index, gone + i, 639, &n, &err), err);
    CHECK(bytes_of(index) < 1000000);
    float row[D];
    CHECK_OK(cch_index_row(index, 6400, row, &err), err);
    CHECK(memcmp(row, rows, sizeof row) == 0);
    free(gone), free(rows);
    cch_index_unref(index);
}

static cch_status remove_half(const float *rows) {
    cch_index *index = NULL;
    int64_t keys[80];
    size_t n = 0;
    cch_status status = cch_index_new(D, NULL, &index, NULL);
    if (status == CCH_OK) status = cch_index_add(index, rows, 100, NULL, NULL, NULL);
    for (int64_t i = 0; i < 80; i++) keys[i] = i;
    if (status == CCH_OK) {
        status = cch_index_remove(index, keys, 80, &n, NULL);
        CHECK_EQ(n, status == CCH_OK ? 80 : 0);
        CHECK(cch_index_has(index, 99) && cch_index_has(index, 0) == (status != CCH_OK));
    }
    cch_index_unref(index);
    return status;
}

TEST(a_removal_without_memory_removes_nothing_or_leaves_the_dead_where_they_are) {
    float *rows = draw_rows(100, D);
    CHECK_OOM(remove_half(rows));
    free(rows);
}

CHECK_MAIN()
