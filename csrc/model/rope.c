#include "model/rope.h"

#include <math.h>

/* The frequency rule of Llama 3.1: wavelengths over the low bound are stretched by `factor`, those under the high
 * bound are kept, and in between the two are mixed.  Quotients of a constant and a tensor are products with the
 * reciprocal, as the reference rounds them. */
static float llama3_scaled(const cch_config *c, float inv_freq) {
    float old_len = (float)c->rope_original_max_position;
    float wavelen = 1.0f / inv_freq * (float)(2.0 * M_PI);
    if (wavelen > old_len / c->rope_low_freq_factor) return inv_freq / c->rope_factor;
    if (wavelen < old_len / c->rope_high_freq_factor) return inv_freq;
    float low = c->rope_low_freq_factor, high = c->rope_high_freq_factor;
    float smooth = (1.0f / wavelen * old_len - low) / (high - low);
    return (1.0f - smooth) * inv_freq / c->rope_factor + smooth * inv_freq;
}

cch_status cch_rope_init(const cch_config *config, float theta, cch_rope *out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_rope rope = {.in_f64 = config->rope_type == CCH_ROPE_PAIRS};
    *out = (cch_rope){0};
    if (config->position != CCH_POSITION_ROPE) return CCH_OK;
    rope.half = (size_t)config->head_dim / 2;
    CCH_NEW(rope.inv_freq, rope.half, err);
    for (size_t i = 0; i < rope.half; i++) {
        float exponent = (float)(2 * i) / (float)config->head_dim;
        float inv_freq = 1.0f / (float)pow((double)theta, (double)exponent);
        if (config->rope_type == CCH_ROPE_LINEAR) inv_freq /= config->rope_factor;
        if (config->rope_type == CCH_ROPE_LLAMA3) inv_freq = llama3_scaled(config, inv_freq);
        rope.inv_freq[i] = (double)inv_freq;
        if (rope.in_f64)
            rope.inv_freq[i] = pow((double)theta, -(double)(2 * i) / (double)config->head_dim);
    }
    *out = rope;
done:
    return status;
}

void cch_rope_deinit(cch_rope *rope) {
    cch_free(rope->inv_freq);
    *rope = (cch_rope){0};
}

void cch_rope_angles(const cch_rope *rope, int32_t pos, float *cos_out, float *sin_out) {
    for (size_t i = 0; i < rope->half; i++) {
        double s, c, angle = pos * rope->inv_freq[i];
        if (!rope->in_f64) angle = (double)(float)angle; /* the f32 product: that of f64 is exact */
        sincos(angle, &s, &c);
        cos_out[i] = (float)c;
        sin_out[i] = (float)s;
    }
}
