/* Texts to vectors: as many to a pass as fit, each with the bits it has alone; and what is refused. */
#include "gen/embed.h"

#include "sim/pooling.h"
#include "small.h"

enum { TEXTS = 6, TOKENS = 4 + 40 + 1 + 33 + 16 + 7, WIDTH = 36 };
static const int32_t lengths[TEXTS] = {4, 40, 1, 33, 16, 7};

static void encoder_open(cch_model *m, const char *isa, int threads) {
    toy_open(m, toy_bert(), isa, threads);
    CHECK_EQ(cch_turns_init(&m->run_lock, NULL), CCH_OK);
    atomic_init(&m->refs, 1);
}

static void some_ids(int32_t *ids) {
    for (int32_t i = 0; i < TOKENS; i++) ids[i] = i * 7 % SMALL_VOCAB;
}

/* Each text alone: the mean of its tokens' hidden states, of length 1. */
static void straight_line(cch_model *m, const int32_t *ids, float *vectors) {
    static float rows[64 * WIDTH];
    cch_error err;
    for (size_t i = 0; i < TEXTS; i++) {
        CHECK_OK(cch_embed_tokens(m, ids, lengths[i], NULL, rows, &err), err);
        cch_pool_rows(m->kern, CCH_POOL_MEAN, rows, WIDTH, (size_t)lengths[i], WIDTH, vectors + i * WIDTH);
        CHECK(cch_unit(vectors + i * WIDTH, WIDTH));
        ids += lengths[i];
    }
}

TEST(a_vector_is_the_same_however_texts_are_grouped) {
    float want[TEXTS * WIDTH], got[TEXTS * WIDTH];
    int32_t ids[TOKENS];
    cch_error err;
    cch_model m;
    some_ids(ids);
    encoder_open(&m, "generic", 1);
    straight_line(&m, ids, want);
    small_close(&m);
    for (int threads = 1; threads <= 3; threads++) {
        encoder_open(&m, NULL, threads);
        for (int32_t chunk = 1; chunk < 200; chunk = chunk * 3 / 2 + 1) {
            cch_eval_options o = {.chunk_tokens = chunk};
            memset(got, 0, sizeof got);
            CHECK_OK(cch_embed(&m, ids, lengths, TEXTS, &o, got, &err), err);
            CHECK(memcmp(got, want, sizeof got) == 0);
        }
        small_close(&m);
    }
}

static void count(void *arg, int64_t done, int64_t total) {
    int64_t *seen = arg;
    CHECK(done > seen[0] && total == TOKENS);
    seen[0] = done;
    seen[1]++;
}

TEST(texts_fill_passes_in_order) {
    float got[TEXTS * WIDTH];
    int32_t ids[TOKENS];
    int64_t seen[2] = {0, 0};
    cch_error err;
    cch_model m;
    some_ids(ids);
    encoder_open(&m, NULL, 1);
    cch_eval_options o = {.chunk_tokens = 41, .progress = count, .progress_arg = seen};
    CHECK_OK(cch_embed(&m, ids, lengths, TEXTS, &o, got, &err), err); /* 4, 40 + 1, 33, 16 + 7 */
    CHECK(seen[0] == TOKENS && seen[1] == 4);
    CHECK(m.forwards == 4 && m.tokens_computed == TOKENS);
    CHECK_OK(cch_embed(&m, ids, lengths, 0, &o, got, &err), err);
    small_close(&m);
}

TEST(what_cannot_be_embedded_is_refused) {
    static float got[300 * WIDTH];
    static int32_t ids[300];
    const int cancel = 1;
    cch_error err;
    cch_model m;
    encoder_open(&m, NULL, 1);
    CHECK_STATUS(cch_embed(&m, ids, (int32_t[]){2, 0}, 2, NULL, got, &err), CCH_E_EMPTY, err, "text 1 holds no tokens");
    CHECK_EQ(err.position, 1);
    CHECK_STATUS(cch_embed(&m, ids, (int32_t[]){1, -3}, 2, NULL, got, &err), CCH_E_EMPTY, err, "text 1");
    CHECK_STATUS(cch_embed(&m, ids, (int32_t[]){257}, 1, NULL, got, &err), CCH_E_CONTEXT, err,
                 "text 0 has 257 tokens, the model reads at most 256");
    CHECK_STATUS(cch_embed_tokens(&m, ids, 257, NULL, got, &err), CCH_E_CONTEXT, err, "257");
    ids[5] = SMALL_VOCAB;
    CHECK_STATUS(cch_embed(&m, ids, (int32_t[]){3, 3}, 2, NULL, got, &err), CCH_E_TOKEN_ID, err, "token id 53");
    CHECK_EQ(err.position, 5);
    ids[5] = -1;
    CHECK_STATUS(cch_embed_tokens(&m, ids, 6, NULL, got, &err), CCH_E_TOKEN_ID, err, "token id -1");
    ids[5] = 0;
    cch_eval_options o = {.chunk_tokens = -1};
    CHECK_STATUS(cch_embed(&m, ids, (int32_t[]){3}, 1, &o, got, &err), CCH_E_ARGUMENT, err, "chunk_tokens is -1");
    o = (cch_eval_options){.cancel = &cancel};
    CHECK_STATUS(cch_embed(&m, ids, (int32_t[]){3}, 1, &o, got, &err), CCH_E_CANCELLED, err, NULL);
    m.weights.embedding_norm.b[3] = 3e38f;
    m.weights.layers[2].mlp_norm.w[3] = 3e38f;
    CHECK_STATUS(cch_embed(&m, ids, (int32_t[]){3}, 1, NULL, got, &err), CCH_E_ARGUMENT, err, "text 0 is no numbers");
    small_close(&m);
    small_open(&m, 1, 10, -1);
    CHECK_STATUS(cch_embed(&m, ids, (int32_t[]){3}, 1, NULL, got, &err), CCH_E_MODEL_TYPE, err,
                 "embedding needs an encoder model, this is a causal_lm model");
    small_close(&m);
}

static const int32_t around[] = {9, 8, 7};

/* Two tokens before a text and one behind it. */
static void templated_open(cch_model *m) {
    encoder_open(m, NULL, 2);
    m->before = around;
    m->after = around + 2;
    m->n_before = 2;
    m->n_after = 1;
}

static cch_state *state_of(cch_model *m, const int32_t *ids, int32_t n) {
    cch_state *state = NULL;
    cch_error err;
    CHECK_OK(cch_state_new(m, &state, &err), err);
    CHECK_OK(cch_state_append(state, ids, n, &err), err);
    return state;
}

TEST(a_state_is_looked_at_with_the_template_around_it) {
    enum { N = 40, ALL = N + 3, HEADS = 3 };
    static float want[ALL * WIDTH], got[N * WIDTH], whole[HEADS * N * N], part[N * N];
    int32_t ids[TOKENS], all[ALL] = {9, 8};
    cch_error err;
    cch_model m;
    some_ids(ids);
    memcpy(all + 2, ids, N * sizeof *ids);
    all[ALL - 1] = 7;
    templated_open(&m);
    CHECK_EQ(m.config.n_heads, HEADS);
    cch_state *state = state_of(&m, ids, N);
    CHECK_OK(cch_embed_tokens(&m, all, ALL, NULL, want, &err), err);
    for (int32_t chunk = 1; chunk < 60; chunk += 13) {
        cch_eval_options o = {.chunk_tokens = chunk};
        CHECK_OK(cch_state_hidden(state, -1, 0, N, got, &o, &err), err);
        CHECK(memcmp(got, want + 2 * WIDTH, sizeof got) == 0);
        CHECK_OK(cch_state_hidden(state, m.config.n_layers, 7, 5, got, &o, &err), err);
        CHECK(memcmp(got, want + 9 * WIDTH, 5 * WIDTH * sizeof *got) == 0); /* BERT has no norm behind the last layer */
        CHECK_OK(cch_state_attention(state, 1, -1, 0, N, whole, &o, &err), err);
        CHECK_OK(cch_state_attention(state, 1, -1, 7, 5, part, &o, &err), err);
        for (int h = 0; h < HEADS; h++)
            CHECK(memcmp(part + h * 5 * N, whole + (h * N + 7) * N, 5 * N * sizeof *part) == 0);
        CHECK_OK(cch_state_attention(state, 1, 2, 0, N, part, &(cch_eval_options){.chunk_tokens = N}, &err), err);
        CHECK(memcmp(part, whole + 2 * N * N, N * sizeof *part) == 0);
    }
    for (int row = 0; row < HEADS * N; row++) {
        float sum = 0;
        for (int i = 0; i < N; i++) sum += whole[row * N + i];
        CHECK(sum > 0.5f && sum < 1.0f); /* the rest went to the template */
    }
    cch_state_free(state);
    small_close(&m);
}

TEST(what_an_encoder_s_state_cannot_do_is_refused) {
    float got[WIDTH * 4];
    int32_t ids[300] = {0};
    cch_error err;
    cch_model m;
    templated_open(&m);
    cch_state *state = state_of(&m, ids, 253);
    CHECK_STATUS(cch_state_append(state, ids, 1, &err), CCH_E_CONTEXT, err, "253");
    CHECK_STATUS(cch_eval(&m, &state, 1, NULL, NULL, &err), CCH_E_MODEL_TYPE, err, "this is an encoder model");
    CHECK_STATUS(cch_state_kv(state, 0, 0, 1, got, got, NULL, &err), CCH_E_MODEL_TYPE, err, "keys and values");
    CHECK_STATUS(cch_state_logits(state, 0, 1, got, NULL, &err), CCH_E_MODEL_TYPE, err, NULL);
    CHECK_STATUS(cch_state_hidden(state, 0, 250, 4, got, NULL, &err), CCH_E_ARGUMENT, err, "holds 253 tokens");
    cch_state_free(state);
    small_close(&m);
}

static cch_status embed_once(cch_model *m) {
    float got[2 * WIDTH];
    int32_t ids[20] = {0};
    cch_status status = cch_embed(m, ids, (int32_t[]){13, 7}, 2, NULL, got, NULL);
    cch_scratch_deinit(&m->scratch);
    return status;
}

static cch_status look_once(cch_model *m) {
    static float weights[3 * 20 * 20];
    const int32_t ids[20] = {0};
    cch_state *state = NULL;
    cch_status status = cch_state_new(m, &state, NULL);
    if (status == CCH_OK) status = cch_state_append(state, ids, 20, NULL);
    if (status == CCH_OK) status = cch_state_attention(state, 0, -1, 0, 20, weights, NULL, NULL);
    cch_state_free(state);
    cch_pool_set_budget(m->pool, 0, true);
    cch_scratch_deinit(&m->scratch);
    return status;
}

TEST(no_memory) {
    cch_model m;
    templated_open(&m);
    CHECK_OOM(embed_once(&m));
    CHECK_OOM(look_once(&m));
    small_close(&m);
}

CHECK_MAIN()
