/* pretok - pre-tokenizers: where a text is cut before the BPE merges run.
 *
 * There is no regular expression engine.  A pattern in a tokenizer file is looked up as a whole string; each one known
 * has a splitter written by hand that finds the same pieces.  docs/tokenizers.md lists them.
 * A pre-tokenizer is a chain of stages: every piece of one stage is cut further by the next, as in a Sequence.  Its
 * last stage may be Metaspace, which rewrites spaces as the replacement character instead of cutting.
 * Threads: immutable after loading.
 */
#ifndef CCH_TOK_PRETOK_H
#define CCH_TOK_PRETOK_H

#include "base/status.h"
#include "tok/bytes.h"

/* End of the piece that starts at text[at]; at < end, at < result <= end.  The text is valid UTF-8, `at` between two
 * characters; nothing before `at` or from `end` on is looked at. */
typedef size_t (*cch_splitter)(const uint8_t *text, size_t at, size_t end);

size_t cch_split_gpt2(const uint8_t *text, size_t at, size_t end);
size_t cch_split_llama3(const uint8_t *text, size_t at, size_t end); /* also cl100k: numbers in threes */
size_t cch_split_qwen2(const uint8_t *text, size_t at, size_t end);  /* as llama3, numbers one by one */
size_t cch_split_digits(const uint8_t *text, size_t at, size_t end); /* Digits, individual_digits */
size_t cch_split_numbers(const uint8_t *text, size_t at, size_t end); /* Digits, runs of digits */
size_t cch_split_bert(const uint8_t *text, size_t at, size_t end);   /* white space in runs, punctuation one by one */

/* The splitter that does what this regular expression does; NULL when the pattern is not known. */
cch_splitter cch_splitter_find(const char *pattern, size_t len);

#define CCH_PRETOK_STAGES 4

/* Where a piece stands: what is put in front of a text depends on it. */
typedef enum cch_place {
    CCH_PLACE_START, /* at the start of a text */
    CCH_PLACE_JOINT, /* at the start of what goes on from other text: nothing is put in front */
    CCH_PLACE_LATER, /* behind an added token, or behind another piece */
} cch_place;

typedef enum cch_prepend { CCH_PREPEND_NEVER, CCH_PREPEND_FIRST, CCH_PREPEND_ALWAYS } cch_prepend;

typedef struct cch_metaspace {
    char replacement[4]; /* UTF-8 */
    size_t len;          /* 0: no Metaspace stage */
    cch_prepend prepend;
    bool split;
} cch_metaspace;

typedef struct cch_pretok {
    struct {
        cch_splitter split; /* NULL: the piece stays whole */
        bool drops_spaces;  /* a piece that starts with white space is left out */
        bool prefix_space;  /* a piece that does not start with a space is given one (ByteLevel add_prefix_space) */
    } stages[CCH_PRETOK_STAGES];
    size_t n_stages;
    bool bytes; /* ends in ByteLevel: the model's characters are bytes */
    cch_metaspace metaspace;
} cch_pretok;

/* Writes text [len > 0] to out (emptied first) as the Metaspace stage leaves it before splitting.
 *   E_MEMORY. */
cch_status cch_metaspace_apply(const cch_metaspace *m, const char *text, size_t len, cch_place place, cch_bytes *out,
                               cch_error *err);
/* End of the piece that starts at text[at]: before the next replacement character. */
size_t cch_metaspace_split(const cch_metaspace *m, const char *text, size_t at, size_t end);

#endif
