#include "tok/pretok.h"

#include "tok/unicode.h"

enum { LETTER = CCH_UNI_LETTER, NUMBER = CCH_UNI_NUMBER, SPACE = CCH_UNI_SPACE, KNOWN = LETTER | NUMBER | SPACE };

/* ------------------------------------------------------------------------------------------ shared pieces ---- */

/* End of the run of characters from `at` whose classes meet `mask` (want true) or miss it (want false). */
static inline size_t run_of(const uint8_t *text, size_t at, size_t end, unsigned mask, bool want) {
    while (at < end) {
        size_t len = 1;
        unsigned class = text[at] < 0x80 ? cch_unicode_flags[text[at]] : cch_class_at(text + at, &len);
        if (((class & mask) != 0) != want) break;
        at += len;
    }
    return at;
}

/* `\s+(?!\S)|\s+` at a space: the whole run at the end of the text, else all but its last character, which the next
 * piece may take; a single space is a piece of its own. */
static size_t split_spaces(const uint8_t *text, size_t at, size_t end) {
    size_t last = at, next = at, len;
    while (next < end && (cch_class_at(text + next, &len) & SPACE)) {
        last = next;
        next += len;
    }
    return next == end || last == at ? next : last;
}

/* Length of 's 't 're 've 'm 'll 'd at an apostrophe, 0 when there is none.  With fold in either case, and then the
 * long s (U+017F) is an s too: that is what ignoring case means to the pattern. */
static size_t contraction(const uint8_t *text, size_t at, size_t end, bool fold) {
    if (end - at < 2) return 0;
    uint8_t a = text[at + 1], b = end - at > 2 ? text[at + 2] : 0;
    if (fold && a == 0xC5 && b == 0xBF) return 3;
    if (fold && a >= 'A' && a <= 'Z') a |= 0x20;
    if (fold && b >= 'A' && b <= 'Z') b |= 0x20;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l')) return 3;
    return 0;
}

/* ---------------------------------------------------------------------------------------------- splitters ---- */

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
size_t cch_split_gpt2(const uint8_t *text, size_t at, size_t end) {
    size_t len, first = at;
    if (text[at] == '\'') {
        len = contraction(text, at, end, false);
        if (len > 0) return at + len;
    }
    if (text[at] == ' ' && at + 1 < end) first++;
    unsigned class = cch_class_at(text + first, &len) & KNOWN;
    if (class & LETTER) return run_of(text, first + len, end, LETTER, true);
    if (class & NUMBER) return run_of(text, first + len, end, NUMBER, true);
    if (class == 0) return run_of(text, first + len, end, KNOWN, false);
    return split_spaces(text, at, end);
}

/* `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the last line break of the run of spaces, else as split_spaces. */
static size_t split_lines(const uint8_t *text, size_t at, size_t end) {
    size_t stop = run_of(text, at, end, SPACE, true);
    for (size_t i = stop; i > at; i--)
        if (text[i - 1] == '\n' || text[i - 1] == '\r') return i;
    return split_spaces(text, at, end);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,M}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+
 * |\s+(?!\S)|\s+ */
static inline size_t split_cl100k(const uint8_t *text, size_t at, size_t end, int max_digits) {
    size_t len, next_len, next;
    if (text[at] == '\'') {
        len = contraction(text, at, end, true);
        if (len > 0) return at + len;
    }
    unsigned class = cch_class_at(text + at, &len) & KNOWN, next_class = SPACE;
    next = at + len;
    if (class & LETTER) return run_of(text, next, end, LETTER, true);
    if (class & NUMBER) {
        for (int i = 1; i < max_digits && next < end && (cch_class_at(text + next, &len) & NUMBER); i++) next += len;
        return next;
    }
    if (next < end) next_class = cch_class_at(text + next, &next_len) & KNOWN;
    if ((next_class & LETTER) && text[at] != '\n' && text[at] != '\r') return run_of(text, next, end, LETTER, true);
    if (class == 0 || (text[at] == ' ' && next_class == 0)) {
        next = run_of(text, next, end, KNOWN, false);
        while (next < end && (text[next] == '\n' || text[next] == '\r')) next++;
        return next;
    }
    return split_lines(text, at, end);
}

size_t cch_split_llama3(const uint8_t *text, size_t at, size_t end) { return split_cl100k(text, at, end, 3); }

size_t cch_split_qwen2(const uint8_t *text, size_t at, size_t end) { return split_cl100k(text, at, end, 1); }

size_t cch_split_digits(const uint8_t *text, size_t at, size_t end) {
    size_t len;
    if (cch_class_at(text + at, &len) & CCH_UNI_DIGIT) return at + len;
    return run_of(text, at + len, end, CCH_UNI_DIGIT, false);
}

size_t cch_split_numbers(const uint8_t *text, size_t at, size_t end) {
    size_t len;
    bool digit = (cch_class_at(text + at, &len) & CCH_UNI_DIGIT) != 0;
    return run_of(text, at + len, end, CCH_UNI_DIGIT, digit);
}

size_t cch_split_bert(const uint8_t *text, size_t at, size_t end) {
    const unsigned ends = CCH_UNI_SPACE | CCH_UNI_PUNCTUATION;
    size_t len;
    unsigned class = cch_class_at(text + at, &len) & ends;
    if (class & CCH_UNI_PUNCTUATION) return at + len;
    return class != 0 ? run_of(text, at, end, CCH_UNI_SPACE, true) : run_of(text, at, end, ends, false);
}

#define CL100K(numbers)                                                                      \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers                    \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

cch_splitter cch_splitter_find(const char *pattern, size_t len) {
    static const struct {
        const char *pattern;
        cch_splitter split;
    } known[] = {
        {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", cch_split_gpt2},
        {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", cch_split_gpt2},
        {CL100K("\\p{N}{1,3}"), cch_split_llama3},
        {CL100K("\\p{N}"), cch_split_qwen2},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i].pattern) == len && memcmp(known[i].pattern, pattern, len) == 0) return known[i].split;
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- metaspace ---- */

cch_status cch_metaspace_apply(const cch_metaspace *m, const char *text, size_t len, cch_place place, cch_bytes *out,
                               cch_error *err) {
    out->n = 0;
    bool starts = text[0] == ' ' || (len >= m->len && memcmp(text, m->replacement, m->len) == 0);
    bool wanted = m->prepend == CCH_PREPEND_ALWAYS ? place != CCH_PLACE_JOINT
                                                   : m->prepend == CCH_PREPEND_FIRST && place == CCH_PLACE_START;
    if (wanted && !starts) CCH_RETURN_IF(cch_bytes_append(out, m->replacement, m->len, err));
    for (size_t at = 0; at < len;) {
        const char *space = memchr(text + at, ' ', len - at);
        size_t stop = space == NULL ? len : (size_t)(space - text);
        CCH_RETURN_IF(cch_bytes_append(out, text + at, stop - at, err));
        if (space != NULL) CCH_RETURN_IF(cch_bytes_append(out, m->replacement, m->len, err));
        at = stop + 1;
    }
    return CCH_OK;
}

size_t cch_metaspace_split(const cch_metaspace *m, const char *text, size_t at, size_t end) {
    for (size_t i = at + 1; i + m->len <= end; i++)
        if (memcmp(text + i, m->replacement, m->len) == 0) return i;
    return end;
}
