/* speculate - one pass of a batch for several tokens of a row: guesses are computed along, and predictions wait.
 *
 *      a row's state   t0 .. t9              plain: a pass for t9, whose prediction gives t10
 *      its scout       t0 .. t9 g10 g11      one pass for t9 g10 g11 gives three predictions
 *
 * t10 is drawn from the first as ever, with the random number of its position.  If it is g10, then the second is the
 * prediction after it, by the chunk law bit for bit what a pass for t10 would give: the state follows its scout, and
 * t11 needs no pass.  The first token that was guessed wrong ends it, and all that lies ahead is forgotten.
 *
 * A step still draws one token for a row at most: while any row has a prediction ahead, steps draw from these alone,
 * and the next pass is for all rows again.  So whoever looks at each token, for stop strings or to leave, finds the
 * state as plain decoding has it; and a state in the batch never holds a token that was not drawn.
 *
 * When: in steps in which all rows lack one token, so that no prompt waits for guesses; where the pass has room for one
 * of each row, and the byte budget for all; and while they pay.  Passes with guesses are timed beside plain ones, and
 * together they may cost 1/64 of the batch's passes, and one pass, more than they save (gen/allowance.h).  Time decides
 * what is computed along, never what is drawn.  A row alone is judged by its own last guesses (gen/lookup.h).
 * A pass that fails for want of memory is run without guesses.
 * Threads: under the model's run lock.   Tests: tests/c/gen/test_speculate.c, tests/laws
 */
#ifndef CCH_GEN_SPECULATE_H
#define CCH_GEN_SPECULATE_H

#include "kv/state.h"

/* Predictions of a row that are known, the next token's first. */
typedef struct cch_ahead {
    float *logits;     /* owned [cap, vocab_size] */
    int32_t cap;
    int32_t at, n;     /* rows [at, at + n) are known, row `at` predicts the next token */
    int32_t last;      /* the row that the last token was drawn from */
    cch_state *scout;  /* owned: holds the guesses that led to the predictions; NULL: there are none */
} cch_ahead;           /* starts with zeros */

/* Room for one prediction.   E_MEMORY. */
cch_status cch_ahead_init(cch_ahead *ahead, int32_t vocab_size, cch_error *err);
void cch_ahead_deinit(cch_ahead *ahead);
/* Nothing is known any more. */
void cch_ahead_forget(cch_ahead *ahead);
/* A token was drawn from row `at`: appends it to the state, which has memory for that (cch_state_reserve_push); returns
 * whether it had been guessed.  Cannot fail. */
bool cch_ahead_push(cch_ahead *ahead, cch_state *state, int32_t token_id, const float *logprob);

/* Extends the asks of a step to guesses, where they are worth it; on failure none is. */
void cch_speculate(cch_batch *batch);
/* The pass for these asks took ns. */
void cch_speculated(cch_batch *batch, int64_t ns);
/* Takes the guesses back; returns whether there were any. */
bool cch_speculate_not(cch_batch *batch);

#endif
