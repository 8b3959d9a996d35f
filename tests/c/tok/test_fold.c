/* The steps that look at one character at a time, on characters that are easily taken for others. */
#include "check.h"
#include "tok/fold.h"

static cch_error err;

static void check_fold(cch_fold_kind kind, const char *text, const char *want, int line) {
    cch_bytes out = {0};
    CHECK_OK(cch_fold(kind, text, strlen(text), &out, &err), err);
    if (out.n != strlen(want) || memcmp(out.data, want, out.n) != 0) {
        fprintf(stderr, "line %d: \"%s\" gave \"%.*s\", expected \"%s\"\n", line, text, (int)out.n, out.data, want);
        check_failures++;
    }
    size_t same = cch_fold_unchanged(kind, text, strlen(text));
    CHECK(same <= out.n && memcmp(text, want, same) == 0);
    CHECK((same == strlen(text)) == (strcmp(text, want) == 0));
    cch_bytes_deinit(&out);
}
#define CHECK_FOLD(kind, text, want) check_fold(CCH_FOLD_##kind, (text), (want), __LINE__)

TEST(clean) {
    CHECK_FOLD(CLEAN, "plain text \xC3\xA9\xE6\x97\xA5", "plain text \xC3\xA9\xE6\x97\xA5");
    CHECK_FOLD(CLEAN, "a\tb\nc\rd\xC2\xA0" "e\xE3\x80\x80", "a b c d e "); /* white space, U+00A0 and U+3000 too */
    CHECK_FOLD(CLEAN, "a\x01\x7F\x0B\xC2\x85" "b", "ab"); /* two of them are white space elsewhere */
    CHECK_FOLD(CLEAN, "a\xE2\x80\x8B\xEF\xBF\xBD\xEE\x80\x80" "b", "ab"); /* zero width space, U+FFFD, private use */
    CHECK_FOLD(CLEAN, "\xCD\xB8", "\xCD\xB8"); /* U+0378, which is no character, stays */
    cch_bytes out = {0};
    CHECK_OK(cch_fold(CCH_FOLD_CLEAN, "a\0b", 3, &out, &err), err);
    CHECK(out.n == 2 && memcmp(out.data, "ab", 2) == 0);
    cch_bytes_deinit(&out);
}

TEST(chinese) {
    CHECK_FOLD(CHINESE, "a\xE6\x97\xA5\xE6\x9C\xAC" "b", "a \xE6\x97\xA5  \xE6\x9C\xAC b");
    CHECK_FOLD(CHINESE, "\xE3\x81\x82\xEA\xB0\x80", "\xE3\x81\x82\xEA\xB0\x80"); /* kana and Hangul are not */
    CHECK_FOLD(CHINESE, "\xF0\xA0\x80\x80", " \xF0\xA0\x80\x80 ");
    CHECK_FOLD(CHINESE, "\xF0\xAB\xA0\xA0", "\xF0\xAB\xA0\xA0"); /* U+2B820, in a gap of the published list */
}

TEST(marks) {
    CHECK_FOLD(MARKS, "e\xCC\x81\xCC\xA3o", "eo");
    CHECK_FOLD(MARKS, "\xC3\xA9", "\xC3\xA9");           /* one character: NFD comes first */
    CHECK_FOLD(MARKS, "\xE0\xA4\xBE", "\xE0\xA4\xBE");   /* U+093E is a spacing mark */
}

TEST(lower) {
    CHECK_FOLD(LOWER, "aZ\xC3\x89\xCE\xA3", "az\xC3\xA9\xCF\x83"); /* sigma at the end as anywhere */
    CHECK_FOLD(LOWER, "\xC4\xB0", "i\xCC\x87");                    /* I with dot: two characters */
    CHECK_FOLD(LOWER, "\xE1\xBA\x9E\xF0\x90\x90\x80", "\xC3\x9F\xF0\x90\x90\xA8");
    CHECK_FOLD(LOWER, "\xC3\x9F" "1", "\xC3\x9F" "1");
}

static cch_status fold_all(void) {
    cch_status status = CCH_OK;
    cch_bytes out = {0};
    for (int kind = CCH_FOLD_CLEAN; kind <= CCH_FOLD_LOWER && status == CCH_OK; kind++)
        status = cch_fold((cch_fold_kind)kind, "A\t\xE6\x97\xA5\xCC\x81", 7, &out, NULL);
    cch_bytes_deinit(&out);
    return status;
}

TEST(no_memory) { CHECK_OOM(fold_all()); }

CHECK_MAIN()
