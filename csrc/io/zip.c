#include "io/zip.h"

#include <stdlib.h> /* qsort, bsearch */
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

#define END_SIZE 22        /* of the end record without its comment */
#define END64_SIZE 56
#define LOCATOR_SIZE 20    /* says where the 64-bit end record is */
#define HEADER_SIZE 46     /* of an entry in the directory, without its name */
#define LOCAL_SIZE 30
#define COMMENT_MAX 65535
#define IN_64_BITS 0xFFFFFFFFu /* stands for a number that is elsewhere in 64 bits */
#define EXTRA_64 1             /* number of the extra field that holds it */

typedef struct reader {
    const unsigned char *data;
    size_t size;
    const char *path;
    cch_error *err;
} reader;

static uint32_t u16(const unsigned char *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32(const unsigned char *p) { return u16(p) | u16(p + 2) << 16; }
static uint64_t u64(const unsigned char *p) { return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32; }

static bool is_at(const reader *r, size_t at, const char signature[4]) {
    return at <= r->size && r->size - at >= 4 && memcmp(r->data + at, signature, 4) == 0;
}

/* -------------------------------------------------------------------------------------------- end records ---- */

typedef struct directory {
    uint64_t n, size, at;
} directory;

/* The end record is the last place that looks like one and whose comment ends with the file. */
static cch_status find_end(const reader *r, size_t *out_at) {
    if (r->size < 4 || memcmp(r->data, "PK", 2) != 0)
        CCH_FAIL(r->err, CCH_E_FORMAT, 0, "%s: is no ZIP archive, as which torch writes checkpoints", r->path);
    for (size_t back = END_SIZE; back <= r->size && back <= END_SIZE + COMMENT_MAX; back++) {
        size_t at = r->size - back;
        *out_at = at;
        if (is_at(r, at, "PK\5\6") && u16(r->data + at + 20) == back - END_SIZE) return CCH_OK;
    }
    CCH_FAIL(r->err, CCH_E_FORMAT, r->size, "%s: is cut off: its %zu bytes have no end record of a ZIP archive",
             r->path, r->size);
}

/* The 64-bit end record, when there is one before the end record at `end`. */
static cch_status read_end64(const reader *r, size_t end, directory *dir) {
    if (end < LOCATOR_SIZE || !is_at(r, end - LOCATOR_SIZE, "PK\6\7")) return CCH_OK;
    uint64_t at = u64(r->data + end - LOCATOR_SIZE + 8);
    if (at > end || end - at < END64_SIZE + LOCATOR_SIZE || !is_at(r, (size_t)at, "PK\6\6"))
        CCH_FAIL(r->err, CCH_E_FORMAT, end - LOCATOR_SIZE, "%s: its 64-bit end record is not at byte %llu", r->path,
                 (unsigned long long)at);
    const unsigned char *p = r->data + at;
    *dir = (directory){u64(p + 32), u64(p + 40), u64(p + 48)};
    return CCH_OK;
}

static cch_status find_directory(const reader *r, directory *dir) {
    size_t end = 0;
    CCH_RETURN_IF(find_end(r, &end));
    const unsigned char *p = r->data + end;
    if ((u16(p + 4) != 0 && u16(p + 4) != 0xFFFF) || (u16(p + 6) != 0 && u16(p + 6) != 0xFFFF))
        CCH_FAIL(r->err, CCH_E_UNSUPPORTED, end, "%s: is an archive of several volumes", r->path);
    *dir = (directory){u16(p + 10), u32(p + 12), u32(p + 16)};
    CCH_RETURN_IF(read_end64(r, end, dir));
    if (dir->at > end || dir->size > end - dir->at || dir->n > dir->size / HEADER_SIZE)
        CCH_FAIL(r->err, CCH_E_FORMAT, end,
                 "%s: its directory of %llu entries, %llu bytes at byte %llu, is not inside its %zu bytes", r->path,
                 (unsigned long long)dir->n, (unsigned long long)dir->size, (unsigned long long)dir->at, r->size);
    return CCH_OK;
}

/* ------------------------------------------------------------------------------------------------ entries ---- */

static const char *show(const cch_zip_entry *entry, char dst[CCH_UTF8_SHOWN]) {
    return cch_utf8_show(entry->name, entry->name_len, dst);
}

/* Takes size, then place, from the 64-bit extra field [len] where the header says so. */
static bool read_extra64(const unsigned char *extra, size_t len, bool both, uint64_t *size, uint64_t *at) {
    for (size_t n; len >= 4; extra += 4 + n, len -= 4 + n) {
        n = u16(extra + 2);
        if (n > len - 4) return false;
        if (u16(extra) != EXTRA_64) continue;
        const unsigned char *p = extra + 4, *end = p + n;
        if (*size == IN_64_BITS) {
            if (end - p < 8) return false;
            *size = u64(p);
            p += both ? 16 : 8; /* the stored size is the same number again, where it is there too */
        }
        if (*at == IN_64_BITS) {
            if (end - p < 8) return false;
            *at = u64(p);
        }
        return true;
    }
    return *size != IN_64_BITS && *at != IN_64_BITS;
}

/* The data of the entry whose local header is at `at`. */
static cch_status find_data(const reader *r, uint64_t at, uint64_t size, cch_zip_entry *entry) {
    char shown[CCH_UTF8_SHOWN];
    if (at > r->size || r->size - at < LOCAL_SIZE || !is_at(r, (size_t)at, "PK\3\4"))
        CCH_FAIL(r->err, CCH_E_FORMAT, at, "%s: the entry %s has no header at byte %llu", r->path, show(entry, shown),
                 (unsigned long long)at);
    const unsigned char *p = r->data + at;
    size_t begin = (size_t)at + LOCAL_SIZE + u16(p + 26) + u16(p + 28);
    if (begin > r->size || size > r->size - begin)
        CCH_FAIL(r->err, CCH_E_FORMAT, at, "%s: the entry %s has %llu bytes at byte %zu, the file ends at %zu", r->path,
                 show(entry, shown), (unsigned long long)size, begin, r->size);
    entry->data = r->data + begin;
    entry->size = (size_t)size;
    return CCH_OK;
}

/* The header at `*at` of the directory, which ends at `end`; moves *at behind it. */
static cch_status read_entry(const reader *r, size_t *at, size_t end, cch_zip_entry *entry) {
    const unsigned char *p = r->data + *at;
    if (end - *at < HEADER_SIZE || memcmp(p, "PK\1\2", 4) != 0)
        CCH_FAIL(r->err, CCH_E_FORMAT, *at, "%s: byte %zu begins no entry of its directory", r->path, *at);
    const size_t name_len = u16(p + 28), extra_len = u16(p + 30);
    const size_t length = HEADER_SIZE + name_len + extra_len + u16(p + 32);
    if (length > end - *at)
        CCH_FAIL(r->err, CCH_E_FORMAT, *at, "%s: the directory's entry at byte %zu goes over its end", r->path, *at);
    uint64_t packed = u32(p + 20), size = u32(p + 24), place = u32(p + 42);
    *entry = (cch_zip_entry){.name = (const char *)p + HEADER_SIZE, .name_len = name_len};
    char shown[CCH_UTF8_SHOWN];
    if ((u16(p + 8) & 1) != 0)
        CCH_FAIL(r->err, CCH_E_UNSUPPORTED, *at, "%s: the entry %s is encrypted", r->path, show(entry, shown));
    if (u16(p + 10) != 0)
        CCH_FAIL(r->err, CCH_E_UNSUPPORTED, *at, "%s: the entry %s is compressed, supported: stored as it is", r->path,
                 show(entry, shown));
    bool both = packed == IN_64_BITS && size == IN_64_BITS;
    if (!both && packed != size)
        CCH_FAIL(r->err, CCH_E_FORMAT, *at, "%s: the entry %s of %llu bytes is stored as %llu", r->path,
                 show(entry, shown), (unsigned long long)size, (unsigned long long)packed);
    if ((size == IN_64_BITS || place == IN_64_BITS) &&
        !read_extra64(p + HEADER_SIZE + name_len, extra_len, both, &size, &place))
        CCH_FAIL(r->err, CCH_E_FORMAT, *at, "%s: the entry %s lacks its 64-bit sizes", r->path, show(entry, shown));
    *at += length;
    return find_data(r, place, size, entry);
}

static int by_name(const void *a, const void *b) {
    const cch_zip_entry *x = a, *y = b;
    int order = memcmp(x->name, y->name, x->name_len < y->name_len ? x->name_len : y->name_len);
    return order != 0 ? order : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

cch_status cch_zip_open(const unsigned char *data, size_t size, const char *path, cch_zip *out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_zip zip = {0};
    directory dir = {0};
    reader r = {data, size, path, err};
    size_t at, end;
    char shown[CCH_UTF8_SHOWN];
    *out = zip;
    CCH_RETURN_IF(find_directory(&r, &dir));
    CCH_NEW(zip.entries, (size_t)dir.n, err);
    at = (size_t)dir.at;
    end = at + (size_t)dir.size;
    for (; zip.n < dir.n; zip.n++) CCH_TRY(read_entry(&r, &at, end, &zip.entries[zip.n]));
    if (zip.n > 0) qsort(zip.entries, zip.n, sizeof *zip.entries, by_name);
    for (size_t i = 1; i < zip.n; i++)
        if (by_name(&zip.entries[i - 1], &zip.entries[i]) == 0)
            CCH_THROW(err, CCH_E_FORMAT, -1, "%s: two entries are called %s", path, show(&zip.entries[i], shown));
    *out = zip;
    zip = (cch_zip){0};
done:
    cch_zip_close(&zip);
    return status;
}

void cch_zip_close(cch_zip *zip) {
    cch_free(zip->entries);
    *zip = (cch_zip){0};
}

const cch_zip_entry *cch_zip_find(const cch_zip *zip, const char *name, size_t len) {
    const cch_zip_entry key = {.name = name, .name_len = len};
    return zip->n == 0 ? NULL : bsearch(&key, zip->entries, zip->n, sizeof key, by_name);
}
