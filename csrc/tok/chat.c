/* What chat models with pieces need of their tokenizer: four special tokens, known by their spelling, and the choice of
 * the tokenizer that belongs to a checkpoint. */
#include "base/alloc.h"
#include "base/filemap.h"
#include "tok/tokenizer.h"

#define META_FILE "tokenizer_meta.json"
#define META_DEPTH 16

/* The one place where they are spelled: the name, the spelling of newer files, that of older ones. */
static const struct { const char *name, *spelling, *older; } chat_tokens[CCH_CHAT_TOKENS] = {
    [CCH_CHAT_SYS] = {"sys", "<|ngpt_sys_84a5023f67d74cf29cc4001becde983c|>", "<|sys|>"},
    [CCH_CHAT_USR] = {"usr", "<|ngpt_usr_84a5023f67d74cf29cc4001becde983c|>", "<|usr|>"},
    [CCH_CHAT_ASST] = {"asst", "<|ngpt_asst_84a5023f67d74cf29cc4001becde983c|>", "<|asst|>"},
    [CCH_CHAT_EOT] = {"eot", "<|ngpt_eot_84a5023f67d74cf29cc4001becde983c|>", "<|eot|>"},
};

const char *cch_chat_token_name(cch_chat_token token) { return chat_tokens[token].name; }

int32_t cch_chat_piece(const cch_tokenizer *tok, cch_chat_token token) {
    const char *spelling = chat_tokens[token].spelling, *older = chat_tokens[token].older;
    const int32_t id = cch_tokenizer_find(tok, spelling, strlen(spelling));
    return id >= 0 ? id : cch_tokenizer_find(tok, older, strlen(older));
}

bool cch_tokenizer_chat_tokens(const cch_tokenizer *tok, int32_t out_ids[CCH_CHAT_TOKENS]) {
    bool all = true;
    for (int i = 0; i < CCH_CHAT_TOKENS; i++) {
        const int32_t id = cch_chat_piece(tok, (cch_chat_token)i);
        out_ids[i] = id >= 0 && cch_tokenizer_is_special(tok, id) ? id : -1;
        all &= out_ids[i] >= 0;
    }
    return all;
}

/* Are the ids [CCH_CHAT_TOKENS] those of tokenizer_meta.json, for the names it has? */
static cch_status check_meta(const char *meta, const int32_t *ids, cch_error *err) {
    cch_status status = CCH_OK;
    cch_json_doc *doc = NULL;
    cch_json special, value;
    int64_t id;
    CCH_TRY(cch_json_open(meta, META_DEPTH, &doc, err));
    CCH_TRY(cch_json_expect(cch_json_root(doc), CCH_JSON_OBJECT, err));
    if (!cch_json_has(cch_json_root(doc), "special_tokens", &special)) goto done;
    CCH_TRY(cch_json_expect(special, CCH_JSON_OBJECT, err));
    for (int i = 0; i < CCH_CHAT_TOKENS; i++) {
        if (!cch_json_has(special, chat_tokens[i].name, &value)) continue;
        CCH_TRY(cch_json_get_int(value, 0, CCH_MAX_TOKEN_ID, &id, err));
        if (id != ids[i])
            CCH_THROW(err, CCH_E_FORMAT, ids[i], "%s: special_tokens.%s is %lld, but the piece has id %d", meta,
                      chat_tokens[i].name, (long long)id, ids[i]);
    }
done:
    cch_json_close(doc);
    return status;
}

/* "folder of path/name" as a new string. */
static cch_status beside(const char *path, const char *name, char **out, cch_error *err) {
    cch_status status = CCH_OK;
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? cch_strndup(".", 1) : cch_strndup(path, (size_t)(slash - path) + (slash == path));
    if (folder == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes", strlen(path));
    status = cch_path_join(folder, name, out, err);
    cch_free(folder);
    return status;
}

cch_status cch_tokenizer_open_chat(const char *path, cch_tokenizer **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_tokenizer *tok = NULL;
    char *meta = NULL;
    int32_t ids[CCH_CHAT_TOKENS];
    *out = NULL;
    CCH_TRY(cch_tokenizer_open_pieces(path, &tok, err));
    for (int i = 0; i < CCH_CHAT_TOKENS; i++) {
        ids[i] = cch_chat_piece(tok, (cch_chat_token)i);
        if (ids[i] < 0)
            CCH_THROW(err, CCH_E_FORMAT, -1, "%s has no special token \"%s\", nor \"%s\"", path,
                      chat_tokens[i].spelling, chat_tokens[i].older);
        if (!cch_tokenizer_is_special(tok, ids[i]))
            CCH_THROW(err, CCH_E_FORMAT, ids[i], "%s: special token \"%s\" is an ordinary piece, expected a "
                      "user-defined one", path, chat_tokens[i].name);
    }
    CCH_TRY(beside(path, META_FILE, &meta, err));
    if (cch_path_exists(meta)) CCH_TRY(check_meta(meta, ids, err));
    *out = tok;
    tok = NULL;
done:
    cch_tokenizer_unref(tok);
    cch_free(meta);
    return status;
}

/* As cch_tokenizer_open_chat; the numbers of ids must be equal. */
static cch_status open_sized(const char *path, int32_t vocab_size, cch_tokenizer **out, cch_error *err) {
    CCH_RETURN_IF(cch_tokenizer_open_chat(path, out, err));
    const int32_t size = cch_tokenizer_size(*out);
    if (size == vocab_size) return CCH_OK;
    cch_tokenizer_unref(*out);
    *out = NULL;
    CCH_FAIL(err, CCH_E_FORMAT, -1, "%s has %d pieces, but the model's vocab_size is %d", path, size, vocab_size);
}

cch_status cch_tokenizer_open_for(const char *checkpoint, const char *path, int32_t vocab_size, cch_tokenizer **out,
                                  cch_error *err) {
    static const char *const places[] = {CCH_PIECES_FILE, "tokenizer/" CCH_PIECES_FILE};
    *out = NULL;
    if (path != NULL) return open_sized(path, vocab_size, out, err);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char *found = NULL;
        CCH_RETURN_IF(beside(checkpoint, places[i], &found, err));
        cch_status status = cch_path_exists(found) ? open_sized(found, vocab_size, out, err) : CCH_OK;
        cch_free(found);
        if (status != CCH_OK || *out != NULL) return status;
    }
    if (vocab_size == 256) return cch_tokenizer_new_bytes(out, err);
    CCH_FAIL(err, CCH_E_FORMAT, -1, "%s has %d ids, but neither %s nor %s is beside it, and only a model of 256 ids "
             "reads bytes", checkpoint, vocab_size, places[0], places[1]);
}
