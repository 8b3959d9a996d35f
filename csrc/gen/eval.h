/* eval - brings states up to date: plan which slots lack KV entries, run forward over them in chunks, commit, score.
 *
 * Reserve, compute, commit: KV blocks for a chunk are reserved first (evicting others), then forward runs, then the
 * slots are marked ready under the pool's lock.  A failure in between leaves every state as it was.
 * Work is planned per page and slot, so that states that share pending pages compute them once.
 * cch_eval, cch_state_logits, cch_state_attention, cch_state_hidden and cch_state_kv of cacher.h live here.
 */
#ifndef CCH_GEN_EVAL_H
#define CCH_GEN_EVAL_H

#include "kv/state.h"
#include "model/model.h"

#endif
