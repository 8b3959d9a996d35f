/* spm.model: what is read from it, what it encodes and decodes to, and every way it can be wrong. */
#include "check.h"
#include "tok/charmapfile.h"
#include "tok/ids.h"
#include "tok/tokenizer.h"

static cch_error err;
static pieces file;

#define SP "\xE2\x96\x81"

static void check_text(cch_tokenizer *tok, bool skip_special, const char *want, const int32_t *ids, size_t n) {
    char *text = NULL, streamed[200];
    const char *piece;
    size_t len = 0, at = 0;
    cch_decoder *dec = NULL;
    CHECK_OK(cch_tokenizer_decode(tok, ids, n, skip_special, &text, &len, &err), err);
    if (text == NULL || len != strlen(want) || memcmp(text, want, len) != 0) {
        fprintf(stderr, "decoded \"%s\", expected \"%s\"\n", text, want);
        check_failures++;
    }
    CHECK_OK(cch_decoder_new(tok, skip_special, &dec, &err), err);
    for (size_t i = 0; i <= n; i++) {
        if (i < n) CHECK_OK(cch_decoder_push(dec, ids[i], &piece, &len, &err), err);
        else CHECK_OK(cch_decoder_finish(dec, &piece, &len, &err), err);
        memcpy(streamed + at, piece, len);
        at += len;
    }
    streamed[at] = '\0';
    CHECK(text != NULL && strcmp(streamed, text) == 0);
    cch_decoder_free(dec);
    cch_free(text);
}

#define TEXT(tok, want, ...)                                                                        \
    check_text((tok), false, (want), (int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

TEST(a_chat_model) {
    cch_tokenizer *tok = NULL;
    size_t len;
    file.n = 0;
    put_chat_model(&file);
    CHECK_OK(pieces_open(&file, &tok, &err), err);
    CHECK_EQ(cch_tokenizer_get_kind(tok), CCH_TOKENIZER_UNIGRAM);
    CHECK_EQ(cch_tokenizer_size(tok), 268);
    CHECK_EQ(cch_tokenizer_find(tok, SP "a", 4), 267);
    CHECK(memcmp(cch_tokenizer_token_view(tok, 7 + 0xAB, &len), "<0xAB>", 6) == 0);
    for (int32_t id = 0; id < 268; id++) CHECK_EQ(cch_tokenizer_is_special(tok, id), id < 7);
    CHECK_IDS(tok, "ab  a", 0, "266 267");
    CHECK_IDS(tok, " ab", CCH_ENCODE_CONTINUES, "263 266");
    CHECK_IDS(tok, "a", CCH_ENCODE_ADD_SPECIALS, "264");
    CHECK_IDS(tok, "\xC3\xA9", 0, "202 176");
    CHECK_IDS(tok, "a<|ngpt_eot_84a5023f67d74cf29cc4001becde983c|>b", 0, "264 6 265");
    const char *plain = ids_of(tok, "<|ngpt_eot_84a5023f67d74cf29cc4001becde983c|>", CCH_ENCODE_PLAIN_SPECIALS);
    CHECK(strncmp(plain, "67 131 ", 7) == 0);
    cch_tokenizer_unref(tok);
}

TEST(decoding) {
    cch_tokenizer *tok = NULL;
    file.n = 0;
    put_chat_model(&file);
    CHECK_OK(pieces_open(&file, &tok, &err), err);
    TEXT(tok, "a a", 267, 267);
    TEXT(tok, "a", 263, 267);                         /* all of it until there is a text */
    TEXT(tok, "a", 1, 267, 2);                        /* control pieces are none */
    TEXT(tok, " \xE2\x81\x87 a", 0, 264);
    TEXT(tok, "<|ngpt_sys_84a5023f67d74cf29cc4001becde983c|> a", 3, 267);
    TEXT(tok, "\xC3\xA9 a", 202, 176, 267);
    TEXT(tok, "\xEF\xBF\xBD" "a", 202, 264);
    TEXT(tok, "\xEF\xBF\xBD\xEF\xBF\xBD" "a", 7 + 0xE2, 7 + 0x82, 264); /* one for each byte */
    TEXT(tok, "\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD", 7 + 0xE2, 202, 176, 202);
    TEXT(tok, "\xEF\xBF\xBD" "A", 7 + 0xFF, 7 + 'A');
    check_text(tok, true, "a", (int32_t[]){3, 267, 6, 0}, 4);
    cch_tokenizer_unref(tok);
}

static void check_bytes(const cch_tokenizer *tok, int32_t id, const char *want) {
    char byte;
    size_t len = 99;
    const char *bytes = cch_tokenizer_bytes_view(tok, id, &byte, &len);
    if (want == NULL) CHECK(bytes == NULL && len == 0);
    else CHECK(bytes != NULL && len == strlen(want) && memcmp(bytes, want, len) == 0);
}

TEST(bytes_of_tokens) {
    cch_tokenizer *tok = NULL;
    file.n = 0;
    put_chat_model(&file);
    CHECK_OK(pieces_open(&file, &tok, &err), err);
    check_bytes(tok, 267, " a");
    check_bytes(tok, 7 + 0xC3, "\xC3");
    check_bytes(tok, 0, "<unk>");
    check_bytes(tok, 2, "</s>");
    check_bytes(tok, 268, NULL);
    check_bytes(tok, -1, NULL);
    cch_tokenizer_unref(tok);
    CHECK_OK(cch_tokenizer_new_bytes(&tok, &err), err);
    check_bytes(tok, 0xC3, "\xC3");
    check_bytes(tok, ' ', " ");
    cch_tokenizer_unref(tok);
}

TEST(primed_decoders_go_on) {
    cch_tokenizer *tok = NULL;
    cch_decoder *dec = NULL;
    const char *text;
    size_t len;
    file.n = 0;
    put_chat_model(&file);
    CHECK_OK(pieces_open(&file, &tok, &err), err);
    CHECK_OK(cch_decoder_new(tok, false, &dec, &err), err);
    CHECK_OK(cch_decoder_prime(dec, (int32_t[]){267, 202}, 2, &err), err);
    CHECK_OK(cch_decoder_push(dec, 176, &text, &len, &err), err);
    CHECK(strcmp(text, "\xC3\xA9") == 0);
    CHECK_OK(cch_decoder_push(dec, 267, &text, &len, &err), err);
    CHECK(strcmp(text, " a") == 0);
    CHECK_STATUS(cch_decoder_push(dec, 268, &text, &len, &err), CCH_E_TOKEN_ID, err, "allowed: 0..267");
    cch_decoder_free(dec);
    cch_tokenizer_unref(tok);
}

TEST(options) {
    cch_tokenizer *tok = NULL;
    pieces map, normalizer = {.n = 0}, trainer = {.n = 0};
    static uint32_t units[CHARMAP_UNITS];
    charmap_write(units);
    map = charmap_blob(units);
    file.n = 0;
    put_settings(&file, false, true, false, &map); /* before the pieces: the order of fields does not matter */
    put_piece(&file, "<unk>", 0, 2);
    put_piece(&file, SP, -1, 1);
    put_piece(&file, "a", -1, 1);
    put_number(&normalizer, 5, 0); /* a part that comes again changes what it holds */
    put_block(&file, 3, normalizer.data, normalizer.n);
    put_block(&trainer, 44, "?", 1);
    put_block(&file, 2, trainer.data, trainer.n);
    put_number(&file, 4000, 7); /* unknown */
    CHECK_OK(pieces_open(&file, &tok, &err), err);
    CHECK_IDS(tok, "A" SP, 0, "0 2 1"); /* the dummy prefix is a space, which is no piece */
    TEXT(tok, "?a", 0, 2);
    TEXT(tok, "a a", 1, 2, 1, 2);
    TEXT(tok, " a", 1, 1, 2);          /* without stripping, one space at the start goes */
    cch_tokenizer_unref(tok);
}

static void refused(const pieces *p, cch_status code, const char *words) {
    cch_tokenizer *tok = (cch_tokenizer *)&err;
    CHECK_STATUS(pieces_open(p, &tok, &err), code, err, words);
    CHECK(tok == NULL);
}

/* <unk>, and one field that holds `part`. */
static pieces with(uint32_t field, const void *part, size_t n) {
    pieces p = {.n = 0};
    put_piece(&p, "<unk>", 0, 2);
    put_block(&p, field, part, n);
    return p;
}

TEST(damaged_files) {
    pieces p = {.n = 0};
    refused(&p, CCH_E_FORMAT, "spm.model holds no pieces");
    put_raw(&p, "{}", 2);
    refused(&p, CCH_E_FORMAT, "spm.model: the field at byte 0 is of wire type 3");
    p = with(1, "\x18\x07", 2);
    refused(&p, CCH_E_FORMAT, "a piece's type is 7, allowed: 1 to 6");
    p = with(1, "\x18\x01", 2);
    refused(&p, CCH_E_FORMAT, "piece 1 has 0 bytes");
    p = with(1, "\x08\x01", 2);
    refused(&p, CCH_E_FORMAT, "a piece's text is of wire type 0");
    p = with(1, "\x0A\x05" "a", 3);
    refused(&p, CCH_E_FORMAT, "a piece is cut");
    p = with(2, "\x18\x02", 2);
    refused(&p, CCH_E_UNSUPPORTED, "the model type is bpe, supported: unigram");
    p = with(2, "\x18\x09", 2);
    refused(&p, CCH_E_FORMAT, "the model type is 9, allowed: 1 to 4");
    p = with(2, "\xC0\x01\x01", 3);
    refused(&p, CCH_E_UNSUPPORTED, "treat_whitespace_as_suffix");
    p = with(2, "\xE2\x02\x01\xFF", 4);
    refused(&p, CCH_E_FORMAT, "the text of the unknown piece is not UTF-8");
    p = with(2, "\x98\x02\x01", 3);
    refused(&p, CCH_E_FORMAT, "byte fallback without the byte piece <0x00>");
    p = with(3, "\x12\x02" "ab", 4);
    refused(&p, CCH_E_FORMAT, "character map");
    p = with(3, "\x1A\x01" "a", 3);
    refused(&p, CCH_E_FORMAT, "add_dummy_prefix is of wire type 2");
    p = with(5, "\x12\x01" "a", 3);
    refused(&p, CCH_E_UNSUPPORTED, "a denormalizer with a character map");
    p = with(5, "\x0A\x01" "a", 3);
    put_number(&p, 2, 5);
    refused(&p, CCH_E_FORMAT, "the trainer settings is of wire type 0");
}

TEST(cut_files) {
    pieces p = {.n = 0};
    put_chat_model(&p);
    const size_t whole = p.n;
    for (p.n = whole - 40; p.n < whole; p.n++) { /* what remains is refused, or is a whole number of fields */
        cch_tokenizer *tok = NULL;
        cch_status status = pieces_open(&p, &tok, &err);
        CHECK(status == CCH_OK || (status == CCH_E_FORMAT && tok == NULL));
        cch_tokenizer_unref(tok);
    }
}

static cch_status open_and_encode(void) {
    cch_tokenizer *tok = NULL;
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n, len;
    cch_status status = pieces_open(&file, &tok, NULL);
    if (status == CCH_OK) status = cch_tokenizer_encode(tok, "ab \xC3\xA9", 5, 0, &ids, &n, NULL);
    if (status == CCH_OK) status = cch_tokenizer_decode(tok, ids, n, false, &text, &len, NULL);
    cch_free(text);
    cch_free(ids);
    cch_tokenizer_unref(tok);
    return status;
}

TEST(memory_runs_out) {
    file.n = 0;
    put_piece(&file, "<unk>", 0, 2);
    put_piece(&file, "a", 0, 1);
    put_settings(&file, false, true, true, NULL);
    CHECK_OOM(open_and_encode());
}

CHECK_MAIN()
