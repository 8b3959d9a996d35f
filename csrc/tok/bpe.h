/* bpe - byte-pair encoding: a word becomes the ids of its characters, then the neighbours whose merge has the lowest
 * rank (the leftmost of equals) become one token, until no neighbours merge.
 *
 * Two alphabets: bytes (GPT-2 and its heirs; vocabulary strings spell each byte as one printable character) and Unicode
 * characters (SentencePiece style, with tokens <0x00>..<0xFF> for characters outside the vocabulary).
 *
 * Speed.  A word of natural text is nearly always one seen before: each work area has a cache from words of up to 31
 * bytes to their ids, bounded, two ways per set.  Words of up to 64 symbols merge in an array, longer ones in a
 * linked list with a heap: O(n log n), so that a megabyte of one letter is no attack.  A SentencePiece text has no
 * words; it is cut before each U+2581 that follows another character, where loading has proved that no merge crosses.
 *
 * Threads: a cch_bpe is immutable after loading; a cch_bpe_work has one user at a time.
 */
#ifndef CCH_TOK_BPE_H
#define CCH_TOK_BPE_H

#include "base/status.h"
#include "base/strmap.h"

typedef struct cch_merge {
    uint64_t pair; /* left id << 32 | right id; CCH_NO_PAIR in a free slot */
    uint32_t rank;
    int32_t id;
} cch_merge;
#define CCH_NO_PAIR UINT64_MAX

typedef struct cch_bpe {
    cch_strmap vocab;        /* model vocabulary as written in the file -> id */
    cch_strmap words;        /* byte alphabet with ignore_merges: the bytes of each token -> id */
    cch_merge *merges;       /* owned: open addressing, linear probing */
    size_t merge_mask;       /* slots - 1 */
    bool byte_alphabet;
    bool byte_fallback, fuse_unk, ignore_merges;
    bool cuts;               /* no merge crosses from another character into U+2581 */
    int32_t unk_id;          /* -1: characters outside the vocabulary vanish */
    int32_t byte_ids[256];   /* byte alphabet: the byte's token; else: an ASCII character's; -1 when absent */
    int32_t fallback_ids[256]; /* token <0xNN>, -1 when absent */
} cch_bpe;

void cch_bpe_deinit(cch_bpe *bpe);

/* Builds the merge table for `n` merges (bpe->vocab is complete).  E_MEMORY. */
cch_status cch_bpe_reserve_merges(cch_bpe *bpe, size_t n, cch_error *err);
/* Adds the merge of tokens a and b, as written, at `rank` (a repeated pair takes the later rank).
 *   E_FORMAT: a, b or their concatenation is not in the vocabulary. */
cch_status cch_bpe_add_merge(cch_bpe *bpe, const char *a, size_t a_len, const char *b, size_t b_len, uint32_t rank,
                             cch_error *err);
/* Derives byte_ids, fallback_ids, words and cuts once the vocabulary and the merges are in.  E_MEMORY. */
cch_status cch_bpe_finish(cch_bpe *bpe, cch_error *err);

/* The byte alphabet's spelling of `byte` (U+0021..U+0143), and back: -1 for a character that spells no byte. */
uint32_t cch_byte_to_char(uint8_t byte);
int cch_char_to_byte(uint32_t c);
/* Writes the bytes that token [len] spells to dst [len].  Returns their number; SIZE_MAX when
 * it holds a character that spells no byte. */
size_t cch_token_bytes(const char *token, size_t len, char *dst);

typedef struct cch_bpe_work cch_bpe_work;

/* E_MEMORY. */
cch_status cch_bpe_work_new(cch_bpe_work **out, cch_error *err);
void cch_bpe_work_free(cch_bpe_work *work);
/* Starts a new list of ids. */
void cch_bpe_work_begin(cch_bpe_work *work);
/* Adds the ids of a word [len > 0], valid UTF-8 (byte alphabet: any bytes).   E_MEMORY. */
cch_status cch_bpe_word(const cch_bpe *bpe, cch_bpe_work *work, const char *word, size_t len, cch_error *err);
/* Adds the ids of a text that may be cut where bpe->cuts says so.   E_MEMORY. */
cch_status cch_bpe_text(const cch_bpe *bpe, cch_bpe_work *work, const char *text, size_t len, cch_error *err);
/* Adds one id.   E_MEMORY. */
cch_status cch_bpe_push(cch_bpe_work *work, int32_t id, cch_error *err);
/* The ids since begin, now the caller's (cch_free; NULL when there are none); big scratch is given back. */
void cch_bpe_work_take(cch_bpe_work *work, int32_t **out_ids, size_t *out_n);

#endif
