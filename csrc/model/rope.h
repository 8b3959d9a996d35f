/* rope - rotary position embedding (arXiv:2104.09864): the angle of each pair of channels at a position.
 *
 * Angles follow the reference implementation step by step in f32: inv_freq[i] = 1 / theta^(2i / dim), rescaled for
 * long contexts ("linear": positions are divided by a factor; "llama3": only the slow channels are, with a smooth
 * passage), then angle = f32(position) * inv_freq[i].  At position 10,000 an f32 angle is off by up to 4e-4, so any
 * other order of operations would show in the logits.  Sine and cosine of that angle are taken in f64 and rounded
 * once, which leaves no room for differences between math libraries.  Of CCH_ROPE_PAIRS the angle,
 * position * theta^(-2i / dim), is taken in f64, too, and not rounded.
 * The rotation itself is the kernel `rope` (halves convention: channel i pairs with channel i + dim / 2).  Of
 * CCH_ROPE_PAIRS channels 2i and 2i + 1 are a pair: the rows of the q and k matrices are loaded in the order that makes
 * halves of them (model/weights), which changes no score, and what shows keys puts them back (cch_rope_channel).
 */
#ifndef CCH_MODEL_ROPE_H
#define CCH_MODEL_ROPE_H

#include "base/alloc.h"
#include "io/config.h"

typedef struct cch_rope {
    double *inv_freq; /* owned: [half], f32 numbers but for CCH_ROPE_PAIRS; NULL for learned positions */
    size_t half;      /* head_dim / 2; 0 for learned positions */
    bool in_f64;      /* angles are not rounded to f32 */
} cch_rope;

/* The angles of base `theta`: rope_theta or local_rope_theta of the config.   E_MEMORY. */
cch_status cch_rope_init(const cch_config *config, float theta, cch_rope *out, cch_error *err);
void cch_rope_deinit(cch_rope *rope);
/* cos, sin [half] of the angles at position `pos`.  Threads: pure. */
void cch_rope_angles(const cch_rope *rope, int32_t pos, float *cos, float *sin);

/* Where channel `i` of a query or key head is in memory. */
static inline size_t cch_rope_channel(const cch_config *config, size_t i) {
    return config->rope_type == CCH_ROPE_PAIRS ? i / 2 + i % 2 * ((size_t)config->head_dim / 2) : i;
}

#endif
