#include "kern/matmul.h"

/* Below this many multiply-adds per thread, waking another one costs more than it gives. */
#define WORTH_A_THREAD ((size_t)32 << 10)
#define WORTH_ROWS ((size_t)32 << 10) /* the same in numbers that are brought to another format */
#define LINE ((size_t)16)   /* floats of a cache line */
#define GROUP 6 /* panels: kernels take 3, or 2 x 2 and 2, or ... */
#define MANY_ROWS ((size_t)32) /* from here on rows in f32 are dealt: arithmetic is the bound */

typedef struct job {
    const cch_kernels *kern;
    const cch_packed *w;
    const float *x;
    float *words, *y;
    size_t ldx, ldy, rows;
} job;

size_t cch_matmul_words(const cch_packed *w) {
    const size_t words = w->k_words + (w->format == CCH_FORMAT_INT8 ? cch_n_groups(w->k_words) + 1 : 0);
    if (w->format == CCH_FORMAT_F32) return w->k;
    return (words + LINE - 1) / LINE * LINE | LINE; /* an odd number of lines: rows fall on all sets of a cache */
}

static void convert_rows(void *arg, int thread, int n_threads) {
    const job *j = arg;
    const size_t words = cch_matmul_words(j->w);
    size_t first, last;
    cch_split(j->rows, n_threads, thread, &first, &last);
    for (size_t r = first; r < last; r++) {
        if (j->w->format == CCH_FORMAT_BF16) j->kern->round_bf16(j->x + r * j->ldx, j->w->k, j->words + r * words);
        else j->kern->quantize_int8(j->x + r * j->ldx, j->w->k, j->words + r * words);
    }
}

static bool is_dealt(const job *j, size_t rows) {
    return j->w->format == CCH_FORMAT_F32 && rows >= MANY_ROWS;
}

/* A part of the tiles of rows [row, row + rows). */
static void deal(const job *j, size_t row, size_t rows, int part, int n_parts) {
    const size_t n = (rows + j->kern->deal_rows - 1) / j->kern->deal_rows, k = j->w->k;
    size_t first, last;
    cch_split(n, n_parts, part, &first, &last);
    for (size_t i = first; i < last; i++) {
        const size_t begin = row + cch_tile_row(rows, n, i), end = row + cch_tile_row(rows, n, i + 1);
        cch_deal(j->words + begin * k, j->x + begin * j->ldx, j->ldx, end - begin, k);
    }
}

static void deal_rows(void *arg, int thread, int n_threads) {
    const job *j = arg;
    deal(j, 0, j->rows, thread, n_threads);
}

static void multiply(const job *j, size_t row, size_t rows, size_t panel, size_t panels) {
    const cch_packed *w = j->w;
    const size_t n = panel * CCH_LANES;
    const float *x = j->x + row * j->ldx, *packed = w->panels + n * w->k_words;
    const float *bias = w->bias != NULL ? w->bias + n : NULL;
    float *y = j->y + row * j->ldy + n;
    if (rows == 0 || panels == 0) return;
    switch (w->format) {
    case CCH_FORMAT_F32:
        if (is_dealt(j, rows))
            j->kern->matmul_dealt(j->words + row * w->k, rows, packed, panels, w->k, bias, y, j->ldy);
        else j->kern->matmul_f32(x, j->ldx, rows, packed, panels, w->k, bias, y, j->ldy);
        break;
    case CCH_FORMAT_BF16:
        j->kern->matmul_bf16(x, j->ldx, rows, packed, panels, w->k_words, bias, y, j->ldy);
        break;
    case CCH_FORMAT_INT8:
        j->kern->matmul_int8(x, j->ldx, rows, packed, w->scales + n * cch_n_groups(w->k_words), panels, w->k_words,
                             bias, y, j->ldy);
    }
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
    if (is_dealt(j, last - first)) deal(j, first, last - first, 0, 1);
    multiply(j, first, last - first, 0, j->w->n_panels);
}

static void run(cch_threads *threads, bool alone, cch_job part, job *j) {
    if (alone) part(j, 0, 1);
    else cch_threads_run(threads, part, j);
}

void cch_matmul(const cch_kernels *kern, cch_threads *threads, const cch_packed *w, const float *x, size_t ldx,
                size_t rows, float *words, float *y, size_t ldy) {
    job j = {.kern = kern, .w = w, .x = x, .y = y, .words = words, .ldx = ldx, .ldy = ldy, .rows = rows};
    const size_t n_threads = (size_t)cch_threads_count(threads), groups = (w->n_panels + GROUP - 1) / GROUP;
    const bool alone = n_threads == 1 || rows * w->n_panels * CCH_LANES * w->k < 2 * WORTH_A_THREAD;
    const bool few_panels = !alone && groups < 4 * n_threads && rows >= 8 * n_threads;
    if (w->format != CCH_FORMAT_F32) {
        run(threads, n_threads == 1 || rows * w->k < 2 * WORTH_ROWS, convert_rows, &j);
        j.x = words;
        j.ldx = cch_matmul_words(w);
    } else if (is_dealt(&j, rows) && !few_panels) run(threads, alone, deal_rows, &j);
    run(threads, alone, few_panels ? by_rows : by_panels, &j);
}
