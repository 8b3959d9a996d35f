#include "model/attention.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define BLOCK_ROWS 36       /* rows of a task at most: six tiles of six rows, for 1, 2, 3, 4 or 6 heads per KV head */
#define SCORE_FLOATS 49152  /* floats of a task's scores, unless one position needs more: a small part of the L2 */
#define INLINE_FLOPS 131072 /* less work than this stays in the calling thread */

typedef struct job {
    const cch_model *model;
    int32_t layer;
    const cch_queries *blocks;
    size_t n_blocks, n_tasks;
    const float *qkv;
    float *out;
    size_t ld, ldo;
    const cch_attention_work *work;
    const cch_probe *probe; /* NULL unless this layer is probed */
    size_t probe_rows;
    atomic_size_t next;
} job;

static size_t pages_of(int32_t tokens) { return ((size_t)tokens + CCH_PAGE_TOKENS - 1) / CCH_PAGE_TOKENS; }

/* Query heads that read one KV head. */
static int32_t group_of(const cch_config *config) { return config->n_heads / config->n_kv_heads; }

int32_t cch_attention_block(const cch_config *config, int32_t context) {
    int32_t group = group_of(config);
    int64_t row_floats = (int64_t)(pages_of(context) * CCH_PAGE_TOKENS);
    int64_t rows = SCORE_FLOATS / row_floats < BLOCK_ROWS ? SCORE_FLOATS / row_floats : BLOCK_ROWS;
    return rows < group ? 1 : (int32_t)rows / group;
}

void cch_attention_take(const cch_config *config, int32_t context, cch_scratch *scratch, cch_attention_work *out) {
    size_t group = (size_t)group_of(config), dim = (size_t)config->head_dim;
    size_t rows = group > BLOCK_ROWS ? group : BLOCK_ROWS;
    size_t row_floats = pages_of(context) * CCH_PAGE_TOKENS;
    size_t scores = group * row_floats > SCORE_FLOATS ? group * row_floats : SCORE_FLOATS;
    out->q = cch_scratch_take(scratch, rows * dim, sizeof *out->q);
    out->out = cch_scratch_take(scratch, rows * dim, sizeof *out->out);
    out->scores = cch_scratch_take(scratch, scores, sizeof *out->scores);
    out->k_pages = cch_scratch_take(scratch, pages_of(context), sizeof *out->k_pages);
    out->v_pages = cch_scratch_take(scratch, pages_of(context), sizeof *out->v_pages);
    out->first = cch_scratch_take(scratch, rows, sizeof *out->first);
    out->last = cch_scratch_take(scratch, rows, sizeof *out->last);
}

/* n rows of `floats` from one spacing to another. */
static void copy_rows(const float *src, size_t lds, float *dst, size_t ldd, size_t n, size_t floats) {
    for (size_t i = 0; i < n; i++) memcpy(dst + i * ldd, src + i * lds, floats * sizeof *dst);
}

/* dst [n]: weights of the keys [first, first + n), of which scores has [first_seen, last_seen); zeros elsewhere. */
static void show_row(const float *scores, int64_t first_seen, int64_t last_seen, int64_t first, int64_t n, float *dst) {
    const int64_t begin = first_seen > first ? first_seen : first;
    const int64_t end = last_seen < first + n ? last_seen : first + n;
    memset(dst, 0, (size_t)n * sizeof *dst);
    if (begin < end) memcpy(dst + begin - first, scores + begin, (size_t)(end - begin) * sizeof *dst);
}

/* Row i of a task is query head i % group at position first + i / group. */
static void probe_rows(const job *j, const cch_queries *b, int32_t kv_head, const cch_attention_work *w, size_t lds,
                       int32_t skipped) {
    const cch_probe *p = j->probe;
    int32_t group = group_of(&j->model->config);
    for (int32_t i = 0; i < b->n * group; i++) {
        int32_t head = kv_head * group + i % group;
        size_t row = b->row + (size_t)(i / group) - (size_t)p->first_row; /* wraps for rows before the first */
        if ((p->attention_head >= 0 && head != p->attention_head) || row >= j->probe_rows) continue;
        size_t plane = p->attention_head >= 0 ? 0 : (size_t)head;
        show_row(w->scores + (size_t)i * lds, w->first[i], w->last[i], (int64_t)p->first_key - skipped,
                 (int64_t)p->ld_attention, p->attention + (plane * j->probe_rows + row) * p->ld_attention);
    }
}

/* The rows of the block's last position, to who watches them. */
static void show_last(const cch_queries *b, int32_t kv_head, int32_t group, const cch_attention_work *w, size_t lds,
                      int32_t skipped) {
    for (int32_t i = (b->n - 1) * group; i < b->n * group; i++) {
        size_t head = (size_t)(kv_head * group + i % group);
        show_row(w->scores + (size_t)i * lds, w->first[i], w->last[i], -(int64_t)skipped, b->context,
                 b->watch->attention + head * (size_t)b->context);
    }
}

/* Keys [first, last) that the query at `pos` sees. */
static int32_t first_seen(int32_t window, int32_t pos) { return window > 0 && pos >= window ? pos - window + 1 : 0; }

static int32_t last_seen(const job *j, const cch_queries *b, int32_t window, int32_t pos) {
    if (j->model->config.model_type != CCH_ENCODER) return pos + 1;
    return window > 0 && window < b->context - pos ? pos + window : b->context;
}

static void run_task(const job *j, const cch_queries *b, int32_t kv_head, const cch_attention_work *w) {
    const cch_kernels *kern = j->model->kern;
    const cch_config *config = &j->model->config;
    const cch_page_geometry *g = cch_pool_geometry(j->model->pool);
    int32_t group = group_of(config), window = cch_config_window(config, j->layer);
    int32_t kv_layer = cch_kv_layer(j->model, j->layer);
    size_t dim = (size_t)config->head_dim, rows = (size_t)(b->n * group), group_floats = (size_t)group * dim;
    size_t head_at = (size_t)kv_head * group_floats;

    int32_t page0 = first_seen(window, b->first) / CCH_PAGE_TOKENS, skipped = page0 * CCH_PAGE_TOKENS;
    size_t n_pages = pages_of(last_seen(j, b, window, b->first + b->n - 1)) - (size_t)page0;
    size_t lds = n_pages * CCH_PAGE_TOKENS;
    for (size_t i = 0; i < n_pages; i++) {
        w->k_pages[i] = cch_page_k(g, b->kv[(size_t)page0 + i], kv_layer, kv_head);
        w->v_pages[i] = cch_page_v(g, b->kv[(size_t)page0 + i], kv_layer, kv_head);
    }

    /* The rows of one position, or of ungrouped heads, are evenly spaced already. */
    bool dense = b->n > 1 && group > 1;
    const float *q = j->qkv + b->row * j->ld + head_at;
    float *out = j->out + b->out_row * j->ldo + head_at;
    if (dense) copy_rows(q, j->ld, w->q, group_floats, (size_t)b->n, group_floats);
    kern->attn_scores(dense ? w->q : q, b->n > 1 && !dense ? j->ld : dim, rows, w->k_pages, n_pages, dim,
                      1.0f / sqrtf((float)dim), w->scores, lds);
    for (size_t i = 0; i < rows; i++) {
        int32_t pos = b->first + (int32_t)i / group;
        w->first[i] = first_seen(window, pos) - skipped;
        w->last[i] = last_seen(j, b, window, pos) - skipped;
        kern->softmax(w->scores + i * lds, (size_t)w->first[i], (size_t)w->last[i]);
    }
    if (j->probe != NULL) probe_rows(j, b, kv_head, w, lds, skipped);
    if (b->watch != NULL && b->watch->layer == j->layer) show_last(b, kv_head, group, w, lds, skipped);
    kern->attn_mix(w->scores, lds, rows, w->v_pages, w->first, w->last, dim, (size_t)g->ldv, dense ? w->out : out,
                   b->n > 1 && !dense ? j->ldo : dim);
    if (dense) copy_rows(w->out, group_floats, out, j->ldo, (size_t)b->n, group_floats);
}

/* Heads are the outer order, so that threads share the K and V of one head while they are in cache. */
static void run_tasks(void *arg, int thread, int n_threads) {
    job *j = arg;
    (void)n_threads;
    for (;;) {
        size_t task = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
        if (task >= j->n_tasks) return;
        run_task(j, &j->blocks[task % j->n_blocks], (int32_t)(task / j->n_blocks), &j->work[thread]);
    }
}

static bool worth_threads(const cch_model *model, const cch_queries *blocks, size_t n_blocks) {
    double flops = 0, per_key = 4.0 * model->config.n_heads * model->config.head_dim;
    for (size_t i = 0; i < n_blocks && flops < INLINE_FLOPS; i++)
        flops += per_key * blocks[i].n * blocks[i].context;
    return flops >= INLINE_FLOPS;
}

void cch_attention(const cch_model *model, int32_t layer, const cch_queries *blocks, size_t n_blocks, const float *qkv,
                   size_t ld, float *out, size_t ldo, const cch_attention_work *work, const cch_probe *probe,
                   size_t n_probe_rows) {
    bool probed = cch_probes_attention(probe, layer);
    job j = {.model = model, .layer = layer, .blocks = blocks, .n_blocks = n_blocks,
             .n_tasks = n_blocks * (size_t)model->config.n_kv_heads, .qkv = qkv, .out = out, .ld = ld, .ldo = ldo,
             .work = work, .probe = probed ? probe : NULL, .probe_rows = n_probe_rows};
    atomic_init(&j.next, 0);
    if (worth_threads(model, blocks, n_blocks)) cch_threads_run(model->threads, run_tasks, &j);
    else run_tasks(&j, 0, 1);
}
