/* packer - brings one tensor at a time from its file into memory: convert to f32, check, hash, pack, on all threads.
 *
 * A tensor is cut into tiles of rows, which the threads take in turn.  Tiles depend on the shape alone and each has its
 * own digest, so neither the threads nor the file's data type show in the result.
 * Threads: one user per packer.
 */
#ifndef CCH_MODEL_PACKER_H
#define CCH_MODEL_PACKER_H

#include "base/hash.h"
#include "io/tensors.h"
#include "kern/matmul.h"

/* Where a matrix W [rows, cols] goes: into rows [row, row + rows) of `packed`, or to `dense` [rows, cols] as it is. */
typedef struct cch_pack_target {
    cch_packed *packed; /* NULL: dense */
    size_t row;
    float *dense;
    size_t rows, cols;
    bool transposed;    /* the tensor is [cols, rows]; only for packed */
} cch_pack_target;

typedef struct cch_packer {
    cch_threads *threads;       /* borrowed */
    const cch_tensors *tensors; /* borrowed */
    float *tiles;               /* owned: one converted tile per thread */
    uint8_t *digests;           /* owned: one per tile */
    size_t tiles_cap, digests_cap;
    bool any_number;            /* values that are not finite are counted, not refused */
    int64_t n_not_finite;
} cch_packer;

void cch_packer_deinit(cch_packer *p);

/* Loads `view`, whose type and shape have been checked, adds its digest to *hash, and gives the file's pages back.
 *   E_FORMAT: a value is NaN or infinite (tensor and index are named; position = index), unless any_number.
 *   E_MEMORY. */
cch_status cch_packer_load(cch_packer *p, const cch_tensor_view *view, const cch_pack_target *target, cch_hash *hash,
                           cch_error *err);

#endif
