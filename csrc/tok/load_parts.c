/* Normalizer, pre-tokenizer, decoder and template of tokenizer.json.  Every type that is not known is refused by name;
 * every option that would change the result and is not supported is refused with its value. */
#include "base/alloc.h"
#include "base/utf8.h"
#include "tok/tokenizer.h"

static cch_status get_string(cch_json object, const char *key, const char **out, size_t *out_len, cch_error *err) {
    cch_json value;
    CCH_RETURN_IF(cch_json_get(object, key, &value, err));
    return cch_json_get_string(value, out, out_len, err);
}

/* Member `key`, `otherwise` when it is absent. */
static cch_status get_bool(cch_json object, const char *key, bool otherwise, bool *out, cch_error *err) {
    cch_json value;
    *out = otherwise;
    return cch_json_find(object, key, &value) ? cch_json_get_bool(value, out, err) : CCH_OK;
}

typedef struct part { /* one `type` that is understood */
    const char *type;
    cch_status (*load)(cch_tokenizer *tok, cch_json value, cch_error *err);
} part;

/* Calls the loader of value.type; `supported` lists the types for the message. */
static cch_status dispatch(const part *parts, size_t n, const char *supported, cch_tokenizer *tok, cch_json value,
                           cch_error *err) {
    cch_json type;
    const char *name;
    size_t len;
    CCH_RETURN_IF(cch_json_get(value, "type", &type, err));
    CCH_RETURN_IF(cch_json_get_string(type, &name, &len, err));
    for (size_t i = 0; i < n; i++)
        if (cch_json_is(name, len, parts[i].type)) return parts[i].load(tok, value, err);
    return cch_json_refuse(type, supported, err);
}

/* Calls `load` for each element of the array `key`. */
static cch_status each(cch_tokenizer *tok, cch_json object, const char *key,
                       cch_status (*load)(cch_tokenizer *, cch_json, cch_error *), cch_error *err) {
    cch_json list;
    CCH_RETURN_IF(cch_json_get(object, key, &list, err));
    CCH_RETURN_IF(cch_json_expect(list, CCH_JSON_ARRAY, err));
    for (size_t i = 0; i < cch_json_len(list); i++) CCH_RETURN_IF(load(tok, cch_json_at(list, i), err));
    return CCH_OK;
}

/* The literal pattern {"String": ...} of a Replace. */
static cch_status get_literal(cch_json object, const char **out, size_t *out_len, cch_error *err) {
    cch_json pattern, literal;
    CCH_RETURN_IF(cch_json_get(object, "pattern", &pattern, err));
    if (!cch_json_find(pattern, "String", &literal)) return cch_json_refuse(pattern, "{\"String\": ...}", err);
    CCH_RETURN_IF(cch_json_get_string(literal, out, out_len, err));
    return *out_len == 0 ? cch_json_refuse(literal, "a text that is not empty", err) : CCH_OK;
}

static cch_status copy_text(const char *text, size_t len, char **out, size_t *out_len, cch_error *err) {
    *out = cch_strndup(text, len);
    if (*out == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes", len);
    *out_len = len;
    return CCH_OK;
}

/* ------------------------------------------------------------------------------------------------- normalizer ---- */

#define NORMALIZERS "BertNormalizer, Lowercase, NFC, NFD, Prepend, Replace, Sequence"

static cch_status new_normalizer_step(cch_tokenizer *tok, cch_json value, int kind, struct cch_normalizer_step **out,
                                      cch_error *err) {
    if (tok->normalizer.n_steps == CCH_NORMALIZER_STEPS) return cch_json_refuse(value, "at most 8 normalizers", err);
    *out = &tok->normalizer.steps[tok->normalizer.n_steps++];
    (*out)->kind = kind;
    return CCH_OK;
}

static cch_status load_nfc(cch_tokenizer *tok, cch_json value, cch_error *err) {
    struct cch_normalizer_step *step = NULL;
    return new_normalizer_step(tok, value, CCH_NORMALIZE_NFC, &step, err);
}

static cch_status load_nfd(cch_tokenizer *tok, cch_json value, cch_error *err) {
    struct cch_normalizer_step *step = NULL;
    return new_normalizer_step(tok, value, CCH_NORMALIZE_NFD, &step, err);
}

static cch_status load_lowercase(cch_tokenizer *tok, cch_json value, cch_error *err) {
    struct cch_normalizer_step *step = NULL;
    CCH_RETURN_IF(new_normalizer_step(tok, value, CCH_NORMALIZE_FOLD, &step, err));
    step->fold = CCH_FOLD_LOWER;
    return CCH_OK;
}

/* strip_accents null means: when lowercasing. */
static cch_status load_bert(cch_tokenizer *tok, cch_json value, cch_error *err) {
    cch_json accents;
    bool clean, chinese, lowercase, strip;
    CCH_RETURN_IF(get_bool(value, "clean_text", true, &clean, err));
    CCH_RETURN_IF(get_bool(value, "handle_chinese_chars", true, &chinese, err));
    CCH_RETURN_IF(get_bool(value, "lowercase", true, &lowercase, err));
    strip = lowercase;
    if (cch_json_has(value, "strip_accents", &accents)) CCH_RETURN_IF(cch_json_get_bool(accents, &strip, err));
    return cch_normalizer_add_bert(&tok->normalizer, clean, chinese, strip, lowercase)
               ? CCH_OK
               : cch_json_refuse(value, "at most 8 normalizers, a BertNormalizer counting as up to 5", err);
}

static cch_status load_prepend(cch_tokenizer *tok, cch_json value, cch_error *err) {
    struct cch_normalizer_step *step = NULL;
    cch_json prepend;
    const char *text;
    size_t len;
    CCH_RETURN_IF(cch_json_get(value, "prepend", &prepend, err));
    CCH_RETURN_IF(cch_json_get_string(prepend, &text, &len, err));
    if (len == 0) return cch_json_refuse(prepend, "a text that is not empty", err);
    CCH_RETURN_IF(new_normalizer_step(tok, value, CCH_NORMALIZE_PREPEND, &step, err));
    return copy_text(text, len, &step->to, &step->to_len, err);
}

static cch_status load_replace(cch_tokenizer *tok, cch_json value, cch_error *err) {
    struct cch_normalizer_step *step = NULL;
    const char *from, *to;
    size_t from_len, to_len;
    CCH_RETURN_IF(get_literal(value, &from, &from_len, err));
    CCH_RETURN_IF(get_string(value, "content", &to, &to_len, err));
    CCH_RETURN_IF(new_normalizer_step(tok, value, CCH_NORMALIZE_REPLACE, &step, err));
    CCH_RETURN_IF(copy_text(from, from_len, &step->from, &step->from_len, err));
    return copy_text(to, to_len, &step->to, &step->to_len, err);
}

static cch_status load_normalizers(cch_tokenizer *tok, cch_json value, cch_error *err) {
    return each(tok, value, "normalizers", cch_load_normalizer, err);
}

cch_status cch_load_normalizer(cch_tokenizer *tok, cch_json value, cch_error *err) {
    static const part parts[] = {
        {"NFC", load_nfc}, {"NFD", load_nfd}, {"Lowercase", load_lowercase}, {"BertNormalizer", load_bert},
        {"Prepend", load_prepend}, {"Replace", load_replace}, {"Sequence", load_normalizers}};
    return dispatch(parts, sizeof parts / sizeof parts[0], NORMALIZERS, tok, value, err);
}

/* ---------------------------------------------------------------------------------------------- pre-tokenizer ---- */

static cch_status add_stage(cch_tokenizer *tok, cch_json value, cch_splitter split, bool prefix_space, cch_error *err) {
    cch_pretok *pretok = &tok->pretok;
    if (pretok->n_stages == CCH_PRETOK_STAGES) return cch_json_refuse(value, "at most 4 pre-tokenizers", err);
    if (pretok->bytes || pretok->metaspace.len > 0)
        return cch_json_refuse(value, "nothing behind a ByteLevel or Metaspace pre-tokenizer", err);
    pretok->stages[pretok->n_stages].split = split;
    pretok->stages[pretok->n_stages++].prefix_space = prefix_space;
    return CCH_OK;
}

static cch_status load_byte_level(cch_tokenizer *tok, cch_json value, cch_error *err) {
    bool prefix_space, use_regex;
    if (tok->kind == CCH_TOKENIZER_WORDPIECE) return cch_json_refuse(value, "for WordPiece another pre-tokenizer", err);
    CCH_RETURN_IF(get_bool(value, "add_prefix_space", true, &prefix_space, err));
    CCH_RETURN_IF(get_bool(value, "use_regex", true, &use_regex, err));
    CCH_RETURN_IF(add_stage(tok, value, use_regex ? cch_split_gpt2 : NULL, prefix_space, err));
    tok->pretok.bytes = true;
    return CCH_OK;
}

static cch_status load_split(cch_tokenizer *tok, cch_json value, cch_error *err) {
    cch_json pattern, regex, behavior;
    const char *text;
    size_t len;
    bool invert;
    CCH_RETURN_IF(cch_json_get(value, "pattern", &pattern, err));
    if (!cch_json_find(pattern, "Regex", &regex))
        return cch_json_refuse(pattern, "the patterns of docs/tokenizers.md", err);
    CCH_RETURN_IF(cch_json_get_string(regex, &text, &len, err));
    cch_splitter split = cch_splitter_find(text, len);
    if (split == NULL) return cch_json_refuse(regex, "the patterns of docs/tokenizers.md", err);
    CCH_RETURN_IF(get_bool(value, "invert", false, &invert, err));
    CCH_RETURN_IF(cch_json_get(value, "behavior", &behavior, err));
    CCH_RETURN_IF(cch_json_get_string(behavior, &text, &len, err));
    /* The known patterns match everything, so nothing lies between matches: these all mean the same. */
    if (!cch_json_is(text, len, "Isolated") && !(cch_json_is(text, len, "Removed") && invert))
        return cch_json_refuse(behavior, "\"Isolated\", or \"Removed\" with invert", err);
    return add_stage(tok, value, split, false, err);
}

static cch_status load_digits(cch_tokenizer *tok, cch_json value, cch_error *err) {
    bool each_digit;
    CCH_RETURN_IF(get_bool(value, "individual_digits", false, &each_digit, err));
    return add_stage(tok, value, each_digit ? cch_split_digits : cch_split_numbers, false, err);
}

static cch_status load_bert_pretok(cch_tokenizer *tok, cch_json value, cch_error *err) {
    CCH_RETURN_IF(add_stage(tok, value, cch_split_bert, false, err));
    tok->pretok.stages[tok->pretok.n_stages - 1].drops_spaces = true;
    return CCH_OK;
}

static cch_status get_prepend(cch_json value, cch_prepend *out, cch_error *err) {
    cch_json scheme;
    const char *text;
    size_t len;
    *out = CCH_PREPEND_ALWAYS;
    if (!cch_json_find(value, "prepend_scheme", &scheme)) return CCH_OK;
    CCH_RETURN_IF(cch_json_get_string(scheme, &text, &len, err));
    if (cch_json_is(text, len, "always")) return CCH_OK;
    *out = cch_json_is(text, len, "first") ? CCH_PREPEND_FIRST : CCH_PREPEND_NEVER;
    return *out == CCH_PREPEND_FIRST || cch_json_is(text, len, "never")
               ? CCH_OK
               : cch_json_refuse(scheme, "\"always\", \"first\", \"never\"", err);
}

/* replacement, prepend_scheme and split, shared by pre-tokenizer and decoder.  Older files say add_prefix_space: it
 * must not contradict the scheme, which is "always" where it is not given. */
static cch_status get_metaspace(cch_json value, cch_metaspace *out, cch_error *err) {
    cch_json member;
    const char *text;
    size_t len;
    bool add;
    CCH_RETURN_IF(cch_json_get(value, "replacement", &member, err));
    CCH_RETURN_IF(cch_json_get_string(member, &text, &len, err));
    if (cch_utf8_decode(text, len, NULL) != len || len == 0) return cch_json_refuse(member, "one character", err);
    memcpy(out->replacement, text, len);
    out->len = len;
    CCH_RETURN_IF(get_bool(value, "split", true, &out->split, err));
    CCH_RETURN_IF(get_prepend(value, &out->prepend, err));
    CCH_RETURN_IF(get_bool(value, "add_prefix_space", true, &add, err));
    if (add || out->prepend == CCH_PREPEND_NEVER) return CCH_OK;
    CCH_RETURN_IF(cch_json_get(value, "add_prefix_space", &member, err));
    return cch_json_refuse(member, "true, or false with \"prepend_scheme\": \"never\"", err);
}

static cch_status load_metaspace(cch_tokenizer *tok, cch_json value, cch_error *err) {
    cch_metaspace metaspace;
    CCH_RETURN_IF(get_metaspace(value, &metaspace, err));
    /* The reference asks which characters of the given text a piece comes from: with these, not where it stands. */
    for (size_t i = 0; metaspace.prepend == CCH_PREPEND_FIRST && i < tok->normalizer.n_steps; i++)
        if (tok->normalizer.steps[i].kind != CCH_NORMALIZE_NFC)
            return cch_json_refuse(value, "\"prepend_scheme\": \"first\" without Prepend and Replace", err);
    if (tok->pretok.bytes || tok->pretok.metaspace.len > 0)
        return cch_json_refuse(value, "nothing behind a ByteLevel or Metaspace pre-tokenizer", err);
    tok->pretok.metaspace = metaspace;
    return CCH_OK;
}

static cch_status load_pretoks(cch_tokenizer *tok, cch_json value, cch_error *err) {
    return each(tok, value, "pretokenizers", cch_load_pretok, err);
}

cch_status cch_load_pretok(cch_tokenizer *tok, cch_json value, cch_error *err) {
    static const part parts[] = {{"ByteLevel", load_byte_level}, {"Split", load_split}, {"Digits", load_digits},
                                 {"Metaspace", load_metaspace}, {"BertPreTokenizer", load_bert_pretok},
                                 {"Sequence", load_pretoks}};
    return dispatch(parts, sizeof parts / sizeof parts[0],
                    "BertPreTokenizer, ByteLevel, Split, Digits, Metaspace, Sequence", tok, value, err);
}

/* --------------------------------------------------------------------------------------------------- decoder ---- */

static cch_status new_decode_step(cch_tokenizer *tok, cch_json value, int kind, cch_decode_step **out, cch_error *err) {
    cch_decode_plan *plan = &tok->decode;
    if (plan->n_steps == CCH_DECODE_STEPS) return cch_json_refuse(value, "at most 12 decoders", err);
    *out = &plan->steps[plan->n_steps++];
    (*out)->kind = kind;
    if (!plan->byte_fallback) plan->n_before = plan->n_steps;
    return CCH_OK;
}

static cch_status decode_replace(cch_tokenizer *tok, cch_json value, cch_error *err) {
    cch_decode_step *step = NULL;
    const char *from, *to;
    size_t from_len, to_len;
    CCH_RETURN_IF(get_literal(value, &from, &from_len, err));
    CCH_RETURN_IF(get_string(value, "content", &to, &to_len, err));
    CCH_RETURN_IF(new_decode_step(tok, value, CCH_DECODE_REPLACE, &step, err));
    CCH_RETURN_IF(copy_text(from, from_len, &step->from, &step->from_len, err));
    return copy_text(to, to_len, &step->to, &step->to_len, err);
}

static cch_status decode_strip(cch_tokenizer *tok, cch_json value, cch_error *err) {
    cch_decode_step *step = NULL;
    cch_json start, stop;
    const char *text;
    size_t len;
    int64_t count, behind;
    CCH_RETURN_IF(get_string(value, "content", &text, &len, err));
    CCH_RETURN_IF(cch_json_get(value, "start", &start, err));
    CCH_RETURN_IF(cch_json_get_int(start, 0, 1 << 30, &count, err));
    CCH_RETURN_IF(cch_json_get(value, "stop", &stop, err));
    CCH_RETURN_IF(cch_json_get_int(stop, 0, 1 << 30, &behind, err));
    if (behind != 0) return cch_json_refuse(stop, "0", err);
    if (len == 0 || cch_utf8_decode(text, len, NULL) != len)
        return cch_json_refuse(value, "a Strip of one character", err);
    CCH_RETURN_IF(new_decode_step(tok, value, CCH_DECODE_STRIP, &step, err));
    step->count = (size_t)count;
    return copy_text(text, len, &step->from, &step->from_len, err);
}

static cch_status decode_metaspace(cch_tokenizer *tok, cch_json value, cch_error *err) {
    cch_decode_step *step = NULL;
    cch_metaspace m;
    CCH_RETURN_IF(get_metaspace(value, &m, err));
    CCH_RETURN_IF(new_decode_step(tok, value, CCH_DECODE_METASPACE, &step, err));
    step->drops_first = m.prepend != CCH_PREPEND_NEVER;
    CCH_RETURN_IF(copy_text(m.replacement, m.len, &step->from, &step->from_len, err));
    return copy_text(" ", 1, &step->to, &step->to_len, err);
}

static cch_status decode_byte_fallback(cch_tokenizer *tok, cch_json value, cch_error *err) {
    if (tok->decode.byte_fallback) return cch_json_refuse(value, "one ByteFallback", err);
    tok->decode.byte_fallback = true;
    return CCH_OK;
}

static cch_status decode_step(cch_tokenizer *tok, cch_json value, cch_error *err) {
    static const part parts[] = {{"Replace", decode_replace}, {"Strip", decode_strip}, {"Metaspace", decode_metaspace},
                                 {"ByteFallback", decode_byte_fallback}};
    return dispatch(parts, sizeof parts / sizeof parts[0],
                    "Replace, Strip, Metaspace, ByteFallback, Fuse in a Sequence", tok, value, err);
}

/* Behind a Fuse there is one text: only a Strip of its start can follow. */
static cch_status decode_fused(cch_tokenizer *tok, cch_json value, cch_error *err) {
    cch_decode_plan *plan = &tok->decode;
    size_t n_steps = plan->n_steps, n_before = plan->n_before;
    CCH_RETURN_IF(decode_step(tok, value, err));
    cch_decode_step *step = &plan->steps[n_steps];
    if (plan->n_steps == n_steps || step->kind != CCH_DECODE_STRIP || plan->strip_len > 0)
        return cch_json_refuse(value, "one Strip behind Fuse", err);
    memcpy(plan->strip_char, step->from, step->from_len);
    plan->strip_len = step->from_len;
    plan->strip = step->count;
    cch_free(step->from);
    step->from = NULL;
    plan->n_steps = n_steps;
    plan->n_before = n_before;
    return CCH_OK;
}

static cch_status load_decoders(cch_tokenizer *tok, cch_json value, cch_error *err) {
    cch_json list, type;
    const char *text;
    size_t len;
    bool fused = false;
    CCH_RETURN_IF(cch_json_get(value, "decoders", &list, err));
    CCH_RETURN_IF(cch_json_expect(list, CCH_JSON_ARRAY, err));
    if (cch_json_len(list) == 1) return cch_load_decoder(tok, cch_json_at(list, 0), err);
    for (size_t i = 0; i < cch_json_len(list); i++) {
        cch_json item = cch_json_at(list, i);
        CCH_RETURN_IF(cch_json_get(item, "type", &type, err));
        CCH_RETURN_IF(cch_json_get_string(type, &text, &len, err));
        if (cch_json_is(text, len, "Fuse")) fused = true;
        else CCH_RETURN_IF(fused ? decode_fused(tok, item, err) : decode_step(tok, item, err));
    }
    return CCH_OK;
}

static cch_status decode_bytes(cch_tokenizer *tok, cch_json value, cch_error *err) {
    (void)value, (void)err; /* its options only concern the way in */
    tok->decode.bytes = true;
    return CCH_OK;
}

static cch_status decode_fuse(cch_tokenizer *tok, cch_json value, cch_error *err) {
    (void)tok, (void)value, (void)err; /* joining is what happens anyway */
    return CCH_OK;
}

static cch_status decode_wordpiece(cch_tokenizer *tok, cch_json value, cch_error *err) {
    const char *prefix;
    size_t len;
    bool cleanup;
    CCH_RETURN_IF(get_string(value, "prefix", &prefix, &len, err));
    CCH_RETURN_IF(get_bool(value, "cleanup", true, &cleanup, err));
    if (tok->decode.n_steps > 0) return cch_json_refuse(value, "one WordPiece, alone", err);
    return cch_decode_wordpiece(&tok->decode, prefix, len, cleanup, err);
}

cch_status cch_load_decoder(cch_tokenizer *tok, cch_json value, cch_error *err) {
    static const part parts[] = {
        {"ByteLevel",    decode_bytes        },
        {"Sequence",     load_decoders       },
        {"Metaspace",    decode_metaspace    },
        {"Replace",      decode_replace      },
        {"Strip",        decode_strip        },
        {"ByteFallback", decode_byte_fallback},
        {"Fuse",         decode_fuse         },
        {"WordPiece",    decode_wordpiece    }
    };
    return dispatch(parts, sizeof parts / sizeof parts[0],
                    "ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip, WordPiece, Sequence", tok, value, err);
}

/* --------------------------------------------------------------------------------------------------- template ---- */

typedef struct id_list {
    int32_t *ids; /* owned */
    size_t n;
} id_list;

static cch_status append_id(id_list *list, int32_t id, cch_error *err) {
    int32_t *grown = cch_resize(list->ids, list->n + 1, sizeof *grown);
    if (grown == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu ids", list->n + 1);
    grown[list->n++] = id;
    list->ids = grown;
    return CCH_OK;
}

/* The ids of special token `name` of the template. */
static cch_status append_special(const cch_tokenizer *tok, cch_json tokens, cch_json piece, id_list *list,
                                 cch_error *err) {
    cch_json ids, entry, item;
    const char *name;
    size_t len;
    int64_t id;
    CCH_RETURN_IF(get_string(piece, "id", &name, &len, err));
    CCH_RETURN_IF(cch_json_get(tokens, name, &entry, err));
    CCH_RETURN_IF(cch_json_get(entry, "ids", &ids, err));
    CCH_RETURN_IF(cch_json_expect(ids, CCH_JSON_ARRAY, err));
    for (size_t i = 0; i < cch_json_len(ids); i++) {
        item = cch_json_at(ids, i);
        CCH_RETURN_IF(cch_json_get_int(item, 0, tok->size - 1, &id, err));
        CCH_RETURN_IF(append_id(list, (int32_t)id, err));
    }
    return CCH_OK;
}

/* The ids in front of and behind sequence A of `single`. */
static cch_status read_single(const cch_tokenizer *tok, cch_json value, id_list *front, id_list *behind,
                              cch_error *err) {
    cch_json single, tokens, piece, id;
    const char *name;
    size_t len;
    bool seen = false;
    CCH_RETURN_IF(cch_json_get(value, "single", &single, err));
    CCH_RETURN_IF(cch_json_expect(single, CCH_JSON_ARRAY, err));
    CCH_RETURN_IF(cch_json_get(value, "special_tokens", &tokens, err));
    CCH_RETURN_IF(cch_json_expect(tokens, CCH_JSON_OBJECT, err));
    for (size_t i = 0; i < cch_json_len(single); i++) {
        cch_json item = cch_json_at(single, i);
        if (cch_json_find(item, "SpecialToken", &piece)) {
            CCH_RETURN_IF(append_special(tok, tokens, piece, seen ? behind : front, err));
            continue;
        }
        CCH_RETURN_IF(cch_json_get(item, "Sequence", &piece, err));
        CCH_RETURN_IF(cch_json_get(piece, "id", &id, err));
        CCH_RETURN_IF(cch_json_get_string(id, &name, &len, err));
        if (!cch_json_is(name, len, "A") || seen)
            return cch_json_refuse(id, "\"A\" once in a template for one text", err);
        seen = true;
    }
    return seen ? CCH_OK : cch_json_refuse(single, "a template with sequence \"A\"", err);
}

/* Takes the lists. */
static cch_status set_template(cch_tokenizer *tok, cch_json value, id_list *front, id_list *behind, cch_error *err) {
    if (tok->n_prefix + tok->n_suffix > 0) return cch_json_refuse(value, "one template", err);
    tok->prefix = front->ids;
    tok->n_prefix = front->n;
    tok->suffix = behind->ids;
    tok->n_suffix = behind->n;
    front->ids = behind->ids = NULL;
    return CCH_OK;
}

static cch_status load_template(cch_tokenizer *tok, cch_json value, cch_error *err) {
    cch_status status = CCH_OK;
    id_list front = {NULL, 0}, behind = {NULL, 0};
    CCH_TRY(read_single(tok, value, &front, &behind, err));
    CCH_TRY(set_template(tok, value, &front, &behind, err));
done:
    cch_free(front.ids);
    cch_free(behind.ids);
    return status;
}

/* The token of ["[CLS]", 101]. */
static cch_status get_pair(const cch_tokenizer *tok, cch_json object, const char *key, int64_t *out, cch_error *err) {
    cch_json pair;
    const char *text;
    size_t len;
    CCH_RETURN_IF(cch_json_get(object, key, &pair, err));
    CCH_RETURN_IF(cch_json_expect(pair, CCH_JSON_ARRAY, err));
    if (cch_json_len(pair) != 2) return cch_json_refuse(pair, "a token and its id", err);
    CCH_RETURN_IF(cch_json_get_string(cch_json_at(pair, 0), &text, &len, err));
    return cch_json_get_int(cch_json_at(pair, 1), 0, tok->size - 1, out, err);
}

/* BertProcessing and RobertaProcessing: cls in front, sep behind; their other options concern offsets. */
static cch_status load_cls_sep(cch_tokenizer *tok, cch_json value, cch_error *err) {
    cch_status status = CCH_OK;
    id_list front = {NULL, 0}, behind = {NULL, 0};
    int64_t cls, sep;
    CCH_TRY(get_pair(tok, value, "cls", &cls, err));
    CCH_TRY(get_pair(tok, value, "sep", &sep, err));
    CCH_TRY(append_id(&front, (int32_t)cls, err));
    CCH_TRY(append_id(&behind, (int32_t)sep, err));
    CCH_TRY(set_template(tok, value, &front, &behind, err));
done:
    cch_free(front.ids);
    cch_free(behind.ids);
    return status;
}

static cch_status skip_byte_level(cch_tokenizer *tok, cch_json value, cch_error *err) {
    (void)tok, (void)value, (void)err; /* trims offsets, which we do not give; ids stay */
    return CCH_OK;
}

static cch_status load_templates(cch_tokenizer *tok, cch_json value, cch_error *err) {
    return each(tok, value, "processors", cch_load_template, err);
}

cch_status cch_load_template(cch_tokenizer *tok, cch_json value, cch_error *err) {
    static const part parts[] = {
        {"ByteLevel", skip_byte_level},     {"TemplateProcessing", load_template}, {"BertProcessing", load_cls_sep},
        {"RobertaProcessing", load_cls_sep}, {"Sequence", load_templates}};
    return dispatch(parts, sizeof parts / sizeof parts[0],
                    "BertProcessing, ByteLevel, RobertaProcessing, TemplateProcessing, Sequence", tok, value, err);
}
