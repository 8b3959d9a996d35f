#include "model/attention.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define BLOCK_ROWS 36       /* rows of a task at most: six tiles of six rows, for 1, 2, 3, 4 or 6 heads per KV head */
#define SCORE_FLOATS 98304  /* floats of a task's scores, unless one position needs more: a small part of the L2 */
#define SHARED_PAGES 4      /* fewer than these are read by each sequence for itself: a product costs a call, too */
#define MIX_PAGES 32        /* values that all rows of a task are given before the next: they stay in the L2 */
#define TASKS_PER_THREAD 2  /* at least, where branches could be one task: the last to end waits for nobody long */
#define INLINE_FLOPS 131072 /* less work than this stays in the calling thread */

typedef struct job {
    const cch_model *model;
    int32_t layer;
    const cch_branches *tasks;
    size_t n_branches, n_tasks; /* a task: branches and a KV head */
    const float *qkv;
    float *out;
    size_t ld, ldo;
    const cch_attention_work *work;
    const cch_probe *probe; /* NULL unless this layer is probed */
    size_t probe_rows;
    atomic_size_t next;
} job;

/* Blocks that run together, for one KV head: their rows, one behind the other. */
typedef struct task {
    const job *job;
    const cch_queries *blocks;
    size_t n_blocks, rows;
    int32_t kv_head, kv_layer, window;
    size_t page0, lds; /* scores begin at page0, which is the same for all blocks */
    const float *q;
    float *out;
    size_t ldq, ldo;
    const cch_attention_work *work;
} task;

/* Pages [from, upto) that the sequences of `rows` rows of a task, from `row` on, have in common. */
typedef struct stretch {
    float *const *kv; /* of one of the sequences, from its first page */
    size_t row, rows, from, upto;
} stretch;

static size_t pages_of(int32_t tokens) { return ((size_t)tokens + CCH_PAGE_TOKENS - 1) / CCH_PAGE_TOKENS; }

/* Query heads that read one KV head. */
static int32_t group_of(const cch_config *config) { return config->n_heads / config->n_kv_heads; }

/* Rows of a task whose longest sequence has `context` tokens. */
static int64_t most_rows(int32_t context) {
    int64_t row_floats = (int64_t)(pages_of(context) * CCH_PAGE_TOKENS);
    return SCORE_FLOATS / row_floats < BLOCK_ROWS ? SCORE_FLOATS / row_floats : BLOCK_ROWS;
}

int32_t cch_attention_block(const cch_config *config, int32_t context) {
    int32_t group = group_of(config);
    int64_t rows = most_rows(context);
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
    out->from = cch_scratch_take(scratch, rows, sizeof *out->from);
    out->upto = cch_scratch_take(scratch, rows, sizeof *out->upto);
}

/* --------------------------------------------------------------------------------------------- branches ---- */

static size_t positions_of(const cch_queries *blocks, size_t n) {
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (size_t)blocks[i].n;
    return sum;
}

/* Cuts blocks that share a prefix into tasks of about equal size that fit the workspace, `parts` of them or more. */
static size_t cut(const cch_config *config, const cch_queries *blocks, size_t n, size_t parts, cch_branches *out) {
    int32_t context = 0;
    size_t n_out = 0, left = positions_of(blocks, n);
    for (size_t i = 0; i < n; i++)
        if (blocks[i].context > context) context = blocks[i].context;
    const size_t most = (size_t)cch_attention_block(config, context);
    if (parts < (left + most - 1) / most) parts = (left + most - 1) / most;
    for (size_t i = 0, k; i < n; i = k) {
        const size_t even = parts > 1 ? (left + parts - 1) / parts : left, wanted = even < most ? even : most;
        size_t taken = (size_t)blocks[i].n;
        for (k = i + 1; k < n && taken + (size_t)blocks[k].n <= wanted; k++) taken += (size_t)blocks[k].n;
        out[n_out++] = (cch_branches){blocks + i, k - i};
        left -= taken;
        if (parts > 1) parts--;
    }
    return n_out;
}

size_t cch_attention_branches(const cch_model *model, const cch_queries *blocks, size_t n_blocks, cch_branches *out) {
    const size_t threads = (size_t)cch_threads_count(model->threads);
    const size_t wanted = threads > 1 ? threads * TASKS_PER_THREAD : 1;
    const size_t all = positions_of(blocks, n_blocks) * (size_t)model->config.n_kv_heads;
    size_t n_out = 0;
    for (size_t i = 0, k; i < n_blocks; i = k) {
        for (k = i + 1; k < n_blocks && blocks[k].shared >= SHARED_PAGES; k++) continue;
        const size_t own = wanted * positions_of(blocks + i, k - i);
        n_out += cut(&model->config, blocks + i, k - i, (own + all - 1) / all, out + n_out);
    }
    return n_out;
}

/* ------------------------------------------------------------------------------------------------ tasks ---- */

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

/* Row i of a block is query head i % group at position first + i / group; `row`: of its first in the task. */
static void probe_rows(const task *t, const cch_queries *b, size_t row) {
    const cch_probe *p = t->job->probe;
    int32_t group = group_of(&t->job->model->config);
    for (int32_t i = 0; i < b->n * group; i++) {
        int32_t head = t->kv_head * group + i % group;
        size_t at = row + (size_t)i, probe_row = b->row + (size_t)(i / group) - (size_t)p->first_row; /* may wrap */
        if ((p->attention_head >= 0 && head != p->attention_head) || probe_row >= t->job->probe_rows) continue;
        size_t plane = p->attention_head >= 0 ? 0 : (size_t)head;
        show_row(t->work->scores + at * t->lds, t->work->first[at], t->work->last[at],
                 (int64_t)p->first_key - (int64_t)(t->page0 * CCH_PAGE_TOKENS), (int64_t)p->ld_attention,
                 p->attention + (plane * t->job->probe_rows + probe_row) * p->ld_attention);
    }
}

/* The rows of the block's last position, to who watches them. */
static void show_last(const task *t, const cch_queries *b, size_t row) {
    int32_t group = group_of(&t->job->model->config);
    for (int32_t i = (b->n - 1) * group; i < b->n * group; i++) {
        size_t head = (size_t)(t->kv_head * group + i % group), at = row + (size_t)i;
        show_row(t->work->scores + at * t->lds, t->work->first[at], t->work->last[at],
                 -(int64_t)(t->page0 * CCH_PAGE_TOKENS), b->context, b->watch->attention + head * (size_t)b->context);
    }
}

/* Keys [first, last) that the query at `pos` sees. */
static int32_t first_seen(int32_t window, int32_t pos) { return window > 0 && pos >= window ? pos - window + 1 : 0; }

static int32_t last_seen(const job *j, const cch_queries *b, int32_t window, int32_t pos) {
    if (j->model->config.model_type != CCH_ENCODER) return pos + 1;
    return window > 0 && window < b->context - pos ? pos + window : b->context;
}

static size_t first_page(int32_t window, const cch_queries *b) {
    return (size_t)(first_seen(window, b->first) / CCH_PAGE_TOKENS);
}

static size_t last_page(const task *t, const cch_queries *b) {
    return pages_of(last_seen(t->job, b, t->window, b->first + b->n - 1));
}

/* Calls `run` for every stretch of blocks [begin, end), which agree in their pages before `from`: each sequence meets
 * its pages in ascending order. */
static void over_stretches(const task *t, size_t begin, size_t end, size_t row, size_t from,
                           void (*run)(const task *t, const stretch *s)) {
    const cch_queries *b = t->blocks;
    const size_t heads = (size_t)group_of(&t->job->model->config);
    size_t agree = last_page(t, &b[begin]);
    for (size_t i = begin + 1; i < end; i++)
        if ((size_t)b[i].shared < agree) agree = (size_t)b[i].shared;
    const bool alone = end - begin == 1, worth = alone || agree >= from + SHARED_PAGES;
    const stretch s = {b[begin].kv, row, positions_of(b + begin, end - begin) * heads, from, worth ? agree : from};
    if (s.from < s.upto) run(t, &s);
    for (size_t i = begin, k; i < end && !alone; i = k) {
        for (k = i + 1; k < end && (size_t)b[k].shared > agree; k++) continue;
        over_stretches(t, i, k, row, s.upto, run);
        row += positions_of(b + i, k - i) * heads;
    }
}

static void score(const task *t, const stretch *s) {
    const cch_page_geometry *g = cch_pool_geometry(t->job->model->pool);
    const size_t dim = (size_t)g->head_dim;
    const float **pages = t->work->k_pages;
    for (size_t i = s->from; i < s->upto; i++) pages[i] = cch_page_k(g, s->kv[i], t->kv_layer, t->kv_head);
    t->job->model->kern->attn_scores(
        t->q + s->row * t->ldq, t->ldq, s->rows, pages + s->from, g->halves, s->upto - s->from, dim,
        1.0f / sqrtf((float)dim), t->work->scores + s->row * t->lds + (s->from - t->page0) * CCH_PAGE_TOKENS, t->lds);
}

/* What of the rows' [first, last) falls on pages [from, upto), counted from there. */
static void clip(const task *t, const stretch *s, size_t from, size_t upto) {
    const cch_attention_work *w = t->work;
    const int32_t begin = (int32_t)((from - t->page0) * CCH_PAGE_TOKENS);
    const int32_t end = (int32_t)((upto - from) * CCH_PAGE_TOKENS);
    for (size_t i = s->row; i < s->row + s->rows; i++) {
        const int32_t first = w->first[i] - begin, last = w->last[i] - begin;
        w->from[i] = first < 0 ? 0 : first < end ? first : end;
        w->upto[i] = last < 0 ? 0 : last < end ? last : end;
    }
}

static void mix(const task *t, const stretch *s) {
    const cch_page_geometry *g = cch_pool_geometry(t->job->model->pool);
    const cch_attention_work *w = t->work;
    for (size_t i = s->from; i < s->upto; i++) w->v_pages[i] = cch_page_v(g, s->kv[i], t->kv_layer, t->kv_head);
    for (size_t from = s->from, upto; from < s->upto; from = upto) {
        upto = s->upto - from > MIX_PAGES ? from + MIX_PAGES : s->upto;
        clip(t, s, from, upto);
        t->job->model->kern->attn_mix(
            w->scores + s->row * t->lds + (from - t->page0) * CCH_PAGE_TOKENS, t->lds, s->rows, w->v_pages + from,
            g->halves, w->from + s->row, w->upto + s->row, (size_t)g->head_dim, (size_t)g->ldv, from > t->page0,
            t->out + s->row * t->ldo, t->ldo);
    }
}

/* Probabilities of all rows from their scores, and who wants to see them. */
static void weigh(const task *t) {
    const cch_attention_work *w = t->work;
    const int32_t skipped = (int32_t)(t->page0 * CCH_PAGE_TOKENS), group = group_of(&t->job->model->config);
    size_t row = 0;
    for (const cch_queries *b = t->blocks; b < t->blocks + t->n_blocks; row += (size_t)(b->n * group), b++) {
        for (int32_t i = 0; i < b->n * group; i++) {
            const size_t at = row + (size_t)i;
            w->first[at] = first_seen(t->window, b->first + i / group) - skipped;
            w->last[at] = last_seen(t->job, b, t->window, b->first + i / group) - skipped;
            t->job->model->kern->softmax(w->scores + at * t->lds, (size_t)w->first[at], (size_t)w->last[at]);
        }
        if (t->job->probe != NULL) probe_rows(t, b, row);
        if (b->watch != NULL && b->watch->layer == t->job->layer) show_last(t, b, row);
    }
}

static void run_blocks(const job *j, const cch_queries *blocks, size_t n, int32_t kv_head,
                       const cch_attention_work *w) {
    const cch_config *config = &j->model->config;
    const size_t dim = (size_t)config->head_dim, group = (size_t)group_of(config), floats = group * dim;
    const size_t head_at = (size_t)kv_head * floats;
    const cch_queries *end = blocks + n;
    task t = {.job = j, .blocks = blocks, .n_blocks = n, .kv_head = kv_head, .work = w,
              .kv_layer = cch_kv_layer(j->model, j->layer), .window = cch_config_window(config, j->layer)};
    t.page0 = first_page(t.window, blocks);
    for (const cch_queries *b = blocks; b < end; b++) {
        const size_t floats_seen = (last_page(&t, b) - t.page0) * CCH_PAGE_TOKENS;
        if (floats_seen > t.lds) t.lds = floats_seen;
    }

    /* The rows of one position, or of ungrouped heads of one sequence, are evenly spaced already. */
    const bool dense = n > 1 || (blocks->n > 1 && group > 1);
    const float *q = j->qkv + head_at;
    float *out = j->out + head_at;
    t.q = dense ? w->q : q + blocks->row * j->ld;
    t.out = dense ? w->out : out + blocks->out_row * j->ldo;
    t.ldq = dense || blocks->n == 1 ? dim : j->ld;
    t.ldo = dense || blocks->n == 1 ? dim : j->ldo;
    size_t at = 0;
    for (const cch_queries *b = blocks; dense && b < end; at += (size_t)b->n * floats, b++)
        copy_rows(q + b->row * j->ld, j->ld, w->q + at, floats, (size_t)b->n, floats);
    over_stretches(&t, 0, n, 0, t.page0, score);
    weigh(&t);
    over_stretches(&t, 0, n, 0, t.page0, mix);
    at = 0;
    for (const cch_queries *b = blocks; dense && b < end; at += (size_t)b->n * floats, b++)
        copy_rows(w->out + at, floats, out + b->out_row * j->ldo, j->ldo, (size_t)b->n, floats);
}

/* Branches whose windows begin in different pages go one by one. */
static void run_task(const job *j, const cch_branches *branches, int32_t kv_head, const cch_attention_work *w) {
    const cch_queries *b = branches->blocks;
    const int32_t window = cch_config_window(&j->model->config, j->layer);
    bool together = true;
    for (size_t i = 1; i < branches->n && together; i++) together = first_page(window, &b[i]) == first_page(window, b);
    if (together) run_blocks(j, b, branches->n, kv_head, w);
    else for (size_t i = 0; i < branches->n; i++) run_blocks(j, &b[i], 1, kv_head, w);
}

/* Heads are the outer order, so that threads share the K and V of one head while they are in cache. */
static void run_tasks(void *arg, int thread, int n_threads) {
    job *j = arg;
    (void)n_threads;
    for (;;) {
        size_t i = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
        if (i >= j->n_tasks) return;
        run_task(j, &j->tasks[i % j->n_branches], (int32_t)(i / j->n_branches), &j->work[thread]);
    }
}

static bool worth_threads(const cch_model *model, const cch_branches *tasks, size_t n_tasks) {
    double flops = 0, per_key = 4.0 * model->config.n_heads * model->config.head_dim;
    for (size_t i = 0; i < n_tasks; i++)
        for (size_t k = 0; k < tasks[i].n && flops < INLINE_FLOPS; k++)
            flops += per_key * tasks[i].blocks[k].n * tasks[i].blocks[k].context;
    return flops >= INLINE_FLOPS;
}

void cch_attention(const cch_model *model, int32_t layer, const cch_branches *tasks, size_t n_tasks, const float *qkv,
                   size_t ld, float *out, size_t ldo, const cch_attention_work *work, const cch_probe *probe,
                   size_t n_probe_rows) {
    bool probed = cch_probes_attention(probe, layer);
    job j = {.model = model, .layer = layer, .tasks = tasks, .n_branches = n_tasks,
             .n_tasks = n_tasks * (size_t)model->config.n_kv_heads, .qkv = qkv, .out = out, .ld = ld, .ldo = ldo,
             .work = work, .probe = probed ? probe : NULL, .probe_rows = n_probe_rows};
    atomic_init(&j.next, 0);
    if (worth_threads(model, tasks, n_tasks)) cch_threads_run(model->threads, run_tasks, &j);
    else run_tasks(&j, 0, 1);
}
