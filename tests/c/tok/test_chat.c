/* The special tokens of chat models, and which tokenizer a checkpoint has. */
#include <sys/stat.h> /* mkdir */

#include "check.h"
#include "tok/ids.h"
#include "tok/piecesfile.h"
#include "tok/tokenizer.h"

static cch_error err;

static void put_old_model(pieces *p, uint32_t type) {
    static const char *const names[] = {"<|eot|>", "<|sys|>", "<|asst|>", "<|usr|>"};
    put_piece(p, "<unk>", 0, 2);
    for (int i = 0; i < 4; i++) put_piece(p, names[i], 0, type);
    put_piece(p, "a", -1, 1);
}

static cch_status open_chat(tempdir *dir, const pieces *p, const char *meta, cch_tokenizer **out) {
    char path[400];
    tempdir_write(dir, "any name", p->data, p->n);
    tempdir_unlink(dir, "tokenizer_meta.json");
    if (meta != NULL) tempdir_write_text(dir, "tokenizer_meta.json", meta);
    return cch_tokenizer_open_chat(tempdir_path(dir, "any name", path), out, &err);
}

TEST(tokens_are_found_by_their_spelling) {
    tempdir dir = tempdir_new();
    cch_tokenizer *tok = NULL;
    int32_t ids[CCH_CHAT_TOKENS];
    pieces p = {.n = 0};
    put_chat_model(&p);
    CHECK_OK(open_chat(&dir, &p, NULL, &tok), err);
    CHECK(cch_tokenizer_chat_tokens(tok, ids));
    for (int i = 0; i < 4; i++) CHECK_EQ(ids[i], 3 + i);
    cch_tokenizer_unref(tok);
    p.n = 0;
    put_old_model(&p, 4);
    CHECK_OK(open_chat(&dir, &p, "{\"special_tokens\": {\"sys\": 2, \"eot\": 1, \"else\": \"x\"}}", &tok), err);
    CHECK(cch_tokenizer_chat_tokens(tok, ids));
    CHECK(ids[CCH_CHAT_SYS] == 2 && ids[CCH_CHAT_USR] == 4 && ids[CCH_CHAT_ASST] == 3 && ids[CCH_CHAT_EOT] == 1);
    CHECK_IDS(tok, "a<|usr|>", 0, "0 5 4"); /* a space in front, by default */
    cch_tokenizer_unref(tok);
    CHECK_OK(open_chat(&dir, &p, "{}", &tok), err);
    cch_tokenizer_unref(tok);
    CHECK_OK(cch_tokenizer_new_bytes(&tok, &err), err);
    CHECK(!cch_tokenizer_chat_tokens(tok, ids) && ids[0] == -1);
    cch_tokenizer_unref(tok);
    tempdir_free(&dir);
}

static void refused(tempdir *dir, const pieces *p, const char *meta, const char *words) {
    cch_tokenizer *tok = (cch_tokenizer *)&err;
    CHECK_STATUS(open_chat(dir, p, meta, &tok), CCH_E_FORMAT, err, words);
    CHECK(tok == NULL);
}

TEST(files_of_other_models) {
    tempdir dir = tempdir_new();
    pieces p = {.n = 0};
    put_old_model(&p, 4);
    refused(&dir, &p, "{\"special_tokens\": {\"asst\": 4}}",
            "tokenizer_meta.json: special_tokens.asst is 4, but the piece has id 3");
    refused(&dir, &p, "{\"special_tokens\": {\"asst\": \"3\"}}", "special_tokens.asst");
    refused(&dir, &p, "{\"special_tokens\": 3}", "special_tokens");
    refused(&dir, &p, "[]", "tokenizer_meta.json");
    refused(&dir, &p, "{", "tokenizer_meta.json");
    p.n = 0;
    put_old_model(&p, 1);
    refused(&dir, &p, NULL, "special token \"sys\" is an ordinary piece");
    p.n = 0;
    put_piece(&p, "<unk>", 0, 2);
    put_piece(&p, "<|sys|>", 0, 4);
    refused(&dir, &p, NULL, "has no special token \"<|ngpt_usr_84a5023f67d74cf29cc4001becde983c|>\", nor \"<|usr|>\"");
    tempdir_free(&dir);
}

static cch_status open_for(const tempdir *dir, const char *tokenizer, int32_t vocab_size, cch_tokenizer **out) {
    char path[400], given[400];
    if (tokenizer != NULL) tempdir_path(dir, tokenizer, given);
    return cch_tokenizer_open_for(tempdir_path(dir, "best.pt", path), tokenizer == NULL ? NULL : given, vocab_size, out,
                                  &err);
}

TEST(which_tokenizer_a_checkpoint_has) {
    tempdir dir = tempdir_new();
    char folder[400];
    cch_tokenizer *tok = NULL;
    pieces small = {.n = 0}, big = {.n = 0};
    put_old_model(&small, 4);
    put_chat_model(&big);
    CHECK_OK(open_for(&dir, NULL, 256, &tok), err);
    CHECK_EQ(cch_tokenizer_get_kind(tok), CCH_TOKENIZER_BYTES);
    cch_tokenizer_unref(tok);
    CHECK_STATUS(open_for(&dir, NULL, 257, &tok), CCH_E_FORMAT, err,
                 "has 257 ids, but neither spm.model nor tokenizer/spm.model is beside it");
    CHECK(tok == NULL);
    CHECK(mkdir(tempdir_path(&dir, "tokenizer", folder), 0700) == 0);
    tempdir_write(&dir, "tokenizer/spm.model", small.data, small.n);
    CHECK_OK(open_for(&dir, NULL, 6, &tok), err);
    cch_tokenizer_unref(tok);
    CHECK_STATUS(open_for(&dir, NULL, 256, &tok), CCH_E_FORMAT, err, "has 6 pieces, but the model's vocab_size is 256");
    CHECK(tok == NULL);
    tempdir_write(&dir, "spm.model", big.data, big.n); /* comes first */
    CHECK_OK(open_for(&dir, NULL, 268, &tok), err);
    cch_tokenizer_unref(tok);
    CHECK_OK(open_for(&dir, "tokenizer/spm.model", 6, &tok), err); /* what is given comes before both */
    cch_tokenizer_unref(tok);
    CHECK_STATUS(open_for(&dir, "none.model", 6, &tok), CCH_E_IO, err, "none.model");
    tempdir_unlink(&dir, "tokenizer/spm.model");
    rmdir(folder);
    tempdir_free(&dir);
}

TEST(bytes) {
    cch_tokenizer *tok = NULL;
    char *text = NULL;
    size_t len;
    CHECK_OK(cch_tokenizer_new_bytes(&tok, &err), err);
    CHECK_EQ(cch_tokenizer_size(tok), 256);
    CHECK_IDS(tok, "\xC3\xA9 <|eot|>\n", 0, "195 169 32 60 124 101 111 116 124 62 10");
    CHECK_IDS(tok, "", CCH_ENCODE_ADD_SPECIALS | CCH_ENCODE_CONTINUES, "");
    CHECK_OK(cch_tokenizer_decode(tok, (int32_t[]){195, 72, 195, 169, 0}, 5, true, &text, &len, &err), err);
    CHECK(len == 7 && memcmp(text, "\xEF\xBF\xBDH\xC3\xA9\0", 7) == 0);
    cch_free(text);
    CHECK_STATUS(cch_tokenizer_decode(tok, (int32_t[]){256}, 1, true, &text, &len, &err), CCH_E_TOKEN_ID, err,
                 "token id 256 is not in the vocabulary, allowed: 0..255");
    for (int32_t id = 0; id < 256; id++) CHECK(!cch_tokenizer_is_special(tok, id));
    cch_tokenizer_unref(tok);
}

static cch_status open_two(const tempdir *dir) {
    cch_tokenizer *tok = NULL;
    CCH_RETURN_IF(open_for(dir, NULL, 6, &tok));
    cch_tokenizer_unref(tok);
    CCH_RETURN_IF(cch_tokenizer_new_bytes(&tok, NULL));
    cch_tokenizer_unref(tok);
    return CCH_OK;
}

TEST(memory_runs_out) {
    tempdir dir = tempdir_new();
    pieces p = {.n = 0};
    put_old_model(&p, 4);
    tempdir_write(&dir, "spm.model", p.data, p.n);
    tempdir_write_text(&dir, "tokenizer_meta.json", "{\"special_tokens\": {\"sys\": 2}}");
    CHECK_OOM(open_two(&dir));
    tempdir_free(&dir);
}

CHECK_MAIN()
