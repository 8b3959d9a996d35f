/* Continuous batching: who shares a batch, in which chunks and with what budget, changes no token. */
#include "alone.h"

#include <sched.h>

enum { LONG = 24 };

static int32_t prompt_length(int i) { return i == 4 ? 0 : (i * 37 + 5) % 90 + 1; }
static const int32_t *prompt_of(int i) { return small_ids() + i % 3; } /* some share their beginnings */

/* Stored or computed, the top of a row's prediction is that of its logits. */
static void check_top(const cch_batch *batch, int32_t row) {
    enum { K = 3 };
    int32_t ids[K], want_ids[K];
    float values[K], want_values[K];
    double lse, want_lse;
    const float *logits = cch_batch_logits_view(batch, row);
    CHECK(logits != NULL);
    CHECK_EQ(cch_batch_top(batch, row, K, ids, values, &lse), K);
    CHECK_EQ(cch_top_logits(logits, SMALL_VOCAB, K, want_ids, want_values, &want_lse), K);
    CHECK(memcmp(ids, want_ids, sizeof ids) == 0 && memcmp(values, want_values, sizeof values) == 0);
    CHECK(lse == want_lse);
}

/* ROWS rows that join at different steps, compared with each row alone. */
static void compare_with_alone(cch_model *m, cch_batch_options o) {
    enum { ROWS = 7 };
    cch_error err;
    cch_state *states[ROWS];
    cch_step steps[ROWS];
    int32_t rows[ROWS], made[ROWS] = {0}, want[LONG];
    bool finished[ROWS] = {false};
    cch_batch *batch = NULL;
    size_t n;
    CHECK_OK(cch_batch_new(m, &o, &batch, &err), err);
    for (int round = 0, live = ROWS, joined = 0; live > 0 && round < 500 && check_failures == 0; round++) {
        while (joined < ROWS && joined <= round / 2) {
            cch_sampling s = sampling_of(joined);
            states[joined] = small_state(m, prompt_of(joined), prompt_length(joined));
            CHECK_OK(cch_batch_add(batch, states[joined], &s, 0, &rows[joined], &err), err);
            joined++;
        }
        CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
        for (size_t k = 0; k < n; k++) {
            int i = 0;
            while (rows[i] != steps[k].row) i++;
            CHECK_EQ(steps[k].position, prompt_length(i) + made[i]);
            if (steps[k].finish == CCH_RUNNING) {
                made[i]++;
                check_top(batch, rows[i]);
            }
            if (steps[k].finish == CCH_RUNNING && made[i] < LONG) continue;
            finished[i] = steps[k].finish == CCH_FINISH_EOS;
            cch_batch_remove(batch, rows[i]);
            live--;
        }
        CHECK_OK(cch_pool_check(m->pool, &err), err);
    }
    CHECK_EQ(cch_batch_len(batch), 0);
    cch_batch_free(batch);
    for (int i = 0; i < ROWS; i++) {
        cch_sampling s = sampling_of(i);
        int32_t got[SMALL_CTX];
        int32_t n_want = generate_alone(m, prompt_of(i), prompt_length(i), &s, LONG, want);
        CHECK_EQ(made[i], n_want);
        CHECK_EQ(finished[i], n_want < LONG);
        CHECK_OK(cch_state_tokens(states[i], prompt_length(i), n_want, got, &err), err);
        CHECK(memcmp(got, want, (size_t)n_want * sizeof *got) == 0);
        cch_state_free(states[i]);
    }
}

TEST(a_row_gets_the_same_tokens_in_any_company) {
    const cch_batch_options options[] = {
        {.chunk_tokens = 0},
        {.chunk_tokens = 16, .store_top_k = 3},
        {.chunk_tokens = 3}
    };
    for (int i = 0; i < 3; i++) {
        for (int threads = 1; threads <= 2; threads++) {
            cch_model m;
            small_open(&m, threads, i == 1 ? 16 : 500, 9);
            m.config.n_eos = 2;
            m.config.eos_token_ids[0] = 17;
            m.config.eos_token_ids[1] = 30;
            compare_with_alone(&m, options[i]);
            small_close(&m);
        }
    }
}

TEST(scores_of_a_batch_are_those_of_an_evaluation) {
    float logprob[60], want[60], top[180], want_top[180];
    int32_t ids[180], want_ids[180], tokens[60], row;
    cch_error err;
    cch_model m;
    cch_step step;
    size_t n;
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_eval_options e = {.store_top_k = 3};
    cch_batch_options o = {.store_top_k = 3};
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 20);
    CHECK_OK(cch_batch_new(&m, &o, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, &s, 0, &row, &err), err);
    for (int i = 0; i < 40; i++) CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    cch_batch_free(batch);
    CHECK_EQ(m.tokens_computed, 59);
    CHECK_OK(cch_state_scores(state, 0, 60, logprob, 3, ids, top, &err), err);
    CHECK_OK(cch_state_tokens(state, 0, 60, tokens, &err), err);
    CHECK(logprob[59] == step.sampled.logprob);
    cch_state_free(state);
    cch_model_set_budget(&m, m.pool->budget_bytes, true);
    state = small_state(&m, tokens, 60);
    CHECK_OK(cch_eval(&m, &state, 1, &e, NULL, &err), err);
    CHECK_OK(cch_state_scores(state, 0, 60, want, 3, want_ids, want_top, &err), err);
    CHECK(memcmp(logprob, want, sizeof want) == 0);
    CHECK(memcmp(ids, want_ids, 59 * 3 * sizeof *ids) == 0);
    CHECK(memcmp(top, want_top, 59 * 3 * sizeof *top) == 0);
    cch_state_free(state);
    small_close(&m);
}

TEST(a_page_that_is_found_without_scores_gets_them) {
    int32_t tokens[50], row;
    float logprob[60];
    cch_error err;
    cch_model m;
    cch_step step;
    size_t n;
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_batch_options o = {.store_top_k = 2};
    small_open(&m, 1, 500, -1);
    s.temperature = 0.0f;
    CHECK_EQ(generate_alone(&m, small_ids(), 30, &s, 20, tokens), 20); /* its full pages stay cached */
    cch_state *state = small_state(&m, small_ids(), 30);
    CHECK_OK(cch_batch_new(&m, &o, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, &s, 0, &row, &err), err);
    for (int i = 0; i < 20; i++) {
        CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
        CHECK_EQ(step.sampled.token_id, tokens[i]);
    }
    cch_batch_free(batch);
    CHECK_OK(cch_state_scores(state, 0, 50, logprob, 0, NULL, NULL, &err), err);
    for (int i = 0; i < 50; i++) CHECK(!isnan(logprob[i]));
    cch_state_free(state);
    small_close(&m);
}

TEST(a_full_state_finishes_and_leaves) {
    cch_error err;
    cch_model m;
    cch_step step;
    size_t n;
    int32_t row;
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 30);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, &s, 32, &row, &err), err);
    CHECK_STATUS(cch_state_append(state, small_ids(), 1, &err), CCH_E_BUSY, err, "in use");
    for (int i = 0; i < 2; i++) {
        CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
        CHECK_EQ(n, 1);
        CHECK_EQ(step.finish, CCH_RUNNING);
        CHECK_EQ(step.position, 30 + i);
    }
    CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    CHECK_EQ(step.finish, CCH_FINISH_CONTEXT);
    CHECK_EQ(cch_batch_len(batch), 0);
    CHECK_EQ(m.tokens_computed, 30 + 1); /* nothing for a state that gets no token */
    CHECK_OK(cch_state_append(state, small_ids(), 1, &err), err);
    CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    CHECK_EQ(n, 0);
    cch_batch_free(batch);
    cch_state_free(state);
    small_close(&m);
}

TEST(no_row_outgrows_the_context_of_the_model) {
    cch_error err;
    cch_model m;
    cch_step step;
    size_t n;
    int32_t row;
    cch_batch *batch = NULL;
    small_open(&m, 1, 500, -1);
    int32_t most = m.config.max_position_embeddings;
    cch_state *state = small_state(&m, small_ids(), most - 1);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, NULL, most + 100, &row, &err), err);
    CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    CHECK_EQ(step.finish, CCH_RUNNING);
    CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    CHECK_EQ(step.finish, CCH_FINISH_CONTEXT);
    CHECK_EQ(cch_state_len(state), most);
    cch_batch_free(batch);
    cch_state_free(state);
    small_close(&m);
}

TEST(while_a_step_runs_rows_may_leave_but_not_join) {
    cch_error err;
    cch_model m;
    cch_step steps[2];
    size_t n;
    int32_t row, other;
    cch_batch *batch = NULL;
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 5), *late = small_state(&m, small_ids(), 5);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, NULL, 0, &row, &err), err);
    batch->running = true; /* as another thread's step would set it */
    CHECK_STATUS(cch_batch_add(batch, late, NULL, 0, &other, &err), CCH_E_BUSY, err, "in the middle of a step");
    cch_batch_remove(batch, row);
    CHECK_EQ(cch_batch_len(batch), 0);
    CHECK_STATUS(cch_state_append(state, small_ids(), 1, &err), CCH_E_BUSY, err, "in use"); /* the step has it still */
    batch->running = false;
    CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
    CHECK_EQ(n, 0);
    CHECK_OK(cch_state_append(state, small_ids(), 1, &err), err);
    cch_batch_free(batch);
    cch_state_free(state);
    cch_state_free(late);
    small_close(&m);
}

TEST(rows_that_lack_one_token_go_before_prompts) {
    cch_error err;
    cch_model m;
    cch_step steps[2];
    size_t n;
    int32_t short_row, long_row;
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_batch_options o = {.chunk_tokens = 10};
    small_open(&m, 1, 500, -1);
    cch_state *prompt = small_state(&m, small_ids(), 60), *running = small_state(&m, small_ids() + 9, 1);
    CHECK_OK(cch_batch_new(&m, &o, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, prompt, &s, 0, &long_row, &err), err);
    CHECK_OK(cch_batch_add(batch, running, &s, 0, &short_row, &err), err);
    for (int i = 0; i < 6; i++) { /* 9 tokens of the prompt each time */
        CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
        CHECK_EQ(n, 1);
        CHECK_EQ(steps[0].row, short_row);
        CHECK(cch_batch_logits_view(batch, long_row) == NULL);
    }
    CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
    CHECK_EQ(n, 2);
    cch_state_free(prompt); /* the batch still holds it */
    CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
    CHECK_EQ(n, 2);
    cch_batch_free(batch);
    CHECK_EQ(cch_state_len(running), 9);
    cch_state_free(running);
    small_close(&m);
}

TEST(more_running_rows_than_a_pass_holds_take_turns) {
    enum { ROWS = 5 };
    cch_error err;
    cch_model m;
    cch_step steps[ROWS];
    cch_state *states[ROWS];
    size_t n;
    int32_t row;
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_batch_options o = {.chunk_tokens = 2};
    small_open(&m, 1, 500, -1);
    CHECK_OK(cch_batch_new(&m, &o, &batch, &err), err);
    for (int i = 0; i < ROWS; i++) {
        states[i] = small_state(&m, small_ids() + i, 1);
        CHECK_OK(cch_batch_add(batch, states[i], &s, 0, &row, &err), err);
    }
    for (int i = 0; i < 25; i++) CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
    cch_batch_free(batch);
    for (int i = 0; i < ROWS; i++) {
        CHECK(cch_state_len(states[i]) >= 9 && cch_state_len(states[i]) <= 13); /* fair: 50 tokens for 5 rows */
        cch_state_free(states[i]);
    }
    small_close(&m);
}

TEST(with_too_few_pages_the_oldest_row_goes_on) {
    cch_error err;
    cch_model m;
    cch_step steps[2];
    size_t n;
    int32_t first, second;
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    small_open(&m, 1, 5, -1);
    cch_state *a = small_state(&m, small_ids(), 40), *b = small_state(&m, small_ids() + 1, 40);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, a, &s, 0, &first, &err), err);
    CHECK_OK(cch_batch_add(batch, b, &s, 0, &second, &err), err);
    for (int i = 0; i < 10; i++) {
        CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
        CHECK_EQ(n, 1);
        CHECK_EQ(steps[0].row, first);
    }
    cch_batch_remove(batch, first);
    CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
    CHECK_EQ(steps[0].row, second);
    cch_model_set_budget(&m, 2 * m.pool->page_bytes, false);
    CHECK_STATUS(cch_batch_step(batch, steps, &n, &err), CCH_E_BUDGET, err, "41 tokens needs");
    CHECK_EQ(err.position, second);
    CHECK_EQ(cch_state_len(b), 41);
    cch_batch_free(batch);
    cch_state_free(a);
    cch_state_free(b);
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    small_close(&m);
}

TEST(a_row_that_no_longer_fits_waits_with_what_it_has) {
    cch_error err;
    cch_model m;
    cch_step steps[2];
    size_t n;
    int32_t first, second;
    cch_batch *batch = NULL;
    small_open(&m, 1, 4, -1);
    cch_state *a = small_state(&m, small_ids(), 31), *b = small_state(&m, small_ids() + 1, 31);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, a, NULL, 0, &first, &err), err);
    CHECK_OK(cch_batch_add(batch, b, NULL, 0, &second, &err), err);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
        CHECK_EQ(n, 2);
    }
    CHECK_OK(cch_batch_step(batch, steps, &n, &err), err); /* three pages each */
    CHECK_EQ(n, 1);
    CHECK_EQ(steps[0].row, first);
    CHECK_EQ(cch_state_len(b), 33);
    cch_batch_free(batch);
    cch_state_free(a);
    cch_state_free(b);
    small_close(&m);
}

TEST(bad_batches_and_rows_are_refused) {
    cch_error err;
    cch_model m, other;
    int32_t row;
    volatile int cancel = 1;
    cch_step step;
    size_t n;
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_batch_options o = {.max_rows = 5000};
    small_open(&m, 1, 500, -1);
    small_open(&other, 1, 500, -1);
    CHECK_STATUS(cch_batch_new(&m, &o, &batch, &err), CCH_E_ARGUMENT, err, "max_rows is 5000");
    CHECK(batch == NULL);
    o = (cch_batch_options){.max_rows = 1, .cancel = &cancel};
    CHECK_OK(cch_batch_new(&m, &o, &batch, &err), err);
    cch_state *a = small_state(&m, small_ids(), 4), *b = small_state(&m, small_ids(), 4),
              *c = small_state(&other, NULL, 0);
    s.top_p = 2.0f;
    CHECK_STATUS(cch_batch_add(batch, a, &s, 0, &row, &err), CCH_E_ARGUMENT, err, "top_p");
    s.top_p = 1.0f;
    CHECK_STATUS(cch_batch_add(batch, a, &s, -1, &row, &err), CCH_E_ARGUMENT, err, "n_ctx is -1");
    CHECK_STATUS(cch_batch_add(batch, c, &s, 0, &row, &err), CCH_E_MISMATCH, err, "another model");
    CHECK_OK(cch_batch_add(batch, a, &s, 0, &row, &err), err);
    CHECK_STATUS(cch_batch_add(batch, b, &s, 0, &row, &err), CCH_E_ARGUMENT, err, "at most 1");
    CHECK_EQ(row, -1);
    CHECK_OK(cch_state_append(b, small_ids(), 1, &err), err);
    CHECK_STATUS(cch_batch_add(batch, a, &s, 0, &row, &err), CCH_E_BUSY, err, "in use"); /* also with no room */
    CHECK_STATUS(cch_batch_step(batch, &step, &n, &err), CCH_E_CANCELLED, err, NULL);
    CHECK_EQ(cch_state_len(a), 4);
    cancel = 0;
    CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    CHECK_EQ(cch_state_len(a), 5);
    cch_batch_remove(batch, 1234);
    CHECK_EQ(cch_batch_len(batch), 1);
    cch_batch_free(batch);
    cch_state_free(a);
    cch_state_free(b);
    cch_state_free(c);
    small_close(&other);
    small_close(&m);
}

TEST(a_row_that_has_nothing_left_to_draw_is_named) {
    int32_t all[SMALL_VOCAB], good, stuck;
    cch_error err;
    cch_model m;
    cch_step steps[2];
    size_t n;
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    small_open(&m, 2, 500, -1);
    for (int32_t i = 0; i < SMALL_VOCAB; i++) all[i] = i;
    cch_state *a = small_state(&m, small_ids(), 20), *b = small_state(&m, all, SMALL_VOCAB);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, a, &s, 0, &good, &err), err);
    s.no_repeat_ngram_size = 1;
    CHECK_OK(cch_batch_add(batch, b, &s, 0, &stuck, &err), err);
    CHECK_STATUS(cch_batch_step(batch, steps, &n, &err), CCH_E_ARGUMENT, err, "row 1: no token is left");
    CHECK_EQ(err.position, stuck);
    CHECK_EQ(n, 0);
    CHECK(cch_state_len(a) == 20 && cch_state_len(b) == SMALL_VOCAB);
    cch_batch_remove(batch, stuck);
    CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
    CHECK(n == 1 && steps[0].row == good);
    CHECK_EQ(cch_state_len(a), 21);
    cch_batch_free(batch);
    cch_state_free(a);
    cch_state_free(b);
    small_close(&m);
}

/* Two rows, a few steps; a failed step must leave both as they were, and the next one goes on. */
static cch_status run_steps(cch_model *m) {
    cch_status status = CCH_OK;
    cch_error err;
    cch_batch *batch = NULL;
    cch_state *a = NULL, *b = NULL;
    cch_step steps[2];
    size_t n = 0;
    int32_t row, made = 0;
    cch_sampling s = sampling_of(1);
    cch_batch_options o = {.max_rows = 2, .store_top_k = 2};
    CCH_TRY(cch_batch_new(m, &o, &batch, &err));
    CCH_TRY(cch_state_new(m, &a, &err));
    CCH_TRY(cch_state_append(a, small_ids(), 30, &err));
    CCH_TRY(cch_state_fork(a, &b, &err));
    CCH_TRY(cch_batch_add(batch, a, &s, 0, &row, &err));
    CCH_TRY(cch_batch_add(batch, b, &s, 0, &row, &err));
    for (; made < 4; made++) {
        CCH_TRY(cch_batch_step(batch, steps, &n, &err));
        CHECK_EQ(n, 2);
    }
done:
    if (b != NULL) CHECK(cch_state_len(a) == 30 + made && cch_state_len(b) == 30 + made);
    CHECK_EQ(cch_pool_check(m->pool, &err), CCH_OK);
    cch_batch_free(batch);
    cch_state_free(a);
    cch_state_free(b);
    cch_model_set_budget(m, m->pool->budget_bytes, true);
    cch_scratch_deinit(&m->scratch);
    memset(&m->scratch, 0, sizeof m->scratch);
    cch_free(m->bos_logits);
    m->bos_logits = NULL;
    return status;
}

TEST(a_step_that_fails_for_memory_appends_nothing) {
    cch_model m;
    small_open(&m, 1, 500, 2);
    CHECK_OOM(run_steps(&m));
    small_close(&m);
}

TEST(a_warm_step_allocates_once_a_page_at_most) {
    cch_error err;
    cch_model m;
    cch_step step;
    size_t n;
    int32_t row;
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 33);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, &s, 0, &row, &err), err);
    for (int i = 0; i < 2; i++) CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    cch_fail_alloc(0);
    for (int i = 0; i < 13; i++) CHECK_OK(cch_batch_step(batch, &step, &n, &err), err); /* up to the end of the page */
    CHECK_EQ(cch_fail_alloc(0), 0);
    cch_batch_free(batch);
    cch_state_free(state);
    small_close(&m);
}

static void *step_until_empty(void *arg) {
    cch_batch *batch = arg;
    cch_step steps[4];
    size_t n;
    cch_error err;
    while (cch_batch_len(batch) > 0) CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
    return NULL;
}

TEST(rows_may_be_removed_while_a_step_runs) {
    cch_error err;
    cch_model m;
    pthread_t thread;
    int32_t rows[4], len[4];
    cch_state *states[4];
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    small_open(&m, 2, 500, -1);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    for (int i = 0; i < 4; i++) {
        states[i] = small_state(&m, small_ids() + i, 20);
        CHECK_OK(cch_batch_add(batch, states[i], &s, 0, &rows[i], &err), err);
    }
    CHECK_EQ(pthread_create(&thread, NULL, step_until_empty, batch), 0);
    for (int i = 0; i < 4; i++) {
        while (cch_state_len(states[i]) < 25 + i) sched_yield();
        cch_batch_remove(batch, rows[i]);
        len[i] = cch_state_len(states[i]);
    }
    pthread_join(thread, NULL);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(cch_state_len(states[i]), len[i]);
        cch_state_free(states[i]);
    }
    cch_batch_free(batch);
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    small_close(&m);
}

TEST(a_marked_row_can_be_looked_at_until_the_next_step) {
    cch_error err;
    cch_model m;
    int32_t rows[2];
    cch_state *states[2];
    cch_step steps[2];
    cch_batch *batch = NULL;
    size_t n;
    cch_sampling s = CCH_SAMPLING_INIT;
    small_open(&m, 1, 500, -1);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    for (int i = 0; i < 2; i++) {
        states[i] = small_state(&m, small_ids() + i, 20);
        CHECK_OK(cch_batch_add(batch, states[i], &s, 0, &rows[i], &err), err);
    }
    CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
    cch_batch_leave(batch, rows[0]);
    CHECK_EQ(cch_batch_len(batch), 1);
    check_top(batch, rows[0]);
    CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
    CHECK_EQ(n, 1);
    CHECK(cch_batch_logits_view(batch, rows[0]) == NULL);
    CHECK_EQ(cch_state_len(states[0]), 21);
    cch_batch_leave(batch, rows[1]);
    check_top(batch, rows[1]);
    cch_batch_remove(batch, -1);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(cch_state_truncate(states[i], 0, &err), err); /* nobody holds it */
        cch_state_free(states[i]);
    }
    cch_batch_free(batch);
    small_close(&m);
}

static void *step_and_look(void *arg) {
    cch_batch *batch = arg;
    cch_step steps[4];
    int32_t ids[3];
    float values[3];
    double lse;
    size_t n;
    cch_error err;
    while (cch_batch_len(batch) > 0) {
        CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
        for (size_t i = 0; i < n; i++) CHECK_EQ(cch_batch_top(batch, steps[i].row, 3, ids, values, &lse), 3);
    }
    return NULL;
}

TEST(rows_may_be_marked_while_another_thread_looks_at_them) {
    cch_error err;
    cch_model m;
    pthread_t thread;
    int32_t rows[4];
    cch_state *states[4];
    cch_batch *batch = NULL;
    cch_sampling s = CCH_SAMPLING_INIT;
    small_open(&m, 1, 500, -1);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    for (int i = 0; i < 4; i++) {
        states[i] = small_state(&m, small_ids() + i, 20);
        CHECK_OK(cch_batch_add(batch, states[i], &s, 0, &rows[i], &err), err);
    }
    CHECK_EQ(pthread_create(&thread, NULL, step_and_look, batch), 0);
    for (int i = 0; i < 4; i++) {
        while (cch_state_len(states[i]) < 25 + i) sched_yield();
        cch_batch_leave(batch, rows[i]);
    }
    pthread_join(thread, NULL);
    cch_batch_free(batch);
    for (int i = 0; i < 4; i++) cch_state_free(states[i]);
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    small_close(&m);
}

CHECK_MAIN()
