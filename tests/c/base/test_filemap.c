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
    CHECK(!cch_path_exists(tempdir_path(&dir, "x", path)));
    tempdir_free(&dir);
}

CHECK_MAIN()
