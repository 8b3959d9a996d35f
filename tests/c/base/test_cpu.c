#include "check.h"

#include <sched.h>

#include "base/cpu.h"

TEST(avx512_implies_avx2) { CHECK(!cch_cpu_has(CCH_CPU_AVX512) || cch_cpu_has(CCH_CPU_AVX2)); }

TEST(cores_follow_the_affinity_mask) {
    cpu_set_t all, one;
    CHECK_EQ(sched_getaffinity(0, sizeof all, &all), 0);
    CHECK_EQ(cch_cpu_cores(), CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &all)) continue;
        CPU_SET(i, &one);
        break;
    }
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_EQ(cch_cpu_cores(), 1);
    CHECK_EQ(sched_setaffinity(0, sizeof all, &all), 0);
}

CHECK_MAIN()
