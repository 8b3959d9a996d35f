/* config - config.json of a model as numbers.
 *
 * A table in config.c says which keys an architecture has and what they mean; this struct is what the one generic
 * forward pass reads.  An option that would change the arithmetic and is not supported is refused by its name and value
 * (CCH_E_UNSUPPORTED), never ignored; training-only keys (dropout, initializer_range, ...) are ignored.
 * Field names are those of Hugging Face Llama configs, but for two: their model_type ("llama") is `architecture` here,
 * and model_type says what the model is for, which they leave to the class named in `architectures`.
 */
#ifndef CCH_IO_CONFIG_H
#define CCH_IO_CONFIG_H

#include "base/status.h"

/* Largest numbers that a configuration may hold. */
#define CCH_MAX_VOCAB 4194304
#define CCH_MAX_HIDDEN 65536
#define CCH_MAX_INTERMEDIATE 1048576
#define CCH_MAX_LAYERS 1024
#define CCH_MAX_HEADS 1024
#define CCH_MAX_HEAD_DIM 4096
#define CCH_MAX_POSITIONS 16777216 /* 2^24: above, an f32 position would not be exact */

typedef enum cch_norm { CCH_NORM_RMS, CCH_NORM_LAYER } cch_norm;
typedef enum cch_activation { CCH_ACT_SILU, CCH_ACT_GELU_TANH, CCH_ACT_GELU_ERF, CCH_ACT_RELU } cch_activation;
typedef enum cch_position { CCH_POSITION_LEARNED, CCH_POSITION_ROPE } cch_position;
/* PAIRS: of the neighbouring channels 2i and 2i + 1, with sines and cosines of f64 angles (niels-gpt); the others
 * rotate channels i and i + head_dim / 2. */
typedef enum cch_rope_type { CCH_ROPE_DEFAULT, CCH_ROPE_LINEAR, CCH_ROPE_LLAMA3, CCH_ROPE_PAIRS } cch_rope_type;

typedef struct cch_config {
    char architecture[32];       /* the key model_type: "gpt2", "llama", ...; "niels1", "niels2" of a checkpoint */
    cch_model_type model_type;   /* CCH_SEQUENCE_CLASSIFICATION: architectures[0] ends with ForSequenceClassification;
                                    CCH_ENCODER: the architecture is one */
    int32_t vocab_size, hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads, head_dim;
    int32_t max_position_embeddings;
    cch_norm norm;
    float norm_eps;              /* rms_norm_eps, layer_norm_epsilon */
    bool norm_bias;
    bool post_norm;              /* x = norm(x + block(x)) (BERT); otherwise x = x + block(norm(x)) */
    bool embedding_norm;         /* of the embeddings' sum */
    bool no_first_norm;          /* the first layer's attention reads its input as it is (ModernBERT) */
    cch_activation activation;
    bool gated_mlp;              /* down(act(gate(x)) * up(x)); otherwise down(act(up(x))) */
    bool qkv_bias, o_bias, mlp_bias;
    bool qk_norm;                /* RMS norm of each query and key head before RoPE (Qwen3) */
    bool tie_word_embeddings;    /* false for classifiers and encoders: there is no output matrix that could be the
                                    embeddings */
    int32_t type_vocab_size;     /* token types, of which a single text's is 0; 0 = none */
    cch_position position;
    float rope_theta;
    float local_rope_theta;      /* of layers with a window, where others have none */
    cch_rope_type rope_type;
    float rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    int32_t rope_original_max_position;
    int32_t sliding_window;      /* a query sees at most this many tokens, itself counted; an encoder's the same number
                                    to each side; 0 = all */
    int32_t global_every;        /* layers 0, k, 2 k, ... have no window; 0 = all have what sliding_window says */
    int32_t bos_token_id;        /* -1 = none; ids outside the vocabulary, which configs of resized ones keep, count as
                                    none */
    int32_t n_eos, eos_token_ids[8];
    int32_t pad_token_id;        /* -1 = none; only a classifier's matters */
    int32_t n_labels;            /* outputs of a classifier; 0 for other models */
    char **labels;               /* owned [n_labels]: their names, one block; NULL for other models */
} cch_config;

/* Reads <folder>/config.json (and generation_config.json, only for extra eos ids).  E_IO, E_FORMAT, E_UNSUPPORTED,
 * E_MEMORY. Every number is range-checked here.
 *   *out: the caller's, who gives it to cch_config_deinit; all zeros on failure. */
cch_status cch_config_open(const char *folder, cch_config *out, cch_error *err);

/* The same from the text [len] of a config.json; `name` is for messages.  E_FORMAT, E_UNSUPPORTED, E_MEMORY. */
cch_status cch_config_parse(const char *text, size_t len, const char *name, cch_config *out, cch_error *err);
/* Adds the eos ids of a generation_config.json's text to *config, which is left as it was on failure. */
cch_status cch_config_add_eos(const char *text, size_t len, const char *name, cch_config *config, cch_error *err);

/* Frees the labels.  A zeroed struct is a no-op. */
void cch_config_deinit(cch_config *config);

/* Numbers the output matrix gives after a token: one per id of the vocabulary, or per label of a classifier; an encoder
 * has none. */
static inline int32_t cch_config_n_outputs(const cch_config *config) {
    return config->model_type == CCH_CAUSAL_LM ? config->vocab_size : config->n_labels;
}

/* The window of a layer, as in sliding_window. */
static inline int32_t cch_config_window(const cch_config *config, int32_t layer) {
    return config->global_every > 0 && layer % config->global_every == 0 ? 0 : config->sliding_window;
}

#endif
