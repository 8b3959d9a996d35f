/* pooling - one vector for the rows of a text.
 *
 * A mean is one chain of additions per channel, from the first row to the last, times 1 / n: the same bits whatever
 * stands around the rows.  Length is measured in f64.
 * Threads: pure.
 */
#ifndef CCH_SIM_POOLING_H
#define CCH_SIM_POOLING_H

#include "kern/kernels.h"

/* dst [dim] = what `pooling` makes of rows [n, ld], n >= 1. */
void cch_pool_rows(const cch_kernels *kern, cch_pooling pooling, const float *rows, size_t ld, size_t n, size_t dim,
                   float *dst);
/* Gives x [dim] the length 1; a zero vector stays.  False, and x is unspecified, when it holds NaN or infinity. */
bool cch_unit(float *x, size_t dim);

#endif
