#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h> /* usleep */

#include "base/threads.h"

#define MOST 16

typedef struct count {
    int runs[MOST]; /* written by thread i only: a race with the caller's reading is what TSan would see */
    int n_threads;
    atomic_int total;
} count;

static void count_job(void *arg, int thread, int n_threads) {
    count *c = arg;
    c->runs[thread]++;
    if (thread == 0) c->n_threads = n_threads;
    atomic_fetch_add(&c->total, 1);
}

static void count_runs(int n_threads, int runs, unsigned pause_us) {
    cch_error err;
    cch_threads *threads = NULL;
    count c = {0};
    CHECK_OK(cch_threads_new(n_threads, &threads, &err), err);
    CHECK_EQ(cch_threads_count(threads), n_threads);
    for (int i = 0; i < runs; i++) {
        cch_threads_run(threads, count_job, &c);
        CHECK_EQ(atomic_load(&c.total), (i + 1) * n_threads);
        if (pause_us > 0) usleep(pause_us);
    }
    for (int i = 0; i < MOST; i++) CHECK_EQ(c.runs[i], i < n_threads ? runs : 0);
    CHECK_EQ(c.n_threads, runs > 0 ? n_threads : 0);
    cch_threads_free(threads);
}

TEST(every_thread_runs_every_job_once) {
    for (int n = 1; n <= 4; n++) count_runs(n, 2000, 0);
}
TEST(more_threads_than_cores_work) { count_runs(MOST, 100, 0); }
TEST(sleeping_workers_wake) { count_runs(3, 20, 2000); }
TEST(workers_about_to_sleep_wake) { /* the pause is near the spinning time */
    for (unsigned us = 1; us < 120; us += 7) count_runs(2, 20, us);
}

typedef struct waiters {
    pthread_t caller;
    bool by_caller[MOST]; /* who ran share i */
} waiters;

static void note_thread(void *arg, int thread, int n_threads) {
    waiters *w = arg;
    (void)n_threads;
    w->by_caller[thread] = pthread_equal(w->caller, pthread_self());
}

/* In no single run must it: workers may all be quick. */
TEST(the_caller_runs_what_workers_have_not_begun) {
    cch_error err;
    cch_threads *threads = NULL;
    waiters w = {.caller = pthread_self()};
    bool helped = false;
    CHECK_OK(cch_threads_new(MOST, &threads, &err), err);
    for (int run = 0; run < 1000 && !helped; run++) {
        cch_threads_run(threads, note_thread, &w);
        CHECK(w.by_caller[0]);
        for (int i = 1; i < MOST; i++) helped |= w.by_caller[i];
        usleep(100);
    }
    CHECK(helped);
    cch_threads_free(threads);
}

TEST(a_pool_without_a_job_can_be_freed) {
    for (int n = 1; n < 8; n++) count_runs(n, 0, 0);
    cch_threads_free(NULL);
}

TEST(thread_counts_outside_the_range_are_refused) {
    cch_error err;
    cch_threads *threads = (void *)&err;
    CHECK_STATUS(cch_threads_new(0, &threads, &err), CCH_E_ARGUMENT, err, "n_threads is 0");
    CHECK(threads == NULL);
    CHECK_STATUS(cch_threads_new(257, &threads, &err), CCH_E_ARGUMENT, err, "n_threads is 257, allowed: 1 to 256");
    CHECK_STATUS(cch_threads_new(-5, &threads, NULL), CCH_E_ARGUMENT, err, NULL);
}

static cch_status new_and_free(void) {
    cch_threads *threads = NULL;
    cch_status status = cch_threads_new(3, &threads, NULL);
    cch_threads_free(threads);
    return status;
}
TEST(allocation_failures_leak_nothing) { CHECK_OOM(new_and_free()); }

TEST(split_covers_all_items_in_order_and_evenly) {
    for (size_t count_of = 0; count_of < 40; count_of++) {
        for (int parts = 1; parts < 9; parts++) {
            size_t at = 0;
            for (int i = 0; i < parts; i++) {
                size_t first, last;
                cch_split(count_of, parts, i, &first, &last);
                CHECK_EQ(first, at);
                CHECK(last - first == count_of / (size_t)parts || last - first == count_of / (size_t)parts + 1);
                at = last;
            }
            CHECK_EQ(at, count_of);
        }
    }
}

CHECK_MAIN()
