/* family - how one architecture's tensor names map onto the one generic forward pass: a table, not code.
 *
 * Adding a family: a table here beside the others, its model_type in io/config.c, and a row in the tests.
 */
#ifndef CCH_MODEL_FAMILIES_FAMILY_H
#define CCH_MODEL_FAMILIES_FAMILY_H

#include <stdbool.h>
#include <stddef.h>

/* Where a tensor goes.  Q, K, V and GATE, UP are row blocks of fused matrices; QKV and GATE_UP are all of them at once.
 * SCORE is the HEAD of a classifier. */
typedef enum cch_slot {
    CCH_SLOT_EMBEDDING, CCH_SLOT_POSITIONS, CCH_SLOT_TOKEN_TYPES, CCH_SLOT_EMBEDDING_NORM, CCH_SLOT_FINAL_NORM,
    CCH_SLOT_HEAD, CCH_SLOT_SCORE, /* once per model, those before too */
    CCH_SLOT_ATTENTION_NORM, CCH_SLOT_QKV, CCH_SLOT_Q, CCH_SLOT_K, CCH_SLOT_V, CCH_SLOT_Q_NORM, CCH_SLOT_K_NORM,
    CCH_SLOT_O, CCH_SLOT_MLP_NORM, CCH_SLOT_GATE_UP, CCH_SLOT_GATE, CCH_SLOT_UP, CCH_SLOT_DOWN /* once per layer */
} cch_slot;

typedef struct cch_tensor_rule {
    const char *pattern; /* the tensor's name without the family's prefix; '#' stands for the layer's number */
    cch_slot slot;
    bool bias;           /* the slot's bias vector, not its weight */
    bool transposed;     /* stored [inputs, outputs] */
} cch_tensor_rule;

typedef struct cch_family {
    const char *architectures[8]; /* model_type of config.json, NULL-terminated */
    const char *prefix;           /* files of the bare model leave it out; HEAD and SCORE never have it */
    const cch_tensor_rule *rules;
    size_t n_rules;
    const char *ignored[12];      /* patterns of what some files carry and no result depends on, NULL-terminated */
    bool checkpoint;              /* one file, its configuration in it, whose weights may be NaN or infinite */
} cch_family;

/* The family of a supported architecture (io/config.h refuses others); NULL for anything else. */
const cch_family *cch_family_find(const char *architecture);

/* Is the tensor, its prefix left out, of those that no result depends on? */
bool cch_family_ignores(const cch_family *family, const char *name);

/* Does `name` follow `pattern`?  *out_layer: the number at '#', -1 without one. */
bool cch_pattern_match(const char *pattern, const char *name, int *out_layer);

extern const cch_family cch_family_gpt2, cch_family_llama, cch_family_bert, cch_family_modernbert,
    cch_family_niels1, cch_family_niels2;

#endif
