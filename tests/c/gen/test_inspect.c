/* Looking into a state shows what generation saw, in whatever pieces it is asked for. */
#include "small.h"

TEST(logits_hidden_states_and_keys_are_those_of_the_straight_line_run) {
    static float want[SMALL_CTX * SMALL_VOCAB], got[SMALL_CTX * SMALL_VOCAB], hidden[90 * 40], pieces[90 * 40];
    static float attention[4 * 90 * 90], keys[2 * 90 * 12], values[2 * 90 * 12], other[2 * 90 * 12];
    cch_error err;
    cch_model m;
    cch_eval_options o = {.chunk_tokens = 13};
    small_open(&m, 2, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 90);
    small_reference(&m, small_ids(), 90, want);
    CHECK_OK(cch_state_logits(state, 20, 70, got, &o, &err), err);
    CHECK(memcmp(got, want + 20 * SMALL_VOCAB, 70 * SMALL_VOCAB * sizeof *got) == 0);
    CHECK_OK(cch_state_logits(state, 0, 90, got, NULL, &err), err);
    CHECK(memcmp(got, want, 90 * SMALL_VOCAB * sizeof *got) == 0);
    CHECK_OK(cch_state_hidden(state, 2, 0, 90, hidden, NULL, &err), err);
    CHECK_OK(cch_state_hidden(state, 2, 30, 60, pieces, &o, &err), err);
    CHECK(memcmp(hidden + 30 * 40, pieces, 60 * 40 * sizeof *hidden) == 0);
    memset(attention, 0xff, sizeof attention);
    CHECK_OK(cch_state_attention(state, 1, -1, 40, 50, attention, &o, &err), err);
    for (int row = 0; row < 4 * 50; row++) {
        double sum = 0;
        int last = 40 + row % 50;
        for (int i = 0; i <= last; i++) sum += (double)attention[row * 90 + i];
        for (int i = last + 1; i < 90; i++) CHECK(attention[row * 90 + i] == 0.0f);
        CHECK(fabs(sum - 1.0) < 1e-5);
    }
    CHECK_OK(cch_state_attention(state, 1, 2, 40, 50, got, NULL, &err), err);
    CHECK(memcmp(got, attention + 2 * 50 * 90, 50 * 90 * sizeof *got) == 0);
    CHECK_OK(cch_state_kv(state, 2, 0, 90, keys, values, NULL, &err), err);
    CHECK_OK(cch_state_evict(state, &err), err);
    CHECK_OK(cch_state_kv(state, 2, 0, 90, other, NULL, &o, &err), err);
    CHECK(memcmp(keys, other, sizeof keys) == 0);
    CHECK_OK(cch_state_kv(state, 2, 7, 1, NULL, other, NULL, &err), err);
    CHECK(memcmp(other + 12, values + (90 + 7) * 12, 12 * sizeof *other) == 0);
    CHECK_STATUS(cch_state_hidden(state, 4, 0, 1, hidden, NULL, &err), CCH_E_ARGUMENT, err,
                 "layer is 4, allowed: 0 to 3");
    CHECK_STATUS(cch_state_attention(state, 3, 0, 0, 1, got, NULL, &err), CCH_E_ARGUMENT, err, "layer is 3");
    CHECK_STATUS(cch_state_attention(state, 0, 4, 0, 1, got, NULL, &err), CCH_E_ARGUMENT, err, "head is 4");
    CHECK_STATUS(cch_state_logits(state, 80, 11, got, NULL, &err), CCH_E_ARGUMENT, err, "[80, 80 + 11)");
    cch_state_free(state);
    small_close(&m);
}

/* The page of an edited tail borrows the original's KV entries until they are needed: looking at them needs them. */
TEST(positions_that_an_edit_kept_can_be_looked_at_before_anything_is_computed) {
    static float keys[2 * 20 * 12], values[2 * 20 * 12], got[2 * 20 * 12], got_values[2 * 20 * 12];
    static float hidden[20 * 40], got_hidden[20 * 40];
    cch_error err;
    cch_model m;
    int32_t ready;
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 20), *edited = NULL;
    CHECK_OK(cch_state_kv(state, 1, 0, 18, keys, values, NULL, &err), err);
    CHECK_OK(cch_state_hidden(state, -1, 0, 18, hidden, NULL, &err), err);
    for (int edit = 0; edit < 2; edit++) {
        CHECK_OK(cch_state_fork(state, &edited, &err), err);
        CHECK_OK(cch_state_truncate(edited, 18, &err), err);
        CHECK_OK(cch_state_append(edited, small_ids(), 1, &err), err);
        if (edit == 1) CHECK_OK(cch_state_truncate(edited, 18, &err), err);
        CHECK_OK(cch_state_ready(edited, &ready, &err), err);
        CHECK_EQ(ready, 18);
        if (edit == 0) {
            CHECK_OK(cch_state_hidden(edited, -1, 0, 18, got_hidden, NULL, &err), err);
            CHECK(memcmp(hidden, got_hidden, 18 * 40 * sizeof *hidden) == 0);
        }
        CHECK_OK(cch_state_kv(edited, 1, 0, 18, got, got_values, NULL, &err), err);
        CHECK(memcmp(keys, got, 2 * 18 * 12 * sizeof *keys) == 0);
        CHECK(memcmp(values, got_values, 2 * 18 * 12 * sizeof *values) == 0);
        CHECK_EQ(m.tokens_computed, 18); /* the borrowed entries were copied, nothing was computed again */
        cch_state_free(edited);
    }
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    cch_state_free(state);
    small_close(&m);
}

TEST(tokens_are_judged_by_the_predictions_they_were_stored_with) {
    static float want[91 * SMALL_VOCAB], top_logits[91 * 5], want_logits[5];
    static int32_t top_ids[91 * 5], want_ids[5];
    float logprob[91], stored[90], entropy[91], pieces[90];
    double lse[91], stored_lse[90];
    int32_t rank[91];
    const int32_t bos = 7, *ids = small_ids();
    cch_error err;
    cch_model m;
    cch_logits_summary summary;
    cch_eval_options store = {.store_top_k = 1}, chunks = {.chunk_tokens = 13};
    cch_predictions all = {logprob, rank, entropy, 5, top_ids, top_logits, lse, NULL}, part = {.logprob = pieces};
    small_open(&m, 2, 500, bos);
    cch_state *state = small_state(&m, ids, 90);
    small_reference(&m, &bos, 1, want);
    small_reference(&m, ids, 90, want + SMALL_VOCAB);
    CHECK_OK(cch_state_analyze(state, 0, 91, &all, NULL, &err), err);
    CHECK_OK(cch_eval(&m, &state, 1, &store, NULL, &err), err);
    CHECK_OK(cch_state_scores(state, 0, 90, stored, 0, NULL, NULL, &err), err);
    CHECK_OK(cch_state_lse(state, 0, 90, stored_lse, &err), err);
    CHECK(memcmp(logprob, stored, sizeof stored) == 0);
    CHECK(memcmp(lse + 1, stored_lse, sizeof stored_lse) == 0);
    for (int i = 0; i < 91; i++) {
        const float *row = want + i * SMALL_VOCAB;
        int before = 0;
        for (int id = 0; id < SMALL_VOCAB && i < 90; id++)
            before += row[id] > row[ids[i]] || (row[id] == row[ids[i]] && id < ids[i]);
        CHECK_EQ(rank[i], i < 90 ? before + 1 : 0);
        CHECK_OK(cch_logits_summarize(m.kern, row, SMALL_VOCAB, NULL, &summary, &err), err);
        CHECK(entropy[i] == (float)summary.entropy);
        cch_top_logits(row, SMALL_VOCAB, 5, want_ids, want_logits, NULL);
        CHECK(memcmp(top_ids + i * 5, want_ids, sizeof want_ids) == 0);
        CHECK(memcmp(top_logits + i * 5, want_logits, sizeof want_logits) == 0);
    }
    CHECK(isnan(logprob[90]));
    CHECK_OK(cch_state_analyze(state, 41, 49, &part, &chunks, &err), err);
    CHECK(memcmp(pieces, logprob + 41, 49 * sizeof *pieces) == 0);
    part = (cch_predictions){.rank = rank + 1};
    CHECK_OK(cch_state_analyze(state, 0, 1, &part, NULL, &err), err);
    CHECK_EQ(rank[1], rank[0]);
    CHECK_OK(cch_state_analyze(state, 90, 0, &part, NULL, &err), err);
    CHECK_STATUS(cch_state_analyze(state, 89, 3, &part, NULL, &err), CCH_E_ARGUMENT, err, "[89, 89 + 3)");
    CHECK_STATUS(cch_state_analyze(state, 91, 0, &part, NULL, &err), CCH_E_ARGUMENT, err, "the state has 91");
    part.k = SMALL_VOCAB + 1;
    CHECK_STATUS(cch_state_analyze(state, 0, 1, &part, NULL, &err), CCH_E_ARGUMENT, err, "k is 54");
    cch_state_free(state);
    small_close(&m);
}

static void count_pass(void *arg, int64_t done, int64_t total) {
    int64_t *seen = arg;
    CHECK(done > seen[0] && done <= total);
    seen[0] = done;
    seen[1] = total;
}

TEST(a_pending_state_is_analyzed_in_the_pass_that_reads_it) {
    static float want[(SMALL_CTX + 1) * SMALL_VOCAB], logits[(SMALL_CTX + 1) * SMALL_VOCAB];
    int64_t seen[2] = {0, 0};
    cch_error err;
    cch_model m;
    cch_predictions out = {.logits = logits};
    cch_eval_options options = {.progress = count_pass, .progress_arg = seen};
    small_open(&m, 1, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 200), *empty = small_state(&m, NULL, 0);
    small_reference(&m, small_ids(), 200, want + SMALL_VOCAB);
    CHECK_OK(cch_state_analyze(state, 0, 201, &out, &options, &err), err);
    CHECK(memcmp(logits, want, 201 * SMALL_VOCAB * sizeof *want) == 0); /* without a BOS the first is all zeros */
    CHECK_EQ(m.tokens_computed, 200);
    CHECK_EQ(seen[0], 201);
    CHECK_EQ(seen[1], 201);
    CHECK_OK(cch_state_analyze(empty, 0, 1, &out, NULL, &err), err);
    CHECK(memcmp(logits, want, SMALL_VOCAB * sizeof *want) == 0);
    cch_state_free(empty);
    cch_state_free(state);
    small_close(&m);
}

typedef struct seen_layers {
    float *dst; /* [layers, heads, 50, 90] */
    int heads, visits;
    cch_state *state;
} seen_layers;

static void see_layer(void *arg, int32_t layer, int32_t at, int32_t n, const float *weights) {
    seen_layers *s = arg;
    float unused[SMALL_VOCAB];
    cch_error err;
    s->visits++;
    for (int h = 0; h < s->heads; h++)
        memcpy(s->dst + ((layer * s->heads + h) * 50 + at) * 90, weights + h * n * 90,
               (size_t)(n * 90) * sizeof *s->dst);
    CHECK_STATUS(cch_state_logits(s->state, 0, 1, unused, NULL, &err), CCH_E_BUSY, err, "");
}

TEST(attention_of_all_layers_is_that_of_each) {
    static float all[3 * 4 * 50 * 90], one[4 * 50 * 90];
    cch_error err;
    cch_model m;
    cch_eval_options o = {.chunk_tokens = 13};
    small_open(&m, 2, 500, -1);
    cch_state *state = small_state(&m, small_ids(), 90), *other = small_state(&m, small_ids(), 3);
    seen_layers seen = {all, 4, 0, other};
    CHECK_OK(cch_state_attention_layers(state, -1, 40, 50, see_layer, &seen, &o, &err), err);
    CHECK_EQ(seen.visits, 3 * 4);
    for (int layer = 0; layer < 3; layer++) {
        CHECK_OK(cch_state_attention(state, layer, -1, 40, 50, one, NULL, &err), err);
        CHECK(memcmp(one, all + layer * 4 * 50 * 90, sizeof one) == 0);
    }
    seen = (seen_layers){all, 1, 0, other};
    CHECK_OK(cch_state_attention_layers(state, 2, 40, 50, see_layer, &seen, NULL, &err), err);
    CHECK_EQ(seen.visits, 3);
    CHECK(memcmp(one + 2 * 50 * 90, all + 2 * 50 * 90, 50 * 90 * sizeof *one) == 0);
    CHECK_STATUS(cch_state_attention_layers(state, 4, 0, 1, see_layer, &seen, NULL, &err), CCH_E_ARGUMENT, err,
                 "head is 4, allowed: 0 to 3, or -1");
    CHECK_STATUS(cch_state_attention_layers(state, 0, 89, 2, see_layer, &seen, NULL, &err), CCH_E_ARGUMENT, err,
                 "[89, 89 + 2)");
    cch_state_free(other);
    cch_state_free(state);
    small_close(&m);
}

typedef struct neighbour {
    cch_model *model;
    cch_state *fork, *other;
    int turns;
} neighbour;

/* What others may do between two passes: run the model, and have the pages evicted that are being looked at. */
static void take_a_turn(void *arg, int64_t done, int64_t total) {
    neighbour *n = arg;
    cch_error err;
    CHECK(done <= total);
    if (cch_state_evict(n->other, &err) != CCH_OK) { /* a call whose work was evicted keeps its turn */
        CHECK_EQ(err.code, CCH_E_BUSY);
        return;
    }
    CHECK_OK(cch_eval(n->model, &n->other, 1, NULL, NULL, &err), err);
    CHECK_OK(cch_state_evict(n->fork, &err), err);
    n->turns++;
}

TEST(others_take_turns_between_passes_and_change_nothing) {
    static float logits[91 * SMALL_VOCAB], want_logits[91 * SMALL_VOCAB], weights[4 * 50 * 90], want[4 * 50 * 90];
    static float hidden[90 * 40], want_hidden[90 * 40], kv[2][2 * 90 * 12], want_kv[2][2 * 90 * 12];
    cch_error err;
    cch_model m;
    small_open(&m, 1, 500, 3);
    cch_state *state = small_state(&m, small_ids(), 90);
    neighbour n = {&m, NULL, small_state(&m, small_ids() + 5, 20), 0};
    cch_eval_options o = {.chunk_tokens = 13, .progress = take_a_turn, .progress_arg = &n};
    cch_predictions all = {.logits = want_logits}, got = {.logits = logits};
    CHECK_OK(cch_state_fork(state, &n.fork, &err), err);
    CHECK_OK(cch_state_analyze(state, 0, 91, &all, NULL, &err), err);
    CHECK_OK(cch_state_attention(state, 2, -1, 40, 50, want, NULL, &err), err);
    CHECK_OK(cch_state_hidden(state, -1, 0, 90, want_hidden, NULL, &err), err);
    CHECK_OK(cch_state_kv(state, 1, 0, 90, want_kv[0], want_kv[1], NULL, &err), err);
    for (int look = 0; look < 5; look++) {
        int before = n.turns;
        CHECK_OK(cch_state_evict(state, &err), err);
        cch_status status = look == 0   ? cch_state_analyze(state, 0, 91, &got, &o, &err)
                            : look == 1 ? cch_state_attention(state, 2, -1, 40, 50, weights, &o, &err)
                            : look == 2 ? cch_state_hidden(state, -1, 0, 90, hidden, &o, &err)
                            : look == 3 ? cch_state_kv(state, 1, 0, 90, kv[0], kv[1], &o, &err)
                                        : cch_state_logits(state, 0, 90, logits + SMALL_VOCAB, &o, &err);
        CHECK_OK(status, err);
        CHECK(n.turns > before);
        CHECK(memcmp(logits, want_logits, sizeof logits) == 0);
    }
    CHECK(memcmp(weights, want, sizeof want) == 0);
    CHECK(memcmp(hidden, want_hidden, sizeof hidden) == 0);
    CHECK(memcmp(kv, want_kv, sizeof kv) == 0);
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    cch_state_free(n.fork);
    cch_state_free(n.other);
    cch_state_free(state);
    small_close(&m);
}

static void skip_layer(void *arg, int32_t layer, int32_t at, int32_t n, const float *weights) {
    (void)arg, (void)layer, (void)at, (void)n, (void)weights;
}

static cch_status look(cch_model *m) {
    static float logits[11 * SMALL_VOCAB];
    cch_status status = CCH_OK;
    cch_error err;
    cch_state *state = NULL;
    cch_predictions out = {.logits = logits};
    CCH_TRY(cch_state_new(m, &state, &err));
    CCH_TRY(cch_state_append(state, small_ids(), 20, &err));
    CCH_TRY(cch_state_analyze(state, 10, 11, &out, NULL, &err));
    CCH_TRY(cch_state_attention_layers(state, -1, 0, 20, skip_layer, NULL, NULL, &err));
done:
    cch_state_free(state);
    cch_model_set_budget(m, m->pool->budget_bytes, true);
    cch_scratch_deinit(&m->scratch);
    memset(&m->scratch, 0, sizeof m->scratch);
    return status;
}

TEST(any_failing_allocation_is_survived) {
    cch_model m;
    small_open(&m, 1, 500, -1);
    CHECK_OOM(look(&m));
    small_close(&m);
}

CHECK_MAIN()
