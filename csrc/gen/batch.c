#include "gen/batch.h"

#include <string.h>

#include "base/clock.h"
#include "gen/eval.h"
#include "kv/scores.h"

#define DEFAULT_ROWS 256
#define MAX_ROWS 4096

/* ---- life ---- */

static void free_row(cch_batch_row *row) {
    if (row == NULL) return;
    if (row->state != NULL) cch_state_release(row->state);
    if (row->tape != NULL) cch_state_release(row->tape);
    cch_free(row->history);
    cch_lookup_deinit(&row->lookup);
    cch_ahead_deinit(&row->ahead);
    cch_tracer_free(row->tracer);
    cch_free(row);
}

static void free_scratch(cch_batch *batch) {
    for (int i = 0; i < batch->n_scratch; i++) cch_sampler_scratch_deinit(&batch->scratch[i]);
    cch_free(batch->scratch);
    cch_free(batch->errors);
    batch->scratch = NULL;
    batch->errors = NULL;
    batch->n_scratch = 0;
}

static void unref(cch_batch *batch) {
    if (atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_acq_rel) > 1) return;
    for (size_t i = 0; i < batch->n_rows; i++) free_row(batch->rows[i]);
    free_scratch(batch);
    cch_work_deinit(&batch->work);
    pthread_mutex_destroy(&batch->lock);
    cch_free(batch->rows);
    cch_free(batch->asks);
    cch_free(batch->asking);
    cch_free(batch->drawing);
    cch_model *model = batch->model;
    cch_free(batch);
    cch_model_unref(model);
}

cch_status cch_batch_new(cch_model *model, const cch_batch_options *options, cch_batch **out, cch_error *err) {
    cch_batch_options o = CCH_BATCH_OPTIONS_INIT;
    cch_status status = CCH_OK;
    cch_batch *batch = NULL;
    *out = NULL;
    if (options != NULL) o = *options;
    if (o.max_rows == 0) o.max_rows = DEFAULT_ROWS;
    if (o.max_rows < 1 || o.max_rows > MAX_ROWS)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "max_rows is %d, allowed: 1 to %d, or 0 for %d", o.max_rows, MAX_ROWS,
                 DEFAULT_ROWS);
    CCH_RETURN_IF(cch_work_check(o.chunk_tokens, o.store_top_k, err));
    CCH_ZNEW(batch, 1, err);
    atomic_init(&batch->refs, 1);
    batch->max_rows = o.max_rows;
    cch_work_init(&batch->work, model, o.chunk_tokens, o.store_top_k, o.cancel);
    CCH_NEW(batch->rows, (size_t)o.max_rows, err);
    CCH_NEW(batch->asks, (size_t)o.max_rows, err);
    CCH_NEW(batch->asking, (size_t)o.max_rows, err);
    CCH_NEW(batch->drawing, (size_t)o.max_rows, err);
    if (pthread_mutex_init(&batch->lock, NULL) != 0) CCH_THROW(err, CCH_E_MEMORY, -1, "no memory for the batch's lock");
    batch->model = cch_model_ref(model);
    *out = batch;
    batch = NULL;
done:
    if (batch != NULL) {
        cch_free(batch->rows);
        cch_free(batch->asks);
        cch_free(batch->asking);
        cch_free(batch->drawing);
        cch_free(batch);
    }
    return status;
}

void cch_batch_free(cch_batch *batch) {
    if (batch != NULL) unref(batch);
}

/* ---- joining and leaving ---- */

/* Holds the states. */
static cch_status hold(cch_batch_row *row, cch_state *state, cch_state *tape, cch_error *err) {
    CCH_RETURN_IF(cch_state_acquire(state, err));
    row->state = state;
    if (tape == NULL) return CCH_OK;
    CCH_RETURN_IF(cch_state_acquire(tape, err));
    row->tape = tape;
    return CCH_OK;
}

/* A row that holds the states. */
static cch_status make_row(const cch_batch *batch, cch_state *state, cch_state *tape, const cch_sampling *sampling,
                           int32_t n_ctx, cch_batch_row **out, cch_error *err) {
    cch_status status = CCH_OK;
    const cch_config *c = &batch->model->config;
    cch_batch_row *row = NULL;
    int32_t most = c->max_position_embeddings;
    int32_t limit = n_ctx == 0 ? most : n_ctx, longest = state->n_ctx > most ? most + 1 : most;
    CCH_RETURN_IF(cch_sampling_check(sampling, err));
    if (n_ctx < 0)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "n_ctx is %d, allowed: 1 or more, or 0 for the model's %d", n_ctx, most);
    CCH_ZNEW(row, 1, err);
    row->sampling = *sampling;
    row->limit = limit < longest ? limit : longest;
    CCH_TRY(cch_ahead_init(&row->ahead, c->vocab_size, err));
    CCH_TRY(hold(row, state, tape, err));
    if (sampling->repetition_penalty != 1.0f || sampling->no_repeat_ngram_size > 0 || batch->model->prompt_lookup)
        CCH_NEW(row->history, (tape != NULL ? (size_t)cch_state_len(tape) : 0) + (size_t)most, err);
    *out = row;
    row = NULL;
done:
    free_row(row);
    return status;
}

/* Wants the lock. */
static cch_status refuse_while_running(const cch_batch *batch, cch_error *err) {
    if (batch->running) CCH_FAIL(err, CCH_E_BUSY, -1, "the batch is in the middle of a step");
    return CCH_OK;
}

/* Takes the row, also on failure. */
static cch_status join(cch_batch *batch, cch_batch_row *row, int32_t *out_row, cch_error *err) {
    cch_status status = CCH_OK;
    pthread_mutex_lock(&batch->lock);
    CCH_TRY(refuse_while_running(batch, err));
    if (batch->n_rows >= (size_t)batch->max_rows)
        CCH_THROW(err, CCH_E_ARGUMENT, -1, "the batch has %zu rows already, allowed: at most %d", batch->n_rows,
                  batch->max_rows);
    row->id = batch->next_id;
    batch->next_id = batch->next_id == INT32_MAX ? 0 : batch->next_id + 1;
    batch->rows[batch->n_rows++] = row;
    *out_row = row->id;
    row = NULL;
done:
    pthread_mutex_unlock(&batch->lock);
    free_row(row);
    return status;
}

static cch_status add(cch_batch *batch, cch_state *state, cch_state *tape, const cch_sampling *sampling, int32_t n_ctx,
                      bool reads, int32_t *out_row, cch_error *err) {
    const cch_sampling defaults = CCH_SAMPLING_INIT;
    const int32_t len = cch_state_len(state), most = batch->model->config.max_position_embeddings;
    cch_batch_row *row = NULL;
    *out_row = -1;
    if (state->model != batch->model || (tape != NULL && tape->model != batch->model))
        CCH_FAIL(err, CCH_E_MISMATCH, -1, "the state belongs to another model than the batch");
    CCH_RETURN_IF(cch_model_expect(batch->model, CCH_CAUSAL_LM, "joining a batch", err));
    if (reads && len > most)
        CCH_FAIL(err, CCH_E_CONTEXT, len, "the state has %d tokens, the model's context holds %d", len, most);
    CCH_RETURN_IF(make_row(batch, state, tape, sampling != NULL ? sampling : &defaults, n_ctx, &row, err));
    row->reads = reads;
    return join(batch, row, out_row, err);
}

cch_status cch_batch_add(cch_batch *batch, cch_state *state, const cch_sampling *sampling, int32_t n_ctx,
                         int32_t *out_row, cch_error *err) {
    return add(batch, state, NULL, sampling, n_ctx, false, out_row, err);
}

cch_status cch_batch_add_window(cch_batch *batch, cch_state *state, cch_state *tape, const cch_sampling *sampling,
                                int32_t n_ctx, int32_t *out_row, cch_error *err) {
    return add(batch, state, tape, sampling, n_ctx, false, out_row, err);
}

cch_status cch_batch_add_reader(cch_batch *batch, cch_state *state, int32_t *out_row, cch_error *err) {
    return add(batch, state, NULL, NULL, 0, true, out_row, err);
}

/* A row that has drawn nothing yet; *out NULL on failure. */
static cch_status find_waiting(const cch_batch *batch, int32_t id, cch_batch_row **out, cch_error *err) {
    *out = NULL;
    CCH_RETURN_IF(refuse_while_running(batch, err));
    for (size_t i = 0; i < batch->n_rows; i++) {
        cch_batch_row *row = batch->rows[i];
        if (row->id == id && !row->reads && row->n_new == 0) *out = row;
    }
    if (*out == NULL) CCH_FAIL(err, CCH_E_ARGUMENT, id, "no row %d waits for its first token", id);
    return CCH_OK;
}

static cch_status give(cch_batch *batch, int32_t id, const float *logits, cch_error *err) {
    cch_batch_row *row;
    CCH_RETURN_IF(find_waiting(batch, id, &row, err));
    if (row->tracer != NULL) CCH_FAIL(err, CCH_E_ARGUMENT, id, "row %d is traced: the model has to run", id);
    memcpy(row->ahead.logits, logits, (size_t)batch->model->config.vocab_size * sizeof *logits);
    row->ahead.n = 1;
    return CCH_OK;
}

cch_status cch_batch_give(cch_batch *batch, int32_t row, const float *logits, cch_error *err) {
    pthread_mutex_lock(&batch->lock);
    cch_status status = give(batch, row, logits, err);
    pthread_mutex_unlock(&batch->lock);
    return status;
}

static cch_status trace(cch_batch *batch, int32_t id, int32_t layer, cch_error *err) {
    const cch_config *c = &batch->model->config;
    cch_batch_row *row;
    CCH_RETURN_IF(find_waiting(batch, id, &row, err));
    if (row->ahead.n > 0 || row->tracer != NULL)
        CCH_FAIL(err, CCH_E_ARGUMENT, id, "row %d %s", id,
                 row->ahead.n > 0 ? "has been given a prediction: there is nothing to trace" : "is traced already");
    if (layer < 0 || layer >= c->n_layers)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "layer is %d, allowed: 0 to %d", layer, c->n_layers - 1);
    return cch_tracer_new(layer, c->n_heads, c->max_position_embeddings, &row->tracer, err);
}

cch_status cch_batch_trace(cch_batch *batch, int32_t row, int32_t layer, cch_error *err) {
    pthread_mutex_lock(&batch->lock);
    cch_status status = trace(batch, row, layer, err);
    pthread_mutex_unlock(&batch->lock);
    return status;
}

cch_status cch_batch_set_chunk(cch_batch *batch, int32_t chunk_tokens, cch_error *err) {
    CCH_RETURN_IF(cch_work_check(chunk_tokens, 0, err));
    pthread_mutex_lock(&batch->lock);
    cch_status status = refuse_while_running(batch, err);
    if (status == CCH_OK) cch_work_set_chunk(&batch->work, chunk_tokens);
    pthread_mutex_unlock(&batch->lock);
    return status;
}

/* Takes rows out whose `leaves` is set, keeping the order; wants the lock. */
static void drop_leaving(cch_batch *batch) {
    size_t kept = 0;
    for (size_t i = 0; i < batch->n_rows; i++) {
        if (batch->rows[i]->leaves)
            free_row(batch->rows[i]);
        else
            batch->rows[kept++] = batch->rows[i];
    }
    batch->n_rows = kept;
}

/* Marks a row, which is gone with the next that drop_leaving takes out; `now`: unless a step runs. */
static void leave(cch_batch *batch, int32_t row, bool now) {
    pthread_mutex_lock(&batch->lock);
    for (size_t i = 0; i < batch->n_rows; i++) batch->rows[i]->leaves |= batch->rows[i]->id == row;
    if (now && !batch->running) drop_leaving(batch);
    pthread_mutex_unlock(&batch->lock);
}

void cch_batch_remove(cch_batch *batch, int32_t row) {
    leave(batch, row, true);
}

void cch_batch_leave(cch_batch *batch, int32_t row) {
    leave(batch, row, false);
}

size_t cch_batch_len(const cch_batch *batch) {
    /* The lock is not part of the value that const protects. */
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&batch->lock;
    size_t n = 0;
    pthread_mutex_lock(lock);
    for (size_t i = 0; i < batch->n_rows; i++) n += !batch->rows[i]->leaves;
    pthread_mutex_unlock(lock);
    return n;
}

int32_t cch_batch_read(const cch_batch *batch, int32_t row) {
    for (size_t i = 0; i < batch->n_rows; i++)
        if (batch->rows[i]->id == row) return batch->rows[i]->n_read;
    return 0;
}

/* The row, if the last step drew its token; else NULL. */
static const cch_batch_row *find_drawn(const cch_batch *batch, int32_t row) {
    for (size_t i = 0; i < batch->n_rows; i++) {
        const cch_batch_row *found = batch->rows[i];
        if (found->id == row) return found->n_new > 0 && found->drawn == batch->step ? found : NULL;
    }
    return NULL;
}

int64_t cch_batch_passes(const cch_batch *batch) { return batch->passes; }

/* The i-th of the predictions that lie ahead of a row, or lay. */
static float *prediction(const cch_batch *batch, const cch_batch_row *row, int32_t i) {
    return row->ahead.logits + (size_t)i * (size_t)batch->model->config.vocab_size;
}

const float *cch_batch_logits_view(const cch_batch *batch, int32_t row) {
    const cch_batch_row *drawn = find_drawn(batch, row);
    return drawn != NULL ? prediction(batch, drawn, drawn->ahead.last) : NULL;
}

const cch_trace *cch_batch_trace_view(const cch_batch *batch, int32_t row) {
    const cch_batch_row *drawn = find_drawn(batch, row);
    return drawn != NULL && drawn->tracer != NULL ? &drawn->tracer->trace : NULL;
}

/* The stored prediction that the last token of the state was drawn from: its slot on the page returned, or NULL. */
static const cch_page *drawn_from(const cch_state *state, int32_t k, int32_t *out_slot) {
    const int32_t position = cch_state_len(state) - 2;
    const cch_page *page = state->tail;
    if (position < 0) return NULL;
    if (position / CCH_PAGE_TOKENS < page->index) page = page->prev;
    *out_slot = position % CCH_PAGE_TOKENS;
    return cch_scores_has_top(page, *out_slot, k) ? page : NULL;
}

int32_t cch_batch_top(const cch_batch *batch, int32_t row, int32_t k, int32_t *ids, float *values, double *out_lse) {
    const int32_t vocab = batch->model->config.vocab_size;
    const float *logits = cch_batch_logits_view(batch, row);
    const cch_page *page = NULL;
    int32_t slot;
    if (logits == NULL) return 0;
    if (k > vocab) k = vocab;
    pthread_mutex_lock(&batch->model->pool->lock);
    for (size_t i = 0; i < batch->n_rows && k > 0; i++)
        if (batch->rows[i]->id == row) page = drawn_from(batch->rows[i]->state, k, &slot);
    if (page != NULL) {
        const size_t at = (size_t)slot * (size_t)page->scores->k;
        memcpy(ids, page->scores->top_ids + at, (size_t)k * sizeof *ids);
        memcpy(values, page->scores->top_logits + at, (size_t)k * sizeof *values);
        *out_lse = page->scores->lse[slot];
    }
    pthread_mutex_unlock(&batch->model->pool->lock);
    return page != NULL ? k : cch_top_logits(logits, vocab, k, ids, values, out_lse);
}

/* ---- a step: what to compute ---- */

/* The state that everything but the model sees. */
static cch_state *whole(const cch_batch_row *row) { return row->tape != NULL ? row->tape : row->state; }

int32_t cch_batch_row_room(const cch_batch_row *row) {
    const cch_state *all = whole(row);
    int32_t left = all->n_ctx - cch_state_len(all), room = row->limit - cch_state_len(row->state);
    return room < left ? room : left;
}

static bool full(const cch_batch_row *row) { return cch_batch_row_room(row) <= 0; }

/* Asks of all rows that need the model, oldest first, cut to those that fit the budget together. */
static cch_status ask_in_order(cch_batch *batch, cch_error *err) {
    cch_pool *pool = batch->model->pool;
    size_t n = 0, bytes;
    for (size_t i = 0; i < batch->n_rows; i++) {
        cch_batch_row *row = batch->rows[i];
        int32_t len = cch_state_len(row->state);
        if (row->tracer != NULL) CCH_RETURN_IF(cch_tracer_begin(row->tracer, len, err));
        if (len == 0 || row->ahead.n > 0 || (full(row) && !row->reads)) continue;
        CCH_RETURN_IF(cch_state_index_pages(row->state, err));
        batch->asks[n] = (cch_ask){.state = row->state, .upto = len, .out_first = len - 1,
                                   .dst = row->ahead.logits,
                                   .watch = row->tracer != NULL ? &row->tracer->watch : NULL};
        batch->asking[n++] = row;
    }
    batch->n_asks = cch_plan_fit(pool, batch->asks, n, &bytes);
    if (batch->n_asks == 0 && n > 0)
        CCH_FAIL(err, CCH_E_BUDGET, batch->asking[0]->id,
                 "row %d of %d tokens needs %zu bytes of KV pages, the budget is %zu", batch->asking[0]->id,
                 batch->asks[0].upto, bytes, pool->budget_bytes);
    return CCH_OK;
}

/* Rows that lack one token to the front, starting with those whose turn it is when there are more than a pass holds. */
static void put_decoding_first(cch_batch *batch) {
    cch_pool *pool = batch->model->pool;
    size_t n = batch->n_asks, front = 0;
    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < n; i++) batch->asking[i]->ask = batch->asks[i];
    for (size_t i = 0; i < n; i++) {
        cch_batch_row *row = batch->asking[(batch->turn + i) % n];
        row->complete = row->ask.upto - cch_state_count_ready(row->state) <= 1;
        if (row->complete) batch->drawing[front++] = row;
    }
    for (size_t i = 0; i < n; i++)
        if (!batch->asking[i]->complete) batch->drawing[front++] = batch->asking[i];
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < n; i++) {
        batch->asking[i] = batch->drawing[i];
        batch->asks[i] = batch->asking[i]->ask;
    }
}

static bool is_shortage(cch_status status) { return status == CCH_E_BUDGET || status == CCH_E_MEMORY; }

/* One pass for as many rows as possible. */
static cch_status run_pass(cch_batch *batch, cch_error *err) {
    size_t rows, served = 0;
    CCH_RETURN_IF(ask_in_order(batch, err));
    if (batch->n_asks > 0) {
        put_decoding_first(batch);
        cch_speculate(batch);
        const int64_t started = cch_now_ns();
        cch_status status = cch_work_pass(&batch->work, batch->asks, batch->n_asks, &rows, err);
        if (is_shortage(status) && cch_speculate_not(batch))
            status = cch_work_pass(&batch->work, batch->asks, batch->n_asks, &rows, err);
        if (status != CCH_OK) cch_speculate_not(batch);
        CCH_RETURN_IF(status);
        cch_speculated(batch, cch_now_ns() - started);
        batch->passes++;
    }
    for (size_t i = 0; i < batch->n_asks; i++) {
        cch_batch_row *row = batch->asking[i];
        int32_t len = cch_state_len(row->state), reached = batch->asks[i].reached;
        row->n_read = reached < len ? reached : len;
        row->complete = reached >= len;
        if (row->complete)
            row->ahead.n = 1 + reached - len;
        else
            cch_ahead_forget(&row->ahead);
        served += row->complete;
    }
    batch->turn = served < batch->n_asks ? batch->turn + served : 0;
    return CCH_OK;
}

/* Nothing needs to be computed for an empty state. */
static cch_status predict_first(cch_batch *batch, cch_batch_row *row, cch_error *err) {
    const float *bos;
    if (cch_state_len(row->state) > 0 || full(row) || row->ahead.n > 0) return CCH_OK;
    CCH_RETURN_IF(cch_work_bos_logits(&batch->work, &bos, err));
    memcpy(row->ahead.logits, bos, (size_t)batch->model->config.vocab_size * sizeof *bos);
    row->ahead.n = 1;
    return CCH_OK;
}

/* Lists the rows whose prediction is there, oldest first; runs a pass unless some rows still have what lies ahead. */
static cch_status compute(cch_batch *batch, cch_error *err) {
    bool ahead = false;
    for (size_t i = 0; i < batch->n_rows; i++) {
        cch_batch_row *row = batch->rows[i];
        row->complete = false;
        ahead |= row->ahead.scout != NULL && !full(row);
    }
    if (!ahead) CCH_RETURN_IF(run_pass(batch, err));
    batch->n_drawing = 0;
    for (size_t i = 0; i < batch->n_rows; i++) {
        cch_batch_row *row = batch->rows[i];
        CCH_RETURN_IF(predict_first(batch, row, err));
        row->complete |= row->ahead.n > 0;
        if (row->complete && !row->reads) batch->drawing[batch->n_drawing++] = row;
    }
    return CCH_OK;
}

/* ---- a step: drawing ---- */

/* One scratch for each thread that draws: all of the model's, or the calling one for a single row. */
static cch_status reserve_scratch(cch_batch *batch, cch_error *err) {
    cch_status status = CCH_OK;
    int n = batch->n_drawing > 1 ? cch_threads_count(batch->model->threads) : 1;
    if (n > batch->n_scratch) {
        free_scratch(batch);
        CCH_ZNEW(batch->scratch, (size_t)n, err);
        CCH_ZNEW(batch->errors, (size_t)n, err);
        batch->n_scratch = n;
    }
    for (int i = 0; i < n; i++)
        CCH_TRY(cch_sampler_scratch_reserve(&batch->scratch[i], batch->model->config.vocab_size, err));
done:
    return status;
}

cch_status cch_batch_row_read(cch_batch_row *row, cch_error *err) {
    cch_state *all = whole(row);
    CCH_RETURN_IF(cch_state_index_pages(all, err));
    for (int32_t len = cch_state_len(all); row->n_history < len; row->n_history++)
        row->history[row->n_history] =
            all->pages[row->n_history / CCH_PAGE_TOKENS]->tokens[row->n_history % CCH_PAGE_TOKENS];
    return CCH_OK;
}

/* Everything that drawing and appending can need; after it nothing is short of memory. */
static cch_status reserve(cch_batch *batch, cch_error *err) {
    int32_t top_k = batch->work.top_k > 0 ? batch->work.top_k : -1;
    for (size_t i = 0; i < batch->n_drawing; i++) {
        cch_batch_row *row = batch->drawing[i];
        CCH_RETURN_IF(cch_state_reserve_push(row->state, top_k, err));
        if (row->tape != NULL) CCH_RETURN_IF(cch_state_reserve_push(row->tape, -1, err));
        if (row->history != NULL) CCH_RETURN_IF(cch_batch_row_read(row, err));
    }
    return reserve_scratch(batch, err);
}

/* Whose error it is: the caller may remove that row and go on with the others. */
static void name_row(const cch_batch_row *row, cch_error *err) {
    cch_error cause = *err;
    cch_fail(err, cause.code, cause.function, row->id, "row %d: %s", row->id, cause.message);
}

static void draw_rows(void *arg, int thread, int n_threads) {
    cch_batch *batch = arg;
    const cch_config *c = &batch->model->config;
    size_t first, last;
    cch_split(batch->n_drawing, n_threads, thread, &first, &last);
    for (size_t i = first; i < last; i++) {
        cch_batch_row *row = batch->drawing[i];
        int32_t n_banned;
        const int32_t *banned =
            cch_model_banned(batch->model, row->sampling.step < row->sampling.min_tokens, &n_banned);
        cch_status status = cch_sample_scratch(batch->model->kern, &batch->scratch[thread],
                                               prediction(batch, row, row->ahead.at), c->vocab_size, &row->sampling,
                                               row->history, cch_state_len(whole(row)), banned, n_banned,
                                               row->tracer != NULL ? &row->tracer->trace : NULL, &row->sampled,
                                               &batch->errors[thread]);
        if (status == CCH_OK) continue;
        name_row(row, &batch->errors[thread]);
        return;
    }
}

static cch_status draw(cch_batch *batch, cch_error *err) {
    for (int i = 0; i < batch->n_scratch; i++) batch->errors[i].code = CCH_OK;
    cch_work_parallel(&batch->work, batch->n_drawing, draw_rows, batch);
    for (int i = 0; i < batch->n_scratch; i++) {
        if (batch->errors[i].code == CCH_OK) continue;
        if (err != NULL) *err = batch->errors[i];
        return batch->errors[i].code;
    }
    return CCH_OK;
}

static bool is_eos(const cch_config *c, int32_t token_id) {
    for (int32_t i = 0; i < c->n_eos; i++)
        if (c->eos_token_ids[i] == token_id) return true;
    return false;
}

static void push(cch_batch *batch, cch_batch_row *row) {
    const float *logprob = batch->work.top_k > 0 ? &row->sampled.logprob : NULL;
    if (cch_ahead_push(&row->ahead, row->state, row->sampled.token_id, logprob))
        cch_allowance_right(&batch->allowance, (int32_t)batch->n_asks);
    if (row->tape != NULL) cch_state_push(row->tape, row->sampled.token_id, NULL);
}

/* Appends what was drawn, says what happened, and lets finished rows leave.  Wants the lock; cannot fail. */
static void append(cch_batch *batch, cch_step *out, size_t *out_n) {
    for (size_t i = 0; i < batch->n_rows; i++) {
        cch_batch_row *row = batch->rows[i];
        if (row->leaves || (!row->complete && (row->reads || !full(row)))) continue;
        cch_step *step = &out[(*out_n)++];
        *step = (cch_step){.row = row->id, .position = cch_state_len(whole(row))};
        if (row->reads) {
            step->finish = CCH_FINISH_READ;
        } else if (full(row)) {
            step->finish = CCH_FINISH_CONTEXT;
        } else {
            step->sampled = row->sampled;
            if (is_eos(&batch->model->config, row->sampled.token_id))
                step->finish = CCH_FINISH_EOS;
            else
                push(batch, row);
            row->n_new++;
            row->sampling.step += row->sampling.step < INT32_MAX;
            row->drawn = batch->step;
        }
        row->leaves = step->finish != CCH_RUNNING;
    }
}

cch_status cch_batch_step(cch_batch *batch, cch_step *out, size_t *out_n, cch_error *err) {
    cch_model *model = batch->model;
    *out_n = 0;
    pthread_mutex_lock(&batch->lock);
    bool busy = batch->running;
    batch->running = true;
    pthread_mutex_unlock(&batch->lock);
    if (busy) CCH_FAIL(err, CCH_E_BUSY, -1, "the batch is in the middle of another step");
    atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
    batch->step++;

    cch_status status = cch_run_lock(model, err);
    if (status == CCH_OK) {
        status = compute(batch, err);
        if (status == CCH_OK) status = reserve(batch, err);
        if (status == CCH_OK && batch->n_drawing > 0) status = draw(batch, err);
        cch_run_unlock(model);
    }

    pthread_mutex_lock(&batch->lock);
    if (status == CCH_OK) append(batch, out, out_n);
    drop_leaving(batch);
    batch->running = false;
    pthread_mutex_unlock(&batch->lock);
    unref(batch);
    return status;
}
