#include "check.h"

#include "base/half.h"

/* The value by the definition of the format: sign, exponent, mantissa bits. */
static double value_of(uint16_t h, int exponent_bits, int mantissa_bits) {
    int bias = (1 << (exponent_bits - 1)) - 1, most = (1 << exponent_bits) - 1;
    int exponent = h >> mantissa_bits & most, mantissa = h & ((1 << mantissa_bits) - 1);
    double sign = h & 0x8000 ? -1.0 : 1.0;
    if (exponent == most) return mantissa ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

static bool same(double got, double want) {
    return isnan(want) ? isnan(got) : got == want && signbit(got) == signbit(want);
}

TEST(every_f16_value_is_exact) {
    for (uint32_t h = 0; h < 65536; h++) CHECK(same((double)cch_f16_to_f32((uint16_t)h), value_of((uint16_t)h, 5, 10)));
}

TEST(every_bf16_value_is_exact) {
    for (uint32_t h = 0; h < 65536; h++) CHECK(same((double)cch_bf16_to_f32((uint16_t)h), value_of((uint16_t)h, 8, 7)));
}

TEST(bulk_conversion_reads_unaligned_sources) {
    unsigned char bytes[1 + 2 * 37];
    float bf16[37], f16[37];
    for (size_t i = 0; i < 37; i++) {
        uint16_t h = (uint16_t)(i * 1771 + 5);
        memcpy(bytes + 1 + 2 * i, &h, 2);
    }
    cch_bf16_to_f32_n(bytes + 1, 37, bf16);
    cch_f16_to_f32_n(bytes + 1, 37, f16);
    for (size_t i = 0; i < 37; i++) {
        uint16_t h = (uint16_t)(i * 1771 + 5);
        CHECK(same((double)bf16[i], (double)cch_bf16_to_f32(h)));
        CHECK(same((double)f16[i], (double)cch_f16_to_f32(h)));
    }
}

CHECK_MAIN()
