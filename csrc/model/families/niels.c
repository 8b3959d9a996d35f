/* niels-gpt, which comes as a checkpoint of torch (io/checkpoint.h): one fused q/k/v matrix, biases only in the MLP.
 * Generation 1 has layer norms and a plain GELU MLP, generation 2 RMS norms and SwiGLU. */
#include "model/families/family.h"

#define SHARED_RULES                                                                                   \
    {.pattern = "tok_emb.weight", .slot = CCH_SLOT_EMBEDDING},                                         \
    {.pattern = "blocks.#.ln1.weight", .slot = CCH_SLOT_ATTENTION_NORM},                               \
    {.pattern = "blocks.#.ln1.bias", .slot = CCH_SLOT_ATTENTION_NORM, .bias = true},                   \
    {.pattern = "blocks.#.attn.qkv.weight", .slot = CCH_SLOT_QKV},                                     \
    {.pattern = "blocks.#.attn.proj.weight", .slot = CCH_SLOT_O},                                      \
    {.pattern = "blocks.#.ln2.weight", .slot = CCH_SLOT_MLP_NORM},                                     \
    {.pattern = "blocks.#.ln2.bias", .slot = CCH_SLOT_MLP_NORM, .bias = true},                         \
    {.pattern = "ln_f.weight", .slot = CCH_SLOT_FINAL_NORM},                                           \
    {.pattern = "ln_f.bias", .slot = CCH_SLOT_FINAL_NORM, .bias = true},                               \
    {.pattern = "lm_head.weight", .slot = CCH_SLOT_HEAD}

static const cch_tensor_rule first_rules[] = {
    SHARED_RULES,
    {.pattern = "blocks.#.mlp.fc1.weight", .slot = CCH_SLOT_UP},
    {.pattern = "blocks.#.mlp.fc1.bias", .slot = CCH_SLOT_UP, .bias = true},
    {.pattern = "blocks.#.mlp.fc2.weight", .slot = CCH_SLOT_DOWN},
    {.pattern = "blocks.#.mlp.fc2.bias", .slot = CCH_SLOT_DOWN, .bias = true},
};

static const cch_tensor_rule second_rules[] = {
    SHARED_RULES,
    {.pattern = "blocks.#.mlp.fc_g.weight", .slot = CCH_SLOT_GATE},
    {.pattern = "blocks.#.mlp.fc_g.bias", .slot = CCH_SLOT_GATE, .bias = true},
    {.pattern = "blocks.#.mlp.fc_a.weight", .slot = CCH_SLOT_UP},
    {.pattern = "blocks.#.mlp.fc_a.bias", .slot = CCH_SLOT_UP, .bias = true},
    {.pattern = "blocks.#.mlp.fc_out.weight", .slot = CCH_SLOT_DOWN},
    {.pattern = "blocks.#.mlp.fc_out.bias", .slot = CCH_SLOT_DOWN, .bias = true},
};

/* Tables of the rotary angles and the causal mask. */
#define COMPUTED {"blocks.#.attn.rope_sin", "blocks.#.attn.rope_cos", "blocks.#.attn.mask"}

const cch_family cch_family_niels1 = {
    .architectures = {"niels1"},
    .prefix = "",
    .rules = first_rules,
    .n_rules = sizeof first_rules / sizeof *first_rules,
    .ignored = COMPUTED,
    .checkpoint = true,
};

const cch_family cch_family_niels2 = {
    .architectures = {"niels2"},
    .prefix = "",
    .rules = second_rules,
    .n_rules = sizeof second_rules / sizeof *second_rules,
    .ignored = COMPUTED,
    .checkpoint = true,
};
