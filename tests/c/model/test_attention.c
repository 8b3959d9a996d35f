/* Attention against the formula in f64, for every kind of head grouping, window and block. */
#include "model/attention.h"
#include "toy.h"

#define N 70

typedef struct shape {
    int32_t n_heads, n_kv_heads, head_dim, window;
    bool encoder; /* sees both sides */
} shape;
static const shape shapes[] = {{4, 2, 12, 0, false}, {3, 3, 16, 0, false}, {6, 1, 8, 0, false}, {40, 1, 4, 0, false},
                               {4, 2, 20, 21, false}, {2, 2, 16, 1, false}, {3, 3, 16, 0, true}, {2, 2, 20, 1, true},
                               {3, 3, 12, 21, true}, {4, 2, 8, 9, true}, {2, 2, 16, 69, true}, {2, 2, 16, 90, true}};

static cch_config config_of(const shape *s) {
    cch_config c = toy_llama();
    c.n_layers = 2;
    c.n_heads = s->n_heads;
    c.n_kv_heads = s->n_kv_heads;
    c.head_dim = s->head_dim;
    c.sliding_window = s->window;
    if (s->encoder) c.model_type = CCH_ENCODER;
    return c;
}

/* Random keys and values for all positions, of layer 1 too. */
static void fill_pages(const cch_model *m, const toy_sequence *s) {
    for (size_t i = 0; i * CCH_PAGE_TOKENS < N; i++)
        toy_fill(m, s->pages[i]);
}

static float key_of(const cch_model *m, const toy_sequence *s, int32_t pos, int32_t head, int32_t d) {
    const cch_page_geometry *g = cch_pool_geometry(m->pool);
    const float *k = cch_page_k(g, s->pages[pos / 16]->kv, cch_kv_layer(m, 1), head);
    return cch_page_number(g, k, (size_t)(d * 16 + pos % 16));
}

static float value_of(const cch_model *m, const toy_sequence *s, int32_t pos, int32_t head, int32_t d) {
    const cch_page_geometry *g = cch_pool_geometry(m->pool);
    const float *v = cch_page_v(g, s->pages[pos / 16]->kv, cch_kv_layer(m, 1), head);
    return cch_page_number(g, v, (size_t)(pos % 16 * g->ldv + d));
}

/* out [head_dim]: the formula for one query head q [head_dim] at `pos`. */
static void naive(const cch_model *m, const toy_sequence *s, const float *q, int32_t pos, int32_t head, double *out) {
    int32_t dim = m->config.head_dim, kv = head / (m->config.n_heads / m->config.n_kv_heads);
    int32_t window = m->config.sliding_window > 0 ? m->config.sliding_window : N;
    int32_t first = pos >= window ? pos - window + 1 : 0, last = pos;
    if (m->config.model_type == CCH_ENCODER) last = pos + window <= N ? pos + window - 1 : N - 1;
    double weight[N], sum = 0;
    for (int32_t key = first; key <= last; key++) {
        double score = 0;
        for (int32_t d = 0; d < dim; d++) score += (double)q[d] * (double)key_of(m, s, key, kv, d);
        sum += weight[key] = exp(score / sqrt(dim));
    }
    for (int32_t d = 0; d < dim; d++) {
        out[d] = 0;
        for (int32_t key = first; key <= last; key++) out[d] += weight[key] / sum * (double)value_of(m, s, key, kv, d);
    }
}

static double worst_error(const cch_model *m, const toy_sequence *s, const float *qkv, size_t ld, int32_t first,
                          const float *out, size_t ldo) {
    double worst = 0, want[32];
    for (int32_t pos = first; pos < N; pos++)
        for (int32_t h = 0; h < m->config.n_heads; h++) {
            size_t at = (size_t)(h * m->config.head_dim);
            naive(m, s, qkv + (size_t)(pos - first) * ld + at, pos, h, want);
            for (int32_t d = 0; d < m->config.head_dim; d++)
                worst = fmax(worst, fabs((double)out[(size_t)(pos - first) * ldo + at + (size_t)d] - want[d]));
        }
    return worst;
}

/* Attention of the blocks in layer 1. */
static void run(cch_model *m, const cch_queries *blocks, size_t n_blocks, const float *qkv, size_t ld, float *out,
                size_t ldo) {
    cch_branches tasks[N];
    cch_attention_work work[2];
    cch_error err;
    for (int pass = 0; pass < 2; pass++) {
        cch_scratch_begin(&m->scratch);
        for (size_t t = 0; t < 2; t++) cch_attention_take(&m->config, N, &m->scratch, &work[t]);
        CHECK_OK(cch_scratch_reserve(&m->scratch, &err), err);
    }
    cch_attention(m, 1, tasks, cch_attention_branches(m, blocks, n_blocks, tasks), qkv, ld, out, ldo, work, NULL, 0);
}

/* Queries from `first` on, in blocks of `block` positions. */
static void attend(cch_model *m, const toy_sequence *s, int32_t first, int32_t block, const float *qkv, size_t ld,
                   float *out, size_t ldo) {
    float *kv[TOY_MAX_PAGES];
    cch_queries blocks[N];
    size_t n_blocks = 0;
    for (int32_t i = 0; i * CCH_PAGE_TOKENS < N; i++) kv[i] = s->pages[i]->kv;
    for (int32_t at = first; at < N; at += block) {
        const int32_t n = N - at < block ? N - at : block, context = m->config.model_type == CCH_ENCODER ? N : at + n;
        blocks[n_blocks++] = (cch_queries){.kv = kv, .first = at, .n = n, .context = context,
                                           .row = (size_t)(at - first), .out_row = (size_t)(at - first)};
    }
    run(m, blocks, n_blocks, qkv, ld, out, ldo);
}

TEST(equals_the_formula_whatever_the_blocks) {
    const size_t n_shapes = sizeof shapes / sizeof *shapes;
    for (size_t i = 0; i < 2 * n_shapes; i++) {
        cch_model m;
        toy_sequence s;
        toy_open(&m, config_of(&shapes[i % n_shapes]), NULL, 2);
        toy_pool(&m, i >= n_shapes);
        toy_sequence_new(&m, N, 9, &s);
        fill_pages(&m, &s);
        size_t width = (size_t)(m.config.n_heads * m.config.head_dim), ld = width + 7, ldo = width + 3;
        float *qkv = toy_vector(N * ld, 0.0f, 2.0f), *whole = toy_vector(N * ldo, 0.0f, 0.0f), *part;
        int32_t best = cch_attention_block(&m.config, N);
        CHECK(best >= 1);
        attend(&m, &s, 0, best, qkv, ld, whole, ldo);
        CHECK(worst_error(&m, &s, qkv, ld, 0, whole, ldo) < 1e-5);
        for (int32_t block = 1; block <= best; block += 3) {
            part = toy_vector(N * ldo, 0.0f, 0.0f);
            attend(&m, &s, 33, block, qkv + 33 * ld, ld, part, ldo);
            CHECK(memcmp(part, whole + 33 * ldo, (N - 33) * ldo * sizeof *part) == 0);
            cch_free(part);
        }
        cch_free(qkv);
        cch_free(whole);
        toy_sequence_free(&s);
        toy_close(&m);
    }
}

/* However long the sequence and however many heads share a KV head, a task's rows and scores fit its workspace. */
TEST(a_block_has_at_least_one_position) {
    cch_config c = toy_llama();
    for (c.n_heads = 1; c.n_heads <= 64; c.n_heads *= 2) {
        c.n_kv_heads = 1;
        for (int32_t context = 1; context <= 1 << 20; context *= 4) {
            int32_t block = cch_attention_block(&c, context);
            CHECK(block >= 1 && (block == 1 || block * c.n_heads * context <= 98304));
        }
    }
}

/* What a task needs of its workspace, whatever shares what: every block once, in order, and work for all threads. */
TEST(tasks_fit_their_workspace) {
    cch_queries blocks[100];
    cch_branches tasks[100];
    for (int threads = 1; threads <= 4; threads++) {
        cch_model m;
        toy_open(&m, config_of(&shapes[threads % 3]), NULL, threads);
        const int32_t group = m.config.n_heads / m.config.n_kv_heads;
        for (int32_t context = 16; context < 20000; context = context * 3 + 1) {
            for (int32_t i = 0; i < 100; i++)
                blocks[i] = (cch_queries){.n = 1 + (i % 9 == 0), .context = context + i % 7, .shared = i % 33 ? 30 : 3};
            const size_t n = cch_attention_branches(&m, blocks, 100, tasks);
            CHECK(n * (size_t)m.config.n_kv_heads >= (size_t)threads && n >= 4);
            CHECK(n <= 60 || context > 1000);
            const cch_queries *next = blocks;
            for (size_t t = 0; t < n; t++) {
                int32_t rows = 0;
                CHECK(tasks[t].blocks == next);
                for (size_t i = 0; i < tasks[t].n; i++) {
                    CHECK(i == 0 || next[i].shared == 30);
                    rows += next[i].n * group;
                }
                CHECK(tasks[t].n == 1 || (rows <= 36 && rows * (context + 22) <= 98304));
                next += tasks[t].n;
            }
            CHECK(next == blocks + 100);
        }
        toy_close(&m);
    }
}

CHECK_MAIN()
