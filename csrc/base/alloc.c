#include "base/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h> /* madvise */
#endif

/* In front of each block, one cache line: its size, so that freeing can count. */
#define HEADER 64
#define HUGE_PAGE ((uintptr_t)2 << 20)
#define BIG_BLOCK ((size_t)1 << 46) /* larger requests come from damaged sizes; malloc would refuse them anyway */

static atomic_size_t live_bytes;
static atomic_llong calls;
static atomic_llong fail_at; /* 0 = off, otherwise counts down to the call that fails */

static bool should_fail(void) {
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    if (atomic_load_explicit(&fail_at, memory_order_relaxed) == 0) return false;
    return atomic_fetch_sub(&fail_at, 1) == 1;
}

bool cch_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
bool cch_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

void *cch_alloc(size_t n, size_t size) {
    size_t bytes, total;
    if (!cch_mul(n, size, &bytes) || bytes > BIG_BLOCK || should_fail()) return NULL;
    total = (bytes + 2 * HEADER - 1) / HEADER * HEADER; /* aligned_alloc wants a multiple of the alignment */
    char *block = aligned_alloc(HEADER, total);
    if (block == NULL) return NULL;
    memcpy(block, &bytes, sizeof bytes);
    atomic_fetch_add_explicit(&live_bytes, bytes, memory_order_relaxed);
    return block + HEADER;
}

void *cch_zalloc(size_t n, size_t size) {
    void *ptr = cch_alloc(n, size);
    if (ptr != NULL) memset(ptr, 0, n * size);
    return ptr;
}

static size_t block_bytes(const void *ptr) {
    size_t bytes;
    memcpy(&bytes, (const char *)ptr - HEADER, sizeof bytes);
    return bytes;
}

void *cch_resize(void *ptr, size_t n, size_t size) {
    void *fresh = cch_alloc(n, size);
    if (fresh == NULL || ptr == NULL) return fresh;
    size_t old = block_bytes(ptr), wanted = n * size;
    memcpy(fresh, ptr, old < wanted ? old : wanted);
    cch_free(ptr);
    return fresh;
}

char *cch_strndup(const char *text, size_t len) {
    size_t bytes;
    char *copy = cch_add(len, 1, &bytes) ? cch_alloc(bytes, 1) : NULL;
    if (copy == NULL) return NULL;
    if (len > 0) memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

void cch_free(void *ptr) {
    if (ptr == NULL) return;
    atomic_fetch_sub_explicit(&live_bytes, block_bytes(ptr), memory_order_relaxed);
    free((char *)ptr - HEADER);
}

/* Whatever madvise answers: a system without such pages does as well. */
void cch_prefer_huge_pages(void *ptr, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    uintptr_t first = ((uintptr_t)ptr + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    uintptr_t last = ((uintptr_t)ptr + bytes) / HUGE_PAGE * HUGE_PAGE;
    if (first < last) (void)madvise((char *)ptr + (first - (uintptr_t)ptr), last - first, MADV_HUGEPAGE);
#else
    (void)ptr, (void)bytes;
#endif
}

size_t cch_live_bytes(void) { return atomic_load(&live_bytes); }

int64_t cch_fail_alloc(int64_t nth) {
    atomic_store(&fail_at, nth < 0 ? 0 : nth);
    return atomic_exchange(&calls, 0);
}
