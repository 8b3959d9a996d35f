#include "tok/added.h"

#include <stdlib.h> /* qsort */
#include <string.h> /* memcmp, memchr */

#include "base/alloc.h"
#include "base/utf8.h"
#include "tok/unicode.h"

void cch_added_deinit(cch_added_set *set) {
    for (size_t i = 0; i < set->n; i++) cch_free(set->patterns[i].text);
    cch_free(set->patterns);
    set->patterns = NULL;
    set->n = set->cap = 0;
}

cch_status cch_added_put(cch_added_set *set, const char *text, size_t len, cch_added token, cch_error *err) {
    if (set->n == set->cap) {
        size_t cap = set->cap * 2 + 8;
        cch_added_pattern *patterns = cch_resize(set->patterns, cap, sizeof *patterns);
        if (patterns == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu added tokens", cap);
        set->patterns = patterns;
        set->cap = cap;
    }
    char *copy = cch_strndup(text, len);
    if (copy == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes", len);
    set->patterns[set->n++] = (cch_added_pattern){copy, len, token};
    set->starts[(uint8_t)text[0]] = true;
    return CCH_OK;
}

static int compare_patterns(const void *a, const void *b) {
    const cch_added_pattern *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    if (order != 0) return order;
    if (x->len != y->len) return x->len < y->len ? -1 : 1;
    return x->token.id < y->token.id ? -1 : x->token.id > y->token.id;
}

static bool same_flags(cch_added a, cch_added b) {
    return a.special == b.special && a.single_word == b.single_word && a.lstrip == b.lstrip && a.rstrip == b.rstrip;
}

cch_status cch_added_ready(cch_added_set *set, cch_error *err) {
    if (set->n > 1) qsort(set->patterns, set->n, sizeof *set->patterns, compare_patterns);
    for (size_t i = 1; i < set->n; i++) {
        const cch_added_pattern *a = &set->patterns[i - 1], *b = &set->patterns[i];
        if (a->len != b->len || memcmp(a->text, b->text, a->len) != 0) continue;
        if (a->token.id == b->token.id && !same_flags(a->token, b->token))
            CCH_FAIL(err, CCH_E_UNSUPPORTED, b->token.id, "added token \"%.*s\" is given twice, with other flags",
                     (int)cch_utf8_cut(a->text, a->len, 80), a->text);
        if (a->token.id != b->token.id)
            CCH_FAIL(err, CCH_E_UNSUPPORTED, b->token.id, "added tokens %d and %d are both \"%.*s\" when normalized",
                     a->token.id, b->token.id, (int)cch_utf8_cut(a->text, a->len, 80), a->text);
    }
    return CCH_OK;
}

/* First pattern in [low, high) whose byte at `depth` is at least `byte`; all of them agree before depth. */
static size_t lower_bound(const cch_added_set *set, size_t low, size_t high, size_t depth, unsigned byte) {
    while (low < high) {
        size_t mid = (low + high) / 2;
        const cch_added_pattern *p = &set->patterns[mid];
        if (p->len <= depth || (uint8_t)p->text[depth] < byte) low = mid + 1;
        else high = mid;
    }
    return low;
}

/* The longest pattern that starts at text [len], NULL when none does.  The sorted patterns are walked like a trie: the
 * range of those that agree with the text so far narrows byte by byte. */
static const cch_added_pattern *longest(const cch_added_set *set, const char *text, size_t len) {
    const cch_added_pattern *found = NULL;
    size_t low = 0, high = set->n;
    for (size_t depth = 0; depth < len && low < high; depth++) {
        unsigned byte = (uint8_t)text[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
        if (low < high && set->patterns[low].len == depth + 1) found = &set->patterns[low];
    }
    return found;
}

static bool word_before(const char *text, size_t at) {
    size_t len;
    if (at == 0) return false;
    do at--;
    while (at > 0 && ((uint8_t)text[at] & 0xC0) == 0x80);
    return (cch_class_at((const uint8_t *)text + at, &len) & CCH_UNI_WORD) != 0;
}

static bool word_behind(const char *text, size_t at, size_t end) {
    size_t len;
    return at < end && (cch_class_at((const uint8_t *)text + at, &len) & CCH_UNI_WORD) != 0;
}

/* Start of the white space that ends at `at`, not before `first`. */
static size_t spaces_before(const char *text, size_t first, size_t at) {
    while (at > first) {
        size_t start = at, len;
        do start--;
        while (start > first && ((uint8_t)text[start] & 0xC0) == 0x80);
        if (!(cch_class_at((const uint8_t *)text + start, &len) & CCH_UNI_SPACE)) break;
        at = start;
    }
    return at;
}

static size_t spaces_behind(const char *text, size_t at, size_t end) {
    size_t len;
    while (at < end && (cch_class_at((const uint8_t *)text + at, &len) & CCH_UNI_SPACE)) at += len;
    return at;
}

bool cch_added_next(const cch_added_set *set, const char *text, size_t len, bool skip_special, cch_added_cursor *cursor,
                    cch_added_match *out) {
    if (set->n == 0) return false;
    for (size_t at = cursor->search; at < len; at++) {
        if (!set->starts[(uint8_t)text[at]]) continue;
        const cch_added_pattern *p = longest(set, text + at, len - at);
        if (p == NULL) continue;
        size_t start = at, stop = at + p->len;
        at = stop - 1; /* whatever becomes of this match, the search goes on behind it */
        if (skip_special && p->token.special) continue;
        if (p->token.single_word && (word_before(text, start) || word_behind(text, stop, len))) continue;
        cursor->search = stop;
        if (p->token.lstrip) start = start > cursor->taken ? spaces_before(text, cursor->taken, start) : cursor->taken;
        if (p->token.rstrip) stop = spaces_behind(text, stop, len);
        if (start >= stop) continue; /* white space that the match before it took as a whole */
        cursor->taken = stop;
        *out = (cch_added_match){start, stop, p->token.id};
        return true;
    }
    return false;
}
