/* filemap - the bytes of a file: copied, or mapped.
 *
 * A copy cannot change any more: that is how all small files are read.  A map costs no memory of ours, which is what
 * weights need: its bytes are pages of the system's file cache, and a page that was given back (cch_filemap_drop) is
 * read again when touched.  The price: when someone shortens the file in place, reading the lost part of its map raises
 * SIGBUS.  So a model's map lives only while the model is loaded, an index's as long as its rows are searched; and
 * whoever replaces such a file writes another one and renames it, as downloads and base/filesave do, for a map keeps
 * the file that it was made of.
 * Threads: a map is read-only and may be shared; open and close are the owner's.
 */
#ifndef CCH_BASE_FILEMAP_H
#define CCH_BASE_FILEMAP_H

#include "base/status.h"

typedef struct cch_filemap {
    const unsigned char *data; /* owned mapping; never NULL while open, also for an empty file */
    size_t size;
} cch_filemap;

#define CCH_FILE_MAX INT32_MAX /* bytes of a file that is copied */

/* E_IO: "<path>: <the system's reason>". */
cch_status cch_fail_errno(cch_error *err, const char *function, const char *path, int reason);

/* A copy of the regular file `path`, *out_len bytes; the caller frees *out, also of an empty file.
 *   E_IO as below, and when the file gets shorter meanwhile; E_FORMAT (over CCH_FILE_MAX); E_MEMORY. */
cch_status cch_file_read(const char *path, char **out, size_t *out_len, cch_error *err);

/* Maps the regular file `path`.  E_IO with the path and the system's reason (missing, unreadable, a folder, a pipe),
 * E_MEMORY (no address space).  On failure *out is closed. */
cch_status cch_filemap_open(const char *path, cch_filemap *out, cch_error *err);
/* A closed or zeroed map is a no-op. */
void cch_filemap_close(cch_filemap *map);

/* A hint that all of the map will be read: the system may read ahead, and keep it in pages of 2 MiB. */
void cch_filemap_prefer_huge_pages(const cch_filemap *map);

/* Gives the memory of the whole pages inside [first, first + bytes) back; their content stays readable. */
void cch_filemap_drop(const cch_filemap *map, size_t first, size_t bytes);

/* "folder/name" as a new string (cch_free).  E_MEMORY. */
cch_status cch_path_join(const char *folder, const char *name, char **out, cch_error *err);
/* Is there something at `path`? */
bool cch_path_exists(const char *path);
/* Is it something other than a folder? */
bool cch_path_is_file(const char *path);

#endif
