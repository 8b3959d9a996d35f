/* plan - which rows a forward pass must have so that some states come closer to what is asked of them.
 *
 * An ask wants KV entries for the first `upto` tokens of a state and final hidden states for some of its positions.
 * The planner walks the state's pages in order and makes spans of two kinds: positions whose KV entries are missing,
 * and positions that are ready but whose hidden state is wanted (computed again, pages not written).  It stops when the
 * pass is full; the next plan goes on from there.
 *
 * Every page notes which of its slots the present pass computes and where their hidden states will be.  So slots that
 * several asks need, for instance the prompt of states forked before it was computed, have one row.
 *
 * Threads: under the model's run lock; takes the pool's lock.
 */
#ifndef CCH_GEN_PLAN_H
#define CCH_GEN_PLAN_H

#include "kv/state.h"
#include "model/forward.h"

typedef struct cch_ask {
    cch_state *state;      /* held by the caller, pages indexed */
    int32_t upto;          /* 1..length */
    int32_t out_first;     /* hidden states of positions [out_first, upto) are wanted */
    float *dst;            /* borrowed: their logits go here, [upto - out_first, n_outputs]; may be NULL */
    const cch_watch *watch; /* borrowed: attention of the last position, which then has a row of its own; may be NULL */
    int32_t out_next;      /* of the positions before it, nothing is wanted any more; 0 at first */
    int32_t reached;       /* after a plan: positions before it are ready and delivered once the pass has run */
} cch_ask;

/* A hidden state and whose it is. */
typedef struct cch_delivery {
    size_t row;            /* of the pass's output */
    cch_ask *ask;
    int32_t pos;
} cch_delivery;

typedef struct cch_plan {
    cch_span *spans;       /* owned [spans_cap] */
    cch_ask **owners;      /* owned [spans_cap]: of each span */
    size_t n_spans, spans_cap;
    cch_delivery *deliveries; /* owned [deliveries_cap] */
    size_t n_deliveries, deliveries_cap;
    size_t n_rows, n_out;  /* rows of the pass, and of its output */
    bool lost;             /* an ask has to compute again what an earlier pass had computed for it */
} cch_plan;

void cch_plan_deinit(cch_plan *plan);

/* How many of the asks, in order, fit the byte budget together.  *out_bytes: what these and the next one need. */
size_t cch_plan_fit(cch_pool *pool, const cch_ask *asks, size_t n, size_t *out_bytes);

/* Positions whose KV entries the asks miss, shared ones counted once. */
int64_t cch_plan_missing(cch_pool *pool, const cch_ask *asks, size_t n);

/* Plans one pass of at most max_rows rows for asks in order, and gets KV blocks for it.  top_k >= 1: hidden states are
 * also wanted where scores (see kv/scores.h) are missing.  An ask with reached == upto is complete after the pass; a
 * plan without spans means that all are.   E_BUDGET, E_MEMORY. */
cch_status cch_plan_make(cch_plan *plan, cch_pool *pool, cch_ask *asks, size_t n, int32_t max_rows, int32_t top_k,
                         cch_error *err);

/* The pass has run: its positions are ready. */
void cch_plan_commit(cch_plan *plan, cch_pool *pool, cch_ask *asks, size_t n);

#endif
