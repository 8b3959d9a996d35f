/* weights - a model's tensors, packed for the kernels and ready to multiply.
 *
 * The generic forward pass sees one layout, whatever the family: q, k and v are one matrix and gate and up are one
 * matrix, so that a layer is four matrix products.  Which tensor of the file goes where is said by the family's table
 * (model/families/).  Every tensor's shape is checked against the config, every value must be finite (but for a family
 * that says otherwise), missing tensors and such that the family does not know are refused by name, all at once.
 *
 * Loading a folder maps the files and converts and packs them tile by tile on all threads, giving the file's pages back
 * behind itself: at no time are there two copies.  On the way each tensor is hashed as f32 values, so that equal
 * weights have equal digests whatever their file format, sharding or order.
 *
 * Threads: immutable after cch_weights_open.
 */
#ifndef CCH_MODEL_WEIGHTS_H
#define CCH_MODEL_WEIGHTS_H

#include "base/filemap.h"
#include "base/hash.h"
#include "io/config.h"
#include "io/tensors.h"
#include "kern/matmul.h"

#define CCH_PART_ALIGN 64

typedef struct cch_norm_weights {
    float *w; /* [n]; NULL when the family has no such norm */
    float *b; /* [n]; NULL for norms without bias */
} cch_norm_weights;

/* A matrix, table or vector as one run of bytes, 64-byte aligned. */
typedef struct cch_part {
    float *data;
    size_t bytes;
} cch_part;

/* Bytes between the end of a part and the next one. */
static inline size_t cch_part_padding(size_t bytes) {
    return (CCH_PART_ALIGN - bytes % CCH_PART_ALIGN) % CCH_PART_ALIGN;
}

/* Rows of fused matrices follow each other without gaps; biases lie in the packed matrices. */
typedef struct cch_layer {
    cch_norm_weights attention_norm, mlp_norm; /* [hidden_size], each before its block, or with post_norm behind it */
    cch_norm_weights q_norm, k_norm;           /* [head_dim], w NULL without qk_norm */
    cch_packed qkv;  /* [(n_heads + 2 n_kv_heads) * head_dim, hidden_size]: rows of q, then k, then v */
    cch_packed o;    /* [hidden_size, n_heads * head_dim] */
    cch_packed up;   /* gated MLP: [2 * intermediate_size, hidden_size], rows of gate, then up; else up alone */
    cch_packed down; /* [hidden_size, intermediate_size] */
} cch_layer;

typedef struct cch_weights {
    cch_format format;           /* of all matrices */
    cch_layer *layers;           /* owned [n_layers] */
    size_t n_layers;
    cch_norm_weights embedding_norm, final_norm; /* [hidden_size]; w NULL where the family has none */
    cch_packed head;             /* [vocab_size, hidden_size]: the output matrix; when tied also the embeddings.
                                    Of a classifier: [n_labels, hidden_size]; of an encoder without rows */
    float *embedding;            /* [vocab_size, hidden_size]; NULL when tied */
    float *positions;            /* [max_position_embeddings, hidden_size]; NULL with RoPE */
    float *token_types;          /* [type_vocab_size, hidden_size]; NULL without */
    cch_part *parts;             /* owned [n_parts]: all of the above in the order of its making; their data is owned,
                                    or lies in the map */
    size_t n_parts;
    cch_filemap map;             /* owned: a packed file (model/packedfile.h); closed when the parts are memory */
    size_t words;                /* most that a product with one of the matrices needs for a row: cch_matmul_words */
    int64_t n_parameters;        /* as in the file; a tied matrix counts once */
    int64_t n_not_finite;        /* how many of them are NaN or infinite, where the family lets them be */
    size_t bytes;                /* of all parts */
    uint8_t digest[CCH_HASH_BYTES]; /* of the names, shapes and f32 values */
    uint8_t layout[CCH_HASH_BYTES]; /* of the names and shapes alone */
} cch_weights;

/* Loads model.safetensors, or the shards of model.safetensors.index.json, from `folder`.
 *   format: of the matrices that are multiplied with; tables and norms stay f32.
 *   threads: convert and pack, used only during the call.
 *   E_IO, E_FORMAT (damaged file, wrong shape, missing tensor, NaN or infinity: by tensor name and index),
 *   E_UNSUPPORTED (tensor type, or a tensor that this family and config have no place for), E_MEMORY.
 *   On failure *out is all zeros. */
cch_status cch_weights_open(const char *folder, const cch_config *config, cch_format format, cch_threads *threads,
                            cch_weights *out, cch_error *err);
/* The same from tensors that are open already; they are not needed afterwards. */
cch_status cch_weights_load(const cch_tensors *tensors, const cch_config *config, cch_format format,
                            cch_threads *threads, cch_weights *out, cch_error *err);
/* The same as views of a map of parts as packing left them: from byte `first` on, in the order of `parts`, each padded
 * to a multiple of CCH_PART_ALIGN.   digest stays zero.
 *   map: taken, also on failure.   E_FORMAT (the parts that the config asks for take another number of bytes). */
cch_status cch_weights_take(cch_filemap map, size_t first, const cch_config *config, cch_format format,
                            cch_weights *out, cch_error *err);
/* Checks names, shapes and types as loading does, and loads nothing. */
cch_status cch_weights_check(const cch_tensors *tensors, const cch_config *config, cch_error *err);
/* A zeroed struct is a no-op. */
void cch_weights_close(cch_weights *weights);

/* Row `token_id` of the embedding table into dst [hidden_size].  0 <= token_id < vocab_size.  Threads: pure. */
void cch_weights_embedding(const cch_weights *weights, int32_t token_id, float *dst);

#endif
