#include "base/filemap.h"

#include <sys/stat.h>

#include "base/alloc.h"
#include "check.h"
#include "tempdir.h"

static cch_error err;

TEST(a_file_is_its_bytes) {
    tempdir dir = tempdir_new();
    char path[400];
    unsigned char bytes[10000];
    cch_filemap map;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * i);
    tempdir_write(&dir, "data", bytes, sizeof bytes);
    CHECK_OK(cch_filemap_open(tempdir_path(&dir, "data", path), &map, &err), err);
    CHECK_EQ(map.size, sizeof bytes);
    CHECK(memcmp(map.data, bytes, sizeof bytes) == 0);
    cch_filemap_drop(&map, 0, sizeof bytes); /* dropped pages come back */
    cch_filemap_drop(&map, 5000, SIZE_MAX);
    cch_filemap_drop(&map, 5000, 1);
    CHECK(memcmp(map.data, bytes, sizeof bytes) == 0);
    cch_filemap_close(&map);
    CHECK(map.data == NULL && map.size == 0);
    cch_filemap_close(&map);
    tempdir_free(&dir);
}

TEST(an_empty_file_is_open_and_has_no_bytes) {
    tempdir dir = tempdir_new();
    char path[400];
    cch_filemap map;
    tempdir_write(&dir, "empty", "", 0);
    CHECK_OK(cch_filemap_open(tempdir_path(&dir, "empty", path), &map, &err), err);
    CHECK(map.data != NULL && map.size == 0);
    cch_filemap_drop(&map, 0, 0);
    cch_filemap_close(&map);
    tempdir_free(&dir);
}

TEST(what_is_no_readable_file_is_an_io_error_with_its_path) {
    tempdir dir = tempdir_new();
    char path[400];
    cch_filemap map = {NULL, 7};
    CHECK_STATUS(cch_filemap_open(tempdir_path(&dir, "none", path), &map, &err), CCH_E_IO, err, "none: No such file");
    CHECK(map.data == NULL && map.size == 0);
    CHECK_STATUS(cch_filemap_open(dir.path, &map, &err), CCH_E_IO, err, "is a folder");
    CHECK_STATUS(cch_filemap_open("", &map, &err), CCH_E_IO, err, "No such file");
    CHECK_EQ(mkfifo(tempdir_path(&dir, "pipe", path), 0600), 0);
    CHECK_STATUS(cch_filemap_open(path, &map, &err), CCH_E_IO, err, "is no regular file"); /* and does not hang */
    tempdir_unlink(&dir, "pipe");
    tempdir_write_text(&dir, "secret", "x");
    CHECK_EQ(chmod(tempdir_path(&dir, "secret", path), 0), 0);
    if (geteuid() != 0) CHECK_STATUS(cch_filemap_open(path, &map, &err), CCH_E_IO, err, "Permission denied");
    tempdir_free(&dir);
}

static cch_status read_and_free(const char *path) {
    char *text = NULL;
    size_t len = 0;
    cch_status status = cch_file_read(path, &text, &len, &err);
    if (status != CCH_OK && (text != NULL || len != 0)) status = CCH_E_INTERNAL;
    cch_free(text);
    return status;
}

TEST(a_copy_is_the_bytes_too) {
    tempdir dir = tempdir_new();
    char path[400], *text = NULL;
    size_t len = 9;
    tempdir_write(&dir, "data", "a\0b", 3);
    CHECK_OK(cch_file_read(tempdir_path(&dir, "data", path), &text, &len, &err), err);
    CHECK(len == 3 && memcmp(text, "a\0b", 3) == 0);
    cch_free(text);
    CHECK_OOM(read_and_free(path));
    tempdir_write(&dir, "data", "", 0);
    CHECK_OK(cch_file_read(path, &text, &len, &err), err);
    CHECK(len == 0 && text != NULL);
    cch_free(text);
    CHECK_STATUS(read_and_free(dir.path), CCH_E_IO, err, "is a folder");
    CHECK_STATUS(read_and_free("nowhere"), CCH_E_IO, err, "nowhere: No such file");
    CHECK_EQ(truncate(path, (off_t)CCH_FILE_MAX + 1), 0); /* sparse: refused before memory is asked for */
    CHECK_STATUS(read_and_free(path), CCH_E_FORMAT, err, "has 2147483648 bytes, allowed: at most 2147483647");
    tempdir_free(&dir);
}

/* The kernel gives its settings a size of one page and a few bytes: a file that ends before its size. */
TEST(a_file_that_got_shorter_is_an_io_error) {
    const char *path = "/sys/kernel/mm/transparent_hugepage/enabled";
    if (!cch_path_exists(path)) return;
    CHECK_STATUS(read_and_free(path), CCH_E_IO, err, "of 4096: it got shorter meanwhile");
}

static cch_status join_and_free(void) {
    char *path;
    cch_status status = cch_path_join("a", "b", &path, &err);
    cch_free(path);
    return status;
}

TEST(paths_are_joined_with_one_slash) {
    const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (int i = 0; i < 4; i++) {
        char *path = NULL;
        CHECK_OK(cch_path_join(cases[i][0], cases[i][1], &path, &err), err);
        CHECK(strcmp(path, cases[i][2]) == 0);
        cch_free(path);
    }
    CHECK_OOM(join_and_free());
}

TEST(existence_is_seen) {
    tempdir dir = tempdir_new();
    char path[400];
    CHECK(cch_path_exists(dir.path));
    CHECK(!cch_path_exists(tempdir_path(&dir, "x", path)) && !cch_path_is_file(path));
    tempdir_write_text(&dir, "x", "y");
    CHECK(cch_path_exists(path) && cch_path_is_file(path) && !cch_path_is_file(dir.path));
    tempdir_free(&dir);
}

CHECK_MAIN()
