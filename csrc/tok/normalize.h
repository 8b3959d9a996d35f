/* normalize - what happens to a text before it is cut: NFC, NFD, Prepend, Replace, and the steps of tok/fold.h, in the
 * order of the file.  BERT's normalizer is a row of them.
 *
 * NFC and NFD are Unicode canonical composition and decomposition with the data the `tokenizers` library has.  Text
 * without a character that could change is left where it is: one pass over the bytes, no copy.
 * Threads: a normalizer is immutable after loading; the buffers are the caller's.
 */
#ifndef CCH_TOK_NORMALIZE_H
#define CCH_TOK_NORMALIZE_H

#include "base/status.h"
#include "tok/bytes.h"
#include "tok/fold.h"

#define CCH_NORMALIZER_STEPS 8

typedef struct cch_normalizer {
    struct cch_normalizer_step {
        enum {
            CCH_NORMALIZE_NFC, CCH_NORMALIZE_NFD, CCH_NORMALIZE_PREPEND, CCH_NORMALIZE_REPLACE, CCH_NORMALIZE_FOLD
        } kind;
        char *from; /* owned: what Replace looks for, never empty */
        char *to;   /* owned: what Replace writes, what Prepend adds */
        size_t from_len, to_len;
        cch_fold_kind fold; /* of FOLD */
    } steps[CCH_NORMALIZER_STEPS];
    size_t n_steps;
} cch_normalizer;

void cch_normalizer_deinit(cch_normalizer *n);

/* Adds the steps of a BertNormalizer with these options; false, and nothing is added, when they are too many. */
bool cch_normalizer_add_bert(cch_normalizer *n, bool clean, bool chinese, bool strip_accents, bool lowercase);

/* Applies all steps, or all but Prepend, to text [*len > 0] of valid UTF-8.  *text and *len then name the result, which
 * lies in one of the buffers, or is the text itself where nothing changed.  The text must not lie in the buffers.
 *   E_MEMORY. */
cch_status cch_normalize(const cch_normalizer *n, bool prepend, cch_bytes buffers[2], const char **text, size_t *len,
                         cch_error *err);

/* Adds NFC of text [len], valid UTF-8, to out.   E_MEMORY. */
cch_status cch_nfc(const char *text, size_t len, cch_bytes *out, cch_error *err);
/* Length of the prefix of the text that NFC certainly leaves as it is, whatever follows. */
size_t cch_nfc_unchanged(const char *text, size_t len);

/* The same with NFD. */
cch_status cch_nfd(const char *text, size_t len, cch_bytes *out, cch_error *err);
size_t cch_nfd_unchanged(const char *text, size_t len);

/* Adds text [len] to out with every `from` replaced by `to`, left to right.  from_len > 0.   E_MEMORY. */
cch_status cch_replace(const char *text, size_t len, const char *from, size_t from_len, const char *to, size_t to_len,
                       cch_bytes *out, cch_error *err);

#endif
