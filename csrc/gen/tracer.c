#include "gen/tracer.h"

#include "base/alloc.h"

#define FEWEST_KEYS 256

cch_status cch_tracer_new(int32_t layer, int32_t n_heads, int32_t most, cch_tracer **out, cch_error *err) {
    cch_status status = CCH_OK;
    CCH_ZNEW(*out, 1, err);
    (*out)->n_heads = n_heads;
    (*out)->most = most;
    (*out)->watch.layer = layer;
done:
    return status;
}

void cch_tracer_free(cch_tracer *tracer) {
    if (tracer == NULL) return;
    cch_free(tracer->attention);
    cch_free(tracer);
}

static cch_status grow(cch_tracer *tracer, int32_t n_keys, cch_error *err) {
    cch_status status = CCH_OK;
    float *larger = NULL;
    int32_t cap = tracer->cap > tracer->most / 2 ? tracer->most : 2 * tracer->cap;
    if (cap < FEWEST_KEYS) cap = FEWEST_KEYS;
    if (cap < n_keys) cap = n_keys;
    CCH_NEW(larger, (size_t)tracer->n_heads * (size_t)cap, err);
    cch_free(tracer->attention);
    tracer->attention = larger;
    tracer->cap = cap;
done:
    return status;
}

cch_status cch_tracer_begin(cch_tracer *tracer, int32_t n_keys, cch_error *err) {
    if (n_keys > tracer->cap) CCH_RETURN_IF(grow(tracer, n_keys, err));
    tracer->watch.attention = tracer->attention;
    tracer->trace.n_heads = tracer->n_heads;
    tracer->trace.n_keys = n_keys;
    tracer->trace.attention = n_keys > 0 ? tracer->attention : NULL;
    return CCH_OK;
}
