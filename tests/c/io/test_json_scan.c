#include "io/json_scan.h"

#include "check.h"

static cch_error err;

static cch_json_census scan(const char *text) {
    cch_json_census census = {0};
    CHECK_OK(cch_json_scan(text, strlen(text), "t", 16, true, &census, &err), err);
    return census;
}

TEST(the_census_counts_members_elements_and_decoded_bytes) {
    cch_json_census c = scan("  {\"ab\": [1, \"\\u20AC\\n\", {}], \"c\": {\"\": null}} \n");
    CHECK_EQ(c.members, 3);
    CHECK_EQ(c.elements, 3);
    CHECK_EQ(c.string_bytes, 2 + 4 + 1 + 0);
    CHECK_EQ(c.first, 2);
    CHECK_EQ(c.last, 46);
    c = scan("\"\\ud83d\\ude00x\"");
    CHECK_EQ(c.string_bytes, 5);
    CHECK_EQ(c.members + c.elements, 0);
}

TEST(escapes_decode_to_what_they_stand_for) {
    /* a key repeats only if both spellings decode to the same bytes */
    const char *const same[][2] = {{"\\\"", "\\u0022"}, {"\\\\", "\\u005c"}, {"\\/", "/"},      {"\\b", "\\u0008"},
                                   {"\\f", "\\u000C"},  {"\\n", "\\u000a"},  {"\\r", "\\u000D"}, {"\\t", "\\u0009"},
                                   {"\\u00e9", "\xC3\xA9"}, {"\\uD83D\\uDE00", "\xF0\x9F\x98\x80"}, {"\\uFFFF", "\xEF\xBF\xBF"}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char text[100];
        cch_json_census census;
        snprintf(text, sizeof text, "{\"%s\":1,\"%s\":2}", same[i][0], same[i][1]);
        CHECK_STATUS(cch_json_scan(text, strlen(text), "t", 2, true, &census, &err), CCH_E_FORMAT, err, "there twice");
        CHECK_OK(cch_json_scan(text, strlen(text), "t", 2, false, &census, &err), err);
        CHECK_EQ(census.members, 2);
    }
}

TEST(every_prefix_of_a_text_is_refused_at_its_end) {
    const char *text = "{\"k\\u00e9y\": [true, false, null, -1.5e+3, \"\xE2\x82\xAC\"]}";
    cch_json_census census;
    for (size_t n = 0; n < strlen(text); n++) {
        CHECK_STATUS(cch_json_scan(text, n, "t", 4, false, &census, &err), CCH_E_FORMAT, err, "t: ");
        CHECK(err.position >= 0 && err.position <= (int64_t)n);
    }
}

CHECK_MAIN()
