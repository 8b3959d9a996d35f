/* kern_avx512 - AVX-512 F, BW, DQ, VL. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")
#endif

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kern/simd_avx512.h"

const cch_kernels cch_kernels_avx512 = SIMD_TABLE("avx512", "chain", matmul_bf16, matmul_int8);

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
