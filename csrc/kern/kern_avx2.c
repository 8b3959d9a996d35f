/* kern_avx2 - the 16 lanes as two ymm registers (AVX2 and FMA).  The ops themselves are in simd_rows.h,
 * simd_scan.h, simd_tiles.h, simd_attention.h and simd_products.h, shared with AVX-512. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kern/isa.h"
#include "kern/poly.h"

#define INLINE static inline __attribute__((always_inline))

typedef struct v16 {
    __m256 lo, hi;
} v16;
typedef v16 m16; /* all bits of a lane set or clear */

INLINE v16 v_make(__m256 lo, __m256 hi) {
    v16 v = {lo, hi};
    return v;
}
INLINE v16 v_set1(float a) { return v_make(_mm256_set1_ps(a), _mm256_set1_ps(a)); }
INLINE v16 v_zero(void) { return v_make(_mm256_setzero_ps(), _mm256_setzero_ps()); }
INLINE v16 v_load(const float *p) { return v_make(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
INLINE void v_store(float *p, v16 a) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
INLINE v16 v_add(v16 a, v16 b) { return v_make(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)); }
INLINE v16 v_sub(v16 a, v16 b) { return v_make(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)); }
INLINE v16 v_mul(v16 a, v16 b) { return v_make(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)); }
INLINE v16 v_div(v16 a, v16 b) { return v_make(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) {
    return v_make(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}
INLINE v16 v_max(v16 a, v16 b) { return v_make(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)); }
INLINE v16 v_min(v16 a, v16 b) { return v_make(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)); }
INLINE v16 v_and(v16 a, v16 b) { return v_make(_mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi)); }
INLINE v16 v_xor(v16 a, v16 b) { return v_make(_mm256_xor_ps(a.lo, b.lo), _mm256_xor_ps(a.hi, b.hi)); }
INLINE v16 v_sign(v16 a) { return v_and(a, v_set1(-0.0f)); }

INLINE m16 m_range(size_t first, size_t last) {
    const __m256i lo = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), hi = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
    const __m256i from = _mm256_set1_epi32((int)first - 1), to = _mm256_set1_epi32((int)last);
    return v_make(
        _mm256_castsi256_ps(_mm256_and_si256(_mm256_cmpgt_epi32(lo, from), _mm256_cmpgt_epi32(to, lo))),
        _mm256_castsi256_ps(_mm256_and_si256(_mm256_cmpgt_epi32(hi, from), _mm256_cmpgt_epi32(to, hi))));
}
INLINE m16 m_or(m16 a, m16 b) { return v_make(_mm256_or_ps(a.lo, b.lo), _mm256_or_ps(a.hi, b.hi)); }
INLINE unsigned m_bits(m16 m) {
    return (unsigned)_mm256_movemask_ps(m.lo) | (unsigned)_mm256_movemask_ps(m.hi) << 8;
}
INLINE m16 m_less(v16 a, v16 b) {
    return v_make(_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ));
}
INLINE m16 m_equal(v16 a, v16 b) {
    return v_make(_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ));
}
INLINE m16 m_nan(v16 a) {
    return v_make(_mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q), _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q));
}
INLINE v16 v_load_m(m16 m, const float *p) {
    return v_make(_mm256_maskload_ps(p, _mm256_castps_si256(m.lo)),
                  _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.hi)));
}
INLINE void v_store_m(float *p, m16 m, v16 a) {
    _mm256_maskstore_ps(p, _mm256_castps_si256(m.lo), a.lo);
    _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.hi), a.hi);
}
INLINE v16 v_select(m16 m, v16 a, v16 b) {
    return v_make(_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi));
}

INLINE __m256 pow2_ps(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
INLINE __m256 scale_ps(__m256 p, __m256 n) {
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(p, pow2_ps(half)), pow2_ps(_mm256_sub_epi32(whole, half)));
}
/* p * 2^n for integral n, rounded once. */
INLINE v16 v_scale(v16 p, v16 n) { return v_make(scale_ps(p.lo, n.lo), scale_ps(p.hi, n.hi)); }

INLINE __m256 v_fold8(v16 a) { return _mm256_add_ps(a.lo, a.hi); }

typedef struct d8 {
    __m256d lo, hi;
} d8;
INLINE d8 d_make(__m256d lo, __m256d hi) {
    d8 d = {lo, hi};
    return d;
}
INLINE d8 d_set1(double a) { return d_make(_mm256_set1_pd(a), _mm256_set1_pd(a)); }
INLINE d8 d_zero(void) { return d_set1(0.0); }
INLINE d8 d_load_f32(const float *p) {
    return d_make(_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4)));
}
INLINE d8 d_load(const double *p) { return d_make(_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)); }
INLINE void d_store(double *p, d8 a) {
    _mm256_storeu_pd(p, a.lo);
    _mm256_storeu_pd(p + 4, a.hi);
}
INLINE d8 d_add(d8 a, d8 b) { return d_make(_mm256_add_pd(a.lo, b.lo), _mm256_add_pd(a.hi, b.hi)); }
INLINE d8 d_sub(d8 a, d8 b) { return d_make(_mm256_sub_pd(a.lo, b.lo), _mm256_sub_pd(a.hi, b.hi)); }
INLINE d8 d_mul(d8 a, d8 b) { return d_make(_mm256_mul_pd(a.lo, b.lo), _mm256_mul_pd(a.hi, b.hi)); }
INLINE d8 d_fma(d8 a, d8 b, d8 c) {
    return d_make(_mm256_fmadd_pd(a.lo, b.lo, c.lo), _mm256_fmadd_pd(a.hi, b.hi, c.hi));
}
INLINE d8 d_max(d8 a, d8 b) { return d_make(_mm256_max_pd(a.lo, b.lo), _mm256_max_pd(a.hi, b.hi)); }
INLINE d8 d_min(d8 a, d8 b) { return d_make(_mm256_min_pd(a.lo, b.lo), _mm256_min_pd(a.hi, b.hi)); }
INLINE __m256d pow2_pd(__m128i n) {
    const __m256i biased = _mm256_add_epi64(_mm256_cvtepi32_epi64(n), _mm256_set1_epi64x(1023));
    return _mm256_castsi256_pd(_mm256_slli_epi64(biased, 52));
}
INLINE __m256d scale_pd(__m256d p, __m256d n) {
    const __m128i whole = _mm256_cvtpd_epi32(n), half = _mm_srai_epi32(whole, 1);
    return _mm256_mul_pd(_mm256_mul_pd(p, pow2_pd(half)), pow2_pd(_mm_sub_epi32(whole, half)));
}
INLINE d8 d_scale(d8 p, d8 n) { return d_make(scale_pd(p.lo, n.lo), scale_pd(p.hi, n.hi)); }

/* 16 registers, two per panel: 12 accumulators, the panel vectors, a broadcast. */
#define TILE_ROWS 6
#define TILE_PANELS 4
#define TILE_WIDTHS { 4, 2, 2, 1, 1, 1 }
#define TILE_LIST(X) \
    X(1, 1) X(1, 2) X(1, 4) X(2, 1) X(2, 2) X(2, 4) X(3, 1) X(3, 2) X(3, 4) \
    X(4, 1) X(4, 2) X(4, 4) X(5, 1) X(5, 2) X(5, 4) X(6, 1) X(6, 2) X(6, 4)
#define WIDE_LIST(X)
#define DEALT_LIST(X) X(5, 1) X(6, 1)

/* 16 codes as 16-bit numbers; 8 sums. */
typedef __m256i w_vec, s_vec;
#define SCAN_STEP 16
#define SCAN_QUERIES 2
INLINE w_vec w_widen(const int8_t *p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}
INLINE w_vec w_load(const int16_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
INLINE s_vec s_zero(void) { return _mm256_setzero_si256(); }
INLINE s_vec s_madd(w_vec a, w_vec b, s_vec c) { return _mm256_add_epi32(c, _mm256_madd_epi16(a, b)); }
INLINE s_vec s_fold(s_vec a, s_vec b) {
    return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}
/* The sum of each vector's lanes. */
INLINE void s_sum4(const s_vec a[4], int32_t sums[4]) {
    const s_vec ab = s_fold(a[0], a[1]), cd = s_fold(a[2], a[3]);
    const s_vec all = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    const __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    memcpy(sums, &sum, sizeof sum);
}

INLINE __m256 load_u16(const uint16_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
INLINE v16 v_load_u16(const uint16_t *p) { return v_make(load_u16(p), load_u16(p + 8)); }

/* 64 bytes, also as 32 numbers of 16 bits. */
typedef struct b_vec {
    __m256i lo, hi;
} b_vec;
INLINE b_vec b_make(__m256i lo, __m256i hi) {
    b_vec b = {lo, hi};
    return b;
}
INLINE b_vec b_zero(void) { return b_make(_mm256_setzero_si256(), _mm256_setzero_si256()); }
INLINE b_vec b_load(const uint8_t *p) {
    const __m256i *at = (const __m256i *)(const void *)p;
    return b_make(_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1));
}
INLINE void b_store(uint16_t *p, b_vec a) {
    _mm256_storeu_si256((__m256i *)(void *)p, a.lo);
    _mm256_storeu_si256((__m256i *)(void *)p + 1, a.hi);
}
INLINE b_vec b_low(b_vec a) {
    const __m256i mask = _mm256_set1_epi8(15);
    return b_make(_mm256_and_si256(a.lo, mask), _mm256_and_si256(a.hi, mask));
}
INLINE b_vec b_high(b_vec a) { return b_low(b_make(_mm256_srli_epi16(a.lo, 4), _mm256_srli_epi16(a.hi, 4))); }
INLINE b_vec b_look(const uint8_t *table, b_vec at) {
    const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    return b_make(_mm256_shuffle_epi8(both, at.lo), _mm256_shuffle_epi8(both, at.hi));
}
INLINE b_vec b_add8(b_vec a, b_vec b) { return b_make(_mm256_add_epi8(a.lo, b.lo), _mm256_add_epi8(a.hi, b.hi)); }
INLINE b_vec b_add16(b_vec a, b_vec b) { return b_make(_mm256_add_epi16(a.lo, b.lo), _mm256_add_epi16(a.hi, b.hi)); }
INLINE b_vec b_sub16(b_vec a, b_vec b) { return b_make(_mm256_sub_epi16(a.lo, b.lo), _mm256_sub_epi16(a.hi, b.hi)); }
INLINE b_vec b_odd(b_vec a) { return b_make(_mm256_srli_epi16(a.lo, 8), _mm256_srli_epi16(a.hi, 8)); }
INLINE b_vec b_even(b_vec a) { return b_make(_mm256_slli_epi16(a.lo, 8), _mm256_slli_epi16(a.hi, 8)); }

/* 16 bf16 numbers as f32: each goes to the upper half of its lane. */
INLINE __m256 widen_bf16(const __m128i *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
INLINE v16 v_load_bf16(const void *p) {
    return v_make(widen_bf16((const __m128i *)p), widen_bf16((const __m128i *)p + 1));
}

/* Products of packed words (kern/kernels.h): 16 words of weights and one of a row. */
INLINE __m256 dot_bf16(__m256 acc, __m256 x, __m256 w) {
    const __m256i high = _mm256_set1_epi32((int)0xFFFF0000u), a = _mm256_castps_si256(x), b = _mm256_castps_si256(w);
    acc = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(a, high)),
                          _mm256_castsi256_ps(_mm256_and_si256(b, high)), acc);
    return _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
                           _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)), acc);
}
INLINE v16 v_dot_bf16(v16 acc, v16 x, v16 w) {
    return v_make(dot_bf16(acc.lo, x.lo, w.lo), dot_bf16(acc.hi, x.hi, w.hi));
}

typedef struct i16 { /* 16 sums */
    __m256i lo, hi;
} i16;
INLINE i16 i_make(__m256i lo, __m256i hi) {
    i16 a = {lo, hi};
    return a;
}
INLINE i16 i_set1(int32_t a) { return i_make(_mm256_set1_epi32(a), _mm256_set1_epi32(a)); }
INLINE i16 i_cast(v16 a) { return i_make(_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)); }
INLINE v16 i_to_f32(i16 a) { return v_make(_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)); }
INLINE __m256i dot_int8(__m256i acc, __m256i x, __m256i w) {
    const __m256i low = _mm256_set1_epi16(0xFF);
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(w, low), _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16(x, 8));
    return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
}
/* acc + the four products of unsigned w and signed x. */
INLINE i16 i_dot(i16 acc, i16 x, i16 w) { return i_make(dot_int8(acc.lo, x.lo, w.lo), dot_int8(acc.hi, x.hi, w.hi)); }

INLINE __m256i bf16_bits(__m256 a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i near = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(near, _mm256_set1_epi32(0x7FC00000), nan), 16);
}
/* 16 numbers as bf16, to the nearest, of two the even one; NaN stays NaN. */
INLINE void v_store_bf16(uint16_t *p, v16 a) {
    const __m256i both = _mm256_packus_epi32(bf16_bits(a.lo), bf16_bits(a.hi));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm256_permute4x64_epi64(both, 0xD8));
}
/* 16 integral numbers from -127 to 127 as bytes; returns their sum lane by lane added to `sum`. */
INLINE i16 v_store_i8(int8_t *p, v16 a, i16 sum) {
    const __m256i lo = _mm256_cvtps_epi32(a.lo), hi = _mm256_cvtps_epi32(a.hi);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xD8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)p, bytes);
    return i_make(_mm256_add_epi32(sum.lo, lo), _mm256_add_epi32(sum.hi, hi));
}
INLINE int32_t i_sum(i16 a) {
    int32_t lane[8], sum = 0;
    _mm256_storeu_si256((__m256i *)(void *)lane, _mm256_add_epi32(a.lo, a.hi));
    for (int i = 0; i < 8; i++) sum += lane[i];
    return sum;
}
#define NEAREST (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
INLINE v16 v_round(v16 a) { return v_make(_mm256_round_ps(a.lo, NEAREST), _mm256_round_ps(a.hi, NEAREST)); }
INLINE v16 v_abs(v16 a) { return v_xor(a, v_sign(a)); }

#include "kern/simd_rows.h"
#include "kern/simd_scan.h"
#include "kern/simd_tiles.h"
#include "kern/simd_attention.h"
#include "kern/simd_products.h"

const cch_kernels cch_kernels_avx2 = SIMD_TABLE("avx2", "chain", matmul_bf16, matmul_int8);

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
