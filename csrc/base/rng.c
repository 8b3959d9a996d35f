#include "base/rng.h"

#include <string.h>

#define ROUNDS 10
#define MULTIPLIER_0 0xD2511F53u
#define MULTIPLIER_1 0xCD9E8D57u
#define WEYL_0 0x9E3779B9u /* golden ratio */
#define WEYL_1 0xBB67AE85u /* sqrt(3) - 1 */

void cch_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c[4], k0 = key[0], k1 = key[1];
    memcpy(c, counter, sizeof c);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)MULTIPLIER_0 * c[0], p1 = (uint64_t)MULTIPLIER_1 * c[2];
        uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c[3] ^ k1,
                            (uint32_t)p0};
        memcpy(c, next, sizeof c);
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    memcpy(out, c, sizeof c);
}

uint64_t cch_rng_bits53(uint64_t seed, uint32_t stream, uint64_t pos) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)pos, (uint32_t)(pos >> 32), stream, 0};
    uint32_t out[4];
    cch_philox4x32(counter, key, out);
    return ((uint64_t)out[0] << 32 | out[1]) >> 11;
}

uint64_t cch_rng_splitmix53(uint64_t seed, uint64_t i) {
    uint64_t z = seed + (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (z ^ (z >> 31)) >> 11;
}

double cch_uniform(uint64_t seed, uint32_t stream, uint64_t pos) {
    return (double)cch_rng_bits53(seed, stream, pos) * 0x1p-53;
}

double cch_splitmix_uniform(uint64_t seed, uint64_t i) {
    return (double)cch_rng_splitmix53(seed, i) * 0x1p-53;
}
