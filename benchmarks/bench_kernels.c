/* bench_kernels - matrix products of real models against the distribution's OpenBLAS, and both against the machine.
 *
 * Build and run, from the repository root, on an otherwise idle machine:
 *   make core && gcc $(cat tools/cflags.txt) -Icsrc benchmarks/bench_kernels.c build/libcacher.a -lopenblas -lpthread \
 *       -lm -o build/bench_kernels
 *   OPENBLAS_THREAD_TIMEOUT=20 build/bench_kernels [threads] [isa] [least rows] [most rows]
 *
 * Each cell is timed in turns (ours, OpenBLAS, ours, ...) and the median counts, so a disturbance hits both.  Weights
 * rotate through copies that together exceed the caches: every product reads its weights from memory, as in a forward
 * pass over a model.  Shares of bandwidth (few rows) and of the arithmetic peak (many rows) use probes that run in the
 * same turns.  Prints one line per cell; ratio > 1 means faster than OpenBLAS.
 */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "kern/matmul.h"
#include "probes.h"

#define TURNS 11
#define MOST_ROWS 512
#define MOST_COPIES 64
#define SETTLE_NS 5000000 /* after it OpenBLAS's threads sleep, and leave us the cores */
#define COPIES_BYTES ((size_t)192 << 20) /* of weights per cell, six times the last-level cache */

typedef struct shape {
    const char *name;
    size_t k, n;
} shape;

static const shape shapes[] = {
    {"gpt2 qkv", 768, 2304},    {"gpt2 out", 768, 768},    {"gpt2 up", 768, 3072},
    {"gpt2 down", 3072, 768},   {"gpt2 logits", 768, 50257},
    {"smollm qkv", 576, 960},   {"smollm out", 576, 576},  {"smollm gate+up", 576, 3072},
    {"smollm down", 1536, 576}, {"smollm logits", 576, 49152},
};
static const size_t row_counts[] = {1, 2, 4, 6, 8, 16, 32, 48, 128, 512};

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times) {
    qsort(times, TURNS, sizeof *times, by_value);
    return times[TURNS / 2];
}

static float *random_floats(size_t n) {
    float *x = cch_alloc(n, sizeof *x);
    uint32_t s = 12345;
    if (x == NULL) exit(1);
    for (size_t i = 0; i < n; i++) x[i] = (float)((s = s * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f;
    return x;
}

/* -------------------------------------------------------------------------------------------------- cells ---- */

typedef struct cell {
    const cch_kernels *kern;
    cch_threads *threads;
    cch_packed packed[MOST_COPIES];
    float *dense[MOST_COPIES], *x, *words, *y;
    size_t k, n, n_copies, calls; /* calls per timing */
} cell;

static double time_ours(cell *c, size_t rows, size_t turn) {
    const size_t ldy = (c->n + 15) / 16 * 16;
    const double start = now();
    for (size_t i = 0; i < c->calls; i++)
        cch_matmul(c->kern, c->threads, &c->packed[(turn * c->calls + i) % c->n_copies], c->x, c->k, rows, c->words,
                   c->y, ldy);
    return (now() - start) / (double)c->calls;
}

static double time_blas(cell *c, size_t rows, size_t turn) {
    const int m = (int)rows, n = (int)c->n, k = (int)c->k;
    const struct timespec settle = {0, SETTLE_NS};
    const double start = now();
    for (size_t i = 0; i < c->calls; i++) {
        const float *w = c->dense[(turn * c->calls + i) % c->n_copies];
        if (rows == 1) cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1.0f, w, k, c->x, 1, 0.0f, c->y, 1);
        else cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, c->x, k, w, k, 0.0f, c->y, n);
    }
    const double elapsed = now() - start;
    if (cch_threads_count(c->threads) > 1) nanosleep(&settle, NULL);
    return elapsed / (double)c->calls;
}

static void bench_cell(cell *c, const char *name, size_t rows) {
    double ours[TURNS], blas[TURNS], read[N_READ_PROBES][TURNS], fma[TURNS], fastest = INFINITY;
    const double weights = (double)(c->n * c->k), flops = 2.0 * weights * (double)rows;
    const int n_threads = cch_threads_count(c->threads);
    c->calls = 1 + (size_t)(4e7 / (weights + flops / 4));
    time_ours(c, rows, 0);
    time_blas(c, rows, 0);
    for (size_t turn = 0; turn < TURNS; turn++) {
        ours[turn] = time_ours(c, rows, turn);
        blas[turn] = time_blas(c, rows, turn);
        for (size_t i = 0; i < N_READ_PROBES; i++) read[i][turn] = time_job(c->threads, read_probes[i]);
        fma[turn] = time_job(c->threads, fma_probe);
    }
    for (size_t i = 0; i < N_READ_PROBES; i++) fastest = fmin(fastest, median(read[i]));
    const double t = median(ours), bandwidth = (double)PROBE_BYTES / fastest;
    const double peak = (double)n_threads * PROBE_STEPS * 16 * 32 / median(fma);
    printf("%-15s %4zu x %5zu rows %3zu  %9.1f us  ratio %5.2f  bandwidth %3.0f%% of %4.1f GB/s"
           "  peak %3.0f%% of %5.1f GFLOP/s\n",
           name, c->k, c->n, rows, 1e6 * t, median(blas) / t, 100.0 * 4.0 * weights / t / bandwidth, 1e-9 * bandwidth,
           100.0 * flops / t / peak, 1e-9 * peak);
    fflush(stdout);
}

static void bench_shape(const cch_kernels *kern, cch_threads *threads, const shape *s, size_t least, size_t most) {
    cell c = {.kern = kern, .threads = threads, .k = s->k, .n = s->n};
    c.n_copies = COPIES_BYTES / (s->k * s->n * sizeof(float));
    c.n_copies = c.n_copies < 2 ? 2 : c.n_copies > MOST_COPIES ? MOST_COPIES : c.n_copies;
    c.x = random_floats(MOST_ROWS * s->k);
    c.words = random_floats(MOST_ROWS * s->k);
    c.y = random_floats(MOST_ROWS * (s->n + 16));
    for (size_t i = 0; i < c.n_copies; i++) {
        c.dense[i] = random_floats(s->k * s->n);
        if (cch_packed_init(CCH_FORMAT_F32, s->n, s->k, false, &c.packed[i], NULL) != CCH_OK) exit(1);
        cch_pack_rows(&c.packed[i], 0, s->n, c.dense[i], s->k, 1);
    }
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++)
        if (row_counts[i] >= least && row_counts[i] <= most) bench_cell(&c, s->name, row_counts[i]);
    for (size_t i = 0; i < c.n_copies; i++) {
        cch_free(c.dense[i]);
        cch_packed_deinit(&c.packed[i]);
    }
    cch_free(c.x);
    cch_free(c.words);
    cch_free(c.y);
}

int main(int argc, char **argv) {
    const int n_threads = argc > 1 ? atoi(argv[1]) : 1;
    const size_t least = argc > 3 ? (size_t)atoi(argv[3]) : 1, most = argc > 4 ? (size_t)atoi(argv[4]) : MOST_ROWS;
    const cch_kernels *kern = NULL;
    cch_threads *threads = NULL;
    cch_error err;
    if (cch_kernels_get(argc > 2 && strcmp(argv[2], "best") != 0 ? argv[2] : NULL, &kern, &err) != CCH_OK ||
        cch_threads_new(n_threads, &threads, &err) != CCH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    openblas_set_num_threads(n_threads);
    if (probe_init(NULL) != CCH_OK) return 1;
    printf("%s, %d threads; %s, OpenBLAS core %s\n", kern->name, n_threads, openblas_get_config(),
           openblas_get_corename());
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) bench_shape(kern, threads, &shapes[i], least, most);
    cch_packed_deinit(&probe);
    cch_threads_free(threads);
    return 0;
}
