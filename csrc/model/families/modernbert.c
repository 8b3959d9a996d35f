/* ModernBERT (arXiv:2412.13663): norms before their blocks but for the first, rotary positions, windows in most layers,
 * one fused matrix for q, k and v and one for both halves of the gated MLP, no biases unless the config wants them. */
#include "model/families/family.h"

static const cch_tensor_rule rules[] = {
    {.pattern = "embeddings.tok_embeddings.weight", .slot = CCH_SLOT_EMBEDDING},
    {.pattern = "embeddings.norm.weight", .slot = CCH_SLOT_EMBEDDING_NORM},
    {.pattern = "embeddings.norm.bias", .slot = CCH_SLOT_EMBEDDING_NORM, .bias = true},
    {.pattern = "layers.#.attn_norm.weight", .slot = CCH_SLOT_ATTENTION_NORM},
    {.pattern = "layers.#.attn_norm.bias", .slot = CCH_SLOT_ATTENTION_NORM, .bias = true},
    {.pattern = "layers.#.attn.Wqkv.weight", .slot = CCH_SLOT_QKV},
    {.pattern = "layers.#.attn.Wqkv.bias", .slot = CCH_SLOT_QKV, .bias = true},
    {.pattern = "layers.#.attn.Wo.weight", .slot = CCH_SLOT_O},
    {.pattern = "layers.#.attn.Wo.bias", .slot = CCH_SLOT_O, .bias = true},
    {.pattern = "layers.#.mlp_norm.weight", .slot = CCH_SLOT_MLP_NORM},
    {.pattern = "layers.#.mlp_norm.bias", .slot = CCH_SLOT_MLP_NORM, .bias = true},
    {.pattern = "layers.#.mlp.Wi.weight", .slot = CCH_SLOT_GATE_UP},
    {.pattern = "layers.#.mlp.Wi.bias", .slot = CCH_SLOT_GATE_UP, .bias = true},
    {.pattern = "layers.#.mlp.Wo.weight", .slot = CCH_SLOT_DOWN},
    {.pattern = "layers.#.mlp.Wo.bias", .slot = CCH_SLOT_DOWN, .bias = true},
    {.pattern = "final_norm.weight", .slot = CCH_SLOT_FINAL_NORM},
    {.pattern = "final_norm.bias", .slot = CCH_SLOT_FINAL_NORM, .bias = true},
};

const cch_family cch_family_modernbert = {
    .architectures = {"modernbert"},
    .prefix = "model.",
    .rules = rules,
    .n_rules = sizeof rules / sizeof *rules,
    .ignored = {"head.dense.weight", "head.dense.bias", "head.norm.weight", "head.norm.bias", "decoder.weight",
                "decoder.bias"}, /* of its pre-training */
};
