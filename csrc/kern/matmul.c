#include "kern/matmul.h"

/* Below this many multiply-adds per thread, waking another one costs more than it gives. */
#define WORTH_A_THREAD ((size_t)32 << 10)
#define GROUP 4 /* panels a kernel takes at once; splits fall between groups */

typedef struct job {
    const cch_kernels *kern;
    const cch_packed *w;
    const float *x;
    float *y;
    size_t ldx, ldy, rows;
} job;

static void multiply(const job *j, size_t row, size_t rows, size_t panel, size_t panels) {
    const cch_packed *w = j->w;
    const size_t n = panel * CCH_LANES;
    if (rows == 0 || panels == 0) return;
    j->kern->matmul_f32(j->x + row * j->ldx, j->ldx, rows, w->panels + n * w->k, panels, w->k,
                        w->bias != NULL ? w->bias + n : NULL, j->y + row * j->ldy + n, j->ldy);
}

static void by_panels(void *arg, int thread, int n_threads) {
    const job *j = arg;
    size_t first, last;
    cch_split((j->w->n_panels + GROUP - 1) / GROUP, n_threads, thread, &first, &last);
    first *= GROUP;
    last = last * GROUP < j->w->n_panels ? last * GROUP : j->w->n_panels;
    multiply(j, 0, j->rows, first, last - first);
}

static void by_rows(void *arg, int thread, int n_threads) {
    const job *j = arg;
    size_t first, last;
    cch_split(j->rows, n_threads, thread, &first, &last);
    multiply(j, first, last - first, 0, j->w->n_panels);
}

void cch_matmul(const cch_kernels *kern, cch_threads *threads, const cch_packed *w, const float *x, size_t ldx,
                size_t rows, float *y, size_t ldy) {
    job j = {.kern = kern, .w = w, .x = x, .y = y, .ldx = ldx, .ldy = ldy, .rows = rows};
    const size_t n_threads = (size_t)cch_threads_count(threads), groups = (w->n_panels + GROUP - 1) / GROUP;
    const size_t work = rows * w->n_panels * CCH_LANES * w->k;
    if (n_threads == 1 || work < 2 * WORTH_A_THREAD) multiply(&j, 0, rows, 0, w->n_panels);
    else if (groups < 4 * n_threads && rows >= 8 * n_threads) cch_threads_run(threads, by_rows, &j);
    else cch_threads_run(threads, by_panels, &j);
}
