/* filemap - a file's bytes, read-only, mapped.
 *
 * The bytes are pages of the operating system's file cache: nothing is copied, and a page that was given back
 * (cch_filemap_drop) is read again when touched.  Whoever shortens the file while it is mapped makes later reads of
 * the lost part raise SIGBUS, so loaders convert what they need and close the map.
 * Threads: a map is read-only and may be shared; open and close are the owner's.
 */
#ifndef CCH_BASE_FILEMAP_H
#define CCH_BASE_FILEMAP_H

#include "base/status.h"

typedef struct cch_filemap {
    const unsigned char *data; /* owned mapping; never NULL while open, also for an empty file */
    size_t size;
} cch_filemap;

/* Maps the regular file `path`.  E_IO with the path and the system's reason (missing, unreadable, a folder, a pipe),
 * E_MEMORY (no address space).  On failure *out is closed. */
cch_status cch_filemap_open(const char *path, cch_filemap *out, cch_error *err);
/* A closed or zeroed map is a no-op. */
void cch_filemap_close(cch_filemap *map);

/* Gives the memory of the whole pages inside [first, first + bytes) back; their content stays readable. */
void cch_filemap_drop(const cch_filemap *map, size_t first, size_t bytes);

/* "folder/name" as a new string (cch_free).  E_MEMORY. */
cch_status cch_path_join(const char *folder, const char *name, char **out, cch_error *err);
/* Is there something at `path`? */
bool cch_path_exists(const char *path);

#endif
