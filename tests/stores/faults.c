/* Preloaded into a process to make its disk fail, and to write down what reached it in which order.
 *
 * CACHER_FAULTS names a folder.  While it holds an entry of one of these names, calls fail:
 *     full          write, pwrite to regular files: ENOSPC
 *     fsync-file    fsync of a regular file: EIO
 *     fsync-folder  fsync of a folder: EIO
 *     fdatasync     fdatasync, as databases call it: EIO
 * What happens to states is appended to its file "calls", a line each, with the last part of a path:
 *     write a.tmp, fsync a.tmp, rename a.tmp a.json, unlink a.json (only .json and .tmp), mkdir b, fsync b
 *     fdatasync entries    (only names that begin so)
 *     answer    the beginning of a success goes to a socket
 *     end       the end of a streamed body goes to a socket */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void path_of(const char *name, char path[512]) { snprintf(path, 512, "%s/%s", getenv("CACHER_FAULTS"), name); }

static bool failing(const char *name) {
    char path[512];
    path_of(name, path);
    return access(path, F_OK) == 0;
}

static void note(const char *verb, const char *name, const char *other) {
    char path[512], line[512];
    const char *gap = *name ? " " : "", *second = *other ? " " : "";
    int size = snprintf(line, sizeof line, "%s%s%.200s%s%.200s\n", verb, gap, name, second, other);
    path_of("calls", path);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return;
    (void)!syscall(SYS_write, fd, line, size);
    close(fd);
}

static mode_t kind(int fd) {
    struct stat there;
    return fstat(fd, &there) == 0 ? there.st_mode & S_IFMT : 0;
}

static const char *last(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* Whether a path is that of a state's file, or of what becomes one. */
static bool is_state(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot != NULL && (strcmp(dot, ".json") == 0 || strcmp(dot, ".tmp") == 0);
}

static bool name_of(int fd, char path[512]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, 511);
    if (len < 0) return false;
    path[len] = '\0';
    return true;
}

static void note_file(const char *verb, int fd) {
    char path[512];
    if (!name_of(fd, path)) return;
    if (kind(fd) == S_IFDIR || is_state(path)) note(verb, last(path), "");
}

static void note_answer(const char *data, size_t size) {
    if (size >= 10 && memcmp(data, "HTTP/1.1 2", 10) == 0) note("answer", "", "");
    if (size == 5 && memcmp(data, "0\r\n\r\n", 5) == 0) note("end", "", "");
}

int fsync(int fd) {
    note_file("fsync", fd);
    if (failing(kind(fd) == S_IFDIR ? "fsync-folder" : "fsync-file")) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    char path[512];
    if (name_of(fd, path) && strncmp(last(path), "entries", 7) == 0) note("fdatasync", last(path), "");
    if (failing("fdatasync")) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int rename(const char *from, const char *to) {
    note("rename", last(from), last(to));
    return (int)syscall(SYS_rename, from, to);
}

int unlink(const char *path) {
    if (is_state(path)) note("unlink", last(path), "");
    return (int)syscall(SYS_unlink, path);
}

int mkdir(const char *path, mode_t mode) {
    note("mkdir", last(path), "");
    return (int)syscall(SYS_mkdir, path, mode);
}

ssize_t write(int fd, const void *data, size_t size) {
    mode_t target = kind(fd);
    if (target == S_IFSOCK) note_answer(data, size);
    if (target == S_IFREG) {
        if (failing("full")) {
            errno = ENOSPC;
            return -1;
        }
        note_file("write", fd);
    }
    return syscall(SYS_write, fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
    for (int i = 0; i < n && kind(fd) == S_IFSOCK; i++) note_answer(parts[i].iov_base, parts[i].iov_len);
    return syscall(SYS_writev, fd, parts, n);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    if (kind(fd) == S_IFREG && failing("full")) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }
