#include "base/cpu.h"

#include <sched.h>  /* sched_getaffinity */
#include <unistd.h> /* sysconf */

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>

#define TILES_BF16 (1u << 22) /* of EDX of leaf 7 */
#define TILES (1u << 24)
#define TILES_INT8 (1u << 25)
#define REQUEST_STATE 0x1023 /* arch_prctl's ARCH_REQ_XCOMP_PERM */
#define TILE_STATE 18        /* XFEATURE_XTILEDATA */

static bool has_tiles(void) {
    const unsigned all = TILES_BF16 | TILES | TILES_INT8;
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & all) != all) return false;
#if defined(__linux__)
    return syscall(SYS_arch_prctl, REQUEST_STATE, TILE_STATE) == 0;
#else
    return false;
#endif
}
#endif

bool cch_cpu_has(cch_cpu_feature feature) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    switch (feature) {
    case CCH_CPU_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CCH_CPU_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case CCH_CPU_AVX512BF16:
        return cch_cpu_has(CCH_CPU_AVX512) && __builtin_cpu_supports("avx512vnni") &&
               __builtin_cpu_supports("avx512bf16");
    case CCH_CPU_AMX: return cch_cpu_has(CCH_CPU_AVX512BF16) && has_tiles();
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
