/* simd_scan - the ops of the similarity index: sums of products in f64, and a scan of 8-bit rows; included once by each
 * kern_<isa>.c after simd_rows.h.
 *
 * The scan widens codes to 16 bits and multiplies pairs into 32-bit lanes.  Integers are exact, so walks and lanes are
 * chosen by speed alone.  Four rows go side by side:
 *   one query     one of each quarter of what is given: bound by memory, and the hardware's prefetcher follows four
 *                 streams that are far apart better than one, and far better than four that are a row apart
 *   more queries  neighbours, and SCAN_QUERIES of these at a time: bound by arithmetic, so that lines fetched ahead
 *                 arrive in time
 *
 * The ISA gives SCAN_STEP (codes of a vector), SCAN_QUERIES, and w_widen, w_load, s_zero, s_madd, s_sum4. */

#define SCAN_ROWS 4
#define SCAN_AHEAD 8192 /* bytes by which neighbours are fetched ahead */

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

/* Sums of 4 rows, every `step`-th, and Q queries. */
INLINE void scan_tile(const int8_t *rows, size_t step, const int16_t *queries, size_t n, int32_t *out, size_t ldo,
                      const size_t Q) {
    s_vec acc[SCAN_QUERIES][SCAN_ROWS];
#pragma GCC unroll 4
    for (size_t q = 0; q < Q; q++) {
#pragma GCC unroll 4
        for (size_t r = 0; r < SCAN_ROWS; r++) acc[q][r] = s_zero();
    }
    for (size_t i = 0; i < n; i += SCAN_STEP) {
        w_vec row[SCAN_ROWS];
        for (size_t line = 0; Q > 1 && line < SCAN_ROWS * SCAN_STEP; line += 64)
            __builtin_prefetch(rows + SCAN_ROWS * i + line + SCAN_AHEAD, 0, 3);
#pragma GCC unroll 4
        for (size_t r = 0; r < SCAN_ROWS; r++) row[r] = w_widen(rows + r * step * n + i);
#pragma GCC unroll 4
        for (size_t q = 0; q < Q; q++) {
            const w_vec query = w_load(queries + q * n + i);
#pragma GCC unroll 4
            for (size_t r = 0; r < SCAN_ROWS; r++) acc[q][r] = s_madd(row[r], query, acc[q][r]);
        }
    }
#pragma GCC unroll 4
    for (size_t q = 0; q < Q; q++) {
        int32_t sums[SCAN_ROWS];
        s_sum4(acc[q], sums);
        for (size_t r = 0; r < SCAN_ROWS; r++) out[q * ldo + r * step] = sums[r];
    }
}

/* Q queries.  Rows that are left are four times the same one. */
INLINE void scan_rows(const int8_t *rows, size_t n_rows, const int16_t *queries, size_t n, int32_t *out, size_t ldo,
                      const size_t Q) {
    const size_t tiles = n_rows / SCAN_ROWS, step = Q == 1 ? tiles : 1, next = Q == 1 ? 1 : SCAN_ROWS;
    for (size_t t = 0; t < tiles; t++) scan_tile(rows + t * next * n, step, queries, n, out + t * next, ldo, Q);
    for (size_t r = SCAN_ROWS * tiles; r < n_rows; r++) scan_tile(rows + r * n, 0, queries, n, out + r, ldo, Q);
}

/* Callers that have several queries hand over as many rows as a cache holds, so all queries find them there. */
static void scan_i8(const int8_t *rows, size_t n_rows, size_t n, const int16_t *queries, size_t n_queries, int32_t *out,
                    size_t ldo) {
    size_t q = 0;
    for (; q + SCAN_QUERIES <= n_queries; q += SCAN_QUERIES)
        scan_rows(rows, n_rows, queries + q * n, n, out + q * ldo, ldo, SCAN_QUERIES);
    for (; q < n_queries; q++) scan_rows(rows, n_rows, queries + q * n, n, out + q * ldo, ldo, 1);
}
