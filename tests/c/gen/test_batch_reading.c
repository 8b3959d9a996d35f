/* Rows that only read, and rows whose first prediction is known. */
#include "alone.h"

enum { LONG = 24 };

TEST(a_reader_leaves_when_its_tokens_are_read_and_draws_nothing) {
    cch_model m;
    cch_error err;
    cch_step steps[3];
    size_t n;
    int32_t reader, empty, row, ready = 0, want[LONG], n_want = 0;
    cch_sampling s = sampling_of(0);
    small_open(&m, 1, 100, 0);
    n_want = generate_alone(&m, small_ids() + 2, 10, &s, 4, want);
    CHECK_EQ(n_want, 4);
    cch_batch_options o = {.max_rows = 3, .chunk_tokens = 16};
    cch_batch *batch = NULL;
    CHECK_OK(cch_batch_new(&m, &o, &batch, &err), err);
    cch_state *read = small_state(&m, small_ids(), SMALL_CTX), *none = small_state(&m, NULL, 0);
    cch_state *drawn = small_state(&m, small_ids() + 2, 10);
    CHECK_OK(cch_batch_add_reader(batch, read, &reader, &err), err);
    CHECK_OK(cch_batch_add_reader(batch, none, &empty, &err), err);
    CHECK_OK(cch_batch_add(batch, drawn, &s, 0, &row, &err), err);
    int passes = 0, tokens = 0;
    for (bool finished = false; !finished && passes < 100; passes++) {
        CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
        for (size_t i = 0; i < n; i++) {
            if (steps[i].row == row && tokens < n_want) CHECK_EQ(steps[i].sampled.token_id, want[tokens++]);
            if (steps[i].row == row) continue;
            CHECK_EQ(steps[i].finish, CCH_FINISH_READ);
            if (steps[i].row == empty) CHECK_EQ(passes, 0);
            finished |= steps[i].row == reader;
        }
        if (passes == 2) CHECK_EQ(cch_batch_read(batch, reader), 3 * 16); /* prompts go in the order they came */
        if (passes == 2) CHECK_OK(cch_batch_set_chunk(batch, 64, &err), err);
    }
    CHECK(passes > 5 && passes < 10); /* 3 passes of 16 tokens, then of 64 */
    CHECK_EQ(cch_state_len(read), SMALL_CTX);
    CHECK_OK(cch_state_ready(read, &ready, &err), err);
    CHECK_EQ(ready, SMALL_CTX);
    CHECK_EQ(cch_batch_len(batch), 1);
    CHECK_STATUS(cch_batch_set_chunk(batch, -1, &err), CCH_E_ARGUMENT, err, "-1");
    cch_batch_free(batch);
    cch_state_free(read);
    cch_state_free(none);
    cch_state_free(drawn);
    small_close(&m);
}

TEST(a_given_prediction_is_drawn_from_without_a_pass) {
    static float logits[SMALL_VOCAB];
    cch_model m;
    cch_error err;
    cch_step steps[1];
    size_t n;
    int32_t row, want[LONG];
    cch_sampling s = sampling_of(1);
    small_open(&m, 1, 100, 0);
    const int32_t n_want = generate_alone(&m, small_ids(), 37, &s, 6, want);
    cch_state *known = small_state(&m, small_ids(), 37), *state = small_state(&m, small_ids(), 37);
    CHECK_OK(cch_eval(&m, &known, 1, NULL, logits, &err), err);
    const long long forwards = atomic_load(&m.forwards);
    cch_batch *batch = NULL;
    CHECK_OK(cch_batch_new(&m, NULL, &batch, &err), err);
    CHECK_OK(cch_batch_add(batch, state, &s, 0, &row, &err), err);
    CHECK_STATUS(cch_batch_give(batch, row + 1, logits, &err), CCH_E_ARGUMENT, err, "waits for its first token");
    CHECK_OK(cch_batch_give(batch, row, logits, &err), err);
    for (int32_t i = 0; i < n_want; i++) {
        CHECK_OK(cch_batch_step(batch, steps, &n, &err), err);
        CHECK_EQ(n, 1);
        CHECK_EQ(steps[0].sampled.token_id, want[i]);
        CHECK_EQ(atomic_load(&m.forwards) - forwards, i);
        CHECK_STATUS(cch_batch_give(batch, row, logits, &err), CCH_E_ARGUMENT, err, "waits for its first token");
    }
    cch_batch_free(batch);
    cch_state_free(known);
    cch_state_free(state);
    small_close(&m);
}

CHECK_MAIN()
