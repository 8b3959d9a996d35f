/* What each key means and what holds when it is absent follows transformers' configuration classes (4.x and 5.x): a
 * key that they read and that changes the arithmetic is read or refused here, one that they ignore is ignored. */
#include "io/config.h"

#include <string.h>

#include "base/alloc.h"
#include "base/filemap.h"
#include "io/json.h"
#include "io/labels.h"

/* Key names and defaults of an architecture.  Sizes have no defaults: a config without them is damaged.  A NULL key
 * means that the family has no such option. */
typedef struct family {
    const char *architecture; /* model_type of config.json */
    const char *hidden_size, *intermediate_size, *n_layers, *n_heads, *n_kv_heads, *max_position;
    const char *activation, *norm_eps;
    double norm_eps_default;
    const char *activation_default;
    int32_t n_kv_heads_default; /* 0: n_heads */
    int32_t head_dim_default;   /* 0: hidden_size / n_heads */
    int32_t bos_default, eos_default;
    cch_norm norm;
    cch_position position;
    bool gated_mlp, qk_norm, tie_default;
    bool encoder, post_norm, embedding_norm, no_first_norm;
    const char *norm_bias_key;       /* whether layer norms have biases, default no; without the key they do */
    const char *token_types;
    int32_t token_types_default;
    bool qkv_bias, o_bias, mlp_bias; /* always there */
    const char *attention_bias_key;  /* adds biases to q, k, v and o */
    const char *mlp_bias_key;
    const char *sliding_window_key;
    int32_t sliding_window_default; /* 0: none */
} family;

#define LLAMA_KEYS                                                                                                   \
    .hidden_size = "hidden_size", .intermediate_size = "intermediate_size", .n_layers = "num_hidden_layers",         \
    .n_heads = "num_attention_heads", .n_kv_heads = "num_key_value_heads", .max_position = "max_position_embeddings", \
    .activation = "hidden_act", .activation_default = "silu", .norm_eps = "rms_norm_eps", .norm_eps_default = 1e-6,  \
    .norm = CCH_NORM_RMS, .position = CCH_POSITION_ROPE, .gated_mlp = true

#define ENCODER_KEYS                                                                                                 \
    .hidden_size = "hidden_size", .intermediate_size = "intermediate_size", .n_layers = "num_hidden_layers",         \
    .n_heads = "num_attention_heads", .max_position = "max_position_embeddings", .activation_default = "gelu",       \
    .norm = CCH_NORM_LAYER, .bos_default = -1, .eos_default = -1, .encoder = true, .embedding_norm = true

static const family families[] = {
    {.architecture = "gpt2", .hidden_size = "n_embd", .intermediate_size = "n_inner", .n_layers = "n_layer",
     .n_heads = "n_head", .max_position = "n_positions", .activation = "activation_function",
     .activation_default = "gelu_new", .norm_eps = "layer_norm_epsilon", .norm_eps_default = 1e-5,
     .norm = CCH_NORM_LAYER, .position = CCH_POSITION_LEARNED, .bos_default = 50256, .eos_default = 50256,
     .qkv_bias = true, .o_bias = true, .mlp_bias = true, .tie_default = true},
    {.architecture = "llama", LLAMA_KEYS, .bos_default = 1, .eos_default = 2, .attention_bias_key = "attention_bias",
     .mlp_bias_key = "mlp_bias"},
    {.architecture = "mistral", LLAMA_KEYS, .n_kv_heads_default = 8, .bos_default = 1, .eos_default = 2,
     .sliding_window_key = "sliding_window", .sliding_window_default = 4096},
    {.architecture = "qwen2", LLAMA_KEYS, .n_kv_heads_default = 32, .bos_default = -1, .eos_default = -1,
     .qkv_bias = true},
    {.architecture = "qwen3", LLAMA_KEYS, .n_kv_heads_default = 32, .head_dim_default = 128, .bos_default = -1,
     .eos_default = -1, .qk_norm = true, .attention_bias_key = "attention_bias"},
    {.architecture = "bert", ENCODER_KEYS, .activation = "hidden_act", .norm_eps = "layer_norm_eps",
     .norm_eps_default = 1e-12, .position = CCH_POSITION_LEARNED, .post_norm = true, .qkv_bias = true, .o_bias = true,
     .mlp_bias = true, .token_types = "type_vocab_size", .token_types_default = 2},
    {.architecture = "modernbert", ENCODER_KEYS, .activation = "hidden_activation", .norm_eps = "norm_eps",
     .norm_eps_default = 1e-5, .position = CCH_POSITION_ROPE, .gated_mlp = true, .no_first_norm = true,
     .norm_bias_key = "norm_bias", .attention_bias_key = "attention_bias", .mlp_bias_key = "mlp_bias"},
};
#define N_FAMILIES (sizeof families / sizeof *families)

/* Options with one supported value.  architecture NULL: of every family. */
typedef enum wanted { WANT_TRUE, WANT_FALSE, WANT_ONE, WANT_NOTHING, WANT_ABSOLUTE } wanted;
static const struct { const char *architecture, *key; wanted want; } fixed_options[] = {
    {NULL, "quantization_config", WANT_NOTHING},
    {NULL, "pruned_heads", WANT_NOTHING},
    {NULL, "per_layer_config", WANT_NOTHING},
    {NULL, "is_encoder_decoder", WANT_FALSE},
    {NULL, "add_cross_attention", WANT_FALSE},
    {NULL, "partial_rotary_factor", WANT_ONE},
    {"gpt2", "is_causal", WANT_TRUE},
    {"llama", "is_causal", WANT_TRUE},
    {"mistral", "is_causal", WANT_TRUE},
    {"qwen2", "is_causal", WANT_TRUE},
    {"qwen3", "is_causal", WANT_TRUE},
    {"bert", "is_causal", WANT_FALSE},
    {"bert", "is_decoder", WANT_FALSE},
    {"bert", "position_embedding_type", WANT_ABSOLUTE},
    {"modernbert", "is_causal", WANT_FALSE},
    {"modernbert", "rope_scaling", WANT_NOTHING},
    {"gpt2", "scale_attn_weights", WANT_TRUE},
    {"gpt2", "scale_attn_by_inverse_layer_idx", WANT_FALSE},
    {"gpt2", "reorder_and_upcast_attn", WANT_FALSE},
    {"llama", "pretraining_tp", WANT_ONE},
    {"qwen2", "use_sliding_window", WANT_FALSE},
    {"qwen3", "use_sliding_window", WANT_FALSE},
};

static const struct { const char *name; cch_activation activation; } activations[] = {
    {"silu", CCH_ACT_SILU},           {"swish", CCH_ACT_SILU},
    {"gelu", CCH_ACT_GELU_ERF},       {"gelu_python", CCH_ACT_GELU_ERF},
    {"gelu_new", CCH_ACT_GELU_TANH},  {"gelu_pytorch_tanh", CCH_ACT_GELU_TANH},
    {"gelu_fast", CCH_ACT_GELU_TANH}, {"gelu_python_tanh", CCH_ACT_GELU_TANH},
    {"gelu_accurate", CCH_ACT_GELU_TANH}, {"relu", CCH_ACT_RELU},
};

/* ------------------------------------------------------------------------------------------------ values ---- */

static cch_status read_size(cch_json root, const char *key, int64_t max, int32_t *out, cch_error *err) {
    cch_json value;
    int64_t number;
    CCH_RETURN_IF(cch_json_get(root, key, &value, err));
    CCH_RETURN_IF(cch_json_get_int(value, 1, max, &number, err));
    *out = (int32_t)number;
    return CCH_OK;
}

/* As read_size, but absent or null gives `fallback`. */
static cch_status read_size_or(cch_json root, const char *key, int64_t max, int32_t fallback, int32_t *out,
                               cch_error *err) {
    cch_json value;
    *out = fallback;
    return cch_json_has(root, key, &value) ? read_size(root, key, max, out, err) : CCH_OK;
}

static cch_status read_float_or(cch_json root, const char *key, double min, double max, double fallback, float *out,
                                cch_error *err) {
    cch_json value;
    double number = fallback;
    if (cch_json_has(root, key, &value)) CCH_RETURN_IF(cch_json_get_double(value, min, max, &number, err));
    *out = (float)number;
    return CCH_OK;
}

static cch_status read_bool_or(cch_json root, const char *key, bool fallback, bool *out, cch_error *err) {
    cch_json value;
    *out = fallback;
    return cch_json_has(root, key, &value) ? cch_json_get_bool(value, out, err) : CCH_OK;
}

static cch_status check_fixed(cch_json root, const char *key, wanted want, cch_error *err) {
    cch_json value;
    const char *text;
    size_t len;
    bool flag;
    double number;
    if (!cch_json_has(root, key, &value)) return CCH_OK;
    switch (want) {
    case WANT_TRUE:
    case WANT_FALSE:
        CCH_RETURN_IF(cch_json_get_bool(value, &flag, err));
        return flag == (want == WANT_TRUE) ? CCH_OK : cch_json_refuse(value, want == WANT_TRUE ? "true" : "false", err);
    case WANT_ONE:
        CCH_RETURN_IF(cch_json_get_double(value, -1e300, 1e300, &number, err));
        return number >= 1 && number <= 1 ? CCH_OK : cch_json_refuse(value, "1", err);
    case WANT_NOTHING:
        return cch_json_get_kind(value) == CCH_JSON_OBJECT && cch_json_len(value) == 0
                   ? CCH_OK
                   : cch_json_refuse(value, "null", err);
    case WANT_ABSOLUTE:
        CCH_RETURN_IF(cch_json_get_string(value, &text, &len, err));
        return cch_json_is(text, len, "absolute") ? CCH_OK : cch_json_refuse(value, "absolute", err);
    }
    return CCH_OK;
}

/* ------------------------------------------------------------------------------------------------- parts ---- */

static cch_status find_family(cch_json root, const family **out, cch_error *err) {
    cch_json value;
    const char *name;
    size_t len;
    CCH_RETURN_IF(cch_json_get(root, "model_type", &value, err));
    CCH_RETURN_IF(cch_json_get_string(value, &name, &len, err));
    for (size_t i = 0; i < N_FAMILIES; i++) {
        *out = &families[i];
        if (cch_json_is(name, len, families[i].architecture)) return CCH_OK;
    }
    return cch_json_refuse(value, "gpt2, llama, mistral, qwen2, qwen3, bert, modernbert", err);
}

static cch_status read_activation(cch_json root, const family *f, cch_activation *out, cch_error *err) {
    cch_json value;
    const char *name = f->activation_default;
    size_t len = strlen(name);
    if (cch_json_has(root, f->activation, &value)) CCH_RETURN_IF(cch_json_get_string(value, &name, &len, err));
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        *out = activations[i].activation;
        if (cch_json_is(name, len, activations[i].name)) return CCH_OK;
    }
    return cch_json_refuse(value, "silu, swish, relu, gelu, gelu_python, gelu_new, gelu_pytorch_tanh, gelu_fast, "
                         "gelu_python_tanh, gelu_accurate", err);
}

static cch_status read_sizes(cch_json root, const family *f, cch_config *c, cch_error *err) {
    cch_json value;
    char where[CCH_JSON_TEXT];
    CCH_RETURN_IF(read_size(root, "vocab_size", CCH_MAX_VOCAB, &c->vocab_size, err));
    CCH_RETURN_IF(read_size(root, f->hidden_size, CCH_MAX_HIDDEN, &c->hidden_size, err));
    CCH_RETURN_IF(read_size(root, f->n_layers, CCH_MAX_LAYERS, &c->n_layers, err));
    CCH_RETURN_IF(read_size(root, f->n_heads, CCH_MAX_HEADS, &c->n_heads, err));
    CCH_RETURN_IF(read_size(root, f->max_position, CCH_MAX_POSITIONS, &c->max_position_embeddings, err));
    if (f->position == CCH_POSITION_LEARNED) /* GPT-2: n_inner null means four times as wide */
        CCH_RETURN_IF(read_size_or(root, f->intermediate_size, CCH_MAX_INTERMEDIATE, 4 * c->hidden_size,
                                   &c->intermediate_size, err));
    else CCH_RETURN_IF(read_size(root, f->intermediate_size, CCH_MAX_INTERMEDIATE, &c->intermediate_size, err));

    c->n_kv_heads = c->n_heads;
    if (f->n_kv_heads != NULL) {
        bool absent = !cch_json_find(root, f->n_kv_heads, &value);
        int32_t fallback = absent && f->n_kv_heads_default != 0 ? f->n_kv_heads_default : c->n_heads;
        CCH_RETURN_IF(read_size_or(root, f->n_kv_heads, CCH_MAX_HEADS, fallback, &c->n_kv_heads, err));
    }
    if (c->n_heads % c->n_kv_heads != 0)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s: %s %d does not divide %s %d",
                 cch_json_where(root, where), f->n_kv_heads, c->n_kv_heads, f->n_heads, c->n_heads);

    c->head_dim = f->head_dim_default;
    if (f->position == CCH_POSITION_ROPE)
        CCH_RETURN_IF(read_size_or(root, "head_dim", CCH_MAX_HEAD_DIM, f->head_dim_default, &c->head_dim, err));
    if (c->head_dim == 0) {
        c->head_dim = c->hidden_size / c->n_heads;
        if (c->hidden_size % c->n_heads != 0 || c->head_dim > CCH_MAX_HEAD_DIM)
            CCH_FAIL(err, CCH_E_FORMAT, -1, "%s: %s %d over %s %d is no head size from 1 to %d",
                     cch_json_where(root, where), f->hidden_size, c->hidden_size, f->n_heads, c->n_heads,
                     CCH_MAX_HEAD_DIM);
    }
    if (f->position == CCH_POSITION_ROPE && c->head_dim % 2 != 0)
        CCH_FAIL(err, CCH_E_UNSUPPORTED, -1, "%s: head_dim is %d, supported with RoPE: even numbers",
                 cch_json_where(root, where), c->head_dim);
    return CCH_OK;
}

/* layer_types (5.x): one attention for all layers, and the one that sliding_window says. */
static cch_status read_window(cch_json root, const family *f, cch_config *c, cch_error *err) {
    cch_json value;
    const char *type;
    char where[CCH_JSON_TEXT];
    size_t len;
    if (f->sliding_window_key != NULL) {
        bool absent = !cch_json_find(root, f->sliding_window_key, &value);
        CCH_RETURN_IF(read_size_or(root, f->sliding_window_key, INT32_MAX, absent ? f->sliding_window_default : 0,
                                   &c->sliding_window, err));
    }
    if (f->position == CCH_POSITION_LEARNED || !cch_json_has(root, "layer_types", &value)) return CCH_OK;
    CCH_RETURN_IF(cch_json_expect(value, CCH_JSON_ARRAY, err));
    if (cch_json_len(value) != (size_t)c->n_layers)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s has %zu entries, expected one for each of %d layers",
                 cch_json_where(value, where), cch_json_len(value), c->n_layers);
    const char *want = c->sliding_window != 0 ? "sliding_attention" : "full_attention";
    for (size_t i = 0; i < cch_json_len(value); i++) {
        cch_json element = cch_json_at(value, i);
        CCH_RETURN_IF(cch_json_get_string(element, &type, &len, err));
        if (!cch_json_is(type, len, want)) return cch_json_refuse(element, want, err);
    }
    return CCH_OK;
}

/* Layers 0, k, 2 k, ... see everything and the others a window: k is global_attn_every_n_layers, or what layer_types
 * (5.x) amounts to. */
static cch_status read_global_every(cch_json root, cch_config *c, cch_error *err) {
    cch_json list;
    const char *type;
    char where[CCH_JSON_TEXT];
    size_t len;
    CCH_RETURN_IF(read_size_or(root, "global_attn_every_n_layers", CCH_MAX_LAYERS, 3, &c->global_every, err));
    if (!cch_json_has(root, "layer_types", &list)) return CCH_OK;
    CCH_RETURN_IF(cch_json_expect(list, CCH_JSON_ARRAY, err));
    if (cch_json_len(list) != (size_t)c->n_layers)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s has %zu entries, expected one for each of %d layers",
                 cch_json_where(list, where), cch_json_len(list), c->n_layers);
    c->global_every = c->n_layers;
    for (int32_t i = 0; i < c->n_layers; i++) {
        cch_json element = cch_json_at(list, (size_t)i);
        CCH_RETURN_IF(cch_json_get_string(element, &type, &len, err));
        bool global = cch_json_is(type, len, "full_attention");
        if (!global && !cch_json_is(type, len, "sliding_attention"))
            return cch_json_refuse(element, "full_attention, sliding_attention", err);
        if (global && i > 0 && c->global_every == c->n_layers) c->global_every = i;
        if (global != (i % c->global_every == 0))
            return cch_json_refuse(element, global ? "sliding_attention: full attention in every k-th layer"
                                                   : "full_attention: in every k-th layer", err);
    }
    return CCH_OK;
}

static cch_status read_rope_type(cch_json rope, cch_rope_type *out, cch_error *err) {
    static const struct { const char *name; cch_rope_type type; } types[] = {
        {"default", CCH_ROPE_DEFAULT}, {"linear", CCH_ROPE_LINEAR}, {"llama3", CCH_ROPE_LLAMA3}};
    cch_json value;
    const char *name;
    size_t len;
    *out = CCH_ROPE_DEFAULT;
    if (!cch_json_find(rope, "rope_type", &value) && !cch_json_find(rope, "type", &value)) return CCH_OK;
    CCH_RETURN_IF(cch_json_get_string(value, &name, &len, err));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        *out = types[i].type;
        if (cch_json_is(name, len, types[i].name)) return CCH_OK;
    }
    return cch_json_refuse(value, "default, linear, llama3", err);
}

static cch_status check_rope_keys(cch_json rope, cch_error *err) {
    static const char *const known[] = {"rope_type", "type", "rope_theta", "factor", "low_freq_factor",
                                        "high_freq_factor", "original_max_position_embeddings",
                                        "partial_rotary_factor"};
    const char *key;
    size_t len, i;
    cch_json value;
    cch_json_iter it = cch_json_members(rope);
    while (cch_json_next(&it, &key, &len, &value)) {
        if (cch_json_get_kind(value) == CCH_JSON_NULL) continue;
        for (i = 0; i < sizeof known / sizeof *known && strcmp(key, known[i]) != 0; i++) {}
        if (i == sizeof known / sizeof *known) return cch_json_refuse(value, "no such option", err);
    }
    return CCH_OK;
}

/* 4.x: rope_theta at the top and rope_scaling; 5.x: both in rope_parameters.  What is in the inner object wins; an
 * empty rope_scaling counts as none. */
static bool find_rope(cch_json root, cch_json *out) {
    bool empty = cch_json_has(root, "rope_scaling", out) && cch_json_get_kind(*out) == CCH_JSON_OBJECT &&
                 cch_json_len(*out) == 0;
    return (!empty && cch_json_has(root, "rope_scaling", out)) || cch_json_has(root, "rope_parameters", out);
}

static cch_status read_rope(cch_json root, cch_config *c, cch_error *err) {
    cch_json rope, value;
    char where[CCH_JSON_TEXT];
    CCH_RETURN_IF(read_float_or(root, "rope_theta", 1, 1e12, 10000, &c->rope_theta, err));
    if (!find_rope(root, &rope)) return CCH_OK;
    CCH_RETURN_IF(cch_json_expect(rope, CCH_JSON_OBJECT, err));
    CCH_RETURN_IF(read_rope_type(rope, &c->rope_type, err));
    CCH_RETURN_IF(check_rope_keys(rope, err));
    CCH_RETURN_IF(check_fixed(rope, "partial_rotary_factor", WANT_ONE, err));
    CCH_RETURN_IF(read_float_or(rope, "rope_theta", 1, 1e12, (double)c->rope_theta, &c->rope_theta, err));
    if (c->rope_type == CCH_ROPE_DEFAULT) return CCH_OK;

    CCH_RETURN_IF(cch_json_get(rope, "factor", &value, err));
    CCH_RETURN_IF(read_float_or(rope, "factor", 1, 1e6, 1, &c->rope_factor, err));
    if (c->rope_type == CCH_ROPE_LINEAR) return CCH_OK;

    CCH_RETURN_IF(cch_json_get(rope, "low_freq_factor", &value, err));
    CCH_RETURN_IF(read_float_or(rope, "low_freq_factor", 1e-6, 1e6, 1, &c->rope_low_freq_factor, err));
    CCH_RETURN_IF(cch_json_get(rope, "high_freq_factor", &value, err));
    CCH_RETURN_IF(read_float_or(rope, "high_freq_factor", 1e-6, 1e6, 1, &c->rope_high_freq_factor, err));
    if (c->rope_high_freq_factor <= c->rope_low_freq_factor)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s is %g, expected more than low_freq_factor %g", cch_json_where(value, where),
                 (double)c->rope_high_freq_factor, (double)c->rope_low_freq_factor);
    const char *original = "original_max_position_embeddings";
    return read_size_or(cch_json_has(root, original, &value) ? root : rope, original, CCH_MAX_POSITIONS,
                        c->max_position_embeddings, &c->rope_original_max_position, err);
}

/* ModernBERT: a window of local_attention / 2 to each side, and a RoPE base for each kind of layer, at the top (4.x) or
 * in rope_parameters by the kind's name (5.x). */
static cch_status read_local_attention(cch_json root, cch_config *c, cch_error *err) {
    static const struct { const char *kind, *key; double theta; } kinds[] = {
        {"full_attention", "global_rope_theta", 160000}, {"sliding_attention", "local_rope_theta", 10000}};
    float *thetas[] = {&c->rope_theta, &c->local_rope_theta};
    cch_json all, rope;
    int32_t width;
    CCH_RETURN_IF(read_size_or(root, "local_attention", INT32_MAX, 128, &width, err));
    c->sliding_window = width / 2 + 1;
    CCH_RETURN_IF(read_global_every(root, c, err));
    for (size_t i = 0; i < 2; i++) {
        CCH_RETURN_IF(read_float_or(root, kinds[i].key, 1, 1e12, kinds[i].theta, thetas[i], err));
        if (!cch_json_has(root, "rope_parameters", &all) || !cch_json_has(all, kinds[i].kind, &rope)) continue;
        cch_rope_type type;
        CCH_RETURN_IF(cch_json_expect(rope, CCH_JSON_OBJECT, err));
        CCH_RETURN_IF(read_rope_type(rope, &type, err));
        if (type != CCH_ROPE_DEFAULT) return cch_json_refuse(rope, "rope_type default", err);
        CCH_RETURN_IF(check_rope_keys(rope, err));
        CCH_RETURN_IF(read_float_or(rope, "rope_theta", 1, 1e12, kinds[i].theta, thetas[i], err));
    }
    return CCH_OK;
}

/* ------------------------------------------------------------------------------------------- special ids ---- */

/* Adds an id; one that no token has (configs of resized vocabularies keep old ids) can never be drawn: left out. */
static cch_status add_eos(cch_json value, cch_config *c, cch_error *err) {
    int64_t id;
    CCH_RETURN_IF(cch_json_get_int(value, -1, INT32_MAX, &id, err));
    if (id < 0 || id >= c->vocab_size) return CCH_OK;
    for (int32_t i = 0; i < c->n_eos; i++) if (c->eos_token_ids[i] == id) return CCH_OK;
    if (c->n_eos == (int32_t)(sizeof c->eos_token_ids / sizeof *c->eos_token_ids))
        return cch_json_refuse(value, "at most 8 different ids", err);
    c->eos_token_ids[c->n_eos++] = (int32_t)id;
    return CCH_OK;
}

/* eos_token_id: a number, an array of numbers, or null. */
static cch_status read_eos(cch_json root, cch_config *c, cch_error *err) {
    cch_json value;
    if (!cch_json_has(root, "eos_token_id", &value)) return CCH_OK;
    if (cch_json_get_kind(value) != CCH_JSON_ARRAY) return add_eos(value, c, err);
    for (size_t i = 0; i < cch_json_len(value); i++) CCH_RETURN_IF(add_eos(cch_json_at(value, i), c, err));
    return CCH_OK;
}

/* A special id, -1 for none: null, or an id that no token has.  Absent gives `fallback`. */
static cch_status read_id_or(cch_json root, const char *key, int32_t vocab_size, int32_t fallback, int32_t *out,
                             cch_error *err) {
    cch_json value;
    int64_t id = -1;
    if (!cch_json_find(root, key, &value)) id = fallback;
    else if (cch_json_get_kind(value) != CCH_JSON_NULL)
        CCH_RETURN_IF(cch_json_get_int(value, -1, INT32_MAX, &id, err));
    *out = id < vocab_size ? (int32_t)id : -1;
    return CCH_OK;
}

static cch_status read_special_ids(cch_json root, const family *f, cch_config *c, cch_error *err) {
    cch_json value;
    CCH_RETURN_IF(read_id_or(root, "bos_token_id", c->vocab_size, f->bos_default, &c->bos_token_id, err));
    CCH_RETURN_IF(read_eos(root, c, err));
    if (!cch_json_find(root, "eos_token_id", &value) && f->eos_default >= 0 && f->eos_default < c->vocab_size)
        c->eos_token_ids[c->n_eos++] = f->eos_default;
    return CCH_OK;
}

/* ------------------------------------------------------------------------------------- classifiers ---- */

/* What the model is for is said by the end of its class's name; any other class counts as a causal model, or of an
 * encoder's family as an encoder: its tensors will tell. */
static cch_status read_model_type(cch_json root, const family *f, cch_model_type *out, cch_error *err) {
    static const char classifier[] = "ForSequenceClassification";
    cch_json value;
    const char *name;
    size_t len, end = sizeof classifier - 1;
    *out = f->encoder ? CCH_ENCODER : CCH_CAUSAL_LM;
    if (!cch_json_has(root, "architectures", &value)) return CCH_OK;
    CCH_RETURN_IF(cch_json_expect(value, CCH_JSON_ARRAY, err));
    if (cch_json_len(value) == 0) return CCH_OK;
    value = cch_json_at(value, 0);
    CCH_RETURN_IF(cch_json_get_string(value, &name, &len, err));
    if (len < end || memcmp(name + len - end, classifier, end) != 0) return CCH_OK;
    if (f->encoder) return cch_json_refuse(value, "encoders without a classifier", err);
    *out = CCH_SEQUENCE_CLASSIFICATION;
    return CCH_OK;
}

/* The labels of a classifier: id2label, or LABEL_0 to LABEL_<num_labels - 1>. */
static cch_status read_labels(cch_json root, cch_config *c, cch_error *err) {
    cch_json labels;
    int32_t n;
    c->pad_token_id = -1;
    if (c->model_type != CCH_SEQUENCE_CLASSIFICATION) return CCH_OK;
    CCH_RETURN_IF(read_id_or(root, "pad_token_id", c->vocab_size, -1, &c->pad_token_id, err));
    c->tie_word_embeddings = false;
    if (cch_json_has(root, "id2label", &labels)) return cch_labels_read(labels, &c->labels, &c->n_labels, err);
    CCH_RETURN_IF(read_size_or(root, "num_labels", CCH_MAX_LABELS, 2, &n, err));
    return cch_labels_number(n, &c->labels, &c->n_labels, err);
}

/* ------------------------------------------------------------------------------------------------- whole ---- */

static cch_status read_config(cch_json root, cch_config *c, cch_error *err) {
    const family *f;
    bool bias;
    CCH_RETURN_IF(cch_json_expect(root, CCH_JSON_OBJECT, err));
    CCH_RETURN_IF(find_family(root, &f, err));
    for (size_t i = 0; i < sizeof fixed_options / sizeof *fixed_options; i++) {
        const char *only = fixed_options[i].architecture;
        if (only == NULL || strcmp(only, f->architecture) == 0)
            CCH_RETURN_IF(check_fixed(root, fixed_options[i].key, fixed_options[i].want, err));
    }
    memcpy(c->architecture, f->architecture, strlen(f->architecture) + 1);
    c->norm = f->norm;
    c->position = f->position;
    c->gated_mlp = f->gated_mlp;
    c->qk_norm = f->qk_norm;
    c->post_norm = f->post_norm;
    c->embedding_norm = f->embedding_norm;
    c->no_first_norm = f->no_first_norm;
    CCH_RETURN_IF(read_model_type(root, f, &c->model_type, err));
    CCH_RETURN_IF(read_sizes(root, f, c, err));
    CCH_RETURN_IF(read_float_or(root, f->norm_eps, 1e-30, 1, f->norm_eps_default, &c->norm_eps, err));
    CCH_RETURN_IF(read_activation(root, f, &c->activation, err));
    CCH_RETURN_IF(read_bool_or(root, "tie_word_embeddings", f->tie_default, &c->tie_word_embeddings, err));

    bias = false;
    if (f->attention_bias_key != NULL) CCH_RETURN_IF(read_bool_or(root, f->attention_bias_key, false, &bias, err));
    c->qkv_bias = f->qkv_bias || bias;
    c->o_bias = f->o_bias || bias;
    bias = false;
    if (f->mlp_bias_key != NULL) CCH_RETURN_IF(read_bool_or(root, f->mlp_bias_key, false, &bias, err));
    c->mlp_bias = f->mlp_bias || bias;

    c->norm_bias = f->norm == CCH_NORM_LAYER;
    if (f->norm_bias_key != NULL) CCH_RETURN_IF(read_bool_or(root, f->norm_bias_key, false, &c->norm_bias, err));
    if (f->token_types != NULL)
        CCH_RETURN_IF(read_size_or(root, f->token_types, CCH_MAX_VOCAB, f->token_types_default, &c->type_vocab_size,
                                   err));

    if (f->encoder) c->tie_word_embeddings = false;
    if (f->encoder && f->position == CCH_POSITION_ROPE) CCH_RETURN_IF(read_local_attention(root, c, err));
    if (!f->encoder) CCH_RETURN_IF(read_window(root, f, c, err));
    if (!f->encoder && f->position == CCH_POSITION_ROPE) CCH_RETURN_IF(read_rope(root, c, err));
    CCH_RETURN_IF(read_special_ids(root, f, c, err));
    return read_labels(root, c, err);
}

cch_status cch_config_parse(const char *text, size_t len, const char *name, cch_config *out, cch_error *err) {
    cch_json_doc *doc = NULL;
    cch_config config = {.rope_factor = 1, .rope_low_freq_factor = 1, .rope_high_freq_factor = 1};
    memset(out, 0, sizeof *out);
    CCH_RETURN_IF(cch_json_parse(text, len, name, CCH_JSON_DEPTH, &doc, err));
    cch_status status = read_config(cch_json_root(doc), &config, err);
    cch_json_close(doc);
    if (status == CCH_OK) *out = config;
    else cch_config_deinit(&config);
    return status;
}

cch_status cch_config_add_eos(const char *text, size_t len, const char *name, cch_config *config, cch_error *err) {
    cch_json_doc *doc = NULL;
    cch_config fresh = *config;
    CCH_RETURN_IF(cch_json_parse(text, len, name, CCH_JSON_DEPTH, &doc, err));
    cch_status status = cch_json_expect(cch_json_root(doc), CCH_JSON_OBJECT, err);
    if (status == CCH_OK) status = read_eos(cch_json_root(doc), &fresh, err);
    cch_json_close(doc);
    if (status == CCH_OK) *config = fresh;
    return status;
}

cch_status cch_config_open(const char *folder, cch_config *out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_config config = {0};
    char *path = NULL, *text = NULL;
    size_t len;
    memset(out, 0, sizeof *out);
    CCH_TRY(cch_path_join(folder, "config.json", &path, err));
    CCH_TRY(cch_file_read(path, &text, &len, err));
    CCH_TRY(cch_config_parse(text, len, path, &config, err));
    cch_free(text);
    text = NULL;
    cch_free(path);
    CCH_TRY(cch_path_join(folder, "generation_config.json", &path, err));
    if (cch_path_exists(path)) {
        CCH_TRY(cch_file_read(path, &text, &len, err));
        CCH_TRY(cch_config_add_eos(text, len, path, &config, err));
    }
    *out = config;
    config.labels = NULL;
done:
    cch_config_deinit(&config);
    cch_free(text);
    cch_free(path);
    return status;
}

void cch_config_deinit(cch_config *config) {
    cch_free(config->labels);
    config->labels = NULL;
    config->n_labels = 0;
}

const char *cch_model_type_name(cch_model_type type) {
    switch (type) {
    case CCH_SEQUENCE_CLASSIFICATION: return "sequence_classification";
    case CCH_ENCODER: return "encoder";
    case CCH_CAUSAL_LM: break;
    }
    return "causal_lm";
}
