#include "sim/signs.h"

#include <math.h>
#include <string.h>

#define ENTRY_MAX 127 /* of a table: two are added in a byte */
#define REDUCED (1.0 - 1e-6)
#define ENLARGED (1.0 + 1e-6)

static size_t groups_of(size_t rows) { return (rows + CCH_SIGN_ROWS - 1) / CCH_SIGN_ROWS; }

size_t cch_signs_bytes(size_t dimension, size_t capacity) {
    return groups_of(capacity) * CCH_SIGN_ROWS * (2 * sizeof(float) + cch_sign_bytes(dimension));
}

cch_signs cch_signs_view(size_t capacity, char *zeros) {
    const size_t rows = groups_of(capacity) * CCH_SIGN_ROWS;
    float *cosine = (float *)(void *)zeros, *sine = cosine + rows;
    return (cch_signs){cosine, sine, (uint8_t *)(sine + rows)};
}

/* The first byte of row i; the next one is CCH_SIGN_ROWS further on. */
static uint8_t *bits_of(const cch_signs *signs, size_t i, size_t n_bytes) {
    return signs->bits + i / CCH_SIGN_ROWS * CCH_SIGN_ROWS * n_bytes + i % 32 * 2 + i % CCH_SIGN_ROWS / 32;
}

void cch_signs_put(const cch_signs *signs, const cch_kernels *kern, size_t i, const float *x, size_t dimension) {
    const size_t n_bytes = cch_sign_bytes(dimension);
    uint8_t *bits = bits_of(signs, i, n_bytes);
    double sum[4] = {0};
    for (size_t k = 0; k < n_bytes; k++) {
        const size_t left = dimension - 8 * k, n = left < 8 ? left : 8;
        unsigned byte = 0;
        for (size_t j = 0; j < n; j++) byte |= (unsigned)(x[8 * k + j] > 0.0f) << j;
        bits[k * CCH_SIGN_ROWS] = (uint8_t)byte;
    }
    for (size_t j = 0; j < dimension; j++) sum[j % 4] += fabs((double)x[j]);
    const double total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    const double length = sqrt((double)dimension * kern->dot_f32(x, x, dimension));
    const float cosine = total > 0.0 ? (float)(total / length * REDUCED) : 0.0f;
    signs->cosine[i] = cosine;
    signs->sine[i] = (float)sqrt((1.0 - (double)cosine) * (1.0 + (double)cosine));
}

void cch_signs_move(const cch_signs *signs, size_t i, const cch_signs *from, size_t j, size_t dimension) {
    const size_t n_bytes = cch_sign_bytes(dimension);
    uint8_t *to = bits_of(signs, i, n_bytes);
    const uint8_t *bits = bits_of(from, j, n_bytes);
    for (size_t k = 0; k < n_bytes; k++) to[k * CCH_SIGN_ROWS] = bits[k * CCH_SIGN_ROWS];
    signs->cosine[i] = from->cosine[j];
    signs->sine[i] = from->sine[j];
}

/* A table of 16: for each pattern of signs, what the numbers that agree with it add to the least sum, rounded up.
 *   agree [4][2]: what number j adds when its bit is 0 and 1, in 1/256 of a unit. */
static void fill_table(const uint16_t agree[4][2], uint8_t table[16]) {
    for (int high = 0; high < 4; high++) {
        const int more = agree[2][high & 1] + agree[3][high >> 1] + 255;
        table[4 * high] = (uint8_t)((agree[0][0] + agree[1][0] + more) >> 8);
        table[4 * high + 1] = (uint8_t)((agree[0][1] + agree[1][0] + more) >> 8);
        table[4 * high + 2] = (uint8_t)((agree[0][0] + agree[1][1] + more) >> 8);
        table[4 * high + 3] = (uint8_t)((agree[0][1] + agree[1][1] + more) >> 8);
    }
}

void cch_signs_of_query(const cch_kernels *kern, const float *x, size_t dimension, cch_signed_query *out) {
    const size_t n_tables = 2 * cch_sign_bytes(dimension), room = UINT16_MAX / n_tables;
    const double most = room < ENTRY_MAX ? (double)room : (double)ENTRY_MAX;
    double total = 0.0, largest = 0.0;
    memset(out->tables, 0, cch_sign_table_bytes(dimension));
    out->gain = out->base = 0.0f;
    for (size_t t = 0; t < dimension; t += 4) {
        double four = 0.0;
        for (size_t i = t; i < t + 4 && i < dimension; i++) four += fabs((double)x[i]);
        total += four;
        largest = four > largest ? four : largest;
    }
    if (total == 0.0) return;
    const double scale = (most * 256.0 - 4.0) / (2.0 * largest); /* four that are rounded up make `most` at most */
    for (size_t t = 0; t < dimension; t += 4) {
        uint16_t agree[4][2] = {{0}};
        for (size_t i = t; i < t + 4 && i < dimension; i++)
            agree[i - t][x[i] > 0.0f] = (uint16_t)(int)(2.0 * fabs((double)x[i]) * scale + 1.0);
        fill_table((const uint16_t(*)[2])agree, out->tables + 4 * t);
    }
    const double length = sqrt((double)dimension * kern->dot_f32(x, x, dimension));
    out->gain = (float)(256.0 * ENLARGED / scale / length);
    out->base = (float)(-total / length) + CCH_CODE_SLACK;
}

cch_sieve cch_signs_sieve(const cch_signed_query *query, float bar) {
    const double level = (double)(bar < 1.0f ? bar : 1.0f) - (double)CCH_CODE_SLACK;
    return (cch_sieve){query->gain, query->base, (float)level, (float)sqrt((1.0 - level) * (1.0 + level))};
}
