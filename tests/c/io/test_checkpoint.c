#include "io/checkpoint.h"

#include "check.h"
#include "ptfile.h"

static cch_error err;
static ptfile f;

/* The configuration of a file whose model_cfg has more fields, which may replace those of the model. */
static cch_status read_config(int generation, void (*more)(void), cch_config *out, char warning[CCH_WARNING_TEXT]) {
    cch_torchfile file;
    int32_t found = 0;
    memset(&f, 0, sizeof f);
    pt_op(&f, "\x80\x02}(");
    pt_text(&f, "model_cfg");
    pt_op(&f, "}(");
    pt_field(&f, "V", 5), pt_field(&f, "T", 12), pt_field(&f, "C", 8), pt_field(&f, "L", 1);
    pt_field(&f, "H", 2), pt_field(&f, "d_ff", 6);
    if (more != NULL) more();
    pt_op(&f, "u");
    pt_text(&f, "model_state");
    pt_op(&f, "}(");
    pt_tensor(&f, generation == 1 ? "blocks.0.mlp.fc1.weight" : "blocks.0.mlp.fc_a.weight", 1, 1, 0);
    pt_op(&f, "uu.");
    pt_archive(&f);
    CCH_RETURN_IF(cch_torchfile_parse(f.file, f.n_file, "m.pt", &file, &err));
    cch_status status = cch_config_from_checkpoint(&file, "m.pt", out, &found, warning, &err);
    if (status == CCH_OK) CHECK_EQ(found, generation);
    cch_torchfile_close(&file);
    return status;
}

static void with_double_theta(void) { pt_text(&f, "rope_theta"), pt_bytes(&f, "G\x40\x8f\x40\0\0\0\0\0", 9); }
static void with_unknown(void) {
    pt_field(&f, "_raw", 1), pt_field(&f, "dropout", 0), pt_field(&f, "D", 4);
    pt_field(&f, "odd", 1), pt_field(&f, "more", 2), pt_int(&f, 7), pt_int(&f, 8);
}
static void with_wrong_dim(void) { pt_field(&f, "D", 8); }
static void with_odd_dim(void) { pt_field(&f, "C", 6); }
static void with_zero(void) { pt_field(&f, "L", 0); }

TEST(the_two_generations) {
    cch_config c;
    char warning[CCH_WARNING_TEXT];
    CHECK_OK(read_config(1, NULL, &c, warning), err);
    CHECK(strcmp(c.architecture, "niels1") == 0 && c.norm == CCH_NORM_LAYER && c.norm_bias && !c.gated_mlp);
    CHECK(c.activation == CCH_ACT_GELU_ERF && c.mlp_bias && !c.qkv_bias && !c.o_bias && c.tie_word_embeddings);
    CHECK(c.vocab_size == 5 && c.max_position_embeddings == 12 && c.hidden_size == 8 && c.n_layers == 1);
    CHECK(c.n_heads == 2 && c.n_kv_heads == 2 && c.head_dim == 4 && c.intermediate_size == 6);
    CHECK(c.rope_type == CCH_ROPE_PAIRS && c.rope_theta == 10000.0f && c.bos_token_id == -1 && c.n_eos == 0);
    CHECK(warning[0] == '\0');
    CHECK_OK(read_config(2, with_double_theta, &c, warning), err);
    CHECK(strcmp(c.architecture, "niels2") == 0 && c.norm == CCH_NORM_RMS && !c.norm_bias && c.gated_mlp);
    CHECK(c.activation == CCH_ACT_SILU && c.mlp_bias && c.rope_theta == 1000.0f);
}

TEST(unknown_fields_are_named) {
    cch_config c;
    char warning[CCH_WARNING_TEXT];
    CHECK_OK(read_config(1, with_unknown, &c, warning), err);
    CHECK(strcmp(warning, "model_cfg has unknown fields: odd, more, an int") == 0);
}

TEST(wrong_numbers_are_refused) {
    cch_config c;
    char warning[CCH_WARNING_TEXT];
    CHECK_STATUS(read_config(1, with_wrong_dim, &c, warning), CCH_E_FORMAT, err, "D of model_cfg");
    CHECK_STATUS(read_config(1, with_odd_dim, &c, warning), CCH_E_FORMAT, err, "even head size");
    CHECK_STATUS(read_config(1, with_zero, &c, warning), CCH_E_FORMAT, err, "L of model_cfg is 0");
    CHECK(c.vocab_size == 0);
}

CHECK_MAIN()
