/* NFC on the cases of the Unicode standard that implementations get wrong, and the other steps. */
#include "check.h"
#include "tok/normalize.h"

static cch_error err;

#define CHECK_NFC(text, want)                                                                                      \
    do {                                                                                                           \
        cch_bytes out_ = {0};                                                                                      \
        CHECK_OK(cch_nfc((text), sizeof(text) - 1, &out_, &err), err);                                             \
        CHECK(out_.n == sizeof(want) - 1 && memcmp(out_.data, (want), out_.n) == 0);                               \
        cch_bytes_deinit(&out_);                                                                                   \
    } while (0)

TEST(characters_join) {
    CHECK_NFC("e\xCC\x81", "\xC3\xA9");                             /* e + acute */
    CHECK_NFC("xe\xCC\x81y", "x\xC3\xA9y");
    CHECK_NFC("a\xCC\x87\xCC\xA3", "\xE1\xBA\xA1\xCC\x87");         /* the dot below comes first and joins */
    CHECK_NFC("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"); /* Hangul L + V + T */
    CHECK_NFC("\xEA\xB0\x80\xE1\x86\xA8", "\xEA\xB0\x81");          /* LV + T */
    CHECK_NFC("\xE1\x85\xA1\xE1\x84\x80", "\xE1\x85\xA1\xE1\x84\x80"); /* V + L stay apart */
}

TEST(singletons_and_exclusions) {
    CHECK_NFC("\xE2\x84\xAB", "\xC3\x85");                          /* angstrom sign */
    CHECK_NFC("\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC");          /* U+0958 is excluded from composition */
    CHECK_NFC("\xE0\xA4\x95\xE0\xA4\xBC", "\xE0\xA4\x95\xE0\xA4\xBC");
    CHECK_NFC("\xEF\xAC\x9D", "\xD7\x99\xD6\xB4");                  /* U+FB1D */
}

TEST(blocked_and_leading_marks) {
    CHECK_NFC("\xCC\x81", "\xCC\x81");
    CHECK_NFC("\xCC\x81" "e\xCC\x81", "\xCC\x81\xC3\xA9");
    CHECK_NFC("e\xCC\xA7\xCC\x81", "\xC8\xA9\xCC\x81");             /* cedilla joins; no e-cedilla-acute exists */
    CHECK_NFC("a\xCC\x85\xCC\x81", "a\xCC\x85\xCC\x81");            /* equal classes: the first blocks the second */
}

TEST(plain_text_is_left_in_place) {
    const char *text = "plain \xC3\xA9 \xE6\x97\xA5\xEA\xB0\x81";
    CHECK_EQ(cch_nfc_unchanged(text, strlen(text)), strlen(text));
    CHECK_EQ(cch_nfc_unchanged("abe\xCC\x81", 5), 2); /* the e may change */
    cch_normalizer nfc = {.n_steps = 1};
    nfc.steps[0].kind = CCH_NORMALIZE_NFC;
    cch_bytes buffers[2] = {{0}, {0}};
    const char *at = text;
    size_t len = strlen(text);
    CHECK_OK(cch_normalize(&nfc, true, buffers, &at, &len, &err), err);
    CHECK(at == text && len == strlen(text) && buffers[0].data == NULL);
}

static void check_nfd(const char *text, const char *want) {
    cch_bytes out = {0};
    CHECK_OK(cch_nfd(text, strlen(text), &out, &err), err);
    CHECK(out.n == strlen(want) && memcmp(out.data, want, out.n) == 0);
    cch_bytes_deinit(&out);
}

TEST(characters_come_apart) {
    check_nfd("x\xC3\xA9y", "xe\xCC\x81y");
    check_nfd("\xEA\xB0\x81", "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8"); /* Hangul */
    check_nfd("a\xCC\x87\xCC\xA3", "a\xCC\xA3\xCC\x87"); /* the dot below comes first */
    check_nfd("\xC3\xA9\xCC\xA3", "e\xCC\xA3\xCC\x81");   /* also before a mark that came out of a character */
    check_nfd("\xCC\x87\xCC\xA3z", "\xCC\xA3\xCC\x87z");  /* with nothing in front */
    CHECK_EQ(cch_nfd_unchanged("ab\xC3\x9F\xC3\xA9", 6), 4);
    CHECK_EQ(cch_nfd_unchanged("\xE6\x97\xA5", 3), 3);
}

TEST(bert_steps_count) {
    cch_normalizer n = {0};
    CHECK(cch_normalizer_add_bert(&n, true, true, true, true) && n.n_steps == 5);
    CHECK(cch_normalizer_add_bert(&n, true, true, false, true) && n.n_steps == 8);
    CHECK(!cch_normalizer_add_bert(&n, false, false, false, true) && n.n_steps == 8);
    CHECK(cch_normalizer_add_bert(&n, false, false, false, false));
}

TEST(long_runs_of_marks_are_sorted_stably) {
    char text[1 + 4000], *p = text;
    cch_bytes out = {0};
    *p++ = 'e';
    for (int i = 0; i < 1000; i++, p += 4) memcpy(p, i % 2 ? "\xCC\xA3\xCC\x85" : "\xCC\x85\xCC\xA3", 4);
    CHECK_OK(cch_nfc(text, sizeof text, &out, &err), err);
    CHECK_EQ(out.n, 3 + 999 * 2 + 1000 * 2); /* one dot below joins the e, then the other dots, then the overlines */
    CHECK(memcmp(out.data, "\xE1\xBA\xB9\xCC\xA3", 5) == 0 && memcmp(out.data + out.n - 2, "\xCC\x85", 2) == 0);
    cch_bytes_deinit(&out);
}

static cch_status prepend_and_replace(bool prepend, const char *text, char *dst, size_t *out_len) {
    cch_status status = CCH_OK;
    cch_normalizer n = {.n_steps = 3};
    cch_bytes buffers[2] = {{0}, {0}};
    const char *at = text;
    size_t len = strlen(text);
    n.steps[0] = (struct cch_normalizer_step){CCH_NORMALIZE_PREPEND, NULL, (char[]){"_"}, 0, 1, 0};
    n.steps[1] = (struct cch_normalizer_step){CCH_NORMALIZE_REPLACE, (char[]){" "}, (char[]){"__"}, 1, 2, 0};
    n.steps[2] = (struct cch_normalizer_step){CCH_NORMALIZE_REPLACE, (char[]){"__"}, (char[]){"-"}, 2, 1, 0};
    CCH_TRY(cch_normalize(&n, prepend, buffers, &at, &len, NULL));
    memcpy(dst, at, len);
    *out_len = len;
done:
    cch_bytes_deinit(&buffers[0]);
    cch_bytes_deinit(&buffers[1]);
    return status;
}

TEST(steps_run_in_order) {
    char dst[32];
    size_t len = 0;
    CHECK_EQ(prepend_and_replace(true, "a b  c", dst, &len), CCH_OK);
    CHECK(len == 7 && memcmp(dst, "_a-b--c", 7) == 0);
    CHECK_EQ(prepend_and_replace(false, "a b  c", dst, &len), CCH_OK);
    CHECK(len == 6 && memcmp(dst, "a-b--c", 6) == 0);
    CHECK_OOM(prepend_and_replace(true, "a b  c", dst, &len));
}

CHECK_MAIN()
