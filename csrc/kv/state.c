#include "kv/state.h"

#include <string.h>

#include "kv/scores.h"

/* ---- life ---- */

static void lock(cch_state *state) { pthread_mutex_lock(&state->pool->lock); }
static void unlock(cch_state *state) { pthread_mutex_unlock(&state->pool->lock); }

static int32_t slots_in_tail(const cch_state *state) { return cch_state_len(state) % CCH_PAGE_TOKENS; }

/* Also for forks: shares the tail of `like`, which may be NULL. */
static cch_status make(cch_model *model, cch_pool *pool, int32_t vocab_size, int32_t n_ctx, const cch_state *like,
                       cch_state **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_state *state = NULL;
    *out = NULL;
    CCH_ZNEW(state, 1, err);
    atomic_init(&state->refs, 1);
    atomic_init(&state->busy, false);
    state->model = cch_model_ref(model);
    state->pool = pool;
    state->vocab_size = vocab_size;
    state->n_ctx = n_ctx;
    lock(state);
    if (like != NULL) {
        state->salt = like->salt;
        state->tail = like->tail;
        atomic_init(&state->length, cch_state_len(like));
        state->ready = like->ready;
        state->epoch = like->epoch;
        state->scored = like->scored;
        state->scored_k = like->scored_k;
        if (state->tail != NULL) cch_page_ref(pool, state->tail);
    }
    state->all_next = pool->states;
    if (pool->states != NULL) pool->states->all_prev = state;
    pool->states = state;
    unlock(state);
    *out = state;
done:
    return status;
}

static void unref(cch_state *state) {
    if (atomic_fetch_sub_explicit(&state->refs, 1, memory_order_acq_rel) > 1) return;
    cch_pool *pool = state->pool;
    lock(state);
    if (state->tail != NULL) cch_page_unref(pool, state->tail);
    *(state->all_prev != NULL ? &state->all_prev->all_next : &pool->states) = state->all_next;
    if (state->all_next != NULL) state->all_next->all_prev = state->all_prev;
    unlock(state);
    cch_page_discard(state->reserve);
    cch_free(state->pages);
    cch_model *model = state->model;
    cch_free(state);
    cch_model_unref(model);
}

cch_status cch_state_make(cch_model *model, cch_pool *pool, int32_t vocab_size, int32_t n_ctx, cch_state **out,
                          cch_error *err) {
    return make(model, pool, vocab_size, n_ctx, NULL, out, err);
}

cch_status cch_state_acquire(cch_state *state, cch_error *err) {
    if (atomic_exchange_explicit(&state->busy, true, memory_order_acquire))
        CCH_FAIL(err, CCH_E_BUSY, -1, "the state of %d tokens is in use by another call or a batch",
                 cch_state_len(state));
    atomic_fetch_add_explicit(&state->refs, 1, memory_order_relaxed);
    return CCH_OK;
}

void cch_state_release(cch_state *state) {
    atomic_store_explicit(&state->busy, false, memory_order_release);
    unref(state);
}

cch_status cch_state_fork(cch_state *state, cch_state **out, cch_error *err) {
    *out = NULL;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    cch_status status = make(state->model, state->pool, state->vocab_size, state->n_ctx, state, out, err);
    cch_state_release(state);
    return status;
}

void cch_state_free(cch_state *state) {
    if (state != NULL) unref(state);
}

cch_status cch_state_unbound(cch_state *state, cch_error *err) {
    CCH_RETURN_IF(cch_state_acquire(state, err));
    state->n_ctx = INT32_MAX;
    cch_state_release(state);
    return CCH_OK;
}

cch_status cch_state_set_salt(cch_state *state, uint64_t salt, cch_error *err) {
    cch_status status = CCH_OK;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    if (cch_state_len(state) > 0)
        CCH_THROW(err, CCH_E_ARGUMENT, -1, "a state of %d tokens cannot get a salt, allowed: an empty one",
                  cch_state_len(state));
    state->salt = salt;
done:
    cch_state_release(state);
    return status;
}

cch_model *cch_state_model_view(const cch_state *state) { return state->model; }

int32_t cch_state_len(const cch_state *state) { return atomic_load_explicit(&state->length, memory_order_relaxed); }

/* ---- pages ---- */

cch_status cch_state_index_pages(cch_state *state, cch_error *err) {
    int32_t n = cch_pages_of(cch_state_len(state));
    if (n > state->pages_cap) {
        int32_t cap = n < 16 ? 16 : n + n / 2;
        cch_page **pages = cch_resize(state->pages, (size_t)cap, sizeof *pages);
        if (pages == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate a table of %d pages", cap);
        state->pages = pages;
        state->pages_cap = cap;
    }
    cch_page *page = state->tail;
    for (int32_t i = n - 1; i >= 0 && (i >= state->n_pages || state->pages[i] != page); i--, page = page->prev)
        state->pages[i] = page;
    state->n_pages = n;
    return CCH_OK;
}

/* Whether slots from `used` on of the state's tail may be written (invariant 2). */
static bool writable(const cch_state *state, int32_t used) {
    const cch_page *page = state->tail;
    int32_t others = page->refs - page->borrowers - 1;
    if (page->known || others > (state->scouts ? 1 : 0)) return false;
    return used == page->n_tokens || (others == 0 && page->borrowers == 0);
}

/* The page behind prev that equals the state's partly used tail, filled up with ids, and is at least as ready. */
static cch_page *find_filled(const cch_state *state, const int32_t *ids, size_t n) {
    int32_t tokens[CCH_PAGE_TOKENS];
    size_t used = (size_t)slots_in_tail(state);
    if (used + n < CCH_PAGE_TOKENS) return NULL;
    memcpy(tokens, state->tail->tokens, used * sizeof *tokens);
    memcpy(tokens + used, ids, (CCH_PAGE_TOKENS - used) * sizeof *tokens);
    cch_page *twin = cch_prefix_find(&state->pool->known, state->tail->prev, state->salt, tokens);
    if (twin == NULL || cch_page_ready(twin) < cch_page_ready(state->tail)) return NULL;
    return twin;
}

/* Follows known pages from the tail as far as ids go; gives the tail when there are none.
 *   *out_taken: how many ids they hold; *out_reused: how many more tokens they have ready than the tail had. */
static cch_page *follow(const cch_state *state, const int32_t *ids, size_t n, size_t *out_taken, int64_t *out_reused) {
    cch_page *at = state->tail;
    size_t used = (size_t)slots_in_tail(state);
    *out_taken = 0;
    *out_reused = 0;
    if (used > 0) {
        cch_page *twin = find_filled(state, ids, n);
        if (twin == NULL) return at;
        *out_reused = cch_page_ready(twin) - cch_page_ready(at);
        *out_taken = CCH_PAGE_TOKENS - used;
        at = twin;
    }
    while (n - *out_taken >= CCH_PAGE_TOKENS) {
        cch_page *next = cch_prefix_find(&state->pool->known, at, state->salt, ids + *out_taken);
        if (next == NULL) break;
        *out_reused += cch_page_ready(next);
        *out_taken += CCH_PAGE_TOKENS;
        at = next;
    }
    return at;
}

static cch_page *pop(cch_page **fresh) {
    cch_page *page = *fresh;
    *fresh = page->map_next;
    page->map_next = NULL;
    return page;
}

/* Makes `next`, whose one reference is handed over, the tail. */
static void set_tail(cch_state *state, cch_page *next) {
    if (state->tail != NULL) cch_page_unref(state->pool, state->tail);
    state->tail = next;
    if (next == NULL) return;
    if (state->n_pages > next->index) state->n_pages = next->index;
    if (state->scored > next->index * CCH_PAGE_TOKENS) state->scored = next->index * CCH_PAGE_TOKENS;
}

/* The tail, partly used, becomes writable: a copy takes its place where others see it. */
static void own_tail(cch_state *state, int32_t used, cch_page **fresh) {
    cch_page *old = state->tail;
    if (!writable(state, used)) {
        cch_page *copy = pop(fresh);
        cch_page_link(state->pool, copy, old->prev, state->salt);
        memcpy(copy->tokens, old->tokens, (size_t)used * sizeof *copy->tokens);
        copy->n_tokens = (uint8_t)used;
        if (copy->scores != NULL) cch_scores_copy(copy, old, used);
        cch_page_borrow(state->pool, copy, old, used);
        set_tail(state, copy);
        return;
    }
    if (used == old->n_tokens) return;
    old->n_tokens = (uint8_t)used;
    if (old->n_kv > used) old->n_kv = (uint8_t)used;
    if (old->from_n > used) old->from_n = (uint8_t)used;
    cch_scores_cut(old, used);
}

/* The tail has become full: it may be known already. */
static void settle(cch_state *state) {
    cch_page *settled = cch_page_settle(state->pool, state->tail);
    if (settled == state->tail) return;
    state->tail = NULL; /* its reference is with the settled page now */
    set_tail(state, settled);
}

/* Writes ids behind the tail, on pages from `fresh`.  All memory is there: cannot fail. */
static void extend(cch_state *state, const int32_t *ids, size_t n, cch_page **fresh) {
    while (n > 0) {
        int32_t used = slots_in_tail(state);
        if (used > 0) {
            own_tail(state, used, fresh);
        } else {
            cch_page *page = pop(fresh);
            cch_page_link(state->pool, page, state->tail, state->salt);
            set_tail(state, page);
        }
        size_t m = (size_t)(CCH_PAGE_TOKENS - used);
        if (m > n) m = n;
        memcpy(state->tail->tokens + used, ids, m * sizeof *ids);
        state->tail->n_tokens = (uint8_t)((size_t)used + m);
        if (state->tail->n_tokens == CCH_PAGE_TOKENS) settle(state);
        atomic_fetch_add_explicit(&state->length, (int)m, memory_order_relaxed);
        ids += m;
        n -= m;
    }
}

/* ---- append ---- */

static cch_status check_ids(const cch_state *state, const int32_t *ids, size_t n, cch_error *err) {
    int32_t len = cch_state_len(state);
    if (n > (size_t)(state->n_ctx - len))
        CCH_FAIL(err, CCH_E_CONTEXT, state->n_ctx, "%zu tokens after %d exceed the model's context of %d", n, len,
                 state->n_ctx);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= state->vocab_size)
            CCH_FAIL(err, CCH_E_TOKEN_ID, i, "token id %d at index %zu is not in the vocabulary, allowed: 0 to %d",
                     ids[i], i, state->vocab_size - 1);
    }
    return CCH_OK;
}

static void discard_all(cch_page *fresh) {
    while (fresh != NULL) cch_page_discard(pop(&fresh));
}

/* The pages that extend() will take for n more tokens behind a page of which `used` slots are in use: the tail, or a
 * full one. */
static cch_status make_pages(const cch_state *state, int32_t used, size_t n, cch_page **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_page *fresh = NULL, *page = NULL;
    size_t filled = used > 0 ? (size_t)(CCH_PAGE_TOKENS - used) : 0;
    size_t count = n > filled ? (n - filled + CCH_PAGE_TOKENS - 1) / CCH_PAGE_TOKENS : 0;
    for (; count > 0; count--) {
        CCH_TRY(cch_page_make(-1, &page, err));
        page->map_next = fresh;
        fresh = page;
    }
    if (used > 0 && n > 0 && !writable(state, used)) {
        CCH_TRY(cch_page_make(state->tail->scores != NULL ? state->tail->scores->k : -1, &page, err));
        page->map_next = fresh;
        fresh = page;
    }
    *out = fresh;
    fresh = NULL;
done:
    discard_all(fresh);
    return status;
}

cch_status cch_state_append(cch_state *state, const int32_t *ids, size_t n, cch_error *err) {
    cch_status status = CCH_OK;
    cch_page *fresh = NULL, *at;
    size_t taken;
    int64_t reused;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    lock(state);
    CCH_TRY(check_ids(state, ids, n, err));
    at = follow(state, ids, n, &taken, &reused);
    CCH_TRY(make_pages(state, taken > 0 ? 0 : slots_in_tail(state), n - taken, &fresh, err));
    if (taken > 0) {
        cch_page_ref(state->pool, at);
        set_tail(state, at);
        atomic_fetch_add_explicit(&state->length, (int)taken, memory_order_relaxed);
    }
    extend(state, ids + taken, n - taken, &fresh);
    if (!state->scouts) state->pool->tokens_reused += reused;
done:
    unlock(state);
    cch_state_release(state);
    return status;
}

cch_status cch_state_reserve_push(cch_state *state, int32_t top_k, cch_error *err) {
    cch_status status = CCH_OK;
    cch_page *tail = state->tail, *page = state->reserve;
    int32_t used = slots_in_tail(state), k = top_k;
    lock(state);
    if (used > 0 && writable(state, used)) {
        if (top_k >= 0) status = cch_scores_reserve(tail, top_k, err);
        goto done;
    }
    if (used > 0 && tail->scores != NULL && tail->scores->k > k) k = tail->scores->k;
    if (page != NULL && (k < 0 || (page->scores != NULL && page->scores->k >= k))) goto done;
    cch_page_discard(page);
    state->reserve = NULL;
    status = cch_page_make(k, &state->reserve, err);
done:
    unlock(state);
    return status;
}

void cch_state_push(cch_state *state, int32_t token_id, const float *logprob) {
    int32_t slot = slots_in_tail(state);
    lock(state);
    cch_page *twin = slot == CCH_PAGE_TOKENS - 1 ? find_filled(state, &token_id, 1) : NULL;
    if (twin != NULL) {
        cch_page_ref(state->pool, twin);
        set_tail(state, twin);
        atomic_fetch_add_explicit(&state->length, 1, memory_order_relaxed);
    } else {
        extend(state, &token_id, 1, &state->reserve);
    }
    /* A known page that took the tail's place may have no room for scores; they stay unknown until asked for. */
    if (logprob != NULL && state->tail->scores != NULL) cch_scores_set_logprob(state->tail, slot, *logprob);
    unlock(state);
}

/* ---- scouts ---- */

cch_status cch_state_scout(cch_state *state, const int32_t *ids, int32_t n, cch_state **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_state *scout = NULL;
    *out = NULL;
    CCH_TRY(make(state->model, state->pool, state->vocab_size, state->n_ctx, state, &scout, err));
    scout->scouts = true;
    CCH_TRY(cch_state_append(scout, ids, (size_t)n, err));
    CCH_TRY(cch_state_index_pages(scout, err));
    *out = scout;
    scout = NULL;
done:
    cch_state_free(scout);
    return status;
}

bool cch_state_leads(const cch_state *scout, const cch_state *state, int32_t token_id) {
    int32_t next = cch_state_len(state);
    if (next >= cch_state_len(scout)) return false;
    return scout->pages[next / CCH_PAGE_TOKENS]->tokens[next % CCH_PAGE_TOKENS] == token_id;
}

void cch_state_follow(cch_state *state, const cch_state *scout, const float *logprob) {
    int32_t at = cch_state_len(state);
    cch_page *page = scout->pages[at / CCH_PAGE_TOKENS];
    lock(state);
    if (page != state->tail) {
        cch_page_ref(state->pool, page);
        set_tail(state, page);
    }
    atomic_fetch_add_explicit(&state->length, 1, memory_order_relaxed);
    state->ready = scout->ready <= at ? scout->ready : at + 1;
    state->epoch = scout->epoch;
    state->scored = scout->scored <= at ? scout->scored : at + 1;
    state->scored_k = scout->scored_k;
    if (logprob != NULL && page->scores != NULL) cch_scores_set_logprob(page, at % CCH_PAGE_TOKENS, *logprob);
    unlock(state);
}

/* ---- other operations ---- */

cch_status cch_state_truncate(cch_state *state, int32_t len, cch_error *err) {
    cch_status status = CCH_OK;
    cch_page *page = NULL;
    int32_t n_pages;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    if (len < 0 || len > cch_state_len(state))
        CCH_THROW(err, CCH_E_ARGUMENT, -1, "cannot keep %d tokens, allowed: 0 to the state's %d", len,
                  cch_state_len(state));
    lock(state);
    page = state->tail;
    n_pages = cch_pages_of(len);
    while (page != NULL && page->index >= n_pages) page = page->prev;
    if (page != state->tail) {
        if (page != NULL) cch_page_ref(state->pool, page);
        set_tail(state, page);
    }
    if (state->n_pages > n_pages) state->n_pages = n_pages;
    if (state->ready > len) state->ready = len;
    if (state->scored > len) state->scored = len;
    atomic_store_explicit(&state->length, len, memory_order_relaxed);
    unlock(state);
done:
    cch_state_release(state);
    return status;
}

cch_status cch_state_tokens(cch_state *state, int32_t first, int32_t n, int32_t *dst, cch_error *err) {
    cch_status status = CCH_OK;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    int32_t len = cch_state_len(state);
    if (first < 0 || n < 0 || first > len || n > len - first)
        CCH_THROW(err, CCH_E_ARGUMENT, first, "tokens [%d, %d + %d) were asked for, the state holds %d", first, first,
                  n, len);
    CCH_TRY(cch_state_index_pages(state, err));
    for (int32_t i = 0; i < n; i++)
        dst[i] = state->pages[(first + i) / CCH_PAGE_TOKENS]->tokens[(first + i) % CCH_PAGE_TOKENS];
done:
    cch_state_release(state);
    return status;
}

static int32_t common_prefix(const cch_state *a, const cch_state *b) {
    int32_t len_a = cch_state_len(a), len_b = cch_state_len(b), len = len_a < len_b ? len_a : len_b;
    for (int32_t i = 0; i < cch_pages_of(len); i++) {
        const cch_page *page_a = a->pages[i], *page_b = b->pages[i];
        if (page_a == page_b) continue;
        for (int32_t pos = i * CCH_PAGE_TOKENS; pos < len && pos < (i + 1) * CCH_PAGE_TOKENS; pos++)
            if (page_a->tokens[pos % CCH_PAGE_TOKENS] != page_b->tokens[pos % CCH_PAGE_TOKENS]) return pos;
    }
    return len;
}

cch_status cch_state_common_prefix(cch_state *a, cch_state *b, int32_t *out, cch_error *err) {
    cch_status status = CCH_OK;
    bool both = false;
    *out = 0;
    CCH_RETURN_IF(cch_state_acquire(a, err));
    if (b != a) {
        if (b->pool != a->pool) CCH_THROW(err, CCH_E_MISMATCH, -1, "the two states belong to different models");
        CCH_TRY(cch_state_acquire(b, err));
        both = true;
        CCH_TRY(cch_state_index_pages(b, err));
    }
    CCH_TRY(cch_state_index_pages(a, err));
    *out = common_prefix(a, b);
done:
    if (both) cch_state_release(b);
    cch_state_release(a);
    return status;
}

int32_t cch_state_count_ready(cch_state *state) {
    int32_t ready = state->epoch == state->pool->epoch ? state->ready : 0, len = cch_state_len(state);
    for (int32_t i = ready / CCH_PAGE_TOKENS; i < cch_pages_of(len); i++) {
        ready = i * CCH_PAGE_TOKENS + cch_page_ready(state->pages[i]);
        if (ready < (i + 1) * CCH_PAGE_TOKENS) break;
    }
    state->ready = ready < len ? ready : len;
    state->epoch = state->pool->epoch;
    return state->ready;
}

cch_status cch_state_ready(cch_state *state, int32_t *out, cch_error *err) {
    cch_status status = CCH_OK;
    *out = 0;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    CCH_TRY(cch_state_index_pages(state, err));
    lock(state);
    *out = cch_state_count_ready(state);
    unlock(state);
done:
    cch_state_release(state);
    return status;
}

cch_status cch_state_drop_kv(cch_state *state, cch_error *err) {
    CCH_RETURN_IF(cch_state_index_pages(state, err));
    lock(state);
    for (int32_t i = 0; i < cch_pages_of(cch_state_len(state)); i++) {
        cch_page *page = state->pages[i];
        if (page->from != NULL) {
            cch_page_drop_source(state->pool, page);
            state->pool->epoch++;
        }
        cch_page_evict(state->pool, page);
    }
    unlock(state);
    return CCH_OK;
}
