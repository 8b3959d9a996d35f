/* Packed files hold what was packed; every damage is found; what was made up leads nowhere. */
#include "model/packedfile.h"

#include "base/alloc.h"
#include "open/folder.h"

#include "packedfile_fields.h"

static cch_error err;
static cch_threads *threads;
static cch_config config;
static const cch_format formats[] = {CCH_FORMAT_F32, CCH_FORMAT_BF16, CCH_FORMAT_INT8};

static void start(int n) {
    CHECK_OK(cch_threads_new(n, &threads, &err), err);
    CHECK_OK(cch_config_parse(folder_config, strlen(folder_config), "config.json", &config, &err), err);
}
static void stop(void) {
    cch_config_deinit(&config);
    cch_threads_free(threads);
}

/* Saves the weights of a tiny folder as "model.packed" in it. */
static void save_tiny(tempdir *dir, cch_format format) {
    char path[400];
    cch_weights w;
    folder_weights(dir, 0);
    CHECK_OK(cch_weights_open(dir->path, &config, format, threads, &w, &err), err);
    tempdir_write(dir, "model.packed", "", 0); /* so that it will be removed */
    CHECK_OK(cch_packedfile_save(&w, tempdir_path(dir, "model.packed", path), &err), err);
    cch_weights_close(&w);
}

static cch_status open_packed(const tempdir *dir, cch_weights *out) {
    char path[400];
    return cch_packedfile_open(tempdir_path(dir, "model.packed", path), &config, threads, out, &err);
}

static uint8_t *read_packed(const tempdir *dir, size_t *out_size) {
    char path[400], *bytes = NULL;
    CHECK_OK(cch_file_read(tempdir_path(dir, "model.packed", path), &bytes, out_size, &err), err);
    return (uint8_t *)bytes;
}

static cch_status open_bytes(tempdir *dir, const uint8_t *bytes, size_t size) {
    cch_weights w;
    tempdir_write(dir, "model.packed", bytes, size);
    const cch_status status = open_packed(dir, &w);
    if (status != CCH_OK) CHECK(w.parts == NULL && w.layers == NULL && w.map.data == NULL);
    cch_weights_close(&w);
    return status;
}

/* Panels, scales and biases, or not. */
static bool equal_matrices(const cch_packed *a, const cch_packed *b) {
    return a->format == b->format && a->n == b->n && a->k == b->k && a->n_panels == b->n_panels &&
           a->k_words == b->k_words && (a->bias != NULL) == (b->bias != NULL) && a->bytes == b->bytes &&
           memcmp(a->panels, b->panels, a->bytes) == 0;
}

static bool equal_weights(const cch_weights *a, const cch_weights *b) {
    bool same = a->format == b->format && a->n_layers == b->n_layers && a->n_parts == b->n_parts &&
                a->words == b->words && a->n_parameters == b->n_parameters && a->bytes == b->bytes &&
                memcmp(a->digest, b->digest, sizeof a->digest) == 0 && equal_matrices(&a->head, &b->head);
    for (size_t i = 0; same && i < a->n_parts; i++)
        same = a->parts[i].bytes == b->parts[i].bytes &&
               memcmp(a->parts[i].data, b->parts[i].data, a->parts[i].bytes) == 0;
    for (size_t i = 0; same && i < a->n_layers; i++) {
        const cch_layer *x = &a->layers[i], *y = &b->layers[i];
        same = equal_matrices(&x->qkv, &y->qkv) && equal_matrices(&x->o, &y->o) && equal_matrices(&x->up, &y->up) &&
               equal_matrices(&x->down, &y->down) &&
               memcmp(x->mlp_norm.w, y->mlp_norm.w, FOLDER_HIDDEN * sizeof(float)) == 0;
    }
    return same;
}

TEST(what_is_mapped_is_what_was_packed) {
    tempdir dir = folder_new();
    start(2);
    for (int i = 0; i < 3; i++) {
        cch_weights loaded, mapped;
        save_tiny(&dir, formats[i]);
        CHECK_OK(cch_weights_open(dir.path, &config, formats[i], threads, &loaded, &err), err);
        CHECK_OK(open_packed(&dir, &mapped), err);
        CHECK(equal_weights(&loaded, &mapped));
        for (size_t part = 0; part < mapped.n_parts; part++)
            CHECK((uintptr_t)mapped.parts[part].data % CCH_PART_ALIGN == 0);
        /* a map can be saved over its own file */
        char path[400];
        CHECK_OK(cch_packedfile_save(&mapped, tempdir_path(&dir, "model.packed", path), &err), err);
        cch_weights_close(&mapped);
        CHECK_OK(open_packed(&dir, &mapped), err);
        CHECK(equal_weights(&loaded, &mapped));
        cch_weights_close(&mapped), cch_weights_close(&loaded);
    }
    stop();
    tempdir_free(&dir);
}

TEST(every_changed_byte_and_every_cut_is_found) {
    tempdir dir = folder_new();
    start(1);
    for (int f = 0; f < 3; f++) {
        size_t size;
        save_tiny(&dir, formats[f]);
        uint8_t *file = read_packed(&dir, &size);
        for (size_t i = 0; i < size; i += i < HEADER_BYTES ? 1 : 11) {
            file[i] ^= (uint8_t)(1u << i % 8);
            const cch_status status = open_bytes(&dir, file, size);
            CHECK(status == CCH_E_FORMAT || (status == CCH_E_UNSUPPORTED && i / 4 == AT_VERSION / 4));
            CHECK(strstr(err.message, "model.packed: ") != NULL);
            file[i] ^= (uint8_t)(1u << i % 8);
        }
        for (size_t i = 0; i < size; i += i < HEADER_BYTES ? 1 : 37)
            CHECK_STATUS(open_bytes(&dir, file, i), CCH_E_FORMAT, err, i < HEADER_BYTES ? "ends at byte" : "says");
        CHECK_OK(open_bytes(&dir, file, size), err);
        cch_free(file);
    }
    stop();
    tempdir_free(&dir);
}

/* Bytes at `at` are others, and the digests fit. */
static void check_forged(size_t at, const void *value, size_t bytes, cch_status want, const char *words) {
    tempdir dir = folder_new();
    size_t size;
    save_tiny(&dir, CCH_FORMAT_F32);
    uint8_t *file = read_packed(&dir, &size);
    memcpy(file + at, value, bytes);
    fit_digests(file, size);
    CHECK_STATUS(open_bytes(&dir, file, size), want, err, words);
    cch_free(file);
    tempdir_free(&dir);
}

TEST(what_was_made_up_is_refused_by_name) {
    const uint32_t one = 1, three = 3;
    const uint64_t huge = UINT64_MAX;
    const uint8_t zeros[CCH_HASH_BYTES] = {0};
    start(1);
    check_forged(0, "CCINDEX1", 8, CCH_E_FORMAT, "holds no packed weights");
    check_forged(AT_VERSION, &one, 4, CCH_E_UNSUPPORTED, "version 1, allowed: 2; pack the model again");
    check_forged(AT_FORMAT, &three, 4, CCH_E_FORMAT, "format is 3, allowed: 0 to 2");
    check_forged(AT_FORMAT, &one, 4, CCH_E_FORMAT, "bytes are more than config.json asks for");
    check_forged(AT_BYTES, &huge, 8, CCH_E_FORMAT, "its header says 18446744073709551615");
    check_forged(AT_LAYOUT, zeros, sizeof zeros, CCH_E_FORMAT, "was packed for another config.json");
    check_forged(AT_WEIGHTS, zeros, sizeof zeros, CCH_OK, NULL); /* whose fingerprint will be another */
    stop();
}

TEST(another_config_beside_it_is_noticed) {
    tempdir dir = folder_new();
    cch_weights w;
    start(1);
    save_tiny(&dir, CCH_FORMAT_BF16);
    config.vocab_size = CCH_MAX_VOCAB;
    config.hidden_size = CCH_MAX_HIDDEN;
    CHECK_STATUS(open_packed(&dir, &w), CCH_E_FORMAT, err, "is asked for by config.json");
    config.vocab_size = FOLDER_VOCAB;
    config.hidden_size = FOLDER_HIDDEN;
    config.n_layers = CCH_MAX_LAYERS;
    CHECK_STATUS(open_packed(&dir, &w), CCH_E_FORMAT, err, "0 bytes are left");
    config.n_layers = 1;
    CHECK_STATUS(open_packed(&dir, &w), CCH_E_FORMAT, err, "more than config.json asks for");
    config.n_layers = 2;
    config.intermediate_size = FOLDER_INNER - 1; /* of the same bytes, since panels are padded */
    CHECK_STATUS(open_packed(&dir, &w), CCH_E_FORMAT, err, "another config.json");
    snprintf(config.architecture, sizeof config.architecture, "none");
    CHECK_STATUS(open_packed(&dir, &w), CCH_E_UNSUPPORTED, err, "no family");
    stop();
    tempdir_free(&dir);
}

TEST(threads_share_a_file_of_many_chunks) {
    tempdir dir = folder_new();
    cch_weights made, mapped;
    cch_filemap raw;
    char path[400];
    size_t size = 0;
    start(1);
    save_tiny(&dir, CCH_FORMAT_F32);
    cch_free(read_packed(&dir, &size));
    config.vocab_size = 60000; /* 3.8 MB */
    size += (size_t)(config.vocab_size / 16 - 2) * 16 * FOLDER_HIDDEN * sizeof(float);
    uint8_t *bytes = cch_alloc(size, 1);
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(i * 7 + i / 251);
    tempdir_write(&dir, "model.packed", bytes, size);
    CHECK_OK(cch_filemap_open(tempdir_path(&dir, "model.packed", path), &raw, &err), err);
    CHECK_OK(cch_weights_take(raw, HEADER_BYTES, &config, CCH_FORMAT_F32, &made, &err), err);
    CHECK_OK(cch_packedfile_save(&made, path, &err), err);
    cch_free(bytes);
    bytes = read_packed(&dir, &size);
    cch_threads_free(threads);
    for (int n = 1; n <= 3; n++) {
        CHECK_OK(cch_threads_new(n, &threads, &err), err);
        CHECK_OK(open_packed(&dir, &mapped), err);
        CHECK(equal_weights(&made, &mapped));
        cch_weights_close(&mapped);
        for (size_t at = HEADER_BYTES; at < size; at += size / 5) {
            bytes[at] ^= 16;
            CHECK_STATUS(open_bytes(&dir, bytes, size), CCH_E_FORMAT, err, "damaged behind its header");
            bytes[at] ^= 16;
        }
        CHECK_OK(open_bytes(&dir, bytes, size), err);
        cch_threads_free(threads);
    }
    cch_weights_close(&made);
    cch_free(bytes);
    threads = NULL;
    stop();
    tempdir_free(&dir);
}

TEST(other_files_are_told_apart) {
    tempdir dir = folder_new();
    cch_weights w;
    char path[400];
    start(1);
    CHECK_STATUS(open_packed(&dir, &w), CCH_E_IO, err, "No such file");
    CHECK_STATUS(cch_packedfile_open(dir.path, &config, threads, &w, &err), CCH_E_IO, err, "is a folder");
    CHECK_STATUS(open_bytes(&dir, (const uint8_t *)"", 0), CCH_E_FORMAT, err, "ends at byte 0");
    CHECK_STATUS(cch_packedfile_open(tempdir_path(&dir, "model.safetensors", path), &config, threads, &w, &err),
                 CCH_E_FORMAT, err, "holds no packed weights");
    save_tiny(&dir, CCH_FORMAT_INT8);
    CHECK_OK(open_packed(&dir, &w), err);
    CHECK_STATUS(cch_packedfile_save(&w, dir.path, &err), CCH_E_IO, err, dir.path);
    CHECK_STATUS(cch_packedfile_save(&w, "/no/such/folder/model.packed", &err), CCH_E_IO, err, "/no/such/folder");
    cch_weights_close(&w);
    stop();
    tempdir_free(&dir);
}

static cch_status open_and_save(const tempdir *dir) {
    char path[400];
    cch_weights w;
    cch_status status = open_packed(dir, &w);
    if (status == CCH_OK) status = cch_packedfile_save(&w, tempdir_path(dir, "model.packed", path), NULL);
    cch_weights_close(&w);
    return status;
}

TEST(nothing_leaks_when_memory_runs_out) {
    tempdir dir = folder_new();
    start(1);
    save_tiny(&dir, CCH_FORMAT_F32);
    CHECK_OOM(open_and_save(&dir));
    stop();
    tempdir_free(&dir);
}

CHECK_MAIN()
