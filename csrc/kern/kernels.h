/* kernels - the table of arithmetic: one op list, filled once per process, generic first, then overridden per ISA.
 *
 * Contract of every op: each output element is computed by one fixed sequence of IEEE operations that does not depend
 * on how many rows or columns are computed together, on the ISA, or on the thread.  "chain" below means acc = 0, then
 * acc = fma(a, b, acc) in the stated order.  Row reductions (norms, softmax sums) use 16 lanes: element i belongs to
 * lane i % 16, each lane is a chain in ascending i, and lanes are added as a tree: l[j] += l[j+8], then +4, +2, +1.
 * Transcendentals are our own polynomials of fused operations, the same in every ISA.
 *
 * A NaN among an element's inputs makes it NaN (of any sign and payload).  rows, n_panels, n_pages and n may be 0,
 * except where a row is reduced (norms, softmax, max_f32: n >= 1); first <= last.
 *
 * Threads: pure, all of them.  Pointers to f32 need no alignment unless stated; no op allocates.
 */
#ifndef CCH_KERN_KERNELS_H
#define CCH_KERN_KERNELS_H

#include "base/status.h"

#define CCH_LANES 16           /* outputs of a weight panel, tokens of a KV page */
#define CCH_WORDS 16           /* words of fewer bits come in multiples of so many */
#define CCH_GROUP_WORDS 64     /* words of 8-bit weights that share a scale: 256 inputs */
#define CCH_LEAST_ROW 0x1p-100f /* a row of smaller numbers is one of zeros to quantize_int8 */

/* Words of n inputs, `per_word` in each. */
static inline size_t cch_n_words(size_t n, size_t per_word) {
    return (n + CCH_WORDS * per_word - 1) / (CCH_WORDS * per_word) * CCH_WORDS;
}

/* Groups of k_words words, the last of which may be shorter. */
static inline size_t cch_n_groups(size_t k_words) { return (k_words + CCH_GROUP_WORDS - 1) / CCH_GROUP_WORDS; }

/* Where tile i begins when `rows` are spread evenly over `n` tiles. */
static inline size_t cch_tile_row(size_t rows, size_t n, size_t i) { return rows * i / n; }

typedef struct cch_sieve {
    float gain, base, along, across;
} cch_sieve;

typedef struct cch_kernels {
    const char *bf16_order; /* of matmul_bf16: "chain" or "blocks" */
    const char *name; /* "generic", "avx2", "avx512", "avx512bf16", "amx" */

    /* y[r, 16p + j] = chain over k of x[r, k] * panels[p][k][j], then + bias[16p + j] when bias is not NULL.
     *   x [rows, ldx], panels [n_panels][k_len][16] 64-byte aligned, y [rows, ldy].  Writes whole panels. */
    void (*matmul_f32)(const float *x, size_t ldx, size_t rows, const float *panels, size_t n_panels, size_t k_len,
                       const float *bias, float *y, size_t ldy);
    /* The same of many rows that were dealt: tile i of n, n = ceil(rows / deal_rows), holds rows [rows * i / n,
     * rows * (i + 1) / n) side by side, input after input.   dealt: tiles [k_len][their rows], one behind the other.
     *   deal_rows: most rows of a tile.  rows >= 4 * deal_rows: no tile lacks more than two. */
    void (*matmul_dealt)(const float *dealt, size_t rows, const float *panels, size_t n_panels, size_t k_len,
                         const float *bias, float *y, size_t ldy);
    size_t deal_rows;

    /* Products in fewer bits.  A word is 32 bits: of inputs 2i (low half) and 2i + 1 as bf16, or of four inputs as
     * bytes, the first lowest; inputs behind the end are 0.  k_words: words of a row, as cch_n_words counts them; x,
     * panels and y as in matmul_f32, with words in the place of numbers. */

    /* The words of one row: x [n] to the nearest bf16, of two the even one.   words [cch_n_words(n, 2)]. */
    void (*round_bf16)(const float *x, size_t n, float *words);
    /* chain over words of fma(x odd, w odd, acc), then fma(x even, w even, acc), then + bias; with "amx" instead chain
     * over blocks of 16 words of acc + (even + odd), each of these two a chain over the block's words from 0.  With
     * "amx" and "avx512bf16" subnormal numbers count as 0. */
    void (*matmul_bf16)(const float *x, size_t ldx, size_t rows, const float *panels, size_t n_panels, size_t k_words,
                        const float *bias, float *y, size_t ldy);

    /* The words of one row: x [n] as integers q = round(x * (127 / most)), `most` being the largest magnitude.
     *   words [k_words + groups + 1], k_words = cch_n_words(n, 4), groups = cch_n_groups(k_words): the words; int32 of
     *   each group: -128 * sum of q, for instructions that take w + 128; f32: most / 127, or 0 when most is below
     *   CCH_LEAST_ROW, or NaN when it is not finite (then all q are 0). */
    void (*quantize_int8)(const float *x, size_t n, float *words);
    /* y[r, 16p + j] = scale of the row * chain over groups of fma(sum of q * w, scales[p][group][j], acc), then
     * + bias; sums are exact.   panels: w, from -127 to 127; x: rows as quantize_int8 makes them, ldx words apart. */
    void (*matmul_int8)(const float *x, size_t ldx, size_t rows, const float *panels, const float *scales,
                        size_t n_panels, size_t k_words, const float *bias, float *y, size_t ldy);

    /* y = x / sqrt(mean(x^2) + eps) * w, one row of n; y may be x. */
    void (*rms_norm)(const float *x, const float *w, float eps, size_t n, float *y);
    /* y = (x - mean) / sqrt(var + eps) * w + b, biased variance, two passes; b may be NULL; y may be x. */
    void (*layer_norm)(const float *x, const float *w, const float *b, float eps, size_t n, float *y);
    /* y += x */
    void (*add)(float *y, const float *x, size_t n);
    /* y = silu(gate) * up; up may be NULL (plain silu); y may be gate */
    void (*silu_mul)(const float *gate, const float *up, size_t n, float *y);
    /* y = gelu(gate) * up with the tanh / erf form, for gated GELU MLPs; up may be NULL (plain gelu); y may be gate */
    void (*gelu_tanh_mul)(const float *gate, const float *up, size_t n, float *y);
    void (*gelu_erf_mul)(const float *gate, const float *up, size_t n, float *y);
    /* y = max(x, 0) */
    void (*relu)(const float *x, size_t n, float *y);
    /* Rotates one head [dim] in halves (Hugging Face convention): (x[i], x[i+dim/2]) by angle i, i < dim/2.
     *   cos, sin [dim/2]. In place. */
    void (*rope)(float *x, const float *cos, const float *sin, size_t dim);

    /* s[r * lds + 16p + j] = scale * chain over d of q[r * ldq + d] * k_pages[p][d * 16 + j]. Writes whole pages.
     *   halves: pages hold bf16, numbers of 16 bits, each the f32 that has them as its upper half; else f32. */
    void (*attn_scores)(const float *q, size_t ldq, size_t rows, const float *const *k_pages, bool halves,
                        size_t n_pages, size_t dim, float scale, float *s, size_t lds);
    /* Softmax of s[first..last) in place: maximum, exp(s - max), sum, times 1/sum.  Lanes by absolute index. */
    void (*softmax)(float *s, size_t first, size_t last);
    /* out[r * ldo + c] = chain over t in [first[r], last[r]) ascending of
     *   p[r * ldp + t] * v_pages[t / 16][(t % 16) * ldv + c], c < dim.  ldv: row length of a V page, dim rounded up
     *   to 16.   halves: as in attn_scores; resume: the chains go on from what is in out. */
    void (*attn_mix)(const float *p, size_t ldp, size_t rows, const float *const *v_pages, bool halves,
                     const int32_t *first, const int32_t *last, size_t dim, size_t ldv, bool resume, float *out,
                     size_t ldo);

    /* For the sampler, in f64: w[i] = exp((x[i] - max) * inv_t); *sum by lanes (8 lanes: i % 8, tree 4, 2, 1). */
    void (*exp_f64)(const float *x, size_t n, float max, double inv_t, double *w, double *sum);
    /* Sum of w[i] * max(x[i] - max, -1e4) in f64 by the same 8 lanes, each a chain: for the entropy.  The bound keeps a
     * weight of 0 at -inf from giving NaN. */
    double (*dot_f64)(const double *w, const float *x, size_t n, float max);
    /* Sum of a[i] * b[i] in f64 by 8 lanes (i % 8, each a chain; tree 4, 2, 1). */
    double (*dot_f32)(const float *a, const float *b, size_t n);
    /* For the similarity index: out[q * ldo + r] = sum over i of rows[r * n + i] * queries[q * n + i], in integers.
     *   rows [n_rows, n] from -127 to 127, queries [n_queries, n]; n: a multiple of 32, small enough for the query's
     *   magnitudes that no sum of theirs times 127 leaves an int32.   Exact, so in any order. */
    void (*scan_i8)(const int8_t *rows, size_t n_rows, size_t n, const int16_t *queries, size_t n_queries, int32_t *out,
                    size_t ldo);
    /* The same of rows picks[i] and one query: out[i]. */
    void (*pick_i8)(const int8_t *rows, const uint16_t *picks, size_t n_picks, size_t n, const int16_t *query,
                    int32_t *out);
    /* out[r] = sum over k < n of tables[2k][low half of byte k of row r] + tables[2k + 1][high half of it].
     *   signs [n_groups][n][64]: of 64 rows byte k after byte k - 1, that of row r of the group in lane
     *   r % 32 * 2 + r / 32; tables [2 * n][16], at most 127 each and so that no sum exceeds 65535;
     *   out [64 * n_groups].   Exact. */
    void (*scan_signs)(const uint8_t *signs, size_t n_groups, size_t n, const uint8_t *tables, uint16_t *out);
    /* Which of n rows these signs leave: those r with sums[r] * gain + base > along * cosine[r] - across * sine[r], in
     * f32, each operation rounded.   picks [n], ascending, n <= 65536.   Returns how many. */
    size_t (*sift_signs)(const uint16_t *sums, const float *cosine, const float *sine, size_t n, const cch_sieve *sieve,
                         uint16_t *picks);
    /* Largest value (NaN if any element is NaN) and the lowest index that holds it. */
    void (*max_f32)(const float *x, size_t n, float *max, size_t *index);
} cch_kernels;

/* The table for `isa` ("avx512", "avx2", "generic"), or for NULL: CACHER_ISA from the environment when set, else the
 * best this CPU has.  E_ARGUMENT when the name is unknown or the CPU lacks it (the message lists what it has).
 * *out: static.  Threads: any. */
cch_status cch_kernels_get(const char *isa, const cch_kernels **out, cch_error *err);

#endif
