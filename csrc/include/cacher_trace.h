/* cacher_trace.h - what a token was drawn from, and what the model attended to when it predicted it.
 *
 * Part of cacher.h, which includes it; its rules about errors, memory and threads hold here.
 *
 * A trace is taken in the pass that predicts the token: the attention is copied where it is computed anyway, the
 * distribution is the one that the sampler has in its hands.  The tokens are the same bit for bit with and without.
 */
#ifndef CCH_INCLUDE_CACHER_TRACE_H
#define CCH_INCLUDE_CACHER_TRACE_H

#include "include/cacher.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CCH_TRACE_TOP = 10 };

typedef struct cch_trace {
    double entropy;            /* nats, of the distribution that was drawn from: after temperature, penalties and cuts;
                                  0 for a greedy step, whose token has probability 1 */
    int32_t n_top;             /* 10, or the vocabulary if that is smaller */
    int32_t ids[CCH_TRACE_TOP]; /* the likeliest of that distribution, likeliest first, ties by lower id; then, where
                                   fewer are left, the lowest ids that were dropped */
    double probabilities[CCH_TRACE_TOP]; /* theirs, 0 of what was dropped */
    int32_t n_heads, n_keys;   /* of the row of a batch: the model's heads, the tokens that the prediction saw */
    const float *attention;    /* [n_heads, n_keys]: of the last of these tokens to each of them; NULL when nothing was
                                  attended to, as in an empty state.  View into the batch */
} cch_trace;

/* cch_sample that also says what it drew from; trace has no attention, and may be NULL. */
CCH_API cch_status cch_sample_traced(const float *logits, int32_t vocab, const cch_sampling *sampling,
                                     const int32_t *history, int32_t n, cch_trace *trace, cch_sampled *out,
                                     cch_error *err);
/* Output i, from 0, of SplitMix64 started with `seed`, as a number in [0, 1): what cch_sampling.splitmix draws with. */
CCH_API double cch_splitmix_uniform(uint64_t seed, uint64_t i);

/* From now on each step keeps a trace for the row, with the attention of a layer.  For a row that has drawn nothing
 * yet, and no logits are given for it.
 *   E_ARGUMENT (unknown row, or it has drawn; layer not 0..n_layers-1), E_BUSY (during a step), E_MEMORY. */
CCH_API cch_status cch_batch_trace(cch_batch *batch, int32_t row, int32_t layer, cch_error *err);
/* The trace of the last step; NULL when it drew no token for the row, the row is not traced, or it has left.  View,
 * valid until the next call on the batch.  Not during a step. */
CCH_API const cch_trace *cch_batch_trace_view(const cch_batch *batch, int32_t row);

#ifdef __cplusplus
}
#endif
#endif
