#include "io/sentence.h"

#include <string.h>

#include "base/alloc.h"
#include "base/filemap.h"
#include "io/json.h"

/* Opens <folder>/<name>; *out is NULL when there is none. */
static cch_status open_file(const char *folder, const char *name, cch_json_doc **out, cch_error *err) {
    cch_status status = CCH_OK;
    char *path = NULL;
    *out = NULL;
    CCH_TRY(cch_path_join(folder, name, &path, err));
    if (cch_path_exists(path)) CCH_TRY(cch_json_open(path, CCH_JSON_DEPTH, out, err));
done:
    cch_free(path);
    return status;
}

/* ---------------------------------------------------------------------------------------------- pooling ---- */

typedef struct mode {
    const char *key; /* a flag of the file, or a value of pooling_mode */
    bool supported;
    cch_pooling pooling;
} mode;

/* One of a number of flags. */
static cch_status read_flags(cch_json root, cch_pooling *out, cch_error *err) {
    static const mode modes[] = {
        {"pooling_mode_mean_tokens", true, CCH_POOL_MEAN},  {"pooling_mode_cls_token", true, CCH_POOL_CLS},
        {"pooling_mode_lasttoken", true, CCH_POOL_LAST},    {"pooling_mode_max_tokens", false, 0},
        {"pooling_mode_mean_sqrt_len_tokens", false, 0},    {"pooling_mode_weightedmean_tokens", false, 0}};
    char where[CCH_JSON_TEXT];
    int chosen = 0;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        cch_json value;
        bool flag;
        if (!cch_json_has(root, modes[i].key, &value)) continue;
        CCH_RETURN_IF(cch_json_get_bool(value, &flag, err));
        if (flag && !modes[i].supported)
            return cch_json_refuse(value, "pooling_mode_mean_tokens, pooling_mode_cls_token, pooling_mode_lasttoken",
                                   err);
        if (flag) *out = modes[i].pooling;
        chosen += flag;
    }
    if (chosen == 1) return CCH_OK;
    CCH_FAIL(err, CCH_E_UNSUPPORTED, -1, "%s has %d pooling modes, supported: one", cch_json_where(root, where),
             chosen);
}

/* "pooling_mode": "mean", as newer files have it. */
static cch_status read_mode(cch_json value, cch_pooling *out, cch_error *err) {
    static const mode modes[] = {{"mean", true, CCH_POOL_MEAN}, {"cls", true, CCH_POOL_CLS},
                                 {"lasttoken", true, CCH_POOL_LAST}};
    const char *text;
    size_t len;
    CCH_RETURN_IF(cch_json_get_string(value, &text, &len, err));
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        *out = modes[i].pooling;
        if (cch_json_is(text, len, modes[i].key)) return CCH_OK;
    }
    return cch_json_refuse(value, "mean, cls, lasttoken", err);
}

static cch_status read_pooling(cch_json root, cch_pooling *out, cch_error *err) {
    cch_json value;
    CCH_RETURN_IF(cch_json_expect(root, CCH_JSON_OBJECT, err));
    return cch_json_has(root, "pooling_mode", &value) ? read_mode(value, out, err) : read_flags(root, out, err);
}

/* The pooling's own folder; its path comes from a file, so it may only be a name in the model's folder. */
static cch_status open_pooling(const char *folder, cch_json module, cch_pooling *out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_json_doc *doc = NULL;
    cch_json value;
    char *inner = NULL;
    const char *name;
    size_t len;
    CCH_TRY(cch_json_get(module, "path", &value, err));
    CCH_TRY(cch_json_get_string(value, &name, &len, err));
    if (len == 0 || strlen(name) != len || strchr(name, '/') != NULL || strcmp(name, "..") == 0)
        CCH_TRY(cch_json_refuse(value, "the name of a folder beside modules.json", err));
    CCH_TRY(cch_path_join(folder, name, &inner, err));
    CCH_TRY(open_file(inner, "config.json", &doc, err));
    if (doc == NULL) CCH_THROW(err, CCH_E_IO, -1, "%s has no config.json", inner);
    CCH_TRY(read_pooling(cch_json_root(doc), out, err));
done:
    cch_json_close(doc);
    cch_free(inner);
    return status;
}

/* -------------------------------------------------------------------------------------------- the stages ---- */

/* The last part of a module's type: "sentence_transformers.models.Pooling" is a "Pooling". */
static cch_status read_type(cch_json module, cch_json *out_value, const char **out, cch_error *err) {
    size_t len;
    CCH_RETURN_IF(cch_json_get(module, "type", out_value, err));
    CCH_RETURN_IF(cch_json_get_string(*out_value, out, &len, err));
    const char *dot = strrchr(*out, '.');
    if (dot != NULL) *out = dot + 1;
    return CCH_OK;
}

static cch_status read_modules(const char *folder, cch_json root, cch_pooling *out, cch_error *err) {
    static const char *const stages[] = {"Transformer", "Pooling", "Normalize"};
    char where[CCH_JSON_TEXT];
    CCH_RETURN_IF(cch_json_expect(root, CCH_JSON_ARRAY, err));
    for (size_t i = 0; i < cch_json_len(root); i++) {
        cch_json module = cch_json_at(root, i), value;
        const char *type;
        CCH_RETURN_IF(read_type(module, &value, &type, err));
        if (i >= sizeof stages / sizeof *stages || strcmp(type, stages[i]) != 0)
            return cch_json_refuse(value, "Transformer, Pooling and perhaps Normalize, in this order", err);
        if (i == 1) CCH_RETURN_IF(open_pooling(folder, module, out, err));
    }
    if (cch_json_len(root) >= 2) return CCH_OK;
    CCH_FAIL(err, CCH_E_UNSUPPORTED, -1, "%s has %zu stages, supported: Transformer, Pooling and perhaps Normalize",
             cch_json_where(root, where), cch_json_len(root));
}

/* --------------------------------------------------------------------------------------- length and prompts ---- */

/* A number of tokens under `key` makes *limit smaller; some files write a huge one, or 1e30, for none. */
static cch_status read_limit(cch_json root, const char *key, int32_t *limit, bool *out_found, cch_error *err) {
    cch_json value;
    double number;
    *out_found = cch_json_has(root, key, &value);
    if (!*out_found) return CCH_OK;
    CCH_RETURN_IF(cch_json_get_double(value, 1, 1e300, &number, err));
    if (number < *limit) *limit = (int32_t)number;
    return CCH_OK;
}

/* An option that would change what is read unless it has this value. */
static cch_status check_string(cch_json root, const char *key, const char *wanted, cch_error *err) {
    cch_json value;
    const char *text;
    size_t len;
    if (!cch_json_has(root, key, &value)) return CCH_OK;
    CCH_RETURN_IF(cch_json_get_string(value, &text, &len, err));
    return cch_json_is(text, len, wanted) ? CCH_OK : cch_json_refuse(value, wanted, err);
}

static cch_status read_transformer(cch_json root, int32_t *limit, bool *out_found, cch_error *err) {
    cch_json value;
    bool lowercase = false;
    if (cch_json_has(root, "do_lower_case", &value)) CCH_RETURN_IF(cch_json_get_bool(value, &lowercase, err));
    if (lowercase) return cch_json_refuse(value, "false", err);
    return read_limit(root, "max_seq_length", limit, out_found, err);
}

/* Only the Transformer's own limit or, where it has none, the tokenizer's. */
static cch_status read_lengths(const char *folder, int32_t *limit, cch_error *err) {
    cch_status status = CCH_OK;
    cch_json_doc *transformer = NULL, *tokenizer = NULL;
    bool found = false;
    CCH_TRY(open_file(folder, "sentence_bert_config.json", &transformer, err));
    if (transformer != NULL) CCH_TRY(read_transformer(cch_json_root(transformer), limit, &found, err));
    CCH_TRY(open_file(folder, "tokenizer_config.json", &tokenizer, err));
    if (tokenizer != NULL) CCH_TRY(check_string(cch_json_root(tokenizer), "truncation_side", "right", err));
    if (tokenizer != NULL && !found)
        CCH_TRY(read_limit(cch_json_root(tokenizer), "model_max_length", limit, &found, err));
done:
    cch_json_close(transformer);
    cch_json_close(tokenizer);
    return status;
}

/* A prompt that is put in front of every text. */
static cch_status check_prompt(const char *folder, cch_error *err) {
    cch_json_doc *doc = NULL;
    cch_json value;
    cch_status status = open_file(folder, "config_sentence_transformers.json", &doc, err);
    if (status == CCH_OK && doc != NULL && cch_json_has(cch_json_root(doc), "default_prompt_name", &value))
        status = cch_json_refuse(value, "null", err);
    cch_json_close(doc);
    return status;
}

cch_status cch_sentence_open(const char *folder, const cch_config *config, cch_sentence *out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_json_doc *modules = NULL;
    cch_sentence s = {CCH_POOL_MEAN, config->max_position_embeddings};
    *out = (cch_sentence){0};
    CCH_TRY(open_file(folder, "modules.json", &modules, err));
    if (modules != NULL) CCH_TRY(read_modules(folder, cch_json_root(modules), &s.pooling, err));
    CCH_TRY(read_lengths(folder, &s.max_tokens, err));
    CCH_TRY(check_prompt(folder, err));
    *out = s;
done:
    cch_json_close(modules);
    return status;
}
