/* attention - softmax attention of queries over the pages of their sequences: a decoder's see what is before them, an
 * encoder's what is around them.
 *
 * The work is cut into tasks: blocks of consecutive query positions, for one KV head.  The rows of a block are all
 * query heads of the KV head at all its positions, so that its pages are read once.  A task is one block, or several
 * whose sequences begin with the same pages: branches of one prefix, which is read once for the rows of all of them,
 * and so is, further on, what only some of them share.  Tasks are handed out one by one, as their costs differ.
 *
 * Exactness: per query, scores over its pages (each one chain over head_dim), one softmax over what it sees, one
 * mix in ascending position.  Nothing depends on the blocking or on what is shared, as a chain of the mix is only
 * interrupted and continued, and pages before a sliding window are skipped in whole pages, which leaves every lane of
 * the softmax where it was.
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
    int32_t shared;    /* pages at its front that are also those of the block before it in its list */
} cch_queries;

/* Blocks of one task. */
typedef struct cch_branches {
    const cch_queries *blocks; /* borrowed */
    size_t n;
} cch_branches;

/* Workspace of one thread, placed by cch_attention_take: a view of the scratch. */
typedef struct cch_attention_work {
    float *q, *out, *scores;
    const float **k_pages, **v_pages;
    int32_t *first, *last, *from, *upto;
} cch_attention_work;

/* Positions of a block, for a sequence of `context` tokens: more rows reuse pages better, until the scores leave the
 * cache.  At least 1. */
int32_t cch_attention_block(const cch_config *config, int32_t context);

/* Takes from `scratch` what one thread needs for sequences of up to `context` tokens. */
void cch_attention_take(const cch_config *config, int32_t context, cch_scratch *scratch, cch_attention_work *out);

/* Puts blocks that stand side by side and share enough into tasks, no fewer than keep the threads busy.
 *   out [n_blocks].   Returns how many tasks there are.   Cannot fail.   Threads: as below. */
size_t cch_attention_branches(const cch_model *model, const cch_queries *blocks, size_t n_blocks, cch_branches *out);

/* out [.., ldo] at out_row: attention of every block, heads side by side.  qkv [.., ld]: finished queries first in each
 * row; keys and values of all positions are in the pages.
 *   tasks: of cch_attention_branches.   work [threads of the model].   probe may be NULL; its attention rows are those
 *   of qkv.
 * Cannot fail.  Threads: under the model's run lock. */
void cch_attention(const cch_model *model, int32_t layer, const cch_branches *tasks, size_t n_tasks, const float *qkv,
                   size_t ld, float *out, size_t ldo, const cch_attention_work *work, const cch_probe *probe,
                   size_t probe_rows);

#endif
