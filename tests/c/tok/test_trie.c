/* All keys are found, and nothing else is. */
#include "tok/trie.h"

#include "check.h"

static cch_error err;

static int32_t find(const cch_trie *trie, const char *text, size_t len) {
    uint32_t node = 0;
    for (size_t i = 0; i < len && node != CCH_TRIE_NONE; i++) node = cch_trie_child(trie, node, (uint8_t)text[i]);
    return node == CCH_TRIE_NONE ? -2 : trie->nodes[node].id;
}

static cch_status build(cch_trie *trie, cch_error *e) {
    cch_trie_key keys[] = {{"b", 1, 0}, {"abc", 3, 1}, {"a\0z", 3, 2}, {"a", 1, 3}, {"\xFF\xFE", 2, 4}, {"", 0, 5}};
    *trie = (cch_trie){0};
    cch_status status = cch_trie_build(trie, keys, sizeof keys / sizeof *keys, e);
    if (status != CCH_OK) cch_trie_deinit(trie);
    return status;
}

TEST(keys_are_found) {
    cch_trie trie;
    CHECK_OK(build(&trie, &err), err);
    CHECK_EQ(find(&trie, "", 0), 5);
    CHECK_EQ(find(&trie, "b", 1), 0);
    CHECK_EQ(find(&trie, "abc", 3), 1);
    CHECK_EQ(find(&trie, "a\0z", 3), 2);
    CHECK_EQ(find(&trie, "a", 1), 3);
    CHECK_EQ(find(&trie, "\xFF\xFE", 2), 4);
    CHECK_EQ(find(&trie, "ab", 2), -1); /* a way, but no key */
    CHECK_EQ(find(&trie, "ac", 2), -2);
    CHECK_EQ(find(&trie, "abcd", 4), -2);
    CHECK_EQ(trie.n_nodes, 9);
    cch_trie_deinit(&trie);
}

TEST(all_bytes_are_children) {
    cch_trie trie = {0};
    char text[256];
    cch_trie_key keys[256];
    for (int i = 0; i < 256; i++) {
        text[i] = (char)i;
        keys[i] = (cch_trie_key){text + i, 1, i};
    }
    CHECK_OK(cch_trie_build(&trie, keys, 256, &err), err);
    CHECK_EQ(trie.nodes[0].n, 256);
    for (int i = 0; i < 256; i++) CHECK_EQ(find(&trie, text + i, 1), i);
    cch_trie_deinit(&trie);
}

TEST(no_keys) {
    cch_trie trie = {0};
    CHECK_OK(cch_trie_build(&trie, NULL, 0, &err), err);
    CHECK_EQ(find(&trie, "a", 1), -2);
    CHECK_EQ(find(&trie, "", 0), -1);
    cch_trie_deinit(&trie);
}

static cch_status build_and_free(void) {
    cch_trie trie;
    CCH_RETURN_IF(build(&trie, NULL));
    cch_trie_deinit(&trie);
    return CCH_OK;
}

TEST(memory_runs_out) { CHECK_OOM(build_and_free()); }

CHECK_MAIN()
