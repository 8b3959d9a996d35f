#include "check.h"

#include <math.h>
#include <stdint.h>

#include "base/alloc.h"
#include "kern/matmul.h"

static float value_at(size_t row, size_t col) { return (float)(1000 * row + col + 1); }

static float *row_major(size_t n, size_t k, size_t stride) {
    float *src = cch_zalloc(n * stride, sizeof *src);
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < k; c++) src[r * stride + c] = value_at(r, c);
    return src;
}

static float *column_major(size_t n, size_t k, size_t stride) {
    float *src = cch_zalloc(k * stride, sizeof *src);
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < k; c++) src[c * stride + r] = value_at(r, c);
    return src;
}

static void check_panels(const cch_packed *w) {
    for (size_t row = 0; row < w->n_panels * CCH_LANES; row++)
        for (size_t c = 0; c < w->k; c++)
            CHECK(w->panels[(row / 16 * w->k + c) * 16 + row % 16] == (row < w->n ? value_at(row, c) : 0.0f));
}

/* Rows arrive in pieces, as fused weights (q, k, v) do; padding stays zero. */
static void pack_in_pieces(size_t n, size_t k, size_t piece, bool transposed) {
    cch_error err;
    cch_packed w;
    const size_t stride = (transposed ? n : k) + 3;
    float *src = transposed ? column_major(n, k, stride) : row_major(n, k, stride);
    float *row = cch_alloc(k, sizeof *row);
    CHECK_OK(cch_packed_init(CCH_FORMAT_F32, n, k, false, &w, &err), err);
    for (size_t at = 0; at < n; at += piece) {
        const size_t rows = n - at < piece ? n - at : piece;
        if (transposed) cch_pack_rows(&w, at, rows, src + at, 1, stride);
        else cch_pack_rows(&w, at, rows, src + at * stride, stride, 1);
    }
    check_panels(&w);
    cch_packed_row(&w, n - 1, row);
    for (size_t c = 0; c < k; c++) CHECK(row[c] == value_at(n - 1, c));
    CHECK_EQ(w.bytes, w.n_panels * 16 * k * sizeof(float));
    cch_free(src);
    cch_free(row);
    cch_packed_deinit(&w);
}

TEST(panels_hold_every_weight_in_its_place) {
    const size_t sizes[][3] = {{1, 1, 1}, {16, 5, 16}, {17, 33, 4}, {48, 7, 48}, {50, 20, 13}, {600, 3, 290}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        pack_in_pieces(sizes[i][0], sizes[i][1], sizes[i][2], false);
        pack_in_pieces(sizes[i][0], sizes[i][1], sizes[i][2], true);
    }
}

TEST(a_bias_is_zero_and_counted_until_it_is_filled) {
    cch_error err;
    cch_packed w;
    CHECK_OK(cch_packed_init(CCH_FORMAT_F32, 20, 8, true, &w, &err), err);
    for (size_t i = 0; i < 32; i++) CHECK(w.bias[i] == 0.0f);
    CHECK_EQ(w.bytes, 32 * 9 * sizeof(float));
    cch_packed_deinit(&w);
    CHECK(w.panels == NULL && w.bias == NULL);
    cch_packed_deinit(&w);
}

TEST(sizes_that_cannot_be_had_are_refused) {
    cch_error err;
    cch_packed w;
    CHECK_STATUS(cch_packed_init(CCH_FORMAT_F32, SIZE_MAX, 2, false, &w, &err), CCH_E_MEMORY, err,
                 "18446744073709551615 x 2");
    CHECK_STATUS(cch_packed_init(CCH_FORMAT_F32, SIZE_MAX / 8, 16, false, &w, &err), CCH_E_MEMORY, err, "does not fit");
    CHECK_STATUS(cch_packed_init(CCH_FORMAT_F32, (size_t)1 << 40, (size_t)1 << 20, true, &w, &err), CCH_E_MEMORY, err,
                 "could not");
    CHECK(w.panels == NULL);
}

static cch_status init_and_deinit(void) {
    cch_packed w;
    cch_status status = cch_packed_init(CCH_FORMAT_F32, 33, 9, true, &w, NULL);
    cch_packed_deinit(&w);
    return status;
}
TEST(allocation_failures_leak_nothing) { CHECK_OOM(init_and_deinit()); }

#define GROUP ((size_t)256) /* inputs that share a scale */

/* What the format leaves of a number: 8 significant bits, or a step of the group's largest / 127. */
static void check_row(const cch_packed *w, const float *src, size_t row, size_t stride, const float *got) {
    for (size_t k = 0; k < w->k; k++) {
        float most = 0.0f;
        for (size_t i = k / GROUP * GROUP; i < w->k && i < k / GROUP * GROUP + GROUP; i++)
            most = fmaxf(most, fabsf(src[row * stride + i]));
        const float x = src[row * stride + k], off = w->format == CCH_FORMAT_BF16 ? fabsf(x) * 0x1p-8f : most / 253.9f;
        CHECK(fabsf(got[k] - x) <= off);
    }
}

TEST(fewer_bits_keep_each_weight_in_its_place) {
    const size_t sizes[][3] = {{1, 1, 1}, {16, 5, 16}, {17, 33, 4}, {48, 130, 48}, {50, 600, 13}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (cch_format format = CCH_FORMAT_BF16; format <= CCH_FORMAT_INT8; format++) {
            const size_t n = sizes[i][0], k = sizes[i][1], piece = sizes[i][2];
            cch_packed w[2];
            cch_error err;
            float *src = row_major(n, k, k), *turned = column_major(n, k, n), *row = cch_alloc(k, sizeof *row);
            for (int t = 0; t < 2; t++) CHECK_OK(cch_packed_init(format, n, k, false, &w[t], &err), err);
            for (size_t at = 0; at < n; at += piece) {
                const size_t rows = n - at < piece ? n - at : piece;
                cch_pack_rows(&w[0], at, rows, src + at * k, k, 1);
                cch_pack_rows(&w[1], at, rows, turned + at, 1, n);
            }
            CHECK(memcmp(w[0].panels, w[1].panels, w[0].n_panels * w[0].k_words * 16 * sizeof(float)) == 0);
            for (size_t r = 0; r < n; r++) {
                cch_packed_row(&w[0], r, row);
                check_row(&w[0], src, r, k, row);
            }
            CHECK_EQ(w[0].bytes,
                     64 * w[0].n_panels * (format == CCH_FORMAT_BF16 ? (k + 31) / 32 * 16
                                                                     : (k + 63) / 64 * 16 + (k + GROUP - 1) / GROUP));
            for (int t = 0; t < 2; t++) cch_packed_deinit(&w[t]);
            cch_free(src), cch_free(turned), cch_free(row);
        }
    }
}

TEST(a_weight_that_is_no_number_makes_its_group_none) {
    cch_packed w;
    cch_error err;
    float *src = row_major(2, 400, 400), row[400];
    src[3] = NAN;
    src[400 + 300] = INFINITY;
    CHECK_OK(cch_packed_init(CCH_FORMAT_INT8, 2, 400, false, &w, &err), err);
    cch_pack_rows(&w, 0, 2, src, 400, 1);
    cch_packed_row(&w, 0, row);
    for (size_t k = 0; k < 400; k++) CHECK(isnan(row[k]) == (k < GROUP));
    cch_packed_row(&w, 1, row);
    for (size_t k = 0; k < 400; k++) CHECK(isnan(row[k]) == (k >= GROUP));
    cch_free(src);
    cch_packed_deinit(&w);
}

CHECK_MAIN()
