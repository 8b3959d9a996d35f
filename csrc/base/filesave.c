#include "base/filesave.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h> /* snprintf, rename */
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/filemap.h"

#define BUFFER ((size_t)1 << 16)
#define SUFFIX 48 /* most bytes that make a path temporary */

static atomic_uint counter; /* keeps apart the temporary files of one process */

/* A new file beside the one that is to be, with the rights that the umask gives. */
static int open_temporary(cch_filesave *save) {
    const size_t len = strlen(save->path);
    int fd = -1;
    memcpy(save->temp, save->path, len);
    do {
        snprintf(save->temp + len, SUFFIX, ".%ld-%u.tmp", (long)getpid(), atomic_fetch_add(&counter, 1));
        fd = open(save->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (fd < 0 && errno == EEXIST);
    return fd;
}

cch_status cch_filesave_begin(cch_filesave *save, const char *path, size_t header_bytes, cch_error *err) {
    cch_status status = CCH_OK;
    *save = (cch_filesave){.fd = -1, .written = header_bytes};
    cch_hash_init(&save->hash);
    CCH_NEW(save->buffer, BUFFER, err);
    CCH_NEW(save->temp, strlen(path) + SUFFIX, err);
    if ((save->path = cch_strndup(path, strlen(path))) == NULL)
        CCH_THROW(err, CCH_E_MEMORY, -1, "could not allocate the path %s", path);
    if ((save->fd = open_temporary(save)) < 0) {
        save->temp[0] = '\0';
        CCH_TRY(cch_fail_errno(err, __func__, path, errno));
    }
    if (lseek(save->fd, (off_t)header_bytes, SEEK_SET) < 0) CCH_TRY(cch_fail_errno(err, __func__, path, errno));
    return CCH_OK;
done:
    cch_filesave_end(save);
    return status;
}

static cch_status write_all(const cch_filesave *save, const void *data, size_t bytes, cch_error *err) {
    const char *src = data;
    while (bytes > 0) {
        const ssize_t n = write(save->fd, src, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cch_fail_errno(err, __func__, save->path, errno);
        src += n;
        bytes -= (size_t)n;
    }
    return CCH_OK;
}

static cch_status flush(cch_filesave *save, cch_error *err) {
    const size_t used = save->used;
    save->used = 0;
    return write_all(save, save->buffer, used, err);
}

cch_status cch_filesave_write(cch_filesave *save, const void *data, size_t bytes, cch_error *err) {
    cch_hash_update(&save->hash, data, bytes);
    save->written += bytes;
    if (save->used + bytes > BUFFER) CCH_RETURN_IF(flush(save, err));
    if (bytes > BUFFER) return write_all(save, data, bytes, err);
    if (bytes > 0) memcpy(save->buffer + save->used, data, bytes);
    save->used += bytes;
    return CCH_OK;
}

cch_status cch_filesave_align(cch_filesave *save, size_t bytes, cch_error *err) {
    static const char zeros[64];
    const size_t beyond = save->written % bytes;
    return beyond == 0 ? CCH_OK : cch_filesave_write(save, zeros, bytes - beyond, err);
}

void cch_filesave_digest(cch_filesave *save, uint8_t digest[CCH_HASH_BYTES]) {
    cch_hash_digest(&save->hash, digest);
    cch_hash_init(&save->hash);
}

/* The new name is on disk when the folder is.  A file system that cannot sync folders (EINVAL) needs no sync. */
static cch_status sync_folder(const cch_filesave *save, cch_error *err) {
    cch_status status = CCH_OK;
    const char *slash = strrchr(save->path, '/');
    char *folder = slash == NULL ? cch_strndup(".", 1) : cch_strndup(save->path, (size_t)(slash - save->path) + 1);
    if (folder == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate the folder of %s", save->path);
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) status = cch_fail_errno(err, __func__, folder, errno);
    if (fd >= 0) close(fd);
    cch_free(folder);
    return status;
}

cch_status cch_filesave_commit(cch_filesave *save, const void *header, size_t header_bytes, cch_error *err) {
    CCH_RETURN_IF(flush(save, err));
    if (lseek(save->fd, 0, SEEK_SET) < 0) return cch_fail_errno(err, __func__, save->path, errno);
    CCH_RETURN_IF(write_all(save, header, header_bytes, err));
    if (fsync(save->fd) != 0 || rename(save->temp, save->path) != 0)
        return cch_fail_errno(err, __func__, save->path, errno);
    save->temp[0] = '\0';
    return sync_folder(save, err);
}

void cch_filesave_end(cch_filesave *save) {
    if (save->fd >= 0) close(save->fd);
    if (save->temp != NULL && save->temp[0] != '\0') unlink(save->temp);
    cch_free(save->path);
    cch_free(save->temp);
    cch_free(save->buffer);
    *save = (cch_filesave){.fd = -1};
}
