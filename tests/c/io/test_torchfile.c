#include "io/torchfile.h"

#include "check.h"
#include "ptfile.h"
#include "tempdir.h"

static cch_error err;
static ptfile f;

static cch_status parse_close(void) {
    cch_torchfile file;
    cch_status status = cch_torchfile_parse(f.file, f.n_file, "m.pt", &file, &err);
    CHECK(status == CCH_OK || (file.tensors == NULL && file.pickle.values == NULL));
    cch_torchfile_close(&file);
    return status;
}

static void begin(void) {
    memset(&f, 0, sizeof f);
    pt_op(&f, "\x80\x02}");
    pt_text(&f, "model_state");
    pt_op(&f, "}(");
}

static void finish(void) {
    pt_op(&f, "us.");
    pt_archive(&f);
}

TEST(tensors_of_model_state) {
    cch_torchfile file;
    tempdir dir = tempdir_new();
    char path[400];
    begin();
    pt_tensor(&f, "w", 2, 3, 4);
    pt_tensor(&f, "b", 1, 4, 0);
    finish();
    tempdir_write(&dir, "m.pt", f.file, f.n_file);
    CHECK_OK(cch_torchfile_open(tempdir_path(&dir, "m.pt", path), &file, &err), err);
    const cch_tensor_view *w = cch_tensors_find(file.tensors, "w");
    CHECK_EQ(cch_tensors_count(file.tensors), 2);
    CHECK(w != NULL && w->dtype == CCH_DTYPE_F32 && w->n_dims == 2 && w->shape[0] == 3 && w->shape[1] == 4);
    CHECK(w != NULL && !w->strided && memcmp(w->data, f.data, 48) == 0);
    cch_torchfile_close(&file);
    CHECK_OOM(parse_close());
    tempdir_free(&dir);
}

TEST(files_cut_anywhere_are_refused) {
    begin();
    pt_tensor(&f, "w", 2, 3, 4);
    finish();
    for (size_t whole = f.n_file, n = 0; n < whole; n++) {
        f.n_file = n;
        CHECK_EQ(parse_close(), CCH_E_FORMAT);
    }
}

TEST(what_is_no_dict_of_tensors) {
    begin(), pt_field(&f, "w", 3), finish();
    CHECK_STATUS(parse_close(), CCH_E_FORMAT, err, "w in model_state is an int");
    begin(), pt_int(&f, 3), pt_int(&f, 3), finish();
    CHECK_STATUS(parse_close(), CCH_E_FORMAT, err, "name in model_state is an int");
    begin(), pt_tensor(&f, "w", 1, 4, 0), pt_tensor(&f, "w", 1, 4, 0), finish();
    CHECK_STATUS(parse_close(), CCH_E_FORMAT, err, "tensor w is in");
    begin(), pt_tensor(&f, "w", 1, 4, 0), f.size[0] = 12, finish();
    CHECK_STATUS(parse_close(), CCH_E_FORMAT, err, "claims 4 numbers, its entry holds 3");
    begin(), pt_tensor(&f, "w", 1, 4, 0), f.n_storages = 0, finish();
    CHECK_STATUS(parse_close(), CCH_E_FORMAT, err, "storage 0 of tensor w is missing");
}

CHECK_MAIN()
