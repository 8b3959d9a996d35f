/* An encoder's pass: batch mates, threads and instruction sets never change a bit, and a text sees only itself. */
#include "model/encode.h"

#include "toy.h"

enum { TEXTS = 7, TOKENS = 1 + 15 + 16 + 17 + 40 + 90 + 3 };
static const int32_t lengths[TEXTS] = {1, 15, 16, 17, 40, 90, 3};

typedef cch_config (*config_maker)(void);
static const config_maker configs[] = {toy_bert, toy_modernbert};

static void random_ids(int32_t *ids, size_t n) {
    toy_seed = 11;
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)((toy_random() + 1.0f) * 26.0f);
}

/* hidden [sum of lengths, hidden_size] of texts in one pass. */
static void encode(cch_model *m, const int32_t *ids, const int32_t *n, size_t n_texts, float *hidden) {
    const float *found = NULL;
    size_t ld = 0, rows = 0, width = (size_t)m->config.hidden_size;
    cch_error err;
    CHECK_OK(cch_encode(m, ids, n, n_texts, NULL, NULL, &found, &ld, &err), err);
    for (size_t i = 0; i < n_texts; i++) rows += (size_t)n[i];
    for (size_t r = 0; r < rows; r++) memcpy(hidden + r * width, found + r * ld, width * sizeof *hidden);
}

/* The texts one by one: portable kernels, one thread. */
static void reference(config_maker config, const int32_t *ids, float *hidden) {
    cch_model m;
    toy_open(&m, config(), "generic", 1);
    for (size_t i = 0, row = 0; i < TEXTS; i++) {
        encode(&m, ids + row, &lengths[i], 1, hidden + row * (size_t)m.config.hidden_size);
        row += (size_t)lengths[i];
    }
    toy_close(&m);
}

TEST(batches_threads_and_isa_change_no_bit) {
    static const char *const isas[] = {"generic", "avx2", "avx512"};
    static float want[TOKENS * 40], got[TOKENS * 40];
    int32_t ids[TOKENS];
    random_ids(ids, TOKENS);
    for (size_t c = 0; c < 2; c++) {
        reference(configs[c], ids, want);
        for (size_t isa = 0; isa < 3; isa++) {
            const cch_kernels *kern;
            if (cch_kernels_get(isas[isa], &kern, NULL) != CCH_OK) continue; /* not on this CPU */
            for (int threads = 1; threads <= 3; threads++) {
                cch_model m;
                toy_open(&m, configs[c](), isas[isa], threads);
                size_t width = (size_t)m.config.hidden_size;
                for (size_t step = 1; step <= TEXTS; step++) {
                    size_t row = 0;
                    for (size_t first = 0, n; first < TEXTS; first += n) {
                        n = TEXTS - first < step ? TEXTS - first : step;
                        encode(&m, ids + row, lengths + first, n, got + row * width);
                        for (size_t i = first; i < first + n; i++) row += (size_t)lengths[i];
                    }
                    CHECK(memcmp(got, want, TOKENS * width * sizeof *got) == 0);
                }
                toy_close(&m);
            }
        }
    }
}

/* The positions of a text whose hidden states change when token `at` does. */
static void changed_by(cch_model *m, const int32_t *ids, int32_t n, int32_t at, bool *changed) {
    static float before[256 * 40], after[256 * 40];
    size_t width = (size_t)m->config.hidden_size;
    int32_t other[256];
    encode(m, ids, &n, 1, before);
    memcpy(other, ids, (size_t)n * sizeof *ids);
    other[at] = (other[at] + 1) % m->config.vocab_size;
    encode(m, other, &n, 1, after);
    for (int32_t i = 0; i < n; i++)
        changed[i] = memcmp(before + (size_t)i * width, after + (size_t)i * width, width * sizeof *before) != 0;
}

TEST(a_layer_sees_both_sides_or_its_window) {
    enum { N = 100, AT = 40 };
    int32_t ids[N];
    bool changed[N];
    cch_model m;
    random_ids(ids, N);
    for (size_t c = 0; c < 2; c++) {
        toy_open(&m, configs[c](), NULL, 2);
        changed_by(&m, ids, N, AT, changed);
        for (int32_t i = 0; i < N; i++) CHECK(changed[i]);
        toy_close(&m);
    }
    cch_config local = toy_modernbert();
    local.global_every = 0; /* four layers that see six tokens to each side */
    toy_open(&m, local, NULL, 2);
    CHECK_EQ(cch_rope_init(&local, local.local_rope_theta, &m.local_rope, NULL), CCH_OK);
    changed_by(&m, ids, N, AT, changed);
    for (int32_t i = 0; i < N; i++) CHECK_EQ(changed[i], i >= AT - 4 * 6 && i <= AT + 4 * 6);
    toy_close(&m);
}

TEST(a_pass_can_be_cancelled) {
    const int cancel = 1;
    const float *hidden = NULL;
    int32_t ids[3] = {1, 2, 3}, n = 3;
    size_t ld;
    cch_error err;
    cch_model m;
    toy_open(&m, toy_bert(), NULL, 1);
    CHECK_STATUS(cch_encode(&m, ids, &n, 1, NULL, &cancel, &hidden, &ld, &err), CCH_E_CANCELLED, err,
                 "before layer 0 of 3");
    toy_close(&m);
}

static cch_status encode_once(cch_model *m) {
    const float *hidden = NULL;
    int32_t ids[20] = {0}, n = 20;
    size_t ld;
    cch_status status = cch_encode(m, ids, &n, 1, NULL, NULL, &hidden, &ld, NULL);
    cch_scratch_deinit(&m->scratch);
    return status;
}

TEST(no_memory) {
    cch_model m;
    toy_open(&m, toy_modernbert(), NULL, 1);
    CHECK_OOM(encode_once(&m));
    toy_close(&m);
}

CHECK_MAIN()
