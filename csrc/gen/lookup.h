/* lookup - prompt lookup decoding: guesses what follows from what followed before.
 *
 * Text repeats itself: code that is edited, a document that is quoted, JSON with its keys.  Where the last tokens stood
 * earlier, what came after them then is the guess:
 *
 *      ... "name" : "fox" , ... "name" : "hare" , ... "name" :        guess:  "hare" , ...
 *                                        ^source                      ^n
 *
 * The latest place where the last 3 tokens stood, or else the last 2, becomes the source; as long as the guesses are
 * right, the source moves on with the text, and may run into it.  A table holds, for each hash of 3 or 2 tokens, the
 * latest place behind them: constant time per token, and a hit is confirmed by comparing tokens.
 *
 * How many guesses a pass is worth (cch_lookup_length).  Weights are read once for all rows of a pass: up to a number
 * of rows it costs little more than with one, and a row more about one part in that many.  The i-th guess is right with
 * probability rate^i, where rate is a moving average over the tokens that could be guessed, whether they were or not:
 * watching costs next to nothing, and text without repeats never makes a pass larger.  What a pass takes in fact, and
 * whether guesses are made at all, is for gen/allowance.h.  No result depends on a guess: gen/batch.c draws each token
 * from the logits that plain decoding would see.
 *
 * Source: Saxena, "Prompt lookup decoding", 2023; the verification is that of Leviathan et al., arXiv:2211.17192, for a
 * draft of probability one, where equal random numbers make "accepted" mean "equal".
 * Threads: a row's, which has one user at a time.   Test: tests/c/gen/test_lookup.c
 */
#ifndef CCH_GEN_LOOKUP_H
#define CCH_GEN_LOOKUP_H

#include "base/status.h"

#define CCH_LOOKUP_MOST 11 /* guesses of a row in a pass */
#define CCH_LOOKUP_ONE 65536 /* the rate of one who is always right */

typedef struct cch_lookup {
    int32_t *places[2]; /* owned [1 << bits]: of 2 and of 3 tokens, index of the token behind them; 0: none */
    int32_t bits;
    int32_t n_seen;     /* tokens of the history that are in the tables */
    int32_t source;     /* index of the guess for token n_seen; 0: none */
    int32_t rate;       /* of right guesses, in parts of CCH_LOOKUP_ONE */
} cch_lookup;           /* starts with zeros */

void cch_lookup_deinit(cch_lookup *lookup);

/* Room for n tokens; history: of which it has seen a beginning.   E_MEMORY: as it was. */
cch_status cch_lookup_reserve(cch_lookup *lookup, const int32_t *history, int32_t n, cch_error *err);

/* Takes notice of history [n], n at most what there is room for, of which it has seen a beginning.  Those from `drawn`
 * on were drawn: they tell how good it guesses. */
void cch_lookup_see(cch_lookup *lookup, const int32_t *history, int32_t n, int32_t drawn);

/* How many tokens, CCH_LOOKUP_MOST at most, are worth guessing when n_rows >= 1 states draw together and `rows` rows
 * cost little more than one. */
int32_t cch_lookup_length(const cch_lookup *lookup, int32_t n_rows, int32_t rows);

/* The guesses for the tokens behind the n_seen >= 1 of history: dst [n]; with a source only. */
void cch_lookup_guess(const cch_lookup *lookup, const int32_t *history, int32_t n, int32_t *dst);

#endif
