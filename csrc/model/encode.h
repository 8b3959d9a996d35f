/* encode - one pass of an encoder over a ragged batch of texts, without padding.
 *
 * The texts' rows follow each other in one matrix.  A text sees only itself: its keys and values lie in KV blocks of
 * its own (kv/page.h) in the scratch, which every layer fills anew.  The stages are the decoder's (model/ops.h,
 * model/attention.h); what differs is who sees whom, and where the norms stand:
 *
 *     post_norm (BERT)    x = norm(x + attention(x));   x = norm(x + mlp(x))
 *     else (ModernBERT)   x = x + attention(norm(x));   x = x + mlp(norm(x));   at the end norm(x)
 *
 * Batch law: a text starts at lane 0 of a page of its own, so its bits do not depend on what else is in the batch.
 */
#ifndef CCH_MODEL_ENCODE_H
#define CCH_MODEL_ENCODE_H

#include "base/status.h"
#include "model/forward.h"
#include "model/model.h"

/* Reads the texts: ids, one text behind the other, of lengths [n_texts], each 1 to max_position_embeddings; ids are in
 * the vocabulary.
 *   *out_hidden: [sum of lengths, *out_ld] f32, the final hidden states: a view of the scratch, until the next pass;
 * unspecified when a probe stopped it early.
 *   probe: NULL but for a single text.   cancel: read per layer, E_CANCELLED.   E_MEMORY.
 * Threads: the caller holds the model's run lock. */
cch_status cch_encode(cch_model *model, const int32_t *ids, const int32_t *lengths, size_t n_texts,
                      const cch_probe *probe, const volatile int *cancel, const float **out_hidden, size_t *out_ld,
                      cch_error *err);

#endif
