#include "kv/prefix.h"

#include <string.h>

#define FIRST_BUCKETS 256

static size_t hash(const cch_page *prev, uint64_t salt, const int32_t *tokens) {
    uint64_t h = ((uint64_t)(uintptr_t)prev ^ salt) * 0x9e3779b97f4a7c15u;
    for (int i = 0; i < CCH_PAGE_TOKENS; i++) {
        h = (h ^ (uint32_t)tokens[i]) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return (size_t)h;
}

static cch_page **bucket(const cch_prefix_map *map, const cch_page *prev, uint64_t salt, const int32_t *tokens) {
    return &map->buckets[hash(prev, salt, tokens) & (map->n_buckets - 1)];
}

cch_status cch_prefix_init(cch_prefix_map *map, cch_error *err) {
    cch_status status = CCH_OK;
    *map = (cch_prefix_map){NULL, FIRST_BUCKETS, 0};
    CCH_ZNEW(map->buckets, FIRST_BUCKETS, err);
done:
    return status;
}

void cch_prefix_deinit(cch_prefix_map *map) {
    cch_free(map->buckets);
    map->buckets = NULL;
}

static bool equal(const cch_page *page, const cch_page *prev, uint64_t salt, const int32_t *tokens) {
    return page->prev == prev && page->salt == salt && memcmp(page->tokens, tokens, sizeof page->tokens) == 0;
}

cch_page *cch_prefix_find(const cch_prefix_map *map, const cch_page *prev, uint64_t salt, const int32_t *tokens) {
    for (cch_page *page = *bucket(map, prev, salt, tokens); page != NULL; page = page->map_next)
        if (equal(page, prev, salt, tokens)) return page;
    return NULL;
}

static void link_page(cch_prefix_map *map, cch_page *page) {
    cch_page **at = bucket(map, page->prev, page->salt, page->tokens);
    page->map_next = *at;
    *at = page;
}

static void grow(cch_prefix_map *map) {
    cch_prefix_map wider = {cch_zalloc(map->n_buckets * 2, sizeof *wider.buckets), map->n_buckets * 2, map->n_pages};
    if (wider.buckets == NULL) return;
    for (size_t i = 0; i < map->n_buckets; i++) {
        for (cch_page *page = map->buckets[i], *next; page != NULL; page = next) {
            next = page->map_next;
            link_page(&wider, page);
        }
    }
    cch_free(map->buckets);
    *map = wider;
}

void cch_prefix_add(cch_prefix_map *map, cch_page *page) {
    if (map->n_pages >= map->n_buckets) grow(map);
    link_page(map, page);
    map->n_pages++;
    page->known = true;
}

void cch_prefix_remove(cch_prefix_map *map, cch_page *page) {
    cch_page **at = bucket(map, page->prev, page->salt, page->tokens);
    while (*at != page) at = &(*at)->map_next;
    *at = page->map_next;
    page->map_next = NULL;
    page->known = false;
    map->n_pages--;
}
