/* packedfile_fields - the header of a packed file, for tests and the fuzzer that change it and make the digests fit. */
#ifndef CCH_TESTS_PACKEDFILE_FIELDS_H
#define CCH_TESTS_PACKEDFILE_FIELDS_H

#include <stdint.h>
#include <string.h>

#include "base/hash.h"

enum { AT_VERSION = 8, AT_FORMAT = 12, AT_BYTES = 16, AT_WEIGHTS = 24, AT_LAYOUT = 56, AT_DIGEST = 88,
       AT_HEADER_DIGEST = 160, HEADER_BYTES = 192, CHUNK_BYTES = 1 << 20 };

/* size is at least HEADER_BYTES. */
static inline void fit_digests(uint8_t *file, size_t size) {
    cch_hash whole;
    cch_hash_init(&whole);
    for (size_t first = HEADER_BYTES; first < size; first += CHUNK_BYTES) {
        uint8_t digest[CCH_HASH_BYTES];
        cch_hash_of(file + first, size - first < CHUNK_BYTES ? size - first : CHUNK_BYTES, digest);
        cch_hash_update(&whole, digest, sizeof digest);
    }
    cch_hash_digest(&whole, file + AT_DIGEST);
    cch_hash_of(file, AT_HEADER_DIGEST, file + AT_HEADER_DIGEST);
}

#endif
