#include "gen/speculate.h"

#include "gen/batch.h"

enum { ROWS = 12, CACHED_ROWS = 6 }; /* of a pass that cost little more than one: two tiles of the kernels, or one */
_Static_assert(ROWS <= 2 * CCH_ALLOWANCE_ROWS, "where each row has room for a guess, passes are timed");
static const size_t CACHE_BYTES = 64u << 20; /* smaller weights may stay in caches: then a row costs more of a pass */

/* ---- what is known ahead ---- */

/* What was known is lost, but not on failure. */
static cch_status make_room(cch_ahead *ahead, int32_t n, int32_t vocab_size, cch_error *err) {
    cch_status status = CCH_OK;
    float *logits = NULL;
    if (n <= ahead->cap) return CCH_OK;
    CCH_NEW(logits, (size_t)n * (size_t)vocab_size, err);
    cch_free(ahead->logits);
    ahead->logits = logits;
    ahead->cap = n;
done:
    return status;
}

cch_status cch_ahead_init(cch_ahead *ahead, int32_t vocab_size, cch_error *err) {
    return make_room(ahead, 1, vocab_size, err);
}

void cch_ahead_deinit(cch_ahead *ahead) {
    cch_ahead_forget(ahead);
    cch_free(ahead->logits);
}

void cch_ahead_forget(cch_ahead *ahead) {
    cch_state_free(ahead->scout);
    ahead->scout = NULL;
    ahead->at = ahead->n = 0;
}

bool cch_ahead_push(cch_ahead *ahead, cch_state *state, int32_t token_id, const float *logprob) {
    bool guessed = ahead->scout != NULL && cch_state_leads(ahead->scout, state, token_id);
    ahead->last = ahead->at;
    if (guessed) {
        cch_state_follow(state, ahead->scout, logprob);
        ahead->at++;
        ahead->n--;
    }
    if (!guessed || ahead->n == 0) cch_ahead_forget(ahead);
    if (!guessed) cch_state_push(state, token_id, logprob); /* the scout is gone: its page is the state's alone */
    return guessed;
}

/* ---- guesses of a step ---- */

static int32_t until_eos(const cch_config *c, const int32_t *ids, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < c->n_eos; j++)
            if (ids[i] == c->eos_token_ids[j]) return i;
    return n;
}

/* Rows of a pass that cost little more than one. */
static int32_t cheap_rows(const cch_batch *batch) {
    const int32_t rows = batch->model->weights.bytes < CACHE_BYTES ? CACHED_ROWS : ROWS;
    return rows < batch->work.chunk_tokens ? rows : batch->work.chunk_tokens;
}

/* Whether the asks are for one token of each row. */
static bool all_decode(const cch_batch *batch) {
    for (size_t i = 0; i < batch->n_asks; i++)
        if (!batch->asking[i]->complete) return false;
    return true;
}

/* Lets the ask reach as far as guesses are worth it.  A row that has drawn nothing has shown nothing: one that stays
 * for a token alone, as a stream's, keeps no tables. */
static cch_status guess(const cch_batch *batch, cch_batch_row *row, cch_ask *ask) {
    const cch_config *c = &batch->model->config;
    int32_t ids[CCH_LOOKUP_MOST];
    if (row->history == NULL || row->n_new == 0 || row->tracer != NULL) return CCH_OK;
    CCH_RETURN_IF(cch_batch_row_read(row, NULL));
    CCH_RETURN_IF(cch_lookup_reserve(&row->lookup, row->history, row->n_history, NULL));
    cch_lookup_see(&row->lookup, row->history, row->n_history, row->n_history - row->n_new);
    int32_t n = cch_lookup_length(&row->lookup, (int32_t)batch->n_asks, cheap_rows(batch));
    int32_t room = cch_batch_row_room(row) - 1; /* the last token is drawn, not guessed */
    if (n > room) n = room;
    if (n < 1) return CCH_OK;
    cch_lookup_guess(&row->lookup, row->history, n, ids);
    n = until_eos(c, ids, n);
    if (n < 1) return CCH_OK;
    CCH_RETURN_IF(make_room(&row->ahead, n + 1, c->vocab_size, NULL));
    ask->dst = row->ahead.logits;
    CCH_RETURN_IF(cch_state_scout(row->state, ids, n, &row->ahead.scout, NULL));
    ask->state = row->ahead.scout;
    ask->upto += n;
    return CCH_OK;
}

void cch_speculate(cch_batch *batch) {
    cch_status status = CCH_OK;
    bool any = false;
    size_t bytes;
    if (!atomic_load_explicit(&batch->model->prompt_lookup, memory_order_relaxed)) return;
    if (2 * (int32_t)batch->n_asks > cheap_rows(batch) || !all_decode(batch)) return; /* no room for a guess of each */
    if (!cch_allowance_left(&batch->allowance, (int32_t)batch->n_asks)) return;
    for (size_t i = 0; i < batch->n_asks && status == CCH_OK; i++) {
        status = guess(batch, batch->asking[i], &batch->asks[i]);
        any |= batch->asking[i]->ahead.scout != NULL;
    }
    if (!any) return;
    size_t fit = cch_plan_fit(batch->model->pool, batch->asks, batch->n_asks, &bytes);
    if (status != CCH_OK || fit < batch->n_asks) cch_speculate_not(batch);
}

void cch_speculated(cch_batch *batch, int64_t ns) {
    bool guesses = false;
    if (!all_decode(batch)) return;
    for (size_t i = 0; i < batch->n_asks; i++) guesses |= batch->asking[i]->ahead.scout != NULL;
    cch_allowance_pass(&batch->allowance, (int32_t)batch->n_asks, guesses, ns);
}

bool cch_speculate_not(cch_batch *batch) {
    bool any = false;
    for (size_t i = 0; i < batch->n_asks; i++) {
        cch_batch_row *row = batch->asking[i];
        if (row->ahead.scout == NULL) continue;
        cch_ahead_forget(&row->ahead);
        batch->asks[i].state = row->state;
        batch->asks[i].upto = cch_state_len(row->state);
        any = true;
    }
    return any;
}
