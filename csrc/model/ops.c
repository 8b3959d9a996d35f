#include "model/ops.h"

#include <string.h>

/* Fewer floats than this are worked through in the calling thread: waking the others costs about as much. */
#define INLINE_FLOATS 16384

typedef struct row_job {
    void (*rows)(const void *arg, size_t first, size_t last);
    const void *arg;
    size_t n;
} row_job;

static void run_rows(void *arg, int thread, int n_threads) {
    const row_job *job = arg;
    size_t first, last;
    cch_split(job->n, n_threads, thread, &first, &last);
    job->rows(job->arg, first, last);
}

/* rows(arg, first, last) over [0, n), split when n rows of `width` floats are worth it. */
static void over_rows(cch_threads *threads, size_t n, size_t width,
                      void (*rows)(const void *arg, size_t first, size_t last), const void *arg) {
    row_job job = {rows, arg, n};
    if (n * width <= INLINE_FLOATS || cch_threads_count(threads) == 1) rows(arg, 0, n);
    else cch_threads_run(threads, run_rows, &job);
}

/* -------------------------------------------------------------------------------------------- embeddings ---- */

typedef struct embed_args {
    const cch_model *model;
    const cch_row *batch;
    float *x, *cos, *sin;
    size_t ld;
} embed_args;

static void embed_rows(const void *arg, size_t first, size_t last) {
    const embed_args *a = arg;
    const cch_model *m = a->model;
    size_t hidden = (size_t)m->config.hidden_size, half = m->rope.half;
    for (size_t r = first; r < last; r++) {
        float *x = a->x + r * a->ld;
        cch_weights_embedding(&m->weights, a->batch[r].token_id, x);
        if (m->weights.token_types != NULL) m->kern->add(x, m->weights.token_types, hidden);
        if (m->config.position == CCH_POSITION_LEARNED)
            m->kern->add(x, m->weights.positions + (size_t)a->batch[r].pos * hidden, hidden);
        else
            cch_rope_angles(&m->rope, a->batch[r].pos, a->cos + r * half, a->sin + r * half);
    }
}

void cch_op_embed(const cch_model *model, const cch_row *batch, size_t rows, float *x, size_t ld, float *cos,
                  float *sin) {
    embed_args args = {model, batch, x, cos, sin, ld};
    over_rows(model->threads, rows, ld * 8, embed_rows, &args); /* a look-up in packed panels strides through memory */
}

typedef struct angle_args {
    const cch_rope *rope;
    const cch_row *batch;
    float *cos, *sin;
} angle_args;

static void angle_rows(const void *arg, size_t first, size_t last) {
    const angle_args *a = arg;
    const size_t half = a->rope->half;
    for (size_t r = first; r < last; r++)
        cch_rope_angles(a->rope, a->batch[r].pos, a->cos + r * half, a->sin + r * half);
}

void cch_op_angles(const cch_model *model, const cch_rope *rope, const cch_row *batch, size_t rows, float *cos,
                   float *sin) {
    angle_args args = {rope, batch, cos, sin};
    over_rows(model->threads, rows, rope->half * 16, angle_rows, &args); /* a sine costs as much as a row of floats */
}

/* ------------------------------------------------------------------------------------- residual and norm ---- */

typedef struct norm_args {
    const cch_model *model;
    const cch_norm_weights *norm;
    float *x, *y;
    const float *delta;
    size_t ld;
} norm_args;

static void add_norm_rows(const void *arg, size_t first, size_t last) {
    const norm_args *a = arg;
    const cch_kernels *kern = a->model->kern;
    const cch_config *config = &a->model->config;
    size_t n = (size_t)config->hidden_size;
    for (size_t r = first; r < last; r++) {
        float *x = a->x + r * a->ld, *y = a->y + r * a->ld;
        if (a->delta != NULL) kern->add(x, a->delta + r * a->ld, n);
        if (config->norm == CCH_NORM_RMS) kern->rms_norm(x, a->norm->w, config->norm_eps, n, y);
        else kern->layer_norm(x, a->norm->w, a->norm->b, config->norm_eps, n, y);
    }
}

void cch_op_add_norm(const cch_model *model, const cch_norm_weights *norm, float *x, const float *delta, size_t rows,
                     size_t ld, float *y) {
    norm_args args = {model, norm, x, y, delta, ld};
    over_rows(model->threads, rows, ld * 2, add_norm_rows, &args);
}

/* ----------------------------------------------------------------------------------------- keys and values ---- */

typedef struct kv_args {
    const cch_model *model;
    const cch_layer *layer;
    int32_t layer_index;
    const cch_run *runs;
    float *qkv;
    size_t ld;
    const float *cos, *sin;
} kv_args;

/* QK norm and RoPE of `heads` consecutive heads of one row. */
static void finish_heads(const kv_args *a, float *heads, int32_t n_heads, const float *norm, size_t row) {
    const cch_model *m = a->model;
    size_t dim = (size_t)m->config.head_dim, half = m->rope.half;
    for (int32_t h = 0; h < n_heads; h++) {
        float *x = heads + (size_t)h * dim;
        if (norm != NULL) m->kern->rms_norm(x, norm, m->config.norm_eps, dim, x);
        if (half > 0) m->kern->rope(x, a->cos + row * half, a->sin + row * half, dim);
    }
}

/* n rows of one head: keys with tokens in the lanes, values as they are (kv/page.h). */
static void write_f32(const float *keys, const float *values, size_t ld, size_t n, size_t dim, float *k, float *v,
                      size_t ldv) {
    for (size_t d = 0; d < dim; d++)
        for (size_t t = 0; t < n; t++) k[d * CCH_PAGE_TOKENS + t] = keys[t * ld + d];
    for (size_t t = 0; t < n; t++) memcpy(v + t * ldv, values + t * ld, dim * sizeof *v);
}

static void write_bf16(const float *keys, const float *values, size_t ld, size_t n, size_t dim, uint16_t *k,
                       uint16_t *v, size_t ldv) {
    for (size_t d = 0; d < dim; d++)
        for (size_t t = 0; t < n; t++) k[d * CCH_PAGE_TOKENS + t] = cch_bf16_round(keys[t * ld + d]);
    for (size_t t = 0; t < n; t++)
        for (size_t d = 0; d < dim; d++) v[t * ldv + d] = cch_bf16_round(values[t * ld + d]);
}

/* Rows of one page. */
static void write_page(const kv_args *a, const cch_run *run) {
    const cch_config *config = &a->model->config;
    const cch_page_geometry *g = cch_pool_geometry(a->model->pool);
    const size_t dim = (size_t)config->head_dim, n = (size_t)run->n, slot = (size_t)run->slot, ldv = (size_t)g->ldv;
    const int32_t layer = cch_kv_layer(a->model, a->layer_index);
    const float *keys = a->qkv + run->row * a->ld + (size_t)config->n_heads * dim;
    const float *values = keys + (size_t)config->n_kv_heads * dim;
    for (int32_t h = 0; h < config->n_kv_heads; h++, keys += dim, values += dim) {
        float *k = cch_page_k(g, run->kv, layer, h), *v = cch_page_v(g, run->kv, layer, h);
        if (g->halves)
            write_bf16(keys, values, a->ld, n, dim, (uint16_t *)(void *)k + slot, (uint16_t *)(void *)v + slot * ldv,
                       ldv);
        else write_f32(keys, values, a->ld, n, dim, k + slot, v + slot * ldv, ldv);
    }
}

static void store_runs(const void *arg, size_t first, size_t last) {
    const kv_args *a = arg;
    const cch_config *config = &a->model->config;
    for (size_t i = first; i < last; i++) {
        const cch_run *run = &a->runs[i];
        for (size_t row = run->row; row < run->row + (size_t)run->n; row++) {
            float *q = a->qkv + row * a->ld;
            finish_heads(a, q, config->n_heads, a->layer->q_norm.w, row);
            if (run->keep_kv)
                finish_heads(a, q + (size_t)config->n_heads * (size_t)config->head_dim, config->n_kv_heads,
                             a->layer->k_norm.w, row);
        }
        if (run->keep_kv) write_page(a, run);
    }
}

void cch_op_store_kv(const cch_model *model, int32_t layer, const cch_run *runs, size_t n_runs, float *qkv, size_t ld,
                     const float *cos, const float *sin) {
    kv_args args = {model, &model->weights.layers[layer], layer, runs, qkv, ld, cos, sin};
    size_t rows = n_runs == 0 ? 0 : runs[n_runs - 1].row + (size_t)runs[n_runs - 1].n;
    over_rows(model->threads, n_runs, n_runs == 0 ? 0 : rows * ld / n_runs, store_runs, &args);
}

/* --------------------------------------------------------------------------------------------- activation ---- */

typedef struct mlp_args {
    const cch_model *model;
    float *mlp;
    size_t ld;
} mlp_args;

static void relu_mul(const cch_kernels *kern, const float *gate, const float *up, size_t n, float *y) {
    kern->relu(gate, n, y);
    for (size_t i = 0; up != NULL && i < n; i++) y[i] *= up[i];
}

static void activate_rows(const void *arg, size_t first, size_t last) {
    const mlp_args *a = arg;
    const cch_kernels *kern = a->model->kern;
    const cch_config *config = &a->model->config;
    size_t n = (size_t)config->intermediate_size;
    for (size_t r = first; r < last; r++) {
        float *x = a->mlp + r * a->ld;
        const float *up = config->gated_mlp ? x + n : NULL;
        switch (config->activation) {
        case CCH_ACT_SILU: kern->silu_mul(x, up, n, x); break;
        case CCH_ACT_GELU_TANH: kern->gelu_tanh_mul(x, up, n, x); break;
        case CCH_ACT_GELU_ERF: kern->gelu_erf_mul(x, up, n, x); break;
        case CCH_ACT_RELU: relu_mul(kern, x, up, n, x); break;
        }
    }
}

void cch_op_activate(const cch_model *model, float *mlp, size_t rows, size_t ld) {
    mlp_args args = {model, mlp, ld};
    over_rows(model->threads, rows, ld, activate_rows, &args);
}
