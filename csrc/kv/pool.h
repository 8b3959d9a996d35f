/* pool - all pages of a model under one byte budget.  See kv/page.h for terms, invariants and the lock.
 *
 * Knows bytes and tokens, not models.  Eviction order when a KV block is needed and the budget is reached: cached pages
 * (freed whole, oldest first, leaves before their prev), then KV blocks of live pages that the running evaluation does
 * not use, least recently used first (the tokens stay; the block is recomputed when needed, bit for bit).
 * Freed blocks are kept for the next page, as long as they fit under the budget together with the blocks in use.
 */
#ifndef CCH_KV_POOL_H
#define CCH_KV_POOL_H

#include "kv/page.h"
#include "kv/prefix.h"

typedef struct cch_page_list {
    cch_page *first, *last;
} cch_page_list;

typedef struct cch_pool {
    cch_page_geometry geometry;
    size_t page_bytes;
    pthread_mutex_t lock;          /* guards everything below */
    size_t budget_bytes, kv_bytes;
    float *spare;                  /* owned: freed blocks, each holding the pointer to the next */
    size_t n_spare;
    cch_prefix_map known;
    cch_page *all;                 /* every page; counted by n_pages */
    cch_page_list cached, live;    /* invariant 5 */
    cch_state *states;             /* every state of this pool, for the checks */
    int64_t n_pages, n_cached;
    uint64_t tick;                 /* of the running or last evaluation */
    uint64_t epoch;                /* changes whenever live pages lose KV entries */
    int64_t pages_evicted, tokens_reused;
} cch_pool;

/* E_ARGUMENT (the geometry holds nothing), E_MEMORY. */
cch_status cch_pool_new(cch_page_geometry geometry, size_t budget_bytes, cch_pool **out, cch_error *err);
/* All states must be gone; frees cached pages. NULL is a no-op. */
void cch_pool_free(cch_pool *pool);
const cch_page_geometry *cch_pool_geometry(const cch_pool *pool);
/* Fills the page and KV fields and tokens_reused.  Walks all pages. */
void cch_pool_stats(cch_pool *pool, cch_model_stats *out);
/* Gives spare blocks over the budget back, and cached pages when drop_cached; live blocks go when a block is needed. */
void cch_pool_set_budget(cch_pool *pool, size_t budget_bytes, bool drop_cached);
/* Tests the invariants of kv/page.h.  E_INTERNAL with the reason, E_MEMORY. */
cch_status cch_pool_check(cch_pool *pool, cch_error *err);

/* ---- for states and evaluations; all want the lock held ---- */

/* The spare block behind a spare block, NULL behind the last. */
float *cch_pool_next_spare(const float *block);
/* A page outside the tree, without tokens; top_k >= 0: with room for scores.  Needs no lock.   E_MEMORY. */
cch_status cch_page_make(int32_t top_k, cch_page **out, cch_error *err);
/* Frees a page that never was in the tree.  NULL is a no-op. */
void cch_page_discard(cch_page *page);
/* Puts a made page into the tree behind prev (may be NULL), to which it takes a reference; the caller owns the one
 * reference to the page.  salt: that of prev, unless it is NULL. */
void cch_page_link(cch_pool *pool, cch_page *page, cch_page *prev, uint64_t salt);
void cch_page_ref(cch_pool *pool, cch_page *page);
/* Gives a reference back; pages that nobody needs any more are freed, along the whole chain, without recursion.
 * NULL is a no-op. */
void cch_page_unref(cch_pool *pool, cch_page *page);
/* The known page equal to `page` (full, one owner, not known), when it is at least as ready; else `page` itself, made
 * known if no equal page is.  Takes over the caller's reference and gives one to the result. */
cch_page *cch_page_settle(cch_pool *pool, cch_page *page);
/* Slots whose KV entries are in memory, those of a pending copy counted. */
int32_t cch_page_ready(const cch_page *page);
/* page (new in the tree, no KV entries) will copy those of the first n slots of `original`, as far as there are any. */
void cch_page_borrow(cch_pool *pool, cch_page *page, cch_page *original, int32_t n);
/* Ends a pending copy without copying. */
void cch_page_drop_source(cch_pool *pool, cch_page *page);

/* Gives `page` (live) a KV block.  Evicts others when needed, but no page whose last_use is the pool's tick; false when
 * that is not enough or memory cannot be had (*out_budget tells which).   Only under the model's run lock. */
bool cch_page_obtain_kv(cch_pool *pool, cch_page *page, bool *out_budget);
/* Completes a pending copy: moves or copies the original's KV entries, or does without them when there is no room.
 * Only under the model's run lock. */
void cch_page_resolve(cch_pool *pool, cch_page *page);
/* Takes the KV block away from a live page.  Only under the model's run lock. */
void cch_page_evict(cch_pool *pool, cch_page *page);
/* Marks a live page as used by the evaluation of the present tick. */
void cch_page_touch(cch_pool *pool, cch_page *page);

#endif
