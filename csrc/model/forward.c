#include "model/forward.h"

#include <stdlib.h> /* qsort */
#include <string.h>

#include "model/attention.h"
#include "model/model.h"
#include "model/ops.h"

/* A span and where it is: its first row, the first of its hidden states that are wanted, the first of its pages. */
typedef struct place {
    const cch_span *span;
    size_t row, out_row, page;
} place;

/* One pass: its plan and its buffers, all in the model's scratch.  Matrices are [rows, ld of the same name]. */
typedef struct pass {
    cch_model *model;
    const cch_span *spans;
    size_t n_spans;
    const cch_probe *probe;
    size_t rows, n_wanted, n_pages, max_blocks;
    int32_t context;              /* of the longest sequence */
    cch_row *batch;               /* [rows] */
    cch_run *runs;                /* [n_runs], n_runs <= rows */
    size_t n_runs;
    float **kv;                   /* [n_pages]: KV blocks of each span's pages, one span behind the other */
    place *places;                /* [n_spans]: spans that begin with the same pages side by side */
    cch_queries *blocks;          /* [n_blocks] */
    cch_branches *tasks;          /* [n_tasks], n_tasks <= n_blocks */
    size_t n_blocks, n_tasks;
    cch_attention_work *work;     /* [threads] */
    size_t ld, ld_qkv, ld_att, ld_mlp;
    float *x, *h, *delta;         /* residual stream; its norm; what the last block adds to it */
    float *qkv, *att, *mlp, *cos, *sin;
    float *words;                 /* of a product */
} pass;

static size_t whole_panels(size_t n) { return (n + CCH_LANES - 1) / CCH_LANES * CCH_LANES; }
static size_t pages_of(int32_t tokens) { return ((size_t)tokens + CCH_PAGE_TOKENS - 1) / CCH_PAGE_TOKENS; }

/* ------------------------------------------------------------------------------------------------- plan ---- */

static void measure(pass *p) {
    const cch_config *c = &p->model->config;
    size_t heads = (size_t)c->n_heads * (size_t)c->head_dim, kv_heads = (size_t)c->n_kv_heads * (size_t)c->head_dim;
    for (size_t i = 0; i < p->n_spans; i++) {
        const cch_span *s = &p->spans[i];
        int32_t end = s->first + s->n, block = cch_attention_block(c, end);
        p->rows += (size_t)s->n;
        p->n_wanted += (size_t)s->n_out;
        p->n_pages += pages_of(end);
        p->max_blocks += (size_t)((s->n + block - 1) / block);
        if (end > p->context) p->context = end;
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
    size_t rows = p->rows, threads = (size_t)cch_threads_count(m->threads);
    cch_attention_work work;
    cch_scratch_begin(s);
    p->batch = cch_scratch_take(s, rows, sizeof *p->batch);
    p->runs = cch_scratch_take(s, rows, sizeof *p->runs);
    p->kv = cch_scratch_take(s, p->n_pages, sizeof *p->kv);
    p->places = cch_scratch_take(s, p->n_spans, sizeof *p->places);
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
    p->work = cch_scratch_take(s, threads, sizeof *p->work);
    for (size_t t = 0; t < threads; t++) {
        cch_attention_take(&m->config, p->context, s, &work);
        if (p->work != NULL) p->work[t] = work;
    }
}

/* Rows, and the runs of rows that share a page. */
static void plan_rows(pass *p) {
    size_t row = 0, page = 0;
    for (size_t i = 0; i < p->n_spans; i++) {
        const cch_span *s = &p->spans[i];
        size_t n_pages = pages_of(s->first + s->n);
        for (size_t k = 0; k < n_pages; k++) p->kv[page + k] = s->pages[k]->kv;
        page += n_pages;
        for (int32_t pos = s->first; pos < s->first + s->n; pos++, row++) {
            cch_page *at = s->pages[pos / CCH_PAGE_TOKENS];
            int32_t slot = pos % CCH_PAGE_TOKENS;
            p->batch[row] = (cch_row){at->tokens[slot], pos};
            if (pos == s->first || slot == 0) p->runs[p->n_runs++] = (cch_run){at->kv, row, slot, 0, s->keep_kv};
            p->runs[p->n_runs - 1].n++;
        }
    }
}

/* Pages that both sequences begin with: as a page has one page before it, all up to the last that is the same. */
static size_t common_pages(const cch_span *a, const cch_span *b) {
    const size_t n_a = pages_of(a->first + a->n), n_b = pages_of(b->first + b->n);
    size_t low = 0, high = n_a < n_b ? n_a : n_b;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (a->pages[mid] == b->pages[mid]) low = mid + 1;
        else high = mid;
    }
    return low;
}

/* By the first page that differs; what equals a prefix of the other comes first. */
static int by_pages(const void *left, const void *right) {
    const place *x = left, *y = right;
    const cch_span *a = x->span, *b = y->span;
    const size_t at = common_pages(a, b), n_a = pages_of(a->first + a->n), n_b = pages_of(b->first + b->n);
    const uintptr_t in_a = at < n_a ? (uintptr_t)a->pages[at] : 0, in_b = at < n_b ? (uintptr_t)b->pages[at] : 0;
    return in_a != in_b ? (in_a > in_b) - (in_a < in_b) : (x->row > y->row) - (x->row < y->row);
}

static void plan_places(pass *p) {
    place at = {0};
    for (size_t i = 0; i < p->n_spans; i++) {
        at.span = &p->spans[i];
        p->places[i] = at;
        at.row += (size_t)at.span->n;
        at.out_row += (size_t)at.span->n_out;
        at.page += pages_of(at.span->first + at.span->n);
    }
    if (p->n_spans > 1) qsort(p->places, p->n_spans, sizeof *p->places, by_pages);
}

/* Attention blocks over all rows, or only over those whose hidden states are wanted; these move together in the
 * output.  The last block of a span is the longest work and comes first.  Spans of one block may be branches. */
static void plan_blocks(pass *p, bool only_wanted) {
    const cch_span *before = NULL;
    p->n_blocks = 0;
    for (const place *at = p->places; at < p->places + p->n_spans; at++) {
        const cch_span *s = at->span;
        int32_t end = s->first + s->n, n = only_wanted ? s->n_out : s->n, first = end - n;
        int32_t block = cch_attention_block(&p->model->config, end);
        size_t row = at->row + (size_t)(s->n - n), out_row = only_wanted ? at->out_row : at->row;
        bool whole = n > 0 && n <= block;
        for (int32_t q = n > 0 ? (n - 1) / block * block : -1; q >= 0; q -= block) {
            int32_t len = n - q < block ? n - q : block;
            p->blocks[p->n_blocks++] = (cch_queries){
                .kv = p->kv + at->page, .first = first + q, .n = len, .context = first + q + len,
                .row = row + (size_t)q, .out_row = out_row + (size_t)q, .watch = q + len == n ? s->watch : NULL,
                .shared = whole && before != NULL ? (int32_t)common_pages(before, s) : 0};
        }
        before = whole ? s : n > 0 ? NULL : before;
    }
    p->n_tasks = cch_attention_branches(p->model, p->blocks, p->n_blocks, p->tasks);
}

static cch_status plan(pass *p, cch_error *err) {
    measure(p);
    lay_out(p);
    CCH_RETURN_IF(cch_scratch_reserve(&p->model->scratch, err));
    lay_out(p);
    plan_rows(p);
    plan_places(p);
    plan_blocks(p, false);
    return CCH_OK;
}

/* ------------------------------------------------------------------------------------------------ layers ---- */

static void matmul(const pass *p, const cch_packed *w, const float *x, size_t ldx, float *y, size_t ldy) {
    cch_matmul(p->model->kern, p->model->threads, w, x, ldx, p->rows, p->words, y, ldy);
}

/* Moves the wanted rows of a matrix [.., ld] to its front. */
static void gather_wanted(const pass *p, const float *src, size_t ld, float *dst, size_t ldd, size_t n) {
    size_t row = 0, out_row = 0;
    for (size_t i = 0; i < p->n_spans; i++) {
        const cch_span *s = &p->spans[i];
        row += (size_t)s->n;
        for (size_t r = row - (size_t)s->n_out; r < row; r++, out_row++)
            memmove(dst + out_row * ldd, src + r * ld, n * sizeof *dst);
    }
}

/* From here on only the rows whose hidden states are wanted exist: nothing reads the others after the last layer's
 * keys and values are written. */
static void keep_wanted(pass *p) {
    plan_blocks(p, true);
    gather_wanted(p, p->x, p->ld, p->x, p->ld, p->ld);
    p->rows = p->n_wanted;
}

static void write_output(const pass *p, float *hidden_out) {
    size_t n = (size_t)p->model->config.hidden_size;
    if (p->rows > p->n_wanted) {
        gather_wanted(p, p->h, p->ld, hidden_out, n, n);
        return;
    }
    for (size_t r = 0; r < p->rows; r++) memcpy(hidden_out + r * n, p->h + r * p->ld, n * sizeof *hidden_out);
}

static void attend(pass *p, int32_t l, size_t batch_rows) {
    cch_model *m = p->model;
    cch_attention(m, l, p->tasks, p->n_tasks, p->qkv, p->ld_qkv, p->att, p->ld_att, p->work, p->probe, batch_rows);
    if (cch_probes_attention(p->probe, l) && p->probe->attended != NULL) p->probe->attended(p->probe->arg, l);
    matmul(p, &m->weights.layers[l].o, p->att, p->ld_att, p->delta, p->ld);
}

static void feed_forward(pass *p, int32_t l) {
    const cch_layer *layer = &p->model->weights.layers[l];
    matmul(p, &layer->up, p->h, p->ld, p->mlp, p->ld_mlp);
    cch_op_activate(p->model, p->mlp, p->rows, p->ld_mlp);
    matmul(p, &layer->down, p->mlp, p->ld_mlp, p->delta, p->ld);
}

static void probe_hidden(const pass *p, int32_t layer, const float *matrix) {
    const cch_probe *probe = p->probe;
    size_t n = (size_t)p->model->config.hidden_size;
    if (probe == NULL || probe->hidden == NULL || probe->hidden_layer != layer) return;
    for (size_t r = 0; r < p->rows; r++) memcpy(probe->hidden + r * n, matrix + r * p->ld, n * sizeof *matrix);
}

int32_t cch_probe_last_stage(const cch_probe *probe, int32_t n_layers) {
    int32_t stage = -1;
    if (probe == NULL || !probe->stop_early) return INT32_MAX;
    int32_t attended = probe->attention_layer < 0 ? n_layers - 1 : probe->attention_layer;
    if (probe->attention != NULL) stage = 2 * attended + 1;
    if (probe->hidden != NULL && probe->hidden_layer < 0) return INT32_MAX;
    if (probe->hidden != NULL && 2 * probe->hidden_layer > stage) stage = 2 * probe->hidden_layer;
    return stage;
}

cch_status cch_forward(cch_model *model, const cch_span *spans, size_t n_spans, float *hidden_out,
                       const cch_probe *probe, const volatile int *cancel, cch_error *err) {
    const cch_weights *w = &model->weights;
    int32_t n_layers = model->config.n_layers;
    pass p = {.model = model, .spans = spans, .n_spans = n_spans, .probe = probe};
    CCH_RETURN_IF(plan(&p, err));
    size_t batch_rows = p.rows;
    int32_t stop = cch_probe_last_stage(probe, n_layers);

    cch_op_embed(model, p.batch, p.rows, p.x, p.ld, p.cos, p.sin);
    for (int32_t l = 0; l < n_layers; l++) {
        const cch_layer *layer = &w->layers[l];
        if (cancel != NULL && *cancel != 0)
            CCH_FAIL(err, CCH_E_CANCELLED, l, "cancelled before layer %d of %d", l, n_layers);
        cch_op_add_norm(model, &layer->attention_norm, p.x, l == 0 ? NULL : p.delta, p.rows, p.ld, p.h);
        probe_hidden(&p, l, p.x);
        if (stop <= 2 * l) return CCH_OK;

        matmul(&p, &layer->qkv, p.h, p.ld, p.qkv, p.ld_qkv);
        cch_op_store_kv(model, l, p.runs, p.n_runs, p.qkv, p.ld_qkv, p.cos, p.sin);
        if (l == n_layers - 1 && probe == NULL) keep_wanted(&p);
        if (p.rows == 0) return CCH_OK;
        attend(&p, l, batch_rows);
        if (stop <= 2 * l + 1) return CCH_OK;

        cch_op_add_norm(model, &layer->mlp_norm, p.x, p.delta, p.rows, p.ld, p.h);
        feed_forward(&p, l);
    }
    cch_op_add_norm(model, &w->final_norm, p.x, p.delta, p.rows, p.ld, p.h);
    probe_hidden(&p, n_layers, p.x);
    probe_hidden(&p, -1, p.h);
    if (hidden_out != NULL) write_output(&p, hidden_out);
    return CCH_OK;
}

cch_status cch_output_logits(cch_model *model, const float *hidden, size_t rows, float *logits, cch_error *err) {
    const cch_packed *head = &model->weights.head;
    const size_t words = rows * cch_matmul_words(head);
    cch_scratch_begin(&model->scratch);
    cch_scratch_take(&model->scratch, words, sizeof(float));
    CCH_RETURN_IF(cch_scratch_reserve(&model->scratch, err));
    cch_scratch_begin(&model->scratch);
    cch_matmul(model->kern, model->threads, head, hidden, (size_t)model->config.hidden_size, rows,
               cch_scratch_take(&model->scratch, words, sizeof(float)), logits, head->n_panels * CCH_LANES);
    return CCH_OK;
}
