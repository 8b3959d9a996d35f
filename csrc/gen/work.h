/* work - runs plans: forward pass, commit, logits, scores.  What cch_eval, inspection and batches share.
 *
 * A work object holds the buffers of one user of the model, so that a warm token loop allocates nothing.  Logits are
 * made in blocks of at most 32 rows, whatever the vocabulary, and go where an ask says and into the pages' scores.
 * Threads: all functions want the model's run lock held.
 */
#ifndef CCH_GEN_WORK_H
#define CCH_GEN_WORK_H

#include "gen/logits.h"
#include "gen/plan.h"
#include "model/model.h"

typedef struct cch_work {
    cch_model *model;           /* borrowed */
    int32_t chunk_tokens, top_k;
    const volatile int *cancel; /* borrowed */
    cch_plan plan;              /* owned */
    float *hidden, *logits;     /* owned [hidden_rows, hidden_size], [logits_rows, ld] */
    size_t hidden_rows, logits_rows, ld;
    cch_logits_summary *summaries; /* owned [logits_rows], with top_k */
    bool *sound;                /* owned [logits_rows]: the row has a summary */
    int32_t *top_ids;           /* owned [logits_rows, top_k] */
    float *top_logits;
} cch_work;

/* Names a field of cch_eval_options or cch_batch_options out of range.  E_ARGUMENT. */
cch_status cch_work_check(int32_t chunk_tokens, int32_t store_top_k, cch_error *err);
/* What chunk_tokens means: 0 = 512. */
int32_t cch_work_chunk(int32_t chunk_tokens);
/* chunk_tokens as above; store_top_k is cut to the vocabulary.  Allocates nothing. */
void cch_work_init(cch_work *work, cch_model *model, int32_t chunk_tokens, int32_t store_top_k,
                   const volatile int *cancel);
void cch_work_deinit(cch_work *work);
/* As in cch_work_init. */
void cch_work_set_chunk(cch_work *work, int32_t chunk_tokens);

/* Logits [vocab_size] after a lone BOS, or zeros for a model without BOS: what an empty state predicts.  View, owned by
 * the model, made once.   E_MEMORY, E_CANCELLED. */
cch_status cch_work_bos_logits(cch_work *work, const float **out, cch_error *err);

/* One plan and its pass for the asks; *out_rows: rows computed, 0 when all asks were complete.  Logits of wanted
 * positions go to the asks' dst, scores into pages.   E_CONTEXT, E_BUDGET, E_CANCELLED, E_MEMORY. */
cch_status cch_work_pass(cch_work *work, cch_ask *asks, size_t n, size_t *out_rows, cch_error *err);

/* job on all threads of the model, or in the calling thread alone when there is only one item. */
void cch_work_parallel(cch_work *work, size_t items, cch_job job, void *arg);

#endif
