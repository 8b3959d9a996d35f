#include "gen/plan.h"

#include "kv/scores.h"

/* What planning one pass needs to know. */
typedef struct planner {
    cch_plan *plan;
    cch_pool *pool;
    cch_ask *asks;
    size_t n_asks;
    int32_t room, top_k;
    bool pinned;
    cch_error *err;
} planner;

void cch_plan_deinit(cch_plan *plan) {
    cch_free(plan->spans);
    cch_free(plan->owners);
    cch_free(plan->deliveries);
    *plan = (cch_plan){0};
}

/* ---- counting ---- */

/* True at the first call for the page since the tick changed; its plan is empty then. */
static bool first_visit(const cch_pool *pool, cch_page *page) {
    if (page->plan_tick == pool->tick) return false;
    page->plan_tick = pool->tick;
    page->plan_end = page->n_kv;
    page->out_first = page->out_end = 0;
    return true;
}

size_t cch_plan_fit(cch_pool *pool, const cch_ask *asks, size_t n, size_t *out_bytes) {
    size_t pages = 0, fit = 0, all = 0;
    for (size_t i = 0; i < n; i++) all += (size_t)cch_pages_of(asks[i].upto);
    pthread_mutex_lock(&pool->lock);
    size_t limit = pool->budget_bytes / pool->page_bytes;
    if (all <= limit) {
        fit = n;
        pages = all;
    } else {
        pool->tick++;
    }
    while (fit < n) {
        for (int32_t i = 0; i < cch_pages_of(asks[fit].upto); i++)
            pages += first_visit(pool, asks[fit].state->pages[i]);
        if (pages > limit) break;
        fit++;
    }
    *out_bytes = pages * pool->page_bytes;
    pthread_mutex_unlock(&pool->lock);
    return fit;
}

int64_t cch_plan_missing(cch_pool *pool, const cch_ask *asks, size_t n) {
    int64_t missing = 0;
    pthread_mutex_lock(&pool->lock);
    pool->tick++;
    for (size_t i = 0; i < n; i++) {
        for (int32_t at = 0; at < asks[i].upto; at += CCH_PAGE_TOKENS) {
            cch_page *page = asks[i].state->pages[at / CCH_PAGE_TOKENS];
            int32_t need = asks[i].upto - at < CCH_PAGE_TOKENS ? asks[i].upto - at : CCH_PAGE_TOKENS;
            if (first_visit(pool, page)) page->plan_end = (uint8_t)cch_page_ready(page);
            if (need <= page->plan_end) continue;
            missing += need - page->plan_end;
            page->plan_end = (uint8_t)need;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return missing;
}

/* ---- rows ---- */

/* The array with room for one element more than n, or NULL (the array stays). */
static void *grown(void *array, size_t n, size_t *cap, size_t size, cch_error *err) {
    if (n < *cap) return array;
    size_t wanted = *cap < 16 ? 16 : *cap * 2;
    void *larger = cch_resize(array, wanted, size);
    if (larger == NULL)
        cch_fail(err, CCH_E_MEMORY, __func__, -1, "could not allocate a plan of %zu x %zu bytes", wanted, size);
    else
        *cap = wanted;
    return larger;
}

static cch_status deliver(planner *p, size_t row, cch_ask *ask, int32_t pos) {
    cch_plan *plan = p->plan;
    cch_delivery *all = grown(plan->deliveries, plan->n_deliveries, &plan->deliveries_cap, sizeof *all, p->err);
    if (all == NULL) return CCH_E_MEMORY;
    plan->deliveries = all;
    all[plan->n_deliveries++] = (cch_delivery){row, ask, pos};
    return CCH_OK;
}

static cch_status add_span(planner *p, cch_ask *ask, int32_t first, bool keep_kv) {
    cch_plan *plan = p->plan;
    size_t owners_cap = plan->spans_cap;
    cch_ask **owners = grown(plan->owners, plan->n_spans, &owners_cap, sizeof(cch_ask *), p->err);
    if (owners == NULL) return CCH_E_MEMORY;
    plan->owners = owners;
    cch_span *spans = grown(plan->spans, plan->n_spans, &plan->spans_cap, sizeof *spans, p->err);
    if (spans == NULL) return CCH_E_MEMORY;
    plan->spans = spans;
    owners[plan->n_spans] = ask;
    spans[plan->n_spans++] = (cch_span){ask->state->pages, first, 0, keep_kv, 0, NULL};
    return CCH_OK;
}

/* Rows [first, first + n) of the ask, hidden states of the last n_out: part of the last span if they can be. */
static cch_status add_rows(planner *p, cch_ask *ask, int32_t first, int32_t n, bool keep_kv, int32_t n_out) {
    cch_plan *plan = p->plan;
    cch_span *last = plan->n_spans > 0 ? &plan->spans[plan->n_spans - 1] : NULL;
    bool joins = last != NULL && plan->owners[plan->n_spans - 1] == ask && last->keep_kv == keep_kv &&
                 last->first + last->n == first && (last->n_out == 0 || n_out == n);
    if (!joins) CCH_RETURN_IF(add_span(p, ask, first, keep_kv));
    last = &plan->spans[plan->n_spans - 1];
    last->n += n;
    last->n_out += n_out;
    plan->n_rows += (size_t)n;
    p->room -= n;
    if (first + n == ask->upto) last->watch = ask->watch;
    for (int32_t pos = first + n - n_out; pos < first + n; pos++) CCH_RETURN_IF(deliver(p, plan->n_out++, ask, pos));
    return CCH_OK;
}

/* ---- blocks ---- */

/* Before live pages can be evicted, all pages of all asks are marked as used by this evaluation.  One block may come
 * from a cached page alone, but not when the budget was lowered below what is in use. */
static void pin(planner *p) {
    size_t used = p->pool->kv_bytes, budget = p->pool->budget_bytes;
    if (p->pinned || used + p->pool->page_bytes <= budget) return;
    if (used <= budget && p->pool->cached.first != NULL) return;
    for (size_t i = 0; i < p->n_asks; i++)
        for (int32_t k = 0; k < cch_pages_of(p->asks[i].upto); k++) cch_page_touch(p->pool, p->asks[i].state->pages[k]);
    p->pinned = true;
}

static cch_status obtain(planner *p, cch_page *page) {
    bool over_budget;
    while (page->kv == NULL) {
        /* One block at a time, cached pages first, so that pages are pinned only when live ones are next. */
        pin(p);
        if (cch_page_obtain_kv(p->pool, page, &over_budget)) break;
        if (over_budget)
            CCH_FAIL(p->err, CCH_E_BUDGET, -1,
                     "%zu bytes of KV pages are in use by this evaluation and %zu more are needed, the budget is %zu",
                     p->pool->kv_bytes, p->pool->page_bytes, p->pool->budget_bytes);
        CCH_FAIL(p->err, CCH_E_MEMORY, -1, "could not allocate a KV page of %zu bytes", p->pool->page_bytes);
    }
    return CCH_OK;
}

/* ---- asks ---- */

/* Whether scores are missing that the hidden state of this position gives.  What stored predictions already tell of
 * the next token is filled in. */
static bool unscored(planner *p, const cch_ask *ask, int32_t pos) {
    cch_page *page = ask->state->pages[pos / CCH_PAGE_TOKENS];
    int32_t slot = pos % CCH_PAGE_TOKENS, next = pos + 1;
    float logprob;
    if (p->top_k < 1) return false;
    if (!cch_scores_has_top(page, slot, p->top_k)) return true;
    if (next >= ask->upto) return false;
    cch_page *next_page = ask->state->pages[next / CCH_PAGE_TOKENS];
    int32_t next_slot = next % CCH_PAGE_TOKENS;
    if (cch_scores_has_logprob(next_page, next_slot)) return false;
    if (!cch_scores_next_logprob(page, slot, next_page->tokens[next_slot], &logprob)) return true;
    if (cch_scores_reserve(next_page, p->top_k, NULL) != CCH_OK) return true;
    cch_scores_set_logprob(next_page, next_slot, logprob);
    return false;
}

static bool wanted(planner *p, const cch_ask *ask, int32_t pos) {
    return pos >= ask->out_next && (pos >= ask->out_first || unscored(p, ask, pos));
}

/* Slots [first, end) of the page have or get their KV entries without this ask: hidden states that are wanted come from
 * the row of another ask, or from a row that is computed for them alone.  *out_done: slots before it are done. */
static cch_status plan_outputs(planner *p, cch_ask *ask, cch_page *page, int32_t first, int32_t end,
                               int32_t *out_done) {
    int32_t base = page->index * CCH_PAGE_TOKENS;
    for (*out_done = first; *out_done < end; ++*out_done) {
        int32_t slot = *out_done;
        if (!wanted(p, ask, base + slot)) continue;
        bool alone = ask->watch != NULL && base + slot == ask->upto - 1; /* another's row shows its own layer */
        if (!alone && page->out_first <= slot && slot < page->out_end) {
            CCH_RETURN_IF(deliver(p, (size_t)(page->out_row + slot - page->out_first), ask, base + slot));
            continue;
        }
        if (p->room == 0) return CCH_OK;
        if (page->out_end != slot || (size_t)page->out_row + (size_t)(slot - page->out_first) != p->plan->n_out) {
            page->out_first = (uint8_t)slot;
            page->out_row = (int32_t)p->plan->n_out;
        }
        page->out_end = (uint8_t)(slot + 1);
        CCH_RETURN_IF(add_rows(p, ask, base + slot, 1, false, 1));
    }
    return CCH_OK;
}

/* Slots [first, end) of the page are computed for this ask, as far as there is room. */
static cch_status plan_missing(planner *p, cch_ask *ask, cch_page *page, int32_t first, int32_t end,
                               int32_t *out_done) {
    int32_t base = page->index * CCH_PAGE_TOKENS;
    *out_done = first;
    if (end > first + p->room) end = first + p->room;
    if (first == end) return CCH_OK;
    CCH_RETURN_IF(obtain(p, page));
    if (base + first < ask->reached) p->plan->lost = true;
    int32_t out = first;
    while (out < end && !wanted(p, ask, base + out)) out++;
    if (out < end) {
        page->out_first = (uint8_t)out;
        page->out_end = (uint8_t)end;
        page->out_row = (int32_t)p->plan->n_out;
    }
    page->plan_end = (uint8_t)end;
    *out_done = end;
    return add_rows(p, ask, base + first, end - first, true, end - out);
}

static cch_status plan_page(planner *p, cch_ask *ask, cch_page *page, int32_t first, int32_t end, int32_t *out_done) {
    if (page->from != NULL) {
        pin(p);
        cch_page_resolve(p->pool, page);
    }
    first_visit(p->pool, page);
    cch_page_touch(p->pool, page);
    int32_t present = page->plan_end < end ? page->plan_end : end;
    if (first > present) first = present; /* a pending copy may have been lost a moment ago */
    *out_done = first;
    if (first < present) {
        CCH_RETURN_IF(plan_outputs(p, ask, page, first, present, out_done));
        if (*out_done < present) return CCH_OK;
    }
    return end > present ? plan_missing(p, ask, page, *out_done, end, out_done) : CCH_OK;
}

/* Where there may be something to do: the first position that is not ready, or that may be wanted; at least the last
 * page of the ask, whose copy of KV entries may be pending. */
static int32_t first_position(const planner *p, const cch_ask *ask) {
    const cch_state *state = ask->state;
    int32_t ready = state->epoch == p->pool->epoch ? state->ready : 0, out = ask->out_first;
    if (p->top_k >= 1) out = state->scored_k >= p->top_k && state->scored > 0 ? state->scored - 1 : 0;
    if (out > ask->out_first) out = ask->out_first;
    if (out < ask->out_next) out = ask->out_next;
    if (ready < out) out = ready;
    return out < ask->upto ? out : ask->upto - 1;
}

static cch_status plan_ask(planner *p, cch_ask *ask) {
    int32_t pos = first_position(p, ask), done = 0;
    while (pos < ask->upto) {
        int32_t index = pos / CCH_PAGE_TOKENS, base = index * CCH_PAGE_TOKENS;
        int32_t end = ask->upto - base < CCH_PAGE_TOKENS ? ask->upto - base : CCH_PAGE_TOKENS;
        CCH_RETURN_IF(plan_page(p, ask, ask->state->pages[index], pos - base, end, &done));
        pos = base + done;
        if (done < end) break;
    }
    ask->reached = pos;
    return CCH_OK;
}

cch_status cch_plan_make(cch_plan *plan, cch_pool *pool, cch_ask *asks, size_t n, int32_t max_rows, int32_t top_k,
                         cch_error *err) {
    planner p = {plan, pool, asks, n, max_rows, top_k, false, err};
    cch_status status = CCH_OK;
    plan->n_spans = plan->n_deliveries = plan->n_rows = plan->n_out = 0;
    plan->lost = false;
    pthread_mutex_lock(&pool->lock);
    pool->tick++;
    for (size_t i = 0; i < n && status == CCH_OK; i++) status = plan_ask(&p, &asks[i]);
    pthread_mutex_unlock(&pool->lock);
    return status;
}

void cch_plan_commit(cch_plan *plan, cch_pool *pool, cch_ask *asks, size_t n) {
    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < plan->n_spans; i++) {
        const cch_span *s = &plan->spans[i];
        if (!s->keep_kv) continue;
        for (int32_t k = s->first / CCH_PAGE_TOKENS; k < cch_pages_of(s->first + s->n); k++) {
            int32_t ready = s->first + s->n - k * CCH_PAGE_TOKENS;
            if (ready > CCH_PAGE_TOKENS) ready = CCH_PAGE_TOKENS;
            if (s->pages[k]->n_kv < ready) s->pages[k]->n_kv = (uint8_t)ready;
        }
    }
    for (size_t i = 0; i < n; i++) {
        asks[i].state->ready = asks[i].reached;
        asks[i].state->epoch = pool->epoch;
        asks[i].out_next = asks[i].reached;
    }
    pthread_mutex_unlock(&pool->lock);
}
