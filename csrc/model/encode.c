#include "model/encode.h"

#include <string.h>

#include "model/attention.h"
#include "model/ops.h"

/* One pass: its plan and its buffers, all in the model's scratch.  Matrices are [rows, ld of the same name]. */
typedef struct pass {
    cch_model *model;
    const int32_t *ids, *lengths;
    const cch_probe *probe;
    size_t n_texts, rows, n_pages, max_blocks;
    int32_t longest;
    cch_row *batch;               /* [rows] */
    cch_run *runs;                /* [n_runs], one for each page */
    size_t n_runs;
    float **kv;                   /* [n_pages]: the blocks of each text's pages, one text behind the other */
    float *kv_floats;             /* what they point into */
    cch_queries *blocks;          /* [n_blocks] */
    cch_branches *tasks;          /* [n_tasks]: no text shares a page with another */
    size_t n_blocks, n_tasks;
    cch_attention_work *work;     /* [threads] */
    size_t ld, ld_qkv, ld_att, ld_mlp;
    float *x, *h;                 /* residual stream; its norm */
    float *delta;                 /* what the last block adds to x */
    bool pending;                 /* delta is not added yet */
    float *qkv, *att, *mlp;
    float *words;                 /* of a product */
    float *cos, *sin, *local_cos, *local_sin;
} pass;

static size_t whole_panels(size_t n) { return (n + CCH_LANES - 1) / CCH_LANES * CCH_LANES; }
static size_t pages_of(int32_t tokens) { return ((size_t)tokens + CCH_PAGE_TOKENS - 1) / CCH_PAGE_TOKENS; }

/* ------------------------------------------------------------------------------------------------- plan ---- */

static void measure(pass *p) {
    const cch_config *c = &p->model->config;
    const size_t heads = (size_t)c->n_heads * (size_t)c->head_dim;
    const size_t kv_heads = (size_t)c->n_kv_heads * (size_t)c->head_dim;
    for (size_t i = 0; i < p->n_texts; i++) {
        const int32_t n = p->lengths[i], block = cch_attention_block(c, n);
        p->rows += (size_t)n;
        p->n_pages += pages_of(n);
        p->max_blocks += (size_t)((n + block - 1) / block);
        if (n > p->longest) p->longest = n;
    }
    p->ld = whole_panels((size_t)c->hidden_size);
    p->ld_qkv = whole_panels(heads + 2 * kv_heads);
    p->ld_att = heads;
    p->ld_mlp = whole_panels((size_t)c->intermediate_size * (c->gated_mlp ? 2 : 1));
}

/* Called twice, see model/scratch.h. */
static void lay_out(pass *p) {
    cch_model *m = p->model;
    cch_scratch *s = &m->scratch;
    const size_t rows = p->rows, threads = (size_t)cch_threads_count(m->threads);
    cch_attention_work work;
    cch_scratch_begin(s);
    p->batch = cch_scratch_take(s, rows, sizeof *p->batch);
    p->runs = cch_scratch_take(s, p->n_pages, sizeof *p->runs);
    p->kv = cch_scratch_take(s, p->n_pages, sizeof *p->kv);
    p->kv_floats = cch_scratch_take(s, p->n_pages, cch_pool_geometry(m->pool)->page_floats * sizeof *p->kv_floats);
    p->blocks = cch_scratch_take(s, p->max_blocks, sizeof *p->blocks);
    p->tasks = cch_scratch_take(s, p->max_blocks, sizeof *p->tasks);
    p->x = cch_scratch_take(s, rows * p->ld, sizeof *p->x);
    p->h = cch_scratch_take(s, rows * p->ld, sizeof *p->h);
    p->delta = cch_scratch_take(s, rows * p->ld, sizeof *p->delta);
    p->qkv = cch_scratch_take(s, rows * p->ld_qkv, sizeof *p->qkv);
    p->att = cch_scratch_take(s, rows * p->ld_att, sizeof *p->att);
    p->mlp = cch_scratch_take(s, rows * p->ld_mlp, sizeof *p->mlp);
    p->words = cch_scratch_take(s, rows * m->weights.words, sizeof *p->words);
    p->cos = cch_scratch_take(s, rows * m->rope.half, sizeof *p->cos);
    p->sin = cch_scratch_take(s, rows * m->rope.half, sizeof *p->sin);
    p->local_cos = cch_scratch_take(s, rows * m->local_rope.half, sizeof *p->local_cos);
    p->local_sin = cch_scratch_take(s, rows * m->local_rope.half, sizeof *p->local_sin);
    p->work = cch_scratch_take(s, threads, sizeof *p->work);
    for (size_t t = 0; t < threads; t++) {
        cch_attention_take(&m->config, p->longest, s, &work);
        if (p->work != NULL) p->work[t] = work;
    }
}

/* The rows of text i, which begin at `row`, its pages from `page` on, and the blocks of its queries. */
static void plan_text(pass *p, size_t i, size_t row, size_t page) {
    const cch_config *c = &p->model->config;
    const size_t page_floats = cch_pool_geometry(p->model->pool)->page_floats;
    const int32_t n = p->lengths[i], block = cch_attention_block(c, n);
    for (int32_t pos = 0; pos < n; pos++) p->batch[row + (size_t)pos] = (cch_row){p->ids[row + (size_t)pos], pos};
    for (int32_t at = 0; at < n; at += CCH_PAGE_TOKENS) {
        const size_t own = page + (size_t)at / CCH_PAGE_TOKENS;
        p->kv[own] = p->kv_floats + own * page_floats;
        p->runs[p->n_runs++] = (cch_run){p->kv[own], row + (size_t)at, 0,
                                         n - at < CCH_PAGE_TOKENS ? n - at : CCH_PAGE_TOKENS, true};
    }
    /* Scores are made for whole pages, also where the last one has no token. */
    if (n % CCH_PAGE_TOKENS != 0) memset(p->kv[page + pages_of(n) - 1], 0, page_floats * sizeof *p->kv_floats);
    for (int32_t at = 0; at < n; at += block)
        p->blocks[p->n_blocks++] =
            (cch_queries){.kv = p->kv + page, .first = at, .n = n - at < block ? n - at : block, .context = n,
                          .row = row + (size_t)at, .out_row = row + (size_t)at};
}

static cch_status plan(pass *p, cch_error *err) {
    measure(p);
    lay_out(p);
    CCH_RETURN_IF(cch_scratch_reserve(&p->model->scratch, err));
    lay_out(p);
    for (size_t i = 0, row = 0, page = 0; i < p->n_texts; i++) {
        plan_text(p, i, row, page);
        row += (size_t)p->lengths[i];
        page += pages_of(p->lengths[i]);
    }
    p->n_tasks = cch_attention_branches(p->model, p->blocks, p->n_blocks, p->tasks);
    return CCH_OK;
}

/* ------------------------------------------------------------------------------------------------ layers ---- */

static void matmul(const pass *p, const cch_packed *w, const float *x, size_t ldx, float *y, size_t ldy) {
    cch_matmul(p->model->kern, p->model->threads, w, x, ldx, p->rows, p->words, y, ldy);
}

/* x += delta where it is pending, then y = norm(x); y may be x. */
static void add_norm(pass *p, const cch_norm_weights *norm, float *y) {
    cch_op_add_norm(p->model, norm, p->x, p->pending ? p->delta : NULL, p->rows, p->ld, y);
    p->pending = false;
}

/* What a block with this norm reads. */
static const float *enter(pass *p, const cch_norm_weights *norm) {
    if (p->model->config.post_norm || norm->w == NULL) return p->x;
    add_norm(p, norm, p->h);
    return p->h;
}

/* Takes in what the block has written to delta. */
static void leave(pass *p, const cch_norm_weights *norm) {
    p->pending = true;
    if (p->model->config.post_norm) add_norm(p, norm, p->x);
}

static void attend(pass *p, int32_t l, const float *x) {
    cch_model *m = p->model;
    const cch_layer *layer = &m->weights.layers[l];
    const bool local = cch_config_window(&m->config, l) > 0;
    matmul(p, &layer->qkv, x, p->ld, p->qkv, p->ld_qkv);
    cch_op_store_kv(m, l, p->runs, p->n_runs, p->qkv, p->ld_qkv, local ? p->local_cos : p->cos,
                    local ? p->local_sin : p->sin);
    cch_attention(m, l, p->tasks, p->n_tasks, p->qkv, p->ld_qkv, p->att, p->ld_att, p->work, p->probe,
                  p->probe == NULL ? 0 : (size_t)p->probe->n_rows);
    if (cch_probes_attention(p->probe, l) && p->probe->attended != NULL) p->probe->attended(p->probe->arg, l);
    matmul(p, &layer->o, p->att, p->ld_att, p->delta, p->ld);
}

static void feed_forward(pass *p, int32_t l, const float *x) {
    const cch_layer *layer = &p->model->weights.layers[l];
    matmul(p, &layer->up, x, p->ld, p->mlp, p->ld_mlp);
    cch_op_activate(p->model, p->mlp, p->rows, p->ld_mlp);
    matmul(p, &layer->down, p->mlp, p->ld_mlp, p->delta, p->ld);
}

/* What stands before layer `layer`, delta included; layer -1: the final hidden states. */
static void probe_hidden(const pass *p, int32_t layer) {
    const cch_probe *probe = p->probe;
    const size_t n = (size_t)p->model->config.hidden_size;
    if (probe == NULL || probe->hidden == NULL || probe->hidden_layer != layer) return;
    for (size_t r = 0; r < (size_t)probe->n_rows; r++) {
        const size_t at = ((size_t)probe->first_row + r) * p->ld;
        float *dst = probe->hidden + r * n;
        memcpy(dst, p->x + at, n * sizeof *dst);
        if (p->pending) p->model->kern->add(dst, p->delta + at, n);
    }
}

cch_status cch_encode(cch_model *model, const int32_t *ids, const int32_t *lengths, size_t n_texts,
                      const cch_probe *probe, const volatile int *cancel, const float **out_hidden, size_t *out_ld,
                      cch_error *err) {
    const cch_weights *w = &model->weights;
    const int32_t n_layers = model->config.n_layers, stop = cch_probe_last_stage(probe, n_layers);
    pass p = {.model = model, .ids = ids, .lengths = lengths, .n_texts = n_texts, .probe = probe};
    CCH_RETURN_IF(plan(&p, err));

    cch_op_embed(model, p.batch, p.rows, p.x, p.ld, p.cos, p.sin);
    if (model->local_rope.half > 0)
        cch_op_angles(model, &model->local_rope, p.batch, p.rows, p.local_cos, p.local_sin);
    if (w->embedding_norm.w != NULL) add_norm(&p, &w->embedding_norm, p.x);
    for (int32_t l = 0; l < n_layers; l++) {
        const cch_layer *layer = &w->layers[l];
        if (cancel != NULL && *cancel != 0)
            CCH_FAIL(err, CCH_E_CANCELLED, l, "cancelled before layer %d of %d", l, n_layers);
        probe_hidden(&p, l);
        if (stop <= 2 * l) return CCH_OK;
        attend(&p, l, enter(&p, &layer->attention_norm));
        if (stop <= 2 * l + 1) return CCH_OK;
        leave(&p, &layer->attention_norm);
        feed_forward(&p, l, enter(&p, &layer->mlp_norm));
        leave(&p, &layer->mlp_norm);
    }
    probe_hidden(&p, n_layers);
    if (w->final_norm.w != NULL) add_norm(&p, &w->final_norm, p.x);
    probe_hidden(&p, -1);
    *out_hidden = p.x;
    *out_ld = p.ld;
    return CCH_OK;
}
