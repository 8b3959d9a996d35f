/* codes - rows and queries as small integers, and how far a similarity computed from these can be from the true one.
 *
 * A row r is held as s * c: c are codes from -127 to 127, the largest is 127 or -127.  A query q becomes t * a: up to
 * 16 bits, as many as keep every sum a.c inside an int32.  What is lost, e = r - s * c and f = q - t * a, is known, so
 *
 *     q.r / (|q| |r|)  =  a.c * (t / |q|) * (s / |r|)  +  (t * a).e / (|q| |r|)  +  f.r / (|q| |r|)
 *                         \______ estimate ________/     \___ at most  |t * a| / |q| * |e| / |r|  +  |f| / |q| ___/
 *
 * (Cauchy and Schwarz).  |e| / |r| is kept with the row as its `error`, rounded up; s / |r| is its `weight`.  The
 * estimate is computed in f32: CCH_CODE_SLACK covers all its roundings (a dozen of at most 2^-24 of a number below 4).
 * Lengths are taken in f64, where no f32 overflows or vanishes; the 1e-6 by which an error is enlarged covers those
 * roundings and the one to f32.
 *
 * Threads: pure.
 */
#ifndef CCH_SIM_CODES_H
#define CCH_SIM_CODES_H

#include "kern/kernels.h"

#define CCH_CODE_MAX 127
#define CCH_CODE_LANES 32 /* codes of a row come in groups of this many, the last one padded with zeros */
#define CCH_CODE_SLACK 4e-6f

typedef struct cch_coded_query {
    double square; /* dot(q, q) */
    float gain;    /* t / |q|; estimate = a.c * weight * gain */
    float factor;  /* |t * a| / |q| at most */
    float slack;   /* |f| / |q| at most, and CCH_CODE_SLACK */
} cch_coded_query;

/* Codes of a row of `dimension` numbers. */
size_t cch_codes_stride(size_t dimension);

/* codes [stride] of x [dimension], its weight and error; zeros give zeros. */
void cch_codes_of_row(const cch_kernels *kern, const float *x, size_t dimension, int8_t *codes, float *weight,
                      float *error);
/* The weight of a row that is its codes: its error is 0. */
float cch_codes_weight(const int8_t *codes, size_t dimension);
/* codes [stride] of the query x [dimension].  Zeros give zeros in `out` as well: their similarity is 0 for certain. */
void cch_codes_of_query(const cch_kernels *kern, const float *x, size_t dimension, int16_t *codes,
                        cch_coded_query *out);

/* The similarity that cacher_index.h defines.   square: dot(q, q) of the query. */
double cch_cosine(const cch_kernels *kern, const float *query, double square, const float *row, size_t dimension);

#endif
