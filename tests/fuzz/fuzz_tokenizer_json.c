/* Any bytes as tokenizer.json: opened or refused; what opens must encode and decode without harm. */
#include <stdio.h>
#include <stdlib.h>   /* abort */
#include <string.h>
#include <sys/mman.h> /* memfd_create */
#include <unistd.h>

#include "include/cacher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(cch_tokenizer *tok) {
    static const char text[] =
        "Once upon a time, it's  12345\n\n\xC3\xA9\xE2\x96\x81\xE6\x97\xA5 e\xCC\x81 <s>[A] \xF0\x9F\x99\x82";
    int32_t *ids = NULL;
    char *whole = NULL;
    size_t n = 0, len = 0;
    for (int flags = 0; flags < 4; flags++) {
        if (cch_tokenizer_encode(tok, text, sizeof text - 1, flags, &ids, &n, NULL) != CCH_OK) abort();
        for (size_t i = 0; i < n; i++)
            if (ids[i] < 0 || ids[i] >= cch_tokenizer_size(tok)) abort();
        if (cch_tokenizer_decode(tok, ids, n, flags & 1, &whole, &len, NULL) != CCH_OK) abort();
        if (whole[len] != '\0') abort();
        cch_free(whole);
        cch_free(ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t before = cch_live_bytes();
    cch_tokenizer *tok = NULL;
    cch_error err;
    char path[64];
    int file = memfd_create("tokenizer.json", 0);
    if (file < 0) return 0;
    if (write(file, data, size) == (ssize_t)size) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
        if (cch_tokenizer_open(path, &tok, &err) == CCH_OK) use(tok);
        else if (tok != NULL || err.message[0] == '\0') abort();
        cch_tokenizer_unref(tok);
    }
    close(file);
    if (cch_live_bytes() != before) abort();
    return 0;
}
