/* signs - one bit of each number of a row, and what these tell about a similarity: a sieve before the scan of codes.
 *
 * Let b be the signs of a row r: +1 where a number is above 0, else -1.  The angle between r and b is known:
 *
 *     cos(r, b)  =  sum |r_i| / (sqrt(d) |r|)                    0.8 for normal numbers, an angle of 37 degrees
 *
 * and that between a query q and b comes of adding up numbers of q with the signs of b.  Angles are distances on the
 * sphere, so the one between q and r is at least their difference.  Hence a row can reach the similarity cos(t) only if
 *
 *     cos(q, b)  >=  cos(t + angle(r, b))  =  cos(t) cos(r, b) - sin(t) sin(r, b)           where t <= 90 degrees
 *
 * and others need not be looked at: their codes, eight times as many bytes, are not read.  A row keeps cos(r, b),
 * rounded down, and the sine that belongs to it.
 *
 * Four numbers of a query have 16 sums, one for each pattern of signs.  A table of these, in units of its own, rounded
 * up and counted from the least sum on, fits into the bytes that the kernel looks up; adding up what four signs each
 * say gives cos(q, b) or a little more, never less.  CCH_CODE_SLACK covers the f32 roundings of what is compared, once
 * on the side of the query and once on that of the bar, so that a row whose score is the bar stays.
 *
 * Signs lie in groups of 64 rows (kernels.h, scan_signs), so that a row that is added changes bytes of a group that a
 * search may read: a search passes over groups that can still be added to.
 *
 * Threads: pure.
 */
#ifndef CCH_SIM_SIGNS_H
#define CCH_SIM_SIGNS_H

#include "sim/codes.h"

#define CCH_SIGN_ROWS 64 /* rows of a group */

/* Signs of rows in groups: views. */
typedef struct cch_signs {
    float *cosine, *sine; /* of the angle between a row and its signs; the cosine is never too large */
    uint8_t *bits;        /* [groups][cch_sign_bytes][CCH_SIGN_ROWS]; NULL: there are none */
} cch_signs;

typedef struct cch_signed_query {
    uint8_t *tables;  /* [cch_sign_table_bytes]; the caller's */
    float gain, base; /* sum * gain + base is at least the cosine of the query and the signs that gave the sum */
} cch_signed_query;

/* Bytes of a row's signs. */
static inline size_t cch_sign_bytes(size_t dimension) { return (dimension + 7) / 8; }
static inline size_t cch_sign_table_bytes(size_t dimension) { return 32 * cch_sign_bytes(dimension); }

/* Bytes of the signs of `capacity` rows; and their views of as many zeros, from a multiple of 64 on. */
size_t cch_signs_bytes(size_t dimension, size_t capacity);
cch_signs cch_signs_view(size_t capacity, char *zeros);

/* Row i is x [dimension], finite. */
void cch_signs_put(const cch_signs *signs, const cch_kernels *kern, size_t i, const float *x, size_t dimension);
/* Row i is row j of `from`. */
void cch_signs_move(const cch_signs *signs, size_t i, const cch_signs *from, size_t j, size_t dimension);

/* Fills the tables and the rest.  A query of zeros gives zeros. */
void cch_signs_of_query(const cch_kernels *kern, const float *x, size_t dimension, cch_signed_query *out);

/* Whether the bar is one that signs can rule rows out by. */
static inline bool cch_signs_can_sift(float bar) { return bar > 2.0f * CCH_CODE_SLACK; }
/* With this, sift_signs of the kernels leaves every row that can be above such a bar. */
cch_sieve cch_signs_sieve(const cch_signed_query *query, float bar);

#endif
