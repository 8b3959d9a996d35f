#include "io/zip.h"

#include "check.h"
#include "ptfile.h"

static cch_error err;
static ptfile f;

static void make(void) {
    memset(&f, 0, sizeof f);
    pt_entry(&f, "b", "bee", 3);
    pt_entry(&f, "a/long", "", 0);
    pt_entry(&f, "a", "ay", 2);
    pt_end(&f);
}

static cch_status open_close(const unsigned char *data, size_t size) {
    cch_zip zip;
    cch_status status = cch_zip_open(data, size, "z", &zip, &err);
    CHECK(status == CCH_OK || (zip.entries == NULL && zip.n == 0));
    cch_zip_close(&zip);
    return status;
}

static void refused(const char *words) {
    CHECK_STATUS(open_close(f.file, f.n_file), CCH_E_FORMAT, err, words);
}

/* The place of a header: which = 0 the first of the directory, 1 the end record. */
static unsigned char *header(int which) {
    size_t end = f.n_file - 22;
    return f.file + (which ? end : end - f.n_directory);
}

TEST(entries_are_found_by_name) {
    cch_zip zip;
    make();
    CHECK_OK(cch_zip_open(f.file, f.n_file, "z", &zip, &err), err);
    CHECK_EQ(zip.n, 3);
    const cch_zip_entry *b = cch_zip_find(&zip, "b", 1), *empty = cch_zip_find(&zip, "a/long", 6);
    CHECK(b != NULL && b->size == 3 && memcmp(b->data, "bee", 3) == 0);
    CHECK(empty != NULL && empty->size == 0);
    CHECK(cch_zip_find(&zip, "c", 1) == NULL && cch_zip_find(&zip, "a/lon", 5) == NULL);
    cch_zip_close(&zip);
    memset(&f, 0, sizeof f);
    pt_end(&f);
    CHECK_OK(open_close(f.file, f.n_file), err);
    CHECK_OOM((make(), open_close(f.file, f.n_file)));
}

TEST(a_comment_may_follow) {
    make();
    f.file[f.n_file - 2] = 5;
    memcpy(f.file + f.n_file, "hello", 5);
    f.n_file += 5;
    CHECK_OK(open_close(f.file, f.n_file), err);
    f.file[f.n_file - 7] = 6;
    refused("cut off");
}

TEST(every_number_is_checked) {
    make(), header(1)[10] = 4, refused("entries");
    make(), header(1)[10] = 1;
    CHECK_OK(open_close(f.file, f.n_file), err); /* fewer than there are */
    make(), header(1)[12] = 255, refused("directory");
    make(), header(1)[15] = 255, refused("directory");
    make(), header(1)[16]++, refused("directory");
    make(), header(1)[19] = 255, refused("directory");
    make(), header(0)[0] = 'Q', refused("begins no entry");
    make(), header(0)[28] = 255, refused("over its end");
    make(), header(0)[24] = 4, header(0)[20] = 4;
    CHECK_OK(open_close(f.file, f.n_file), err); /* reaches into the next entry: the file's bytes all the same */
    make(), header(0)[26] = header(0)[22] = 1, refused("the file ends");
    make(), header(0)[24] = 4, refused("stored as");
    make(), header(0)[42] = 1, refused("no header");
    make(), header(0)[45] = 255, refused("no header");
    make(), memset(header(0) + 42, 255, 4), refused("64-bit");
    make(), memset(header(0) + 20, 255, 8), refused("64-bit");
    make(), header(0)[46] = (unsigned char)(f.file[f.n_file - 23] = 'c'), refused("called c");
    make(), f.n_file = 3, refused("no ZIP");
    make(), f.n_file -= 1, refused("cut off");
}

TEST(what_is_not_supported_is_named) {
    make(), header(0)[10] = 8;
    CHECK_STATUS(open_close(f.file, f.n_file), CCH_E_UNSUPPORTED, err, "b is compressed");
    make(), header(0)[8] = 1;
    CHECK_STATUS(open_close(f.file, f.n_file), CCH_E_UNSUPPORTED, err, "b is encrypted");
    make(), header(1)[4] = 1;
    CHECK_STATUS(open_close(f.file, f.n_file), CCH_E_UNSUPPORTED, err, "several volumes");
}

CHECK_MAIN()
