/* added - added tokens: strings that are found in a text before anything else, and become one id each.
 *
 * The leftmost match wins, of those the longest; matches do not overlap.  Tokens with `normalized` false are looked for
 * in the text as given, the others in the normalized text between them, in their own normalized form.
 *   single_word   matches only where no word character (\w) touches it
 *   lstrip/rstrip the white space before/behind it belongs to the match
 * Threads: immutable after loading.
 */
#ifndef CCH_TOK_ADDED_H
#define CCH_TOK_ADDED_H

#include "base/status.h"

typedef struct cch_added {
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
} cch_added;

typedef struct cch_added_pattern {
    char *text; /* owned; not empty */
    size_t len;
    cch_added token;
} cch_added_pattern;

typedef struct cch_added_set {
    cch_added_pattern *patterns; /* owned, sorted by bytes once ready */
    size_t n, cap;
    bool starts[256];            /* first bytes of the patterns */
} cch_added_set;

void cch_added_deinit(cch_added_set *set);
/* Adds a pattern [len > 0], copied.  E_MEMORY. */
cch_status cch_added_put(cch_added_set *set, const char *text, size_t len, cch_added token, cch_error *err);
/* Sorts: call once after the last put.  E_UNSUPPORTED: two ids have the same text, or one text comes again with other
 * flags. */
cch_status cch_added_ready(cch_added_set *set, cch_error *err);

typedef struct cch_added_cursor { /* {0}: at the start of a text */
    size_t search; /* where to look next */
    size_t taken;  /* end of the last match with its spaces */
} cch_added_cursor;

typedef struct cch_added_match {
    size_t start, stop; /* of the match in the text, with the spaces it takes; start may lie before the last stop */
    int32_t id;
} cch_added_match;

/* The next match in text [len], valid UTF-8, from the cursor on; false when there is none.
 *   skip_special: special tokens are ordinary text (but still hide what they overlap). */
bool cch_added_next(const cch_added_set *set, const char *text, size_t len, bool skip_special, cch_added_cursor *cursor,
                    cch_added_match *out);

#endif
