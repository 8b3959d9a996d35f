/* scratch - the workspace of forward passes: one block that grows to the largest pass so far and is then reused.
 *
 * A pass describes its buffers twice with the same calls: once to measure, once to place.
 *
 *     cch_scratch_begin(s);  lay_out(s, &pass);          // takes return NULL or old addresses: only the sum counts
 *     CCH_TRY(cch_scratch_reserve(s, err));              // the only place that may allocate
 *     cch_scratch_begin(s);  lay_out(s, &pass);          // now the pointers are good
 *
 * So a pass that cannot have its memory fails before it computes anything, and a warm token loop allocates nothing.
 * Threads: one user at a time (the model's run lock).
 */
#ifndef CCH_MODEL_SCRATCH_H
#define CCH_MODEL_SCRATCH_H

#include "base/alloc.h"

typedef struct cch_scratch {
    char *block;      /* owned */
    size_t cap, used; /* bytes; used == SIZE_MAX: the sum overflowed */
} cch_scratch;

/* A zeroed cch_scratch is valid and empty. */
void cch_scratch_deinit(cch_scratch *s);
void cch_scratch_begin(cch_scratch *s);
/* n elements of `size` bytes, 64-byte aligned, uninitialised; a view until the next begin. */
void *cch_scratch_take(cch_scratch *s, size_t n, size_t size);
/* Makes room for everything taken since begin, a quarter more when it grows.  Old contents are lost.  E_MEMORY. */
cch_status cch_scratch_reserve(cch_scratch *s, cch_error *err);

#endif
