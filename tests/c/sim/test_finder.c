/* A finder that is shown all rows has what the search through all of them has. */
#include "vectors.h"

#include "sim/finder.h"

typedef struct bench {
    cch_shape shape;
    const cch_kernels *kern;
    cch_rows *rows;
    cch_snapshot *snapshot;
    float *x;
    size_t n;
} bench;

static void bench_open(bench *b, size_t n, size_t d) {
    cch_error err;
    b->shape = (cch_shape){d, cch_codes_stride(d), CCH_ROWS_F32};
    b->n = n;
    b->x = draw_rows(n, d);
    cch_kernels_get(NULL, &b->kern, NULL);
    CHECK_OK(cch_rows_new(&b->shape, n, &b->rows, &err), err);
    CHECK_OK(cch_snapshot_copy(NULL, 1, &b->snapshot, &err), err);
    cch_snapshot_append(b->snapshot, b->rows);
    b->snapshot->spans[0].n = n;
}

/* Rows as they are now, under their places as keys. */
static void bench_fill(bench *b) {
    for (size_t i = 0; i < b->n; i++) {
        cch_rows_put(b->rows, &b->shape, b->kern, i, b->x + i * b->shape.dimension, NULL);
        b->rows->keys[i] = (int64_t)i;
    }
}

static void bench_close(bench *b) {
    cch_snapshot_unref(b->snapshot);
    free(b->x);
}

static int by_rank(const void *a, const void *b) { return cch_hit_is_better(a, b) ? -1 : 1; }

static void check_query(const bench *b, const float *query, size_t k, double threshold) {
    const cch_hunt hunt = {b->snapshot, &b->shape, b->kern, k, threshold};
    cch_finder f = {.hunt = &hunt, .query = query};
    int16_t *codes = malloc(b->shape.stride * sizeof *codes);
    found *want = malloc(b->n * sizeof *want);
    int32_t sums[CCH_CHUNK];
    f.best = malloc(k * sizeof *f.best);
    f.lows = malloc(k * sizeof *f.lows);
    f.waiting = malloc(CCH_CANDIDATES * sizeof *f.waiting);
    cch_codes_of_query(b->kern, query, b->shape.dimension, codes, &f.coded);
    cch_finder_begin(&f);
    for (size_t i = 0, n; i < b->n; i += n) {
        n = b->n - i < CCH_CHUNK ? b->n - i : CCH_CHUNK;
        b->kern->scan_i8(b->rows->codes + i * b->shape.stride, n, b->shape.stride, codes, 1, sums, CCH_CHUNK);
        cch_finder_show(&f, 0, i, n, sums);
    }
    cch_finder_end(&f);
    const size_t n_all = brute_force(b->x, b->n, b->shape.dimension, query, threshold, want);
    CHECK_EQ(f.n_best, n_all < k ? n_all : k);
    qsort(f.best, f.n_best, sizeof *f.best, by_rank);
    for (size_t i = 0; i < f.n_best; i++) CHECK(f.best[i].key == want[i].key && f.best[i].score == want[i].score);
    free(codes), free(want), free(f.best), free(f.lows), free(f.waiting);
}

TEST(the_best_are_found_among_rows_of_all_kinds) {
    const size_t dims[] = {1, 2, 40, 100};
    for (size_t c = 0; c < 4; c++) {
        bench b;
        bench_open(&b, 700, dims[c]);
        bench_fill(&b);
        for (size_t k = 1; k < 1000; k = k * 3 + 1)
            for (size_t q = 0; q < 8; q++) check_query(&b, b.x + q * dims[c], k, q % 2 == 0 ? -1.0 : 0.25);
        bench_close(&b);
    }
}

/* All bounds overlap, so that the list of candidates overflows again and again. */
TEST(thousands_of_near_ties_are_told_apart) {
    bench b;
    bench_open(&b, 4000, 33);
    for (size_t i = 1; i < b.n; i++) draw_row(b.x + i * 33, b.x, 33, i % 5 == 0 ? 2 : 1);
    bench_fill(&b);
    check_query(&b, b.x, 1, -1.0);
    check_query(&b, b.x, 30, -1.0);
    check_query(&b, b.x + 33, 700, 0.9);
    check_query(&b, b.x + 66, 3, 1.0);
    bench_close(&b);
}

TEST(a_threshold_that_is_met_exactly_lets_in) {
    bench b;
    bench_open(&b, 3, 2);
    const float rows[6] = {3.0f, 4.0f, 4.0f, 3.0f, -3.0f, -4.0f}, query[2] = {1.0f, 0.0f};
    memcpy(b.x, rows, sizeof rows);
    bench_fill(&b);
    check_query(&b, query, 3, 0.6);
    check_query(&b, query, 3, nextafter(0.6, 1.0));
    check_query(&b, query, 3, -0.6);
    check_query(&b, rows, 3, 1.0);
    check_query(&b, rows, 3, -1.0);
    bench_close(&b);
}

CHECK_MAIN()
