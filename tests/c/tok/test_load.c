/* Tokenizer files as such: both layouts, and every way a file can be wrong. */
#include "check.h"
#include "tok/tokfile.h"

static cch_error err;

#define REFUSED(text, code, words)                                            \
    do {                                                                      \
        cch_tokenizer *tok_ = (cch_tokenizer *)&err;                          \
        CHECK_STATUS(tokfile_open((text), &tok_, &err), (code), err, (words)); \
        CHECK(tok_ == NULL);                                                  \
    } while (0)

#define BPE(more) \
    "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]" more "}"

TEST(gpt2_files) {
    cch_tokenizer *tok = NULL;
    int32_t *ids = NULL;
    size_t n;
    const char *vocab = "{\"a\": 0, \"b\": 1, \"ab\": 2, \"\xC4\xA0\": 3, \"\xC4\xA0" "ab\": 4, \"<|endoftext|>\": 5}";
    CHECK_OK(tokfile_open_two("vocab.json", vocab, "merges.txt", "#version: 0.2\na b\r\n\xC4\xA0 ab\n\n", &tok, &err),
             err);
    CHECK_OK(cch_tokenizer_encode(tok, "ab ab<|endoftext|>", 18, 0, &ids, &n, &err), err);
    CHECK(n == 3 && ids[0] == 2 && ids[1] == 4 && ids[2] == 5);
    CHECK(cch_tokenizer_is_special(tok, 5));
    cch_free(ids);
    cch_tokenizer_unref(tok);
    CHECK_STATUS(tokfile_open_two("vocab.json", vocab, "merges.txt", "a b\nab\n", &tok, &err), CCH_E_FORMAT, err,
                 "line \"ab\"");
    CHECK_STATUS(tokfile_open_two("vocab.json", vocab, "merges.txt", "a b b\n", &tok, &err), CCH_E_FORMAT, err,
                 "line \"a b b\"");
    CHECK_STATUS(tokfile_open_two("vocab.json", vocab, "merges.txt", "b a\n", &tok, &err), CCH_E_FORMAT, err,
                 "merge 0: \"ba\"");
    CHECK_STATUS(tokfile_open_two("vocab.json", vocab, NULL, NULL, &tok, &err), CCH_E_IO, err, "merges.txt");
    CHECK_STATUS(tokfile_open_two("merges.txt", "a b\n", NULL, NULL, &tok, &err), CCH_E_IO, err, "vocab.json");
}

TEST(missing_files) {
    cch_tokenizer *tok = NULL;
    CHECK_STATUS(cch_tokenizer_open("no/such/file", &tok, &err), CCH_E_IO, err, "no/such/file");
    CHECK_STATUS(cch_tokenizer_open(P_tmpdir, &tok, &err), CCH_E_IO, err, P_tmpdir);
    CHECK_STATUS(cch_tokenizer_open("", &tok, &err), CCH_E_IO, err, NULL);
}

TEST(smallest_file) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(BPE("") "}", &tok, &err), err);
    CHECK_EQ(cch_tokenizer_size(tok), 3);
    cch_tokenizer_unref(tok);
    CHECK_OK(tokfile_open("{\"model\": {\"vocab\": {\"a\": 7}, \"merges\": []}}", &tok, &err), err);
    size_t len;
    CHECK_EQ(cch_tokenizer_size(tok), 8);
    CHECK(cch_tokenizer_token_view(tok, 3, &len) == NULL); /* a hole */
    cch_tokenizer_unref(tok);
}

TEST(damaged_files) {
    REFUSED("", CCH_E_FORMAT, NULL);
    REFUSED("[]", CCH_E_FORMAT, "tokenizer.json");
    REFUSED("{\"model\": {\"type\": \"BPE\"}}", CCH_E_FORMAT, "vocab");
    REFUSED("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}", CCH_E_FORMAT, "merges");
    REFUSED("{\"model\": {\"vocab\": {}, \"merges\": []}}", CCH_E_FORMAT, "empty");
    REFUSED("{\"model\": {\"vocab\": [\"a\"], \"merges\": []}}", CCH_E_FORMAT, "model.vocab");
    REFUSED("{\"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}}", CCH_E_FORMAT, "-1");
    REFUSED("{\"model\": {\"vocab\": {\"a\": 4194304}, \"merges\": []}}", CCH_E_FORMAT, "4194304");
    REFUSED("{\"model\": {\"vocab\": {\"a\": 1.5}, \"merges\": []}}", CCH_E_FORMAT, "1.5");
    REFUSED("{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []}}", CCH_E_FORMAT, NULL);
    REFUSED("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", CCH_E_FORMAT,
            "id 0 is given twice, to \"a\" and \"b\"");
    REFUSED("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"a a\"]}}", CCH_E_FORMAT,
            "\"aa\" is not in the vocabulary");
    REFUSED("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"a\"]}}", CCH_E_FORMAT, "model.merges[0]");
    REFUSED("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [[\"a\", \"a\", \"a\"]]}}", CCH_E_FORMAT,
            "model.merges[0]");
    REFUSED("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [[\"a\", 1]]}}", CCH_E_FORMAT, "model.merges[0]");
    REFUSED("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": {}}}", CCH_E_FORMAT, "model.merges");
    REFUSED(BPE(", \"unk_token\": \"<unk>\"") "}", CCH_E_FORMAT, "\"<unk>\" is not in the vocabulary");
    REFUSED(BPE(", \"fuse_unk\": 1") "}", CCH_E_FORMAT, "model.fuse_unk");
}

TEST(model_options_that_are_not_supported) {
    REFUSED("{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", CCH_E_UNSUPPORTED,
            "model.type is \"Unigram\", supported: BPE, WordPiece");
    REFUSED(BPE(", \"dropout\": 0.1") "}", CCH_E_UNSUPPORTED, "model.dropout is 0.1");
    REFUSED(BPE(", \"continuing_subword_prefix\": \"##\"") "}", CCH_E_UNSUPPORTED, "continuing_subword_prefix");
    REFUSED(BPE(", \"end_of_word_suffix\": \"</w>\"") "}", CCH_E_UNSUPPORTED, "end_of_word_suffix");
}

#define ADDED(more) BPE("") ", \"added_tokens\": [" more "]}"

TEST(added_tokens) {
    cch_tokenizer *tok = NULL;
    CHECK_OK(tokfile_open(ADDED("{\"id\": 2, \"content\": \"ab\"}, {\"id\": 9, \"content\": \"\"},"
                                " {\"id\": 3, \"content\": \"c\", \"special\": true},"
                                " {\"id\": 3, \"content\": \"c\", \"special\": true}, {\"id\": 4, \"content\": \"d\"}"),
                          &tok, &err),
             err);
    CHECK_EQ(cch_tokenizer_size(tok), 5);
    CHECK_EQ(cch_tokenizer_find(tok, "c", 1), 3);
    CHECK(cch_tokenizer_is_special(tok, 3) && !cch_tokenizer_is_special(tok, 2));
    cch_tokenizer_unref(tok);
    REFUSED(ADDED("{\"content\": \"x\"}"), CCH_E_FORMAT, "added_tokens[0]");
    REFUSED(ADDED("{\"id\": 99999999999, \"content\": \"x\"}"), CCH_E_FORMAT, "99999999999");
    REFUSED(BPE("") ", \"added_tokens\": {}}", CCH_E_FORMAT, "added_tokens");
}

TEST(ids_of_added_tokens_are_counted) {
    cch_tokenizer *tok = NULL;
    REFUSED(ADDED("{\"id\": 1, \"content\": \"ab\"}"), CCH_E_UNSUPPORTED,
            "\"ab\" has id 1, allowed: 2, which it has already");
    REFUSED(ADDED("{\"id\": 4, \"content\": \"x\"}"), CCH_E_UNSUPPORTED,
            "\"x\" has id 4, allowed: 3, the next one behind the vocabulary");
    REFUSED(ADDED("{\"id\": 3, \"content\": \"x\"}, {\"id\": 4, \"content\": \"x\"}"), CCH_E_UNSUPPORTED,
            "\"x\" has id 4, allowed: 3, which it has already");
    REFUSED(ADDED("{\"id\": 3, \"content\": \"x\"}, {\"id\": 3, \"content\": \"y\"}"), CCH_E_UNSUPPORTED,
            "\"y\" has id 3, allowed: 4");
    /* a vocabulary with holes is as large as its number of tokens */
    CHECK_OK(tokfile_open("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 7}, \"merges\": []}, \"added_tokens\":"
                          " [{\"id\": 2, \"content\": \"x\"}, {\"id\": 7, \"content\": \"b\"},"
                          " {\"id\": 3, \"content\": \"y\"}]}",
                          &tok, &err),
             err);
    cch_tokenizer_unref(tok);
    REFUSED("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 2}, \"merges\": []}, \"added_tokens\":"
            " [{\"id\": 2, \"content\": \"x\"}]}",
            CCH_E_FORMAT, "id 2 is given twice, to \"b\" and \"x\"");
}

TEST(added_tokens_that_are_given_twice) {
    REFUSED(ADDED("{\"id\": 3, \"content\": \"x\"}, {\"id\": 3, \"content\": \"x\", \"lstrip\": true}"),
            CCH_E_UNSUPPORTED, "\"x\" is given twice, with other flags");
    REFUSED(ADDED("{\"id\": 3, \"content\": \"x\", \"normalized\": true}, {\"id\": 3, \"content\": \"x\","
                  " \"normalized\": false}"),
            CCH_E_UNSUPPORTED, "\"x\" is given twice, once as normalized");
}

CHECK_MAIN()
