/* Any bytes as spm.model: opened or refused; what opens must encode and decode without harm, whatever its character map
 * leads to. */
#include <stdio.h>
#include <stdlib.h>   /* abort */
#include <string.h>
#include <sys/mman.h> /* memfd_create */
#include <unistd.h>

#include "tok/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(cch_tokenizer *tok) {
    static const char text[] = "Once  upon a\ttime, it's 12345\n\n\xC3\xA9\xE2\x96\x81\xE6\x97\xA5 e\xCC\x81 <|sys|>##"
                               "\xEF\xAC\x81nal AB \xF0\x9F\x99\x82\0 <s> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ";
    static const int choices[] = {0, CCH_ENCODE_PLAIN_SPECIALS, CCH_ENCODE_CONTINUES};
    int32_t *ids = NULL, chat[CCH_CHAT_TOKENS];
    char *whole = NULL;
    size_t n = 0, len = 0;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        if (cch_tokenizer_encode(tok, text, sizeof text - 1, choices[i], &ids, &n, NULL) != CCH_OK) abort();
        for (size_t k = 0; k < n; k++) {
            if (ids[k] < 0 || ids[k] >= cch_tokenizer_size(tok)) abort();
            for (int c = 0; choices[i] == CCH_ENCODE_PLAIN_SPECIALS && c < CCH_CHAT_TOKENS; c++)
                if (cch_tokenizer_chat_tokens(tok, chat) && ids[k] == chat[c]) abort();
        }
        if (cch_tokenizer_decode(tok, ids, n, i == 0, &whole, &len, NULL) != CCH_OK || whole[len] != '\0') abort();
        cch_free(whole);
        cch_free(ids);
    }
    int32_t every[300];
    for (int32_t i = 0; i < 300; i++) every[i] = i % cch_tokenizer_size(tok);
    if (cch_tokenizer_decode(tok, every, 300, false, &whole, &len, NULL) != CCH_OK) abort();
    cch_free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t before = cch_live_bytes();
    cch_tokenizer *tok = NULL;
    cch_error err;
    char path[64];
    int file = memfd_create("spm.model", 0);
    if (file < 0) return 0;
    if (write(file, data, size) == (ssize_t)size) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
        for (int chat = 0; chat < 2; chat++) {
            cch_status status = chat ? cch_tokenizer_open_chat(path, &tok, &err)
                                     : cch_tokenizer_open_pieces(path, &tok, &err);
            if (status == CCH_OK) use(tok);
            else if (tok != NULL || err.message[0] == '\0') abort();
            cch_tokenizer_unref(tok);
        }
    }
    close(file);
    if (cch_live_bytes() != before) abort();
    return 0;
}
