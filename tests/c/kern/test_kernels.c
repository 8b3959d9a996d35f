#include "check.h"

#include "kern/kernels.h"

TEST(the_default_is_the_first_that_works_and_generic_always_does) {
    const cch_kernels *best = NULL, *generic = NULL;
    cch_error err;
    unsetenv("CACHER_ISA");
    CHECK_OK(cch_kernels_get(NULL, &best, &err), err);
    CHECK_OK(cch_kernels_get("generic", &generic, &err), err);
    CHECK(strcmp(generic->name, "generic") == 0);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) CHECK(best != generic);
#endif
}

TEST(the_environment_chooses_and_an_argument_wins) {
    const cch_kernels *kern = NULL;
    cch_error err;
    setenv("CACHER_ISA", "generic", 1);
    CHECK_OK(cch_kernels_get(NULL, &kern, &err), err);
    CHECK(strcmp(kern->name, "generic") == 0);
    setenv("CACHER_ISA", "mmx", 1);
    CHECK_STATUS(cch_kernels_get(NULL, &kern, &err), CCH_E_ARGUMENT, err, "CACHER_ISA is \"mmx\"; this CPU allows: ");
    CHECK(kern == NULL);
    CHECK_OK(cch_kernels_get("generic", &kern, &err), err);
    setenv("CACHER_ISA", "", 1); /* as if unset */
    CHECK_OK(cch_kernels_get(NULL, &kern, &err), err);
    unsetenv("CACHER_ISA");
}

TEST(an_unknown_name_is_refused_with_those_that_work) {
    const cch_kernels *kern = NULL;
    cch_error err;
    CHECK_STATUS(cch_kernels_get("avx1024", &kern, &err), CCH_E_ARGUMENT, err, "isa is \"avx1024\"");
    CHECK(strstr(err.message, "generic") != NULL);
    CHECK_STATUS(cch_kernels_get("AVX2", &kern, NULL), CCH_E_ARGUMENT, err, NULL);
}

/* Callers never check an op for NULL. */
TEST(every_table_is_complete) {
    const char *names[] = {"generic", "avx2", "avx512", "avx512bf16", "amx"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const cch_kernels *kern = NULL;
        if (cch_kernels_get(names[i], &kern, NULL) != CCH_OK) continue;
        const void *ops[sizeof *kern / sizeof(void *)];
        memcpy(ops, kern, sizeof *kern);
        for (size_t op = 0; op < sizeof ops / sizeof *ops; op++) CHECK(ops[op] != NULL);
    }
}

CHECK_MAIN()
