#include "base/hash.h"

#include <string.h>

#define BLOCK 64
#define AHEAD 4096 /* bytes: memory is asked for them before they are needed; behind the end this does nothing */

/* Odd constants with no pattern: fractional bits of the square roots of 2, 3, 5, 7, 11, 13, 17, 19. */
static const uint64_t secret[8] = {
    0x6A09E667F3BCC909u, 0xBB67AE8584CAA73Bu, 0x3C6EF372FE94F82Bu, 0xA54FF53A5F1D36F1u,
    0x510E527FADE682D1u, 0x9B05688C2B3E6C1Fu, 0x1F83D9ABFB41BD6Bu, 0x5BE0CD19137E2179u,
};

static uint64_t fold(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static uint64_t load_le(const unsigned char *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* The rotated old lane is added, so that a product which happens to be zero does not erase what came before. */
static void absorb(uint64_t lanes[4], const unsigned char *block) {
    for (int i = 0; i < 4; i++) {
        uint64_t a = load_le(block + 16 * i), b = load_le(block + 16 * i + 8);
        lanes[i] = rotate(lanes[i], 23) + fold(a ^ secret[i] ^ lanes[i], b ^ secret[4 + i]) + (a ^ rotate(b, 32));
    }
}

void cch_hash_init(cch_hash *hash) {
    *hash = (cch_hash){.total = 0};
    memcpy(hash->lanes, secret, sizeof hash->lanes);
}

void cch_hash_update(cch_hash *hash, const void *data, size_t bytes) {
    const unsigned char *src = data;
    size_t used = hash->total % BLOCK;
    if (bytes == 0) return;
    hash->total += bytes;
    if (used > 0) {
        size_t n = bytes < BLOCK - used ? bytes : BLOCK - used;
        memcpy(hash->tail + used, src, n);
        if (used + n < BLOCK) return;
        absorb(hash->lanes, hash->tail);
        src += n;
        bytes -= n;
    }
    uint64_t lanes[4];
    memcpy(lanes, hash->lanes, sizeof lanes);
    for (; bytes >= BLOCK; src += BLOCK, bytes -= BLOCK) {
        __builtin_prefetch(src + AHEAD);
        absorb(lanes, src);
    }
    memcpy(hash->lanes, lanes, sizeof lanes);
    memcpy(hash->tail, src, bytes);
}

void cch_hash_digest(const cch_hash *hash, uint8_t digest[CCH_HASH_BYTES]) {
    uint64_t lanes[4];
    unsigned char last[BLOCK] = {0};
    memcpy(lanes, hash->lanes, sizeof lanes);
    memcpy(last, hash->tail, hash->total % BLOCK);
    absorb(lanes, last); /* padded with zeros; the length below tells them from data */
    lanes[0] += hash->total;
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < 4; i++) {
            uint64_t mixed = fold(lanes[i] ^ secret[(i + round) % 8], lanes[(i + 1) % 4] ^ secret[4 + i]);
            lanes[i] = rotate(lanes[i], 29) ^ mixed;
        }
    for (int i = 0; i < CCH_HASH_BYTES; i++) digest[i] = (uint8_t)(lanes[i / 8] >> 8 * (i % 8));
}

void cch_hash_of(const void *data, size_t bytes, uint8_t digest[CCH_HASH_BYTES]) {
    cch_hash hash;
    cch_hash_init(&hash);
    cch_hash_update(&hash, data, bytes);
    cch_hash_digest(&hash, digest);
}

void cch_hash_hex(const uint8_t digest[CCH_HASH_BYTES], char hex[CCH_HASH_HEX]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < CCH_HASH_BYTES; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * CCH_HASH_BYTES] = '\0';
}
