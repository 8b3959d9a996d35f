/* Decoding: whole texts, streams of every split, byte tokens and broken characters. */
#include "check.h"
#include "base/status.h"
#include "tok/tokenizer.h"
#include "tok/tokfile.h"

static cch_error err;

/* Decodes ids at once and id by id; both must give `want`. */
static void check_text(cch_tokenizer *tok, const int32_t *ids, size_t n, bool skip, const char *want) {
    char *text = NULL, streamed[512];
    const char *piece = NULL;
    size_t len = 0, at = 0;
    cch_decoder *dec = NULL;
    CHECK_OK(cch_tokenizer_decode(tok, ids, n, skip, &text, &len, &err), err);
    if (text == NULL) return;
    if (strcmp(text, want) != 0 || len != strlen(want)) {
        fprintf(stderr, "decoded \"%s\", expected \"%s\"\n", text, want);
        check_failures++;
    }
    CHECK_OK(cch_decoder_new(tok, skip, &dec, &err), err);
    for (int twice = 0; twice < 2; twice++) { /* finish leaves the decoder as new */
        at = 0;
        for (size_t i = 0; i <= n; i++) {
            if (i < n) CHECK_OK(cch_decoder_push(dec, ids[i], &piece, &len, &err), err);
            else CHECK_OK(cch_decoder_finish(dec, &piece, &len, &err), err);
            CHECK(piece[len] == '\0');
            memcpy(streamed + at, piece, len);
            at += len;
        }
        streamed[at] = '\0';
        CHECK(strcmp(streamed, text) == 0);
    }
    cch_decoder_free(dec);
    cch_free(text);
}

#define CHECK_TEXT(tok, skip, want, ...) \
    check_text((tok), (int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t), (skip), (want))

TEST(ids_without_a_token_give_no_text) {
    cch_tokenizer *tok = NULL;
    char *text = NULL;
    size_t len;
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    CHECK_STATUS(cch_tokenizer_decode(tok, (int32_t[]){7, 19}, 2, false, &text, &len, &err), CCH_E_TOKEN_ID, err,
                 "19 is not in the vocabulary, allowed: 0..14");
    cch_tokenizer_widen(tok, 20);
    CHECK_EQ(cch_tokenizer_size(tok), 15);
    CHECK_TEXT(tok, false, "lower", 19, 7, 15, 8);
    CHECK_TEXT(tok, false, "\xC3\xA9", 11, 16, 12); /* nor do they end a character */
    CHECK_STATUS(cch_tokenizer_decode(tok, (int32_t[]){7, 20}, 2, false, &text, &len, &err), CCH_E_TOKEN_ID, err,
                 "20 is not in the vocabulary, allowed: 0..19");
    cch_tokenizer_unref(tok);
}

TEST(bytes_become_characters) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    check_text(tok, NULL, 0, false, "");
    CHECK_TEXT(tok, false, "lower low", 7, 8, 9);
    CHECK_TEXT(tok, false, "\xC3\xA9\xC3\xA9", 11, 12, 11, 12);
    CHECK_TEXT(tok, false, "\xEF\xBF\xBD", 11);                      /* unfinished at the end */
    CHECK_TEXT(tok, false, "\xEF\xBF\xBDl\xEF\xBF\xBD", 11, 0, 12);  /* broken off, and a continuation alone */
    CHECK_TEXT(tok, false, "\xEF\xBF\xBD\xC3\xA9", 11, 11, 12);
    CHECK_TEXT(tok, false, "low<end>now", 7, 13, 14);
    CHECK_TEXT(tok, true, "lownow", 7, 13, 14);
    CHECK_TEXT(tok, true, "\xC3\xA9", 11, 13, 12);                   /* a skipped token does not break a character */
    CHECK_TEXT(tok, false, "\xEF\xBF\xBD<end>\xEF\xBF\xBD", 11, 13, 12);
    cch_tokenizer_unref(tok);
}

TEST(texts_of_any_length_are_joined) {
    static const char file[] = "{\"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\":"
                               " {\"\": 0, \"fifteen letters\": 1, \"sixteen  letters\": 2, \"seventeen  letters\": 3,"
                               " \"of a vocabulary, one that is as long as few are\": 4}, \"merges\": []}}";
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(file, &tok, &err), err);
    CHECK_TEXT(tok, false, "fifteen letterssixteen  lettersseventeen  letters", 1, 2, 0, 3);
    CHECK_TEXT(tok, false, "of a vocabulary, one that is as long as few arefifteen letters", 0, 4, 1, 0);
    cch_tokenizer_unref(tok);
}

TEST(pieces_become_words) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(TOKFILE_PIECES, &tok, &err), err);
    CHECK_TEXT(tok, false, "ab ab", 11, 11);
    CHECK_TEXT(tok, false, "  ab", 6, 12, 9);                        /* one space goes from the start */
    CHECK_TEXT(tok, false, "<s> ab", 1, 11);
    CHECK_TEXT(tok, true, "ab", 1, 11);
    CHECK_TEXT(tok, false, "a\xE2\x82\xAC" "b", 10, 3, 4, 5, 8);
    CHECK_TEXT(tok, false, "\xE2\x82\xAC", 3, 4, 5);
    CHECK_TEXT(tok, false, "a\xEF\xBF\xBD\xEF\xBF\xBD" "b", 10, 3, 4, 8);   /* one mark for each byte */
    CHECK_TEXT(tok, false, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 3, 4, 5,
               3); /* all of the run, or none */
    CHECK_TEXT(tok, true, "\xE2\x82\xAC", 3, 4, 1, 5);
    cch_tokenizer_unref(tok);
}

TEST(pieces_are_held_back_until_they_are_sure) {
    cch_tokenizer *tok = NULL;
    cch_decoder *dec = NULL;
    const char *text;
    size_t len;
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    CHECK_OK(cch_decoder_new(tok, false, &dec, &err), err);
    CHECK_OK(cch_decoder_push(dec, 11, &text, &len, &err), err);
    CHECK_EQ(len, 0);
    CHECK_OK(cch_decoder_push(dec, 12, &text, &len, &err), err);
    CHECK(len == 2 && strcmp(text, "\xC3\xA9") == 0);
    CHECK_OK(cch_decoder_push(dec, 7, &text, &len, &err), err);
    CHECK(strcmp(text, "low") == 0);
    CHECK_STATUS(cch_decoder_push(dec, 15, &text, &len, &err), CCH_E_TOKEN_ID, err,
                 "15 is not in the vocabulary, allowed: 0..14");
    CHECK(text == NULL && len == 0);
    CHECK_OK(cch_decoder_push(dec, 8, &text, &len, &err), err); /* the bad id changed nothing */
    CHECK(strcmp(text, "er") == 0);
    cch_tokenizer_unref(tok); /* the decoder holds its own reference */
    CHECK_OK(cch_decoder_finish(dec, &text, &len, &err), err);
    CHECK_EQ(len, 0);
    cch_decoder_free(dec);
}

TEST(what_reads_like_a_special_token_is_skipped) {
    cch_tokenizer *tok = NULL;
    /* "x" becomes "y": 2 reads like 3, which is special; 4 reads like none */
    CHECK_OK(tokfile_open("{\"model\": {\"vocab\": {\"a\": 0, \"z\": 1}, \"merges\": []}, \"normalizer\": {\"type\":"
                          " \"Replace\", \"pattern\": {\"String\": \"x\"}, \"content\": \"y\"}, \"decoder\": {\"type\":"
                          " \"Fuse\"}, \"added_tokens\": [{\"id\": 2, \"content\": \"<x>\", \"normalized\": true},"
                          " {\"id\": 3, \"content\": \"<y>\", \"special\": true, \"normalized\": false},"
                          " {\"id\": 4, \"content\": \"<<x>>\", \"normalized\": true},"
                          " {\"id\": 5, \"content\": \"xx\", \"special\": true, \"normalized\": true}]}",
                          &tok, &err),
             err);
    CHECK_TEXT(tok, false, "a<y><y><<y>>yy", 0, 2, 3, 4, 5);
    CHECK_TEXT(tok, true, "a<<y>>", 0, 2, 3, 4, 5);
    CHECK(!cch_tokenizer_is_special(tok, 2));
    cch_tokenizer_unref(tok);
}

TEST(bad_ids_are_named) {
    cch_tokenizer *tok = NULL;
    char *text = NULL;
    size_t len;
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    CHECK_STATUS(cch_tokenizer_decode(tok, (int32_t[]){0, -1}, 2, false, &text, &len, &err), CCH_E_TOKEN_ID, err, "-1");
    CHECK_EQ(err.position, 1);
    CHECK(text == NULL);
    cch_tokenizer_unref(tok);
}

#define MODEL                                                                                \
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"" TOKFILE_SPACE "a\": 0, \"" TOKFILE_SPACE \
    "\": 1, \"b\": 2, \"x" TOKFILE_SPACE "\": 3, \"<0x62>\": 4}, \"merges\": []}"

TEST(metaspace_drops_the_space_of_the_first_token) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open("{\"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"" TOKFILE_SPACE
                          "\", \"prepend_scheme\": "
                          "\"always\", \"split\": true}, " MODEL "}",
                          &tok, &err),
             err);
    CHECK_TEXT(tok, false, "a a", 0, 0);
    CHECK_TEXT(tok, false, " b", 1, 1, 2);
    CHECK_TEXT(tok, false, "x a", 3, 0);
    cch_tokenizer_unref(tok);
    CHECK_OK(tokfile_open("{\"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"" TOKFILE_SPACE
                          "\", \"prepend_scheme\": "
                          "\"never\", \"split\": true}, " MODEL "}",
                          &tok, &err),
             err);
    CHECK_TEXT(tok, false, " a a", 0, 0);
    cch_tokenizer_unref(tok);
    CHECK_OK(
        tokfile_open("{\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"ByteFallback\"}, {\"type\": "
                     "\"Metaspace\", \"replacement\": \"" TOKFILE_SPACE "\"}]}, " MODEL "}",
                     &tok, &err),
        err);
    CHECK_TEXT(tok, false, "b a", 4, 0); /* the byte was the first token */
    cch_tokenizer_unref(tok);
}

TEST(without_a_decoder_tokens_are_joined_with_spaces) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open("{" MODEL "}", &tok, &err), err);
    CHECK_TEXT(tok, false, "b b <0x62>", 2, 2, 4);
    cch_tokenizer_unref(tok);
}

static cch_status stream(cch_tokenizer *tok) {
    static const int32_t ids[] = {1, 3, 4, 5, 11, 3, 6};
    cch_status status = CCH_OK;
    cch_decoder *dec = NULL;
    const char *text;
    size_t len;
    char *whole = NULL;
    CCH_TRY(cch_tokenizer_decode(tok, ids, 7, false, &whole, &len, NULL));
    CCH_TRY(cch_decoder_new(tok, false, &dec, NULL));
    for (int i = 0; i < 7; i++) CCH_TRY(cch_decoder_push(dec, ids[i], &text, &len, NULL));
    CCH_TRY(cch_decoder_finish(dec, &text, &len, NULL));
done:
    cch_free(whole);
    cch_decoder_free(dec);
    return status;
}

TEST(memory_failures_leak_nothing) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(TOKFILE_PIECES, &tok, &err), err);
    CHECK_OOM(stream(tok));
    cch_tokenizer_unref(tok);
}

TEST(a_push_that_fails_can_be_repeated) {
    static const int32_t ids[] = {1, 3, 4, 5, 11, 3, 6};
    cch_tokenizer *tok = NULL;
    cch_decoder *dec = NULL;
    const char *piece;
    char streamed[256];
    size_t len, at = 0;
    CHECK_OK(tokfile_open(TOKFILE_PIECES, &tok, &err), err);
    CHECK_OK(cch_decoder_new(tok, false, &dec, &err), err);
    for (int i = 0; i <= 7; i++) {
        cch_status status;
        for (int64_t nth = 1;; nth++) {
            cch_fail_alloc(nth);
            status =
                i < 7 ? cch_decoder_push(dec, ids[i], &piece, &len, NULL) : cch_decoder_finish(dec, &piece, &len, NULL);
            cch_fail_alloc(0);
            if (status == CCH_OK) break;
            CHECK_EQ(status, CCH_E_MEMORY);
        }
        memcpy(streamed + at, piece, len);
        at += len;
    }
    streamed[at] = '\0';
    CHECK(strcmp(streamed, "<s>\xE2\x82\xAC ab\xEF\xBF\xBD ") == 0);
    cch_decoder_free(dec);
    cch_tokenizer_unref(tok);
}

/* The text that `next` adds behind `before`, from a primed decoder. */
static void check_continued(cch_tokenizer *tok, bool skip, const int32_t *before, size_t n, const int32_t *next,
                            size_t n_next, const char *want) {
    cch_decoder *dec = NULL;
    char got[256];
    const char *piece = NULL;
    size_t len = 0, at = 0;
    CHECK_OK(cch_decoder_new(tok, skip, &dec, &err), err);
    CHECK_OK(cch_decoder_prime(dec, before, n, &err), err);
    for (size_t i = 0; i <= n_next; i++) {
        if (i < n_next) CHECK_OK(cch_decoder_push(dec, next[i], &piece, &len, &err), err);
        else CHECK_OK(cch_decoder_finish(dec, &piece, &len, &err), err);
        memcpy(got + at, piece, len);
        at += len;
    }
    got[at] = '\0';
    if (strcmp(got, want) != 0)
        fprintf(stderr, "continued with \"%s\", expected \"%s\"\n", got, want), check_failures++;
    cch_decoder_free(dec);
}

#define IDS(...) (int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

TEST(a_primed_decoder_goes_on) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(TOKFILE_PIECES, &tok, &err), err);
    check_continued(tok, true, NULL, 0, IDS(11), "ab");                  /* the first word has no space in front, */
    check_continued(tok, true, IDS(1), IDS(11), "ab");                   /* behind skipped tokens neither, */
    check_continued(tok, true, IDS(11), IDS(11), " ab");                 /* a later one has */
    check_continued(tok, true, IDS(11, 1, 1, 1, 1, 1), IDS(11), " ab");
    check_continued(tok, false, IDS(1), IDS(11), " ab");
    check_continued(tok, true, IDS(10, 3, 4, 5), IDS(8), "b");           /* a finished character is not told twice */
    check_continued(tok, true, IDS(3, 4, 5), IDS(11), " ab");
    check_continued(tok, true, IDS(10, 3, 4), IDS(5, 8), "\xE2\x82\xAC" "b");
    check_continued(tok, true, IDS(3, 4, 5, 3, 4), IDS(5), "\xE2\x82\xAC");
    check_continued(tok, true, IDS(3, 4), IDS(8), "\xEF\xBF\xBD\xEF\xBF\xBD" "b");
    check_continued(tok, true, IDS(5, 3, 3), IDS(4, 5), "\xE2\x82\xAC"); /* what was no character was told as such */
    cch_tokenizer_unref(tok);
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    check_continued(tok, true, IDS(7, 11), IDS(12, 9), "\xC3\xA9 low");
    check_continued(tok, true, IDS(11, 12, 12), IDS(0), "l");
    cch_tokenizer_unref(tok);
}

TEST(steps_behind_byte_fallback_see_what_the_bytes_spell) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"<0xF0>\": 0, \"<0x9F>\": 1, \"<0xA6>\": 2,"
                          " \"<0x8A>\": 3, \"" TOKFILE_SPACE "a\": 4}, \"merges\": []},"
                          " \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"ByteFallback\"},"
                          " {\"type\": \"Replace\", \"pattern\": {\"String\": \"\xF0\x9F\xA6\x8A\"},"
                          " \"content\": \"fox\"},"
                          " {\"type\": \"Metaspace\", \"replacement\": \"" TOKFILE_SPACE "\"}]}}", &tok, &err), err);
    CHECK_TEXT(tok, false, "fox a", 0, 1, 2, 3, 4);
    CHECK_TEXT(tok, false, "a a", 4, 4);
    check_continued(tok, false, IDS(0, 1, 2, 3), IDS(4), " a");
    check_continued(tok, false, IDS(0, 1, 2), IDS(3, 4), "fox a");
    cch_tokenizer_unref(tok);
}

static cch_status prime_and_free(cch_tokenizer *tok) {
    cch_decoder *dec = NULL;
    cch_status status = cch_decoder_new(tok, true, &dec, &err);
    if (status == CCH_OK) status = cch_decoder_prime(dec, (int32_t[]){11, 3, 4, 5, 3}, 5, &err);
    cch_decoder_free(dec);
    return status;
}

TEST(priming_fails_cleanly) {
    cch_tokenizer *tok = NULL;
    cch_decoder *dec = NULL;
    const char *text;
    size_t len;
    CHECK_OK(tokfile_open(TOKFILE_PIECES, &tok, &err), err);
    CHECK_OK(cch_decoder_new(tok, true, &dec, &err), err);
    CHECK_STATUS(cch_decoder_prime(dec, (int32_t[]){11, 3, 99}, 3, &err), CCH_E_TOKEN_ID, err, "token id 99");
    CHECK_EQ(err.position, 2);
    CHECK_OK(cch_decoder_push(dec, 11, &text, &len, &err), err);
    CHECK(strcmp(text, "ab") == 0); /* as new: the first word */
    cch_decoder_free(dec);
    CHECK_OOM(prime_and_free(tok));
    cch_tokenizer_unref(tok);
}

CHECK_MAIN()
