/* simd_rows - reductions over a row and element-wise ops on 16 lanes; included once by each kern_<isa>.c, which defines
 * the lanes (v16 f32, m16 masks, d8 f64) before.  Every line here does what kern_generic.c does for one element.
 *
 * A row's ragged end is a masked step: lanes outside read 0 and are never stored.  v_max(a, b) and v_min(a, b) return b
 * when either is NaN. */

/* ---------------------------------------------------------------------------------------------- transcendental ---- */

INLINE v16 v_neg(v16 a) { return v_xor(a, v_set1(-0.0f)); }

INLINE v16 v_exp(v16 x) {
    static const float q[EXP_F32_N_Q] = EXP_F32_Q;
    x = v_min(v_set1(EXP_F32_HIGH), v_max(v_set1(EXP_F32_LOW), x));
    const v16 magic = v_set1(EXP_F32_MAGIC), one = v_set1(1.0f);
    const v16 n = v_sub(v_fma(x, v_set1(EXP_F32_LOG2E), magic), magic);
    v16 r = v_fma(n, v_set1(-EXP_F32_LN2_HI), x);
    r = v_fma(n, v_set1(-EXP_F32_LN2_LO), r);
    v16 p = v_set1(q[EXP_F32_N_Q - 1]);
#pragma GCC unroll 8
    for (int i = EXP_F32_N_Q - 2; i >= 0; i--) p = v_fma(p, r, v_set1(q[i]));
    p = v_fma(v_fma(p, r, one), r, one);
    return v_scale(p, n);
}

INLINE d8 d_exp(d8 x) {
    static const double q[EXP_F64_N_Q] = EXP_F64_Q;
    x = d_min(d_set1(EXP_F64_HIGH), d_max(d_set1(EXP_F64_LOW), x));
    const d8 magic = d_set1(EXP_F64_MAGIC), one = d_set1(1.0);
    const d8 n = d_sub(d_fma(x, d_set1(EXP_F64_LOG2E), magic), magic);
    d8 r = d_fma(n, d_set1(-EXP_F64_LN2_HI), x);
    r = d_fma(n, d_set1(-EXP_F64_LN2_LO), r);
    d8 p = d_set1(q[EXP_F64_N_Q - 1]);
#pragma GCC unroll 16
    for (int i = EXP_F64_N_Q - 2; i >= 0; i--) p = d_fma(p, r, d_set1(q[i]));
    p = d_fma(d_fma(p, r, one), r, one);
    return d_scale(p, n);
}

/* Both halves are computed, the lane picks. */
INLINE v16 v_erf(v16 z) {
    static const float small[ERF_N_SMALL] = ERF_SMALL, large[ERF_N_LARGE] = ERF_LARGE;
    const v16 sign = v_sign(z), t = v_min(v_set1(ERF_HIGH), v_xor(z, sign)), s = v_mul(z, z);
    v16 p = v_set1(small[ERF_N_SMALL - 1]), l = v_set1(large[ERF_N_LARGE - 1]);
#pragma GCC unroll 8
    for (int i = ERF_N_SMALL - 2; i >= 0; i--) p = v_fma(p, s, v_set1(small[i]));
#pragma GCC unroll 8
    for (int i = ERF_N_LARGE - 2; i >= 0; i--) l = v_fma(l, t, v_set1(large[i]));
    const v16 high = v_xor(v_sub(v_set1(1.0f), v_exp(l)), sign);
    return v_select(m_less(t, v_set1(ERF_SPLIT)), v_fma(p, z, z), high);
}

INLINE v16 v_silu(v16 x) { return v_div(x, v_add(v_set1(1.0f), v_exp(v_neg(x)))); }

INLINE v16 v_gelu_tanh(v16 x) {
    const v16 u = v_mul(x, v_fma(v_mul(x, x), v_set1(GELU_TANH_B), v_set1(GELU_TANH_A)));
    return v_div(x, v_add(v_set1(1.0f), v_exp(v_neg(u))));
}

INLINE v16 v_gelu_erf(v16 x) {
    const v16 half = v_mul(v_set1(0.5f), x);
    return v_fma(half, v_erf(v_mul(x, v_set1(SQRT_HALF))), half);
}

/* ------------------------------------------------------------------------------------------------ reductions ---- */

/* Lanes 8 + 4 + 2 + 1, as the contract's tree. */
INLINE float v_sum(v16 a) {
    const __m256 eight = v_fold8(a);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE float v_largest(v16 a) {
    float lane[CCH_LANES], max;
    v_store(lane, a);
    max = lane[0];
    for (int i = 1; i < CCH_LANES; i++) max = lane[i] > max ? lane[i] : max;
    return max;
}

/* Maxima side by side are worth it: one takes four cycles. */
INLINE float v_largest4(const v16 *a) { return v_largest(v_max(v_max(a[0], a[1]), v_max(a[2], a[3]))); }

static void rms_norm(const float *x, const float *w, float eps, size_t n, float *y) {
    const size_t whole = n / CCH_LANES * CCH_LANES;
    const m16 end = m_range(0, n - whole);
    v16 sum = v_zero();
    for (size_t i = 0; i < whole; i += CCH_LANES) sum = v_fma(v_load(x + i), v_load(x + i), sum);
    sum = v_fma(v_load_m(end, x + whole), v_load_m(end, x + whole), sum);
    const v16 inv = v_set1(1.0f / sqrtf(v_sum(sum) / (float)n + eps));
    for (size_t i = 0; i < whole; i += CCH_LANES) v_store(y + i, v_mul(v_mul(v_load(x + i), inv), v_load(w + i)));
    v_store_m(y + whole, end, v_mul(v_mul(v_load_m(end, x + whole), inv), v_load_m(end, w + whole)));
}

INLINE v16 normed(v16 x, v16 mean, v16 inv, v16 w, v16 b, bool with_b) {
    const v16 d = v_mul(v_sub(x, mean), inv);
    return with_b ? v_fma(d, w, b) : v_mul(d, w);
}

static void layer_norm(const float *x, const float *w, const float *b, float eps, size_t n, float *y) {
    const size_t whole = n / CCH_LANES * CCH_LANES;
    const m16 end = m_range(0, n - whole);
    v16 sum = v_zero(), squares = v_zero();
    for (size_t i = 0; i < whole; i += CCH_LANES) sum = v_add(sum, v_load(x + i));
    sum = v_add(sum, v_load_m(end, x + whole));
    const v16 mean = v_set1(v_sum(sum) / (float)n);
    for (size_t i = 0; i < whole; i += CCH_LANES) {
        const v16 d = v_sub(v_load(x + i), mean);
        squares = v_fma(d, d, squares);
    }
    const v16 rest = v_select(end, v_sub(v_load_m(end, x + whole), mean), v_zero());
    const v16 inv = v_set1(1.0f / sqrtf(v_sum(v_fma(rest, rest, squares)) / (float)n + eps));
    for (size_t i = 0; i < whole; i += CCH_LANES)
        v_store(y + i, normed(v_load(x + i), mean, inv, v_load(w + i), b ? v_load(b + i) : mean, b != NULL));
    v_store_m(y + whole, end, normed(v_load_m(end, x + whole), mean, inv, v_load_m(end, w + whole),
                                     b ? v_load_m(end, b + whole) : mean, b != NULL));
}

/* Lanes [first, last) of the 16 that start at i. */
INLINE m16 m_of(size_t i, size_t first, size_t last) {
    return m_range(first > i ? first - i : 0, last - i < CCH_LANES ? last - i : CCH_LANES);
}

static void exp_f64(const float *x, size_t n, float max, double inv_t, double *w, double *sum) {
    const d8 shift = d_set1((double)max), scale = d_set1(inv_t);
    const size_t whole = n / 8 * 8;
    double lane[8];
    d8 sums = d_zero();
    for (size_t i = 0; i < whole; i += 8) {
        const d8 e = d_exp(d_mul(d_sub(d_load_f32(x + i), shift), scale));
        d_store(w + i, e);
        sums = d_add(sums, e);
    }
    d_store(lane, sums);
    if (whole < n) {
        float rest[8] = {0};
        double e[8];
        for (size_t i = whole; i < n; i++) rest[i - whole] = x[i];
        d_store(e, d_exp(d_mul(d_sub(d_load_f32(rest), shift), scale)));
        for (size_t i = whole; i < n; i++) lane[i - whole] += w[i] = e[i - whole];
    }
    for (int width = 4; width > 0; width /= 2)
        for (int j = 0; j < width; j++) lane[j] += lane[j + width];
    *sum = lane[0];
}

static double dot_f64(const double *w, const float *x, size_t n, float max) {
    const d8 shift = d_set1((double)max), low = d_set1(DOT_F64_LOW);
    const size_t whole = n / 8 * 8;
    double lane[8];
    d8 sums = d_zero();
    for (size_t i = 0; i < whole; i += 8)
        sums = d_fma(d_load(w + i), d_max(low, d_sub(d_load_f32(x + i), shift)), sums);
    d_store(lane, sums);
    for (size_t i = whole; i < n; i++) {
        const double d = (double)x[i] - (double)max;
        lane[i - whole] = fma(w[i], d < DOT_F64_LOW ? DOT_F64_LOW : d, lane[i - whole]);
    }
    for (int width = 4; width > 0; width /= 2)
        for (int j = 0; j < width; j++) lane[j] += lane[j + width];
    return lane[0];
}

/* Index of the first element equal to `value` (a NaN: the first NaN), which must be there. */
static size_t find_f32(const float *x, size_t n, v16 value, bool nan) {
    for (size_t i = 0;; i += CCH_LANES) {
        const m16 in = m_of(i, 0, n);
        const v16 a = i + CCH_LANES <= n ? v_load(x + i) : v_load_m(in, x + i);
        const unsigned hits = m_bits(nan ? m_nan(a) : m_equal(a, value)) & m_bits(in);
        if (hits != 0) return i + (size_t)__builtin_ctz(hits);
    }
}

static void max_f32(const float *x, size_t n, float *max, size_t *index) {
    const v16 least = v_set1(-INFINITY);
    v16 most[4] = {least, least, least, least};
    m16 nan = m_range(0, 0);
    size_t i = 0;
    for (; i + 4 * CCH_LANES <= n; i += 4 * CCH_LANES) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            const v16 a = v_load(x + i + j * CCH_LANES);
            most[j] = v_max(a, most[j]);
            nan = m_or(nan, m_nan(a));
        }
    }
    for (; i < n; i += CCH_LANES) {
        const m16 in = m_of(i, 0, n);
        const v16 a = v_select(in, v_load_m(in, x + i), least);
        most[0] = v_max(a, most[0]);
        nan = m_or(nan, m_nan(a));
    }
    *index = find_f32(x, n, v_set1(v_largest4(most)), m_bits(nan) != 0);
    *max = x[*index];
}

/* ---------------------------------------------------------------------------------------------- element-wise ---- */

static void add(float *y, const float *x, size_t n) {
    const size_t whole = n / CCH_LANES * CCH_LANES;
    const m16 end = m_range(0, n - whole);
    for (size_t i = 0; i < whole; i += CCH_LANES) v_store(y + i, v_add(v_load(y + i), v_load(x + i)));
    v_store_m(y + whole, end, v_add(v_load_m(end, y + whole), v_load_m(end, x + whole)));
}

/* y = f(gate) * up, or f(gate) when up is NULL. */
#define GATED(name, f)                                                                                        \
    static void name(const float *gate, const float *up, size_t n, float *y) {                                \
        const v16 one = v_set1(1.0f);                                                                         \
        const size_t whole = n / CCH_LANES * CCH_LANES;                                                       \
        const m16 end = m_range(0, n - whole);                                                                \
        for (size_t i = 0; i < whole; i += CCH_LANES)                                                         \
            v_store(y + i, v_mul(f(v_load(gate + i)), up != NULL ? v_load(up + i) : one));                    \
        v_store_m(y + whole, end,                                                                             \
                  v_mul(f(v_load_m(end, gate + whole)), up != NULL ? v_load_m(end, up + whole) : one));       \
    }
GATED(silu_mul, v_silu)
GATED(gelu_tanh_mul, v_gelu_tanh)
GATED(gelu_erf_mul, v_gelu_erf)
#undef GATED

static void relu(const float *x, size_t n, float *y) {
    const size_t whole = n / CCH_LANES * CCH_LANES;
    const m16 end = m_range(0, n - whole);
    for (size_t i = 0; i < whole; i += CCH_LANES) v_store(y + i, v_max(v_zero(), v_load(x + i)));
    v_store_m(y + whole, end, v_max(v_zero(), v_load_m(end, x + whole)));
}

static void rope(float *x, const float *cos, const float *sin, size_t dim) {
    const size_t half = dim / 2;
    for (size_t i = 0; i < half; i += CCH_LANES) {
        const m16 in = m_of(i, 0, half);
        const v16 a = v_load_m(in, x + i), b = v_load_m(in, x + half + i);
        const v16 c = v_load_m(in, cos + i), s = v_load_m(in, sin + i);
        v_store_m(x + i, in, v_fma(a, c, v_neg(v_mul(b, s))));
        v_store_m(x + half + i, in, v_fma(b, c, v_mul(a, s)));
    }
}
