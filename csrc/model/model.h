/* model - the parts of an opened model, as the layers from here up see them.  open/model.c builds and frees it.
 *
 * Lock order: run_lock, then the pool's lock.  run_lock is held for one forward pass (and the planning and committing
 * around it), so that evaluations of different states take turns.
 */
#ifndef CCH_MODEL_MODEL_H
#define CCH_MODEL_MODEL_H

#include <stdatomic.h>

#include "base/threads.h"
#include "base/turns.h"
#include "io/config.h"
#include "io/sentence.h"
#include "kern/kernels.h"
#include "kv/pool.h"
#include "model/rope.h"
#include "model/scratch.h"
#include "model/weights.h"

#define CCH_MODEL_WARNING 320

struct cch_model {
    atomic_int refs;
    cch_config config;
    cch_weights weights;             /* owned, immutable after load */
    cch_rope rope, local_rope;       /* owned, immutable after load; local_rope: of layers with a window */
    cch_sentence sentence;           /* of an encoder: what becomes of a text's hidden states */
    const int32_t *before, *after;   /* of an encoder: what its tokenizer puts around a text; views, lengths below */
    size_t n_before, n_after;
    const cch_kernels *kern;         /* static */
    cch_threads *threads;            /* owned, used and exchanged under run_lock */
    atomic_int n_threads;            /* of `threads`, for readers without the lock */
    cch_scratch scratch;             /* owned, used under run_lock */
    cch_turns run_lock;
    cch_pool *pool;                  /* owned; an encoder's pages hold no KV, and its geometry is of a single layer */
    cch_tokenizer *tokenizer;        /* shared; NULL when the folder has none */
    int32_t *banned;                 /* owned [n_suppressed + n_eos]: ids that are never drawn, then EOS; or NULL */
    int32_t n_suppressed;
    float *bos_logits;               /* owned: logits after a lone BOS, made by gen/work when first needed; or NULL */
    char fingerprint[65];
    char warning[CCH_MODEL_WARNING]; /* what is odd about its files, or "" */
    atomic_bool prompt_lookup;       /* batches guess ahead (gen/speculate.h) */
    atomic_llong tokens_computed, forwards;
};

/* The ids [*out_n] that cannot be drawn; without_eos: EOS is among them.  View. */
static inline const int32_t *cch_model_banned(const cch_model *model, bool without_eos, int32_t *out_n) {
    *out_n = model->n_suppressed + (without_eos ? model->config.n_eos : 0);
    return model->banned != NULL ? model->banned : model->config.eos_token_ids;
}

/* Most tokens of a state: an encoder reads its template around them. */
static inline int32_t cch_model_room(const cch_model *model) {
    if (model->config.model_type != CCH_ENCODER) return model->config.max_position_embeddings;
    const int64_t room = (int64_t)model->sentence.max_tokens - (int64_t)(model->n_before + model->n_after);
    return room < 0 ? 0 : (int32_t)room;
}

/* Waits for the caller's turn at the run lock.  E_BUSY when the calling thread holds it: it is in a progress callback
 * of a call that keeps its turn (gen/eval.h). */
static inline cch_status cch_run_lock(cch_model *model, cch_error *err) {
    if (cch_turns_take(&model->run_lock)) return CCH_OK;
    CCH_FAIL(err, CCH_E_BUSY, -1, "the model is in the middle of another call of this same thread");
}
static inline void cch_run_unlock(cch_model *model) { cch_turns_give(&model->run_lock); }

/* Where a layer's keys and values lie in a KV block: an encoder, which keeps none, has room for the layer at work. */
static inline int32_t cch_kv_layer(const cch_model *model, int32_t layer) {
    return model->config.model_type == CCH_ENCODER ? 0 : layer;
}

/* E_MODEL_TYPE, with the name of the operation, unless the model is of the type it needs. */
static inline cch_status cch_model_expect(const cch_model *model, cch_model_type type, const char *operation,
                                          cch_error *err) {
    const cch_model_type own = model->config.model_type;
    if (own == type) return CCH_OK;
    CCH_FAIL(err, CCH_E_MODEL_TYPE, -1, "%s needs a%s %s model, this is a%s %s model", operation,
             type == CCH_ENCODER ? "n" : "", cch_model_type_name(type), own == CCH_ENCODER ? "n" : "",
             cch_model_type_name(own));
}

#endif
