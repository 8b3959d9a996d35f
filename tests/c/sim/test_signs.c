/* Signs of rows and queries: what they rule out is never what was looked for. */
#include "vectors.h"

#include "sim/signs.h"

#define N 150 /* three groups, the last one not full */

static const cch_kernels *kernels(void) {
    const cch_kernels *kern = NULL;
    cch_kernels_get(NULL, &kern, NULL);
    return kern;
}

typedef struct bench {
    size_t d;
    float *x; /* [N, d] */
    char *memory;
    cch_signs signs;
    cch_signed_query query;
} bench;

static bench bench_open(float *x, size_t d) {
    bench b = {.d = d, .x = x, .memory = calloc(cch_signs_bytes(d, N), 1)};
    b.signs = cch_signs_view(N, b.memory);
    b.query.tables = malloc(cch_sign_table_bytes(d));
    for (size_t i = 0; i < N; i++) cch_signs_put(&b.signs, kernels(), i, x + i * d, d);
    return b;
}

static void bench_close(bench *b) { free(b->x), free(b->memory), free(b->query.tables); }

/* Which rows are left for this query and bar. */
static size_t sifted(bench *b, const float *query, float bar, bool left[N]) {
    uint16_t sums[192], picks[192];
    cch_signs_of_query(kernels(), query, b->d, &b->query);
    kernels()->scan_signs(b->signs.bits, 3, cch_sign_bytes(b->d), b->query.tables, sums);
    const cch_sieve sieve = cch_signs_sieve(&b->query, bar);
    const size_t n = kernels()->sift_signs(sums, b->signs.cosine, b->signs.sine, N, &sieve, picks);
    memset(left, 0, N * sizeof *left);
    for (size_t i = 0; i < n; i++) {
        CHECK(i == 0 || picks[i] > picks[i - 1]);
        left[picks[i]] = true;
    }
    return n;
}

static double cosine_of(const float *q, const float *x, size_t d) {
    return cch_cosine(kernels(), q, kernels()->dot_f32(q, q, d), x, d);
}

/* Of all kinds of rows, near ties at the bar among them. */
TEST(no_row_that_reaches_the_bar_is_ruled_out) {
    const size_t dims[] = {1, 2, 7, 8, 31, 64, 100, 384, 1100};
    for (size_t c = 0; c < sizeof dims / sizeof *dims; c++) {
        const size_t d = dims[c];
        bench b = bench_open(draw_rows(N, d), d);
        for (size_t q = 0; q < N; q += 3) {
            const float *query = b.x + q * d, *other = b.x + drawn_below(N) * d;
            const float score = (float)cosine_of(query, other, d);
            const float bars[] = {0.05f, 0.5f, 0.8f, 0.999999f, 1.0f, score, nextafterf(score, -1.0f)};
            for (size_t i = 0; i < sizeof bars / sizeof *bars; i++) {
                bool left[N];
                if (!cch_signs_can_sift(bars[i])) continue;
                sifted(&b, query, bars[i], left);
                for (size_t r = 0; r < N; r++)
                    CHECK(left[r] || cosine_of(query, b.x + r * d, d) < (double)bars[i]);
            }
        }
        bench_close(&b);
    }
}

/* Rows all of whose numbers are as large are their signs, so that their angles are known to the last bit. */
TEST(rows_that_are_their_signs_are_told_apart) {
    const size_t d = 96;
    float *x = malloc(N * d * sizeof *x);
    bool left[N];
    for (size_t i = 0; i < N * d; i++) x[i] = i < d || drawn() % 64 != 0 ? 0.25f : -0.25f;
    bench b = bench_open(x, d);
    CHECK(sifted(&b, x, 0.999f, left) < N / 2);
    for (size_t r = 0; r < N; r++) CHECK(left[r] || cosine_of(x, x + r * d, d) < 0.999);
    bench_close(&b);
}

TEST(of_usual_rows_few_are_left) {
    const size_t d = 384;
    float *x = malloc(N * d * sizeof *x);
    bool left[N];
    for (size_t r = 0; r < N; r++) draw_row(x + r * d, x, d, 0);
    bench b = bench_open(x, d);
    for (size_t q = 0; q < N; q++) {
        CHECK(sifted(&b, x + q * d, 0.8f, left) == 1);
        CHECK(left[q]);
    }
    bench_close(&b);
}

TEST(a_query_of_zeros_is_like_nothing) {
    bench b = bench_open(draw_rows(N, 40), 40);
    const float zeros[40] = {0};
    bool left[N];
    sifted(&b, zeros, 0.1f, left);
    CHECK(b.query.gain == 0.0f && b.query.base == 0.0f);
    CHECK(!cch_signs_can_sift(0.0f) && !cch_signs_can_sift(-1.0f) && cch_signs_can_sift(0.1f));
    bench_close(&b);
}

TEST(sums_of_the_widest_query_fit) {
    const size_t d = CCH_INDEX_MAX_DIMENSION;
    float *x = malloc(N * d * sizeof *x);
    bool left[N];
    for (size_t i = 0; i < N * d; i++) x[i] = i % d % 3 == 0 ? 3e38f : -3e38f;
    bench b = bench_open(x, d);
    CHECK(sifted(&b, x, 1.0f, left) == N);
    bench_close(&b);
}

TEST(what_is_moved_is_as_if_it_were_put) {
    const size_t d = 30, bytes = cch_signs_bytes(d, N);
    bench b = bench_open(draw_rows(N, d), d);
    char *memory = calloc(bytes, 1);
    const cch_signs moved = cch_signs_view(N, memory);
    for (size_t i = 0; i < N; i++) cch_signs_move(&moved, i, &b.signs, i, d);
    CHECK(memcmp(memory, b.memory, bytes) == 0);
    for (size_t i = 0; i < N; i++) cch_signs_move(&moved, i, &b.signs, N - 1 - i, d);
    for (size_t i = 0; i < N; i++) cch_signs_put(&b.signs, kernels(), i, b.x + (N - 1 - i) * d, d);
    CHECK(memcmp(memory, b.memory, bytes) == 0);
    free(memory);
    bench_close(&b);
}

CHECK_MAIN()
