/* simd_scan - the ops of the similarity index: sums of products in f64, and scans of 8-bit rows and of signs; included
 * once by each kern_<isa>.c after simd_rows.h.
 *
 * The scan of rows widens codes to 16 bits and multiplies pairs into 32-bit lanes.  Integers are exact, so walks and
 * lanes are chosen by speed alone.  Four rows go side by side:
 *   one query     one of each quarter of what is given: bound by memory, and the hardware's prefetcher follows four
 *                 streams that are far apart better than one, and far better than four that are a row apart
 *   more queries  neighbours, and SCAN_QUERIES of these at a time: bound by arithmetic, so that lines fetched ahead
 *                 arrive in time
 *   picked rows   as they are picked, fetched ahead: no prefetcher follows them
 * The scan of signs looks four of them up at once, for 64 rows side by side.
 *
 * The ISA gives SCAN_STEP (codes of a vector), SCAN_QUERIES, w_widen, w_load, s_zero, s_madd, s_sum4, and what is done
 * with 64 bytes: b_... */

#define SCAN_ROWS 4
#define SCAN_AHEAD 8192 /* bytes by which neighbours are fetched ahead */
#define PICK_AHEAD 8    /* picked rows that are fetched ahead */
#define SIGNS_AHEAD 4096

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

/* Sums of 4 rows and Q queries: out[q * ldo + r * step]. */
INLINE void scan_tile(const int8_t *const rows[SCAN_ROWS], const int16_t *queries, size_t n, int32_t *out, size_t step,
                      size_t ldo, const size_t Q) {
    s_vec acc[SCAN_QUERIES][SCAN_ROWS];
#pragma GCC unroll 4
    for (size_t q = 0; q < Q; q++) {
#pragma GCC unroll 4
        for (size_t r = 0; r < SCAN_ROWS; r++) acc[q][r] = s_zero();
    }
    for (size_t i = 0; i < n; i += SCAN_STEP) {
        w_vec row[SCAN_ROWS];
        for (size_t line = 0; Q > 1 && line < SCAN_ROWS * SCAN_STEP; line += 64)
            __builtin_prefetch(rows[0] + SCAN_ROWS * i + line + SCAN_AHEAD, 0, 3);
#pragma GCC unroll 4
        for (size_t r = 0; r < SCAN_ROWS; r++) row[r] = w_widen(rows[r] + i);
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

/* Q queries and 4 rows, every `step`-th. */
INLINE void scan_four(const int8_t *row, size_t step, const int16_t *queries, size_t n, int32_t *out, size_t ldo,
                      const size_t Q) {
    const int8_t *const rows[SCAN_ROWS] = {row, row + step * n, row + 2 * step * n, row + 3 * step * n};
    scan_tile(rows, queries, n, out, step, ldo, Q);
}

/* Q queries.  Rows that are left are four times the same one. */
INLINE void scan_rows(const int8_t *rows, size_t n_rows, const int16_t *queries, size_t n, int32_t *out, size_t ldo,
                      const size_t Q) {
    const size_t tiles = n_rows / SCAN_ROWS, step = Q == 1 ? tiles : 1, next = Q == 1 ? 1 : SCAN_ROWS;
    for (size_t t = 0; t < tiles; t++) scan_four(rows + t * next * n, step, queries, n, out + t * next, ldo, Q);
    for (size_t r = SCAN_ROWS * tiles; r < n_rows; r++) scan_four(rows + r * n, 0, queries, n, out + r, ldo, Q);
}

/* Callers that have several queries hand over as many rows as a cache holds, so all queries find them there. */
static void scan_i8(const int8_t *rows, size_t n_rows, size_t n, const int16_t *queries, size_t n_queries, int32_t *out,
                    size_t ldo) {
    size_t q = 0;
    for (; q + SCAN_QUERIES <= n_queries; q += SCAN_QUERIES)
        scan_rows(rows, n_rows, queries + q * n, n, out + q * ldo, ldo, SCAN_QUERIES);
    for (; q < n_queries; q++) scan_rows(rows, n_rows, queries + q * n, n, out + q * ldo, ldo, 1);
}

INLINE void fetch_row(const int8_t *row, size_t n) {
    for (size_t i = 0; i < n; i += 64) __builtin_prefetch(row + i);
}

static void pick_i8(const int8_t *rows, const uint16_t *picks, size_t n_picks, size_t n, const int16_t *query,
                    int32_t *out) {
    const size_t whole = n_picks / SCAN_ROWS * SCAN_ROWS;
    for (size_t i = 0; i < n_picks && i < PICK_AHEAD; i++) fetch_row(rows + picks[i] * n, n);
    for (size_t i = 0; i < whole; i += SCAN_ROWS) {
        const int8_t *four[SCAN_ROWS];
        for (size_t r = 0; r < SCAN_ROWS; r++) {
            four[r] = rows + picks[i + r] * n;
            if (i + r + PICK_AHEAD < n_picks) fetch_row(rows + picks[i + r + PICK_AHEAD] * n, n);
        }
        scan_tile(four, query, n, out + i, 1, 0, 1);
    }
    for (size_t i = whole; i < n_picks; i++) scan_four(rows + picks[i] * n, 0, query, n, out + i, 0, 1);
}

/* Bytes of even and odd lanes are rows 0..31 and 32..63; `sum` takes both, as numbers of 16 bits, and gives back what
 * is odd of them. */
static void scan_signs(const uint8_t *signs, size_t n_groups, size_t n, const uint8_t *tables, uint16_t *out) {
    for (size_t g = 0; g < n_groups; g++, out += 64) {
        b_vec sum = b_zero(), odd = b_zero();
        for (size_t k = 0; k < n; k++, signs += 64) {
            __builtin_prefetch(signs + SIGNS_AHEAD);
            const b_vec byte = b_load(signs);
            const b_vec low = b_look(tables + 32 * k, b_low(byte)), high = b_look(tables + 32 * k + 16, b_high(byte));
            const b_vec both = b_add8(low, high);
            sum = b_add16(sum, both);
            odd = b_add16(odd, b_odd(both));
        }
        b_store(out, b_sub16(sum, b_even(odd)));
        b_store(out + 32, odd);
    }
}

static size_t sift_signs(const uint16_t *sums, const float *cosine, const float *sine, size_t n, const cch_sieve *sieve,
                         uint16_t *picks) {
    const v16 gain = v_set1(sieve->gain), base = v_set1(sieve->base);
    const v16 along = v_set1(sieve->along), across = v_set1(sieve->across);
    size_t n_picks = 0, r = 0;
    for (; r + 16 <= n; r += 16) {
        const v16 cut = v_sub(v_mul(along, v_load(cosine + r)), v_mul(across, v_load(sine + r)));
        unsigned left = m_bits(m_less(cut, v_add(v_mul(v_load_u16(sums + r), gain), base)));
        for (; left != 0; left &= left - 1) picks[n_picks++] = (uint16_t)(r + (unsigned)__builtin_ctz(left));
    }
    for (; r < n; r++)
        if ((float)sums[r] * sieve->gain + sieve->base > sieve->along * cosine[r] - sieve->across * sine[r])
            picks[n_picks++] = (uint16_t)r;
    return n_picks;
}
