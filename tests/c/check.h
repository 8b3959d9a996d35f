/* check - the C tests' harness: TEST(name) { CHECK(...); } and one CHECK_MAIN() per file.
 *
 * A test program runs all its tests, or those whose names contain its first argument.  After each test the core must
 * hold as many live bytes as before it.  CHECK_OOM(setup-free body) repeats a body while the n-th allocation fails.
 */
#ifndef CCH_TESTS_CHECK_H
#define CCH_TESTS_CHECK_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/cacher.h"

typedef struct check_test {
    const char *name;
    void (*run)(void);
    struct check_test *next;
} check_test;

static check_test *check_tests;
static int check_failures;

#define TEST(test_name)                                                                              \
    static void test_##test_name(void);                                                              \
    static check_test check_entry_##test_name = {#test_name, test_##test_name, NULL};                \
    __attribute__((constructor)) static void check_register_##test_name(void) {                      \
        check_test **at = &check_tests;                                                              \
        while (*at != NULL) at = &(*at)->next;                                                       \
        *at = &check_entry_##test_name;                                                              \
    }                                                                                                \
    static void test_##test_name(void)

#define CHECK(condition)                                                                             \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                  \
            check_failures++;                                                                        \
        }                                                                                            \
    } while (0)

#define CHECK_EQ(got, want)                                                                          \
    do {                                                                                             \
        long long got_ = (long long)(got), want_ = (long long)(want);                                \
        if (got_ != want_) {                                                                         \
            fprintf(stderr, "%s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__, #got, got_, want_); \
            check_failures++;                                                                        \
        }                                                                                            \
    } while (0)

/* The call's status, and a message that contains `words` (NULL: any). `err` must be the cch_error passed to it. */
#define CHECK_STATUS(call, want, err, words)                                                         \
    do {                                                                                             \
        memset(&(err), 0, sizeof(err));                                                              \
        cch_status status_ = (call);                                                                 \
        const char *words_ = (words);                                                                \
        if (status_ != (want) || (words_ != NULL && strstr((err).message, words_) == NULL)) {        \
            fprintf(stderr, "%s:%d: %s gave %s \"%s\", expected %s \"%s\"\n", __FILE__, __LINE__,    \
                    #call, cch_status_name(status_), (err).message, cch_status_name(want),           \
                    words_ ? words_ : "");                                                           \
            check_failures++;                                                                        \
        }                                                                                            \
    } while (0)
#define CHECK_OK(call, err) CHECK_STATUS(call, CCH_OK, err, NULL)

/* Repeats `call` (an expression giving a cch_status, cleaning up after itself on success too) with the n-th allocation
 * failing for n = 1, 2, ... until it succeeds; every failure must be CCH_E_MEMORY and leave no live bytes behind. */
#define CHECK_OOM(call)                                                                              \
    do {                                                                                             \
        for (int64_t n_ = 1;; n_++) {                                                                \
            size_t before_ = cch_live_bytes();                                                       \
            cch_fail_alloc(n_);                                                                      \
            cch_status status_ = (call);                                                             \
            cch_fail_alloc(0);                                                                       \
            if (cch_live_bytes() != before_) {                                                       \
                fprintf(stderr, "%s:%d: %zu bytes leaked when allocation %lld failed\n", __FILE__,   \
                        __LINE__, cch_live_bytes() - before_, (long long)n_);                        \
                check_failures++;                                                                    \
            }                                                                                        \
            if (status_ == CCH_OK) break;                                                            \
            CHECK_EQ(status_, CCH_E_MEMORY);                                                         \
            if (status_ != CCH_E_MEMORY) break;                                                      \
        }                                                                                            \
    } while (0)

#define CHECK_MAIN()                                                                                 \
    int main(int argc, char **argv) {                                                                \
        int passed = 0, failed = 0;                                                                  \
        for (check_test *t = check_tests; t != NULL; t = t->next) {                                  \
            if (argc > 1 && strstr(t->name, argv[1]) == NULL) continue;                              \
            size_t live = cch_live_bytes();                                                          \
            int before = check_failures;                                                             \
            t->run();                                                                                \
            if (cch_live_bytes() != live) {                                                          \
                fprintf(stderr, "%s: test %s leaks %lld bytes\n", __FILE__, t->name,                 \
                        (long long)cch_live_bytes() - (long long)live);                              \
                check_failures++;                                                                    \
            }                                                                                        \
            if (check_failures == before) passed++;                                                  \
            else failed++, fprintf(stderr, "%s: FAILED %s\n", __FILE__, t->name);                    \
        }                                                                                            \
        printf("%s: %d passed, %d failed\n", __FILE__, passed, failed);                              \
        return failed != 0;                                                                          \
    }

#endif
