/* bpe_work - the scratch one encoding call works in; shared by bpe.c (words) and bpe_merge.c (merging).
 *
 * Threads: one user at a time.
 */
#ifndef CCH_TOK_BPE_WORK_H
#define CCH_TOK_BPE_WORK_H

#include "tok/bpe.h"

#define CCH_WORD_BYTES 31 /* longest word that is cached */
#define CCH_WORD_IDS 7    /* most ids of a cached word */

typedef struct cch_word_key {
    uint64_t words[4]; /* 31 bytes of the word, zeros, then its length in the last byte; length 0: free */
} cch_word_key;

typedef struct cch_cached_word { /* one cache line */
    cch_word_key key;
    int32_t n;
    int32_t ids[CCH_WORD_IDS];
} cch_cached_word;

typedef struct cch_link { /* a symbol of a long word */
    int32_t id;         /* -1: merged into its left neighbour */
    uint32_t prev, next; /* UINT32_MAX: none */
} cch_link;

typedef struct cch_candidate { /* a merge of the symbol at `at` with its right neighbour, as it was when found */
    uint32_t rank, at;
    uint64_t pair;
} cch_candidate;

struct cch_bpe_work {
    cch_cached_word *cache; /* owned: CACHE_SETS sets of two, the more recent first */
    int32_t *ids;           /* owned: the result so far */
    size_t n, cap;
    int32_t *symbols;       /* owned */
    size_t symbols_cap;
    cch_link *links;        /* owned */
    size_t links_cap;
    cch_candidate *heap;    /* owned */
    size_t heap_n, heap_cap;
};

/* The merge of two ids, NULL when there is none. */
static inline const cch_merge *cch_bpe_find_merge(const cch_bpe *bpe, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t hash = pair * 0x9E3779B97F4A7C15u;
    for (size_t i = (hash ^ hash >> 32) & bpe->merge_mask;; i = (i + 1) & bpe->merge_mask) {
        if (bpe->merges[i].pair == pair) return &bpe->merges[i];
        if (bpe->merges[i].pair == CCH_NO_PAIR) return NULL;
    }
}

/* Makes *array (of `size`-byte elements) hold at least n.  E_MEMORY; unchanged then. */
cch_status cch_bpe_work_grow(void *array, size_t *cap, size_t n, size_t size, cch_error *err);

/* Merges symbols [n] of a word in place; *n becomes the number left.  E_MEMORY. */
cch_status cch_bpe_merge(const cch_bpe *bpe, cch_bpe_work *work, int32_t *symbols, size_t *n, cch_error *err);

#endif
