#include "tok/wordpiece.h"

#include <stdlib.h> /* qsort */
#include <string.h> /* memcmp */

#include "base/alloc.h"
#include "tok/bpe_work.h"

#define NONE UINT32_MAX

void cch_wordpiece_deinit(cch_wordpiece *wp) {
    cch_strmap_deinit(&wp->vocab);
    cch_free(wp->nodes);
    cch_free(wp->prefix);
    wp->nodes = NULL;
    wp->prefix = NULL;
}

/* --------------------------------------------------------------------------------------------- the trie ---- */

typedef struct entry {
    const char *text; /* borrowed from the vocabulary */
    size_t len;
    int32_t id;
} entry;

/* What a node stands for while the trie is built: the sorted entries [low, high), which agree in `depth` bytes. */
typedef struct span {
    size_t low, high, depth;
} span;

static int compare_entries(const void *a, const void *b) {
    const entry *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    if (order != 0) return order;
    return x->len < y->len ? -1 : x->len > y->len;
}

static cch_status add_node(cch_wordpiece *wp, span **spans, span s, uint8_t byte, cch_error *err) {
    if (wp->n_nodes == wp->nodes_cap) {
        if (wp->nodes_cap >= NONE / 4) CCH_FAIL(err, CCH_E_MEMORY, -1, "a vocabulary of over %u bytes", wp->nodes_cap);
        const uint32_t cap = wp->nodes_cap * 2 + 64;
        cch_piece_node *nodes = cch_resize(wp->nodes, cap, sizeof *nodes);
        if (nodes != NULL) wp->nodes = nodes;
        span *grown = nodes == NULL ? NULL : cch_resize(*spans, cap, sizeof *grown);
        if (grown == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate a trie of %u nodes", cap);
        *spans = grown;
        wp->nodes_cap = cap;
    }
    wp->nodes[wp->n_nodes] = (cch_piece_node){0, -1, 0, byte};
    (*spans)[wp->n_nodes++] = s;
    return CCH_OK;
}

/* Gives node `at` its token and its children, one for each byte with which its entries go on. */
static cch_status expand(cch_wordpiece *wp, const entry *entries, span **spans, uint32_t at, cch_error *err) {
    span s = (*spans)[at];
    if (s.low < s.high && entries[s.low].len == s.depth) wp->nodes[at].id = entries[s.low++].id;
    wp->nodes[at].first = wp->n_nodes;
    for (size_t low = s.low, high; low < s.high; low = high) {
        const uint8_t byte = (uint8_t)entries[low].text[s.depth];
        for (high = low + 1; high < s.high && (uint8_t)entries[high].text[s.depth] == byte;) high++;
        CCH_RETURN_IF(add_node(wp, spans, (span){low, high, s.depth + 1}, byte, err));
        wp->nodes[at].n++;
    }
    return CCH_OK;
}

/* The child of `node` that `byte` leads to, NONE when there is none. */
static inline uint32_t child(const cch_wordpiece *wp, uint32_t node, uint8_t byte) {
    uint32_t low = wp->nodes[node].first, end = low + wp->nodes[node].n, high = end;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (wp->nodes[mid].byte < byte) low = mid + 1;
        else high = mid;
    }
    return low < end && wp->nodes[low].byte == byte ? low : NONE;
}

cch_status cch_wordpiece_finish(cch_wordpiece *wp, cch_error *err) {
    cch_status status = CCH_OK;
    const size_t longest = CCH_WORDPIECE_MAX_CHARS * 4 + wp->prefix_len; /* bytes of a token that can match */
    entry *entries = NULL;
    span *spans = NULL;
    size_t n = 0;
    CCH_NEW(entries, wp->vocab.n, err);
    for (size_t i = 0; i < wp->vocab.n; i++) {
        entry *e = &entries[n];
        e->text = cch_strmap_key_view(&wp->vocab, i, &e->len, &e->id);
        n += e->len <= longest;
    }
    qsort(entries, n, sizeof *entries, compare_entries);
    CCH_TRY(add_node(wp, &spans, (span){0, n, 0}, 0, err));
    for (uint32_t at = 0; at < wp->n_nodes; at++) CCH_TRY(expand(wp, entries, &spans, at, err));
    wp->continued = 0;
    for (size_t i = 0; i < wp->prefix_len && wp->continued != NONE; i++)
        wp->continued = child(wp, wp->continued, (uint8_t)wp->prefix[i]);
done:
    cch_free(entries);
    cch_free(spans);
    return status;
}

/* --------------------------------------------------------------------------------------------- encoding ---- */

/* Length of the longest token below `node` that text [len] starts with, 0 when none does; *id is its id. */
static size_t longest(const cch_wordpiece *wp, uint32_t node, const char *text, size_t len, int32_t *id) {
    size_t found = 0;
    for (size_t i = 0; i < len && node != NONE; i++) {
        node = child(wp, node, (uint8_t)text[i]);
        if (node == NONE || wp->nodes[node].id < 0) continue;
        *id = wp->nodes[node].id;
        found = i + 1;
    }
    return found;
}

/* Has text [len] more characters than `limit`? */
static bool exceeds(const char *text, size_t len, size_t limit) {
    size_t chars = 0;
    if (len <= limit) return false;
    for (size_t i = 0; i < len && chars <= limit; i++) chars += ((uint8_t)text[i] & 0xC0) != 0x80;
    return chars > limit;
}

cch_status cch_wordpiece_word(const cch_wordpiece *wp, cch_bpe_work *work, const char *word, size_t len,
                              cch_error *err) {
    const size_t first = work->n;
    int32_t id;
    if (exceeds(word, len, wp->max_chars)) return cch_bpe_push(work, wp->unk_id, err);
    for (size_t at = 0, n; at < len; at += n) {
        n = longest(wp, at == 0 ? 0 : wp->continued, word + at, len - at, &id);
        if (n == 0) {
            work->n = first;
            return cch_bpe_push(work, wp->unk_id, err);
        }
        CCH_RETURN_IF(cch_bpe_push(work, id, err));
    }
    return CCH_OK;
}
