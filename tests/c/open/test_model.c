/* Opening a model folder: what it reports, what changes its fingerprint, and everything that can go wrong. */
#include "folder.h"

static cch_model *open_ok(tempdir *f, const cch_model_options *options) {
    cch_model *model = NULL;
    cch_error err;
    CHECK_OK(cch_model_open(f->path, options, &model, &err), err);
    return model;
}

TEST(a_model_says_what_it_is) {
    tempdir f = folder_new();
    cch_model_info info;
    cch_model_stats stats;
    cch_error err;
    cch_model_options options = {.n_threads = 2, .kv_budget_bytes = 1 << 20, .isa = "generic"};
    cch_model *model = open_ok(&f, &options);
    cch_model_get_info(model, &info);
    CHECK(info.model_type == CCH_CAUSAL_LM && info.n_labels == 0 && info.pad_token_id == -1);
    CHECK(strcmp(info.architecture, "llama") == 0 && strcmp(info.isa, "generic") == 0);
    CHECK_EQ(strlen(info.fingerprint), 64);
    CHECK_EQ(info.vocab_size, FOLDER_VOCAB);
    CHECK_EQ(info.head_dim, 8);
    CHECK_EQ(info.n_ctx, 64);
    CHECK_EQ(info.n_threads, 2);
    CHECK_EQ(info.eos_token_ids[0], 1);
    CHECK_EQ(info.n_parameters, 20 * 16 + 16 + 2 * (2 * 16 * 16 + 2 * 8 * 16 + 3 * 24 * 16 + 2 * 16));
    CHECK_EQ(info.page_bytes, 2 * 16 * (8 + 16) * sizeof(float));
    CHECK(info.weight_bytes >= (size_t)info.n_parameters * sizeof(float));
    cch_model_get_stats(model, &stats);
    CHECK_EQ(stats.kv_budget_bytes, 1 << 20);
    CHECK_EQ(stats.forwards, 0);
    CHECK(cch_model_tokenizer_view(model) == NULL);
    CHECK_OK(cch_model_check(model, &err), err);
    cch_model_unref(model);
    tempdir_free(&f);
}

TEST(a_reference_keeps_the_model) {
    tempdir f = folder_new();
    cch_model_info info;
    cch_model *model = open_ok(&f, NULL);
    CHECK(cch_model_ref(model) == model);
    cch_model_unref(model);
    cch_model_get_info(model, &info);
    CHECK(info.n_threads >= 1);
    cch_model_unref(model);
    cch_model_unref(NULL);
    tempdir_free(&f);
}

TEST(budget_and_threads_can_change) {
    tempdir f = folder_new();
    cch_model_info info;
    cch_model_stats stats;
    cch_error err;
    cch_model *model = open_ok(&f, NULL);
    cch_model_set_budget(model, 12345678, true);
    cch_model_get_stats(model, &stats);
    CHECK_EQ(stats.kv_budget_bytes, 12345678);
    CHECK_OK(cch_model_set_threads(model, 3, &err), err);
    cch_model_get_info(model, &info);
    CHECK_EQ(info.n_threads, 3);
    CHECK_STATUS(cch_model_set_threads(model, 0, &err), CCH_E_ARGUMENT, err, "n_threads is 0");
    CHECK_STATUS(cch_model_set_threads(model, 257, &err), CCH_E_ARGUMENT, err, "1 to 256");
    cch_model_unref(model);
    tempdir_free(&f);
}

TEST(embedding_rows) {
    tempdir f = folder_new();
    cch_error err;
    float row[FOLDER_HIDDEN];
    cch_model *model = open_ok(&f, NULL);
    CHECK_OK(cch_model_embedding(model, 3, row, &err), err);
    for (int i = 0; i < FOLDER_HIDDEN; i++) CHECK(row[i] == folder_value((size_t)(3 * FOLDER_HIDDEN + i), 0));
    CHECK_STATUS(cch_model_embedding(model, FOLDER_VOCAB, row, &err), CCH_E_TOKEN_ID, err, "token id 20");
    CHECK_STATUS(cch_model_embedding(model, -1, row, &err), CCH_E_TOKEN_ID, err, "0 to 19");
    cch_model_unref(model);
    tempdir_free(&f);
}

static void fingerprint_of(tempdir *f, char out[65]) {
    cch_model_info info;
    cch_model *model = open_ok(f, NULL);
    cch_model_get_info(model, &info);
    memcpy(out, info.fingerprint, sizeof info.fingerprint);
    cch_model_unref(model);
}

TEST(the_fingerprint_knows_weights_and_configuration) {
    tempdir f = folder_new();
    char first[65], again[65], weights[65], config[65], text[sizeof folder_config];
    fingerprint_of(&f, first);
    fingerprint_of(&f, again);
    CHECK(strcmp(first, again) == 0);
    folder_weights(&f, 1);
    fingerprint_of(&f, weights);
    CHECK(strcmp(first, weights) != 0);
    folder_weights(&f, 0);
    strcpy(text, folder_config);
    memcpy(strstr(text, "1e-5"), "1e-6", 4);
    tempdir_write_text(&f, "config.json", text);
    fingerprint_of(&f, config);
    CHECK(strcmp(first, config) != 0);
    CHECK(strcmp(weights, config) != 0);
    tempdir_free(&f);
}

TEST(bad_options_are_named) {
    tempdir f = folder_new();
    cch_error err;
    cch_model *model = NULL;
    cch_model_options options = CCH_MODEL_OPTIONS_INIT;
    options.n_threads = -1;
    CHECK_STATUS(cch_model_open(f.path, &options, &model, &err), CCH_E_ARGUMENT, err, "n_threads is -1");
    options.n_threads = 1;
    options.isa = "sse9";
    CHECK_STATUS(cch_model_open(f.path, &options, &model, &err), CCH_E_ARGUMENT, err, "sse9");
    options.isa = NULL;
    options.kv_dtype = "int8";
    CHECK_STATUS(cch_model_open(f.path, &options, &model, &err), CCH_E_ARGUMENT, err,
                 "kv_dtype is \"int8\", allowed: \"f32\", \"bf16\"");
    CHECK_STATUS(cch_model_open(NULL, NULL, &model, &err), CCH_E_ARGUMENT, err, "NULL");
    CHECK(model == NULL);
    tempdir_free(&f);
}

TEST(missing_files_are_named_with_their_folder) {
    tempdir f = folder_new();
    cch_error err;
    cch_model *model = NULL;
    tempdir_unlink(&f, "model.safetensors");
    CHECK_STATUS(cch_model_open(f.path, NULL, &model, &err), CCH_E_IO, err, f.path);
    tempdir_unlink(&f, "config.json");
    CHECK_STATUS(cch_model_open(f.path, NULL, &model, &err), CCH_E_IO, err, f.path);
    CHECK_STATUS(cch_model_open("/no/such/folder", NULL, &model, &err), CCH_E_IO, err, "/no/such/folder");
    CHECK(model == NULL);
    tempdir_free(&f);
}

TEST(a_damaged_tokenizer_is_an_error_and_not_ignored) {
    tempdir f = folder_new();
    cch_error err;
    cch_model *model = NULL;
    tempdir_write_text(&f, "tokenizer.json", "{");
    CHECK_STATUS(cch_model_open(f.path, NULL, &model, &err), CCH_E_FORMAT, err, NULL);
    CHECK(model == NULL);
    tempdir_free(&f);
}

/* Byte-level vocabulary of `n` single printable characters, no merges. */
static void write_vocab(tempdir *f, int n) {
    char text[1024] = "{";
    for (int i = 0; i < n; i++) sprintf(text + strlen(text), "%s\"%c\": %d", i ? ", " : "", 'A' + i, i);
    strcat(text, "}");
    tempdir_write_text(f, "vocab.json", text);
    tempdir_write_text(f, "merges.txt", "#version: 0.2\n");
}

TEST(a_tokenizer_must_fit_the_vocabulary) {
    tempdir f = folder_new();
    cch_error err;
    cch_model *model = NULL;
    char without[65], with[65];
    fingerprint_of(&f, without);
    write_vocab(&f, FOLDER_VOCAB);
    fingerprint_of(&f, with);
    CHECK(strcmp(without, with) != 0);
    write_vocab(&f, FOLDER_VOCAB + 1);
    CHECK_STATUS(cch_model_open(f.path, NULL, &model, &err), CCH_E_FORMAT, err, "21 ids");
    tempdir_free(&f);
}

TEST(the_options_of_a_vocabulary_of_lines_are_part_of_the_fingerprint) {
    tempdir f = folder_new();
    char without[65], plain[65], cased[65];
    fingerprint_of(&f, without);
    tempdir_write_text(&f, "tokenizer_config.json", "{\"do_lower_case\": false}");
    fingerprint_of(&f, plain);
    CHECK(strcmp(without, plain) == 0); /* there is nothing that they could be options of */
    tempdir_write_text(&f, "vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\nA\n");
    fingerprint_of(&f, cased);
    tempdir_write_text(&f, "tokenizer_config.json", "{}");
    fingerprint_of(&f, plain);
    CHECK(strcmp(without, plain) != 0 && strcmp(plain, cased) != 0);
    cch_model *model = open_ok(&f, NULL);
    CHECK_EQ(cch_tokenizer_find(cch_model_tokenizer_view(model), "A", 1), 4);
    cch_model_unref(model);
    tempdir_free(&f);
}

TEST(a_classifier_says_its_labels) {
    tempdir f = folder_new();
    cch_model_info info;
    char first[65], renamed[65];
    folder_weights_of(&f, 0, 2);
    folder_labels(&f, "\"1\": \"good\", \"0\": \"bad\"");
    fingerprint_of(&f, first);
    cch_model *model = open_ok(&f, NULL);
    cch_model_get_info(model, &info);
    CHECK(info.model_type == CCH_SEQUENCE_CLASSIFICATION && info.n_labels == 2 && info.pad_token_id == -1);
    CHECK(strcmp(cch_model_label_view(model, 0), "bad") == 0 && strcmp(cch_model_label_view(model, 1), "good") == 0);
    cch_model_unref(model);
    folder_labels(&f, "\"1\": \"bad\", \"0\": \"good\"");
    fingerprint_of(&f, renamed);
    CHECK(strcmp(first, renamed) != 0);
    tempdir_free(&f);
}

static cch_status open_and_close(tempdir *f) {
    cch_model_options options = {.n_threads = 2};
    cch_model *model = NULL;
    cch_status status = cch_model_open(f->path, &options, &model, NULL);
    cch_model_unref(model);
    return status;
}

TEST(memory_that_cannot_be_had) {
    tempdir f = folder_new();
    write_vocab(&f, FOLDER_VOCAB);
    CHECK_OOM(open_and_close(&f));
    folder_weights_of(&f, 0, 2);
    folder_labels(&f, "\"1\": \"good\", \"0\": \"bad\"");
    CHECK_OOM(open_and_close(&f));
    tempdir_free(&f);
}

CHECK_MAIN()
