/* Preloaded into a process to make its disk fail, and to write down what reached it in which order.
 *
 * CACHER_FAULTS names a folder.  While it holds an entry of one of these names, calls fail:
 *     full          write, pwrite to regular files: ENOSPC
 *     fsync-file    fsync of a regular file: EIO
 *     fsync-folder  fsync of a folder: EIO
 * Every fsync and rename is appended to its file "calls". */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void path_of(const char *name, char path[512]) { snprintf(path, 512, "%s/%s", getenv("CACHER_FAULTS"), name); }

static bool failing(const char *name) {
    char path[512];
    path_of(name, path);
    return access(path, F_OK) == 0;
}

static void note(const char *line) {
    char path[512];
    path_of("calls", path);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return;
    (void)!syscall(SYS_write, fd, line, strlen(line));
    close(fd);
}

static mode_t kind(int fd) {
    struct stat there;
    return fstat(fd, &there) == 0 ? there.st_mode & S_IFMT : 0;
}

int fsync(int fd) {
    bool folder = kind(fd) == S_IFDIR;
    note(folder ? "fsync folder\n" : "fsync file\n");
    if (failing(folder ? "fsync-folder" : "fsync-file")) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to) {
    note("rename\n");
    return (int)syscall(SYS_rename, from, to);
}

ssize_t write(int fd, const void *data, size_t size) {
    if (kind(fd) == S_IFREG && failing("full")) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    if (kind(fd) == S_IFREG && failing("full")) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }
