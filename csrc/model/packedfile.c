#include "model/packedfile.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/filesave.h"

#define MAGIC 0x31444B5041484343u /* "CCHAPKD1" */
#define VERSION 2
#define CHUNK ((size_t)1 << 20) /* bytes that have a digest of their own: threads share the file by chunks */

typedef struct header {
    uint64_t magic;
    uint32_t version, format;
    uint64_t n_bytes;
    uint8_t weights[CCH_HASH_BYTES];
    uint8_t layout[CCH_HASH_BYTES];
    uint8_t digest[CCH_HASH_BYTES];        /* of the digests of all chunks behind the header */
    uint8_t zeros[40];
    uint8_t header_digest[CCH_HASH_BYTES]; /* of the fields above */
} header;
_Static_assert(sizeof(header) == 192, "the header of a packed file is 192 bytes");

static void digest_header(const header *h, uint8_t digest[CCH_HASH_BYTES]) {
    cch_hash_of(h, offsetof(header, header_digest), digest);
}

/* ------------------------------------------------------------------------------------------------- saving ---- */

/* A file that is being written. */
typedef struct writer {
    cch_filesave save;
    cch_hash digests; /* of the chunks that are whole */
} writer;

static size_t in_chunk(const writer *w) { return (size_t)(w->save.written - sizeof(header)) % CHUNK; }

static void end_chunk(writer *w) {
    uint8_t digest[CCH_HASH_BYTES];
    cch_filesave_digest(&w->save, digest);
    cch_hash_update(&w->digests, digest, sizeof digest);
}

static cch_status write_bytes(writer *w, const char *data, size_t bytes, cch_error *err) {
    for (size_t n; bytes > 0; data += n, bytes -= n) {
        const size_t room = CHUNK - in_chunk(w);
        n = bytes < room ? bytes : room;
        CCH_RETURN_IF(cch_filesave_write(&w->save, data, n, err));
        if (n == room) end_chunk(w);
    }
    return CCH_OK;
}

static cch_status write_part(writer *w, const cch_part *part, cch_error *err) {
    static const char zeros[CCH_PART_ALIGN];
    CCH_RETURN_IF(write_bytes(w, (const char *)part->data, part->bytes, err));
    return write_bytes(w, zeros, cch_part_padding(part->bytes), err);
}

cch_status cch_packedfile_save(const cch_weights *weights, const char *path, cch_error *err) {
    cch_status status = CCH_OK;
    writer w;
    header h = {.magic = MAGIC, .version = VERSION, .format = (uint32_t)weights->format};
    memcpy(h.weights, weights->digest, sizeof h.weights);
    memcpy(h.layout, weights->layout, sizeof h.layout);
    cch_hash_init(&w.digests);
    CCH_RETURN_IF(cch_filesave_begin(&w.save, path, sizeof h, err));
    for (size_t i = 0; i < weights->n_parts; i++) CCH_TRY(write_part(&w, &weights->parts[i], err));
    if (in_chunk(&w) > 0) end_chunk(&w);
    cch_hash_digest(&w.digests, h.digest);
    h.n_bytes = w.save.written;
    digest_header(&h, h.header_digest);
    CCH_TRY(cch_filesave_commit(&w.save, &h, sizeof h, err));
done:
    cch_filesave_end(&w.save);
    return status;
}

/* ------------------------------------------------------------------------------------------------ opening ---- */

static cch_status read_header(const char *path, const cch_filemap *map, header *h, cch_error *err) {
    uint8_t digest[CCH_HASH_BYTES];
    if (map->size < sizeof *h)
        CCH_FAIL(err, CCH_E_FORMAT, map->size, "%s: ends at byte %zu, in the header of %zu bytes", path, map->size,
                 sizeof *h);
    memcpy(h, map->data, sizeof *h);
    if (h->magic != MAGIC)
        CCH_FAIL(err, CCH_E_FORMAT, 0, "%s: holds no packed weights: it does not begin with CCHAPKD1", path);
    if (h->version != VERSION)
        CCH_FAIL(err, CCH_E_UNSUPPORTED, 8, "%s: is of version %u, allowed: %d; pack the model again", path, h->version,
                 VERSION);
    digest_header(h, digest);
    if (memcmp(digest, h->header_digest, sizeof digest) != 0)
        CCH_FAIL(err, CCH_E_FORMAT, 0, "%s: the header is damaged: its digest is another", path);
    if (h->format > CCH_FORMAT_INT8)
        CCH_FAIL(err, CCH_E_FORMAT, 12, "%s: format is %u, allowed: 0 to %d", path, h->format, CCH_FORMAT_INT8);
    if (h->n_bytes != map->size)
        CCH_FAIL(err, CCH_E_FORMAT, 16, "%s: has %zu bytes, its header says %llu", path, map->size,
                 (unsigned long long)h->n_bytes);
    return CCH_OK;
}

typedef struct check {
    const unsigned char *data;
    size_t bytes, n_chunks;
    uint8_t *digests; /* owned: one per chunk */
    atomic_size_t next;
} check;

static void digest_chunks(void *arg, int thread, int n_threads) {
    check *c = arg;
    (void)thread, (void)n_threads;
    for (;;) {
        const size_t i = atomic_fetch_add(&c->next, 1), first = i * CHUNK;
        if (i >= c->n_chunks) return;
        cch_hash_of(c->data + first, c->bytes - first < CHUNK ? c->bytes - first : CHUNK,
                    c->digests + i * CCH_HASH_BYTES);
    }
}

/* Reads all that follows the header. */
static cch_status check_digest(const char *path, const cch_filemap *map, const header *h, cch_threads *threads,
                               cch_error *err) {
    cch_status status = CCH_OK;
    check c = {.data = map->data + sizeof *h, .bytes = map->size - sizeof *h};
    uint8_t digest[CCH_HASH_BYTES];
    c.n_chunks = c.bytes / CHUNK + (c.bytes % CHUNK != 0);
    atomic_init(&c.next, 0);
    CCH_NEW(c.digests, c.n_chunks * CCH_HASH_BYTES, err);
    cch_threads_run(threads, digest_chunks, &c);
    cch_hash_of(c.digests, c.n_chunks * CCH_HASH_BYTES, digest);
    if (memcmp(digest, h->digest, sizeof digest) != 0)
        CCH_THROW(err, CCH_E_FORMAT, sizeof *h, "%s: is damaged behind its header: the digest is another", path);
done:
    cch_free(c.digests);
    return status;
}

cch_status cch_packedfile_open(const char *path, const cch_config *config, cch_threads *threads, cch_weights *out,
                               cch_error *err) {
    cch_status status = CCH_OK;
    cch_weights weights = {0};
    cch_filemap map = {0};
    cch_error inner;
    header h;
    memset(out, 0, sizeof *out);
    CCH_TRY(cch_filemap_open(path, &map, err));
    CCH_TRY(read_header(path, &map, &h, err));
    cch_filemap_prefer_huge_pages(&map);
    status = cch_weights_take(map, sizeof h, config, (cch_format)h.format, &weights, &inner);
    map = (cch_filemap){0};
    if (status != CCH_OK) CCH_THROW(err, status, -1, "%s: %s", path, inner.message);
    if (memcmp(weights.layout, h.layout, sizeof h.layout) != 0)
        CCH_THROW(err, CCH_E_FORMAT, -1, "%s: was packed for another config.json than the one beside it", path);
    CCH_TRY(check_digest(path, &weights.map, &h, threads, err));
    memcpy(weights.digest, h.weights, sizeof h.weights);
    *out = weights;
    weights = (cch_weights){0};
done:
    cch_weights_close(&weights);
    cch_filemap_close(&map);
    return status;
}
