/* packedfile - packed weights as a file that is mapped, computed with where it lies.
 *
 *     header   192 bytes: magic, version, format, bytes of the file, digest of the weights, of the layout and of what
 *              follows the header, zeros, digest of the header up to here
 *     parts    matrices, tables and vectors as they lie in memory (cch_weights.parts), each padded with zeros to a
 *              multiple of 64 bytes
 *
 * Panels are the same for every instruction set, so a file serves all machines of one byte order; another one shows in
 * the magic.  What the parts are follows from the config that lies beside the file: the layout tells whether it fits.
 * Opening reads the whole file once, on all threads, and compares its digest: base/hash.h tells damage, not forgery.
 * A file that was made up leads no access out of bounds; the numbers in it are its author's.
 *
 * A map is shared by all processes that have it open, and is no memory of theirs that the system could not take back;
 * for what it asks of whoever replaces the file see base/filemap.h.
 */
#ifndef CCH_MODEL_PACKEDFILE_H
#define CCH_MODEL_PACKEDFILE_H

#include "model/weights.h"

/* Writes a file that is there whole or not at all.   E_IO with the path and the system's reason; E_MEMORY. */
cch_status cch_packedfile_save(const cch_weights *weights, const char *path, cch_error *err);

/* The weights of `config` that a file holds, in its own format; digest is that of the weights that were packed.
 *   threads: read the file, used only during the call.
 *   E_IO; E_FORMAT (no such file, shortened, damaged, of another config); E_UNSUPPORTED (another version); E_MEMORY.
 *   On failure *out is all zeros. */
cch_status cch_packedfile_open(const char *path, const cch_config *config, cch_threads *threads, cch_weights *out,
                               cch_error *err);

#endif
