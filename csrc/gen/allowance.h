/* allowance - what guesses may cost: a batch never spends more than a small part of its time on wrong ones.
 *
 * Each pass earns 1/64 of a pass.  A pass with guesses costs what it took longer than plain ones of as many rows did
 * lately; a guess that was right brings its row's share of the pass that is not needed.  Guesses are made while no more
 * than one pass is owed.  The balance never grows beyond a few passes, so that gains of long ago pay for no long loss.
 * Where guesses do not pay, be it for the text or for the machine, they are made the less often, the dearer they are.
 *
 * Times are clamped to twice the plain pass: one disturbed pass, for instance of a process that was stopped, means
 * little.  They decide what is computed along and never what is drawn.   Units of the balance: 1 / CCH_ALLOWANCE_PASS.
 * Threads: a batch's, which has one user at a time.   Test: tests/c/gen/test_allowance.c
 */
#ifndef CCH_GEN_ALLOWANCE_H
#define CCH_GEN_ALLOWANCE_H

#include <stdbool.h>
#include <stdint.h>

#define CCH_ALLOWANCE_PASS 65536
#define CCH_ALLOWANCE_ROWS 6 /* states that draw together, at most, where anything is guessed */

typedef struct cch_allowance {
    int64_t plain_ns[CCH_ALLOWANCE_ROWS + 1]; /* of a pass without guesses, by its rows; 0: not known */
    int64_t balance;
} cch_allowance; /* starts with zeros */

/* Whether a pass of n_rows >= 1 states may have guesses. */
bool cch_allowance_left(const cch_allowance *allowance, int32_t n_rows);

/* A pass for one token of each of n_rows states took ns >= 0; guesses: some had guesses. */
void cch_allowance_pass(cch_allowance *allowance, int32_t n_rows, bool guesses, int64_t ns);

/* A guess was right that a pass of n_rows states had computed. */
void cch_allowance_right(cch_allowance *allowance, int32_t n_rows);

#endif
