/* bench_limits - the machine's limits on demand: for each line on stdin ("1", "2", ...: threads) one line on stdout, a
 * JSON object: "bandwidth" is that of reading in GB/s; "f32", "bf16", "bf16 tiles", "int8" and "int8 tiles" are 1e9
 * operations per second, multiplications and additions, where the CPU has such instructions.  Each is the best of a few
 * tries; all take 0.4 s or so.
 * The benchmarks ask it between the cells, so that a share of a limit compares figures of the same minute.
 */
#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h> /* SYS_arch_prctl */
#include <unistd.h>      /* syscall */

#include "probes.h"

#define TRIES 5

CHAIN_PROBE(bf16_probe, "avx512f,avx512bf16", __m512, _mm512_set1_ps((float)j),
            _mm512_dpbf16_ps(acc[j], (__m512bh)ones, (__m512bh)ones), _mm512_reduce_add_ps)
CHAIN_PROBE(int8_probe, "avx512f,avx512vnni", __m512i, _mm512_set1_epi32(j),
            _mm512_dpbusd_epi32(acc[j], twos, twos), _mm512_reduce_add_epi32)

/* Eight tiles of 16 rows of 64 bytes.  (Static: gcc 12 does not see that loading it reads more than 8 bytes.) */
static const struct {
    unsigned char palette, start_row, zeros[14];
    unsigned short row_bytes[16];
    unsigned char rows[16];
} tiles = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

/* Six tiles of sums side by side; zeros, which take as long as anything. */
#define TILE_STEPS 20000
#define TILE_PROBE(name, features, step)                                                                            \
    __attribute__((target(features))) static void name(void *arg, int thread, int n_threads) {                      \
        (void)arg, (void)thread, (void)n_threads;                                                                   \
        _tile_loadconfig(&tiles); /* zeroes them */                                                                 \
        for (int i = 0; i < TILE_STEPS; i++) {                                                                      \
            step(0, 6, 7); step(1, 6, 7); step(2, 6, 7);                                                            \
            step(3, 6, 7); step(4, 6, 7); step(5, 6, 7);                                                            \
        }                                                                                                           \
        _tile_release();                                                                                            \
    }
TILE_PROBE(bf16_tile_probe, "amx-tile,amx-bf16", _tile_dpbf16ps)
TILE_PROBE(int8_tile_probe, "amx-tile,amx-int8", _tile_dpbssd)

/* A probe and what one thread multiplies and adds in it: two operations for each product. */
typedef struct peak_probe {
    const char *name;
    cch_job job;
    double operations;
} peak_probe;

static const peak_probe peak_probes[] = {
    {"f32", fma_probe, PROBE_STEPS * 16.0 * 2 * 16},
    {"bf16", bf16_probe, PROBE_STEPS * 16.0 * 2 * 32},
    {"bf16 tiles", bf16_tile_probe, TILE_STEPS * 6.0 * 2 * 16 * 16 * 32},
    {"int8", int8_probe, PROBE_STEPS * 16.0 * 2 * 64},
    {"int8 tiles", int8_tile_probe, TILE_STEPS * 6.0 * 2 * 16 * 16 * 64},
};
#define N_PEAK_PROBES (sizeof peak_probes / sizeof *peak_probes)

/* Whether the CPU has what a probe needs, and the system lets this process use it. */
static bool probe_can(const peak_probe *peak) {
    unsigned a, b = 0, c = 0, d = 0;
    if (peak->job == fma_probe) return true;
    if (peak->job == bf16_probe) return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (peak->job == int8_probe) return c >> 11 & 1;
    const bool has_tiles = (d >> 24 & 1) && (d >> (peak->job == bf16_tile_probe ? 22 : 25) & 1);
    return has_tiles && syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
}

static double fill_and_time(cch_threads *threads, const cch_job *jobs, size_t n_jobs) {
    double fastest = INFINITY;
    for (int turn = 0; turn < TRIES; turn++)
        for (size_t i = 0; i < n_jobs; i++) fastest = fmin(fastest, time_job(threads, jobs[i]));
    return fastest;
}

int main(void) {
    char line[32];
    cch_error err;
    bool can[N_PEAK_PROBES];
    if (probe_init(&err) != CCH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < N_PEAK_PROBES; i++) can[i] = probe_can(&peak_probes[i]);
    for (size_t i = 0; i < PROBE_BYTES / sizeof(float); i++) probe.panels[i] = 1.0f;
    while (fgets(line, sizeof line, stdin) != NULL) {
        cch_threads *threads = NULL;
        const int n = atoi(line);
        if (cch_threads_new(n, &threads, &err) != CCH_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        printf("{\"bandwidth\": %.2f", 1e-9 * (double)PROBE_BYTES / fill_and_time(threads, read_probes, N_READ_PROBES));
        for (size_t i = 0; i < N_PEAK_PROBES; i++)
            if (can[i]) {
                const double fastest = fill_and_time(threads, &peak_probes[i].job, 1);
                printf(", \"%s\": %.1f", peak_probes[i].name, 1e-9 * n * peak_probes[i].operations / fastest);
            }
        printf("}\n");
        fflush(stdout);
        cch_threads_free(threads);
    }
    cch_packed_deinit(&probe);
    return 0;
}
