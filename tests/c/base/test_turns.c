/* Turns are served in the order in which they were asked for, and nobody waits for himself. */
#include "check.h"

#include <sched.h>
#include <stdatomic.h>

#include "base/turns.h"

enum { N = 8 };

typedef struct line {
    cch_turns turns;
    atomic_int n_served;
    int served[N];
} line;

typedef struct customer {
    line *line;
    int number;
} customer;

static void *be_served(void *arg) {
    customer *c = arg;
    CHECK(cch_turns_take(&c->line->turns));
    c->line->served[atomic_fetch_add(&c->line->n_served, 1)] = c->number;
    cch_turns_give(&c->line->turns);
    return NULL;
}

static uint64_t numbers_drawn(line *l) {
    pthread_mutex_lock(&l->turns.lock);
    uint64_t drawn = l->turns.drawn;
    pthread_mutex_unlock(&l->turns.lock);
    return drawn;
}

TEST(who_comes_first_is_served_first) {
    line l = {.n_served = 0};
    pthread_t threads[N];
    customer customers[N];
    cch_error err;
    CHECK_OK(cch_turns_init(&l.turns, &err), err);
    CHECK(cch_turns_take(&l.turns));
    for (int i = 0; i < N; i++) {
        customers[i] = (customer){&l, i};
        CHECK_EQ(pthread_create(&threads[i], NULL, be_served, &customers[i]), 0);
        while (numbers_drawn(&l) < (uint64_t)i + 2) sched_yield();
    }
    CHECK_EQ(atomic_load(&l.n_served), 0);
    cch_turns_give(&l.turns);
    CHECK(cch_turns_take(&l.turns)); /* comes last, however quick it is */
    CHECK_EQ(atomic_load(&l.n_served), N);
    cch_turns_give(&l.turns);
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(l.served[i], i);
    }
    cch_turns_deinit(&l.turns);
}

TEST(a_thread_that_has_the_turn_is_told_so) {
    cch_turns turns;
    cch_error err;
    CHECK_OK(cch_turns_init(&turns, &err), err);
    for (int i = 0; i < 2; i++) {
        CHECK(cch_turns_take(&turns));
        CHECK(!cch_turns_take(&turns));
        cch_turns_give(&turns);
    }
    cch_turns_deinit(&turns);
}

typedef struct tally {
    cch_turns turns;
    int sum; /* unguarded but for the turns */
} tally;

static void *count_up(void *arg) {
    tally *t = arg;
    for (int i = 0; i < 2000; i++) {
        CHECK(cch_turns_take(&t->turns));
        t->sum++;
        cch_turns_give(&t->turns);
    }
    return NULL;
}

TEST(one_thread_at_a_time_has_the_turn) {
    tally t = {.sum = 0};
    pthread_t threads[4];
    cch_error err;
    CHECK_OK(cch_turns_init(&t.turns, &err), err);
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_create(&threads[i], NULL, count_up, &t), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK_EQ(t.sum, 8000);
    cch_turns_deinit(&t.turns);
}

CHECK_MAIN()
