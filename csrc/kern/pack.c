#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "kern/matmul.h"

static size_t words_of(cch_format format, size_t k) {
    return format == CCH_FORMAT_F32 ? k : cch_n_words(k, format == CCH_FORMAT_BF16 ? 2 : 4);
}

static size_t panels_of(size_t n) { return n / CCH_LANES + (n % CCH_LANES != 0); }

bool cch_packed_size(cch_format format, size_t n, size_t k, bool with_bias, size_t *out_bytes) {
    if (k > SIZE_MAX / 2) return false;
    const size_t words = words_of(format, k), scales = format == CCH_FORMAT_INT8 ? cch_n_groups(words) : 0;
    size_t column; /* a number of each output */
    return cch_mul(panels_of(n), CCH_LANES * sizeof(float), &column) &&
           cch_mul(column, words + scales + (with_bias ? 1 : 0), out_bytes);
}

void cch_packed_view(cch_format format, size_t n, size_t k, bool with_bias, float *block, cch_packed *out) {
    cch_packed w = {.format = format, .n = n, .k = k, .n_panels = panels_of(n), .k_words = words_of(format, k)};
    const size_t outputs = w.n_panels * CCH_LANES;
    float *end = block + outputs * w.k_words;
    w.panels = block;
    if (format == CCH_FORMAT_INT8) {
        w.scales = end;
        end += outputs * cch_n_groups(w.k_words);
    }
    if (with_bias) {
        w.bias = end;
        end += outputs;
    }
    w.bytes = (size_t)(end - block) * sizeof *block;
    *out = w;
}

cch_status cch_packed_init(cch_format format, size_t n, size_t k, bool with_bias, cch_packed *out, cch_error *err) {
    cch_status status = CCH_OK;
    float *block = NULL;
    size_t bytes;
    memset(out, 0, sizeof *out);
    if (!cch_packed_size(format, n, k, with_bias, &bytes))
        CCH_THROW(err, CCH_E_MEMORY, -1, "a weight matrix of %zu x %zu does not fit in memory", n, k);
    CCH_NEW(block, bytes / sizeof *block, err);
    cch_prefer_huge_pages(block, bytes);
    cch_packed_view(format, n, k, with_bias, block, out);
    if (n > 0) { /* from the last panel on */
        const size_t first = (out->n_panels - 1) * CCH_LANES * out->k_words;
        memset(block + first, 0, bytes - first * sizeof *block);
    }
done:
    return status;
}

void cch_packed_deinit(cch_packed *w) {
    cch_free(w->panels);
    memset(w, 0, sizeof *w);
}

static inline float *element(const cch_packed *w, size_t row, size_t k) {
    return w->panels + (row / CCH_LANES * w->k_words + k) * CCH_LANES + row % CCH_LANES;
}

typedef float quad __attribute__((vector_size(16)));

/* dst[i][r] = src[r][i] for a square of 4. */
static inline void transpose4(float *dst, size_t dst_stride, const float *src, size_t row_stride) {
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
    for (int i = 0; i < 4; i++) memcpy(dst + dst_stride * i, &out[i], sizeof out[i]);
}

/* Up to 16 rows of one panel.  Source lines are used up four rows at a time: more would fall on the same set of a cache
 * when their distance is a multiple of 4 KiB. */
static void pack_panel(float *dst, size_t rows, size_t k_len, const float *src, size_t row_stride, size_t col_stride) {
    const size_t whole_rows = col_stride == 1 ? rows / 4 * 4 : 0, whole = k_len / CCH_LANES * CCH_LANES;
    for (size_t k = 0; k < whole; k += CCH_LANES)
        for (size_t r = 0; r < whole_rows; r += 4)
            for (size_t i = k; i < k + CCH_LANES; i += 4)
                transpose4(dst + i * CCH_LANES + r, CCH_LANES, src + r * row_stride + i, row_stride);
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

/* Four rows at a time; the last four may overlap those before them. */
void cch_deal(float *dst, const float *src, size_t row_stride, size_t rows, size_t k_len) {
    const size_t whole = rows < 4 ? 0 : k_len / 4 * 4;
    for (size_t k = 0; k < whole; k += 4)
        for (size_t r = 0; r < rows; r += 4) {
            const size_t first = r + 4 <= rows ? r : rows - 4;
            transpose4(dst + k * rows + first, rows, src + first * row_stride + k, row_stride);
        }
    for (size_t k = whole; k < k_len; k++)
        for (size_t r = 0; r < rows; r++) dst[k * rows + r] = src[r * row_stride + k];
}

/* ---------------------------------------------------------------------------------------------- fewer bits ---- */

#define BLOCK (4 * CCH_GROUP_WORDS) /* inputs: a group of 8-bit weights */

/* Inputs [k, k + n) of up to 16 rows as block[input][row], zeros elsewhere. */
static void gather(float block[BLOCK][CCH_LANES], size_t rows, size_t k, size_t n, const float *src, size_t row_stride,
                   size_t col_stride) {
    memset(block, 0, BLOCK * sizeof *block);
    for (size_t i = 0; row_stride == 1 && i < n; i++)
        memcpy(block[i], src + (k + i) * col_stride, rows * sizeof **block);
    for (size_t r = 0; row_stride != 1 && r < rows; r++)
        for (size_t i = 0; i < n; i++) block[i][r] = src[r * row_stride + (k + i) * col_stride];
}

static void pack_bf16(float *dst, size_t rows, size_t n_words, float block[BLOCK][CCH_LANES]) {
    for (size_t i = 0; i < n_words; i++) {
        uint32_t line[CCH_LANES];
        for (size_t r = 0; r < CCH_LANES; r++)
            line[r] = cch_bf16_round(block[2 * i][r]) | (uint32_t)cch_bf16_round(block[2 * i + 1][r]) << 16;
        memcpy(dst + i * CCH_LANES, line, rows * sizeof *line);
    }
}

/* A number from -127 to 127 as a byte. */
static inline uint32_t to_byte(float x) { return (uint8_t)(int8_t)(x + 0x1.8p+23f - 0x1.8p+23f); }

static void pack_int8(float *dst, float *scales, size_t rows, size_t n_words, float block[BLOCK][CCH_LANES]) {
    float most[CCH_LANES] = {0}, steps[CCH_LANES], scale[CCH_LANES];
    for (size_t i = 0; i < 4 * n_words; i++)
        for (size_t r = 0; r < CCH_LANES; r++)
            most[r] = most[r] > fabsf(block[i][r]) || isnan(most[r]) ? most[r] : fabsf(block[i][r]);
    for (size_t r = 0; r < CCH_LANES; r++) {
        const bool any = most[r] >= CCH_LEAST_ROW && most[r] < INFINITY;
        steps[r] = any ? 127.0f / most[r] : 0.0f;
        scale[r] = any ? most[r] / 127.0f : most[r] < CCH_LEAST_ROW ? 0.0f : NAN;
        for (size_t i = 0; !any && i < 4 * n_words; i++) block[i][r] = 0.0f;
    }
    for (size_t i = 0; i < n_words; i++) {
        uint32_t line[CCH_LANES];
        for (size_t r = 0; r < CCH_LANES; r++)
            line[r] = to_byte(block[4 * i][r] * steps[r]) | to_byte(block[4 * i + 1][r] * steps[r]) << 8 |
                      to_byte(block[4 * i + 2][r] * steps[r]) << 16 | to_byte(block[4 * i + 3][r] * steps[r]) << 24;
        memcpy(dst + i * CCH_LANES, line, rows * sizeof *line);
    }
    memcpy(scales, scale, rows * sizeof *scale);
}

/* Rows of one panel. */
static void pack_words(cch_packed *w, size_t row, size_t rows, const float *src, size_t row_stride, size_t col_stride) {
    const size_t per_word = w->format == CCH_FORMAT_BF16 ? 2 : 4, groups = cch_n_groups(w->k_words);
    float block[BLOCK][CCH_LANES];
    for (size_t k = 0, n; k < w->k; k += n) {
        n = w->k - k < BLOCK ? w->k - k : BLOCK;
        const size_t n_words = cch_n_words(n, per_word);
        gather(block, rows, k, n, src, row_stride, col_stride);
        float *dst = element(w, row, k / per_word);
        if (w->format == CCH_FORMAT_BF16) pack_bf16(dst, rows, n_words, block);
        else
            pack_int8(dst, w->scales + (row / CCH_LANES * groups + k / BLOCK) * CCH_LANES + row % CCH_LANES, rows,
                      n_words, block);
    }
}

/* ----------------------------------------------------------------------------------------------------- rows ---- */

#define ROWS_AT_ONCE 256 /* of a transposed source in f32: 16 panels written, 1 KiB read per line */

void cch_pack_rows(cch_packed *w, size_t row, size_t rows, const float *src, size_t row_stride, size_t col_stride) {
    const size_t step = row_stride == 1 && w->format == CCH_FORMAT_F32 ? ROWS_AT_ONCE : CCH_LANES;
    for (size_t r = 0, n; r < rows; r += n) {
        const size_t room = step - (row + r) % step;
        n = rows - r < room ? rows - r : room;
        const float *from = src + r * row_stride;
        if (w->format != CCH_FORMAT_F32) pack_words(w, row + r, n, from, row_stride, col_stride);
        else if (row_stride == 1) pack_transposed(w, row + r, n, from, col_stride);
        else pack_panel(element(w, row + r, 0), n, w->k, from, row_stride, col_stride);
    }
}

void cch_packed_row(const cch_packed *w, size_t row, float *dst) {
    const float *src = element(w, row, 0);
    const size_t groups = cch_n_groups(w->k_words);
    for (size_t k = 0; k < w->k; k++) {
        uint32_t word;
        switch (w->format) {
        case CCH_FORMAT_F32: dst[k] = src[k * CCH_LANES]; break;
        case CCH_FORMAT_BF16:
            memcpy(&word, src + k / 2 * CCH_LANES, sizeof word);
            dst[k] = cch_bf16_to_f32((uint16_t)(word >> 16 * (k % 2)));
            break;
        case CCH_FORMAT_INT8:
            memcpy(&word, src + k / 4 * CCH_LANES, sizeof word);
            dst[k] = (float)(int8_t)(word >> 8 * (k % 4) & 0xFF) *
                     w->scales[(row / CCH_LANES * groups + k / BLOCK) * CCH_LANES + row % CCH_LANES];
        }
    }
}
