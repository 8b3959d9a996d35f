/* Evaluation: whatever the history of states, chunks, budget and threads, the bits of a straight-line run. */
#include "small.h"

#include <sched.h>

#include "gen/logits.h"

static uint32_t seed_;
static uint32_t draw(uint32_t n) {
    seed_ = seed_ * 1664525u + 1013904223u;
    return (seed_ >> 8) % n;
}

static void check_scores(cch_model *m, cch_state *state, int32_t k) {
    static float want[SMALL_CTX * SMALL_VOCAB];
    float logprob[SMALL_CTX], top[SMALL_CTX * 8], values[8];
    int32_t ids[SMALL_CTX], top_ids[SMALL_CTX * 8], want_ids[8], n = cch_state_len(state), k8 = k > 8 ? 8 : k;
    cch_logits_summary summary;
    cch_error err;
    CHECK_OK(cch_state_tokens(state, 0, n, ids, &err), err);
    CHECK_OK(cch_state_scores(state, 0, n, logprob, k8, top_ids, top, &err), err);
    small_reference(m, ids, n, want);
    for (int32_t i = 0; i < n; i++) {
        const float *row = want + i * SMALL_VOCAB;
        cch_top_logits(row, SMALL_VOCAB, k8, want_ids, values, NULL);
        CHECK(memcmp(want_ids, top_ids + i * k8, (size_t)k8 * sizeof *want_ids) == 0);
        CHECK(memcmp(values, top + i * k8, (size_t)k8 * sizeof *values) == 0);
        if (i == 0) continue;
        CHECK_OK(cch_logits_summarize(m->kern, row - SMALL_VOCAB, SMALL_VOCAB, NULL, &summary, &err), err);
        CHECK(logprob[i] == (float)cch_logits_logprob(row - SMALL_VOCAB, &summary, ids[i]));
    }
    CHECK(!isnan(logprob[0]) && logprob[0] < 0.0f);
}

/* ---- any history gives the same bits ---- */

static void change(cch_state **states, size_t n) {
    cch_error err;
    size_t i = draw((uint32_t)n), k = draw((uint32_t)n);
    int32_t len = cch_state_len(states[i]), ids[70], m = (int32_t)draw(draw(3) == 0 ? 70 : 4);
    switch (draw(5)) {
    case 0:
    case 1:
        for (int32_t j = 0; j < m; j++) ids[j] = (int32_t)draw(2) * 30;
        if (len + m <= 200) CHECK_OK(cch_state_append(states[i], ids, (size_t)m, &err), err);
        break;
    case 2:
        CHECK_OK(cch_state_truncate(states[i], len > 3 ? len - (int32_t)draw(draw(2) ? 3 : (uint32_t)len) : len, &err),
                 err);
        break;
    case 3:
        if (i == k) break;
        cch_state_free(states[k]);
        CHECK_OK(cch_state_fork(states[i], &states[k], &err), err);
        break;
    case 4:
        if (draw(4) == 0) CHECK_OK(cch_state_evict(states[i], &err), err);
    }
}

static void run_program(cch_model *m, int n_ops) {
    enum { N = 4 };
    cch_state *states[N], *some[N];
    static float logits[N * SMALL_VOCAB];
    cch_error err;
    for (int i = 0; i < N; i++) states[i] = small_state(m, small_ids(), (int32_t)draw(60) + 1);
    for (int op = 0; op < n_ops && check_failures == 0; op++) {
        size_t n = 1 + draw(N), first = draw(N);
        cch_eval_options o = {.chunk_tokens = draw(2) ? 0 : (int32_t)draw(40) + 1,
                              .store_top_k = draw(2) ? 0 : (int32_t)draw(9)};
        for (int i = (int)draw(4); i > 0; i--) change(states, N);
        for (size_t i = 0; i < n; i++) some[i] = states[(first + i) % N];
        cch_status status = cch_eval(m, some, n, &o, draw(5) ? logits : NULL, &err);
        if (status == CCH_E_BUDGET) { /* four different long states are too many */
            n = 1;
            CHECK_OK(cch_eval(m, some, 1, &o, logits, &err), err);
        } else {
            CHECK_EQ(status, CCH_OK);
            CHECK_OK(cch_eval(m, some, n, &o, logits, &err), err);
        }
        for (size_t i = 0; i < n; i++) {
            if (cch_state_len(some[i]) > 0) CHECK(small_same(m, some[i], logits + i * SMALL_VOCAB));
            if (cch_state_len(some[i]) > 0 && o.store_top_k > 0) check_scores(m, some[i], o.store_top_k);
            CHECK_OK(cch_state_check(some[i], &err), err);
        }
        CHECK_OK(cch_pool_check(m->pool, &err), err);
    }
    for (int i = 0; i < N; i++) cch_state_free(states[i]);
    CHECK_OK(cch_pool_check(m->pool, &err), err);
}

TEST(every_history_gives_the_bits_of_a_straight_line_run) {
    for (uint32_t seed = 1; seed <= 12 && check_failures == 0; seed++) {
        cch_model m;
        seed_ = seed;
        small_open(&m, seed % 2 ? 1 : 2, seed % 3 ? 500 : 14, seed % 4 ? 5 : -1);
        run_program(&m, 40);
        small_close(&m);
        if (check_failures > 0) fprintf(stderr, "seed %u\n", seed);
    }
}

/* ---- work is shared ---- */

TEST(states_that_share_pending_pages_compute_them_once) {
    enum { N = 8 };
    static float logits[N * SMALL_VOCAB];
    cch_state *states[N];
    cch_error err;
    cch_model m;
    small_open(&m, 1, 500, -1);
    states[0] = small_state(&m, small_ids(), 75);
    for (int i = 1; i < N; i++) CHECK_OK(cch_state_fork(states[0], &states[i], &err), err);
    CHECK_OK(cch_eval(&m, states, N, NULL, logits, &err), err);
    CHECK_EQ(m.tokens_computed, 75);
    CHECK_EQ(m.forwards, 1);
    for (int i = 0; i < N; i++) CHECK(small_same(&m, states[i], logits + i * SMALL_VOCAB));
    CHECK_OK(cch_eval(&m, states, N, NULL, logits, &err), err); /* the last row again, once for all */
    CHECK_EQ(m.tokens_computed, 76);
    for (int i = 0; i < N; i++) CHECK(small_same(&m, states[i], logits + i * SMALL_VOCAB));
    for (int i = 0; i < N; i++) cch_state_free(states[i]);
    small_close(&m);
}

/* The rows that one state asks for lie apart in the output; a row between them belongs to another. */
TEST(a_row_is_shared_only_where_it_was_computed) {
    enum { N = 4 };
    static float logits[N * SMALL_VOCAB];
    static const int32_t lengths[N] = {1, 5, 3, 2}; /* all but the second on one page */
    cch_state *states[N];
    cch_error err;
    cch_model m;
    small_open(&m, 1, 500, -1);
    cch_state *base = small_state(&m, small_ids(), 16);
    for (int i = 0; i < N; i++) {
        if (i == 1) states[i] = small_state(&m, small_ids() + 1, 5);
        else CHECK_OK(cch_state_fork(base, &states[i], &err), err);
        CHECK_OK(cch_state_truncate(states[i], lengths[i], &err), err);
    }
    CHECK_OK(cch_eval(&m, &base, 1, NULL, NULL, &err), err);
    CHECK_OK(cch_eval(&m, &states[1], 1, NULL, NULL, &err), err);
    CHECK_OK(cch_eval(&m, states, N, NULL, logits, &err), err);
    for (int i = 0; i < N; i++) CHECK(small_same(&m, states[i], logits + i * SMALL_VOCAB));
    for (int i = 0; i < N; i++) cch_state_free(states[i]);
    cch_state_free(base);
    small_close(&m);
}

TEST(scores_that_are_known_run_no_model) {
    cch_error err;
    cch_model m;
    cch_eval_options o = {.store_top_k = 5};
    small_open(&m, 1, 500, 3);
    cch_state *state = small_state(&m, small_ids(), 40), *fork = NULL;
    CHECK_OK(cch_eval(&m, &state, 1, NULL, NULL, &err), err);
    CHECK_OK(cch_eval(&m, &state, 1, &o, NULL, &err), err);
    int64_t computed = m.tokens_computed;
    CHECK_OK(cch_eval(&m, &state, 1, &o, NULL, &err), err);
    CHECK_OK(cch_state_fork(state, &fork, &err), err);
    CHECK_OK(cch_eval(&m, &fork, 1, &o, NULL, &err), err);
    CHECK_EQ(m.tokens_computed, computed);
    CHECK_OK(cch_state_append(fork, small_ids() + 50, 1, &err), err);
    CHECK_OK(cch_eval(&m, &fork, 1, &o, NULL, &err), err);
    CHECK(m.tokens_computed <= computed + 2);
    check_scores(&m, fork, 5);
    check_scores(&m, state, 5);
    cch_state_free(fork);
    CHECK_OK(cch_state_fork(state, &fork, &err), err);
    o.store_top_k = 6; /* more than the fork has */
    CHECK_OK(cch_eval(&m, &fork, 1, &o, NULL, &err), err);
    check_scores(&m, fork, 6);
    cch_state_free(fork);
    cch_state_free(state);
    small_close(&m);
}

TEST(restored_scores_are_kept_and_continued) {
    float logprob[30], top[90];
    double lse[30], again[30];
    int32_t ids[90];
    cch_error err;
    cch_model m;
    cch_eval_options o = {.store_top_k = 3};
    small_open(&m, 1, 500, 3);
    cch_state *state = small_state(&m, small_ids(), 30);
    CHECK_OK(cch_eval(&m, &state, 1, &o, NULL, &err), err);
    CHECK_OK(cch_state_scores(state, 0, 30, logprob, 3, ids, top, &err), err);
    CHECK_OK(cch_state_lse(state, 0, 30, lse, &err), err);
    cch_state_free(state);
    cch_model_set_budget(&m, m.pool->budget_bytes, true);
    state = small_state(&m, small_ids(), 30);
    CHECK_OK(cch_state_restore_scores(state, 0, 30, logprob, 3, ids, top, &err), err);
    CHECK_OK(cch_state_restore_lse(state, 0, 30, lse, &err), err);
    CHECK_OK(cch_state_lse(state, 0, 30, again, &err), err);
    CHECK(memcmp(lse, again, sizeof lse) == 0);
    check_scores(&m, state, 3);
    CHECK_OK(cch_state_append(state, small_ids() + 30, 3, &err), err);
    CHECK_OK(cch_eval(&m, &state, 1, &o, NULL, &err), err);
    check_scores(&m, state, 3);
    cch_state_free(state);
    small_close(&m);
}

TEST(an_empty_state_predicts_what_follows_bos) {
    static float logits[2 * SMALL_VOCAB], want[SMALL_VOCAB], logprob[1];
    cch_error err;
    cch_model m;
    cch_eval_options o = {.store_top_k = 1};
    const int32_t bos = 7;
    small_open(&m, 1, 500, bos);
    cch_state *states[2] = {small_state(&m, NULL, 0), small_state(&m, small_ids(), 3)};
    CHECK_OK(cch_eval(&m, states, 2, &o, logits, &err), err);
    small_reference(&m, &bos, 1, want);
    CHECK(memcmp(logits, want, sizeof want) == 0);
    CHECK(small_same(&m, states[1], logits + SMALL_VOCAB));
    cch_logits_summary s;
    CHECK_OK(cch_logits_summarize(m.kern, want, SMALL_VOCAB, NULL, &s, &err), err);
    CHECK_OK(cch_state_scores(states[1], 0, 1, logprob, 0, NULL, NULL, &err), err);
    CHECK(logprob[0] == (float)cch_logits_logprob(want, &s, small_ids()[0]));
    CHECK_EQ(cch_state_len(states[0]), 0);
    cch_state_free(states[0]);
    cch_state_free(states[1]);
    small_close(&m);
    small_open(&m, 1, 500, -1);
    states[0] = small_state(&m, NULL, 0);
    CHECK_OK(cch_eval(&m, states, 1, NULL, logits, &err), err);
    for (int i = 0; i < SMALL_VOCAB; i++) CHECK(logits[i] == 0.0f);
    cch_state_free(states[0]);
    small_close(&m);
}

/* ---- limits and failures ---- */

TEST(a_budget_too_small_is_told_with_both_numbers) {
    char need[64], have[64];
    cch_error err;
    cch_model m;
    small_open(&m, 1, 3, -1);
    cch_state *state = small_state(&m, small_ids(), 60), *fork = NULL;
    snprintf(need, sizeof need, "need %zu bytes", 4 * m.pool->page_bytes);
    snprintf(have, sizeof have, "the budget is %zu", 3 * m.pool->page_bytes);
    CHECK_STATUS(cch_eval(&m, &state, 1, NULL, NULL, &err), CCH_E_BUDGET, err, need);
    CHECK(strstr(err.message, have) != NULL);
    CHECK_EQ(cch_state_len(state), 60);
    CHECK_OK(cch_state_truncate(state, 48, &err), err);
    CHECK_OK(cch_eval(&m, &state, 1, NULL, NULL, &err), err);
    CHECK_OK(cch_state_fork(state, &fork, &err), err);
    cch_state *both[2] = {state, fork};
    CHECK_OK(cch_eval(&m, both, 2, NULL, NULL, &err), err); /* the same three pages */
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    cch_state_free(state);
    cch_state_free(fork);
    small_close(&m);
}

TEST(a_lowered_budget_costs_no_page_that_the_evaluation_needs) {
    static float logits[SMALL_VOCAB];
    cch_error err;
    cch_model m;
    small_open(&m, 1, 20, -1);
    cch_state *oldest = small_state(&m, small_ids(), 64), *cached = small_state(&m, small_ids() + 1, 16);
    cch_state *other = small_state(&m, small_ids() + 2, 64);
    CHECK_OK(cch_eval(&m, &oldest, 1, NULL, NULL, &err), err);
    CHECK_OK(cch_eval(&m, &cached, 1, NULL, NULL, &err), err);
    CHECK_OK(cch_eval(&m, &other, 1, NULL, NULL, &err), err);
    cch_state_free(cached);
    CHECK_OK(cch_state_append(oldest, small_ids() + 64, 10, &err), err);
    cch_pool_set_budget(m.pool, 5 * m.pool->page_bytes, false);
    CHECK_OK(cch_eval(&m, &oldest, 1, NULL, logits, &err), err);
    CHECK(small_same(&m, oldest, logits));
    CHECK_EQ(m.tokens_computed, 64 + 16 + 64 + 10);
    CHECK(m.pool->kv_bytes <= 5 * m.pool->page_bytes);
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    cch_state_free(oldest);
    cch_state_free(other);
    small_close(&m);
}

TEST(a_copy_does_not_push_out_the_pages_before_it) {
    static float logits[SMALL_VOCAB];
    cch_error err;
    cch_model m;
    small_open(&m, 1, 3, -1);
    cch_state *state = small_state(&m, small_ids(), 37), *fork = NULL;
    CHECK_OK(cch_eval(&m, &state, 1, NULL, NULL, &err), err);
    CHECK_OK(cch_state_fork(state, &fork, &err), err);
    CHECK_OK(cch_state_append(fork, small_ids(), 1, &err), err);
    CHECK_OK(cch_eval(&m, &fork, 1, NULL, logits, &err), err); /* all three pages of the budget, the copy one of them */
    CHECK(small_same(&m, fork, logits));
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    cch_state_free(state);
    cch_state_free(fork);
    small_close(&m);
}

TEST(an_evaluation_uses_the_pages_it_only_reads) {
    cch_error err;
    cch_model m;
    int32_t ready;
    cch_state *states[3];
    small_open(&m, 1, 2, -1);
    for (int i = 0; i < 3; i++) states[i] = small_state(&m, small_ids() + i, 16);
    for (int i = 0; i < 2; i++) CHECK_OK(cch_eval(&m, &states[i], 1, NULL, NULL, &err), err);
    static float logits[SMALL_VOCAB];
    CHECK_OK(cch_eval(&m, &states[0], 1, NULL, logits, &err), err);
    CHECK_OK(cch_eval(&m, &states[2], 1, NULL, NULL, &err), err);
    CHECK_OK(cch_state_ready(states[0], &ready, &err), err);
    CHECK_EQ(ready, 16);
    CHECK_OK(cch_state_ready(states[1], &ready, &err), err);
    CHECK_EQ(ready, 0);
    for (int i = 0; i < 3; i++) cch_state_free(states[i]);
    small_close(&m);
}

typedef struct watch {
    volatile int cancel;
    int64_t done, total, calls, cancel_at;
} watch;

static void on_progress(void *arg, int64_t done, int64_t total) {
    watch *w = arg;
    CHECK(done > w->done && done <= total);
    w->done = done;
    w->total = total;
    w->calls++;
    w->cancel = done >= w->cancel_at;
}

TEST(progress_is_reported_and_a_cancelled_call_keeps_what_it_computed) {
    static float logits[SMALL_VOCAB];
    cch_error err;
    cch_model m;
    int32_t ready;
    watch w = {.cancel_at = 60};
    cch_eval_options o = {.chunk_tokens = 20, .cancel = &w.cancel, .progress = on_progress, .progress_arg = &w};
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 110);
    CHECK_STATUS(cch_eval(&m, &state, 1, &o, logits, &err), CCH_E_CANCELLED, err, NULL);
    CHECK_OK(cch_state_ready(state, &ready, &err), err);
    CHECK_EQ(ready, 60);
    w = (watch){.cancel_at = 1000};
    CHECK_OK(cch_eval(&m, &state, 1, &o, logits, &err), err);
    CHECK_EQ(w.calls, 3);
    CHECK_EQ(w.done, 50);
    CHECK_EQ(w.total, 50);
    CHECK_EQ(m.tokens_computed, 110);
    CHECK(small_same(&m, state, logits));
    cch_state_free(state);
    small_close(&m);
}

typedef struct rival {
    cch_model *model;
    cch_state *state;
    int calls, refused;
} rival;

/* Another evaluation takes all pages, in the same thread as a callback would do it. */
static void interfere(void *arg, int64_t done, int64_t total) {
    rival *r = arg;
    cch_error err;
    CHECK(done <= total);
    r->calls++;
    if (cch_eval(r->model, &r->state, 1, NULL, NULL, &err) == CCH_OK) return;
    CHECK_EQ(err.code, CCH_E_BUSY);
    CHECK_STATUS(cch_state_evict(r->state, &err), CCH_E_BUSY, err, "another call of this same thread");
    CHECK_STATUS(cch_state_kv(r->state, 0, 0, 1, NULL, NULL, NULL, &err), CCH_E_BUSY, err, NULL);
    CHECK_STATUS(cch_eval(r->model, &r->state, 1, NULL, NULL, &err), CCH_E_BUSY, err, NULL);
    CHECK_EQ(cch_state_len(r->state), 80);
    r->refused++;
}

/* It would otherwise go on for ever; and a callback that asks for the model meanwhile must not wait for itself. */
TEST(an_evaluation_whose_work_was_evicted_keeps_its_turn) {
    static float logits[SMALL_VOCAB];
    cch_error err;
    cch_model m;
    small_open(&m, 1, 5, -1);
    rival r = {&m, small_state(&m, small_ids() + 1, 80), 0, 0};
    cch_eval_options o = {.chunk_tokens = 20, .progress = interfere, .progress_arg = &r};
    cch_state *state = small_state(&m, small_ids(), 80);
    CHECK_OK(cch_eval(&m, &state, 1, &o, logits, &err), err);
    CHECK_EQ(r.calls, 5); /* the first chunk twice */
    CHECK_EQ(r.refused, 3);
    CHECK(small_same(&m, state, logits));
    cch_state_free(state);
    cch_state_free(r.state);
    small_close(&m);
}

typedef struct turn {
    cch_model *model;
    cch_state *state;
    pthread_t thread;
    int calls;
} turn;

static void *evaluate_once(void *arg) {
    turn *t = arg;
    cch_error err;
    CHECK_OK(cch_eval(t->model, &t->state, 1, NULL, NULL, &err), err);
    return NULL;
}

static bool somebody_waits(cch_turns *turns) {
    pthread_mutex_lock(&turns->lock);
    bool waits = turns->drawn > turns->served + 1;
    pthread_mutex_unlock(&turns->lock);
    return waits;
}

/* After the first pass another thread asks for the model. */
static void let_another_wait(void *arg, int64_t done, int64_t total) {
    turn *t = arg;
    cch_error err;
    CHECK(done <= total);
    CHECK_EQ(t->model->tokens_computed, ++t->calls == 1 ? 1 : t->calls + 1);
    if (t->calls > 1) return;
    CHECK_OK(cch_run_lock(t->model, &err), err);
    CHECK_EQ(pthread_create(&t->thread, NULL, evaluate_once, t), 0);
    while (!somebody_waits(&t->model->run_lock)) sched_yield();
    cch_run_unlock(t->model);
}

TEST(a_long_evaluation_lets_a_short_one_go_between_its_passes) {
    cch_error err;
    cch_model m;
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 10);
    turn t = {&m, small_state(&m, small_ids() + 1, 1), 0, 0};
    cch_eval_options o = {.chunk_tokens = 1, .progress = let_another_wait, .progress_arg = &t};
    CHECK_OK(cch_eval(&m, &state, 1, &o, NULL, &err), err);
    CHECK_EQ(t.calls, 10);
    pthread_join(t.thread, NULL);
    cch_state_free(state);
    cch_state_free(t.state);
    small_close(&m);
}

TEST(bad_calls_are_refused) {
    cch_error err;
    cch_model m, other;
    cch_eval_options o = {.chunk_tokens = -1};
    small_open(&m, 1, 500, -1);
    small_open(&other, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 10), *twice[2] = {state, state};
    CHECK_STATUS(cch_eval(&m, &state, 1, &o, NULL, &err), CCH_E_ARGUMENT, err, "chunk_tokens is -1");
    o = (cch_eval_options){.store_top_k = -2};
    CHECK_STATUS(cch_eval(&m, &state, 1, &o, NULL, &err), CCH_E_ARGUMENT, err, "store_top_k is -2");
    CHECK_STATUS(cch_eval(&m, twice, 2, NULL, NULL, &err), CCH_E_BUSY, err, "in use");
    CHECK_STATUS(cch_eval(&other, &state, 1, NULL, NULL, &err), CCH_E_MISMATCH, err, "another model");
    CHECK_OK(cch_eval(&m, &state, 1, NULL, NULL, &err), err);
    cch_state_free(state);
    small_close(&other);
    small_close(&m);
}

static cch_status evaluate(cch_model *m) {
    static float logits[2 * SMALL_VOCAB], rows[10 * SMALL_VOCAB], hidden[10 * 64];
    cch_status status = CCH_OK;
    cch_error err;
    cch_state *s[2] = {NULL, NULL};
    cch_eval_options o = {.chunk_tokens = 30, .store_top_k = 4};
    CCH_TRY(cch_state_new(m, &s[0], &err));
    CCH_TRY(cch_state_append(s[0], small_ids(), 50, &err));
    CCH_TRY(cch_state_fork(s[0], &s[1], &err));
    CCH_TRY(cch_state_append(s[1], small_ids(), 9, &err));
    CCH_TRY(cch_eval(m, s, 2, &o, logits, &err));
    CCH_TRY(cch_state_logits(s[0], 5, 10, rows, NULL, &err));
    CCH_TRY(cch_state_hidden(s[1], 1, 5, 10, hidden, NULL, &err));
done:
    CHECK_EQ(cch_pool_check(m->pool, &err), CCH_OK);
    if (s[0] != NULL) CHECK(cch_state_len(s[0]) == 0 || cch_state_len(s[0]) == 50);
    cch_state_free(s[0]);
    cch_state_free(s[1]);
    cch_model_set_budget(m, m->pool->budget_bytes, true);
    cch_scratch_deinit(&m->scratch);
    memset(&m->scratch, 0, sizeof m->scratch);
    cch_free(m->bos_logits);
    m->bos_logits = NULL;
    return status;
}

TEST(any_failing_allocation_is_survived) {
    cch_model m;
    small_open(&m, 1, 500, 2);
    CHECK_OOM(evaluate(&m));
    small_close(&m);
}

TEST(a_copy_that_finds_no_memory_is_computed_again) {
    float logits[SMALL_VOCAB];
    cch_error err;
    cch_model m;
    int succeeded = 0;
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 29);
    CHECK_OK(cch_eval(&m, &state, 1, NULL, logits, &err), err);
    for (int n = 1; n < 14; n++) {
        cch_state *fork = NULL;
        CHECK_OK(cch_state_fork(state, &fork, &err), err);
        CHECK_OK(cch_state_append(fork, small_ids(), 2, &err), err);
        cch_model_set_budget(&m, m.pool->budget_bytes, true); /* no spare block */
        cch_fail_alloc(n);
        cch_status status = cch_eval(&m, &fork, 1, NULL, logits, &err);
        cch_fail_alloc(0);
        if (status == CCH_OK)
            CHECK(small_same(&m, fork, logits));
        else
            CHECK_EQ(status, CCH_E_MEMORY);
        succeeded += status == CCH_OK;
        CHECK_OK(cch_pool_check(m.pool, &err), err);
        cch_state_free(fork);
    }
    CHECK(succeeded > 0 && succeeded < 13);
    cch_state_free(state);
    small_close(&m);
}

/* ---- threads ---- */

typedef struct worker {
    cch_model *model;
    cch_state *base;
    int32_t first;
} worker;

static void *fork_and_free(void *arg) {
    worker *w = arg;
    cch_error err;
    for (int i = 0; i < 400; i++) {
        cch_state *fork = NULL;
        CHECK_OK(cch_state_fork(w->base, &fork, &err), err);
        CHECK_OK(cch_state_append(fork, small_ids() + i % 50, (size_t)(i % 40), &err), err);
        CHECK_OK(cch_state_truncate(fork, 30, &err), err);
        cch_state_free(fork);
    }
    return NULL;
}

static void *evaluate_repeatedly(void *arg) {
    worker *w = arg;
    float logits[SMALL_VOCAB];
    cch_error err;
    cch_eval_options o = {.chunk_tokens = 20};
    cch_state *state = small_state(w->model, small_ids() + w->first, 50);
    for (int i = 0; i < 15; i++) {
        CHECK_OK(cch_state_append(state, small_ids(), 30, &err), err);
        CHECK_OK(cch_eval(w->model, &state, 1, &o, logits, &err), err);
        CHECK(small_same(w->model, state, logits));
        CHECK_OK(cch_state_truncate(state, 33 + i, &err), err);
        CHECK_OK(cch_pool_check(w->model->pool, &err), err);
    }
    cch_state_free(state);
    return NULL;
}

TEST(threads_fork_free_and_evaluate_at_once_with_too_few_pages) {
    cch_model m;
    pthread_t threads[3];
    small_open(&m, 2, 8, -1);
    worker a = {.model = &m, .first = 0}, b = {.model = &m, .first = 1}, c = {.base = small_state(&m, small_ids(), 45)};
    CHECK_EQ(pthread_create(&threads[0], NULL, evaluate_repeatedly, &a), 0);
    CHECK_EQ(pthread_create(&threads[1], NULL, evaluate_repeatedly, &b), 0);
    CHECK_EQ(pthread_create(&threads[2], NULL, fork_and_free, &c), 0);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    cch_state_free(c.base);
    small_close(&m);
}

CHECK_MAIN()
