/* Guesses computed along change no token: not at any temperature, in any company, with little memory or none. */
#include "alone.h"

enum { ROWS = 5, LONG = 60, PERIOD = 7 };

/* Text that repeats itself. */
static const int32_t *rhyme(void) {
    static int32_t ids[SMALL_CTX];
    for (int32_t i = 0; i < SMALL_CTX; i++) ids[i] = small_ids()[i % PERIOD];
    return ids;
}

static int32_t length_of(int i) { return i == 4 ? 0 : 20 + 9 * i; }

static cch_sampling sampling_for(int i) {
    cch_sampling s = sampling_of(i);
    if (i == 3) s.temperature = 0.05f; /* as greedy nearly everywhere */
    return s;
}

static void open_guessing(cch_model *m, int threads, size_t budget_pages) {
    small_open(m, threads, budget_pages, 9);
    atomic_init(&m->prompt_lookup, true);
    m->config.n_eos = 1;
    m->config.eos_token_ids[0] = 17;
}

/* Rows of one batch that join at different steps against each alone; returns the passes of the batch. */
static int64_t compare_with_alone(cch_model *m, int n_rows, cch_batch_options o) {
    cch_error err;
    cch_state *states[ROWS];
    cch_step steps[ROWS];
    int32_t rows[ROWS], made[ROWS] = {0}, got[SMALL_CTX], want[LONG];
    cch_batch *batch = NULL;
    size_t n;
    CHECK_OK(cch_batch_new(m, &o, &batch, &err), err);
    for (int round = 0, live = n_rows, joined = 0; live > 0 && round < 2000; round++) {
        while (joined < n_rows && joined <= round / 8) {
            cch_sampling s = sampling_for(joined);
            states[joined] = small_state(m, rhyme() + joined, length_of(joined));
            CHECK_OK(cch_batch_add(batch, states[joined], &s, 0, &rows[joined], &err), err);
            joined++;
        }
        batch->allowance.balance = CCH_ALLOWANCE_PASS; /* whatever they take: in a model this small no guess pays */
        CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
        for (size_t k = 0; k < n; k++) {
            int i = 0;
            while (rows[i] != steps[k].row) i++;
            CHECK_EQ(steps[k].position, length_of(i) + made[i]);
            if (steps[k].finish == CCH_RUNNING) {
                CHECK_EQ(cch_state_len(states[i]), length_of(i) + ++made[i]);
                CHECK(cch_batch_logits_view(batch, rows[i]) != NULL);
            }
            if (steps[k].finish == CCH_RUNNING && made[i] < LONG) continue;
            cch_batch_remove(batch, rows[i]);
            live--;
        }
        CHECK_OK(cch_pool_check(m->pool, &err), err);
    }
    int64_t passes = cch_batch_passes(batch);
    cch_batch_free(batch);
    atomic_store(&m->prompt_lookup, false);
    for (int i = 0; i < n_rows; i++) {
        cch_sampling s = sampling_for(i);
        CHECK_OK(cch_state_check(states[i], &err), err);
        CHECK_EQ(made[i], generate_alone(m, rhyme() + i, length_of(i), &s, LONG, want));
        CHECK_OK(cch_state_tokens(states[i], length_of(i), made[i], got, &err), err);
        CHECK(memcmp(got, want, (size_t)made[i] * sizeof *got) == 0);
        cch_state_free(states[i]);
    }
    atomic_store(&m->prompt_lookup, true);
    return passes;
}

TEST(rows_with_guesses_get_the_tokens_they_get_alone) {
    const cch_batch_options options[] = {{.chunk_tokens = 0}, {.store_top_k = 3}, {.chunk_tokens = 3}};
    for (int i = 0; i < 6; i++) {
        cch_model m;
        open_guessing(&m, 1 + i % 2, i % 3 == 1 ? 9 : 500);
        compare_with_alone(&m, i < 3 ? ROWS : 1, options[i % 3]);
        small_close(&m);
    }
}

TEST(a_text_that_repeats_itself_needs_fewer_passes) {
    cch_model m;
    open_guessing(&m, 1, 500);
    m.config.n_eos = 0;
    int64_t guessing = compare_with_alone(&m, 1, (cch_batch_options)CCH_BATCH_OPTIONS_INIT);
    CHECK(guessing < LONG);
    atomic_store(&m.prompt_lookup, false);
    CHECK_EQ(compare_with_alone(&m, 1, (cch_batch_options)CCH_BATCH_OPTIONS_INIT), LONG);
    small_close(&m);
}

/* Tokens until the budget is short. */
static int32_t tokens_within(size_t budget_pages, bool guesses) {
    cch_error err = {0};
    cch_model m;
    cch_step step;
    cch_sampling s = sampling_for(0);
    cch_batch *batch = NULL;
    cch_status status = CCH_OK;
    size_t n;
    int32_t row, made = 0;
    open_guessing(&m, 1, budget_pages);
    m.config.n_eos = 0;
    atomic_store(&m.prompt_lookup, guesses);
    cch_state *state = small_state(&m, rhyme(), 20);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, &s, 0, &row, &err), err);
    while ((status = cch_batch_step(batch, &step, &n, &err)) == CCH_OK && made < 100) made++;
    CHECK_EQ(status, CCH_E_BUDGET);
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    cch_batch_free(batch);
    CHECK_EQ(cch_state_len(state), 20 + made);
    cch_state_free(state);
    small_close(&m);
    return made;
}

TEST(a_budget_ends_a_run_at_the_same_token) {
    for (size_t pages = 2; pages < 5; pages++) CHECK_EQ(tokens_within(pages, true), tokens_within(pages, false));
}

TEST(a_step_that_fails_for_want_of_memory_can_be_repeated) {
    cch_error err = {0};
    cch_model m;
    cch_step step;
    cch_sampling s = sampling_for(0);
    cch_batch *batch = NULL;
    size_t n;
    int32_t row, want[LONG], got[LONG], failed = 0;
    open_guessing(&m, 1, 500);
    m.config.n_eos = 0;
    cch_state *state = small_state(&m, rhyme(), 30);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, &s, 0, &row, &err), err);
    for (int i = 0, made = 0; made < LONG && i < 3 * LONG; i++) {
        cch_fail_alloc(1 + i % 5);
        cch_status status = cch_batch_step(batch, &step, &n, &err);
        cch_fail_alloc(0);
        CHECK(status == CCH_OK || status == CCH_E_MEMORY);
        failed += status != CCH_OK;
        made += status == CCH_OK;
        CHECK_EQ(cch_state_len(state), 30 + made);
        CHECK_OK(cch_pool_check(m.pool, &err), err);
    }
    CHECK(failed > 0);
    cch_batch_free(batch);
    CHECK_EQ(generate_alone(&m, rhyme(), 30, &s, LONG, want), LONG);
    CHECK_OK(cch_state_tokens(state, 30, LONG, got, &err), err);
    CHECK(memcmp(got, want, sizeof got) == 0);
    cch_state_free(state);
    small_close(&m);
}

TEST(the_model_runs_for_each_token_of_a_traced_row) {
    enum { TOKENS = 20 };
    cch_error err;
    cch_model m;
    cch_step step;
    cch_sampling s = sampling_for(0);
    cch_batch *batch = NULL;
    size_t n;
    int32_t row;
    open_guessing(&m, 1, 500);
    m.config.n_eos = 0;
    cch_state *state = small_state(&m, rhyme(), 30);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, &s, 0, &row, &err), err);
    CHECK_OK(cch_batch_trace(batch, row, 0, &err), err);
    for (int i = 0; i < TOKENS; i++) {
        CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
        const cch_trace *trace = cch_batch_trace_view(batch, row);
        CHECK(trace != NULL && trace->n_keys == 30 + i);
    }
    CHECK_EQ(cch_batch_passes(batch), TOKENS);
    cch_batch_free(batch);
    cch_state_free(state);
    small_close(&m);
}

CHECK_MAIN()
