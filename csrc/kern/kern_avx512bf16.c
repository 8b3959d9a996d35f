/* kern_avx512bf16 - AVX-512 with VNNI and BF16: products of 16-bit and 8-bit weights in one instruction. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma")
#endif

#define NATIVE_DOTS
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kern/simd_avx512.h"

const cch_kernels cch_kernels_avx512bf16 = SIMD_TABLE("avx512bf16", "chain", matmul_bf16, matmul_int8);

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
