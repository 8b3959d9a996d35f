/* config: the text of a config.json.  Whatever is taken must be inside the documented ranges; then the same text is
 * read as a generation_config.json. */
#include "io/config.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool in(int32_t value, int32_t min, int32_t max) { return value >= min && value <= max; }

static void check_labels(const cch_config *c) {
    bool classifier = c->model_type == CCH_SEQUENCE_CLASSIFICATION;
    if (classifier ? !in(c->n_labels, 1, 65536) : c->n_labels != 0 || c->labels != NULL) abort();
    if (!in(c->pad_token_id, -1, c->vocab_size - 1)) abort();
    for (int32_t i = 0; i < c->n_labels; i++)
        if (strlen(c->labels[i]) > 1000000) abort();
}

static void check(const cch_config *c) {
    bool sizes = in(c->vocab_size, 1, 4194304) && in(c->hidden_size, 1, 65536) &&
                 in(c->intermediate_size, 1, 1048576) && in(c->n_layers, 1, 1024) && in(c->n_heads, 1, 1024) &&
                 in(c->n_kv_heads, 1, c->n_heads) && in(c->head_dim, 1, 4096) &&
                 in(c->max_position_embeddings, 1, 16777216) && c->n_heads % c->n_kv_heads == 0;
    bool floats = c->norm_eps > 0 && c->norm_eps <= 1 && isfinite(c->rope_theta) && c->rope_factor >= 1 &&
                  c->rope_factor <= 1e6f && c->sliding_window >= 0 && in(c->global_every, 0, 1024) &&
                  in(c->type_vocab_size, 0, 4194304) && isfinite(c->local_rope_theta);
    bool ids = in(c->bos_token_id, -1, c->vocab_size - 1) && in(c->n_eos, 0, 8);
    for (int32_t i = 0; i < c->n_eos && ids; i++) ids = in(c->eos_token_ids[i], 0, c->vocab_size - 1);
    if (c->position == CCH_POSITION_ROPE && (c->head_dim % 2 != 0 || c->rope_theta < 1)) abort();
    if (c->rope_type == CCH_ROPE_LLAMA3 && !(c->rope_high_freq_factor > c->rope_low_freq_factor)) abort();
    if (c->model_type == CCH_ENCODER && (c->tie_word_embeddings || cch_config_n_outputs(c) != 0)) abort();
    if (!sizes || !floats || !ids) abort();
    check_labels(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cch_config config;
    cch_error err;
    size_t live = cch_live_bytes();
    cch_status status = cch_config_parse((const char *)data, size, "fuzz", &config, &err);
    if (status == CCH_OK) {
        check(&config);
        cch_config_add_eos((const char *)data, size, "fuzz", &config, &err);
        check(&config);
        cch_config_deinit(&config);
    } else if (status != CCH_E_FORMAT && status != CCH_E_UNSUPPORTED) abort();
    if (cch_live_bytes() != live) abort();
    return 0;
}
