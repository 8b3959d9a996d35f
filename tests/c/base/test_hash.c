#include "base/hash.h"

#include "base/alloc.h"
#include "check.h"

/* Saved states carry fingerprints, so these must not change from one version to the next. */
TEST(known_digests_stay) {
    const struct { const char *text, *hex; } known[] = {
        {"", "bd91c0c615b61917151fd984322a95a0d1a670218fd1959cc55363d2c9cc8c91"},
        {"cacher", "24f2686d62a82a9eda0bd52641994932479efcb9551e9dfd8b42b219689297a6"},
        {"The quick brown fox jumps over the lazy dog, and a second time, so that more than one block is hashed.",
         "3e383a6ce031f59c02ffd252a422871101573c4b2b88d83eca4bfa13e6ab0886"}};
    for (int i = 0; i < 3; i++) {
        uint8_t digest[CCH_HASH_BYTES];
        char hex[CCH_HASH_HEX];
        cch_hash_of(known[i].text, strlen(known[i].text), digest);
        cch_hash_hex(digest, hex);
        if (strcmp(hex, known[i].hex) != 0) fprintf(stderr, "got %s\n", hex);
        CHECK(strcmp(hex, known[i].hex) == 0);
    }
}

TEST(the_cuts_of_updates_do_not_show) {
    unsigned char data[400];
    uint8_t want[CCH_HASH_BYTES], got[CCH_HASH_BYTES];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 37 + i / 7);
    for (size_t n = 0; n <= sizeof data; n += 13) {
        cch_hash_of(data, n, want);
        for (size_t step = 1; step < 150; step += 3) {
            cch_hash hash;
            cch_hash_init(&hash);
            for (size_t at = 0; at < n; at += step) {
                cch_hash_update(&hash, data + at, n - at < step ? n - at : step);
                cch_hash_digest(&hash, got); /* looking does not disturb */
            }
            cch_hash_digest(&hash, got);
            CHECK(memcmp(got, want, sizeof want) == 0);
        }
    }
}

TEST(every_bit_and_every_zero_byte_counts) {
    unsigned char data[200] = {0};
    uint8_t base[CCH_HASH_BYTES], other[CCH_HASH_BYTES];
    double flipped = 0;
    cch_hash_of(data, sizeof data, base);
    for (size_t bit = 0; bit < 8 * sizeof data; bit++) {
        int different = 0;
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        cch_hash_of(data, sizeof data, other);
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        for (int i = 0; i < CCH_HASH_BYTES; i++) different += __builtin_popcount(base[i] ^ other[i]);
        CHECK(different > 70 && different < 186); /* 128 expected, standard deviation 8 */
        flipped += different;
    }
    CHECK(fabs(flipped / 1600 - 128) < 2);
    for (size_t n = 0; n < sizeof data; n++) {
        cch_hash_of(data, n, other);
        CHECK(memcmp(base, other, sizeof base) != 0);
    }
}

TEST(swapped_words_and_blocks_count) {
    uint64_t words[32];
    uint8_t base[CCH_HASH_BYTES], other[CCH_HASH_BYTES];
    for (uint64_t i = 0; i < 32; i++) words[i] = i * 0x9E3779B97F4A7C15u;
    cch_hash_of(words, sizeof words, base);
    for (int i = 0; i < 32; i++)
        for (int j = i + 1; j < 32; j++) {
            uint64_t a = words[i], b = words[j];
            words[i] = b, words[j] = a;
            cch_hash_of(words, sizeof words, other);
            words[i] = a, words[j] = b;
            CHECK(memcmp(base, other, sizeof base) != 0);
        }
}

CHECK_MAIN()
