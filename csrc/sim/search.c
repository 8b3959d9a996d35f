/* search - the walk of a search: chunks of rows go through the scan for a group of queries, on one or more threads.
 *
 * A chunk comes from memory once and serves all queries of a group from cache.  Each thread has a part of the rows and
 * finders of its own; the best of theirs are the best of all, since scores are exact: the split cannot be seen.
 */
#include <math.h>
#include <stdlib.h> /* qsort */
#include <string.h>

#include "base/alloc.h"
#include "sim/finder.h"
#include "sim/index.h"

#define GROUP_QUERIES 32
#define GROUP_CHUNK 128                  /* rows of which a cache keeps what all queries of a group read */
#define GROUP_HITS ((size_t)1 << 16)     /* of a group of queries, per thread */
#define WORTH_A_THREAD ((size_t)2 << 20) /* bytes to scan for which another thread is woken */

typedef struct search {
    cch_hunt hunt;
    const float *queries;    /* borrowed: of the group */
    size_t n_queries, chunk; /* chunk: rows scanned at once */
    int n_threads;
    const volatile int *cancel; /* borrowed, NULL for none */
    int16_t *codes;          /* owned [n_queries][stride] */
    cch_finder *finders;     /* owned [n_threads][n_queries] */
    cch_hit *hits;           /* owned [n_threads][n_queries][k] */
    float *lows;             /* owned, likewise */
    cch_candidate *waiting;  /* owned [n_threads][n_queries][CCH_CANDIDATES] */
    int32_t *sums;           /* owned [n_threads][n_queries][chunk] */
    float *scratch;          /* owned [n_threads][dimension] */
} search;

static void search_deinit(search *s) {
    cch_free(s->codes);
    cch_free(s->finders);
    cch_free(s->hits);
    cch_free(s->lows);
    cch_free(s->waiting);
    cch_free(s->sums);
    cch_free(s->scratch);
}

static cch_status search_init(search *s, cch_error *err) {
    cch_status status = CCH_OK;
    const size_t n_finders = (size_t)s->n_threads * s->n_queries;
    CCH_NEW(s->codes, s->n_queries * s->hunt.shape->stride, err);
    CCH_ZNEW(s->finders, n_finders, err);
    CCH_NEW(s->hits, n_finders * s->hunt.k, err);
    CCH_NEW(s->lows, n_finders * s->hunt.k, err);
    CCH_NEW(s->waiting, n_finders * CCH_CANDIDATES, err);
    CCH_NEW(s->sums, n_finders * s->chunk, err);
    CCH_NEW(s->scratch, (size_t)s->n_threads * s->hunt.shape->dimension, err);
    return CCH_OK;
done:
    search_deinit(s);
    return status;
}

/* Gives the finders of all threads the group's queries. */
static void begin_group(search *s) {
    const cch_shape *shape = s->hunt.shape;
    for (size_t i = 0; i < (size_t)s->n_threads * s->n_queries; i++) {
        const size_t q = i % s->n_queries;
        cch_finder *f = &s->finders[i];
        *f = (cch_finder){.hunt = &s->hunt, .query = s->queries + q * shape->dimension};
        if (i == q) {
            cch_codes_of_query(s->hunt.kern, f->query, shape->dimension, s->codes + q * shape->stride, &f->coded);
        } else {
            f->coded = s->finders[q].coded;
        }
        f->best = s->hits + i * s->hunt.k;
        f->lows = s->lows + i * s->hunt.k;
        f->waiting = s->waiting + i * CCH_CANDIDATES;
        f->scratch = s->scratch + i / s->n_queries * shape->dimension;
        cch_finder_begin(f);
    }
}

static bool is_cancelled(const search *s) { return s->cancel != NULL && *s->cancel != 0; }

/* What the finders need of these rows comes from memory while their codes are scanned. */
static void fetch_bounds(const cch_rows *rows, size_t first, size_t n) {
    for (size_t i = first; i < first + n; i += 64 / sizeof(float)) {
        __builtin_prefetch(rows->weight + i);
        __builtin_prefetch(rows->error + i);
    }
}

static void scan_span(const search *s, cch_finder *finders, int32_t *sums, size_t span, size_t first, size_t last) {
    const cch_rows *rows = s->hunt.snapshot->spans[span].rows;
    const size_t stride = s->hunt.shape->stride;
    for (size_t n; first < last && !is_cancelled(s); first += n) {
        n = last - first < s->chunk ? last - first : s->chunk;
        fetch_bounds(rows, first, n);
        s->hunt.kern->scan_i8(rows->codes + first * stride, n, stride, s->codes, s->n_queries, sums, s->chunk);
        for (size_t q = 0; q < s->n_queries; q++) cch_finder_show(&finders[q], span, first, n, sums + q * s->chunk);
    }
}

/* The job of a thread; when fewer are worth it than there are, the others have nothing to do. */
static void scan_part(void *arg, int thread, int n_threads) {
    const search *s = arg;
    const cch_snapshot *snapshot = s->hunt.snapshot;
    size_t first, last, before = 0;
    (void)n_threads;
    if (thread >= s->n_threads) return;
    cch_split(snapshot->n_rows, s->n_threads, thread, &first, &last);
    cch_finder *finders = s->finders + (size_t)thread * s->n_queries;
    int32_t *sums = s->sums + (size_t)thread * s->n_queries * s->chunk;
    for (size_t i = 0; i < snapshot->n_spans && before < last; before += snapshot->spans[i++].n) {
        const size_t n = snapshot->spans[i].n;
        if (first >= before + n) continue;
        scan_span(s, finders, sums, i, first > before ? first - before : 0, last < before + n ? last - before : n);
    }
    for (size_t q = 0; q < s->n_queries; q++) cch_finder_end(&finders[q]);
}

static int by_rank(const void *a, const void *b) { return cch_hit_is_better(a, b) ? -1 : 1; }

/* The best of what the threads found for query q, and nothing behind them up to `width`. */
static size_t collect(const search *s, size_t q, size_t width, int64_t *keys, double *scores) {
    cch_finder *f = &s->finders[q];
    for (int t = 1; t < s->n_threads; t++) cch_finder_take(f, &s->finders[(size_t)t * s->n_queries + q]);
    qsort(f->best, f->n_best, sizeof *f->best, by_rank);
    for (size_t i = 0; i < width; i++) {
        keys[i] = i < f->n_best ? f->best[i].key : -1;
        scores[i] = i < f->n_best ? f->best[i].score : (double)NAN;
    }
    return f->n_best;
}

/* The index's threads, unless another search has them or there are none to be had: one gives the same result. */
static cch_threads *borrow_threads(cch_index *index) {
    if (pthread_mutex_trylock(&index->pool) != 0) return NULL;
    if (index->threads != NULL || cch_threads_new(index->n_threads, &index->threads, NULL) == CCH_OK)
        return index->threads;
    pthread_mutex_unlock(&index->pool);
    return NULL;
}

static int threads_worth(const cch_index *index, const cch_snapshot *snapshot, size_t n_queries) {
    const size_t worth = snapshot->n_rows * index->shape.stride * n_queries / WORTH_A_THREAD;
    return worth < (size_t)index->n_threads ? (int)worth : index->n_threads;
}

static cch_status run_groups(search *s, cch_threads *threads, size_t n, size_t k, int64_t *out_keys,
                             double *out_scores, size_t *out_n, cch_error *err) {
    const float *queries = s->queries;
    const size_t group = s->n_queries;
    CCH_RETURN_IF(search_init(s, err));
    for (size_t q = 0; q < n; q += s->n_queries) {
        s->n_queries = n - q < group ? n - q : group;
        s->queries = queries + q * s->hunt.shape->dimension;
        begin_group(s);
        if (threads != NULL) cch_threads_run(threads, scan_part, s);
        else scan_part(s, 0, 1);
        if (is_cancelled(s)) break;
        for (size_t i = 0; i < s->n_queries; i++)
            out_n[q + i] = collect(s, i, k, out_keys + (q + i) * k, out_scores + (q + i) * k);
    }
    search_deinit(s);
    if (is_cancelled(s)) CCH_FAIL(err, CCH_E_CANCELLED, -1, "the search was cancelled");
    return CCH_OK;
}

static cch_status check_search(const cch_index *index, const float *queries, size_t n, size_t k, double threshold,
                               cch_error *err) {
    if (k < 1) CCH_FAIL(err, CCH_E_ARGUMENT, -1, "k is 0, allowed: 1 or more");
    if (!(threshold >= -1.0 && threshold <= 1.0))
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "threshold is %g, allowed: -1 to 1", threshold);
    return cch_index_check(index, queries, n, "query", err);
}

cch_status cch_index_search(cch_index *index, const float *queries, size_t n, size_t k, double threshold,
                            const volatile int *cancel, int64_t *out_keys, double *out_scores, size_t *out_n,
                            cch_error *err) {
    CCH_RETURN_IF(check_search(index, queries, n, k, threshold, err));
    if (n == 0) return CCH_OK;
    cch_index_ref(index);
    cch_snapshot *snapshot = cch_index_now(index);
    const size_t most = k < snapshot->n_live ? k : snapshot->n_live, fit = GROUP_HITS / (most > 0 ? most : 1);
    const size_t group = fit < 1 ? 1 : fit < GROUP_QUERIES ? fit : GROUP_QUERIES;
    search s = {.hunt = {snapshot, &index->shape, index->kern, most, threshold},
                .queries = queries,
                .n_queries = n < group ? n : group,
                .chunk = n == 1 ? CCH_CHUNK : GROUP_CHUNK,
                .n_threads = 1,
                .cancel = cancel};
    const int worth = threads_worth(index, snapshot, s.n_queries);
    cch_threads *threads = worth > 1 ? borrow_threads(index) : NULL;
    if (threads != NULL) s.n_threads = worth;
    const cch_status status = run_groups(&s, threads, n, k, out_keys, out_scores, out_n, err);
    if (threads != NULL) pthread_mutex_unlock(&index->pool);
    cch_snapshot_unref(snapshot);
    cch_index_unref(index);
    return status;
}
