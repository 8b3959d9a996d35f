/* tempdir - a folder for a test's files, removed with all that was written into it by tempdir_write. */
#ifndef CCH_TESTS_TEMPDIR_H
#define CCH_TESTS_TEMPDIR_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct tempdir {
    char path[256];
    char names[16][64];
    int n;
} tempdir;

static inline tempdir tempdir_new(void) {
    tempdir dir = {.n = 0};
    const char *parent = getenv("TMPDIR");
    snprintf(dir.path, sizeof dir.path, "%s/cacher-test-XXXXXX", parent != NULL ? parent : P_tmpdir);
    if (mkdtemp(dir.path) == NULL) perror(dir.path), exit(1);
    return dir;
}

/* <folder>/<name> in a buffer of the caller's. */
static inline const char *tempdir_path(const tempdir *dir, const char *name, char dst[400]) {
    snprintf(dst, 400, "%s/%s", dir->path, name);
    return dst;
}

/* A file that is there is replaced by a new one: ext4 waits for the disk when one that was emptied is closed. */
static inline void tempdir_write(tempdir *dir, const char *name, const void *data, size_t size) {
    char path[400];
    unlink(tempdir_path(dir, name, path));
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) perror(path), exit(1);
    for (int i = 0; i < dir->n; i++) if (strcmp(dir->names[i], name) == 0) return;
    if (dir->n == 16) fprintf(stderr, "a tempdir holds at most 16 files\n"), exit(1);
    snprintf(dir->names[dir->n++], sizeof dir->names[0], "%s", name);
}

static inline void tempdir_write_text(tempdir *dir, const char *name, const char *text) {
    tempdir_write(dir, name, text, strlen(text));
}

/* Forgets one file (it may be gone already). */
static inline void tempdir_unlink(tempdir *dir, const char *name) {
    char path[400];
    unlink(tempdir_path(dir, name, path));
}

static inline void tempdir_free(tempdir *dir) {
    for (int i = 0; i < dir->n; i++) tempdir_unlink(dir, dir->names[i]);
    if (rmdir(dir->path) != 0) perror(dir->path), exit(1);
}

#endif
