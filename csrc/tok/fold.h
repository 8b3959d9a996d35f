/* fold - the steps of a normalizer that look at one character at a time: BERT's clean_text, its spaces around Chinese
 * characters, its removal of marks, and lower case.
 *
 * What each does to a character is the `tokenizers` library's data (tok/unicode.h); lower case knows no context, as
 * there: a final sigma becomes the same letter as any other.
 * Threads: pure.
 */
#ifndef CCH_TOK_FOLD_H
#define CCH_TOK_FOLD_H

#include "base/status.h"
#include "tok/bytes.h"

typedef enum cch_fold_kind {
    CCH_FOLD_CLEAN,   /* control characters vanish, white space becomes a space */
    CCH_FOLD_CHINESE, /* a space on each side of a Chinese character */
    CCH_FOLD_MARKS,   /* nonspacing marks vanish; behind NFD these are the accents */
    CCH_FOLD_LOWER
} cch_fold_kind;

/* Adds text [len], valid UTF-8, to out as the step leaves it.   E_MEMORY. */
cch_status cch_fold(cch_fold_kind kind, const char *text, size_t len, cch_bytes *out, cch_error *err);
/* Length of the longest prefix of the text that the step leaves as it is. */
size_t cch_fold_unchanged(cch_fold_kind kind, const char *text, size_t len);

#endif
