#include "agree.h"
#include "check.h"

#include "kern/kernels.h"

static void compare(bool wild) {
    const cch_kernels *isa = NULL, *generic = NULL;
    if (cch_kernels_get("avx512bf16", &isa, NULL) != CCH_OK) return; /* not on this CPU: nothing to compare */
    cch_kernels_get("generic", &generic, NULL);
    for (size_t op = 0; op < N_AGREE_OPS; op++) {
        for (int seed = 0; seed < AGREE_ROUNDS; seed++) {
            draw d = {.state = (uint64_t)seed, .wild = wild};
            CHECK(agree_ops[op](generic, isa, &d));
        }
    }
}

TEST(avx512bf16_gives_the_bits_of_generic) { compare(false); }
TEST(avx512bf16_gives_the_bits_of_generic_for_any_input) { compare(true); }

CHECK_MAIN()
