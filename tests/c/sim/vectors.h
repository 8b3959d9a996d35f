/* vectors - drawn rows for the tests of the index, and the search that looks at all of them. */
#ifndef CCH_TESTS_VECTORS_H
#define CCH_TESTS_VECTORS_H

#include "check.h"

#include "sim/codes.h"

static uint64_t vectors_state = 1;

static inline uint64_t drawn(void) {
    uint64_t z = vectors_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline size_t drawn_below(size_t n) { return (size_t)(drawn() % n); }
static inline float drawn_float(void) { return (float)((double)(int64_t)drawn() / 0x1p+63); }

/* Kinds: 0 tame; 1 near the first row; 2 equal to it; 3 zeros; 4 tiny; 5 huge; 6 one large number; 7 opposite. */
static inline void draw_row(float *x, const float *first, size_t d, int kind) {
    for (size_t i = 0; i < d; i++) {
        const float u = drawn_float();
        switch (kind) {
        case 1: x[i] = first[i] * (1.0f + 1e-6f * u); break;
        case 2: x[i] = first[i]; break;
        case 3: x[i] = 0.0f; break;
        case 4: x[i] = u * 1e-43f; break;
        case 5: x[i] = u * 3e38f; break;
        case 6: x[i] = i == d / 2 ? 1000.0f : u * 1e-3f; break;
        case 7: x[i] = -first[i]; break;
        default: x[i] = u;
        }
    }
}

/* rows [n, d], the caller's. */
static inline float *draw_rows(size_t n, size_t d) {
    float *x = malloc(n * d * sizeof *x + 1);
    for (size_t r = 0; r < n; r++) draw_row(x + r * d, x, d, r == 0 || r % 3 == 0 ? 0 : (int)drawn_below(8));
    return x;
}

typedef struct found {
    int64_t key;
    double score;
} found;

static inline int by_score(const void *a, const void *b) {
    const found *x = a, *y = b;
    return x->score < y->score ? 1 : x->score > y->score ? -1 : x->key > y->key ? 1 : -1;
}

/* All of rows [n, d] with at least `threshold`, best first; keys are the places in x.  out [n]. */
static inline size_t brute_force(const float *x, size_t n, size_t d, const float *query, double threshold, found *out) {
    const cch_kernels *kern = NULL;
    size_t count = 0;
    cch_kernels_get("generic", &kern, NULL);
    for (size_t r = 0; r < n; r++) {
        const double score = cch_cosine(kern, query, kern->dot_f32(query, query, d), x + r * d, d);
        if (score >= threshold) out[count++] = (found){(int64_t)r, score};
    }
    qsort(out, count, sizeof *out, by_score);
    return count;
}

#endif
