/* utf8 - one code point at a time, never a byte past the end.
 *
 * Well-formed UTF-8 as in RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
 * Threads: pure.
 */
#ifndef CCH_BASE_UTF8_H
#define CCH_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Decodes the character at the start of text [len].  Returns its length 1..4 and writes *out (may be NULL);
 * 0 when len is 0 or no well-formed character starts here (*out untouched). */
size_t cch_utf8_decode(const char *text, size_t len, uint32_t *out);

/* Length of the longest well-formed prefix of text [len] that ends between characters; len when all of it is UTF-8. */
size_t cch_utf8_valid_prefix(const char *text, size_t len);

/* Writes code_point to dst [4], no NUL.  Returns 1..4; 0 for a surrogate or a value above 0x10FFFF. */
size_t cch_utf8_encode(uint32_t code_point, char *dst);

/* How many bytes of text [len] to keep so that at most `limit` remain and no character is cut (for messages;
 * bytes that are no UTF-8 are kept as they are). */
size_t cch_utf8_cut(const char *text, size_t len, size_t limit);

#define CCH_UTF8_SHOWN 96
/* Bytes of a hostile file for a message: printable ASCII as it is, '?' for anything else, "..." for what is too long.
 * dst is returned. */
const char *cch_utf8_show(const char *text, size_t len, char dst[CCH_UTF8_SHOWN]);

#endif
