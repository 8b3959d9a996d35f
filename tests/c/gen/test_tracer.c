/* Traces: what a row drew from and attended to, beside what the same state says when it is asked. */
#include "gen/tracer.h"

#include <math.h>

#include "alone.h"

enum { PROMPT = 37, NEW = 24, ROWS = 6 };

static double got[SMALL_VOCAB];

/* The distribution beside what the trace says of it. */
static void check_distribution(const cch_trace *trace, const double *p, int32_t vocab) {
    double entropy = 0.0;
    int32_t n = vocab < CCH_TRACE_TOP ? vocab : CCH_TRACE_TOP;
    for (int32_t i = 0; i < vocab; i++) entropy -= p[i] > 0.0 ? p[i] * log(p[i]) : 0.0;
    CHECK(fabs(entropy - trace->entropy) < 1e-9 && !signbit(trace->entropy));
    CHECK_EQ(trace->n_top, n);
    for (int32_t i = 0; i < n; i++) {
        int32_t id = trace->ids[i];
        CHECK(trace->probabilities[i] == p[id]);
        for (int32_t other = 0; other < vocab; other++) { /* none that comes before it is missing in front of it */
            if (p[other] < p[id] || (p[other] == p[id] && other >= id)) continue;
            bool listed = false;
            for (int32_t k = 0; k < i; k++) listed |= trace->ids[k] == other;
            CHECK(listed);
        }
    }
}

TEST(a_trace_describes_the_distribution_that_was_drawn_from) {
    float logits[SMALL_VOCAB];
    int32_t history[3] = {4, 4, 5};
    for (int i = 0; i < 96; i++) {
        int32_t vocab = i % 5 == 4 ? 7 : SMALL_VOCAB;
        cch_sampling s = sampling_of(i);
        cch_sampled out, plain;
        cch_trace trace;
        cch_error err;
        for (int32_t k = 0; k < vocab; k++) logits[k] = (float)((k * 31 + i * 17) % 41) / 7.0f;
        logits[2] = -INFINITY;
        if (i % 7 == 1) s.top_k = 3, s.adaptive_top_k = false;
        if (i % 7 == 2) s.top_k = 1, s.adaptive_top_k = false;
        if (i % 7 == 3) s.top_p = 0.8f;
        if (i % 7 == 4) s.min_p = 0.2f;
        s.splitmix = i % 2 == 0;
        s.step = i;
        CHECK_OK(cch_sample_traced(logits, vocab, &s, history, 3, &trace, &out, &err), err);
        CHECK_OK(cch_sample(logits, vocab, &s, history, 3, &plain, &err), err);
        CHECK_EQ(out.token_id, plain.token_id);
        CHECK_OK(cch_distribution(logits, vocab, &s, history, 3, got, &err), err);
        check_distribution(&trace, got, vocab);
        CHECK(got[out.token_id] > 0.0);
        if (s.top_k != 1) continue;
        CHECK(trace.entropy == 0.0 && trace.probabilities[0] == 1.0 && trace.ids[1] == (trace.ids[0] == 0));
    }
}

TEST(splitmix_draws_by_step_and_seed_alone) {
    float logits[SMALL_VOCAB] = {0};
    for (int32_t step = 0; step < 200; step++) {
        cch_sampling s = CCH_SAMPLING_INIT;
        cch_sampled out;
        cch_error err;
        s.seed = 42;
        s.splitmix = true;
        s.step = step;
        s.stream = (uint32_t)step;
        CHECK_OK(cch_sample(logits, SMALL_VOCAB, &s, NULL, step % 5, &out, &err), err);
        CHECK_EQ(out.token_id, (int32_t)(cch_splitmix_uniform(42, (uint64_t)step) * SMALL_VOCAB));
    }
}

/* What the state before the last token says of the trace. */
static void check_attention(cch_state *state, const cch_trace *trace, int32_t layer) {
    static float want[SMALL_CTX * 16];
    cch_error err;
    cch_state *before = NULL;
    int32_t n = cch_state_len(state) - 1;
    CHECK_OK(cch_state_fork(state, &before, &err), err);
    CHECK_OK(cch_state_truncate(before, n, &err), err);
    CHECK_OK(cch_state_attention(before, layer, -1, n - 1, 1, want, NULL, &err), err);
    CHECK_EQ(trace->n_keys, n);
    CHECK(memcmp(want, trace->attention, (size_t)trace->n_heads * (size_t)n * sizeof *want) == 0);
    cch_state_free(before);
}

/* Rows 0 to 2 are the same run, two of them traced in different layers, so that they share pages and passes. */
TEST(traced_rows_draw_the_same_tokens_and_show_what_their_states_show) {
    for (int variant = 0; variant < 4; variant++) {
        cch_model m;
        cch_error err;
        cch_batch *batch = NULL;
        cch_batch_options o = {.chunk_tokens = variant == 1 ? 5 : 0, .store_top_k = variant == 2 ? 3 : 0};
        cch_state *states[ROWS];
        cch_step steps[ROWS];
        cch_sampling s[ROWS];
        int32_t rows[ROWS], layer[ROWS] = {0, 1, -1, 1, -1, 0}, want[NEW], drawn = 0;
        size_t n;
        small_open(&m, 1 + variant % 2, variant == 3 ? 14 : 500, -1);
        m.config.n_eos = 0;
        CHECK_OK(cch_batch_new(&m, &o, &batch, &err), err);
        for (int i = 0; i < ROWS; i++) {
            s[i] = sampling_of(i < 3 ? 2 : i);
            states[i] = small_state(&m, small_ids(), PROMPT + (i < 3 ? 0 : i));
            CHECK_OK(cch_batch_add(batch, states[i], &s[i], 0, &rows[i], &err), err);
            if (layer[i] >= 0) CHECK_OK(cch_batch_trace(batch, rows[i], layer[i], &err), err);
        }
        while (drawn < ROWS * NEW) {
            CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
            for (size_t k = 0; k < n; k++) {
                int i = 0;
                while (rows[i] != steps[k].row) i++;
                const cch_trace *trace = cch_batch_trace_view(batch, rows[i]);
                CHECK((trace != NULL) == (layer[i] >= 0));
                CHECK_EQ(steps[k].finish, CCH_RUNNING);
                drawn++;
            }
            for (size_t k = 0; k < n; k++) { /* all of them first: a fork of the state needs it to be free */
                int i = 0;
                while (rows[i] != steps[k].row) i++;
                if (steps[k].position == PROMPT + (i < 3 ? 0 : i) + NEW - 1) cch_batch_remove(batch, rows[i]);
            }
        }
        for (int i = 0; i < ROWS; i++) {
            int32_t ids[SMALL_CTX], len = PROMPT + (i < 3 ? 0 : i);
            CHECK_EQ(generate_alone(&m, small_ids(), len, &s[i], NEW, want), NEW);
            CHECK_OK(cch_state_tokens(states[i], len, NEW, ids, &err), err);
            CHECK(memcmp(ids, want, sizeof want) == 0);
            cch_state_free(states[i]);
        }
        cch_batch_free(batch);
        small_close(&m);
    }
}

TEST(the_attention_of_a_trace_is_that_of_the_state) {
    cch_model m;
    cch_error err;
    cch_step steps[3];
    int32_t rows[3];
    size_t n;
    small_open(&m, 2, 500, -1);
    m.config.n_eos = 0;
    for (int32_t len = 1; len < 60; len += 7) {
        cch_state *states[3];
        cch_batch *batch = NULL;
        cch_sampling s = sampling_of(4);
        CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
        for (int i = 0; i < 3; i++) {
            states[i] = small_state(&m, small_ids(), len);
            CHECK_OK(cch_batch_add(batch, states[i], &s, 0, &rows[i], &err), err);
            CHECK_OK(cch_batch_trace(batch, rows[i], i % m.config.n_layers, &err), err);
        }
        for (int step = 0; step < 3; step++) CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
        CHECK_EQ(n, 3);
        cch_trace traces[3];
        static float kept[3][SMALL_CTX * 16];
        for (int i = 0; i < 3; i++) {
            traces[i] = *cch_batch_trace_view(batch, rows[i]);
            CHECK_EQ(traces[i].n_heads, m.config.n_heads);
            memcpy(kept[i], traces[i].attention, (size_t)(traces[i].n_heads * traces[i].n_keys) * sizeof(float));
            traces[i].attention = kept[i];
        }
        for (int i = 0; i < 3; i++) cch_batch_remove(batch, rows[i]);
        for (int i = 0; i < 3; i++) check_attention(states[i], &traces[i], i % m.config.n_layers);
        for (int i = 0; i < 3; i++) cch_state_free(states[i]);
        cch_batch_free(batch);
    }
    small_close(&m);
}

TEST(an_empty_state_has_attended_to_nothing) {
    cch_model m;
    cch_error err;
    cch_step step;
    cch_batch *batch = NULL;
    int32_t row;
    size_t n;
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, NULL, 0);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, NULL, 0, &row, &err), err);
    CHECK_OK(cch_batch_trace(batch, row, 0, &err), err);
    CHECK(cch_batch_trace_view(batch, row) == NULL);
    CHECK_OK(cch_batch_step(batch, &step, &n, &err), err);
    const cch_trace *trace = cch_batch_trace_view(batch, row);
    CHECK(trace->n_keys == 0 && trace->attention == NULL);
    CHECK(fabs(trace->entropy - log(SMALL_VOCAB)) < 1e-12);
    CHECK_STATUS(cch_batch_trace(batch, row, 0, &err), CCH_E_ARGUMENT, err, "no row 0 waits for its first token");
    cch_batch_free(batch);
    cch_state_free(state);
    small_close(&m);
}

TEST(what_cannot_be_traced_is_refused) {
    cch_model m;
    cch_error err;
    cch_batch *batch = NULL;
    int32_t row, reader;
    float logits[SMALL_VOCAB] = {0};
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 5), *read = small_state(&m, small_ids(), 6);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, NULL, 0, &row, &err), err);
    CHECK_OK(cch_batch_add_reader(batch, read, &reader, &err), err);
    CHECK_STATUS(cch_batch_trace(batch, row, m.config.n_layers, &err), CCH_E_ARGUMENT, err, "allowed: 0 to");
    CHECK_STATUS(cch_batch_trace(batch, row, -1, &err), CCH_E_ARGUMENT, err, "layer is -1");
    CHECK_STATUS(cch_batch_trace(batch, 99, 0, &err), CCH_E_ARGUMENT, err, "no row 99");
    CHECK_STATUS(cch_batch_trace(batch, reader, 0, &err), CCH_E_ARGUMENT, err, "no row 1");
    CHECK_OK(cch_batch_trace(batch, row, 0, &err), err);
    CHECK_STATUS(cch_batch_trace(batch, row, 0, &err), CCH_E_ARGUMENT, err, "is traced already");
    CHECK_STATUS(cch_batch_give(batch, row, logits, &err), CCH_E_ARGUMENT, err, "is traced: the model has to run");
    cch_batch_remove(batch, row);
    CHECK_OK(cch_batch_add(batch, state, NULL, 0, &row, &err), err);
    CHECK_OK(cch_batch_give(batch, row, logits, &err), err);
    CHECK_STATUS(cch_batch_trace(batch, row, 0, &err), CCH_E_ARGUMENT, err, "there is nothing to trace");
    CHECK(cch_batch_trace_view(batch, 99) == NULL);
    cch_batch_free(batch);
    cch_state_free(state);
    cch_state_free(read);
    small_close(&m);
}

static cch_status make_and_grow(void) {
    cch_error err;
    cch_tracer *tracer = NULL;
    cch_status status = cch_tracer_new(1, 4, 1000, &tracer, &err);
    for (int32_t keys = 0; keys <= 1000 && status == CCH_OK; keys += 100) {
        status = cch_tracer_begin(tracer, keys, &err);
        if (status == CCH_OK) CHECK(tracer->cap >= keys && tracer->cap <= 1000 && tracer->trace.n_keys == keys);
    }
    cch_tracer_free(tracer);
    return status;
}

TEST(room_grows_with_the_context_and_failing_allocations_leak_nothing) {
    CHECK_EQ(make_and_grow(), CCH_OK);
    CHECK_OOM(make_and_grow());
}

CHECK_MAIN()
