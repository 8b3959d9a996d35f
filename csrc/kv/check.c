/* check - the invariants of kv/page.h, tested on the real structures.
 *
 * Owners are counted in place: every owner takes one from the counters of what it owns, which must then all be 0, and
 * gives it back.  This needs no memory and no second structure that could be wrong itself.
 */
#include <string.h>

#include "kv/pool.h"
#include "kv/state.h"

static void count_owner(cch_page *page, bool live, int32_t by) {
    if (page == NULL) return;
    page->refs += by;
    if (live) page->live += by;
}

static void count_owners(cch_pool *pool, int32_t by) {
    for (cch_state *state = pool->states; state != NULL; state = state->all_next) count_owner(state->tail, true, by);
    for (cch_page *page = pool->all; page != NULL; page = page->all_next) {
        count_owner(page->prev, page->mark, by);
        count_owner(page->from, page->mark, by);
        if (page->from != NULL) page->from->borrowers += by;
    }
}

static cch_status check_counts(cch_pool *pool, cch_error *err) {
    cch_status status = CCH_OK;
    int64_t n_pages = 0, n_cached = 0;
    for (cch_page *page = pool->all; page != NULL; page = page->all_next) {
        page->mark = page->live > 0;
        n_pages++;
        n_cached += !page->mark;
    }
    count_owners(pool, -1);
    for (cch_page *page = pool->all; page != NULL && status == CCH_OK; page = page->all_next) {
        if (page->refs != 0 || page->live != 0 || page->borrowers != 0)
            status = cch_fail(err, CCH_E_INTERNAL, __func__, page->index,
                              "page %d has %d owners, %d live owners and %d borrowers more than there are", page->index,
                              page->refs, page->live, page->borrowers);
    }
    count_owners(pool, 1);
    CCH_RETURN_IF(status);
    if (n_pages != pool->n_pages || n_cached != pool->n_cached)
        CCH_FAIL(err, CCH_E_INTERNAL, -1, "%lld pages, %lld cached, counted as %lld and %lld", (long long)n_pages,
                 (long long)n_cached, (long long)pool->n_pages, (long long)pool->n_cached);
    return CCH_OK;
}

/* What is wrong with one page, or NULL. */
static const char *page_fault(const cch_pool *pool, const cch_page *page) {
    if (page->n_tokens < 1 || page->n_tokens > CCH_PAGE_TOKENS) return "holds no tokens or more than 16";
    if (page->prev != NULL && page->prev->n_tokens != CCH_PAGE_TOKENS) return "follows a page that is not full";
    if (page->index != (page->prev != NULL ? page->prev->index + 1 : 0)) return "has the wrong index";
    if (page->n_kv > page->n_tokens) return "is ready beyond its tokens";
    if (page->kv == NULL && page->n_kv > 0) return "is ready without a block";
    if (page->known && page->n_tokens != CCH_PAGE_TOKENS) return "is known but not full";
    if (page->known && page->prev != NULL && !page->prev->known) return "is known behind an unknown page";
    if (page->prev != NULL && page->prev->salt != page->salt) return "has another salt than the page before it";
    if (page->known && cch_prefix_find(&pool->known, page->prev, page->salt, page->tokens) != page)
        return "is known but not found";
    if (page->live == 0 && !page->known) return "is cached but not known";
    if (page->refs == 0 && page->n_kv == 0) return "is kept for nothing";
    if (page->from == NULL) return page->from_n == 0 ? NULL : "copies from nobody";
    if (page->kv != NULL) return "has a block and a pending copy";
    if (page->from_n < 1 || page->from_n > page->n_tokens) return "copies more than its tokens";
    if (page->from->from != NULL || page->from->prev != page->prev) return "copies from a stranger";
    return NULL;
}

/* Pages on a list: all with a block, live or not as said.  Counted in *n. */
static cch_status check_list(const cch_page_list *list, bool live, size_t *n, cch_error *err) {
    const cch_page *before = NULL;
    for (const cch_page *page = list->first; page != NULL; before = page, page = page->lru_next) {
        if (page->kv == NULL || (page->live > 0) != live || page->lru_prev != before)
            CCH_FAIL(err, CCH_E_INTERNAL, page->index, "page %d is on the wrong list", page->index);
        ++*n;
    }
    if (list->last != before) CCH_FAIL(err, CCH_E_INTERNAL, -1, "a list of pages has the wrong end");
    return CCH_OK;
}

static cch_status check_bytes(cch_pool *pool, cch_error *err) {
    size_t n_listed = 0, n_kv = 0, n_known = 0, n_spare = 0;
    CCH_RETURN_IF(check_list(&pool->live, true, &n_listed, err));
    CCH_RETURN_IF(check_list(&pool->cached, false, &n_listed, err));
    for (const cch_page *page = pool->all; page != NULL; page = page->all_next) {
        n_kv += page->kv != NULL;
        n_known += page->known;
    }
    for (const float *block = pool->spare; block != NULL; block = cch_pool_next_spare(block)) n_spare++;
    if (n_listed != n_kv || pool->kv_bytes != n_kv * pool->page_bytes)
        CCH_FAIL(err, CCH_E_INTERNAL, -1, "%zu pages with blocks, %zu listed, counted as %zu bytes of %zu each", n_kv,
                 n_listed, pool->kv_bytes, pool->page_bytes);
    if (n_known != pool->known.n_pages || n_spare != pool->n_spare)
        CCH_FAIL(err, CCH_E_INTERNAL, -1, "%zu known pages and %zu spare blocks, counted as %zu and %zu", n_known,
                 n_spare, pool->known.n_pages, pool->n_spare);
    return CCH_OK;
}

static cch_status check_pool(cch_pool *pool, cch_error *err) {
    CCH_RETURN_IF(check_counts(pool, err));
    for (const cch_page *page = pool->all; page != NULL; page = page->all_next) {
        const char *fault = page_fault(pool, page);
        if (fault != NULL) CCH_FAIL(err, CCH_E_INTERNAL, page->index, "page %d %s", page->index, fault);
    }
    return check_bytes(pool, err);
}

cch_status cch_pool_check(cch_pool *pool, cch_error *err) {
    pthread_mutex_lock(&pool->lock);
    cch_status status = check_pool(pool, err);
    pthread_mutex_unlock(&pool->lock);
    return status;
}

static cch_status check_state(const cch_state *state, cch_error *err) {
    int32_t len = cch_state_len(state);
    const cch_page *tail = state->tail;
    if ((tail == NULL) != (len == 0)) CCH_FAIL(err, CCH_E_INTERNAL, -1, "%d tokens do not fit the last page", len);
    if (len > state->n_ctx) CCH_FAIL(err, CCH_E_INTERNAL, -1, "%d tokens, the context holds %d", len, state->n_ctx);
    if (tail == NULL) return CCH_OK;
    int32_t slots = len - tail->index * CCH_PAGE_TOKENS;
    if (slots < 1 || slots > tail->n_tokens)
        CCH_FAIL(err, CCH_E_INTERNAL, -1, "the state sees %d slots of a page of %d", slots, tail->n_tokens);
    int32_t n = cch_pages_of(len), ready = 0;
    bool whole = true;
    for (int32_t i = 0; i < n; i++) {
        const cch_page *page = state->pages[i];
        if (page->index != i || (i > 0 && page->prev != state->pages[i - 1]))
            CCH_FAIL(err, CCH_E_INTERNAL, i, "entry %d of the page table is not on the state's path", i);
        if (whole) ready += cch_page_ready(page);
        whole = whole && ready == (i + 1) * CCH_PAGE_TOKENS;
        for (int32_t j = 0; j < page->n_tokens; j++) {
            if (page->tokens[j] < 0 || page->tokens[j] >= state->vocab_size)
                CCH_FAIL(err, CCH_E_INTERNAL, i * CCH_PAGE_TOKENS + j, "token id %d of %d", page->tokens[j],
                         state->vocab_size);
        }
    }
    if (state->epoch == state->pool->epoch && state->ready > ready)
        CCH_FAIL(err, CCH_E_INTERNAL, -1, "%d tokens taken for ready, %d are", state->ready, ready);
    return CCH_OK;
}

cch_status cch_state_check(cch_state *state, cch_error *err) {
    cch_status status = CCH_OK;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    CCH_TRY(cch_state_index_pages(state, err));
    pthread_mutex_lock(&state->pool->lock);
    status = check_state(state, err);
    pthread_mutex_unlock(&state->pool->lock);
done:
    cch_state_release(state);
    return status;
}
