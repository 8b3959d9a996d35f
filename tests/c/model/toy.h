/* toy - models with random weights and sequences with their own pages, built in memory for the tests of this layer. */
#ifndef CCH_TESTS_MODEL_TOY_H
#define CCH_TESTS_MODEL_TOY_H

#include "check.h"
#include "model/forward.h"
#include "model/model.h"

#define TOY_MAX_PAGES 16
#define TOY_MAX_PARTS 64

typedef struct toy_sequence {
    cch_page *pages[TOY_MAX_PAGES];
    int32_t n;
} toy_sequence;

static uint64_t toy_seed;

/* Uniform in [-1, 1). */
static inline float toy_random(void) {
    toy_seed = toy_seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(toy_seed >> 32) / 2147483648.0f;
}

static inline float *toy_vector(size_t n, float centre, float spread) {
    float *v = cch_alloc(n, sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = centre + spread * toy_random();
    return v;
}

/* Memory that cch_weights_close is to free. */
static inline void toy_part(cch_weights *weights, float *data) {
    CHECK(weights->n_parts < TOY_MAX_PARTS);
    weights->parts[weights->n_parts++].data = data;
}

static inline float *toy_table(cch_weights *weights, int32_t rows, int32_t cols, float centre, float spread) {
    float *table = toy_vector((size_t)rows * (size_t)cols, centre, spread);
    toy_part(weights, table);
    return table;
}

static inline cch_packed toy_packed(cch_weights *weights, int32_t n, int32_t k, bool bias) {
    float *rows = toy_vector((size_t)n * (size_t)k, 0.0f, 2.0f / sqrtf((float)k));
    cch_packed w;
    CHECK_EQ(cch_packed_init(CCH_FORMAT_F32, (size_t)n, (size_t)k, bias, &w, NULL), CCH_OK);
    toy_part(weights, w.panels);
    if (cch_matmul_words(&w) > weights->words) weights->words = cch_matmul_words(&w);
    cch_pack_rows(&w, 0, (size_t)n, rows, (size_t)k, 1);
    for (int32_t i = 0; bias && i < n; i++) w.bias[i] = 0.2f * toy_random();
    cch_free(rows);
    return w;
}

/* Llama-like, with 4 query heads over 2 KV heads and a head size that is no multiple of 16. */
static inline cch_config toy_llama(void) {
    return (cch_config){.architecture = "llama", .vocab_size = 53, .hidden_size = 40, .intermediate_size = 72,
                        .n_layers = 3, .n_heads = 4, .n_kv_heads = 2, .head_dim = 12, .max_position_embeddings = 256,
                        .norm = CCH_NORM_RMS, .norm_eps = 1e-5f, .activation = CCH_ACT_SILU, .gated_mlp = true,
                        .tie_word_embeddings = true, .position = CCH_POSITION_ROPE, .rope_theta = 10000.0f,
                        .rope_factor = 1.0f, .bos_token_id = -1};
}

static inline cch_config toy_gpt2(void) {
    return (cch_config){.architecture = "gpt2", .vocab_size = 53, .hidden_size = 48, .intermediate_size = 100,
                        .n_layers = 2, .n_heads = 3, .n_kv_heads = 3, .head_dim = 16, .max_position_embeddings = 256,
                        .norm = CCH_NORM_LAYER, .norm_bias = true, .norm_eps = 1e-5f,
                        .activation = CCH_ACT_GELU_TANH, .qkv_bias = true, .o_bias = true, .mlp_bias = true,
                        .tie_word_embeddings = true, .position = CCH_POSITION_LEARNED, .bos_token_id = -1};
}

/* The toy Llama with query/key norms, biases and a window that is no multiple of a page. */
static inline cch_config toy_windowed(void) {
    cch_config c = toy_llama();
    c.qk_norm = c.qkv_bias = true;
    c.sliding_window = 21;
    return c;
}

/* The same as a classifier; the labels have no names. */
static inline cch_config toy_classifier(cch_config c, int32_t n_labels) {
    c.model_type = CCH_SEQUENCE_CLASSIFICATION;
    c.tie_word_embeddings = false;
    c.n_labels = n_labels;
    return c;
}

/* BERT-like, with a head size that is no multiple of 16. */
static inline cch_config toy_bert(void) {
    return (cch_config){.architecture = "bert", .model_type = CCH_ENCODER, .vocab_size = 53, .hidden_size = 36,
                        .intermediate_size = 70, .n_layers = 3, .n_heads = 3, .n_kv_heads = 3, .head_dim = 12,
                        .max_position_embeddings = 256, .norm = CCH_NORM_LAYER, .norm_bias = true, .norm_eps = 1e-5f,
                        .post_norm = true, .embedding_norm = true, .activation = CCH_ACT_GELU_ERF, .qkv_bias = true,
                        .o_bias = true, .mlp_bias = true, .type_vocab_size = 2, .position = CCH_POSITION_LEARNED,
                        .bos_token_id = -1};
}

/* ModernBERT-like, with windows that are no multiple of a page in all layers but 0 and 2. */
static inline cch_config toy_modernbert(void) {
    return (cch_config){.architecture = "modernbert", .model_type = CCH_ENCODER, .vocab_size = 53, .hidden_size = 32,
                        .intermediate_size = 40, .n_layers = 4, .n_heads = 2, .n_kv_heads = 2, .head_dim = 16,
                        .max_position_embeddings = 256, .norm = CCH_NORM_LAYER, .norm_eps = 1e-5f,
                        .embedding_norm = true, .no_first_norm = true, .activation = CCH_ACT_GELU_ERF,
                        .gated_mlp = true, .position = CCH_POSITION_ROPE, .rope_theta = 160000.0f,
                        .local_rope_theta = 100.0f, .rope_factor = 1.0f, .sliding_window = 7, .global_every = 2,
                        .bos_token_id = -1};
}

static inline cch_norm_weights toy_norm(cch_weights *weights, const cch_config *c) {
    return (cch_norm_weights){toy_table(weights, 1, c->hidden_size, 1.0f, 0.5f),
                              c->norm_bias ? toy_table(weights, 1, c->hidden_size, 0.0f, 0.2f) : NULL};
}

static inline void toy_layer(cch_weights *weights, const cch_config *c, int32_t l) {
    cch_layer *layer = &weights->layers[l];
    int32_t heads = c->n_heads * c->head_dim, kv_heads = c->n_kv_heads * c->head_dim;
    if (l > 0 || !c->no_first_norm) layer->attention_norm = toy_norm(weights, c);
    layer->mlp_norm = toy_norm(weights, c);
    layer->qkv = toy_packed(weights, heads + 2 * kv_heads, c->hidden_size, c->qkv_bias);
    layer->o = toy_packed(weights, c->hidden_size, heads, c->o_bias);
    layer->up = toy_packed(weights, c->intermediate_size * (c->gated_mlp ? 2 : 1), c->hidden_size, c->mlp_bias);
    layer->down = toy_packed(weights, c->hidden_size, c->intermediate_size, c->mlp_bias);
    layer->q_norm.w = c->qk_norm ? toy_table(weights, 1, c->head_dim, 1.0f, 0.5f) : NULL;
    layer->k_norm.w = c->qk_norm ? toy_table(weights, 1, c->head_dim, 1.0f, 0.5f) : NULL;
}

/* Depend on the configuration alone. */
static inline void toy_weights(const cch_config *c, cch_weights *out) {
    toy_seed = 1;
    CHECK((out->parts = cch_zalloc(TOY_MAX_PARTS, sizeof *out->parts)) != NULL);
    CHECK((out->layers = cch_zalloc((size_t)c->n_layers, sizeof *out->layers)) != NULL);
    out->n_layers = (size_t)c->n_layers;
    out->head = toy_packed(out, cch_config_n_outputs(c), c->hidden_size, false);
    if (c->model_type != CCH_CAUSAL_LM) out->embedding = toy_table(out, c->vocab_size, c->hidden_size, 0.0f, 1.0f);
    if (c->position == CCH_POSITION_LEARNED)
        out->positions = toy_table(out, c->max_position_embeddings, c->hidden_size, 0.0f, 1.0f);
    if (c->type_vocab_size > 0)
        out->token_types = toy_table(out, c->type_vocab_size, c->hidden_size, 0.0f, 1.0f);
    if (c->embedding_norm) out->embedding_norm = toy_norm(out, c);
    if (!c->post_norm) out->final_norm = toy_norm(out, c);
    for (int32_t l = 0; l < c->n_layers; l++) toy_layer(out, c, l);
}

/* Pages in bf16 (halves) or f32. */
static inline void toy_pool(cch_model *m, bool halves) {
    const cch_config *c = &m->config;
    const int32_t kept = c->model_type == CCH_ENCODER ? 1 : c->n_layers;
    cch_pool_free(m->pool);
    CHECK_EQ(cch_pool_new(cch_page_geometry_make(kept, c->n_kv_heads, c->head_dim, halves), 1, &m->pool, NULL), CCH_OK);
}

static inline void toy_open(cch_model *m, cch_config config, const char *isa, int threads) {
    memset(m, 0, sizeof *m);
    m->config = config;
    CHECK_EQ(cch_kernels_get(isa, &m->kern, NULL), CCH_OK);
    CHECK_EQ(cch_threads_new(threads, &m->threads, NULL), CCH_OK);
    CHECK_EQ(cch_rope_init(&config, config.rope_theta, &m->rope, NULL), CCH_OK);
    if (config.global_every > 0)
        CHECK_EQ(cch_rope_init(&config, config.local_rope_theta, &m->local_rope, NULL), CCH_OK);
    m->sentence = (cch_sentence){CCH_POOL_MEAN, config.max_position_embeddings};
    toy_pool(m, false);
    toy_weights(&config, &m->weights);
}

static inline void toy_close(cch_model *m) {
    cch_threads_free(m->threads);
    cch_rope_deinit(&m->rope);
    cch_rope_deinit(&m->local_rope);
    cch_pool_free(m->pool);
    cch_scratch_deinit(&m->scratch);
    cch_weights_close(&m->weights);
}

/* Random numbers in a page's block. */
static inline void toy_fill(const cch_model *m, cch_page *page) {
    const cch_page_geometry *g = cch_pool_geometry(m->pool);
    for (size_t i = 0; i < g->page_floats * (g->halves ? 2 : 1); i++) {
        const float x = toy_random();
        const uint16_t half = cch_bf16_round(x);
        if (g->halves) memcpy((char *)page->kv + i * sizeof half, &half, sizeof half);
        else page->kv[i] = x;
    }
}

/* n random tokens; pages with KV blocks of `fill` (not ready values must never be read). */
static inline void toy_sequence_new(const cch_model *m, int32_t n, uint64_t seed, toy_sequence *s) {
    size_t floats = cch_pool_geometry(m->pool)->page_floats;
    toy_seed = seed;
    s->n = n;
    for (int32_t at = 0; at < n; at++) {
        cch_page **page = &s->pages[at / CCH_PAGE_TOKENS];
        if (at % CCH_PAGE_TOKENS == 0) {
            CHECK((*page = cch_zalloc(1, sizeof **page)) != NULL);
            CHECK(((*page)->kv = cch_zalloc(floats, sizeof(float))) != NULL);
        }
        (*page)->tokens[at % CCH_PAGE_TOKENS] =
            (int32_t)((toy_random() + 1.0f) * 0.4999f * (float)m->config.vocab_size);
        (*page)->n_tokens++;
    }
}

static inline void toy_sequence_free(toy_sequence *s) {
    for (int32_t i = 0; i * CCH_PAGE_TOKENS < s->n; i++) {
        cch_free(s->pages[i]->kv);
        cch_free(s->pages[i]);
    }
}

/* True when the KV blocks of both sequences are the same bits. */
static inline bool toy_same_kv(const cch_model *m, const toy_sequence *a, const toy_sequence *b) {
    size_t bytes = cch_pool_geometry(m->pool)->page_floats * sizeof(float);
    for (int32_t i = 0; i * CCH_PAGE_TOKENS < a->n; i++)
        if (memcmp(a->pages[i]->kv, b->pages[i]->kv, bytes) != 0) return false;
    return true;
}

#endif
