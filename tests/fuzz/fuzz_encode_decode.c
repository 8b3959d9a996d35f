/* Any bytes as text, and any ids, through three tokenizers: byte-level with all 256 bytes and the pattern of GPT-2; one
 * with NFC, Llama-3's pattern and added tokens of every flag, and a SentencePiece-style one.
 *
 * The first byte chooses the tokenizer and the flags.  Checked: text is UTF-8 or refused; ids are in range; byte-level
 * decoding gives the text back; a stream gives the same text as the whole, and one primed with half of the ids gives
 * the rest of it; a second call (now from the word cache) gives the same ids. */
#include <stdio.h>
#include <stdlib.h> /* abort */
#include <string.h>

#include "base/utf8.h"
#include "../c/tok/tokfile.h"
#include "include/cacher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static cch_tokenizer *tokenizers[3];

#define LLAMA3                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| " \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*"                                              \
    "|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

/* A byte-level tokenizer.json: all bytes and some merges, with `rest` behind the model. */
static cch_tokenizer *byte_level(const char *rest) {
    static const char *const merges[][2] = {
        {"a",        "a"       },
        {"aa",       "aa"      },
        {"\xC4\xA0", "a"       },
        {"t",        "h"       },
        {"th",       "e"       },
        {"\xC4\xA0", "the"     },
        {"1",        "2"       },
        {"\xC3\x83", "\xC2\xA9"},
        {"\xC4\x8A", "\xC4\x8A"}
    };
    const size_t n_merges = sizeof merges / sizeof merges[0], cap = 1 << 16;
    char *text = malloc(cap);
    cch_tokenizer *tok = NULL;
    size_t n = 0;
    if (text == NULL) abort();
    n += (size_t)snprintf(text + n, cap - n, "{\"model\": {\"type\": \"BPE\", \"vocab\": {");
    for (int b = 0; b < 256; b++) {
        char utf8[5] = {0};
        bool prints = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
        uint32_t c = prints      ? (uint32_t)b
                     : b <= 0x20 ? 0x100u + (unsigned)b
                     : b == 0xAD ? 0x143u
                                 : 0x121u + (unsigned)b - 0x7F;
        cch_utf8_encode(c, utf8);
        n += (size_t)snprintf(text + n, cap - n, "\"%s%s\": %d, ", c == '"' || c == '\\' ? "\\" : "", utf8, b);
    }
    for (size_t i = 0; i < n_merges; i++)
        n += (size_t)snprintf(text + n, cap - n, "\"%s%s\": %zu%s", merges[i][0], merges[i][1], 300 + i,
                              i + 1 < n_merges ? ", " : "}, \"merges\": [");
    for (size_t i = 0; i < n_merges; i++)
        n += (size_t)snprintf(text + n, cap - n, "\"%s %s\"%s", merges[i][0], merges[i][1],
                              i + 1 < n_merges ? ", " : "]}");
    snprintf(text + n, cap - n, ", \"decoder\": {\"type\": \"ByteLevel\"}%s}", rest);
    cch_error err;
    if (tokfile_open(text, &tok, &err) != CCH_OK) fprintf(stderr, "%s\n", err.message), abort();
    free(text);
    return tok;
}

static void open_tokenizers(void) {
    cch_error err;
    tokenizers[0] = byte_level(", \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}");
    tokenizers[1] = byte_level(", \"normalizer\": {\"type\": \"NFC\"}, \"pre_tokenizer\": {\"type\": \"Sequence\", "
                               "\"pretokenizers\": [{\"type\": \"Split\","
                               " \"pattern\": {\"Regex\": \"" LLAMA3
                               "\"}, \"behavior\": \"Isolated\"}, {\"type\": \"ByteLevel\", \"use_regex\": false}]},"
                               " \"added_tokens\": [{\"id\": 265, \"content\": \"<a>\", \"special\": true},"
                               " {\"id\": 266, \"content\": \"<a><b>\", \"lstrip\": true, \"rstrip\": true},"
                               " {\"id\": 267, \"content\": \"ab\", \"single_word\": true}, {\"id\": 268, \"content\": "
                               "\"e\xCC\x81\", \"normalized\": true}]");
    if (tokfile_open(TOKFILE_PIECES, &tokenizers[2], &err) != CCH_OK) abort();
}

/* The text of ids, checked against the stream. */
static char *decode(cch_tokenizer *tok, const int32_t *ids, size_t n, bool skip, size_t *out_len) {
    char *text = NULL;
    const char *piece;
    size_t len, at = 0;
    cch_decoder *dec = NULL;
    if (cch_tokenizer_decode(tok, ids, n, skip, &text, out_len, NULL) != CCH_OK) return NULL; /* an id that is a hole */
    if (cch_utf8_valid_prefix(text, *out_len) != *out_len) abort();
    if (cch_decoder_new(tok, skip, &dec, NULL) != CCH_OK) abort();
    for (size_t i = 0; i <= n; i++) {
        if ((i < n ? cch_decoder_push(dec, ids[i], &piece, &len, NULL) : cch_decoder_finish(dec, &piece, &len, NULL)) !=
            CCH_OK)
            abort();
        if (len > *out_len - at || memcmp(text + at, piece, len) != 0) abort();
        at += len;
    }
    if (at != *out_len) abort();
    cch_decoder_free(dec);
    return text;
}

/* Decoding that goes on from the first ids gives the text that they lack, where all of it is characters. */
static void go_on(cch_tokenizer *tok, const int32_t *ids, size_t n, const char *text, size_t len) {
    size_t half = n / 2, at = 0, piece_len;
    char *begin = decode(tok, ids, half, false, &at);
    const char *piece;
    cch_decoder *dec = NULL;
    bool whole = memmem(text, len, "\xEF\xBF\xBD", 3) == NULL && memmem(begin, at, "\xEF\xBF\xBD", 3) == NULL;
    if (cch_decoder_new(tok, false, &dec, NULL) != CCH_OK || cch_decoder_prime(dec, ids, half, NULL) != CCH_OK) abort();
    for (size_t i = half; i <= n; i++) {
        if ((i < n ? cch_decoder_push(dec, ids[i], &piece, &piece_len, NULL)
                   : cch_decoder_finish(dec, &piece, &piece_len, NULL)) != CCH_OK)
            abort();
        if (cch_utf8_valid_prefix(piece, piece_len) != piece_len) abort();
        if (whole && (piece_len > len - at || memcmp(text + at, piece, piece_len) != 0)) abort();
        at += piece_len;
    }
    if (whole && at != len) abort();
    cch_decoder_free(dec);
    cch_free(begin);
}

static void encode(cch_tokenizer *tok, const char *text, size_t size, int flags, bool gives_back) {
    int32_t *ids = NULL, *again = NULL;
    size_t n = 0, n_again = 0, len = 0;
    cch_error err;
    cch_status status = cch_tokenizer_encode(tok, text, size, flags, &ids, &n, &err);
    if (cch_utf8_valid_prefix(text, size) != size) {
        if (status != CCH_E_ENCODING || (size_t)err.position != cch_utf8_valid_prefix(text, size)) abort();
        return;
    }
    if (status != CCH_OK || cch_tokenizer_encode(tok, text, size, flags, &again, &n_again, NULL) != CCH_OK) abort();
    if (n != n_again || (n > 0 && memcmp(ids, again, n * sizeof *ids) != 0)) abort();
    char *back = decode(tok, ids, n, false, &len);
    if (back == NULL || (gives_back && (len != size || memcmp(back, text, len) != 0))) abort();
    go_on(tok, ids, n, back, len);
    cch_free(back);
    cch_free(ids);
    cch_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (tokenizers[0] == NULL) open_tokenizers();
    if (size == 0) return 0;
    int which = data[0] % 3;
    cch_tokenizer *tok = tokenizers[which];
    encode(tok, (const char *)data + 1, size - 1, data[0] >> 2 & 7, which == 0);
    int32_t ids[64];
    size_t n = size - 1 < 64 ? size - 1 : 64, len;
    for (size_t i = 0; i < n; i++) ids[i] = (data[1 + i] * 5 + data[0]) % cch_tokenizer_size(tok);
    cch_free(decode(tok, ids, n, data[0] >> 5 & 1, &len));
    return 0;
}
