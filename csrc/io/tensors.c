#include "io/tensors.h"

#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* qsort, bsearch */
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"

/* ------------------------------------------------------------------------------------------------ making ---- */

cch_status cch_tensors_new(size_t n_files, cch_tensors **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_tensors *t = NULL;
    *out = NULL;
    CCH_ZNEW(t, 1, err);
    CCH_ZNEW(t->files, n_files, err);
    t->n_files = n_files;
    *out = t;
    t = NULL;
done:
    cch_tensors_close(t);
    return status;
}

cch_status cch_tensors_reserve(cch_tensors *t, size_t more, cch_error *err) {
    size_t wanted = t->n + more;
    if (wanted <= t->cap) return CCH_OK;
    cch_tensor_view *fresh = cch_resize(t->views, wanted, sizeof *fresh);
    if (fresh == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu tensor views", wanted);
    t->views = fresh;
    t->cap = wanted;
    return CCH_OK;
}

static int by_name(const void *a, const void *b) {
    const cch_tensor_view *x = a, *y = b;
    return strcmp(x->name, y->name);
}

cch_status cch_tensors_sort(cch_tensors *t, cch_error *err) {
    if (t->n > 0) qsort(t->views, t->n, sizeof *t->views, by_name);
    for (size_t i = 1; i < t->n; i++) {
        const cch_tensor_view *a = &t->views[i - 1], *b = &t->views[i];
        if (strcmp(a->name, b->name) == 0)
            CCH_FAIL(err, CCH_E_FORMAT, -1, "tensor %.80s is in %.120s and in %.120s", a->name,
                     t->files[a->shard].path, t->files[b->shard].path);
    }
    return CCH_OK;
}

void cch_tensors_close(cch_tensors *tensors) {
    if (tensors == NULL) return;
    for (size_t i = 0; i < tensors->n_files; i++) {
        cch_tensor_file *file = &tensors->files[i];
        if (file->free_names != NULL) file->free_names(file->names);
        cch_filemap_close(&file->map);
        cch_free(file->path);
    }
    cch_free(tensors->files);
    cch_free(tensors->views);
    cch_free(tensors);
}

/* ------------------------------------------------------------------------------------------------ reading ---- */

size_t cch_tensors_count(const cch_tensors *tensors) { return tensors->n; }
const cch_tensor_view *cch_tensors_at(const cch_tensors *tensors, size_t i) { return &tensors->views[i]; }

const cch_tensor_view *cch_tensors_find(const cch_tensors *tensors, const char *name) {
    cch_tensor_view key = {.name = name};
    return tensors->n == 0 ? NULL : bsearch(&key, tensors->views, tensors->n, sizeof key, by_name);
}

const char *cch_tensor_show(const cch_tensor_view *tensor, char dst[CCH_TENSOR_TEXT]) {
    int n = snprintf(dst, CCH_TENSOR_TEXT, "%.16s [", tensor->dtype_name);
    for (int32_t i = 0; i < tensor->n_dims && n < CCH_TENSOR_TEXT; i++)
        n += snprintf(dst + n, CCH_TENSOR_TEXT - (size_t)n, "%s%zu", i > 0 ? ", " : "", tensor->shape[i]);
    if (n < CCH_TENSOR_TEXT - 1) snprintf(dst + n, CCH_TENSOR_TEXT - (size_t)n, "]");
    return dst;
}

size_t cch_dtype_size(cch_dtype dtype) {
    switch (dtype) {
    case CCH_DTYPE_F64: return 8;
    case CCH_DTYPE_F32: return 4;
    case CCH_DTYPE_F16:
    case CCH_DTYPE_BF16: return 2;
    case CCH_DTYPE_OTHER: break;
    }
    return 0;
}

cch_status cch_tensor_check_dtype(const cch_tensor_view *tensor, cch_error *err) {
    if (tensor->dtype != CCH_DTYPE_OTHER) return CCH_OK;
    CCH_FAIL(err, CCH_E_UNSUPPORTED, -1, "tensor %.120s is of type %.40s, supported: F32, F16, BF16, F64",
             tensor->name, tensor->dtype_name);
}

static void f64_to_f32_n(const unsigned char *src, size_t n, float *dst) {
    for (size_t i = 0; i < n; i++) {
        double value;
        memcpy(&value, src + i * sizeof value, sizeof value);
        dst[i] = (float)value;
    }
}

/* n numbers that follow each other, the first of them `at` numbers behind the tensor's first. */
static void read_run(const cch_tensor_view *tensor, size_t at, size_t n, float *dst) {
    const unsigned char *src = tensor->data + at * cch_dtype_size(tensor->dtype);
    switch (tensor->dtype) {
    case CCH_DTYPE_F32: memcpy(dst, src, n * 4); break;
    case CCH_DTYPE_F16: cch_f16_to_f32_n(src, n, dst); break;
    case CCH_DTYPE_BF16: cch_bf16_to_f32_n(src, n, dst); break;
    case CCH_DTYPE_F64: f64_to_f32_n(src, n, dst); break;
    case CCH_DTYPE_OTHER: memset(dst, 0, n * sizeof *dst); break; /* excluded by the contract; defined all the same */
    }
}

void cch_tensor_read(const cch_tensor_view *tensor, size_t first, size_t n, float *dst) {
    if (n == 0) return;
    if (!tensor->strided) {
        read_run(tensor, first, n, dst);
        return;
    }
    const int32_t last = tensor->n_dims - 1;
    const size_t width = last < 0 ? 1 : tensor->shape[last], step = last < 0 ? 1 : tensor->strides[last];
    while (n > 0) { /* row by row of the last dimension */
        size_t column = first % width, rest = first / width, at = column * step;
        for (int32_t d = last - 1; d >= 0; rest /= tensor->shape[d], d--)
            at += rest % tensor->shape[d] * tensor->strides[d];
        size_t run = n < width - column ? n : width - column;
        if (step == 1) read_run(tensor, at, run, dst);
        else
            for (size_t i = 0; i < run; i++) read_run(tensor, at + i * step, 1, dst + i);
        first += run;
        n -= run;
        dst += run;
    }
}

void cch_tensor_drop(const cch_tensors *tensors, const cch_tensor_view *tensor, size_t first, size_t n) {
    const cch_filemap *map = &tensors->files[tensor->shard].map;
    size_t size = cch_dtype_size(tensor->dtype);
    if (map->size > 0 && !tensor->strided)
        cch_filemap_drop(map, (size_t)(tensor->data - map->data) + first * size, n * size);
}
