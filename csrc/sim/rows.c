#include "sim/rows.h"

#include <string.h>

#include "base/alloc.h"
#include "base/half.h"

/* ------------------------------------------------------------------------------------------------- blocks ---- */

static size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

cch_status cch_rows_new(const cch_shape *shape, size_t capacity, cch_rows **out, cch_error *err) {
    cch_status status = CCH_OK;
    const size_t keys = lines(capacity * sizeof(int64_t)), numbers = lines(capacity * sizeof(float));
    const size_t codes = lines(capacity * shape->stride), values = capacity * cch_value_bytes(shape);
    const size_t signs = cch_has_signs(shape) ? cch_signs_bytes(shape->dimension, capacity) : 0;
    const size_t before = keys + 2 * numbers + codes + lines(values), bytes = before + signs;
    cch_rows *rows = NULL;
    char *planes = NULL;
    *out = NULL;
    CCH_ZNEW(rows, 1, err);
    CCH_NEW(planes, bytes, err);
    cch_prefer_huge_pages(planes, bytes);
    atomic_init(&rows->refs, 1);
    rows->capacity = capacity;
    rows->bytes = bytes;
    rows->memory = planes;
    rows->keys = (int64_t *)(void *)planes;
    rows->weight = (float *)(void *)(planes + keys);
    rows->error = (float *)(void *)(planes + keys + numbers);
    rows->codes = (int8_t *)(planes + keys + 2 * numbers);
    rows->values = values > 0 ? planes + keys + 2 * numbers + codes : NULL;
    memset(planes + before, 0, signs);
    if (signs > 0) rows->signs = cch_signs_view(capacity, planes + before);
    *out = rows;
    rows = NULL;
done:
    cch_free(rows);
    return status;
}

void cch_mapping_unref(cch_mapping *mapping) {
    if (mapping == NULL || atomic_fetch_sub_explicit(&mapping->refs, 1, memory_order_acq_rel) > 1) return;
    cch_filemap_close(&mapping->map);
    cch_free(mapping);
}

void cch_rows_unref(cch_rows *rows) {
    if (rows == NULL || atomic_fetch_sub_explicit(&rows->refs, 1, memory_order_acq_rel) > 1) return;
    cch_free(rows->memory);
    cch_mapping_unref(rows->mapping);
    cch_free(rows);
}

const float *cch_rows_values(const cch_rows *rows, const cch_shape *shape, size_t i, float *scratch) {
    const size_t d = shape->dimension;
    if (shape->dtype == CCH_ROWS_F32) return (const float *)rows->values + i * d;
    if (shape->dtype == CCH_ROWS_BF16) cch_bf16_to_f32_n((const uint16_t *)rows->values + i * d, d, scratch);
    else for (size_t j = 0; j < d; j++) scratch[j] = rows->codes[i * shape->stride + j];
    return scratch;
}

void cch_rows_put(cch_rows *rows, const cch_shape *shape, const cch_kernels *kern, size_t i, const float *x,
                  float *scratch) {
    const size_t d = shape->dimension;
    int8_t *codes = rows->codes + i * shape->stride;
    if (shape->dtype == CCH_ROWS_F32) memcpy((float *)rows->values + i * d, x, d * sizeof *x);
    if (shape->dtype == CCH_ROWS_BF16) {
        uint16_t *halves = (uint16_t *)rows->values + i * d;
        for (size_t j = 0; j < d; j++) halves[j] = cch_bf16_from_f32(x[j]);
        x = cch_rows_values(rows, shape, i, scratch);
    }
    cch_codes_of_row(kern, x, d, codes, rows->weight + i, rows->error + i);
    if (cch_has_signs(shape)) cch_signs_put(&rows->signs, kern, i, x, d);
    if (shape->dtype == CCH_ROWS_INT8) {
        rows->weight[i] = cch_codes_weight(codes, d);
        rows->error[i] = 0.0f;
    }
}

cch_status cch_rows_sign(cch_rows *rows, const cch_shape *shape, const cch_kernels *kern, float *scratch,
                         cch_error *err) {
    cch_status status = CCH_OK;
    if (!cch_has_signs(shape)) return CCH_OK;
    const size_t bytes = cch_signs_bytes(shape->dimension, rows->capacity);
    CCH_ZNEW(rows->memory, bytes, err);
    rows->bytes = bytes;
    rows->signs = cch_signs_view(rows->capacity, rows->memory);
    for (size_t i = 0; i < rows->capacity; i++)
        cch_signs_put(&rows->signs, kern, i, cch_rows_values(rows, shape, i, scratch), shape->dimension);
done:
    return status;
}

void cch_rows_move(cch_rows *rows, const cch_shape *shape, size_t i, const cch_rows *from, size_t j) {
    const size_t bytes = cch_value_bytes(shape);
    rows->keys[i] = from->keys[j];
    rows->weight[i] = from->weight[j];
    rows->error[i] = from->error[j];
    memcpy(rows->codes + i * shape->stride, from->codes + j * shape->stride, shape->stride);
    if (cch_has_signs(shape)) cch_signs_move(&rows->signs, i, &from->signs, j, shape->dimension);
    if (bytes > 0) memcpy((char *)rows->values + i * bytes, (const char *)from->values + j * bytes, bytes);
}

/* ---------------------------------------------------------------------------------------------- snapshots ---- */

static void share_span(const cch_span *span) {
    atomic_fetch_add_explicit(&span->rows->refs, 1, memory_order_relaxed);
    if (span->dead != NULL) atomic_fetch_add_explicit(&span->dead->refs, 1, memory_order_relaxed);
}

static void dead_unref(cch_dead *dead) {
    if (dead != NULL && atomic_fetch_sub_explicit(&dead->refs, 1, memory_order_acq_rel) == 1) cch_free(dead);
}

void cch_span_release(cch_span *span) {
    cch_rows_unref(span->rows);
    dead_unref(span->dead);
}

cch_status cch_snapshot_copy(const cch_snapshot *from, size_t extra, cch_snapshot **out, cch_error *err) {
    const size_t n = from != NULL ? from->n_spans : 0, bytes = sizeof **out + (n + extra) * sizeof(cch_span);
    cch_snapshot *copy = *out = cch_alloc(bytes, 1);
    if (copy == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes for a view of the index", bytes);
    atomic_init(&copy->refs, 1);
    copy->n_spans = n;
    copy->n_live = from != NULL ? from->n_live : 0;
    copy->n_rows = from != NULL ? from->n_rows : 0;
    copy->next_key = from != NULL ? from->next_key : 0;
    copy->key_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        copy->spans[i] = from->spans[i];
        share_span(&copy->spans[i]);
    }
    return CCH_OK;
}

cch_snapshot *cch_snapshot_ref(cch_snapshot *snapshot) {
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    return snapshot;
}

void cch_snapshot_unref(cch_snapshot *snapshot) {
    if (snapshot == NULL || atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) > 1) return;
    for (size_t i = 0; i < snapshot->n_spans; i++) cch_span_release(&snapshot->spans[i]);
    cch_free(snapshot);
}

void cch_snapshot_append(cch_snapshot *snapshot, cch_rows *rows) {
    rows->span = snapshot->n_spans;
    snapshot->spans[snapshot->n_spans++] = (cch_span){.rows = rows};
}

cch_status cch_snapshot_kill(cch_snapshot *snapshot, const cch_snapshot *before, size_t span, size_t i,
                             cch_error *err) {
    cch_span *s = &snapshot->spans[span];
    if (s->dead == before->spans[span].dead) {
        cch_dead *copy = cch_zalloc(1, sizeof *copy);
        if (copy == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes for dead rows", sizeof *copy);
        if (s->dead != NULL) memcpy(copy->bits, s->dead->bits, sizeof copy->bits);
        atomic_init(&copy->refs, 1);
        dead_unref(s->dead);
        s->dead = copy;
    }
    s->dead->bits[i / 64] |= (uint64_t)1 << i % 64;
    s->n_dead++;
    snapshot->n_live--;
    return CCH_OK;
}
