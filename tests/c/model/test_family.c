#include "model/families/family.h"

#include "check.h"

static void matches(const char *pattern, const char *name, int layer) {
    int got = -2;
    CHECK(cch_pattern_match(pattern, name, &got));
    CHECK_EQ(got, layer);
}

static void differs(const char *pattern, const char *name) {
    int got;
    CHECK(!cch_pattern_match(pattern, name, &got));
}

TEST(a_pattern_matches_one_name_per_layer) {
    matches("norm.weight", "norm.weight", -1);
    matches("h.#.ln_1.weight", "h.0.ln_1.weight", 0);
    matches("h.#.ln_1.weight", "h.1023.ln_1.weight", 1023);
    differs("norm.weight", "norm.weights");
    differs("h.#.ln_1.weight", "h..ln_1.weight");
    differs("h.#.ln_1.weight", "h.01.ln_1.weight"); /* would be a second name of layer 1 */
    differs("h.#.ln_1.weight", "h.-1.ln_1.weight");
    differs("h.#.ln_1.weight", "h.1.ln_1.bias");
    differs("h.#.ln_1.weight", "h.4294967297.ln_1.weight");
    differs("h.#.ln_1.weight", "h.1");
    differs("h.#.ln_1.weight", "");
}

TEST(every_supported_model_type_has_a_family_and_no_other) {
    const char *const types[] = {"gpt2", "llama", "mistral", "qwen2", "qwen3", "bert", "modernbert",
                                 "niels1", "niels2"};
    for (int i = 0; i < 9; i++) CHECK(cch_family_find(types[i]) != NULL);
    CHECK(cch_family_find("") == NULL && cch_family_find("roberta") == NULL);
}

TEST(no_slot_is_filled_twice) {
    const cch_family *const families[] = {&cch_family_gpt2, &cch_family_llama, &cch_family_bert,
                                          &cch_family_modernbert, &cch_family_niels1, &cch_family_niels2};
    for (int f = 0; f < 6; f++)
        for (size_t i = 0; i < families[f]->n_rules; i++)
            for (size_t j = 0; j < i; j++) {
                const cch_tensor_rule *a = &families[f]->rules[i], *b = &families[f]->rules[j];
                CHECK(a->slot != b->slot || a->bias != b->bias);
                CHECK(strcmp(a->pattern, b->pattern) != 0);
            }
}

CHECK_MAIN()
