#include "tok/wordpiece.h"

#include "base/alloc.h"
#include "tok/bpe_work.h"

void cch_wordpiece_deinit(cch_wordpiece *wp) {
    cch_strmap_deinit(&wp->vocab);
    cch_trie_deinit(&wp->trie);
    cch_free(wp->prefix);
    wp->prefix = NULL;
}

cch_status cch_wordpiece_finish(cch_wordpiece *wp, cch_error *err) {
    cch_status status = CCH_OK;
    const size_t longest = CCH_WORDPIECE_MAX_CHARS * 4 + wp->prefix_len; /* bytes of a token that can match */
    cch_trie_key *keys = NULL;
    size_t n = 0;
    CCH_NEW(keys, wp->vocab.n, err);
    for (size_t i = 0; i < wp->vocab.n; i++) {
        cch_trie_key *key = &keys[n];
        key->text = cch_strmap_key_view(&wp->vocab, i, &key->len, &key->id);
        n += key->len <= longest;
    }
    CCH_TRY(cch_trie_build(&wp->trie, keys, n, err));
    wp->continued = 0;
    for (size_t i = 0; i < wp->prefix_len && wp->continued != CCH_TRIE_NONE; i++)
        wp->continued = cch_trie_child(&wp->trie, wp->continued, (uint8_t)wp->prefix[i]);
done:
    cch_free(keys);
    return status;
}

/* --------------------------------------------------------------------------------------------- encoding ---- */

/* Length of the longest token below `node` that text [len] starts with, 0 when none does; *id is its id. */
static size_t longest(const cch_wordpiece *wp, uint32_t node, const char *text, size_t len, int32_t *id) {
    size_t found = 0;
    for (size_t i = 0; i < len && node != CCH_TRIE_NONE; i++) {
        node = cch_trie_child(&wp->trie, node, (uint8_t)text[i]);
        if (node == CCH_TRIE_NONE || wp->trie.nodes[node].id < 0) continue;
        *id = wp->trie.nodes[node].id;
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
