/* tokfile - tokenizer files for the tests: written to a temporary folder, opened, removed. */
#ifndef CCH_TESTS_TOKFILE_H
#define CCH_TESTS_TOKFILE_H

#include <stdio.h>
#include <stdlib.h> /* mkdtemp */
#include <string.h>
#include <unistd.h>

#include "include/cacher.h"

/* Writes text to <folder>/<name>. */
static inline void tokfile_write(const char *folder, const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(text, 1, strlen(text), file) != strlen(text)) abort();
    fclose(file);
}

/* Opens a folder that holds these files; name2 may be NULL. */
static inline cch_status tokfile_open_two(const char *name, const char *text, const char *name2, const char *text2,
                                          cch_tokenizer **out, cch_error *err) {
    char folder[200], path[300];
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/cacher-tok-XXXXXX", parent == NULL ? P_tmpdir : parent);
    if (mkdtemp(folder) == NULL) abort();
    tokfile_write(folder, name, text);
    if (name2 != NULL) tokfile_write(folder, name2, text2);
    cch_status status = cch_tokenizer_open(folder, out, err);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
    if (name2 != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, name2);
        unlink(path);
    }
    rmdir(folder);
    return status;
}

/* Opens a tokenizer.json with this text. */
static inline cch_status tokfile_open(const char *text, cch_tokenizer **out, cch_error *err) {
    return tokfile_open_two("tokenizer.json", text, NULL, NULL, out, err);
}

/* A byte-level model: "l" 0 "o" 1 "w" 2 "e" 3 "r" 4 " " 5 "lo" 6 "low" 7 "er" 8 " low" 9 "\n" 10 0xC3 11 0xA9 12,
 * special "<end>" 13, added "now" 14 (not special, single word). */
#define TOKFILE_BYTES TOKFILE_BYTE_LEVEL("false")
/* The same with add_prefix_space. */
#define TOKFILE_PREFIX_SPACE TOKFILE_BYTE_LEVEL("true")
#define TOKFILE_BYTE_LEVEL(prefix_space)                                                                              \
    "{\"added_tokens\": [{\"id\": 13, \"content\": \"<end>\", \"special\": true, \"normalized\": false},"              \
    " {\"id\": 14, \"content\": \"now\", \"special\": false, \"normalized\": false, \"single_word\": true}],"          \
    "\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": " prefix_space "},"      \
    "\"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\"},"                                                \
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"l\": 0, \"o\": 1, \"w\": 2, \"e\": 3, \"r\": 4, \"\xC4\xA0\": 5,"    \
    " \"lo\": 6, \"low\": 7, \"er\": 8, \"\xC4\xA0low\": 9, \"\xC4\x8A\": 10, \"\xC3\x83\": 11, \"\xC2\xA9\": 12},"    \
    "\"merges\": [\"l o\", [\"lo\", \"w\"], \"e r\", \"\xC4\xA0 low\"]}}"

/* A SentencePiece-style model: "<unk>" 0 "<s>" 1 "</s>" 2 "<0xE2>" 3 "<0x82>" 4 "<0xAC>" 5 U+2581 6 "a" 7 "b" 8 "ab" 9
 * U+2581 "a" 10 U+2581 "ab" 11 U+2581 U+2581 12. */
#define TOKFILE_SPACE "\xE2\x96\x81"
#define TOKFILE_PIECES                                                                                                 \
    "{\"added_tokens\": [{\"id\": 1, \"content\": \"<s>\", \"special\": true, \"normalized\": false}],"                \
    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"" TOKFILE_SPACE \
    "\"},"                                                                                                             \
    " {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"" TOKFILE_SPACE "\"}]},"                \
    "\"pre_tokenizer\": null, \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\":"                      \
    " [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}],"       \
    " \"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}}},"                         \
    "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\":"           \
    " \"" TOKFILE_SPACE "\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"},"                \
    " {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]},"                                         \
    "\"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true, \"byte_fallback\": true,"            \
    " \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"</s>\": 2, \"<0xE2>\": 3, \"<0x82>\": 4, \"<0xAC>\": 5,"                 \
    " \"" TOKFILE_SPACE "\": 6, \"a\": 7, \"b\": 8, \"ab\": 9, \"" TOKFILE_SPACE "a\": 10, \"" TOKFILE_SPACE           \
    "ab\": 11,"                                                                                                        \
    " \"" TOKFILE_SPACE TOKFILE_SPACE "\": 12},"                                                                       \
    "\"merges\": [\"a b\", \"" TOKFILE_SPACE " ab\", \"" TOKFILE_SPACE " a\", \"" TOKFILE_SPACE " " TOKFILE_SPACE      \
    "\"]}}"

#endif
