/* page - 16 consecutive tokens of a sequence, their KV block, and the tree that all sequences of a model form.
 *
 * A page points back to the page before it, so a state is just its last page and a length, a fork is one more
 * reference, and equal prefixes are one path of a tree:
 *
 *      state A ─────────────────────────────┐
 *                                           v
 *      [Once upon a time ..] <─prev─ [there was a fox ..] <─prev─ [who said ....]   (tail of A, 5 of 16 slots used)
 *                                           ^
 *                                           └───────prev─ [and a hare .............]  (tail of B)
 *      state B ───────────────────────────────────────────────^
 *
 * Terms
 *   owner      a state whose tail the page is, or a page whose prev it is.  refs counts owners.
 *   full       n_tokens == 16.
 *   known      full and in the pool's map under (prev, tokens): found again when the same prefix comes.
 *   ready      slots [0, n_kv) have their KV entries in `kv`; a page without `kv` has n_kv == 0.
 *   cached     known, refs == 0: kept only because its prefix may come again; on the pool's list, oldest first out.
 *   live       reachable from a state.
 *
 * Invariants (cch_pool_check tests each)
 *   1. refs == number of states whose tail it is + number of pages whose prev it is.
 *   2. A page with a successor is full.  Tokens and scores of slots that some other owner can see never change:
 *      a slot is written only when refs == 1 and the page is not known; otherwise the page is copied first.
 *   3. 0 <= n_kv <= n_tokens <= 16, and kv == NULL implies n_kv == 0.
 *   4. refs == 0 implies known (an unknown page without owner is freed at once, then its prev loses an owner).
 *   5. kv_bytes == (pages with kv) * page_bytes.  Unused slots of a kv block hold zeros or old finite values.
 *   6. Equal known pages (same prev, same tokens) exist once.
 *
 * KV block of a page: for each layer and KV head, first K then V:
 *   K [head_dim][16]   tokens in the lanes, so scores need no horizontal sums
 *   V [16][ldv]        channels in the lanes; ldv = head_dim rounded up to 16, padding zero
 *
 * Threads.  The pool's lock guards structure (refs, map, lists, n_kv, kv pointers); it is never held during compute.
 * Contents of KV blocks are written only by the holder of the model's run lock; blocks are allocated, evicted and moved
 * only by it, too, except that a page whose last owner goes away may be freed by anyone (nobody is computing on it).
 */
#ifndef CCH_KV_PAGE_H
#define CCH_KV_PAGE_H

#include <pthread.h>

#include "base/alloc.h"

/* Scores a page remembers; slot i speaks of token i of the page. */
typedef struct cch_page_scores {
    int32_t k;                          /* stored top logits per slot, 0 = only logprob */
    uint16_t has_logprob, has_top;      /* bit i: slot i is known */
    float logprob[CCH_PAGE_TOKENS];     /* of token i given the tokens before it */
    double lse[CCH_PAGE_TOKENS];        /* log-sum-exp of the prediction made after token i */
    int32_t *top_ids;                   /* owned [16][k]: of the prediction made after token i */
    float *top_logits;                  /* owned [16][k] */
} cch_page_scores;

typedef struct cch_page cch_page;
struct cch_page {
    cch_page *prev;                     /* shared: one reference is ours; NULL at position 0 */
    int32_t refs;
    int32_t index;                      /* position of slot 0 is 16 * index */
    int32_t tokens[CCH_PAGE_TOKENS];
    uint8_t n_tokens, n_kv;
    bool known;
    float *kv;                          /* owned, NULL when evicted or not computed yet */
    cch_page_scores *scores;            /* owned, NULL when nothing is stored */
    cch_page *map_next;                 /* chain of the map's bucket */
    cch_page *lru_prev, *lru_next;      /* list of pages with kv, least recently used first */
    uint64_t last_use;                  /* pool tick of the last evaluation that used it */
    /* Plan of the running evaluation (valid when plan_tick equals the pool's tick): slots [plan_first, plan_end) are
     * rows plan_row.. of the batch matrix. */
    uint64_t plan_tick;
    int32_t plan_row;
    uint8_t plan_first, plan_end;
};

typedef struct cch_page_geometry {
    int32_t n_layers, n_kv_heads, head_dim, ldv;
    size_t head_floats;  /* of one layer and KV head: 16 * head_dim + 16 * ldv */
    size_t page_floats;  /* of a KV block */
} cch_page_geometry;

cch_page_geometry cch_page_geometry_make(int32_t n_layers, int32_t n_kv_heads, int32_t head_dim);

static inline float *cch_page_k(const cch_page_geometry *g, float *kv, int32_t layer, int32_t kv_head) {
    return kv + ((size_t)layer * (size_t)g->n_kv_heads + (size_t)kv_head) * g->head_floats;
}
static inline float *cch_page_v(const cch_page_geometry *g, float *kv, int32_t layer, int32_t kv_head) {
    return cch_page_k(g, kv, layer, kv_head) + (size_t)CCH_PAGE_TOKENS * (size_t)g->head_dim;
}

#endif
