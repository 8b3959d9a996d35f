#include "gen/work.h"

#include <string.h>

#include "kv/scores.h"

#define DEFAULT_CHUNK 512
#define MAX_CHUNK 65536
#define LOGITS_BLOCK 32 /* rows of logits made at once: enough for whole tiles, small for any vocabulary */

/* ---- life ---- */

cch_status cch_work_check(int32_t chunk_tokens, int32_t store_top_k, cch_error *err) {
    if (chunk_tokens < 0 || chunk_tokens > MAX_CHUNK)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "chunk_tokens is %d, allowed: 1 to %d, or 0 for %d", chunk_tokens, MAX_CHUNK,
                 DEFAULT_CHUNK);
    if (store_top_k < 0) CCH_FAIL(err, CCH_E_ARGUMENT, -1, "store_top_k is %d, allowed: 0 or more", store_top_k);
    return CCH_OK;
}

int32_t cch_work_chunk(int32_t chunk_tokens) { return chunk_tokens == 0 ? DEFAULT_CHUNK : chunk_tokens; }

void cch_work_set_chunk(cch_work *work, int32_t chunk_tokens) { work->chunk_tokens = cch_work_chunk(chunk_tokens); }

void cch_work_init(cch_work *work, cch_model *model, int32_t chunk_tokens, int32_t store_top_k,
                   const volatile int *cancel) {
    int32_t outputs = cch_config_n_outputs(&model->config);
    *work = (cch_work){.model = model,
                       .top_k = store_top_k < outputs ? store_top_k : outputs,
                       .cancel = cancel,
                       .ld = ((size_t)outputs + CCH_LANES - 1) / CCH_LANES * CCH_LANES};
    cch_work_set_chunk(work, chunk_tokens);
}

void cch_work_deinit(cch_work *work) {
    cch_plan_deinit(&work->plan);
    cch_free(work->hidden);
    cch_free(work->logits);
    cch_free(work->summaries);
    cch_free(work->sound);
    cch_free(work->top_ids);
    cch_free(work->top_logits);
}

static cch_status reserve_hidden(cch_work *work, size_t rows, cch_error *err) {
    cch_status status = CCH_OK;
    if (rows <= work->hidden_rows) return CCH_OK;
    cch_free(work->hidden);
    work->hidden_rows = 0;
    CCH_NEW(work->hidden, rows * (size_t)work->model->config.hidden_size, err);
    work->hidden_rows = rows;
done:
    return status;
}

static cch_status reserve_logits(cch_work *work, size_t rows, cch_error *err) {
    cch_status status = CCH_OK;
    if (rows > LOGITS_BLOCK) rows = LOGITS_BLOCK;
    if (rows <= work->logits_rows) return CCH_OK;
    cch_free(work->logits);
    cch_free(work->summaries);
    cch_free(work->sound);
    cch_free(work->top_ids);
    cch_free(work->top_logits);
    work->logits = work->top_logits = NULL;
    work->summaries = NULL;
    work->sound = NULL;
    work->top_ids = NULL;
    work->logits_rows = 0;
    CCH_NEW(work->logits, rows * work->ld, err);
    if (work->top_k > 0) {
        CCH_NEW(work->summaries, rows, err);
        CCH_NEW(work->sound, rows, err);
        CCH_NEW(work->top_ids, rows * (size_t)work->top_k, err);
        CCH_NEW(work->top_logits, rows * (size_t)work->top_k, err);
    }
    work->logits_rows = rows;
done:
    return status;
}

void cch_work_parallel(cch_work *work, size_t items, cch_job job, void *arg) {
    if (items > 1)
        cch_threads_run(work->model->threads, job, arg);
    else
        job(arg, 0, 1);
}

/* ---- the empty state ---- */

/* Logits after BOS on a page of its own, which no state ever sees. */
static cch_status run_bos(cch_work *work, float *logits, cch_error *err) {
    cch_status status = CCH_OK;
    cch_model *m = work->model;
    cch_page page = {.n_tokens = 1, .tokens = {m->config.bos_token_id}};
    cch_page *pages[1] = {&page};
    cch_span span = {pages, 0, 1, true, 1, NULL};
    CCH_TRY(reserve_hidden(work, 1, err));
    CCH_ZNEW(page.kv, m->pool->geometry.page_floats, err);
    CCH_TRY(cch_forward(m, &span, 1, work->hidden, NULL, work->cancel, err));
    status = cch_output_logits(m, work->hidden, 1, logits, err);
done:
    cch_free(page.kv);
    return status;
}

cch_status cch_work_bos_logits(cch_work *work, const float **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_model *m = work->model;
    float *logits = NULL;
    if (m->bos_logits == NULL) {
        CCH_ZNEW(logits, work->ld, err);
        if (m->config.bos_token_id >= 0) CCH_TRY(run_bos(work, logits, err));
        m->bos_logits = logits;
        logits = NULL;
    }
    *out = m->bos_logits;
done:
    cch_free(logits);
    return status;
}

/* ---- scores ---- */

typedef struct summary_job {
    cch_work *work;
    size_t rows;
} summary_job;

static void summarize(void *arg, int thread, int n_threads) {
    summary_job *job = arg;
    cch_work *w = job->work;
    size_t first, last, k = (size_t)w->top_k;
    int32_t vocab = w->model->config.vocab_size;
    cch_split(job->rows, n_threads, thread, &first, &last);
    for (size_t r = first; r < last; r++) {
        const float *logits = w->logits + r * w->ld;
        w->sound[r] = cch_logits_summarize(w->model->kern, logits, vocab, NULL, &w->summaries[r], NULL) == CCH_OK;
        if (w->sound[r]) cch_top_logits(logits, vocab, w->top_k, w->top_ids + r * k, w->top_logits + r * k, NULL);
    }
}

/* What row r of the present block says of the position. */
static cch_status store_scores(cch_work *work, const cch_delivery *d, size_t r, cch_error *err) {
    const cch_state *state = d->ask->state;
    cch_page *page = state->pages[d->pos / CCH_PAGE_TOKENS];
    int32_t next = d->pos + 1;
    size_t k = (size_t)work->top_k;
    if (!work->sound[r]) return CCH_OK;
    CCH_RETURN_IF(cch_scores_reserve(page, work->top_k, err));
    cch_scores_set_top(page, d->pos % CCH_PAGE_TOKENS, work->summaries[r].log_sum, work->top_k, work->top_ids + r * k,
                       work->top_logits + r * k);
    if (next >= d->ask->upto) return CCH_OK;
    page = state->pages[next / CCH_PAGE_TOKENS];
    CCH_RETURN_IF(cch_scores_reserve(page, work->top_k, err));
    int32_t slot = next % CCH_PAGE_TOKENS;
    double logprob = cch_logits_logprob(work->logits + r * work->ld, &work->summaries[r], page->tokens[slot]);
    cch_scores_set_logprob(page, slot, (float)logprob);
    return CCH_OK;
}

/* The first token of each state that has one, given BOS. */
static cch_status store_first(cch_work *work, cch_ask *asks, size_t n, cch_error *err) {
    cch_status status = CCH_OK;
    const float *bos = NULL;
    cch_logits_summary summary;
    for (size_t i = 0; i < n; i++) {
        cch_page *page = asks[i].state->pages[0];
        if (asks[i].state->scored > 0) continue;
        if (bos == NULL) {
            CCH_RETURN_IF(cch_work_bos_logits(work, &bos, err));
            if (cch_logits_summarize(work->model->kern, bos, work->model->config.vocab_size, NULL, &summary, NULL))
                return CCH_OK;
        }
        pthread_mutex_lock(&work->model->pool->lock);
        status = cch_scores_reserve(page, work->top_k, err);
        if (status == CCH_OK)
            cch_scores_set_logprob(page, 0, (float)cch_logits_logprob(bos, &summary, page->tokens[0]));
        pthread_mutex_unlock(&work->model->pool->lock);
        CCH_RETURN_IF(status);
    }
    return CCH_OK;
}

/* ---- passes ---- */

/* Logits of output rows [first, first + rows) to those who wait for them. */
static cch_status deliver_block(cch_work *work, size_t first, size_t rows, cch_error *err) {
    cch_status status = CCH_OK;
    cch_model *m = work->model;
    size_t outputs = (size_t)cch_config_n_outputs(&m->config);
    summary_job job = {work, rows};
    CCH_RETURN_IF(cch_output_logits(m, work->hidden + first * (size_t)m->config.hidden_size, rows, work->logits, err));
    if (work->top_k > 0) cch_work_parallel(work, rows, summarize, &job);
    if (work->top_k > 0) pthread_mutex_lock(&m->pool->lock);
    for (size_t i = 0; i < work->plan.n_deliveries && status == CCH_OK; i++) {
        const cch_delivery *d = &work->plan.deliveries[i];
        if (d->row < first || d->row >= first + rows) continue;
        const float *logits = work->logits + (d->row - first) * work->ld;
        if (d->ask->dst != NULL && d->pos >= d->ask->out_first)
            memcpy(d->ask->dst + (size_t)(d->pos - d->ask->out_first) * outputs, logits, outputs * sizeof *logits);
        if (work->top_k > 0) status = store_scores(work, d, d->row - first, err);
    }
    if (work->top_k > 0) pthread_mutex_unlock(&m->pool->lock);
    return status;
}

static cch_status run_plan(cch_work *work, cch_ask *asks, size_t n, cch_error *err) {
    cch_model *m = work->model;
    cch_plan *plan = &work->plan;
    CCH_RETURN_IF(reserve_hidden(work, plan->n_out, err));
    CCH_RETURN_IF(reserve_logits(work, plan->n_out, err));
    CCH_RETURN_IF(
        cch_forward(m, plan->spans, plan->n_spans, plan->n_out > 0 ? work->hidden : NULL, NULL, work->cancel, err));
    cch_plan_commit(plan, m->pool, asks, n);
    atomic_fetch_add_explicit(&m->tokens_computed, (long long)plan->n_rows, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->forwards, 1, memory_order_relaxed);
    for (size_t row = 0; row < plan->n_out; row += LOGITS_BLOCK) {
        size_t rows = plan->n_out - row < LOGITS_BLOCK ? plan->n_out - row : LOGITS_BLOCK;
        CCH_RETURN_IF(deliver_block(work, row, rows, err));
    }
    return CCH_OK;
}

cch_status cch_work_pass(cch_work *work, cch_ask *asks, size_t n, size_t *out_rows, cch_error *err) {
    const int32_t most = work->model->config.max_position_embeddings;
    *out_rows = 0;
    for (size_t i = 0; i < n; i++) {
        if (asks[i].upto > most) /* only a tape can ask for that */
            CCH_FAIL(err, CCH_E_CONTEXT, asks[i].upto, "%d tokens are to be computed, the model's context holds %d",
                     asks[i].upto, most);
    }
    if (work->cancel != NULL && *work->cancel) CCH_FAIL(err, CCH_E_CANCELLED, -1, "the call was cancelled");
    if (work->top_k > 0) CCH_RETURN_IF(store_first(work, asks, n, err));
    CCH_RETURN_IF(cch_plan_make(&work->plan, work->model->pool, asks, n, work->chunk_tokens, work->top_k, err));
    if (work->plan.n_spans > 0)
        CCH_RETURN_IF(run_plan(work, asks, n, err));
    else
        cch_plan_commit(&work->plan, work->model->pool, asks, n);
    *out_rows = work->plan.n_rows;
    for (size_t i = 0; i < n && work->top_k > 0; i++) {
        cch_state *state = asks[i].state;
        if (asks[i].reached < asks[i].upto || asks[i].upto < cch_state_len(state)) continue;
        state->scored = asks[i].upto;
        state->scored_k = work->top_k;
    }
    return CCH_OK;
}
