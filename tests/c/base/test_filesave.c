/* A saved file is there whole or not at all. */
#include "check.h"
#include "tempdir.h"

#include <dirent.h>
#include <sys/stat.h>

#include "base/filemap.h"
#include "base/filesave.h"

static int files_in(const char *folder) {
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* "HEAD", then `n` bytes in pieces, aligned to 64. */
static cch_status save(const char *path, size_t n, bool commit, cch_error *err) {
    cch_filesave file;
    char *bytes = malloc(n + 1);
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(i * 7);
    cch_status status = cch_filesave_begin(&file, path, 4, err);
    if (status == CCH_OK) {
        status = cch_filesave_write(&file, bytes, n / 3, err);
        if (status == CCH_OK) status = cch_filesave_write(&file, bytes + n / 3, n - n / 3, err);
        if (status == CCH_OK) status = cch_filesave_align(&file, 64, err);
        if (status == CCH_OK && commit) status = cch_filesave_commit(&file, "HEAD", 4, err);
        cch_filesave_end(&file);
    }
    free(bytes);
    return status;
}

TEST(what_was_written_is_there_behind_the_header) {
    const size_t sizes[] = {0, 1, 60, 61, 65535, 65536, 300000};
    tempdir dir = tempdir_new();
    char path[400];
    cch_error err;
    tempdir_write_text(&dir, "file", "old");
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
        cch_filemap map;
        CHECK_OK(save(tempdir_path(&dir, "file", path), sizes[c], true, &err), err);
        CHECK_OK(cch_filemap_open(path, &map, &err), err);
        CHECK_EQ(map.size, sizes[c] == 0 ? 64 : (4 + sizes[c] + 63) / 64 * 64);
        CHECK(memcmp(map.data, "HEAD", 4) == 0);
        for (size_t i = 0; i < sizes[c]; i++)
            if (map.data[4 + i] != (unsigned char)(i * 7)) CHECK(false);
        cch_filemap_close(&map);
    }
    CHECK_EQ(files_in(dir.path), 1);
    tempdir_free(&dir);
}

TEST(without_a_commit_the_old_file_stays) {
    tempdir dir = tempdir_new();
    char path[400], *bytes = NULL;
    size_t n;
    cch_error err;
    tempdir_write_text(&dir, "file", "old");
    CHECK_OK(save(tempdir_path(&dir, "file", path), 1000, false, &err), err);
    CHECK_OK(cch_file_read(path, &bytes, &n, &err), err);
    CHECK(n == 3 && memcmp(bytes, "old", 3) == 0 && files_in(dir.path) == 1);
    cch_free(bytes);
    tempdir_free(&dir);
}

TEST(a_digest_is_that_of_what_follows_the_header_or_the_last_one) {
    static const char *const pieces[] = {"abc", "defg"};
    tempdir dir = tempdir_new();
    char path[400];
    uint8_t digest[CCH_HASH_BYTES], want[CCH_HASH_BYTES];
    cch_filesave file;
    cch_error err;
    CHECK_OK(cch_filesave_begin(&file, tempdir_path(&dir, "file", path), 4, &err), err);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(cch_filesave_write(&file, pieces[i], strlen(pieces[i]), &err), err);
        cch_filesave_digest(&file, digest);
        cch_hash_of(pieces[i], strlen(pieces[i]), want);
        CHECK(memcmp(digest, want, sizeof want) == 0);
    }
    cch_filesave_end(&file);
    tempdir_free(&dir);
}

TEST(a_file_gets_the_rights_of_the_umask) {
    tempdir dir = tempdir_new();
    char path[400];
    struct stat info;
    cch_error err;
    const mode_t before = umask(027);
    CHECK_OK(save(tempdir_path(&dir, "file", path), 10, true, &err), err);
    umask(before);
    CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0640);
    unlink(path);
    tempdir_free(&dir);
}

TEST(what_cannot_be_written_says_why) {
    tempdir dir = tempdir_new();
    char path[400];
    cch_error err;
    CHECK_STATUS(save(tempdir_path(&dir, "no/such", path), 10, true, &err), CCH_E_IO, err, "No such file");
    CHECK_STATUS(save("/dev/full/x", 10, true, &err), CCH_E_IO, err, "/dev/full/x");
    CHECK_STATUS(save(dir.path, 10, true, &err), CCH_E_IO, err, dir.path); /* a folder keeps its name */
    CHECK_EQ(files_in(dir.path), 0);
    tempdir_free(&dir);
}

TEST(nothing_leaks_or_is_left_when_memory_runs_out) {
    tempdir dir = tempdir_new();
    char path[400];
    CHECK_OOM(save(tempdir_path(&dir, "file", path), 100, true, NULL));
    CHECK_EQ(files_in(dir.path), 1);
    unlink(path);
    tempdir_free(&dir);
}

CHECK_MAIN()
