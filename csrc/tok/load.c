/* Tokenizer files: tokenizer.json, GPT-2's vocab.json with merges.txt, BERT's vocab.txt, and SentencePiece's spm.model;
 * and the tokenizer of bytes, which has none.
 *
 * Hostile input: every type and range is checked; ids are bounded by CCH_MAX_TOKEN_ID and used once; a merge must name
 * tokens.  `truncation` and `padding` are the caller's policy and are not applied; everything else that would change
 * ids or text is either done or refused by name. */

#include "base/alloc.h"
#include "base/filemap.h"
#include "base/utf8.h"
#include "tok/tokenizer.h"

#define MAX_MERGES ((size_t)1 << 24)

static cch_status new_tokenizer(cch_tokenizer **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_tokenizer *tok = NULL;
    *out = NULL;
    CCH_ZNEW(tok, 1, err);
    atomic_init(&tok->refs, 1);
    tok->bpe.unk_id = -1;
    tok->vocab = &tok->bpe.vocab;
    CCH_ZNEW(tok->idle, 1, err);
    if (pthread_mutex_init(&tok->idle->mutex, NULL) != 0) {
        cch_free(tok->idle);
        tok->idle = NULL;
        CCH_THROW(err, CCH_E_MEMORY, -1, "no mutex could be had");
    }
    *out = tok;
    tok = NULL;
done:
    cch_tokenizer_unref(tok);
    return status;
}

/* ------------------------------------------------------------------------------------ vocabulary, merges ---- */

cch_status cch_load_vocab(cch_strmap *vocab, cch_json value, cch_error *err) {
    char where[CCH_JSON_TEXT];
    const char *token;
    size_t len;
    cch_json item;
    int64_t id;
    CCH_RETURN_IF(cch_json_expect(value, CCH_JSON_OBJECT, err));
    CCH_RETURN_IF(cch_strmap_reserve(vocab, cch_json_len(value), 8 * cch_json_len(value), err));
    cch_json_iter it = cch_json_members(value);
    while (cch_json_next(&it, &token, &len, &item)) {
        CCH_RETURN_IF(cch_json_get_int(item, 0, CCH_MAX_TOKEN_ID, &id, err));
        CCH_RETURN_IF(cch_strmap_put(vocab, token, len, (int32_t)id, NULL, err));
    }
    if (vocab->n == 0) CCH_FAIL(err, CCH_E_FORMAT, -1, "%s is empty", cch_json_where(value, where));
    return CCH_OK;
}

/* One merge, as "a b" or ["a", "b"]. */
static cch_status load_merge(cch_bpe *bpe, cch_json merge, size_t rank, cch_error *err) {
    char where[CCH_JSON_TEXT], shown[CCH_JSON_TEXT];
    const char *a, *b;
    size_t a_len, b_len;
    if (cch_json_get_kind(merge) == CCH_JSON_ARRAY && cch_json_len(merge) == 2) {
        CCH_RETURN_IF(cch_json_get_string(cch_json_at(merge, 0), &a, &a_len, err));
        CCH_RETURN_IF(cch_json_get_string(cch_json_at(merge, 1), &b, &b_len, err));
        return cch_bpe_add_merge(bpe, a, a_len, b, b_len, (uint32_t)rank, err);
    }
    CCH_RETURN_IF(cch_json_get_string(merge, &a, &a_len, err));
    b = memchr(a, ' ', a_len);
    if (b == NULL || memchr(b + 1, ' ', a_len - (size_t)(b + 1 - a)) != NULL)
        CCH_FAIL(err, CCH_E_FORMAT, (int64_t)rank, "%s is %s, expected two tokens with one space between",
                 cch_json_where(merge, where), cch_json_show(merge, shown));
    return cch_bpe_add_merge(bpe, a, (size_t)(b - a), b + 1, a_len - (size_t)(b + 1 - a), (uint32_t)rank, err);
}

static cch_status load_merges(cch_bpe *bpe, cch_json merges, cch_error *err) {
    size_t n = cch_json_len(merges);
    CCH_RETURN_IF(cch_json_expect(merges, CCH_JSON_ARRAY, err));
    if (n > MAX_MERGES) CCH_FAIL(err, CCH_E_FORMAT, -1, "%zu merges, allowed: at most %zu", n, MAX_MERGES);
    CCH_RETURN_IF(cch_bpe_reserve_merges(bpe, n, err));
    for (size_t i = 0; i < n; i++) CCH_RETURN_IF(load_merge(bpe, cch_json_at(merges, i), i, err));
    return CCH_OK;
}

/* The lines of merges.txt: "a b", in order of rank; lines that start with #version and empty ones are skipped. */
static cch_status load_merge_lines(cch_bpe *bpe, const char *text, size_t len, cch_error *err) {
    size_t n = 0, rank = 0;
    for (size_t i = 0; i < len; i++) n += text[i] == '\n';
    if (n >= MAX_MERGES) CCH_FAIL(err, CCH_E_FORMAT, -1, "merges.txt has %zu lines, allowed: below %zu", n, MAX_MERGES);
    CCH_RETURN_IF(cch_bpe_reserve_merges(bpe, n + 1, err));
    for (size_t at = 0, next; at < len; at = next) {
        const char *line = text + at, *end = memchr(line, '\n', len - at);
        size_t line_len = end == NULL ? len - at : (size_t)(end - line);
        next = at + line_len + 1;
        if (line_len > 0 && line[line_len - 1] == '\r') line_len--;
        if (line_len == 0 || (line_len >= 8 && memcmp(line, "#version", 8) == 0)) continue;
        const char *space = memchr(line, ' ', line_len);
        size_t a_len = space == NULL ? 0 : (size_t)(space - line);
        if (space == NULL || memchr(space + 1, ' ', line_len - a_len - 1) != NULL)
            CCH_FAIL(err, CCH_E_FORMAT, (int64_t)at,
                     "merges.txt: line \"%.*s\", expected two tokens with one space between",
                     (int)cch_utf8_cut(line, line_len, 80), line);
        CCH_RETURN_IF(cch_bpe_add_merge(bpe, line, a_len, space + 1, line_len - a_len - 1, (uint32_t)rank++, err));
    }
    return CCH_OK;
}

/* ----------------------------------------------------------------------------------------------- model ---- */

cch_status cch_load_flag(cch_json object, const char *key, bool *out, cch_error *err) {
    cch_json value;
    *out = false;
    return cch_json_has(object, key, &value) ? cch_json_get_bool(value, out, err) : CCH_OK;
}

/* An affix that marks the parts of words: only none, or an empty one. */
static cch_status check_no_affix(cch_json model, const char *key, cch_error *err) {
    cch_json value;
    const char *text;
    size_t len;
    if (!cch_json_has(model, key, &value)) return CCH_OK;
    CCH_RETURN_IF(cch_json_get_string(value, &text, &len, err));
    return len == 0 ? CCH_OK : cch_json_refuse(value, "null", err);
}

static cch_status load_options(cch_bpe *bpe, cch_json model, cch_error *err) {
    cch_json value;
    const char *text;
    size_t len;
    double dropout;
    CCH_RETURN_IF(cch_load_flag(model, "fuse_unk", &bpe->fuse_unk, err));
    CCH_RETURN_IF(cch_load_flag(model, "byte_fallback", &bpe->byte_fallback, err));
    CCH_RETURN_IF(cch_load_flag(model, "ignore_merges", &bpe->ignore_merges, err));
    CCH_RETURN_IF(check_no_affix(model, "continuing_subword_prefix", err));
    CCH_RETURN_IF(check_no_affix(model, "end_of_word_suffix", err));
    if (cch_json_has(model, "dropout", &value)) {
        CCH_RETURN_IF(cch_json_get_double(value, -1e300, 1e300, &dropout, err));
        if (dropout != 0) return cch_json_refuse(value, "null", err);
    }
    if (!cch_json_has(model, "unk_token", &value)) return CCH_OK;
    CCH_RETURN_IF(cch_json_get_string(value, &text, &len, err));
    if (!cch_strmap_find(&bpe->vocab, text, len, &bpe->unk_id))
        CCH_FAIL(err, CCH_E_FORMAT, -1, "model.unk_token \"%.*s\" is not in the vocabulary",
                 (int)cch_utf8_cut(text, len, 80), text);
    return CCH_OK;
}

static cch_status load_model(cch_tokenizer *tok, cch_json model, cch_error *err) {
    cch_json type, vocab, merges;
    const char *text;
    size_t len;
    if (cch_json_has(model, "type", &type)) {
        CCH_RETURN_IF(cch_json_get_string(type, &text, &len, err));
        if (cch_json_is(text, len, "WordPiece")) return cch_load_wordpiece(tok, model, err);
        if (!cch_json_is(text, len, "BPE")) return cch_json_refuse(type, "BPE, WordPiece", err);
    }
    CCH_RETURN_IF(cch_json_get(model, "vocab", &vocab, err));
    CCH_RETURN_IF(cch_json_get(model, "merges", &merges, err));
    CCH_RETURN_IF(cch_load_vocab(&tok->bpe.vocab, vocab, err));
    CCH_RETURN_IF(load_merges(&tok->bpe, merges, err));
    return load_options(&tok->bpe, model, err);
}

/* ---------------------------------------------------------------------------------------- added tokens ---- */

/* Puts an added token where it is looked for; one that is `normalized` in its normalized form. */
static cch_status put_added(cch_tokenizer *tok, const char *text, size_t len, cch_added token, cch_error *err) {
    cch_status status = CCH_OK;
    cch_bytes buffers[2] = {{0}, {0}};
    const char *name = text;
    size_t name_len = len;
    if (!token.normalized) return cch_added_put(&tok->added, text, len, token, err);
    CCH_TRY(cch_normalize(&tok->normalizer, true, buffers, &text, &len, err));
    if (len == 0)
        CCH_THROW(err, CCH_E_UNSUPPORTED, token.id, "added token \"%.*s\" is normalized to nothing",
                  (int)cch_utf8_cut(name, name_len, 80), name);
    CCH_TRY(cch_added_put(&tok->added_normalized, text, len, token, err));
done:
    cch_bytes_deinit(&buffers[0]);
    cch_bytes_deinit(&buffers[1]);
    return status;
}

cch_status cch_load_added(cch_tokenizer *tok, const char *text, size_t len, cch_added token, cch_error *err) {
    int32_t known = cch_tokenizer_find(tok, text, len);
    int32_t due = known >= 0 ? known : (int32_t)(tok->vocab->n + tok->added_names.n);
    if (len == 0) return CCH_OK; /* as the reference does */
    if (token.id != due)
        CCH_FAIL(err, CCH_E_UNSUPPORTED, token.id, "added token \"%.*s\" has id %d, allowed: %d, %s",
                 (int)cch_utf8_cut(text, len, 80), text, token.id, due,
                 known >= 0 ? "which it has already" : "the next one behind the vocabulary");
    if (known < 0) CCH_RETURN_IF(cch_strmap_put(&tok->added_names, text, len, token.id, NULL, err));
    return put_added(tok, text, len, token, err);
}

static cch_status load_added(cch_tokenizer *tok, cch_json list, cch_error *err) {
    CCH_RETURN_IF(cch_json_expect(list, CCH_JSON_ARRAY, err));
    for (size_t i = 0; i < cch_json_len(list); i++) {
        cch_json item = cch_json_at(list, i), value;
        cch_added token = {0};
        const char *text;
        size_t len;
        int64_t id;
        CCH_RETURN_IF(cch_json_get(item, "id", &value, err));
        CCH_RETURN_IF(cch_json_get_int(value, 0, CCH_MAX_TOKEN_ID, &id, err));
        token.id = (int32_t)id;
        CCH_RETURN_IF(cch_json_get(item, "content", &value, err));
        CCH_RETURN_IF(cch_json_get_string(value, &text, &len, err));
        CCH_RETURN_IF(cch_load_flag(item, "special", &token.special, err));
        CCH_RETURN_IF(cch_load_flag(item, "single_word", &token.single_word, err));
        CCH_RETURN_IF(cch_load_flag(item, "lstrip", &token.lstrip, err));
        CCH_RETURN_IF(cch_load_flag(item, "rstrip", &token.rstrip, err));
        token.normalized = !token.special;
        if (cch_json_has(item, "normalized", &value)) CCH_RETURN_IF(cch_json_get_bool(value, &token.normalized, err));
        CCH_RETURN_IF(cch_load_added(tok, text, len, token, err));
    }
    return CCH_OK;
}

/* --------------------------------------------------------------------------------------------- the whole ---- */

static cch_status place_tokens(cch_tokenizer *tok, const cch_strmap *map, size_t first_entry, cch_error *err) {
    size_t len, other_len;
    int32_t id;
    for (size_t i = 0; i < map->n; i++) {
        const char *text = cch_strmap_key_view(map, i, &len, &id), *other;
        if (tok->tokens[id].entry >= 0) {
            other = cch_tokenizer_token_view(tok, id, &other_len);
            CCH_FAIL(err, CCH_E_FORMAT, id, "id %d is given twice, to \"%.*s\" and \"%.*s\"", id,
                     (int)cch_utf8_cut(other, other_len, 80), other, (int)cch_utf8_cut(text, len, 80), text);
        }
        tok->tokens[id].entry = (int32_t)(first_entry + i);
    }
    return CCH_OK;
}

static void mark_special(cch_tokenizer *tok, const cch_added_set *set) {
    for (size_t i = 0; i < set->n; i++) {
        cch_token *token = &tok->tokens[set->patterns[i].token.id];
        if (set->patterns[i].token.special) token->special = token->skipped = true;
    }
}

/* Notes which tokens have a normalized form; one that reads like a special token is skipped as if it were one. */
static cch_status mark_normalized(cch_tokenizer *tok, cch_error *err) {
    for (size_t i = 0; i < tok->added_normalized.n; i++) {
        const cch_added_pattern *p = &tok->added_normalized.patterns[i];
        int32_t other = cch_tokenizer_find(tok, p->text, p->len);
        tok->tokens[p->token.id].pattern = (int32_t)i;
        if (other >= 0 && tok->tokens[other].special) tok->tokens[p->token.id].skipped = true;
    }
    for (size_t i = 0; i < tok->added.n; i++) {
        const cch_added_pattern *p = &tok->added.patterns[i];
        if (tok->tokens[p->token.id].pattern >= 0)
            CCH_FAIL(err, CCH_E_UNSUPPORTED, p->token.id, "added token \"%.*s\" is given twice, once as normalized",
                     (int)cch_utf8_cut(p->text, p->len, 80), p->text);
    }
    return CCH_OK;
}

static cch_status finish_model(cch_tokenizer *tok, cch_error *err) {
    if (tok->kind == CCH_TOKENIZER_WORDPIECE) return cch_wordpiece_finish(&tok->wordpiece, err);
    if (tok->kind == CCH_TOKENIZER_UNIGRAM) return cch_unigram_finish(&tok->unigram, err);
    return cch_bpe_finish(&tok->bpe, err);
}

/* Builds what is derived from vocabulary, merges and added tokens: the table of tokens and the model's data. */
static cch_status index_tokens(cch_tokenizer *tok, cch_error *err) {
    cch_status status = CCH_OK;
    const cch_strmap *maps[2] = {tok->vocab, &tok->added_names};
    size_t len;
    int32_t id;
    for (int m = 0; m < 2; m++) {
        for (size_t i = 0; i < maps[m]->n; i++) {
            cch_strmap_key_view(maps[m], i, &len, &id);
            if (id >= tok->size) tok->size = id + 1;
        }
    }
    tok->n_ids = tok->size;
    CCH_NEW(tok->tokens, (size_t)tok->size, err);
    for (id = 0; id < tok->size; id++) tok->tokens[id] = (cch_token){-1, -1, false, false};
    CCH_TRY(place_tokens(tok, tok->vocab, 0, err));
    CCH_TRY(place_tokens(tok, &tok->added_names, tok->vocab->n, err));
    mark_special(tok, &tok->added);
    mark_special(tok, &tok->added_normalized);
    CCH_TRY(cch_added_ready(&tok->added, err));
    CCH_TRY(cch_added_ready(&tok->added_normalized, err));
    CCH_TRY(mark_normalized(tok, err));
    tok->bpe.byte_alphabet = tok->pretok.bytes;
    CCH_TRY(finish_model(tok, err));
done:
    return status;
}

static cch_status open_json(const char *path, cch_tokenizer *tok, cch_error *err) {
    cch_status status = CCH_OK;
    cch_json_doc *doc = NULL;
    cch_json root, part;
    CCH_TRY(cch_json_open(path, CCH_JSON_DEPTH, &doc, err));
    root = cch_json_root(doc);
    CCH_TRY(cch_json_get(root, "model", &part, err));
    CCH_TRY(load_model(tok, part, err));
    if (cch_json_has(root, "normalizer", &part)) CCH_TRY(cch_load_normalizer(tok, part, err));
    if (cch_json_has(root, "pre_tokenizer", &part)) CCH_TRY(cch_load_pretok(tok, part, err));
    if (cch_json_has(root, "added_tokens", &part)) CCH_TRY(load_added(tok, part, err));
    CCH_TRY(index_tokens(tok, err));
    if (cch_json_has(root, "post_processor", &part)) CCH_TRY(cch_load_template(tok, part, err));
    if (cch_json_has(root, "decoder", &part)) CCH_TRY(cch_load_decoder(tok, part, err));
    else tok->decode.join_spaces = true;
    CCH_TRY(cch_decode_plan_finish(&tok->decode, tok, err));
done:
    cch_json_close(doc);
    return status;
}

/* GPT-2's own files: byte-level with its pattern; <|endoftext|>, where the vocabulary has it, is special. */
static cch_status open_gpt2(const char *vocab_path, const char *merges_path, cch_tokenizer *tok, cch_error *err) {
    static const char end_of_text[] = "<|endoftext|>";
    cch_status status = CCH_OK;
    cch_json_doc *doc = NULL;
    char *text = NULL;
    size_t len;
    cch_added token = {.special = true};
    CCH_TRY(cch_json_open(vocab_path, CCH_JSON_DEPTH, &doc, err));
    CCH_TRY(cch_load_vocab(&tok->bpe.vocab, cch_json_root(doc), err));
    CCH_TRY(cch_file_read(merges_path, &text, &len, err));
    CCH_TRY(load_merge_lines(&tok->bpe, text, len, err));
    tok->pretok.stages[0].split = cch_split_gpt2;
    tok->pretok.n_stages = 1;
    tok->pretok.bytes = tok->decode.bytes = true;
    token.id = cch_tokenizer_find(tok, end_of_text, sizeof end_of_text - 1);
    if (token.id >= 0) CCH_TRY(cch_load_added(tok, end_of_text, sizeof end_of_text - 1, token, err));
    CCH_TRY(index_tokens(tok, err));
    CCH_TRY(cch_decode_plan_finish(&tok->decode, tok, err));
done:
    cch_free(text);
    cch_json_close(doc);
    return status;
}

/* BERT's own files. */
static cch_status open_vocab_txt(const char *vocab_path, const char *config_path, cch_tokenizer *tok, cch_error *err) {
    CCH_RETURN_IF(cch_load_vocab_txt(tok, vocab_path, config_path, err));
    CCH_RETURN_IF(index_tokens(tok, err));
    return cch_decode_plan_finish(&tok->decode, tok, err);
}

static cch_status open_pieces(const char *path, cch_tokenizer *tok, cch_error *err) {
    CCH_RETURN_IF(cch_load_pieces(tok, path, err));
    CCH_RETURN_IF(index_tokens(tok, err));
    cch_mark_pieces(tok);
    tok->decode.unigram = &tok->unigram;
    return cch_decode_plan_finish(&tok->decode, tok, err);
}

cch_status cch_tokenizer_open_pieces(const char *path, cch_tokenizer **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_tokenizer *tok = NULL;
    *out = NULL;
    CCH_TRY(new_tokenizer(&tok, err));
    CCH_TRY(open_pieces(path, tok, err));
    *out = tok;
    tok = NULL;
done:
    cch_tokenizer_unref(tok);
    return status;
}

cch_status cch_tokenizer_new_bytes(cch_tokenizer **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_tokenizer *tok = NULL;
    char spelling[4];
    *out = NULL;
    CCH_TRY(new_tokenizer(&tok, err));
    tok->kind = CCH_TOKENIZER_BYTES;
    for (int32_t byte = 0; byte < 256; byte++) {
        size_t len = cch_utf8_encode(cch_byte_to_char((uint8_t)byte), spelling);
        CCH_TRY(cch_strmap_put(tok->vocab, spelling, len, byte, NULL, err));
    }
    CCH_TRY(cch_bpe_reserve_merges(&tok->bpe, 0, err));
    tok->pretok.bytes = tok->decode.bytes = true;
    CCH_TRY(index_tokens(tok, err));
    CCH_TRY(cch_decode_plan_finish(&tok->decode, tok, err));
    *out = tok;
    tok = NULL;
done:
    cch_tokenizer_unref(tok);
    return status;
}

static bool ends_in(const char *text, const char *end) {
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

cch_status cch_tokenizer_open(const char *path, cch_tokenizer **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_tokenizer *tok = NULL;
    char *json = NULL, *vocab = NULL, *merges = NULL, *words = NULL, *config = NULL, *pieces = NULL;
    *out = NULL;
    CCH_TRY(cch_path_join(path, "tokenizer.json", &json, err));
    CCH_TRY(cch_path_join(path, "vocab.json", &vocab, err));
    CCH_TRY(cch_path_join(path, "merges.txt", &merges, err));
    CCH_TRY(cch_path_join(path, "vocab.txt", &words, err));
    CCH_TRY(cch_path_join(path, "tokenizer_config.json", &config, err));
    CCH_TRY(cch_path_join(path, CCH_PIECES_FILE, &pieces, err));
    CCH_TRY(new_tokenizer(&tok, err));
    if (cch_path_exists(json)) CCH_TRY(open_json(json, tok, err));
    else if (cch_path_exists(vocab) || cch_path_exists(merges)) CCH_TRY(open_gpt2(vocab, merges, tok, err));
    else if (cch_path_exists(words)) CCH_TRY(open_vocab_txt(words, config, tok, err));
    else if (cch_path_exists(pieces)) CCH_TRY(open_pieces(pieces, tok, err));
    else if (ends_in(path, ".model")) CCH_TRY(open_pieces(path, tok, err));
    else CCH_TRY(open_json(path, tok, err));
    *out = tok;
    tok = NULL;
done:
    cch_tokenizer_unref(tok);
    cch_free(json);
    cch_free(vocab);
    cch_free(merges);
    cch_free(words);
    cch_free(config);
    cch_free(pieces);
    return status;
}
