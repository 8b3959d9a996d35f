/* cacher_embed.h - vectors of texts: what an encoder (CCH_ENCODER) makes of ids.
 *
 * Part of cacher.h, which includes it; its rules about errors, memory and threads hold here.
 *
 * A text's bits depend on its ids and nothing else: not on the texts beside it, their order, the threads or the
 * instruction set.  So a vector from a cache is the vector that would be computed.
 */
#ifndef CCH_INCLUDE_CACHER_EMBED_H
#define CCH_INCLUDE_CACHER_EMBED_H

#include "include/cacher.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Vectors of texts: unit rows dst [n_texts, hidden_size], pooled as the model's files say.
 *   ids: one text behind the other, lengths [n_texts] of them, special tokens included; at most n_ctx of a text.
 *   options may be NULL, store_top_k is not used; a pass has whole texts, at most chunk_tokens in all or one text.
 *   E_MODEL_TYPE (not an encoder), E_EMPTY and E_CONTEXT (a text without tokens, or with too many; position: which
 * text), E_TOKEN_ID (position: index into ids), E_ARGUMENT (options; weights so large that a vector is no numbers),
 * E_BUSY (in a progress callback), E_CANCELLED, E_MEMORY.   dst is unspecified on failure. */
CCH_API cch_status cch_embed(cch_model *model, const int32_t *ids, const int32_t *lengths, size_t n_texts,
                             const cch_eval_options *options, float *dst, cch_error *err);
/* Hidden states of a text's tokens behind the last layer, before they are pooled: dst [n, hidden_size].   As cch_embed.
 */
CCH_API cch_status cch_embed_tokens(cch_model *model, const int32_t *ids, int32_t n, const cch_eval_options *options,
                                    float *dst, cch_error *err);

#ifdef __cplusplus
}
#endif
#endif
