#include "kv/scores.h"

#include <math.h>
#include <string.h>

#include "kv/state.h"

static uint16_t bit(int32_t slot) { return (uint16_t)(1u << slot); }

/* ---- pages ---- */

cch_status cch_scores_reserve(cch_page *page, int32_t k, cch_error *err) {
    cch_status status = CCH_OK;
    cch_page_scores *old = page->scores;
    cch_page_scores *fresh = NULL;
    if (old != NULL && old->k >= k) return CCH_OK;
    size_t places = (size_t)CCH_PAGE_TOKENS * (size_t)k;
    CCH_ZNEW(fresh, 1, err);
    if (k > 0) {
        CCH_NEW(fresh->top_ids, places, err);
        CCH_NEW(fresh->top_logits, places, err);
        for (size_t i = 0; i < places; i++) fresh->top_ids[i] = -1, fresh->top_logits[i] = 0.0f;
    }
    fresh->k = k;
    page->scores = fresh;
    if (old != NULL) {
        cch_page source = {.scores = old};
        cch_scores_copy(page, &source, CCH_PAGE_TOKENS);
        cch_scores_free(old);
    }
    fresh = NULL;
done:
    cch_scores_free(fresh);
    return status;
}

void cch_scores_free(cch_page_scores *scores) {
    if (scores == NULL) return;
    cch_free(scores->top_ids);
    cch_free(scores->top_logits);
    cch_free(scores);
}

void cch_scores_cut(cch_page *page, int32_t n) {
    if (page->scores == NULL) return;
    uint16_t keep = (uint16_t)((1u << n) - 1u);
    page->scores->has_logprob &= keep;
    page->scores->has_top &= keep;
}

void cch_scores_copy(cch_page *dst, const cch_page *src, int32_t n) {
    cch_page_scores *to = dst->scores;
    const cch_page_scores *from = src->scores;
    if (from == NULL) return;
    uint16_t keep = (uint16_t)((1u << n) - 1u);
    int32_t k = from->k < to->k ? from->k : to->k;
    to->has_logprob = from->has_logprob & keep;
    to->has_top = from->has_top & keep;
    memcpy(to->logprob, from->logprob, sizeof to->logprob);
    memcpy(to->lse, from->lse, sizeof to->lse);
    memcpy(to->log_sum, from->log_sum, sizeof to->log_sum);
    for (int32_t i = 0; i < n && k > 0; i++) {
        memcpy(to->top_ids + i * to->k, from->top_ids + i * from->k, (size_t)k * sizeof *to->top_ids);
        memcpy(to->top_logits + i * to->k, from->top_logits + i * from->k, (size_t)k * sizeof *to->top_logits);
    }
}

void cch_scores_set_logprob(cch_page *page, int32_t slot, float logprob) {
    cch_page_scores *s = page->scores;
    if (s->has_logprob & bit(slot)) return;
    s->logprob[slot] = logprob;
    s->has_logprob |= bit(slot);
}

static void set_sum(cch_page_scores *s, int32_t slot, double log_sum) {
    s->log_sum[slot] = log_sum;
    if (!isnan(log_sum) || (s->has_top & bit(slot)) == 0) s->lse[slot] = (double)s->top_logits[slot * s->k] + log_sum;
}

void cch_scores_set_top(cch_page *page, int32_t slot, double log_sum, int32_t k, const int32_t *ids,
                        const float *logits) {
    cch_page_scores *s = page->scores;
    if (k < 1) return;
    if (cch_scores_has_top(page, slot, k)) {
        if (isnan(s->log_sum[slot])) set_sum(s, slot, log_sum);
        return;
    }
    for (int32_t i = 0; i < k; i++) {
        s->top_ids[slot * s->k + i] = ids[i];
        s->top_logits[slot * s->k + i] = logits[i];
    }
    for (int32_t i = k; i < s->k; i++) s->top_ids[slot * s->k + i] = -1;
    set_sum(s, slot, log_sum);
    s->has_top |= bit(slot);
}

bool cch_scores_has_logprob(const cch_page *page, int32_t slot) {
    return page->scores != NULL && (page->scores->has_logprob & bit(slot)) != 0;
}

bool cch_scores_has_top(const cch_page *page, int32_t slot, int32_t k) {
    const cch_page_scores *s = page->scores;
    return s != NULL && (s->has_top & bit(slot)) != 0 && s->k >= k && (k == 0 || s->top_ids[slot * s->k + k - 1] >= 0);
}

bool cch_scores_next_logprob(const cch_page *page, int32_t slot, int32_t token_id, float *out) {
    const cch_page_scores *s = page->scores;
    if (s == NULL || (s->has_top & bit(slot)) == 0 || isnan(s->log_sum[slot])) return false;
    for (int32_t i = 0; i < s->k; i++) {
        if (s->top_ids[slot * s->k + i] != token_id) continue;
        *out = (float)((double)s->top_logits[slot * s->k + i] - (double)s->top_logits[slot * s->k] - s->log_sum[slot]);
        return true;
    }
    return false;
}

/* ---- states ---- */

static cch_status check_range(const cch_state *state, int32_t first, int32_t n, int32_t k, cch_error *err) {
    int32_t len = cch_state_len(state);
    if (first < 0 || n < 0 || first > len || n > len - first)
        CCH_FAIL(err, CCH_E_ARGUMENT, first, "tokens [%d, %d + %d) were asked for, the state holds %d", first, first, n,
                 len);
    if (k < 0 || k > state->vocab_size)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "k is %d, allowed: 0 to the vocabulary's %d", k, state->vocab_size);
    return CCH_OK;
}

cch_status cch_state_scores(cch_state *state, int32_t first, int32_t n, float *logprob, int32_t k, int32_t *top_ids,
                            float *top_logits, cch_error *err) {
    cch_status status = CCH_OK;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    CCH_TRY(check_range(state, first, n, k, err));
    CCH_TRY(cch_state_index_pages(state, err));
    pthread_mutex_lock(&state->pool->lock);
    for (int32_t i = 0; i < n; i++) {
        int32_t slot = (first + i) % CCH_PAGE_TOKENS;
        const cch_page *page = state->pages[(first + i) / CCH_PAGE_TOKENS];
        const cch_page_scores *s = page->scores;
        int32_t stored = s != NULL && (s->has_top & bit(slot)) ? (s->k < k ? s->k : k) : 0;
        if (logprob != NULL) logprob[i] = cch_scores_has_logprob(page, slot) ? s->logprob[slot] : NAN;
        for (int32_t j = 0; j < k; j++) {
            bool there = j < stored && s->top_ids[slot * s->k + j] >= 0;
            if (top_ids != NULL) top_ids[(size_t)i * (size_t)k + (size_t)j] = there ? s->top_ids[slot * s->k + j] : -1;
            if (top_logits != NULL)
                top_logits[(size_t)i * (size_t)k + (size_t)j] = there ? s->top_logits[slot * s->k + j] : 0.0f;
        }
    }
    pthread_mutex_unlock(&state->pool->lock);
done:
    cch_state_release(state);
    return status;
}

/* How many leading ids are in the vocabulary: a stored list ends with the first that is not. */
static int32_t valid_ids(const int32_t *ids, int32_t k, int32_t vocab_size) {
    int32_t n = 0;
    while (n < k && ids[n] >= 0 && ids[n] < vocab_size) n++;
    return n;
}

cch_status cch_state_restore_scores(cch_state *state, int32_t first, int32_t n, const float *logprob, int32_t k,
                                    const int32_t *top_ids, const float *top_logits, cch_error *err) {
    cch_status status = CCH_OK;
    bool locked = false;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    CCH_TRY(check_range(state, first, n, k, err));
    CCH_TRY(cch_state_index_pages(state, err));
    pthread_mutex_lock(&state->pool->lock);
    locked = true;
    if (top_ids == NULL || top_logits == NULL) k = 0;
    for (int32_t i = first / CCH_PAGE_TOKENS; n > 0 && i <= (first + n - 1) / CCH_PAGE_TOKENS; i++)
        CCH_TRY(cch_scores_reserve(state->pages[i], k, err));
    for (int32_t i = 0; i < n; i++) {
        int32_t slot = (first + i) % CCH_PAGE_TOKENS;
        cch_page *page = state->pages[(first + i) / CCH_PAGE_TOKENS];
        if (logprob != NULL && !isnan(logprob[i])) cch_scores_set_logprob(page, slot, logprob[i]);
        if (k == 0) continue;
        const int32_t *ids = top_ids + (size_t)i * (size_t)k;
        cch_scores_set_top(page, slot, (double)NAN, valid_ids(ids, k, state->vocab_size), ids,
                           top_logits + (size_t)i * (size_t)k);
    }
done:
    if (locked) pthread_mutex_unlock(&state->pool->lock);
    cch_state_release(state);
    return status;
}

cch_status cch_state_lse(cch_state *state, int32_t first, int32_t n, double *lse, cch_error *err) {
    cch_status status = CCH_OK;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    CCH_TRY(check_range(state, first, n, 0, err));
    CCH_TRY(cch_state_index_pages(state, err));
    pthread_mutex_lock(&state->pool->lock);
    for (int32_t i = 0; i < n; i++) {
        int32_t slot = (first + i) % CCH_PAGE_TOKENS;
        const cch_page_scores *s = state->pages[(first + i) / CCH_PAGE_TOKENS]->scores;
        lse[i] = s != NULL && (s->has_top & bit(slot)) ? s->lse[slot] : (double)NAN;
    }
    pthread_mutex_unlock(&state->pool->lock);
done:
    cch_state_release(state);
    return status;
}

cch_status cch_state_restore_lse(cch_state *state, int32_t first, int32_t n, const double *lse, cch_error *err) {
    cch_status status = CCH_OK;
    CCH_RETURN_IF(cch_state_acquire(state, err));
    CCH_TRY(check_range(state, first, n, 0, err));
    CCH_TRY(cch_state_index_pages(state, err));
    pthread_mutex_lock(&state->pool->lock);
    for (int32_t i = 0; i < n; i++) {
        int32_t slot = (first + i) % CCH_PAGE_TOKENS;
        cch_page_scores *s = state->pages[(first + i) / CCH_PAGE_TOKENS]->scores;
        if (s != NULL && (s->has_top & bit(slot)) && isnan(s->lse[slot])) s->lse[slot] = lse[i];
    }
    pthread_mutex_unlock(&state->pool->lock);
done:
    cch_state_release(state);
    return status;
}
