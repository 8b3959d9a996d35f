/* agree - runs one op of two kernel tables on the same drawn input and compares every bit of every output buffer,
 * padding and sentinels included.  Shared by the ISA tests (input from a seed) and the fuzzer (input from its bytes).
 *
 * Inputs lie in blocks of exactly their size, so that ASan sees a read outside.  Any NaN equals any NaN. */
#ifndef CCH_TESTS_AGREE_H
#define CCH_TESTS_AGREE_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "kern/kernels.h"

#define AGREE_ROUNDS 300 /* of each op, on tame and on wild numbers: they take every line of every kernel */

typedef struct draw {
    const uint8_t *bytes; /* used up first, then the generator */
    size_t n;
    uint64_t state;
    bool wild; /* any bit pattern, not only tame numbers */
} draw;

static uint64_t draw_u64(draw *d) {
    uint64_t value = 0;
    if (d->n >= 8) {
        memcpy(&value, d->bytes, 8);
        d->bytes += 8;
        d->n -= 8;
        return value;
    }
    value = d->state += 0x9E3779B97F4A7C15u;
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9u;
    value = (value ^ value >> 27) * 0x94D049BB133111EBu;
    return value ^ value >> 31;
}

static size_t draw_size(draw *d, size_t least, size_t most) { return least + draw_u64(d) % (most - least + 1); }

static float draw_float(draw *d) {
    static const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-45f, -1e-40f, 3.4e38f, 88.5f, 89.5f,
                                    -87.5f, -103.5f, -104.5f, 0.92f, 4.0f, 1.0f};
    uint64_t u = draw_u64(d);
    if (d->wild && u % 8 == 0) return special[u >> 8 & 15];
    if (d->wild && u % 8 == 1) {
        uint32_t bits = (uint32_t)(u >> 32);
        float any;
        memcpy(&any, &bits, sizeof any);
        return any;
    }
    return (float)((double)(int64_t)u / 0x1p+63) * (u & 16 ? 1.0f : 20.0f);
}

static float *draw_floats(draw *d, size_t n) {
    float *x = malloc(n > 0 ? n * sizeof *x : 1);
    for (size_t i = 0; i < n; i++) x[i] = draw_float(d);
    return x;
}

static float *aligned_floats(draw *d, size_t n) {
    float *x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64 + 64);
    for (size_t i = 0; i < n; i++) x[i] = draw_float(d);
    return x;
}

static float *copy_floats(const float *x, size_t n) {
    float *y = malloc(n > 0 ? n * sizeof *y : 1);
    memcpy(y, x, n * sizeof *y);
    return y;
}

/* Frees both. */
static bool same_take(const char *op, float *a, float *b, size_t n) {
    bool same = true;
    for (size_t i = 0; i < n && same; i++) {
        same = memcmp(a + i, b + i, sizeof *a) == 0 || (isnan(a[i]) && isnan(b[i]));
        if (!same) fprintf(stderr, "%s: element %zu of %zu is %a and %a\n", op, i, n, (double)a[i], (double)b[i]);
    }
    free(a);
    free(b);
    return same;
}

static bool agree_matmul(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t rows = draw_size(d, 0, 20), k = draw_size(d, 1, d->n > 0 ? 40 : 90), panels = draw_size(d, 0, 11);
    const size_t ldx = k + draw_size(d, 0, 5), ldy = 16 * panels + draw_size(d, 0, 5);
    float *x = draw_floats(d, rows * ldx), *w = aligned_floats(d, panels * k * 16);
    float *bias = draw_size(d, 0, 1) ? draw_floats(d, panels * 16) : NULL;
    float *y = draw_floats(d, rows * ldy), *z = copy_floats(y, rows * ldy);
    a->matmul_f32(x, ldx, rows, w, panels, k, bias, y, ldy);
    b->matmul_f32(x, ldx, rows, w, panels, k, bias, z, ldy);
    free(x), free(w), free(bias);
    return same_take("matmul_f32", y, z, rows * ldy);
}

/* Rows as matmul_dealt of one of the two wants them.   Returned: to be freed. */
static float *dealt_for(const cch_kernels *kern, const float *x, size_t rows, size_t k) {
    const size_t n = (rows + kern->deal_rows - 1) / kern->deal_rows;
    float *dealt = malloc(rows * k * sizeof *dealt);
    for (size_t i = 0; i < n; i++) {
        const size_t first = cch_tile_row(rows, n, i), of_tile = cch_tile_row(rows, n, i + 1) - first;
        for (size_t r = 0; r < of_tile; r++)
            for (size_t j = 0; j < k; j++) dealt[first * k + j * of_tile + r] = x[(first + r) * k + j];
    }
    return dealt;
}

static bool agree_dealt(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t rows = draw_size(d, 32, 70), k = draw_size(d, 1, 20), panels = draw_size(d, 0, 7);
    const size_t ldy = 16 * panels + draw_size(d, 0, 5);
    float *x = draw_floats(d, rows * k), *w = aligned_floats(d, panels * k * 16);
    float *bias = draw_size(d, 0, 1) ? draw_floats(d, panels * 16) : NULL;
    float *y = draw_floats(d, rows * ldy), *z = copy_floats(y, rows * ldy);
    float *for_a = dealt_for(a, x, rows, k), *for_b = dealt_for(b, x, rows, k);
    a->matmul_dealt(for_a, rows, w, panels, k, bias, y, ldy);
    b->matmul_dealt(for_b, rows, w, panels, k, bias, z, ldy);
    free(x), free(w), free(bias), free(for_a), free(for_b);
    return same_take("matmul_dealt", y, z, rows * ldy);
}

/* Numbers of ordinary size: products of bf16 numbers may count subnormal ones as 0. */
static float *draw_rows(draw *d, size_t n) {
    float *x = draw_floats(d, n);
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) < 1e-12f) x[i] = 1e-12f;
        else if (fabsf(x[i]) > 1e12f) x[i] = copysignf(1e12f, x[i]);
    return x;
}

static bool agree_bf16(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t rows = draw_size(d, 0, 20), n = draw_size(d, 1, d->n > 0 ? 80 : 300), panels = draw_size(d, 0, 11);
    const size_t k = cch_n_words(n, 2), ldx = k + draw_size(d, 0, 5), ldy = 16 * panels + draw_size(d, 0, 5);
    float *from = draw_floats(d, n), *x = draw_floats(d, rows * ldx), *z = copy_floats(x, rows * ldx);
    for (size_t r = 0; r < rows; r++) {
        a->round_bf16(from, n, x + r * ldx);
        b->round_bf16(from, n, z + r * ldx);
    }
    free(from);
    bool same = same_take("round_bf16", x, z, rows * ldx);
    from = draw_rows(d, rows * n + panels * k * 32);
    x = draw_floats(d, rows * ldx), z = aligned_floats(d, panels * k * 16);
    for (size_t r = 0; r < rows; r++) a->round_bf16(from + r * n, n, x + r * ldx);
    if (panels > 0) a->round_bf16(from + rows * n, panels * k * 32, z);
    float *bias = draw_size(d, 0, 1) ? draw_floats(d, panels * 16) : NULL;
    float *y = draw_floats(d, rows * ldy), *t = copy_floats(y, rows * ldy);
    a->matmul_bf16(x, ldx, rows, z, panels, k, bias, y, ldy);
    b->matmul_bf16(x, ldx, rows, z, panels, k, bias, t, ldy);
    free(from), free(x), free(z), free(bias);
    return same_take("matmul_bf16", y, t, rows * ldy) && same;
}

static bool agree_int8(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t rows = draw_size(d, 0, 40), n = draw_size(d, 1, d->n > 0 ? 320 : 1400), panels = draw_size(d, 0, 11);
    const size_t k = cch_n_words(n, 4), groups = cch_n_groups(k), ldx = k + groups + 1 + draw_size(d, 0, 5);
    const size_t ldy = 16 * panels + draw_size(d, 0, 5);
    float *from = draw_floats(d, rows * n + 1), *x = draw_floats(d, rows * ldx), *z = copy_floats(x, rows * ldx);
    for (size_t r = 0; r < rows; r++) {
        a->quantize_int8(from + r * n, n, x + r * ldx);
        b->quantize_int8(from + r * n, n, z + r * ldx);
    }
    float *w = aligned_floats(d, panels * k * 16), *scales = aligned_floats(d, panels * groups * 16);
    for (size_t i = 0; i < panels * k * 16; i++) { /* any bytes */
        const uint32_t bits = (uint32_t)draw_u64(d);
        memcpy(w + i, &bits, sizeof bits);
    }
    float *bias = draw_size(d, 0, 1) ? draw_floats(d, panels * 16) : NULL;
    float *y = draw_floats(d, rows * ldy), *t = copy_floats(y, rows * ldy);
    a->matmul_int8(x, ldx, rows, w, scales, panels, k, bias, y, ldy);
    b->matmul_int8(x, ldx, rows, w, scales, panels, k, bias, t, ldy);
    free(from), free(w), free(scales), free(bias);
    const bool same = same_take("quantize_int8", x, z, rows * ldx);
    return same_take("matmul_int8", y, t, rows * ldy) && same;
}

/* Numbers x [n], which are freed, as bf16 in a block of half the size. */
static float *take_bf16(float *x, size_t n) {
    float *words = aligned_alloc(64, (n * 2 + 63) / 64 * 64);
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = cch_bf16_round(x[i]);
        memcpy((char *)words + 2 * i, &half, sizeof half);
    }
    free(x);
    return words;
}

/* Pages as the KV cache has them: K [dim][16], V [16][ldv], n of them with so many numbers. */
static float **draw_pages(draw *d, size_t n, size_t numbers, bool halves) {
    float **pages = calloc(n + 1, sizeof *pages);
    for (size_t p = 0; p < n; p++) {
        pages[p] = aligned_floats(d, numbers);
        if (halves) pages[p] = take_bf16(pages[p], numbers);
    }
    return pages;
}

static void free_pages(float **pages, size_t n) {
    for (size_t p = 0; p < n; p++) free(pages[p]);
    free(pages);
}

static bool same_scores(const cch_kernels *a, const cch_kernels *b, draw *d, bool halves) {
    const size_t rows = draw_size(d, 0, 14), dim = draw_size(d, 1, 40), pages = draw_size(d, 0, 7);
    const size_t ldq = dim + draw_size(d, 0, 5), lds = 16 * pages + draw_size(d, 0, 3);
    const float scale = draw_float(d);
    float *q = draw_floats(d, rows * ldq), **k = draw_pages(d, pages, dim * 16, halves);
    float *s = draw_floats(d, rows * lds), *t = copy_floats(s, rows * lds);
    a->attn_scores(q, ldq, rows, (const float *const *)k, halves, pages, dim, scale, s, lds);
    b->attn_scores(q, ldq, rows, (const float *const *)k, halves, pages, dim, scale, t, lds);
    free(q), free_pages(k, pages);
    return same_take(halves ? "attn_scores of bf16" : "attn_scores", s, t, rows * lds);
}

static bool agree_scores(const cch_kernels *a, const cch_kernels *b, draw *d) {
    return same_scores(a, b, d, false) && same_scores(a, b, d, true);
}

static bool same_mix(const cch_kernels *a, const cch_kernels *b, draw *d, bool halves) {
    const size_t rows = draw_size(d, 0, 14), dim = draw_size(d, 1, 100), pages = draw_size(d, 1, 5);
    const size_t ldv = (dim + 15) / 16 * 16, ldp = 16 * pages + draw_size(d, 0, 3), ldo = dim + draw_size(d, 0, 3);
    const bool causal = draw_size(d, 0, 1), resume = draw_size(d, 0, 1);
    int32_t first[14], last[14];
    for (size_t r = 0; r < rows; r++) {
        first[r] = causal ? 0 : (int32_t)draw_size(d, 0, 16 * pages);
        last[r] = causal ? (int32_t)(r < 16 * pages ? r + 1 : 16 * pages)
                         : (int32_t)draw_size(d, (size_t)first[r], 16 * pages);
    }
    float *p = draw_floats(d, rows * ldp), **v = draw_pages(d, pages, 16 * ldv, halves);
    float *o = draw_floats(d, rows * ldo), *u = copy_floats(o, rows * ldo);
    const float *const *at = (const float *const *)v;
    a->attn_mix(p, ldp, rows, at, halves, first, last, dim, ldv, resume, o, ldo);
    b->attn_mix(p, ldp, rows, at, halves, first, last, dim, ldv, resume, u, ldo);
    free(p), free_pages(v, pages);
    return same_take(halves ? "attn_mix of bf16" : "attn_mix", o, u, rows * ldo);
}

static bool agree_mix(const cch_kernels *a, const cch_kernels *b, draw *d) {
    return same_mix(a, b, d, false) && same_mix(a, b, d, true);
}

static bool agree_softmax(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t n = draw_size(d, 1, 100), first = draw_size(d, 0, n - 1), last = draw_size(d, first + 1, n);
    float *s = draw_floats(d, n), *t = copy_floats(s, n);
    a->softmax(s, first, last);
    b->softmax(t, first, last);
    return same_take("softmax", s, t, n);
}

static bool agree_norms(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t n = draw_size(d, 1, 100);
    const float eps = 1e-5f;
    float *x = draw_floats(d, n), *w = draw_floats(d, n), *shift = draw_size(d, 0, 1) ? draw_floats(d, n) : NULL;
    float *y = draw_floats(d, n), *z = copy_floats(y, n), *u = copy_floats(x, n), *v = copy_floats(x, n);
    a->rms_norm(x, w, eps, n, y);
    b->rms_norm(x, w, eps, n, z);
    a->layer_norm(u, w, shift, eps, n, u);
    b->layer_norm(v, w, shift, eps, n, v);
    free(x), free(w), free(shift);
    const bool same = same_take("rms_norm", y, z, n);
    return same_take("layer_norm", u, v, n) && same;
}

static bool agree_rope(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t dim = 2 * draw_size(d, 1, 64);
    float *cosine = draw_floats(d, dim / 2), *sine = draw_floats(d, dim / 2);
    float *x = draw_floats(d, dim), *y = copy_floats(x, dim);
    a->rope(x, cosine, sine, dim);
    b->rope(y, cosine, sine, dim);
    free(cosine), free(sine);
    return same_take("rope", x, y, dim);
}

typedef void (*gated)(const float *, const float *, size_t, float *);

static bool agree_gated(const char *op, gated a, gated b, draw *d) {
    const size_t n = draw_size(d, 0, 100);
    float *gate = draw_floats(d, n), *up = draw_size(d, 0, 2) ? draw_floats(d, n) : NULL;
    float *y = draw_floats(d, n), *z = copy_floats(y, n);
    a(gate, up, n, y);
    b(gate, up, n, z);
    free(gate), free(up);
    return same_take(op, y, z, n);
}

static bool agree_elements(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t n = draw_size(d, 0, 100);
    float *x = draw_floats(d, n), *y = draw_floats(d, n), *z = copy_floats(y, n), *u = copy_floats(y, n);
    float *v = copy_floats(y, n);
    a->add(y, x, n);
    b->add(z, x, n);
    a->relu(x, n, u);
    b->relu(x, n, v);
    free(x);
    bool same = same_take("add", y, z, n); /* each takes its vectors, whatever the others found */
    same = same_take("relu", u, v, n) && same;
    same = agree_gated("silu_mul", a->silu_mul, b->silu_mul, d) && same;
    same = agree_gated("gelu_tanh_mul", a->gelu_tanh_mul, b->gelu_tanh_mul, d) && same;
    return agree_gated("gelu_erf_mul", a->gelu_erf_mul, b->gelu_erf_mul, d) && same;
}

static bool agree_sampler(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t n = draw_size(d, 1, 100);
    const double inv_t = fabs((double)draw_float(d));
    float *x = draw_floats(d, n), max[2];
    double *w = malloc(n * sizeof *w), *v = malloc(n * sizeof *v), sum[2];
    size_t index[2];
    bool same = true;
    a->max_f32(x, n, &max[0], &index[0]);
    b->max_f32(x, n, &max[1], &index[1]);
    a->exp_f64(x, n, max[0], inv_t, w, &sum[0]);
    b->exp_f64(x, n, max[0], inv_t, v, &sum[1]);
    for (size_t i = 0; i < n; i++) same &= memcmp(w + i, v + i, sizeof *w) == 0 || (isnan(w[i]) && isnan(v[i]));
    same &= memcmp(&sum[0], &sum[1], sizeof *sum) == 0 || (isnan(sum[0]) && isnan(sum[1]));
    if (!same) fprintf(stderr, "exp_f64: weights or sums %a and %a differ\n", sum[0], sum[1]);
    const double dot[2] = {a->dot_f64(w, x, n, max[0]), b->dot_f64(w, x, n, max[0])};
    const bool dots = memcmp(&dot[0], &dot[1], sizeof *dot) == 0 || (isnan(dot[0]) && isnan(dot[1]));
    if (!dots) fprintf(stderr, "dot_f64: %a and %a differ\n", dot[0], dot[1]);
    same &= dots;
    if (index[0] != index[1]) fprintf(stderr, "max_f32: index %zu and %zu\n", index[0], index[1]);
    same &= index[0] == index[1] && (memcmp(&max[0], &max[1], sizeof *max) == 0 || (isnan(max[0]) && isnan(max[1])));
    free(x), free(w), free(v);
    return same;
}

static bool agree_index(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t n = 32 * draw_size(d, 1, 5), rows = draw_size(d, 0, 11), queries = draw_size(d, 0, 9);
    const size_t ldo = rows + draw_size(d, 0, 3), most = INT32_MAX / 127 / n < 32639 ? INT32_MAX / 127 / n : 32639;
    int8_t *codes = malloc(rows * n + 1);
    int16_t *query = malloc((queries * n + 1) * sizeof *query);
    for (size_t i = 0; i < rows * n; i++) codes[i] = d->wild ? 127 : (int8_t)((int)draw_size(d, 0, 254) - 127);
    for (size_t i = 0; i < queries * n; i++)
        query[i] = d->wild ? (int16_t)most : (int16_t)((int)draw_size(d, 0, 2 * most) - (int)most);
    float *x = draw_floats(d, n), *y = draw_floats(d, n), *z = draw_floats(d, queries * ldo);
    float *u = copy_floats(z, queries * ldo);
    const size_t len = draw_size(d, 0, n);
    const double dot[2] = {a->dot_f32(x, y, len), b->dot_f32(x, y, len)};
    const bool dots = memcmp(&dot[0], &dot[1], sizeof *dot) == 0 || (isnan(dot[0]) && isnan(dot[1]));
    if (!dots) fprintf(stderr, "dot_f32: %a and %a differ\n", dot[0], dot[1]);
    a->scan_i8(codes, rows, n, query, queries, (int32_t *)z, ldo);
    b->scan_i8(codes, rows, n, query, queries, (int32_t *)u, ldo);
    const bool sums = memcmp(z, u, queries * ldo * sizeof *z) == 0;
    if (!sums) fprintf(stderr, "scan_i8: sums of %zu rows and %zu queries of %zu differ\n", rows, queries, n);
    free(codes), free(query), free(x), free(y), free(z), free(u);
    return dots && sums;
}

static bool agree_picks(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t n = 32 * draw_size(d, 1, 5), rows = draw_size(d, 1, 40), n_picks = draw_size(d, 0, rows);
    int8_t *codes = malloc(rows * n);
    int16_t query[160];
    uint16_t picks[40] = {0};
    int32_t sums[2][40];
    for (size_t i = 0; i < rows * n; i++) codes[i] = (int8_t)((int)draw_size(d, 0, 254) - 127);
    for (size_t i = 0; i < n; i++) query[i] = (int16_t)((int)draw_size(d, 0, 65534) - 32767);
    for (size_t i = 0; i < n_picks; i++) picks[i] = (uint16_t)draw_size(d, 0, rows - 1);
    a->pick_i8(codes, picks, n_picks, n, query, sums[0]);
    b->pick_i8(codes, picks, n_picks, n, query, sums[1]);
    const bool same = memcmp(sums[0], sums[1], n_picks * sizeof *sums[0]) == 0;
    if (!same) fprintf(stderr, "pick_i8: sums of %zu rows of %zu differ\n", n_picks, n);
    free(codes);
    return same;
}

static bool agree_sift(const cch_kernels *a, const cch_kernels *b, const uint16_t *sums, size_t most, draw *d) {
    const size_t n = draw_size(d, 0, most);
    const cch_sieve sieve = {1e-3f * draw_float(d), draw_float(d), draw_float(d), draw_float(d)};
    float *cosine = draw_floats(d, n), *sine = draw_floats(d, n);
    uint16_t picks[2][3 * 64] = {{0}};
    const size_t n_picks = a->sift_signs(sums, cosine, sine, n, &sieve, picks[0]);
    const bool same = b->sift_signs(sums, cosine, sine, n, &sieve, picks[1]) == n_picks &&
                      memcmp(picks[0], picks[1], sizeof picks[0]) == 0;
    if (!same) fprintf(stderr, "sift_signs: picks of %zu rows differ\n", n);
    free(cosine), free(sine);
    return same;
}

static bool agree_signs(const cch_kernels *a, const cch_kernels *b, draw *d) {
    const size_t groups = draw_size(d, 0, 3), n = draw_size(d, 1, 70);
    uint8_t *signs = malloc(groups * n * 64 + 1), *tables = malloc(n * 32);
    uint16_t sums[2][3 * 64];
    for (size_t i = 0; i < groups * n * 64; i++) signs[i] = (uint8_t)draw_u64(d);
    for (size_t i = 0; i < n * 32; i++) tables[i] = d->wild ? 127 : (uint8_t)draw_size(d, 0, 127);
    a->scan_signs(signs, groups, n, tables, sums[0]);
    b->scan_signs(signs, groups, n, tables, sums[1]);
    const bool same = memcmp(sums[0], sums[1], groups * 64 * sizeof *sums[0]) == 0;
    if (!same) fprintf(stderr, "scan_signs: sums of %zu groups of %zu bytes differ\n", groups, n);
    free(signs), free(tables);
    return same && agree_sift(a, b, sums[0], groups * 64, d);
}

static bool (*const agree_ops[])(const cch_kernels *, const cch_kernels *, draw *) = {
    agree_matmul, agree_dealt, agree_bf16, agree_int8, agree_scores, agree_mix, agree_softmax, agree_norms, agree_rope,
    agree_elements, agree_sampler, agree_index, agree_picks, agree_signs,
};
#define N_AGREE_OPS (sizeof agree_ops / sizeof *agree_ops)

#endif
