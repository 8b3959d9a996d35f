/* toy - models with random weights and sequences with their own pages, built in memory for the tests of this layer. */
#ifndef CCH_TESTS_MODEL_TOY_H
#define CCH_TESTS_MODEL_TOY_H

#include "check.h"
#include "model/forward.h"
#include "model/model.h"

#define TOY_MAX_PAGES 16

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

static inline void toy_packed(cch_packed *w, int32_t n, int32_t k, bool bias) {
    float *rows = toy_vector((size_t)n * (size_t)k, 0.0f, 2.0f / sqrtf((float)k));
    CHECK_EQ(cch_packed_init(CCH_FORMAT_F32, (size_t)n, (size_t)k, bias, w, NULL), CCH_OK);
    cch_pack_rows(w, 0, (size_t)n, rows, (size_t)k, 1);
    for (int32_t i = 0; bias && i < n; i++) w->bias[i] = 0.2f * toy_random();
    cch_free(rows);
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

static inline cch_norm_weights toy_norm(const cch_config *c, int32_t n) {
    return (cch_norm_weights){toy_vector((size_t)n, 1.0f, 0.5f),
                              c->norm_bias ? toy_vector((size_t)n, 0.0f, 0.2f) : NULL};
}

static inline void toy_layer(const cch_config *c, int32_t l, cch_layer *layer) {
    int32_t heads = c->n_heads * c->head_dim, kv_heads = c->n_kv_heads * c->head_dim;
    if (l > 0 || !c->no_first_norm) layer->attention_norm = toy_norm(c, c->hidden_size);
    layer->mlp_norm = toy_norm(c, c->hidden_size);
    toy_packed(&layer->qkv, heads + 2 * kv_heads, c->hidden_size, c->qkv_bias);
    toy_packed(&layer->o, c->hidden_size, heads, c->o_bias);
    toy_packed(&layer->up, c->intermediate_size * (c->gated_mlp ? 2 : 1), c->hidden_size, c->mlp_bias);
    toy_packed(&layer->down, c->hidden_size, c->intermediate_size, c->mlp_bias);
    layer->q_norm.w = c->qk_norm ? toy_vector((size_t)c->head_dim, 1.0f, 0.5f) : NULL;
    layer->k_norm.w = c->qk_norm ? toy_vector((size_t)c->head_dim, 1.0f, 0.5f) : NULL;
}

/* Pages in bf16 (halves) or f32. */
static inline void toy_pool(cch_model *m, bool halves) {
    const cch_config *c = &m->config;
    const int32_t kept = c->model_type == CCH_ENCODER ? 1 : c->n_layers;
    cch_pool_free(m->pool);
    CHECK_EQ(cch_pool_new(cch_page_geometry_make(kept, c->n_kv_heads, c->head_dim, halves), 1, &m->pool, NULL), CCH_OK);
}

/* Weights depend on the configuration alone. */
static inline void toy_open(cch_model *m, cch_config config, const char *isa, int threads) {
    memset(m, 0, sizeof *m);
    toy_seed = 1;
    m->config = config;
    CHECK_EQ(cch_kernels_get(isa, &m->kern, NULL), CCH_OK);
    CHECK_EQ(cch_threads_new(threads, &m->threads, NULL), CCH_OK);
    CHECK_EQ(cch_rope_init(&config, config.rope_theta, &m->rope, NULL), CCH_OK);
    if (config.global_every > 0)
        CHECK_EQ(cch_rope_init(&config, config.local_rope_theta, &m->local_rope, NULL), CCH_OK);
    m->sentence = (cch_sentence){CCH_POOL_MEAN, config.max_position_embeddings};
    toy_pool(m, false);
    toy_packed(&m->weights.head, cch_config_n_outputs(&config), config.hidden_size, false);
    if (config.model_type != CCH_CAUSAL_LM)
        m->weights.embedding = toy_vector((size_t)config.vocab_size * (size_t)config.hidden_size, 0.0f, 1.0f);
    if (config.position == CCH_POSITION_LEARNED)
        m->weights.positions =
            toy_vector((size_t)config.max_position_embeddings * (size_t)config.hidden_size, 0.0f, 1.0f);
    if (config.type_vocab_size > 0)
        m->weights.token_types = toy_vector((size_t)config.type_vocab_size * (size_t)config.hidden_size, 0.0f, 1.0f);
    if (config.embedding_norm) m->weights.embedding_norm = toy_norm(&config, config.hidden_size);
    if (!config.post_norm) m->weights.final_norm = toy_norm(&config, config.hidden_size);
    CHECK((m->weights.layers = cch_zalloc((size_t)config.n_layers, sizeof *m->weights.layers)) != NULL);
    m->weights.n_layers = (size_t)config.n_layers;
    for (int32_t l = 0; l < config.n_layers; l++) {
        const cch_layer *layer = &m->weights.layers[l];
        const cch_packed *const all[] = {&layer->qkv, &layer->o, &layer->up, &layer->down};
        toy_layer(&config, l, &m->weights.layers[l]);
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            if (cch_matmul_words(all[i]) > m->weights.words) m->weights.words = cch_matmul_words(all[i]);
    }
}

static inline void toy_norm_free(cch_norm_weights *norm) {
    cch_free(norm->w);
    cch_free(norm->b);
}

/* What toy_open made one by one is none of the parts that cch_weights_close frees. */
static inline void toy_weights_free(cch_weights *w) {
    for (size_t l = 0; l < w->n_layers; l++) {
        cch_layer *layer = &w->layers[l];
        cch_norm_weights *const norms[] = {&layer->attention_norm, &layer->mlp_norm, &layer->q_norm, &layer->k_norm};
        cch_packed *const matrices[] = {&layer->qkv, &layer->o, &layer->up, &layer->down};
        for (size_t i = 0; i < 4; i++) {
            toy_norm_free(norms[i]);
            cch_packed_deinit(matrices[i]);
        }
    }
    toy_norm_free(&w->embedding_norm);
    toy_norm_free(&w->final_norm);
    cch_free(w->embedding);
    cch_free(w->positions);
    cch_free(w->token_types);
    cch_packed_deinit(&w->head);
}

static inline void toy_close(cch_model *m) {
    cch_threads_free(m->threads);
    cch_rope_deinit(&m->rope);
    cch_rope_deinit(&m->local_rope);
    cch_pool_free(m->pool);
    cch_scratch_deinit(&m->scratch);
    toy_weights_free(&m->weights);
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
