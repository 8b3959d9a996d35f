/* Blocks and pages: who is evicted, what is given back, who takes over. */
#include "toy.h"

TEST(evicted_pages_come_back_and_cached_pages_go_first) {
    cch_error err;
    cch_model model;
    cch_model_stats stats;
    int32_t ready;
    toy_open(&model, 8);
    cch_state *a = toy_state_of(&model, 64), *b = toy_state(&model);
    int32_t ids[64];
    for (int i = 0; i < 64; i++) ids[i] = 6 - toy_ids(64)[i];
    CHECK_OK(cch_state_append(b, ids, 64, &err), err);
    CHECK(toy_eval(&model, a) && toy_eval(&model, b));
    cch_state_free(b); /* four cached pages, younger than a's */
    cch_state *c = toy_state(&model);
    CHECK_OK(cch_state_append(c, ids + 1, 63, &err), err);
    CHECK(toy_eval(&model, c));
    CHECK_OK(cch_state_ready(a, &ready, &err), err);
    CHECK_EQ(ready, 64);
    cch_state *d = toy_state(&model);
    CHECK_OK(cch_state_append(d, ids + 2, 30, &err), err);
    CHECK(toy_eval(&model, d));
    CHECK_OK(cch_state_ready(a, &ready, &err), err);
    CHECK_EQ(ready, 0); /* its first two pages, least recently used */
    cch_pool_stats(model.pool, &stats);
    CHECK_EQ(stats.kv_bytes, 8 * model.pool->page_bytes);
    CHECK_EQ(stats.pages_evicted, 4 + 2);
    CHECK(toy_eval(&model, a));
    cch_state *e = toy_state_of(&model, 130);
    CHECK(!toy_eval(&model, e)); /* nine pages */
    toy_check(&model, e);
    cch_state_free(a);
    cch_state_free(c);
    cch_state_free(d);
    cch_state_free(e);
    toy_close(&model);
}

TEST(of_live_pages_the_least_recently_used_lose_their_blocks) {
    cch_error err;
    cch_model model;
    cch_model_stats stats;
    int32_t ready, ids[32];
    toy_open(&model, 4);
    cch_state *a = toy_state_of(&model, 32), *b = toy_state(&model), *c = NULL;
    for (int i = 0; i < 32; i++) ids[i] = 6 - toy_ids(32)[i];
    CHECK_OK(cch_state_append(b, ids, 32, &err), err);
    CHECK(toy_eval(&model, a) && toy_eval(&model, b) && toy_eval(&model, a));
    CHECK_OK(cch_state_fork(a, &c, &err), err);
    cch_pool_stats(model.pool, &stats);
    CHECK_EQ(stats.pages_shared, 1); /* the last page of a and its fork */
    cch_state_free(c);
    c = toy_state(&model);
    CHECK_OK(cch_state_append(c, ids + 1, 31, &err), err);
    CHECK(toy_eval(&model, c));
    CHECK_OK(cch_state_ready(b, &ready, &err), err);
    CHECK_EQ(ready, 0);
    CHECK_OK(cch_state_ready(a, &ready, &err), err);
    CHECK_EQ(ready, 32);
    cch_state_free(a);
    cch_state_free(b);
    cch_state_free(c);
    toy_close(&model);
}

TEST(memory_is_given_back_when_the_budget_shrinks) {
    cch_model model;
    toy_open(&model, 100);
    size_t empty = cch_live_bytes();
    cch_state *a = toy_state_of(&model, 640);
    CHECK(toy_eval(&model, a));
    cch_state_free(a);
    CHECK(cch_live_bytes() >= empty + 40 * model.pool->page_bytes);
    cch_pool_set_budget(model.pool, 100 * model.pool->page_bytes, true);
    CHECK_EQ(cch_live_bytes(), empty);
    CHECK_EQ(toy_kv_bytes(&model), 0);
    toy_check(&model, NULL);
    toy_close(&model);
}

TEST(a_block_that_was_spare_has_no_trace_of_it) {
    cch_error err;
    cch_model model;
    toy_open(&model, 10);
    cch_state *a = toy_state_of(&model, 32);
    CHECK(toy_eval(&model, a));
    CHECK_OK(cch_state_drop_kv(a, &err), err); /* two spare blocks, one names the other */
    CHECK(toy_eval(&model, a));
    for (int i = 0; i < 2; i++) /* the toy writes further behind */
        for (int j = 0; j < 16; j++) CHECK(a->pages[i]->kv[j] == 0.0f);
    cch_state_free(a);
    toy_close(&model);
}

TEST(a_hundred_thousand_pages_are_released_without_recursion) {
    enum { N = 1600000 };
    cch_error err;
    cch_model model;
    cch_state *state = NULL;
    int32_t *ids = cch_zalloc(N, sizeof *ids);
    toy_open(&model, 10);
    CHECK_OK(cch_state_make(&model, model.pool, TOY_VOCAB, N, &state, &err), err);
    CHECK_OK(cch_state_append(state, ids, N, &err), err);
    CHECK_EQ(cch_state_len(state), N);
    cch_state_free(state);
    cch_free(ids);
    toy_check(&model, NULL);
    toy_close(&model);
}

TEST(the_last_borrower_takes_the_block_over) {
    cch_error err;
    cch_model model;
    toy_open(&model, 1000);
    cch_state *a = toy_state_of(&model, 21), *b = NULL;
    CHECK(toy_eval(&model, a));
    size_t kv = toy_kv_bytes(&model);
    CHECK_OK(cch_state_fork(a, &b, &err), err);
    CHECK_OK(cch_state_append(b, toy_ids(1), 1, &err), err);
    cch_state_free(a);
    toy_check(&model, b);
    CHECK(toy_eval(&model, b));
    CHECK_EQ(toy_kv_bytes(&model), kv);
    toy_check(&model, b);
    cch_state_free(b);
    toy_close(&model);
}

TEST(a_pool_needs_a_geometry) {
    cch_error err;
    cch_pool *pool = NULL;
    CHECK_STATUS(cch_pool_new(cch_page_geometry_make(0, 1, 4, false), 1, &pool, &err), CCH_E_ARGUMENT, err, "0 layers");
    CHECK(pool == NULL);
}

static cch_status open_and_close(void) {
    cch_pool *pool = NULL;
    cch_status status = cch_pool_new(cch_page_geometry_make(1, 1, 4, false), 1, &pool, NULL);
    cch_pool_free(pool);
    return status;
}

TEST(a_pool_that_cannot_have_memory_leaves_nothing) { CHECK_OOM(open_and_close()); }

TEST(a_geometry_pads_values_to_whole_lanes) {
    cch_page_geometry g = cch_page_geometry_make(3, 2, 20, false);
    CHECK_EQ(g.ldv, 32);
    CHECK_EQ(g.head_floats, 16 * 20 + 16 * 32);
    CHECK_EQ(g.page_floats, 6 * g.head_floats);
    CHECK_EQ(cch_page_k(&g, NULL, 2, 1) - cch_page_k(&g, NULL, 0, 0), 5 * (long)g.head_floats);
    CHECK_EQ(cch_page_v(&g, NULL, 2, 1) - cch_page_k(&g, NULL, 2, 1), 16 * 20);
}

TEST(a_block_of_bf16_takes_half_the_bytes) {
    cch_page_geometry whole = cch_page_geometry_make(3, 2, 5, false), g = cch_page_geometry_make(3, 2, 5, true);
    const float numbers[] = {cch_float_from_bits(0xC0000000 | 0x3FC0), 0.0f}; /* 1.5 in the lower half, -2 above */
    CHECK_EQ(2 * g.page_floats, whole.page_floats);
    CHECK_EQ(2 * g.head_floats, whole.head_floats);
    CHECK_EQ(cch_page_v(&g, NULL, 2, 1) - cch_page_k(&g, NULL, 2, 1), 16 * 5 / 2);
    CHECK(cch_page_number(&g, numbers, 0) == 1.5f && cch_page_number(&g, numbers, 1) == -2.0f);
    CHECK(cch_page_number(&whole, numbers, 1) == 0.0f);
}

TEST(a_copy_that_finds_no_room_is_computed_again) {
    cch_error err;
    cch_model model;
    toy_open(&model, 2);
    cch_state *a = toy_state_of(&model, 21), *b = NULL;
    CHECK(toy_eval(&model, a));
    CHECK_OK(cch_state_fork(a, &b, &err), err);
    CHECK_OK(cch_state_append(b, toy_ids(1), 1, &err), err);
    CHECK(toy_eval(&model, b)); /* the shared page and b's copy: a's tail loses its block */
    toy_check(&model, b);
    CHECK(toy_eval(&model, a));
    toy_check(&model, a);
    cch_state_free(a);
    cch_state_free(b);
    toy_close(&model);
}

TEST(a_copy_that_finds_no_memory_is_not_taken_for_ready) {
    cch_error err;
    cch_model model;
    int32_t ready;
    toy_open(&model, 100);
    cch_state *a = toy_state_of(&model, 21), *b = NULL;
    CHECK(toy_eval(&model, a));
    CHECK_OK(cch_state_fork(a, &b, &err), err);
    CHECK_OK(cch_state_append(b, toy_ids(1), 1, &err), err);
    CHECK_OK(cch_state_ready(b, &ready, &err), err);
    CHECK_EQ(ready, 21);
    pthread_mutex_lock(&model.pool->lock);
    cch_fail_alloc(1);
    cch_page_resolve(model.pool, b->tail);
    cch_fail_alloc(0);
    pthread_mutex_unlock(&model.pool->lock);
    toy_check(&model, b);
    CHECK_OK(cch_state_ready(b, &ready, &err), err);
    CHECK_EQ(ready, 16);
    CHECK(toy_eval(&model, b));
    cch_state_free(a);
    cch_state_free(b);
    toy_close(&model);
}

CHECK_MAIN()
