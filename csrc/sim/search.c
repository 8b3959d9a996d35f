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
#define FEW 4                            /* one row of so many: their codes are read where they lie */
#define WORTH_SIGNS 256                  /* rows for which signs are asked, where a threshold lets them sift at once */
#define LEAST_AT_ONCE 0.7                /* such a threshold */
#define TRIAL 128                        /* rows whose signs are asked first, to see whether they leave few */
#define MOST_WAIT 65536                  /* rows that are scanned between two trials, at most */
#define WORTH_A_THREAD ((size_t)2 << 20) /* bytes to scan for which another thread is woken */

typedef struct search {
    cch_hunt hunt;
    const float *queries;    /* borrowed: of the group */
    size_t n_queries, chunk; /* chunk: rows scanned at once */
    int n_threads;
    const volatile int *cancel; /* borrowed, NULL for none */
    int16_t *codes;          /* owned [n_queries][stride] */
    cch_signed_query asked;  /* of a single query; tables owned, NULL where signs are not asked */
    cch_finder *finders;     /* owned [n_threads][n_queries] */
    cch_hit *hits;           /* owned [n_threads][n_queries][k] */
    float *lows;             /* owned, likewise */
    cch_candidate *waiting;  /* owned [n_threads][n_queries][CCH_CANDIDATES] */
    int32_t *sums;           /* owned [n_threads][n_queries][chunk] */
    float *scratch;          /* owned [n_threads][dimension] */
} search;

static void search_deinit(search *s) {
    cch_free(s->codes);
    cch_free(s->asked.tables);
    cch_free(s->finders);
    cch_free(s->hits);
    cch_free(s->lows);
    cch_free(s->waiting);
    cch_free(s->sums);
    cch_free(s->scratch);
}

/* Signs sift for one query, where so many rows may be left out that its tables are worth their making. */
static bool asks_signs(const search *s) {
    const bool at_once = s->hunt.threshold > LEAST_AT_ONCE;
    return cch_has_signs(s->hunt.shape) && s->n_queries == 1 &&
           s->hunt.snapshot->n_rows > (at_once ? WORTH_SIGNS : CCH_CHUNK);
}

static cch_status search_init(search *s, cch_error *err) {
    cch_status status = CCH_OK;
    const size_t n_finders = (size_t)s->n_threads * s->n_queries;
    CCH_NEW(s->codes, s->n_queries * s->hunt.shape->stride, err);
    if (asks_signs(s)) CCH_NEW(s->asked.tables, cch_sign_table_bytes(s->hunt.shape->dimension), err);
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
        if (i == q && s->asked.tables != NULL)
            cch_signs_of_query(s->hunt.kern, f->query, shape->dimension, &s->asked);
        f->best = s->hits + i * s->hunt.k;
        f->lows = s->lows + i * s->hunt.k;
        f->waiting = s->waiting + i * CCH_CANDIDATES;
        f->scratch = s->scratch + i / s->n_queries * shape->dimension;
        cch_finder_begin(f);
    }
}

static bool is_cancelled(const search *s) { return s->cancel != NULL && *s->cancel != 0; }

/* A thread's way through its part of the rows. */
typedef struct walk {
    const search *search;
    cch_finder *finders;  /* [n_queries] */
    int32_t *sums;        /* [n_queries][chunk] */
    size_t wait, waited;  /* rows that are scanned before the next trial; and how many these were last */
    bool sifts;           /* signs left few rows the last time */
} walk;

/* What the finders need of these rows comes from memory while their codes are scanned. */
static void fetch_bounds(const cch_rows *rows, size_t first, size_t n) {
    for (size_t i = first; i < first + n; i += 64 / sizeof(float)) {
        __builtin_prefetch(rows->weight + i);
        __builtin_prefetch(rows->error + i);
    }
}

static void scan_chunk(const walk *w, size_t span, size_t first, size_t n) {
    const search *s = w->search;
    const cch_rows *rows = s->hunt.snapshot->spans[span].rows;
    const size_t stride = s->hunt.shape->stride;
    fetch_bounds(rows, first, n);
    s->hunt.kern->scan_i8(rows->codes + first * stride, n, stride, s->codes, s->n_queries, w->sums, s->chunk);
    for (size_t q = 0; q < s->n_queries; q++) cch_finder_show(&w->finders[q], span, first, n, w->sums + q * s->chunk);
}

/* The same for one query and rows from a multiple of CCH_SIGN_ROWS on, reading the codes of those only that their signs
 * leave.  False when these are too many: nothing is done then. */
static bool sift_chunk(const walk *w, size_t span, size_t first, size_t n) {
    const search *s = w->search;
    const cch_kernels *kern = s->hunt.kern;
    const cch_rows *rows = s->hunt.snapshot->spans[span].rows;
    const size_t stride = s->hunt.shape->stride, n_bytes = cch_sign_bytes(s->hunt.shape->dimension);
    uint16_t sums[CCH_CHUNK], picks[CCH_CHUNK];
    kern->scan_signs(rows->signs.bits + first * n_bytes, (n + CCH_SIGN_ROWS - 1) / CCH_SIGN_ROWS, n_bytes,
                     s->asked.tables, sums);
    const cch_sieve sieve = cch_signs_sieve(&s->asked, w->finders->bar);
    const size_t n_picks =
        kern->sift_signs(sums, rows->signs.cosine + first, rows->signs.sine + first, n, &sieve, picks);
    if (n_picks > n / FEW) return false;
    for (size_t i = 0; i < n_picks; i++) fetch_bounds(rows, first + picks[i], 1);
    kern->pick_i8(rows->codes + first * stride, picks, n_picks, stride, s->codes, w->sums);
    cch_finder_show_picks(w->finders, span, first, picks, n_picks, w->sums);
    return true;
}

/* Where the group of signs after so many rows of n begins: all that is sifted begins there. */
static size_t group_begin(size_t row, size_t n) {
    row = (row + CCH_SIGN_ROWS - 1) / CCH_SIGN_ROWS * CCH_SIGN_ROWS;
    return row < n ? row : n;
}

/* Sifts rows [first, first + n), or a few of them on trial, and returns how many; 0: `wait` rows are to be scanned.
 * These double each time that signs rule too little out, as they do before near rows have raised the bar. */
static size_t sift_some(walk *w, size_t span, size_t first, size_t n) {
    if (!w->sifts && n > TRIAL) n = TRIAL;
    w->sifts = cch_signs_can_sift(w->finders->bar) && sift_chunk(w, span, first, n);
    if (w->sifts) {
        w->waited = 0;
        return n;
    }
    w->waited = w->waited == 0 ? TRIAL : 2 * w->waited < MOST_WAIT ? 2 * w->waited : MOST_WAIT;
    w->wait = w->waited;
    return 0;
}

static void scan_span(walk *w, size_t span, size_t first, size_t last) {
    const search *s = w->search;
    const cch_span *shown = &s->hunt.snapshot->spans[span];
    const size_t signed_rows = s->asked.tables != NULL ? cch_rows_signed(shown->rows, shown->n) : 0;
    for (size_t n; first < last && !is_cancelled(s); first += n) {
        const bool is_signed = first < signed_rows;
        const size_t left = (is_signed && signed_rows < last ? signed_rows : last) - first;
        const size_t most = left < s->chunk ? left : s->chunk;
        if (is_signed && w->wait == 0 && (n = sift_some(w, span, first, most)) > 0) continue;
        n = is_signed ? group_begin(w->wait, most) : most;
        scan_chunk(w, span, first, n);
        w->wait -= n < w->wait ? n : w->wait;
    }
}

/* The job of a thread; when fewer are worth it than there are, the others have nothing to do. */
static void scan_part(void *arg, int thread, int n_threads) {
    const search *s = arg;
    const cch_snapshot *snapshot = s->hunt.snapshot;
    const size_t at = (size_t)thread * s->n_queries;
    size_t first, last, before = 0;
    (void)n_threads;
    if (thread >= s->n_threads) return;
    cch_split(snapshot->n_rows, s->n_threads, thread, &first, &last);
    walk w = {.search = s, .finders = s->finders + at, .sums = s->sums + at * s->chunk};
    for (size_t i = 0; i < snapshot->n_spans && before < last; before += snapshot->spans[i++].n) {
        const size_t n = snapshot->spans[i].n;
        if (first >= before + n) continue;
        scan_span(&w, i, first > before ? group_begin(first - before, n) : 0,
                  last < before + n ? group_begin(last - before, n) : n);
    }
    for (size_t q = 0; q < s->n_queries; q++) cch_finder_end(&w.finders[q]);
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
