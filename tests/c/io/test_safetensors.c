#include "io/safetensors.h"

#include "base/alloc.h"
#include "check.h"
#include "tempdir.h"

static cch_error err;
static unsigned char file[1 << 16];

/* A file of this header and n bytes of data (0, 1, 2, ...); its size. */
static size_t make(const char *header, size_t n) {
    size_t len = strlen(header);
    for (size_t i = 0; i < 8; i++) file[i] = (unsigned char)(len >> 8 * i);
    memcpy(file + 8, header, len);
    for (size_t i = 0; i < n; i++) file[8 + len + i] = (unsigned char)i;
    return 8 + len + n;
}

static cch_status parse(const char *header, size_t n, cch_tensors **out) {
    return cch_tensors_parse(file, make(header, n), "m", out, &err);
}

static void refused(const char *header, size_t n, const char *words) {
    cch_tensors *t = NULL;
    CHECK_STATUS(parse(header, n, &t), CCH_E_FORMAT, err, words);
    CHECK(t == NULL);
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define B "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}"

TEST(tensors_are_found_by_name_and_listed_in_order) {
    cch_tensors *t = NULL;
    CHECK_OK(parse("{" B "," A ",\"__metadata__\":{\"format\":\"pt\"}}", 32, &t), err);
    CHECK_EQ(cch_tensors_count(t), 2);
    CHECK(strcmp(cch_tensors_at(t, 0)->name, "a") == 0 && strcmp(cch_tensors_at(t, 1)->name, "b") == 0);
    const cch_tensor_view *a = cch_tensors_find(t, "a");
    CHECK(a == cch_tensors_at(t, 0) && cch_tensors_find(t, "c") == NULL && cch_tensors_find(t, "__metadata__") == NULL);
    CHECK(a->dtype == CCH_DTYPE_F32 && a->n_dims == 2 && a->shape[0] == 2 && a->shape[1] == 3);
    CHECK(a->n_elements == 6 && a->n_bytes == 24 && a->data[0] == 0 && a->data[23] == 23);
    char shown[CCH_TENSOR_TEXT];
    CHECK(strcmp(cch_tensor_show(a, shown), "F32 [2, 3]") == 0);
    cch_tensors_close(t);
}

TEST(empty_tensors_scalars_and_empty_files_are_fine) {
    cch_tensors *t = NULL;
    CHECK_OK(parse("{}", 0, &t), err);
    CHECK(cch_tensors_count(t) == 0 && cch_tensors_find(t, "a") == NULL);
    cch_tensors_close(t);
    CHECK_OK(parse("{\"e\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[4,4]},"
                   "\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                   "\"f\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[0,0]}}   ", 4, &t), err);
    CHECK_EQ(cch_tensors_find(t, "s")->n_elements, 1);
    CHECK_EQ(cch_tensors_find(t, "e")->n_elements, 0);
    cch_tensors_close(t);
}

TEST(holes_overlaps_and_leftovers_are_refused) {
    refused("{" A "}", 28, "take 24 bytes of 28");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "leaves a hole: expected 0");
    refused("{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[20,32]}}", 32, "an overlap: expected 24");
    refused("{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24]}}", 24, "an overlap");
    refused("{" A "," A "}", 24, "key \"a\" at byte 57 is there twice");
}

TEST(numbers_that_do_not_fit_are_refused) {
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,24]}}", 24,
            "m: a: F32 [2] does not fill its 24 bytes");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,25]}}", 24, "a.data_offsets[1] is 25");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,8]}}", 24, "a.data_offsets[1] is 8");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 24, "a.data_offsets[0] is -8");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,24]}}", 24, "a.shape[0] is -1");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0,3],\"data_offsets\":[0,24]}}", 24, "a.shape[0] is 2,");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "overflows");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0, "does not fill");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "9 dimensions");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4, "has 3 numbers");
    refused("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "does not fill");
}

TEST(headers_of_another_form_are_refused) {
    refused("[]", 0, "expected an object");
    refused("{\"a\":[]}", 0, "m: a is an array of 0, expected an object");
    refused("{\"a\":{\"shape\":[],\"data_offsets\":[0,0]}}", 0, "m: a has no key \"dtype\"");
    refused("{\"a\":{\"dtype\":7,\"shape\":[],\"data_offsets\":[0,0]}}", 0, "a.dtype is 7");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,0]}}", 0, "a.shape is an object");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]}}", 4, "deeper");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":\"0\"}}", 0, "a.data_offsets is \"0\"");
    refused("{\"a\\u0000\":{}}", 0, "\\u0000");
    refused("{\"a\xFF\":{}}", 0, "0xFF");
    refused("{} x", 0, "'x'");
}

TEST(header_lengths_are_checked_before_use) {
    cch_tensors *t = NULL;
    for (size_t size = 0; size < 8; size++)
        CHECK_STATUS(cch_tensors_parse(file, size, "m", &t, &err), CCH_E_FORMAT, err, "at least 8");
    size_t size = make("{" A "}", 24);
    for (size_t cut = 8; cut < size; cut++)
        CHECK_STATUS(cch_tensors_parse(file, cut, "m", &t, &err), CCH_E_FORMAT, err, "m: ");
    for (int byte = 2; byte < 8; byte++) {
        make("{" A "}", 24);
        file[byte] = 0xFF;
        CHECK_STATUS(cch_tensors_parse(file, size, "m", &t, &err), CCH_E_FORMAT, err, "header length is");
    }
}

TEST(a_header_has_a_largest_length) {
    tempdir dir = tempdir_new();
    char path[400];
    const unsigned char length[8] = {0x01, 0xE1, 0xF5, 0x05}; /* 100,000,001 */
    tempdir_write(&dir, "model.safetensors", length, sizeof length);
    CHECK_EQ(truncate(tempdir_path(&dir, "model.safetensors", path), 100000020), 0); /* sparse */
    cch_tensors *t = NULL;
    CHECK_STATUS(cch_tensors_open(dir.path, &t, &err), CCH_E_FORMAT, err,
                 "header length is 100000001, allowed: at most 100000000");
    tempdir_free(&dir);
}

TEST(other_types_are_an_error_only_when_read) {
    cch_tensors *t = NULL;
    CHECK_OK(parse("{\"i\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
                   "\"q\":{\"dtype\":\"NF4\",\"shape\":[100],\"data_offsets\":[8,9]}," "\"x\":"
                   "{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[9,12]}}", 12, &t), err);
    CHECK_STATUS(cch_tensor_check_dtype(cch_tensors_find(t, "i"), &err), CCH_E_UNSUPPORTED, err,
                 "tensor i is of type I64, supported: F32, F16, BF16");
    CHECK_STATUS(cch_tensor_check_dtype(cch_tensors_find(t, "q"), &err), CCH_E_UNSUPPORTED, err, "type NF4");
    cch_tensors_close(t);
}

TEST(values_are_converted_exactly_at_any_alignment) {
    const float want[] = {1.0f, -2.5f, 0.0f, 65504.0f, 0x1p-24f};
    const uint16_t f16[] = {0x3C00, 0xC100, 0x0000, 0x7BFF, 0x0001}, bf16[] = {0x3F80, 0xC020, 0x0000, 0x4780, 0x3380};
    const char *const names[] = {"F32", "F16", "BF16"};
    for (int shift = 0; shift < 4; shift++) {
        for (int type = 0; type < 3; type++) {
            char header[200];
            float got[5] = {0};
            cch_tensors *t = NULL;
            int size = type == 0 ? 20 : 10;
            snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":[5],\"data_offsets\":[0,%d]}}%*s",
                     names[type], size, shift, "");
            size_t total = make(header, (size_t)size);
            const void *src = type == 0 ? (const void *)want : type == 1 ? (const void *)f16 : (const void *)bf16;
            memcpy(file + total - size, src, (size_t)size);
            CHECK_OK(cch_tensors_parse(file, total, "m", &t, &err), err);
            const cch_tensor_view *a = cch_tensors_find(t, "a");
            CHECK_OK(cch_tensor_check_dtype(a, &err), err);
            cch_tensor_read(a, 0, 5, got);
            for (int i = 0; i < 5; i++) CHECK(got[i] == (type == 2 && i == 3 ? 65536.0f : want[i]));
            cch_tensor_read(a, 1, 1, got);
            CHECK(got[0] == -2.5f);
            cch_tensors_close(t);
        }
    }
}

/* ----------------------------------------------------------------------------------------------- folders ---- */

static void write_file(tempdir *dir, const char *name, const char *header, size_t n) {
    tempdir_write(dir, name, file, make(header, n));
}

static cch_status open_and_close(const char *folder) {
    cch_tensors *t = NULL;
    cch_status status = cch_tensors_open(folder, &t, &err);
    if ((status == CCH_OK) != (t != NULL)) return CCH_E_INTERNAL;
    cch_tensors_close(t);
    return status;
}

static void index_refused(tempdir *dir, const char *index, const char *words) {
    tempdir_write_text(dir, "model.safetensors.index.json", index);
    CHECK_STATUS(open_and_close(dir->path), CCH_E_FORMAT, err, words);
}

TEST(shards_are_one_set_of_tensors) {
    tempdir dir = tempdir_new();
    cch_tensors *t = NULL;
    write_file(&dir, "x-1.safetensors", "{" A "}", 24);
    write_file(&dir, "x-2.safetensors", "{\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}}", 8);
    tempdir_write_text(&dir, "model.safetensors.index.json",
                       "{\"metadata\":{\"total_size\":32},"
                       "\"weight_map\":{\"b\":\"x-2.safetensors\",\"a\":\"x-1.safetensors\"}}");
    CHECK_OK(cch_tensors_open(dir.path, &t, &err), err);
    CHECK_EQ(cch_tensors_count(t), 2);
    CHECK(cch_tensors_find(t, "a")->shard != cch_tensors_find(t, "b")->shard);
    const cch_tensor_view *b = cch_tensors_find(t, "b");
    CHECK(b->data[7] == 7);
    cch_tensor_drop(t, b, 0, 4);
    CHECK(b->data[7] == 7);
    cch_tensors_close(t);
    CHECK_OOM(open_and_close(dir.path));

    index_refused(&dir, "{\"weight_map\":{\"b\":\"x-1.safetensors\",\"a\":\"x-1.safetensors\"}}",
                  "tensor b is not in");
    index_refused(&dir, "{\"weight_map\":{\"b\":\"x-2.safetensors\",\"a\":\"x-2.safetensors\"}}", "tensor a is not in");
    index_refused(&dir, "{\"weight_map\":{\"b\":\"x-1.safetensors\",\"a\":\"x-2.safetensors\"}}", "is not in");
    index_refused(&dir, "{\"weight_map\":{\"c\":\"x-1.safetensors\",\"b\":\"x-2.safetensors\"}}", "tensor c is not in");
    index_refused(&dir, "{\"weight_map\":{\"b\":\"../x-1.safetensors\"}}", "weight_map.b is \"../x-1.safetensors\"");
    index_refused(&dir, "{\"weight_map\":{\"b\":\"/etc/x.safetensors\"}}", "expected the name of a .safetensors file");
    index_refused(&dir, "{\"weight_map\":{\"b\":\"x-1.safetensors\\u0000.safetensors\"}}", "expected the name");
    index_refused(&dir, "{\"weight_map\":{\"b\":\".safetensors\"}}", "expected the name");
    index_refused(&dir, "{\"weight_map\":{\"b\":\"x.bin\"}}", "expected the name");
    index_refused(&dir, "{\"weight_map\":{\"b\":3}}", "weight_map.b is 3, expected a string");
    index_refused(&dir, "{\"weight_map\":[]}", "weight_map is an array");
    index_refused(&dir, "{}", "no key \"weight_map\"");
    write_file(&dir, "x-3.safetensors", "{" A "}", 24);
    index_refused(&dir, "{\"weight_map\":{\"a\":\"x-1.safetensors\",\"b\":\"x-3.safetensors\"}}", "tensor a is in");
    tempdir_write_text(&dir, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"gone.safetensors\"}}");
    CHECK_STATUS(open_and_close(dir.path), CCH_E_IO, err, "gone.safetensors: No such file");
    tempdir_free(&dir);
}

TEST(a_single_file_comes_first_and_a_folder_without_any_is_named) {
    tempdir dir = tempdir_new();
    CHECK_STATUS(open_and_close(dir.path), CCH_E_IO, err, "has neither model.safetensors nor");
    tempdir_write_text(&dir, "model.safetensors.index.json", "not read");
    write_file(&dir, "model.safetensors", "{" A "}", 24);
    CHECK_OK(open_and_close(dir.path), err);
    CHECK_OOM(open_and_close(dir.path));
    tempdir_free(&dir);
}

CHECK_MAIN()
