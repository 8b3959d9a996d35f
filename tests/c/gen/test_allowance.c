/* What guesses may cost is bounded by the passes there were, and what they bring is added. */
#include "check.h"
#include "gen/allowance.h"

enum { PLAIN = 1000, PASSES = 10000 };

/* Passes of n_rows, with guesses whenever they are allowed, which make one take `dear` instead of PLAIN and of which
 * `right` of a hundred are right; returns the time lost in thousandths, negative: won, and how many had guesses. */
static int64_t lost(int32_t n_rows, int64_t dear, int right, int *n_guessing) {
    cch_allowance allowance = {0};
    int64_t cost = 0;
    *n_guessing = 0;
    for (int i = 0; i < PASSES; i++) {
        const bool guesses = cch_allowance_left(&allowance, n_rows);
        cch_allowance_pass(&allowance, n_rows, guesses, guesses ? dear : PLAIN);
        if (!guesses) continue;
        cost += dear - PLAIN;
        if ((*n_guessing)++ * right % 100 >= right) continue;
        cch_allowance_right(&allowance, n_rows);
        cost -= PLAIN / n_rows;
    }
    return cost * 1000 / (PASSES * PLAIN);
}

TEST(wrong_guesses_cost_at_most_a_small_part_of_all_passes) {
    const int64_t dear[] = {PLAIN + PLAIN / 10, PLAIN + PLAIN / 2, 2 * PLAIN};
    int before = PASSES, n;
    for (int i = 0; i < 3; i++) {
        for (int32_t n_rows = 1; n_rows <= CCH_ALLOWANCE_ROWS; n_rows++) CHECK(lost(n_rows, dear[i], 0, &n) <= 17);
        CHECK(n > 0 && n < before); /* the dearer, the rarer */
        before = n;
    }
    CHECK(lost(4, 2 * PLAIN, 50, &n) <= 17);
    CHECK(lost(1, PLAIN + PLAIN / 10, 5, &n) <= 17);
}

TEST(guesses_that_pay_are_never_stopped) {
    int n;
    CHECK(lost(1, PLAIN + PLAIN / 10, 50, &n) < -350);
    CHECK_EQ(n, PASSES - 1); /* the first pass shows what a plain one takes */
    CHECK(lost(4, PLAIN + PLAIN / 10, 50, &n) < 0);
    CHECK_EQ(n, PASSES - 1);
    lost(1, PLAIN, 0, &n); /* wrong, but for nothing */
    CHECK_EQ(n, PASSES - 1);
}

TEST(gains_of_long_ago_pay_for_few_losses) {
    cch_allowance allowance = {0};
    int wasted = 0;
    cch_allowance_pass(&allowance, 1, false, PLAIN);
    for (int i = 0; i < PASSES; i++) cch_allowance_right(&allowance, 1);
    for (; cch_allowance_left(&allowance, 1); wasted++) cch_allowance_pass(&allowance, 1, true, 2 * PLAIN);
    CHECK(wasted > 1 && wasted < 10);
}

TEST(a_disturbed_pass_means_little) {
    cch_allowance allowance = {0};
    for (int i = 0; i < 100; i++) cch_allowance_pass(&allowance, 2, false, PLAIN);
    cch_allowance_pass(&allowance, 2, false, INT64_C(60000000000));
    CHECK(allowance.plain_ns[2] < 2 * PLAIN);
    cch_allowance_pass(&allowance, 2, true, INT64_C(60000000000));
    CHECK(cch_allowance_left(&allowance, 2));
    cch_allowance disturbed = {0}; /* from the beginning */
    cch_allowance_pass(&disturbed, 2, false, INT64_C(60000000000));
    for (int i = 0; i < 100; i++) cch_allowance_pass(&disturbed, 2, false, PLAIN);
    CHECK(disturbed.plain_ns[2] < 2 * PLAIN);
}

TEST(rows_are_told_apart_and_many_have_no_guesses) {
    cch_allowance allowance = {0};
    cch_allowance_pass(&allowance, 3, false, PLAIN);
    CHECK(cch_allowance_left(&allowance, 3));
    CHECK(!cch_allowance_left(&allowance, 2));
    for (int32_t n_rows = CCH_ALLOWANCE_ROWS + 1; n_rows < 300; n_rows += 97) {
        cch_allowance_pass(&allowance, n_rows, false, PLAIN);
        CHECK(!cch_allowance_left(&allowance, n_rows));
    }
}

CHECK_MAIN()
