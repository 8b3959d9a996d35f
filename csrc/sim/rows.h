/* rows - blocks of rows of the index, and what a search sees of them.
 *
 *     snapshot   [ span | span | span ]          immutable; a search holds one for as long as it runs
 *                   |      |      |
 *     span        rows, how many of them, and which are dead (a bitmap that is copied, never changed)
 *                   |
 *     rows        keys | weights | errors | codes | values | signs    a block of up to CCH_BLOCK_ROWS rows, counted
 *
 * Invariants
 *   1. What a snapshot shows of a block never changes: rows [0, n) are written before the snapshot is published, and a
 *      writer touches only rows behind the n of the newest one.
 *   2. Spans, and the rows in them, are in the order in which the rows were stored.
 *   3. A block is freed with the last snapshot that shows it.
 *
 * Threads: references are atomic; everything else here is the writer's, or immutable.
 */
#ifndef CCH_SIM_ROWS_H
#define CCH_SIM_ROWS_H

#include <stdatomic.h>

#include "base/filemap.h"
#include "sim/signs.h"

#define CCH_BLOCK_ROWS 16384 /* most rows of a block */

typedef struct cch_shape {
    size_t dimension, stride; /* numbers of a row; codes of a row */
    cch_index_dtype dtype;
} cch_shape;

/* Rows that are their codes have no signs beside them: they are held in as few bytes as will do. */
static inline bool cch_has_signs(const cch_shape *shape) { return shape->dtype != CCH_ROWS_INT8; }
/* Bytes of a row besides its codes. */
static inline size_t cch_value_bytes(const cch_shape *shape) {
    return shape->dtype == CCH_ROWS_INT8 ? 0 : shape->dimension * (shape->dtype == CCH_ROWS_F32 ? 4 : 2);
}

/* A mapped file, shared by the blocks that lie in it. */
typedef struct cch_mapping {
    atomic_int refs;
    cch_filemap map; /* owned */
} cch_mapping;
void cch_mapping_unref(cch_mapping *mapping);

typedef struct cch_rows {
    atomic_int refs;
    uint32_t id;          /* in the writer's list of blocks */
    size_t span;          /* of the newest snapshot: the writer's */
    size_t capacity;      /* rows there is room for */
    size_t bytes;         /* of the planes in memory */
    size_t mapped_bytes;  /* of those that lie in the file */
    cch_mapping *mapping; /* shared: all planes but the signs are views into it, and full; NULL: they are in memory */
    char *memory;         /* owned: the planes that are */
    int64_t *keys;        /* the planes, [capacity] rows each */
    float *weight, *error;
    int8_t *codes;
    void *values;         /* float or bf16; NULL when the codes are the row */
    cch_signs signs;      /* of the values */
} cch_rows;

/* E_MEMORY.  One reference. */
cch_status cch_rows_new(const cch_shape *shape, size_t capacity, cch_rows **out, cch_error *err);
void cch_rows_unref(cch_rows *rows);
/* Rows [0, n) of a block that shows so many have signs: a search may read those of rows [0, *). */
static inline size_t cch_rows_signed(const cch_rows *rows, size_t n) {
    return rows->signs.bits == NULL ? 0 : n == rows->capacity ? n : n / CCH_SIGN_ROWS * CCH_SIGN_ROWS;
}
/* The numbers of row i, [dimension]: a view, or scratch [dimension], filled.  Of a row that is its codes these. */
const float *cch_rows_values(const cch_rows *rows, const cch_shape *shape, size_t i, float *scratch);
/* Fills row i but for its key; x [dimension] is finite, scratch [dimension]. */
void cch_rows_put(cch_rows *rows, const cch_shape *shape, const cch_kernels *kern, size_t i, const float *x,
                  float *scratch);
/* Gives a full block that lies in a file its signs, in memory; scratch [dimension].  E_MEMORY. */
cch_status cch_rows_sign(cch_rows *rows, const cch_shape *shape, const cch_kernels *kern, float *scratch,
                         cch_error *err);
/* Row j of `from` as row i. */
void cch_rows_move(cch_rows *rows, const cch_shape *shape, size_t i, const cch_rows *from, size_t j);

/* Bits of dead rows, shared by snapshots. */
typedef struct cch_dead {
    atomic_int refs;
    uint64_t bits[CCH_BLOCK_ROWS / 64];
} cch_dead;

typedef struct cch_span {
    cch_rows *rows; /* shared */
    cch_dead *dead; /* shared; NULL when all rows live */
    size_t n, n_dead;
} cch_span;

static inline bool cch_span_is_dead(const cch_span *span, size_t i) {
    return span->dead != NULL && (span->dead->bits[i / 64] >> i % 64 & 1) != 0;
}
static inline size_t cch_span_live(const cch_span *span) { return span->n - span->n_dead; }

/* Gives back what the span shares. */
void cch_span_release(cch_span *span);

typedef struct cch_snapshot {
    atomic_int refs;
    size_t n_spans, n_live, n_rows; /* n_rows: dead ones included */
    uint64_t next_key;              /* one more than the largest key there ever was */
    size_t key_bytes;               /* of the writer's table of keys */
    cch_span spans[];
} cch_snapshot;

/* A copy of `from` (NULL: empty) with room for `extra` more spans.  E_MEMORY. */
cch_status cch_snapshot_copy(const cch_snapshot *from, size_t extra, cch_snapshot **out, cch_error *err);
cch_snapshot *cch_snapshot_ref(cch_snapshot *snapshot);
void cch_snapshot_unref(cch_snapshot *snapshot);
/* Puts a block, whose reference is taken over, at the end; there is room. */
void cch_snapshot_append(cch_snapshot *snapshot, cch_rows *rows);
/* Marks a live row of an unpublished snapshot; `before` is the one it was copied from.  E_MEMORY. */
cch_status cch_snapshot_kill(cch_snapshot *snapshot, const cch_snapshot *before, size_t span, size_t i, cch_error *err);

#endif
