#include "io/checkpoint.h"

#include <stdio.h> /* snprintf */
#include <string.h>

#include "base/utf8.h"

#define THETA_DEFAULT 10000.0
#define NORM_EPS 1e-5f

typedef struct fields {
    const cch_pickle *p;
    const cch_pickle_value *dict;
    const char *path;
    cch_error *err;
} fields;

static const char *const known[] = {"V", "T", "C", "L", "H", "D", "d_ff", "dropout", "rope_theta"};

static cch_status read_int(const fields *f, const char *name, int64_t max, int32_t *out) {
    const cch_pickle_value *v = cch_pickle_find(f->p, f->dict, name);
    if (v == NULL) CCH_FAIL(f->err, CCH_E_FORMAT, -1, "%s: model_cfg has no %s", f->path, name);
    if (v->kind != CCH_PICKLE_INT)
        CCH_FAIL(f->err, CCH_E_FORMAT, -1, "%s: %s of model_cfg is %s, expected an int", f->path, name,
                 cch_pickle_kind_name(v));
    if (v->as.integer < 1 || v->as.integer > max)
        CCH_FAIL(f->err, CCH_E_FORMAT, -1, "%s: %s of model_cfg is %lld, allowed: 1 to %lld", f->path, name,
                 (long long)v->as.integer, (long long)max);
    *out = (int32_t)v->as.integer;
    return CCH_OK;
}

static cch_status read_theta(const fields *f, float *out) {
    const cch_pickle_value *v = cch_pickle_find(f->p, f->dict, "rope_theta");
    double theta = THETA_DEFAULT;
    if (v != NULL && v->kind == CCH_PICKLE_INT) theta = (double)v->as.integer;
    else if (v != NULL && v->kind == CCH_PICKLE_FLOAT) theta = v->as.real;
    else if (v != NULL)
        CCH_FAIL(f->err, CCH_E_FORMAT, -1, "%s: rope_theta of model_cfg is %s, expected a number", f->path,
                 cch_pickle_kind_name(v));
    if (!(theta > 0 && theta <= 1e30)) /* also NaN */
        CCH_FAIL(f->err, CCH_E_FORMAT, -1, "%s: rope_theta of model_cfg is %g, allowed: above 0, to 1e30", f->path,
                 theta);
    *out = (float)theta;
    return CCH_OK;
}

static cch_status read_head_dim(const fields *f, cch_config *c) {
    const cch_pickle_value *v = cch_pickle_find(f->p, f->dict, "D");
    c->head_dim = c->hidden_size / c->n_heads;
    if (c->hidden_size % c->n_heads != 0 || c->head_dim % 2 != 0 || c->head_dim > CCH_MAX_HEAD_DIM)
        CCH_FAIL(f->err, CCH_E_FORMAT, -1, "%s: C %d over H %d of model_cfg is no even head size up to %d", f->path,
                 c->hidden_size, c->n_heads, CCH_MAX_HEAD_DIM);
    if (v != NULL && (v->kind != CCH_PICKLE_INT || v->as.integer != c->head_dim))
        CCH_FAIL(f->err, CCH_E_FORMAT, -1, "%s: D of model_cfg is not C %d over H %d, which is %d", f->path,
                 c->hidden_size, c->n_heads, c->head_dim);
    return CCH_OK;
}

/* Names the fields that nothing is known about. */
static void warn_of_unknown(const fields *f, char warning[CCH_WARNING_TEXT]) {
    int n = 0;
    warning[0] = '\0';
    for (size_t i = 0; i < f->dict->n; i += 2) {
        const cch_pickle_value *key = cch_pickle_item(f->p, f->dict, i);
        char shown[CCH_UTF8_SHOWN] = "";
        bool is_known = key->kind == CCH_PICKLE_TEXT && key->n > 0 && key->as.bytes[0] == '_';
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) is_known |= cch_pickle_is_text(key, known[k]);
        if (is_known || n >= CCH_WARNING_TEXT - 1) continue;
        if (key->kind == CCH_PICKLE_TEXT) cch_utf8_show(key->as.bytes, key->n, shown);
        n += snprintf(warning + n, CCH_WARNING_TEXT - (size_t)n, "%s%s",
                      n == 0 ? "model_cfg has unknown fields: " : ", ",
                      key->kind == CCH_PICKLE_TEXT ? shown : cch_pickle_kind_name(key));
    }
}

static cch_status find_generation(const cch_torchfile *file, const char *path, int32_t *out, cch_error *err) {
    const bool first = cch_tensors_find(file->tensors, "blocks.0.mlp.fc1.weight") != NULL;
    const bool second = cch_tensors_find(file->tensors, "blocks.0.mlp.fc_a.weight") != NULL;
    if (first == second)
        CCH_FAIL(err, CCH_E_FORMAT, -1,
                 "%s: has %s blocks.0.mlp.fc1.weight %s blocks.0.mlp.fc_a.weight, by which generations are told apart",
                 path, first ? "both" : "neither", first ? "and" : "nor");
    *out = first ? 1 : 2;
    return CCH_OK;
}

static cch_status read_config(const fields *f, int32_t generation, cch_config *c) {
    *c = (cch_config){.norm = generation == 1 ? CCH_NORM_LAYER : CCH_NORM_RMS, .norm_eps = NORM_EPS,
                      .norm_bias = generation == 1, .gated_mlp = generation == 2, .mlp_bias = true,
                      .activation = generation == 1 ? CCH_ACT_GELU_ERF : CCH_ACT_SILU, .tie_word_embeddings = true,
                      .position = CCH_POSITION_ROPE, .rope_type = CCH_ROPE_PAIRS, .bos_token_id = -1,
                      .pad_token_id = -1};
    snprintf(c->architecture, sizeof c->architecture, "niels%d", generation);
    CCH_RETURN_IF(read_int(f, "V", CCH_MAX_VOCAB, &c->vocab_size));
    CCH_RETURN_IF(read_int(f, "T", CCH_MAX_POSITIONS, &c->max_position_embeddings));
    CCH_RETURN_IF(read_int(f, "C", CCH_MAX_HIDDEN, &c->hidden_size));
    CCH_RETURN_IF(read_int(f, "L", CCH_MAX_LAYERS, &c->n_layers));
    CCH_RETURN_IF(read_int(f, "H", CCH_MAX_HEADS, &c->n_heads));
    CCH_RETURN_IF(read_int(f, "d_ff", CCH_MAX_INTERMEDIATE, &c->intermediate_size));
    c->n_kv_heads = c->n_heads;
    CCH_RETURN_IF(read_head_dim(f, c));
    return read_theta(f, &c->rope_theta);
}

cch_status cch_config_from_checkpoint(const cch_torchfile *file, const char *path, cch_config *out,
                                      int32_t *out_generation, char warning[CCH_WARNING_TEXT], cch_error *err) {
    const cch_pickle *p = &file->pickle;
    fields f = {p, cch_pickle_find(p, cch_pickle_root(p), "model_cfg"), path, err};
    cch_config config;
    memset(out, 0, sizeof *out);
    if (f.dict == NULL || f.dict->kind != CCH_PICKLE_DICT)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s: model_cfg is %s, expected a dict", path,
                 f.dict == NULL ? "missing" : cch_pickle_kind_name(f.dict));
    CCH_RETURN_IF(find_generation(file, path, out_generation, err));
    CCH_RETURN_IF(read_config(&f, *out_generation, &config));
    warn_of_unknown(&f, warning);
    *out = config;
    return CCH_OK;
}
