/* folder - writes a tiny model folder in the hub's layout, for tests that open models and then damage them. */
#ifndef CCH_TESTS_OPEN_FOLDER_H
#define CCH_TESTS_OPEN_FOLDER_H

#include "check.h"
#include "tempdir.h"

#define FOLDER_VOCAB 20
#define FOLDER_HIDDEN 16
#define FOLDER_INNER 24

static const char folder_config[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 20, \"hidden_size\": 16, \"intermediate_size\": 24,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"rms_norm_eps\": 1e-5,"
    " \"max_position_embeddings\": 64, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\", \"bos_token_id\": 0,"
    " \"eos_token_id\": 1, \"tie_word_embeddings\": true}";

/* Element i of all tensors in the file's order. */
static inline float folder_value(size_t i, unsigned seed) { return (float)((i * 7 + seed) % 101) / 128.0f - 0.4f; }

/* Tensors of the model above, and the matrix of a classifier when it has labels. */
static inline void folder_weights_of(tempdir *dir, unsigned seed, int n_labels) {
    static const struct {
        const char *name;
        int rows, cols; /* cols 0: a vector */
    } shapes[] = {{"self_attn.q_proj", 16, 16}, {"self_attn.k_proj", 8, 16},   {"self_attn.v_proj", 8, 16},
                  {"self_attn.o_proj", 16, 16}, {"mlp.gate_proj", 24, 16},     {"mlp.up_proj", 24, 16},
                  {"mlp.down_proj", 16, 24},    {"input_layernorm", 16, 0},    {"post_attention_layernorm", 16, 0}};
    char header[8192] = {0};
    size_t n = 8, at = 0;
    n += (size_t)sprintf(header + n, "{\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[20,16],"
                         "\"data_offsets\":[0,1280]},\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[16],"
                         "\"data_offsets\":[1280,1344]}");
    at = 1344;
    for (int layer = 0; layer < 2; layer++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            size_t bytes = (size_t)(shapes[i].rows * (shapes[i].cols ? shapes[i].cols : 1)) * sizeof(float);
            n += (size_t)sprintf(header + n, ",\"model.layers.%d.%s.weight\":{\"dtype\":\"F32\",\"shape\":[%d", layer,
                                 shapes[i].name, shapes[i].rows);
            if (shapes[i].cols) n += (size_t)sprintf(header + n, ",%d", shapes[i].cols);
            n += (size_t)sprintf(header + n, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes);
            at += bytes;
        }
    if (n_labels > 0) {
        size_t bytes = (size_t)n_labels * FOLDER_HIDDEN * sizeof(float);
        n += (size_t)sprintf(header + n, ",\"score.weight\":{\"dtype\":\"F32\",\"shape\":[%d,16],"
                             "\"data_offsets\":[%zu,%zu]}", n_labels, at, at + bytes);
        at += bytes;
    }
    n += (size_t)sprintf(header + n, "}");
    while (n % 8 != 0) header[n++] = ' ';
    uint64_t size = n - 8;
    memcpy(header, &size, 8);
    char *file = malloc(n + at);
    memcpy(file, header, n);
    for (size_t i = 0; i < at / sizeof(float); i++) {
        float value = folder_value(i, seed);
        memcpy(file + n + i * sizeof value, &value, sizeof value);
    }
    tempdir_write(dir, "model.safetensors", file, n + at);
    free(file);
}

static inline void folder_weights(tempdir *dir, unsigned seed) { folder_weights_of(dir, seed, 0); }

static inline tempdir folder_new(void) {
    tempdir dir = tempdir_new();
    tempdir_write_text(&dir, "config.json", folder_config);
    folder_weights(&dir, 0);
    return dir;
}

/* A classifier; `labels`: members of id2label. */
static inline void folder_labels(tempdir *dir, const char *labels) {
    char text[sizeof folder_config + 200];
    snprintf(text, sizeof text, "%.*s, \"architectures\": [\"LlamaForSequenceClassification\"], \"id2label\": {%s}}",
             (int)strlen(folder_config) - 1, folder_config, labels);
    tempdir_write_text(dir, "config.json", text);
}

#endif
