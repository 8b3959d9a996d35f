#include "sim/pooling.h"

#include <math.h>
#include <string.h>

void cch_pool_rows(const cch_kernels *kern, cch_pooling pooling, const float *rows, size_t ld, size_t n, size_t dim,
                   float *dst) {
    memcpy(dst, pooling == CCH_POOL_LAST ? rows + (n - 1) * ld : rows, dim * sizeof *dst);
    if (pooling != CCH_POOL_MEAN) return;
    for (size_t r = 1; r < n; r++) kern->add(dst, rows + r * ld, dim);
    const float share = 1.0f / (float)n;
    for (size_t i = 0; i < dim; i++) dst[i] *= share;
}

bool cch_unit(float *x, size_t dim) {
    double sum = 0;
    for (size_t i = 0; i < dim; i++) sum = fma((double)x[i], (double)x[i], sum);
    if (!isfinite(sum)) return false;
    const double inv = sum > 0 ? 1.0 / sqrt(sum) : 0.0;
    for (size_t i = 0; i < dim; i++) x[i] = (float)((double)x[i] * inv);
    return true;
}
