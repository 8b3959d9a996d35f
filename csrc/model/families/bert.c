/* BERT (MiniLM, BGE, E5): layer norms behind their blocks, learned positions, token types, biases everywhere, plain
 * GELU MLP.  The pooler and the heads of its pre-training are no part of an encoder. */
#include "model/families/family.h"

static const cch_tensor_rule rules[] = {
    {.pattern = "embeddings.word_embeddings.weight", .slot = CCH_SLOT_EMBEDDING},
    {.pattern = "embeddings.position_embeddings.weight", .slot = CCH_SLOT_POSITIONS},
    {.pattern = "embeddings.token_type_embeddings.weight", .slot = CCH_SLOT_TOKEN_TYPES},
    {.pattern = "embeddings.LayerNorm.weight", .slot = CCH_SLOT_EMBEDDING_NORM},
    {.pattern = "embeddings.LayerNorm.bias", .slot = CCH_SLOT_EMBEDDING_NORM, .bias = true},
    {.pattern = "encoder.layer.#.attention.self.query.weight", .slot = CCH_SLOT_Q},
    {.pattern = "encoder.layer.#.attention.self.query.bias", .slot = CCH_SLOT_Q, .bias = true},
    {.pattern = "encoder.layer.#.attention.self.key.weight", .slot = CCH_SLOT_K},
    {.pattern = "encoder.layer.#.attention.self.key.bias", .slot = CCH_SLOT_K, .bias = true},
    {.pattern = "encoder.layer.#.attention.self.value.weight", .slot = CCH_SLOT_V},
    {.pattern = "encoder.layer.#.attention.self.value.bias", .slot = CCH_SLOT_V, .bias = true},
    {.pattern = "encoder.layer.#.attention.output.dense.weight", .slot = CCH_SLOT_O},
    {.pattern = "encoder.layer.#.attention.output.dense.bias", .slot = CCH_SLOT_O, .bias = true},
    {.pattern = "encoder.layer.#.attention.output.LayerNorm.weight", .slot = CCH_SLOT_ATTENTION_NORM},
    {.pattern = "encoder.layer.#.attention.output.LayerNorm.bias", .slot = CCH_SLOT_ATTENTION_NORM, .bias = true},
    {.pattern = "encoder.layer.#.intermediate.dense.weight", .slot = CCH_SLOT_UP},
    {.pattern = "encoder.layer.#.intermediate.dense.bias", .slot = CCH_SLOT_UP, .bias = true},
    {.pattern = "encoder.layer.#.output.dense.weight", .slot = CCH_SLOT_DOWN},
    {.pattern = "encoder.layer.#.output.dense.bias", .slot = CCH_SLOT_DOWN, .bias = true},
    {.pattern = "encoder.layer.#.output.LayerNorm.weight", .slot = CCH_SLOT_MLP_NORM},
    {.pattern = "encoder.layer.#.output.LayerNorm.bias", .slot = CCH_SLOT_MLP_NORM, .bias = true},
};

const cch_family cch_family_bert = {
    .architectures = {"bert"},
    .prefix = "bert.",
    .rules = rules,
    .n_rules = sizeof rules / sizeof *rules,
    .ignored = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias", "cls.predictions.bias",
                "cls.predictions.decoder.weight", "cls.predictions.decoder.bias",
                "cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.bias",
                "cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.bias"},
};
