/* Added tokens in a text: leftmost, longest, and what each flag does. */
#include "check.h"
#include "tok/added.h"

static cch_error err;

/* The matches in a text as "id:start-stop id:start-stop". */
static const char *matches(const cch_added_set *set, const char *text, bool skip_special) {
    static char shown[256];
    cch_added_cursor cursor = {0, 0};
    cch_added_match m;
    size_t at = 0;
    shown[0] = '\0';
    while (cch_added_next(set, text, strlen(text), skip_special, &cursor, &m))
        at += (size_t)snprintf(shown + at, sizeof shown - at, at ? " %d:%zu-%zu" : "%d:%zu-%zu", m.id, m.start, m.stop);
    return shown;
}

#define CHECK_MATCHES(set, text, skip, want)                                                                         \
    do {                                                                                                             \
        const char *got_ = matches((set), (text), (skip));                                                           \
        if (strcmp(got_, (want)) != 0) {                                                                             \
            fprintf(stderr, "%s:%d: \"%s\": %s, expected %s\n", __FILE__, __LINE__, (text), got_, (want));           \
            check_failures++;                                                                                        \
        }                                                                                                            \
    } while (0)

static void put(cch_added_set *set, const char *text, cch_added token) {
    CHECK_OK(cch_added_put(set, text, strlen(text), token, &err), err);
}

TEST(leftmost_then_longest) {
    cch_added_set set = {0};
    put(&set, "<a>", (cch_added){.id = 1});
    put(&set, "<a><b>", (cch_added){.id = 2});
    put(&set, "<ab", (cch_added){.id = 3});
    put(&set, "b><b", (cch_added){.id = 4});
    CHECK_OK(cch_added_ready(&set, &err), err);
    CHECK_MATCHES(&set, "<a>", false, "1:0-3");
    CHECK_MATCHES(&set, "<a><b>", false, "2:0-6");
    CHECK_MATCHES(&set, "<a><c>", false, "1:0-3");
    CHECK_MATCHES(&set, "x<ab><b>", false, "3:1-4");
    CHECK_MATCHES(&set, "<b><b", false, "4:1-5");
    CHECK_MATCHES(&set, "<a><a", false, "1:0-3");
    CHECK_MATCHES(&set, "", false, "");
    cch_added_deinit(&set);
}

TEST(spaces_belong_to_the_match) {
    cch_added_set set = {0};
    put(&set, "L", (cch_added){.id = 1, .lstrip = true});
    put(&set, "R", (cch_added){.id = 2, .rstrip = true});
    CHECK_OK(cch_added_ready(&set, &err), err);
    CHECK_MATCHES(&set, "a \t\xE3\x80\x80L b", false, "1:1-7");
    CHECK_MATCHES(&set, "R  L", false, "2:0-3 1:3-4"); /* the first match has taken the spaces */
    CHECK_MATCHES(&set, "  L", false, "1:0-3");
    put(&set, " ", (cch_added){.id = 3, .lstrip = true});
    put(&set, "\t", (cch_added){.id = 4});
    CHECK_OK(cch_added_ready(&set, &err), err);
    CHECK_MATCHES(&set, "R L", false, "2:0-2 1:2-3");          /* nothing is left of the token that is a space; */
    CHECK_MATCHES(&set, "R\tL", false, "2:0-2 4:1-2 1:2-3");   /* one without lstrip counts twice: as in the library */
    CHECK_MATCHES(&set, "  ", false, "3:0-1 3:1-2");
    cch_added_deinit(&set);
}

TEST(single_words_stand_alone) {
    cch_added_set set = {0};
    put(&set, "word", (cch_added){.id = 1, .single_word = true});
    CHECK_OK(cch_added_ready(&set, &err), err);
    CHECK_MATCHES(&set, "word, (word)", false, "1:0-4 1:7-11");
    CHECK_MATCHES(&set, "words sword word_ \xC3\xA9word", false, "");
    cch_added_deinit(&set);
}

TEST(plain_specials_still_hide_what_they_overlap) {
    cch_added_set set = {0};
    put(&set, "<s>", (cch_added){.id = 1, .special = true});
    put(&set, "s>x", (cch_added){.id = 2});
    CHECK_OK(cch_added_ready(&set, &err), err);
    CHECK_MATCHES(&set, "<s>x s>x", true, "2:5-8");
    cch_added_deinit(&set);
}

TEST(one_text_is_one_token) {
    cch_added_set set = {0};
    put(&set, "a", (cch_added){.id = 1});
    put(&set, "ab", (cch_added){.id = 2});
    put(&set, "ab", (cch_added){.id = 2});
    CHECK_OK(cch_added_ready(&set, &err), err);
    CHECK_MATCHES(&set, "ab", false, "2:0-2");
    put(&set, "a", (cch_added){.id = 3});
    CHECK_STATUS(cch_added_ready(&set, &err), CCH_E_UNSUPPORTED, err, "added tokens 1 and 3 are both \"a\"");
    cch_added_deinit(&set);
    put(&set, "ab", (cch_added){.id = 2});
    put(&set, "ab", (cch_added){.id = 2, .rstrip = true});
    CHECK_STATUS(cch_added_ready(&set, &err), CCH_E_UNSUPPORTED, err, "\"ab\" is given twice, with other flags");
    cch_added_deinit(&set);
}

static cch_status fill(void) {
    cch_status status = CCH_OK;
    cch_added_set set = {0};
    for (int i = 0; i < 20 && status == CCH_OK; i++) status = cch_added_put(&set, "abc", 3, (cch_added){.id = i}, NULL);
    cch_added_deinit(&set);
    return status;
}

TEST(memory_failures_leak_nothing) { CHECK_OOM(fill()); }

CHECK_MAIN()
