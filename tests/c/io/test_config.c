#include "io/config.h"

#include "base/alloc.h"
#include "check.h"
#include "tempdir.h"

static cch_error err;
static cch_config config;

/* A model's keys, then more of them. */
#define GPT2 "\"model_type\":\"gpt2\",\"vocab_size\":50257,\"n_embd\":768,\"n_layer\":12,\"n_head\":12," \
             "\"n_positions\":1024"
#define LLAMA_SIZES "\"vocab_size\":1000,\"hidden_size\":64,\"intermediate_size\":176,\"num_hidden_layers\":2," \
                    "\"num_attention_heads\":4,\"max_position_embeddings\":512"
#define LLAMA "\"model_type\":\"llama\"," LLAMA_SIZES
#define MISTRAL "\"model_type\":\"mistral\",\"num_key_value_heads\":2," LLAMA_SIZES
#define QWEN2 "\"model_type\":\"qwen2\",\"num_key_value_heads\":2," LLAMA_SIZES
#define QWEN3 "\"model_type\":\"qwen3\",\"num_key_value_heads\":2," LLAMA_SIZES

static cch_status read_keys(const char *keys, const char *more) {
    char text[4000];
    snprintf(text, sizeof text, "{%s%s%s}", keys, more[0] == '\0' ? "" : ",", more);
    return cch_config_parse(text, strlen(text), "config.json", &config, &err);
}

static void taken(const char *keys, const char *more) { CHECK_OK(read_keys(keys, more), err); }

static void refused(const char *keys, const char *more, cch_status status, const char *words) {
    CHECK_STATUS(read_keys(keys, more), status, err, words);
    CHECK_EQ(config.vocab_size, 0);
}

static void unsupported(const char *keys, const char *more, const char *words) {
    refused(keys, more, CCH_E_UNSUPPORTED, words);
}

static void damaged(const char *keys, const char *more, const char *words) { refused(keys, more, CCH_E_FORMAT, words); }

TEST(gpt2_has_its_own_key_names) {
    taken(GPT2, "");
    CHECK(strcmp(config.architecture, "gpt2") == 0);
    CHECK(config.hidden_size == 768 && config.n_layers == 12 && config.n_heads == 12 && config.n_kv_heads == 12);
    CHECK(config.head_dim == 64 && config.intermediate_size == 3072 && config.max_position_embeddings == 1024);
    CHECK(config.norm == CCH_NORM_LAYER && config.norm_eps == 1e-5f && config.activation == CCH_ACT_GELU_TANH);
    CHECK(!config.gated_mlp && config.qkv_bias && config.o_bias && config.mlp_bias && !config.qk_norm);
    CHECK(config.tie_word_embeddings && config.position == CCH_POSITION_LEARNED && config.sliding_window == 0);
    CHECK(config.bos_token_id == 50256 && config.n_eos == 1 && config.eos_token_ids[0] == 50256);
    taken(GPT2, "\"n_inner\":100,\"layer_norm_epsilon\":1e-6,\"tie_word_embeddings\":false,\"n_ctx\":1024,"
                "\"activation_function\":\"gelu\",\"resid_pdrop\":0.1,\"task_specific_params\":{\"x\":{}}");
    CHECK(config.intermediate_size == 100 && config.norm_eps == 1e-6f && !config.tie_word_embeddings);
    CHECK_EQ(config.activation, CCH_ACT_GELU_ERF);
    taken(GPT2, "\"n_inner\":null");
    CHECK_EQ(config.intermediate_size, 3072);
}

TEST(llama_defaults_are_those_of_transformers) {
    taken(LLAMA, "");
    CHECK(config.n_kv_heads == 4 && config.head_dim == 16 && config.norm == CCH_NORM_RMS && config.norm_eps == 1e-6f);
    CHECK(config.activation == CCH_ACT_SILU && config.gated_mlp && !config.qkv_bias && !config.o_bias &&
          !config.mlp_bias);
    CHECK(!config.tie_word_embeddings && config.position == CCH_POSITION_ROPE && config.rope_theta == 10000.0f);
    CHECK(config.rope_type == CCH_ROPE_DEFAULT && config.rope_factor == 1.0f);
    CHECK(config.bos_token_id == 1 && config.n_eos == 1 && config.eos_token_ids[0] == 2);
    taken(LLAMA, "\"num_key_value_heads\":2,\"head_dim\":32,\"attention_bias\":true,\"mlp_bias\":true,"
                 "\"tie_word_embeddings\":true,\"rope_theta\":500000,\"pretraining_tp\":1,\"sliding_window\":7");
    CHECK(config.n_kv_heads == 2 && config.head_dim == 32 && config.qkv_bias && config.o_bias && config.mlp_bias);
    CHECK(config.tie_word_embeddings && config.rope_theta == 500000.0f && config.sliding_window == 0);
    taken(LLAMA, "\"num_key_value_heads\":null,\"head_dim\":null,\"rope_scaling\":null,\"quantization_config\":null");
    CHECK(config.n_kv_heads == 4 && config.head_dim == 16);
}

TEST(kin_of_llama_differ_where_they_should) {
    taken(MISTRAL, "");
    CHECK_EQ(config.sliding_window, 4096);
    taken(MISTRAL, "\"sliding_window\":null");
    CHECK_EQ(config.sliding_window, 0);
    taken(MISTRAL, "\"sliding_window\":128,\"layer_types\":[\"sliding_attention\",\"sliding_attention\"]");
    CHECK_EQ(config.sliding_window, 128);
    taken("\"model_type\":\"mistral\"," LLAMA_SIZES, "\"num_key_value_heads\":null");
    CHECK_EQ(config.n_kv_heads, 4);
    damaged("\"model_type\":\"mistral\"," LLAMA_SIZES, "",
            "num_key_value_heads 8 does not divide num_attention_heads 4");
    taken(QWEN2, "\"use_sliding_window\":false,\"sliding_window\":4096,\"max_window_layers\":1");
    CHECK(config.qkv_bias && !config.o_bias && !config.mlp_bias && config.sliding_window == 0 && config.n_eos == 0);
    CHECK_EQ(config.bos_token_id, -1);
    taken(QWEN2, "\"attention_bias\":false");
    CHECK(config.qkv_bias);
    taken(QWEN3, "\"layer_types\":[\"full_attention\",\"full_attention\"]");
    CHECK(config.qk_norm && config.head_dim == 128 && !config.qkv_bias);
    taken(QWEN3, "\"attention_bias\":true");
    CHECK(config.qkv_bias && config.o_bias);
}

TEST(rope_is_read_from_both_generations_of_keys) {
    taken(LLAMA, "\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}");
    CHECK(config.rope_type == CCH_ROPE_LINEAR && config.rope_factor == 4.0f && config.rope_theta == 10000.0f);
    taken(LLAMA, "\"rope_theta\":500000.0,\"rope_scaling\":{\"factor\":8.0,\"low_freq_factor\":1.0,"
                 "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"}");
    CHECK(config.rope_type == CCH_ROPE_LLAMA3 && config.rope_factor == 8.0f && config.rope_theta == 500000.0f);
    CHECK(config.rope_low_freq_factor == 1.0f && config.rope_high_freq_factor == 4.0f);
    CHECK_EQ(config.rope_original_max_position, 8192);
    taken(LLAMA, "\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":250000,\"factor\":8,"
                 "\"low_freq_factor\":1,\"high_freq_factor\":4},\"rope_theta\":5");
    CHECK(config.rope_theta == 250000.0f && config.rope_original_max_position == 512);
    taken(LLAMA, "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":100000.0,"
                 "\"partial_rotary_factor\":1.0}");
    CHECK(config.rope_type == CCH_ROPE_DEFAULT && config.rope_theta == 100000.0f);
    taken(LLAMA, "\"original_max_position_embeddings\":100,\"rope_scaling\":{\"factor\":8.0,\"low_freq_factor\":1.0,"
                 "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"}");
    CHECK_EQ(config.rope_original_max_position, 100);
    taken(LLAMA, "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":5e5,\"factor\":null,\"mscale\":null}");
    CHECK_EQ(config.rope_theta, 500000);
    taken(LLAMA, "\"rope_scaling\":{},\"rope_parameters\":{\"type\":\"linear\",\"factor\":2}");
    CHECK_EQ(config.rope_type, CCH_ROPE_LINEAR);
}

#define ENCODER_SIZES "\"vocab_size\":1000,\"hidden_size\":64,\"intermediate_size\":100,\"num_hidden_layers\":5," \
                      "\"num_attention_heads\":4,\"max_position_embeddings\":512"
#define BERT "\"model_type\":\"bert\"," ENCODER_SIZES
#define MODERNBERT "\"model_type\":\"modernbert\"," ENCODER_SIZES

TEST(bert_is_an_encoder) {
    taken(BERT, "");
    CHECK(config.model_type == CCH_ENCODER && strcmp(cch_model_type_name(config.model_type), "encoder") == 0);
    CHECK(config.post_norm && config.embedding_norm && !config.no_first_norm && config.norm == CCH_NORM_LAYER);
    CHECK(config.norm_bias && config.norm_eps == 1e-12f && config.activation == CCH_ACT_GELU_ERF && !config.gated_mlp);
    CHECK(config.qkv_bias && config.o_bias && config.mlp_bias && config.type_vocab_size == 2);
    CHECK(config.position == CCH_POSITION_LEARNED && config.head_dim == 16 && config.n_kv_heads == 4);
    CHECK(!config.tie_word_embeddings && config.n_eos == 0 && cch_config_n_outputs(&config) == 0);
    CHECK(config.sliding_window == 0 && cch_config_window(&config, 1) == 0);
    taken(BERT, "\"type_vocab_size\":1,\"layer_norm_eps\":1e-5,\"hidden_act\":\"relu\","
                "\"gradient_checkpointing\":false,"
                "\"position_embedding_type\":\"absolute\",\"architectures\":[\"BertForMaskedLM\"],\"is_decoder\":false,"
                "\"tie_word_embeddings\":true,\"classifier_dropout\":null,\"use_cache\":true,\"pad_token_id\":0");
    CHECK(config.type_vocab_size == 1 && config.norm_eps == 1e-5f && config.activation == CCH_ACT_RELU);
    unsupported(BERT, "\"position_embedding_type\":\"relative_key\"",
                "position_embedding_type is \"relative_key\", supported: absolute");
    unsupported(BERT, "\"is_decoder\":true", "is_decoder is true, supported: false");
    unsupported(BERT, "\"is_causal\":true", "is_causal is true");
    unsupported(BERT, "\"add_cross_attention\":true", "add_cross_attention");
    unsupported(BERT, "\"architectures\":[\"BertForSequenceClassification\"]",
                "architectures[0] is \"BertForSequenceClassification\", supported: encoders");
    damaged(BERT, "\"type_vocab_size\":0", "type_vocab_size is 0");
}

TEST(modernbert_alternates_windows_and_rotary_bases) {
    taken(MODERNBERT, "");
    CHECK(config.model_type == CCH_ENCODER && !config.post_norm && config.embedding_norm && config.no_first_norm);
    CHECK(!config.norm_bias && config.norm_eps == 1e-5f && config.gated_mlp && config.activation == CCH_ACT_GELU_ERF);
    CHECK(!config.qkv_bias && !config.o_bias && !config.mlp_bias && config.type_vocab_size == 0);
    CHECK(config.position == CCH_POSITION_ROPE);
    CHECK(config.rope_theta == 160000.0f && config.local_rope_theta == 10000.0f);
    CHECK(config.sliding_window == 65 && config.global_every == 3);
    for (int32_t l = 0; l < 5; l++) CHECK_EQ(cch_config_window(&config, l), l % 3 == 0 ? 0 : 65);
    taken(MODERNBERT, "\"local_attention\":9,\"global_attn_every_n_layers\":2,\"global_rope_theta\":5e5,"
                      "\"local_rope_theta\":100,\"norm_bias\":true,\"attention_bias\":true,\"mlp_bias\":true,"
                      "\"position_embedding_type\":\"absolute\",\"rope_scaling\":null,\"decoder_bias\":true");
    CHECK(config.sliding_window == 5 && config.global_every == 2 && config.rope_theta == 5e5f);
    CHECK(config.local_rope_theta == 100.0f && config.norm_bias && config.qkv_bias && config.o_bias && config.mlp_bias);
}

#define KINDS(a, b, c, d, e) "\"layer_types\":[\"" a "_attention\",\"" b "_attention\",\"" c "_attention\",\"" d \
                             "_attention\",\"" e "_attention\"]"

TEST(modernbert_of_newer_files) {
    taken(MODERNBERT, KINDS("full", "sliding", "full", "sliding", "full")
          ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":7e4,\"rope_type\":\"default\"},"
          "\"sliding_attention\":{\"rope_type\":\"default\"}}");
    CHECK(config.global_every == 2 && config.rope_theta == 7e4f && config.local_rope_theta == 10000.0f);
    taken(MODERNBERT, KINDS("full", "full", "full", "full", "full"));
    CHECK_EQ(config.global_every, 1);
    taken(MODERNBERT, KINDS("full", "sliding", "sliding", "sliding", "sliding"));
    CHECK_EQ(config.global_every, 5);
    unsupported(MODERNBERT, KINDS("sliding", "sliding", "sliding", "sliding", "sliding"), "layer_types[0]");
    unsupported(MODERNBERT, KINDS("full", "sliding", "full", "full", "full"), "layer_types[3]");
    unsupported(MODERNBERT, KINDS("full", "sliding", "full", "sliding", "sliding"), "layer_types[4]");
    unsupported(MODERNBERT, KINDS("full", "chunked", "full", "sliding", "full"),
                "\"chunked_attention\", supported: full");
    damaged(MODERNBERT, "\"layer_types\":[\"full_attention\"]", "has 1 entries, expected one for each of 5 layers");
    unsupported(MODERNBERT, "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}", "rope_scaling");
    unsupported(MODERNBERT, "\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\",\"factor\":2}}",
                "rope_type default");
    damaged(MODERNBERT, "\"global_attn_every_n_layers\":0", "global_attn_every_n_layers is 0");
}

/* What the published models' files hold beside the sizes: all of it is taken, and nothing that is ignored matters. */
TEST(options_of_published_models_are_taken) {
    taken(GPT2, "\"architectures\":[\"GPT2LMHeadModel\"],\"attn_pdrop\":0.1,\"embd_pdrop\":0.1,"
                "\"initializer_range\":0.02,\"summary_type\":\"cls_index\",\"summary_use_proj\":true,"
                "\"scale_attn_weights\":true,\"use_cache\":true");
    taken(LLAMA, "\"attention_bias\":false,\"attention_dropout\":0.0,\"eos_token_id\":[1,8,9],\"mlp_bias\":false,"
                 "\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"torch_dtype\":\"bfloat16\",\"rope_interleaved\":false,"
                 "\"is_llama_config\":true,\"pad_token_id\":2,\"transformers.js_config\":{\"kv_cache_dtype\":{}}");
    CHECK(config.n_eos == 3 && config.norm_eps == 1e-5f);
    taken(LLAMA, "\"quantization_config\":{},\"pruned_heads\":{},\"rope_scaling\":null,\"rope_theta\":100000,"
                 "\"tie_word_embeddings\":true,\"attn_logit_softcapping\":null,\"final_logit_softcapping\":null");
    CHECK(config.tie_word_embeddings && config.rope_theta == 100000.0f);
    taken(MISTRAL, "\"head_dim\":32,\"sliding_window\":null,\"rope_theta\":1000000.0");
    CHECK(config.head_dim == 32 && config.sliding_window == 0 && config.rope_theta == 1e6f);
    taken(QWEN2, "\"max_window_layers\":21,\"sliding_window\":null,\"use_mrope\":false,\"use_sliding_window\":false,"
                 "\"layer_types\":[\"full_attention\",\"full_attention\"],\"dtype\":\"bfloat16\"");
    taken(QWEN3, "\"head_dim\":64,\"rope_scaling\":null,\"max_window_layers\":36,\"sliding_window\":null,"
                 "\"rope_parameters\":{\"rope_theta\":1000000,\"rope_type\":\"default\"}");
    CHECK(config.head_dim == 64 && config.rope_theta == 1e6f && config.qk_norm);
    unsupported(QWEN2, "\"layer_types\":[\"full_attention\",\"sliding_attention\"]",
                "layer_types[1] is \"sliding_attention\"");
    unsupported("\"model_type\":\"gemma2\"," LLAMA_SIZES, "\"attn_logit_softcapping\":50.0",
                "model_type is \"gemma2\"");
    unsupported(LLAMA, "\"per_layer_config\":{\"0\":{\"head_dim\":8}}", "per_layer_config is an object of 1");
}

TEST(unsupported_options_are_refused_by_name_and_value) {
    unsupported("\"model_type\":\"falcon\"", "", "model_type is \"falcon\", supported: gpt2, llama");
    unsupported(GPT2, "\"scale_attn_weights\":false", "scale_attn_weights is false, supported: true");
    unsupported(GPT2, "\"scale_attn_by_inverse_layer_idx\":true", "scale_attn_by_inverse_layer_idx is true");
    unsupported(GPT2, "\"reorder_and_upcast_attn\":true", "reorder_and_upcast_attn is true");
    unsupported(GPT2, "\"add_cross_attention\":true", "add_cross_attention is true");
    unsupported(GPT2, "\"pruned_heads\":{\"1\":[0]}", "pruned_heads is an object of 1");
    unsupported(GPT2, "\"activation_function\":\"mish\"", "activation_function is \"mish\", supported: silu");
    unsupported(LLAMA, "\"hidden_act\":\"silu\\u0000\"", "hidden_act is ");
    unsupported(LLAMA, "\"pretraining_tp\":2", "pretraining_tp is 2, supported: 1");
    unsupported(LLAMA, "\"quantization_config\":{\"bits\":4}",
                "quantization_config is an object of 1, supported: null");
    unsupported(LLAMA, "\"partial_rotary_factor\":0.5", "partial_rotary_factor is 0.5, supported: 1");
    unsupported(LLAMA, "\"is_causal\":false", "is_causal is false");
    unsupported(LLAMA, "\"head_dim\":15", "head_dim is 15, supported with RoPE: even");
    unsupported(LLAMA, "\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}", "rope_scaling.type is \"dynamic\"");
    unsupported(LLAMA, "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2}",
                "rope_type is \"yarn\", supported: default");
    unsupported(LLAMA, "\"rope_parameters\":{\"rope_type\":\"longrope\"}", "rope_parameters.rope_type is \"longrope\"");
    unsupported(LLAMA, "\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}",
                "rope_parameters.full_attention is an object of 1");
    unsupported(LLAMA, "\"rope_parameters\":{\"rope_theta\":1e4,\"mscale\":2}", "rope_parameters.mscale is 2");
    unsupported(LLAMA, "\"rope_parameters\":{\"partial_rotary_factor\":0.25}", "partial_rotary_factor is 0.25");
    unsupported(LLAMA, "\"layer_types\":[\"full_attention\",\"sliding_attention\"]",
                "layer_types[1] is \"sliding_attention\"");
    unsupported(MISTRAL, "\"layer_types\":[\"sliding_attention\",\"full_attention\"]",
                "layer_types[1] is \"full_attention\"");
    unsupported(QWEN2, "\"use_sliding_window\":true", "use_sliding_window is true, supported: false");
    unsupported(QWEN3, "\"use_sliding_window\":true", "use_sliding_window is true");
    unsupported(LLAMA, "\"eos_token_id\":[1,2,3,4,5,6,7,8,9]", "eos_token_id[8] is 9, supported: at most 8");
}

TEST(wrong_types_and_numbers_are_refused_by_name_and_value) {
    damaged("\"vocab_size\":1", "", "no key \"model_type\"");
    damaged("\"model_type\":[]", "", "model_type is an array of 0, expected a string");
    damaged("\"model_type\":\"llama\"", "", "no key \"vocab_size\"");
    damaged("\"model_type\":\"llama\",\"vocab_size\":0", "",
            "vocab_size is 0, expected a whole number from 1 to 4194304");
    damaged("\"model_type\":\"llama\",\"vocab_size\":4194305", "", "vocab_size is 4194305");
    damaged("\"model_type\":\"llama\",\"vocab_size\":1e3", "", "vocab_size is 1000, expected a whole number");
    damaged("\"model_type\":\"llama\",\"vocab_size\":99999999999999999999", "", "vocab_size is");
    damaged("\"model_type\":\"llama\",\"vocab_size\":5,\"hidden_size\":65537", "", "hidden_size is 65537");
    damaged("\"model_type\":\"llama\",\"vocab_size\":5,\"hidden_size\":\"64\"", "", "hidden_size is \"64\"");
    damaged("\"model_type\":\"llama\",\"vocab_size\":5,\"hidden_size\":64,\"num_hidden_layers\":1025", "", "1025");
    damaged(LLAMA, "\"num_key_value_heads\":3", "num_key_value_heads 3 does not divide num_attention_heads 4");
    damaged(LLAMA, "\"num_key_value_heads\":8", "num_key_value_heads 8 does not divide");
    damaged(LLAMA, "\"num_key_value_heads\":-1", "num_key_value_heads is -1");
    damaged(LLAMA, "\"head_dim\":5000", "head_dim is 5000");
    damaged(LLAMA, "\"rms_norm_eps\":-1e-6", "rms_norm_eps is -1e-06");
    damaged(LLAMA, "\"rms_norm_eps\":1e999", "rms_norm_eps is inf");
    damaged(LLAMA, "\"rms_norm_eps\":NaN", "'N' at byte");
    damaged(LLAMA, "\"rope_theta\":0", "rope_theta is 0, expected a number from 1");
    damaged(LLAMA, "\"rope_theta\":\"big\"", "rope_theta is \"big\"");
    damaged(LLAMA, "\"rope_scaling\":3", "rope_scaling is 3, expected an object");
    damaged(LLAMA, "\"rope_scaling\":{\"type\":\"linear\"}", "rope_scaling has no key \"factor\"");
    damaged(LLAMA, "\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}", "rope_scaling.factor is 0.5");
    damaged(LLAMA, "\"rope_scaling\":{\"type\":\"llama3\",\"factor\":2,\"low_freq_factor\":4,\"high_freq_factor\":4}",
            "rope_scaling.high_freq_factor is 4, expected more than low_freq_factor 4");
    damaged(LLAMA, "\"tie_word_embeddings\":1", "tie_word_embeddings is 1, expected true or false");
    damaged(LLAMA, "\"is_causal\":\"no\"", "is_causal is \"no\", expected true or false");
    damaged(LLAMA, "\"layer_types\":[\"full_attention\"]",
            "layer_types has 1 entries, expected one for each of 2 layers");
    damaged(LLAMA, "\"bos_token_id\":-2", "bos_token_id is -2");
    damaged(LLAMA, "\"eos_token_id\":[[1]]", "eos_token_id[0] is an array of 1");
    damaged(MISTRAL, "\"sliding_window\":0", "sliding_window is 0");
    damaged(GPT2, "\"n_head\":5", "key \"n_head\" at byte");
    damaged("\"model_type\":\"gpt2\",\"vocab_size\":5,\"n_embd\":10,\"n_layer\":1,\"n_head\":3,\"n_positions\":8", "",
            "n_embd 10 over n_head 3");
    CHECK_STATUS(cch_config_parse("[]", 2, "c", &config, &err), CCH_E_FORMAT, err,
                 "c: the whole text is an array of 0");
}

/* A classifier by its class, and its labels as "a/b/c". */
#define CLASSIFIER LLAMA ",\"architectures\":[\"LlamaForSequenceClassification\"]"

static void labelled(const char *more, const char *wanted) {
    char got[200] = "";
    taken(CLASSIFIER, more);
    CHECK_EQ(config.model_type, CCH_SEQUENCE_CLASSIFICATION);
    for (int32_t i = 0; i < config.n_labels; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i == 0 ? "" : "/", config.labels[i]);
    if (strcmp(got, wanted) != 0) fprintf(stderr, "labels are %s, expected %s\n", got, wanted);
    CHECK(strcmp(got, wanted) == 0);
    cch_config_deinit(&config);
    CHECK(config.labels == NULL && config.n_labels == 0);
}

TEST(classifiers_name_their_outputs_as_in_transformers) {
    labelled("", "LABEL_0/LABEL_1");
    labelled("\"num_labels\":3", "LABEL_0/LABEL_1/LABEL_2");
    labelled("\"num_labels\":null,\"id2label\":null", "LABEL_0/LABEL_1");
    labelled("\"id2label\":{\"0\":\"reward\"},\"num_labels\":7", "reward");
    labelled("\"id2label\":{\"1\":\"\",\"2\":\"caf\\u00e9\",\"0\":\"no\"},\"label2id\":{\"no\":9}", "no//caf\xC3\xA9");
    taken(CLASSIFIER, "\"tie_word_embeddings\":true,\"pad_token_id\":5");
    CHECK(!config.tie_word_embeddings && config.pad_token_id == 5 && cch_config_n_outputs(&config) == 2);
    cch_config_deinit(&config);
    taken(CLASSIFIER, "\"pad_token_id\":1000");
    CHECK_EQ(config.pad_token_id, -1);
    cch_config_deinit(&config);
    CHECK(strcmp(cch_model_type_name(CCH_SEQUENCE_CLASSIFICATION), "sequence_classification") == 0);
    CHECK(strcmp(cch_model_type_name(CCH_CAUSAL_LM), "causal_lm") == 0);
}

TEST(other_models_have_no_labels) {
    const char *const classes[] = {"[\"LlamaForCausalLM\",\"LlamaForSequenceClassification\"]", "[]", "null",
                                   "[\"ForSequenceClassificationLlama\"]", "[\"Classification\"]"};
    for (int i = 0; i < 5; i++) {
        char more[200];
        snprintf(more, sizeof more, "\"architectures\":%s,\"id2label\":{\"x\":3},\"pad_token_id\":3", classes[i]);
        taken(LLAMA, more);
        CHECK(config.model_type == CCH_CAUSAL_LM && config.n_labels == 0 && config.labels == NULL);
        CHECK(config.pad_token_id == -1 && cch_config_n_outputs(&config) == 1000);
    }
}

TEST(labels_that_are_none_are_refused) {
    damaged(LLAMA, "\"architectures\":\"LlamaForCausalLM\"",
            "architectures is \"LlamaForCausalLM\", expected an array");
    damaged(LLAMA, "\"architectures\":[7]", "architectures[0] is 7, expected a string");
    damaged(CLASSIFIER, "\"num_labels\":0", "num_labels is 0, expected a whole number from 1 to 65536");
    damaged(CLASSIFIER, "\"num_labels\":65537", "num_labels is 65537");
    damaged(CLASSIFIER, "\"id2label\":{}", "id2label has 0 labels, expected 1 to 65536");
    damaged(CLASSIFIER, "\"id2label\":[\"no\"]", "id2label is an array of 1, expected an object");
    damaged(CLASSIFIER, "\"id2label\":{\"0\":\"no\",\"2\":\"yes\"}",
            "id2label has the key \"2\", expected the numbers 0 to 1");
    damaged(CLASSIFIER, "\"pad_token_id\":-7", "pad_token_id is -7");
}

TEST(special_ids_come_from_both_files) {
    tempdir dir = tempdir_new();
    taken(LLAMA, "\"bos_token_id\":5,\"eos_token_id\":[7,8,7,1000,-1]");
    CHECK(config.bos_token_id == 5 && config.n_eos == 2 && config.eos_token_ids[0] == 7 &&
          config.eos_token_ids[1] == 8);
    taken(LLAMA, "\"bos_token_id\":null,\"eos_token_id\":null");
    CHECK(config.bos_token_id == -1 && config.n_eos == 0);
    taken(LLAMA, "\"bos_token_id\":1000");
    CHECK_EQ(config.bos_token_id, -1);

    CHECK_STATUS(cch_config_open(dir.path, &config, &err), CCH_E_IO, err, "config.json: No such file");
    tempdir_write_text(&dir, "config.json", "{" LLAMA ",\"eos_token_id\":7}");
    CHECK_OK(cch_config_open(dir.path, &config, &err), err);
    CHECK_EQ(config.n_eos, 1);
    tempdir_write_text(&dir, "generation_config.json", "{\"eos_token_id\":[9,7],\"temperature\":0.6}");
    CHECK_OK(cch_config_open(dir.path, &config, &err), err);
    CHECK(config.n_eos == 2 && config.eos_token_ids[0] == 7 && config.eos_token_ids[1] == 9);
    tempdir_write_text(&dir, "generation_config.json", "[]");
    CHECK_STATUS(cch_config_open(dir.path, &config, &err), CCH_E_FORMAT, err, "generation_config.json: the whole");
    tempdir_free(&dir);
}

static cch_status open_from(const char *folder) {
    cch_status status = cch_config_open(folder, &config, &err);
    cch_config_deinit(&config);
    return status;
}

TEST(no_memory_leaves_nothing_behind) {
    tempdir dir = tempdir_new();
    tempdir_write_text(&dir, "config.json", "{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}");
    tempdir_write_text(&dir, "generation_config.json", "{\"eos_token_id\":9}");
    CHECK_OOM(open_from(dir.path));
    tempdir_write_text(&dir, "config.json", "{" CLASSIFIER ",\"id2label\":{\"0\":\"no\",\"1\":\"yes\"}}");
    CHECK_OOM(open_from(dir.path));
    tempdir_free(&dir);
}

CHECK_MAIN()
