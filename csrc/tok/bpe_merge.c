#include <string.h> /* memcpy, memmove */

#include "tok/bpe_work.h"

#define BPE_SHORT 64        /* symbols; above it the heap is faster than scanning */
#define NO_RANK UINT32_MAX
#define NO_LINK UINT32_MAX

static inline uint32_t rank_of(const cch_bpe *bpe, int32_t left, int32_t right, int32_t *id) {
    const cch_merge *merge = cch_bpe_find_merge(bpe, left, right);
    if (merge == NULL) return NO_RANK;
    *id = merge->id;
    return merge->rank;
}

/* Scans for the lowest rank again after each merge: quadratic, but in two arrays that stay in the first-level cache. */
static size_t merge_short(const cch_bpe *bpe, int32_t *symbols, size_t n) {
    uint32_t ranks[BPE_SHORT];  /* of the merge of symbols i and i + 1 */
    int32_t merged[BPE_SHORT];  /* its id */
    for (size_t i = 0; i + 1 < n; i++) ranks[i] = rank_of(bpe, symbols[i], symbols[i + 1], &merged[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == NO_RANK) break;
        symbols[best] = merged[best];
        size_t behind = n - best - 2; /* symbols right of the pair */
        memmove(symbols + best + 1, symbols + best + 2, behind * sizeof *symbols);
        if (behind > 0) {
            memmove(ranks + best + 1, ranks + best + 2, (behind - 1) * sizeof *ranks);
            memmove(merged + best + 1, merged + best + 2, (behind - 1) * sizeof *merged);
            ranks[best] = rank_of(bpe, symbols[best], symbols[best + 1], &merged[best]);
        }
        if (best > 0) ranks[best - 1] = rank_of(bpe, symbols[best - 1], symbols[best], &merged[best - 1]);
        n--;
    }
    return n;
}

/* ------------------------------------------------------------------------------------- long words: a heap ---- */

static inline bool before(cch_candidate a, cch_candidate b) {
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void sift_down(cch_candidate *heap, size_t n, size_t at) {
    cch_candidate moving = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], moving)) break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

/* A merge of two symbols takes one candidate off the heap and adds at most two, so there is room: see merge_long. */
static void heap_push(cch_bpe_work *work, cch_candidate candidate) {
    size_t at = work->heap_n++;
    for (size_t parent; at > 0 && before(candidate, work->heap[parent = (at - 1) / 2]); at = parent)
        work->heap[at] = work->heap[parent];
    work->heap[at] = candidate;
}

/* The candidate of the symbol at `at` and its right neighbour; false when they do not merge. */
static bool candidate_at(const cch_bpe *bpe, const cch_link *links, uint32_t at, cch_candidate *out) {
    if (at == NO_LINK || links[at].next == NO_LINK) return false;
    const cch_merge *merge = cch_bpe_find_merge(bpe, links[at].id, links[links[at].next].id);
    if (merge == NULL) return false;
    *out = (cch_candidate){merge->rank, at, merge->pair};
    return true;
}

/* Is the pair that was found still there? */
static bool is_current(const cch_link *links, cch_candidate c) {
    const cch_link *left = &links[c.at];
    return left->id >= 0 && left->next != NO_LINK &&
           c.pair == ((uint64_t)(uint32_t)left->id << 32 | (uint32_t)links[left->next].id);
}

static cch_status merge_long(const cch_bpe *bpe, cch_bpe_work *work, int32_t *symbols, size_t *n, cch_error *err) {
    cch_candidate found;
    if (*n >= NO_LINK / 2) CCH_FAIL(err, CCH_E_ARGUMENT, -1, "a word of %zu symbols, allowed: below 2^31", *n);
    CCH_RETURN_IF(cch_bpe_work_grow(&work->links, &work->links_cap, *n, sizeof *work->links, err));
    /* n - 1 candidates at first; n - 1 merges, each removing one and adding two */
    CCH_RETURN_IF(cch_bpe_work_grow(&work->heap, &work->heap_cap, 2 * *n, sizeof *work->heap, err));
    cch_link *links = work->links;
    for (size_t i = 0; i < *n; i++)
        links[i] = (cch_link){symbols[i], i == 0 ? NO_LINK : (uint32_t)i - 1, i + 1 == *n ? NO_LINK : (uint32_t)i + 1};
    work->heap_n = 0;
    for (size_t i = 0; i < *n; i++)
        if (candidate_at(bpe, links, (uint32_t)i, &found)) work->heap[work->heap_n++] = found;
    for (size_t i = work->heap_n / 2; i-- > 0;) sift_down(work->heap, work->heap_n, i);

    while (work->heap_n > 0) {
        cch_candidate top = work->heap[0];
        work->heap[0] = work->heap[--work->heap_n];
        if (work->heap_n > 0) sift_down(work->heap, work->heap_n, 0);
        if (!is_current(links, top)) continue;
        cch_link *left = &links[top.at], *right = &links[left->next];
        left->id = cch_bpe_find_merge(bpe, left->id, right->id)->id;
        left->next = right->next;
        right->id = -1;
        if (left->next != NO_LINK) links[left->next].prev = top.at;
        if (candidate_at(bpe, links, left->prev, &found)) heap_push(work, found);
        if (candidate_at(bpe, links, top.at, &found)) heap_push(work, found);
    }
    size_t left_over = 0;
    for (uint32_t i = 0; i != NO_LINK; i = links[i].next) symbols[left_over++] = links[i].id;
    *n = left_over;
    return CCH_OK;
}

cch_status cch_bpe_merge(const cch_bpe *bpe, cch_bpe_work *work, int32_t *symbols, size_t *n, cch_error *err) {
    if (*n > BPE_SHORT) return merge_long(bpe, work, symbols, n, err);
    *n = merge_short(bpe, symbols, *n);
    return CCH_OK;
}
