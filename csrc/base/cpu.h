/* cpu - what this machine has: instruction sets the kernels know, and cores this process may run on.
 * Threads: pure. */
#ifndef CCH_BASE_CPU_H
#define CCH_BASE_CPU_H

#include <stdbool.h>

typedef enum cch_cpu_feature {
    CCH_CPU_AVX2,       /* AVX2 and FMA */
    CCH_CPU_AVX512,     /* AVX-512 F, BW, DQ and VL */
    CCH_CPU_AVX512BF16, /* AVX-512 as above, BF16 and VNNI */
    CCH_CPU_AMX,        /* all of these, and tiles for bf16 and 8-bit numbers */
} cch_cpu_feature;

/* True when the CPU has it and the operating system saves its registers; asks it to, for this process, about tiles. */
bool cch_cpu_has(cch_cpu_feature feature);

/* Cores the calling thread may run on (its affinity mask), at least 1. */
int cch_cpu_cores(void);

#endif
