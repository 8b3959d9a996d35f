/* Plans by themselves: which rows, in which spans, with which outputs. */
#include "small.h"

static cch_ask ask_for(cch_state *state, int32_t out_first) {
    cch_error err;
    CHECK_OK(cch_state_index_pages(state, &err), err);
    return (cch_ask){.state = state, .upto = cch_state_len(state), .out_first = out_first};
}

static void check_span(const cch_plan *plan, size_t i, int32_t first, int32_t n, bool keep_kv, int32_t n_out) {
    CHECK(i < plan->n_spans);
    if (i >= plan->n_spans) return;
    CHECK_EQ(plan->spans[i].first, first);
    CHECK_EQ(plan->spans[i].n, n);
    CHECK_EQ(plan->spans[i].keep_kv, keep_kv);
    CHECK_EQ(plan->spans[i].n_out, n_out);
}

TEST(a_prompt_is_cut_into_passes_and_ends_with_its_last_hidden_state) {
    cch_error err;
    cch_model m;
    cch_plan plan = {0};
    small_open(&m, 1, 100, -1);
    cch_state *state = small_state(&m, small_ids(), 50);
    cch_ask ask = ask_for(state, 49);
    for (int32_t at = 0; at < 50; at += 20) {
        CHECK_OK(cch_plan_make(&plan, m.pool, &ask, 1, 20, 0, &err), err);
        CHECK_EQ(plan.n_spans, 1);
        check_span(&plan, 0, at, at < 40 ? 20 : 10, true, at < 40 ? 0 : 1);
        CHECK_EQ(ask.reached, at < 40 ? at + 20 : 50);
        cch_plan_commit(&plan, m.pool, &ask, 1);
    }
    CHECK_OK(cch_plan_make(&plan, m.pool, &ask, 1, 20, 0, &err), err);
    CHECK_EQ(plan.n_spans, 0);
    CHECK(!plan.lost);
    ask = ask_for(state, 30); /* ready: computed for their hidden states alone */
    CHECK_OK(cch_plan_make(&plan, m.pool, &ask, 1, 15, 0, &err), err);
    check_span(&plan, 0, 30, 15, false, 15);
    CHECK_EQ(ask.reached, 45);
    cch_plan_deinit(&plan);
    cch_state_free(state);
    small_close(&m);
}

TEST(what_several_states_need_has_one_row) {
    cch_error err;
    cch_model m;
    cch_plan plan = {0};
    small_open(&m, 1, 100, -1);
    cch_state *a = small_state(&m, small_ids(), 20), *b = NULL, *c = NULL;
    CHECK_OK(cch_state_fork(a, &b, &err), err);
    CHECK_OK(cch_state_fork(a, &c, &err), err);
    CHECK_OK(cch_state_truncate(b, 18, &err), err);
    cch_ask asks[3] = {ask_for(b, 17), ask_for(a, 19), ask_for(c, 19)};
    CHECK_EQ(cch_plan_missing(m.pool, asks, 3), 20);
    CHECK_OK(cch_plan_make(&plan, m.pool, asks, 3, 100, 0, &err), err);
    CHECK_EQ(plan.n_rows, 20);
    CHECK_EQ(plan.n_spans, 2);
    check_span(&plan, 0, 0, 18, true, 1);
    check_span(&plan, 1, 18, 2, true, 1);
    CHECK_EQ(plan.n_deliveries, 3);
    CHECK_EQ(plan.deliveries[1].row, 1);
    CHECK_EQ(plan.deliveries[2].row, 1); /* c takes a's */
    CHECK(plan.deliveries[2].ask == &asks[2] && plan.deliveries[2].pos == 19);
    cch_plan_deinit(&plan);
    cch_state_free(a);
    cch_state_free(b);
    cch_state_free(c);
    small_close(&m);
}

TEST(entries_that_are_only_to_be_copied_are_not_missing) {
    cch_error err;
    cch_model m;
    small_open(&m, 1, 100, -1);
    cch_state *a = small_state(&m, small_ids(), 20), *b = NULL;
    CHECK_OK(cch_eval(&m, &a, 1, NULL, NULL, &err), err);
    CHECK_OK(cch_state_fork(a, &b, &err), err);
    CHECK_OK(cch_state_append(b, small_ids(), 2, &err), err);
    CHECK_OK(cch_state_append(a, small_ids() + 1, 1, &err), err);
    cch_ask asks[2] = {ask_for(b, 21), ask_for(a, 20)};
    CHECK_EQ(cch_plan_missing(m.pool, asks, 2), 2 + 1);
    cch_state_free(a);
    cch_state_free(b);
    small_close(&m);
}

TEST(asks_fit_the_budget_in_order_with_shared_pages_counted_once) {
    cch_error err;
    cch_model m;
    size_t bytes;
    small_open(&m, 1, 4, -1);
    cch_state *a = small_state(&m, small_ids(), 40), *b = NULL, *c = small_state(&m, small_ids() + 1, 20);
    CHECK_OK(cch_state_fork(a, &b, &err), err);
    cch_ask asks[3] = {ask_for(a, 40), ask_for(b, 40), ask_for(c, 20)};
    CHECK_EQ(cch_plan_fit(m.pool, asks, 3, &bytes), 2);
    CHECK_EQ(bytes, 5 * m.pool->page_bytes);
    cch_model_set_budget(&m, 5 * m.pool->page_bytes, false);
    CHECK_EQ(cch_plan_fit(m.pool, asks, 3, &bytes), 3);
    cch_state_free(a);
    cch_state_free(b);
    cch_state_free(c);
    small_close(&m);
}

TEST(work_that_was_evicted_is_noticed) {
    cch_error err;
    cch_model m;
    cch_plan plan = {0};
    small_open(&m, 1, 100, -1);
    cch_state *state = small_state(&m, small_ids(), 50);
    cch_ask ask = ask_for(state, 50);
    CHECK_OK(cch_plan_make(&plan, m.pool, &ask, 1, 40, 0, &err), err);
    cch_plan_commit(&plan, m.pool, &ask, 1);
    CHECK_OK(cch_state_evict(state, &err), err);
    CHECK_OK(cch_plan_make(&plan, m.pool, &ask, 1, 30, 0, &err), err);
    check_span(&plan, 0, 0, 30, true, 0);
    CHECK(plan.lost);
    cch_plan_deinit(&plan);
    cch_state_free(state);
    small_close(&m);
}

TEST(only_positions_without_scores_get_hidden_states) {
    float logprob[16] = {0}, top[32] = {0};
    int32_t ids[32];
    cch_error err;
    cch_model m;
    cch_plan plan = {0};
    small_open(&m, 1, 100, -1);
    cch_state *state = small_state(&m, small_ids(), 40);
    for (int i = 0; i < 32; i++) ids[i] = i % 2;
    CHECK_OK(cch_state_restore_scores(state, 16, 16, logprob, 2, ids, top, &err), err);
    cch_ask ask = ask_for(state, 40);
    CHECK_OK(cch_plan_make(&plan, m.pool, &ask, 1, 100, 2, &err), err);
    CHECK_EQ(plan.n_spans, 2);
    check_span(&plan, 0, 0, 16, true, 16);
    check_span(&plan, 1, 16, 24, true, 9); /* position 31 for the logprob of its successor */
    CHECK_EQ(plan.n_deliveries, 25);
    CHECK_EQ(plan.deliveries[16].pos, 31);
    cch_plan_deinit(&plan);
    cch_state_free(state);
    small_close(&m);
}

CHECK_MAIN()
