/* Encoding: ids of small models worked out by hand, what the flags do, and what bad calls get. */
#include <pthread.h>

#include "check.h"
#include "tok/ids.h"
#include "tok/tokfile.h"

static cch_error err;

TEST(byte_level_words_merge_by_rank) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    CHECK_IDS(tok, "", 0, "");
    CHECK_IDS(tok, "low", 0, "7");
    CHECK_IDS(tok, "lower low", 0, "7 8 9");
    CHECK_IDS(tok, "low  low", 0, "7 5 9");
    CHECK_IDS(tok, "low\n\nlow", 0, "7 10 10 7");
    CHECK_IDS(tok, "\xC3\xA9", 0, "11 12");
    CHECK_IDS(tok, "zlow", 0, "7"); /* no token for z and no unknown token: it vanishes, as in the reference */
    CHECK_EQ(cch_tokenizer_size(tok), 15);
    cch_tokenizer_unref(tok);
}

TEST(added_tokens_come_first) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    CHECK_IDS(tok, "low<end>low", 0, "7 13 7");
    CHECK_IDS(tok, "low<end>low", CCH_ENCODE_PLAIN_SPECIALS, "7 3 7"); /* of "<end>" only the e has a token */
    CHECK_IDS(tok, "now low", 0, "14 9");
    CHECK_IDS(tok, "nowlow", 0, "1 2 7"); /* not a word by itself */
    cch_tokenizer_unref(tok);
}

TEST(sentencepiece_style_text) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(TOKFILE_PIECES, &tok, &err), err);
    CHECK_IDS(tok, "ab", 0, "11");
    CHECK_IDS(tok, "ab ab", 0, "11 11");
    CHECK_IDS(tok, "ab   ab", 0, "11 12 11");
    CHECK_IDS(tok, "a\xE2\x82\xAC", 0, "10 3 4 5");
    CHECK_IDS(tok, "azzb", 0, "10 0 8"); /* unknown characters in a row are one token */
    CHECK_IDS(tok, "ab<s>ab", CCH_ENCODE_ADD_SPECIALS, "1 11 1 11");
    CHECK_IDS(tok, "", CCH_ENCODE_ADD_SPECIALS, "1");
    cch_tokenizer_unref(tok);
}

TEST(a_text_that_continues_is_taken_as_it_is) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(TOKFILE_PIECES, &tok, &err), err);
    CHECK_IDS(tok, "ab", CCH_ENCODE_CONTINUES, "9");
    CHECK_IDS(tok, " ab", CCH_ENCODE_CONTINUES, "11");
    CHECK_IDS(tok, "ab ab", CCH_ENCODE_CONTINUES, "9 11");
    CHECK_IDS(tok, "ab<s>ab", CCH_ENCODE_CONTINUES, "9 1 11"); /* behind a special token as ever */
    CHECK_IDS(tok, "<s>ab", CCH_ENCODE_CONTINUES, "1 11");
    CHECK_IDS(tok, "", CCH_ENCODE_CONTINUES, "");
    cch_tokenizer_unref(tok);
    CHECK_OK(tokfile_open(TOKFILE_PREFIX_SPACE, &tok, &err), err);
    CHECK_IDS(tok, "low<end>low low", 0, "9 13 9 9");
    CHECK_IDS(tok, "low<end>low low", CCH_ENCODE_CONTINUES, "7 13 9 9");
    cch_tokenizer_unref(tok);
}

TEST(bad_calls_are_refused) {
    cch_tokenizer *tok = NULL;
    int32_t *ids = (int32_t *)&err;
    size_t n = 1;
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    CHECK_STATUS(cch_tokenizer_encode(tok, "lo\xFFw", 4, 0, &ids, &n, &err), CCH_E_ENCODING, err, "0xFF at position 2");
    CHECK_EQ(err.position, 2);
    CHECK(ids == NULL && n == 0);
    CHECK_STATUS(cch_tokenizer_encode(tok, "low\xE2\x82", 5, 0, &ids, &n, &err), CCH_E_ENCODING, err, "position 3");
    CHECK_STATUS(cch_tokenizer_encode(tok, "low", 3, 8, &ids, &n, &err), CCH_E_ARGUMENT, err, "flags are 8");
    CHECK_STATUS(cch_tokenizer_encode(tok, "", ((size_t)1 << 30) + 1, 0, &ids, &n, &err), CCH_E_ARGUMENT, err,
                 "1073741825");
    cch_tokenizer_unref(tok);
}

TEST(tokens_are_as_written) {
    cch_tokenizer *tok = NULL;
    size_t len = 9;
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    CHECK_EQ(cch_tokenizer_find(tok, "\xC4\xA0low", 5), 9);
    CHECK_EQ(cch_tokenizer_find(tok, "<end>", 5), 13);
    CHECK_EQ(cch_tokenizer_find(tok, "absent", 6), -1);
    CHECK(memcmp(cch_tokenizer_token_view(tok, 9, &len), "\xC4\xA0low", 5) == 0 && len == 5);
    CHECK(cch_tokenizer_token_view(tok, 15, &len) == NULL && len == 0);
    CHECK(cch_tokenizer_token_view(tok, -1, &len) == NULL);
    CHECK(cch_tokenizer_is_special(tok, 13) && !cch_tokenizer_is_special(tok, 14) &&
          !cch_tokenizer_is_special(tok, 99));
    cch_tokenizer_unref(tok);
}

static void *encode_often(void *arg) {
    const cch_tokenizer *tok = arg;
    for (int i = 0; i < 300; i++) {
        int32_t *ids = NULL;
        size_t n = 0;
        if (cch_tokenizer_encode(tok, "lower low low<end>", 18, 0, &ids, &n, NULL) != CCH_OK || n != 5 || ids[4] != 13)
            return arg;
        cch_free(ids);
    }
    return NULL;
}

TEST(threads_share_a_tokenizer) {
    cch_tokenizer *tok = NULL;
    pthread_t threads[4];
    void *failed;
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_create(&threads[i], NULL, encode_often, tok), 0);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_join(threads[i], &failed), 0);
        CHECK(failed == NULL);
    }
    cch_tokenizer_unref(tok);
}

static cch_status open_and_encode(const char *file) {
    cch_tokenizer *tok = NULL;
    int32_t *ids = NULL;
    size_t n;
    cch_status status = tokfile_open(file, &tok, NULL);
    if (status == CCH_OK)
        status = cch_tokenizer_encode(tok, "ab lower<s> b<end> now", 22, CCH_ENCODE_ADD_SPECIALS, &ids, &n, NULL);
    cch_free(ids);
    cch_tokenizer_unref(tok);
    return status;
}

TEST(memory_failures_leak_nothing) {
    CHECK_OOM(open_and_encode(TOKFILE_BYTES));
    CHECK_OOM(open_and_encode(TOKFILE_PIECES));
}

CHECK_MAIN()
