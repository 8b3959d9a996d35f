/* indexfile - the fields of an index file, for tests and the fuzzer that change them and make the digests fit again. */
#ifndef CCH_TESTS_INDEXFILE_H
#define CCH_TESTS_INDEXFILE_H

#include <stdint.h>
#include <string.h>

#include "base/hash.h"

enum { AT_VERSION = 8, AT_DTYPE = 12, AT_DIMENSION = 16, AT_ROWS = 24, AT_NEXT_KEY = 32, AT_BYTES = 40, AT_DIGEST = 48,
       AT_HEADER_DIGEST = 96, HEADER_BYTES = 128 };

/* size is at least HEADER_BYTES. */
static inline void fit_digests(uint8_t *file, size_t size) {
    cch_hash_of(file + HEADER_BYTES, size - HEADER_BYTES, file + AT_DIGEST);
    cch_hash_of(file, AT_HEADER_DIGEST, file + AT_HEADER_DIGEST);
}

#endif
