/* Saved and mapped indexes are the same; every damage is found; what was made up leads nowhere. */
#include "vectors.h"

#include "indexfile.h"
#include "tempdir.h"

#include "base/filemap.h"

#define D 40

static cch_index *filled(const float *x, size_t n, cch_index_dtype dtype) {
    const cch_index_options options = {dtype, 1, NULL};
    cch_index *index = NULL;
    cch_error err;
    CHECK_OK(cch_index_new(D, &options, &index, &err), err);
    CHECK_OK(cch_index_add(index, x, n, NULL, NULL, &err), err);
    return index;
}

static cch_index *reopened(const char *path) {
    cch_index *index = NULL;
    cch_error err;
    CHECK_OK(cch_index_open(path, NULL, &index, &err), err);
    return index;
}

static void check_same(cch_index *a, cch_index *b, const float *queries) {
    int64_t *keys[2] = {NULL}, found_keys[2][5 * 30];
    double scores[2][5 * 30];
    size_t n[2], found_n[2][5];
    cch_error err;
    CHECK_OK(cch_index_keys(a, &keys[0], &n[0], &err), err);
    CHECK_OK(cch_index_keys(b, &keys[1], &n[1], &err), err);
    CHECK(n[0] == n[1] && memcmp(keys[0], keys[1], n[0] * sizeof *keys[0]) == 0);
    for (size_t i = 0; i < n[0]; i += 7) {
        float rows[2][D];
        CHECK_OK(cch_index_row(a, keys[0][i], rows[0], &err), err);
        CHECK_OK(cch_index_row(b, keys[0][i], rows[1], &err), err);
        CHECK(memcmp(rows[0], rows[1], sizeof rows[0]) == 0);
    }
    CHECK_OK(cch_index_search(a, queries, 5, 30, -1.0, NULL, found_keys[0], scores[0], found_n[0], &err), err);
    CHECK_OK(cch_index_search(b, queries, 5, 30, -1.0, NULL, found_keys[1], scores[1], found_n[1], &err), err);
    CHECK(memcmp(found_n[0], found_n[1], sizeof found_n[0]) == 0);
    CHECK(memcmp(found_keys[0], found_keys[1], sizeof found_keys[0]) == 0);
    for (size_t i = 0; i < 5 * 30; i++) CHECK(scores[0][i] == scores[1][i] || isnan(scores[0][i]));
    for (int i = 0; i < 2; i++) { /* one query: the signs, which the file does not hold */
        cch_index *one = i == 0 ? a : b;
        CHECK_OK(cch_index_search(one, queries, 1, 30, 0.6, NULL, found_keys[i], scores[i], found_n[i], &err), err);
    }
    CHECK(found_n[0][0] == found_n[1][0] && found_n[0][0] > 0);
    CHECK(memcmp(found_keys[0], found_keys[1], found_n[0][0] * sizeof found_keys[0][0]) == 0);
    CHECK(memcmp(scores[0], scores[1], found_n[0][0] * sizeof scores[0][0]) == 0);
    cch_free(keys[0]);
    cch_free(keys[1]);
}

TEST(what_is_mapped_is_what_was_saved) {
    const size_t n = 40000; /* three blocks, of different sizes here and there */
    tempdir dir = tempdir_new();
    char path[400];
    cch_error err;
    float *x = draw_rows(n, D);
    tempdir_path(&dir, "index", path);
    for (int dtype = 0; dtype < 3; dtype++) {
        cch_index *index = filled(x, n, (cch_index_dtype)dtype);
        int64_t gone[5000];
        size_t removed;
        for (int i = 0; i < 5000; i++) gone[i] = i < 2000 ? i : 7 * i;
        CHECK_OK(cch_index_remove(index, gone, 5000, &removed, &err), err);
        CHECK_OK(cch_index_save(index, path, &err), err);
        cch_index *mapped = reopened(path);
        cch_index_info info;
        cch_index_get_info(mapped, &info);
        CHECK(info.dtype == (cch_index_dtype)dtype && info.n_rows == n - removed);
        CHECK(info.mapped_bytes >= info.n_rows * (D + 16));
        CHECK(info.bytes < (dtype == CCH_ROWS_INT8 ? 10 : 10 + 8 + D / 8) * info.n_rows);
        check_same(index, mapped, x);
        /* both go on alike, and a map can be saved over its own file */
        for (int i = 0; i < 2; i++) {
            cch_index *one = i == 0 ? index : mapped;
            int64_t key;
            CHECK_OK(cch_index_remove(one, gone, 2500, &removed, &err), err);
            for (int j = 0; j < 5000; j++) gone[j] = 20000 + j;
            CHECK_OK(cch_index_remove(one, gone, 5000, &removed, &err), err);
            CHECK_OK(cch_index_add(one, x, 3000, NULL, NULL, &err), err);
            CHECK_OK(cch_index_add(one, x, 1, NULL, &key, &err), err);
            CHECK_EQ(key, 43000);
        }
        check_same(index, mapped, x + 5 * D);
        CHECK_OK(cch_index_save(mapped, path, &err), err);
        cch_index *again = reopened(path);
        check_same(index, again, x + 10 * D);
        cch_index_unref(mapped);
        check_same(index, again, x + 15 * D);
        cch_index_unref(index);
        cch_index_unref(again);
    }
    unlink(path);
    free(x);
    tempdir_free(&dir);
}

TEST(an_empty_index_can_be_saved) {
    tempdir dir = tempdir_new();
    char path[400];
    cch_error err;
    const float row[D] = {1.0f};
    cch_index *index = filled(row, 0, CCH_ROWS_BF16);
    CHECK_OK(cch_index_save(index, tempdir_path(&dir, "index", path), &err), err);
    cch_index *mapped = reopened(path);
    CHECK_OK(cch_index_add(mapped, row, 1, NULL, NULL, &err), err);
    CHECK(cch_index_has(mapped, 0));
    cch_index_unref(index);
    cch_index_unref(mapped);
    unlink(path);
    tempdir_free(&dir);
}

/* The file of a small index, in the caller's memory. */
static uint8_t *small_file(tempdir *dir, cch_index_dtype dtype, size_t *out_size) {
    char path[400], *bytes = NULL;
    cch_error err;
    float *x = draw_rows(5, D);
    cch_index *index = filled(x, 5, dtype);
    CHECK_OK(cch_index_save(index, tempdir_path(dir, "index", path), &err), err);
    CHECK_OK(cch_file_read(path, &bytes, out_size, &err), err);
    cch_index_unref(index);
    free(x);
    return (uint8_t *)bytes;
}

static cch_status open_bytes(tempdir *dir, const uint8_t *bytes, size_t size, cch_error *err) {
    char path[400];
    cch_index *index = NULL;
    tempdir_write(dir, "index", bytes, size);
    const cch_status status = cch_index_open(tempdir_path(dir, "index", path), NULL, &index, err);
    if (status != CCH_OK) CHECK(index == NULL);
    cch_index_unref(index);
    return status;
}

TEST(every_changed_byte_and_every_cut_is_found) {
    tempdir dir = tempdir_new();
    cch_error err;
    for (int dtype = 0; dtype < 3; dtype++) {
        size_t size;
        uint8_t *file = small_file(&dir, (cch_index_dtype)dtype, &size);
        CHECK_OK(open_bytes(&dir, file, size, &err), err);
        for (size_t i = 0; i < size; i++) {
            file[i] ^= (uint8_t)(1u << i % 8);
            const cch_status status = open_bytes(&dir, file, size, &err);
            CHECK(status == CCH_E_FORMAT || (status == CCH_E_UNSUPPORTED && i / 4 == AT_VERSION / 4));
            CHECK(strstr(err.message, "index: ") != NULL);
            file[i] ^= (uint8_t)(1u << i % 8);
        }
        for (size_t i = 0; i < size; i++) CHECK_STATUS(open_bytes(&dir, file, i, &err), CCH_E_FORMAT, err, "bytes");
        uint8_t *longer = calloc(size + 64, 1);
        memcpy(longer, file, size);
        CHECK_STATUS(open_bytes(&dir, longer, size + 64, &err), CCH_E_FORMAT, err, "its header says");
        free(longer);
        cch_free(file);
    }
    tempdir_free(&dir);
}

/* One field is another, and the digests fit. */
static void check_forged(int dtype, size_t at, const void *value, size_t bytes, cch_status want, const char *words) {
    tempdir dir = tempdir_new();
    size_t size;
    cch_error err;
    uint8_t *file = small_file(&dir, (cch_index_dtype)dtype, &size);
    memcpy(file + at, value, bytes);
    fit_digests(file, size);
    CHECK_STATUS(open_bytes(&dir, file, size, &err), want, err, words);
    cch_free(file);
    tempdir_free(&dir);
}

TEST(what_was_made_up_is_refused_by_name) {
    const uint32_t two = 2, three = 3, none = 0, wide = 65537;
    const uint64_t huge = UINT64_MAX / 8, six = 6, four = 4, last_key = (uint64_t)1 << 63, wild_key = last_key + 1;
    const int64_t negative = -1, first = 0;
    const float nan_value = NAN, beyond = 1.5f, below = -0.5f;
    const uint16_t infinity_bf16 = 0xFF80;
    const int8_t lowest = -128;
    enum { KEYS = HEADER_BYTES, WEIGHT = KEYS + 64, ERROR = WEIGHT + 64, CODES = ERROR + 64, VALUES = CODES + 5 * 64 };
    check_forged(0, AT_VERSION, &two, 4, CCH_E_UNSUPPORTED, "version 2, allowed: 1");
    check_forged(0, AT_DTYPE, &three, 4, CCH_E_FORMAT, "dtype is 3");
    check_forged(0, AT_DTYPE, &two, 4, CCH_E_FORMAT, "do not make");
    check_forged(0, AT_DIMENSION, &none, 4, CCH_E_FORMAT, "dimension is 0");
    check_forged(0, AT_DIMENSION, &wide, 4, CCH_E_FORMAT, "dimension is 65537");
    check_forged(0, AT_ROWS, &huge, 8, CCH_E_FORMAT, "do not make");
    check_forged(2, AT_ROWS, &six, 8, CCH_E_FORMAT, "6 rows of 40 numbers do not make");
    check_forged(0, AT_BYTES, &huge, 8, CCH_E_FORMAT, "do not make");
    check_forged(0, AT_NEXT_KEY, &four, 8, CCH_E_FORMAT, "the key of row 4 is 4");
    check_forged(0, AT_NEXT_KEY, &wild_key, 8, CCH_E_FORMAT, "the next key is 9223372036854775809");
    check_forged(0, AT_NEXT_KEY, &last_key, 8, CCH_OK, NULL);
    check_forged(0, KEYS + 8, &negative, 8, CCH_E_FORMAT, "the key of row 1 is -1");
    check_forged(0, KEYS + 16, &first, 8, CCH_E_FORMAT, "two rows have the key 0");
    check_forged(1, WEIGHT + 4, &nan_value, 4, CCH_E_FORMAT, "the weight of row 1 is nan");
    check_forged(1, WEIGHT, &beyond, 4, CCH_E_FORMAT, "the weight of row 0 is 1.5");
    check_forged(1, ERROR + 16, &below, 4, CCH_E_FORMAT, "the error of row 4 is -0.5");
    check_forged(2, CODES + 100, &lowest, 1, CCH_E_FORMAT, "a code is -128");
    check_forged(0, VALUES + 4 * D, &nan_value, 4, CCH_E_FORMAT, "number 0 of row 1 is not finite");
    check_forged(1, VALUES + 2 * 7, &infinity_bf16, 2, CCH_E_FORMAT, "number 7 of row 0 is not finite");
}

TEST(other_files_are_told_apart) {
    tempdir dir = tempdir_new();
    char path[400];
    cch_index *index = NULL;
    cch_error err;
    cch_index_options options = CCH_INDEX_OPTIONS_INIT;
    CHECK_STATUS(cch_index_open(tempdir_path(&dir, "none", path), NULL, &index, &err), CCH_E_IO, err, "No such file");
    CHECK_STATUS(cch_index_open(dir.path, NULL, &index, &err), CCH_E_IO, err, "is a folder");
    tempdir_write(&dir, "index", "", 0);
    CHECK_STATUS(cch_index_open(tempdir_path(&dir, "index", path), NULL, &index, &err), CCH_E_FORMAT, err,
                 "ends at byte 0");
    char text[200];
    memset(text, 'x', sizeof text);
    CHECK_STATUS(open_bytes(&dir, (const uint8_t *)text, sizeof text, &err), CCH_E_FORMAT, err, "is no index file");
    size_t size;
    uint8_t *file = small_file(&dir, CCH_ROWS_F32, &size);
    cch_free(file);
    options.n_threads = -1;
    CHECK_STATUS(cch_index_open(tempdir_path(&dir, "index", path), &options, &index, &err), CCH_E_ARGUMENT, err,
                 "n_threads is -1");
    index = filled((const float[D]){1.0f}, 1, CCH_ROWS_F32);
    CHECK_STATUS(cch_index_save(index, dir.path, &err), CCH_E_IO, err, dir.path);
    cch_index_unref(index);
    tempdir_free(&dir);
}

static cch_status save_and_open(const char *path, const float *x) {
    cch_index *index = NULL, *mapped = NULL;
    cch_status status = cch_index_new(D, NULL, &index, NULL);
    if (status == CCH_OK) status = cch_index_add(index, x, 5, NULL, NULL, NULL);
    if (status == CCH_OK) status = cch_index_save(index, path, NULL);
    if (status == CCH_OK) status = cch_index_open(path, NULL, &mapped, NULL);
    cch_index_unref(index);
    cch_index_unref(mapped);
    return status;
}

TEST(nothing_leaks_when_memory_runs_out) {
    tempdir dir = tempdir_new();
    char path[400];
    float *x = draw_rows(5, D);
    CHECK_OOM(save_and_open(tempdir_path(&dir, "index", path), x));
    unlink(path);
    free(x);
    tempdir_free(&dir);
}

CHECK_MAIN()
