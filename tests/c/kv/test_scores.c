/* Scores of pages and states: added once, cut and copied with the tokens they speak of. */
#include "toy.h"

static const int32_t ids[3] = {4, 2, 6};
static const float logits[3] = {3.0f, 1.0f, 0.5f};

TEST(an_entry_is_added_once_and_a_longer_list_replaces_a_shorter) {
    cch_error err;
    cch_page page = {.n_tokens = 16};
    float logprob;
    CHECK_OK(cch_scores_reserve(&page, 2, &err), err);
    cch_scores_set_logprob(&page, 5, -1.0f);
    cch_scores_set_logprob(&page, 5, -2.0f);
    CHECK(page.scores->logprob[5] == -1.0f);
    CHECK(cch_scores_has_logprob(&page, 5) && !cch_scores_has_logprob(&page, 4));
    cch_scores_set_top(&page, 5, 0.25, 2, ids, logits);
    CHECK(cch_scores_has_top(&page, 5, 2) && !cch_scores_has_top(&page, 5, 3));
    CHECK_OK(cch_scores_reserve(&page, 3, &err), err);
    CHECK(cch_scores_has_top(&page, 5, 2) && !cch_scores_has_top(&page, 5, 3));
    CHECK(page.scores->logprob[5] == -1.0f && page.scores->lse[5] == 3.25);
    cch_scores_set_top(&page, 5, 0.25, 3, ids, logits);
    CHECK(cch_scores_has_top(&page, 5, 3));
    CHECK(cch_scores_next_logprob(&page, 5, 2, &logprob) && logprob == 1.0f - 3.0f - 0.25f);
    CHECK(!cch_scores_next_logprob(&page, 5, 3, &logprob));
    cch_scores_set_top(&page, 5, 0.5, 1, ids + 1, logits + 1);
    CHECK(page.scores->top_ids[5 * 3] == 4);
    cch_scores_free(page.scores);
}

TEST(restored_lists_have_no_sum_until_one_is_computed) {
    cch_error err;
    cch_page page = {.n_tokens = 16};
    float logprob;
    CHECK_OK(cch_scores_reserve(&page, 3, &err), err);
    cch_scores_set_top(&page, 1, (double)NAN, 3, ids, logits);
    CHECK(cch_scores_has_top(&page, 1, 3) && isnan(page.scores->lse[1]));
    CHECK(!cch_scores_next_logprob(&page, 1, 2, &logprob));
    cch_scores_set_top(&page, 1, 0.25, 3, ids, logits);
    CHECK(page.scores->lse[1] == 3.25);
    CHECK(cch_scores_next_logprob(&page, 1, 2, &logprob) && logprob == 1.0f - 3.0f - 0.25f);
    cch_scores_set_top(&page, 2, 0.25, 2, ids, logits);
    cch_scores_set_top(&page, 2, (double)NAN, 3, ids, logits); /* longer, but not computed here */
    CHECK(cch_scores_has_top(&page, 2, 3) && page.scores->lse[2] == 3.25);
    cch_scores_free(page.scores);
}

TEST(cutting_and_copying_keep_what_comes_before) {
    cch_error err;
    cch_page page = {.n_tokens = 16}, copy = {.n_tokens = 16};
    CHECK_OK(cch_scores_reserve(&page, 3, &err), err);
    CHECK_OK(cch_scores_reserve(&copy, 2, &err), err);
    for (int i = 0; i < 16; i++) {
        cch_scores_set_logprob(&page, i, (float)-i);
        cch_scores_set_top(&page, i, 0.25, 3, ids, logits);
    }
    cch_scores_copy(&copy, &page, 9);
    CHECK(cch_scores_has_logprob(&copy, 8) && !cch_scores_has_logprob(&copy, 9));
    CHECK(cch_scores_has_top(&copy, 8, 2) && !cch_scores_has_top(&copy, 9, 0));
    CHECK(copy.scores->top_ids[8 * 2 + 1] == 2 && copy.scores->logprob[8] == -8.0f);
    cch_scores_cut(&page, 4);
    CHECK(cch_scores_has_logprob(&page, 3) && !cch_scores_has_logprob(&page, 4));
    CHECK(cch_scores_has_top(&page, 3, 3) && !cch_scores_has_top(&page, 4, 1));
    cch_scores_free(page.scores);
    cch_scores_free(copy.scores);
}

TEST(a_state_gives_back_what_was_restored_and_marks_what_is_not_known) {
    float logprob[40], top[80], got[40], got_top[120];
    int32_t top_ids[80], got_ids[120];
    double lse[40], got_lse[40];
    cch_error err;
    cch_model model;
    toy_open(&model, 10);
    cch_state *state = toy_state_of(&model, 40);
    for (int i = 0; i < 40; i++) {
        logprob[i] = i % 5 == 0 ? NAN : -0.5f * (float)i;
        lse[i] = 1.0 + 0.1 * i;
        for (int j = 0; j < 2; j++) {
            top[2 * i + j] = (float)(i - j);
            top_ids[2 * i + j] = i % 7 == 0 ? -1 : (i + j) % TOY_VOCAB;
        }
    }
    CHECK_OK(cch_state_restore_scores(state, 0, 40, logprob, 2, top_ids, top, &err), err);
    CHECK_OK(cch_state_restore_lse(state, 0, 40, lse, &err), err);
    for (int i = 0; i < 40; i++) got_lse[i] = -1.0;
    CHECK_OK(cch_state_restore_lse(state, 0, 40, got_lse, &err), err); /* what is known stays */
    CHECK_OK(cch_state_scores(state, 3, 37, got, 3, got_ids, got_top, &err), err);
    CHECK_OK(cch_state_lse(state, 0, 40, got_lse, &err), err);
    for (int i = 3; i < 40; i++) {
        CHECK(i % 5 == 0 ? isnan(got[i - 3]) : got[i - 3] == logprob[i]);
        CHECK(i % 7 == 0 ? isnan(got_lse[i]) : got_lse[i] == lse[i]);
        for (int j = 0; j < 2; j++) {
            CHECK_EQ(got_ids[3 * (i - 3) + j], top_ids[2 * i + j]);
            CHECK(i % 7 == 0 || got_top[3 * (i - 3) + j] == top[2 * i + j]);
        }
        CHECK_EQ(got_ids[3 * (i - 3) + 2], -1);
    }
    toy_check(&model, state);
    CHECK_STATUS(cch_state_scores(state, 39, 2, got, 0, NULL, NULL, &err), CCH_E_ARGUMENT, err, "[39, 39 + 2)");
    CHECK_STATUS(cch_state_scores(state, 0, 1, got, TOY_VOCAB + 1, got_ids, got_top, &err), CCH_E_ARGUMENT, err,
                 "k is 8");
    CHECK_STATUS(cch_state_restore_scores(state, 0, 1, got, -1, got_ids, got_top, &err), CCH_E_ARGUMENT, err,
                 "k is -1");
    cch_state_free(state);
    toy_close(&model);
}

TEST(restored_ids_outside_the_vocabulary_end_the_list) {
    const int32_t wild[3] = {1, TOY_VOCAB, 2};
    int32_t got_ids[3];
    float got, top[3];
    cch_error err;
    cch_model model;
    toy_open(&model, 10);
    cch_state *state = toy_state_of(&model, 1);
    CHECK_OK(cch_state_restore_scores(state, 0, 1, logits, 3, wild, logits, &err), err);
    CHECK_OK(cch_state_scores(state, 0, 1, &got, 3, got_ids, top, &err), err);
    CHECK_EQ(got_ids[0], 1);
    CHECK_EQ(got_ids[1], -1);
    CHECK_EQ(got_ids[2], -1);
    cch_state_free(state);
    toy_close(&model);
}

CHECK_MAIN()
