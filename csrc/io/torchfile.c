#include "io/torchfile.h"

#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "io/zip.h"

#define PICKLE_ENTRY "/data.pkl"
#define OLD_MAGIC "\x80\x02\x8A" /* how torch's files begin that are no archives */

/* Storage classes, from CCH_PICKLE_FLOAT_STORAGE on. */
static const struct { const char *name; cch_dtype dtype; size_t size; } classes[] = {
    {"F32", CCH_DTYPE_F32, 4},   {"F64", CCH_DTYPE_F64, 8},   {"F16", CCH_DTYPE_F16, 2},
    {"BF16", CCH_DTYPE_BF16, 2}, {"I64", CCH_DTYPE_OTHER, 8}, {"I32", CCH_DTYPE_OTHER, 4},
    {"I16", CCH_DTYPE_OTHER, 2}, {"I8", CCH_DTYPE_OTHER, 1},  {"U8", CCH_DTYPE_OTHER, 1},
    {"BOOL", CCH_DTYPE_OTHER, 1},
};

typedef struct reader {
    const char *path;
    size_t size;           /* of the file */
    cch_zip zip;           /* owned */
    const char *top;       /* folder of all entries [top_len] */
    size_t top_len;
    cch_torchfile *file;
    size_t n_numbers;      /* of all tensors so far */
    cch_error *err;
} reader;

/* -------------------------------------------------------------------------------------------- the archive ---- */

static cch_status find_top(reader *r) {
    const size_t tail = strlen(PICKLE_ENTRY);
    for (size_t i = 0; i < r->zip.n; i++) {
        const cch_zip_entry *e = &r->zip.entries[i];
        if (e->name_len <= tail || memcmp(e->name + e->name_len - tail, PICKLE_ENTRY, tail) != 0 ||
            memchr(e->name, '/', e->name_len - tail) != NULL)
            continue;
        if (r->top != NULL) CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: has two folders with data.pkl", r->path);
        r->top = e->name;
        r->top_len = e->name_len - tail;
    }
    if (r->top == NULL)
        CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: is an archive without a folder that holds data.pkl", r->path);
    return CCH_OK;
}

/* The entry <top><folder><name>; NULL when absent. */
static const cch_zip_entry *find_entry(const reader *r, const char *folder, const char *name, size_t name_len) {
    char path[512];
    size_t folder_len = strlen(folder), len = r->top_len + folder_len + name_len;
    if (name_len > sizeof path || r->top_len > sizeof path || len > sizeof path) return NULL;
    memcpy(path, r->top, r->top_len);
    memcpy(path + r->top_len, folder, folder_len);
    memcpy(path + r->top_len + folder_len, name, name_len);
    return cch_zip_find(&r->zip, path, len);
}

static cch_status check_byteorder(const reader *r) {
    const cch_zip_entry *e = find_entry(r, "/", "byteorder", 9);
    char shown[CCH_UTF8_SHOWN];
    if (e == NULL || (e->size >= 6 && memcmp(e->data, "little", 6) == 0)) return CCH_OK;
    CCH_FAIL(r->err, CCH_E_UNSUPPORTED, -1, "%s: byteorder is \"%s\", supported: little", r->path,
             cch_utf8_show((const char *)e->data, e->size, shown));
}

/* -------------------------------------------------------------------------------------------- the tensors ---- */

/* A tensor's place in its storage of `count` numbers. */
static cch_status read_layout(const reader *r, const cch_pickle_value *tensor, size_t count, size_t *out_offset,
                              cch_tensor_view *view) {
    const cch_pickle *p = &r->file->pickle;
    const cch_pickle_value *sizes = cch_pickle_item(p, tensor, 2), *strides = cch_pickle_item(p, tensor, 3);
    const int64_t offset = cch_pickle_item(p, tensor, 1)->as.integer;
    size_t last = offset < 0 ? SIZE_MAX : (size_t)offset;
    bool good = offset >= 0;
    if (sizes->n > CCH_TENSOR_MAX_DIMS)
        CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: tensor %.120s has %u dimensions, allowed: at most %d", r->path,
                 view->name, sizes->n, CCH_TENSOR_MAX_DIMS);
    view->n_dims = (int32_t)sizes->n;
    view->n_elements = 1;
    for (size_t d = sizes->n; d-- > 0;) {
        const int64_t size = cch_pickle_item(p, sizes, d)->as.integer;
        const int64_t stride = cch_pickle_item(p, strides, d)->as.integer;
        size_t reach = 0;
        good = good && size >= 0 && stride >= 0;
        if (!good) break;
        if (size > 1 && (size_t)stride != view->n_elements) view->strided = true;
        view->shape[d] = (size_t)size;
        view->strides[d] = (size_t)stride;
        good = cch_mul(view->n_elements, (size_t)size, &view->n_elements) &&
               (size < 1 || cch_mul((size_t)size - 1, (size_t)stride, &reach)) && cch_add(last, reach, &last);
    }
    if (!good || (view->n_elements > 0 && last >= count))
        CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: tensor %.120s reaches out of its storage of %zu numbers", r->path,
                 view->name, count);
    *out_offset = view->n_elements > 0 ? (size_t)offset : 0;
    return CCH_OK;
}

static cch_status read_tensor(reader *r, const cch_pickle_value *tensor, cch_tensor_view *view) {
    const cch_pickle *p = &r->file->pickle;
    const cch_pickle_value *storage = cch_pickle_item(p, tensor, 0), *key = cch_pickle_item(p, storage, 1);
    const int64_t kind = cch_pickle_item(p, storage, 0)->as.integer - CCH_PICKLE_FLOAT_STORAGE;
    const int64_t count = cch_pickle_item(p, storage, 2)->as.integer;
    const cch_zip_entry *entry = find_entry(r, "/data/", key->as.bytes, key->n);
    const size_t size = classes[kind].size;
    size_t offset = 0;
    char shown[CCH_UTF8_SHOWN];
    if (entry == NULL)
        CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: the storage %s of tensor %.120s is missing", r->path,
                 cch_utf8_show(key->as.bytes, key->n, shown), view->name);
    if (count < 0 || (uint64_t)count > entry->size / size)
        CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: the storage of tensor %.120s claims %lld numbers, its entry holds %zu",
                 r->path, view->name, (long long)count, entry->size / size);
    CCH_RETURN_IF(read_layout(r, tensor, (size_t)count, &offset, view));
    view->dtype_name = classes[kind].name;
    view->dtype = classes[kind].dtype;
    view->data = entry->data + offset * size;
    view->n_bytes = view->n_elements * size;
    if (view->n_elements > r->size || (r->n_numbers += view->n_elements) > r->size)
        CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: with tensor %.120s, which shares its storage or repeats its numbers, "
                 "model_state has more numbers than the file has bytes (%zu)", r->path, view->name, r->size);
    return CCH_OK;
}

/* The names with a NUL behind each, in one block. */
static cch_status copy_names(const reader *r, const cch_pickle_value *state, char **out) {
    const cch_pickle *p = &r->file->pickle;
    size_t bytes = 1;
    char shown[CCH_UTF8_SHOWN];
    for (size_t i = 0; i < state->n; i += 2) {
        const cch_pickle_value *name = cch_pickle_item(p, state, i), *value = cch_pickle_item(p, state, i + 1);
        if (name->kind != CCH_PICKLE_TEXT || memchr(name->as.bytes, '\0', name->n) != NULL)
            CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: a tensor's name in model_state is %s", r->path,
                     name->kind == CCH_PICKLE_TEXT ? "a text with a NUL in it" : cch_pickle_kind_name(name));
        if (value->kind != CCH_PICKLE_TENSOR)
            CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: %s in model_state is %s, expected a tensor", r->path,
                     cch_utf8_show(name->as.bytes, name->n, shown), cch_pickle_kind_name(value));
        bytes += name->n + 1;
        if (bytes > r->size)
            CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: the names in model_state repeat a long one", r->path);
    }
    *out = cch_alloc(bytes, 1);
    if (*out == NULL) CCH_FAIL(r->err, CCH_E_MEMORY, -1, "could not allocate %zu bytes of names", bytes);
    char *to = *out;
    for (size_t i = 0; i < state->n; i += 2) {
        const cch_pickle_value *name = cch_pickle_item(p, state, i);
        memcpy(to, name->as.bytes, name->n);
        to[name->n] = '\0';
        to += name->n + 1;
    }
    return CCH_OK;
}

static cch_status read_state(reader *r) {
    const cch_pickle *p = &r->file->pickle;
    const cch_pickle_value *root = cch_pickle_root(p), *state;
    cch_tensors *t = r->file->tensors;
    char *name = NULL;
    if (root->kind != CCH_PICKLE_DICT)
        CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: the pickled object is %s, expected a dict", r->path,
                 cch_pickle_kind_name(root));
    state = cch_pickle_find(p, root, "model_state");
    if (state == NULL || state->kind != CCH_PICKLE_DICT)
        CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: model_state is %s, expected a dict of tensors", r->path,
                 state == NULL ? "missing" : cch_pickle_kind_name(state));
    CCH_RETURN_IF(copy_names(r, state, &name));
    t->files[0].names = name;
    t->files[0].free_names = cch_free;
    CCH_RETURN_IF(cch_tensors_reserve(t, state->n / 2, r->err));
    for (size_t i = 0; i < state->n; i += 2, name += strlen(name) + 1) {
        cch_tensor_view view = {.name = name};
        CCH_RETURN_IF(read_tensor(r, cch_pickle_item(p, state, i + 1), &view));
        t->views[t->n++] = view;
    }
    return cch_tensors_sort(t, r->err);
}

/* Reads the file into r->file, whose tensors have their file already. */
static cch_status read_file(reader *r, const unsigned char *data) {
    if (r->size >= 3 && memcmp(data, OLD_MAGIC, 3) == 0)
        CCH_FAIL(r->err, CCH_E_UNSUPPORTED, 0,
                 "%s: is an old file of torch, a pickle without an archive: load and save it with torch 1.6 or later",
                 r->path);
    CCH_RETURN_IF(cch_zip_open(data, r->size, r->path, &r->zip, r->err));
    CCH_RETURN_IF(find_top(r));
    CCH_RETURN_IF(check_byteorder(r));
    const cch_zip_entry *entry = find_entry(r, PICKLE_ENTRY, "", 0);
    if (entry == NULL) CCH_FAIL(r->err, CCH_E_FORMAT, -1, "%s: its folder's name has %zu bytes", r->path, r->top_len);
    CCH_RETURN_IF(cch_pickle_read(entry->data, entry->size, r->path, &r->file->pickle, r->err));
    return read_state(r);
}

static cch_status read_all(const char *path, const unsigned char *data, size_t size, bool map, cch_torchfile *out,
                           cch_error *err) {
    cch_status status = CCH_OK;
    cch_torchfile file = {0};
    cch_tensor_file *own;
    reader r = {.path = path, .size = size, .file = &file, .err = err};
    *out = file;
    CCH_TRY(cch_tensors_new(1, &file.tensors, err));
    own = &file.tensors->files[0];
    own->path = cch_strndup(path, strlen(path));
    if (own->path == NULL) CCH_THROW(err, CCH_E_MEMORY, -1, "could not allocate the name %s", path);
    if (map) {
        CCH_TRY(cch_filemap_open(path, &own->map, err));
        data = own->map.data;
        r.size = own->map.size;
    }
    CCH_TRY(read_file(&r, data));
    *out = file;
    file = (cch_torchfile){0};
done:
    cch_zip_close(&r.zip);
    cch_torchfile_close(&file);
    return status;
}

cch_status cch_torchfile_open(const char *path, cch_torchfile *out, cch_error *err) {
    return read_all(path, NULL, 0, true, out, err);
}

cch_status cch_torchfile_parse(const unsigned char *data, size_t size, const char *path, cch_torchfile *out,
                               cch_error *err) {
    return read_all(path, data, size, false, out, err);
}

void cch_torchfile_close(cch_torchfile *file) {
    cch_pickle_free(&file->pickle);
    cch_tensors_close(file->tensors);
    *file = (cch_torchfile){0};
}
