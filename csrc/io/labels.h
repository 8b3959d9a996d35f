/* labels - the names of a classifier's outputs: an array of strings in one block, which the caller frees by cch_free.
 *
 * They are read from config.json's id2label, an object from numbers to names, or counted.
 */
#ifndef CCH_IO_LABELS_H
#define CCH_IO_LABELS_H

#include "io/json.h"

#define CCH_MAX_LABELS 65536

/* The names that an object such as {"0": "no", "1": "yes"} gives to the numbers from 0, each of which must be there.
 * E_FORMAT, E_UNSUPPORTED (a NUL in a name), E_MEMORY.   *out_labels is NULL and *out_n 0 on failure. */
cch_status cch_labels_read(cch_json id2label, char ***out_labels, int32_t *out_n, cch_error *err);

/* LABEL_0 to LABEL_<n - 1>; n: 1 to CCH_MAX_LABELS.   E_MEMORY.   *out_labels is NULL and *out_n 0 on failure. */
cch_status cch_labels_number(int32_t n, char ***out_labels, int32_t *out_n, cch_error *err);

#endif
