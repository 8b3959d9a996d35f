#include "tok/trie.h"

#include <stdlib.h> /* qsort */
#include <string.h> /* memcmp */

#include "base/alloc.h"

/* What a node stands for while the trie is built: the sorted keys [low, high), which agree in `depth` bytes. */
typedef struct span {
    size_t low, high, depth;
} span;

void cch_trie_deinit(cch_trie *trie) {
    cch_free(trie->nodes);
    *trie = (cch_trie){0};
}

static int compare_keys(const void *a, const void *b) {
    const cch_trie_key *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    if (order != 0) return order;
    return x->len < y->len ? -1 : x->len > y->len;
}

static cch_status add_node(cch_trie *trie, span **spans, span s, uint8_t byte, cch_error *err) {
    if (trie->n_nodes == trie->nodes_cap) {
        if (trie->nodes_cap >= CCH_TRIE_NONE / 4)
            CCH_FAIL(err, CCH_E_MEMORY, -1, "a vocabulary of over %u bytes", trie->nodes_cap);
        const uint32_t cap = trie->nodes_cap * 2 + 64;
        cch_trie_node *nodes = cch_resize(trie->nodes, cap, sizeof *nodes);
        if (nodes != NULL) trie->nodes = nodes;
        span *grown = nodes == NULL ? NULL : cch_resize(*spans, cap, sizeof *grown);
        if (grown == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate a trie of %u nodes", cap);
        *spans = grown;
        trie->nodes_cap = cap;
    }
    trie->nodes[trie->n_nodes] = (cch_trie_node){0, -1, 0, byte};
    (*spans)[trie->n_nodes++] = s;
    return CCH_OK;
}

/* Gives node `at` its id and its children, one for each byte with which its keys go on. */
static cch_status expand(cch_trie *trie, const cch_trie_key *keys, span **spans, uint32_t at, cch_error *err) {
    span s = (*spans)[at];
    if (s.low < s.high && keys[s.low].len == s.depth) trie->nodes[at].id = keys[s.low++].id;
    trie->nodes[at].first = trie->n_nodes;
    for (size_t low = s.low, high; low < s.high; low = high) {
        const uint8_t byte = (uint8_t)keys[low].text[s.depth];
        for (high = low + 1; high < s.high && (uint8_t)keys[high].text[s.depth] == byte;) high++;
        CCH_RETURN_IF(add_node(trie, spans, (span){low, high, s.depth + 1}, byte, err));
        trie->nodes[at].n++;
    }
    return CCH_OK;
}

cch_status cch_trie_build(cch_trie *trie, cch_trie_key *keys, size_t n, cch_error *err) {
    cch_status status = CCH_OK;
    span *spans = NULL;
    if (n > 0) qsort(keys, n, sizeof *keys, compare_keys);
    CCH_TRY(add_node(trie, &spans, (span){0, n, 0}, 0, err));
    for (uint32_t at = 0; at < trie->n_nodes; at++) CCH_TRY(expand(trie, keys, &spans, at, err));
done:
    cch_free(spans);
    return status;
}
