/* decode - ids to text, piece by piece.
 *
 * Whole texts are decoded by the streaming decoder, so both always agree; but for byte-level ones (4.), whose bytes are
 * joined at once.  A plan says what happens:
 *   1. every token's text passes the steps `before`, one by one (Replace, Strip, Metaspace, WordPiece);
 *   2. byte_fallback: a run of tokens <0xNN> becomes the text it spells when the run as a whole is UTF-8, else one
 *      U+FFFD per byte; so nothing of a run can be told before its end;
 *   3. every piece passes the steps `after`;
 *   4. `bytes` (ByteLevel): the tokens' bytes are joined and what is no UTF-8 becomes U+FFFD, one for each longest
 *      start of a character; or the pieces are joined, with spaces between when the file names no decoder;
 *   5. up to `strip` characters `strip_char` go from the start of the text.
 * Pieces of a SentencePiece model (`unigram`) are decoded as that library does, without steps.  Control pieces give
 * nothing, the unknown one its text, others themselves with spaces for U+2581.  Bytes are a character as soon as they
 * complete one, and U+FFFD each when they cannot.  U+2581 at the start of a text goes where encoding puts one there,
 * and all of them go where it strips texts.
 * Metaspace and WordPiece treat the first token of a text otherwise; all other tokens' texts after 1 (and 3) are made
 * at loading.
 * Threads: a plan is immutable after loading.
 */
#ifndef CCH_TOK_DECODE_H
#define CCH_TOK_DECODE_H

#include "base/status.h"
#include "tok/bytes.h"
#include "tok/unigram.h"

typedef struct cch_decode_step {
    enum { CCH_DECODE_REPLACE, CCH_DECODE_STRIP, CCH_DECODE_METASPACE, CCH_DECODE_WORDPIECE } kind;
    char *from; /* owned: what is replaced or stripped, Metaspace's replacement, WordPiece's prefix */
    char *to;   /* owned */
    size_t from_len, to_len;
    size_t count;     /* Strip: most characters taken from the start */
    bool drops_first; /* Metaspace: replacements in the first token vanish instead of becoming spaces */
} cch_decode_step;

#define CCH_DECODE_STEPS 12

typedef struct cch_decode_plan {
    cch_decode_step steps[CCH_DECODE_STEPS]; /* n_before of them in front of byte fallback, the others behind */
    size_t n_before, n_steps;
    bool byte_fallback, bytes, join_spaces;
    char strip_char[4];
    size_t strip_len, strip;
    const cch_unigram *unigram; /* borrowed from the tokenizer, or NULL */
    char *texts;       /* owned: the texts of all ids after all steps, and some bytes more */
    uint32_t *ends;    /* owned [size + 1]: text i is [ends[i], ends[i + 1]) */
    int16_t *byte_of;  /* owned [size] with byte_fallback or unigram, else NULL: -1 or the byte the token stands for */
} cch_decode_plan;

void cch_decode_plan_deinit(cch_decode_plan *plan);
/* Makes the plan of a WordPiece decoder: a token loses the prefix or gains a space, the first one neither; cleanup
 * takes back the spaces in front of signs and English contractions.   For an empty plan.   E_MEMORY. */
cch_status cch_decode_wordpiece(cch_decode_plan *plan, const char *prefix, size_t len, bool cleanup, cch_error *err);
/* Makes texts, ends and byte_of from the tokenizer's tokens.  E_FORMAT (texts of 4 GiB and more), E_MEMORY. */
cch_status cch_decode_plan_finish(cch_decode_plan *plan, const cch_tokenizer *tok, cch_error *err);

#endif
