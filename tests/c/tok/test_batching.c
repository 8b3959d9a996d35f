/* Batches: each item as it is alone, whatever the threads; the first failure, and nothing left of the others. */
#include "base/alloc.h"
#include "check.h"
#include "tok/tokfile.h"

#define N 1000 /* enough for several threads */

static cch_error err;
static char words[N][400];
static const char *texts[N];
static size_t lens[N], n_ids[N];
static int32_t *ids[N];

/* Texts of very different lengths; some are empty. */
static void make_texts(void) {
    for (size_t i = 0; i < N; i++) {
        size_t n = 0;
        for (size_t k = 0; k < i * 7 % 90; k++)
            n += (size_t)snprintf(words[i] + n, sizeof words[i] - n, "%s", k % 3 == i % 3 ? "low" : " er");
        texts[i] = words[i];
        lens[i] = n;
    }
}

static void free_ids(void) {
    for (size_t i = 0; i < N; i++) cch_free(ids[i]);
}

static void check_decoded(const cch_tokenizer *tok, int n_threads) {
    char *decoded[N];
    size_t decoded_lens[N];
    CHECK_OK(cch_tokenizer_decode_batch(tok, (const int32_t *const *)ids, n_ids, N, false, n_threads, decoded,
                                        decoded_lens, &err),
             err);
    for (size_t i = 0; i < N; i++) {
        CHECK(decoded_lens[i] == lens[i] && strcmp(decoded[i], texts[i]) == 0);
        cch_free(decoded[i]);
    }
}

TEST(each_item_is_what_it_is_alone) {
    cch_tokenizer *tok = NULL;
    int32_t *alone;
    size_t n;
    make_texts();
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    for (int n_threads = 0; n_threads < 6; n_threads++) {
        CHECK_OK(cch_tokenizer_encode_batch(tok, texts, lens, N, 0, n_threads, ids, n_ids, &err), err);
        for (size_t i = 0; i < N; i++) {
            CHECK_OK(cch_tokenizer_encode(tok, texts[i], lens[i], 0, &alone, &n, &err), err);
            CHECK(n == n_ids[i] && (n == 0 || memcmp(alone, ids[i], n * sizeof *alone) == 0));
            cch_free(alone);
        }
        check_decoded(tok, n_threads);
        free_ids();
    }
    CHECK_OK(cch_tokenizer_encode_batch(tok, NULL, NULL, 0, 0, 4, NULL, NULL, &err), err);
    cch_tokenizer_unref(tok);
}

TEST(the_first_failure_is_told) {
    cch_tokenizer *tok = NULL;
    int32_t good[] = {7, 8}, bad[] = {7, 19};
    const int32_t *rows[] = {good, bad, good, bad};
    size_t row_lens[] = {2, 2, 2, 2}, out_lens[4];
    char *out[4];
    make_texts();
    CHECK_OK(tokfile_open(TOKFILE_BYTES, &tok, &err), err);
    for (size_t i = 100; i < N; i += 50) texts[i] = "lo\xFF", lens[i] = 3;
    for (int n_threads = 1; n_threads < 6; n_threads++) {
        CHECK_STATUS(cch_tokenizer_encode_batch(tok, texts, lens, N, 0, n_threads, ids, n_ids, &err), CCH_E_ENCODING,
                     err, "text 100: the text is not UTF-8: byte 0xFF at position 2");
        CHECK_EQ(err.position, 2);
        for (size_t i = 0; i < N; i++) CHECK(ids[i] == NULL && n_ids[i] == 0);
        CHECK_STATUS(cch_tokenizer_decode_batch(tok, rows, row_lens, 4, false, n_threads, out, out_lens, &err),
                     CCH_E_TOKEN_ID, err, "row 1: token id 19");
        for (size_t i = 0; i < 4; i++) CHECK(out[i] == NULL && out_lens[i] == 0);
    }
    CHECK_STATUS(cch_tokenizer_encode_batch(tok, texts, lens, N, 0, 257, ids, n_ids, &err), CCH_E_ARGUMENT, err,
                 "n_threads is 257");
    CHECK_STATUS(cch_tokenizer_decode_batch(tok, rows, row_lens, 4, false, -1, out, out_lens, &err), CCH_E_ARGUMENT,
                 err, "n_threads is -1");
    CHECK(cch_tokenizer_encode_batch(tok, texts, lens, N, 0, 2, ids, n_ids, NULL) == CCH_E_ENCODING);
    cch_tokenizer_unref(tok);
}

static cch_status open_and_encode(void) {
    cch_tokenizer *tok = NULL;
    cch_status status = tokfile_open(TOKFILE_BYTES, &tok, &err);
    if (status == CCH_OK) status = cch_tokenizer_encode_batch(tok, texts, lens, 20, 0, 1, ids, n_ids, &err);
    for (size_t i = 0; status == CCH_OK && i < 20; i++) cch_free(ids[i]);
    cch_tokenizer_unref(tok);
    return status;
}

TEST(memory_failures_leak_nothing) {
    make_texts();
    CHECK_OOM(open_and_encode());
}

CHECK_MAIN()
