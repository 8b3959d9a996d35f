/* The index as a whole: keys, what is refused, what a failed call leaves behind, and readers beside a writer. */
#include "vectors.h"

#include <pthread.h>
#include <stdatomic.h>

#include "sim/index.h"

static cch_index *open_index(int32_t dimension, cch_index_dtype dtype, int32_t n_threads) {
    const cch_index_options options = {dtype, n_threads, NULL};
    cch_index *index = NULL;
    cch_error err;
    CHECK_OK(cch_index_new(dimension, &options, &index, &err), err);
    return index;
}

static size_t rows_of(cch_index *index) {
    cch_index_info info;
    cch_index_get_info(index, &info);
    return info.n_rows;
}

TEST(keys_count_up_from_the_largest_there_ever_was) {
    cch_index *index = open_index(2, CCH_ROWS_F32, 1);
    const float rows[6] = {1, 0, 0, 1, 1, 1};
    const int64_t given[2] = {41, 7}, top = INT64_MAX;
    int64_t keys[3], *all = NULL;
    size_t n;
    cch_error err;
    CHECK_OK(cch_index_add(index, rows, 2, given, keys, &err), err);
    CHECK(keys[0] == 41 && keys[1] == 7);
    CHECK_OK(cch_index_add(index, rows, 3, NULL, keys, &err), err);
    CHECK(keys[0] == 42 && keys[2] == 44);
    CHECK_OK(cch_index_remove(index, keys + 2, 1, &n, &err), err);
    CHECK_OK(cch_index_add(index, rows, 1, NULL, keys, &err), err);
    CHECK(keys[0] == 45 && n == 1);
    CHECK_OK(cch_index_keys(index, &all, &n, &err), err);
    const int64_t want[5] = {41, 7, 42, 43, 45};
    CHECK(n == 5 && memcmp(all, want, sizeof want) == 0);
    cch_free(all);
    CHECK_OK(cch_index_add(index, rows, 1, &top, NULL, &err), err);
    CHECK_STATUS(cch_index_add(index, rows, 1, NULL, NULL, &err), CCH_E_ARGUMENT, err, "0 keys are left");
    CHECK(cch_index_has(index, top) && !cch_index_has(index, 44) && !cch_index_has(index, -1));
    cch_index_unref(index);
}

TEST(what_is_wrong_is_named_and_nothing_is_added) {
    cch_index *index = open_index(3, CCH_ROWS_F32, 1);
    float rows[6] = {1, 2, 3, 4, NAN, 6}, dst[3];
    const int64_t negative[2] = {4, -4}, twice[2] = {9, 9}, used[2] = {20, 5}, five = 5;
    int64_t key;
    double score;
    size_t n;
    cch_error err;
    CHECK_OK(cch_index_add(index, rows, 1, &five, NULL, &err), err);
    CHECK_STATUS(cch_index_add(index, rows, 2, NULL, NULL, &err), CCH_E_ARGUMENT, err, "number 1 of row 1 is nan");
    CHECK_EQ(err.position, 1);
    rows[4] = -INFINITY;
    CHECK_STATUS(cch_index_add(index, rows, 2, NULL, NULL, &err), CCH_E_ARGUMENT, err, "is -inf");
    CHECK_STATUS(cch_index_search(index, rows + 3, 1, 1, 0.0, NULL, &key, &score, &n, &err), CCH_E_ARGUMENT, err,
                 "number 1 of query 0 is -inf");
    rows[4] = 5.0f;
    CHECK_STATUS(cch_index_add(index, rows, 2, negative, NULL, &err), CCH_E_ARGUMENT, err, "key -4 is negative");
    CHECK_STATUS(cch_index_add(index, rows, 2, twice, NULL, &err), CCH_E_ARGUMENT, err, "key 9 is in use");
    CHECK_STATUS(cch_index_add(index, rows, 2, used, NULL, &err), CCH_E_ARGUMENT, err, "key 5 is in use");
    CHECK(rows_of(index) == 1 && !cch_index_has(index, 9) && !cch_index_has(index, 20));
    CHECK_STATUS(cch_index_row(index, 20, dst, &err), CCH_E_ARGUMENT, err, "key 20 is not in the index");
    CHECK_STATUS(cch_index_search(index, rows, 1, 0, 0.0, NULL, &key, &score, &n, &err), CCH_E_ARGUMENT, err, "k is 0");
    CHECK_STATUS(cch_index_search(index, rows, 1, 1, (double)NAN, NULL, &key, &score, &n, &err), CCH_E_ARGUMENT, err,
                 "nan");
    CHECK_STATUS(cch_index_search(index, rows, 1, 1, 1.01, NULL, &key, &score, &n, &err), CCH_E_ARGUMENT, err, "1.01");
    cch_index_unref(index);
}

TEST(options_are_checked) {
    cch_index *index = NULL;
    cch_error err;
    cch_index_options options = CCH_INDEX_OPTIONS_INIT;
    CHECK_STATUS(cch_index_new(0, NULL, &index, &err), CCH_E_ARGUMENT, err, "dimension is 0");
    CHECK_STATUS(cch_index_new(65537, NULL, &index, &err), CCH_E_ARGUMENT, err, "dimension is 65537");
    options.n_threads = 257;
    CHECK_STATUS(cch_index_new(1, &options, &index, &err), CCH_E_ARGUMENT, err, "n_threads is 257");
    options.n_threads = 1;
    options.isa = "mmx";
    CHECK_STATUS(cch_index_new(1, &options, &index, &err), CCH_E_ARGUMENT, err, "mmx");
    options.isa = NULL;
    options.dtype = (cch_index_dtype)3;
    CHECK_STATUS(cch_index_new(1, &options, &index, &err), CCH_E_ARGUMENT, err, "dtype is 3");
    CHECK(index == NULL);
}

TEST(rows_come_back_as_they_are_held) {
    const float row[3] = {0.25f, -4.0f, 1.0f};
    float dst[3];
    cch_error err;
    for (int dtype = 0; dtype < 3; dtype++) {
        cch_index *index = open_index(3, (cch_index_dtype)dtype, 1);
        CHECK_OK(cch_index_add(index, row, 1, NULL, NULL, &err), err);
        CHECK_OK(cch_index_row(index, 0, dst, &err), err);
        if (dtype != CCH_ROWS_INT8) CHECK(memcmp(dst, row, sizeof row) == 0);
        else CHECK(fabsf(dst[0] * dst[0] + dst[1] * dst[1] + dst[2] * dst[2] - 1.0f) < 1e-6f && dst[1] < -0.96f);
        cch_index_unref(index);
    }
}

TEST(an_empty_index_has_nothing) {
    cch_index *index = open_index(2, CCH_ROWS_INT8, 0);
    const float query[4] = {1, 0, 0, 1};
    int64_t keys[4], *all = NULL;
    double scores[4];
    size_t n[2] = {9, 9}, count;
    cch_error err;
    CHECK_OK(cch_index_search(index, query, 2, 2, -1.0, NULL, keys, scores, n, &err), err);
    CHECK(n[0] == 0 && n[1] == 0 && keys[3] == -1 && isnan(scores[0]));
    CHECK_OK(cch_index_keys(index, &all, &count, &err), err);
    CHECK(count == 0);
    cch_free(all);
    CHECK_OK(cch_index_add(index, query, 0, NULL, NULL, &err), err);
    CHECK_OK(cch_index_remove(index, keys, 2, &count, &err), err);
    CHECK(count == 0 && rows_of(index) == 0);
    cch_index_unref(index);
}

/* 64 rows fit into the first block, so that the second add needs another. */
static cch_status add_twice(const float *rows) {
    cch_index *index = NULL;
    cch_status status = cch_index_new(4, NULL, &index, NULL);
    if (status == CCH_OK) status = cch_index_add(index, rows, 60, NULL, NULL, NULL);
    if (status == CCH_OK) {
        status = cch_index_add(index, rows, 200, NULL, NULL, NULL);
        CHECK_EQ(rows_of(index), status == CCH_OK ? 260 : 60);
        CHECK(cch_index_has(index, 59) && cch_index_has(index, 60) == (status == CCH_OK));
    }
    cch_index_unref(index);
    return status;
}

TEST(an_add_without_memory_adds_nothing) {
    float *rows = draw_rows(200, 4);
    CHECK_OOM(add_twice(rows));
    free(rows);
}

TEST(a_million_rows_take_little_more_than_their_codes) {
    cch_index_info info;
    cch_error err;
    cch_index *index = open_index(8, CCH_ROWS_INT8, 1);
    float *rows = draw_rows(1000, 8);
    for (int i = 0; i < 1000; i++) CHECK_OK(cch_index_add(index, rows, 1000, NULL, NULL, &err), err);
    cch_index_get_info(index, &info);
    CHECK(info.n_rows == 1000000 && info.bytes <= 1000000 * (32 + 66)); /* 0.45 GB for 384 numbers */
    free(rows);
    cch_index_unref(index);
}

/* ---------------------------------------------------------------------------------------------- readers ---- */

/* A reader that waited for the writer would wait for ever. */
TEST(readers_do_not_wait_for_a_writer) {
    cch_index *index = open_index(4, CCH_ROWS_F32, 1);
    float *rows = draw_rows(20, 4);
    int64_t hits[2 * 5], *keys = NULL;
    double scores[2 * 5];
    size_t n[2];
    cch_index_info info;
    cch_error err;
    CHECK_OK(cch_index_add(index, rows, 20, NULL, NULL, &err), err);
    pthread_mutex_lock(&index->writing);
    cch_index_get_info(index, &info);
    CHECK_EQ(info.n_rows, 20);
    CHECK_OK(cch_index_search(index, rows, 2, 5, -1.0, NULL, hits, scores, n, &err), err);
    CHECK(n[0] == 5 && n[1] == 5);
    CHECK_OK(cch_index_keys(index, &keys, &n[0], &err), err);
    CHECK_EQ(n[0], 20);
    pthread_mutex_unlock(&index->writing);
    cch_free(keys);
    free(rows);
    cch_index_unref(index);
}

#define PAIR 2 /* rows are added and removed in pairs (x, -x): a search sees both, or neither */

typedef struct shared {
    cch_index *index;
    atomic_bool done;
    atomic_int searches;
} shared;

static void *read_pairs(void *arg) {
    shared *s = arg;
    const float query[3] = {1.0f, 2.0f, 3.0f};
    cch_error err;
    for (bool last = false; !last; atomic_fetch_add(&s->searches, 1)) {
        int64_t keys[1000];
        double scores[1000];
        size_t n;
        last = atomic_load(&s->done);
        CHECK_OK(cch_index_search(s->index, query, 1, 1000, -1.0, NULL, keys, scores, &n, &err), err);
        CHECK(n % PAIR == 0);
        for (size_t i = 0; i < n / 2; i++) CHECK(scores[i] == -scores[n - 1 - i]);
    }
    return NULL;
}

TEST(readers_see_whole_changes_while_one_writes) {
    shared s = {.index = open_index(3, CCH_ROWS_F32, 2)};
    pthread_t readers[2];
    cch_error err;
    int64_t keys[400][PAIR];
    for (int i = 0; i < 2; i++) pthread_create(&readers[i], NULL, read_pairs, &s);
    for (int i = 0; i < 400 || atomic_load(&s.searches) < 20; i++) {
        float rows[2 * 3];
        size_t n, at = (size_t)i % 400;
        if (i >= 100) CHECK_OK(cch_index_remove(s.index, keys[(at + 300) % 400], PAIR, &n, &err), err);
        draw_row(rows, rows, 3, 0);
        for (int j = 0; j < 3; j++) rows[3 + j] = -rows[j];
        CHECK_OK(cch_index_add(s.index, rows, PAIR, NULL, keys[at], &err), err);
    }
    atomic_store(&s.done, true);
    for (int i = 0; i < 2; i++) pthread_join(readers[i], NULL);
    CHECK_EQ(rows_of(s.index), 100 * PAIR);
    cch_index_unref(s.index);
}

static void *read_first(void *arg) {
    shared *s = arg;
    float first[8];
    cch_error err;
    CHECK_OK(cch_index_row(s->index, 0, first, &err), err);
    for (bool last = false; !last; atomic_fetch_add(&s->searches, 1)) {
        int64_t key;
        double score;
        size_t n;
        last = atomic_load(&s->done);
        CHECK_OK(cch_index_search(s->index, first, 1, 1, 0.9, NULL, &key, &score, &n, &err), err);
        CHECK(n == 1 && key == 0 && score == 1.0);
    }
    return NULL;
}

/* So many rows that signs are read, of groups that the writer fills up. */
TEST(readers_sift_while_one_writes) {
    shared s = {.index = open_index(8, CCH_ROWS_F32, 1)};
    pthread_t reader;
    cch_error err;
    float rows[1100 * 8];
    for (size_t i = 0; i < 1100; i++) draw_row(rows + i * 8, rows, 8, 0);
    CHECK_OK(cch_index_add(s.index, rows, 1100, NULL, NULL, &err), err);
    pthread_create(&reader, NULL, read_first, &s);
    for (int64_t i = 0; i < 1500 || atomic_load(&s.searches) < 20; i++) {
        int64_t key;
        size_t n;
        CHECK_OK(cch_index_add(s.index, rows + i % 1100 * 8, 1, NULL, &key, &err), err);
        key -= 300;
        if (i % 2 == 0 && key > 0) CHECK_OK(cch_index_remove(s.index, &key, 1, &n, &err), err);
    }
    atomic_store(&s.done, true);
    pthread_join(reader, NULL);
    cch_index_unref(s.index);
}

CHECK_MAIN()
