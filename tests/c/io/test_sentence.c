/* What sentence-transformers writes beside a model: what is read, what holds without it, what is refused. */
#include "io/sentence.h"

#include <sys/stat.h> /* mkdir */

#include "check.h"
#include "tempdir.h"

static const cch_config config = {.architecture = "bert", .model_type = CCH_ENCODER, .max_position_embeddings = 512};

#define STAGE(type, path) "{\"idx\":0,\"path\":\"" path "\",\"type\":\"sentence_transformers.models." type "\"}"
#define STAGES "[" STAGE("Transformer", "") "," STAGE("Pooling", "1_Pooling") "," STAGE("Normalize", "2_Normalize") "]"

typedef struct files { /* NULL: not there */
    const char *modules, *pooling, *transformer, *tokenizer, *prompts;
} files;

static files staged(const char *modules, const char *pooling) {
    return (files){.modules = modules, .pooling = pooling};
}

static cch_status open_files(files f, cch_sentence *out, cch_error *err) {
    const char *const names[] = {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
                                 "tokenizer_config.json", "config_sentence_transformers.json"};
    const char *const texts[] = {f.modules, f.pooling, f.transformer, f.tokenizer, f.prompts};
    char path[400];
    tempdir dir = tempdir_new();
    mkdir(tempdir_path(&dir, "1_Pooling", path), 0700);
    for (int i = 0; i < 5; i++)
        if (texts[i] != NULL) tempdir_write_text(&dir, names[i], texts[i]);
    cch_status status = cch_sentence_open(dir.path, &config, out, err);
    if (f.pooling != NULL) tempdir_unlink(&dir, names[1]);
    rmdir(path);
    tempdir_free(&dir);
    return status;
}

static void taken(files f, cch_pooling pooling, int32_t max_tokens) {
    cch_sentence got;
    cch_error err;
    CHECK_OK(open_files(f, &got, &err), err);
    CHECK_EQ(got.pooling, pooling);
    CHECK_EQ(got.max_tokens, max_tokens);
}

static void refused(files f, cch_status status, const char *words) {
    cch_sentence got = {CCH_POOL_LAST, 7};
    cch_error err;
    CHECK_STATUS(open_files(f, &got, &err), status, err, words);
    CHECK(got.pooling == 0 && got.max_tokens == 0);
}

TEST(without_files_the_mean_of_all_positions) { taken(staged(NULL, NULL), CCH_POOL_MEAN, 512); }

TEST(poolings) {
    taken(staged(STAGES, "{\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":false,"
                           "\"word_embedding_dimension\":384}"), CCH_POOL_MEAN, 512);
    taken(staged(STAGES, "{\"pooling_mode_cls_token\":true,\"pooling_mode_max_tokens\":false}"), CCH_POOL_CLS, 512);
    taken(staged(STAGES, "{\"pooling_mode_lasttoken\":true,\"include_prompt\":true}"), CCH_POOL_LAST, 512);
    taken(staged(STAGES, "{\"pooling_mode\":\"cls\"}"), CCH_POOL_CLS, 512);
    taken(staged(STAGES, "{\"pooling_mode\":\"lasttoken\"}"), CCH_POOL_LAST, 512);
    taken(staged("[" STAGE("Transformer", "") "," STAGE("Pooling", "1_Pooling") "]", "{\"pooling_mode\":\"mean\"}"),
          CCH_POOL_MEAN, 512);
    refused(staged(STAGES, "{}"), CCH_E_UNSUPPORTED, "has 0 pooling modes");
    refused(staged(STAGES, "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":true}"), CCH_E_UNSUPPORTED,
            "has 2 pooling modes, supported: one");
    refused(staged(STAGES, "{\"pooling_mode_max_tokens\":true}"), CCH_E_UNSUPPORTED,
            "pooling_mode_max_tokens is true, supported: pooling_mode_mean_tokens");
    refused(staged(STAGES, "{\"pooling_mode\":\"max\"}"), CCH_E_UNSUPPORTED, "pooling_mode is \"max\"");
    refused(staged(STAGES, "{\"pooling_mode_cls_token\":1}"), CCH_E_FORMAT, "pooling_mode_cls_token");
    refused(staged(STAGES, "[]"), CCH_E_FORMAT, NULL);
    refused(staged(STAGES, NULL), CCH_E_IO, "1_Pooling has no config.json");
}

TEST(stages) {
    const char *pooling = "{\"pooling_mode\":\"mean\"}";
    refused(staged("[" STAGE("Transformer", "") "]", pooling), CCH_E_UNSUPPORTED, "has 1 stages");
    refused(staged("[" STAGE("Pooling", "1_Pooling") "]", pooling), CCH_E_UNSUPPORTED, "[0].type is");
    refused(staged("[" STAGE("Transformer", "") "," STAGE("Pooling", "1_Pooling") "," STAGE("Dense", "2_Dense") "]",
                    pooling), CCH_E_UNSUPPORTED, "models.Dense\", supported: Transformer, Pooling");
    refused(staged("[" STAGE("Transformer", "") "," STAGE("Pooling", "../1_Pooling") "]", pooling), CCH_E_UNSUPPORTED,
            "path is \"../1_Pooling\", supported: the name of a folder");
    refused(staged("[" STAGE("Transformer", "") "," STAGE("Pooling", "..") "]", pooling), CCH_E_UNSUPPORTED, "..");
    refused(staged("[" STAGE("Transformer", "") "," STAGE("Pooling", "1_\\u0000") "]", pooling), CCH_E_UNSUPPORTED,
            "path");
    refused(staged("{}", pooling), CCH_E_FORMAT, NULL);
    refused(staged("[{}]", pooling), CCH_E_FORMAT, "type");
    refused(staged("[", pooling), CCH_E_FORMAT, "modules.json");
}

TEST(lengths) {
    taken((files){.transformer = "{\"max_seq_length\":256,\"do_lower_case\":false}",
                  .tokenizer = "{\"model_max_length\":128}"}, CCH_POOL_MEAN, 256); /* the Transformer's own counts */
    taken((files){.transformer = "{\"max_seq_length\":9999}"}, CCH_POOL_MEAN, 512);
    taken((files){.transformer = "{\"max_seq_length\":null}", .tokenizer = "{\"model_max_length\":128}"},
          CCH_POOL_MEAN, 128);
    taken((files){.tokenizer = "{\"model_max_length\":1000000000000000019884624838656,\"truncation_side\":\"right\"}"},
          CCH_POOL_MEAN, 512);
    refused((files){.transformer = "{\"max_seq_length\":0}"}, CCH_E_FORMAT, "max_seq_length is 0");
    refused((files){.transformer = "{\"max_seq_length\":\"9\"}"}, CCH_E_FORMAT, "max_seq_length");
    refused((files){.transformer = "{\"do_lower_case\":true}"}, CCH_E_UNSUPPORTED, "do_lower_case is true");
    refused((files){.tokenizer = "{\"truncation_side\":\"left\"}"}, CCH_E_UNSUPPORTED, "\"left\", supported: right");
}

TEST(prompts) {
    taken((files){.prompts = "{\"prompts\":{\"query\":\"query: \"},\"default_prompt_name\":null}"}, CCH_POOL_MEAN, 512);
    refused((files){.prompts = "{\"default_prompt_name\":\"query\"}"}, CCH_E_UNSUPPORTED,
            "default_prompt_name is \"query\", supported: null");
}

static cch_status open_all(void) {
    cch_sentence got;
    return open_files((files){STAGES, "{\"pooling_mode\":\"cls\"}", "{\"max_seq_length\":9}", "{}", "{}"}, &got, NULL);
}

TEST(no_memory) { CHECK_OOM(open_all()); }

CHECK_MAIN()
