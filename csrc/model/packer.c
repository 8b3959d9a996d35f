#include "model/packer.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"

#define TILE_FLOATS ((size_t)128 << 10) /* 512 KiB: stays in the second-level cache between its passes */
#define TRANSPOSED_ROWS 256             /* of a transposed source: 1 KiB read per line */
#define SLAB_BYTES ((size_t)16 << 20)   /* of a file that are in memory at once */

typedef struct pass {
    const cch_packer *packer;
    const cch_tensor_view *view;
    const cch_pack_target *target;
    const float *direct;        /* the tensor as f32 in place; NULL when it must be converted or moved */
    size_t tile_rows, tile_floats;
    size_t last;                /* tiles of this slab end here */
    atomic_size_t next;         /* tile */
    atomic_size_t bad, n_bad;   /* of values that are not finite: the lowest index, or SIZE_MAX; how many there are */
} pass;

/* Elements [first, first + n) of the tensor, which lie at `values`. */
static void check_and_hash(pass *p, const float *values, size_t first, size_t n, cch_hash *hash) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bad += (bits & 0x7F800000u) == 0x7F800000u;
    }
    cch_hash_update(hash, values, n * sizeof *values);
    if (bad == 0) return;
    atomic_fetch_add(&p->n_bad, bad);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        if ((bits & 0x7F800000u) != 0x7F800000u) continue;
        size_t lowest = atomic_load(&p->bad);
        while (first + i < lowest && !atomic_compare_exchange_weak(&p->bad, &lowest, first + i)) {}
        return;
    }
}

/* Rows [row, row + rows) of W, whose elements are one run of the tensor. */
static void load_rows(pass *p, size_t row, size_t rows, float *tile, cch_hash *hash) {
    const cch_pack_target *t = p->target;
    size_t first = row * t->cols, n = rows * t->cols;
    const float *values = p->direct != NULL ? p->direct + first : tile;
    if (t->packed == NULL) values = tile = t->dense + first;
    if (values == tile) cch_tensor_read(p->view, first, n, tile);
    check_and_hash(p, values, first, n, hash);
    if (t->packed != NULL) cch_pack_rows(t->packed, t->row + row, rows, values, t->cols, 1);
}

/* The same of a tensor that holds W transposed: `cols` runs of `rows` elements. */
static void load_columns(pass *p, size_t row, size_t rows, float *tile, cch_hash *hash) {
    const cch_pack_target *t = p->target;
    const float *values = p->direct != NULL ? p->direct + row : tile;
    size_t stride = p->direct != NULL ? t->rows : rows;
    for (size_t k = 0; k < t->cols; k++) {
        size_t first = k * t->rows + row;
        if (p->direct == NULL) cch_tensor_read(p->view, first, rows, tile + k * rows);
        check_and_hash(p, values + k * stride, first, rows, hash);
    }
    cch_pack_rows(t->packed, t->row + row, rows, values, 1, stride);
}

static void load_tiles(void *arg, int thread, int n_threads) {
    pass *p = arg;
    float *tile = p->packer->tiles == NULL ? NULL : p->packer->tiles + (size_t)thread * p->tile_floats;
    (void)n_threads;
    for (;;) {
        size_t i = atomic_fetch_add(&p->next, 1), row = i * p->tile_rows, rows;
        if (i >= p->last) return;
        cch_hash hash;
        cch_hash_init(&hash);
        rows = p->target->rows - row < p->tile_rows ? p->target->rows - row : p->tile_rows;
        if (p->target->transposed) load_columns(p, row, rows, tile, &hash);
        else load_rows(p, row, rows, tile, &hash);
        cch_hash_digest(&hash, p->packer->digests + i * CCH_HASH_BYTES);
    }
}

static cch_status reserve(cch_packer *p, size_t n_tiles, size_t tile_floats, cch_error *err) {
    cch_status status = CCH_OK;
    size_t floats = tile_floats * (size_t)cch_threads_count(p->threads), bytes = n_tiles * CCH_HASH_BYTES;
    if (floats > p->tiles_cap) {
        cch_free(p->tiles);
        p->tiles_cap = 0;
        CCH_NEW(p->tiles, floats, err);
        p->tiles_cap = floats;
    }
    if (bytes > p->digests_cap) {
        cch_free(p->digests);
        p->digests_cap = 0;
        CCH_NEW(p->digests, bytes, err);
        p->digests_cap = bytes;
    }
done:
    return status;
}

/* The tensor's bytes as an array of f32, when they are one. */
static const float *as_floats(const cch_tensor_view *view) {
    bool aligned = (uintptr_t)view->data % _Alignof(float) == 0;
    return view->dtype == CCH_DTYPE_F32 && aligned && !view->strided ? (const float *)(const void *)view->data : NULL;
}

/* Runs the tiles in slabs, so that no more than a slab of the file is in memory. */
static void run_slabs(pass *p, size_t n_tiles) {
    const cch_pack_target *t = p->target;
    size_t tile_elements = p->tile_rows * t->cols, n_elements = t->rows * t->cols;
    size_t step = t->transposed ? n_tiles : SLAB_BYTES / sizeof(float) / tile_elements + 1;
    for (size_t first = 0; first < n_tiles; first = p->last) {
        p->last = n_tiles - first < step ? n_tiles : first + step;
        atomic_store(&p->next, first);
        if (p->last - first == 1) load_tiles(p, 0, 1);
        else cch_threads_run(p->packer->threads, load_tiles, p);
        size_t end = p->last == n_tiles ? n_elements : p->last * tile_elements;
        cch_tensor_drop(p->packer->tensors, p->view, first * tile_elements, end - first * tile_elements);
    }
}

cch_status cch_packer_load(cch_packer *packer, const cch_tensor_view *view, const cch_pack_target *target,
                           cch_hash *hash, cch_error *err) {
    pass p = {.packer = packer, .view = view, .target = target, .direct = as_floats(view)};
    p.tile_rows = target->transposed ? TRANSPOSED_ROWS : TILE_FLOATS / target->cols / CCH_LANES * CCH_LANES;
    if (p.tile_rows == 0) p.tile_rows = CCH_LANES;
    if (p.tile_rows > target->rows) p.tile_rows = target->rows;
    size_t n_tiles = (target->rows + p.tile_rows - 1) / p.tile_rows;
    if (target->packed != NULL && p.direct == NULL) p.tile_floats = p.tile_rows * target->cols;
    CCH_RETURN_IF(reserve(packer, n_tiles, p.tile_floats, err));
    atomic_init(&p.bad, SIZE_MAX);
    atomic_init(&p.n_bad, 0);
    run_slabs(&p, n_tiles);
    size_t bad = atomic_load(&p.bad);
    packer->n_not_finite += (int64_t)atomic_load(&p.n_bad);
    if (bad != SIZE_MAX && !packer->any_number) {
        float value;
        cch_tensor_read(view, bad, 1, &value);
        CCH_FAIL(err, CCH_E_FORMAT, bad, "tensor %.120s holds %g at index %zu, expected finite numbers", view->name,
                 (double)value, bad);
    }
    cch_hash_update(hash, packer->digests, n_tiles * CCH_HASH_BYTES);
    return CCH_OK;
}

void cch_packer_deinit(cch_packer *p) {
    cch_free(p->tiles);
    cch_free(p->digests);
    p->tiles = NULL;
    p->digests = NULL;
}
