/* simd_scan - the ops of the similarity index: sums of products in f64, and a scan of 8-bit rows; included once by each
 * kern_<isa>.c after simd_rows.h.
 *
 * The scan widens codes to 16 bits and multiplies pairs into 32-bit lanes.  Integers are exact, so walks and lanes are
 * chosen by speed alone:
 *   one query     rows one after another, so that memory is read in order, as the hardware's prefetcher wants it: four
 *                 rows side by side reach a third of the bandwidth
 *   more queries  tiles of 4 rows x SCAN_QUERIES, where each widened row serves all; bound by arithmetic, so that
 *                 lines fetched ahead arrive in time
 *
 * The ISA gives SCAN_STEP (codes of a vector), SCAN_QUERIES, and w_widen, w_load, s_zero, s_madd, s_sum4. */

#define SCAN_ROWS 4
#define SCAN_AHEAD 8192 /* bytes by which a tile's rows are fetched ahead */
#define SCAN_GROUP 32 /* codes come in multiples of this many */

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

INLINE void store_sums(const s_vec acc[SCAN_ROWS], size_t R, int32_t *out) {
    int32_t sums[SCAN_ROWS];
    s_sum4(acc, sums);
    memcpy(out, sums, R * sizeof *sums);
}

/* Up to 4 rows against a query. */
INLINE void scan_in_order(const int8_t *rows, const int16_t *query, size_t n, int32_t *out, const size_t R) {
    s_vec acc[SCAN_ROWS];
#pragma GCC unroll 4
    for (size_t r = 0; r < SCAN_ROWS; r++) {
        acc[r] = s_zero();
        for (size_t i = 0; r < R && i < n; i += SCAN_GROUP) {
#pragma GCC unroll 2
            for (size_t j = i; j < i + SCAN_GROUP; j += SCAN_STEP)
                acc[r] = s_madd(w_widen(rows + r * n + j), w_load(query + j), acc[r]);
        }
    }
    store_sums(acc, R, out);
}

/* R rows against Q queries. */
INLINE void scan_tile(const int8_t *rows, const int16_t *queries, size_t n, int32_t *out, size_t ldo, const size_t R,
                      const size_t Q) {
    s_vec acc[SCAN_QUERIES][SCAN_ROWS];
#pragma GCC unroll 4
    for (size_t q = 0; q < Q; q++) {
#pragma GCC unroll 4
        for (size_t r = 0; r < SCAN_ROWS; r++) acc[q][r] = s_zero();
    }
    for (size_t i = 0; i < n; i += SCAN_STEP) {
        w_vec row[SCAN_ROWS];
        for (size_t line = 0; line < R * SCAN_STEP; line += 64)
            __builtin_prefetch(rows + R * i + line + SCAN_AHEAD, 0, 3);
#pragma GCC unroll 4
        for (size_t r = 0; r < R; r++) row[r] = w_widen(rows + r * n + i);
#pragma GCC unroll 4
        for (size_t q = 0; q < Q; q++) {
            const w_vec query = w_load(queries + q * n + i);
#pragma GCC unroll 4
            for (size_t r = 0; r < R; r++) acc[q][r] = s_madd(row[r], query, acc[q][r]);
        }
    }
#pragma GCC unroll 4
    for (size_t q = 0; q < Q; q++) store_sums(acc[q], R, out + q * ldo);
}

static void scan_one_query(const int8_t *rows, size_t n_rows, size_t n, const int16_t *query, int32_t *out) {
    size_t r = 0;
    for (; r + SCAN_ROWS <= n_rows; r += SCAN_ROWS) scan_in_order(rows + r * n, query, n, out + r, SCAN_ROWS);
    for (; r < n_rows; r++) scan_in_order(rows + r * n, query, n, out + r, 1);
}

static void scan_tiles(const int8_t *rows, size_t n_rows, size_t n, const int16_t *queries, int32_t *out, size_t ldo) {
    size_t r = 0;
    for (; r + SCAN_ROWS <= n_rows; r += SCAN_ROWS)
        scan_tile(rows + r * n, queries, n, out + r, ldo, SCAN_ROWS, SCAN_QUERIES);
    for (; r < n_rows; r++) scan_tile(rows + r * n, queries, n, out + r, ldo, 1, SCAN_QUERIES);
}

/* Callers hand over as many rows as a cache holds, so all queries find them there. */
static void scan_i8(const int8_t *rows, size_t n_rows, size_t n, const int16_t *queries, size_t n_queries, int32_t *out,
                    size_t ldo) {
    size_t q = 0;
    for (; q + SCAN_QUERIES <= n_queries; q += SCAN_QUERIES)
        scan_tiles(rows, n_rows, n, queries + q * n, out + q * ldo, ldo);
    for (; q < n_queries; q++) scan_one_query(rows, n_rows, n, queries + q * n, out + q * ldo);
}
