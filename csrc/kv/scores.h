/* scores - what pages remember of their evaluation: log-probabilities of tokens and the strongest predictions.
 *
 * Scores are pure functions of the tokens, like KV entries, but they are small and stay when a KV block is evicted, so
 * that reading them runs no model.  An entry is added once and never changes.
 * cch_state_scores, cch_state_lse and their inverses of cacher.h live here.
 * Threads: functions on pages want the pool's lock held.
 */
#ifndef CCH_KV_SCORES_H
#define CCH_KV_SCORES_H

#include "kv/page.h"

struct cch_page_scores {
    int32_t k;                          /* places per slot in top_ids and top_logits; 0 = only logprob */
    uint16_t has_logprob, has_top;      /* bit i: slot i is known */
    float logprob[CCH_PAGE_TOKENS];     /* of token i given the tokens before it */
    double lse[CCH_PAGE_TOKENS];        /* log(sum(exp(logit))) of the prediction made after token i; NaN: not known */
    double log_sum[CCH_PAGE_TOKENS];    /* log(sum(exp(logit - largest))), which makes logprobs; NaN: not known */
    int32_t *top_ids;                   /* owned [16][k]: of the prediction after token i, -1 where fewer are stored */
    float *top_logits;                  /* owned [16][k] */
};

/* Makes sure the page can take k top logits per slot without another allocation.  E_MEMORY. */
cch_status cch_scores_reserve(cch_page *page, int32_t k, cch_error *err);
void cch_scores_free(cch_page_scores *scores);
/* Forgets slots from n on; they are about to hold other tokens. */
void cch_scores_cut(cch_page *page, int32_t n);
/* Copies slots [0, n) of src to dst, which has been reserved; longer lists of predictions are cut to fit. */
void cch_scores_copy(cch_page *dst, const cch_page *src, int32_t n);

/* Adds one entry to a reserved page unless it is known at least as well.  ids, logits [k], k <= the reserved k.
 *   log_sum: NaN for restored predictions; logprobs are not made from these, since an lse tells it less exactly. */
void cch_scores_set_logprob(cch_page *page, int32_t slot, float logprob);
void cch_scores_set_top(cch_page *page, int32_t slot, double log_sum, int32_t k, const int32_t *ids,
                        const float *logits);

bool cch_scores_has_logprob(const cch_page *page, int32_t slot);
/* At least k predictions are stored. */
bool cch_scores_has_top(const cch_page *page, int32_t slot, int32_t k);
/* Log-probability of `token_id` as the successor of `slot`, when the stored predictions tell it. */
bool cch_scores_next_logprob(const cch_page *page, int32_t slot, int32_t token_id, float *out);

#endif
