/* alloc - every allocation of the core.
 *
 * Counts live bytes, and can make the n-th allocation fail (tests sweep n = 1, 2, ... over an operation and check that
 * it fails cleanly and leaks nothing).  Blocks are 64-byte aligned, so that any of them may hold vectors.
 * Threads: all functions are safe from any thread; the failure switch is meant for single-threaded tests.
 */
#ifndef CCH_BASE_ALLOC_H
#define CCH_BASE_ALLOC_H

#include "base/status.h"

/* n * size bytes, uninitialised / zeroed; NULL when memory cannot be had or the product overflows. n * size == 0 gives
 * a valid pointer. */
void *cch_alloc(size_t n, size_t size);
void *cch_zalloc(size_t n, size_t size);
/* As realloc; on failure the old block stays. ptr may be NULL. */
void *cch_resize(void *ptr, size_t n, size_t size);
/* Copy of `len` bytes with a NUL behind them. */
char *cch_strndup(const char *text, size_t len);

/* A hint that [ptr, ptr + bytes) is worth pages of 2 MiB: streaming through them spares most address translations. */
void cch_prefer_huge_pages(void *ptr, size_t bytes);

/* *out = a * b / a + b; false when it overflows. */
bool cch_mul(size_t a, size_t b, size_t *out);
bool cch_add(size_t a, size_t b, size_t *out);

/* lhs = allocation of n elements of lhs's type, or jump to done with CCH_E_MEMORY. */
#define CCH_NEW(lhs, n, err)                                                                                        \
    do {                                                                                                            \
        (lhs) = cch_alloc((n), sizeof *(lhs));                                                                      \
        if ((lhs) == NULL)                                                                                          \
            CCH_THROW((err), CCH_E_MEMORY, -1, "could not allocate %zu x %zu bytes", (size_t)(n), sizeof *(lhs));   \
    } while (0)
#define CCH_ZNEW(lhs, n, err)                                                                                       \
    do {                                                                                                            \
        (lhs) = cch_zalloc((n), sizeof *(lhs));                                                                     \
        if ((lhs) == NULL)                                                                                          \
            CCH_THROW((err), CCH_E_MEMORY, -1, "could not allocate %zu x %zu bytes", (size_t)(n), sizeof *(lhs));   \
    } while (0)

#endif
