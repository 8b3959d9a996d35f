/* safetensors - named tensors of a model folder, mapped and validated.
 *
 * A file is: u64 little-endian header length n, n bytes of JSON, then data.  The header maps each tensor name to
 * {"dtype", "shape", "data_offsets": [first, last)} relative to the data; "__metadata__" is free text and ignored.
 * A folder holds model.safetensors, or model.safetensors.index.json whose weight_map says which shard has which tensor.
 *
 * Checked when opening, so that a view can be read without further care:
 *   1. the header is at most 100 MB of strict JSON and inside the file;
 *   2. data_offsets of a file's tensors, sorted, cover its data exactly: no hole, no overlap, nothing behind the end;
 *   3. bytes == product of the shape x size of the dtype, without overflow; at most 8 dimensions;
 *   4. shard names are plain file names; every indexed tensor is in its shard and only there.
 * Data need not be aligned.  The files stay mapped until cch_tensors_close: see base/filemap.h for what that asks of
 * whoever replaces them.  Types other than f32, f16 and bf16 are an error only when such a tensor is read.
 *
 * Threads: immutable after open; reading views is pure.
 */
#ifndef CCH_IO_SAFETENSORS_H
#define CCH_IO_SAFETENSORS_H

#include "base/status.h"

#define CCH_TENSOR_MAX_DIMS 8
#define CCH_TENSOR_TEXT 96

typedef enum cch_dtype { CCH_DTYPE_F32, CCH_DTYPE_F16, CCH_DTYPE_BF16, CCH_DTYPE_OTHER } cch_dtype;

/* A borrowed look at one tensor; valid until cch_tensors_close. */
typedef struct cch_tensor_view {
    const char *name;               /* NUL-terminated */
    const char *dtype_name;         /* as in the file: "F32", "BF16", "I64", ... */
    cch_dtype dtype;
    int32_t n_dims;
    size_t shape[CCH_TENSOR_MAX_DIMS];
    size_t n_elements, n_bytes;
    const unsigned char *data;      /* [n_bytes], any alignment */
    size_t shard;                   /* index of the file that holds it */
} cch_tensor_view;

typedef struct cch_tensors cch_tensors;

/* E_IO, E_FORMAT, E_MEMORY.   *out belongs to the caller; it keeps the files mapped. */
cch_status cch_tensors_open(const char *folder, cch_tensors **out, cch_error *err);
/* The same for one file in memory, which must stay valid; `name` is for messages. */
cch_status cch_tensors_parse(const unsigned char *data, size_t size, const char *name, cch_tensors **out,
                             cch_error *err);
void cch_tensors_close(cch_tensors *tensors);

/* Tensors in order of their names (bytewise), i < count.  View. */
size_t cch_tensors_count(const cch_tensors *tensors);
const cch_tensor_view *cch_tensors_at(const cch_tensors *tensors, size_t i);
/* NULL when absent. */
const cch_tensor_view *cch_tensors_find(const cch_tensors *tensors, const char *name);

/* "F32 [768, 2304]" for messages; dst is returned. */
const char *cch_tensor_show(const cch_tensor_view *tensor, char dst[CCH_TENSOR_TEXT]);

/* E_UNSUPPORTED naming the tensor and its type unless it is f32, f16 or bf16. */
cch_status cch_tensor_check_dtype(const cch_tensor_view *tensor, cch_error *err);
/* Elements [first, first + n) as f32 into dst; exact.  The tensor's type must have been checked. */
void cch_tensor_read(const cch_tensor_view *tensor, size_t first, size_t n, float *dst);

/* Gives the memory of the file pages that hold elements [first, first + n) back; they can still be read. */
void cch_tensor_drop(const cch_tensors *tensors, const cch_tensor_view *tensor, size_t first, size_t n);

#endif
