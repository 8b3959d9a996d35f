/* probes - what the machine can do at most, measured by the same means as the kernels: reading memory as fast as it
 * comes (the best of 1, 2, 4 or 8 streams per thread), and multiply-adds that never leave the registers.  AVX-512.
 * Included by one .c file of each benchmark.
 */
#ifndef CCH_BENCHMARKS_PROBES_H
#define CCH_BENCHMARKS_PROBES_H

#include <immintrin.h>
#include <math.h>
#include <time.h>

#include "kern/matmul.h"

#define PROBE_BYTES ((size_t)128 << 20)
#define PROBE_GRAIN ((size_t)64 << 10) /* threads and streams split the probe in such pieces */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cch_packed probe; /* in large pages, as weights are */
static _Atomic float probe_sink; /* keeps the compiler from dropping the sums */

/* Sums its share of the probe's memory in `streams` equal parts side by side. */
__attribute__((target("avx512f"))) static inline void read_streams(int thread, int n_threads, const size_t streams) {
    size_t first, last;
    cch_split(PROBE_BYTES / PROBE_GRAIN, n_threads, thread, &first, &last);
    const size_t part = (last - first) * PROBE_GRAIN / sizeof(float) / streams;
    const float *data = probe.panels + first * PROBE_GRAIN / sizeof(float);
    __m512 sum[16];
    for (int j = 0; j < 16; j++) sum[j] = _mm512_setzero_ps();
    for (size_t i = 0; i < part; i += 256 / streams) {
#pragma GCC unroll 16
        for (size_t j = 0; j < 16; j++)
            sum[j] = _mm512_add_ps(sum[j], _mm512_load_ps(data + j % streams * part + i + j / streams * 16));
    }
    for (int j = 1; j < 16; j++) sum[0] = _mm512_add_ps(sum[0], sum[j]);
    probe_sink = _mm512_reduce_add_ps(sum[0]);
}

#define READ_PROBE(streams)                                                                                         \
    __attribute__((target("avx512f"))) static void read_probe_##streams(void *arg, int thread, int n_threads) {     \
        (void)arg;                                                                                                  \
        read_streams(thread, n_threads, streams);                                                                   \
    }
READ_PROBE(1)
READ_PROBE(2)
READ_PROBE(4)
READ_PROBE(8)
static const cch_job read_probes[] = {read_probe_1, read_probe_2, read_probe_4, read_probe_8};
#define N_READ_PROBES (sizeof read_probes / sizeof *read_probes)

#define PROBE_STEPS 200000

/* Sixteen chains side by side of an instruction that adds products to the register it is given. */
#define CHAIN_PROBE(name, features, vector, start, step, sum)                                                       \
    __attribute__((target(features))) static void name(void *arg, int thread, int n_threads) {                      \
        vector acc[16];                                                                                             \
        const __m512i twos = _mm512_set1_epi8(2), ones = _mm512_set1_epi16(0x3f80 /* 1 as bf16 */);                   \
        const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);                                        \
        float total = 0.0f;                                                                                         \
        (void)arg, (void)thread, (void)n_threads, (void)twos, (void)ones, (void)a, (void)b;                        \
        for (int j = 0; j < 16; j++) acc[j] = start;                                                                \
        for (int i = 0; i < PROBE_STEPS; i++) {                                                                     \
            _Pragma("GCC unroll 16") for (int j = 0; j < 16; j++) acc[j] = step;                                    \
        }                                                                                                           \
        for (int j = 0; j < 16; j++) total += (float)sum(acc[j]);                                                   \
        probe_sink = total;                                                                                         \
    }
CHAIN_PROBE(fma_probe, "avx512f", __m512, _mm512_set1_ps((float)j), _mm512_fmadd_ps(acc[j], a, b),
            _mm512_reduce_add_ps)

static double time_job(cch_threads *threads, cch_job job) {
    const double start = now();
    cch_threads_run(threads, job, NULL);
    return now() - start;
}

static cch_status probe_init(cch_error *err) {
    return cch_packed_init(CCH_FORMAT_F32, CCH_LANES, PROBE_BYTES / sizeof(float) / CCH_LANES, false, &probe, err);
}

#endif
