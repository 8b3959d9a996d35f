/* A search gives the same keys and bits for any block of queries, number of threads, instruction set and layout. */
#include "vectors.h"

#define D 70
#define ROWS 3000
#define QUERIES 45

static cch_index *filled(const float *x, size_t n, cch_index_dtype dtype, int32_t n_threads, const char *isa,
                         size_t step) {
    const cch_index_options options = {dtype, n_threads, isa};
    cch_index *index = NULL;
    cch_error err;
    cch_status status = cch_index_new(D, &options, &index, &err);
    if (status == CCH_E_ARGUMENT && isa != NULL) return NULL; /* not on this CPU */
    for (size_t i = 0; i < n; i += step)
        CHECK_OK(cch_index_add(index, x + i * D, n - i < step ? n - i : step, NULL, NULL, &err), err);
    return index;
}

typedef struct answer {
    int64_t keys[QUERIES * 40];
    double scores[QUERIES * 40];
    size_t n[QUERIES];
} answer;

/* `block` queries at a time; the result as bytes that can be compared. */
static void ask(cch_index *index, const float *queries, size_t block, size_t k, double threshold, answer *out) {
    cch_error err;
    memset(out, 0, sizeof *out);
    for (size_t q = 0; q < QUERIES; q += block) {
        const size_t n = QUERIES - q < block ? QUERIES - q : block;
        CHECK_OK(cch_index_search(index, queries + q * D, n, k, threshold, NULL, out->keys + q * k,
                                  out->scores + q * k, out->n + q, &err), err);
    }
    for (size_t i = 0; i < QUERIES * k; i++)
        if (isnan(out->scores[i])) out->scores[i] = -9.0;
}

TEST(blocks_threads_and_instruction_sets_cannot_be_told_apart) {
    static answer want, got;
    const char *isas[] = {"generic", "avx2", "avx512"};
    float *x = draw_rows(ROWS, D), *queries = x + 1500 * D;
    for (int dtype = 0; dtype < 3; dtype++) {
        cch_index *index = filled(x, ROWS, (cch_index_dtype)dtype, 1, NULL, ROWS);
        ask(index, queries, 1, 40, 0.1, &want);
        cch_index_unref(index);
        for (int32_t threads = 1; threads <= 3; threads += 2) {
            for (int i = 0; i < 3; i++) {
                index = filled(x, ROWS, (cch_index_dtype)dtype, threads, isas[i], 700);
                if (index == NULL) continue;
                for (size_t block = 1; block <= QUERIES; block = block * 6 + 1) {
                    ask(index, queries, block, 40, 0.1, &got);
                    CHECK(memcmp(&got, &want, sizeof got) == 0);
                }
                cch_index_unref(index);
            }
        }
    }
    free(x);
}

/* Large enough for two threads, of different rows and ties. */
TEST(threads_share_a_search) {
    static answer want, got;
    const size_t n = 60000;
    float *x = malloc(n * D * sizeof *x);
    for (size_t r = 0; r < n; r++) draw_row(x + r * D, x, D, r % 1000 == 999 ? 2 : 0);
    cch_index *one = filled(x, n, CCH_ROWS_F32, 1, NULL, n), *two = filled(x, n, CCH_ROWS_F32, 3, NULL, n);
    for (size_t k = 1; k <= 40; k += 39) {
        ask(one, x, QUERIES, k, -1.0, &want);
        ask(two, x, QUERIES, k, -1.0, &got);
        CHECK(memcmp(&got, &want, sizeof got) == 0);
        ask(two, x, 1, k, -1.0, &got);
        CHECK(memcmp(&got, &want, sizeof got) == 0);
    }
    CHECK(want.keys[0] == 0 && want.keys[1] == 999 && want.keys[2] == 1999 && want.scores[2] == 1.0);
    cch_index_unref(one);
    cch_index_unref(two);
    free(x);
}

/* Rows around a few topics, and of all kinds; some of them removed, so that blocks are of many sizes. */
static cch_index *clustered(float *x, size_t n, cch_index_dtype dtype, int32_t n_threads) {
    for (size_t r = 0; r < n; r++) {
        if (r < 20 || r % 50 == 0) {
            draw_row(x + r * D, x, D, r < 20 ? 0 : (int)drawn_below(8));
            continue;
        }
        const float *topic = x + drawn_below(20) * D, apart = r % 5 == 0 ? 1e-6f : 0.7f;
        for (size_t i = 0; i < D; i++) x[r * D + i] = topic[i] + apart * drawn_float();
    }
    cch_index *index = filled(x, n, dtype, n_threads, NULL, 1777);
    int64_t gone[2000];
    size_t removed;
    cch_error err;
    for (int64_t i = 0; i < 2000; i++) gone[i] = i < 1000 ? 3000 + i : 7 * i;
    CHECK_OK(cch_index_remove(index, gone, 2000, &removed, &err), err);
    return index;
}

/* One query is sifted by signs, a block of them is not; thresholds are scores that there are, and others. */
TEST(what_signs_rule_out_cannot_be_told) {
    static answer want, got;
    const size_t n = 20000;
    float *x = malloc(n * D * sizeof *x);
    for (int dtype = 0; dtype < 2; dtype++) {
        for (int32_t threads = 1; threads <= 3; threads += 2) {
            cch_index *index = clustered(x, n, (cch_index_dtype)dtype, threads);
            ask(index, x, QUERIES, 40, -1.0, &want);
            const double thresholds[] = {-1.0, 0.0, 0.3, 0.7, 0.9, 0.999, 1.0, want.scores[7], want.scores[40 + 3]};
            for (size_t t = 0; t < sizeof thresholds / sizeof *thresholds; t++) {
                for (size_t k = 1; k <= 40; k = k * 6 + 4) {
                    ask(index, x, QUERIES, k, thresholds[t], &want);
                    ask(index, x, 1, k, thresholds[t], &got);
                    CHECK(memcmp(&got, &want, sizeof got) == 0);
                }
            }
            cch_index_unref(index);
        }
    }
    free(x);
}

TEST(scores_are_those_of_the_rows_as_they_are_held) {
    float *x = draw_rows(200, D), *held = malloc(200 * D * sizeof *held);
    found want[200];
    int64_t keys[200];
    double scores[200];
    size_t n;
    cch_error err;
    for (int dtype = 0; dtype < 2; dtype++) {
        cch_index *index = filled(x, 200, (cch_index_dtype)dtype, 1, NULL, 200);
        for (int64_t i = 0; i < 200; i++) CHECK_OK(cch_index_row(index, i, held + i * D, &err), err);
        CHECK_OK(cch_index_search(index, x, 1, 200, -1.0, NULL, keys, scores, &n, &err), err);
        CHECK_EQ(n, brute_force(held, 200, D, x, -1.0, want));
        for (size_t i = 0; i < n; i++) CHECK(keys[i] == want[i].key && scores[i] == want[i].score);
        cch_index_unref(index);
    }
    free(x), free(held);
}

static cch_status search_once(cch_index *index, const float *queries) {
    int64_t keys[6];
    double scores[6];
    size_t n[2];
    return cch_index_search(index, queries, 2, 3, 0.0, NULL, keys, scores, n, NULL);
}

static cch_status search_one(cch_index *index, const float *query) {
    int64_t key;
    double score;
    size_t n;
    return cch_index_search(index, query, 1, 1, 0.8, NULL, &key, &score, &n, NULL);
}

TEST(a_search_without_memory_fails_cleanly) {
    float *x = draw_rows(100, D);
    cch_index *index = filled(x, 100, CCH_ROWS_BF16, 1, NULL, 100);
    CHECK_OOM(search_once(index, x));
    cch_index_unref(index);
    free(x);
    x = draw_rows(300, D); /* sifted by signs */
    index = filled(x, 300, CCH_ROWS_F32, 1, NULL, 300);
    CHECK_OOM(search_one(index, x));
    cch_index_unref(index);
    free(x);
}

TEST(a_search_can_be_cancelled) {
    const volatile int cancel = 1;
    int64_t key;
    double score;
    size_t n;
    cch_error err;
    float *x = draw_rows(10, D);
    cch_index *index = filled(x, 10, CCH_ROWS_F32, 1, NULL, 10);
    CHECK_STATUS(cch_index_search(index, x, 1, 1, 0.0, &cancel, &key, &score, &n, &err), CCH_E_CANCELLED, err,
                 "cancelled");
    cch_index_unref(index);
    free(x);
}

CHECK_MAIN()
