/* The byte alphabet, spelling with unknown characters, the word cache and where a text may be cut. */
#include "check.h"
#include "base/utf8.h"
#include "tok/bpe_work.h"

static cch_error err;

static void put(cch_bpe *bpe, const char *token, int32_t id) {
    CHECK_OK(cch_strmap_put(&bpe->vocab, token, strlen(token), id, NULL, &err), err);
}

static void merge(cch_bpe *bpe, const char *a, const char *b, uint32_t rank) {
    CHECK_OK(cch_bpe_add_merge(bpe, a, strlen(a), b, strlen(b), rank, &err), err);
}

/* Encodes one word and compares with ids given as "1 2 3". */
static void check_word(const cch_bpe *bpe, cch_bpe_work *work, const char *word, const char *want, bool cut) {
    char shown[512] = "";
    int32_t *ids = NULL;
    size_t n = 0, at = 0;
    cch_bpe_work_begin(work);
    CHECK_OK((cut ? cch_bpe_text : cch_bpe_word)(bpe, work, word, strlen(word), &err), err);
    cch_bpe_work_take(work, &ids, &n);
    for (size_t i = 0; i < n && at < 480; i++)
        at += (size_t)snprintf(shown + at, sizeof shown - at, i ? " %d" : "%d", ids[i]);
    if (strcmp(shown, want) != 0) {
        fprintf(stderr, "\"%s\" gave %s, expected %s\n", word, shown, want);
        check_failures++;
    }
    cch_free(ids);
}

TEST(every_byte_has_its_character) {
    bool seen[0x144] = {false};
    for (unsigned b = 0; b < 256; b++) {
        uint32_t c = cch_byte_to_char((uint8_t)b);
        CHECK(c >= 0x21 && c <= 0x143 && !seen[c]);
        seen[c] = true;
        CHECK_EQ(cch_char_to_byte(c), b);
    }
    CHECK_EQ(cch_byte_to_char(' '), 0x120);
    CHECK_EQ(cch_byte_to_char('\n'), 0x10A);
    CHECK_EQ(cch_char_to_byte(' '), -1);
    CHECK_EQ(cch_char_to_byte(0xAD), -1);
    CHECK_EQ(cch_char_to_byte(0x144), -1);
    CHECK_EQ(cch_char_to_byte(0x2581), -1);
    char bytes[8];
    CHECK(cch_token_bytes("\xC4\xA0" "a", 3, bytes) == 2 && memcmp(bytes, " a", 2) == 0);
    CHECK_EQ(cch_token_bytes("\xE2\x96\x81", 3, bytes), SIZE_MAX);
}

TEST(unknown_characters) {
    cch_bpe bpe = {.unk_id = -1};
    cch_bpe_work *work = NULL;
    put(&bpe, "a", 0);
    put(&bpe, "?", 1);
    put(&bpe, "<0xC3>", 2);
    put(&bpe, "<0xA9>", 3);
    CHECK_OK(cch_bpe_reserve_merges(&bpe, 0, &err), err);
    CHECK_OK(cch_bpe_finish(&bpe, &err), err);
    CHECK_OK(cch_bpe_work_new(&work, &err), err);
    check_word(&bpe, work, "axya", "0 0", false);
    cch_bpe_work_free(work);
    CHECK_OK(cch_bpe_work_new(&work, &err), err);
    bpe.unk_id = 1;
    check_word(&bpe, work, "axyaz", "0 1 1 0 1", false);
    cch_bpe_work_free(work);
    CHECK_OK(cch_bpe_work_new(&work, &err), err);
    bpe.fuse_unk = bpe.byte_fallback = true;
    check_word(&bpe, work, "axyaz", "0 1 0 1", false);
    check_word(&bpe, work, "a\xC3\xA9", "0 2 3", false);
    check_word(&bpe, work, "a\xC3\xA8", "0 1", false); /* not all of its bytes have tokens */
    check_word(&bpe, work, "x\xC3\xA9" "a", "2 3 1 0", false); /* the reference writes the unknown token late, too */
    cch_bpe_work_free(work);
    cch_bpe_deinit(&bpe);
}

TEST(cached_words_give_the_same_ids) {
    cch_bpe bpe = {.unk_id = -1, .byte_alphabet = true};
    cch_bpe_work *work = NULL;
    put(&bpe, "a", 0);
    put(&bpe, "b", 1);
    put(&bpe, "ab", 2);
    CHECK_OK(cch_bpe_reserve_merges(&bpe, 1, &err), err);
    merge(&bpe, "a", "b", 0);
    CHECK_OK(cch_bpe_finish(&bpe, &err), err);
    CHECK_OK(cch_bpe_work_new(&work, &err), err);
    for (int twice = 0; twice < 3; twice++) {
        check_word(&bpe, work, "aba", "2 0", false);
        check_word(&bpe, work, "abaa", "2 0 0", false);
        check_word(&bpe, work, "aaaaaaaa", "0 0 0 0 0 0 0 0", false); /* more ids than an entry holds */
        check_word(&bpe, work, "abababababababababababababababa", "2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 0", false);
        check_word(&bpe, work, "abababababababababababababababab", "2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2", false);
    }
    for (int round = 0; round < 2; round++) { /* far more words than the cache holds */
        for (int i = 0; i < 40000; i++) {
            char word[24], want[64];
            size_t n = 0, at = 0;
            for (int bit = 0; bit < 16; bit++) word[n++] = (i >> bit & 1) ? 'b' : 'a';
            word[n] = '\0';
            if (i % 97 != 0 && round == 1) continue;
            for (size_t k = 0; k < n; k++) {
                bool pair = word[k] == 'a' && word[k + 1] == 'b';
                at += (size_t)snprintf(want + at, sizeof want - at, at ? " %d" : "%d", pair ? 2 : word[k] - 'a');
                k += pair;
            }
            check_word(&bpe, work, word, want, false);
        }
    }
    cch_bpe_work_free(work);
    cch_bpe_deinit(&bpe);
}

TEST(cuts_only_where_no_merge_crosses) {
    for (int crossing = 0; crossing < 2; crossing++) {
        cch_bpe bpe = {.unk_id = 5};
        cch_bpe_work *work = NULL;
        put(&bpe, "\xE2\x96\x81", 0);
        put(&bpe, "a", 1);
        put(&bpe, "\xE2\x96\x81" "a", 2);
        put(&bpe, "a\xE2\x96\x81", 3);
        put(&bpe, "\xE2\x96\x81\xE2\x96\x81", 4);
        CHECK_OK(cch_bpe_reserve_merges(&bpe, 3, &err), err);
        merge(&bpe, "\xE2\x96\x81", "\xE2\x96\x81", 0);
        if (crossing) merge(&bpe, "a", "\xE2\x96\x81", 1);
        merge(&bpe, "\xE2\x96\x81", "a", 2);
        CHECK_OK(cch_bpe_finish(&bpe, &err), err);
        CHECK_EQ(bpe.cuts, !crossing);
        CHECK_OK(cch_bpe_work_new(&work, &err), err);
        check_word(&bpe, work, "\xE2\x96\x81" "a\xE2\x96\x81" "a", crossing ? "0 3 1" : "2 2", true);
        check_word(&bpe, work, "a\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81", crossing ? "1 4 0" : "1 4 0", true);
        check_word(&bpe, work, "\xE2\x96\x81x\xE2\x96\x81", "0 5 0", true);
        cch_bpe_work_free(work);
        cch_bpe_deinit(&bpe);
    }
}

TEST(a_character_that_vanishes_lets_its_neighbours_merge) {
    cch_bpe bpe = {.unk_id = -1};
    cch_bpe_work *work = NULL;
    put(&bpe, "\xE2\x96\x81", 0);
    put(&bpe, "\xE2\x96\x81\xE2\x96\x81", 1);
    CHECK_OK(cch_bpe_reserve_merges(&bpe, 1, &err), err);
    merge(&bpe, "\xE2\x96\x81", "\xE2\x96\x81", 0);
    CHECK_OK(cch_bpe_finish(&bpe, &err), err);
    CHECK_OK(cch_bpe_work_new(&work, &err), err);
    check_word(&bpe, work, "\xE2\x96\x81x\xE2\x96\x81", "1", true);
    cch_bpe_work_free(work);
    cch_bpe_deinit(&bpe);
}


TEST(a_text_that_is_a_token_is_not_cut_when_merges_are_ignored) {
    cch_bpe bpe = {.unk_id = 0, .ignore_merges = true};
    cch_bpe_work *work = NULL;
    put(&bpe, "\xE2\x96\x81", 0);
    put(&bpe, "a", 1);
    put(&bpe, "a\xE2\x96\x81", 2);
    CHECK_OK(cch_bpe_reserve_merges(&bpe, 0, &err), err);
    CHECK_OK(cch_bpe_finish(&bpe, &err), err);
    CHECK_OK(cch_bpe_work_new(&work, &err), err);
    check_word(&bpe, work, "a\xE2\x96\x81", "2", true);
    cch_bpe_work_free(work);
    cch_bpe_deinit(&bpe);
}

TEST(merges_must_name_tokens) {
    cch_bpe bpe = {.unk_id = -1};
    put(&bpe, "a", 0);
    put(&bpe, "b", 1);
    CHECK_OK(cch_bpe_reserve_merges(&bpe, 3, &err), err);
    CHECK_STATUS(cch_bpe_add_merge(&bpe, "x", 1, "b", 1, 7, &err), CCH_E_FORMAT, err, "merge 7: \"x\"");
    CHECK_STATUS(cch_bpe_add_merge(&bpe, "a", 1, "y", 1, 7, &err), CCH_E_FORMAT, err, "\"y\"");
    CHECK_STATUS(cch_bpe_add_merge(&bpe, "a", 1, "b", 1, 7, &err), CCH_E_FORMAT, err, "\"ab\"");
    cch_bpe_deinit(&bpe);
}

CHECK_MAIN()
