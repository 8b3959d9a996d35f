/* zip - finds the entries of a ZIP archive in memory that are stored as they are.
 *
 * Format: APPNOTE.TXT of PKWARE.  From the end: an end record, which says where the central directory is, with the
 * 64-bit form of it in front when numbers are too large for it; the directory has a header for each entry; that names
 * the place of the entry's local header, behind which its bytes lie.  Sizes and places are those of the directory:
 * local headers of streamed archives have zeros.
 *
 * Checked when opening, so that an entry's bytes can be read without further care:
 *   1. the directory lies in the file and holds as many headers as it says;
 *   2. every entry is stored, not compressed and not encrypted, and lies in the file;
 *   3. no two entries have the same name.
 * Not checked: checksums, which cost as much as loading does.
 *
 * Threads: immutable after open.
 */
#ifndef CCH_IO_ZIP_H
#define CCH_IO_ZIP_H

#include "base/status.h"

typedef struct cch_zip_entry {
    const char *name; /* view into the archive [name_len], no NUL behind it */
    size_t name_len;
    const unsigned char *data; /* view [size] */
    size_t size;
} cch_zip_entry;

typedef struct cch_zip {
    cch_zip_entry *entries; /* owned [n], in order of their names (bytewise) */
    size_t n;
} cch_zip;

/* The archive [size bytes], which must stay valid; `path` is for messages.
 *   E_FORMAT, E_UNSUPPORTED (compressed, encrypted, several volumes), E_MEMORY.   On failure *out is all zeros. */
cch_status cch_zip_open(const unsigned char *data, size_t size, const char *path, cch_zip *out, cch_error *err);
/* A zeroed struct is a no-op. */
void cch_zip_close(cch_zip *zip);

/* The entry of this name [len]; NULL when absent.  View. */
const cch_zip_entry *cch_zip_find(const cch_zip *zip, const char *name, size_t len);

#endif
