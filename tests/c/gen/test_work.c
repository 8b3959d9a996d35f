/* Work: one pass at a time, and the prediction of the empty state. */
#include "small.h"

TEST(options_out_of_range_are_named) {
    cch_error err;
    CHECK_STATUS(cch_work_check(65537, 0, &err), CCH_E_ARGUMENT, err, "chunk_tokens is 65537, allowed: 1 to 65536");
    CHECK_STATUS(cch_work_check(0, -1, &err), CCH_E_ARGUMENT, err, "store_top_k is -1");
    CHECK_OK(cch_work_check(65536, 1000000, &err), err);
}

TEST(the_prediction_after_bos_is_made_once) {
    cch_error err;
    cch_model m;
    cch_work work;
    const float *first, *second;
    small_open(&m, 1, 10, 5);
    cch_work_init(&work, &m, 0, 0, NULL);
    CHECK_OK(cch_run_lock(&m, &err), err);
    CHECK_OK(cch_work_bos_logits(&work, &first, &err), err);
    CHECK_OK(cch_work_bos_logits(&work, &second, &err), err);
    cch_run_unlock(&m);
    CHECK(first == second);
    CHECK_OK(cch_pool_check(m.pool, &err), err);
    CHECK_EQ(m.pool->n_pages, 0); /* BOS is in no state and on no page that can be found */
    cch_work_deinit(&work);
    small_close(&m);
}

TEST(a_pass_computes_at_most_a_chunk) {
    static float logits[SMALL_VOCAB];
    cch_error err;
    cch_model m;
    cch_work work;
    size_t rows;
    small_open(&m, 1, 10, -1);
    cch_state *state = small_state(&m, small_ids(), 25);
    CHECK_OK(cch_state_index_pages(state, &err), err);
    cch_ask ask = {.state = state, .upto = 25, .out_first = 24, .dst = logits};
    cch_work_init(&work, &m, 10, 0, NULL);
    CHECK_OK(cch_run_lock(&m, &err), err);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(cch_work_pass(&work, &ask, 1, &rows, &err), err);
        CHECK_EQ(rows, i < 2 ? 10 : 5);
    }
    CHECK_OK(cch_work_pass(&work, &ask, 1, &rows, &err), err);
    CHECK_EQ(rows, 0);
    cch_run_unlock(&m);
    CHECK(small_same(&m, state, logits));
    cch_work_deinit(&work);
    cch_state_free(state);
    small_close(&m);
}

TEST(more_rows_of_logits_than_a_block_are_all_delivered) {
    static float got[100 * SMALL_VOCAB], want[100 * SMALL_VOCAB];
    cch_error err;
    cch_model m;
    small_open(&m, 1, 10, -1);
    cch_state *state = small_state(&m, small_ids(), 100);
    CHECK_OK(cch_state_logits(state, 0, 100, got, NULL, &err), err);
    small_reference(&m, small_ids(), 100, want);
    CHECK(memcmp(got, want, sizeof want) == 0);
    cch_state_free(state);
    small_close(&m);
}

CHECK_MAIN()
