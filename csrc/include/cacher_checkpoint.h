/* cacher_checkpoint.h - a niels-gpt checkpoint (.pt, as torch.save writes it) to look into; part of cacher.h.
 *
 * cch_model_open opens such a file as a model.  These functions show what is in it: the plain values that training left
 * there, and the tensors as they are in the file.  Reading runs no code that the file asks for; what a checkpoint does
 * not need is refused.  A file is refused here for the same reasons as there.
 *
 * Threads: a checkpoint is immutable and may be shared.
 */
#ifndef CCH_INCLUDE_CACHER_CHECKPOINT_H
#define CCH_INCLUDE_CACHER_CHECKPOINT_H

#include "include/cacher.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cch_checkpoint cch_checkpoint;

typedef enum cch_value_kind {
    CCH_VALUE_NONE = 0,
    CCH_VALUE_BOOL = 1,
    CCH_VALUE_INT = 2,
    CCH_VALUE_LONG = 3,  /* an int of more than 64 bits: bytes, two's complement, little end first */
    CCH_VALUE_FLOAT = 4,
    CCH_VALUE_TEXT = 5,  /* bytes, UTF-8 */
    CCH_VALUE_BYTES = 6,
    CCH_VALUE_LIST = 7,
    CCH_VALUE_TUPLE = 8,
    CCH_VALUE_DICT = 9,  /* items: keys and values taking turns */
    CCH_VALUE_OTHER = 10 /* a tensor, or a part of one */
} cch_value_kind;

typedef struct cch_value {
    int32_t id; /* the same value is the same id wherever it comes; 0 <= id < cch_checkpoint_values */
    cch_value_kind kind;
    int64_t integer; /* BOOL, INT */
    double real;     /* FLOAT */
    const char *bytes;
    size_t n; /* of bytes, or items of a LIST, TUPLE, DICT */
} cch_value;

typedef struct cch_checkpoint_tensor {
    const char *name; /* view */
    int32_t n_dims;   /* 0..8 */
    int64_t shape[8];
    int64_t n_numbers;
} cch_checkpoint_tensor;

/* Opens `path`, maps it, and checks everything but the numbers.
 *   E_IO, E_FORMAT, E_UNSUPPORTED (a name or an option that is not supported is shown), E_MEMORY.
 *   *out belongs to the caller, who closes it. */
CCH_API cch_status cch_checkpoint_open(const char *path, cch_checkpoint **out, cch_error *err);
CCH_API void cch_checkpoint_close(cch_checkpoint *checkpoint);
/* 1 or 2. */
CCH_API int32_t cch_checkpoint_generation(const cch_checkpoint *checkpoint);

/* Values that there are, shared ones counted once. */
CCH_API int32_t cch_checkpoint_values(const cch_checkpoint *checkpoint);
/* What the file's dict has under `key`; false when absent.  Views in *out live as long as the checkpoint. */
CCH_API bool cch_checkpoint_get(const cch_checkpoint *checkpoint, const char *key, cch_value *out);
/* Item i < n of a LIST, TUPLE or DICT.  Containers are nested at most 100 deep and form no cycle, but may be shared. */
CCH_API void cch_checkpoint_item(const cch_checkpoint *checkpoint, const cch_value *container, size_t i,
                                 cch_value *out);

/* Tensors of the model, in order of their names. */
CCH_API size_t cch_checkpoint_tensors(const cch_checkpoint *checkpoint);
/* i < cch_checkpoint_tensors. */
CCH_API void cch_checkpoint_get_tensor(const cch_checkpoint *checkpoint, size_t i, cch_checkpoint_tensor *out);
/* Its numbers row by row as f32 into dst [n_numbers]; double ones are rounded. */
CCH_API void cch_checkpoint_read_tensor(const cch_checkpoint *checkpoint, size_t i, float *dst);

/* Ids that are never drawn from the model, *out_n of them: the special tokens of a checkpoint with pieces, but for the
 * one that ends a reply.  View. */
CCH_API const int32_t *cch_model_suppressed_view(const cch_model *model, int32_t *out_n);
/* What is odd about the checkpoint that a model was opened from, but no reason to refuse it (NaN among weights, unknown
 * fields); "" when nothing is, and for other models.  View. */
CCH_API const char *cch_model_warning_view(const cch_model *model);

#ifdef __cplusplus
}
#endif

#endif
