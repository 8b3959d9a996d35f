/* turns - a lock that serves its callers in the order in which they came.
 *
 * A pthread mutex lets the thread that gives it back take it again before those who wait have woken up: one that holds
 * it for milliseconds at a time, as a long evaluation does between its passes, keeps everyone else out until it is
 * done.  Here whoever comes draws a number and is served in turn, so nobody waits for more than one turn of each other
 * thread.  It also knows its holder, so that a thread that would wait for itself is told instead.
 */
#ifndef CCH_BASE_TURNS_H
#define CCH_BASE_TURNS_H

#include <pthread.h>

#include "base/status.h"

typedef struct cch_turns {
    pthread_mutex_t lock; /* guards the rest; held for moments only */
    pthread_cond_t next;
    uint64_t drawn, served; /* numbers given out; numbers whose turn is over */
    bool taken;
    pthread_t holder;       /* while taken */
} cch_turns;

/* E_MEMORY. */
cch_status cch_turns_init(cch_turns *turns, cch_error *err);
/* Nobody may have the turn or wait for it. */
void cch_turns_deinit(cch_turns *turns);
/* Waits for the caller's turn, which lasts until it gives it back.  False at once when the calling thread has it
 * already. */
bool cch_turns_take(cch_turns *turns);
/* The calling thread has the turn. */
void cch_turns_give(cch_turns *turns);

#endif
