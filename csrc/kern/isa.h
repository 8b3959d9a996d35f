/* isa - the tables behind cch_kernels_get, one per kern_<isa>.c.  Static, immutable. */
#ifndef CCH_KERN_ISA_H
#define CCH_KERN_ISA_H

#include "kern/kernels.h"

extern const cch_kernels cch_kernels_generic;
#if defined(__x86_64__)
extern const cch_kernels cch_kernels_avx2, cch_kernels_avx512, cch_kernels_avx512bf16,
    cch_kernels_amx;
#endif

#endif
