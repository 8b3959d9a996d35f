#include "sim/codes.h"

#include <math.h>
#include <string.h>

#define ROUND 0x1.8p52 /* added and taken away again, it leaves the nearest integer */
#define ENLARGED (1.0 + 1e-6)

size_t cch_codes_stride(size_t dimension) {
    return (dimension + CCH_CODE_LANES - 1) / CCH_CODE_LANES * CCH_CODE_LANES;
}

static float largest(const float *x, size_t n) {
    float most = 0.0f;
    for (size_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

static double sum4(const double lane[4]) { return (lane[0] + lane[1]) + (lane[2] + lane[3]); }

void cch_codes_of_row(const cch_kernels *kern, const float *x, size_t dimension, int8_t *codes, float *weight,
                      float *error) {
    const float most = largest(x, dimension);
    double lost[4] = {0};
    *weight = *error = 0.0f;
    memset(codes, 0, cch_codes_stride(dimension));
    if (most == 0.0f) return;
    const double step = (double)most / CCH_CODE_MAX, scale = CCH_CODE_MAX / (double)most;
    for (size_t i = 0; i < dimension; i++) {
        const double code = (double)x[i] * scale + ROUND - ROUND, e = (double)x[i] - code * step;
        codes[i] = (int8_t)code;
        lost[i % 4] += e * e;
    }
    const double length = sqrt(kern->dot_f32(x, x, dimension));
    *weight = (float)(step / length);
    *error = (float)(sqrt(sum4(lost)) / length * ENLARGED + 1e-9);
}

float cch_codes_weight(const int8_t *codes, size_t dimension) {
    int32_t square = 0;
    for (size_t i = 0; i < dimension; i++) square += codes[i] * codes[i];
    return square > 0 ? (float)(1.0 / sqrt((double)square)) : 0.0f;
}

void cch_codes_of_query(const cch_kernels *kern, const float *x, size_t dimension, int16_t *codes,
                        cch_coded_query *out) {
    const float most = largest(x, dimension);
    const size_t stride = cch_codes_stride(dimension), room = INT32_MAX / CCH_CODE_MAX / dimension;
    const double range = room < INT16_MAX ? (double)room : INT16_MAX;
    double lost[4] = {0};
    *out = (cch_coded_query){0};
    memset(codes, 0, stride * sizeof *codes);
    if (most == 0.0f) return;
    const double step = (double)most / range, scale = range / (double)most;
    for (size_t i = 0; i < dimension; i++) {
        const double code = (double)x[i] * scale + ROUND - ROUND, f = (double)x[i] - code * step;
        codes[i] = (int16_t)code;
        lost[i % 4] += f * f;
    }
    out->square = kern->dot_f32(x, x, dimension);
    const double length = sqrt(out->square), loss = sqrt(sum4(lost)) / length * ENLARGED;
    out->gain = (float)(step / length);
    out->slack = (float)(loss * ENLARGED) + CCH_CODE_SLACK;
    out->factor = (float)((1.0 + loss) * ENLARGED);
}

double cch_cosine(const cch_kernels *kern, const float *query, double square, const float *row, size_t dimension) {
    const double norms = square * kern->dot_f32(row, row, dimension);
    if (norms == 0.0) return 0.0;
    const double cosine = kern->dot_f32(query, row, dimension) / sqrt(norms);
    return cosine > 1.0 ? 1.0 : cosine < -1.0 ? -1.0 : cosine;
}
