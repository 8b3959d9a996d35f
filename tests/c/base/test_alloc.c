#include "base/alloc.h"

#include "check.h"

TEST(blocks_are_aligned_counted_and_given_back) {
    size_t before = cch_live_bytes();
    for (size_t n = 0; n < 300; n += 7) {
        char *block = cch_alloc(n, 3);
        CHECK(block != NULL && (uintptr_t)block % 64 == 0);
        CHECK_EQ(cch_live_bytes() - before, 3 * n);
        if (n > 0) memset(block, 1, 3 * n);
        cch_free(block);
        CHECK_EQ(cch_live_bytes(), before);
    }
    cch_free(NULL);
}

TEST(zalloc_zeroes_and_resize_keeps) {
    unsigned char *block = cch_zalloc(100, 1);
    for (int i = 0; i < 100; i++) CHECK_EQ(block[i], 0);
    memset(block, 7, 100);
    block = cch_resize(block, 1000, 1);
    for (int i = 0; i < 100; i++) CHECK_EQ(block[i], 7);
    block = cch_resize(block, 10, 1);
    CHECK_EQ(block[9], 7);
    cch_free(block);
    block = cch_resize(NULL, 5, 2);
    CHECK(block != NULL);
    cch_free(block);
}

TEST(absurd_sizes_are_refused) {
    CHECK(cch_alloc(SIZE_MAX, 2) == NULL);
    CHECK(cch_alloc(SIZE_MAX / 2, 2) == NULL);
    CHECK(cch_zalloc((size_t)1 << 60, 1) == NULL);
    CHECK(cch_strndup("x", SIZE_MAX) == NULL);
}

TEST(a_failed_resize_keeps_the_block) {
    char *block = cch_strndup("hello", 5);
    cch_fail_alloc(1);
    CHECK(cch_resize(block, 100, 1) == NULL);
    CHECK(strcmp(block, "hello") == 0);
    cch_free(block);
}

TEST(the_nth_allocation_fails_once) {
    cch_fail_alloc(3);
    void *blocks[5];
    for (int i = 0; i < 5; i++) blocks[i] = cch_alloc(1, 1);
    for (int i = 0; i < 5; i++) CHECK_EQ(blocks[i] == NULL, i == 2);
    for (int i = 0; i < 5; i++) cch_free(blocks[i]);
    CHECK_EQ(cch_fail_alloc(0), 5);
    CHECK_EQ(cch_fail_alloc(0), 0);
}

TEST(sums_and_products_are_checked) {
    size_t out;
    CHECK(cch_mul(3, 4, &out) && out == 12);
    CHECK(!cch_mul(SIZE_MAX, 2, &out));
    CHECK(cch_add(3, 4, &out) && out == 7);
    CHECK(!cch_add(SIZE_MAX, 1, &out));
}

TEST(strndup_ends_with_nul_and_may_hold_one) {
    char *copy = cch_strndup("a\0bc", 3);
    CHECK(memcmp(copy, "a\0b", 4) == 0);
    cch_free(copy);
    copy = cch_strndup(NULL, 0);
    CHECK(copy[0] == '\0');
    cch_free(copy);
}

CHECK_MAIN()
