#include <string.h>

#include "base/alloc.h"
#include "kern/matmul.h"

cch_status cch_packed_init(size_t n, size_t k, bool with_bias, cch_packed *out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_packed w = {0};
    size_t padded, count;
    memset(out, 0, sizeof *out);
    if (!cch_add(n, CCH_LANES - 1, &padded) || !cch_mul(padded, k, &count))
        CCH_THROW(err, CCH_E_MEMORY, -1, "a weight matrix of %zu x %zu does not fit in memory", n, k);
    w.n = n;
    w.k = k;
    w.n_panels = padded / CCH_LANES;
    count = w.n_panels * CCH_LANES * k;
    CCH_NEW(w.panels, count, err);
    cch_prefer_huge_pages(w.panels, count * sizeof *w.panels);
    if (w.n_panels > 0) memset(w.panels + (w.n_panels - 1) * CCH_LANES * k, 0, CCH_LANES * k * sizeof *w.panels);
    if (with_bias) CCH_ZNEW(w.bias, w.n_panels * CCH_LANES, err);
    *out = w;
    return CCH_OK;
done:
    cch_packed_deinit(&w);
    return status;
}

void cch_packed_deinit(cch_packed *w) {
    cch_free(w->panels);
    cch_free(w->bias);
    memset(w, 0, sizeof *w);
}

size_t cch_packed_bytes(const cch_packed *w) {
    return w->n_panels * CCH_LANES * (w->k + (w->bias != NULL ? 1 : 0)) * sizeof(float);
}

static inline float *element(const cch_packed *w, size_t row, size_t k) {
    return w->panels + (row / CCH_LANES * w->k + k) * CCH_LANES + row % CCH_LANES;
}

typedef float quad __attribute__((vector_size(16)));

/* dst[i][r] = src[r][i] for a square of 4. */
static inline void transpose4(float *dst, const float *src, size_t row_stride) {
    quad a, b, c, d;
    memcpy(&a, src, sizeof a);
    memcpy(&b, src + row_stride, sizeof b);
    memcpy(&c, src + 2 * row_stride, sizeof c);
    memcpy(&d, src + 3 * row_stride, sizeof d);
    const quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const quad out[4] = {
        __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
        __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++) memcpy(dst + CCH_LANES * i, &out[i], sizeof out[i]);
}

/* Up to 16 rows of one panel.  Source lines are used up four rows at a time: more would fall on the same set of a cache
 * when their distance is a multiple of 4 KiB. */
static void pack_panel(float *dst, size_t rows, size_t k_len, const float *src, size_t row_stride, size_t col_stride) {
    const size_t whole_rows = col_stride == 1 ? rows / 4 * 4 : 0, whole = k_len / CCH_LANES * CCH_LANES;
    for (size_t k = 0; k < whole; k += CCH_LANES)
        for (size_t r = 0; r < whole_rows; r += 4)
            for (size_t i = k; i < k + CCH_LANES; i += 4)
                transpose4(dst + i * CCH_LANES + r, src + r * row_stride + i, row_stride);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = r < whole_rows ? whole : 0; i < k_len; i++)
            dst[i * CCH_LANES + r] = src[r * row_stride + i * col_stride];
}

/* Rows are adjacent in src: one source line at a time, dealt to its panels. */
static void pack_transposed(cch_packed *w, size_t row, size_t rows, const float *src, size_t col_stride) {
    for (size_t k = 0; k < w->k; k++) {
        const float *line = src + k * col_stride;
        for (size_t r = 0, n; r < rows; r += n) {
            const size_t lane = (row + r) % CCH_LANES;
            n = rows - r < CCH_LANES - lane ? rows - r : CCH_LANES - lane;
            memcpy(element(w, row + r, k), line + r, n * sizeof *line);
        }
    }
}

#define ROWS_AT_ONCE 256 /* of a transposed source: 16 panels written, 1 KiB read per line */

void cch_pack_rows(cch_packed *w, size_t row, size_t rows, const float *src, size_t row_stride, size_t col_stride) {
    const size_t step = row_stride == 1 ? ROWS_AT_ONCE : CCH_LANES;
    for (size_t r = 0, n; r < rows; r += n) {
        const size_t room = step - (row + r) % step;
        n = rows - r < room ? rows - r : room;
        if (row_stride == 1) pack_transposed(w, row + r, n, src + r, col_stride);
        else pack_panel(element(w, row + r, 0), n, w->k, src + r * row_stride, row_stride, col_stride);
    }
}

void cch_packed_row(const cch_packed *w, size_t row, float *dst) {
    const float *src = element(w, row, 0);
    for (size_t k = 0; k < w->k; k++) dst[k] = src[k * CCH_LANES];
}
