#include "agree.h"
#include "check.h"

#include "kern/kernels.h"

/* Tiles add up bf16 products in an order of their own: that of this loop, in scalars. */
static float chain_of_blocks(const float *x, const float *w, size_t k_words) {
    float sum = 0.0f;
    for (size_t k = 0; k < k_words; k += CCH_WORDS) {
        float even = 0.0f, odd = 0.0f;
        for (size_t i = k; i < k + CCH_WORDS; i++) {
            uint32_t a, b;
            float parts[4];
            memcpy(&a, x + i, sizeof a);
            memcpy(&b, w + i * CCH_LANES, sizeof b);
            const uint32_t bits[4] = {a << 16, a & 0xFFFF0000u, b << 16, b & 0xFFFF0000u};
            memcpy(parts, bits, sizeof parts);
            even = fmaf(parts[0], parts[2], even);
            odd = fmaf(parts[1], parts[3], odd);
        }
        sum += even + odd;
    }
    return sum;
}

TEST(bf16_products_are_chains_of_blocks) {
    const cch_kernels *kern = NULL;
    if (cch_kernels_get("amx", &kern, NULL) != CCH_OK) return; /* not on this CPU */
    for (uint64_t seed = 0; seed < 200; seed++) {
        draw d = {.state = seed};
        const size_t rows = draw_size(&d, 0, 80), n = draw_size(&d, 1, 900), panels = draw_size(&d, 0, 7);
        const size_t k = cch_n_words(n, 2), ldx = k + draw_size(&d, 0, 5), ldy = 16 * panels + draw_size(&d, 0, 5);
        float *from = draw_rows(&d, rows * n + panels * k * 32), *x = draw_floats(&d, rows * ldx);
        float *w = aligned_floats(&d, panels * k * 16), *bias = seed % 2 ? draw_floats(&d, panels * 16) : NULL;
        float *y = draw_floats(&d, rows * ldy), *want = copy_floats(y, rows * ldy);
        for (size_t r = 0; r < rows; r++) kern->round_bf16(from + r * n, n, x + r * ldx);
        if (panels > 0) kern->round_bf16(from + rows * n, panels * k * 32, w);
        kern->matmul_bf16(x, ldx, rows, w, panels, k, bias, y, ldy);
        for (size_t r = 0; r < rows; r++) {
            for (size_t o = 0; o < 16 * panels; o++) {
                const float sum = chain_of_blocks(x + r * ldx, w + o / 16 * 16 * k + o % 16, k);
                want[r * ldy + o] = bias != NULL ? sum + bias[o] : sum;
            }
        }
        free(from), free(x), free(w), free(bias);
        CHECK(same_take("matmul_bf16", y, want, rows * ldy));
    }
}

static void compare(bool wild) {
    const cch_kernels *isa = NULL, *generic = NULL;
    if (cch_kernels_get("amx", &isa, NULL) != CCH_OK) return;
    cch_kernels_get("generic", &generic, NULL);
    for (size_t op = 0; op < N_AGREE_OPS; op++) {
        if (agree_ops[op] == agree_bf16) continue;
        for (int seed = 0; seed < AGREE_ROUNDS; seed++) {
            draw d = {.state = (uint64_t)seed, .wild = wild};
            CHECK(agree_ops[op](generic, isa, &d));
        }
    }
}

TEST(all_else_has_the_bits_of_generic) { compare(false); }
TEST(all_else_has_the_bits_of_generic_for_any_input) { compare(true); }

CHECK_MAIN()
