/* eval - brings states up to date: plan which slots lack KV entries, run forward over them in chunks, commit, score.
 *
 * Reserve, compute, commit: KV blocks for a chunk are reserved first (evicting others), then forward runs, then the
 * slots are marked ready under the pool's lock.  A failure in between leaves every state as it was.
 * Work is planned per page and slot (gen/plan.h), so that states that share pending pages compute them once.
 *
 * Evaluations of different threads take turns after each pass.  With a small budget they could then evict each other's
 * pages for ever; one that sees its own work undone keeps the run lock until it has finished.
 *
 * cch_state_new, cch_state_evict and cch_eval of cacher.h live here; cch_state_logits, cch_state_attention,
 * cch_state_hidden and cch_state_kv in gen/inspect.c.
 */
#ifndef CCH_GEN_EVAL_H
#define CCH_GEN_EVAL_H

#include "gen/work.h"

/* Runs passes until all asks are complete; the caller holds the run lock.  hold: it is never released in between.
 *   progress as in cch_eval_options; options may be NULL.   E_BUDGET, E_CANCELLED, E_MEMORY. */
cch_status cch_eval_asks(cch_work *work, cch_ask *asks, size_t n, const cch_eval_options *options, bool hold,
                         cch_error *err);

#endif
