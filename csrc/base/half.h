/* half - 16-bit floats to f32, exactly: every bf16 and f16 value is a f32 value (a NaN stays a NaN); and a f32 to the
 * nearest bf16.  Pure. */
#ifndef CCH_BASE_HALF_H
#define CCH_BASE_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline float cch_float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float cch_bf16_to_f32(uint16_t h) { return cch_float_from_bits((uint32_t)h << 16); }

/* Exponent and mantissa move to their place in f32 and 2^112 corrects the bias, which also turns subnormals into normal
 * numbers; infinities and NaN have all exponent bits set.  No branch, so loops over it vectorize. */
static inline float cch_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = (uint32_t)(h & 0x7FFF) << 13;
    float value = cch_float_from_bits(magnitude) * 0x1p+112f;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits |= magnitude >= 0x0F800000u ? 0x7F800000u : 0;
    return cch_float_from_bits(bits | sign);
}

/* Number i of bf16 numbers, any alignment. */
static inline float cch_bf16_at(const void *numbers, size_t i) {
    uint16_t h;
    memcpy(&h, (const char *)numbers + i * sizeof h, sizeof h);
    return cch_bf16_to_f32(h);
}

/* The nearest bf16, of two the even one; beyond the largest that one.  x is finite. */
static inline uint16_t cch_bf16_from_f32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += 0x7FFF + (bits >> 16 & 1);
    return (uint16_t)((bits & 0x7F800000u) == 0x7F800000u ? (bits >> 16 & 0x8000) | 0x7F7F : bits >> 16);
}

/* The nearest bf16, of two the even one; beyond the largest infinity, and NaN stays NaN. */
static inline uint16_t cch_bf16_round(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(x != x ? 0x7FC0 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* dst[i] = src[i]; src: n little-endian values, any alignment. */
static inline void cch_bf16_to_f32_n(const void *src, size_t n, float *dst) {
    for (size_t i = 0; i < n; i++) dst[i] = cch_bf16_at(src, i);
}

static inline void cch_f16_to_f32_n(const void *src, size_t n, float *dst) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)src + 2 * i, sizeof h);
        dst[i] = cch_f16_to_f32(h);
    }
}

#endif
