/* Classifiers: the labels of a text are the head times its last hidden state, whatever else is computed beside it; and
 * what predicts tokens is refused. */
#include "small.h"

enum { LABELS = 19, LENGTH = 90 }; /* labels that end inside the second panel */

static void open_classifier(cch_model *m, cch_config base, int32_t n_labels, const char *isa, int threads) {
    toy_open(m, toy_classifier(base, n_labels), isa, threads);
    CHECK_EQ(cch_turns_init(&m->run_lock, NULL), CCH_OK);
    atomic_init(&m->refs, 1);
    cch_pool_set_budget(m->pool, 100 * m->pool->page_bytes, false);
}

/* Labels of every position of the state, from its hidden states: for each one chain in ascending order. */
static void straight_line(cch_model *m, cch_state *state, float *labels) {
    cch_error err;
    int32_t n = cch_state_len(state), n_labels = m->config.n_labels;
    size_t width = (size_t)m->config.hidden_size;
    float *hidden = cch_alloc((size_t)n * width, sizeof *hidden), *row = cch_alloc(width, sizeof *row);
    CHECK_OK(cch_state_hidden(state, -1, 0, n, hidden, NULL, &err), err);
    for (int32_t label = 0; label < n_labels; label++) {
        cch_packed_row(&m->weights.head, (size_t)label, row);
        for (int32_t i = 0; i < n; i++) {
            float sum = 0.0f;
            for (size_t k = 0; k < width; k++) sum = fmaf(hidden[(size_t)i * width + k], row[k], sum);
            labels[i * n_labels + label] = sum;
        }
    }
    cch_free(hidden);
    cch_free(row);
}

TEST(labels_are_the_head_times_the_hidden_state) {
    static float want[LENGTH * LABELS], first[2][LENGTH * LABELS], got[LENGTH * LABELS];
    static const char *const isas[] = {NULL, "generic", "avx2"};
    cch_error err;
    cch_model m;
    const cch_kernels *kernels;
    for (int variant = 0; variant < 6; variant++) {
        const char *isa = isas[variant % 3];
        if (cch_kernels_get(isa, &kernels, NULL) != CCH_OK) continue; /* not on this CPU */
        open_classifier(&m, variant < 3 ? toy_gpt2() : toy_windowed(), LABELS, isa, 1 + variant % 3);
        cch_state *state = small_state(&m, small_ids(), LENGTH);
        straight_line(&m, state, want);
        for (int chunk = 0; chunk < 90; chunk = 2 * chunk + 1) {
            cch_eval_options o = {.chunk_tokens = chunk};
            CHECK_OK(cch_state_evict(state, &err), err);
            CHECK_OK(cch_classify(&m, &state, 1, &o, got, &err), err);
            CHECK(memcmp(got, want + (LENGTH - 1) * LABELS, LABELS * sizeof *got) == 0);
            CHECK_OK(cch_state_evict(state, &err), err);
            CHECK_OK(cch_state_classify(state, 20, LENGTH - 20, got, &o, &err), err);
            CHECK(memcmp(got, want + 20 * LABELS, (LENGTH - 20) * LABELS * sizeof *got) == 0);
        }
        if (variant % 3 == 0) memcpy(first[variant / 3], want, sizeof want);
        CHECK(memcmp(first[variant / 3], want, sizeof want) == 0);
        cch_state_free(state);
        small_close(&m);
    }
}

TEST(texts_are_classified_together_as_alone) {
    float together[7], alone, every[LENGTH];
    cch_state *states[7];
    cch_error err;
    cch_model m;
    open_classifier(&m, toy_llama(), 1, NULL, 2);
    for (int32_t i = 0; i < 7; i++) states[i] = small_state(&m, small_ids(), 1 + 14 * i);
    CHECK_OK(cch_classify(&m, states, 7, NULL, together, &err), err);
    CHECK_EQ(m.tokens_computed, 5 * 16 + 1 + 15 + 13 + 11 + 9 + 7 + 5); /* they begin alike: full pages are read once */
    CHECK_OK(cch_state_classify(states[6], 0, 85, every, NULL, &err), err);
    for (int32_t i = 0; i < 7; i++) {
        CHECK_OK(cch_state_evict(states[i], &err), err);
        CHECK_OK(cch_classify(&m, &states[i], 1, NULL, &alone, &err), err);
        CHECK(memcmp(&alone, &together[i], sizeof alone) == 0);
        CHECK(memcmp(&alone, &every[14 * i], sizeof alone) == 0); /* each position judges the text up to it */
    }
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    for (int32_t i = 0; i < 7; i++) cch_state_free(states[i]);
    small_close(&m);
}

TEST(a_classifier_predicts_no_tokens) {
    static float numbers[4 * 5 * 5 * 12 + 200];
    int32_t ranks[5];
    cch_predictions predictions = {.rank = ranks};
    cch_error err;
    cch_model m;
    cch_batch *batch = NULL;
    cch_step step;
    size_t n_steps;
    int32_t row;
    cch_beams *beams = NULL;
    cch_beam_params params = CCH_BEAM_PARAMS_INIT;
    cch_eval_options store = {.store_top_k = 1};
    open_classifier(&m, toy_llama(), 3, NULL, 1);
    cch_state *state = small_state(&m, small_ids(), 5), *empty = NULL;
    const char *words = "needs a causal_lm model, this is a sequence_classification model";
    CHECK_STATUS(cch_eval(&m, &state, 1, NULL, numbers, &err), CCH_E_MODEL_TYPE, err, words);
    CHECK_STATUS(cch_eval(&m, &state, 1, &store, NULL, &err), CCH_E_MODEL_TYPE, err, words);
    CHECK_STATUS(cch_state_logits(state, 0, 5, numbers, NULL, &err), CCH_E_MODEL_TYPE, err, words);
    CHECK_STATUS(cch_state_analyze(state, 0, 5, &predictions, NULL, &err), CCH_E_MODEL_TYPE, err, words);
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err); /* an empty one, so that a server treats all models alike */
    CHECK_STATUS(cch_batch_add(batch, state, NULL, 0, &row, &err), CCH_E_MODEL_TYPE, err, words);
    CHECK_STATUS(cch_batch_add_reader(batch, state, &row, &err), CCH_E_MODEL_TYPE, err, words);
    CHECK_EQ(row, -1);
    CHECK_OK(cch_batch_step(batch, &step, &n_steps, &err), err);
    CHECK_EQ(n_steps, 0);
    cch_batch_free(batch);
    CHECK_STATUS(cch_beam_search(state, &params, NULL, NULL, &beams, &err), CCH_E_MODEL_TYPE, err, words);
    CHECK(beams == NULL);
    CHECK_EQ(m.tokens_computed, 0);

    CHECK_OK(cch_eval(&m, &state, 1, NULL, NULL, &err), err); /* its keys and attention are like any other's */
    CHECK_OK(cch_state_attention(state, 0, -1, 0, 5, numbers, NULL, &err), err);
    CHECK_OK(cch_state_kv(state, 0, 0, 5, numbers, NULL, NULL, &err), err);
    CHECK_OK(cch_classify(&m, &state, 1, &store, numbers, &err), err);
    CHECK_OK(cch_classify(&m, NULL, 0, NULL, NULL, &err), err);
    CHECK_OK(cch_state_new(&m, &empty, &err), err);
    cch_state *both[2] = {state, empty};
    CHECK_STATUS(cch_classify(&m, both, 2, NULL, numbers, &err), CCH_E_EMPTY, err,
                 "one of the 2 states holds no tokens");
    both[1] = state;
    CHECK_STATUS(cch_classify(&m, both, 2, NULL, numbers, &err), CCH_E_BUSY, err, NULL);
    CHECK_STATUS(cch_state_classify(state, 3, 3, numbers, NULL, &err), CCH_E_ARGUMENT, err, "[3, 3 + 3)");
    cch_state_free(empty);
    cch_state_free(state);
    small_close(&m);
}

TEST(only_a_classifier_has_labels) {
    float numbers[SMALL_VOCAB];
    cch_error err;
    cch_model m;
    small_open(&m, 1, 100, -1);
    cch_state *state = small_state(&m, small_ids(), 5);
    const char *words = "classifying needs a sequence_classification model, this is a causal_lm model";
    CHECK_STATUS(cch_classify(&m, &state, 1, NULL, numbers, &err), CCH_E_MODEL_TYPE, err, words);
    CHECK_STATUS(cch_state_classify(state, 0, 5, numbers, NULL, &err), CCH_E_MODEL_TYPE, err, words);
    cch_state_free(state);
    small_close(&m);
}

/* Classifies two texts and every prefix of one; gives back all memory that the model keeps. */
static cch_status classify_two(cch_model *m) {
    float labels[20 * LABELS];
    cch_status status = CCH_OK;
    cch_error err;
    cch_state *s[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        CCH_TRY(cch_state_new(m, &s[i], &err));
        CCH_TRY(cch_state_append(s[i], small_ids() + i, 20, &err));
    }
    CCH_TRY(cch_classify(m, s, 2, NULL, labels, &err));
    CCH_TRY(cch_state_classify(s[1], 0, 20, labels, NULL, &err));
done:
    CHECK_EQ(cch_pool_check(m->pool, &err), CCH_OK);
    cch_state_free(s[0]);
    cch_state_free(s[1]);
    cch_model_set_budget(m, m->pool->budget_bytes, true);
    cch_scratch_deinit(&m->scratch);
    memset(&m->scratch, 0, sizeof m->scratch);
    return status;
}

TEST(any_failing_allocation_is_survived) {
    cch_model m;
    open_classifier(&m, toy_llama(), LABELS, NULL, 1);
    CHECK_OOM(classify_two(&m));
    small_close(&m);
}

CHECK_MAIN()
