/* WordPiece files: tokenizer.json and vocab.txt give the same tokenizer, and every way they can be wrong. */
#include "check.h"
#include "tok/tokfile.h"

static cch_error err;

#define LINES "[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\n##s\nworld\n,\ncafe\ncaf\xC3\xA9\n"
#define VOCAB                                                                                                      \
    "{\"[PAD]\": 0, \"[UNK]\": 1, \"[CLS]\": 2, \"[SEP]\": 3, \"hello\": 4, \"##s\": 5, \"world\": 6, \",\": 7,"    \
    " \"cafe\": 8, \"caf\xC3\xA9\": 9}"
#define MODEL(vocab, more) "{\"model\": {\"type\": \"WordPiece\", \"vocab\": " vocab more "}"
#define OPTIONS ", \"unk_token\": \"[UNK]\", \"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100"
#define SPECIAL(id, name) "{\"id\": " id ", \"content\": \"" name "\", \"special\": true}"
#define PARTS                                                                                                      \
    ", \"added_tokens\": [" SPECIAL("0", "[PAD]") "," SPECIAL("1", "[UNK]") "," SPECIAL("2", "[CLS]") ","           \
    SPECIAL("3", "[SEP]") "], \"normalizer\": {\"type\": \"BertNormalizer\"}, \"pre_tokenizer\": {\"type\":"        \
    " \"BertPreTokenizer\"}, \"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"[SEP]\", 3], \"cls\":"  \
    " [\"[CLS]\", 2]}, \"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\"}}"
#define FILE_JSON MODEL(VOCAB, OPTIONS) PARTS

static const char *ids_of(const cch_tokenizer *tok, const char *text) {
    static char shown[400];
    int32_t *ids = NULL;
    size_t n = 0, at = 0;
    CHECK_OK(cch_tokenizer_encode(tok, text, strlen(text), CCH_ENCODE_ADD_SPECIALS, &ids, &n, &err), err);
    for (size_t i = 0; i < n; i++) at += (size_t)snprintf(shown + at, sizeof shown - at, i ? " %d" : "%d", ids[i]);
    cch_free(ids);
    return shown;
}

#define CHECK_IDS(tok, text, want) CHECK(strcmp(ids_of((tok), (text)), (want)) == 0)

TEST(both_layouts_give_the_same) {
    cch_tokenizer *toks[3] = {NULL};
    CHECK_OK(tokfile_open(FILE_JSON, &toks[0], &err), err);
    CHECK_OK(tokfile_open_two("vocab.txt", LINES, NULL, NULL, &toks[1], &err), err);
    CHECK_OK(tokfile_open_two("vocab.txt", "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\nhello\r\n##s\r\nworld\r\n,\r\ncafe\r\n"
                              "caf\xC3\xA9", "tokenizer_config.json",
                              "{\"do_lower_case\": true, \"strip_accents\": null,"
                              " \"tokenizer_class\": \"BertTokenizer\", \"never_split\": null,"
                              " \"cls_token\": {\"content\": \"[CLS]\", \"lstrip\": false}}",
                              &toks[2], &err), err);
    for (int i = 0; i < 3; i++) {
        cch_tokenizer *tok = toks[i];
        char *text = NULL;
        size_t len;
        CHECK_EQ(cch_tokenizer_size(tok), 10);
        CHECK_EQ(cch_tokenizer_find(tok, "##s", 3), 5);
        CHECK(cch_tokenizer_is_special(tok, 3) && !cch_tokenizer_is_special(tok, 4));
        CHECK_IDS(tok, "", "2 3");
        CHECK_IDS(tok, "Hello,\tWORLDs nope", "2 4 7 6 5 1 3");
        CHECK_IDS(tok, "CAF\xC3\x89 [SEP]hello", "2 8 3 4 3");
        CHECK_OK(cch_tokenizer_decode(tok, (int32_t[]){2, 4, 5, 7, 6, 3}, 6, true, &text, &len, &err), err);
        CHECK(strcmp(text, "hellos, world") == 0);
        cch_free(text);
        cch_tokenizer_unref(tok);
    }
}

TEST(texts_are_cut_inside_their_template) {
    static const struct { int32_t limit; const char *want; } cuts[] = {
        {100, "2 4 7 6 5 3"}, {6, "2 4 7 6 5 3"}, {5, "2 4 7 6 3"}, {3, "2 4 3"}};
    cch_tokenizer *tok = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    CHECK_OK(tokfile_open(FILE_JSON, &tok, &err), err);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        char shown[100] = "";
        CHECK_OK(cch_tokenizer_encode_cut(tok, "Hello, worlds", 13, cuts[i].limit, &ids, &n, &err), err);
        for (size_t k = 0; k < n; k++) sprintf(shown + strlen(shown), k ? " %d" : "%d", ids[k]);
        CHECK(strcmp(shown, cuts[i].want) == 0);
        cch_free(ids);
    }
    for (int32_t limit = -1; limit < 3; limit++)
        CHECK_STATUS(cch_tokenizer_encode_cut(tok, "a", 1, limit, &ids, &n, &err), CCH_E_ARGUMENT, err,
                     "allowed: more than the 2 of the template");
    CHECK(ids == NULL && n == 0);
    CHECK_STATUS(cch_tokenizer_encode_cut(tok, "\xFF", 1, 9, &ids, &n, &err), CCH_E_ENCODING, err, "0xFF");
    cch_tokenizer_unref(tok);
}

TEST(options_of_the_config) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open_two("vocab.txt", LINES, "tokenizer_config.json",
                              "{\"do_lower_case\": false, \"unk_token\": \"[PAD]\", \"sep_token\": \",\"}", &tok, &err),
             err);
    CHECK_IDS(tok, "hello Hello caf\xC3\xA9", "2 4 0 9 7");
    cch_tokenizer_unref(tok);
    CHECK_OK(tokfile_open_two("vocab.txt", LINES, "tokenizer_config.json", "{\"strip_accents\": false}", &tok, &err),
             err);
    CHECK_IDS(tok, "CAF\xC3\x89", "2 9 3");
    cch_tokenizer_unref(tok);
}

#define REFUSED(text, code, words)                                             \
    do {                                                                       \
        cch_tokenizer *tok_ = (cch_tokenizer *)&err;                           \
        CHECK_STATUS(tokfile_open((text), &tok_, &err), (code), err, (words)); \
        CHECK(tok_ == NULL);                                                   \
    } while (0)

TEST(damaged_models) {
#define UNK ", \"unk_token\": \"[UNK]\""
#define PREFIX ", \"continuing_subword_prefix\": \"##\""
    REFUSED("{\"model\": {\"type\": \"WordPiece\"" OPTIONS "}}", CCH_E_FORMAT, "no key \"vocab\"");
    REFUSED(MODEL("{}", OPTIONS) "}", CCH_E_FORMAT, "vocab is empty");
    REFUSED(MODEL(VOCAB, "") "}", CCH_E_FORMAT, "no key \"unk_token\"");
    REFUSED(MODEL("{\"a\": 0}", OPTIONS) "}", CCH_E_FORMAT, "model.unk_token \"[UNK]\" is not in the vocabulary");
    REFUSED(MODEL(VOCAB, UNK) "}", CCH_E_FORMAT, "no key \"continuing_subword_prefix\"");
    REFUSED(MODEL(VOCAB, UNK PREFIX) "}", CCH_E_FORMAT, "no key \"max_input_chars_per_word\"");
    REFUSED(MODEL(VOCAB, UNK PREFIX ", \"max_input_chars_per_word\": -1") "}", CCH_E_FORMAT, "-1");
    REFUSED(MODEL(VOCAB, UNK PREFIX ", \"max_input_chars_per_word\": 1001") "}", CCH_E_UNSUPPORTED,
            "max_input_chars_per_word is 1001, supported: 0 to 1000");
    REFUSED(MODEL("{\"[UNK]\": 0, \"a\": 0}", OPTIONS) "}", CCH_E_FORMAT, "id 0 is given twice");
    REFUSED(MODEL(VOCAB, OPTIONS) ", \"pre_tokenizer\": {\"type\": \"ByteLevel\"}}", CCH_E_UNSUPPORTED,
            "supported: for WordPiece another pre-tokenizer");
}

static void refused_files(const char *lines, const char *config, cch_status code, const char *words) {
    cch_tokenizer *tok = NULL;
    CHECK_STATUS(tokfile_open_two("vocab.txt", lines, config == NULL ? NULL : "tokenizer_config.json", config, &tok,
                                  &err), code, err, words);
    CHECK(tok == NULL);
}

TEST(damaged_vocabularies) {
    refused_files("", NULL, CCH_E_FORMAT, "vocab.txt is empty");
    refused_files("[UNK]\n[CLS]\n", NULL, CCH_E_FORMAT, "sep_token \"[SEP]\" is not in the vocabulary");
    refused_files("a\nb\na\n", NULL, CCH_E_FORMAT, "line 3 repeats \"a\"");
    refused_files("a\n\xFF\n", NULL, CCH_E_FORMAT, "byte 0xFF at position 2");
    refused_files(LINES, "{\"unk_token\": \"<unk>\"}", CCH_E_FORMAT, "unk_token \"<unk>\" is not");
    refused_files(LINES, "{\"do_lower_case\": 1}", CCH_E_FORMAT, "do_lower_case");
    refused_files(LINES, "{\"do_basic_tokenize\": false}", CCH_E_UNSUPPORTED, "do_basic_tokenize is false");
    refused_files(LINES, "{\"never_split\": [\"a\"]}", CCH_E_UNSUPPORTED, "never_split");
    refused_files(LINES, "{\"added_tokens_decoder\": {\"9\": {}}}", CCH_E_UNSUPPORTED, "added_tokens_decoder");
    refused_files(LINES, "{\"tokenizer_class\": \"BertJapaneseTokenizer\"}", CCH_E_UNSUPPORTED,
                  "tokenizer_class is \"BertJapaneseTokenizer\", supported: BertTokenizer");
    refused_files(LINES, "[", CCH_E_FORMAT, "tokenizer_config.json");
}

static cch_status open_and_encode(const char *name, const char *text) {
    cch_tokenizer *tok = NULL;
    int32_t *ids = NULL;
    size_t n;
    cch_status status = tokfile_open_two(name, text, NULL, NULL, &tok, NULL);
    if (status == CCH_OK)
        status = cch_tokenizer_encode(tok, "Caf\xC3\xA9 worlds", 12, CCH_ENCODE_ADD_SPECIALS, &ids, &n, NULL);
    cch_free(ids);
    cch_tokenizer_unref(tok);
    return status;
}

TEST(no_memory) {
    CHECK_OOM(open_and_encode("tokenizer.json", FILE_JSON));
    CHECK_OOM(open_and_encode("vocab.txt", LINES));
}

CHECK_MAIN()
