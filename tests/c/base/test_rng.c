#include "base/rng.h"

#include "check.h"

typedef struct known_answer {
    uint32_t counter[4], key[2], out[4];
} known_answer;

/* The vectors published with the paper's reference implementation ("philox4x32 10"). */
static const known_answer known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

TEST(philox_gives_the_published_vectors) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        cch_philox4x32(known[i].counter, known[i].key, out);
        CHECK(memcmp(out, known[i].out, sizeof out) == 0);
    }
}

TEST(philox_output_may_overwrite_the_counter) {
    uint32_t block[4] = {0, 0, 0, 0};
    cch_philox4x32(block, known[0].key, block);
    CHECK(memcmp(block, known[0].out, sizeof block) == 0);
}

TEST(uniform_is_the_top_53_bits_of_the_first_two_words) {
    uint64_t bits = ((uint64_t)0x6627e8d5 << 32 | 0xe169c58d) >> 11;
    CHECK_EQ(cch_rng_bits53(0, 0, 0), bits);
    CHECK(cch_uniform(0, 0, 0) == (double)bits / 9007199254740992.0);
    /* counter (pos low, pos high, stream, 0), key (seed low, seed high), against the third vector with word 3 = 0 */
    uint32_t counter[4] = {0x243f6a88, 0x85a308d3, 0x13198a2e, 0}, out[4];
    cch_philox4x32(counter, known[2].key, out);
    CHECK_EQ(cch_rng_bits53(0x299f31d0a4093822u, 0x13198a2e, 0x85a308d3243f6a88u),
             ((uint64_t)out[0] << 32 | out[1]) >> 11);
}

TEST(uniform_depends_on_seed_stream_and_position_and_stays_below_one) {
    double at = cch_uniform(42, 1, 7);
    CHECK(at == cch_uniform(42, 1, 7));
    CHECK(at != cch_uniform(43, 1, 7) && at != cch_uniform(42, 2, 7) && at != cch_uniform(42, 1, 8));
    CHECK(at != cch_uniform(42 + (UINT64_C(1) << 32), 1, 7) && at != cch_uniform(42, 1, 7 + (UINT64_C(1) << 32)));
    double sum = 0.0, squares = 0.0;
    int n = 20000, outside = 0;
    for (int i = 0; i < n; i++) {
        double u = cch_uniform(42, 0, (uint64_t)i);
        outside += u < 0.0 || u >= 1.0;
        sum += u;
        squares += u * u;
    }
    CHECK_EQ(outside, 0);
    CHECK(fabs(sum / n - 0.5) < 0.01); /* five standard errors */
    CHECK(fabs(squares / n - 1.0 / 3.0) < 0.011);
}

TEST(splitmix_has_the_documented_numbers) {
    CHECK(cch_splitmix_uniform(42, 0) == 0.7415648787718233);
    CHECK(cch_splitmix_uniform(42, 1) == 0.1599103928769201);
    CHECK(cch_splitmix_uniform(42, 2) == 0.27860113025513866);
    CHECK(cch_splitmix_uniform(0, 0) == 0.8833108082136426);
    CHECK(cch_splitmix_uniform(0, 1) == 0.43152799704850997);
    CHECK(cch_splitmix_uniform(UINT64_MAX, 0) == 0.8939429202831845); /* seed -1 */
    CHECK(cch_rng_splitmix53(42, 5) != cch_rng_splitmix53(43, 5));
}

CHECK_MAIN()
