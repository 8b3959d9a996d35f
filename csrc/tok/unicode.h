/* unicode - character classes, NFC data and lower case; the tables are written by tools/gen_unicode.py.
 *
 * The classes are those of the `tokenizers` library (its regular expressions, added tokens, Digits pre-tokenizer and
 * BERT's parts), so that our splitters cut where its patterns do.
 * Threads: pure.
 */
#ifndef CCH_TOK_UNICODE_H
#define CCH_TOK_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CCH_UNI_LETTER = 1,     /* \p{L} */
    CCH_UNI_NUMBER = 2,     /* \p{N} */
    CCH_UNI_SPACE = 4,      /* \s */
    CCH_UNI_WORD = 8,       /* \w */
    CCH_UNI_DIGIT = 16,     /* what the Digits pre-tokenizer splits off */
    CCH_UNI_COMBINING = 32, /* may change under NFC, or may join or move before what stands in front of it */
    CCH_UNI_PUNCTUATION = 64, /* cut off by BERT's pre-tokenizer */
    CCH_UNI_CONTROL = 128,  /* removed by BERT's clean_text: NUL, U+FFFD, control, format and private characters */
    CCH_UNI_MARK = 256,     /* removed by BERT's strip_accents: nonspacing marks */
    CCH_UNI_CASED = 512,    /* has another lower case */
    CCH_UNI_DECOMPOSES = 1024 /* may change under NFD, or may change places with a neighbour */
};

typedef struct cch_ccc_range {
    uint32_t first, last;
    uint8_t ccc; /* canonical combining class, 1..240; 0 for what is in no range */
} cch_ccc_range;

typedef struct cch_decomposition {
    uint32_t code_point;
    uint16_t at, len; /* of the full canonical decomposition in cch_decomposed */
} cch_decomposition;

typedef struct cch_composition {
    uint32_t first, second, composite;
} cch_composition;

typedef struct cch_lower_case {
    uint32_t code_point, lower[2]; /* lower[1] is 0 where it is one character */
} cch_lower_case;

/* Each sorted by its first fields. Hangul syllables are in none of them: they are arithmetic. */
extern const uint16_t cch_unicode_index[];
extern const uint16_t cch_unicode_flags[];
extern const size_t cch_n_ccc_ranges, cch_n_decompositions, cch_n_compositions, cch_n_lower_cases;
extern const cch_ccc_range cch_ccc_ranges[];
extern const cch_decomposition cch_decompositions[];
extern const uint32_t cch_decomposed[];
extern const cch_composition cch_compositions[];
extern const cch_lower_case cch_lower_cases[];

/* Classes of a code point, 0..0x10FFFF. */
static inline unsigned cch_unicode_class(uint32_t c) {
    return cch_unicode_flags[(size_t)cch_unicode_index[c >> 7] << 7 | (c & 127)];
}

/* The character at p of valid UTF-8; *len is its length. Reads no further than the character. */
static inline uint32_t cch_char_at(const uint8_t *p, size_t *len) {
    if (p[0] < 0x80) return *len = 1, p[0];
    if (p[0] < 0xE0) return *len = 2, (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    if (p[0] < 0xF0)
        return *len = 3, (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    return *len = 4, (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 | (uint32_t)(p[2] & 0x3F) << 6 |
                     (p[3] & 0x3F);
}

/* Classes of the character at p of valid UTF-8; *len is its length. */
static inline unsigned cch_class_at(const uint8_t *p, size_t *len) { return cch_unicode_class(cch_char_at(p, len)); }

#endif
