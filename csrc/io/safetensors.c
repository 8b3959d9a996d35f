#include "io/safetensors.h"

#include <stdlib.h> /* qsort */
#include <string.h>

#include "base/alloc.h"
#include "base/filemap.h"
#include "base/strmap.h"
#include "io/json.h"

#define HEADER_MAX 100000000 /* bytes, as in the reference implementation */
#define HEADER_DEPTH 3       /* file, tensor, shape */
#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE "model.safetensors.index.json"

static const struct { const char *name; cch_dtype dtype; unsigned bits; } dtypes[] = {
    {"F32", CCH_DTYPE_F32, 32},       {"F16", CCH_DTYPE_F16, 16},       {"BF16", CCH_DTYPE_BF16, 16},
    {"F64", CCH_DTYPE_F64, 64},       {"I64", CCH_DTYPE_OTHER, 64},     {"U64", CCH_DTYPE_OTHER, 64},
    {"C64", CCH_DTYPE_OTHER, 64},     {"I32", CCH_DTYPE_OTHER, 32},     {"U32", CCH_DTYPE_OTHER, 32},
    {"I16", CCH_DTYPE_OTHER, 16},     {"U16", CCH_DTYPE_OTHER, 16},     {"I8", CCH_DTYPE_OTHER, 8},
    {"U8", CCH_DTYPE_OTHER, 8},       {"BOOL", CCH_DTYPE_OTHER, 8},     {"F8_E4M3", CCH_DTYPE_OTHER, 8},
    {"F8_E5M2", CCH_DTYPE_OTHER, 8},  {"F8_E8M0", CCH_DTYPE_OTHER, 8},  {"F6_E2M3", CCH_DTYPE_OTHER, 6},
    {"F6_E3M2", CCH_DTYPE_OTHER, 6},  {"F4", CCH_DTYPE_OTHER, 4},
};

/* ----------------------------------------------------------------------------------------------- one file ---- */

/* *out_bits: size of an element; 0 for a type we have never heard of, whose size cannot be checked. */
static cch_status read_dtype(cch_json entry, cch_tensor_view *view, unsigned *out_bits, cch_error *err) {
    cch_json value;
    size_t len;
    CCH_RETURN_IF(cch_json_get(entry, "dtype", &value, err));
    CCH_RETURN_IF(cch_json_get_string(value, &view->dtype_name, &len, err));
    view->dtype = CCH_DTYPE_OTHER;
    *out_bits = 0;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(view->dtype_name, dtypes[i].name) != 0) continue;
        view->dtype = dtypes[i].dtype;
        *out_bits = dtypes[i].bits;
    }
    return CCH_OK;
}

static cch_status read_shape(cch_json entry, cch_tensor_view *view, cch_error *err) {
    cch_json value;
    char where[CCH_JSON_TEXT];
    CCH_RETURN_IF(cch_json_get(entry, "shape", &value, err));
    CCH_RETURN_IF(cch_json_expect(value, CCH_JSON_ARRAY, err));
    size_t n = cch_json_len(value);
    if (n > CCH_TENSOR_MAX_DIMS)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s has %zu dimensions, allowed: at most %d", cch_json_where(value, where), n,
                 CCH_TENSOR_MAX_DIMS);
    view->n_dims = (int32_t)n;
    view->n_elements = 1;
    for (size_t i = 0; i < n; i++) {
        int64_t size;
        CCH_RETURN_IF(cch_json_get_int(cch_json_at(value, i), 0, INT64_MAX - 1, &size, err));
        view->shape[i] = (size_t)size;
        if (!cch_mul(view->n_elements, view->shape[i], &view->n_elements))
            CCH_FAIL(err, CCH_E_FORMAT, -1, "%s: the product of its sizes overflows", cch_json_where(value, where));
    }
    return CCH_OK;
}

static cch_status read_offsets(cch_json entry, const unsigned char *data, size_t data_size, cch_tensor_view *view,
                               cch_error *err) {
    cch_json value;
    int64_t first, last;
    char where[CCH_JSON_TEXT];
    CCH_RETURN_IF(cch_json_get(entry, "data_offsets", &value, err));
    CCH_RETURN_IF(cch_json_expect(value, CCH_JSON_ARRAY, err));
    if (cch_json_len(value) != 2)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s has %zu numbers, expected 2", cch_json_where(value, where),
                 cch_json_len(value));
    CCH_RETURN_IF(cch_json_get_int(cch_json_at(value, 0), 0, (int64_t)data_size, &first, err));
    CCH_RETURN_IF(cch_json_get_int(cch_json_at(value, 1), first, (int64_t)data_size, &last, err));
    view->data = data + first;
    view->n_bytes = (size_t)(last - first);
    return CCH_OK;
}

static cch_status read_entry(cch_json entry, const unsigned char *data, size_t data_size, cch_tensor_view *view,
                             cch_error *err) {
    unsigned bits;
    size_t want_bits;
    char where[CCH_JSON_TEXT], shown[CCH_TENSOR_TEXT];
    CCH_RETURN_IF(cch_json_expect(entry, CCH_JSON_OBJECT, err));
    CCH_RETURN_IF(read_dtype(entry, view, &bits, err));
    CCH_RETURN_IF(read_shape(entry, view, err));
    CCH_RETURN_IF(read_offsets(entry, data, data_size, view, err));
    if (bits == 0) return CCH_OK;
    if (!cch_mul(view->n_elements, bits, &want_bits) || want_bits % 8 != 0 || want_bits / 8 != view->n_bytes)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s: %s does not fill its %zu bytes exactly", cch_json_where(entry, where),
                 cch_tensor_show(view, shown), view->n_bytes);
    return CCH_OK;
}

static int by_data(const void *a, const void *b) {
    const cch_tensor_view *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* Invariant 2, for the tensors of one file: those from `begin` on. */
static cch_status check_cover(cch_tensors *t, size_t begin, const unsigned char *data, size_t data_size,
                              const char *path, cch_error *err) {
    size_t covered = 0;
    if (begin < t->n) qsort(t->views + begin, t->n - begin, sizeof *t->views, by_data);
    for (size_t i = begin; i < t->n; i++) {
        const cch_tensor_view *view = &t->views[i];
        size_t first = (size_t)(view->data - data);
        if (first != covered)
            CCH_FAIL(err, CCH_E_FORMAT, first,
                     "%s: tensor %.80s starts at data byte %zu, which leaves %s: expected %zu", path, view->name, first,
                     first < covered ? "an overlap" : "a hole", covered);
        covered += view->n_bytes;
    }
    if (covered != data_size)
        CCH_FAIL(err, CCH_E_FORMAT, covered, "%s: tensors take %zu bytes of %zu bytes of data", path, covered,
                 data_size);
    return CCH_OK;
}

static void free_header(void *doc) { cch_json_close(doc); }

/* Appends the tensors of a file's bytes to t->views. */
static cch_status read_file(cch_tensors *t, size_t shard_index, const unsigned char *bytes, size_t size,
                            cch_error *err) {
    cch_tensor_file *s = &t->files[shard_index];
    cch_json_doc *doc = NULL;
    uint64_t header_len = 0;
    const char *key;
    size_t key_len, first = t->n;
    cch_json entry;
    if (size < 8) CCH_FAIL(err, CCH_E_FORMAT, size, "%s: has %zu bytes, a safetensors file at least 8", s->path, size);
    for (size_t i = 0; i < 8; i++) header_len |= (uint64_t)bytes[i] << 8 * i;
    if (header_len > HEADER_MAX || header_len > size - 8)
        CCH_FAIL(err, CCH_E_FORMAT, 0,
                 "%s: the header length is %llu, allowed: at most %d and inside the file of %zu bytes", s->path,
                 (unsigned long long)header_len, HEADER_MAX, size);
    const unsigned char *data = bytes + 8 + header_len;
    size_t data_size = size - 8 - (size_t)header_len;
    CCH_RETURN_IF(cch_json_parse((const char *)bytes + 8, (size_t)header_len, s->path, HEADER_DEPTH, &doc, err));
    s->names = doc;
    s->free_names = free_header;
    cch_json root = cch_json_root(doc);
    CCH_RETURN_IF(cch_json_expect(root, CCH_JSON_OBJECT, err));
    CCH_RETURN_IF(cch_tensors_reserve(t, cch_json_len(root), err));
    cch_json_iter it = cch_json_members(root);
    while (cch_json_next(&it, &key, &key_len, &entry)) {
        if (strcmp(key, "__metadata__") == 0) continue;
        cch_tensor_view view = {.name = key, .shard = shard_index};
        CCH_RETURN_IF(read_entry(entry, data, data_size, &view, err));
        t->views[t->n++] = view;
    }
    return check_cover(t, first, data, data_size, s->path, err);
}

/* ----------------------------------------------------------------------------------------------- a folder ---- */

static cch_status open_shard(cch_tensors *t, size_t index, const char *folder, const char *file, cch_error *err) {
    cch_tensor_file *s = &t->files[index];
    CCH_RETURN_IF(cch_path_join(folder, file, &s->path, err));
    CCH_RETURN_IF(cch_filemap_open(s->path, &s->map, err));
    return read_file(t, index, s->map.data, s->map.size, err);
}

/* A plain file name, so that an index cannot reach outside its folder. */
static cch_status read_shard_name(cch_json value, const char **out, size_t *out_len, cch_error *err) {
    char where[CCH_JSON_TEXT], shown[CCH_JSON_TEXT];
    static const char ending[] = ".safetensors";
    CCH_RETURN_IF(cch_json_get_string(value, out, out_len, err));
    size_t len = *out_len, end = sizeof ending - 1;
    if (len <= end || memcmp(*out + len - end, ending, end) != 0 || memchr(*out, '/', len) != NULL ||
        memchr(*out, '\\', len) != NULL || memchr(*out, '\0', len) != NULL)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s is %s, expected the name of a .safetensors file in the same folder",
                 cch_json_where(value, where), cch_json_show(value, shown));
    return CCH_OK;
}

/* Numbers the shards named in weight_map by first appearance. */
static cch_status collect_shards(cch_json weight_map, cch_strmap *shards, cch_error *err) {
    const char *key, *file;
    size_t key_len, file_len;
    cch_json value;
    cch_json_iter it = cch_json_members(weight_map);
    while (cch_json_next(&it, &key, &key_len, &value)) {
        CCH_RETURN_IF(read_shard_name(value, &file, &file_len, err));
        CCH_RETURN_IF(cch_strmap_put(shards, file, file_len, (int32_t)shards->n, NULL, err));
    }
    return CCH_OK;
}

static cch_status check_index(const cch_tensors *t, cch_json weight_map, const cch_strmap *shards, cch_error *err) {
    const char *key, *file;
    size_t key_len, file_len;
    cch_json value;
    cch_json_iter it = cch_json_members(weight_map);
    while (cch_json_next(&it, &key, &key_len, &value)) {
        int32_t index = -1;
        CCH_RETURN_IF(read_shard_name(value, &file, &file_len, err));
        cch_strmap_find(shards, file, file_len, &index);
        const cch_tensor_view *view = cch_tensors_find(t, key);
        if (view == NULL || view->shard != (size_t)index)
            CCH_FAIL(err, CCH_E_FORMAT, -1, "tensor %.80s is not in %s, where the index says it is", key,
                     t->files[index].path);
    }
    return CCH_OK;
}

static cch_status open_index(const char *folder, const char *path, cch_tensors **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_json_doc *doc = NULL;
    cch_strmap shards = {0};
    cch_tensors *t = NULL;
    cch_json weight_map;
    char file[256];
    CCH_TRY(cch_json_open(path, CCH_JSON_DEPTH, &doc, err));
    CCH_TRY(cch_json_get(cch_json_root(doc), "weight_map", &weight_map, err));
    CCH_TRY(cch_json_expect(weight_map, CCH_JSON_OBJECT, err));
    CCH_TRY(collect_shards(weight_map, &shards, err));
    CCH_TRY(cch_tensors_new(shards.n, &t, err));
    for (size_t i = 0; i < shards.n; i++) {
        size_t len;
        const char *name = cch_strmap_key_view(&shards, i, &len, NULL);
        if (len >= sizeof file) CCH_THROW(err, CCH_E_FORMAT, -1, "%s: a shard's name has %zu bytes", path, len);
        memcpy(file, name, len);
        file[len] = '\0';
        CCH_TRY(open_shard(t, i, folder, file, err));
    }
    CCH_TRY(cch_tensors_sort(t, err));
    CCH_TRY(check_index(t, weight_map, &shards, err));
    *out = t;
    t = NULL;
done:
    cch_tensors_close(t);
    cch_strmap_deinit(&shards);
    cch_json_close(doc);
    return status;
}

static cch_status open_single(const char *folder, cch_tensors **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_tensors *t = NULL;
    CCH_TRY(cch_tensors_new(1, &t, err));
    CCH_TRY(open_shard(t, 0, folder, SINGLE_FILE, err));
    CCH_TRY(cch_tensors_sort(t, err));
    *out = t;
    t = NULL;
done:
    cch_tensors_close(t);
    return status;
}

cch_status cch_tensors_open(const char *folder, cch_tensors **out, cch_error *err) {
    cch_status status = CCH_OK;
    char *single = NULL, *index = NULL;
    *out = NULL;
    CCH_TRY(cch_path_join(folder, SINGLE_FILE, &single, err));
    CCH_TRY(cch_path_join(folder, INDEX_FILE, &index, err));
    if (cch_path_exists(single)) CCH_TRY(open_single(folder, out, err));
    else if (cch_path_exists(index)) CCH_TRY(open_index(folder, index, out, err));
    else CCH_THROW(err, CCH_E_IO, -1, "%s: has neither %s nor %s", folder, SINGLE_FILE, INDEX_FILE);
done:
    cch_free(single);
    cch_free(index);
    return status;
}

cch_status cch_tensors_parse(const unsigned char *data, size_t size, const char *name, cch_tensors **out,
                             cch_error *err) {
    cch_status status = CCH_OK;
    cch_tensors *t = NULL;
    *out = NULL;
    CCH_TRY(cch_tensors_new(1, &t, err));
    t->files[0].path = cch_strndup(name, strlen(name));
    if (t->files[0].path == NULL) CCH_THROW(err, CCH_E_MEMORY, -1, "could not allocate the name %s", name);
    CCH_TRY(read_file(t, 0, data, size, err));
    CCH_TRY(cch_tensors_sort(t, err));
    *out = t;
    t = NULL;
done:
    cch_tensors_close(t);
    return status;
}
