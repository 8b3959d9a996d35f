/* WordPiece models: the model of a tokenizer.json, and BERT's own files, vocab.txt (one token a line, its id the number
 * of the line) with the options of tokenizer_config.json.  What the latter mean and what holds when one is absent
 * follows transformers' BertTokenizer. */
#include "base/alloc.h"
#include "base/filemap.h"
#include "base/utf8.h"
#include "tok/tokenizer.h"

#define DEFAULT_PREFIX "##"
#define DEFAULT_MAX_CHARS 100

static cch_wordpiece *begin(cch_tokenizer *tok) {
    tok->kind = CCH_TOKENIZER_WORDPIECE;
    tok->vocab = &tok->wordpiece.vocab;
    return &tok->wordpiece;
}

static cch_status set_prefix(cch_wordpiece *wp, const char *text, size_t len, cch_error *err) {
    wp->prefix = cch_strndup(text, len);
    if (wp->prefix == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes", len);
    wp->prefix_len = len;
    return CCH_OK;
}

/* The id of a token that must be there; `role` is for the message. */
static cch_status find_token(const cch_strmap *vocab, const char *text, size_t len, const char *role, int32_t *out,
                             cch_error *err) {
    if (cch_strmap_find(vocab, text, len, out)) return CCH_OK;
    CCH_FAIL(err, CCH_E_FORMAT, -1, "%s \"%.*s\" is not in the vocabulary", role, (int)cch_utf8_cut(text, len, 80),
             text);
}

cch_status cch_load_wordpiece(cch_tokenizer *tok, cch_json model, cch_error *err) {
    cch_wordpiece *wp = begin(tok);
    cch_json value;
    const char *text;
    size_t len;
    int64_t max_chars;
    CCH_RETURN_IF(cch_json_get(model, "vocab", &value, err));
    CCH_RETURN_IF(cch_load_vocab(&wp->vocab, value, err));
    CCH_RETURN_IF(cch_json_get(model, "unk_token", &value, err));
    CCH_RETURN_IF(cch_json_get_string(value, &text, &len, err));
    CCH_RETURN_IF(find_token(&wp->vocab, text, len, "model.unk_token", &wp->unk_id, err));
    CCH_RETURN_IF(cch_json_get(model, "continuing_subword_prefix", &value, err));
    CCH_RETURN_IF(cch_json_get_string(value, &text, &len, err));
    CCH_RETURN_IF(set_prefix(wp, text, len, err));
    CCH_RETURN_IF(cch_json_get(model, "max_input_chars_per_word", &value, err));
    CCH_RETURN_IF(cch_json_get_int(value, 0, INT64_MAX, &max_chars, err));
    if (max_chars > CCH_WORDPIECE_MAX_CHARS) return cch_json_refuse(value, "0 to 1000", err);
    wp->max_chars = (size_t)max_chars;
    return CCH_OK;
}

/* -------------------------------------------------------------------------------------------- vocab.txt ---- */

/* The lines of vocab.txt. */
static cch_status load_lines(cch_strmap *vocab, const char *text, size_t len, const char *path, cch_error *err) {
    size_t n = 0, valid = cch_utf8_valid_prefix(text, len);
    if (valid < len)
        CCH_FAIL(err, CCH_E_FORMAT, valid, "%s is not UTF-8: byte 0x%02X at position %zu", path,
                 (unsigned char)text[valid], valid);
    for (size_t at = 0, next; at < len; at = next, n++) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t stop = end == NULL ? len : (size_t)(end - text);
        next = stop + 1;
        if (stop > at && text[stop - 1] == '\r') stop--;
        if (n > CCH_MAX_TOKEN_ID)
            CCH_FAIL(err, CCH_E_FORMAT, at, "%s has over %d lines, allowed: at most that", path, CCH_MAX_TOKEN_ID + 1);
        bool old;
        CCH_RETURN_IF(cch_strmap_put(vocab, text + at, stop - at, (int32_t)n, &old, err));
        if (old)
            CCH_FAIL(err, CCH_E_FORMAT, at, "%s: line %zu repeats \"%.*s\"", path, n + 1,
                     (int)cch_utf8_cut(text + at, stop - at, 80), text + at);
    }
    if (n == 0) CCH_FAIL(err, CCH_E_FORMAT, -1, "%s is empty", path);
    return CCH_OK;
}

typedef struct bert_options {
    bool lowercase, strip_accents, chinese;
} bert_options;

static cch_status read_flag(cch_json config, const char *key, bool otherwise, bool *out, cch_error *err) {
    cch_json value;
    *out = otherwise;
    return cch_json_has(config, key, &value) ? cch_json_get_bool(value, out, err) : CCH_OK;
}

/* Options of which one value is supported, and what would be tokens beyond those of vocab.txt. */
static cch_status check_options(cch_json config, cch_error *err) {
    cch_json value;
    const char *text;
    size_t len;
    bool basic;
    CCH_RETURN_IF(read_flag(config, "do_basic_tokenize", true, &basic, err));
    if (!basic && cch_json_find(config, "do_basic_tokenize", &value)) return cch_json_refuse(value, "true", err);
    if (cch_json_has(config, "never_split", &value) && cch_json_len(value) > 0)
        return cch_json_refuse(value, "null", err);
    if (cch_json_has(config, "added_tokens_decoder", &value) && cch_json_len(value) > 0)
        return cch_json_refuse(value, "a tokenizer.json for a tokenizer with added tokens", err);
    if (!cch_json_has(config, "tokenizer_class", &value)) return CCH_OK;
    CCH_RETURN_IF(cch_json_get_string(value, &text, &len, err));
    if (cch_json_is(text, len, "BertTokenizer") || cch_json_is(text, len, "BertTokenizerFast")) return CCH_OK;
    return cch_json_refuse(value, "BertTokenizer, BertTokenizerFast", err);
}

/* "[CLS]", or {"content": "[CLS]", ...}, under `key`; `otherwise` when it is absent. */
static cch_status special_text(cch_json config, const char *key, const char *otherwise, const char **out,
                               size_t *out_len, cch_error *err) {
    cch_json value, content;
    *out = otherwise;
    *out_len = strlen(otherwise);
    if (!cch_json_has(config, key, &value)) return CCH_OK;
    if (cch_json_find(value, "content", &content)) value = content;
    return cch_json_get_string(value, out, out_len, err);
}

/* The five special tokens; those of the template must be in the vocabulary. */
static cch_status load_specials(cch_tokenizer *tok, cch_json config, cch_error *err) {
    static const struct { const char *key, *otherwise; bool needed; } specials[] = {
        {"unk_token", "[UNK]", true}, {"cls_token", "[CLS]", true}, {"sep_token", "[SEP]", true},
        {"pad_token", "[PAD]", false}, {"mask_token", "[MASK]", false}};
    int32_t ids[sizeof specials / sizeof *specials];
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
        const char *text;
        size_t len;
        CCH_RETURN_IF(special_text(config, specials[i].key, specials[i].otherwise, &text, &len, err));
        if (!specials[i].needed && !cch_strmap_find(tok->vocab, text, len, NULL)) continue;
        CCH_RETURN_IF(find_token(tok->vocab, text, len, specials[i].key, &ids[i], err));
        CCH_RETURN_IF(cch_load_added(tok, text, len, (cch_added){.id = ids[i], .special = true}, err));
    }
    tok->wordpiece.unk_id = ids[0];
    tok->prefix = cch_alloc(1, sizeof *tok->prefix);
    tok->suffix = cch_alloc(1, sizeof *tok->suffix);
    if (tok->prefix == NULL || tok->suffix == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate a template");
    tok->n_prefix = tok->n_suffix = 1;
    *tok->prefix = ids[1];
    *tok->suffix = ids[2];
    return CCH_OK;
}

static cch_status load_config(cch_tokenizer *tok, cch_json config, cch_error *err) {
    bert_options options;
    CCH_RETURN_IF(check_options(config, err));
    CCH_RETURN_IF(read_flag(config, "do_lower_case", true, &options.lowercase, err));
    CCH_RETURN_IF(read_flag(config, "strip_accents", options.lowercase, &options.strip_accents, err));
    CCH_RETURN_IF(read_flag(config, "tokenize_chinese_chars", true, &options.chinese, err));
    cch_normalizer_add_bert(&tok->normalizer, true, options.chinese, options.strip_accents, options.lowercase);
    return load_specials(tok, config, err);
}

cch_status cch_load_vocab_txt(cch_tokenizer *tok, const char *vocab_path, const char *config_path, cch_error *err) {
    cch_status status = CCH_OK;
    cch_wordpiece *wp = begin(tok);
    cch_json_doc *doc = NULL;
    char *text = NULL;
    size_t len;
    CCH_TRY(cch_file_read(vocab_path, &text, &len, err));
    CCH_TRY(load_lines(&wp->vocab, text, len, vocab_path, err));
    CCH_TRY(set_prefix(wp, DEFAULT_PREFIX, sizeof DEFAULT_PREFIX - 1, err));
    wp->max_chars = DEFAULT_MAX_CHARS;
    tok->pretok.stages[0].split = cch_split_bert;
    tok->pretok.stages[0].drops_spaces = true;
    tok->pretok.n_stages = 1;
    CCH_TRY(cch_path_exists(config_path) ? cch_json_open(config_path, CCH_JSON_DEPTH, &doc, err)
                                         : cch_json_parse("{}", 2, config_path, CCH_JSON_DEPTH, &doc, err));
    CCH_TRY(load_config(tok, cch_json_root(doc), err));
    CCH_TRY(cch_decode_wordpiece(&tok->decode, DEFAULT_PREFIX, sizeof DEFAULT_PREFIX - 1, true, err));
done:
    cch_free(text);
    cch_json_close(doc);
    return status;
}
