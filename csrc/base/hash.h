/* hash - 256-bit fingerprints of files and weights, at the speed of memory.
 *
 * Four 64-bit lanes take 64 bytes per step by multiply-and-fold (64 x 64 -> 128 bits, halves xored); at the end the
 * lanes are stirred into each other.  A model of 500 MB is fingerprinted while it is packed, for a few hundredths of a
 * second; SHA-256 without special instructions would take seconds.
 *
 * Not a cryptographic hash: it tells different models apart by accident-proof odds (about 2^-64 for a pair), not
 * against someone who builds a collision.  Whoever can write a model folder decides its answers anyway.
 * The same bytes give the same digest on every machine of either byte order, however they are cut into updates.
 * Threads: one user per object.
 */
#ifndef CCH_BASE_HASH_H
#define CCH_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define CCH_HASH_BYTES 32
#define CCH_HASH_HEX 65 /* with the NUL */

typedef struct cch_hash {
    uint64_t lanes[4];
    uint64_t total;         /* bytes so far; the last total % 64 of them are in tail */
    unsigned char tail[64];
} cch_hash;

void cch_hash_init(cch_hash *hash);
void cch_hash_update(cch_hash *hash, const void *data, size_t bytes);
/* The digest of all bytes so far; more may follow. */
void cch_hash_digest(const cch_hash *hash, uint8_t digest[CCH_HASH_BYTES]);
/* The digest of these bytes alone. */
void cch_hash_of(const void *data, size_t bytes, uint8_t digest[CCH_HASH_BYTES]);
/* Lower-case hex with a NUL. */
void cch_hash_hex(const uint8_t digest[CCH_HASH_BYTES], char hex[CCH_HASH_HEX]);

#endif
