/* tracer - what a traced row of a batch keeps: the attention it watches, and its last trace.
 *
 * The room for the attention grows with the context, in doubling steps, so that a warm token loop allocates nothing.
 * Threads: a row's, which has one user at a time.
 */
#ifndef CCH_GEN_TRACER_H
#define CCH_GEN_TRACER_H

#include "model/forward.h"

typedef struct cch_tracer {
    int32_t n_heads, most;  /* of the model, and its context */
    int32_t cap;            /* keys there is room for */
    float *attention;       /* owned [n_heads * cap] */
    cch_watch watch;        /* whose attention goes there */
    cch_trace trace;
} cch_tracer;

/* Of a layer of a model with so many heads and so large a context.   E_MEMORY. */
cch_status cch_tracer_new(int32_t layer, int32_t n_heads, int32_t most, cch_tracer **out, cch_error *err);
void cch_tracer_free(cch_tracer *tracer);
/* Prepares for a prediction that sees n_keys tokens, 0..most.   E_MEMORY: as it was. */
cch_status cch_tracer_begin(cch_tracer *tracer, int32_t n_keys, cch_error *err);

#endif
