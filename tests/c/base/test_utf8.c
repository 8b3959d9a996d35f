#include "base/utf8.h"

#include "check.h"

TEST(every_code_point_survives_a_round_trip) {
    for (uint32_t c = 0; c <= 0x10FFFF + 10; c++) {
        char text[4];
        uint32_t back = 0;
        size_t size = cch_utf8_encode(c, text), want = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) want = 0;
        if (size != want) CHECK_EQ(size, want);
        if (size == 0) continue;
        if (cch_utf8_decode(text, size, &back) != size || back != c) CHECK_EQ(back, c);
        for (size_t cut = 0; cut < size; cut++) CHECK_EQ(cch_utf8_decode(text, cut, &back), 0);
    }
}

/* The definition, as a table of allowed byte ranges (Unicode 15, table 3-7), against every sequence of 1 to 4 bytes
 * drawn from the edges of those ranges. */
static size_t well_formed(const unsigned char *s) {
    static const unsigned char rows[][9] = {
        {1, 0x00, 0x7F}, {2, 0xC2, 0xDF, 0x80, 0xBF}, {3, 0xE0, 0xE0, 0xA0, 0xBF, 0x80, 0xBF},
        {3, 0xE1, 0xEC, 0x80, 0xBF, 0x80, 0xBF}, {3, 0xED, 0xED, 0x80, 0x9F, 0x80, 0xBF},
        {3, 0xEE, 0xEF, 0x80, 0xBF, 0x80, 0xBF}, {4, 0xF0, 0xF0, 0x90, 0xBF, 0x80, 0xBF, 0x80, 0xBF},
        {4, 0xF1, 0xF3, 0x80, 0xBF, 0x80, 0xBF, 0x80, 0xBF}, {4, 0xF4, 0xF4, 0x80, 0x8F, 0x80, 0xBF, 0x80, 0xBF}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        size_t i = 0;
        while (i < rows[r][0] && s[i] >= rows[r][1 + 2 * i] && s[i] <= rows[r][2 + 2 * i]) i++;
        if (i == rows[r][0]) return i;
    }
    return 0;
}

TEST(exactly_the_well_formed_sequences_are_taken) {
    static const unsigned char edges[] = {
        0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
        0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFE, 0xFF};
    const size_t n = sizeof edges;
    for (size_t i = 0; i < n * n * n * n; i++) {
        unsigned char s[4] = {edges[i % n], edges[i / n % n], edges[i / n / n % n], edges[i / n / n / n]};
        size_t want = well_formed(s), got = cch_utf8_decode((const char *)s, 4, NULL);
        if (got != want) CHECK_EQ(got, want);
    }
}

TEST(the_valid_prefix_ends_where_decoding_fails) {
    char text[64];
    memset(text, 'a', sizeof text);
    CHECK_EQ(cch_utf8_valid_prefix(text, 64), 64);
    CHECK_EQ(cch_utf8_valid_prefix(NULL, 0), 0);
    for (size_t at = 0; at < 64; at++) {
        text[at] = (char)0xFF;
        CHECK_EQ(cch_utf8_valid_prefix(text, 64), at);
        text[at] = (char)0xE2; /* a character that the end cuts off */
        CHECK_EQ(cch_utf8_valid_prefix(text, at + 1), at);
        text[at] = 'a';
    }
    CHECK_EQ(cch_utf8_valid_prefix("\xE2\x82\xAC\xF0\x9F\x98\x80z", 8), 8);
    CHECK_EQ(cch_utf8_valid_prefix("\xE2\x82\xAC\xF0\x9F\x98", 6), 3);
}

TEST(a_cut_keeps_characters_whole) {
    const char *text = "a\xE2\x82\xAC\xF0\x9F\x98\x80z"; /* starts at 0, 1, 4, 8 */
    const size_t want[] = {0, 1, 1, 1, 4, 4, 4, 4, 8, 9};
    for (size_t limit = 0; limit <= 9; limit++) CHECK_EQ(cch_utf8_cut(text, 9, limit), want[limit]);
    CHECK_EQ(cch_utf8_cut(text, 9, 100), 9);
    CHECK_EQ(cch_utf8_cut("\x80\x80\x80\x80\x80\x80\x80\x80", 8, 6), 6);
}

TEST(foreign_bytes_are_shown_in_a_line) {
    char shown[CCH_UTF8_SHOWN], text[200];
    CHECK(strcmp(cch_utf8_show("os\n\0\xC3\xA9 ~", 8, shown), "os???? ~") == 0);
    CHECK(strcmp(cch_utf8_show("abc", 0, shown), "") == 0);
    memset(text, 'a', sizeof text);
    CHECK_EQ(strlen(cch_utf8_show(text, CCH_UTF8_SHOWN - 4, shown)), CCH_UTF8_SHOWN - 4);
    CHECK_EQ(strlen(cch_utf8_show(text, 200, shown)), CCH_UTF8_SHOWN - 1);
    CHECK(strcmp(shown + CCH_UTF8_SHOWN - 4, "...") == 0);
}

CHECK_MAIN()
