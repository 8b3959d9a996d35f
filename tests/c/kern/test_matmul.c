#include "check.h"

#include <math.h>

#include "base/alloc.h"
#include "kern/matmul.h"

static float noise(size_t i) { return (float)sin((double)i * 12.9898) * 1.7f; }

typedef struct problem {
    size_t n, k, rows, ldx, ldy;
    cch_packed w;
    float *x, *dense;
} problem;

static problem problem_new(cch_format format, size_t n, size_t k, size_t rows, bool bias) {
    problem p = {.n = n, .k = k, .rows = rows, .ldx = k + 1, .ldy = (n + 15) / 16 * 16 + 2};
    cch_error err;
    CHECK_OK(cch_packed_init(format, n, k, bias, &p.w, &err), err);
    p.x = cch_alloc(rows * p.ldx, sizeof *p.x);
    p.dense = cch_alloc(n * k, sizeof *p.dense);
    for (size_t i = 0; i < rows * p.ldx; i++) p.x[i] = noise(i + 7);
    for (size_t i = 0; i < n * k; i++) p.dense[i] = noise(3 * i + 1);
    for (size_t i = 0; bias && i < n; i++) p.w.bias[i] = noise(11 * i);
    cch_pack_rows(&p.w, 0, n, p.dense, k, 1);
    return p;
}

static void problem_deinit(problem *p) {
    cch_packed_deinit(&p->w);
    cch_free(p->x);
    cch_free(p->dense);
}

static float *multiply(const problem *p, const char *isa, int n_threads) {
    const cch_kernels *kern = NULL;
    cch_threads *threads = NULL;
    cch_error err;
    float *y = cch_zalloc(p->rows * p->ldy, sizeof *y);
    float *words = cch_alloc(p->rows * cch_matmul_words(&p->w), sizeof *words);
    CHECK_OK(cch_kernels_get(isa, &kern, &err), err);
    CHECK_OK(cch_threads_new(n_threads, &threads, &err), err);
    cch_matmul(kern, threads, &p->w, p->x, p->ldx, p->rows, words, y, p->ldy);
    cch_threads_free(threads);
    cch_free(words);
    return y;
}

/* One output and its bias; *size: the sum of magnitudes. */
static long double exact(const problem *p, size_t r, size_t n, long double *size) {
    long double sum = p->w.bias[n];
    *size = fabsl(sum);
    for (size_t k = 0; k < p->k; k++) {
        const long double term = (long double)p->x[r * p->ldx + k] * p->dense[n * p->k + k];
        sum += term;
        *size += fabsl(term);
    }
    return sum;
}

/* |error| of a chain of k fused operations is at most k * eps * sum |x w| (first order). */
TEST(product_and_bias_are_close_to_long_double) {
    problem p = problem_new(CCH_FORMAT_F32, 50, 333, 7, true);
    float *y = multiply(&p, NULL, 1);
    for (size_t r = 0; r < p.rows; r++) {
        for (size_t n = 0; n < p.n; n++) {
            long double size;
            const long double want = exact(&p, r, n, &size);
            CHECK(fabsl((long double)y[r * p.ldy + n] - want) <= (long double)p.k * 0x1p-24L * size);
        }
    }
    cch_free(y);
    problem_deinit(&p);
}

/* Rounding to bf16 moves a factor by at most 2^-9 of it; an 8-bit number is off by at most half a step, which is the
 * largest magnitude of its group (a weight) or row (an input) / 254. */
static long double most_off(cch_format format, const problem *p, size_t r, size_t n) {
    long double off = 0.0L, most_x = 0.0L;
    for (size_t k = 0; k < p->k; k++) most_x = fmaxl(most_x, fabsl((long double)p->x[r * p->ldx + k]));
    for (size_t k = 0; k < p->k; k++) {
        const long double x = fabsl((long double)p->x[r * p->ldx + k]), w = fabsl((long double)p->dense[n * p->k + k]);
        long double most_w = 0.0L;
        for (size_t i = k / 128 * 128; i < p->k && i < k / 128 * 128 + 128; i++)
            most_w = fmaxl(most_w, fabsl((long double)p->dense[n * p->k + i]));
        if (format == CCH_FORMAT_BF16) off += x * w * (0x1p-8L + 0x1p-18L);
        else off += x * most_w / 254 + w * most_x / 254 + most_x * most_w / 254 / 254;
    }
    return off;
}

TEST(fewer_bits_are_off_by_their_rounding_and_no_more) {
    for (cch_format format = CCH_FORMAT_BF16; format <= CCH_FORMAT_INT8; format++) {
        problem p = problem_new(format, 50, 333, 9, true);
        float *y = multiply(&p, NULL, 1);
        for (size_t r = 0; r < p.rows; r++) {
            for (size_t n = 0; n < p.n; n++) {
                long double size;
                const long double want = exact(&p, r, n, &size);
                const long double off = most_off(format, &p, r, n) + (long double)p.k * 0x1p-24L * size;
                CHECK(fabsl((long double)y[r * p.ldy + n] - want) <= 1.01L * off);
            }
        }
        cch_free(y);
        problem_deinit(&p);
    }
}

/* The batch law, the thread law and the ISA law of one product: shapes on both sides of every split and block. */
static void check_laws(cch_format format, const size_t *shape, bool bias) {
    static const char *const isas[] = {"amx", "avx512bf16", "avx512", "avx2", "generic"};
    problem p = problem_new(format, shape[0], shape[1], shape[2], bias), one = p;
    one.rows = 1;
    one.x = p.x + (p.rows - 1) * p.ldx;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const cch_kernels *kern = NULL;
        const bool own_order = format == CCH_FORMAT_BF16 && strcmp(isas[i], "amx") == 0;
        if (cch_kernels_get(isas[i], &kern, NULL) != CCH_OK) continue; /* not on this CPU */
        float *want = multiply(&p, own_order ? isas[i] : "generic", 1);
        for (int n_threads = 1; n_threads <= 3; n_threads++) {
            float *y = multiply(&p, isas[i], n_threads);
            CHECK(memcmp(y, want, p.rows * p.ldy * sizeof *y) == 0);
            cch_free(y);
        }
        float *y = multiply(&one, isas[i], 2);
        CHECK(memcmp(y, want + (p.rows - 1) * p.ldy, p.ldy * sizeof *y) == 0);
        cch_free(y);
        cch_free(want);
    }
    problem_deinit(&p);
}

TEST(bits_depend_on_nothing_but_the_row) {
    const size_t shapes[][3] = {{16, 4, 1}, {200, 40, 1}, {1200, 90, 1}, {1200, 90, 5}, {40, 1100, 40}, {70, 2100, 13},
                                {24, 600, 64}, {100, 515, 30}, {48, 9000, 9}, {300, 37, 56}, {500, 75, 65},
                                {700, 50, 111}, {90, 70, 33}, {40, 61, 180}};
    for (cch_format format = CCH_FORMAT_F32; format <= CCH_FORMAT_INT8; format++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_laws(format, shapes[i], i % 2 == 0);
}

/* A row that is not finite, or all zeros, says nothing of the others. */
TEST(odd_rows_keep_to_themselves) {
    for (cch_format format = CCH_FORMAT_F32; format <= CCH_FORMAT_INT8; format++) {
        problem p = problem_new(format, 32, 200, 4, true);
        float *want = multiply(&p, NULL, 1);
        p.x[p.ldx + 7] = NAN;
        p.x[2 * p.ldx + 199] = INFINITY;
        memset(p.x + 3 * p.ldx, 0, p.k * sizeof *p.x);
        float *y = multiply(&p, NULL, 2);
        CHECK(memcmp(y, want, p.ldy * sizeof *y) == 0);
        for (size_t n = 0; n < p.n; n++) {
            CHECK(isnan(y[p.ldy + n]));
            CHECK(!isfinite(y[2 * p.ldy + n]));
            CHECK(y[3 * p.ldy + n] == p.w.bias[n]);
        }
        cch_free(want);
        cch_free(y);
        problem_deinit(&p);
    }
}

TEST(no_rows_is_no_work) {
    problem p = problem_new(CCH_FORMAT_F32, 16, 4, 1, false);
    p.rows = 0;
    float *y = multiply(&p, NULL, 2);
    cch_free(y);
    problem_deinit(&p);
}

CHECK_MAIN()
