/* index - the object behind cch_index: the newest snapshot, and what its one writer at a time needs.
 *
 * A change copies the newest snapshot, changes the copy and publishes it; a search holds the snapshot it began with.
 * Lock order: writing, then lock.  `lock` is held for moments only.
 */
#ifndef CCH_SIM_INDEX_H
#define CCH_SIM_INDEX_H

#include <pthread.h>

#include "base/threads.h"
#include "sim/keymap.h"

struct cch_index {
    atomic_int refs;
    cch_shape shape;
    const cch_kernels *kern;
    pthread_mutex_t lock;    /* of `now` */
    cch_snapshot *now;       /* shared */
    pthread_mutex_t writing; /* of the writer, and of the two below */
    cch_keymap map;
    float *scratch;          /* owned [dimension] */
    pthread_mutex_t pool;    /* of `threads`: held by the one search that runs on them */
    cch_threads *threads;    /* owned; NULL before the first search that wants them */
    int n_threads;
};

/* The newest snapshot; the caller gives the reference back. */
cch_snapshot *cch_index_now(cch_index *index);
/* Makes `next`, whose reference is taken over, the newest.  The caller is the writer. */
void cch_index_publish(cch_index *index, cch_snapshot *next);
/* E_ARGUMENT unless all numbers of rows [n, dimension] are finite; `what` they are: "row", "query". */
cch_status cch_index_check(const cch_index *index, const float *rows, size_t n, const char *what, cch_error *err);

#endif
