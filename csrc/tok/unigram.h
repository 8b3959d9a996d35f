/* unigram - SentencePiece's unigram model: of all ways to cut a text into pieces the one with the most score in sum.
 *
 *   text -> normalize (character map, white space, U+2581 for spaces) -> best path -> ids
 *
 * The best path is Viterbi's, in one walk over the text: for each place the best way to get there is kept.  Where all
 * ways meet, as they do behind nearly every word, the ids so far are settled, so that memory is that of a stretch
 * between such places and not of the text.  A character that no piece covers costs the lowest score less 10 and becomes
 * the pieces of its bytes, or the unknown one.  Scores are summed in float from the start of the text, as in the
 * reference, and of equals the way found first stays: both decide between ways that differ by rounding.
 *
 * Threads: a cch_unigram is immutable after loading; a cch_unigram_work has one user at a time.
 * Source: arXiv:1804.10959; github.com/google/sentencepiece, with which tests/parity compares.
 */
#ifndef CCH_TOK_UNIGRAM_H
#define CCH_TOK_UNIGRAM_H

#include "base/status.h"
#include "base/strmap.h"
#include "tok/bpe.h"
#include "tok/bytes.h"
#include "tok/charmap.h"
#include "tok/trie.h"

#define CCH_PIECE_MAX_BYTES 1000 /* of a piece: a text costs its length times the longest piece */
#define CCH_PIECE_SPACE "\xE2\x96\x81" /* U+2581 */
#define CCH_PIECE_SPACE_LEN 3

typedef enum cch_piece_type { /* as the file numbers them */
    CCH_PIECE_NORMAL = 1,
    CCH_PIECE_UNKNOWN = 2,
    CCH_PIECE_CONTROL = 3,
    CCH_PIECE_USER_DEFINED = 4,
    CCH_PIECE_UNUSED = 5,
    CCH_PIECE_BYTE = 6,
    CCH_PIECE_SPECIAL = 7 /* not the file's: a user-defined one that is a special token */
} cch_piece_type;

typedef struct cch_unigram {
    cch_strmap vocab;      /* piece as written in the file -> id; ids are the order of the file */
    float *scores;         /* owned [vocab.n] */
    uint8_t *types;        /* owned [vocab.n]: cch_piece_type */
    size_t cap;            /* of scores and types */
    cch_trie trie;         /* what a text may be cut into: normal and user-defined pieces */
    bool symbol_starts[256]; /* first bytes of user-defined pieces */
    cch_charmap map;
    bool byte_fallback;
    bool add_dummy_prefix; /* a space in front of a text */
    bool keep_whitespace;  /* else texts lose it at both ends, and runs of it become one space */
    bool plain_spaces;     /* spaces stay spaces */
    char *unk_text;        /* owned: what the unknown piece decodes to; NULL: " U+2047 " */
    size_t unk_text_len;
    int32_t unk_id;
    int32_t byte_ids[256]; /* with byte_fallback */
    float unk_score;
} cch_unigram;

typedef struct cch_unigram_work {
    cch_bytes normal;
    struct cch_unigram_step *steps; /* owned */
    size_t steps_cap;
} cch_unigram_work;

void cch_unigram_deinit(cch_unigram *u);
/* Adds a piece under the next id.   E_FORMAT (empty, over CCH_PIECE_MAX_BYTES, no UTF-8, given twice; a score that is
 * no number), E_MEMORY. */
cch_status cch_unigram_add(cch_unigram *u, const char *text, size_t len, float score, cch_piece_type type,
                           cch_error *err);
/* Derives the trie and all below it once pieces and options are in.   E_FORMAT (bytes without byte_fallback or the
 * other way round, a byte twice or missing; no unknown piece, or two), E_MEMORY. */
cch_status cch_unigram_finish(cch_unigram *u, cch_error *err);

void cch_unigram_work_deinit(cch_unigram_work *work);
/* Gives scratch back that holds more than `keep` bytes. */
void cch_unigram_work_trim(cch_unigram_work *work, size_t keep);

/* Adds the ids of a text [len > 0], UTF-8, to those in `ids`.
 *   continues: the text goes on from another: no space is put in front of it, nor taken from its start.
 *   plain: special pieces are not looked for.
 *   E_MEMORY. */
cch_status cch_unigram_text(const cch_unigram *u, cch_unigram_work *work, cch_bpe_work *ids, const char *text,
                            size_t len, bool continues, bool plain, cch_error *err);

#endif
