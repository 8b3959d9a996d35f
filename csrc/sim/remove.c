/* remove - rows leave the index: they are marked dead, and blocks that are mostly dead are written anew.
 *
 * A block is rewritten when at least half of its rows (of its room, while it can be filled up) are dead, so that moving
 * a row is paid for by one that died.  It takes neighbours in that have no more rows than it: so blocks of a few
 * survivors do not pile up, and a row moves a logarithmic number of times.  A search that runs keeps the old blocks
 * until it is over.
 */
#include "base/alloc.h"
#include "sim/index.h"

/* Marks the rows of the keys that are there.  A key given twice counts once. */
static cch_status mark(cch_index *index, cch_snapshot *next, const int64_t *keys, size_t n, cch_error *err) {
    for (size_t i = 0; i < n; i++) {
        const uint32_t place = cch_keymap_find(&index->map, keys[i]);
        if (place == CCH_NO_PLACE) continue;
        const size_t span = cch_place_rows(&index->map, place)->span, row = cch_place_row(place);
        if (!cch_span_is_dead(&next->spans[span], row))
            CCH_RETURN_IF(cch_snapshot_kill(next, index->now, span, row, err));
    }
    return CCH_OK;
}

static void forget(cch_index *index, const int64_t *keys, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (cch_keymap_find(&index->map, keys[i]) != CCH_NO_PLACE) cch_keymap_drop(&index->map, keys[i]);
}

/* The last span can still be filled up. */
static bool is_open(const cch_snapshot *s, size_t span) {
    return span + 1 == s->n_spans && s->spans[span].n < s->spans[span].rows->capacity;
}

/* Live rows of spans [first, last) as one block; NULL when there is no memory: then the old ones stay. */
static cch_rows *rewritten(cch_index *index, const cch_snapshot *s, size_t first, size_t last, size_t live) {
    cch_rows *rows = NULL;
    size_t n = 0;
    if (cch_rows_new(&index->shape, live, &rows, NULL) != CCH_OK) return NULL;
    if (cch_keymap_add_block(&index->map, rows, NULL) != CCH_OK) {
        cch_rows_unref(rows);
        return NULL;
    }
    for (size_t i = first; i < last; i++) {
        const cch_span *span = &s->spans[i];
        for (size_t j = 0; j < span->n; j++) {
            if (cch_span_is_dead(span, j)) continue;
            cch_rows_move(rows, &index->shape, n, span->rows, j);
            cch_keymap_move(&index->map, rows, n++);
        }
    }
    return rows;
}

/* Puts `rows`, or nothing, in the place of spans [first, last). */
static void replace(cch_index *index, cch_snapshot *s, size_t first, size_t last, cch_rows *rows, size_t live) {
    const size_t n = rows != NULL ? 1 : 0;
    for (size_t i = first; i < last; i++) {
        cch_span *span = &s->spans[i];
        s->n_rows -= span->n_dead;
        cch_keymap_drop_block(&index->map, span->rows);
        cch_span_release(span);
    }
    if (rows != NULL) s->spans[first] = (cch_span){.rows = rows, .n = live};
    for (size_t i = last; i < s->n_spans; i++) s->spans[first + n + i - last] = s->spans[i];
    s->n_spans -= last - first - n;
}

/* Rewrites the span, with neighbours, or drops it when nothing lives in it.  The span behind what is there then. */
static size_t tidy(cch_index *index, cch_snapshot *s, size_t span) {
    size_t first = span, last = span + 1, live = cch_span_live(&s->spans[span]);
    cch_rows *rows = NULL;
    while (live > 0) {
        const size_t before = first > 0 ? cch_span_live(&s->spans[first - 1]) : SIZE_MAX;
        const size_t behind = last < s->n_spans && !is_open(s, last) ? cch_span_live(&s->spans[last]) : SIZE_MAX;
        if (before <= live && live + before <= CCH_BLOCK_ROWS) live += before, first--;
        else if (behind <= live && live + behind <= CCH_BLOCK_ROWS) live += behind, last++;
        else break;
    }
    if (live > 0 && (rows = rewritten(index, s, first, last, live)) == NULL) return last;
    replace(index, s, first, last, rows, live);
    return first + (rows != NULL ? 1 : 0);
}

cch_status cch_index_remove(cch_index *index, const int64_t *keys, size_t n, size_t *out_n, cch_error *err) {
    cch_status status = CCH_OK;
    cch_snapshot *next = NULL;
    *out_n = 0;
    cch_index_ref(index);
    pthread_mutex_lock(&index->writing);
    const size_t live = index->now->n_live;
    CCH_TRY(cch_snapshot_copy(index->now, 0, &next, err));
    CCH_TRY(mark(index, next, keys, n, err));
    forget(index, keys, n);
    *out_n = live - next->n_live;
    for (size_t i = 0; i < next->n_spans;) {
        const cch_span *span = &next->spans[i];
        const size_t size = is_open(next, i) ? span->rows->capacity : span->n;
        i = span->n_dead > 0 && 2 * span->n_dead >= size ? tidy(index, next, i) : i + 1;
    }
    for (size_t i = 0; i < next->n_spans; i++) next->spans[i].rows->span = i;
    cch_index_publish(index, next);
    next = NULL;
done:
    cch_snapshot_unref(next);
    pthread_mutex_unlock(&index->writing);
    cch_index_unref(index);
    return status;
}
