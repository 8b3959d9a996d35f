/* safetensors - named tensors of a model folder, mapped and validated.
 *
 * A file is: u64 little-endian header length n, n bytes of JSON, then data.  The header maps each tensor name to
 * {"dtype", "shape", "data_offsets": [first, last)} relative to the data; "__metadata__" is free text and ignored.
 * A folder holds model.safetensors, or model.safetensors.index.json whose weight_map says which shard has which tensor.
 *
 * Checked when opening, so that a view can be read without further care:
 *   1. the header is at most 100 MB of strict JSON and inside the file;
 *   2. data_offsets of a file's tensors, sorted, cover its data exactly: no hole, no overlap, nothing behind the end;
 *   3. bytes == product of the shape x size of the dtype, without overflow; at most 8 dimensions;
 *   4. shard names are plain file names; every indexed tensor is in its shard and only there.
 * Types other than floats are an error only when such a tensor is read.
 */
#ifndef CCH_IO_SAFETENSORS_H
#define CCH_IO_SAFETENSORS_H

#include "io/tensors.h"

/* E_IO, E_FORMAT, E_MEMORY.   *out belongs to the caller; it keeps the files mapped. */
cch_status cch_tensors_open(const char *folder, cch_tensors **out, cch_error *err);
/* The same for one file in memory, which must stay valid; `name` is for messages. */
cch_status cch_tensors_parse(const unsigned char *data, size_t size, const char *name, cch_tensors **out,
                             cch_error *err);

#endif
