/* Guesses are what stood behind the last tokens before; how many are made follows how good they were. */
#include "check.h"
#include "gen/lookup.h"

enum { MOST = 2000 };

/* Shows the lookup history [n], token by token from `drawn` on. */
static void see(cch_lookup *lookup, const int32_t *history, int32_t n, int32_t drawn) {
    cch_error err;
    for (int32_t end = drawn; end <= n; end++) {
        CHECK_OK(cch_lookup_reserve(lookup, history, end, &err), err);
        cch_lookup_see(lookup, history, end, drawn);
    }
}

TEST(the_latest_place_of_the_longest_match_is_the_source) {
    const int32_t history[] = {1, 2, 3, 10, 11, 7, 2, 3, 20, 21, 1, 2, 3};
    int32_t guess[3];
    cch_lookup lookup = {0};
    see(&lookup, history, 13, 13);
    CHECK_EQ(lookup.source, 3); /* behind 1 2 3, not behind the later 2 3 */
    cch_lookup_guess(&lookup, history, 3, guess);
    CHECK(guess[0] == 10 && guess[1] == 11 && guess[2] == 7);
    cch_lookup_deinit(&lookup);
    see(&lookup, history + 1, 12, 12); /* without the first 1 */
    CHECK_EQ(lookup.source, 7);
    cch_lookup_deinit(&lookup);
    see(&lookup, history, 10, 10);
    CHECK_EQ(lookup.source, 0);
    cch_lookup_deinit(&lookup);
}

TEST(a_guess_runs_into_itself) {
    const int32_t history[] = {5, 6, 5, 6, 5, 6};
    int32_t guess[7];
    cch_lookup lookup = {0};
    see(&lookup, history, 6, 6);
    cch_lookup_guess(&lookup, history, 7, guess);
    for (int i = 0; i < 7; i++) CHECK_EQ(guess[i], 5 + i % 2);
    cch_lookup_deinit(&lookup);
}

TEST(its_source_moves_on_while_it_is_right) {
    const int32_t history[] = {1, 2, 3, 4, 5, 9, 8, 1, 2, 3, 4, 6, 7, 7};
    cch_lookup lookup = {0};
    cch_error err;
    const int32_t source[] = {2, 3, 4, 0}; /* after the second 1 2, then 3, 4, and the 6 that it did not guess */
    CHECK_OK(cch_lookup_reserve(&lookup, history, 14, &err), err);
    for (int32_t end = 9; end <= 12; end++) {
        cch_lookup_see(&lookup, history, end, 9);
        CHECK_EQ(lookup.source, source[end - 9]);
    }
    cch_lookup_deinit(&lookup);
}

TEST(a_table_that_grows_keeps_what_it_has_seen) {
    static int32_t history[MOST];
    int32_t guess[4];
    cch_lookup lookup = {0};
    for (int32_t i = 0; i < MOST; i++) history[i] = i < MOST / 2 ? 1000 + i : 1000 + i - MOST / 2;
    see(&lookup, history, MOST / 2 + 3, 1);
    CHECK_EQ(lookup.source, 3);
    cch_lookup_guess(&lookup, history, 4, guess);
    CHECK(memcmp(guess, history + 3, sizeof guess) == 0);
    see(&lookup, history, MOST, MOST / 2 + 4);
    CHECK(lookup.rate > CCH_LOOKUP_ONE * 9 / 10);
    cch_lookup_deinit(&lookup);
}

TEST(few_guesses_are_made_where_they_were_wrong_or_a_pass_is_full) {
    cch_lookup lookup = {.source = 5, .rate = CCH_LOOKUP_ONE};
    CHECK_EQ(cch_lookup_length(&lookup, 1, 12), 11);
    CHECK_EQ(cch_lookup_length(&lookup, 1, 512), CCH_LOOKUP_MOST);
    CHECK_EQ(cch_lookup_length(&lookup, 1, 4), 3);
    CHECK_EQ(cch_lookup_length(&lookup, 3, 12), 3);
    CHECK_EQ(cch_lookup_length(&lookup, 7, 12), 0);
    CHECK_EQ(cch_lookup_length(&lookup, 200, 12), 0);
    lookup.rate = CCH_LOOKUP_ONE / 2;
    CHECK_EQ(cch_lookup_length(&lookup, 1, 12), 3); /* 1/2, 1/4 and 1/8 are more than 1/12 */
    CHECK_EQ(cch_lookup_length(&lookup, 1, 6), 2);
    CHECK_EQ(cch_lookup_length(&lookup, 4, 12), 1); /* 1/2 is more than 4/12, 1/4 is not */
    lookup.rate = CCH_LOOKUP_ONE / 13;
    CHECK_EQ(cch_lookup_length(&lookup, 1, 12), 0);
    lookup = (cch_lookup){.rate = CCH_LOOKUP_ONE};
    CHECK_EQ(cch_lookup_length(&lookup, 1, 12), 0); /* nothing to guess from */
}

TEST(text_without_repeats_and_repeats_that_lie_earn_no_guesses) {
    static int32_t history[MOST];
    cch_lookup lookup = {0};
    for (int32_t i = 0; i < MOST; i++) history[i] = i;
    see(&lookup, history, MOST, 1);
    CHECK_EQ(cch_lookup_length(&lookup, 1, 12), 0);
    cch_lookup_deinit(&lookup);
    for (int32_t i = 0; i < MOST; i++) history[i] = i % 3 == 2 ? 10 + i : i % 3; /* 0 1 x, 0 1 y, ... */
    see(&lookup, history, MOST, 1);
    CHECK_EQ(lookup.source, MOST - 3);
    CHECK_EQ(cch_lookup_length(&lookup, 1, 12), 0);
    cch_lookup_deinit(&lookup);
}

static cch_status fill(void) {
    const int32_t history[] = {5, 6, 5, 6, 5, 6};
    cch_lookup lookup = {0};
    cch_status status = cch_lookup_reserve(&lookup, history, 6, NULL);
    if (status == CCH_OK) cch_lookup_see(&lookup, history, 6, 6);
    if (status == CCH_OK) status = cch_lookup_reserve(&lookup, history, MOST, NULL);
    if (lookup.n_seen > 0) CHECK_EQ(lookup.source, 4);
    cch_lookup_deinit(&lookup);
    return status;
}

TEST(a_failing_allocation_leaves_it_as_it_was) { CHECK_OOM(fill()); }

CHECK_MAIN()
