/* finder - the k best rows for one query, out of the rows it is shown: upper bounds first, exact scores where needed.
 *
 * Rows come in the order in which they were stored.  The bar is a similarity that k earlier rows have for certain (or
 * the threshold): a row whose upper bound is not above it cannot be among the best, for ties go to the earlier row.
 * Others become candidates.  Their lower bounds raise the bar: the k-th best of these is reached by k rows.  When the
 * list of candidates is full, those that the bar has overtaken are dropped; if few are, all are scored exactly.
 *
 * Threads: one user.
 */
#ifndef CCH_SIM_FINDER_H
#define CCH_SIM_FINDER_H

#include "sim/rows.h"

#define CCH_CANDIDATES 512
#define CCH_CHUNK 1024 /* rows shown at once, at most */

typedef struct cch_hit {
    double score;
    uint64_t at; /* span << 32 | row: in the order of storage */
    int64_t key;
} cch_hit;

typedef struct cch_candidate {
    uint64_t at;
    float upper;
} cch_candidate;

/* What all finders of a search share. */
typedef struct cch_hunt {
    const cch_snapshot *snapshot;
    const cch_shape *shape;
    const cch_kernels *kern;
    size_t k;
    double threshold;
} cch_hunt;

typedef struct cch_finder {
    const cch_hunt *hunt;
    const float *query;
    cch_coded_query coded;
    float bar;
    cch_hit *best;          /* [k]: a heap with the worst on top */
    float *lows;            /* [k]: a heap of lower bounds with the least on top */
    cch_candidate *waiting; /* [CCH_CANDIDATES] */
    size_t n_best, n_lows, n_waiting;
    float *scratch;         /* [dimension] */
} cch_finder;

/* Sets the bar; the caller has set everything but that and the counts. */
void cch_finder_begin(cch_finder *finder);
/* Rows [first, first + n) of a span, n <= CCH_CHUNK, whose codes give these sums with the query's. */
void cch_finder_show(cch_finder *finder, size_t span, size_t first, size_t n, const int32_t *sums);
/* Rows first + picks[i] of those, whose codes give sums[i]; the others have been ruled out.  picks: ascending. */
void cch_finder_show_picks(cch_finder *finder, size_t span, size_t first, const uint16_t *picks, size_t n_picks,
                           const int32_t *sums);
/* Scores what waits: best [n_best] are then the best rows shown, as a heap. */
void cch_finder_end(cch_finder *finder);
/* Takes the best rows of another one, which was shown other rows of the same snapshot. */
void cch_finder_take(cch_finder *finder, const cch_finder *other);
/* The better of two: higher score, else earlier. */
bool cch_hit_is_better(const cch_hit *a, const cch_hit *b);

#endif
