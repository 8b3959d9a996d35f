/* torchfile - a checkpoint that torch.save wrote: its pickled object, and the tensors of its "model_state".
 *
 * The file is a ZIP archive (io/zip) whose names all begin with one folder:
 *   <top>/data.pkl    a pickle (io/pickle); a tensor in it is a storage's key, an offset, sizes and strides
 *   <top>/data/<key>  the numbers of a storage, little end first
 *   <top>/byteorder   "little"; absent in older files
 * Everything else is ignored, and so are storages that model_state does not name: an optimizer's are never read.
 *
 * Checked when opening, on top of what io/zip and io/pickle check:
 *   1. the object is a dict, and its model_state a dict of tensors by name;
 *   2. every storage of model_state lies in its entry, and every tensor in its storage;
 *   3. the tensors have together no more numbers than the file has bytes, although they may share storages: what is
 *      made of them is not larger than the file by more than a small factor.
 *
 * Threads: immutable once opened.
 */
#ifndef CCH_IO_TORCHFILE_H
#define CCH_IO_TORCHFILE_H

#include "io/pickle.h"
#include "io/tensors.h"

typedef struct cch_torchfile {
    cch_pickle pickle;    /* owned; views into the file */
    cch_tensors *tensors; /* owned: of model_state; keeps the file mapped */
} cch_torchfile;

/* E_IO, E_FORMAT, E_UNSUPPORTED, E_MEMORY.   On failure *out is all zeros. */
cch_status cch_torchfile_open(const char *path, cch_torchfile *out, cch_error *err);
/* The same for a file in memory, which must stay valid; `path` is for messages. */
cch_status cch_torchfile_parse(const unsigned char *data, size_t size, const char *path, cch_torchfile *out,
                               cch_error *err);
/* A zeroed struct is a no-op. */
void cch_torchfile_close(cch_torchfile *file);

#endif
