/* modelfile - writes safetensors files of toy tensors for the tests; every value is a function of name and index. */
#ifndef CCH_TESTS_MODELFILE_H
#define CCH_TESTS_MODELFILE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tempdir.h"

typedef struct modelfile {
    char header[1 << 14];
    unsigned char data[1 << 18];
    size_t header_len, data_len;
    const char *dtype; /* "F32", "BF16" or "F16" */
    int shift;         /* spaces behind the header, so that the data starts at any alignment */
} modelfile;

static inline void modelfile_init(modelfile *f, const char *dtype) {
    f->header_len = f->data_len = 0;
    f->dtype = dtype;
    f->shift = 0;
}

/* Multiples of 1/64 below 2: exact in every float type.  Prefixes do not count, so names with and without agree. */
static inline float modelfile_value(const char *name, size_t i) {
    uint32_t h = 2166136261u;
    if (strncmp(name, "model.", 6) == 0) name += 6;
    if (strncmp(name, "transformer.", 12) == 0) name += 12;
    for (; *name != '\0'; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    h = (h ^ (uint32_t)i) * 2654435761u;
    return (float)((int)(h >> 8) % 255 - 127) / 64.0f;
}

static inline void modelfile_put(modelfile *f, float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint16_t half = (uint16_t)(bits >> 16); /* exact: see modelfile_value */
    if (strcmp(f->dtype, "F16") == 0)
        half = bits << 1 == 0
                   ? 0
                   : (uint16_t)((bits >> 16 & 0x8000) | ((((bits >> 23 & 0xFF) - 112) << 10) | (bits >> 13 & 0x3FF)));
    size_t size = strcmp(f->dtype, "F32") == 0 ? 4 : 2;
    if (f->data_len + size > sizeof f->data) fprintf(stderr, "modelfile: too large\n"), exit(1);
    memcpy(f->data + f->data_len, size == 4 ? (void *)&bits : (void *)&half, size);
    f->data_len += size;
}

/* A tensor [rows, cols]; cols 0: [rows]. */
static inline void modelfile_add(modelfile *f, const char *name, size_t rows, size_t cols) {
    size_t first = f->data_len, n = rows * (cols == 0 ? 1 : cols);
    char shape[64];
    for (size_t i = 0; i < n; i++) modelfile_put(f, modelfile_value(name, i));
    snprintf(shape, sizeof shape, cols == 0 ? "%zu" : "%zu,%zu", rows, cols);
    f->header_len += (size_t)snprintf(f->header + f->header_len, sizeof f->header - f->header_len,
                                      "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                                      f->header_len == 0 ? "{" : ",", name, f->dtype, shape, first, f->data_len);
}

static inline void modelfile_write(const modelfile *f, tempdir *dir, const char *name) {
    static unsigned char bytes[sizeof f->header + sizeof f->data + 64];
    size_t len = f->header_len + 1 + (size_t)f->shift;
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(len >> 8 * i);
    memcpy(bytes + 8, f->header, f->header_len);
    bytes[8 + f->header_len] = '}';
    memset(bytes + 9 + f->header_len, ' ', (size_t)f->shift);
    memcpy(bytes + 8 + len, f->data, f->data_len);
    tempdir_write(dir, name, bytes, 8 + len + f->data_len);
}

#endif
