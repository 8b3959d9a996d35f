#include "base/filemap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

static const unsigned char empty_file[1];

cch_status cch_fail_errno(cch_error *err, const char *function, const char *path, int reason) {
    char text[128];
    return cch_fail(err, CCH_E_IO, function, -1, "%s: %s", path, strerror_r(reason, text, sizeof text));
}

/* A descriptor of the regular file `path`, and its size.  Non-blocking: opening a pipe must fail here, not wait. */
static cch_status open_regular(const char *path, int *out_fd, size_t *out_size, cch_error *err) {
    cch_status status = CCH_OK;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return cch_fail_errno(err, __func__, path, errno);
    if (fstat(fd, &info) != 0) CCH_TRY(cch_fail_errno(err, __func__, path, errno));
    if (!S_ISREG(info.st_mode))
        CCH_THROW(err, CCH_E_IO, -1, "%s: %s, expected a file", path,
                  S_ISDIR(info.st_mode) ? "is a folder" : "is no regular file");
    *out_size = (size_t)info.st_size;
    *out_fd = fd;
    fd = -1;
done:
    if (fd >= 0) close(fd);
    return status;
}

static cch_status read_all(int fd, const char *path, char *dst, size_t size, cch_error *err) {
    for (size_t at = 0; at < size;) {
        ssize_t n = read(fd, dst + at, size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cch_fail_errno(err, __func__, path, errno);
        if (n == 0)
            CCH_FAIL(err, CCH_E_IO, at, "%s: ends at byte %zu of %zu: it got shorter meanwhile", path, at, size);
        at += (size_t)n;
    }
    return CCH_OK;
}

cch_status cch_file_read(const char *path, char **out, size_t *out_len, cch_error *err) {
    cch_status status = CCH_OK;
    char *bytes = NULL;
    size_t size = 0;
    int fd = -1;
    *out = NULL;
    *out_len = 0;
    CCH_TRY(open_regular(path, &fd, &size, err));
    if (size > CCH_FILE_MAX)
        CCH_THROW(err, CCH_E_FORMAT, -1, "%s: has %zu bytes, allowed: at most %d", path, size, CCH_FILE_MAX);
    CCH_NEW(bytes, size, err);
    CCH_TRY(read_all(fd, path, bytes, size, err));
    *out = bytes;
    *out_len = size;
    bytes = NULL;
done:
    if (fd >= 0) close(fd);
    cch_free(bytes);
    return status;
}

cch_status cch_filemap_open(const char *path, cch_filemap *out, cch_error *err) {
    cch_status status = CCH_OK;
    size_t size = 0;
    int fd = -1;
    *out = (cch_filemap){NULL, 0};
    CCH_RETURN_IF(open_regular(path, &fd, &size, err));
    if (size == 0) {
        out->data = empty_file;
    } else {
        void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data != MAP_FAILED) *out = (cch_filemap){data, size};
        else if (errno != ENOMEM) status = cch_fail_errno(err, __func__, path, errno);
        else status = cch_fail(err, CCH_E_MEMORY, __func__, -1, "could not map %zu bytes of %s", size, path);
    }
    close(fd); /* the mapping keeps the file */
    return status;
}

/* The mapping was made by mmap and never written; munmap and madvise merely lack const. */
static void *address(const unsigned char *data) { return (void *)(uintptr_t)data; }

void cch_filemap_close(cch_filemap *map) {
    if (map->size > 0) munmap(address(map->data), map->size);
    *map = (cch_filemap){NULL, 0};
}

void cch_filemap_prefer_huge_pages(const cch_filemap *map) { cch_prefer_huge_pages(address(map->data), map->size); }

void cch_filemap_drop(const cch_filemap *map, size_t first, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), last;
    if (!cch_add(first, bytes, &last)) return;
    if (last > map->size) last = map->size;
    first = (first + page - 1) / page * page;
    if (last != map->size) last = last / page * page;
    if (first < last) madvise(address(map->data + first), last - first, MADV_DONTNEED);
}

cch_status cch_path_join(const char *folder, const char *name, char **out, cch_error *err) {
    size_t folder_len = strlen(folder), name_len = strlen(name);
    bool slash = folder_len > 0 && folder[folder_len - 1] != '/';
    char *path = cch_alloc(folder_len + name_len + 2, 1);
    *out = NULL;
    if (path == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate the path of %s", name);
    memcpy(path, folder, folder_len);
    if (slash) path[folder_len++] = '/';
    memcpy(path + folder_len, name, name_len + 1);
    *out = path;
    return CCH_OK;
}

bool cch_path_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

bool cch_path_is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}
