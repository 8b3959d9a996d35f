/* configs - tiny models whose weights are fuzzed: a decoder of each kind, a classifier, encoders. */
#ifndef CCH_FUZZ_CONFIGS_H
#define CCH_FUZZ_CONFIGS_H

#include "io/config.h"

static const cch_config configs[] = {
    {.architecture = "llama", .vocab_size = 3, .hidden_size = 4, .intermediate_size = 2, .n_layers = 1, .n_heads = 2,
     .n_kv_heads = 1, .head_dim = 2, .max_position_embeddings = 8, .gated_mlp = true, .position = CCH_POSITION_ROPE,
     .tie_word_embeddings = true},
    {.architecture = "gpt2", .vocab_size = 3, .hidden_size = 2, .intermediate_size = 2, .n_layers = 1, .n_heads = 1,
     .n_kv_heads = 1, .head_dim = 2, .max_position_embeddings = 2, .norm = CCH_NORM_LAYER, .norm_bias = true,
     .qkv_bias = true, .o_bias = true, .mlp_bias = true, .tie_word_embeddings = true,
     .position = CCH_POSITION_LEARNED},
    {.architecture = "llama", .model_type = CCH_SEQUENCE_CLASSIFICATION, .n_labels = 2, .vocab_size = 3,
     .hidden_size = 4, .intermediate_size = 2, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 2,
     .max_position_embeddings = 8, .gated_mlp = true, .position = CCH_POSITION_ROPE},
    {.architecture = "bert", .model_type = CCH_ENCODER, .vocab_size = 3, .hidden_size = 2, .intermediate_size = 3,
     .n_layers = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 2, .max_position_embeddings = 2,
     .norm = CCH_NORM_LAYER, .norm_bias = true, .post_norm = true, .embedding_norm = true, .qkv_bias = true,
     .o_bias = true, .mlp_bias = true, .type_vocab_size = 1, .position = CCH_POSITION_LEARNED},
    {.architecture = "modernbert", .model_type = CCH_ENCODER, .vocab_size = 3, .hidden_size = 2,
     .intermediate_size = 3, .n_layers = 2, .n_heads = 1, .n_kv_heads = 1, .head_dim = 2,
     .max_position_embeddings = 8, .norm = CCH_NORM_LAYER, .embedding_norm = true, .no_first_norm = true,
     .gated_mlp = true, .position = CCH_POSITION_ROPE}};
#define N_CONFIGS (sizeof configs / sizeof *configs)

#endif
