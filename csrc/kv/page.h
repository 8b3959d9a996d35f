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
 *   owner      a state whose tail the page is, a page whose prev it is, or a page that still has to copy from it (its
 *              borrower).  refs counts owners.
 *   full       n_tokens == 16.
 *   known      full and in the pool's map under (prev, salt, tokens): found again when the same prefix comes.
 *   ready      slots [0, n_kv) have their KV entries in `kv`; a page without `kv` has n_kv == 0.
 *   live       reachable from a state: `live` counts the owners that are states or live pages, and is not 0.
 *   cached     not live: kept only because its prefix may come again.
 *   copy       a page made because a state had to write into a page that others see.  Tokens and scores are copied at
 *              once; the KV entries of the first `from_n` slots only when an evaluation needs them, since blocks are
 *              written by nobody else.  Until then `from` keeps the original alive.
 *
 * Invariants (cch_pool_check tests each)
 *   1. refs == number of states whose tail it is + number of pages whose prev it is + borrowers;
 *      borrowers == number of pages whose `from` it is; `live` counts the same owners, but only live pages.
 *   2. A page with a successor is full.  Tokens of slots that another owner can see never change, and their scores are
 *      only added: a slot is written only when its writer is the one owner besides borrowers and the page is not known,
 *      and a slot that is in use already only when there are no borrowers either; otherwise the page is copied first.
 *      A scout (kv/state.h) writes unused slots also where the state it was made of is an owner, too.
 *   3. 0 <= n_kv <= n_tokens <= 16, and kv == NULL implies n_kv == 0.
 *   4. A known page is full and the page before it is known, too; a cached page is known, and if it has no owner it has
 *      KV entries.  (Any other page without owner is freed at once; then its prev and its `from` lose an owner.)
 *   5. kv_bytes == (pages with kv) * page_bytes.  Pages with kv are on one of two lists: live ones by last use, cached
 *      ones by the time they stopped being live, successors before their prev.  Unused slots of a kv block hold zeros
 *      or old finite values.
 *   6. Equal known pages (same prev, same salt, same tokens) exist once; the salt of a page is that of its prev.
 *   7. from != NULL implies kv == NULL, 0 < from_n <= n_tokens, the same prev, and that `from` copies from nobody.
 *
 * KV block of a page: for each layer and KV head, first K then V:
 *   K [head_dim][16]   tokens in the lanes, so scores need no horizontal sums
 *   V [16][ldv]        channels in the lanes; ldv = head_dim rounded up to 16, padding zero
 * as f32, or as bf16 in half the bytes (`halves`): each number the nearest to what was computed, of two the even one.
 *
 * Threads.  The pool's lock guards structure (refs, map, lists, scores, n_kv, kv pointers); it is never held during
 * compute.  Contents of KV blocks are written only by the holder of the model's run lock; blocks of live pages are
 * allocated, evicted and moved only by it, too.  A page without owner may be freed by anyone: nobody computes on it.
 * Tokens a state can see may be read without the lock while the state is held.
 */
#ifndef CCH_KV_PAGE_H
#define CCH_KV_PAGE_H

#include <pthread.h>

#include "base/alloc.h"
#include "base/half.h"

/* Scores a page remembers; slot i speaks of token i of the page.  See kv/scores.h. */
typedef struct cch_page_scores cch_page_scores;

typedef struct cch_page cch_page;
struct cch_page {
    cch_page *prev;                     /* shared: one reference is ours; NULL at position 0 */
    cch_page *from;                     /* shared: the original of a copy whose KV entries are still to come, or NULL */
    int32_t refs, live, borrowers;
    int32_t index;                      /* position of slot 0 is 16 * index */
    uint64_t salt;                      /* of the states that may share it; that of prev */
    int32_t tokens[CCH_PAGE_TOKENS];
    uint8_t n_tokens, n_kv, from_n;
    bool known;
    bool mark;                          /* was live; for cch_pool_check */
    float *kv;                          /* owned, NULL when evicted or not computed yet; of bf16: two in each float */
    cch_page_scores *scores;            /* owned, NULL when nothing is stored */
    cch_page *map_next;                 /* chain of the map's bucket */
    cch_page *all_prev, *all_next;      /* list of all pages */
    cch_page *lru_prev, *lru_next;      /* list of cached pages or of live pages with kv, first out first */
    uint64_t last_use;                  /* pool tick of the last evaluation that used it */
    /* Plan of the running evaluation, valid when plan_tick is its tick: slots below plan_end will be ready after it,
     * and slots [out_first, out_end) have final hidden states in its output rows out_row, out_row + 1, ... */
    uint64_t plan_tick;
    int32_t out_row;
    uint8_t plan_end, out_first, out_end;
};

typedef struct cch_page_geometry {
    int32_t n_layers, n_kv_heads, head_dim, ldv;
    bool halves;         /* numbers are bf16, else f32 */
    size_t k_floats;     /* words of 32 bits: of K of one layer and KV head, 16 * head_dim numbers */
    size_t head_floats;  /* ... of its K and V */
    size_t page_floats;  /* ... of a KV block */
} cch_page_geometry;

cch_page_geometry cch_page_geometry_make(int32_t n_layers, int32_t n_kv_heads, int32_t head_dim, bool halves);

static inline float *cch_page_k(const cch_page_geometry *g, float *kv, int32_t layer, int32_t kv_head) {
    return kv + ((size_t)layer * (size_t)g->n_kv_heads + (size_t)kv_head) * g->head_floats;
}
static inline float *cch_page_v(const cch_page_geometry *g, float *kv, int32_t layer, int32_t kv_head) {
    return cch_page_k(g, kv, layer, kv_head) + g->k_floats;
}
/* Number i of K or V. */
static inline float cch_page_number(const cch_page_geometry *g, const float *part, size_t i) {
    return g->halves ? cch_bf16_at(part, i) : part[i];
}

#endif
