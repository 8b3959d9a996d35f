/* beam - beam search over states: cch_beam_search of cacher.h.
 *
 * Beams are forks.  A step evaluates all open beams together, takes each one's best continuations from its logits, lets
 * gen/search choose (its head comment has the rules), then grows the states: the last child of a beam inherits its
 * state, the others are forks of it, so a beam that goes on alone copies nothing.
 *
 * Numbers: the log-probability of a token is (l - max) - log(sum(exp(l - max))) in f64 from the raw f32 logits; sums of
 * a beam are f64.  Penalties steer: a token that repetition_penalty moved from logit l to l' is chosen by its
 * log-probability + (l' - l), as greedy decoding with that penalty would. A beam offers no token outside top_k or below
 * min_p x the likeliest of its penalised logits (softmax at temperature 1), and no EOS before min_tokens.
 * Memory: logits of CCH_BEAM_ROWS beams at a time, candidates of all; nothing is allocated per token.
 * Test: tests/c/gen/test_beam.c, tests/parity/test_beam_parity.py
 */
#ifndef CCH_GEN_BEAM_H
#define CCH_GEN_BEAM_H

#include "gen/search.h"

#define CCH_BEAM_ROWS 128 /* beams of one evaluation at most: bounds the memory for logits */

#endif
