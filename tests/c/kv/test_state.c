/* States against a model that copies everything; the promises on cost of forks; failing allocations; two threads. */
#include "toy.h"

#include <pthread.h>

/* ---- random programs against a naive model ---- */

typedef struct naive {
    cch_state *state;
    int32_t tokens[TOY_CTX], n;
} naive;

static uint32_t seed_;
static uint32_t draw(uint32_t n) {
    seed_ = seed_ * 1664525u + 1013904223u;
    return (seed_ >> 8) % n;
}

static void compare(naive *row) {
    cch_error err;
    int32_t tokens[TOY_CTX], ready;
    CHECK_EQ(cch_state_len(row->state), row->n);
    CHECK_OK(cch_state_tokens(row->state, 0, row->n, tokens, &err), err);
    CHECK(memcmp(tokens, row->tokens, (size_t)row->n * sizeof *tokens) == 0);
    CHECK_OK(cch_state_ready(row->state, &ready, &err), err);
    CHECK(ready >= 0 && ready <= row->n);
    CHECK_OK(cch_state_check(row->state, &err), err);
}

static void append_random(naive *row) {
    cch_error err;
    int32_t ids[64], n = (int32_t)draw(4) == 0 ? (int32_t)draw(64) : (int32_t)draw(4), tokens = draw(3) ? 1 : 2;
    if (row->n + n > 300) n = 0;
    for (int32_t i = 0; i < n; i++) ids[i] = row->tokens[row->n + i] = (int32_t)draw((uint32_t)tokens);
    CHECK_OK(cch_state_append(row->state, ids, (size_t)n, &err), err);
    row->n += n;
}

static void push_random(naive *row) {
    cch_error err;
    float logprob = -1.5f;
    int32_t token = (int32_t)draw(2);
    if (row->n >= 300) return;
    CHECK_OK(cch_state_reserve_push(row->state, (int32_t)draw(3) - 1, &err), err);
    if (draw(4) == 0) return; /* reserved for nothing */
    cch_state_push(row->state, token, draw(2) ? &logprob : NULL);
    row->tokens[row->n++] = token;
}

/* A scout of random tokens, of which the state follows some. */
static void scout_random(naive *row) {
    cch_error err;
    cch_state *scout = NULL;
    int32_t ids[40], n = 1 + (int32_t)draw(40), steps = (int32_t)draw((uint32_t)n + 1);
    float logprob = -2.5f;
    if (row->n + n > 300) return;
    for (int32_t i = 0; i < n; i++) ids[i] = (int32_t)draw(2);
    CHECK_OK(cch_state_scout(row->state, ids, n, &scout, &err), err);
    CHECK_EQ(cch_state_len(row->state), row->n);
    for (int32_t i = 0; i < steps; i++) {
        CHECK(cch_state_leads(scout, row->state, ids[i]) && !cch_state_leads(scout, row->state, 1 - ids[i]));
        cch_state_follow(row->state, scout, draw(2) ? &logprob : NULL);
        row->tokens[row->n++] = ids[i];
    }
    if (steps == n) CHECK(!cch_state_leads(scout, row->state, 0) && !cch_state_leads(scout, row->state, 1));
    CHECK_OK(cch_state_check(scout, &err), err);
    cch_state_free(scout);
}

static void run_program(cch_model *model, int n_ops) {
    enum { ROWS = 6 };
    static naive rows[ROWS];
    cch_error err;
    memset(rows, 0, sizeof rows);
    for (int op = 0; op < n_ops; op++) {
        naive *row = &rows[draw(ROWS)], *other = &rows[draw(ROWS)];
        if (row->state == NULL) {
            row->n = 0;
            row->state = toy_state(model);
        }
        switch (draw(10)) {
        case 0:
        case 1: append_random(row); break;
        case 2: push_random(row); break;
        case 9: scout_random(row); break;
        case 3: {
            int32_t len = draw(3) ? row->n - (int32_t)draw(4) : (int32_t)draw((uint32_t)row->n + 1);
            if (len < 0) len = 0;
            CHECK_OK(cch_state_truncate(row->state, len, &err), err);
            row->n = len;
            break;
        }
        case 4:
            if (other == row) break;
            cch_state_free(other->state);
            CHECK_OK(cch_state_fork(row->state, &other->state, &err), err);
            memcpy(other->tokens, row->tokens, sizeof row->tokens);
            other->n = row->n;
            break;
        case 5:
        case 6: {
            int32_t ready = 0;
            if (!toy_eval(model, row->state)) break;
            CHECK_OK(cch_state_ready(row->state, &ready, &err), err);
            CHECK_EQ(ready, row->n);
            break;
        }
        case 7:
            if (draw(4) == 0) CHECK_OK(cch_state_drop_kv(row->state, &err), err);
            break;
        case 8:
            if (draw(3) != 0) break;
            cch_state_free(row->state);
            row->state = NULL;
        }
        if (row->state != NULL) compare(row);
        if (other->state != NULL) compare(other);
        CHECK_OK(cch_pool_check(model->pool, &err), err);
        if (check_failures > 0) break;
    }
    for (int i = 0; i < ROWS; i++) cch_state_free(rows[i].state);
    CHECK_OK(cch_pool_check(model->pool, &err), err);
}

TEST(random_programs_equal_a_model_that_copies_everything) {
    for (uint32_t seed = 0; seed < 60 && check_failures == 0; seed++) {
        cch_model model;
        seed_ = seed;
        toy_open(&model, seed % 3 == 0 ? 1000 : 4 + seed);
        run_program(&model, 500);
        toy_close(&model);
        if (check_failures > 0) fprintf(stderr, "seed %u\n", seed);
    }
}

/* ---- sharing and cost ---- */

TEST(a_fork_takes_under_a_kilobyte_and_no_kv) {
    enum { FORKS = 10000 };
    static cch_state *forks[FORKS];
    cch_error err;
    cch_model model;
    toy_open(&model, 1000);
    cch_state *state = toy_state_of(&model, 1000);
    CHECK(toy_eval(&model, state));
    size_t kv = toy_kv_bytes(&model), bytes = cch_live_bytes();
    for (int i = 0; i < FORKS; i++) CHECK_OK(cch_state_fork(state, &forks[i], &err), err);
    CHECK((cch_live_bytes() - bytes) / FORKS <= 1024);
    CHECK_EQ(toy_kv_bytes(&model), kv);
    toy_check(&model, state);
    for (int i = 0; i < FORKS; i++) cch_state_free(forks[i]);
    cch_state_free(state);
    toy_close(&model);
}

TEST(equal_prefixes_are_shared_without_being_asked) {
    cch_error err;
    cch_model model;
    int32_t ready;
    toy_open(&model, 1000);
    cch_state *a = toy_state_of(&model, 100);
    CHECK(toy_eval(&model, a));
    cch_state *b = toy_state_of(&model, 99);
    CHECK_OK(cch_state_ready(b, &ready, &err), err);
    CHECK_EQ(ready, 96);
    CHECK(b->tail->prev == a->tail->prev);
    cch_state_free(a); /* its full pages are cached */
    cch_state_free(b);
    toy_check(&model, NULL);
    cch_state *c = toy_state(&model);
    for (int32_t i = 0; i < 40; i++) CHECK_OK(cch_state_append(c, toy_ids(40) + i, 1, &err), err);
    CHECK_OK(cch_state_ready(c, &ready, &err), err);
    CHECK_EQ(ready, 32);
    cch_model_stats stats;
    cch_pool_stats(model.pool, &stats);
    CHECK_EQ(stats.pages_live, 3);
    CHECK_EQ(stats.pages_cached, 4);
    CHECK_EQ(stats.tokens_reused, 96 + 32);
    cch_state_free(c);
    toy_close(&model);
}

TEST(pages_are_shared_within_a_salt_only) {
    cch_model model;
    cch_error err;
    int32_t ids[40];
    cch_model_stats stats;
    toy_open(&model, 100);
    for (int32_t i = 0; i < 40; i++) ids[i] = i % TOY_VOCAB;
    cch_state *states[4];
    for (int i = 0; i < 4; i++) {
        states[i] = toy_state(&model);
        CHECK_OK(cch_state_set_salt(states[i], (uint64_t)i % 2, &err), err);
        CHECK_OK(cch_state_append(states[i], ids, 40, &err), err);
        CHECK(toy_eval(&model, states[i]));
    }
    CHECK(states[0]->tail->prev == states[2]->tail->prev && states[1]->tail->prev == states[3]->tail->prev);
    CHECK(states[0]->tail->prev != states[1]->tail->prev);
    cch_state *fork = NULL;
    CHECK_OK(cch_state_fork(states[1], &fork, &err), err);
    CHECK_OK(cch_state_truncate(fork, 5, &err), err);
    CHECK_OK(cch_state_append(fork, ids + 5, 35, &err), err);
    CHECK(fork->tail->prev == states[1]->tail->prev); /* inherited */
    int32_t common = 0;
    CHECK_OK(cch_state_common_prefix(states[0], states[1], &common, &err), err);
    CHECK_EQ(common, 40);
    CHECK_STATUS(cch_state_set_salt(fork, 3, &err), CCH_E_ARGUMENT, err, "empty");
    CHECK_OK(cch_pool_check(model.pool, &err), err);
    cch_pool_stats(model.pool, &stats);
    CHECK_EQ(stats.pages_live, 2 * 2 + 4 + 1);
    cch_state_free(fork);
    for (int i = 0; i < 4; i++) cch_state_free(states[i]);
    toy_close(&model);
}

TEST(a_fork_that_diverges_copies_one_page_once) {
    cch_error err;
    cch_model model;
    int32_t ready;
    toy_open(&model, 1000);
    cch_state *a = toy_state_of(&model, 37), *b = NULL, *c = NULL;
    CHECK(toy_eval(&model, a));
    size_t kv = toy_kv_bytes(&model);
    CHECK_OK(cch_state_fork(a, &b, &err), err);
    CHECK_OK(cch_state_fork(a, &c, &err), err);
    CHECK_OK(cch_state_append(b, toy_ids(1), 1, &err), err);
    CHECK_OK(cch_state_append(c, toy_ids(2) + 1, 1, &err), err);
    cch_page *tail = a->tail;
    CHECK_OK(cch_state_append(a, toy_ids(1), 1, &err), err);
    CHECK(a->tail == tail); /* in place: the others only borrow */
    CHECK_OK(cch_state_ready(b, &ready, &err), err);
    CHECK_EQ(ready, 37);
    toy_check(&model, b);
    CHECK(toy_eval(&model, a) && toy_eval(&model, b) && toy_eval(&model, c));
    CHECK_EQ(toy_kv_bytes(&model), kv + 2 * model.pool->page_bytes);
    toy_check(&model, c);
    cch_state_free(a);
    cch_state_free(b);
    cch_state_free(c);
    toy_close(&model);
}

TEST(a_scout_writes_behind_its_state_and_copies_nothing) {
    const int32_t ids[] = {1, 2, 3, 4, 5, 6, 0, 2, 1};
    cch_error err;
    cch_model model;
    toy_open(&model, 100);
    cch_state *state = toy_state(&model), *scout = NULL, *fork = NULL;
    CHECK_OK(cch_state_append(state, ids, 5, &err), err);
    CHECK_OK(cch_state_scout(state, ids, 3, &scout, &err), err);
    CHECK(scout->tail == state->tail);
    CHECK_EQ(state->tail->n_tokens, 8);
    cch_state_follow(state, scout, NULL);
    CHECK_EQ(cch_state_len(state), 6);
    cch_state_free(scout);
    cch_page *tail = state->tail;
    CHECK_OK(cch_state_append(state, ids + 7, 1, &err), err); /* over what the scout had guessed */
    CHECK(state->tail == tail);
    CHECK_EQ(tail->n_tokens, 7);
    CHECK_OK(cch_state_fork(state, &fork, &err), err);
    CHECK_OK(cch_state_scout(state, ids, 3, &scout, &err), err);
    CHECK(scout->tail != state->tail); /* a third owner */
    CHECK_EQ(tail->n_tokens, 7);
    cch_state_free(scout);
    cch_state_free(fork);
    cch_state_free(state);
    toy_close(&model);
}

TEST(truncation_inside_a_page_keeps_it_shared) {
    cch_error err;
    cch_model model;
    int32_t common, ready;
    toy_open(&model, 1000);
    cch_state *a = toy_state_of(&model, 64), *b = NULL;
    CHECK(toy_eval(&model, a));
    CHECK_OK(cch_state_fork(a, &b, &err), err);
    CHECK_OK(cch_state_truncate(b, 55, &err), err);
    CHECK(b->tail == a->tail);
    CHECK_OK(cch_state_common_prefix(a, b, &common, &err), err);
    CHECK_EQ(common, 55);
    int32_t other = (a->tail->tokens[7] + 1) % TOY_VOCAB;
    CHECK_OK(cch_state_append(b, &other, 1, &err), err);
    CHECK_OK(cch_state_ready(b, &ready, &err), err);
    CHECK_EQ(ready, 55);
    CHECK(toy_eval(&model, b) && toy_eval(&model, a));
    CHECK_OK(cch_state_common_prefix(b, a, &common, &err), err);
    CHECK_EQ(common, 55);
    toy_check(&model, b);
    cch_state_free(a);
    cch_state_free(b);
    toy_close(&model);
}

static int32_t ready_of(cch_state *state) {
    cch_error err;
    int32_t ready = -1;
    CHECK_OK(cch_state_ready(state, &ready, &err), err);
    return ready;
}

static void append_ids(cch_state *state, int32_t upto) {
    cch_error err;
    int32_t len = cch_state_len(state);
    CHECK_OK(cch_state_append(state, toy_ids(upto) + len, (size_t)(upto - len), &err), err);
}

TEST(a_page_that_has_become_full_is_exchanged_for_one_that_is_readier) {
    cch_model_stats stats;
    cch_model model;
    toy_open(&model, 100);
    cch_state *a = toy_state_of(&model, 10), *b = toy_state_of(&model, 16), *c = toy_state(&model);
    CHECK(toy_eval(&model, a));
    append_ids(a, 16); /* b's page is not ready at all: a keeps its own */
    CHECK(a->tail != b->tail);
    CHECK_EQ(ready_of(a), 10);
    CHECK(toy_eval(&model, b));
    cch_state *d = toy_state_of(&model, 10);
    CHECK(toy_eval(&model, d));
    cch_pool_stats(model.pool, &stats);
    CHECK_EQ(stats.tokens_reused, 0);
    append_ids(d, 16); /* six more tokens are ready than were */
    append_ids(c, 16);
    CHECK(d->tail == b->tail && c->tail == b->tail);
    cch_pool_stats(model.pool, &stats);
    CHECK_EQ(stats.tokens_reused, 6 + 16);
    toy_check(&model, a);
    cch_state_free(a);
    cch_state_free(b);
    cch_state_free(c);
    cch_state_free(d);
    toy_close(&model);
}

TEST(a_page_that_gave_up_entries_to_become_full_is_exchanged_too) {
    cch_error err;
    cch_model model;
    toy_open(&model, 100);
    cch_state *a = toy_state_of(&model, 10), *b = toy_state_of(&model, 7);
    CHECK(toy_eval(&model, a) && toy_eval(&model, b));
    append_ids(b, 16);
    CHECK_OK(cch_state_truncate(a, 7, &err), err); /* its page has ten entries until somebody writes behind seven */
    append_ids(a, 16);
    CHECK(a->tail == b->tail);
    CHECK_EQ(ready_of(a), 7);
    toy_check(&model, a);
    cch_state_free(a);
    cch_state_free(b);
    toy_close(&model);
}

TEST(a_copy_of_a_copy_borrows_from_the_original) {
    cch_error err;
    cch_model model;
    toy_open(&model, 100);
    cch_state *a = toy_state_of(&model, 10), *b = NULL, *c = NULL, *d = NULL;
    CHECK(toy_eval(&model, a));
    CHECK_OK(cch_state_fork(a, &b, &err), err);
    append_ids(b, 11);
    CHECK_OK(cch_state_fork(b, &c, &err), err);
    CHECK_OK(cch_state_append(c, toy_ids(1), 1, &err), err);
    CHECK_EQ(ready_of(c), 10);
    toy_check(&model, c);
    CHECK_OK(cch_state_fork(b, &d, &err), err);
    CHECK_EQ(ready_of(d), 10);
    CHECK_OK(cch_state_drop_kv(b, &err), err); /* b and d had nothing but what they were to copy */
    CHECK_EQ(ready_of(b), 0);
    toy_check(&model, d);
    CHECK_EQ(ready_of(d), 0);
    cch_state_free(a);
    cch_state_free(d);
    cch_state_free(b);
    cch_state_free(c);
    toy_close(&model);
}

TEST(a_common_prefix_ends_with_the_shorter_state) {
    cch_error err;
    cch_model model;
    int32_t common;
    toy_open(&model, 100);
    cch_state *a = toy_state_of(&model, 12), *b = toy_state_of(&model, 10);
    CHECK_OK(cch_state_truncate(a, 5, &err), err); /* the slots behind still hold what b goes on with */
    CHECK_OK(cch_state_common_prefix(a, b, &common, &err), err);
    CHECK_EQ(common, 5);
    cch_state_free(a);
    cch_state_free(b);
    toy_close(&model);
}

/* ---- reserved pages ---- */

TEST(a_reserved_page_has_room_for_the_scores_that_are_asked_for) {
    cch_error err;
    cch_model model;
    const float logprob = -0.5f, logits[3] = {3.0f, 2.0f, 1.0f};
    const int32_t ids[3] = {2, 0, 5};
    float got;
    int32_t top_ids[3];
    toy_open(&model, 100);
    cch_state *a = toy_state_of(&model, 16), *b = NULL;
    CHECK_OK(cch_state_reserve_push(a, -1, &err), err);
    CHECK_OK(cch_state_reserve_push(a, 1, &err), err);
    cch_state_push(a, 3, &logprob);
    CHECK_OK(cch_state_scores(a, 16, 1, &got, 0, NULL, NULL, &err), err);
    CHECK(got == logprob);
    CHECK_OK(cch_state_restore_scores(a, 16, 1, NULL, 3, ids, logits, &err), err);
    CHECK_OK(cch_state_fork(a, &b, &err), err);
    CHECK_OK(cch_state_reserve_push(b, 1, &err), err);
    cch_state_push(b, 4, &logprob); /* on a copy of the page, with all of its scores */
    CHECK_OK(cch_state_scores(b, 16, 1, &got, 3, top_ids, NULL, &err), err);
    CHECK(got == logprob && memcmp(top_ids, ids, sizeof ids) == 0);
    cch_state_free(a);
    cch_state_free(b);
    toy_close(&model);
}

/* ---- errors ---- */

TEST(bad_arguments_are_named_and_change_nothing) {
    cch_error err;
    cch_model model;
    int32_t dst[4], common;
    toy_open(&model, 10);
    cch_state *a = toy_state_of(&model, 20), *fork = NULL;
    int32_t bad[3] = {1, TOY_VOCAB, 2};
    CHECK_STATUS(cch_state_append(a, bad, 3, &err), CCH_E_TOKEN_ID, err, "token id 7 at index 1");
    CHECK_EQ(err.position, 1);
    bad[1] = -1;
    CHECK_STATUS(cch_state_append(a, bad, 3, &err), CCH_E_TOKEN_ID, err, "allowed: 0 to 6");
    CHECK_STATUS(cch_state_append(a, toy_ids(TOY_CTX), TOY_CTX, &err), CCH_E_CONTEXT, err, "4096 tokens after 20");
    CHECK_STATUS(cch_state_truncate(a, -1, &err), CCH_E_ARGUMENT, err, "-1");
    CHECK_STATUS(cch_state_truncate(a, INT32_MAX, &err), CCH_E_ARGUMENT, err, "0 to the state's 20");
    CHECK_STATUS(cch_state_tokens(a, 18, 3, dst, &err), CCH_E_ARGUMENT, err, "[18, 18 + 3)");
    CHECK_STATUS(cch_state_tokens(a, -1, 1, dst, &err), CCH_E_ARGUMENT, err, NULL);
    CHECK_EQ(cch_state_len(a), 20);
    CHECK_OK(cch_state_acquire(a, &err), err);
    CHECK_STATUS(cch_state_append(a, toy_ids(1), 1, &err), CCH_E_BUSY, err, "in use");
    CHECK_STATUS(cch_state_fork(a, &fork, &err), CCH_E_BUSY, err, NULL);
    CHECK(fork == NULL);
    CHECK_STATUS(cch_state_common_prefix(a, a, &common, &err), CCH_E_BUSY, err, NULL);
    CHECK_STATUS(cch_state_unbound(a, &err), CCH_E_BUSY, err, NULL);
    cch_state_release(a);
    CHECK_OK(cch_state_common_prefix(a, a, &common, &err), err);
    CHECK_EQ(common, 20);
    CHECK_OK(cch_state_unbound(a, &err), err);
    CHECK_OK(cch_state_append(a, toy_ids(TOY_CTX), TOY_CTX, &err), err);
    CHECK_EQ(cch_state_len(a), TOY_CTX + 20);
    toy_check(&model, a);
    cch_state_free(a);
    toy_close(&model);
}

/* Everything that allocates; frees all of it again. */
static cch_status use_memory(cch_model *model) {
    cch_status status = CCH_OK;
    cch_error err;
    int32_t tokens[80];
    float logprob[80];
    cch_state *a = NULL, *b = NULL;
    CCH_TRY(cch_state_make(model, model->pool, TOY_VOCAB, TOY_CTX, &a, &err));
    CCH_TRY(cch_state_append(a, toy_ids(70), 70, &err));
    CCH_TRY(cch_state_fork(a, &b, &err));
    CCH_TRY(cch_state_append(b, toy_ids(50), 50, &err));
    CCH_TRY(cch_state_truncate(b, 5, &err));
    CCH_TRY(cch_state_reserve_push(b, 3, &err));
    cch_state_push(b, 1, NULL);
    for (int i = 0; i < 80; i++) logprob[i] = -1.0f;
    CCH_TRY(cch_state_restore_scores(a, 0, 70, logprob, 0, NULL, NULL, &err));
    CCH_TRY(cch_state_tokens(a, 0, 70, tokens, &err));
    CCH_TRY(cch_state_append(a, toy_ids(20), 20, &err));
done:
    if (a != NULL && status != CCH_OK) {
        int32_t len = cch_state_len(a);
        CHECK(len == 0 || len == 70);
        if (b != NULL)
            CHECK(cch_state_len(b) == 70 || cch_state_len(b) == 120 || cch_state_len(b) == 5 || cch_state_len(b) == 6);
    }
    CHECK_EQ(cch_pool_check(model->pool, &err), CCH_OK);
    cch_state_free(a);
    cch_state_free(b);
    return status;
}

TEST(any_failing_allocation_leaves_states_as_they_were) {
    cch_model model;
    toy_open(&model, 100);
    CHECK_OOM(use_memory(&model));
    toy_close(&model);
}

/* ---- threads ---- */

static void *fork_and_free(void *arg) {
    cch_state *base = arg;
    cch_error err;
    for (int i = 0; i < 2000; i++) {
        cch_state *fork = NULL;
        int32_t token = i % TOY_VOCAB;
        CHECK_OK(cch_state_fork(base, &fork, &err), err);
        CHECK_OK(cch_state_append(fork, &token, 1, &err), err);
        CHECK_OK(cch_state_append(fork, toy_ids(40), (size_t)(i % 40), &err), err);
        CHECK_OK(cch_state_truncate(fork, 30 + i % 8, &err), err);
        cch_state_free(fork);
    }
    return NULL;
}

TEST(one_thread_forks_and_frees_while_another_computes) {
    cch_error err;
    cch_model model;
    pthread_t thread;
    toy_open(&model, 6);
    cch_state *base = toy_state_of(&model, 37), *other = NULL;
    CHECK_OK(cch_state_fork(base, &other, &err), err);
    CHECK_EQ(pthread_create(&thread, NULL, fork_and_free, base), 0);
    for (int i = 0; i < 500; i++) {
        CHECK_OK(cch_state_append(other, toy_ids(9), 9, &err), err);
        CHECK(toy_eval(&model, other));
        CHECK_OK(cch_state_truncate(other, 20 + i % 15, &err), err);
        CHECK_OK(cch_pool_check(model.pool, &err), err);
    }
    pthread_join(thread, NULL);
    toy_check(&model, other);
    cch_state_free(other);
    cch_state_free(base);
    toy_close(&model);
}

CHECK_MAIN()
