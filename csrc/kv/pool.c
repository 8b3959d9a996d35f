#include "kv/pool.h"

#include <string.h>

#include "kv/scores.h"
#include "kv/state.h"

/* ---- lists ---- */

static void list_add(cch_page_list *list, cch_page *page) {
    page->lru_prev = list->last;
    page->lru_next = NULL;
    *(list->last != NULL ? &list->last->lru_next : &list->first) = page;
    list->last = page;
}

static void list_remove(cch_page_list *list, cch_page *page) {
    *(page->lru_prev != NULL ? &page->lru_prev->lru_next : &list->first) = page->lru_next;
    *(page->lru_next != NULL ? &page->lru_next->lru_prev : &list->last) = page->lru_prev;
    page->lru_prev = page->lru_next = NULL;
}

static cch_page_list *list_of(cch_pool *pool, const cch_page *page) {
    return page->live > 0 ? &pool->live : &pool->cached;
}

/* ---- blocks; a spare one holds the address of the next in its first bytes ---- */

enum { LINK_BYTES = sizeof(float *) };

float *cch_pool_next_spare(const float *block) {
    float *next;
    memcpy(&next, block, LINK_BYTES);
    return next;
}

static void trim_spare(cch_pool *pool) {
    while (pool->spare != NULL && pool->kv_bytes + pool->n_spare * pool->page_bytes > pool->budget_bytes) {
        float *block = pool->spare;
        pool->spare = cch_pool_next_spare(block);
        pool->n_spare--;
        cch_free(block);
    }
}

/* The page's block becomes a spare one. */
static void give_block(cch_pool *pool, cch_page *page) {
    list_remove(list_of(pool, page), page);
    memcpy(page->kv, &pool->spare, LINK_BYTES);
    pool->spare = page->kv;
    pool->n_spare++;
    pool->kv_bytes -= pool->page_bytes;
    page->kv = NULL;
    page->n_kv = 0;
    trim_spare(pool);
}

/* A spare block, wiped where the link was; or a new one, zeroed. */
static float *take_block(cch_pool *pool) {
    float *block = pool->spare;
    if (block == NULL) return cch_zalloc(pool->geometry.page_floats, sizeof *block);
    pool->spare = cch_pool_next_spare(block);
    memset(block, 0, LINK_BYTES);
    pool->n_spare--;
    return block;
}

/* ---- pages ---- */

static void free_page(cch_pool *pool, cch_page *page) {
    if (page->kv != NULL) give_block(pool, page);
    if (page->known) cch_prefix_remove(&pool->known, page);
    *(page->all_prev != NULL ? &page->all_prev->all_next : &pool->all) = page->all_next;
    if (page->all_next != NULL) page->all_next->all_prev = page->all_prev;
    pool->n_pages--;
    pool->n_cached--;
    cch_page_discard(page);
}

static void gain_live(cch_pool *pool, cch_page *page) {
    for (; page != NULL && page->live++ == 0; page = page->prev) {
        pool->n_cached--;
        if (page->kv == NULL) continue;
        list_remove(&pool->cached, page);
        list_add(&pool->live, page);
    }
}

/* The page has one live owner less; when none is left, neither has the page before it this one. */
static void lose_live(cch_pool *pool, cch_page *page) {
    for (; page != NULL && --page->live == 0; page = page->prev) {
        pool->n_cached++;
        if (page->kv != NULL) {
            list_remove(&pool->live, page);
            list_add(&pool->cached, page);
        }
        /* The original stays live or is freed, but its prev is ours, too: this goes no deeper. */
        if (page->from != NULL) cch_page_drop_source(pool, page);
    }
}

static void lose_ref(cch_pool *pool, cch_page *page) {
    while (page != NULL && --page->refs == 0 && !(page->known && page->n_kv > 0)) {
        cch_page *prev = page->prev;
        free_page(pool, page);
        page = prev;
    }
}

cch_status cch_page_make(int32_t top_k, cch_page **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_page *page = NULL;
    CCH_ZNEW(page, 1, err);
    if (top_k >= 0) CCH_TRY(cch_scores_reserve(page, top_k, err));
    *out = page;
    page = NULL;
done:
    cch_free(page);
    return status;
}

void cch_page_discard(cch_page *page) {
    if (page == NULL) return;
    cch_scores_free(page->scores);
    cch_free(page);
}

void cch_page_link(cch_pool *pool, cch_page *page, cch_page *prev, uint64_t salt) {
    page->refs = page->live = 1;
    page->salt = salt;
    page->prev = prev;
    page->index = prev != NULL ? prev->index + 1 : 0;
    if (prev != NULL) cch_page_ref(pool, prev);
    page->all_next = pool->all;
    if (pool->all != NULL) pool->all->all_prev = page;
    pool->all = page;
    pool->n_pages++;
}

void cch_page_ref(cch_pool *pool, cch_page *page) {
    page->refs++;
    gain_live(pool, page);
}

void cch_page_unref(cch_pool *pool, cch_page *page) {
    lose_live(pool, page);
    lose_ref(pool, page);
}

cch_page *cch_page_settle(cch_pool *pool, cch_page *page) {
    cch_page *twin = cch_prefix_find(&pool->known, page->prev, page->salt, page->tokens);
    if (twin != NULL && cch_page_ready(twin) >= cch_page_ready(page)) {
        cch_page_ref(pool, twin);
        cch_page_unref(pool, page);
        return twin;
    }
    if (twin == NULL && (page->prev == NULL || page->prev->known)) cch_prefix_add(&pool->known, page);
    return page;
}

int32_t cch_page_ready(const cch_page *page) {
    if (page->from == NULL) return page->n_kv;
    return page->from_n < page->from->n_kv ? page->from_n : page->from->n_kv;
}

void cch_page_borrow(cch_pool *pool, cch_page *page, cch_page *original, int32_t n) {
    if (original->from != NULL && n > original->from_n) n = original->from_n;
    if (original->from != NULL) original = original->from;
    if (original->n_kv == 0 || n == 0) return;
    page->from = original;
    page->from_n = (uint8_t)n;
    original->borrowers++;
    cch_page_ref(pool, original);
}

void cch_page_drop_source(cch_pool *pool, cch_page *page) {
    cch_page *source = page->from;
    page->from = NULL;
    page->from_n = 0;
    source->borrowers--;
    cch_page_unref(pool, source);
}

/* ---- blocks of live pages ---- */

static bool make_room(cch_pool *pool) {
    if (pool->cached.first != NULL) {
        cch_page *leaf = pool->cached.first;
        leaf->refs++;
        leaf->n_kv = 0; /* so that losing the reference frees it */
        lose_ref(pool, leaf);
        pool->pages_evicted++;
        return true;
    }
    for (cch_page *page = pool->live.first; page != NULL; page = page->lru_next) {
        if (page->last_use == pool->tick) continue;
        cch_page_evict(pool, page);
        return true;
    }
    return false;
}

bool cch_page_obtain_kv(cch_pool *pool, cch_page *page, bool *out_budget) {
    *out_budget = false;
    if (page->kv != NULL) return true;
    while (pool->kv_bytes + pool->page_bytes > pool->budget_bytes) {
        if (make_room(pool)) continue;
        *out_budget = true;
        return false;
    }
    page->kv = take_block(pool);
    if (page->kv == NULL) return false;
    pool->kv_bytes += pool->page_bytes;
    list_add(&pool->live, page);
    return true;
}

void cch_page_resolve(cch_pool *pool, cch_page *page) {
    cch_page *source = page->from;
    if (source == NULL) return;
    int32_t ready = cch_page_ready(page);
    if (ready > 0 && source->refs == 1) {
        list_remove(&pool->live, source);
        page->kv = source->kv;
        page->n_kv = (uint8_t)ready;
        source->kv = NULL;
        source->n_kv = 0;
        list_add(&pool->live, page);
    } else if (ready > 0) {
        uint64_t last_use = source->last_use;
        bool over_budget;
        source->last_use = pool->tick; /* not to be evicted for its own copy */
        if (cch_page_obtain_kv(pool, page, &over_budget)) {
            memcpy(page->kv, source->kv, pool->page_bytes);
            page->n_kv = (uint8_t)ready;
        }
        source->last_use = last_use;
    }
    if (page->n_kv < ready) pool->epoch++;
    cch_page_drop_source(pool, page);
}

void cch_page_evict(cch_pool *pool, cch_page *page) {
    if (page->kv == NULL) return;
    give_block(pool, page);
    pool->epoch++;
    pool->pages_evicted++;
}

void cch_page_touch(cch_pool *pool, cch_page *page) {
    page->last_use = pool->tick;
    if (page->kv == NULL || pool->live.last == page) return;
    list_remove(&pool->live, page);
    list_add(&pool->live, page);
}

/* ---- the pool ---- */

cch_page_geometry cch_page_geometry_make(int32_t n_layers, int32_t n_kv_heads, int32_t head_dim, bool halves) {
    const int32_t ldv = (head_dim + CCH_PAGE_TOKENS - 1) / 16 * 16;
    const size_t slot_words = CCH_PAGE_TOKENS / (halves ? 2 : 1); /* of 16 numbers */
    cch_page_geometry g = {n_layers, n_kv_heads, head_dim, ldv, halves, slot_words * (size_t)head_dim, 0, 0};
    g.head_floats = g.k_floats + slot_words * (size_t)ldv;
    g.page_floats = (size_t)n_layers * (size_t)n_kv_heads * g.head_floats;
    return g;
}

cch_status cch_pool_new(cch_page_geometry geometry, size_t budget_bytes, cch_pool **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_pool *pool = NULL;
    *out = NULL;
    if (geometry.n_layers < 1 || geometry.n_kv_heads < 1 || geometry.head_dim < 1)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "pages of %d layers x %d KV heads x %d channels, allowed: at least 1 of each",
                 geometry.n_layers, geometry.n_kv_heads, geometry.head_dim);
    CCH_ZNEW(pool, 1, err);
    pool->geometry = geometry;
    pool->page_bytes = geometry.page_floats * sizeof(float);
    pool->budget_bytes = budget_bytes;
    pool->epoch = 1;
    CCH_TRY(cch_prefix_init(&pool->known, err));
    if (pthread_mutex_init(&pool->lock, NULL) != 0) CCH_THROW(err, CCH_E_MEMORY, -1, "no memory for the pool's lock");
    *out = pool;
    pool = NULL;
done:
    if (pool != NULL) cch_prefix_deinit(&pool->known);
    cch_free(pool);
    return status;
}

static void drop_cached_pages(cch_pool *pool) {
    while (pool->cached.first != NULL) make_room(pool);
}

void cch_pool_free(cch_pool *pool) {
    if (pool == NULL) return;
    drop_cached_pages(pool);
    pool->budget_bytes = 0;
    trim_spare(pool);
    cch_prefix_deinit(&pool->known);
    pthread_mutex_destroy(&pool->lock);
    cch_free(pool);
}

const cch_page_geometry *cch_pool_geometry(const cch_pool *pool) { return &pool->geometry; }

void cch_pool_stats(cch_pool *pool, cch_model_stats *out) {
    pthread_mutex_lock(&pool->lock);
    out->pages_live = pool->n_pages - pool->n_cached;
    out->pages_cached = pool->n_cached;
    out->pages_shared = 0;
    for (const cch_page *page = pool->all; page != NULL; page = page->all_next) out->pages_shared += page->live > 1;
    out->kv_bytes = pool->kv_bytes;
    out->kv_budget_bytes = pool->budget_bytes;
    out->pages_evicted = pool->pages_evicted;
    out->tokens_reused = pool->tokens_reused;
    pthread_mutex_unlock(&pool->lock);
}

void cch_pool_set_budget(cch_pool *pool, size_t budget_bytes, bool drop_cached) {
    pthread_mutex_lock(&pool->lock);
    pool->budget_bytes = budget_bytes;
    if (drop_cached) {
        drop_cached_pages(pool);
        pool->budget_bytes = 0;
    }
    trim_spare(pool);
    pool->budget_bytes = budget_bytes;
    pthread_mutex_unlock(&pool->lock);
}
