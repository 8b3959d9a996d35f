#include "model/scratch.h"

#define ALIGN ((size_t)64)

void cch_scratch_deinit(cch_scratch *s) {
    cch_free(s->block);
    *s = (cch_scratch){0};
}

void cch_scratch_begin(cch_scratch *s) { s->used = 0; }

void *cch_scratch_take(cch_scratch *s, size_t n, size_t size) {
    size_t bytes, end;
    if (!cch_mul(n, size, &bytes) || !cch_add(bytes, ALIGN - 1, &bytes) ||
        !cch_add(s->used, bytes / ALIGN * ALIGN, &end)) {
        s->used = SIZE_MAX;
        return NULL;
    }
    void *place = s->block != NULL && end <= s->cap ? s->block + s->used : NULL;
    s->used = end;
    return place;
}

cch_status cch_scratch_reserve(cch_scratch *s, cch_error *err) {
    size_t wanted = s->used, roomy;
    if (wanted <= s->cap) return CCH_OK;
    /* The old block goes first: its contents are dead, and the peak stays at one block. */
    cch_scratch_deinit(s);
    if (cch_add(wanted, wanted / 4, &roomy)) s->block = cch_alloc(roomy, 1);
    if (s->block == NULL)
        CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes of workspace for a forward pass", wanted);
    s->cap = roomy;
    return CCH_OK;
}
