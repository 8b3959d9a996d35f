/* model - opens a model folder, wires the parts together, and owns them. */
#include "model/model.h"

#include <stdio.h> /* snprintf */
#include <string.h>

#include "base/cpu.h"
#include "base/filemap.h"
#include "model/families/family.h"
#include "model/packedfile.h"
#include "open/checkpoint.h"
#include "tok/tokenizer.h"

#define DEFAULT_BUDGET ((size_t)1 << 30)

/* ------------------------------------------------------------------------------------------------ opening ---- */

static int32_t usable_cores(void) {
    int32_t cores = cch_cpu_cores();
    return cores < CCH_MAX_THREADS ? cores : CCH_MAX_THREADS;
}

static cch_status check_threads(int32_t n_threads, int32_t least, cch_error *err) {
    if (n_threads < least || n_threads > CCH_MAX_THREADS)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "n_threads is %d, allowed: %d to %d", n_threads, least, CCH_MAX_THREADS);
    return CCH_OK;
}

static const char *const dtype_names[] = {[CCH_FORMAT_F32] = "f32", [CCH_FORMAT_BF16] = "bf16",
                                          [CCH_FORMAT_INT8] = "int8"};

/* The format that `option` names: one of those up to `last`. */
static cch_status parse_dtype(const char *option, const char *name, cch_format last, cch_format *out, cch_error *err) {
    *out = CCH_FORMAT_F32;
    if (name == NULL) return CCH_OK;
    for (; *out <= last; ++*out)
        if (strcmp(name, dtype_names[*out]) == 0) return CCH_OK;
    CCH_FAIL(err, CCH_E_ARGUMENT, -1, "%s is \"%.40s\", allowed: \"f32\", \"bf16\"%s", option, name,
             last == CCH_FORMAT_INT8 ? ", \"int8\"" : "");
}

/* Which of these files a folder holds decides whether it has a tokenizer; their bytes are part of the fingerprint. */
static const char *const tokenizer_files[] = {"tokenizer.json", "vocab.json", "merges.txt", CCH_PIECES_FILE,
                                              "vocab.txt"};
#define N_TOKENIZER_FILES (sizeof tokenizer_files / sizeof *tokenizer_files)

/* Hashes a file that may exist, with its name; sets *found when it does. */
static cch_status hash_file(const char *folder, const char *name, cch_hash *hash, bool *found, cch_error *err) {
    cch_status status = CCH_OK;
    char *path = NULL, *text = NULL;
    size_t len;
    CCH_TRY(cch_path_join(folder, name, &path, err));
    if (cch_path_exists(path)) {
        *found = true;
        CCH_TRY(cch_file_read(path, &text, &len, err));
        cch_hash_update(hash, name, strlen(name) + 1);
        cch_hash_update(hash, text, len);
    }
done:
    cch_free(text);
    cch_free(path);
    return status;
}

/* Hashes the tokenizer's files; the options of a vocab.txt lie in tokenizer_config.json. */
static cch_status hash_tokenizer(const char *folder, cch_hash *hash, bool *out_found, cch_error *err) {
    bool last = false;
    *out_found = false;
    for (size_t i = 0; i < N_TOKENIZER_FILES; i++) {
        last = false;
        CCH_RETURN_IF(hash_file(folder, tokenizer_files[i], hash, &last, err));
        *out_found |= last;
    }
    return last ? hash_file(folder, "tokenizer_config.json", hash, &last, err) : CCH_OK;
}

static void hash_encoder(const cch_config *c, const cch_sentence *sentence, cch_hash *hash) {
    char text[256];
    int n = snprintf(text, sizeof text, "encoder norm %d %d %d %d types %d local %a every %d pooling %d most %d",
                     c->norm_bias, c->post_norm, c->embedding_norm, c->no_first_norm, c->type_vocab_size,
                     (double)c->local_rope_theta, c->global_every, (int)sentence->pooling, sentence->max_tokens);
    cch_hash_update(hash, text, (size_t)n + 1);
}

/* Everything in the configuration that the arithmetic, the stop rules or the reading of labels depends on, as text. */
static void hash_config(const cch_config *c, const cch_sentence *sentence, cch_hash *hash) {
    char text[1024];
    int n = snprintf(text, sizeof text, "%s %d %d %d %d %d %d %d %d norm %d %a act %d %d bias %d %d %d qk %d tied %d "
                     "position %d %a %d %a %a %a %d window %d bos %d eos",
                     c->architecture, c->vocab_size, c->hidden_size, c->intermediate_size, c->n_layers, c->n_heads,
                     c->n_kv_heads, c->head_dim, c->max_position_embeddings, (int)c->norm, (double)c->norm_eps,
                     (int)c->activation, c->gated_mlp, c->qkv_bias, c->o_bias, c->mlp_bias, c->qk_norm,
                     c->tie_word_embeddings, (int)c->position, (double)c->rope_theta, (int)c->rope_type,
                     (double)c->rope_factor, (double)c->rope_low_freq_factor, (double)c->rope_high_freq_factor,
                     c->rope_original_max_position, c->sliding_window, c->bos_token_id);
    for (int32_t i = 0; i < c->n_eos; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %d", c->eos_token_ids[i]);
    cch_hash_update(hash, text, (size_t)n + 1);
    if (c->model_type == CCH_ENCODER) hash_encoder(c, sentence, hash);
    if (c->model_type != CCH_SEQUENCE_CLASSIFICATION) return;
    cch_hash_update(hash, &c->pad_token_id, sizeof c->pad_token_id);
    for (int32_t i = 0; i < c->n_labels; i++) cch_hash_update(hash, c->labels[i], strlen(c->labels[i]) + 1);
}

/* The fingerprint of configuration, weights and arithmetic, to which the tokenizer's is to be added. */
static void begin_fingerprint(const cch_model *m, cch_hash *hash) {
    cch_hash_init(hash);
    hash_config(&m->config, &m->sentence, hash);
    cch_hash_update(hash, m->weights.digest, sizeof m->weights.digest);
    const char *dtype = dtype_names[m->weights.format], *order = m->kern->bf16_order;
    const int32_t group = 4 * CCH_GROUP_WORDS;
    if (m->weights.format != CCH_FORMAT_F32) cch_hash_update(hash, dtype, strlen(dtype) + 1);
    if (m->weights.format == CCH_FORMAT_INT8) cch_hash_update(hash, &group, sizeof group);
    if (m->weights.format == CCH_FORMAT_BF16) cch_hash_update(hash, order, strlen(order) + 1);
    if (cch_pool_geometry(m->pool)->halves) cch_hash_update(hash, "kv bf16", sizeof "kv bf16");
}

static void end_fingerprint(cch_model *m, const cch_hash *hash) {
    uint8_t digest[CCH_HASH_BYTES];
    cch_hash_digest(hash, digest);
    cch_hash_hex(digest, m->fingerprint);
}

/* The tokenizer, when the folder has one, and the fingerprint of all parts. */
static cch_status open_tokenizer(const char *folder, cch_model *m, cch_error *err) {
    cch_hash hash;
    bool found;
    begin_fingerprint(m, &hash);
    CCH_RETURN_IF(hash_tokenizer(folder, &hash, &found, err));
    end_fingerprint(m, &hash);
    if (!found) return CCH_OK;
    CCH_RETURN_IF(cch_tokenizer_open(folder, &m->tokenizer, err));
    int32_t size = cch_tokenizer_size(m->tokenizer);
    if (size > m->config.vocab_size)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "the tokenizer in %s has %d ids, but the model's vocab_size is %d", folder,
                 size, m->config.vocab_size);
    cch_tokenizer_widen(m->tokenizer, m->config.vocab_size);
    if (m->config.model_type == CCH_ENCODER) {
        m->before = m->tokenizer->prefix;
        m->after = m->tokenizer->suffix;
        m->n_before = m->tokenizer->n_prefix;
        m->n_after = m->tokenizer->n_suffix;
    }
    return CCH_OK;
}

/* What a model with pieces says is none of its special tokens but eot, which ends it. */
static cch_status suppress_specials(cch_model *m, int32_t eot, cch_error *err) {
    cch_status status = CCH_OK;
    const int32_t size = cch_tokenizer_size(m->tokenizer);
    CCH_NEW(m->banned, (size_t)size, err);
    for (int32_t id = 0; id < size; id++)
        if (id != eot && cch_tokenizer_is_special(m->tokenizer, id)) m->banned[m->n_suppressed++] = id;
    m->banned[m->n_suppressed] = eot;
done:
    return status;
}

/* The tokenizer of a checkpoint, which knows where a reply of pieces ends, and the fingerprint. */
static cch_status open_chat_tokenizer(const char *path, const char *tokenizer, cch_model *m, cch_error *err) {
    cch_hash hash;
    int32_t ids[CCH_CHAT_TOKENS];
    CCH_RETURN_IF(cch_tokenizer_open_for(path, tokenizer, m->config.vocab_size, &m->tokenizer, err));
    if (cch_tokenizer_chat_tokens(m->tokenizer, ids)) {
        m->config.n_eos = 1;
        m->config.eos_token_ids[0] = ids[CCH_CHAT_EOT];
        CCH_RETURN_IF(suppress_specials(m, ids[CCH_CHAT_EOT], err));
    }
    begin_fingerprint(m, &hash);
    cch_hash_update(&hash, m->tokenizer->digest, sizeof m->tokenizer->digest);
    end_fingerprint(m, &hash);
    return CCH_OK;
}

static void close_parts(cch_model *m) {
    cch_tokenizer_unref(m->tokenizer);
    cch_pool_free(m->pool);
    cch_free(m->bos_logits);
    cch_free(m->banned);
    cch_scratch_deinit(&m->scratch);
    cch_rope_deinit(&m->rope);
    cch_rope_deinit(&m->local_rope);
    cch_config_deinit(&m->config);
    cch_weights_close(&m->weights);
    cch_threads_free(m->threads);
    cch_turns_deinit(&m->run_lock);
    cch_free(m);
}

static void warn_of_weights(cch_model *m, const char *warning) {
    const long long n = (long long)m->weights.n_not_finite;
    int used = snprintf(m->warning, sizeof m->warning, "%s", warning);
    if (n > 0)
        snprintf(m->warning + used, sizeof m->warning - (size_t)used, "%s%lld of the weights %s NaN or infinite",
                 used > 0 ? "; " : "", n, n == 1 ? "is" : "are");
}

/* Configuration and weights of a checkpoint. */
static cch_status open_checkpoint(const char *path, cch_format format, cch_model *m, cch_error *err) {
    cch_status status = CCH_OK;
    cch_checkpoint *file = NULL;
    CCH_TRY(cch_checkpoint_open(path, &file, err));
    m->config = file->config;
    CCH_TRY(cch_weights_load(file->file.tensors, &m->config, format, m->threads, &m->weights, err));
    warn_of_weights(m, file->warning);
done:
    cch_checkpoint_close(file);
    return status;
}

/* Configuration and weights of a folder, which are packed when there is such a file. */
static cch_status open_folder(const char *folder, const char *dtype, cch_format format, cch_model *m, cch_error *err) {
    cch_status status = CCH_OK;
    char *packed = NULL;
    CCH_TRY(cch_config_open(folder, &m->config, err));
    CCH_TRY(cch_path_join(folder, CCH_PACKED_FILE, &packed, err));
    if (!cch_path_exists(packed)) {
        CCH_TRY(cch_weights_open(folder, &m->config, format, m->threads, &m->weights, err));
    } else {
        CCH_TRY(cch_packedfile_open(packed, &m->config, m->threads, &m->weights, err));
        if (dtype != NULL && format != m->weights.format)
            CCH_THROW(err, CCH_E_ARGUMENT, -1, "dtype is \"%s\", but %s holds weights in \"%s\"", dtype, packed,
                      dtype_names[m->weights.format]);
    }
done:
    cch_free(packed);
    return status;
}

static cch_status open_parts(const char *path, const cch_model_options *o, cch_model *m, cch_error *err) {
    const cch_config *c = &m->config;
    const bool is_file = cch_path_is_file(path);
    cch_format format, kv_format;
    int32_t n_threads = o->n_threads == 0 ? usable_cores() : o->n_threads;
    if (!is_file && o->tokenizer != NULL)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "tokenizer is %s, but only a checkpoint is opened with one: %s is none",
                 o->tokenizer, path);
    CCH_RETURN_IF(parse_dtype("dtype", o->dtype, CCH_FORMAT_INT8, &format, err));
    CCH_RETURN_IF(parse_dtype("kv_dtype", o->kv_dtype, CCH_FORMAT_BF16, &kv_format, err));
    CCH_RETURN_IF(cch_kernels_get(o->isa, &m->kern, err));
    CCH_RETURN_IF(cch_threads_new(n_threads, &m->threads, err));
    atomic_init(&m->n_threads, n_threads);
    CCH_RETURN_IF(is_file ? open_checkpoint(path, format, m, err) : open_folder(path, o->dtype, format, m, err));
    CCH_RETURN_IF(cch_rope_init(c, c->rope_theta, &m->rope, err));
    if (c->global_every > 0) CCH_RETURN_IF(cch_rope_init(c, c->local_rope_theta, &m->local_rope, err));
    if (c->model_type == CCH_ENCODER) CCH_RETURN_IF(cch_sentence_open(path, c, &m->sentence, err));
    int32_t kept_layers = c->model_type == CCH_ENCODER ? 1 : c->n_layers; /* see cch_kv_layer */
    const bool halves = kv_format == CCH_FORMAT_BF16 && c->model_type != CCH_ENCODER; /* which keeps none */
    CCH_RETURN_IF(cch_pool_new(cch_page_geometry_make(kept_layers, c->n_kv_heads, c->head_dim, halves),
                               o->kv_budget_bytes == 0 ? DEFAULT_BUDGET : o->kv_budget_bytes, &m->pool, err));
    return is_file ? open_chat_tokenizer(path, o->tokenizer, m, err) : open_tokenizer(path, m, err);
}

cch_status cch_model_open(const char *path, const cch_model_options *options, cch_model **out, cch_error *err) {
    cch_model_options defaults = CCH_MODEL_OPTIONS_INIT;
    cch_status status = CCH_OK;
    cch_model *m = NULL;
    *out = NULL;
    if (options == NULL) options = &defaults;
    if (path == NULL) CCH_FAIL(err, CCH_E_ARGUMENT, -1, "path is NULL, allowed: the path of a model folder");
    CCH_RETURN_IF(check_threads(options->n_threads, 0, err));
    CCH_ZNEW(m, 1, err);
    status = cch_turns_init(&m->run_lock, err);
    if (status != CCH_OK) {
        cch_free(m);
        return status;
    }
    atomic_init(&m->refs, 1);
    atomic_init(&m->prompt_lookup, true);
    CCH_TRY(open_parts(path, options, m, err));
    *out = m;
    m = NULL;
done:
    if (m != NULL) close_parts(m);
    return status;
}

cch_status cch_model_pack(const cch_model *model, const char *path, cch_error *err) {
    if (cch_family_find(model->config.architecture)->checkpoint)
        CCH_FAIL(err, CCH_E_UNSUPPORTED, -1, "a checkpoint has no packed form: its configuration lies in it");
    return cch_packedfile_save(&model->weights, path, err);
}

cch_model *cch_model_ref(cch_model *model) {
    atomic_fetch_add_explicit(&model->refs, 1, memory_order_relaxed);
    return model;
}

void cch_model_unref(cch_model *model) {
    if (model != NULL && atomic_fetch_sub_explicit(&model->refs, 1, memory_order_acq_rel) == 1) close_parts(model);
}

/* --------------------------------------------------------------------------------------- what a model says ---- */

void cch_model_get_info(const cch_model *model, cch_model_info *out) {
    const cch_config *c = &model->config;
    const bool encoder = c->model_type == CCH_ENCODER;
    *out = (cch_model_info){
        .vocab_size = c->vocab_size, .hidden_size = c->hidden_size, .intermediate_size = c->intermediate_size,
        .n_layers = c->n_layers, .n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim,
        .n_ctx = encoder ? model->sentence.max_tokens : c->max_position_embeddings,
        .bos_token_id = c->bos_token_id, .n_eos = c->n_eos,
        .model_type = c->model_type, .pad_token_id = c->pad_token_id, .n_labels = c->n_labels,
        .n_threads = atomic_load(&model->n_threads), .n_parameters = model->weights.n_parameters,
        .weight_bytes = model->weights.bytes, .page_bytes = encoder ? 0 : model->pool->page_bytes,
        .pooling = model->sentence.pooling};
    memcpy(out->eos_token_ids, c->eos_token_ids, sizeof out->eos_token_ids);
    memcpy(out->fingerprint, model->fingerprint, sizeof out->fingerprint);
    snprintf(out->architecture, sizeof out->architecture, "%s", c->architecture);
    snprintf(out->isa, sizeof out->isa, "%s", model->kern->name);
    snprintf(out->dtype, sizeof out->dtype, "%s", dtype_names[model->weights.format]);
    const cch_format kv_format = cch_pool_geometry(model->pool)->halves ? CCH_FORMAT_BF16 : CCH_FORMAT_F32;
    snprintf(out->kv_dtype, sizeof out->kv_dtype, "%s", encoder ? "" : dtype_names[kv_format]);
}

const char *cch_model_label_view(const cch_model *model, int32_t i) { return model->config.labels[i]; }

void cch_model_get_stats(cch_model *model, cch_model_stats *out) {
    *out = (cch_model_stats){0};
    cch_pool_stats(model->pool, out);
    out->tokens_computed = atomic_load(&model->tokens_computed);
    out->forwards = atomic_load(&model->forwards);
}

const int32_t *cch_model_suppressed_view(const cch_model *model, int32_t *out_n) {
    *out_n = model->n_suppressed;
    return model->banned;
}

const char *cch_model_warning_view(const cch_model *model) { return model->warning; }

cch_tokenizer *cch_model_tokenizer_view(const cch_model *model) { return model->tokenizer; }

cch_status cch_model_embedding(const cch_model *model, int32_t token_id, float *dst, cch_error *err) {
    if (token_id < 0 || token_id >= model->config.vocab_size)
        CCH_FAIL(err, CCH_E_TOKEN_ID, -1, "token id %d is outside the vocabulary, allowed: 0 to %d", token_id,
                 model->config.vocab_size - 1);
    cch_weights_embedding(&model->weights, token_id, dst);
    return CCH_OK;
}

/* ---------------------------------------------------------------------------------------- what can change ---- */

void cch_model_set_budget(cch_model *model, size_t kv_budget_bytes, bool drop_cached) {
    cch_pool_set_budget(model->pool, kv_budget_bytes == 0 ? DEFAULT_BUDGET : kv_budget_bytes, drop_cached);
}

void cch_model_set_prompt_lookup(cch_model *model, bool on) { atomic_store(&model->prompt_lookup, on); }

cch_status cch_model_set_threads(cch_model *model, int32_t n_threads, cch_error *err) {
    cch_threads *threads = NULL, *old = NULL;
    CCH_RETURN_IF(check_threads(n_threads, 1, err));
    CCH_RETURN_IF(cch_run_lock(model, err));
    cch_status status = cch_threads_new(n_threads, &threads, err);
    if (status == CCH_OK) {
        old = model->threads;
        model->threads = threads;
        atomic_store(&model->n_threads, n_threads);
    }
    cch_run_unlock(model);
    cch_threads_free(old);
    return status;
}

cch_status cch_model_check(cch_model *model, cch_error *err) {
    CCH_RETURN_IF(cch_run_lock(model, err));
    cch_status status = cch_pool_check(model->pool, err);
    cch_run_unlock(model);
    return status;
}
