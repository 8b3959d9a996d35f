/* eval - brings states up to date: plan which slots lack KV entries, run forward over them in chunks, commit, score.
 *
 * Reserve, compute, commit: KV blocks for a chunk are reserved first (evicting others), then forward runs, then the
 * slots are marked ready under the pool's lock.  A failure in between leaves every state as it was.
 * Work is planned per page and slot (gen/plan.h), so that states that share pending pages compute them once.
 *
 * Evaluations of different threads take turns after each pass.  With a small budget they could then evict each other's
 * pages for ever; one that sees its own work undone keeps the run lock until it has finished.  A progress callback that
 * then asks for the model gets E_BUSY (cch_run_lock).
 *
 * cch_state_new, cch_state_evict, cch_eval and cch_classify of cacher.h live here; cch_state_logits,
 * cch_state_classify, cch_state_analyze, cch_state_attention, cch_state_hidden and cch_state_kv in gen/inspect.c.
 */
#ifndef CCH_GEN_EVAL_H
#define CCH_GEN_EVAL_H

#include "gen/work.h"

/* Runs passes until all asks (n >= 1) are complete.  locked: the caller holds the run lock and keeps it; else it is
 * taken for each pass.   progress as in cch_eval_options.   E_BUDGET, E_BUSY (not when locked), E_CANCELLED,
 * E_MEMORY. */
cch_status cch_eval_asks(cch_work *work, cch_ask *asks, size_t n, const cch_eval_options *options, bool locked,
                         cch_error *err);

#endif
