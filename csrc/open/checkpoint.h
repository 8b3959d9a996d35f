/* checkpoint - the parts of an opened checkpoint, as open/model sees them. */
#ifndef CCH_OPEN_CHECKPOINT_H
#define CCH_OPEN_CHECKPOINT_H

#include "io/checkpoint.h"

struct cch_checkpoint {
    cch_torchfile file;             /* owned */
    cch_config config;              /* of the model */
    int32_t generation;             /* 1, 2 */
    char warning[CCH_WARNING_TEXT]; /* what is odd about it, or "" */
};

#endif
