/* filesave - a file that is there whole or not at all: written under another name, synced, then renamed.
 *
 * Bytes go through a buffer and a hash.  The first bytes are written last, so that a header can hold the digest of what
 * follows it.  The folder is synced as well: after commit the file survives a loss of power.
 * Threads: one user per object.
 */
#ifndef CCH_BASE_FILESAVE_H
#define CCH_BASE_FILESAVE_H

#include "base/hash.h"
#include "base/status.h"

typedef struct cch_filesave {
    int fd;
    char *path, *temp;     /* owned */
    unsigned char *buffer; /* owned */
    size_t used;
    uint64_t written;      /* bytes so far, the header's included */
    cch_hash hash;         /* of what was written since the header, or the last digest */
} cch_filesave;

/* Begins the file that is to be `path`, leaving room for a header.  E_IO with the path and the system's reason,
 * E_MEMORY: then *save needs no end. */
cch_status cch_filesave_begin(cch_filesave *save, const char *path, size_t header_bytes, cch_error *err);
/* E_IO. */
cch_status cch_filesave_write(cch_filesave *save, const void *data, size_t bytes, cch_error *err);
/* Zeros up to the next multiple of `bytes`, which is at most 64.  E_IO. */
cch_status cch_filesave_align(cch_filesave *save, size_t bytes, cch_error *err);
/* The digest of what was written since begin, or since the last digest. */
void cch_filesave_digest(cch_filesave *save, uint8_t digest[CCH_HASH_BYTES]);
/* Writes the header and gives the file its name; what had it before is replaced.  E_IO: what had it stays. */
cch_status cch_filesave_commit(cch_filesave *save, const void *header, size_t header_bytes, cch_error *err);
/* Frees; a file that was not committed is gone.  Needed after every begin that succeeded. */
void cch_filesave_end(cch_filesave *save);

#endif
