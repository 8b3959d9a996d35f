/* pool - all pages of a model under one byte budget.  See kv/page.h for terms, invariants and the lock.
 *
 * Knows bytes and tokens, not models.  Eviction order when a KV block is needed and the budget is reached: cached pages
 * (freed whole, oldest first, leaves before their prev), then KV blocks of live pages that the running evaluation does
 * not use, least recently used first (the tokens stay; the block is recomputed when needed, bit for bit).
 */
#ifndef CCH_KV_POOL_H
#define CCH_KV_POOL_H

#include "kv/page.h"

typedef struct cch_pool cch_pool;

cch_status cch_pool_new(cch_page_geometry geometry, size_t budget_bytes, cch_pool **out, cch_error *err);
/* All states must be gone; frees cached pages. NULL is a no-op. */
void cch_pool_free(cch_pool *pool);
const cch_page_geometry *cch_pool_geometry(const cch_pool *pool);
void cch_pool_stats(cch_pool *pool, cch_model_stats *out); /* fills the page and kv fields */
void cch_pool_set_budget(cch_pool *pool, size_t budget_bytes, bool drop_cached);
cch_status cch_pool_check(cch_pool *pool, cch_error *err);

#endif
