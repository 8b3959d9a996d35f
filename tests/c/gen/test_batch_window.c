/* Rows whose state is the window of a tape: what the model sees is the window, everything else speaks of the tape. */
#include "alone.h"

enum { TAPE = 40, WINDOW = 23, NEW = 12 };

static cch_state *tape_of(cch_model *m, int32_t n) {
    cch_error err;
    cch_state *tape = small_state(m, NULL, 0);
    CHECK_OK(cch_state_unbound(tape, &err), err);
    CHECK_OK(cch_state_append(tape, small_ids(), (size_t)n, &err), err);
    return tape;
}

static cch_state *window_of(cch_model *m) { return small_state(m, small_ids() + (TAPE - WINDOW), WINDOW); }

/* The tokens that logits of the window and draws, penalties and positions of the tape give. */
static void draw_alone(cch_model *m, const cch_sampling *sampling, int32_t *ids) {
    static float logits[SMALL_VOCAB];
    cch_error err;
    cch_sampling now = *sampling;
    cch_state *window = window_of(m);
    memcpy(ids, small_ids(), TAPE * sizeof *ids);
    for (now.step = 0; now.step < NEW; now.step++) {
        cch_sampled sampled;
        CHECK_OK(cch_eval(m, &window, 1, NULL, logits, &err), err);
        CHECK_OK(cch_sample(logits, SMALL_VOCAB, &now, ids, TAPE + now.step, &sampled, &err), err);
        ids[TAPE + now.step] = sampled.token_id;
        CHECK_OK(cch_state_append(window, &sampled.token_id, 1, &err), err);
    }
    cch_state_free(window);
}

TEST(a_window_gives_the_logits_and_its_tape_the_draws) {
    for (int i = 0; i < 6; i++) {
        cch_model m;
        cch_error err;
        cch_step step;
        cch_batch *batch = NULL;
        cch_batch_options o = {.store_top_k = i % 2 ? 3 : 0};
        int32_t ids[TAPE + NEW], got[TAPE + NEW], row;
        size_t n;
        cch_sampling s = sampling_of(i);
        s.min_tokens = 0;
        small_open(&m, 1 + i % 2, 500, -1);
        draw_alone(&m, &s, ids);
        cch_state *tape = tape_of(&m, TAPE), *window = window_of(&m);
        CHECK_OK(cch_batch_new(&m, &o, &batch, &err), err);
        CHECK_OK(cch_batch_add_window(batch, window, tape, &s, WINDOW + NEW, &row, &err), err);
        CHECK_STATUS(cch_state_append(tape, ids, 1, &err), CCH_E_BUSY, err, "in use");
        for (int k = 0; k < NEW; k++) {
            CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
            CHECK(n == 1 && step.finish == CCH_RUNNING);
            CHECK_EQ(step.position, TAPE + k);
            CHECK_EQ(step.sampled.token_id, ids[TAPE + k]);
        }
        CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
        CHECK(n == 1 && step.finish == CCH_FINISH_CONTEXT);
        CHECK_OK(cch_state_tokens(tape, 0, TAPE + NEW, got, &err), err);
        CHECK(memcmp(got, ids, sizeof ids) == 0);
        CHECK_OK(cch_state_tokens(window, 0, WINDOW + NEW, got, &err), err);
        CHECK(memcmp(got, ids + (TAPE - WINDOW), (WINDOW + NEW) * sizeof *got) == 0);
        CHECK_OK(cch_state_check(tape, &err), err);
        CHECK_OK(cch_pool_check(m.pool, &err), err);
        cch_batch_free(batch);
        cch_state_free(tape);
        cch_state_free(window);
        small_close(&m);
    }
}

TEST(an_unbound_state_gets_a_token_from_a_full_context) {
    for (int unbound = 0; unbound < 2; unbound++) {
        static float logits[SMALL_VOCAB];
        cch_model m;
        cch_error err;
        cch_step step;
        cch_sampled sampled;
        cch_batch *batch = NULL;
        cch_sampling greedy = CCH_SAMPLING_INIT;
        int32_t row;
        size_t n;
        greedy.temperature = 0;
        small_open(&m, 1, 500, -1);
        cch_state *state = small_state(&m, small_ids(), SMALL_CTX);
        CHECK_OK(cch_eval(&m, &state, 1, NULL, logits, &err), err);
        CHECK_OK(cch_sample(logits, SMALL_VOCAB, &greedy, NULL, 0, &sampled, &err), err);
        if (unbound) CHECK_OK(cch_state_unbound(state, &err), err);
        CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
        CHECK_OK(cch_batch_add(batch, state, &greedy, SMALL_CTX + 7, &row, &err), err);
        for (int k = 0; k < unbound; k++) {
            CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
            CHECK(n == 1 && step.finish == CCH_RUNNING && step.position == SMALL_CTX);
            CHECK_EQ(step.sampled.token_id, sampled.token_id);
        }
        CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
        CHECK(n == 1 && step.finish == CCH_FINISH_CONTEXT);
        CHECK_EQ(cch_state_len(state), SMALL_CTX + unbound);
        cch_batch_free(batch);
        cch_state_free(state);
        small_close(&m);
    }
}

TEST(a_tape_outgrows_the_context_and_is_not_computed_with) {
    static float logits[SMALL_VOCAB];
    cch_model m;
    cch_error err;
    cch_step step;
    cch_state *fork = NULL;
    cch_batch *batch = NULL;
    int32_t row;
    size_t n;
    small_open(&m, 1, 500, -1);
    cch_state *tape = tape_of(&m, SMALL_CTX), *window = window_of(&m);
    CHECK_OK(cch_eval(&m, &tape, 1, NULL, logits, &err), err);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add_window(batch, window, tape, NULL, 0, &row, &err), err);
    for (int i = 0; i < 5; i++) CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    CHECK_EQ(step.position, SMALL_CTX + 4);
    cch_batch_remove(batch, row);
    CHECK_EQ(cch_state_len(tape), SMALL_CTX + 5);
    CHECK_OK(cch_state_fork(tape, &fork, &err), err);
    CHECK_OK(cch_state_append(fork, small_ids(), 3, &err), err);
    CHECK_OK(cch_state_check(fork, &err), err);
    CHECK_STATUS(cch_eval(&m, &tape, 1, NULL, logits, &err), CCH_E_CONTEXT, err, "261 tokens are to be computed");
    CHECK_STATUS(cch_state_logits(tape, SMALL_CTX, 1, logits, NULL, &err), CCH_E_CONTEXT, err, "the model's context");
    CHECK_OK(cch_state_logits(tape, SMALL_CTX - 1, 1, logits, NULL, &err), err);
    CHECK_STATUS(cch_batch_add_reader(batch, fork, &row, &err), CCH_E_CONTEXT, err, "the state has 264 tokens");
    CHECK_OK(cch_batch_add(batch, fork, NULL, 0, &row, &err), err);
    CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    CHECK(n == 1 && step.finish == CCH_FINISH_CONTEXT);
    cch_batch_free(batch);
    cch_state_free(fork);
    cch_state_free(tape);
    cch_state_free(window);
    small_close(&m);
}

TEST(a_bound_tape_is_full_at_its_bound) {
    cch_model m;
    cch_error err;
    cch_step step;
    cch_batch *batch = NULL;
    int32_t row;
    size_t n;
    small_open(&m, 1, 500, -1);
    cch_state *tape = small_state(&m, small_ids(), SMALL_CTX - 1), *window = window_of(&m);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add_window(batch, window, tape, NULL, 0, &row, &err), err);
    CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    CHECK_EQ(step.finish, CCH_RUNNING);
    CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    CHECK_EQ(step.finish, CCH_FINISH_CONTEXT);
    CHECK_OK(cch_state_check(tape, &err), err);
    cch_batch_free(batch);
    cch_state_free(tape);
    cch_state_free(window);
    small_close(&m);
}

static cch_status join_and_step(cch_model *m) {
    cch_status status = CCH_OK;
    cch_error err;
    cch_batch *batch = NULL;
    cch_step step;
    int32_t row, made = 0;
    size_t n;
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_state *tape = NULL, *window = NULL;
    s.no_repeat_ngram_size = 2;
    CCH_TRY(cch_batch_new(m, NULL, &batch, &err));
    CCH_TRY(cch_state_new(m, &tape, &err));
    CCH_TRY(cch_state_unbound(tape, &err));
    CCH_TRY(cch_state_append(tape, small_ids(), TAPE, &err));
    CCH_TRY(cch_state_new(m, &window, &err));
    CCH_TRY(cch_state_append(window, small_ids() + (TAPE - WINDOW), WINDOW, &err));
    CCH_TRY(cch_batch_add_window(batch, window, tape, &s, 0, &row, &err));
    for (; made < NEW; made++) CCH_TRY(cch_batch_step(batch, &step, &n, &err));
done:
    if (window != NULL && cch_state_len(window) > 0)
        CHECK(cch_state_len(tape) == TAPE + made && cch_state_len(window) == WINDOW + made);
    CHECK_EQ(cch_pool_check(m->pool, &err), CCH_OK);
    cch_batch_free(batch);
    cch_state_free(tape);
    cch_state_free(window);
    cch_model_set_budget(m, m->pool->budget_bytes, true);
    cch_scratch_deinit(&m->scratch);
    memset(&m->scratch, 0, sizeof m->scratch);
    return status;
}

TEST(rows_with_a_tape_fail_whole_or_not_at_all) {
    cch_error err;
    cch_model m, other;
    cch_batch *batch = NULL;
    int32_t row;
    small_open(&m, 1, 500, -1);
    small_open(&other, 1, 500, -1);
    cch_state *tape = tape_of(&m, TAPE), *window = window_of(&m), *stranger = tape_of(&other, TAPE);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_STATUS(cch_batch_add_window(batch, window, stranger, NULL, 0, &row, &err), CCH_E_MISMATCH, err, "another");
    CHECK_STATUS(cch_batch_add_window(batch, window, window, NULL, 0, &row, &err), CCH_E_BUSY, err, "in use");
    CHECK_OK(cch_state_acquire(tape, &err), err);
    CHECK_STATUS(cch_batch_add_window(batch, window, tape, NULL, 0, &row, &err), CCH_E_BUSY, err, "in use");
    cch_state_release(tape);
    CHECK_OK(cch_batch_add_window(batch, window, tape, NULL, 0, &row, &err), err); /* nothing is held any more */
    cch_batch_free(batch);
    cch_state_free(tape);
    cch_state_free(window);
    cch_state_free(stranger);
    small_close(&other);
    small_close(&m);
    small_open(&m, 1, 500, -1);
    CHECK_OOM(join_and_step(&m));
    small_close(&m);
}

CHECK_MAIN()
