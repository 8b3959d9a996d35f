/* Rotary angles: the plain formula, and the two ways of stretching it. */
#include "model/rope.h"

#include "check.h"

static cch_config config_of(cch_rope_type type) {
    return (cch_config){.head_dim = 64, .position = CCH_POSITION_ROPE, .rope_theta = 500000.0f, .rope_type = type,
                        .rope_factor = 8.0f, .rope_low_freq_factor = 1.0f, .rope_high_freq_factor = 4.0f,
                        .rope_original_max_position = 8192};
}

static void open_rope(cch_config config, cch_rope *rope) {
    cch_error err;
    CHECK_OK(cch_rope_init(&config, config.rope_theta, rope, &err), err);
}

TEST(frequencies_fall_geometrically) {
    cch_rope rope;
    open_rope(config_of(CCH_ROPE_DEFAULT), &rope);
    CHECK_EQ(rope.half, 32);
    CHECK(rope.inv_freq[0] == 1.0);
    for (size_t i = 0; i < 32; i++)
        CHECK(fabs((double)rope.inv_freq[i] * pow(500000.0, (double)i / 32) - 1) < 5e-7);
    cch_rope_deinit(&rope);
}

TEST(linear_scaling_divides_every_frequency) {
    cch_rope plain, linear;
    open_rope(config_of(CCH_ROPE_DEFAULT), &plain);
    open_rope(config_of(CCH_ROPE_LINEAR), &linear);
    for (size_t i = 0; i < 32; i++) CHECK(linear.inv_freq[i] == plain.inv_freq[i] / 8.0);
    cch_rope_deinit(&plain);
    cch_rope_deinit(&linear);
}

TEST(llama3_scaling_keeps_fast_and_stretches_slow_channels) {
    cch_rope plain, scaled;
    open_rope(config_of(CCH_ROPE_DEFAULT), &plain);
    open_rope(config_of(CCH_ROPE_LLAMA3), &scaled);
    int mixed = 0;
    for (size_t i = 0; i < 32; i++) {
        double wavelength = 2 * M_PI / (double)plain.inv_freq[i];
        double ratio = (double)plain.inv_freq[i] / (double)scaled.inv_freq[i];
        if (wavelength < 8192.0 / 4) CHECK(ratio == 1);
        else if (wavelength > 8192) CHECK(ratio == 8);
        else mixed += ratio > 1 && ratio < 8;
    }
    CHECK(mixed >= 2);
    cch_rope_deinit(&plain);
    cch_rope_deinit(&scaled);
}

TEST(angles_are_products_in_f32) {
    cch_rope rope;
    float cos_row[32], sin_row[32];
    open_rope(config_of(CCH_ROPE_DEFAULT), &rope);
    for (int32_t pos = 0; pos < 100000; pos += 997) {
        cch_rope_angles(&rope, pos, cos_row, sin_row);
        for (size_t i = 0; i < 32; i++) {
            float angle = (float)pos * (float)rope.inv_freq[i];
            CHECK(cos_row[i] == (float)cos((double)angle));
            CHECK(sin_row[i] == (float)sin((double)angle));
        }
    }
    cch_rope_deinit(&rope);
}

TEST(learned_positions_need_no_angles) {
    cch_rope rope;
    cch_config config = config_of(CCH_ROPE_DEFAULT);
    config.position = CCH_POSITION_LEARNED;
    open_rope(config, &rope);
    CHECK_EQ(rope.half, 0);
    CHECK(rope.inv_freq == NULL);
    cch_rope_deinit(&rope);
}

static cch_status init_and_deinit(void) {
    cch_config config = config_of(CCH_ROPE_LLAMA3);
    cch_rope rope;
    cch_status status = cch_rope_init(&config, config.rope_theta, &rope, NULL);
    cch_rope_deinit(&rope);
    return status;
}

TEST(memory_that_cannot_be_had) { CHECK_OOM(init_and_deinit()); }

TEST(pairs_have_angles_of_f64) {
    cch_rope rope;
    float cosines[32], sines[32];
    const cch_config config = config_of(CCH_ROPE_PAIRS), halves = config_of(CCH_ROPE_DEFAULT);
    open_rope(config, &rope);
    cch_rope_angles(&rope, 511, cosines, sines);
    for (int i = 0; i < 32; i++) {
        double angle = 511 * pow(500000.0, -2.0 * i / 64);
        CHECK(cosines[i] == (float)cos(angle) && sines[i] == (float)sin(angle));
    }
    cch_rope_deinit(&rope);
    CHECK_EQ(cch_rope_channel(&config, 0), 0);
    CHECK_EQ(cch_rope_channel(&config, 1), 32);
    CHECK_EQ(cch_rope_channel(&config, 63), 63);
    CHECK_EQ(cch_rope_channel(&config, 6), 3);
    CHECK_EQ(cch_rope_channel(&halves, 6), 6);
}

CHECK_MAIN()
