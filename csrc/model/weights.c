#include "model/weights.h"

#include <stdio.h> /* snprintf */
#include <string.h>

#include "base/alloc.h"
#include "io/safetensors.h"
#include "model/families/family.h"
#include "model/packer.h"

/* What is wrong with the tensors: the status of the first, and as many messages as fit. */
typedef struct problems {
    cch_error all;
    int n, n_left_out;
} problems;

/* A load in progress. */
typedef struct loader {
    const cch_config *config;
    const cch_family *family;
    const cch_tensors *tensors;    /* borrowed; NULL when the parts are packed already */
    const unsigned char *packed;   /* borrowed [packed_bytes]: the parts that are left of these */
    size_t packed_bytes;
    const cch_tensor_view **found; /* owned [n_layers][n_rules]; a tensor outside the layers is in row 0 */
    cch_packer packer;             /* owned */
    cch_hash hash, layout;
    cch_weights *weights;
    cch_error *err;
} loader;

/* ------------------------------------------------------------------------------------- what is expected ---- */

static bool is_layered(const cch_tensor_rule *rule) { return strchr(rule->pattern, '#') != NULL; }

/* Does a model of this config have the tensor, in this layer? */
static bool is_wanted(const cch_config *c, const cch_tensor_rule *rule, size_t layer) {
    switch (rule->slot) {
    case CCH_SLOT_QKV:
    case CCH_SLOT_Q:
    case CCH_SLOT_K:
    case CCH_SLOT_V: return !rule->bias || c->qkv_bias;
    case CCH_SLOT_O: return !rule->bias || c->o_bias;
    case CCH_SLOT_GATE_UP:
    case CCH_SLOT_GATE: return c->gated_mlp && (!rule->bias || c->mlp_bias);
    case CCH_SLOT_UP:
    case CCH_SLOT_DOWN: return !rule->bias || c->mlp_bias;
    case CCH_SLOT_Q_NORM:
    case CCH_SLOT_K_NORM: return c->qk_norm;
    case CCH_SLOT_HEAD: return c->model_type == CCH_CAUSAL_LM && !c->tie_word_embeddings;
    case CCH_SLOT_SCORE: return c->model_type == CCH_SEQUENCE_CLASSIFICATION;
    case CCH_SLOT_POSITIONS: return c->position == CCH_POSITION_LEARNED;
    case CCH_SLOT_TOKEN_TYPES: return c->type_vocab_size > 0;
    case CCH_SLOT_EMBEDDING_NORM: return c->embedding_norm && (!rule->bias || c->norm_bias);
    case CCH_SLOT_ATTENTION_NORM: return !(c->no_first_norm && layer == 0) && (!rule->bias || c->norm_bias);
    case CCH_SLOT_MLP_NORM:
    case CCH_SLOT_FINAL_NORM: return !rule->bias || c->norm_bias;
    case CCH_SLOT_EMBEDDING: break;
    }
    return true;
}

/* Shape of the slot's weight W [rows, cols]; cols 0 for a norm's vector [rows]. */
static void slot_shape(const cch_config *c, cch_slot slot, size_t *rows, size_t *cols) {
    size_t hidden = (size_t)c->hidden_size, dim = (size_t)c->head_dim;
    size_t q = (size_t)c->n_heads * dim, kv = (size_t)c->n_kv_heads * dim;
    *rows = *cols = hidden;
    switch (slot) {
    case CCH_SLOT_EMBEDDING:
    case CCH_SLOT_HEAD: *rows = (size_t)c->vocab_size; break;
    case CCH_SLOT_SCORE: *rows = (size_t)c->n_labels; break;
    case CCH_SLOT_POSITIONS: *rows = (size_t)c->max_position_embeddings; break;
    case CCH_SLOT_TOKEN_TYPES: *rows = (size_t)c->type_vocab_size; break;
    case CCH_SLOT_QKV: *rows = q + 2 * kv; break;
    case CCH_SLOT_Q: *rows = q; break;
    case CCH_SLOT_K:
    case CCH_SLOT_V: *rows = kv; break;
    case CCH_SLOT_O: *rows = hidden, *cols = q; break;
    case CCH_SLOT_GATE_UP: *rows = 2 * (size_t)c->intermediate_size; break;
    case CCH_SLOT_GATE:
    case CCH_SLOT_UP: *rows = (size_t)c->intermediate_size; break;
    case CCH_SLOT_DOWN: *rows = hidden, *cols = (size_t)c->intermediate_size; break;
    case CCH_SLOT_Q_NORM:
    case CCH_SLOT_K_NORM: *rows = dim, *cols = 0; break;
    case CCH_SLOT_EMBEDDING_NORM:
    case CCH_SLOT_ATTENTION_NORM:
    case CCH_SLOT_MLP_NORM:
    case CCH_SLOT_FINAL_NORM: *rows = hidden, *cols = 0; break;
    }
}

static cch_status check_shape(const loader *l, const cch_tensor_rule *rule, const cch_tensor_view *view) {
    size_t rows, cols;
    char shown[CCH_TENSOR_TEXT];
    slot_shape(l->config, rule->slot, &rows, &cols);
    CCH_RETURN_IF(cch_tensor_check_dtype(view, l->err));
    if (rule->bias || cols == 0) {
        if (view->n_dims == 1 && view->shape[0] == rows) return CCH_OK;
        CCH_FAIL(l->err, CCH_E_FORMAT, -1, "tensor %.120s is %s, expected [%zu] by config.json", view->name,
                 cch_tensor_show(view, shown), rows);
    }
    size_t first = rule->transposed ? cols : rows, second = rule->transposed ? rows : cols;
    if (view->n_dims == 2 && view->shape[0] == first && view->shape[1] == second) return CCH_OK;
    CCH_FAIL(l->err, CCH_E_FORMAT, -1, "tensor %.120s is %s, expected [%zu, %zu] by config.json", view->name,
             cch_tensor_show(view, shown), first, second);
}

/* ------------------------------------------------------------------------------------- what is in the file ---- */

static const cch_tensor_view **found_at(const loader *l, size_t layer, size_t rule) {
    return &l->found[layer * l->family->n_rules + rule];
}

/* Puts one tensor of the file into its place in l->found. */
static cch_status sort_tensor(const loader *l, const cch_tensor_view *view) {
    const cch_family *family = l->family;
    size_t prefix = strlen(family->prefix);
    const char *name = strncmp(view->name, family->prefix, prefix) == 0 ? view->name + prefix : view->name;
    int layer;
    for (size_t r = 0; r < family->n_rules; r++) {
        if (!cch_pattern_match(family->rules[r].pattern, name, &layer)) continue;
        if (layer >= l->config->n_layers)
            CCH_FAIL(l->err, CCH_E_FORMAT, -1, "tensor %.120s is of layer %d, but config.json has %d layers",
                     view->name, layer, l->config->n_layers);
        const cch_tensor_view **place = found_at(l, layer < 0 ? 0 : (size_t)layer, r);
        if (*place != NULL)
            CCH_FAIL(l->err, CCH_E_FORMAT, -1, "tensors %.120s and %.120s are the same weight", (*place)->name,
                     view->name);
        *place = view;
        return CCH_OK;
    }
    if (cch_family_ignores(family, name)) return CCH_OK;
    CCH_FAIL(l->err, CCH_E_UNSUPPORTED, -1, "tensor %.120s is no part of a %s model", view->name,
             l->config->architecture);
}

/* The same numbers? */
static bool equal_values(const cch_tensor_view *a, const cch_tensor_view *b) {
    float x[512], y[512];
    if (a->n_elements != b->n_elements) return false;
    if (a->dtype == b->dtype && !a->strided && !b->strided)
        return a->data == b->data || memcmp(a->data, b->data, a->n_bytes) == 0;
    for (size_t i = 0, n; i < a->n_elements; i += n) {
        n = a->n_elements - i < 512 ? a->n_elements - i : 512;
        cch_tensor_read(a, i, n, x);
        cch_tensor_read(b, i, n, y);
        if (memcmp(x, y, n * sizeof *x) != 0) return false;
    }
    return true;
}

/* A file may store the head although it is tied to the embeddings: then both must be the same. */
static cch_status check_tied_head(const loader *l, const cch_tensor_view *head) {
    const cch_tensor_rule *rules = l->family->rules;
    const cch_tensor_view *embedding = NULL;
    size_t r = 0;
    while (rules[r].slot != CCH_SLOT_EMBEDDING) r++;
    embedding = *found_at(l, 0, r);
    if (embedding == NULL) return CCH_OK; /* that it is missing is said elsewhere */
    CCH_RETURN_IF(check_shape(l, &rules[r], head));
    CCH_RETURN_IF(cch_tensor_check_dtype(embedding, l->err));
    bool same = equal_values(embedding, head);
    cch_tensor_drop(l->tensors, head, 0, head->n_elements);
    cch_tensor_drop(l->tensors, embedding, 0, embedding->n_elements);
    if (same) return CCH_OK;
    CCH_FAIL(l->err, CCH_E_UNSUPPORTED, -1, "tensor %.120s differs from the embeddings, but the model ties them",
             head->name);
}

static cch_status check_one(const loader *l, size_t layer, size_t r) {
    const cch_tensor_rule *rule = &l->family->rules[r];
    const cch_tensor_view *view = *found_at(l, layer, r);
    const char *prefix = rule->slot == CCH_SLOT_HEAD || rule->slot == CCH_SLOT_SCORE ? "" : l->family->prefix;
    if (is_wanted(l->config, rule, layer)) {
        if (view != NULL) return check_shape(l, rule, view);
        const char *hash = strchr(rule->pattern, '#');
        if (hash == NULL) CCH_FAIL(l->err, CCH_E_FORMAT, -1, "tensor %s%s is missing", prefix, rule->pattern);
        CCH_FAIL(l->err, CCH_E_FORMAT, -1, "tensor %s%.*s%zu%s is missing", prefix, (int)(hash - rule->pattern),
                 rule->pattern, layer, hash + 1);
    }
    if (view == NULL) return CCH_OK;
    if (rule->slot == CCH_SLOT_HEAD && l->config->model_type == CCH_CAUSAL_LM) return check_tied_head(l, view);
    if (rule->slot == CCH_SLOT_HEAD) return CCH_OK; /* left over from the model that the classifier was made of */
    if (rule->slot == CCH_SLOT_SCORE)
        CCH_FAIL(l->err, CCH_E_UNSUPPORTED, -1,
                 "tensor %.120s makes this a classifier, but architectures in config.json names none", view->name);
    CCH_FAIL(l->err, CCH_E_UNSUPPORTED, -1, "tensor %.120s has no place in this model: config.json switches it off",
             view->name);
}

static void note(problems *p, cch_status status, const cch_error *one) {
    if (status == CCH_OK) return;
    size_t used = strlen(p->all.message), more = strlen(one->message), room = sizeof p->all.message - 24;
    if (p->n++ == 0) p->all = *one;
    else if (used + 2 + more < room) {
        memcpy(p->all.message + used, "; ", 2);
        memcpy(p->all.message + used + 2, one->message, more + 1);
    } else p->n_left_out++;
}

static cch_status conclude(problems *p, cch_error *err) {
    size_t used = strlen(p->all.message);
    if (p->n == 0) return CCH_OK;
    if (p->n_left_out > 0)
        snprintf(p->all.message + used, sizeof p->all.message - used, "; and %d more", p->n_left_out);
    if (err != NULL) *err = p->all;
    return p->all.code;
}

/* Before anything is allocated for weights, so that a hostile config cannot ask for more than its tensors fill. */
static cch_status check_tensors(loader *l) {
    size_t n_layers = (size_t)l->config->n_layers, n_rules = l->family->n_rules;
    problems found = {0};
    cch_error one, *err = l->err;
    l->err = &one;
    l->found = cch_zalloc(n_layers * n_rules, sizeof *l->found);
    if (l->found == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate the list of %zu layers", n_layers);
    for (size_t i = 0; i < cch_tensors_count(l->tensors); i++)
        note(&found, sort_tensor(l, cch_tensors_at(l->tensors, i)), &one);
    for (size_t layer = 0; layer < n_layers; layer++)
        for (size_t r = 0; r < n_rules; r++)
            if (layer == 0 || is_layered(&l->family->rules[r])) note(&found, check_one(l, layer, r), &one);
    l->err = err;
    return conclude(&found, err);
}

/* ------------------------------------------------------------------------------------------------ loading ---- */

/* The next part of those that are packed. */
static cch_status take_part(loader *l, size_t bytes, float **out) {
    const size_t padding = cch_part_padding(bytes);
    *out = (float *)(uintptr_t)l->packed; /* never written: weights are immutable */
    if (bytes > l->packed_bytes || padding > l->packed_bytes - bytes)
        CCH_FAIL(l->err, CCH_E_FORMAT, -1, "a part of %zu bytes is asked for by config.json, %zu bytes are left", bytes,
                 l->packed_bytes);
    l->packed += bytes + padding;
    l->packed_bytes -= bytes + padding;
    return CCH_OK;
}

static void add_part(loader *l, float *data, size_t bytes) {
    l->weights->parts[l->weights->n_parts++] = (cch_part){data, bytes};
    l->weights->bytes += bytes;
}

static cch_status new_matrix(loader *l, size_t n, size_t k, bool bias, cch_packed *out) {
    const cch_format format = l->weights->format;
    float *block;
    size_t bytes;
    if (l->tensors != NULL) {
        CCH_RETURN_IF(cch_packed_init(format, n, k, bias, out, l->err));
    } else {
        if (!cch_packed_size(format, n, k, bias, &bytes)) bytes = SIZE_MAX;
        CCH_RETURN_IF(take_part(l, bytes, &block));
        cch_packed_view(format, n, k, bias, block, out);
    }
    add_part(l, out->panels, out->bytes);
    if (cch_matmul_words(out) > l->weights->words) l->weights->words = cch_matmul_words(out);
    return CCH_OK;
}

static cch_status new_table(loader *l, size_t n, float **out) {
    if (l->tensors == NULL) CCH_RETURN_IF(take_part(l, n * sizeof **out, out));
    else if ((*out = cch_alloc(n, sizeof **out)) == NULL)
        CCH_FAIL(l->err, CCH_E_MEMORY, -1, "could not allocate %zu numbers", n);
    add_part(l, *out, n * sizeof **out);
    return CCH_OK;
}

/* A slot's fused matrix, the first of its rows there, and where its norm or table is kept. */
typedef struct place {
    cch_packed *packed;
    size_t row;
    cch_norm_weights *norm;
    float **table;
} place;

static place slot_place(const loader *l, cch_slot slot, size_t layer) {
    const cch_config *c = l->config;
    cch_weights *w = l->weights;
    cch_layer *own = &w->layers[layer];
    size_t q = (size_t)c->n_heads * (size_t)c->head_dim, kv = (size_t)c->n_kv_heads * (size_t)c->head_dim;
    switch (slot) {
    case CCH_SLOT_EMBEDDING:
        return c->tie_word_embeddings ? (place){.packed = &w->head} : (place){.table = &w->embedding};
    case CCH_SLOT_HEAD:
    case CCH_SLOT_SCORE: return (place){.packed = &w->head};
    case CCH_SLOT_POSITIONS: return (place){.table = &w->positions};
    case CCH_SLOT_TOKEN_TYPES: return (place){.table = &w->token_types};
    case CCH_SLOT_EMBEDDING_NORM: return (place){.norm = &w->embedding_norm};
    case CCH_SLOT_FINAL_NORM: return (place){.norm = &w->final_norm};
    case CCH_SLOT_ATTENTION_NORM: return (place){.norm = &own->attention_norm};
    case CCH_SLOT_MLP_NORM: return (place){.norm = &own->mlp_norm};
    case CCH_SLOT_Q_NORM: return (place){.norm = &own->q_norm};
    case CCH_SLOT_K_NORM: return (place){.norm = &own->k_norm};
    case CCH_SLOT_QKV:
    case CCH_SLOT_Q: return (place){.packed = &own->qkv};
    case CCH_SLOT_K: return (place){.packed = &own->qkv, .row = q};
    case CCH_SLOT_V: return (place){.packed = &own->qkv, .row = q + kv};
    case CCH_SLOT_O: return (place){.packed = &own->o};
    case CCH_SLOT_GATE_UP:
    case CCH_SLOT_GATE: return (place){.packed = &own->up};
    case CCH_SLOT_UP: return (place){.packed = &own->up, .row = c->gated_mlp ? (size_t)c->intermediate_size : 0};
    case CCH_SLOT_DOWN: return (place){.packed = &own->down};
    }
    return (place){0};
}

/* Loads the matrix `slot` from a view of its rows. */
static cch_status load_rows(loader *l, size_t layer, cch_slot slot, const cch_tensor_view *rows) {
    cch_pack_target target = {.packed = slot_place(l, slot, layer).packed, .row = slot_place(l, slot, layer).row};
    slot_shape(l->config, slot, &target.rows, &target.cols);
    return cch_packer_load(&l->packer, rows, &target, &l->hash, l->err);
}

/* The fused matrix of a model that rotates neighbouring channels: of each head of q and k the even rows come first,
 * then the odd ones, which makes halves of the pairs (model/rope.h). */
static cch_status load_pairs(loader *l, size_t layer, const cch_tensor_view *view) {
    const cch_config *c = l->config;
    const size_t dim = (size_t)c->head_dim, size = cch_dtype_size(view->dtype), n_heads = (size_t)c->n_heads;
    const size_t down = view->strided ? view->strides[0] : view->shape[1], right = view->strided ? view->strides[1] : 1;
    cch_tensor_view part = *view;
    part.strided = true;
    part.n_dims = 4;
    part.n_elements = n_heads * dim * view->shape[1];
    memcpy(part.shape, (const size_t[]){n_heads, 2, dim / 2, view->shape[1]}, 4 * sizeof *part.shape);
    memcpy(part.strides, (const size_t[]){dim * down, down, 2 * down, right}, 4 * sizeof *part.strides);
    CCH_RETURN_IF(load_rows(l, layer, CCH_SLOT_Q, &part));
    part.data += n_heads * dim * down * size;
    CCH_RETURN_IF(load_rows(l, layer, CCH_SLOT_K, &part));
    part.data += n_heads * dim * down * size;
    part.n_dims = 2;
    memcpy(part.shape, (const size_t[]){n_heads * dim, view->shape[1]}, 2 * sizeof *part.shape);
    memcpy(part.strides, (const size_t[]){down, right}, 2 * sizeof *part.strides);
    CCH_RETURN_IF(load_rows(l, layer, CCH_SLOT_V, &part));
    cch_tensor_drop(l->tensors, view, 0, view->n_elements);
    return CCH_OK;
}

/* Makes the part that a tensor goes to, where it has one of its own, and brings the tensor there. */
static cch_status load_tensor(loader *l, size_t layer, size_t r) {
    const cch_tensor_rule *rule = &l->family->rules[r];
    place to = slot_place(l, rule->slot, layer);
    cch_pack_target target = {.packed = to.packed, .row = to.row, .transposed = rule->transposed};
    char label[160];
    slot_shape(l->config, rule->slot, &target.rows, &target.cols);
    if (rule->bias || target.cols == 0) { /* a vector is one row */
        target = (cch_pack_target){.rows = 1, .cols = target.rows};
        if (to.packed != NULL) target.dense = to.packed->bias + to.row;
        else CCH_RETURN_IF(new_table(l, target.cols, rule->bias ? &to.norm->b : &to.norm->w));
        if (to.packed == NULL) target.dense = rule->bias ? to.norm->b : to.norm->w;
    } else if (to.packed == NULL) {
        CCH_RETURN_IF(new_table(l, target.rows * target.cols, to.table));
        target.dense = *to.table;
    }
    int n = snprintf(label, sizeof label, "%s %zu %zu %zu", rule->pattern, layer, target.rows, target.cols);
    cch_hash_update(&l->hash, label, (size_t)n + 1);
    cch_hash_update(&l->layout, label, (size_t)n + 1);
    l->weights->n_parameters += (int64_t)(target.rows * target.cols);
    if (l->tensors == NULL) return CCH_OK;
    const cch_tensor_view *view = *found_at(l, layer, r);
    if (rule->slot == CCH_SLOT_QKV && l->config->rope_type == CCH_ROPE_PAIRS) return load_pairs(l, layer, view);
    return cch_packer_load(&l->packer, view, &target, &l->hash, l->err);
}

static cch_status new_layer(loader *l, cch_layer *layer) {
    const cch_config *c = l->config;
    size_t hidden = (size_t)c->hidden_size, dim = (size_t)c->head_dim, inner = (size_t)c->intermediate_size;
    size_t q = (size_t)c->n_heads * dim, kv = (size_t)c->n_kv_heads * dim;
    CCH_RETURN_IF(new_matrix(l, q + 2 * kv, hidden, c->qkv_bias, &layer->qkv));
    CCH_RETURN_IF(new_matrix(l, hidden, q, c->o_bias, &layer->o));
    CCH_RETURN_IF(new_matrix(l, c->gated_mlp ? 2 * inner : inner, hidden, c->mlp_bias, &layer->up));
    return new_matrix(l, hidden, inner, c->mlp_bias, &layer->down);
}

static cch_status load_all(loader *l) {
    const cch_config *c = l->config;
    cch_weights *w = l->weights;
    const size_t n_layers = (size_t)c->n_layers;
    w->layers = cch_zalloc(n_layers, sizeof *w->layers);
    w->parts = cch_alloc(1 + n_layers * (4 + l->family->n_rules), sizeof *w->parts); /* the head, matrices, tables */
    if (w->layers == NULL || w->parts == NULL)
        CCH_FAIL(l->err, CCH_E_MEMORY, -1, "could not allocate %zu layers", n_layers);
    w->n_layers = n_layers;
    cch_hash_init(&l->hash);
    cch_hash_init(&l->layout);
    CCH_RETURN_IF(new_matrix(l, (size_t)cch_config_n_outputs(c), (size_t)c->hidden_size, false, &w->head));
    for (size_t layer = 0; layer < n_layers; layer++) {
        CCH_RETURN_IF(new_layer(l, &w->layers[layer]));
        for (size_t r = 0; r < l->family->n_rules; r++) {
            const cch_tensor_rule *rule = &l->family->rules[r];
            if (is_wanted(c, rule, layer) && (layer == 0 || is_layered(rule))) CCH_RETURN_IF(load_tensor(l, layer, r));
        }
    }
    cch_hash_digest(&l->layout, w->layout);
    if (l->tensors != NULL) cch_hash_digest(&l->hash, w->digest);
    return CCH_OK;
}

static cch_status find_family(const cch_config *config, const cch_family **out, cch_error *err) {
    *out = cch_family_find(config->architecture);
    if (*out == NULL)
        CCH_FAIL(err, CCH_E_UNSUPPORTED, -1, "model_type is \"%s\", for which there is no family",
                 config->architecture);
    return CCH_OK;
}

cch_status cch_weights_check(const cch_tensors *tensors, const cch_config *config, cch_error *err) {
    loader l = {.config = config, .tensors = tensors, .err = err};
    CCH_RETURN_IF(find_family(config, &l.family, err));
    cch_status status = check_tensors(&l);
    cch_free(l.found);
    return status;
}

cch_status cch_weights_load(const cch_tensors *tensors, const cch_config *config, cch_format format,
                            cch_threads *threads, cch_weights *out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_weights weights = {.format = format};
    loader l = {.config = config, .tensors = tensors, .weights = &weights, .err = err};
    memset(out, 0, sizeof *out);
    CCH_RETURN_IF(find_family(config, &l.family, err));
    CCH_TRY(check_tensors(&l));
    l.packer = (cch_packer){.threads = threads, .tensors = tensors, .any_number = l.family->checkpoint};
    CCH_TRY(load_all(&l));
    weights.n_not_finite = l.packer.n_not_finite;
    *out = weights;
    weights = (cch_weights){0};
done:
    cch_packer_deinit(&l.packer);
    cch_free(l.found);
    cch_weights_close(&weights);
    return status;
}

cch_status cch_weights_open(const char *folder, const cch_config *config, cch_format format, cch_threads *threads,
                            cch_weights *out, cch_error *err) {
    cch_tensors *tensors = NULL;
    memset(out, 0, sizeof *out);
    CCH_RETURN_IF(cch_tensors_open(folder, &tensors, err));
    cch_status status = cch_weights_load(tensors, config, format, threads, out, err);
    cch_tensors_close(tensors);
    return status;
}

cch_status cch_weights_take(cch_filemap map, size_t first, const cch_config *config, cch_format format,
                            cch_weights *out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_weights weights = {.format = format, .map = map};
    loader l = {.config = config, .packed = map.data + first, .packed_bytes = map.size - first, .weights = &weights,
                .err = err};
    memset(out, 0, sizeof *out);
    CCH_TRY(find_family(config, &l.family, err));
    CCH_TRY(load_all(&l));
    if (l.packed_bytes > 0)
        CCH_THROW(err, CCH_E_FORMAT, -1, "%zu bytes are more than config.json asks for", l.packed_bytes);
    *out = weights;
    weights = (cch_weights){0};
done:
    cch_weights_close(&weights);
    return status;
}

void cch_weights_close(cch_weights *weights) {
    const bool mapped = weights->map.data != NULL;
    for (size_t i = 0; i < weights->n_parts && !mapped; i++) cch_free(weights->parts[i].data);
    cch_free(weights->parts);
    cch_free(weights->layers);
    cch_filemap_close(&weights->map);
    memset(weights, 0, sizeof *weights);
}

void cch_weights_embedding(const cch_weights *weights, int32_t token_id, float *dst) {
    size_t hidden = weights->head.k;
    if (weights->embedding == NULL) cch_packed_row(&weights->head, (size_t)token_id, dst);
    else memcpy(dst, weights->embedding + (size_t)token_id * hidden, hidden * sizeof *dst);
}
