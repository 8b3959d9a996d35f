#include "base/strmap.h"

#include "base/alloc.h"
#include "check.h"

static cch_error err;

TEST(an_empty_map_finds_nothing) {
    cch_strmap map = {0};
    CHECK(!cch_strmap_find(&map, "a", 1, NULL));
    CHECK(!cch_strmap_find(&map, "", 0, NULL));
    cch_strmap_deinit(&map);
}

TEST(keys_are_bytes_with_a_length) {
    cch_strmap map = {0};
    const struct { const char *key; size_t len; } keys[] = {
        {"", 0}, {"\0", 1}, {"\0\0", 2}, {"a", 1}, {"a\0", 2}, {"a\0b", 3}, {"abcdefgh", 8}, {"abcdefgh\0", 9},
        {"abcdefgh\0\0", 10}, {"\xFF\xFE", 2}};
    const int n = sizeof keys / sizeof *keys;
    bool old = true;
    for (int i = 0; i < n; i++) {
        CHECK_OK(cch_strmap_put(&map, keys[i].key, keys[i].len, i * 10, &old, &err), err);
        CHECK(!old);
    }
    for (int i = 0; i < n; i++) {
        int32_t value = -1;
        size_t len = 0;
        CHECK(cch_strmap_find(&map, keys[i].key, keys[i].len, &value));
        CHECK_EQ(value, i * 10);
        const char *key = cch_strmap_key_view(&map, (size_t)i, &len, &value);
        CHECK(len == keys[i].len && memcmp(key, keys[i].key, len) == 0 && value == i * 10);
    }
    CHECK(!cch_strmap_find(&map, "abcdefg", 7, NULL));
    CHECK_OK(cch_strmap_put(&map, "a", 1, 99, &old, &err), err);
    int32_t value = 0;
    CHECK(old && cch_strmap_find(&map, "a", 1, &value) && value == 30);
    CHECK_EQ(map.n, n);
    cch_strmap_deinit(&map);
}

TEST(a_vocabulary_agrees_with_its_list) {
    enum { N = 150000 };
    cch_strmap map = {0};
    char key[32];
    int wrong = 0;
    CHECK_OK(cch_strmap_reserve(&map, N / 2, N * 4, &err), err);
    for (int i = 0; i < N; i++) {
        int len = snprintf(key, sizeof key, "t%d", i * 7);
        if (cch_strmap_put(&map, key, (size_t)len, i, NULL, &err) != CCH_OK) wrong++;
    }
    for (int i = 0; i < 7 * N; i++) {
        int32_t value = -1;
        int len = snprintf(key, sizeof key, "t%d", i);
        bool found = cch_strmap_find(&map, key, (size_t)len, &value);
        if (found != (i % 7 == 0) || (found && value != i / 7)) wrong++;
    }
    CHECK_EQ(wrong, 0);
    cch_strmap_deinit(&map);
}

TEST(reserve_allocates_ahead) {
    cch_strmap map = {0};
    CHECK_OK(cch_strmap_reserve(&map, 1000, 4000, &err), err);
    cch_fail_alloc(0);
    for (int i = 0; i < 1000; i++) CHECK_OK(cch_strmap_put(&map, (const char *)&i, sizeof i, i, NULL, &err), err);
    CHECK_EQ(cch_fail_alloc(0), 0);
    CHECK_STATUS(cch_strmap_reserve(&map, (size_t)1 << 31, 0, &err), CCH_E_ARGUMENT, err, "2147483648 keys");
    cch_strmap_deinit(&map);
}

static cch_status fill(void) {
    cch_strmap map = {0};
    cch_status status = CCH_OK;
    for (int i = 0; i < 60 && status == CCH_OK; i++) {
        size_t n = map.n;
        status = cch_strmap_put(&map, (const char *)&i, sizeof i, i, NULL, &err);
        if (status != CCH_OK) { /* the map is as it was and can go on */
            CHECK_EQ(map.n, n);
            for (int j = 0; j < i; j++) CHECK(cch_strmap_find(&map, (const char *)&j, sizeof j, NULL));
            CHECK_OK(cch_strmap_put(&map, (const char *)&i, sizeof i, i, NULL, &err), err);
        }
    }
    cch_strmap_deinit(&map);
    return status;
}

TEST(no_memory_leaves_the_map_as_it_was) { CHECK_OOM(fill()); }

CHECK_MAIN()
