/* The map from (prev, tokens) to pages. */
#include "check.h"
#include "kv/prefix.h"

enum { N = 3000 };
static cch_page pages[N];

static void number(cch_page *page, int32_t i) {
    *page = (cch_page){.n_tokens = CCH_PAGE_TOKENS, .prev = i % 2 ? &pages[i / 2] : NULL};
    for (int32_t k = 0; k < CCH_PAGE_TOKENS; k++) page->tokens[k] = i >> k;
}

static void fill(cch_prefix_map *map) {
    cch_error err;
    CHECK_OK(cch_prefix_init(map, &err), err);
    for (int32_t i = 0; i < N; i++) {
        number(&pages[i], i);
        cch_prefix_add(map, &pages[i]);
    }
}

TEST(pages_are_found_by_prev_and_all_tokens_through_growth_and_removal) {
    cch_prefix_map map;
    fill(&map);
    CHECK(map.n_buckets > 256);
    for (int32_t i = 0; i < N; i += 3) cch_prefix_remove(&map, &pages[i]);
    for (int32_t i = 0; i < N; i++) {
        cch_page *found = cch_prefix_find(&map, pages[i].prev, 0, pages[i].tokens);
        CHECK(found == (i % 3 == 0 ? NULL : &pages[i]));
        CHECK_EQ(pages[i].known, i % 3 != 0);
        CHECK(cch_prefix_find(&map, &pages[N - 1], 0, pages[i].tokens) == NULL || pages[i].prev == &pages[N - 1]);
    }
    CHECK(cch_prefix_find(&map, pages[2].prev, 1, pages[2].tokens) == NULL); /* another salt */
    int32_t tokens[CCH_PAGE_TOKENS];
    memcpy(tokens, pages[1].tokens, sizeof tokens);
    for (int i = 0; i < 100000; i++) { /* in every bucket, the one of the page too */
        tokens[15]++;
        CHECK(cch_prefix_find(&map, pages[1].prev, 0, tokens) == NULL);
    }
    cch_prefix_deinit(&map);
}

TEST(without_memory_to_grow_pages_are_still_found) {
    cch_prefix_map map;
    cch_error err;
    CHECK_OK(cch_prefix_init(&map, &err), err);
    for (int32_t i = 0; i < N; i++) {
        number(&pages[i], i);
        cch_fail_alloc(1);
        cch_prefix_add(&map, &pages[i]);
    }
    cch_fail_alloc(0);
    CHECK_EQ(map.n_buckets, 256);
    for (int32_t i = 0; i < N; i++) CHECK(cch_prefix_find(&map, pages[i].prev, 0, pages[i].tokens) == &pages[i]);
    cch_prefix_deinit(&map);
}

CHECK_MAIN()
