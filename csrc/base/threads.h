/* threads - a small pool of workers for one forward pass at a time.
 *
 * A job is one function called once with each index, one per thread; results must not depend on how the function
 * splits the work, so that any number of threads gives the same bits (thread law).  Workers spin briefly for the next
 * job (a forward pass issues hundreds, microseconds apart), then sleep until woken; on Linux their affinity keeps them
 * off the core where the caller runs.  The caller waits for nobody who has not begun: it runs that worker's index
 * itself, so a job may not wait for another index of itself.
 */
#ifndef CCH_BASE_THREADS_H
#define CCH_BASE_THREADS_H

#include "base/status.h"

#define CCH_MAX_THREADS 256

typedef struct cch_threads cch_threads;
typedef void (*cch_job)(void *arg, int thread, int n_threads);

/* n_threads 1..CCH_MAX_THREADS, the caller counted: n_threads - 1 workers are started.  E_ARGUMENT, E_MEMORY (no thread
 * could be had).  A forked process has no workers: there the pool can neither run nor be freed. */
cch_status cch_threads_new(int n_threads, cch_threads **out, cch_error *err);
/* Joins the workers. NULL is a no-op. */
void cch_threads_free(cch_threads *threads);
int cch_threads_count(const cch_threads *threads);

/* Runs job(arg, i, n) for i = 0..n-1, i = 0 at least in the calling thread; returns when all are done.  One caller at a
 * time. */
void cch_threads_run(cch_threads *threads, cch_job job, void *arg);

/* Part `index` of `count` items split over `parts`: [*first, *last). Contiguous, sizes differ by at most one. */
static inline void cch_split(size_t count, int parts, int index, size_t *first, size_t *last) {
    *first = count * (size_t)index / (size_t)parts;
    *last = count * ((size_t)index + 1) / (size_t)parts;
}

#endif
