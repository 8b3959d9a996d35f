/* bench_limits - the machine's limits on demand: for each line on stdin ("1", "2", ...: threads) one line on stdout
 * with the read bandwidth in GB/s and the f32 multiply-add rate in GFLOP/s, each the best of a few tries within 0.2 s
 * or so.
 * make bench asks it between the cells, so that a share of a limit compares figures of the same minute.
 */
#include <stdio.h>
#include <stdlib.h>

#include "probes.h"

#define TRIES 5

static double fill_and_time(cch_threads *threads, const cch_job *jobs, size_t n_jobs) {
    double fastest = INFINITY;
    for (int turn = 0; turn < TRIES; turn++)
        for (size_t i = 0; i < n_jobs; i++) fastest = fmin(fastest, time_job(threads, jobs[i]));
    return fastest;
}

int main(void) {
    const cch_job fma_probes[] = {fma_probe};
    char line[32];
    cch_error err;
    if (probe_init(&err) != CCH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < PROBE_BYTES / sizeof(float); i++) probe.panels[i] = 1.0f;
    while (fgets(line, sizeof line, stdin) != NULL) {
        cch_threads *threads = NULL;
        const int n = atoi(line);
        if (cch_threads_new(n, &threads, &err) != CCH_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        const double read = fill_and_time(threads, read_probes, N_READ_PROBES);
        const double fma = fill_and_time(threads, fma_probes, 1);
        printf("%.2f %.1f\n", 1e-9 * (double)PROBE_BYTES / read, 1e-9 * n * FMA_STEPS * 16.0 * 32.0 / fma);
        fflush(stdout);
        cch_threads_free(threads);
    }
    cch_packed_deinit(&probe);
    return 0;
}
