/* The splitters against pieces written out by hand, and the properties every splitter has. */
#include "check.h"
#include "tok/pretok.h"
#include "tok/unicode.h"

/* The pieces of a text with bars between. */
static const char *pieces(cch_splitter split, const char *text) {
    static char shown[512];
    size_t n = strlen(text), at = 0, out = 0;
    while (at < n) {
        size_t next = split((const uint8_t *)text, at, n);
        if (at > 0) shown[out++] = '|';
        memcpy(shown + out, text + at, next - at);
        out += next - at;
        at = next;
    }
    shown[out] = '\0';
    return shown;
}

#define CHECK_PIECES(split, text, want)                                                                         \
    do {                                                                                                        \
        const char *got_ = pieces((split), (text));                                                             \
        if (strcmp(got_, (want)) != 0) {                                                                        \
            fprintf(stderr, "%s:%d: \"%s\" cut as \"%s\", expected \"%s\"\n", __FILE__, __LINE__, (text), got_, \
                    (want));                                                                                    \
            check_failures++;                                                                                   \
        }                                                                                                       \
    } while (0)

TEST(gpt2_pattern) {
    CHECK_PIECES(cch_split_gpt2, "Hello world", "Hello| world");
    CHECK_PIECES(cch_split_gpt2, "it's we'll I'd 'sad", "it|'s| we|'ll| I|'d| '|sad");
    CHECK_PIECES(cch_split_gpt2, "IT'S", "IT|'|S");
    CHECK_PIECES(cch_split_gpt2, "a  b", "a| | b");
    CHECK_PIECES(cch_split_gpt2, "a \n\tb", "a| \n|\t|b");
    CHECK_PIECES(cch_split_gpt2, "a   ", "a|   ");
    CHECK_PIECES(cch_split_gpt2, "x1234 56!?", "x|1234| 56|!?");
    CHECK_PIECES(cch_split_gpt2, "\xC3\xA9t\xC3\xA9\xE3\x80\x80\xE6\x97\xA5",
                 "\xC3\xA9t\xC3\xA9|\xE3\x80\x80|\xE6\x97\xA5");
    CHECK_PIECES(cch_split_gpt2, "...'s", "...'|s"); /* inside a run of signs an apostrophe is one of them */
    CHECK_PIECES(cch_split_gpt2, "'", "'");
    CHECK_PIECES(cch_split_gpt2, "'r", "'|r");
}

TEST(llama3_pattern) {
    CHECK_PIECES(cch_split_llama3, "it'S WE'Ll", "it|'S| WE|'Ll");
    CHECK_PIECES(cch_split_llama3, "it'\xC5\xBFo", "it|'\xC5\xBF|o"); /* the long s folds to s */
    CHECK_PIECES(cch_split_llama3, "12345 1", "123|45| |1");
    CHECK_PIECES(cch_split_llama3, "$price (see)", "$price| (|see|)");
    CHECK_PIECES(cch_split_llama3, "\tx\ny", "\tx|\n|y");
    CHECK_PIECES(cch_split_llama3, "a \n \n  b", "a| \n \n| | b");
    CHECK_PIECES(cch_split_llama3, "end.\n\nNext", "end|.\n\n|Next");
    CHECK_PIECES(cch_split_llama3, " !\r\n a", " !\r\n| a");
    CHECK_PIECES(cch_split_llama3, "a   ", "a|   ");
    CHECK_PIECES(cch_split_llama3, "''s", "''|s"); /* the signs run on: no contraction starts inside */
}

TEST(qwen2_takes_numbers_one_by_one) {
    CHECK_PIECES(cch_split_qwen2, "12 34", "1|2| |3|4");
    CHECK_PIECES(cch_split_qwen2, "a1b", "a|1|b");
}

TEST(digits) {
    CHECK_PIECES(cch_split_digits, "ab12 c3", "ab|1|2| c|3");
    CHECK_PIECES(cch_split_numbers, "ab12 c3", "ab|12| c|3");
    CHECK_PIECES(cch_split_numbers, "12", "12");
}

TEST(every_splitter_goes_forward_and_stays_inside) {
    static const cch_splitter all[] = {cch_split_gpt2, cch_split_llama3, cch_split_qwen2, cch_split_digits,
                                       cch_split_numbers};
    static const char *const parts[] = {
        "a", " ", "\n", "1", "'", "s", ".", "\xC3\xA9", "\xE3\x80\x80", "\xF0\x9F\x99\x82", "\r", "l"};
    uint32_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        uint8_t text[64];
        size_t n = 0;
        for (int i = 0; i < 12; i++) {
            seed = seed * 1664525 + 1013904223;
            const char *part = parts[(seed >> 16) % (sizeof parts / sizeof parts[0])];
            memcpy(text + n, part, strlen(part));
            n += strlen(part);
        }
        for (size_t s = 0; s < sizeof all / sizeof all[0]; s++) {
            for (size_t at = 0, next; at < n; at = next) {
                next = all[s](text, at, n);
                CHECK(next > at && next <= n);
                CHECK(next == n || (text[next] & 0xC0) != 0x80);
                if (next <= at || next > n) return;
            }
        }
    }
}

TEST(patterns_are_found_as_whole_strings) {
    const char *gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    CHECK(cch_splitter_find(gpt2, strlen(gpt2)) == cch_split_gpt2);
    CHECK(cch_splitter_find(gpt2, strlen(gpt2) - 1) == NULL);
    CHECK(cch_splitter_find("\\s+", 3) == NULL);
    CHECK(cch_splitter_find("", 0) == NULL);
}

TEST(bert_cuts_at_spaces_and_signs) {
    const char *text = "ab, \t\xC2\xA0" "c.\xE3\x80\x82-d1";
    static const size_t stops[] = {2, 3, 7, 8, 9, 12, 13, 15};
    size_t at = 0;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        at = cch_split_bert((const uint8_t *)text, at, strlen(text));
        CHECK_EQ(at, stops[i]);
    }
}

TEST(metaspace_rewrites_spaces) {
    cch_metaspace m = {"\xE2\x96\x81", 3, CCH_PREPEND_FIRST, true};
    cch_bytes out = {0};
    cch_error err;
    CHECK_OK(cch_metaspace_apply(&m, "a b", 3, CCH_PLACE_START, &out, &err), err);
    CHECK(out.n == 8 && memcmp(out.data, "\xE2\x96\x81" "a\xE2\x96\x81" "b", 8) == 0);
    CHECK_EQ(cch_metaspace_split(&m, out.data, 0, out.n), 4);
    CHECK_EQ(cch_metaspace_split(&m, out.data, 4, out.n), 8);
    CHECK_OK(cch_metaspace_apply(&m, "a", 1, CCH_PLACE_LATER, &out, &err), err);
    CHECK_EQ(out.n, 1);
    CHECK_OK(cch_metaspace_apply(&m, " a", 2, CCH_PLACE_START, &out, &err), err);
    CHECK_EQ(out.n, 4); /* it starts with one already */
    /* what each scheme puts in front of an "a" at the start, at a joint, later */
    static const size_t wanted[][3] = {[CCH_PREPEND_NEVER] = {1, 1, 1}, [CCH_PREPEND_FIRST] = {4, 1, 1},
                                       [CCH_PREPEND_ALWAYS] = {4, 1, 4}};
    for (int scheme = CCH_PREPEND_NEVER; scheme <= CCH_PREPEND_ALWAYS; scheme++)
        for (int place = CCH_PLACE_START; place <= CCH_PLACE_LATER; place++) {
            m.prepend = (cch_prepend)scheme;
            CHECK_OK(cch_metaspace_apply(&m, "a", 1, (cch_place)place, &out, &err), err);
            CHECK_EQ(out.n, wanted[scheme][place]);
        }
    cch_bytes_deinit(&out);
}

TEST(classes_of_some_characters) {
    CHECK_EQ(cch_unicode_class('a'), CCH_UNI_LETTER | CCH_UNI_WORD);
    CHECK_EQ(cch_unicode_class('7'), CCH_UNI_NUMBER | CCH_UNI_WORD | CCH_UNI_DIGIT);
    CHECK_EQ(cch_unicode_class('_'), CCH_UNI_WORD | CCH_UNI_PUNCTUATION);
    CHECK_EQ(cch_unicode_class(0x85), CCH_UNI_SPACE | CCH_UNI_CONTROL);
    CHECK_EQ(cch_unicode_class(0x200B), CCH_UNI_CONTROL);
    CHECK(cch_unicode_class(0x301) & CCH_UNI_COMBINING);
    CHECK_EQ(cch_unicode_class(0x10FFFF), 0);
}

CHECK_MAIN()
