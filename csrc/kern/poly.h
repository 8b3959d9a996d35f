/* poly - coefficients of our exp and erf: the same numbers and the same order of fused operations in every ISA.
 *
 * exp(x) = 2^n * e^r with n = round(x / ln 2), r = x - n ln 2 in two fused steps (ln 2 = HI + LO), and
 * e^r = 1 + r + r^2 q(r), so that exp(0) is exactly 1.  n comes from adding 1.5 * 2^23 (f64: 1.5 * 2^52), which leaves
 * the integer in the low bits.  The result is scaled in two exact halves, 2^(n >> 1) and 2^(n - (n >> 1)), so that only
 * the last multiplication rounds: overflow gives inf and the subnormal range is rounded once.
 * The argument is clamped where the result is 0 or inf anyway; max(LOW, x) and min(HIGH, x) return x when x is NaN.
 *
 * erf(z), |z| < ERF_SPLIT:  z + z * s(z^2).   Above: 1 - exp(l(|z|)) with the sign of z, l = log erfc, |z| clamped to
 * 4, where erf rounds to 1.
 *
 * Coefficients: Remez exchange in 60 digits, rounded; error before rounding of the operations: exp f32 3e-9 (relative),
 * exp f64 4e-18, erf 2e-8 (relative) and 8e-11 (absolute).  Lowest power first.
 */
#ifndef CCH_KERN_POLY_H
#define CCH_KERN_POLY_H

#define EXP_F32_LOW (-104.0f)
#define EXP_F32_HIGH 89.0f
#define EXP_F32_LOG2E 0x1.715476p+0f
#define EXP_F32_LN2_HI 0x1.62e430p-1f
#define EXP_F32_LN2_LO (-0x1.05c610p-29f)
#define EXP_F32_MAGIC 0x1.8p+23f
#define EXP_F32_N_Q 5
#define EXP_F32_Q { 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.1239e2p-7f, 0x1.6a2466p-10f }

#define EXP_F64_LOW (-746.0)
#define EXP_F64_HIGH 710.0
#define EXP_F64_LOG2E 0x1.71547652b82fep+0
#define EXP_F64_LN2_HI 0x1.62e42fefa39efp-1
#define EXP_F64_LN2_LO 0x1.abc9e3b39803fp-56
#define EXP_F64_MAGIC 0x1.8p+52
#define EXP_F64_N_Q 10
#define DOT_F64_LOW (-1e4) /* exp is 0 far above */
#define EXP_F64_Q                                                                                         \
    {                                                                                                     \
        0x1.000000000000ap-1, 0x1.55555555554fap-3, 0x1.5555555550885p-5, 0x1.1111111127bdep-7,           \
            0x1.6c16c18428117p-10, 0x1.a01a012a54325p-13, 0x1.a0199a11e212ap-16, 0x1.71df25669dfc3p-19,   \
            0x1.28ad6dc9b519ep-22, 0x1.ad7f3d4d66f3ap-26                                                  \
    }

#define ERF_SPLIT 0.92f
#define ERF_HIGH 4.0f
#define ERF_N_SMALL 6
#define ERF_SMALL                                                                                                 \
    {                                                                                                             \
        0x1.06eba6p-3f, -0x1.8126d0p-2f, 0x1.ce16c0p-4f, -0x1.b6539ep-6f, 0x1.45eb0ap-8f, -0x1.34a2e8p-11f        \
    }
#define ERF_N_LARGE 8
#define ERF_LARGE                                                                                                 \
    {                                                                                                             \
        0x1.575c3ap-13f, -0x1.212466p+0f, -0x1.445450p-1f, -0x1.bb0516p-4f, 0x1.9a43c4p-6f, -0x1.0f60d8p-8f,      \
            0x1.c1008cp-12f, -0x1.58ca30p-16f                                                                     \
    }

#define SQRT_HALF 0x1.6a09e6p-1f         /* gelu_erf: x / sqrt(2) */
#define GELU_TANH_A 0x1.988454p+0f       /* 2 sqrt(2 / pi) */
#define GELU_TANH_B 0x1.2444f2p-4f       /* 0.044715 * GELU_TANH_A */

#endif
