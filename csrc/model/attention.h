/* attention - softmax attention of queries over the pages of their sequences: a decoder's see what is before them, an
 * encoder's what is around them.
 *
 * The work is cut into tasks: one block of consecutive query positions of one sequence, for one KV head.  The rows of a
 * task are all query heads of the KV head at all positions of the block, so that its pages are read once.  Tasks are
 * handed out one by one, as their costs differ.
 *
 * Exactness: per query, scores over its pages (each one chain over head_dim), one softmax over what it sees, one
 * mix in ascending position.  Nothing depends on the blocking, and pages before a sliding window are
 * skipped in whole pages, which leaves every lane of the softmax where it was.
 */
#ifndef CCH_MODEL_ATTENTION_H
#define CCH_MODEL_ATTENTION_H

#include "model/forward.h"
#include "model/model.h"

/* A block of consecutive query positions of one sequence. */
typedef struct cch_queries {
    float *const *kv;  /* borrowed: KV blocks of the sequence's pages, from its first */
    int32_t first, n;  /* positions */
    int32_t context;   /* keys there are: first + n of a decoder, all of an encoder's text */
    size_t row;        /* of the first position in qkv */
    size_t out_row;    /* ... and in the output */
    const cch_watch *watch; /* borrowed: wants the attention of the last position; NULL: none */
} cch_queries;

/* Workspace of one thread, placed by cch_attention_take: a view of the scratch. */
typedef struct cch_attention_work {
    float *q, *out, *scores;
    const float **k_pages, **v_pages;
    int32_t *first, *last;
} cch_attention_work;

/* Positions of a block, for a sequence of `context` tokens: more rows reuse pages better, until the scores leave the
 * cache.  At least 1. */
int32_t cch_attention_block(const cch_config *config, int32_t context);

/* Takes from `scratch` what one thread needs for sequences of up to `context` tokens. */
void cch_attention_take(const cch_config *config, int32_t context, cch_scratch *scratch, cch_attention_work *out);

/* out [.., ldo] at out_row: attention of every block, heads side by side.  qkv [.., ld]: finished queries first in each
 * row; keys and values of all positions are in the pages.
 *   work [threads of the model].   probe may be NULL; its attention rows are those of qkv.
 * Cannot fail.  Threads: under the model's run lock. */
void cch_attention(const cch_model *model, int32_t layer, const cch_queries *blocks, size_t n_blocks, const float *qkv,
                   size_t ld, float *out, size_t ldo, const cch_attention_work *work, const cch_probe *probe,
                   size_t probe_rows);

#endif
