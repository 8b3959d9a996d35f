/* checkpoint - opens a checkpoint and checks that it is a model's. */
#include "open/checkpoint.h"

#include <string.h>

#include "base/alloc.h"
#include "model/families/family.h"
#include "model/weights.h"

/* Forgets the tensors that no result depends on. */
static void drop_ignored(cch_tensors *t, const cch_family *family) {
    size_t kept = 0;
    for (size_t i = 0; i < t->n; i++)
        if (!cch_family_ignores(family, t->views[i].name)) t->views[kept++] = t->views[i];
    t->n = kept;
}

cch_status cch_checkpoint_open(const char *path, cch_checkpoint **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_checkpoint *c = NULL;
    *out = NULL;
    if (path == NULL) CCH_FAIL(err, CCH_E_ARGUMENT, -1, "path is NULL, allowed: the path of a checkpoint");
    CCH_ZNEW(c, 1, err);
    CCH_TRY(cch_torchfile_open(path, &c->file, err));
    CCH_TRY(cch_config_from_checkpoint(&c->file, path, &c->config, &c->generation, c->warning, err));
    drop_ignored(c->file.tensors, cch_family_find(c->config.architecture));
    CCH_TRY(cch_weights_check(c->file.tensors, &c->config, err));
    *out = c;
    c = NULL;
done:
    cch_checkpoint_close(c);
    return status;
}

void cch_checkpoint_close(cch_checkpoint *checkpoint) {
    if (checkpoint == NULL) return;
    cch_torchfile_close(&checkpoint->file);
    cch_free(checkpoint);
}

int32_t cch_checkpoint_generation(const cch_checkpoint *checkpoint) { return checkpoint->generation; }

/* ------------------------------------------------------------------------------------------------- values ---- */

static void show(const cch_pickle *p, const cch_pickle_value *v, cch_value *out) {
    *out = (cch_value){.id = (int32_t)(v - p->values), .n = v->n};
    out->kind = v->kind <= CCH_PICKLE_DICT ? (cch_value_kind)v->kind : CCH_VALUE_OTHER;
    switch (out->kind) {
    case CCH_VALUE_BOOL:
    case CCH_VALUE_INT: out->integer = v->as.integer; break;
    case CCH_VALUE_FLOAT: out->real = v->as.real; break;
    case CCH_VALUE_LONG:
    case CCH_VALUE_TEXT:
    case CCH_VALUE_BYTES: out->bytes = v->as.bytes; break;
    default: break;
    }
}

int32_t cch_checkpoint_values(const cch_checkpoint *checkpoint) { return (int32_t)checkpoint->file.pickle.n_values; }

bool cch_checkpoint_get(const cch_checkpoint *checkpoint, const char *key, cch_value *out) {
    const cch_pickle *p = &checkpoint->file.pickle;
    const cch_pickle_value *v = cch_pickle_find(p, cch_pickle_root(p), key);
    *out = (cch_value){0};
    if (v != NULL) show(p, v, out);
    return v != NULL;
}

void cch_checkpoint_item(const cch_checkpoint *checkpoint, const cch_value *container, size_t i, cch_value *out) {
    const cch_pickle *p = &checkpoint->file.pickle;
    show(p, cch_pickle_item(p, &p->values[container->id], i), out);
}

/* ------------------------------------------------------------------------------------------------ tensors ---- */

size_t cch_checkpoint_tensors(const cch_checkpoint *checkpoint) {
    return cch_tensors_count(checkpoint->file.tensors);
}

void cch_checkpoint_get_tensor(const cch_checkpoint *checkpoint, size_t i, cch_checkpoint_tensor *out) {
    const cch_tensor_view *view = cch_tensors_at(checkpoint->file.tensors, i);
    *out = (cch_checkpoint_tensor){.name = view->name, .n_dims = view->n_dims, .n_numbers = (int64_t)view->n_elements};
    for (int32_t d = 0; d < view->n_dims; d++) out->shape[d] = (int64_t)view->shape[d];
}

void cch_checkpoint_read_tensor(const cch_checkpoint *checkpoint, size_t i, float *dst) {
    const cch_tensor_view *view = cch_tensors_at(checkpoint->file.tensors, i);
    cch_tensor_read(view, 0, view->n_elements, dst);
}
