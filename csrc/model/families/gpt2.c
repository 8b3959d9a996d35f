/* GPT-2: layer norms with biases, learned positions, one fused q/k/v matrix, plain GELU MLP.  Its Conv1D layers store
 * weights as [inputs, outputs]. */
#include "model/families/family.h"

static const cch_tensor_rule rules[] = {
    {.pattern = "wte.weight", .slot = CCH_SLOT_EMBEDDING},
    {.pattern = "wpe.weight", .slot = CCH_SLOT_POSITIONS},
    {.pattern = "h.#.ln_1.weight", .slot = CCH_SLOT_ATTENTION_NORM},
    {.pattern = "h.#.ln_1.bias", .slot = CCH_SLOT_ATTENTION_NORM, .bias = true},
    {.pattern = "h.#.attn.c_attn.weight", .slot = CCH_SLOT_QKV, .transposed = true},
    {.pattern = "h.#.attn.c_attn.bias", .slot = CCH_SLOT_QKV, .bias = true},
    {.pattern = "h.#.attn.c_proj.weight", .slot = CCH_SLOT_O, .transposed = true},
    {.pattern = "h.#.attn.c_proj.bias", .slot = CCH_SLOT_O, .bias = true},
    {.pattern = "h.#.ln_2.weight", .slot = CCH_SLOT_MLP_NORM},
    {.pattern = "h.#.ln_2.bias", .slot = CCH_SLOT_MLP_NORM, .bias = true},
    {.pattern = "h.#.mlp.c_fc.weight", .slot = CCH_SLOT_UP, .transposed = true},
    {.pattern = "h.#.mlp.c_fc.bias", .slot = CCH_SLOT_UP, .bias = true},
    {.pattern = "h.#.mlp.c_proj.weight", .slot = CCH_SLOT_DOWN, .transposed = true},
    {.pattern = "h.#.mlp.c_proj.bias", .slot = CCH_SLOT_DOWN, .bias = true},
    {.pattern = "ln_f.weight", .slot = CCH_SLOT_FINAL_NORM},
    {.pattern = "ln_f.bias", .slot = CCH_SLOT_FINAL_NORM, .bias = true},
    {.pattern = "lm_head.weight", .slot = CCH_SLOT_HEAD},
    {.pattern = "score.weight", .slot = CCH_SLOT_SCORE},
};

const cch_family cch_family_gpt2 = {
    .architectures = {"gpt2"},
    .prefix = "transformer.",
    .rules = rules,
    .n_rules = sizeof rules / sizeof *rules,
    .ignored = {"h.#.attn.bias", "h.#.attn.masked_bias"}, /* the causal mask and its fill value */
};
