/* ops - the row-by-row stages of a forward pass between its matrix products.
 *
 * Each works on rows of a matrix [rows, ld] and splits them over the model's threads when that pays; a row's result
 * does not depend on the split.  Neighbouring stages that a row needs one after another are one function, because on
 * small batches the hand-over to the threads costs more than the arithmetic.
 * Cannot fail: shapes are checked at load.  Threads: under the model's run lock.
 */
#ifndef CCH_MODEL_OPS_H
#define CCH_MODEL_OPS_H

#include "model/model.h"

/* What a batch row is. */
typedef struct cch_row {
    int32_t token_id, pos;
} cch_row;

/* Consecutive rows whose positions lie in one page. */
typedef struct cch_run {
    float *kv;      /* borrowed from the page: its KV block */
    size_t row;     /* first of n rows */
    int32_t slot, n;
    bool keep_kv;   /* write K and V */
} cch_run;

/* x [rows, ld] = token embeddings, plus those of token type 0 and of positions where the model has them; cos, sin
 * [rows, half] = RoPE angles where it has those (rope.half > 0). */
void cch_op_embed(const cch_model *model, const cch_row *batch, size_t rows, float *x, size_t ld, float *cos,
                  float *sin);
/* cos, sin [rows, half] = angles of another base. */
void cch_op_angles(const cch_model *model, const cch_rope *rope, const cch_row *batch, size_t rows, float *cos,
                   float *sin);

/* x += delta (unless delta is NULL), then y = norm(x): one residual step and what the next block reads.  x, delta and y
 * [rows, ld]; y may be x. */
void cch_op_add_norm(const cch_model *model, const cch_norm_weights *norm, float *x, const float *delta, size_t rows,
                     size_t ld, float *y);

/* Finishes queries and keys in place (QK norm, RoPE) and writes keys and values of one layer into the pages.
 *   qkv [rows, ld]: per row all query heads, then key heads, then value heads. */
void cch_op_store_kv(const cch_model *model, int32_t layer, const cch_run *runs, size_t n_runs, float *qkv, size_t ld,
                     const float *cos, const float *sin);

/* mlp [rows, ld], in place: act(gate) * up of a gated MLP, gate and up being the halves of a row; else act(row).  The
 * result is in the first intermediate_size channels. */
void cch_op_activate(const cch_model *model, float *mlp, size_t rows, size_t ld);

#endif
