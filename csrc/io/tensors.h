/* tensors - the named tensors of a model: views into mapped files, whatever format these have.
 *
 * io/safetensors and io/torchfile make them and have checked every view when they do: its bytes lie in its file, and
 * its sizes overflow nowhere.  Data need not be aligned.  The files stay mapped until cch_tensors_close: see
 * base/filemap.h for what that asks of whoever replaces them.  Types that are no floats are an error only when such a
 * tensor is read.
 *
 * Threads: immutable once made; reading views is pure.
 */
#ifndef CCH_IO_TENSORS_H
#define CCH_IO_TENSORS_H

#include "base/filemap.h"
#include "base/status.h"

#define CCH_TENSOR_MAX_DIMS 8
#define CCH_TENSOR_TEXT 96

typedef enum cch_dtype {
    CCH_DTYPE_F32, CCH_DTYPE_F16, CCH_DTYPE_BF16, CCH_DTYPE_F64, CCH_DTYPE_OTHER
} cch_dtype;

/* A borrowed look at one tensor; valid until cch_tensors_close. */
typedef struct cch_tensor_view {
    const char *name;               /* NUL-terminated */
    const char *dtype_name;         /* "F32", "BF16", "I64", ... */
    cch_dtype dtype;
    int32_t n_dims;
    size_t shape[CCH_TENSOR_MAX_DIMS];
    size_t n_elements, n_bytes;     /* of the numbers, without what may lie between them */
    const unsigned char *data;      /* the first number, any alignment */
    size_t shard;                   /* index of the file that holds it */
    bool strided;                   /* false: [n_bytes] row by row, and strides are not set */
    size_t strides[CCH_TENSOR_MAX_DIMS]; /* from one number to the next along each dimension, counted in numbers */
} cch_tensor_view;

/* One file; the fields are for the readers of formats. */
typedef struct cch_tensor_file {
    char *path;          /* owned */
    cch_filemap map;     /* owned; closed for a file in memory */
    void *names;         /* owned: where the views' names live, given to free_names */
    void (*free_names)(void *names);
} cch_tensor_file;

typedef struct cch_tensors {
    cch_tensor_file *files; /* owned [n_files] */
    cch_tensor_view *views; /* owned [n], sorted by name once complete */
    size_t n_files, n, cap;
} cch_tensors;

/* n files without content.   E_MEMORY. */
cch_status cch_tensors_new(size_t n_files, cch_tensors **out, cch_error *err);
/* Makes room for `more` views behind those there are.   E_MEMORY. */
cch_status cch_tensors_reserve(cch_tensors *tensors, size_t more, cch_error *err);
/* Puts the views in order; ends the making.   E_FORMAT: two have one name, and the model would depend on the order of
 * reading. */
cch_status cch_tensors_sort(cch_tensors *tensors, cch_error *err);
/* NULL is a no-op. */
void cch_tensors_close(cch_tensors *tensors);

/* Tensors in order of their names (bytewise), i < count.  View. */
size_t cch_tensors_count(const cch_tensors *tensors);
const cch_tensor_view *cch_tensors_at(const cch_tensors *tensors, size_t i);
/* NULL when absent. */
const cch_tensor_view *cch_tensors_find(const cch_tensors *tensors, const char *name);

/* "F32 [768, 2304]" for messages; dst is returned. */
const char *cch_tensor_show(const cch_tensor_view *tensor, char dst[CCH_TENSOR_TEXT]);
/* Bytes of a number; 0 for types that are no floats. */
size_t cch_dtype_size(cch_dtype dtype);

/* E_UNSUPPORTED naming the tensor and its type unless it is f32, f16, bf16 or f64. */
cch_status cch_tensor_check_dtype(const cch_tensor_view *tensor, cch_error *err);
/* Elements [first, first + n), counted row by row, as f32 into dst; exact but for f64, which is rounded.  The tensor's
 * type must have been checked. */
void cch_tensor_read(const cch_tensor_view *tensor, size_t first, size_t n, float *dst);

/* Gives the memory of the file pages that hold elements [first, first + n) back; they can still be read. */
void cch_tensor_drop(const cch_tensors *tensors, const cch_tensor_view *tensor, size_t first, size_t n);

#endif
