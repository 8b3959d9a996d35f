/* simd_scan - the ops of the similarity index: sums of products in f64, and a scan of 8-bit rows; included once by each
 * kern_<isa>.c after simd_rows.h.
 *
 * The scan widens codes to 16 bits and multiplies pairs into 32-bit lanes.  Four rows share each load of a query, and
 * SCAN_QUERIES queries each widened row, so that one query runs at the speed of memory and many at that of arithmetic.
 * Integers are exact: tiles and lanes are chosen by speed alone.
 *
 * The ISA gives SCAN_STEP (codes of a vector), SCAN_QUERIES, and w_widen, w_load, s_zero, s_madd, s_sum4. */

#define SCAN_ROWS 4
#define SCAN_AHEAD 2048 /* bytes of a row fetched into cache before they are used */

static double dot_f32(const float *a, const float *b, size_t n) {
    const size_t whole = n / 8 * 8;
    double lane[8];
    d8 sums = d_zero();
    for (size_t i = 0; i < whole; i += 8) sums = d_fma(d_load_f32(a + i), d_load_f32(b + i), sums);
    d_store(lane, sums);
    for (size_t i = whole; i < n; i++) lane[i - whole] = fma((double)a[i], (double)b[i], lane[i - whole]);
    for (int width = 4; width > 0; width /= 2)
        for (int j = 0; j < width; j++) lane[j] += lane[j + width];
    return lane[0];
}

/* R rows against Q queries; sums of 4 rows are stored together. */
INLINE void scan_tile(const int8_t *rows, const int16_t *queries, size_t n, int32_t *out, size_t ldo, const int R,
                      const int Q) {
    s_vec acc[SCAN_QUERIES][SCAN_ROWS];
#pragma GCC unroll 4
    for (int q = 0; q < Q; q++) {
#pragma GCC unroll 4
        for (int r = 0; r < SCAN_ROWS; r++) acc[q][r] = s_zero();
    }
    for (size_t i = 0; i < n; i += SCAN_STEP) {
        w_vec row[SCAN_ROWS];
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            row[r] = w_widen(rows + (size_t)r * n + i);
            __builtin_prefetch(rows + (size_t)r * n + i + SCAN_AHEAD, 0, 3);
        }
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++) {
            const w_vec query = w_load(queries + (size_t)q * n + i);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) acc[q][r] = s_madd(row[r], query, acc[q][r]);
        }
    }
#pragma GCC unroll 4
    for (int q = 0; q < Q; q++) {
        int32_t sums[SCAN_ROWS];
        s_sum4(acc[q], sums);
        memcpy(out + (size_t)q * ldo, sums, (size_t)R * sizeof *sums);
    }
}

INLINE void scan_rows(const int8_t *rows, size_t n_rows, size_t n, const int16_t *queries, int32_t *out, size_t ldo,
                      const int Q) {
    size_t r = 0;
    for (; r + SCAN_ROWS <= n_rows; r += SCAN_ROWS) scan_tile(rows + r * n, queries, n, out + r, ldo, SCAN_ROWS, Q);
    for (; r < n_rows; r++) scan_tile(rows + r * n, queries, n, out + r, ldo, 1, Q);
}

/* Callers hand over as many rows as a cache holds, so all queries find them there. */
static void scan_i8(const int8_t *rows, size_t n_rows, size_t n, const int16_t *queries, size_t n_queries, int32_t *out,
                    size_t ldo) {
    size_t q = 0;
    for (; q + SCAN_QUERIES <= n_queries; q += SCAN_QUERIES)
        scan_rows(rows, n_rows, n, queries + q * n, out + q * ldo, ldo, SCAN_QUERIES);
    for (; q < n_queries; q++) scan_rows(rows, n_rows, n, queries + q * n, out + q * ldo, ldo, 1);
}
