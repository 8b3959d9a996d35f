/* prefix - finds the page that continues a known prefix with given tokens.
 *
 * A hash map from (prev page, salt, 16 tokens) to the known page.  As prev is itself found this way, a path of hits
 * compares the whole prefix token by token; a hash alone is never believed.  Chained through the pages, so that adding
 * a page allocates nothing: when a larger table cannot be had, chains just get longer.
 * Threads: under the pool's lock.
 */
#ifndef CCH_KV_PREFIX_H
#define CCH_KV_PREFIX_H

#include "kv/page.h"

typedef struct cch_prefix_map {
    cch_page **buckets; /* owned [n_buckets], a power of two */
    size_t n_buckets, n_pages;
} cch_prefix_map;

/* E_MEMORY. */
cch_status cch_prefix_init(cch_prefix_map *map, cch_error *err);
void cch_prefix_deinit(cch_prefix_map *map);
/* NULL when unknown.  tokens [16]; salt: that of prev, unless prev is NULL. */
cch_page *cch_prefix_find(const cch_prefix_map *map, const cch_page *prev, uint64_t salt, const int32_t *tokens);
/* page is full and no equal page is known; it becomes known. */
void cch_prefix_add(cch_prefix_map *map, cch_page *page);
/* page is known; it ceases to be. */
void cch_prefix_remove(cch_prefix_map *map, cch_page *page);

#endif
