#include "sim/index.h"

#include <math.h>
#include <stdio.h> /* snprintf */
#include <string.h>

#include "base/alloc.h"
#include "base/cpu.h"

#define LEAST_ROWS 64 /* of a block */

/* -------------------------------------------------------------------------------------------- the object ---- */

static cch_status check_options(int32_t dimension, const cch_index_options *options, cch_error *err) {
    if (dimension < 1 || dimension > CCH_INDEX_MAX_DIMENSION)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "dimension is %d, allowed: 1 to %d", dimension, CCH_INDEX_MAX_DIMENSION);
    if ((int)options->dtype < CCH_ROWS_F32 || (int)options->dtype > CCH_ROWS_INT8)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "dtype is %d, allowed: 0 (f32), 1 (bf16) and 2 (int8)", (int)options->dtype);
    if (options->n_threads < 0 || options->n_threads > CCH_MAX_THREADS)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "n_threads is %d, allowed: 1 to %d, or 0 for the cores there are",
                 options->n_threads, CCH_MAX_THREADS);
    return CCH_OK;
}

cch_status cch_index_new(int32_t dimension, const cch_index_options *options, cch_index **out, cch_error *err) {
    static const cch_index_options defaults = CCH_INDEX_OPTIONS_INIT;
    cch_status status = CCH_OK;
    cch_index *index = NULL;
    *out = NULL;
    if (options == NULL) options = &defaults;
    CCH_RETURN_IF(check_options(dimension, options, err));
    CCH_ZNEW(index, 1, err);
    atomic_init(&index->refs, 1);
    pthread_mutex_init(&index->lock, NULL); /* on Linux, a plain mutex needs nothing that could be missing */
    pthread_mutex_init(&index->writing, NULL);
    pthread_mutex_init(&index->pool, NULL);
    index->shape = (cch_shape){(size_t)dimension, cch_codes_stride((size_t)dimension), options->dtype};
    index->n_threads = options->n_threads > 0 ? options->n_threads : cch_cpu_cores();
    if (index->n_threads > CCH_MAX_THREADS) index->n_threads = CCH_MAX_THREADS;
    CCH_TRY(cch_kernels_get(options->isa, &index->kern, err));
    CCH_NEW(index->scratch, (size_t)dimension, err);
    CCH_TRY(cch_snapshot_copy(NULL, 0, &index->now, err));
    *out = index;
    index = NULL;
done:
    cch_index_unref(index);
    return status;
}

cch_index *cch_index_ref(cch_index *index) {
    atomic_fetch_add_explicit(&index->refs, 1, memory_order_relaxed);
    return index;
}

void cch_index_unref(cch_index *index) {
    if (index == NULL || atomic_fetch_sub_explicit(&index->refs, 1, memory_order_acq_rel) > 1) return;
    cch_snapshot_unref(index->now);
    cch_keymap_deinit(&index->map);
    cch_threads_free(index->threads);
    cch_free(index->scratch);
    pthread_mutex_destroy(&index->lock);
    pthread_mutex_destroy(&index->writing);
    pthread_mutex_destroy(&index->pool);
    cch_free(index);
}

cch_snapshot *cch_index_now(cch_index *index) {
    pthread_mutex_lock(&index->lock);
    cch_snapshot *now = cch_snapshot_ref(index->now);
    pthread_mutex_unlock(&index->lock);
    return now;
}

void cch_index_publish(cch_index *index, cch_snapshot *next) {
    next->key_bytes = cch_keymap_bytes(&index->map);
    pthread_mutex_lock(&index->lock);
    cch_snapshot *before = index->now;
    index->now = next;
    pthread_mutex_unlock(&index->lock);
    cch_snapshot_unref(before);
}

cch_status cch_index_check(const cch_index *index, const float *rows, size_t n, const char *what, cch_error *err) {
    const size_t d = index->shape.dimension;
    for (size_t r = 0; r < n; r++) {
        const float *x = rows + r * d;
        float sum = 0.0f;
        for (size_t i = 0; i < d; i++) sum += x[i] * 0.0f; /* 0, or NaN when a number is not finite */
        if (sum == 0.0f) continue;
        for (size_t i = 0; i < d; i++)
            if (!isfinite(x[i]))
                CCH_FAIL(err, CCH_E_ARGUMENT, r, "number %zu of %s %zu is %g, allowed: finite numbers", i, what, r,
                         (double)x[i]);
    }
    return CCH_OK;
}

void cch_index_get_info(cch_index *index, cch_index_info *out) {
    cch_snapshot *now = cch_index_now(index);
    *out = (cch_index_info){.dimension = (int32_t)index->shape.dimension,
                            .dtype = index->shape.dtype,
                            .n_threads = index->n_threads,
                            .n_rows = now->n_live};
    snprintf(out->isa, sizeof out->isa, "%s", index->kern->name);
    for (size_t i = 0; i < now->n_spans; i++) {
        const cch_rows *rows = now->spans[i].rows;
        out->bytes += rows->bytes;
        out->mapped_bytes += rows->mapped_bytes;
    }
    out->bytes += now->key_bytes;
    cch_snapshot_unref(now);
}

/* ------------------------------------------------------------------------------------------------- adding ---- */

/* Where the next row goes: behind the rows of the last span, then into blocks that follow. */
typedef struct cursor {
    cch_snapshot *snapshot;
    size_t span, row;
} cursor;

static cursor cursor_at_end(cch_snapshot *snapshot) {
    const size_t n = snapshot->n_spans;
    return n > 0 ? (cursor){snapshot, n - 1, snapshot->spans[n - 1].n} : (cursor){snapshot, 0, 0};
}

static cch_rows *cursor_next(cursor *at, size_t *out_row) {
    if (at->row == at->snapshot->spans[at->span].rows->capacity) at->span++, at->row = 0;
    *out_row = at->row++;
    return at->snapshot->spans[at->span].rows;
}

/* Rows of the blocks that n more rows need, one after another: as many as there are already, within bounds. */
static size_t block_rows(size_t n_rows, size_t left) {
    size_t rows = n_rows > left ? n_rows : left;
    return rows < LEAST_ROWS ? LEAST_ROWS : rows > CCH_BLOCK_ROWS ? CCH_BLOCK_ROWS : rows;
}

static void drop_blocks(cch_index *index, const cch_snapshot *next, size_t first) {
    for (size_t i = first; i < next->n_spans; i++) cch_keymap_drop_block(&index->map, next->spans[i].rows);
}

/* A copy of the newest snapshot with empty blocks at its end, so that n rows fit. */
static cch_status make_room(cch_index *index, size_t n, cch_snapshot **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_snapshot *next = NULL;
    cch_rows *rows = NULL;
    const cch_snapshot *now = index->now;
    const cch_span *last = now->n_spans > 0 ? &now->spans[now->n_spans - 1] : NULL;
    const size_t room = last != NULL ? last->rows->capacity - last->n : 0, left = n > room ? n - room : 0;
    const size_t size = block_rows(now->n_rows, left), extra = (left + size - 1) / size;
    CCH_RETURN_IF(cch_snapshot_copy(now, extra, &next, err));
    for (size_t i = 0; i < extra; i++) {
        CCH_TRY(cch_rows_new(&index->shape, size, &rows, err));
        CCH_TRY(cch_keymap_add_block(&index->map, rows, err));
        cch_snapshot_append(next, rows);
        rows = NULL;
    }
    *out = next;
    return CCH_OK;
done:
    drop_blocks(index, next, now->n_spans);
    cch_snapshot_unref(next);
    cch_rows_unref(rows);
    return status;
}

static cch_status check_keys(const cch_index *index, const int64_t *keys, size_t n, cch_error *err) {
    const uint64_t left = (uint64_t)INT64_MAX + 1 - index->now->next_key;
    for (size_t i = 0; keys != NULL && i < n; i++)
        if (keys[i] < 0) CCH_FAIL(err, CCH_E_ARGUMENT, i, "key %lld is negative", (long long)keys[i]);
    if (keys == NULL && n > left)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "%llu keys are left behind the largest, %zu rows were given none",
                 (unsigned long long)left, n);
    return CCH_OK;
}

static void forget_keys(cch_index *index, cursor at, size_t n) {
    size_t row;
    for (size_t i = 0; i < n; i++) {
        const cch_rows *rows = cursor_next(&at, &row);
        cch_keymap_drop(&index->map, rows->keys[row]);
    }
}

/* Enters n keys.  E_ARGUMENT when one is in use: none is entered. */
static cch_status enter_keys(cch_index *index, cursor at, const int64_t *keys, size_t n, cch_error *err) {
    const cursor first = at;
    size_t row;
    for (size_t i = 0; i < n; i++) {
        cch_rows *rows = cursor_next(&at, &row);
        const int64_t key = keys != NULL ? keys[i] : (int64_t)(index->now->next_key + i);
        if (cch_keymap_find(&index->map, key) != CCH_NO_PLACE) {
            forget_keys(index, first, i);
            CCH_FAIL(err, CCH_E_ARGUMENT, i, "key %lld is in use: each row has its own, and a row is replaced by "
                     "removing the old one", (long long)key);
        }
        rows->keys[row] = key;
        cch_keymap_put(&index->map, rows, row);
    }
    return CCH_OK;
}

static void fill(cch_index *index, cursor at, const float *x, size_t n, int64_t *out_keys) {
    cch_snapshot *next = at.snapshot;
    size_t row;
    for (size_t i = 0; i < n; i++) {
        cch_rows *rows = cursor_next(&at, &row);
        cch_rows_put(rows, &index->shape, index->kern, row, x + i * index->shape.dimension, index->scratch);
        next->spans[at.span].n = row + 1;
        if (out_keys != NULL) out_keys[i] = rows->keys[row];
        if ((uint64_t)rows->keys[row] >= next->next_key) next->next_key = (uint64_t)rows->keys[row] + 1;
    }
    next->n_live += n;
    next->n_rows += n;
}

cch_status cch_index_add(cch_index *index, const float *rows, size_t n, const int64_t *keys, int64_t *out_keys,
                         cch_error *err) {
    cch_status status = CCH_OK;
    cch_snapshot *next = NULL;
    if (n == 0) return CCH_OK;
    CCH_RETURN_IF(cch_index_check(index, rows, n, "row", err));
    cch_index_ref(index);
    pthread_mutex_lock(&index->writing);
    const size_t before = index->now->n_spans;
    cursor at = cursor_at_end(index->now);
    CCH_TRY(check_keys(index, keys, n, err));
    CCH_TRY(cch_keymap_reserve(&index->map, n, err));
    CCH_TRY(make_room(index, n, &next, err));
    at.snapshot = next;
    CCH_TRY(enter_keys(index, at, keys, n, err));
    fill(index, at, rows, n, out_keys);
    cch_index_publish(index, next);
    next = NULL;
done:
    if (next != NULL) drop_blocks(index, next, before);
    cch_snapshot_unref(next);
    pthread_mutex_unlock(&index->writing);
    cch_index_unref(index);
    return status;
}

/* ------------------------------------------------------------------------------------------------ reading ---- */

bool cch_index_has(cch_index *index, int64_t key) {
    cch_index_ref(index);
    pthread_mutex_lock(&index->writing);
    const bool there = cch_keymap_find(&index->map, key) != CCH_NO_PLACE;
    pthread_mutex_unlock(&index->writing);
    cch_index_unref(index);
    return there;
}

cch_status cch_index_row(cch_index *index, int64_t key, float *dst, cch_error *err) {
    const size_t d = index->shape.dimension;
    const bool is_int8 = index->shape.dtype == CCH_ROWS_INT8;
    const cch_kernels *kern = index->kern;
    cch_index_ref(index);
    pthread_mutex_lock(&index->writing);
    const uint32_t place = cch_keymap_find(&index->map, key);
    if (place != CCH_NO_PLACE) {
        const cch_rows *rows = cch_place_rows(&index->map, place);
        const float *x = cch_rows_values(rows, &index->shape, cch_place_row(place), dst);
        if (x != dst) memcpy(dst, x, d * sizeof *dst);
    }
    pthread_mutex_unlock(&index->writing);
    cch_index_unref(index);
    if (place == CCH_NO_PLACE) CCH_FAIL(err, CCH_E_ARGUMENT, -1, "key %lld is not in the index", (long long)key);
    const double square = is_int8 ? kern->dot_f32(dst, dst, d) : 0.0;
    for (size_t i = 0; square > 0.0 && i < d; i++) dst[i] = (float)((double)dst[i] / sqrt(square));
    return CCH_OK;
}

cch_status cch_index_keys(cch_index *index, int64_t **out_keys, size_t *out_n, cch_error *err) {
    cch_status status = CCH_OK;
    cch_snapshot *now = cch_index_now(index);
    int64_t *keys = NULL;
    size_t n = 0;
    *out_keys = NULL;
    *out_n = 0;
    CCH_NEW(keys, now->n_live, err);
    for (size_t s = 0; s < now->n_spans; s++)
        for (size_t i = 0; i < now->spans[s].n; i++)
            if (!cch_span_is_dead(&now->spans[s], i)) keys[n++] = now->spans[s].rows->keys[i];
    *out_keys = keys;
    *out_n = n;
done:
    cch_snapshot_unref(now);
    return status;
}
