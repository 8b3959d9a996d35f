/* Checkpoints: what they show, and as models. */
#include "check.h"
#include "ptfile.h"
#include "tempdir.h"

static cch_error err;
static ptfile f;
static char path[400];

static tempdir checkpoint_new(int generation) {
    tempdir dir = tempdir_new();
    pt_model(&f, generation);
    tempdir_write(&dir, "m.pt", f.file, f.n_file);
    tempdir_path(&dir, "m.pt", path);
    return dir;
}

TEST(a_checkpoint_shows_what_it_holds) {
    tempdir dir = checkpoint_new(2);
    cch_checkpoint *c = NULL;
    cch_checkpoint_tensor tensor;
    cch_value value, key;
    float numbers[2048];
    CHECK_OK(cch_checkpoint_open(path, &c, &err), err);
    CHECK_EQ(cch_checkpoint_generation(c), 2);
    CHECK(cch_checkpoint_get(c, "step", &value) && value.kind == CCH_VALUE_INT && value.integer == -3);
    CHECK(!cch_checkpoint_get(c, "best_val_loss", &value));
    CHECK(cch_checkpoint_get(c, "model_cfg", &value) && value.kind == CCH_VALUE_DICT && value.n == 12);
    CHECK(value.id < cch_checkpoint_values(c));
    cch_checkpoint_item(c, &value, 2, &key);
    CHECK(key.kind == CCH_VALUE_TEXT && key.n == 1 && key.bytes[0] == 'T');
    CHECK(cch_checkpoint_get(c, "model_state", &value));
    cch_checkpoint_item(c, &value, 1, &key);
    CHECK_EQ(key.kind, CCH_VALUE_OTHER);
    CHECK_EQ(cch_checkpoint_tensors(c), 12);
    cch_checkpoint_get_tensor(c, 11, &tensor);
    CHECK(strcmp(tensor.name, "tok_emb.weight") == 0 && tensor.n_dims == 2 && tensor.n_numbers == 2048);
    cch_checkpoint_read_tensor(c, 11, numbers);
    CHECK(memcmp(numbers, f.data, sizeof numbers) == 0);
    cch_checkpoint_close(c);
    tempdir_free(&dir);
}

static cch_status open_close(void) {
    cch_checkpoint *c = NULL;
    cch_status status = cch_checkpoint_open(path, &c, &err);
    cch_checkpoint_close(c);
    return status;
}

static cch_status run_model(float *logits, const int32_t *ids, size_t n, const char *isa) {
    cch_model_options options = {.n_threads = 1, .isa = isa};
    cch_model *m = NULL;
    cch_state *s = NULL;
    cch_status status = cch_model_open(path, &options, &m, &err);
    if (status == CCH_OK) status = cch_state_new(m, &s, &err);
    if (status == CCH_OK) status = cch_state_append(s, ids, n, &err);
    if (status == CCH_OK) status = cch_eval(m, &s, 1, NULL, logits, &err);
    cch_state_free(s);
    cch_model_unref(m);
    return status;
}

TEST(a_checkpoint_is_a_model) {
    const int32_t ids[7] = {0, 4, 2, 2, 1, 3, 0};
    for (int generation = 1; generation <= 2; generation++) {
        tempdir dir = checkpoint_new(generation);
        float plain[256], best[256];
        CHECK_OK(run_model(plain, ids, 7, "generic"), err);
        CHECK_OK(run_model(best, ids, 7, NULL), err);
        CHECK(memcmp(plain, best, sizeof plain) == 0);
        for (int i = 0; i < 256; i++) CHECK(isfinite(plain[i]));
        tempdir_free(&dir);
    }
}

TEST(a_model_of_256_tokens_reads_bytes) {
    tempdir dir = checkpoint_new(2);
    cch_model *m = NULL;
    cch_model_info info;
    cch_model_options options = CCH_MODEL_OPTIONS_INIT;
    CHECK_OK(cch_model_open(path, NULL, &m, &err), err);
    cch_model_get_info(m, &info);
    CHECK_EQ(info.n_eos, 0);
    CHECK_EQ(cch_tokenizer_size(cch_model_tokenizer_view(m)), 256);
    cch_model_unref(m);
    options.tokenizer = "/nowhere/spm.model";
    CHECK_STATUS(cch_model_open(path, &options, &m, &err), CCH_E_IO, err, "/nowhere/spm.model");
    CHECK_STATUS(cch_model_open(dir.path, &options, &m, &err), CCH_E_ARGUMENT, err, "only a checkpoint");
    tempdir_free(&dir);
}

TEST(keys_are_shown_as_pairs) {
    tempdir dir = checkpoint_new(1);
    const int32_t ids[2] = {3, 3};
    float keys[2][2][4]; /* heads, positions, channels */
    cch_model *m = NULL;
    cch_state *s = NULL;
    CHECK_OK(cch_model_open(path, NULL, &m, &err), err);
    CHECK_OK(cch_state_new(m, &s, &err), err);
    CHECK_OK(cch_state_append(s, ids, 2, &err), err);
    CHECK_OK(cch_state_kv(s, 0, 0, 2, &keys[0][0][0], NULL, NULL, &err), err);
    for (int h = 0; h < 2; h++) /* position 0 is not rotated: position 1 is it, turned by one step of each pair */
        for (int i = 0; i < 2; i++) {
            double a = pow(10000.0, -2.0 * i / 4);
            double even = (double)keys[h][0][2 * i], odd = (double)keys[h][0][2 * i + 1];
            CHECK(fabs((double)keys[h][1][2 * i] - (even * cos(a) - odd * sin(a))) < 1e-6);
            CHECK(fabs((double)keys[h][1][2 * i + 1] - (even * sin(a) + odd * cos(a))) < 1e-6);
        }
    cch_state_free(s);
    cch_model_unref(m);
    tempdir_free(&dir);
}

TEST(weights_that_are_no_numbers_are_warned_of) {
    tempdir dir = checkpoint_new(1);
    cch_model *m = NULL;
    CHECK_OK(cch_model_open(path, NULL, &m, &err), err);
    CHECK(strcmp(cch_model_warning_view(m), "") == 0);
    cch_model_unref(m);
    const unsigned char nan[4] = {0, 0, 0xC0, 0x7F};
    bool found = false;
    for (size_t at = 0; at + 32 < f.n_file && !found; at++) {
        found = memcmp(f.file + at, f.data + f.first[1], 32) == 0; /* or numbers that are the same */
        if (found) memcpy(f.file + at, nan, 4);
    }
    tempdir_write(&dir, "m.pt", f.file, f.n_file);
    CHECK_OK(cch_model_open(path, NULL, &m, &err), err);
    CHECK(strcmp(cch_model_warning_view(m), "1 of the weights is NaN or infinite") == 0);
    cch_model_unref(m);
    tempdir_free(&dir);
}

TEST(no_memory) {
    tempdir dir = checkpoint_new(2);
    CHECK_OOM(open_close());
    const int32_t ids[3] = {0, 1, 2};
    float logits[256];
    CHECK_OOM(run_model(logits, ids, 3, NULL));
    tempdir_free(&dir);
}

TEST(files_that_are_not_there) {
    cch_checkpoint *c = NULL;
    CHECK_STATUS(cch_checkpoint_open("/nowhere/m.pt", &c, &err), CCH_E_IO, err, "/nowhere/m.pt");
    CHECK_STATUS(cch_checkpoint_open(P_tmpdir, &c, &err), CCH_E_IO, err, NULL);
    CHECK_STATUS(cch_checkpoint_open(NULL, &c, &err), CCH_E_ARGUMENT, err, "NULL");
    CHECK(c == NULL);
    cch_checkpoint_close(NULL);
}

CHECK_MAIN()
