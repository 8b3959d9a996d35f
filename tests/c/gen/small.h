/* small - the random model of tests/c/model/toy.h, opened for evaluation, and a straight-line run to compare with: all
 * positions of a sequence in one pass on pages of its own.
 */
#ifndef CCH_TESTS_GEN_SMALL_H
#define CCH_TESTS_GEN_SMALL_H

#include "gen/eval.h"
#include "model/toy.h"

enum { SMALL_VOCAB = 53, SMALL_CTX = 256 };

static inline void small_open(cch_model *m, int threads, size_t budget_pages, int32_t bos) {
    cch_config config = toy_llama();
    config.bos_token_id = bos;
    toy_open(m, config, NULL, threads);
    CHECK_EQ(cch_turns_init(&m->run_lock, NULL), CCH_OK);
    atomic_init(&m->refs, 1);
    cch_pool_set_budget(m->pool, budget_pages * m->pool->page_bytes, false);
}

static inline void small_close(cch_model *m) {
    cch_model_stats stats = {0};
    cch_pool_stats(m->pool, &stats);
    CHECK_EQ(stats.pages_live, 0);
    CHECK_EQ(atomic_load(&m->refs), 1);
    cch_free(m->bos_logits);
    cch_turns_deinit(&m->run_lock);
    toy_close(m);
}

static inline cch_state *small_state(cch_model *m, const int32_t *ids, int32_t n) {
    cch_error err;
    cch_state *state = NULL;
    CHECK_OK(cch_state_new(m, &state, &err), err);
    CHECK_OK(cch_state_append(state, ids, (size_t)n, &err), err);
    return state;
}

/* logits [n, vocab] of every position. */
static inline void small_reference(cch_model *m, const int32_t *ids, int32_t n, float *logits) {
    cch_page pages[SMALL_CTX / CCH_PAGE_TOKENS] = {0}, *table[SMALL_CTX / CCH_PAGE_TOKENS];
    size_t width = (size_t)m->config.hidden_size, ld = (SMALL_VOCAB + 15) / 16 * 16;
    float *hidden = cch_alloc((size_t)n, width * sizeof *hidden), *block = cch_alloc((size_t)n, ld * sizeof *block);
    for (int32_t i = 0; i < cch_pages_of(n); i++) {
        table[i] = &pages[i];
        pages[i].kv = cch_zalloc(m->pool->page_bytes, 1);
    }
    for (int32_t i = 0; i < n; i++) pages[i / CCH_PAGE_TOKENS].tokens[i % CCH_PAGE_TOKENS] = ids[i];
    cch_span span = {table, 0, n, true, n, NULL};
    CHECK_EQ(cch_run_lock(m, NULL), CCH_OK);
    CHECK_EQ(cch_forward(m, &span, 1, hidden, NULL, NULL, NULL), CCH_OK);
    CHECK_EQ(cch_output_logits(m, hidden, (size_t)n, block, NULL), CCH_OK);
    cch_run_unlock(m);
    for (int32_t i = 0; i < n; i++)
        memcpy(logits + i * SMALL_VOCAB, block + (size_t)i * ld, SMALL_VOCAB * sizeof *logits);
    for (int32_t i = 0; i < cch_pages_of(n); i++) cch_free(pages[i].kv);
    cch_free(hidden);
    cch_free(block);
}

/* The logits of one state against the straight-line run. */
static inline bool small_same(cch_model *m, cch_state *state, const float *logits) {
    static _Thread_local float want[SMALL_CTX * SMALL_VOCAB];
    static _Thread_local int32_t ids[SMALL_CTX];
    cch_error err;
    int32_t n = cch_state_len(state);
    CHECK_OK(cch_state_tokens(state, 0, n, ids, &err), err);
    small_reference(m, ids, n, want);
    return memcmp(logits, want + (n - 1) * SMALL_VOCAB, SMALL_VOCAB * sizeof *logits) == 0;
}

static inline const int32_t *small_ids(void) {
    static int32_t ids[SMALL_CTX];
    if (ids[1] == 0)
        for (int32_t i = 0; i < SMALL_CTX; i++) ids[i] = (i * i * 7 + i * 3 + 1) % SMALL_VOCAB;
    return ids;
}

#endif
