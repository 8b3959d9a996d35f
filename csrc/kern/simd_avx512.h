/* simd_avx512 - the 16 lanes as one zmm register (AVX-512 F, BW, DQ, VL).  Included once by each kern_<isa>.c that has
 * them.  The ops themselves are in simd_rows.h, simd_scan.h, simd_tiles.h, simd_attention.h and simd_products.h, shared
 * with AVX2.
 *
 * NATIVE_DOTS: the ISA also has products of bf16 pairs and of four 8-bit numbers (AVX512-BF16, AVX512-VNNI).
 * TILE_REGISTERS: it multiplies bf16 numbers in its own way. */
#include "kern/isa.h"
#include "kern/poly.h"

#define INLINE static inline __attribute__((always_inline))

typedef __m512 v16;
typedef __mmask16 m16;

INLINE v16 v_zero(void) { return _mm512_setzero_ps(); }
INLINE v16 v_set1(float a) { return _mm512_set1_ps(a); }
INLINE v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
INLINE v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
INLINE v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
INLINE v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
INLINE v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
INLINE v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
INLINE v16 v_sign(v16 a) { return _mm512_and_ps(a, _mm512_set1_ps(-0.0f)); }
INLINE v16 v_xor(v16 a, v16 b) { return _mm512_xor_ps(a, b); }

INLINE m16 m_range(size_t first, size_t last) { return (m16)(((1u << last) - 1) & ~((1u << first) - 1)); }
INLINE m16 m_or(m16 a, m16 b) { return a | b; }
INLINE unsigned m_bits(m16 m) { return m; }
INLINE m16 m_less(v16 a, v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INLINE m16 m_equal(v16 a, v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
INLINE m16 m_nan(v16 a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
INLINE v16 v_load_m(m16 m, const float *p) { return _mm512_maskz_loadu_ps(m, p); }
INLINE void v_store_m(float *p, m16 m, v16 a) { _mm512_mask_storeu_ps(p, m, a); }
INLINE v16 v_select(m16 m, v16 a, v16 b) { return _mm512_mask_blend_ps(m, b, a); }

/* p * 2^n for integral n, rounded once. */
INLINE v16 v_scale(v16 p, v16 n) { return _mm512_scalef_ps(p, n); }

INLINE __m256 v_fold8(v16 a) { return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)); }

typedef __m512d d8;
INLINE d8 d_zero(void) { return _mm512_setzero_pd(); }
INLINE d8 d_set1(double a) { return _mm512_set1_pd(a); }
INLINE d8 d_load_f32(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
INLINE d8 d_load(const double *p) { return _mm512_loadu_pd(p); }
INLINE void d_store(double *p, d8 a) { _mm512_storeu_pd(p, a); }
INLINE d8 d_add(d8 a, d8 b) { return _mm512_add_pd(a, b); }
INLINE d8 d_sub(d8 a, d8 b) { return _mm512_sub_pd(a, b); }
INLINE d8 d_mul(d8 a, d8 b) { return _mm512_mul_pd(a, b); }
INLINE d8 d_fma(d8 a, d8 b, d8 c) { return _mm512_fmadd_pd(a, b, c); }
INLINE d8 d_max(d8 a, d8 b) { return _mm512_max_pd(a, b); }
INLINE d8 d_min(d8 a, d8 b) { return _mm512_min_pd(a, b); }
INLINE d8 d_scale(d8 p, d8 n) { return _mm512_scalef_pd(p, n); }

/* 32 registers: up to 24 accumulators, the panel vectors, a broadcast. */
#define TILE_ROWS 8
#define TILE_PANELS 8
#define TILE_WIDTHS { 8, 8, 6, 6, 4, 4, 3, 3 }
#define TILE_LIST(X) \
    X(1, 1) X(1, 2) X(1, 4) X(2, 1) X(2, 2) X(2, 4) X(3, 1) X(3, 2) X(3, 4) \
    X(4, 1) X(4, 2) X(4, 4) X(5, 1) X(5, 2) X(5, 4) X(6, 1) X(6, 2) X(6, 4) \
    X(6, 3) X(7, 1) X(7, 3) X(8, 1) X(8, 3)
#define WIDE_LIST(X) X(1, 8) X(2, 8) X(3, 6) X(4, 6)
#define DEALT_LIST(X) X(6, 1) X(6, 3) X(7, 1) X(7, 3) X(8, 1) X(8, 3)

/* 32 codes as 16-bit numbers; 16 sums. */
typedef __m512i w_vec, s_vec;
#define SCAN_STEP 32
#define SCAN_QUERIES 4
INLINE w_vec w_widen(const int8_t *p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INLINE w_vec w_load(const int16_t *p) { return _mm512_loadu_si512(p); }
INLINE s_vec s_zero(void) { return _mm512_setzero_si512(); }
INLINE s_vec s_madd(w_vec a, w_vec b, s_vec c) { return _mm512_add_epi32(c, _mm512_madd_epi16(a, b)); }
INLINE s_vec s_fold(s_vec a, s_vec b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}
/* The sum of each vector's lanes. */
INLINE void s_sum4(const s_vec a[4], int32_t sums[4]) {
    const s_vec ab = s_fold(a[0], a[1]), cd = s_fold(a[2], a[3]);
    const s_vec all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    const __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    memcpy(sums, &sum, sizeof sum);
}

INLINE v16 v_load_u16(const uint16_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)));
}

/* 64 bytes, also as 32 numbers of 16 bits. */
typedef __m512i b_vec;
INLINE b_vec b_zero(void) { return _mm512_setzero_si512(); }
INLINE b_vec b_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
INLINE void b_store(uint16_t *p, b_vec a) { _mm512_storeu_si512(p, a); }
INLINE b_vec b_low(b_vec a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
INLINE b_vec b_high(b_vec a) { return b_low(_mm512_srli_epi16(a, 4)); }
INLINE b_vec b_look(const uint8_t *table, b_vec at) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table)), at);
}
INLINE b_vec b_add8(b_vec a, b_vec b) { return _mm512_add_epi8(a, b); }
INLINE b_vec b_add16(b_vec a, b_vec b) { return _mm512_add_epi16(a, b); }
INLINE b_vec b_sub16(b_vec a, b_vec b) { return _mm512_sub_epi16(a, b); }
INLINE b_vec b_odd(b_vec a) { return _mm512_srli_epi16(a, 8); }
INLINE b_vec b_even(b_vec a) { return _mm512_slli_epi16(a, 8); }

/* 16 bf16 numbers as f32: each goes to the upper half of its lane. */
INLINE v16 v_load_bf16(const void *p) {
    const __m512i from = _mm512_set_epi64(0x000F000F000E000E, 0x000D000D000C000C, 0x000B000B000A000A,
                                          0x0009000900080008, 0x0007000700060006, 0x0005000500040004,
                                          0x0003000300020002, 0x0001000100000000);
    const __m512i halves = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xAAAAAAAAu, from, halves));
}

/* Products of packed words (kern/kernels.h): 16 words of weights and one of a row. */
INLINE v16 v_dot_bf16(v16 acc, v16 x, v16 w) {
#ifdef NATIVE_DOTS
    return _mm512_dpbf16_ps(acc, (__m512bh)x, (__m512bh)w);
#else
    const __m512i high = _mm512_set1_epi32((int)0xFFFF0000u), a = _mm512_castps_si512(x), b = _mm512_castps_si512(w);
    acc = v_fma(_mm512_castsi512_ps(_mm512_and_si512(a, high)), _mm512_castsi512_ps(_mm512_and_si512(b, high)), acc);
    return v_fma(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), acc);
#endif
}

typedef __m512i i16; /* 16 sums */
INLINE i16 i_set1(int32_t a) { return _mm512_set1_epi32(a); }
INLINE i16 i_cast(v16 a) { return _mm512_castps_si512(a); }
INLINE v16 i_to_f32(i16 a) { return _mm512_cvtepi32_ps(a); }
/* acc + the four products of unsigned w and signed x. */
INLINE i16 i_dot(i16 acc, i16 x, i16 w) {
#ifdef NATIVE_DOTS
    return _mm512_dpbusd_epi32(acc, w, x);
#else
    const __m512i low = _mm512_set1_epi16(0xFF);
    const __m512i even = _mm512_madd_epi16(_mm512_and_si512(w, low), _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8));
    const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(w, 8), _mm512_srai_epi16(x, 8));
    return _mm512_add_epi32(acc, _mm512_add_epi32(even, odd));
#endif
}

/* 16 numbers as bf16, to the nearest, of two the even one; NaN stays NaN. */
INLINE void v_store_bf16(uint16_t *p, v16 a) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i near = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    const __m512i kept = _mm512_mask_mov_epi32(near, m_nan(a), _mm512_set1_epi32(0x7FC00000));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16)));
}
/* 16 integral numbers from -127 to 127 as bytes; returns their sum lane by lane added to `sum`. */
INLINE i16 v_store_i8(int8_t *p, v16 a, i16 sum) {
    const __m512i n = _mm512_cvtps_epi32(a);
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(n));
    return _mm512_add_epi32(sum, n);
}
INLINE int32_t i_sum(i16 a) { return _mm512_reduce_add_epi32(a); }
INLINE v16 v_round(v16 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE v16 v_abs(v16 a) { return _mm512_abs_ps(a); }

#include "kern/simd_rows.h"
#include "kern/simd_scan.h"
#include "kern/simd_tiles.h"
#include "kern/simd_attention.h"
#include "kern/simd_products.h"
