/* Llama and its kin: RMS norms, rotary positions, grouped KV heads, gated MLP.  Mistral adds a sliding window (no
 * tensors), Qwen2 biases on q, k and v, Qwen3 norms of query and key heads; which of the optional tensors must be there
 * is decided by the config. */
#include "model/families/family.h"

static const cch_tensor_rule rules[] = {
    {.pattern = "embed_tokens.weight", .slot = CCH_SLOT_EMBEDDING},
    {.pattern = "layers.#.input_layernorm.weight", .slot = CCH_SLOT_ATTENTION_NORM},
    {.pattern = "layers.#.self_attn.q_proj.weight", .slot = CCH_SLOT_Q},
    {.pattern = "layers.#.self_attn.q_proj.bias", .slot = CCH_SLOT_Q, .bias = true},
    {.pattern = "layers.#.self_attn.k_proj.weight", .slot = CCH_SLOT_K},
    {.pattern = "layers.#.self_attn.k_proj.bias", .slot = CCH_SLOT_K, .bias = true},
    {.pattern = "layers.#.self_attn.v_proj.weight", .slot = CCH_SLOT_V},
    {.pattern = "layers.#.self_attn.v_proj.bias", .slot = CCH_SLOT_V, .bias = true},
    {.pattern = "layers.#.self_attn.q_norm.weight", .slot = CCH_SLOT_Q_NORM},
    {.pattern = "layers.#.self_attn.k_norm.weight", .slot = CCH_SLOT_K_NORM},
    {.pattern = "layers.#.self_attn.o_proj.weight", .slot = CCH_SLOT_O},
    {.pattern = "layers.#.self_attn.o_proj.bias", .slot = CCH_SLOT_O, .bias = true},
    {.pattern = "layers.#.post_attention_layernorm.weight", .slot = CCH_SLOT_MLP_NORM},
    {.pattern = "layers.#.mlp.gate_proj.weight", .slot = CCH_SLOT_GATE},
    {.pattern = "layers.#.mlp.gate_proj.bias", .slot = CCH_SLOT_GATE, .bias = true},
    {.pattern = "layers.#.mlp.up_proj.weight", .slot = CCH_SLOT_UP},
    {.pattern = "layers.#.mlp.up_proj.bias", .slot = CCH_SLOT_UP, .bias = true},
    {.pattern = "layers.#.mlp.down_proj.weight", .slot = CCH_SLOT_DOWN},
    {.pattern = "layers.#.mlp.down_proj.bias", .slot = CCH_SLOT_DOWN, .bias = true},
    {.pattern = "norm.weight", .slot = CCH_SLOT_FINAL_NORM},
    {.pattern = "lm_head.weight", .slot = CCH_SLOT_HEAD},
    {.pattern = "score.weight", .slot = CCH_SLOT_SCORE},
};

const cch_family cch_family_llama = {
    .architectures = {"llama", "mistral", "qwen2", "qwen3"},
    .prefix = "model.",
    .rules = rules,
    .n_rules = sizeof rules / sizeof *rules,
    .ignored = {"layers.#.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"}, /* computed from the config */
};
