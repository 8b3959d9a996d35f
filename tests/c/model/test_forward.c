/* The laws on the forward pass itself: chunks, batch mates, threads and instruction sets never change a bit. */
#include "toy.h"

#define N 75 /* tokens of the sequences: four full pages and a part of a fifth */

typedef cch_config (*config_maker)(void);
static const config_maker configs[] = {toy_llama, toy_gpt2, toy_windowed};
#define N_CONFIGS (sizeof configs / sizeof *configs)

typedef struct result {
    toy_sequence sequence;
    float *hidden; /* [N, hidden_size] */
} result;

static void result_new(const cch_model *m, uint64_t seed, result *r) {
    toy_sequence_new(m, N, seed, &r->sequence);
    CHECK((r->hidden = cch_zalloc(N * (size_t)m->config.hidden_size, sizeof(float))) != NULL);
}

static void result_free(result *r) {
    toy_sequence_free(&r->sequence);
    cch_free(r->hidden);
}

static cch_span span_of(const result *r, int32_t first, int32_t n, int32_t n_out) {
    return (cch_span){r->sequence.pages, first, n, true, n_out, NULL};
}

/* The whole sequence, `chunk` tokens per pass. */
static void run(cch_model *m, result *r, int32_t chunk) {
    for (int32_t at = 0; at < N; at += chunk) {
        int32_t n = N - at < chunk ? N - at : chunk;
        cch_span span = span_of(r, at, n, n);
        CHECK_EQ(cch_forward(m, &span, 1, r->hidden + (size_t)(at * m->config.hidden_size), NULL, NULL, NULL), CCH_OK);
    }
}

static bool same(const cch_model *m, const result *a, const result *b) {
    return memcmp(a->hidden, b->hidden, N * (size_t)m->config.hidden_size * sizeof(float)) == 0 &&
           toy_same_kv(m, &a->sequence, &b->sequence);
}

/* The straight-line run that all others must equal: portable kernels, one thread, token by token. */
static void reference(config_maker config, uint64_t seed, result *out) {
    cch_model m;
    toy_open(&m, config(), "generic", 1);
    result_new(&m, seed, out);
    run(&m, out, 1);
    toy_close(&m);
}

TEST(chunks_threads_and_isa_change_no_bit) {
    static const int32_t chunks[] = {1, 2, 7, 16, 17, 40, N};
    static const char *const isas[] = {"generic", "avx2", "avx512"};
    for (size_t c = 0; c < N_CONFIGS; c++) {
        result want;
        reference(configs[c], 5, &want);
        for (size_t isa = 0; isa < 3; isa++) {
            const cch_kernels *kern;
            if (cch_kernels_get(isas[isa], &kern, NULL) != CCH_OK) continue;
            for (int threads = 1; threads <= 3; threads++) {
                cch_model m;
                toy_open(&m, configs[c](), isas[isa], threads);
                for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
                    result got;
                    result_new(&m, 5, &got);
                    run(&m, &got, chunks[i]);
                    CHECK(same(&m, &got, &want));
                    result_free(&got);
                }
                toy_close(&m);
            }
        }
        result_free(&want);
    }
}

/* Five sequences in one pass, each at another place and with another number of new tokens. */
TEST(batch_mates_change_no_bit) {
    static const int32_t firsts[] = {0, 74, 16, 33, 70};
    for (size_t c = 0; c < N_CONFIGS; c++) {
        cch_model m;
        result want[5], got[5];
        cch_span spans[5];
        size_t hidden = (size_t)configs[c]().hidden_size, row = 0;
        float *out = cch_alloc(5 * N * hidden, sizeof *out);
        toy_open(&m, configs[c](), NULL, 2);
        for (size_t i = 0; i < 5; i++) {
            reference(configs[c], 10 + i, &want[i]);
            result_new(&m, 10 + i, &got[i]);
            cch_span before = span_of(&got[i], 0, firsts[i], 0);
            if (firsts[i] > 0) CHECK_EQ(cch_forward(&m, &before, 1, NULL, NULL, NULL, NULL), CCH_OK);
            spans[i] = span_of(&got[i], firsts[i], N - firsts[i], N - firsts[i]);
        }
        CHECK_EQ(cch_forward(&m, spans, 5, out, NULL, NULL, NULL), CCH_OK);
        for (size_t i = 0; i < 5; i++) {
            size_t n = (size_t)(N - firsts[i]);
            CHECK(memcmp(out + row * hidden, want[i].hidden + (N - n) * hidden, n * hidden * sizeof *out) == 0);
            CHECK(toy_same_kv(&m, &got[i].sequence, &want[i].sequence));
            row += n;
            result_free(&want[i]);
            result_free(&got[i]);
        }
        cch_free(out);
        toy_close(&m);
    }
}

/* A tree of branches: which begins with how many of whose pages, its length, and its new tokens. */
typedef struct branch {
    int32_t of, pages, n, rows;
} branch;
static const branch tree[] = {{0, 0, 150, 1},  {0, 9, 146, 1},  {0, 6, 101, 1}, {2, 6, 112, 3}, {0, 6, 240, 1},
                              {4, 12, 199, 1}, {4, 12, 210, 2}, {4, 15, 240, 1}, {0, 3, 60, 1},  {0, 2, 34, 2},
                              {0, 0, 90, 1},   {10, 5, 90, 10}, {0, 8, 128, 1},  {0, 10, 150, 1}};
#define N_BRANCHES (sizeof tree / sizeof *tree)

/* Page i of sequence b of the tree belongs to the branch that it forked from, further down. */
static size_t owner_of(size_t b, int32_t page) {
    while (page < tree[b].pages) b = (size_t)tree[b].of;
    return b;
}

/* All branches in one pass, in an order of their own, against each by itself; random keys and values. */
TEST(branches_in_one_pass_change_no_bit) {
    static const char *const isas[] = {"generic", "avx2", "avx512"};
    for (size_t c = 0; c < 2 * 3 * N_CONFIGS; c++) {
        cch_model m;
        const char *isa = isas[c / N_CONFIGS % 3];
        const cch_kernels *kern;
        toy_sequence own[N_BRANCHES], seen[N_BRANCHES];
        cch_span spans[N_BRANCHES];
        float together[32 * 48], alone[32 * 48];
        if (cch_kernels_get(isa, &kern, NULL) != CCH_OK) continue;
        toy_open(&m, configs[c % N_CONFIGS](), isa, 1 + (int)c % 2);
        toy_pool(&m, c >= 3 * N_CONFIGS);
        for (size_t b = 0; b < N_BRANCHES; b++) {
            toy_sequence_new(&m, tree[b].n, 20 + b, &own[b]);
            for (int32_t i = 0; i * CCH_PAGE_TOKENS < tree[b].n; i++) {
                toy_fill(&m, own[b].pages[i]);
                seen[b].pages[i] = own[owner_of(b, i)].pages[i];
            }
            const size_t at = b * 5 % N_BRANCHES;
            spans[at] = (cch_span){seen[b].pages, tree[b].n - tree[b].rows, tree[b].rows, true,
                                   at % 3 == 0 ? 1 : tree[b].rows, NULL};
        }
        CHECK_EQ(cch_forward(&m, spans, N_BRANCHES, together, NULL, NULL, NULL), CCH_OK);
        float *out = alone;
        for (size_t i = 0; i < N_BRANCHES; i++) {
            CHECK_EQ(cch_forward(&m, &spans[i], 1, out, NULL, NULL, NULL), CCH_OK);
            out += spans[i].n_out * m.config.hidden_size;
        }
        CHECK(out - alone <= 32 * 48);
        CHECK(memcmp(together, alone, (size_t)(out - alone) * sizeof *out) == 0);
        for (size_t b = 0; b < N_BRANCHES; b++) toy_sequence_free(&own[b]);
        toy_close(&m);
    }
}

/* Rows that nobody asked for are dropped in the last layer; the others must not notice. */
TEST(unwanted_rows_change_no_bit) {
    for (size_t c = 0; c < N_CONFIGS; c++) {
        cch_model m;
        result want, a, b;
        size_t hidden = (size_t)configs[c]().hidden_size;
        float out[6 * 48];
        toy_open(&m, configs[c](), NULL, 2);
        reference(configs[c], 3, &want);
        result_new(&m, 3, &a);
        result_new(&m, 3, &b);
        cch_span spans[2] = {span_of(&a, 0, N, 5), span_of(&b, 0, 40, 1)};
        CHECK_EQ(cch_forward(&m, spans, 2, out, NULL, NULL, NULL), CCH_OK);
        CHECK(memcmp(out, want.hidden + (N - 5) * hidden, 5 * hidden * sizeof *out) == 0);
        CHECK(memcmp(out + 5 * hidden, want.hidden + 39 * hidden, hidden * sizeof *out) == 0);
        CHECK(toy_same_kv(&m, &a.sequence, &want.sequence));
        result_free(&a);
        result_free(&b);
        result_free(&want);
        toy_close(&m);
    }
}

/* A fork may attend to pages that another span computes in the same pass. */
TEST(spans_may_depend_on_each_other) {
    cch_model m;
    result want, a;
    toy_open(&m, toy_llama(), NULL, 2);
    size_t hidden = (size_t)m.config.hidden_size;
    float *out = cch_alloc(N * hidden, sizeof *out);
    reference(toy_llama, 3, &want);
    result_new(&m, 3, &a);
    cch_span spans[2] = {span_of(&a, 48, N - 48, N - 48), span_of(&a, 0, 48, 48)};
    CHECK_EQ(cch_forward(&m, spans, 2, out, NULL, NULL, NULL), CCH_OK);
    CHECK(memcmp(out, want.hidden + 48 * hidden, (N - 48) * hidden * sizeof *out) == 0);
    CHECK(memcmp(out + (N - 48) * hidden, want.hidden, 48 * hidden * sizeof *out) == 0);
    cch_free(out);
    result_free(&a);
    result_free(&want);
    toy_close(&m);
}

/* Looking at a layer recomputes what generation saw and leaves the pages alone. */
TEST(a_probe_shows_what_was_computed) {
    for (size_t c = 0; c < N_CONFIGS; c++) {
        cch_model m;
        result want, again;
        toy_open(&m, configs[c](), NULL, 2);
        size_t hidden = (size_t)m.config.hidden_size, heads = (size_t)m.config.n_heads;
        int32_t window = m.config.sliding_window, first = 30, n = N - first;
        float *attention = cch_alloc(heads * (size_t)n * N, sizeof *attention);
        float *last = cch_alloc((size_t)n * hidden, sizeof *last);
        reference(configs[c], 4, &want);
        result_new(&m, 4, &again);
        run(&m, &again, N);
        cch_span span = {again.sequence.pages, first, n, false, n, NULL};
        cch_probe probe = {.attention_layer = 1, .attention_head = -1, .attention = attention, .ld_attention = N,
                           .hidden_layer = -1, .hidden = last};
        CHECK_EQ(cch_forward(&m, &span, 1, again.hidden + (size_t)first * hidden, &probe, NULL, NULL), CCH_OK);
        CHECK(same(&m, &again, &want));
        CHECK(memcmp(last, want.hidden + (size_t)first * hidden, (size_t)n * hidden * sizeof *last) == 0);
        for (size_t row = 0; row < heads * (size_t)n; row++) {
            double sum = 0;
            int32_t pos = first + (int32_t)(row % (size_t)n);
            for (int32_t key = 0; key < N; key++) {
                float p = attention[row * N + (size_t)key];
                sum += (double)p;
                CHECK(key <= pos && (window == 0 || key > pos - window) ? p > 0 : p == 0);
            }
            CHECK(fabs(sum - 1) < 1e-5);
        }
        float *one = cch_alloc((size_t)n * N, sizeof *one);
        cch_probe single = {.attention_layer = 1, .attention_head = 2, .attention = one, .ld_attention = N,
                            .stop_early = true};
        CHECK_EQ(cch_forward(&m, &span, 1, NULL, &single, NULL, NULL), CCH_OK);
        CHECK(memcmp(one, attention + 2 * (size_t)n * N, (size_t)n * N * sizeof *one) == 0);
        cch_free(one);
        cch_free(attention);
        cch_free(last);
        result_free(&want);
        result_free(&again);
        toy_close(&m);
    }
}

/* Hidden states: the embedding below, each layer's output above, with and without stopping early. */
TEST(hidden_states_of_every_layer) {
    cch_model m;
    result a;
    toy_open(&m, toy_llama(), NULL, 1);
    size_t hidden = (size_t)m.config.hidden_size;
    float *stopped = cch_alloc(N * hidden, sizeof *stopped), *full = cch_alloc(N * hidden, sizeof *full), row[40];
    result_new(&m, 6, &a);
    run(&m, &a, N);
    cch_span span = {a.sequence.pages, 0, N, false, 0, NULL};
    for (int32_t l = -1; l <= m.config.n_layers; l++) {
        cch_probe probe = {.hidden_layer = l, .hidden = full};
        CHECK_EQ(cch_forward(&m, &span, 1, NULL, &probe, NULL, NULL), CCH_OK);
        probe.hidden = stopped;
        probe.stop_early = true;
        CHECK_EQ(cch_forward(&m, &span, 1, NULL, &probe, NULL, NULL), CCH_OK);
        CHECK(memcmp(full, stopped, N * hidden * sizeof *full) == 0);
        if (l == 0) {
            cch_weights_embedding(&m.weights, a.sequence.pages[1]->tokens[3], row);
            CHECK(memcmp(full + 19 * hidden, row, hidden * sizeof *row) == 0);
        }
        if (l == m.config.n_layers) {
            m.kern->rms_norm(full + 9 * hidden, m.weights.final_norm.w, m.config.norm_eps, hidden, row);
            CHECK(memcmp(a.hidden + 9 * hidden, row, hidden * sizeof *row) == 0);
        }
        if (l == -1) CHECK(memcmp(full, a.hidden, N * hidden * sizeof *full) == 0);
    }
    cch_free(stopped);
    cch_free(full);
    result_free(&a);
    toy_close(&m);
}

TEST(the_output_matrix_gives_whole_panels_of_logits) {
    cch_model m;
    toy_open(&m, toy_llama(), NULL, 2);
    float *hidden = toy_vector(3 * 40, 0.0f, 1.0f), logits[3 * 64], row[40];
    CHECK_EQ(cch_output_logits(&m, hidden, 3, logits, NULL), CCH_OK);
    for (int32_t id = 0; id < m.config.vocab_size; id++) {
        double want = 0;
        cch_weights_embedding(&m.weights, id, row);
        for (size_t k = 0; k < 40; k++) want += (double)hidden[40 + k] * (double)row[k];
        CHECK(fabs((double)logits[64 + id] - want) < 1e-5);
    }
    cch_free(hidden);
    toy_close(&m);
}

TEST(failures_come_before_any_work) {
    cch_model m;
    cch_error err;
    result a;
    int cancel = 1;
    toy_open(&m, toy_llama(), NULL, 1);
    result_new(&m, 7, &a);
    cch_span span = span_of(&a, 0, N, 1);
    cch_fail_alloc(1);
    CHECK_STATUS(cch_forward(&m, &span, 1, a.hidden, NULL, NULL, &err), CCH_E_MEMORY, err, "workspace");
    cch_fail_alloc(0);
    CHECK_STATUS(cch_forward(&m, &span, 1, a.hidden, NULL, &cancel, &err), CCH_E_CANCELLED, err, "layer 0 of 3");
    for (size_t i = 0; i < 40; i++) CHECK(a.hidden[i] == 0.0f);
    CHECK_OK(cch_forward(&m, &span, 1, a.hidden, NULL, NULL, &err), err);
    cch_fail_alloc(0);
    CHECK_OK(cch_forward(&m, &span, 1, a.hidden, NULL, NULL, &err), err);
    CHECK_EQ(cch_fail_alloc(0), 0); /* a warm pass allocates nothing */
    result_free(&a);
    toy_close(&m);
}

CHECK_MAIN()
