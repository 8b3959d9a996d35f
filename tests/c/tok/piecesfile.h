/* piecesfile - spm.model files for the tests, written field by field. */
#ifndef CCH_TESTS_PIECESFILE_H
#define CCH_TESTS_PIECESFILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/cacher.h"
#include "tempdir.h"

typedef struct pieces {
    unsigned char data[32768];
    size_t n;
} pieces;

static inline void put_raw(pieces *p, const void *data, size_t n) {
    if (n > sizeof p->data - p->n) abort();
    memcpy(p->data + p->n, data, n);
    p->n += n;
}

static inline void put_varint(pieces *p, uint64_t value) {
    for (;; value >>= 7) {
        unsigned char byte = (unsigned char)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
        put_raw(p, &byte, 1);
        if (value <= 0x7F) return;
    }
}

static inline void put_number(pieces *p, uint32_t field, uint64_t value) {
    put_varint(p, (uint64_t)field << 3);
    put_varint(p, value);
}

static inline void put_block(pieces *p, uint32_t field, const void *data, size_t n) {
    put_varint(p, (uint64_t)field << 3 | 2);
    put_varint(p, n);
    put_raw(p, data, n);
}

static inline void put_piece(pieces *p, const char *text, float score, uint32_t type) {
    pieces one = {.n = 0};
    put_block(&one, 1, text, strlen(text));
    put_varint(&one, 2 << 3 | 5);
    put_raw(&one, &score, 4);
    put_number(&one, 3, type);
    put_block(p, 1, one.data, one.n);
}

/* Field 2, the trainer settings, then field 3, the normalizer; map may be NULL. */
static inline void put_settings(pieces *p, bool byte_fallback, bool dummy_prefix, bool strip, const pieces *map) {
    pieces trainer = {.n = 0}, normalizer = {.n = 0};
    put_number(&trainer, 3, 1);
    put_number(&trainer, 35, byte_fallback);
    put_block(p, 2, trainer.data, trainer.n);
    if (map != NULL) put_block(&normalizer, 2, map->data, map->n);
    put_number(&normalizer, 3, dummy_prefix);
    put_number(&normalizer, 4, strip);
    put_block(p, 3, normalizer.data, normalizer.n);
}

/* <unk> 0, <s> 1, </s> 2, what chat models have 3 to 6 (sys, usr, asst, eot), bytes 7 to 262. */
static inline void put_chat_head(pieces *p) {
    static const char *const names[] = {"sys", "usr", "asst", "eot"};
    char text[64];
    put_piece(p, "<unk>", 0, 2);
    put_piece(p, "<s>", 0, 3);
    put_piece(p, "</s>", 0, 3);
    for (int i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "<|ngpt_%s_84a5023f67d74cf29cc4001becde983c|>", names[i]);
        put_piece(p, text, 0, 4);
    }
    for (int b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        put_piece(p, text, 0, 6);
    }
}

/* The same with space 263, "a" 264, "b" 265, "ab" 266, space "a" 267, and settings. */
static inline void put_chat_model(pieces *p) {
    put_chat_head(p);
    put_piece(p, "\xE2\x96\x81", -3, 1);
    put_piece(p, "a", -2, 1);
    put_piece(p, "b", -2, 1);
    put_piece(p, "ab", -3, 1);
    put_piece(p, "\xE2\x96\x81" "a", -4, 1);
    put_settings(p, true, false, true, NULL);
}

/* Opens the file as spm.model. */
static inline cch_status pieces_open(const pieces *p, cch_tokenizer **out, cch_error *err) {
    tempdir dir = tempdir_new();
    char path[400];
    tempdir_write(&dir, "spm.model", p->data, p->n);
    cch_status status = cch_tokenizer_open(tempdir_path(&dir, "spm.model", path), out, err);
    tempdir_free(&dir);
    return status;
}

#endif
