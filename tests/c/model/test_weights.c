#include "model/weights.h"

#include "base/alloc.h"
#include "check.h"
#include "modelfile.h"

static cch_error err;
static cch_threads *threads;
static modelfile file;

/* Odd sizes: parts of fused matrices begin and end inside panels. */
enum { VOCAB = 37, HIDDEN = 20, INNER = 23, HEADS = 4, KV_HEADS = 2, DIM = 6, LAYERS = 2, POSITIONS = 9 };

static const cch_config llama = {
    .architecture = "llama", .vocab_size = VOCAB, .hidden_size = HIDDEN, .intermediate_size = INNER, .n_layers = LAYERS,
    .n_heads = HEADS, .n_kv_heads = KV_HEADS, .head_dim = DIM, .max_position_embeddings = POSITIONS,
    .norm = CCH_NORM_RMS, .gated_mlp = true, .position = CCH_POSITION_ROPE};
static const cch_config gpt2 = {
    .architecture = "gpt2", .vocab_size = VOCAB, .hidden_size = HEADS * DIM, .intermediate_size = INNER,
    .n_layers = LAYERS, .n_heads = HEADS, .n_kv_heads = HEADS, .head_dim = DIM, .max_position_embeddings = POSITIONS,
    .norm = CCH_NORM_LAYER, .norm_bias = true, .qkv_bias = true, .o_bias = true, .mlp_bias = true,
    .tie_word_embeddings = true, .position = CCH_POSITION_LEARNED};

static void add(const char *prefix, int layer, const char *name, size_t rows, size_t cols) {
    char full[100];
    if (layer < 0) snprintf(full, sizeof full, "%s%s", prefix, name);
    else snprintf(full, sizeof full, "%s%s.%d.%s", prefix, strcmp(prefix, "model.") == 0 ? "layers" : "h", layer, name);
    modelfile_add(&file, full, rows, cols);
}

/* All tensors of the config but those whose names contain `without`. */
static void llama_file(const cch_config *c, const char *dtype, const char *without) {
    modelfile_init(&file, dtype);
    static const struct { const char *name; size_t rows, cols; int when; } each[] = {
        {"input_layernorm.weight", HIDDEN, 0, 0}, {"self_attn.q_proj.weight", HEADS * DIM, HIDDEN, 0},
        {"self_attn.k_proj.weight", KV_HEADS * DIM, HIDDEN, 0}, {"self_attn.v_proj.weight", KV_HEADS * DIM, HIDDEN, 0},
        {"self_attn.q_proj.bias", HEADS * DIM, 0, 1}, {"self_attn.k_proj.bias", KV_HEADS * DIM, 0, 1},
        {"self_attn.v_proj.bias", KV_HEADS * DIM, 0, 1}, {"self_attn.q_norm.weight", DIM, 0, 2},
        {"self_attn.k_norm.weight", DIM, 0, 2}, {"self_attn.o_proj.weight", HIDDEN, HEADS * DIM, 0},
        {"post_attention_layernorm.weight", HIDDEN, 0, 0}, {"mlp.gate_proj.weight", INNER, HIDDEN, 0},
        {"mlp.up_proj.weight", INNER, HIDDEN, 0}, {"mlp.down_proj.weight", HIDDEN, INNER, 0}};
    if (strcmp(without, "embed") != 0) add("model.", -1, "embed_tokens.weight", VOCAB, HIDDEN);
    for (int layer = 0; layer < LAYERS; layer++)
        for (size_t i = 0; i < sizeof each / sizeof *each; i++)
            if ((each[i].when == 0 || (each[i].when == 1 ? c->qkv_bias : c->qk_norm)) &&
                strstr(each[i].name, without) == NULL)
                add("model.", layer, each[i].name, each[i].rows, each[i].cols);
    add("model.", -1, "norm.weight", HIDDEN, 0);
    if (!c->tie_word_embeddings) modelfile_add(&file, "lm_head.weight", VOCAB, HIDDEN);
}

static void gpt2_file(const char *prefix, const char *dtype) {
    const size_t hidden = HEADS * DIM;
    modelfile_init(&file, dtype);
    add(prefix, -1, "wte.weight", VOCAB, hidden);
    add(prefix, -1, "wpe.weight", POSITIONS, hidden);
    for (int layer = 0; layer < LAYERS; layer++) {
        add(prefix, layer, "ln_1.weight", hidden, 0), add(prefix, layer, "ln_1.bias", hidden, 0);
        add(prefix, layer, "attn.bias", POSITIONS, POSITIONS); /* the causal mask */
        add(prefix, layer, "attn.c_attn.weight", hidden, 3 * hidden);
        add(prefix, layer, "attn.c_attn.bias", 3 * hidden, 0);
        add(prefix, layer, "attn.c_proj.weight", hidden, hidden), add(prefix, layer, "attn.c_proj.bias", hidden, 0);
        add(prefix, layer, "ln_2.weight", hidden, 0), add(prefix, layer, "ln_2.bias", hidden, 0);
        add(prefix, layer, "mlp.c_fc.weight", hidden, INNER), add(prefix, layer, "mlp.c_fc.bias", INNER, 0);
        add(prefix, layer, "mlp.c_proj.weight", INNER, hidden), add(prefix, layer, "mlp.c_proj.bias", hidden, 0);
    }
    add(prefix, -1, "ln_f.weight", hidden, 0), add(prefix, -1, "ln_f.bias", hidden, 0);
}

/* Opens `file` as the only file of a folder. */
static cch_status open_file(const cch_config *config, cch_weights *out) {
    tempdir dir = tempdir_new();
    modelfile_write(&file, &dir, "model.safetensors");
    cch_status status = cch_weights_open(dir.path, config, CCH_FORMAT_F32, threads, out, &err);
    tempdir_free(&dir);
    return status;
}

static cch_status open_and_close(const cch_config *config) {
    cch_weights w;
    cch_status status = open_file(config, &w);
    cch_weights_close(&w);
    return status;
}

static void start(int n) { CHECK_OK(cch_threads_new(n, &threads, &err), err); }
static void stop(void) { cch_threads_free(threads); }

/* ---------------------------------------------------------------------------------------------- contents ---- */

/* Rows [row, row + rows) of the packed matrix are the named tensor; stride 0: it is stored as [rows, cols], else
 * transposed with that many columns, of which ours start at `row`. */
static void check_rows(const cch_packed *w, size_t row, size_t rows, const char *name, bool transposed) {
    float *got = cch_alloc(w->k, sizeof *got);
    size_t wrong = 0;
    for (size_t r = 0; r < rows; r++) {
        cch_packed_row(w, row + r, got);
        for (size_t k = 0; k < w->k; k++)
            wrong += got[k] != modelfile_value(name, transposed ? k * rows + r : r * w->k + k);
    }
    if (wrong > 0) fprintf(stderr, "%s: %zu values are wrong\n", name, wrong);
    CHECK_EQ(wrong, 0);
    cch_free(got);
}

static void check_vector(const float *got, size_t n, const char *name) {
    CHECK(got != NULL);
    size_t wrong = 0;
    for (size_t i = 0; got != NULL && i < n; i++) wrong += got[i] != modelfile_value(name, i);
    if (wrong > 0) fprintf(stderr, "%s: %zu values are wrong\n", name, wrong);
    CHECK_EQ(wrong, 0);
}

static void check_llama(const cch_weights *w, const cch_config *c) {
    char name[100];
    float row[HIDDEN];
#define NAMED(part) (snprintf(name, sizeof name, "layers.%d.%s", layer, part), name)
    for (int layer = 0; layer < LAYERS; layer++) {
        const cch_layer *l = &w->layers[layer];
        check_vector(l->attention_norm.w, HIDDEN, NAMED("input_layernorm.weight"));
        check_rows(&l->qkv, 0, HEADS * DIM, NAMED("self_attn.q_proj.weight"), false);
        check_rows(&l->qkv, HEADS * DIM, KV_HEADS * DIM, NAMED("self_attn.k_proj.weight"), false);
        check_rows(&l->qkv, (HEADS + KV_HEADS) * DIM, KV_HEADS * DIM, NAMED("self_attn.v_proj.weight"), false);
        check_rows(&l->o, 0, HIDDEN, NAMED("self_attn.o_proj.weight"), false);
        check_rows(&l->up, 0, INNER, NAMED("mlp.gate_proj.weight"), false);
        check_rows(&l->up, INNER, INNER, NAMED("mlp.up_proj.weight"), false);
        check_rows(&l->down, 0, HIDDEN, NAMED("mlp.down_proj.weight"), false);
        CHECK(l->qkv.n == (HEADS + 2 * KV_HEADS) * DIM && l->qkv.k == HIDDEN && l->up.n == 2 * INNER);
        CHECK(l->attention_norm.b == NULL && l->o.bias == NULL && l->up.bias == NULL);
        if (c->qkv_bias) {
            check_vector(l->qkv.bias, HEADS * DIM, NAMED("self_attn.q_proj.bias"));
            check_vector(l->qkv.bias + HEADS * DIM, KV_HEADS * DIM, NAMED("self_attn.k_proj.bias"));
            check_vector(l->qkv.bias + (HEADS + KV_HEADS) * DIM, KV_HEADS * DIM, NAMED("self_attn.v_proj.bias"));
        } else CHECK(l->qkv.bias == NULL);
        if (c->qk_norm) check_vector(l->k_norm.w, DIM, NAMED("self_attn.k_norm.weight"));
        CHECK_EQ(l->q_norm.w != NULL, c->qk_norm);
    }
    check_vector(w->final_norm.w, HIDDEN, "norm.weight");
    check_rows(&w->head, 0, VOCAB, c->tie_word_embeddings ? "embed_tokens.weight" : "lm_head.weight", false);
    for (int32_t id = 0; id < VOCAB; id++) {
        cch_weights_embedding(w, id, row);
        for (size_t i = 0; i < HIDDEN; i++)
            CHECK(row[i] == modelfile_value("embed_tokens.weight", (size_t)id * HIDDEN + i));
    }
    CHECK_EQ(w->embedding == NULL, c->tie_word_embeddings);
    CHECK(w->positions == NULL);
}

TEST(llama_and_its_kin_land_in_their_slots) {
    start(2);
    for (int variant = 0; variant < 8; variant++) {
        cch_config c = llama;
        cch_weights w;
        c.tie_word_embeddings = variant & 1;
        c.qkv_bias = variant & 2;
        c.qk_norm = variant & 4;
        llama_file(&c, variant % 3 == 0 ? "F32" : variant % 3 == 1 ? "BF16" : "F16", "none");
        file.shift = variant;
        CHECK_OK(open_file(&c, &w), err);
        if (w.layers == NULL) continue;
        check_llama(&w, &c);
        cch_weights_close(&w);
    }
    stop();
}

TEST(gpt2_is_turned_round_with_and_without_its_prefix) {
    start(2);
    for (int variant = 0; variant < 4; variant++) {
        const size_t hidden = HEADS * DIM;
        cch_weights w;
        char name[100];
        gpt2_file(variant & 1 ? "transformer." : "", variant & 2 ? "BF16" : "F32");
        CHECK_OK(open_file(&gpt2, &w), err);
        for (int layer = 0; w.layers != NULL && layer < LAYERS; layer++) {
            const cch_layer *l = &w.layers[layer];
            snprintf(name, sizeof name, "h.%d.", layer);
            size_t at = strlen(name);
#define PART(part) (strcpy(name + at, part), name)
            check_rows(&l->qkv, 0, 3 * hidden, PART("attn.c_attn.weight"), true);
            check_vector(l->qkv.bias, 3 * hidden, PART("attn.c_attn.bias"));
            check_rows(&l->o, 0, hidden, PART("attn.c_proj.weight"), true);
            check_rows(&l->up, 0, INNER, PART("mlp.c_fc.weight"), true);
            check_vector(l->up.bias, INNER, PART("mlp.c_fc.bias"));
            check_rows(&l->down, 0, hidden, PART("mlp.c_proj.weight"), true);
            check_vector(l->mlp_norm.w, hidden, PART("ln_2.weight"));
            check_vector(l->mlp_norm.b, hidden, PART("ln_2.bias"));
        }
        check_rows(&w.head, 0, VOCAB, "wte.weight", false);
        check_vector(w.positions, POSITIONS * hidden, "wpe.weight");
        check_vector(w.final_norm.b, hidden, "ln_f.bias");
        cch_weights_close(&w);
    }
    stop();
}

TEST(the_digest_is_of_values_not_of_files) {
    uint8_t digests[6][CCH_HASH_BYTES];
    cch_weights w;
    for (int variant = 0; variant < 6; variant++) {
        start(1 + variant % 3);
        gpt2_file(variant & 1 ? "transformer." : "", variant == 2 ? "BF16" : variant == 3 ? "F16" : "F32");
        file.shift = variant == 4 ? 1 : 0;
        if (variant == 5) file.data[1] ^= 1; /* one bit of one embedding */
        CHECK_OK(open_file(&gpt2, &w), err);
        memcpy(digests[variant], w.digest, sizeof w.digest);
        CHECK_EQ(w.n_parameters, VOCAB * 24 + POSITIONS * 24
                                 + LAYERS * (24 * 72 + 72 + 24 * 24 + 24 + 2 * 24 * INNER + INNER + 24 + 4 * 24)
                                 + 2 * 24);
        cch_weights_close(&w);
        stop();
        if (variant < 5) CHECK(memcmp(digests[variant], digests[0], sizeof w.digest) == 0);
        else CHECK(memcmp(digests[variant], digests[0], sizeof w.digest) != 0);
    }
}

TEST(shards_give_the_same_weights) {
    tempdir dir = tempdir_new();
    static modelfile parts[2];
    cch_weights w, whole;
    char index[8000] = "";
    start(2);
    llama_file(&llama, "F32", "none");
    CHECK_OK(open_file(&llama, &whole), err);
    /* every tensor of the one file again, alternately in two */
    modelfile_init(&parts[0], "F32"), modelfile_init(&parts[1], "F32");
    const char *at = file.header;
    for (int n = 0; (at = strstr(at, n == 0 ? "{\"" : ",\"")) != NULL; n++) {
        char name[100];
        size_t rows = 0, cols = 0;
        const char *shape = strstr(at, "\"shape\":");
        sscanf(at + 2, "%99[^\"]", name);
        sscanf(shape, "\"shape\":[%zu,%zu", &rows, &cols);
        modelfile_add(&parts[n % 2], name, rows, cols);
        snprintf(index + strlen(index), sizeof index - strlen(index), "%s\"%s\":\"part-%d.safetensors\"",
                 n == 0 ? "{\"weight_map\":{" : ",", name, n % 2);
        at = strstr(at, "]}");
    }
    strcat(index, "}}");
    tempdir_write_text(&dir, "model.safetensors.index.json", index);
    modelfile_write(&parts[0], &dir, "part-0.safetensors");
    modelfile_write(&parts[1], &dir, "part-1.safetensors");
    CHECK_OK(cch_weights_open(dir.path, &llama, CCH_FORMAT_F32, threads, &w, &err), err);
    if (w.layers != NULL) check_llama(&w, &llama);
    CHECK(memcmp(w.digest, whole.digest, sizeof w.digest) == 0);
    cch_weights_close(&w), cch_weights_close(&whole);
    tempdir_free(&dir);
    stop();
}

/* ---------------------------------------------------------------------------------------------- refusals ---- */

TEST(missing_and_surplus_tensors_are_named) {
    start(1);
    cch_config biased = llama, tied = llama;
    biased.qkv_bias = true;
    tied.tie_word_embeddings = true;
    llama_file(&llama, "F32", "o_proj");
    CHECK_STATUS(open_and_close(&llama), CCH_E_FORMAT, err, "tensor model.layers.0.self_attn.o_proj.weight is missing");
    llama_file(&llama, "F32", "embed");
    CHECK_STATUS(open_and_close(&llama), CCH_E_FORMAT, err, "tensor model.embed_tokens.weight is missing");
    llama_file(&tied, "F32", "none");
    CHECK_STATUS(open_and_close(&llama), CCH_E_FORMAT, err, "tensor lm_head.weight is missing");
    llama_file(&llama, "F32", "none");
    CHECK_STATUS(open_and_close(&biased), CCH_E_FORMAT, err, "tensor model.layers.0.self_attn.q_proj.bias is missing");
    CHECK_STATUS(open_and_close(&tied), CCH_E_UNSUPPORTED, err, "tensor lm_head.weight differs from the embeddings");
    llama_file(&biased, "F32", "none");
    CHECK_STATUS(open_and_close(&llama), CCH_E_UNSUPPORTED, err, "model.layers.0.self_attn.q_proj.bias has no place");
    llama_file(&llama, "F32", "none");
    modelfile_add(&file, "model.layers.2.mlp.up_proj.weight", INNER, HIDDEN);
    CHECK_STATUS(open_and_close(&llama), CCH_E_FORMAT, err,
                 "up_proj.weight is of layer 2, but config.json has 2 layers");
    llama_file(&llama, "F32", "none");
    modelfile_add(&file, "score.weight", 2, HIDDEN);
    CHECK_STATUS(open_and_close(&llama), CCH_E_UNSUPPORTED, err,
                 "tensor score.weight makes this a classifier, but architectures in config.json names none");
    llama_file(&llama, "F32", "none");
    modelfile_add(&file, "scores.weight", 2, HIDDEN);
    CHECK_STATUS(open_and_close(&llama), CCH_E_UNSUPPORTED, err, "tensor scores.weight is no part of a llama model");
    llama_file(&llama, "F32", "none");
    modelfile_add(&file, "norm.weight", HIDDEN, 0);
    CHECK_STATUS(open_and_close(&llama), CCH_E_FORMAT, err,
                 "tensors model.norm.weight and norm.weight are the same weight");
    llama_file(&llama, "F32", "none");
    modelfile_add(&file, "model.layers.1.self_attn.rotary_emb.inv_freq", 3, 0);
    CHECK_OK(open_and_close(&llama), err);
    stop();
}

TEST(a_stored_head_may_repeat_the_embeddings) {
    cch_config tied = llama;
    tied.tie_word_embeddings = true;
    start(1);
    llama_file(&tied, "F32", "none");
    modelfile_add(&file, "lm_head.weight", VOCAB, HIDDEN);
    CHECK_STATUS(open_and_close(&tied), CCH_E_UNSUPPORTED, err, "lm_head.weight differs");
    memcpy(file.data + file.data_len - VOCAB * HIDDEN * 4, file.data, VOCAB * HIDDEN * 4);
    CHECK_OK(open_and_close(&tied), err);
    stop();
}

/* The config as a classifier's, which has no output matrix over the vocabulary. */
static cch_config classifier_of(cch_config c, int32_t n_labels) {
    c.model_type = CCH_SEQUENCE_CLASSIFICATION;
    c.tie_word_embeddings = false;
    c.n_labels = n_labels;
    return c;
}

TEST(a_classifier_has_labels_in_place_of_the_vocabulary) {
    start(2);
    for (int variant = 0; variant < 8; variant++) {
        const int32_t n_labels = variant & 1 ? 1 : 21;
        cch_config tied = llama, c = classifier_of(variant & 2 ? gpt2 : llama, n_labels);
        cch_weights w;
        float row[32];
        tied.tie_word_embeddings = true; /* a file without lm_head */
        if (variant & 2) gpt2_file("transformer.", "F32");
        else llama_file(variant & 4 ? &llama : &tied, "BF16", "none"); /* one left over is never read */
        modelfile_add(&file, "score.weight", (size_t)n_labels, (size_t)c.hidden_size);
        CHECK_OK(open_file(&c, &w), err);
        if (w.layers == NULL) continue;
        CHECK(w.head.n == (size_t)n_labels && w.head.k == (size_t)c.hidden_size);
        check_rows(&w.head, 0, (size_t)n_labels, "score.weight", false);
        for (int32_t id = 0; id < VOCAB; id++) {
            const char *table = variant & 2 ? "wte.weight" : "embed_tokens.weight";
            cch_weights_embedding(&w, id, row);
            for (int32_t i = 0; i < c.hidden_size; i++)
                CHECK(row[i] == modelfile_value(table, (size_t)(id * c.hidden_size + i)));
        }
        cch_weights_close(&w);
    }
    stop();
}

TEST(a_classifier_needs_its_matrix) {
    cch_config tied = llama, c = classifier_of(llama, 3);
    tied.tie_word_embeddings = true;
    start(1);
    llama_file(&tied, "F32", "none");
    CHECK_STATUS(open_and_close(&c), CCH_E_FORMAT, err, "tensor score.weight is missing");
    modelfile_add(&file, "score.weight", 2, HIDDEN);
    CHECK_STATUS(open_and_close(&c), CCH_E_FORMAT, err,
                 "tensor score.weight is F32 [2, 20], expected [3, 20] by config.json");
    gpt2_file("", "F32");
    modelfile_add(&file, "score.weight", 3, HEADS * DIM);
    modelfile_add(&file, "score.bias", 3, 0);
    c = classifier_of(gpt2, 3);
    CHECK_STATUS(open_and_close(&c), CCH_E_UNSUPPORTED, err, "tensor score.bias is no part of a gpt2 model");
    stop();
}

TEST(shapes_are_checked_against_the_config) {
    start(1);
    cch_config c = llama;
    llama_file(&llama, "F32", "none");
    c.intermediate_size = INNER + 1;
    CHECK_STATUS(open_and_close(&c), CCH_E_FORMAT, err,
                 "tensor model.layers.0.mlp.gate_proj.weight is F32 [23, 20], expected [24, 20] by config.json");
    c = llama;
    c.vocab_size = 4000000;
    c.hidden_size = 65536; /* nothing is allocated for a config that the file does not bear out */
    CHECK_STATUS(open_and_close(&c), CCH_E_FORMAT, err,
                 "embed_tokens.weight is F32 [37, 20], expected [4000000, 65536]");
    gpt2_file("", "F32");
    c = gpt2;
    c.intermediate_size = 24;
    CHECK_STATUS(open_and_close(&c), CCH_E_FORMAT, err, "h.0.mlp.c_fc.weight is F32 [24, 23], expected [24, 24]");
    c = gpt2;
    c.max_position_embeddings = 10;
    CHECK_STATUS(open_and_close(&c), CCH_E_FORMAT, err, "wpe.weight is F32 [9, 24], expected [10, 24]");
    modelfile_init(&file, "I32");
    modelfile_add(&file, "wte.weight", 1, 1);
    strcpy(strstr(file.header, "[0,2]"), "[0,4]}");
    file.header_len = strlen(file.header), file.data_len = 4;
    CHECK_STATUS(open_and_close(&gpt2), CCH_E_UNSUPPORTED, err, "tensor wte.weight is of type I32");
    strcpy(c.architecture, "roberta");
    CHECK_STATUS(open_and_close(&c), CCH_E_UNSUPPORTED, err, "\"roberta\"");
    stop();
}

TEST(values_that_are_not_finite_are_named) {
    start(2);
    llama_file(&llama, "F32", "none");
    const uint32_t bad[] = {0x7FC00000u, 0xFF800000u};
    memcpy(file.data + 4 * 33, &bad[0], 4);
    memcpy(file.data + 4 * 700, &bad[1], 4);
    CHECK_STATUS(open_and_close(&llama), CCH_E_FORMAT, err, "tensor model.embed_tokens.weight holds nan at index 33");
    CHECK_EQ(err.position, 33);
    memcpy(file.data + 4 * 33, file.data, 4);
    CHECK_STATUS(open_and_close(&llama), CCH_E_FORMAT, err, "holds -inf at index 700");
    gpt2_file("transformer.", "F32");
    size_t first = (size_t)(VOCAB + POSITIONS) * 24 + 2 * 24 + POSITIONS * POSITIONS; /* of h.0.attn.c_attn.weight */
    memcpy(file.data + 4 * (first + 100), &bad[0], 4);
    CHECK_STATUS(open_and_close(&gpt2), CCH_E_FORMAT, err, "transformer.h.0.attn.c_attn.weight holds nan at index 100");
    stop();
}

static cch_status open_folder(const char *folder, const cch_config *c) {
    cch_weights w;
    cch_status status = cch_weights_open(folder, c, CCH_FORMAT_F32, threads, &w, &err);
    cch_weights_close(&w);
    return status;
}

TEST(no_memory_leaves_nothing_behind) {
    tempdir dir = tempdir_new();
    cch_config untied = gpt2;
    untied.tie_word_embeddings = false;
    start(2);
    gpt2_file("", "BF16");
    modelfile_add(&file, "lm_head.weight", VOCAB, 24);
    modelfile_write(&file, &dir, "model.safetensors");
    CHECK_OOM(open_folder(dir.path, &untied));
    cch_config classifier = classifier_of(gpt2, 3);
    gpt2_file("", "F32");
    modelfile_add(&file, "score.weight", 3, 24);
    modelfile_write(&file, &dir, "model.safetensors");
    CHECK_OOM(open_folder(dir.path, &classifier));
    tempdir_free(&dir);
    stop();
}

CHECK_MAIN()
