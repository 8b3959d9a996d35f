/* kern_generic - the truth: every op as a plain loop over scalars, in the order that the contract in kernels.h states.
 *
 * Fused operations are written as fmaf and fma, and the build says -ffp-contract=off, so no compiler may fuse, split or
 * reorder anything here.  Slow where the baseline CPU has no FMA (fmaf is a library call then), never different.
 */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kern/isa.h"
#include "kern/poly.h"

/* ---------------------------------------------------------------------------------------- functions of one x ---- */

/* a < b ? b : a with NaN b returned: what MAXPS does. */
static float max_or_second(float a, float b) { return a > b ? a : b; }
static float min_or_second(float a, float b) { return a < b ? a : b; }

static float pow2_f32(int32_t n) {
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double pow2_f64(int64_t n) {
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float exp_one(float x) {
    static const float q[EXP_F32_N_Q] = EXP_F32_Q;
    if (isnan(x)) return x;
    x = min_or_second(EXP_F32_HIGH, max_or_second(EXP_F32_LOW, x));
    float n = fmaf(x, EXP_F32_LOG2E, EXP_F32_MAGIC) - EXP_F32_MAGIC;
    float r = fmaf(n, -EXP_F32_LN2_HI, x);
    r = fmaf(n, -EXP_F32_LN2_LO, r);
    float p = q[EXP_F32_N_Q - 1];
    for (int i = EXP_F32_N_Q - 2; i >= 0; i--) p = fmaf(p, r, q[i]);
    p = fmaf(fmaf(p, r, 1.0f), r, 1.0f);
    int32_t half = (int32_t)n >> 1;
    return p * pow2_f32(half) * pow2_f32((int32_t)n - half);
}

static double exp_one_f64(double x) {
    static const double q[EXP_F64_N_Q] = EXP_F64_Q;
    if (isnan(x)) return x;
    x = x < EXP_F64_LOW ? EXP_F64_LOW : x;
    x = x > EXP_F64_HIGH ? EXP_F64_HIGH : x;
    double n = fma(x, EXP_F64_LOG2E, EXP_F64_MAGIC) - EXP_F64_MAGIC;
    double r = fma(n, -EXP_F64_LN2_HI, x);
    r = fma(n, -EXP_F64_LN2_LO, r);
    double p = q[EXP_F64_N_Q - 1];
    for (int i = EXP_F64_N_Q - 2; i >= 0; i--) p = fma(p, r, q[i]);
    p = fma(fma(p, r, 1.0), r, 1.0);
    int64_t half = (int64_t)n >> 1;
    return p * pow2_f64(half) * pow2_f64((int64_t)n - half);
}

static float erf_one(float z) {
    static const float small[ERF_N_SMALL] = ERF_SMALL, large[ERF_N_LARGE] = ERF_LARGE;
    float t = min_or_second(ERF_HIGH, fabsf(z));
    if (t < ERF_SPLIT) {
        float s = z * z, p = small[ERF_N_SMALL - 1];
        for (int i = ERF_N_SMALL - 2; i >= 0; i--) p = fmaf(p, s, small[i]);
        return fmaf(p, z, z);
    }
    float p = large[ERF_N_LARGE - 1];
    for (int i = ERF_N_LARGE - 2; i >= 0; i--) p = fmaf(p, t, large[i]);
    return copysignf(1.0f - exp_one(p), z);
}

/* ------------------------------------------------------------------------------------- rows: sums and norms ---- */

static float lane_tree(float *lane) {
    for (size_t width = CCH_LANES / 2; width > 0; width /= 2)
        for (size_t j = 0; j < width; j++) lane[j] += lane[j + width];
    return lane[0];
}

static void rms_norm(const float *x, const float *w, float eps, size_t n, float *y) {
    float lane[CCH_LANES] = {0};
    for (size_t i = 0; i < n; i++) lane[i % CCH_LANES] = fmaf(x[i], x[i], lane[i % CCH_LANES]);
    float inv = 1.0f / sqrtf(lane_tree(lane) / (float)n + eps);
    for (size_t i = 0; i < n; i++) y[i] = x[i] * inv * w[i];
}

static void layer_norm(const float *x, const float *w, const float *b, float eps, size_t n, float *y) {
    float lane[CCH_LANES] = {0};
    for (size_t i = 0; i < n; i++) lane[i % CCH_LANES] += x[i];
    float mean = lane_tree(lane) / (float)n;
    memset(lane, 0, sizeof lane);
    for (size_t i = 0; i < n; i++) {
        float d = x[i] - mean;
        lane[i % CCH_LANES] = fmaf(d, d, lane[i % CCH_LANES]);
    }
    float inv = 1.0f / sqrtf(lane_tree(lane) / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        float d = (x[i] - mean) * inv;
        y[i] = b != NULL ? fmaf(d, w[i], b[i]) : d * w[i];
    }
}

static void softmax(float *s, size_t first, size_t last) {
    float lane[CCH_LANES] = {0}, max = -INFINITY;
    for (size_t i = first; i < last; i++) max = max_or_second(max, s[i]);
    for (size_t i = first; i < last; i++) {
        s[i] = exp_one(s[i] - max);
        lane[i % CCH_LANES] += s[i];
    }
    float inv = 1.0f / lane_tree(lane);
    for (size_t i = first; i < last; i++) s[i] *= inv;
}

static void exp_f64(const float *x, size_t n, float max, double inv_t, double *w, double *sum) {
    double lane[8] = {0};
    for (size_t i = 0; i < n; i++) {
        w[i] = exp_one_f64(((double)x[i] - (double)max) * inv_t);
        lane[i % 8] += w[i];
    }
    for (size_t width = 4; width > 0; width /= 2)
        for (size_t j = 0; j < width; j++) lane[j] += lane[j + width];
    *sum = lane[0];
}

static double dot_f64(const double *w, const float *x, size_t n, float max) {
    double lane[8] = {0};
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)max;
        lane[i % 8] = fma(w[i], d < DOT_F64_LOW ? DOT_F64_LOW : d, lane[i % 8]);
    }
    for (size_t width = 4; width > 0; width /= 2)
        for (size_t j = 0; j < width; j++) lane[j] += lane[j + width];
    return lane[0];
}

static double dot_f32(const float *a, const float *b, size_t n) {
    double lane[8] = {0};
    for (size_t i = 0; i < n; i++) lane[i % 8] = fma((double)a[i], (double)b[i], lane[i % 8]);
    for (size_t width = 4; width > 0; width /= 2)
        for (size_t j = 0; j < width; j++) lane[j] += lane[j + width];
    return lane[0];
}

static void scan_i8(const int8_t *rows, size_t n_rows, size_t n, const int16_t *queries, size_t n_queries, int32_t *out,
                    size_t ldo) {
    for (size_t q = 0; q < n_queries; q++) {
        for (size_t r = 0; r < n_rows; r++) {
            int32_t sum = 0;
            for (size_t i = 0; i < n; i++) sum += (int32_t)rows[r * n + i] * queries[q * n + i];
            out[q * ldo + r] = sum;
        }
    }
}

static void pick_i8(const int8_t *rows, const uint16_t *picks, size_t n_picks, size_t n, const int16_t *query,
                    int32_t *out) {
    for (size_t i = 0; i < n_picks; i++) scan_i8(rows + picks[i] * n, 1, n, query, 1, out + i, 1);
}

static void scan_signs(const uint8_t *signs, size_t n_groups, size_t n, const uint8_t *tables, uint16_t *out) {
    for (size_t r = 0; r < 64 * n_groups; r++) {
        const uint8_t *row = signs + r / 64 * 64 * n + r % 32 * 2 + r % 64 / 32;
        uint32_t sum = 0;
        for (size_t k = 0; k < n; k++)
            sum += (uint32_t)tables[32 * k + (row[64 * k] & 15)] + tables[32 * k + 16 + (row[64 * k] >> 4)];
        out[r] = (uint16_t)sum;
    }
}

static size_t sift_signs(const uint16_t *sums, const float *cosine, const float *sine, size_t n, const cch_sieve *sieve,
                         uint16_t *picks) {
    size_t n_picks = 0;
    for (size_t r = 0; r < n; r++)
        if ((float)sums[r] * sieve->gain + sieve->base > sieve->along * cosine[r] - sieve->across * sine[r])
            picks[n_picks++] = (uint16_t)r;
    return n_picks;
}

static void max_f32(const float *x, size_t n, float *max, size_t *index) {
    *index = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            *index = i;
            break;
        }
        if (x[i] > x[*index]) *index = i;
    }
    *max = x[*index];
}

/* --------------------------------------------------------------------------------------------- element-wise ---- */

static void add(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

static void silu_mul(const float *gate, const float *up, size_t n, float *y) {
    for (size_t i = 0; i < n; i++) {
        float silu = gate[i] / (1.0f + exp_one(-gate[i]));
        y[i] = up != NULL ? silu * up[i] : silu;
    }
}

static void gelu_tanh_mul(const float *gate, const float *up, size_t n, float *y) {
    for (size_t i = 0; i < n; i++) {
        float x = gate[i], u = x * fmaf(x * x, GELU_TANH_B, GELU_TANH_A);
        float gelu = x / (1.0f + exp_one(-u));
        y[i] = up != NULL ? gelu * up[i] : gelu;
    }
}

static void gelu_erf_mul(const float *gate, const float *up, size_t n, float *y) {
    for (size_t i = 0; i < n; i++) {
        float half = 0.5f * gate[i];
        float gelu = fmaf(half, erf_one(gate[i] * SQRT_HALF), half);
        y[i] = up != NULL ? gelu * up[i] : gelu;
    }
}

static void relu(const float *x, size_t n, float *y) {
    for (size_t i = 0; i < n; i++) y[i] = max_or_second(0.0f, x[i]);
}

static void rope(float *x, const float *cos, const float *sin, size_t dim) {
    size_t half = dim / 2;
    for (size_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = fmaf(a, cos[i], -(b * sin[i]));
        x[i + half] = fmaf(b, cos[i], a * sin[i]);
    }
}

/* ------------------------------------------------------------------------------------- matrix and attention ---- */

static void matmul_f32(const float *x, size_t ldx, size_t rows, const float *panels, size_t n_panels, size_t k_len,
                       const float *bias, float *y, size_t ldy) {
    for (size_t r = 0; r < rows; r++) {
        for (size_t n = 0; n < n_panels * CCH_LANES; n++) {
            const float *w = panels + n / CCH_LANES * CCH_LANES * k_len + n % CCH_LANES;
            float sum = 0.0f;
            for (size_t k = 0; k < k_len; k++) sum = fmaf(x[r * ldx + k], w[k * CCH_LANES], sum);
            y[r * ldy + n] = bias != NULL ? sum + bias[n] : sum;
        }
    }
}

/* Tiles of one row: they lie as they were. */
static void matmul_dealt(const float *dealt, size_t rows, const float *panels, size_t n_panels, size_t k_len,
                         const float *bias, float *y, size_t ldy) {
    matmul_f32(dealt, k_len, rows, panels, n_panels, k_len, bias, y, ldy);
}

/* --------------------------------------------------------------------------------- products in fewer bits ---- */

static uint32_t word_at(const float *words, size_t i) {
    uint32_t word;
    memcpy(&word, words + i, sizeof word);
    return word;
}

static void round_bf16(const float *x, size_t n, float *words) {
    memset(words, 0, cch_n_words(n, 2) * sizeof *words);
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = cch_bf16_round(x[i]);
        memcpy((char *)words + 2 * i, &half, sizeof half);
    }
}

static void matmul_bf16(const float *x, size_t ldx, size_t rows, const float *panels, size_t n_panels, size_t k_words,
                        const float *bias, float *y, size_t ldy) {
    for (size_t r = 0; r < rows; r++) {
        for (size_t n = 0; n < n_panels * CCH_LANES; n++) {
            const float *w = panels + n / CCH_LANES * CCH_LANES * k_words + n % CCH_LANES;
            float sum = 0.0f;
            for (size_t k = 0; k < k_words; k++) {
                const uint32_t a = word_at(x, r * ldx + k), b = word_at(w, k * CCH_LANES);
                sum = fmaf(cch_bf16_to_f32((uint16_t)(a >> 16)), cch_bf16_to_f32((uint16_t)(b >> 16)), sum);
                sum = fmaf(cch_bf16_to_f32((uint16_t)a), cch_bf16_to_f32((uint16_t)b), sum);
            }
            y[r * ldy + n] = bias != NULL ? sum + bias[n] : sum;
        }
    }
}

static void quantize_int8(const float *x, size_t n, float *words) {
    const size_t k_words = cch_n_words(n, 4), groups = cch_n_groups(k_words), group = 4 * CCH_GROUP_WORDS;
    float most = 0.0f, scale;
    for (size_t i = 0; i < n; i++) most = most > fabsf(x[i]) || isnan(most) ? most : fabsf(x[i]);
    scale = most < CCH_LEAST_ROW ? 0.0f : most < INFINITY ? most / 127.0f : NAN;
    memset(words, 0, k_words * sizeof *words);
    for (size_t g = 0; g < groups; g++) {
        int32_t offset = 0;
        for (size_t i = g * group; i < n && i < (g + 1) * group; i++) {
            const int8_t q = scale > 0.0f ? (int8_t)rintf(x[i] * (127.0f / most)) : 0;
            memcpy((char *)words + i, &q, 1);
            offset -= 128 * q;
        }
        memcpy(words + k_words + g, &offset, sizeof offset);
    }
    memcpy(words + k_words + groups, &scale, sizeof scale);
}

/* Inputs 4k to 4k + 3. */
static int32_t dot_int8(uint32_t x, uint32_t w) {
    int32_t sum = 0;
    for (int shift = 0; shift < 32; shift += 8) sum += (int8_t)(x >> shift & 0xFF) * (int8_t)(w >> shift & 0xFF);
    return sum;
}

static void matmul_int8(const float *x, size_t ldx, size_t rows, const float *panels, const float *scales,
                        size_t n_panels, size_t k_words, const float *bias, float *y, size_t ldy) {
    const size_t groups = cch_n_groups(k_words);
    for (size_t r = 0; r < rows; r++, x += ldx) {
        for (size_t n = 0; n < n_panels * CCH_LANES; n++) {
            const size_t panel = n / CCH_LANES, lane = n % CCH_LANES;
            float sum = 0.0f;
            for (size_t g = 0; g < groups; g++) {
                const size_t end = k_words < (g + 1) * CCH_GROUP_WORDS ? k_words : (g + 1) * CCH_GROUP_WORDS;
                int32_t exact = 0;
                for (size_t k = g * CCH_GROUP_WORDS; k < end; k++)
                    exact += dot_int8(word_at(x, k), word_at(panels, (panel * k_words + k) * CCH_LANES + lane));
                sum = fmaf((float)exact, scales[(panel * groups + g) * CCH_LANES + lane], sum);
            }
            sum *= x[k_words + groups];
            y[r * ldy + n] = bias != NULL ? sum + bias[n] : sum;
        }
    }
}

/* ------------------------------------------------------------------------------------------------ attention ---- */

static float page_at(const float *page, bool halves, size_t i) { return halves ? cch_bf16_at(page, i) : page[i]; }

static void attn_scores(const float *q, size_t ldq, size_t rows, const float *const *k_pages, bool halves,
                        size_t n_pages, size_t dim, float scale, float *s, size_t lds) {
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < n_pages * CCH_LANES; t++) {
            const float *keys = k_pages[t / CCH_LANES];
            float sum = 0.0f;
            for (size_t d = 0; d < dim; d++)
                sum = fmaf(q[r * ldq + d], page_at(keys, halves, d * CCH_LANES + t % CCH_LANES), sum);
            s[r * lds + t] = sum * scale;
        }
    }
}

static void attn_mix(const float *p, size_t ldp, size_t rows, const float *const *v_pages, bool halves,
                     const int32_t *first, const int32_t *last, size_t dim, size_t ldv, bool resume, float *out,
                     size_t ldo) {
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < dim; c++) {
            float sum = resume ? out[r * ldo + c] : 0.0f;
            for (size_t t = (size_t)first[r]; t < (size_t)last[r]; t++)
                sum = fmaf(p[r * ldp + t], page_at(v_pages[t / CCH_LANES], halves, t % CCH_LANES * ldv + c), sum);
            out[r * ldo + c] = sum;
        }
    }
}

const cch_kernels cch_kernels_generic = {
    .name = "generic",
    .bf16_order = "chain",
    .matmul_f32 = matmul_f32,
    .matmul_dealt = matmul_dealt,
    .deal_rows = 1,
    .matmul_bf16 = matmul_bf16,
    .matmul_int8 = matmul_int8,
    .round_bf16 = round_bf16,
    .quantize_int8 = quantize_int8,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .add = add,
    .silu_mul = silu_mul,
    .gelu_tanh_mul = gelu_tanh_mul,
    .gelu_erf_mul = gelu_erf_mul,
    .relu = relu,
    .rope = rope,
    .attn_scores = attn_scores,
    .softmax = softmax,
    .attn_mix = attn_mix,
    .exp_f64 = exp_f64,
    .dot_f64 = dot_f64,
    .dot_f32 = dot_f32,
    .scan_i8 = scan_i8,
    .pick_i8 = pick_i8,
    .scan_signs = scan_signs,
    .sift_signs = sift_signs,
    .max_f32 = max_f32,
};
