/* sampler - logits to a token.
 *
 * Order: repetition penalty, n-gram blocking and forbidden ids on the raw logits; weights w = exp((l - max) / T) in
 * f64; then three cuts of the tokens sorted by probability (descending, ties by lower id), each keeping a prefix:
 * top_k; top_p, of what top_k left (the shortest prefix with at least that share, never empty); min_p, relative to the
 * top.  One token is drawn from what is left by inverse CDF in that order.
 *
 * How it stays exact without sorting.
 *   1. Weights become integers: q = round(w * 2^B), B = min(50, 63 - b), vocab <= 2^b.  Everything after is integer
 *      arithmetic that cannot overflow or round, so a sum has one value in whatever order it is taken.  A token's
 *      probability is q / sum(q), within 2^-B * vocab (4e-10 for 50,000 tokens) of the f64 softmax.
 *   2. q * 2^b + (2^b - 1 - id) is a key: keys are distinct, and their descending order is the sorted order.
 *   3. The shortest prefix of mass >= m is found by quickselect: split around a pivot key, look at the exact mass of
 *      the upper part, go on in the part that holds the crossing.  By 1 it is the prefix that a full sort would give.
 *      A draw u (53 bits) takes the last key of the shortest prefix of mass >= floor(u * M / 2^53) + 1.
 *   4. Only keys that can matter are built.  Tokens with q <= t, t = floor((sum(q) - m) / vocab), weigh at most
 *      sum(q) - m together, so the others hold the prefix of mass m; above a higher bound lies a shorter prefix, tried
 *      first and taken when its mass is >= m.  For top_k: k blocks of 16 tokens whose largest q
 *      is >= t hold k tokens with q >= t, so the k-th largest block maximum bounds the k largest tokens from below.
 *
 * Settings that follow the step (schedule, adaptive cuts: cch_sampling of cacher.h) become constants before this.
 * The number for position p is Philox4x32-10 of (seed, stream, p), or SplitMix64's of the step: base/rng.h.
 *
 * A trace of what is left: with z = (l - max) / T and q = 2^B e^z of the kept tokens, M their sum, the entropy is
 * ln(M / 2^B) - sum(q z) / M: no logarithm for each token.
 * Threads: pure; a scratch has one user at a time.   Tests: tests/c/gen/test_sampler.c, tests/parity.
 * cch_sampling_check, cch_sample, cch_sample_traced and cch_distribution of cacher.h live here.
 */
#ifndef CCH_GEN_SAMPLER_H
#define CCH_GEN_SAMPLER_H

#include "include/cacher.h"
#include "kern/kernels.h"

/* Working memory for rows of up to `cap` logits.  Start with CCH_SAMPLER_SCRATCH_INIT; grows when needed. */
typedef struct cch_sampler_scratch {
    int32_t cap;
    double *weights; /* owned [cap rounded up to 16] */
    double *tops;    /* owned [cap / 16 rounded up]: largest of each 16 weights */
    uint64_t *keys;  /* owned [cap] */
    float *logits;   /* owned [cap]: penalised copy */
} cch_sampler_scratch;
#define CCH_SAMPLER_SCRATCH_INIT { 0, NULL, NULL, NULL, NULL }

/* Room for rows of vocab logits: about 21 bytes each.  E_ARGUMENT (vocab < 1), E_MEMORY (scratch is unchanged). */
cch_status cch_sampler_scratch_reserve(cch_sampler_scratch *scratch, int32_t vocab, cch_error *err);
void cch_sampler_scratch_deinit(cch_sampler_scratch *scratch);

/* cch_sample without its allocation.  The token's position is n.  history [n] may be NULL when repetition_penalty is 1
 * and no_repeat_ngram_size 0: it is not read then.  banned [n_banned]: ids that cannot be drawn (EOS before
 * min_tokens; comparing that with sampling->step is the caller's business).  The scratch grows at its first use.  trace
 * (may be NULL) receives all but the attention.
 *   E_ARGUMENT (sampling, logits, nothing left to draw), E_TOKEN_ID, E_MEMORY. */
cch_status cch_sample_scratch(const cch_kernels *kern, cch_sampler_scratch *scratch, const float *logits, int32_t vocab,
                              const cch_sampling *sampling, const int32_t *history, int32_t n, const int32_t *banned,
                              int32_t n_banned, cch_trace *trace, cch_sampled *out, cch_error *err);

#endif
