/* alone - what a row of a batch would get without any company. */
#ifndef CCH_TESTS_GEN_ALONE_H
#define CCH_TESTS_GEN_ALONE_H

#include "gen/batch.h"
#include "small.h"

/* What one row alone gives, token by token, without a batch. */
static inline int32_t generate_alone(cch_model *m, const int32_t *prompt, int32_t n_prompt,
                                     const cch_sampling *sampling, int32_t n, int32_t *out) {
    static float logits[SMALL_VOCAB];
    int32_t history[SMALL_CTX];
    cch_sampling now = *sampling;
    cch_sampled sampled;
    cch_error err;
    cch_state *state = small_state(m, prompt, n_prompt);
    memcpy(history, prompt, (size_t)n_prompt * sizeof *history);
    int32_t made = 0;
    for (; made < n; made++) {
        CHECK_OK(cch_eval(m, &state, 1, NULL, logits, &err), err);
        for (int32_t i = 0; i < m->config.n_eos && made < sampling->min_tokens; i++)
            logits[m->config.eos_token_ids[i]] = -INFINITY;
        now.step = made;
        CHECK_OK(cch_sample(logits, SMALL_VOCAB, &now, history, n_prompt + made, &sampled, &err), err);
        bool eos = false;
        for (int32_t i = 0; i < m->config.n_eos; i++) eos |= m->config.eos_token_ids[i] == sampled.token_id;
        if (eos) break;
        out[made] = history[n_prompt + made] = sampled.token_id;
        CHECK_OK(cch_state_append(state, &sampled.token_id, 1, &err), err);
    }
    cch_state_free(state);
    return made;
}

static inline cch_sampling sampling_of(int i) {
    cch_sampling s = CCH_SAMPLING_INIT;
    s.seed = 11;
    s.stream = (uint32_t)i;
    s.temperature = i % 3 == 0 ? 0.0f : 1.3f;
    if (i % 4 == 1) s.repetition_penalty = 1.7f;
    if (i % 4 == 2) s.no_repeat_ngram_size = 2;
    if (i % 2 == 1) s.min_tokens = 5;
    if (i % 3 == 1) s.temperature_end = 0.3f, s.schedule_steps = 24;
    if (i % 3 == 2) s.top_k = 20, s.adaptive_top_p = s.adaptive_top_k = true;
    return s;
}

#endif
