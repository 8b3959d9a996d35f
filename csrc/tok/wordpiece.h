/* wordpiece - WordPiece (BERT): a word is cut from its start into the longest tokens there are, those behind the first
 * written with a prefix ("##"); a word that cannot be cut so is the unknown token as a whole.
 *
 * The vocabulary is a trie over bytes: the longest token at a place is one walk.  Tokens that begin with the prefix lie
 * below the node of the prefix, which is where the walk for the later pieces of a word starts.
 * Threads: immutable after loading.
 */
#ifndef CCH_TOK_WORDPIECE_H
#define CCH_TOK_WORDPIECE_H

#include "base/status.h"
#include "base/strmap.h"
#include "tok/bpe.h"
#include "tok/trie.h"

#define CCH_WORDPIECE_MAX_CHARS 1000 /* the largest max_chars: an unknown word costs its square */

typedef struct cch_wordpiece {
    cch_strmap vocab;
    cch_trie trie;
    uint32_t continued;    /* the node of the prefix; CCH_TRIE_NONE: no token has it */
    char *prefix;          /* owned */
    size_t prefix_len;
    size_t max_chars;      /* a longer word is unknown; at most CCH_WORDPIECE_MAX_CHARS */
    int32_t unk_id;
} cch_wordpiece;

void cch_wordpiece_deinit(cch_wordpiece *wp);
/* Builds the trie once vocab, prefix, max_chars and unk_id are in.  E_MEMORY. */
cch_status cch_wordpiece_finish(cch_wordpiece *wp, cch_error *err);
/* Adds the ids of a word [len > 0], valid UTF-8, to those in `work`.  E_MEMORY. */
cch_status cch_wordpiece_word(const cch_wordpiece *wp, cch_bpe_work *work, const char *word, size_t len,
                              cch_error *err);

#endif
