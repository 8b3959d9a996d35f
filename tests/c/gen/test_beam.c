/* Beam search over a real forward pass: the beams' numbers are the model's, the state stays, greedy is one beam. */
#include "small.h"

#include "gen/beam.h"
#include "gen/logits.h"

enum { PROMPT = 21, EOS = 17 };

static void open_with_eos(cch_model *m) {
    small_open(m, 1, 4000, -1);
    m->config.n_eos = 1;
    m->config.eos_token_ids[0] = EOS;
}

/* The log-probabilities of ids [first, n) given those before, from one straight-line pass. */
static void score(cch_model *m, const int32_t *ids, int32_t first, int32_t n, double *logprobs) {
    static float logits[SMALL_CTX * SMALL_VOCAB];
    small_reference(m, ids, n, logits);
    for (int32_t i = first; i < n; i++) {
        cch_logits_summary summary;
        const float *row = logits + (i - 1) * SMALL_VOCAB;
        CHECK_EQ(cch_logits_summarize(m->kern, row, SMALL_VOCAB, NULL, &summary, NULL), CCH_OK);
        logprobs[i - first] = cch_logits_logprob(row, &summary, ids[i]);
    }
}

/* Every number of every beam against `score`, bit for bit; the order; that no two are equal. */
static void check_beams(cch_model *m, const cch_beams *beams, const cch_beam_params *p, bool distinct) {
    cch_beam beam, before;
    for (size_t i = 0; i < cch_beams_len(beams); i++) {
        int32_t ids[SMALL_CTX];
        double logprobs[SMALL_CTX], sum = 0.0;
        cch_beams_get(beams, i, &beam);
        int32_t length = beam.n_tokens + beam.eos;
        CHECK(length >= 1 && length <= p->max_tokens);
        memcpy(ids, small_ids(), PROMPT * sizeof *ids);
        memcpy(ids + PROMPT, beam.tokens, (size_t)beam.n_tokens * sizeof *ids);
        ids[PROMPT + beam.n_tokens] = EOS;
        score(m, ids, PROMPT, PROMPT + length, logprobs);
        for (int32_t j = 0; j < length; j++) sum += logprobs[j];
        for (int32_t j = 0; j < beam.n_tokens; j++) CHECK(beam.logprobs[j] == (float)logprobs[j]);
        CHECK(beam.logprob == sum && beam.score == sum / pow((double)length, (double)p->length_penalty));
        for (size_t j = 0; j < i; j++) {
            cch_beams_get(beams, j, &before);
            CHECK(before.score >= beam.score);
            bool same = before.n_tokens == beam.n_tokens && before.eos == beam.eos &&
                        memcmp(before.tokens, beam.tokens, (size_t)beam.n_tokens * sizeof *beam.tokens) == 0;
            CHECK(!distinct || !same);
        }
    }
}

TEST(numbers_of_a_beam_are_those_of_its_sequence_and_the_state_stays) {
    static float before[SMALL_VOCAB], after[SMALL_VOCAB];
    for (int n = 1; n <= 8; n++) {
        cch_model m;
        cch_error err;
        cch_beams *beams;
        cch_beam_params p = CCH_BEAM_PARAMS_INIT;
        p.n_beams = n, p.max_tokens = 20, p.length_penalty = 0.25f * (float)n, p.early_stopping = n % 3;
        open_with_eos(&m);
        cch_state *state = small_state(&m, small_ids(), PROMPT);
        CHECK_OK(cch_eval(&m, &state, 1, NULL, before, &err), err);
        CHECK_OK(cch_beam_search(state, &p, NULL, NULL, &beams, &err), err);
        CHECK_EQ(cch_beams_len(beams), n);
        check_beams(&m, beams, &p, true);
        CHECK_EQ(cch_state_len(state), PROMPT);
        CHECK_OK(cch_eval(&m, &state, 1, NULL, after, &err), err);
        CHECK(memcmp(before, after, sizeof before) == 0);
        CHECK_OK(cch_pool_check(m.pool, &err), err);
        cch_beams_free(beams);
        cch_state_free(state);
        small_close(&m);
    }
}

static void compare_with_greedy(cch_model *m, const cch_beam_params *p) {
    static float logits[SMALL_VOCAB];
    cch_sampling greedy = CCH_SAMPLING_INIT;
    cch_error err;
    cch_beams *beams;
    cch_beam beam;
    int32_t ids[SMALL_CTX], n = PROMPT;
    memcpy(ids, small_ids(), PROMPT * sizeof *ids);
    greedy.temperature = 0.0f;
    greedy.repetition_penalty = p->repetition_penalty, greedy.no_repeat_ngram_size = p->no_repeat_ngram_size;
    cch_state *state = small_state(m, ids, n);
    CHECK_OK(cch_beam_search(state, p, NULL, NULL, &beams, &err), err);
    bool eos = false;
    while (!eos && n < PROMPT + p->max_tokens) {
        cch_sampled sampled;
        CHECK_OK(cch_eval(m, &state, 1, NULL, logits, &err), err);
        if (n - PROMPT < p->min_tokens) logits[EOS] = -INFINITY;
        CHECK_OK(cch_sample(logits, SMALL_VOCAB, &greedy, ids, n, &sampled, &err), err);
        eos = sampled.token_id == EOS;
        if (eos) break;
        ids[n++] = sampled.token_id;
        CHECK_OK(cch_state_append(state, &sampled.token_id, 1, &err), err);
    }
    CHECK_EQ(cch_beams_len(beams), 1);
    cch_beams_get(beams, 0, &beam);
    CHECK_EQ(beam.n_tokens, n - PROMPT);
    CHECK_EQ(beam.eos, eos);
    CHECK(memcmp(beam.tokens, ids + PROMPT, (size_t)beam.n_tokens * sizeof *ids) == 0);
    cch_beams_free(beams);
    cch_state_free(state);
}

TEST(one_beam_is_greedy_decoding_with_every_option) {
    cch_model m;
    open_with_eos(&m);
    for (int i = 0; i < 12; i++) {
        cch_beam_params p = CCH_BEAM_PARAMS_INIT;
        p.n_beams = 1, p.max_tokens = 40, p.early_stopping = i % 3;
        if (i % 2) p.repetition_penalty = 1.4f;
        if (i / 2 % 2) p.no_repeat_ngram_size = 2;
        if (i / 4 % 3) p.min_tokens = 15 * (i / 4);
        if (i % 5 == 1) p.top_k = 1 + i;
        if (i % 5 == 2) p.min_p = 0.4f;
        compare_with_greedy(&m, &p);
    }
    small_close(&m);
}

/* Whether each token of the beam is among the k likeliest given those before, and has min_p of the likeliest. */
static void check_cuts(cch_model *m, const cch_beam *beam, const cch_beam_params *p) {
    static float logits[SMALL_CTX * SMALL_VOCAB];
    int32_t ids[SMALL_CTX], n = PROMPT + beam->n_tokens;
    memcpy(ids, small_ids(), PROMPT * sizeof *ids);
    memcpy(ids + PROMPT, beam->tokens, (size_t)beam->n_tokens * sizeof *ids);
    ids[n] = EOS;
    small_reference(m, ids, n, logits);
    for (int32_t i = PROMPT; i < n + beam->eos; i++) {
        const float *row = logits + (i - 1) * SMALL_VOCAB;
        bool eos_may_come = i - PROMPT >= p->min_tokens;
        int32_t above = 0;
        float largest = -INFINITY;
        for (int32_t id = 0; id < SMALL_VOCAB; id++) {
            if (id == EOS && !eos_may_come) continue;
            above += row[id] > row[ids[i]];
            largest = fmaxf(largest, row[id]);
        }
        CHECK(ids[i] != EOS || eos_may_come);
        CHECK(p->top_k == 0 || above < p->top_k);
        CHECK(exp((double)row[ids[i]] - (double)largest) >= (double)p->min_p - 1e-9);
    }
}

TEST(beams_keep_to_top_k_min_p_and_min_tokens_with_the_models_own_numbers) {
    bool ended = false, went_on = false;
    cch_model m;
    open_with_eos(&m);
    for (int i = 0; i < 24; i++) {
        cch_error err;
        cch_beams *beams;
        cch_beam beam;
        cch_beam_params p = CCH_BEAM_PARAMS_INIT;
        p.n_beams = 1 + i % 6, p.max_tokens = 20, p.early_stopping = i % 3;
        if (i % 4 != 0) p.top_k = 1 + i % 4;
        if (i % 3 != 0) p.min_p = i % 3 == 1 ? 0.3f : 1.0f;
        if (i % 2 != 0) p.min_tokens = i / 2;
        cch_state *state = small_state(&m, small_ids(), PROMPT);
        CHECK_OK(cch_beam_search(state, &p, NULL, NULL, &beams, &err), err);
        CHECK(cch_beams_len(beams) >= 1 && cch_beams_len(beams) <= (size_t)p.n_beams);
        check_beams(&m, beams, &p, true);
        for (size_t j = 0; j < cch_beams_len(beams); j++) {
            cch_beams_get(beams, j, &beam);
            check_cuts(&m, &beam, &p);
            ended |= beam.eos;
            went_on |= p.min_tokens > 0 && beam.n_tokens > p.min_tokens;
        }
        cch_beams_free(beams);
        cch_state_free(state);
    }
    CHECK(ended && went_on);
    small_close(&m);
}

TEST(penalties_of_a_window_read_its_tape) {
    enum { SEEN = 7, NEW = 12 };
    cch_model m;
    cch_error err;
    cch_beams *beams;
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    bool differ = false;
    small_open(&m, 1, 4000, -1);
    cch_state *tape = small_state(&m, small_ids(), PROMPT);
    cch_state *window = small_state(&m, small_ids() + PROMPT - SEEN, SEEN);
    p.n_beams = 3, p.max_tokens = NEW, p.no_repeat_ngram_size = 1;
    for (int with = 0; with <= 1; with++) {
        p.tape = with ? tape : NULL;
        CHECK_OK(cch_beam_search(window, &p, NULL, NULL, &beams, &err), err);
        for (size_t i = 0; i < cch_beams_len(beams); i++) {
            cch_beam beam;
            bool repeats = false;
            cch_beams_get(beams, i, &beam);
            for (int32_t k = 0; k < beam.n_tokens; k++)
                for (int32_t j = 0; j < PROMPT; j++) repeats |= beam.tokens[k] == small_ids()[j];
            CHECK(!with || !repeats);
            differ |= repeats;
        }
        cch_beams_free(beams);
    }
    CHECK(differ);
    CHECK_OK(cch_state_acquire(tape, &err), err);
    CHECK_STATUS(cch_beam_search(window, &p, NULL, NULL, &beams, &err), CCH_E_BUSY, err, "in use");
    cch_state_release(tape);
    cch_state_free(tape);
    cch_state_free(window);
    small_close(&m);
}

TEST(hundreds_of_beams_in_groups_or_alone) {
    for (int groups = 1; groups <= 7; groups += 6) {
        cch_model m;
        cch_error err;
        cch_beams *beams;
        cch_beam_params p = CCH_BEAM_PARAMS_INIT;
        p.n_beams = 300, p.max_tokens = 4, p.early_stopping = 2, p.n_groups = groups;
        p.diversity_penalty = groups > 1 ? 1.5f : 0.0f;
        open_with_eos(&m);
        cch_state *state = small_state(&m, small_ids(), PROMPT);
        CHECK_OK(cch_beam_search(state, &p, NULL, NULL, &beams, &err), err);
        CHECK_EQ(cch_beams_len(beams), 300);
        /* the prompt, 52 tokens that are no end, and then every open beam */
        if (groups == 1) CHECK_EQ(m.tokens_computed, PROMPT + (SMALL_VOCAB - 1) + 300 + 300);
        check_beams(&m, beams, &p, groups == 1);
        int32_t sizes[7] = {0};
        for (size_t i = 0; i < 300; i++) {
            cch_beam beam;
            cch_beams_get(beams, i, &beam);
            sizes[beam.group]++;
        }
        for (int g = 0; g < groups; g++) CHECK_EQ(sizes[g], 300 / groups + (g < 300 % groups));
        cch_beams_free(beams);
        cch_state_free(state);
        small_close(&m);
    }
}

TEST(blocked_ngrams_occur_in_no_beam_and_penalties_do_not_show) {
    cch_model m;
    cch_error err;
    cch_beams *beams;
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    p.n_beams = 6, p.max_tokens = 30, p.no_repeat_ngram_size = 2, p.repetition_penalty = 1.2f, p.early_stopping = 0;
    open_with_eos(&m);
    cch_state *state = small_state(&m, small_ids(), PROMPT);
    CHECK_OK(cch_beam_search(state, &p, NULL, NULL, &beams, &err), err);
    check_beams(&m, beams, &p, true);
    for (size_t i = 0; i < cch_beams_len(beams); i++) {
        cch_beam beam;
        int32_t ids[SMALL_CTX], repeats = 0;
        cch_beams_get(beams, i, &beam);
        memcpy(ids, small_ids(), PROMPT * sizeof *ids);
        memcpy(ids + PROMPT, beam.tokens, (size_t)beam.n_tokens * sizeof *ids);
        for (int32_t a = PROMPT; a < PROMPT + beam.n_tokens; a++)
            for (int32_t b = 1; b < a; b++) repeats += ids[a] == ids[b] && ids[a - 1] == ids[b - 1];
        CHECK_EQ(repeats, 0);
    }
    cch_beams_free(beams);
    cch_state_free(state);
    small_close(&m);
}

typedef struct two_tokens {
    int32_t ids[2];
    double steer;
} two_tokens;

static int by_steer(const void *a, const void *b) {
    double x = ((const two_tokens *)a)->steer, y = ((const two_tokens *)b)->steer;
    return x > y ? -1 : x < y;
}

/* Every continuation of ids [n] by one token: what it is chosen by under `penalty`. */
static void steer_all(cch_model *m, int32_t *ids, int32_t n, float penalty, double before, two_tokens *out, int depth) {
    static float logits[SMALL_CTX * SMALL_VOCAB], moved[SMALL_VOCAB];
    cch_logits_summary summary;
    small_reference(m, ids, n, logits);
    const float *row = logits + (n - 1) * SMALL_VOCAB;
    CHECK_EQ(cch_logits_summarize(m->kern, row, SMALL_VOCAB, NULL, &summary, NULL), CCH_OK);
    CHECK_EQ(cch_logits_penalize(row, SMALL_VOCAB, penalty, 0, ids, n, NULL, 0, moved, NULL), CCH_OK);
    for (int32_t i = 0; i < SMALL_VOCAB; i++) {
        out[i].ids[0] = depth > 0 ? ids[PROMPT] : i;
        out[i].ids[depth] = i;
        out[i].steer = before + (double)moved[i] - (double)summary.max - summary.log_sum;
    }
}

TEST(repetition_penalty_decides_between_beams) {
    static two_tokens first[SMALL_VOCAB], second[3 * SMALL_VOCAB];
    for (int i = 0; i < 6; i++) {
        cch_model m;
        cch_error err;
        cch_beams *beams;
        cch_beam_params p = CCH_BEAM_PARAMS_INIT;
        int32_t ids[SMALL_CTX];
        p.n_beams = 3, p.max_tokens = 2, p.repetition_penalty = 0.5f + 0.4f * (float)i;
        small_open(&m, 1, 4000, -1);
        memcpy(ids, small_ids(), PROMPT * sizeof *ids);
        steer_all(&m, ids, PROMPT, p.repetition_penalty, 0.0, first, 0);
        qsort(first, SMALL_VOCAB, sizeof *first, by_steer);
        for (int b = 0; b < 3; b++) {
            ids[PROMPT] = first[b].ids[0];
            steer_all(&m, ids, PROMPT + 1, p.repetition_penalty, first[b].steer, second + b * SMALL_VOCAB, 1);
        }
        qsort(second, 3 * SMALL_VOCAB, sizeof *second, by_steer);
        cch_state *state = small_state(&m, small_ids(), PROMPT);
        CHECK_OK(cch_beam_search(state, &p, NULL, NULL, &beams, &err), err);
        check_beams(&m, beams, &p, true);
        for (size_t b = 0; b < 3; b++) {
            cch_beam beam;
            int found = 0;
            cch_beams_get(beams, b, &beam);
            for (int j = 0; j < 3; j++) found += memcmp(second[j].ids, beam.tokens, sizeof second[j].ids) == 0;
            CHECK_EQ(found, 1);
        }
        cch_beams_free(beams);
        cch_state_free(state);
        small_close(&m);
    }
}

TEST(beams_end_where_the_context_ends) {
    cch_model m;
    cch_error err;
    cch_beams *beams;
    cch_beam beam;
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    small_open(&m, 1, 4000, -1);
    p.n_beams = 3, p.max_tokens = 100;
    cch_state *state = small_state(&m, small_ids(), SMALL_CTX - 2);
    CHECK_OK(cch_beam_search(state, &p, NULL, NULL, &beams, &err), err);
    cch_beams_get(beams, 0, &beam);
    CHECK_EQ(beam.n_tokens, 2);
    cch_beams_free(beams);
    CHECK_OK(cch_state_append(state, small_ids(), 2, &err), err);
    CHECK_STATUS(cch_beam_search(state, &p, NULL, NULL, &beams, &err), CCH_E_CONTEXT, err, "the state has 256 tokens");
    CHECK(beams == NULL);
    cch_state_free(state);
    small_close(&m);
}

static bool after_three(void *arg, const int32_t *tokens, int32_t n) {
    CHECK(tokens[0] >= 0 && tokens[n - 1] < SMALL_VOCAB);
    return n == *(int *)arg;
}

TEST(a_stop_that_matches_completes_a_beam) {
    cch_model m;
    cch_error err;
    cch_beams *beams;
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    int length = 3;
    small_open(&m, 1, 4000, -1);
    p.n_beams = 4, p.max_tokens = 10;
    cch_state *state = small_state(&m, small_ids(), PROMPT);
    CHECK_OK(cch_beam_search(state, &p, after_three, &length, &beams, &err), err);
    CHECK_EQ(cch_beams_len(beams), 4);
    for (size_t i = 0; i < cch_beams_len(beams); i++) {
        cch_beam beam;
        cch_beams_get(beams, i, &beam);
        CHECK(beam.n_tokens == 3 && !beam.eos);
    }
    cch_beams_free(beams);
    cch_state_free(state);
    small_close(&m);
}

TEST(refusals_leave_nothing_behind) {
    cch_model m;
    cch_error err;
    cch_beams *beams;
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    const int cancel = 1;
    open_with_eos(&m);
    cch_state *state = small_state(&m, small_ids(), PROMPT);
    p.n_beams = 0;
    CHECK_STATUS(cch_beam_search(state, &p, NULL, NULL, &beams, &err), CCH_E_ARGUMENT, err, "n_beams is 0");
    p.n_beams = 4, p.cancel = &cancel;
    CHECK_STATUS(cch_beam_search(state, &p, NULL, NULL, &beams, &err), CCH_E_CANCELLED, err, NULL);
    p.cancel = NULL;
    CHECK_OK(cch_state_acquire(state, &err), err);
    CHECK_STATUS(cch_beam_search(state, &p, NULL, NULL, &beams, &err), CCH_E_BUSY, err, NULL);
    cch_state_release(state);
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    cch_state_free(state);
    small_close(&m);
}

TEST(any_failing_allocation_is_reported_and_leaks_nothing) {
    cch_model m;
    cch_error err;
    cch_beams *beams;
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    p.n_beams = 4, p.max_tokens = 3, p.no_repeat_ngram_size = 2, p.trace = true;
    open_with_eos(&m);
    cch_state *state = small_state(&m, small_ids(), PROMPT);
    cch_status status = CCH_E_MEMORY;
    for (int64_t n = 1; status == CCH_E_MEMORY && n < 2000; n++) {
        cch_model_stats stats = {0};
        cch_fail_alloc(n);
        status = cch_beam_search(state, &p, NULL, NULL, &beams, &err);
        cch_fail_alloc(0);
        CHECK(status == CCH_OK || (status == CCH_E_MEMORY && beams == NULL));
        cch_beams_free(beams);
        cch_pool_stats(m.pool, &stats);
        CHECK_EQ(stats.pages_live, cch_pages_of(PROMPT));
        CHECK_OK(cch_pool_check(m.pool, &err), err);
    }
    CHECK_EQ(status, CCH_OK);
    cch_state_free(state);
    small_close(&m);
}

CHECK_MAIN()
