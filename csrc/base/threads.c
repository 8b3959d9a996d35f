#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/cpu.h"

#define SPIN_NS 50000      /* a worker looks for the next job this long before it sleeps */
#define WAIT_SPIN_NS 20000 /* the caller waits for the workers this long before it offers its core */
#define SPIN_STEP 64       /* looks between two readings of the clock */

/* A job is published by `epoch` going up by one: job, arg and pending are written before (release) and read after
 * (acquire).  A worker about to sleep announces itself in `sleepers` and then looks at `epoch` once more; the caller
 * raises `epoch` and then looks at `sleepers`.  Both are sequentially consistent, so at least one sees the other and no
 * wake-up is lost.
 *
 * Who runs share i of job e is who moves `claimed` of worker i from e - 1 to e.  The caller, when it is through with
 * its own share, takes those that nobody has begun: where other programs hold the cores it may be long until a worker
 * is scheduled, and there are hundreds of jobs in a forward pass.  A worker that comes late finds its share taken.
 * Every share is claimed before the job ends, so that job and arg stay while a claimed share runs.  The caller is done
 * when `pending`, the shares that are not, is 0. */
struct cch_threads {
    int n_threads, n_workers; /* n_workers: started so far, n_threads - 1 after success */
    bool spin;                /* false when there are more threads than cores: give the core away at once */
    cch_job job;
    void *arg;
    int caller_core; /* of the last job, -1 before the first */
    _Alignas(64) atomic_uint epoch;
    _Alignas(64) atomic_int pending;
    _Alignas(64) atomic_int sleepers;
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct worker *workers; /* owned [n_threads - 1] */
};

struct worker {
    cch_threads *threads; /* borrowed: the pool that owns it */
    pthread_t id;
    int index;                        /* 1..n_threads - 1 */
    _Alignas(64) atomic_uint claimed; /* the last job whose share `index` has been begun */
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Bars the workers from the caller's core, whenever the caller has come to another: the scheduler likes to wake a
 * thread where it last ran, and two threads that take turns on one core look to it like one that fits there, for
 * seconds on end.  The workers may use all other cores that the caller may use now. */
static void leave_core_to_caller(cch_threads *t) {
#if defined(__linux__)
    cpu_set_t cores;
    const int core = sched_getcpu();
    if (!t->spin || core == t->caller_core) return;
    t->caller_core = core;
    if (core < 0 || sched_getaffinity(0, sizeof cores, &cores) != 0) return; /* more cores than the set holds */
    CPU_CLR(core, &cores);
    if (CPU_COUNT(&cores) == 0) return;
    for (int i = 0; i < t->n_workers; i++) pthread_setaffinity_np(t->workers[i].id, sizeof cores, &cores);
#else
    (void)t;
#endif
}

/* True when a job newer than `seen` came within the spinning time. */
static bool spin_for_job(cch_threads *t, unsigned seen) {
    const int64_t deadline = cch_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPIN_STEP; i++) {
            if (atomic_load_explicit(&t->epoch, memory_order_acquire) != seen) return true;
            pause_cpu();
        }
    } while (cch_now_ns() < deadline);
    return false;
}

static void sleep_for_job(cch_threads *t, unsigned seen) {
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->sleepers, 1);
    while (atomic_load(&t->epoch) == seen) pthread_cond_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->sleepers, 1);
    pthread_mutex_unlock(&t->lock);
}

static void publish(cch_threads *t) {
    atomic_fetch_add(&t->epoch, 1);
    if (atomic_load(&t->sleepers) == 0) return;
    pthread_mutex_lock(&t->lock);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

/* Runs the worker's share of job `epoch` unless somebody has begun it. */
static void run_share(cch_threads *t, struct worker *w, unsigned epoch) {
    unsigned before = epoch - 1;
    if (!atomic_compare_exchange_strong(&w->claimed, &before, epoch)) return;
    t->job(t->arg, w->index, t->n_threads);
    atomic_fetch_sub_explicit(&t->pending, 1, memory_order_release);
}

static void *work(void *arg) {
    struct worker *w = arg;
    cch_threads *t = w->threads;
    for (unsigned seen = 0;;) {
        if (!t->spin || !spin_for_job(t, seen)) sleep_for_job(t, seen);
        seen = atomic_load_explicit(&t->epoch, memory_order_acquire); /* before `stop`, whose epoch has no job */
        if (atomic_load(&t->stop)) return NULL;
        run_share(t, w, seen);
    }
}

/* Workers take no signals: Ctrl-C and the like belong to the program's own threads. */
static bool start_workers(cch_threads *t) {
    sigset_t all, old;
    int failed = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 1; i < t->n_threads && failed == 0; i++) {
        struct worker *w = &t->workers[i - 1];
        *w = (struct worker){.threads = t, .index = i};
        failed = pthread_create(&w->id, NULL, work, w);
        if (failed == 0) t->n_workers++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failed == 0;
}

cch_status cch_threads_new(int n_threads, cch_threads **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_threads *t = NULL;
    *out = NULL;
    if (n_threads < 1 || n_threads > CCH_MAX_THREADS)
        CCH_FAIL(err, CCH_E_ARGUMENT, n_threads, "n_threads is %d, allowed: 1 to %d", n_threads, CCH_MAX_THREADS);
    CCH_ZNEW(t, 1, err);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    t->n_threads = n_threads;
    t->caller_core = -1;
    t->spin = n_threads <= cch_cpu_cores();
    CCH_NEW(t->workers, (size_t)n_threads - 1, err);
    if (!start_workers(t))
        CCH_THROW(err, CCH_E_MEMORY, t->n_workers, "only %d of %d worker threads could be started", t->n_workers,
                  n_threads - 1);
    *out = t;
    t = NULL;
done:
    cch_threads_free(t);
    return status;
}

void cch_threads_free(cch_threads *threads) {
    if (threads == NULL) return;
    atomic_store(&threads->stop, true);
    publish(threads);
    for (int i = 0; i < threads->n_workers; i++) pthread_join(threads->workers[i].id, NULL);
    pthread_cond_destroy(&threads->wake);
    pthread_mutex_destroy(&threads->lock);
    cch_free(threads->workers);
    cch_free(threads);
}

int cch_threads_count(const cch_threads *threads) { return threads->n_threads; }

static bool workers_done(cch_threads *t) { return atomic_load_explicit(&t->pending, memory_order_acquire) == 0; }

static void wait_for_workers(cch_threads *t) {
    const int64_t deadline = cch_now_ns() + WAIT_SPIN_NS;
    while (t->spin && cch_now_ns() < deadline) {
        for (int i = 0; i < SPIN_STEP; i++) {
            if (workers_done(t)) return;
            pause_cpu();
        }
    }
    while (!workers_done(t)) sched_yield();
}

void cch_threads_run(cch_threads *threads, cch_job job, void *arg) {
    if (threads->n_workers == 0) {
        job(arg, 0, 1);
        return;
    }
    threads->job = job;
    threads->arg = arg;
    leave_core_to_caller(threads);
    atomic_store_explicit(&threads->pending, threads->n_workers, memory_order_relaxed);
    publish(threads);
    job(arg, 0, threads->n_threads);
    const unsigned epoch = atomic_load_explicit(&threads->epoch, memory_order_relaxed);
    for (int i = 0; i < threads->n_workers; i++) run_share(threads, &threads->workers[i], epoch);
    wait_for_workers(threads);
}
