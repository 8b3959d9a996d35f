#include "sim/finder.h"

#include <math.h>
#include <stdlib.h> /* qsort */

#define GROUP 16 /* rows compared with the bar at once */

bool cch_hit_is_better(const cch_hit *a, const cch_hit *b) {
    return a->score > b->score || (a->score == b->score && a->at < b->at);
}

/* The largest float that is not above x. */
static float not_above(double x) {
    const float rounded = (float)x;
    return (double)rounded > x ? nextafterf(rounded, -INFINITY) : rounded;
}

static void raise_bar(cch_finder *f, float bar) { f->bar = bar > f->bar ? bar : f->bar; }

/* A threshold can be met exactly, so the bar is below it. */
void cch_finder_begin(cch_finder *f) {
    f->n_best = f->n_lows = f->n_waiting = 0;
    f->bar = f->hunt->threshold > -1.0 ? nextafterf(not_above(f->hunt->threshold), -INFINITY) : -INFINITY;
}

static void add_low(cch_finder *f, float low) {
    const size_t k = f->hunt->k;
    float *heap = f->lows;
    size_t at;
    if (f->n_lows == k && low <= heap[0]) return;
    if (f->n_lows < k) {
        for (at = f->n_lows++; at > 0 && heap[(at - 1) / 2] > low; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    } else {
        at = 0;
        for (size_t child; (child = 2 * at + 1) < k; at = child) {
            if (child + 1 < k && heap[child + 1] < heap[child]) child++;
            if (heap[child] >= low) break;
            heap[at] = heap[child];
        }
    }
    heap[at] = low;
    if (f->n_lows == k) raise_bar(f, heap[0]);
}

static void add_hit(cch_finder *f, const cch_hit *hit) {
    const size_t k = f->hunt->k;
    cch_hit *heap = f->best;
    size_t at;
    if (f->n_best == k && !cch_hit_is_better(hit, &heap[0])) return;
    if (f->n_best < k) {
        for (at = f->n_best++; at > 0 && cch_hit_is_better(&heap[(at - 1) / 2], hit); at = (at - 1) / 2)
            heap[at] = heap[(at - 1) / 2];
    } else {
        at = 0;
        for (size_t child; (child = 2 * at + 1) < k; at = child) {
            if (child + 1 < k && cch_hit_is_better(&heap[child], &heap[child + 1])) child++;
            if (!cch_hit_is_better(hit, &heap[child])) break;
            heap[at] = heap[child];
        }
    }
    heap[at] = *hit;
    if (f->n_best == k) raise_bar(f, not_above(heap[0].score));
}

static void score(cch_finder *f, uint64_t at) {
    const cch_hunt *h = f->hunt;
    const cch_rows *rows = h->snapshot->spans[at >> 32].rows;
    const size_t row = at & UINT32_MAX;
    const float *x = cch_rows_values(rows, h->shape, row, f->scratch);
    const cch_hit hit = {cch_cosine(h->kern, f->query, f->coded.square, x, h->shape->dimension), at, rows->keys[row]};
    if (hit.score >= h->threshold) add_hit(f, &hit);
}

/* Drops what the bar has overtaken.  What is level with it may be what raised it. */
static void sift(cch_finder *f) {
    size_t n = 0;
    for (size_t i = 0; i < f->n_waiting; i++)
        if (f->waiting[i].upper >= f->bar) f->waiting[n++] = f->waiting[i];
    f->n_waiting = n;
}

static void make_room(cch_finder *f) {
    sift(f);
    if (f->n_waiting <= CCH_CANDIDATES / 2) return;
    for (size_t i = 0; i < f->n_waiting; i++)
        if (f->waiting[i].upper >= f->bar) score(f, f->waiting[i].at);
    f->n_waiting = 0;
}

static void consider(cch_finder *f, const cch_span *span, uint64_t at, size_t row, float upper) {
    if (upper <= f->bar || cch_span_is_dead(span, row)) return;
    if (f->n_waiting == CCH_CANDIDATES) {
        make_room(f);
        if (upper <= f->bar) return;
    }
    f->waiting[f->n_waiting++] = (cch_candidate){at | row, upper};
    add_low(f, upper - 2.0f * (span->rows->error[row] * f->coded.factor + f->coded.slack));
}

void cch_finder_show(cch_finder *f, size_t span_index, size_t first, size_t n, const int32_t *sums) {
    const cch_span *span = &f->hunt->snapshot->spans[span_index];
    const float *weight = span->rows->weight + first, *error = span->rows->error + first;
    const float gain = f->coded.gain, factor = f->coded.factor, slack = f->coded.slack;
    const uint64_t at = (uint64_t)span_index << 32;
    float upper[CCH_CHUNK];
    for (size_t i = 0; i < n; i++) upper[i] = (float)sums[i] * weight[i] * gain + (error[i] * factor + slack);
    for (size_t i = n; i % GROUP != 0; i++) upper[i] = -INFINITY;
    for (size_t group = 0; group < n; group += GROUP) {
        int above = 0;
        for (size_t i = group; i < group + GROUP; i++) above |= upper[i] > f->bar;
        if (!above) continue;
        for (size_t i = group; i < group + GROUP; i++)
            if (upper[i] > f->bar) consider(f, span, at, first + i, upper[i]);
    }
}

void cch_finder_show_picks(cch_finder *f, size_t span_index, size_t first, const uint16_t *picks, size_t n_picks,
                           const int32_t *sums) {
    const cch_span *span = &f->hunt->snapshot->spans[span_index];
    const float *weight = span->rows->weight, *error = span->rows->error;
    for (size_t i = 0; i < n_picks; i++) {
        const size_t row = first + picks[i];
        const float bound = error[row] * f->coded.factor + f->coded.slack;
        consider(f, span, (uint64_t)span_index << 32, row, (float)sums[i] * weight[row] * f->coded.gain + bound);
    }
}

static int by_upper(const void *a, const void *b) {
    const cch_candidate *x = a, *y = b;
    return x->upper < y->upper ? 1 : x->upper > y->upper ? -1 : x->at > y->at ? 1 : -1;
}

/* Best bounds first, so that the bar is high when the others come. */
void cch_finder_end(cch_finder *f) {
    sift(f);
    qsort(f->waiting, f->n_waiting, sizeof *f->waiting, by_upper);
    for (size_t i = 0; i < f->n_waiting && f->waiting[i].upper >= f->bar; i++) score(f, f->waiting[i].at);
    f->n_waiting = 0;
}

void cch_finder_take(cch_finder *f, const cch_finder *other) {
    for (size_t i = 0; i < other->n_best; i++) add_hit(f, &other->best[i]);
}
