/* logits - what happens to a row of logits before a token is chosen: summary, penalties, the largest ones.
 *
 * Numbers.  Weights are exp(x - max) in f64 through the kernel table.  Sums over a row go in blocks of 1024 elements,
 * each block in 8 lanes (i % 8, added as a tree 4, 2, 1), blocks in ascending order; the logarithm is our own.  So a
 * row has one summary, the same bits on every instruction set and for every caller.
 * Threads: pure, all of them; nothing here allocates.   Test: tests/c/gen/test_logits.c
 */
#ifndef CCH_GEN_LOGITS_H
#define CCH_GEN_LOGITS_H

#include "base/status.h"
#include "kern/kernels.h"

/* The model's own distribution over a row: temperature 1, nothing removed. */
typedef struct cch_logits_summary {
    float max;
    int32_t argmax;  /* lowest index that holds max */
    double sum;      /* of exp(x - max) */
    double log_sum;  /* its logarithm: log-probability of token i is (x[i] - max) - log_sum */
    double entropy;  /* nats */
} cch_logits_summary;

/* Summary of logits [vocab].  weights [vocab] (may be NULL) receives exp(x - max).  -inf is a token that cannot come.
 *   E_ARGUMENT with the index in position: NaN, +inf, or nothing above -inf (position -1). */
cch_status cch_logits_summarize(const cch_kernels *kern, const float *logits, int32_t vocab, double *weights,
                                cch_logits_summary *out, cch_error *err);

/* ln(x) for 1 <= x < 2^53.  Written out because libm's log may differ by a bit between machines, and near-ties of beams
 * hang on it.  Error < 2 units in the last place. */
double cch_log_f64(double x);

/* How even the distribution is: entropy / ln(vocab), from 0 (certain) to 1 (uniform); 0 when vocab is 1. */
double cch_logits_evenness(const cch_logits_summary *summary, int32_t vocab);

/* Natural log-probability of token `id` under `summary` of logits; -1e9 where it is -inf. */
double cch_logits_logprob(const float *logits, const cch_logits_summary *summary, int32_t id);
/* Its probability. */
double cch_logits_probability(const cch_kernels *kern, const float *logits, const cch_logits_summary *summary,
                              int32_t id);

/* dst [vocab] = logits [vocab] with each id of history [n] penalised once: l > 0 ? l / penalty : l * penalty; then
 * every id that would complete an n-gram of `ngram` tokens that history already holds, and ids banned [n_banned], set
 * to -inf.  penalty 1 and ngram 0 are off; history may be NULL when both are.  dst must not
 * overlap logits.
 *   E_TOKEN_ID (position in history, or in banned). */
cch_status cch_logits_penalize(const float *logits, int32_t vocab, float penalty, int32_t ngram, const int32_t *history,
                               int32_t n, const int32_t *banned, int32_t n_banned, float *dst, cch_error *err);

/* Calls visit(arg, id) for each position of history [n] where the last ngram - 1 tokens occurred before: id is the
 * token that followed.  ngram >= 1; an id may come more than once. */
void cch_ngram_followers(const int32_t *history, int32_t n, int32_t ngram, void (*visit)(void *arg, int32_t id),
                         void *arg);

/* The kernel table for functions that take none: the best one, or the generic one should CACHER_ISA hold an unknown
 * name; the choice cannot change a result. */
const cch_kernels *cch_logits_kernels(void);

#endif
