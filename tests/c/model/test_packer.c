#include "model/packer.h"

#include "base/alloc.h"
#include "check.h"
#include "io/safetensors.h"

static cch_error err;

/* A one-tensor file in memory: [rows, cols] of the type, value(i) = small multiples of 1/64. */
typedef struct sample {
    unsigned char *bytes;
    size_t size, rows, cols;
    cch_tensors *tensors;
    const cch_tensor_view *view;
} sample;

static float value_at(size_t i) { return (float)((int)((uint32_t)i * 2654435761u >> 20) % 255 - 127) / 64.0f; }

static sample sample_new(size_t rows, size_t cols, bool bf16, int shift) {
    sample s = {.rows = rows, .cols = cols};
    char header[200];
    size_t width = bf16 ? 2 : 4, n = rows * cols;
    int len = snprintf(header, sizeof header,
                       "{\"t\":{\"dtype\":\"%s\",\"shape\":[%zu,%zu],\"data_offsets\":[0,%zu]}}%*s",
                       bf16 ? "BF16" : "F32", rows, cols, n * width, shift, "");
    s.size = 8 + (size_t)len + n * width;
    s.bytes = cch_alloc(s.size, 1);
    for (int i = 0; i < 8; i++) s.bytes[i] = (unsigned char)((size_t)len >> 8 * i);
    memcpy(s.bytes + 8, header, (size_t)len);
    for (size_t i = 0; i < n; i++) {
        float value = value_at(i);
        memcpy(s.bytes + 8 + len + i * width, (char *)&value + (bf16 ? 2 : 0), width);
    }
    CHECK_OK(cch_tensors_parse(s.bytes, s.size, "sample", &s.tensors, &err), err);
    s.view = cch_tensors_at(s.tensors, 0);
    return s;
}

static void sample_free(sample *s) {
    cch_tensors_close(s->tensors);
    cch_free(s->bytes);
}

static cch_status load(const sample *s, const cch_pack_target *target, int n_threads, uint8_t digest[CCH_HASH_BYTES]) {
    cch_status status = CCH_OK;
    cch_packer packer = {.tensors = s->tensors};
    cch_hash hash;
    CCH_TRY(cch_threads_new(n_threads, &packer.threads, &err));
    cch_hash_init(&hash);
    CCH_TRY(cch_packer_load(&packer, s->view, target, &hash, &err));
    cch_hash_digest(&hash, digest);
done:
    cch_packer_deinit(&packer);
    cch_threads_free(packer.threads);
    return status;
}

/* Packs rows 5 and on of a larger matrix from the sample; compares all of them; gives the digest. */
static void check_packed(size_t rows, size_t cols, bool transposed, bool bf16, int n_threads, uint8_t *digest) {
    sample s = transposed ? sample_new(cols, rows, bf16, n_threads) : sample_new(rows, cols, bf16, n_threads);
    cch_packed w;
    float *row = cch_alloc(cols, sizeof *row);
    size_t wrong = 0;
    CHECK_OK(cch_packed_init(CCH_FORMAT_F32, rows + 5, cols, false, &w, &err), err);
    cch_pack_target target = {.packed = &w, .row = 5, .rows = rows, .cols = cols, .transposed = transposed};
    CHECK_OK(load(&s, &target, n_threads, digest), err);
    for (size_t r = 0; r < rows; r++) {
        cch_packed_row(&w, r + 5, row);
        for (size_t k = 0; k < cols; k++) wrong += row[k] != value_at(transposed ? k * rows + r : r * cols + k);
    }
    CHECK_EQ(wrong, 0);
    cch_free(row);
    cch_packed_deinit(&w);
    sample_free(&s);
}

TEST(tiles_and_threads_and_types_do_not_show) {
    for (int transposed = 0; transposed < 2; transposed++) {
        uint8_t want[CCH_HASH_BYTES], got[CCH_HASH_BYTES];
        check_packed(601, 700, transposed, false, 1, want); /* 4 or 3 tiles */
        check_packed(601, 700, transposed, false, 3, got);
        CHECK(memcmp(got, want, sizeof got) == 0);
        check_packed(601, 700, transposed, true, 2, got);
        CHECK(memcmp(got, want, sizeof got) == 0);
    }
}

TEST(large_tensors_go_through_in_slabs) {
    uint8_t want[CCH_HASH_BYTES], got[CCH_HASH_BYTES];
    sample s = sample_new(2100, 2100, false, 0);
    float *dense = cch_alloc(2100 * 2100, sizeof *dense);
    cch_pack_target target = {.dense = dense, .rows = 2100, .cols = 2100};
    size_t wrong = 0;
    CHECK_OK(load(&s, &target, 2, want), err);
    for (size_t i = 0; i < 2100 * 2100; i++) wrong += dense[i] != value_at(i);
    CHECK_EQ(wrong, 0);
    check_packed(2100, 2100, false, false, 1, got);
    CHECK(memcmp(got, want, sizeof got) == 0);
    cch_free(dense);
    sample_free(&s);
}

TEST(the_first_bad_value_is_reported_whichever_thread_sees_it) {
    sample s = sample_new(600, 700, true, 1);
    float *dense = cch_alloc(600 * 700, sizeof *dense);
    cch_pack_target target = {.dense = dense, .rows = 600, .cols = 700};
    uint8_t digest[CCH_HASH_BYTES];
    unsigned char *data = s.bytes + s.size - 2 * 600 * 700;
    for (size_t i = 100000; i < 420000; i += 50000) memcpy(data + 2 * i, &(uint16_t){0x7F80}, 2);
    for (int i = 0; i < 20; i++) {
        CHECK_STATUS(load(&s, &target, 3, digest), CCH_E_FORMAT, err, "tensor t holds inf at index 100000,");
        CHECK_EQ(err.position, 100000);
    }
    cch_free(dense);
    sample_free(&s);
}

TEST(no_memory_leaves_nothing_behind) {
    sample s = sample_new(20, 30, true, 0);
    cch_packed w;
    uint8_t digest[CCH_HASH_BYTES];
    CHECK_OK(cch_packed_init(CCH_FORMAT_F32, 20, 30, false, &w, &err), err);
    cch_pack_target target = {.packed = &w, .rows = 20, .cols = 30};
    CHECK_OOM(load(&s, &target, 2, digest));
    cch_packed_deinit(&w);
    sample_free(&s);
}

CHECK_MAIN()
