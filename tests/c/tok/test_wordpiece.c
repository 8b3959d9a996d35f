/* The longest token first, worked out by hand, and what cannot be cut. */
#include "check.h"
#include "base/alloc.h"
#include "tok/wordpiece.h"

static cch_error err;

static const char *const tokens[] = {"[UNK]", "un", "##aff", "##able", "unaffab", "##le", "\xC3\xA9t", "##\xC3\xA9",
                                     "##", "a", "##a", "#"};

static cch_status make(const char *prefix, size_t max_chars, cch_wordpiece *wp) {
    cch_status status = CCH_OK;
    *wp = (cch_wordpiece){.prefix_len = strlen(prefix), .max_chars = max_chars};
    CCH_NEW(wp->prefix, wp->prefix_len + 1, NULL);
    memcpy(wp->prefix, prefix, wp->prefix_len);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        CCH_TRY(cch_strmap_put(&wp->vocab, tokens[i], strlen(tokens[i]), (int32_t)i, NULL, NULL));
    CCH_TRY(cch_wordpiece_finish(wp, NULL));
done:
    if (status != CCH_OK) cch_wordpiece_deinit(wp);
    return status;
}

/* The ids of `word` as "1 2 3", behind a 77 that is there already. */
static const char *pieces(const cch_wordpiece *wp, const char *word) {
    static char shown[400];
    cch_bpe_work *work = NULL;
    int32_t *ids = NULL;
    size_t n = 0, at = 0;
    CHECK_OK(cch_bpe_work_new(&work, &err), err);
    CHECK_OK(cch_bpe_push(work, 77, &err), err);
    CHECK_OK(cch_wordpiece_word(wp, work, word, strlen(word), &err), err);
    cch_bpe_work_take(work, &ids, &n);
    CHECK(n > 1 && ids[0] == 77);
    for (size_t i = 1; i < n; i++) at += (size_t)snprintf(shown + at, sizeof shown - at, i > 1 ? " %d" : "%d", ids[i]);
    cch_free(ids);
    cch_bpe_work_free(work);
    return shown;
}

#define CHECK_PIECES(wp, word, want)                                                                                \
    do {                                                                                                            \
        const char *got_ = pieces((wp), (word));                                                                    \
        if (strcmp(got_, (want)) != 0) {                                                                            \
            fprintf(stderr, "%s:%d: \"%s\" gave %s, expected %s\n", __FILE__, __LINE__, (word), got_, (want));      \
            check_failures++;                                                                                       \
        }                                                                                                           \
    } while (0)

TEST(longest_first) {
    cch_wordpiece wp;
    CHECK_EQ(make("##", 100, &wp), CCH_OK);
    CHECK_PIECES(&wp, "un", "1");
    CHECK_PIECES(&wp, "unaffable", "4 5"); /* not un ##aff ##able: the first piece is the longest */
    CHECK_PIECES(&wp, "unable", "1 3");
    CHECK_PIECES(&wp, "aa\xC3\xA9", "9 10 7");
    CHECK_PIECES(&wp, "##a", "10"); /* a token as it is written, at the start of a word */
    CHECK_PIECES(&wp, "#", "11");
    CHECK_PIECES(&wp, "##", "8");
    cch_wordpiece_deinit(&wp);
}

TEST(what_cannot_be_cut_is_unknown_as_a_whole) {
    cch_wordpiece wp;
    CHECK_EQ(make("##", 5, &wp), CCH_OK);
    CHECK_PIECES(&wp, "x", "0");
    CHECK_PIECES(&wp, "unx", "0");
    CHECK_PIECES(&wp, "un##", "0"); /* the prefix alone continues nothing */
    CHECK_PIECES(&wp, "aff", "0");
    CHECK_PIECES(&wp, "\xC3\xA9", "0"); /* the start of a token's character */
    CHECK_PIECES(&wp, "unaff", "1 2");
    CHECK_PIECES(&wp, "unaffx", "0");
    CHECK_PIECES(&wp, "aaaaaa", "0");            /* six characters */
    CHECK_PIECES(&wp, "a\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9", "9 7 7 7 7"); /* five, in nine bytes */
    cch_wordpiece_deinit(&wp);
    CHECK_EQ(make("##", 0, &wp), CCH_OK);
    CHECK_PIECES(&wp, "a", "0");
    cch_wordpiece_deinit(&wp);
}

TEST(other_prefixes) {
    cch_wordpiece wp;
    CHECK_EQ(make("", 100, &wp), CCH_OK); /* every token may go on */
    CHECK_PIECES(&wp, "aun##able", "9 1 3");
    CHECK_PIECES(&wp, "aaa", "9 9 9");
    cch_wordpiece_deinit(&wp);
    CHECK_EQ(make("@@", 100, &wp), CCH_OK); /* none may */
    CHECK_PIECES(&wp, "un", "1");
    CHECK_PIECES(&wp, "una", "0");
    cch_wordpiece_deinit(&wp);
}

static cch_status make_and_cut(void) {
    cch_wordpiece wp;
    cch_bpe_work *work = NULL;
    cch_status status = make("##", 100, &wp);
    if (status != CCH_OK) return status;
    status = cch_bpe_work_new(&work, NULL);
    if (status == CCH_OK) status = cch_wordpiece_word(&wp, work, "unaffable", 9, NULL);
    if (status == CCH_OK) status = cch_wordpiece_word(&wp, work, "unaffx", 6, NULL);
    cch_bpe_work_free(work);
    cch_wordpiece_deinit(&wp);
    return status;
}

TEST(no_memory) { CHECK_OOM(make_and_cut()); }

CHECK_MAIN()
