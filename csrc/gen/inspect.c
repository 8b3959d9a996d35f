/* inspect - looks into a state: logits, labels, ranks, attention, hidden states, keys and values at any of its
 * positions.
 *
 * What is looked at is computed again from the KV entries, in passes of at most chunk_tokens rows that write no page.
 * By the laws it is what generation saw, bit for bit.  Like evaluations, inspections of different threads take turns
 * after each pass, so that looking at a long state does not stop those who generate.  KV entries that were evicted in
 * between are computed again at the start of a pass, under the run lock that the pass keeps.
 *
 * An encoder keeps nothing of a state's tokens: each pass reads all of them, its template around them, and shows the
 * rows that are looked at.
 */
#include <math.h>
#include <string.h>

#include "gen/eval.h"
#include "model/encode.h"

typedef struct inspection {
    cch_state *state;
    cch_work work;
    const cch_eval_options *options;
    int32_t first, n;
    int32_t at, rows; /* of the running pass: positions first + [at, at + rows) */
    bool held;
    cch_error *err;
} inspection;

/* Holds the state.  Every hold or begin has an end, also when it fails. */
static cch_status hold(inspection *in) {
    static const cch_eval_options defaults = CCH_EVAL_OPTIONS_INIT;
    if (in->options == NULL) in->options = &defaults;
    CCH_RETURN_IF(cch_work_check(in->options->chunk_tokens, 0, in->err));
    CCH_RETURN_IF(cch_state_acquire(in->state, in->err));
    in->held = true;
    cch_work_init(&in->work, in->state->model, in->options->chunk_tokens, 0, in->options->cancel);
    return cch_state_index_pages(in->state, in->err);
}

static void end(inspection *in) {
    if (!in->held) return;
    cch_work_deinit(&in->work);
    cch_state_release(in->state);
}

static cch_status check_positions(const inspection *in) {
    int32_t len = cch_state_len(in->state);
    if (in->first < 0 || in->n < 0 || in->first > len || in->n > len - in->first)
        CCH_FAIL(in->err, CCH_E_ARGUMENT, in->first,
                 "positions [%d, %d + %d) were asked for, the state holds %d tokens", in->first, in->first, in->n, len);
    return CCH_OK;
}

/* Brings the KV entries of positions [0, upto) up to date; dst: the logits of those from out_first on, or NULL. */
static cch_status compute(inspection *in, int32_t out_first, int32_t upto, float *dst) {
    cch_ask ask = {.state = in->state, .upto = upto, .out_first = out_first, .dst = dst};
    return cch_eval_asks(&in->work, &ask, 1, in->options, false, in->err);
}

static bool encodes(const inspection *in) { return in->state->model->config.model_type == CCH_ENCODER; }

/* Keys that the positions are shown with. */
static int32_t context(const inspection *in) { return encodes(in) ? cch_state_len(in->state) : in->first + in->n; }

/* Holds, and brings the KV entries of all positions up to date. */
static cch_status begin(inspection *in) {
    int32_t upto = in->first + in->n;
    CCH_RETURN_IF(hold(in));
    CCH_RETURN_IF(check_positions(in));
    return in->n > 0 && !encodes(in) ? compute(in, upto, upto, NULL) : CCH_OK;
}

/* Takes the run lock with the KV entries of positions [0, upto) in memory.  The caller gives it back. */
static cch_status lock_ready(inspection *in, int32_t upto) {
    cch_ask ask = {.state = in->state, .upto = upto, .out_first = upto};
    cch_eval_options options = *in->options;
    options.progress = NULL; /* what was computed before is no progress */
    CCH_RETURN_IF(cch_run_lock(in->state->model, in->err));
    cch_status status = cch_eval_asks(&in->work, &ask, 1, &options, true, in->err);
    if (status != CCH_OK) cch_run_unlock(in->state->model);
    return status;
}

/* A pass over the rows of a decoder. */
static cch_status decode_rows(inspection *in, const cch_probe *probe) {
    cch_model *model = in->state->model;
    CCH_RETURN_IF(lock_ready(in, in->first + in->at + in->rows));
    cch_span span = {in->state->pages, in->first + in->at, in->rows, false, 0, NULL};
    cch_status status = cch_forward(model, &span, 1, NULL, probe, in->options->cancel, in->err);
    cch_run_unlock(model);
    return status;
}

/* A pass over the whole text of an encoder, which shows the rows. */
static cch_status encode_rows(inspection *in, const cch_probe *probe) {
    cch_status status = CCH_OK;
    cch_error *err = in->err;
    cch_model *model = in->state->model;
    const int32_t len = cch_state_len(in->state), before = (int32_t)model->n_before;
    const int32_t n = before + len + (int32_t)model->n_after; /* fits: cch_model_room */
    cch_probe shown = *probe;
    const float *hidden;
    int32_t *ids = NULL;
    size_t ld;
    shown.first_row = before + in->first + in->at;
    shown.n_rows = in->rows;
    shown.first_key = before;
    CCH_NEW(ids, (size_t)n, err);
    if (before > 0) memcpy(ids, model->before, model->n_before * sizeof *ids);
    for (int32_t i = 0; i < len; i++)
        ids[before + i] = in->state->pages[i / CCH_PAGE_TOKENS]->tokens[i % CCH_PAGE_TOKENS];
    if (model->n_after > 0) memcpy(ids + before + len, model->after, model->n_after * sizeof *ids);
    CCH_TRY(cch_run_lock(model, err));
    status = cch_encode(model, ids, &n, 1, &shown, in->options->cancel, &hidden, &ld, err);
    cch_run_unlock(model);
done:
    cch_free(ids);
    return status;
}

/* Passes over the positions with a probe; visit (may be NULL) takes the results of each. */
static cch_status probe_positions(inspection *in, const cch_probe *probe,
                                  void (*visit)(void *arg, int32_t at, int32_t n), void *arg) {
    int32_t most = in->work.chunk_tokens;
    for (in->at = 0; in->at < in->n; in->at += in->rows) {
        in->rows = in->n - in->at < most ? in->n - in->at : most;
        CCH_RETURN_IF(encodes(in) ? encode_rows(in, probe) : decode_rows(in, probe));
        if (visit != NULL) visit(arg, in->at, in->rows);
    }
    return CCH_OK;
}

/* What the output matrix gives for the positions: dst [n, n_outputs]. */
static cch_status outputs(cch_state *state, int32_t first, int32_t n, float *dst, const cch_eval_options *options,
                          cch_error *err) {
    inspection in = {.state = state, .options = options, .first = first, .n = n, .err = err};
    cch_status status = hold(&in);
    if (status == CCH_OK) status = check_positions(&in);
    if (status == CCH_OK && n > 0) status = compute(&in, first, first + n, dst);
    end(&in);
    return status;
}

cch_status cch_state_logits(cch_state *state, int32_t first, int32_t n, float *dst, const cch_eval_options *options,
                            cch_error *err) {
    CCH_RETURN_IF(cch_model_expect(state->model, CCH_CAUSAL_LM, "predicting tokens", err));
    return outputs(state, first, n, dst, options, err);
}

cch_status cch_state_classify(cch_state *state, int32_t first, int32_t n, float *dst, const cch_eval_options *options,
                              cch_error *err) {
    CCH_RETURN_IF(cch_model_expect(state->model, CCH_SEQUENCE_CLASSIFICATION, "classifying", err));
    return outputs(state, first, n, dst, options, err);
}

/* ---- what the model predicted ---- */

enum { ANALYZED_ROWS = 32 }; /* logits held at once */

/* Logits that predicted the tokens from `pos` on, at most n of them; *out_rows: how many.  block: room for
 * ANALYZED_ROWS. */
static cch_status predictions(inspection *in, int32_t pos, int32_t n, float *block, const float **out,
                              int32_t *out_rows) {
    *out = block;
    *out_rows = pos == 0 ? 1 : n < ANALYZED_ROWS ? n : ANALYZED_ROWS;
    if (pos > 0) return compute(in, pos - 1, pos - 1 + *out_rows, block);
    CCH_RETURN_IF(cch_run_lock(in->state->model, in->err));
    cch_status status = cch_work_bos_logits(&in->work, out, in->err);
    cch_run_unlock(in->state->model);
    return status;
}

static int32_t rank_of(const float *logits, int32_t vocab, int32_t id) {
    int32_t rank = 1;
    for (int32_t i = 0; i < vocab; i++) rank += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
    return rank;
}

/* Writes what is asked of the i-th position, given the logits [vocab] it was predicted with. */
static cch_status take_prediction(const inspection *in, const cch_predictions *out, int32_t i, const float *logits) {
    const cch_state *state = in->state;
    int32_t pos = in->first + i, vocab = state->vocab_size, k = out->k, id = -1;
    cch_logits_summary summary;
    CCH_RETURN_IF(cch_logits_summarize(state->model->kern, logits, vocab, NULL, &summary, in->err));
    if (pos < cch_state_len(state)) id = state->pages[pos / CCH_PAGE_TOKENS]->tokens[pos % CCH_PAGE_TOKENS];
    if (out->logprob != NULL) out->logprob[i] = id < 0 ? NAN : (float)cch_logits_logprob(logits, &summary, id);
    if (out->rank != NULL) out->rank[i] = id < 0 ? 0 : rank_of(logits, vocab, id);
    if (out->entropy != NULL) out->entropy[i] = (float)summary.entropy;
    if (out->lse != NULL) out->lse[i] = (double)summary.max + summary.log_sum;
    if (out->logits != NULL) memcpy(out->logits + (size_t)i * (size_t)vocab, logits, (size_t)vocab * sizeof *logits);
    if (k > 0) {
        size_t at = (size_t)i * (size_t)k;
        cch_top_logits(logits, vocab, k, out->top_ids + at, out->top_logits + at, NULL);
    }
    return CCH_OK;
}

/* report: whose progress is called, may be NULL; in->options has none. */
static cch_status analyze(inspection *in, const cch_predictions *out, const cch_eval_options *report) {
    cch_status status = CCH_OK;
    cch_error *err = in->err;
    size_t vocab = (size_t)in->state->vocab_size;
    int32_t rows;
    float *block = NULL;
    const float *logits;
    CCH_NEW(block, (size_t)ANALYZED_ROWS * vocab, err);
    for (int32_t at = 0; at < in->n; at += rows) {
        CCH_TRY(predictions(in, in->first + at, in->n - at, block, &logits, &rows));
        for (int32_t i = 0; i < rows; i++) CCH_TRY(take_prediction(in, out, at + i, logits + (size_t)i * vocab));
        if (report != NULL && report->progress != NULL) report->progress(report->progress_arg, at + rows, in->n);
    }
done:
    cch_free(block);
    return status;
}

static cch_status check_predictions(const cch_state *state, int32_t first, int32_t n, int32_t k, cch_error *err) {
    int32_t len = cch_state_len(state);
    if (first < 0 || n < 0 || first > len || n > len + 1 - first)
        CCH_FAIL(err, CCH_E_ARGUMENT, first, "predictions [%d, %d + %d) were asked for, the state has %d", first, first,
                 n, len + 1);
    if (k < 0 || k > state->vocab_size)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "k is %d, allowed: 0 to the vocabulary's %d", k, state->vocab_size);
    return CCH_OK;
}

cch_status cch_state_analyze(cch_state *state, int32_t first, int32_t n, const cch_predictions *out,
                             const cch_eval_options *options, cch_error *err) {
    CCH_RETURN_IF(cch_model_expect(state->model, CCH_CAUSAL_LM, "judging tokens", err));
    cch_eval_options quiet = CCH_EVAL_OPTIONS_INIT;
    if (options != NULL) quiet = *options;
    quiet.progress = NULL; /* of a block of rows; analyze reports all of them */
    inspection in = {.state = state, .options = &quiet, .first = first, .n = n, .err = err};
    cch_status status = hold(&in);
    if (status == CCH_OK) status = check_predictions(state, first, n, out->k, err);
    if (status == CCH_OK && n > 0) status = analyze(&in, out, options);
    end(&in);
    return status;
}

/* ---- attention ---- */

typedef struct attention_visit {
    const float *src; /* [heads, rows of the pass, context] */
    float *dst;       /* [heads, n, context] */
    size_t heads, n, context;
} attention_visit;

static void copy_attention(void *arg, int32_t at, int32_t n) {
    const attention_visit *v = arg;
    size_t rows = (size_t)n, skip = (size_t)at;
    for (size_t h = 0; h < v->heads; h++)
        memcpy(v->dst + (h * v->n + skip) * v->context, v->src + h * rows * v->context,
               rows * v->context * sizeof *v->dst);
}

static cch_status check_head(const cch_config *c, int32_t head, cch_error *err) {
    if (head < -1 || head >= c->n_heads)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "head is %d, allowed: 0 to %d, or -1 for all", head, c->n_heads - 1);
    return CCH_OK;
}

/* New block for the attention of one pass, all heads or one: [heads, rows of the pass, context].   E_MEMORY. */
static cch_status attention_block(const inspection *in, int32_t head, float **out, cch_error *err) {
    cch_status status = CCH_OK;
    size_t heads = head >= 0 ? 1 : (size_t)in->state->model->config.n_heads, floats;
    size_t rows = (size_t)(in->n < in->work.chunk_tokens ? in->n : in->work.chunk_tokens);
    size_t keys = (size_t)context(in);
    if (!cch_mul(heads * rows, keys, &floats))
        CCH_FAIL(err, CCH_E_MEMORY, -1, "attention of %zu x %zu positions does not fit memory", rows, keys);
    CCH_NEW(*out, floats, err);
done:
    return status;
}

static cch_status attend(inspection *in, int32_t layer, int32_t head, float *dst) {
    float *block = NULL;
    const cch_config *c = &in->state->model->config;
    attention_visit v = {NULL, dst, head >= 0 ? 1 : (size_t)c->n_heads, (size_t)in->n, (size_t)context(in)};
    cch_probe probe = {.attention_layer = layer, .attention_head = head, .ld_attention = v.context, .stop_early = true};
    CCH_RETURN_IF(attention_block(in, head, &block, in->err));
    v.src = probe.attention = block;
    cch_status status = probe_positions(in, &probe, copy_attention, &v);
    cch_free(block);
    return status;
}

cch_status cch_state_attention(cch_state *state, int32_t layer, int32_t head, int32_t first, int32_t n, float *dst,
                               const cch_eval_options *options, cch_error *err) {
    inspection in = {.state = state, .options = options, .first = first, .n = n, .err = err};
    const cch_config *c = &state->model->config;
    if (layer < 0 || layer >= c->n_layers)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "layer is %d, allowed: 0 to %d", layer, c->n_layers - 1);
    CCH_RETURN_IF(check_head(c, head, err));
    cch_status status = begin(&in);
    if (status == CCH_OK && n > 0) status = attend(&in, layer, head, dst);
    end(&in);
    return status;
}

typedef struct layers_visit {
    const inspection *in;
    cch_attention_visit visit;
    void *arg;
    const float *src;
} layers_visit;

static void show_layer(void *arg, int32_t layer) {
    const layers_visit *v = arg;
    v->visit(v->arg, layer, v->in->at, v->in->rows, v->src);
}

static cch_status attend_layers(inspection *in, int32_t head, cch_attention_visit visit, void *arg) {
    float *block = NULL;
    layers_visit v = {in, visit, arg, NULL};
    cch_probe probe = {.attention_layer = -1, .attention_head = head, .ld_attention = (size_t)context(in),
                       .stop_early = true, .attended = show_layer, .arg = &v};
    CCH_RETURN_IF(attention_block(in, head, &block, in->err));
    v.src = probe.attention = block;
    cch_status status = probe_positions(in, &probe, NULL, NULL);
    cch_free(block);
    return status;
}

cch_status cch_state_attention_layers(cch_state *state, int32_t head, int32_t first, int32_t n,
                                      cch_attention_visit visit, void *arg, const cch_eval_options *options,
                                      cch_error *err) {
    inspection in = {.state = state, .options = options, .first = first, .n = n, .err = err};
    CCH_RETURN_IF(check_head(&state->model->config, head, err));
    cch_status status = begin(&in);
    if (status == CCH_OK && n > 0) status = attend_layers(&in, head, visit, arg);
    end(&in);
    return status;
}

/* ---- hidden states ---- */

typedef struct hidden_visit {
    const float *src;
    float *dst;
    size_t width;
} hidden_visit;

static void copy_hidden(void *arg, int32_t at, int32_t n) {
    const hidden_visit *v = arg;
    memcpy(v->dst + (size_t)at * v->width, v->src, (size_t)n * v->width * sizeof *v->dst);
}

static cch_status look_at_hidden(inspection *in, int32_t layer, float *dst) {
    cch_status status = CCH_OK;
    cch_error *err = in->err;
    float *block = NULL;
    size_t rows = (size_t)(in->n < in->work.chunk_tokens ? in->n : in->work.chunk_tokens);
    hidden_visit v = {NULL, dst, (size_t)in->state->model->config.hidden_size};
    cch_probe probe = {.hidden_layer = layer, .stop_early = true};
    CCH_NEW(block, rows * v.width, err);
    v.src = probe.hidden = block;
    CCH_TRY(probe_positions(in, &probe, copy_hidden, &v));
done:
    cch_free(block);
    return status;
}

cch_status cch_state_hidden(cch_state *state, int32_t layer, int32_t first, int32_t n, float *dst,
                            const cch_eval_options *options, cch_error *err) {
    inspection in = {.state = state, .options = options, .first = first, .n = n, .err = err};
    int32_t n_layers = state->model->config.n_layers;
    if (layer < -1 || layer > n_layers)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "layer is %d, allowed: 0 to %d, or -1 for after the final norm", layer,
                 n_layers);
    cch_status status = begin(&in);
    if (status == CCH_OK && n > 0) status = look_at_hidden(&in, layer, dst);
    end(&in);
    return status;
}

/* ---- keys and values ---- */

static void copy_kv(const inspection *in, int32_t layer, int32_t head, float *keys, float *values) {
    const cch_page_geometry *g = &in->state->pool->geometry;
    size_t dim = (size_t)g->head_dim, base = (size_t)head * (size_t)in->n;
    for (int32_t i = 0; i < in->n; i++) {
        const int32_t pos = in->first + i;
        const size_t slot = (size_t)(pos % CCH_PAGE_TOKENS);
        float *kv = in->state->pages[pos / CCH_PAGE_TOKENS]->kv;
        const float *k = cch_page_k(g, kv, layer, head), *v = cch_page_v(g, kv, layer, head);
        const size_t row = (base + (size_t)i) * dim;
        for (size_t d = 0; d < dim && values != NULL; d++)
            values[row + d] = cch_page_number(g, v, slot * (size_t)g->ldv + d);
        for (size_t d = 0; d < dim && keys != NULL; d++)
            keys[row + d] =
                cch_page_number(g, k, cch_rope_channel(&in->state->model->config, d) * CCH_PAGE_TOKENS + slot);
    }
}

cch_status cch_state_kv(cch_state *state, int32_t layer, int32_t first, int32_t n, float *keys, float *values,
                        const cch_eval_options *options, cch_error *err) {
    inspection in = {.state = state, .options = options, .first = first, .n = n, .err = err};
    const cch_config *c = &state->model->config;
    if (layer < 0 || layer >= c->n_layers)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "layer is %d, allowed: 0 to %d", layer, c->n_layers - 1);
    if (encodes(&in)) return cch_model_expect(state->model, CCH_CAUSAL_LM, "keys and values", err);
    cch_status status = begin(&in);
    if (status == CCH_OK && n > 0) {
        status = lock_ready(&in, first + n);
        for (int32_t h = 0; h < c->n_kv_heads && status == CCH_OK; h++) copy_kv(&in, layer, h, keys, values);
        if (status == CCH_OK) cch_run_unlock(state->model);
    }
    end(&in);
    return status;
}
