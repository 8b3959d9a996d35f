/* indexfile - an index as a file that can be mapped.
 *
 *     header   128 bytes: magic, version, dtype, dimension, rows, next key, bytes of the file, digest of what follows,
 *              zeros, digest of the header up to here
 *     planes   keys, weights, errors, codes, values as in sim/rows.h, each from a multiple of 64 bytes on; live rows
 *              only.  Signs are made of the values when the file is opened
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

enum { KEYS, WEIGHT, ERROR, CODES, VALUES, N_PLANES };

/* Bytes of a row in a plane. */
static size_t row_bytes(const cch_shape *shape, int plane) {
    const size_t bytes[] = {sizeof(int64_t), sizeof(float), sizeof(float), shape->stride, cch_value_bytes(shape)};
    return bytes[plane];
}

/* Where the planes of n rows begin, and where the last one ends.  False: there is no such file. */
static bool plan(const cch_shape *shape, size_t n, size_t at[N_PLANES + 1]) {
    size_t bytes;
    at[0] = sizeof(header);
    for (int plane = 0; plane < N_PLANES; plane++) {
        if (!cch_mul(n, row_bytes(shape, plane), &bytes) || !cch_add(at[plane], bytes, &bytes)) return false;
        if (!cch_add(bytes, ALIGNMENT - 1, &bytes)) return false;
        at[plane + 1] = bytes / ALIGNMENT * ALIGNMENT;
    }
    return true;
}

static void digest_header(const header *h, uint8_t digest[CCH_HASH_BYTES]) {
    cch_hash_of(h, offsetof(header, header_digest), digest);
}

/* ------------------------------------------------------------------------------------------------- saving ---- */

static cch_status write_plane(cch_filesave *save, const cch_snapshot *s, const cch_shape *shape, int plane,
                              cch_error *err) {
    const size_t bytes = row_bytes(shape, plane);
    for (size_t i = 0; i < s->n_spans && bytes > 0; i++) {
        const cch_span *span = &s->spans[i];
        const cch_rows *rows = span->rows;
        const void *planes[] = {rows->keys, rows->weight, rows->error, rows->codes, rows->values};
        const char *first = planes[plane];
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
    for (int plane = 0; plane < N_PLANES; plane++) CCH_TRY(write_plane(&save, now, &index->shape, plane, err));
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

/* A file that is being opened. */
typedef struct source {
    const char *path;     /* borrowed */
    cch_mapping *mapping; /* shared */
    header h;
    cch_shape shape;
    size_t at[N_PLANES + 1];
} source;

/* Reads the header and finds that the planes fill the file. */
static cch_status read_header(source *s, cch_error *err) {
    const cch_filemap *map = &s->mapping->map;
    header *h = &s->h;
    uint8_t digest[CCH_HASH_BYTES];
    if (map->size < sizeof *h)
        CCH_FAIL(err, CCH_E_FORMAT, map->size, "%s: ends at byte %zu, in the header of %zu bytes", s->path, map->size,
                 sizeof *h);
    memcpy(h, map->data, sizeof *h);
    if (h->magic != MAGIC)
        CCH_FAIL(err, CCH_E_FORMAT, 0, "%s: is no index file: it does not begin with CCINDEX1", s->path);
    if (h->version != VERSION)
        CCH_FAIL(err, CCH_E_UNSUPPORTED, 8, "%s: is an index file of version %u, allowed: %d", s->path, h->version,
                 VERSION);
    digest_header(h, digest);
    if (memcmp(digest, h->header_digest, sizeof digest) != 0)
        CCH_FAIL(err, CCH_E_FORMAT, 0, "%s: the header is damaged: its digest is another", s->path);
    if (h->dtype > CCH_ROWS_INT8)
        CCH_FAIL(err, CCH_E_FORMAT, 12, "%s: dtype is %u, allowed: 0 to 2", s->path, h->dtype);
    if (h->dimension < 1 || h->dimension > CCH_INDEX_MAX_DIMENSION)
        CCH_FAIL(err, CCH_E_FORMAT, 16, "%s: dimension is %u, allowed: 1 to %d", s->path, h->dimension,
                 CCH_INDEX_MAX_DIMENSION);
    if (h->next_key > (uint64_t)INT64_MAX + 1)
        CCH_FAIL(err, CCH_E_FORMAT, 32, "%s: the next key is %llu, allowed: at most 2^63", s->path,
                 (unsigned long long)h->next_key);
    s->shape = (cch_shape){h->dimension, cch_codes_stride(h->dimension), (cch_index_dtype)h->dtype};
    if (!plan(&s->shape, h->n_rows, s->at) || s->at[N_PLANES] != h->n_bytes)
        CCH_FAIL(err, CCH_E_FORMAT, 24, "%s: %llu rows of %u numbers do not make %llu bytes", s->path,
                 (unsigned long long)h->n_rows, h->dimension, (unsigned long long)h->n_bytes);
    if (h->n_bytes != map->size)
        CCH_FAIL(err, CCH_E_FORMAT, 40, "%s: has %zu bytes, its header says %llu", s->path, map->size,
                 (unsigned long long)h->n_bytes);
    return CCH_OK;
}

static cch_status check_digest(const source *s, cch_error *err) {
    uint8_t digest[CCH_HASH_BYTES];
    cch_hash_of(s->mapping->map.data + sizeof s->h, s->mapping->map.size - sizeof s->h, digest);
    if (memcmp(digest, s->h.digest, sizeof digest) != 0)
        CCH_FAIL(err, CCH_E_FORMAT, sizeof s->h, "%s: is damaged behind its header: the digest is another", s->path);
    return CCH_OK;
}

/* Of each row: a weight is at most that of a row of one code, an error that of codes which tell nothing. */
static cch_status check_numbers(const source *s, cch_error *err) {
    const unsigned char *data = s->mapping->map.data;
    const float *weight = (const float *)(const void *)(data + s->at[WEIGHT]);
    const float *error = (const float *)(const void *)(data + s->at[ERROR]);
    const unsigned char *lowest = memchr(data + s->at[CODES], 0x80, s->at[VALUES] - s->at[CODES]);
    for (size_t i = 0; i < s->h.n_rows; i++) {
        if (!(weight[i] >= 0.0f && weight[i] <= 1.0f))
            CCH_FAIL(err, CCH_E_FORMAT, s->at[WEIGHT] + i * sizeof *weight,
                     "%s: the weight of row %zu is %g, allowed: 0 to 1", s->path, i, (double)weight[i]);
        if (!(error[i] >= 0.0f && error[i] <= 2.0f))
            CCH_FAIL(err, CCH_E_FORMAT, s->at[ERROR] + i * sizeof *error,
                     "%s: the error of row %zu is %g, allowed: 0 to 2", s->path, i, (double)error[i]);
    }
    if (lowest != NULL)
        CCH_FAIL(err, CCH_E_FORMAT, lowest - data, "%s: a code is -128, allowed: -127 to 127", s->path);
    return CCH_OK;
}

static cch_status check_values(const source *s, cch_error *err) {
    const unsigned char *values = s->mapping->map.data + s->at[VALUES];
    const size_t d = s->shape.dimension, bytes = row_bytes(&s->shape, VALUES) / d;
    for (size_t i = 0; bytes > 0 && i < s->h.n_rows * d; i++) {
        uint16_t high; /* sign, exponent and more are in the last two bytes of either form */
        memcpy(&high, values + i * bytes + bytes - sizeof high, sizeof high);
        if ((high & 0x7F80) != 0x7F80) continue;
        CCH_FAIL(err, CCH_E_FORMAT, s->at[VALUES] + i * bytes, "%s: number %zu of row %zu is not finite", s->path,
                 i % d, i / d);
    }
    return CCH_OK;
}

/* Rows [first, first + n) of the file as a block: views. */
static cch_status view_rows(const source *s, size_t first, size_t n, cch_rows **out, cch_error *err) {
    char *planes[N_PLANES], *data = (char *)(uintptr_t)s->mapping->map.data; /* never written: full blocks are not */
    cch_rows *rows = *out = cch_zalloc(1, sizeof *rows);
    if (rows == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes for a block", sizeof *rows);
    for (int plane = 0; plane < N_PLANES; plane++) {
        planes[plane] = data + s->at[plane] + first * row_bytes(&s->shape, plane);
        rows->mapped_bytes += n * row_bytes(&s->shape, plane);
    }
    atomic_init(&rows->refs, 1);
    atomic_fetch_add_explicit(&s->mapping->refs, 1, memory_order_relaxed);
    rows->mapping = s->mapping;
    rows->capacity = n;
    rows->keys = (int64_t *)(void *)planes[KEYS];
    rows->weight = (float *)(void *)planes[WEIGHT];
    rows->error = (float *)(void *)planes[ERROR];
    rows->codes = (int8_t *)planes[CODES];
    rows->values = row_bytes(&s->shape, VALUES) > 0 ? planes[VALUES] : NULL;
    return CCH_OK;
}

static cch_status enter_rows(cch_index *index, const source *s, cch_rows *rows, size_t first, cch_error *err) {
    for (size_t i = 0; i < rows->capacity; i++) {
        const int64_t key = rows->keys[i];
        const size_t byte = s->at[KEYS] + (first + i) * sizeof key;
        if (key < 0 || (uint64_t)key >= s->h.next_key)
            CCH_FAIL(err, CCH_E_FORMAT, byte, "%s: the key of row %zu is %lld, allowed: 0 and more, below %llu",
                     s->path, first + i, (long long)key, (unsigned long long)s->h.next_key);
        if (cch_keymap_find(&index->map, key) != CCH_NO_PLACE)
            CCH_FAIL(err, CCH_E_FORMAT, byte, "%s: two rows have the key %lld", s->path, (long long)key);
        cch_keymap_put(&index->map, rows, i);
    }
    return CCH_OK;
}

/* Makes the rows of the file those of an empty index. */
static cch_status take_rows(cch_index *index, const source *s, cch_error *err) {
    cch_status status = CCH_OK;
    const size_t n = s->h.n_rows, n_blocks = (n + CCH_BLOCK_ROWS - 1) / CCH_BLOCK_ROWS;
    cch_snapshot *next = NULL;
    cch_rows *rows = NULL;
    CCH_TRY(cch_snapshot_copy(NULL, n_blocks, &next, err));
    CCH_TRY(cch_keymap_reserve(&index->map, n, err));
    for (size_t first = 0; first < n; first += CCH_BLOCK_ROWS) {
        const size_t here = n - first < CCH_BLOCK_ROWS ? n - first : CCH_BLOCK_ROWS;
        CCH_TRY(view_rows(s, first, here, &rows, err));
        CCH_TRY(cch_rows_sign(rows, &s->shape, index->kern, index->scratch, err));
        CCH_TRY(cch_keymap_add_block(&index->map, rows, err));
        CCH_TRY(enter_rows(index, s, rows, first, err));
        cch_snapshot_append(next, rows);
        next->spans[next->n_spans - 1].n = here;
        rows = NULL;
    }
    next->n_live = next->n_rows = n;
    next->next_key = s->h.next_key;
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
    source s = {.path = path};
    cch_index *index = NULL;
    *out = NULL;
    if (options != NULL) own = *options;
    CCH_ZNEW(s.mapping, 1, err);
    atomic_init(&s.mapping->refs, 1);
    CCH_TRY(cch_filemap_open(path, &s.mapping->map, err));
    CCH_TRY(read_header(&s, err));
    CCH_TRY(check_digest(&s, err));
    own.dtype = s.shape.dtype;
    CCH_TRY(cch_index_new((int32_t)s.shape.dimension, &own, &index, err));
    CCH_TRY(check_numbers(&s, err));
    CCH_TRY(check_values(&s, err));
    CCH_TRY(take_rows(index, &s, err));
    cch_filemap_drop(&s.mapping->map, s.at[VALUES], s.at[N_PLANES] - s.at[VALUES]); /* searches read few of them */
    *out = index;
    index = NULL;
done:
    cch_index_unref(index);
    cch_mapping_unref(s.mapping);
    return status;
}
