/* weights: the bytes of a model.safetensors for one of five tiny configs; the first byte picks it.  Written to a
 * folder in memory, since loading maps files. */
#include "model/weights.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const cch_config configs[] = {
    {.architecture = "llama", .vocab_size = 3, .hidden_size = 4, .intermediate_size = 2, .n_layers = 1, .n_heads = 2,
     .n_kv_heads = 1, .head_dim = 2, .max_position_embeddings = 8, .gated_mlp = true, .position = CCH_POSITION_ROPE,
     .tie_word_embeddings = true},
    {.architecture = "gpt2", .vocab_size = 3, .hidden_size = 2, .intermediate_size = 2, .n_layers = 1, .n_heads = 1,
     .n_kv_heads = 1, .head_dim = 2, .max_position_embeddings = 2, .norm = CCH_NORM_LAYER, .norm_bias = true,
     .qkv_bias = true, .o_bias = true, .mlp_bias = true, .tie_word_embeddings = true,
     .position = CCH_POSITION_LEARNED},
    {.architecture = "llama", .model_type = CCH_SEQUENCE_CLASSIFICATION, .n_labels = 2, .vocab_size = 3,
     .hidden_size = 4, .intermediate_size = 2, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 2,
     .max_position_embeddings = 8, .gated_mlp = true, .position = CCH_POSITION_ROPE},
    {.architecture = "bert", .model_type = CCH_ENCODER, .vocab_size = 3, .hidden_size = 2, .intermediate_size = 3,
     .n_layers = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 2, .max_position_embeddings = 2,
     .norm = CCH_NORM_LAYER, .norm_bias = true, .post_norm = true, .embedding_norm = true, .qkv_bias = true,
     .o_bias = true, .mlp_bias = true, .type_vocab_size = 1, .position = CCH_POSITION_LEARNED},
    {.architecture = "modernbert", .model_type = CCH_ENCODER, .vocab_size = 3, .hidden_size = 2,
     .intermediate_size = 3, .n_layers = 2, .n_heads = 1, .n_kv_heads = 1, .head_dim = 2,
     .max_position_embeddings = 8, .norm = CCH_NORM_LAYER, .embedding_norm = true, .no_first_norm = true,
     .gated_mlp = true, .position = CCH_POSITION_ROPE}};

static char folder[64], path[128];

static void clean_up(void) {
    unlink(path);
    rmdir(folder);
}

static bool write_file(const uint8_t *data, size_t size) {
    if (folder[0] == '\0') {
        snprintf(folder, sizeof folder, "%s/cacher-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : P_tmpdir);
        if (mkdtemp(folder) == NULL) abort();
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        atexit(clean_up);
    }
    FILE *file = fopen(path, "wb");
    return file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cch_threads *threads = NULL;
    cch_weights weights;
    cch_error err;
    size_t live = cch_live_bytes();
    if (size == 0 || !write_file(data + 1, size - 1)) return 0;
    if (cch_threads_new(1, &threads, &err) != CCH_OK) abort();
    const cch_config *config = &configs[data[0] % (sizeof configs / sizeof *configs)];
    cch_status status = cch_weights_open(folder, config, CCH_FORMAT_F32, threads, &weights, &err);
    if (status == CCH_OK) {
        float row[4];
        for (int32_t id = 0; id < config->vocab_size; id++) cch_weights_embedding(&weights, id, row);
    } else if (status != CCH_E_FORMAT && status != CCH_E_UNSUPPORTED) abort();
    cch_weights_close(&weights);
    cch_threads_free(threads);
    if (cch_live_bytes() != live) abort();
    return 0;
}
