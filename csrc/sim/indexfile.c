/* indexfile - an index as a file that can be mapped.
 *
 *     header   128 bytes: magic, version, dtype, dimension, rows, next key, bytes of the file, digest of what follows,
 *              zeros, digest of the header up to here
 *     planes   keys, weights, errors, codes, values as in sim/rows.h, each from a multiple of 64 bytes on; live rows
 *              only
 *
 * Numbers are those of the machine, little-endian everywhere this runs; another order shows in the magic.  The digest
 * is that of base/hash.h: it tells damage, not forgery.  A file that was made up is refused where it would lead a
 * search out of bounds (keys, sizes, codes of -128, numbers that are not finite); what its rows say is its author's.
 */
#include <stdio.h> /* snprintf */
#include <string.h>

#include "base/alloc.h"
#include "base/filesave.h"
#include "sim/index.h"

#define MAGIC 0x315845444E494343u /* "CCINDEX1" */
#define VERSION 1
#define ALIGNMENT 64

typedef struct header {
    uint64_t magic;
    uint32_t version, dtype, dimension, zero;
    uint64_t n_rows, next_key, n_bytes;
    uint8_t digest[CCH_HASH_BYTES];        /* of all behind the header */
    uint8_t zeros[16];
    uint8_t header_digest[CCH_HASH_BYTES]; /* of the fields above */
} header;
_Static_assert(sizeof(header) == 128, "the header of an index file is 128 bytes");

/* Where the planes begin, and where the last one ends. */
typedef struct layout {
    size_t keys, weight, error, codes, values, end;
} layout;

static size_t value_bytes(const cch_shape *shape) {
    return shape->dtype == CCH_ROWS_F32 ? 4 : shape->dtype == CCH_ROWS_BF16 ? 2 : 0;
}

/* *at becomes the beginning of the plane behind one of n rows of `bytes`; false: no such file is possible. */
static bool next_plane(size_t *at, size_t n, size_t bytes) {
    size_t plane, end;
    if (!cch_mul(n, bytes, &plane) || !cch_add(*at, plane, &end) || !cch_add(end, ALIGNMENT - 1, &end)) return false;
    *at = end / ALIGNMENT * ALIGNMENT;
    return true;
}

static bool plan(const cch_shape *shape, size_t n, layout *out) {
    size_t at = sizeof(header);
    out->keys = at;
    if (!next_plane(&at, n, sizeof(int64_t))) return false;
    out->weight = at;
    if (!next_plane(&at, n, sizeof(float))) return false;
    out->error = at;
    if (!next_plane(&at, n, sizeof(float))) return false;
    out->codes = at;
    if (!next_plane(&at, n, shape->stride)) return false;
    out->values = at;
    if (!next_plane(&at, n, shape->dimension * value_bytes(shape))) return false;
    out->end = at;
    return true;
}

static void digest_header(const header *h, uint8_t digest[CCH_HASH_BYTES]) {
    cch_hash hash;
    cch_hash_init(&hash);
    cch_hash_update(&hash, h, offsetof(header, header_digest));
    cch_hash_digest(&hash, digest);
}

/* ------------------------------------------------------------------------------------------------- saving ---- */

/* A plane of the block: its first byte and the bytes of a row. */
static const char *plane_of(const cch_rows *rows, const cch_shape *shape, int plane, size_t *bytes) {
    const void *first[] = {rows->keys, rows->weight, rows->error, rows->codes, rows->values};
    const size_t sizes[] = {sizeof *rows->keys, sizeof *rows->weight, sizeof *rows->error, shape->stride,
                            shape->dimension * value_bytes(shape)};
    *bytes = sizes[plane];
    return first[plane];
}

static cch_status write_plane(cch_filesave *save, const cch_snapshot *s, const cch_shape *shape, int plane,
                              cch_error *err) {
    for (size_t i = 0; i < s->n_spans; i++) {
        const cch_span *span = &s->spans[i];
        size_t bytes;
        const char *first = plane_of(span->rows, shape, plane, &bytes);
        if (bytes == 0) continue;
        if (span->n_dead == 0) {
            CCH_RETURN_IF(cch_filesave_write(save, first, span->n * bytes, err));
            continue;
        }
        for (size_t j = 0; j < span->n; j++)
            if (!cch_span_is_dead(span, j)) CCH_RETURN_IF(cch_filesave_write(save, first + j * bytes, bytes, err));
    }
    return cch_filesave_align(save, ALIGNMENT, err);
}

cch_status cch_index_save(cch_index *index, const char *path, cch_error *err) {
    cch_status status = CCH_OK;
    cch_filesave save = {.fd = -1};
    cch_index_ref(index);
    cch_snapshot *now = cch_index_now(index);
    header h = {.magic = MAGIC,
                .version = VERSION,
                .dtype = (uint32_t)index->shape.dtype,
                .dimension = (uint32_t)index->shape.dimension,
                .n_rows = now->n_live,
                .next_key = now->next_key};
    CCH_TRY(cch_filesave_begin(&save, path, sizeof h, err));
    for (int plane = 0; plane < 5; plane++) CCH_TRY(write_plane(&save, now, &index->shape, plane, err));
    h.n_bytes = save.written;
    cch_filesave_digest(&save, h.digest);
    digest_header(&h, h.header_digest);
    CCH_TRY(cch_filesave_commit(&save, &h, sizeof h, err));
done:
    cch_filesave_end(&save);
    cch_snapshot_unref(now);
    cch_index_unref(index);
    return status;
}

/* ------------------------------------------------------------------------------------------------ opening ---- */

/* Reads the header of `path` and finds that the planes fill the file. */
static cch_status read_header(const cch_filemap *map, const char *path, header *h, layout *out, cch_error *err) {
    uint8_t digest[CCH_HASH_BYTES];
    if (map->size < sizeof *h)
        CCH_FAIL(err, CCH_E_FORMAT, map->size, "%s: ends at byte %zu, in the header of %zu bytes", path, map->size,
                 sizeof *h);
    memcpy(h, map->data, sizeof *h);
    if (h->magic != MAGIC)
        CCH_FAIL(err, CCH_E_FORMAT, 0, "%s: is no index file: it does not begin with CCINDEX1", path);
    if (h->version != VERSION)
        CCH_FAIL(err, CCH_E_UNSUPPORTED, 8, "%s: is an index file of version %u, allowed: %d", path, h->version,
                 VERSION);
    digest_header(h, digest);
    if (memcmp(digest, h->header_digest, sizeof digest) != 0)
        CCH_FAIL(err, CCH_E_FORMAT, 0, "%s: the header is damaged: its digest is another", path);
    if (h->dtype > CCH_ROWS_INT8) CCH_FAIL(err, CCH_E_FORMAT, 12, "%s: dtype is %u, allowed: 0 to 2", path, h->dtype);
    if (h->dimension < 1 || h->dimension > CCH_INDEX_MAX_DIMENSION)
        CCH_FAIL(err, CCH_E_FORMAT, 16, "%s: dimension is %u, allowed: 1 to %d", path, h->dimension,
                 CCH_INDEX_MAX_DIMENSION);
    if (h->next_key > (uint64_t)INT64_MAX + 1)
        CCH_FAIL(err, CCH_E_FORMAT, 32, "%s: the next key is %llu, allowed: at most 2^63", path,
                 (unsigned long long)h->next_key);
    const cch_shape shape = {h->dimension, cch_codes_stride(h->dimension), (cch_index_dtype)h->dtype};
    if (!plan(&shape, h->n_rows, out) || out->end != h->n_bytes)
        CCH_FAIL(err, CCH_E_FORMAT, 24, "%s: %llu rows of %u numbers do not make %llu bytes", path,
                 (unsigned long long)h->n_rows, h->dimension, (unsigned long long)h->n_bytes);
    if (h->n_bytes != map->size)
        CCH_FAIL(err, CCH_E_FORMAT, 40, "%s: has %zu bytes, its header says %llu", path, map->size,
                 (unsigned long long)h->n_bytes);
    return CCH_OK;
}

static cch_status check_digest(const cch_filemap *map, const char *path, const header *h, cch_error *err) {
    uint8_t digest[CCH_HASH_BYTES];
    cch_hash hash;
    cch_hash_init(&hash);
    cch_hash_update(&hash, map->data + sizeof *h, map->size - sizeof *h);
    cch_hash_digest(&hash, digest);
    if (memcmp(digest, h->digest, sizeof digest) != 0)
        CCH_FAIL(err, CCH_E_FORMAT, sizeof *h, "%s: is damaged behind its header: the digest is another", path);
    return CCH_OK;
}

/* Of each row: a weight is at most that of a row of one code, an error that of codes which tell nothing. */
static cch_status check_numbers(const cch_filemap *map, const char *path, const layout *at, size_t n, cch_error *err) {
    const float *weight = (const float *)(const void *)(map->data + at->weight);
    const float *error = (const float *)(const void *)(map->data + at->error);
    const unsigned char *lowest = memchr(map->data + at->codes, 0x80, at->values - at->codes);
    for (size_t i = 0; i < n; i++) {
        if (!(weight[i] >= 0.0f && weight[i] <= 1.0f))
            CCH_FAIL(err, CCH_E_FORMAT, at->weight + i * sizeof *weight,
                     "%s: the weight of row %zu is %g, allowed: 0 to 1", path, i, (double)weight[i]);
        if (!(error[i] >= 0.0f && error[i] <= 2.0f))
            CCH_FAIL(err, CCH_E_FORMAT, at->error + i * sizeof *error,
                     "%s: the error of row %zu is %g, allowed: 0 to 2", path, i, (double)error[i]);
    }
    if (lowest != NULL)
        CCH_FAIL(err, CCH_E_FORMAT, lowest - map->data, "%s: a code is -128, allowed: -127 to 127", path);
    return CCH_OK;
}

static cch_status check_values(const cch_filemap *map, const char *path, const layout *at, const cch_shape *shape,
                               size_t n, cch_error *err) {
    const unsigned char *values = map->data + at->values;
    const size_t bytes = value_bytes(shape), count = bytes > 0 ? n * shape->dimension : 0;
    for (size_t i = 0; i < count; i++) {
        uint16_t high; /* sign, exponent and more are in the last two bytes of either form */
        memcpy(&high, values + i * bytes + bytes - sizeof high, sizeof high);
        if ((high & 0x7F80) != 0x7F80) continue;
        CCH_FAIL(err, CCH_E_FORMAT, at->values + i * bytes, "%s: number %zu of row %zu is not finite", path,
                 i % shape->dimension, i / shape->dimension);
    }
    return CCH_OK;
}

/* Rows [first, first + n) of the file as a block: views. */
static cch_status view_rows(cch_mapping *mapping, const layout *at, const cch_shape *shape, size_t first, size_t n,
                            cch_rows **out, cch_error *err) {
    cch_rows *rows = *out = cch_zalloc(1, sizeof *rows);
    char *file = (char *)(uintptr_t)mapping->map.data; /* never written: the writer changes memory of its own only */
    const size_t value_row = shape->dimension * value_bytes(shape);
    if (rows == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes for a block", sizeof *rows);
    atomic_init(&rows->refs, 1);
    atomic_fetch_add_explicit(&mapping->refs, 1, memory_order_relaxed);
    rows->mapping = mapping;
    rows->capacity = n;
    rows->bytes = n * (sizeof *rows->keys + sizeof *rows->weight + sizeof *rows->error + shape->stride + value_row);
    rows->keys = (int64_t *)(void *)(file + at->keys) + first;
    rows->weight = (float *)(void *)(file + at->weight) + first;
    rows->error = (float *)(void *)(file + at->error) + first;
    rows->codes = (int8_t *)(file + at->codes) + first * shape->stride;
    rows->values = value_row > 0 ? file + at->values + first * value_row : NULL;
    return CCH_OK;
}

static cch_status enter_rows(cch_index *index, const char *path, const layout *at, cch_rows *rows, size_t first,
                             uint64_t next_key, cch_error *err) {
    for (size_t i = 0; i < rows->capacity; i++) {
        const int64_t key = rows->keys[i];
        const size_t byte = at->keys + (first + i) * sizeof key;
        if (key < 0 || (uint64_t)key >= next_key)
            CCH_FAIL(err, CCH_E_FORMAT, byte, "%s: the key of row %zu is %lld, allowed: 0 and more, below %llu", path,
                     first + i, (long long)key, (unsigned long long)next_key);
        if (cch_keymap_find(&index->map, key) != CCH_NO_PLACE)
            CCH_FAIL(err, CCH_E_FORMAT, byte, "%s: two rows have the key %lld", path, (long long)key);
        cch_keymap_put(&index->map, rows, i);
    }
    return CCH_OK;
}

/* Makes the rows of the file those of an empty index. */
static cch_status take_rows(cch_index *index, cch_mapping *mapping, const char *path, const header *h,
                            const layout *at, cch_error *err) {
    cch_status status = CCH_OK;
    const size_t n = h->n_rows, n_blocks = (n + CCH_BLOCK_ROWS - 1) / CCH_BLOCK_ROWS;
    cch_snapshot *next = NULL;
    cch_rows *rows = NULL;
    CCH_TRY(cch_snapshot_copy(NULL, n_blocks, &next, err));
    CCH_TRY(cch_keymap_reserve(&index->map, n, err));
    for (size_t first = 0; first < n; first += CCH_BLOCK_ROWS) {
        const size_t here = n - first < CCH_BLOCK_ROWS ? n - first : CCH_BLOCK_ROWS;
        CCH_TRY(view_rows(mapping, at, &index->shape, first, here, &rows, err));
        CCH_TRY(cch_keymap_add_block(&index->map, rows, err));
        CCH_TRY(enter_rows(index, path, at, rows, first, h->next_key, err));
        cch_snapshot_append(next, rows);
        next->spans[next->n_spans - 1].n = here;
        rows = NULL;
    }
    next->n_live = next->n_rows = n;
    next->next_key = h->next_key;
    cch_index_publish(index, next);
    next = NULL;
done:
    cch_rows_unref(rows);
    cch_snapshot_unref(next);
    return status;
}

cch_status cch_index_open(const char *path, const cch_index_options *options, cch_index **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_index_options own = CCH_INDEX_OPTIONS_INIT;
    cch_mapping *mapping = NULL;
    cch_index *index = NULL;
    header h;
    layout at = {0};
    *out = NULL;
    if (options != NULL) own = *options;
    CCH_ZNEW(mapping, 1, err);
    atomic_init(&mapping->refs, 1);
    CCH_TRY(cch_filemap_open(path, &mapping->map, err));
    CCH_TRY(read_header(&mapping->map, path, &h, &at, err));
    CCH_TRY(check_digest(&mapping->map, path, &h, err));
    own.dtype = (cch_index_dtype)h.dtype;
    CCH_TRY(cch_index_new((int32_t)h.dimension, &own, &index, err));
    CCH_TRY(check_numbers(&mapping->map, path, &at, h.n_rows, err));
    CCH_TRY(check_values(&mapping->map, path, &at, &index->shape, h.n_rows, err));
    CCH_TRY(take_rows(index, mapping, path, &h, &at, err));
    cch_filemap_drop(&mapping->map, at.values, at.end - at.values); /* searches read few of them */
    *out = index;
    index = NULL;
done:
    cch_index_unref(index);
    cch_mapping_unref(mapping);
    return status;
}
