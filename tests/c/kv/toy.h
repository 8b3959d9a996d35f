/* toy - what the tests of kv use for a model: a counter of references and a "forward pass" whose KV entry of a position
 * is a hash of all tokens up to it, so that an entry on the wrong page or slot is seen.
 */
#ifndef CCH_TESTS_KV_TOY_H
#define CCH_TESTS_KV_TOY_H

#include "check.h"
#include "kv/scores.h"
#include "kv/state.h"

enum { TOY_VOCAB = 7, TOY_CTX = 4096 };

struct cch_model {
    int refs;
    cch_pool *pool;
};

/* The tests of kv need no more of a model than to count the states that hold it. */
cch_model *cch_model_ref(cch_model *model) {
    __atomic_add_fetch(&model->refs, 1, __ATOMIC_RELAXED);
    return model;
}
void cch_model_unref(cch_model *model) { __atomic_sub_fetch(&model->refs, 1, __ATOMIC_RELAXED); }

static inline void toy_open(cch_model *model, size_t budget_pages) {
    cch_error err;
    cch_page_geometry g = cch_page_geometry_make(2, 1, 5, false);
    model->refs = 0;
    CHECK_OK(cch_pool_new(g, budget_pages * g.page_floats * sizeof(float), &model->pool, &err), err);
}

static inline void toy_close(cch_model *model) {
    cch_model_stats stats;
    cch_pool_stats(model->pool, &stats);
    CHECK_EQ(stats.pages_live, 0);
    CHECK_EQ(model->refs, 0);
    cch_pool_free(model->pool);
}

static inline cch_state *toy_state(cch_model *model) {
    cch_error err;
    cch_state *state = NULL;
    CHECK_OK(cch_state_make(model, model->pool, TOY_VOCAB, TOY_CTX, &state, &err), err);
    return state;
}

/* A float that 24 bits of a hash of the first pos + 1 tokens determine. */
static inline float toy_entry(uint32_t *hash, int32_t token, int32_t pos) {
    *hash = (*hash ^ (uint32_t)(token + 1) ^ (uint32_t)pos * 0x9e3779b9u) * 0x01000193u;
    *hash ^= *hash >> 15;
    return (float)(*hash >> 8);
}

static inline float *toy_slot(const cch_model *model, cch_page *page, int32_t slot) {
    return cch_page_k(cch_pool_geometry(model->pool), page->kv, 1, 0) + 3 * CCH_PAGE_TOKENS + slot;
}

/* Computes what is missing, as an evaluation does.  False when the budget is too small. */
static inline bool toy_eval(cch_model *model, cch_state *state) {
    cch_error err;
    bool ok = true, over;
    uint32_t hash = 1;
    cch_pool *pool = model->pool;
    CHECK_OK(cch_state_index_pages(state, &err), err);
    int32_t len = cch_state_len(state);
    pthread_mutex_lock(&pool->lock);
    pool->tick++;
    for (int32_t i = 0; i < cch_pages_of(len); i++) cch_page_touch(pool, state->pages[i]);
    for (int32_t i = 0; i < cch_pages_of(len) && ok; i++) {
        cch_page_resolve(pool, state->pages[i]);
        ok = cch_page_obtain_kv(pool, state->pages[i], &over);
    }
    for (int32_t pos = 0; pos < len && ok; pos++) {
        cch_page *page = state->pages[pos / CCH_PAGE_TOKENS];
        int32_t slot = pos % CCH_PAGE_TOKENS;
        float entry = toy_entry(&hash, page->tokens[slot], pos);
        if (slot < page->n_kv) {
            CHECK(*toy_slot(model, page, slot) == entry);
        } else {
            *toy_slot(model, page, slot) = entry;
            page->n_kv = (uint8_t)(slot + 1);
        }
    }
    if (ok) {
        state->ready = len;
        state->epoch = pool->epoch;
    }
    pthread_mutex_unlock(&pool->lock);
    return ok;
}

/* The first n of a fixed sequence. */
static inline const int32_t *toy_ids(int32_t n) {
    CHECK(n <= TOY_CTX);
    static int32_t ids[TOY_CTX];
    if (ids[1] == 0)
        for (int32_t i = 0; i < TOY_CTX; i++) ids[i] = (i * i + i / 3) % TOY_VOCAB;
    return ids;
}

static inline cch_state *toy_state_of(cch_model *model, int32_t n) {
    cch_error err;
    cch_state *state = toy_state(model);
    CHECK_OK(cch_state_append(state, toy_ids(n), (size_t)n, &err), err);
    return state;
}

static inline size_t toy_kv_bytes(cch_model *model) {
    cch_model_stats stats;
    cch_pool_stats(model->pool, &stats);
    return stats.kv_bytes;
}

static inline void toy_check(cch_model *model, cch_state *state) {
    cch_error err;
    CHECK_OK(cch_pool_check(model->pool, &err), err);
    if (state != NULL) CHECK_OK(cch_state_check(state, &err), err);
}

#endif
