#include "gen/eval.h"

#include <string.h>

/* ---- states and their model ---- */

cch_status cch_state_new(cch_model *model, cch_state **out, cch_error *err) {
    return cch_state_make(model, model->pool, model->config.vocab_size, cch_model_room(model), out, err);
}

cch_status cch_state_evict(cch_state *state, cch_error *err) {
    CCH_RETURN_IF(cch_state_acquire(state, err));
    cch_status status = cch_run_lock(state->model, err);
    if (status == CCH_OK) {
        status = cch_state_drop_kv(state, err);
        cch_run_unlock(state->model);
    }
    cch_state_release(state);
    return status;
}

/* ---- evaluation ---- */

static cch_status check_budget(cch_pool *pool, const cch_ask *asks, size_t n, cch_error *err) {
    size_t bytes;
    if (cch_plan_fit(pool, asks, n, &bytes) == n) return CCH_OK;
    CCH_FAIL(err, CCH_E_BUDGET, -1, "the states of this call need %zu bytes of KV pages or more, the budget is %zu",
             bytes, pool->budget_bytes);
}

static bool complete(const cch_ask *asks, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (asks[i].reached < asks[i].upto) return false;
    return true;
}

/* One pass, under the run lock.  *total (may be NULL): what there is to compute, asked for while it is 0. */
static cch_status next_pass(cch_work *work, cch_ask *asks, size_t n, int64_t *total, size_t *out_rows, cch_error *err) {
    cch_pool *pool = work->model->pool;
    CCH_RETURN_IF(check_budget(pool, asks, n, err));
    if (total != NULL && *total == 0) *total = cch_plan_missing(pool, asks, n);
    return cch_work_pass(work, asks, n, out_rows, err);
}

cch_status cch_eval_asks(cch_work *work, cch_ask *asks, size_t n, const cch_eval_options *options, bool locked,
                         cch_error *err) {
    bool report = options->progress != NULL, finished = false, keeps = false, holds = locked;
    int64_t done = 0, total = 0;
    cch_status status = CCH_OK;
    while (status == CCH_OK && !finished) {
        size_t rows = 0;
        if (!holds) CCH_RETURN_IF(cch_run_lock(work->model, err));
        status = next_pass(work, asks, n, report ? &total : NULL, &rows, err);
        finished = complete(asks, n);
        keeps = keeps || work->plan.lost;
        holds = locked || (keeps && status == CCH_OK && !finished);
        if (!holds) cch_run_unlock(work->model);
        done += (int64_t)rows;
        if (done > total) total = done; /* positions computed again, for their scores or after an eviction */
        if (report && rows > 0) options->progress(options->progress_arg, done, total);
    }
    return status;
}

/* Holds the states; *out_held: how many of them, also on failure. */
static cch_status acquire_all(const cch_model *model, cch_state *const *states, size_t n, size_t *out_held,
                              cch_error *err) {
    for (*out_held = 0; *out_held < n; ++*out_held) {
        cch_state *state = states[*out_held];
        if (state->model != model) CCH_FAIL(err, CCH_E_MISMATCH, -1, "state %zu belongs to another model", *out_held);
        CCH_RETURN_IF(cch_state_acquire(state, err));
    }
    return CCH_OK;
}

/* One ask per state that has tokens; *out_n of them. */
static cch_status make_asks(cch_state *const *states, size_t n, float *logits, size_t n_outputs, cch_ask *asks,
                            size_t *out_n, cch_error *err) {
    *out_n = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t len = cch_state_len(states[i]);
        if (len == 0) continue;
        CCH_RETURN_IF(cch_state_index_pages(states[i], err));
        asks[(*out_n)++] = (cch_ask){.state = states[i],
                                     .upto = len,
                                     .out_first = logits != NULL ? len - 1 : len,
                                     .dst = logits != NULL ? logits + i * n_outputs : NULL};
    }
    return CCH_OK;
}

/* Those without tokens: what follows a lone BOS.  E_EMPTY for a classifier. */
static cch_status eval_empty(cch_work *work, cch_state *const *states, size_t n, float *logits, cch_error *err) {
    if (work->model->config.model_type == CCH_SEQUENCE_CLASSIFICATION)
        CCH_FAIL(err, CCH_E_EMPTY, -1, "one of the %zu states holds no tokens: there is no text to classify", n);
    size_t vocab = (size_t)work->model->config.vocab_size;
    const float *bos;
    CCH_RETURN_IF(cch_run_lock(work->model, err));
    cch_status status = cch_work_bos_logits(work, &bos, err);
    cch_run_unlock(work->model);
    CCH_RETURN_IF(status);
    for (size_t i = 0; i < n; i++)
        if (cch_state_len(states[i]) == 0) memcpy(logits + i * vocab, bos, vocab * sizeof *bos);
    return CCH_OK;
}

/* logits [n, n_outputs], may be NULL. */
static cch_status eval_states(cch_model *model, cch_state *const *states, size_t n, const cch_eval_options *options,
                              float *logits, cch_error *err) {
    cch_status status = CCH_OK;
    cch_work work;
    cch_ask *asks = NULL;
    size_t n_asks, n_outputs = (size_t)cch_config_n_outputs(&model->config), held = 0;
    CCH_RETURN_IF(cch_work_check(options->chunk_tokens, options->store_top_k, err));
    cch_work_init(&work, model, options->chunk_tokens, options->store_top_k, options->cancel);
    CCH_NEW(asks, n, err);
    CCH_TRY(acquire_all(model, states, n, &held, err));
    CCH_TRY(make_asks(states, n, logits, n_outputs, asks, &n_asks, err));
    if (logits != NULL && n_asks < n) CCH_TRY(eval_empty(&work, states, n, logits, err));
    if (n_asks > 0) CCH_TRY(cch_eval_asks(&work, asks, n_asks, options, false, err));
done:
    for (size_t i = 0; i < held; i++) cch_state_release(states[i]);
    cch_free(asks);
    cch_work_deinit(&work);
    return status;
}

cch_status cch_eval(cch_model *model, cch_state *const *states, size_t n, const cch_eval_options *options,
                    float *logits, cch_error *err) {
    static const cch_eval_options defaults = CCH_EVAL_OPTIONS_INIT;
    if (options == NULL) options = &defaults;
    if (logits != NULL || options->store_top_k > 0 || model->config.model_type == CCH_ENCODER)
        CCH_RETURN_IF(cch_model_expect(model, CCH_CAUSAL_LM, "predicting tokens", err));
    return eval_states(model, states, n, options, logits, err);
}

cch_status cch_classify(cch_model *model, cch_state *const *states, size_t n, const cch_eval_options *options,
                        float *logits, cch_error *err) {
    cch_eval_options o = CCH_EVAL_OPTIONS_INIT;
    if (options != NULL) o = *options;
    o.store_top_k = 0;
    CCH_RETURN_IF(cch_model_expect(model, CCH_SEQUENCE_CLASSIFICATION, "classifying", err));
    return eval_states(model, states, n, &o, logits, err);
}
