#include "kern/kernels.h"

#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* getenv */
#include <string.h>

#include "base/cpu.h"
#include "kern/isa.h"

#define N_TABLES 5

/* The tables this CPU can run, best first. */
static size_t usable_tables(const cch_kernels *out[N_TABLES]) {
    size_t n = 0;
#if defined(__x86_64__)
    if (cch_cpu_has(CCH_CPU_AMX)) out[n++] = &cch_kernels_amx;
    if (cch_cpu_has(CCH_CPU_AVX512BF16)) out[n++] = &cch_kernels_avx512bf16;
    if (cch_cpu_has(CCH_CPU_AVX512)) out[n++] = &cch_kernels_avx512;
    if (cch_cpu_has(CCH_CPU_AVX2)) out[n++] = &cch_kernels_avx2;
#endif
    out[n++] = &cch_kernels_generic;
    return n;
}

cch_status cch_kernels_get(const char *isa, const cch_kernels **out, cch_error *err) {
    const cch_kernels *tables[N_TABLES];
    size_t n = usable_tables(tables), used = 0;
    const char *origin = "isa";
    char names[64] = "";
    *out = NULL;
    if (isa == NULL && (isa = getenv("CACHER_ISA")) != NULL) origin = "CACHER_ISA";
    if (isa == NULL || *isa == '\0') {
        *out = tables[0];
        return CCH_OK;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(isa, tables[i]->name) == 0) {
            *out = tables[i];
            return CCH_OK;
        }
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", tables[i]->name);
    }
    CCH_FAIL(err, CCH_E_ARGUMENT, -1, "%s is \"%.40s\"; this CPU allows: %s", origin, isa, names);
}
