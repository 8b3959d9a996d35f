/* The row-by-row stages against their formulas, with enough rows that the threads take part. */
#include "model/ops.h"
#include "toy.h"

#define ROWS 640 /* over the size at which the threads are woken */

static double silu(double x) { return x / (1 + exp(-x)); }
static double gelu_tanh(double x) { return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
static double gelu_erf(double x) { return 0.5 * x * (1 + erf(x / sqrt(2))); }
static double relu(double x) { return x > 0 ? x : 0; }

static cch_row *random_rows(const cch_config *c) {
    cch_row *rows = cch_alloc(ROWS, sizeof *rows);
    for (int32_t i = 0; i < ROWS; i++) rows[i] = (cch_row){i * 7 % c->vocab_size, i % c->max_position_embeddings};
    return rows;
}

TEST(embedding_adds_learned_positions) {
    cch_model m;
    toy_open(&m, toy_gpt2(), NULL, 2);
    size_t n = (size_t)m.config.hidden_size;
    cch_row *rows = random_rows(&m.config);
    float *x = cch_alloc(ROWS * (n + 5), sizeof *x), want[48];
    cch_op_embed(&m, rows, ROWS, x, n + 5, NULL, NULL);
    for (size_t r = 0; r < ROWS; r++) {
        cch_weights_embedding(&m.weights, rows[r].token_id, want);
        for (size_t i = 0; i < n; i++)
            CHECK(x[r * (n + 5) + i] == want[i] + m.weights.positions[(size_t)rows[r].pos * n + i]);
    }
    cch_free(rows);
    cch_free(x);
    toy_close(&m);
}

TEST(embedding_gives_rotary_angles) {
    cch_model m;
    toy_open(&m, toy_llama(), NULL, 2);
    size_t n = (size_t)m.config.hidden_size, half = m.rope.half;
    cch_row *rows = random_rows(&m.config);
    float *x = cch_alloc(ROWS * n, sizeof *x), *cos_rows = cch_alloc(ROWS * half, sizeof *x);
    float *sin_rows = cch_alloc(ROWS * half, sizeof *x), want[40];
    cch_op_embed(&m, rows, ROWS, x, n, cos_rows, sin_rows);
    for (size_t r = 0; r < ROWS; r++) {
        cch_weights_embedding(&m.weights, rows[r].token_id, want);
        CHECK(memcmp(x + r * n, want, n * sizeof *x) == 0);
        for (size_t i = 0; i < half; i++) {
            double angle = rows[r].pos * pow(10000.0, -2.0 * (double)i / m.config.head_dim);
            CHECK(fabs((double)cos_rows[r * half + i] - cos(angle)) < 3e-5);
            CHECK(fabs((double)sin_rows[r * half + i] - sin(angle)) < 3e-5);
        }
    }
    cch_free(rows);
    cch_free(x);
    cch_free(cos_rows);
    cch_free(sin_rows);
    toy_close(&m);
}

static void check_norm(cch_config config, bool with_delta) {
    cch_model m;
    toy_open(&m, config, NULL, 2);
    size_t n = (size_t)config.hidden_size, ld = n + 3;
    const cch_norm_weights *w = &m.weights.layers[1].mlp_norm;
    float *x = toy_vector(ROWS * ld, 0.5f, 2.0f), *delta = toy_vector(ROWS * ld, 0.0f, 1.0f);
    float *old = cch_alloc(ROWS * ld, sizeof *x), *y = cch_alloc(ROWS * ld, sizeof *x);
    memcpy(old, x, ROWS * ld * sizeof *x);
    cch_op_add_norm(&m, w, x, with_delta ? delta : NULL, ROWS, ld, y);
    for (size_t r = 0; r < ROWS; r++) {
        double mean = 0, square = 0;
        for (size_t i = r * ld; i < r * ld + n; i++) {
            CHECK(x[i] == (with_delta ? old[i] + delta[i] : old[i]));
            if (config.norm == CCH_NORM_LAYER) mean += (double)x[i] / (double)n;
        }
        for (size_t i = r * ld; i < r * ld + n; i++)
            square += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
        for (size_t i = 0; i < n; i++) {
            double want = ((double)x[r * ld + i] - mean) / sqrt(square + (double)config.norm_eps) * (double)w->w[i];
            if (w->b != NULL) want += (double)w->b[i];
            CHECK(fabs((double)y[r * ld + i] - want) < 1e-5);
        }
    }
    cch_free(x);
    cch_free(delta);
    cch_free(old);
    cch_free(y);
    toy_close(&m);
}

TEST(residual_and_norm) {
    check_norm(toy_llama(), true);
    check_norm(toy_llama(), false);
    check_norm(toy_gpt2(), true);
}

/* What a page of this format holds of a number. */
static float stored(const cch_page_geometry *g, float x) { return g->halves ? cch_bf16_to_f32(cch_bf16_round(x)) : x; }

/* Where each key and value of a row must be found in its page, rotated by its position. */
static void check_page(const cch_model *m, const toy_sequence *s, int32_t pos, const float *before,
                       const float *after) {
    const cch_config *c = &m->config;
    const cch_page_geometry *g = cch_pool_geometry(m->pool);
    size_t dim = (size_t)c->head_dim, half = m->rope.half, slot = (size_t)(pos % CCH_PAGE_TOKENS);
    float *kv = s->pages[pos / CCH_PAGE_TOKENS]->kv, cos_row[32], sin_row[32];
    cch_rope_angles(&m->rope, pos, cos_row, sin_row);
    for (int32_t h = 0; h < c->n_kv_heads; h++) {
        const float *old = before + (size_t)(c->n_heads + h) * dim, *key = after + (size_t)(c->n_heads + h) * dim;
        const float *k = cch_page_k(g, kv, 2, h), *v = cch_page_v(g, kv, 2, h);
        for (size_t d = 0; d < dim; d++) {
            size_t pair = d % half;
            double x = (double)old[pair], y = (double)old[pair + half];
            double turned = d < half ? x * (double)cos_row[pair] - y * (double)sin_row[pair]
                                     : y * (double)cos_row[pair] + x * (double)sin_row[pair];
            if (!c->qk_norm) CHECK(fabs((double)key[d] - turned) < 1e-5);
            CHECK(cch_page_number(g, k, d * CCH_PAGE_TOKENS + slot) == stored(g, key[d]));
            CHECK(cch_page_number(g, v, slot * (size_t)g->ldv + d) ==
                  stored(g, before[(size_t)(c->n_heads + c->n_kv_heads + h) * dim + d]));
        }
        if (c->qk_norm) {
            double square = 0, weight = 0; /* a rotation keeps the length of what the norm gave */
            for (size_t d = 0; d < dim; d++) square += (double)old[d] * (double)old[d] / (double)dim;
            for (size_t d = 0; d < dim; d++) {
                double w = (double)old[d] / sqrt(square + (double)c->norm_eps) *
                           (double)m->weights.layers[2].k_norm.w[d];
                weight += w * w - (double)key[d] * (double)key[d];
            }
            CHECK(fabs(weight) < 1e-4);
        }
    }
}

static void check_store(cch_config config, bool keep_kv, bool halves) {
    cch_model m;
    toy_sequence s;
    cch_run runs[3];
    int32_t n = 37, first = 3;
    toy_open(&m, config, NULL, 2);
    toy_pool(&m, halves);
    toy_sequence_new(&m, first + n, 1, &s);
    size_t ld = (size_t)((config.n_heads + 2 * config.n_kv_heads) * config.head_dim), half = m.rope.half;
    float *before = toy_vector((size_t)n * ld, 0.0f, 1.0f), *after = cch_alloc((size_t)n * ld, sizeof *after);
    float *cos_rows = cch_alloc((size_t)n * half, sizeof *after);
    float *sin_rows = cch_alloc((size_t)n * half, sizeof *after);
    memcpy(after, before, (size_t)n * ld * sizeof *after);
    for (int32_t r = 0; r < n; r++)
        cch_rope_angles(&m.rope, first + r, cos_rows + (size_t)r * half, sin_rows + (size_t)r * half);
    runs[0] = (cch_run){s.pages[0]->kv, 0, 3, 13, keep_kv};
    runs[1] = (cch_run){s.pages[1]->kv, 13, 0, 16, keep_kv};
    runs[2] = (cch_run){s.pages[2]->kv, 29, 0, 8, keep_kv};
    cch_op_store_kv(&m, 2, runs, 3, after, ld, cos_rows, sin_rows);
    for (int32_t r = 0; keep_kv && r < n; r++)
        check_page(&m, &s, first + r, before + (size_t)r * ld, after + (size_t)r * ld);
    for (size_t i = 0; !keep_kv && i < cch_pool_geometry(m.pool)->page_floats; i++) CHECK(s.pages[1]->kv[i] == 0.0f);
    CHECK(s.pages[0]->kv[0] == 0.0f); /* another layer, a slot before the first */
    cch_free(before);
    cch_free(after);
    cch_free(cos_rows);
    cch_free(sin_rows);
    toy_sequence_free(&s);
    toy_close(&m);
}

TEST(keys_and_values_go_to_their_slots) {
    for (int halves = 0; halves < 2; halves++) {
        check_store(toy_llama(), true, halves);
        check_store(toy_windowed(), true, halves);
        check_store(toy_llama(), false, halves);
    }
}

static void check_activation(const char *isa, cch_activation activation, bool gated, double (*formula)(double)) {
    cch_model m;
    cch_config config = toy_llama();
    config.activation = activation;
    config.gated_mlp = gated;
    toy_open(&m, config, isa, 2);
    size_t n = (size_t)config.intermediate_size, ld = 2 * n + 1;
    float *x = toy_vector(ROWS * ld, 0.0f, 4.0f), *y = cch_alloc(ROWS * ld, sizeof *y);
    memcpy(y, x, ROWS * ld * sizeof *y);
    cch_op_activate(&m, y, ROWS, ld);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = r * ld; i < r * ld + n; i++) {
            double want = formula((double)x[i]) * (gated ? (double)x[i + n] : 1.0);
            CHECK(fabs((double)y[i] - want) < 1e-5);
        }
    cch_free(x);
    cch_free(y);
    toy_close(&m);
}

TEST(activations_gated_and_plain) {
    for (int i = 0; i < 4; i++) {
        const char *isa = i < 2 ? "generic" : NULL;
        bool gated = i % 2 == 1;
        check_activation(isa, CCH_ACT_SILU, gated, silu);
        check_activation(isa, CCH_ACT_GELU_TANH, gated, gelu_tanh);
        check_activation(isa, CCH_ACT_GELU_ERF, gated, gelu_erf);
        check_activation(isa, CCH_ACT_RELU, gated, relu);
    }
}

CHECK_MAIN()
