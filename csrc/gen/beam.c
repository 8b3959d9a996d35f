#include "gen/beam.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "gen/logits.h"
#include "model/model.h"

typedef struct beam_run {
    cch_model *model; /* borrowed from the state */
    cch_model_info info;
    const cch_kernels *kern;
    cch_search search;
    cch_state **states, **next; /* owned [n_beams]: of the open beams; NULL-filled */
    int32_t n_beams, n_states;
    float *logits;     /* owned [rows * vocab] */
    float *penalized;  /* owned [vocab]; NULL without penalties and min_tokens */
    int32_t *history;  /* owned [n_before + max_tokens]: what is before the beams, then a beam's tokens; NULL without
                          penalties */
    int32_t n_before, prompt_len; /* tokens of the tape, or else of the state; of the state */
    int32_t *top_ids;  /* owned [width] */
    float *top_values; /* owned [width] */
} beam_run;

static void free_states(cch_state **states, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        cch_state_free(states[i]);
        states[i] = NULL;
    }
}

static void run_deinit(beam_run *run) {
    if (run->states != NULL) free_states(run->states, run->n_beams);
    if (run->next != NULL) free_states(run->next, run->n_beams);
    cch_free(run->states);
    cch_free(run->next);
    cch_free(run->logits);
    cch_free(run->penalized);
    cch_free(run->history);
    cch_free(run->top_ids);
    cch_free(run->top_values);
    cch_search_deinit(&run->search);
}

/* New tokens a beam may have: max_tokens, or what the context has room for. */
static cch_status room(const beam_run *run, const cch_beam_params *params, int32_t *out, cch_error *err) {
    int32_t left = run->info.n_ctx - run->prompt_len;
    if (left < 1)
        CCH_FAIL(err, CCH_E_CONTEXT, run->prompt_len,
                 "the state has %d tokens, the model's context holds %d: no room for a beam", (int)run->prompt_len,
                 (int)run->info.n_ctx);
    *out = params->max_tokens < left ? params->max_tokens : left;
    return CCH_OK;
}

static cch_status run_init(beam_run *run, cch_state *state, const cch_beam_params *params, cch_beam_stop stop,
                           void *stop_arg, cch_error *err) {
    cch_status status = CCH_OK;
    int32_t max_tokens = 0;
    bool reads_history = params->repetition_penalty != 1.0f || params->no_repeat_ngram_size > 0;
    size_t n, rows, vocab, floats;
    CCH_TRY(cch_beam_params_check(params, err));
    run->n_beams = params->n_beams;
    n = (size_t)params->n_beams;
    CCH_ZNEW(run->states, n, err);
    CCH_ZNEW(run->next, n, err);
    CCH_TRY(cch_state_fork(state, &run->states[0], err)); /* what else is asked of the state is asked of the fork */
    run->n_states = 1;
    run->prompt_len = cch_state_len(run->states[0]);
    CCH_TRY(room(run, params, &max_tokens, err));
    CCH_TRY(cch_search_init(&run->search, params, run->info.vocab_size, max_tokens, run->info.eos_token_ids,
                            run->info.n_eos, stop, stop_arg, err));
    rows = n < CCH_BEAM_ROWS ? n : CCH_BEAM_ROWS;
    vocab = (size_t)run->info.vocab_size;
    if (!cch_mul(rows, vocab, &floats)) CCH_THROW(err, CCH_E_MEMORY, -1, "%zu rows of %zu logits", rows, vocab);
    CCH_NEW(run->logits, floats, err);
    CCH_NEW(run->top_ids, (size_t)run->search.width, err);
    CCH_NEW(run->top_values, (size_t)run->search.width, err);
    if (reads_history || params->min_tokens > 0 || run->model->n_suppressed > 0) CCH_NEW(run->penalized, vocab, err);
    if (reads_history) {
        run->n_before = params->tape != NULL ? cch_state_len(params->tape) : run->prompt_len;
        CCH_NEW(run->history, (size_t)run->n_before + (size_t)max_tokens, err);
        CCH_TRY(cch_state_tokens(params->tape != NULL ? params->tape : run->states[0], 0, run->n_before, run->history,
                                 err));
    }
done:
    return status;
}

/* Sets *steered to the logits that choices go by: row, or its penalised copy without the ids that may not come yet. */
static cch_status steer(beam_run *run, int32_t b, const float *row, const float **steered, cch_error *err) {
    const cch_beam_params *p = &run->search.params;
    int32_t n = run->n_before + run->search.step;
    int32_t n_banned;
    const int32_t *banned = cch_model_banned(run->model, run->search.step < p->min_tokens, &n_banned);
    *steered = row;
    if (run->history == NULL && n_banned == 0) return CCH_OK;
    if (run->history != NULL)
        cch_search_path(&run->search, run->search.open[b].node, run->history + run->n_before);
    CCH_RETURN_IF(cch_logits_penalize(row, run->info.vocab_size, p->repetition_penalty, p->no_repeat_ngram_size,
                                      run->history, n, banned, n_banned, run->penalized, err));
    *steered = run->penalized;
    return CCH_OK;
}

/* The likeliest tokens of steered, into top_ids and top_values: what the search ranks, or less for top_k and min_p. */
static int32_t select_top(beam_run *run, const float *steered) {
    const cch_beam_params *p = &run->search.params;
    int32_t k = p->top_k > 0 && p->top_k < run->search.width ? p->top_k : run->search.width;
    int32_t n = cch_top_logits(steered, run->info.vocab_size, k, run->top_ids, run->top_values, NULL);
    while (p->min_p > 0.0f && n > 1 && isfinite(run->top_values[0])) {
        double weight, unused;
        run->kern->exp_f64(&run->top_values[n - 1], 1, run->top_values[0], 1.0, &weight, &unused);
        if (weight >= (double)p->min_p) break;
        n--;
    }
    return n;
}

/* Offers the best continuations of open beam b, whose logits are `row`. */
static cch_status offer(beam_run *run, int32_t b, const float *row, cch_error *err) {
    const float *steered;
    cch_logits_summary summary;
    CCH_RETURN_IF(cch_logits_summarize(run->kern, row, run->info.vocab_size, NULL, &summary, err));
    CCH_RETURN_IF(steer(run, b, row, &steered, err));
    int32_t n = select_top(run, steered);
    cch_search_candidate *candidates = cch_search_offer(&run->search, b, n);
    for (int32_t i = 0; i < n; i++) {
        float raw = row[run->top_ids[i]], moved = run->top_values[i];
        double logprob = cch_logits_logprob(row, &summary, run->top_ids[i]);
        candidates[i].token_id = run->top_ids[i];
        candidates[i].logprob = logprob;
        candidates[i].steer = moved == -INFINITY ? -(double)INFINITY : logprob + ((double)moved - (double)raw);
    }
    return CCH_OK;
}

/* Evaluates the open beams, CCH_BEAM_ROWS at a time, and offers their continuations. */
static cch_status expand(beam_run *run, cch_error *err) {
    cch_eval_options options = CCH_EVAL_OPTIONS_INIT;
    size_t vocab = (size_t)run->info.vocab_size;
    options.cancel = run->search.params.cancel;
    for (int32_t b = 0; b < run->n_states; b += CCH_BEAM_ROWS) {
        int32_t rows = run->n_states - b < CCH_BEAM_ROWS ? run->n_states - b : CCH_BEAM_ROWS;
        CCH_RETURN_IF(cch_eval(run->model, run->states + b, (size_t)rows, &options, run->logits, err));
        for (int32_t r = 0; r < rows; r++) CCH_RETURN_IF(offer(run, b + r, run->logits + (size_t)r * vocab, err));
    }
    return CCH_OK;
}

/* Makes the states of the beams that search.open names from those of the step before. */
static cch_status grow(beam_run *run, cch_error *err) {
    const cch_search *search = &run->search;
    for (int32_t i = 0; i < search->n_open; i++) {
        int32_t parent = search->open[i].parent;
        bool last = true;
        for (int32_t j = i + 1; last && j < search->n_open; j++) last = search->open[j].parent != parent;
        if (last) {
            run->next[i] = run->states[parent];
            run->states[parent] = NULL;
        } else {
            CCH_RETURN_IF(cch_state_fork(run->states[parent], &run->next[i], err));
        }
    }
    free_states(run->states, run->n_states); /* before appending, so that what only they share need not be copied */
    cch_state **past = run->states;
    run->states = run->next;
    run->next = past;
    run->n_states = search->n_open;
    for (int32_t i = 0; i < search->n_open; i++)
        CCH_RETURN_IF(cch_state_append(run->states[i], &search->open[i].token_id, 1, err));
    return CCH_OK;
}

cch_status cch_beam_search(cch_state *state, const cch_beam_params *params, cch_beam_stop stop, void *stop_arg,
                           cch_beams **out, cch_error *err) {
    cch_status status = CCH_OK;
    beam_run run = {.model = cch_state_model_view(state), .kern = cch_logits_kernels()};
    *out = NULL;
    CCH_RETURN_IF(cch_model_expect(run.model, CCH_CAUSAL_LM, "beam search", err));
    cch_model_get_info(run.model, &run.info);
    CCH_TRY(run_init(&run, state, params, stop, stop_arg, err));
    while (run.search.n_open > 0) {
        CCH_TRY(expand(&run, err));
        CCH_TRY(cch_search_step(&run.search, err));
        CCH_TRY(grow(&run, err));
    }
    CCH_TRY(cch_search_result(&run.search, out, err));
done:
    run_deinit(&run);
    return status;
}
