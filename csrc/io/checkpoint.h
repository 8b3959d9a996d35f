/* checkpoint - the "model_cfg" of a niels-gpt checkpoint as the configuration of the generic forward pass.
 *
 * Two generations exist, told apart by tensor names: 1 has layer norms and an MLP of two matrices with exact GELU,
 * 2 RMS norms and SwiGLU.  Both have biases in the MLP and nowhere else, rotary positions of neighbouring channels and
 * tied embeddings.  Fields: V, T, C, L, H, d_ff; rope_theta (10000 when absent); D, if there, must be C / H; dropout
 * has no effect; fields whose names begin with an underscore are provenance.
 */
#ifndef CCH_IO_CHECKPOINT_H
#define CCH_IO_CHECKPOINT_H

#include "io/config.h"
#include "io/torchfile.h"

#define CCH_WARNING_TEXT 256

/* *out_generation: 1 or 2.   warning: what the file has that is not known, and "" when there is nothing.
 *   E_FORMAT, E_UNSUPPORTED, naming the field and what is allowed.   On failure *out is all zeros. */
cch_status cch_config_from_checkpoint(const cch_torchfile *file, const char *path, cch_config *out,
                                      int32_t *out_generation, char warning[CCH_WARNING_TEXT], cch_error *err);

#endif
