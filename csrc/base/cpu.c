#include "base/cpu.h"

#include <sched.h>  /* sched_getaffinity */
#include <unistd.h> /* sysconf */

bool cch_cpu_has(cch_cpu_feature feature) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    switch (feature) {
    case CCH_CPU_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CCH_CPU_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    }
#else
    (void)feature;
#endif
    return false;
}

int cch_cpu_cores(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}
