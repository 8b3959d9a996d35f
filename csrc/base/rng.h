/* rng - random numbers as a pure function of where they are used: Philox4x32-10, and SplitMix64 for the chat API.
 *
 * A counter-based generator is a keyed bijection of 128-bit counters: there is no state to carry, so resuming, forking
 * or batching never shifts a stream (seed law).  Key: the 64-bit seed, low word first.  Counter: position (low word,
 * high word), stream, 0.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; ten rounds.
 * Stability: these definitions are part of the package's contract and never change.
 * Threads: pure.   Test: tests/c/base/test_rng.c (the published known-answer vectors).
 */
#ifndef CCH_BASE_RNG_H
#define CCH_BASE_RNG_H

#include "base/status.h"

/* out [4] = Philox4x32-10 of counter [4] under key [2]; out may be counter. */
void cch_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* The 53 random bits of position `pos` of (seed, stream): the top bits of the output's words 0 (high) and 1 (low).
 * cch_uniform is this number times 2^-53; the sampler uses the integer, so that its draw is exact. */
uint64_t cch_rng_bits53(uint64_t seed, uint32_t stream, uint64_t pos);

/* The 53 top bits of output `i`, from 0, of SplitMix64 started with `seed`.  Its state only counts, so that any output
 * is had without those before it.
 * Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; constants of Vigna's
 * splitmix64.c. */
uint64_t cch_rng_splitmix53(uint64_t seed, uint64_t i);

#endif
