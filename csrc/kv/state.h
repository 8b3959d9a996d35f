/* state - a token sequence: its last page and a length.
 *
 *     tail ──> [.. 5 of 16 ..] ──prev──> [16 tokens] ──prev──> [16 tokens] ──prev──> NULL       length 37
 *
 * Fork is one more reference to the tail.  Truncate moves the tail back along prev and sets the length; a page cut in
 * its middle stays shared until something else is appended (then it is copied, kv/page.h invariant 2).  Append fills
 * the tail, and each page that becomes full is exchanged for a known one with the same prefix when that is at least as
 * ready, so equal prefixes end up on the same pages without being asked.
 *
 * For evaluation a state keeps a flat array of its pages, first to last.  It is not copied on fork but rebuilt from the
 * tail backwards until it meets an entry that is still right: entries before a right one are right, since a path of the
 * tree is determined by its end.
 *
 * Threads: one user at a time, by try-acquire.  A state that is held by a call or a batch outlives cch_state_free.
 */
#ifndef CCH_KV_STATE_H
#define CCH_KV_STATE_H

#include <stdatomic.h>

#include "kv/pool.h"

struct cch_state {
    atomic_int refs;          /* the caller's, and one of each holder */
    atomic_bool busy;
    cch_model *model;         /* shared */
    cch_pool *pool;           /* borrowed from model */
    int32_t vocab_size, n_ctx; /* bounds of its ids, and of its length (a tape: none) */
    uint64_t salt;            /* of its pages */
    cch_page *tail;           /* shared: one reference is ours; NULL when length is 0 */
    atomic_int length;        /* tail->index * 16 < length <= tail->index * 16 + tail->n_tokens */
    cch_page **pages;         /* owned [pages_cap]: borrowed pages; entries [0, n_pages) were right once */
    int32_t n_pages, pages_cap;
    int32_t ready;            /* leading tokens known to have KV entries while epoch equals the pool's */
    uint64_t epoch;
    int32_t scored, scored_k; /* leading tokens known to have a logprob and scored_k predictions */
    cch_page *reserve;        /* owned: for the next cch_state_push, not in the tree yet; or NULL */
    bool scouts;              /* made by cch_state_scout */
    cch_state *all_prev, *all_next; /* list of the pool's states */
};

/* An empty state; vocab_size and n_ctx bound its tokens.  Takes a reference to model.  E_MEMORY. */
cch_status cch_state_make(cch_model *model, cch_pool *pool, int32_t vocab_size, int32_t n_ctx, cch_state **out,
                          cch_error *err);

/* Makes the caller the state's one user until release, and keeps it in memory that long.  E_BUSY at once when it has
 * another. */
cch_status cch_state_acquire(cch_state *state, cch_error *err);
void cch_state_release(cch_state *state);

/* ---- for the holder of the state ---- */

/* Pages that hold the first `length` tokens. */
static inline int32_t cch_pages_of(int32_t length) { return (length + CCH_PAGE_TOKENS - 1) / CCH_PAGE_TOKENS; }

/* Brings state->pages up to date for the whole length.  Steady appending costs one comparison.  E_MEMORY. */
cch_status cch_state_index_pages(cch_state *state, cch_error *err);

/* Leading tokens that have KV entries, page by page from state->ready on; needs state->pages and the pool's lock.
 * Keeps what it finds in state->ready. */
int32_t cch_state_count_ready(cch_state *state);

/* Appending one token in two steps, for steps of a batch that must not fail half-way: reserve takes all memory that the
 * push can need (top_k >= 0: also for the token's scores), push cannot fail.  A reserved state may be released without
 * a push.   E_MEMORY. */
cch_status cch_state_reserve_push(cch_state *state, int32_t top_k, cch_error *err);
/* token_id is in the vocabulary and the state is not full.  logprob: of the token, to be remembered; may be NULL. */
void cch_state_push(cch_state *state, int32_t token_id, const float *logprob);

/* A fork that holds ids [n >= 1] more, which are in the vocabulary and fit the context: what may come.  It writes them
 * behind what `state` sees, into the same page where the two are its only owners, so that nothing is copied; they stay
 * there unseen, and are written over.   E_MEMORY. */
cch_status cch_state_scout(cch_state *state, const int32_t *ids, int32_t n, cch_state **out, cch_error *err);
/* Whether the token behind `state`, of which the scout was made, is this one in the scout. */
bool cch_state_leads(const cch_state *scout, const cch_state *state, int32_t token_id);
/* Appends that token by going on to the scout's page, with the KV entries and scores it has.  The scout's pages are
 * indexed.  Cannot fail.   logprob: as in cch_state_push. */
void cch_state_follow(cch_state *state, const cch_state *scout, const float *logprob);

/* Drops the KV entries of all pages of the state.  Only under the model's run lock.   E_MEMORY. */
cch_status cch_state_drop_kv(cch_state *state, cch_error *err);

#endif
