/* cacher_index.h - the similarity index: rows of numbers under keys, and the exact nearest ones by cosine.
 *
 * Part of cacher.h, which includes it; its rules about errors, memory and threads hold here.
 *
 * What is exact.  An index holds each row in the form of its dtype, and the similarity of a query and a row is that of
 * the row as it is held (CCH_ROWS_BF16 and CCH_ROWS_INT8 round it once, when it is added):
 *
 *     dot(q, r) / sqrt(dot(q, q) * dot(r, r)),  cut to -1 .. 1,  and 0 when q or r is all zeros
 *
 * in f64, each dot product one fixed order of fused operations.  A row is as similar to itself as 1.0 exactly.  A
 * search gives the k rows of the highest similarity, equal ones in the order in which they were stored: the same keys
 * and bits for one query or a block of them, on any number of threads and any instruction set, from memory or from a
 * file.
 *
 * How.  A scan reads 8 bits of each number and bounds every similarity from both sides; rows whose upper bound
 * reaches what others have for certain are scored exactly (csrc/sim/codes.h has the bound).  A search for one query
 * reads the signs of the numbers before, and only the rows that these do not rule out (csrc/sim/signs.h), as long as
 * they leave few: with a high threshold, or a near row among those that come first.
 *
 * Threads.  Any number of searches run beside one call that changes the index; such calls take turns.  A search sees
 * the index as it was at one moment: with all rows of an add, or none.  cch_index_has and cch_index_row wait for a
 * change that is being made.
 */
#ifndef CCH_INCLUDE_CACHER_INDEX_H
#define CCH_INCLUDE_CACHER_INDEX_H

#include "include/cacher.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CCH_INDEX_MAX_DIMENSION 65536

typedef struct cch_index cch_index;

typedef enum cch_index_dtype {
    CCH_ROWS_F32 = 0,  /* as given; 41 bits per number with the scan's */
    CCH_ROWS_BF16 = 1, /* rounded to the nearest bf16, the largest one beyond it; 25 bits */
    CCH_ROWS_INT8 = 2  /* its direction, in steps of 1/127 of its largest number; 8 bits, and no signs beside them */
} cch_index_dtype;

typedef struct cch_index_options {
    cch_index_dtype dtype; /* of a new index; a file has its own */
    int32_t n_threads;     /* of a large search, 1..256; 0 = the cores this process may run on */
    const char *isa;       /* as in cch_model_options */
} cch_index_options;
#define CCH_INDEX_OPTIONS_INIT { CCH_ROWS_F32, 0, NULL }

typedef struct cch_index_info {
    int32_t dimension;
    cch_index_dtype dtype;
    int32_t n_threads;
    char isa[16];
    size_t n_rows;
    size_t bytes;        /* held in memory: rows, those removed but not yet overwritten, keys, and signs of all rows */
    size_t mapped_bytes; /* of rows that lie in a file which is mapped: in memory while the system has room */
} cch_index_info;

/* An empty index of rows of `dimension` numbers, 1..CCH_INDEX_MAX_DIMENSION.  options may be NULL.   E_ARGUMENT. */
CCH_API cch_status cch_index_new(int32_t dimension, const cch_index_options *options, cch_index **out, cch_error *err);
CCH_API cch_index *cch_index_ref(cch_index *index);
CCH_API void cch_index_unref(cch_index *index);
CCH_API void cch_index_get_info(cch_index *index, cch_index_info *out);

/* Stores rows [n, dimension] under keys [n], each 0 or more and not in use; NULL: one more than the largest key there
 * ever was, and so on.  All of them, or on failure none.   out_keys [n] or NULL: the keys.
 *   E_ARGUMENT (NaN, infinity; a key: position is its row). */
CCH_API cch_status cch_index_add(cch_index *index, const float *rows, size_t n, const int64_t *keys, int64_t *out_keys,
                                 cch_error *err);
/* Removes the rows of these keys; *out_n: how many there were. */
CCH_API cch_status cch_index_remove(cch_index *index, const int64_t *keys, size_t n, size_t *out_n, cch_error *err);
CCH_API bool cch_index_has(cch_index *index, int64_t key);
/* The row of `key` as it is held, [dimension], into dst; of CCH_ROWS_INT8 with length 1.   E_ARGUMENT (no such key). */
CCH_API cch_status cch_index_row(cch_index *index, int64_t key, float *dst, cch_error *err);
/* The keys in the order in which they were stored.  *out_keys: copy. */
CCH_API cch_status cch_index_keys(cch_index *index, int64_t **out_keys, size_t *out_n, cch_error *err);

/* The k most similar rows of each of the queries [n, dimension], of those whose similarity is `threshold` or more.
 *   k >= 1; threshold -1..1; cancel: read now and then, nonzero ends the call with E_CANCELLED, may be NULL.
 *   out_keys, out_scores [n, k], best first; out_n [n]: how many there are.  Behind them, keys are -1 and scores NaN.
 * On failure what they hold means nothing.   E_ARGUMENT (also NaN and infinity in a query: position is its number). */
CCH_API cch_status cch_index_search(cch_index *index, const float *queries, size_t n, size_t k, double threshold,
                                    const volatile int *cancel, int64_t *out_keys, double *out_scores,
                                    size_t *out_n, cch_error *err);

/* Writes the index, as it was when the call began, to `path`: the file is there whole or as it was before.
 *   E_IO, E_MEMORY. */
CCH_API cch_status cch_index_save(cch_index *index, const char *path, cch_error *err);
/* An index whose rows lie in a file that cch_index_save wrote and that is mapped: its bytes are checked against their
 * digest, and all that a search relies on is looked at; what is stored behind, and signs, are in memory.  Saving to its
 * path replaces the file, which does no harm; changing it in place changes rows under searches, and what is cut off
 * raises SIGBUS.
 *   options: dtype is not read.
 *   E_IO, E_FORMAT (what is wrong, and where: position is a byte), E_UNSUPPORTED (a version to come), E_ARGUMENT. */
CCH_API cch_status cch_index_open(const char *path, const cch_index_options *options, cch_index **out, cch_error *err);

#ifdef __cplusplus
}
#endif
#endif
