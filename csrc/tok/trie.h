/* trie - strings as paths of bytes, so that all of them at a place of a text are found in one walk.
 *
 * The children of a node lie side by side, in order of their bytes.
 * Threads: immutable once built.
 */
#ifndef CCH_TOK_TRIE_H
#define CCH_TOK_TRIE_H

#include "base/status.h"

#define CCH_TRIE_NONE UINT32_MAX

typedef struct cch_trie_node {
    uint32_t first; /* of its children */
    int32_t id;     /* of the string that ends here; -1: none does */
    uint16_t n;     /* children */
    uint8_t byte;   /* that leads here */
} cch_trie_node;

typedef struct cch_trie {
    cch_trie_node *nodes; /* owned; [0] is the root */
    uint32_t n_nodes, nodes_cap;
} cch_trie;

typedef struct cch_trie_key {
    const char *text; /* borrowed while building */
    size_t len;
    int32_t id;
} cch_trie_key;

void cch_trie_deinit(cch_trie *trie);
/* Builds an empty trie from distinct keys [n], which are sorted in place.  E_MEMORY. */
cch_status cch_trie_build(cch_trie *trie, cch_trie_key *keys, size_t n, cch_error *err);

/* The child of `node` that `byte` leads to, CCH_TRIE_NONE when there is none. */
static inline uint32_t cch_trie_child(const cch_trie *trie, uint32_t node, uint8_t byte) {
    uint32_t low = trie->nodes[node].first, end = low + trie->nodes[node].n, high = end;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (trie->nodes[mid].byte < byte) low = mid + 1;
        else high = mid;
    }
    return low < end && trie->nodes[low].byte == byte ? low : CCH_TRIE_NONE;
}

#endif
