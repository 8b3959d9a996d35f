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

static problem problem_new(size_t n, size_t k, size_t rows, bool bias) {
    problem p = {.n = n, .k = k, .rows = rows, .ldx = k + 1, .ldy = (n + 15) / 16 * 16 + 2};
    cch_error err;
    CHECK_OK(cch_packed_init(n, k, bias, &p.w, &err), err);
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
    CHECK_OK(cch_kernels_get(isa, &kern, &err), err);
    CHECK_OK(cch_threads_new(n_threads, &threads, &err), err);
    cch_matmul(kern, threads, &p->w, p->x, p->ldx, p->rows, y, p->ldy);
    cch_threads_free(threads);
    return y;
}

/* |error| of a chain of k fused operations is at most k * eps * sum |x w| (first order). */
TEST(product_and_bias_are_close_to_long_double) {
    problem p = problem_new(50, 333, 7, true);
    float *y = multiply(&p, NULL, 1);
    for (size_t r = 0; r < p.rows; r++) {
        for (size_t n = 0; n < p.n; n++) {
            long double want = p.w.bias[n], size = fabsl(want);
            for (size_t k = 0; k < p.k; k++) {
                const long double term = (long double)p.x[r * p.ldx + k] * p.dense[n * p.k + k];
                want += term;
                size += fabsl(term);
            }
            CHECK(fabsl((long double)y[r * p.ldy + n] - want) <= (long double)p.k * 0x1p-24L * size);
        }
    }
    cch_free(y);
    problem_deinit(&p);
}

/* The batch law, the thread law and the ISA law of one product: shapes on both sides of every split and block. */
TEST(bits_depend_on_nothing_but_the_row) {
    const size_t shapes[][3] = {{16, 4, 1}, {200, 40, 1}, {1200, 90, 1}, {1200, 90, 5}, {40, 1100, 40}, {70, 2100, 13},
                                {24, 600, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        problem p = problem_new(shapes[i][0], shapes[i][1], shapes[i][2], i % 2 == 0);
        float *want = multiply(&p, "generic", 1);
        for (int n_threads = 1; n_threads <= 3; n_threads++) {
            float *y = multiply(&p, NULL, n_threads);
            CHECK(memcmp(y, want, p.rows * p.ldy * sizeof *y) == 0);
            cch_free(y);
        }
        problem one = p;
        one.rows = 1;
        one.x = p.x + (p.rows - 1) * p.ldx;
        float *y = multiply(&one, NULL, 2);
        CHECK(memcmp(y, want + (p.rows - 1) * p.ldy, p.ldy * sizeof *y) == 0);
        cch_free(y);
        cch_free(want);
        problem_deinit(&p);
    }
}

TEST(no_rows_is_no_work) {
    problem p = problem_new(16, 4, 1, false);
    p.rows = 0;
    float *y = multiply(&p, NULL, 2);
    cch_free(y);
    problem_deinit(&p);
}

CHECK_MAIN()
