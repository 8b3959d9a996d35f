/* json-c allocates by itself, so base/alloc's switch does not reach it: here malloc itself fails at the n-th call.
 * Left out under sanitizers, which replace malloc, too. */
#include "io/json.h"

#include "check.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *ptr, size_t size);
CCH_API void *malloc(size_t size);
CCH_API void *calloc(size_t n, size_t size);
CCH_API void *realloc(void *ptr, size_t size);

static long countdown; /* 0: never fail */

static bool fails(void) { return countdown > 0 && --countdown == 0; }
void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *ptr, size_t size) { return fails() ? NULL : __libc_realloc(ptr, size); }

static void sweep(const char *text) {
    cch_error err;
    int failures = 0;
    for (long n = 1; n < 100000; n++) {
        cch_json_doc *doc = NULL;
        countdown = n;
        cch_status status = cch_json_parse(text, strlen(text), "t", 8, &doc, &err);
        bool unused = countdown > 0;
        countdown = 0;
        CHECK(status == CCH_OK || status == CCH_E_MEMORY);
        CHECK_EQ(status == CCH_OK, doc != NULL);
        failures += status == CCH_E_MEMORY;
        cch_json_close(doc);
        if (unused) break;
    }
    CHECK(failures > 0);
}

TEST(no_failing_malloc_gives_a_tree_with_holes) {
    sweep("7");
    sweep("\"a string that is longer than the thirty-two bytes which json-c keeps inside of its parser, by far\"");
    sweep("{\"k\":{\"a key that is longer than the thirty-two bytes which the parser keeps\":"
          "[1,2.5,\"x\",null,true]}}");
    sweep("[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36]");
    char text[2000] = "{\"key0\":0";
    for (int i = 1; i < 60; i++) snprintf(text + strlen(text), 32, ",\"key%d\":\"%d\"", i, i);
    sweep(strcat(text, "}"));
}

#endif

CHECK_MAIN()
