/* Texts encoded, for tests to compare. */
#ifndef CCH_TESTS_IDS_H
#define CCH_TESTS_IDS_H

#include "check.h"

/* The ids of `text` as "1 2 3". */
static inline const char *ids_of(const cch_tokenizer *tok, const char *text, int flags) {
    static char shown[4096];
    static cch_error err;
    int32_t *ids = NULL;
    size_t n = 0, at = 0;
    shown[0] = '\0';
    if (cch_tokenizer_encode(tok, text, strlen(text), flags, &ids, &n, &err) != CCH_OK) return err.message;
    for (size_t i = 0; i < n && at < sizeof shown - 16; i++)
        at += (size_t)snprintf(shown + at, sizeof shown - at, i ? " %d" : "%d", ids[i]);
    cch_free(ids);
    return shown;
}

#define CHECK_IDS(tok, text, flags, want)                                                                  \
    do {                                                                                                   \
        const char *got_ = ids_of((tok), (text), (flags));                                                 \
        if (strcmp(got_, (want)) != 0) {                                                                   \
            fprintf(stderr, "%s:%d: \"%s\" gave %s, expected %s\n", __FILE__, __LINE__, (text), got_, (want)); \
            check_failures++;                                                                              \
        }                                                                                                  \
    } while (0)

#endif
