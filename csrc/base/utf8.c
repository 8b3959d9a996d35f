#include "base/utf8.h"

#include <stdbool.h>
#include <string.h>

static bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

size_t cch_utf8_decode(const char *text, size_t len, uint32_t *out) {
    const unsigned char *s = (const unsigned char *)text;
    uint32_t code_point, smallest;
    size_t size;
    if (len == 0) return 0;
    if (s[0] < 0x80) {
        if (out != NULL) *out = s[0];
        return 1;
    }
    if (s[0] >= 0xC2 && s[0] <= 0xDF) size = 2, smallest = 0x80, code_point = s[0] & 0x1Fu;
    else if ((s[0] & 0xF0) == 0xE0) size = 3, smallest = 0x800, code_point = s[0] & 0x0Fu;
    else if (s[0] >= 0xF0 && s[0] <= 0xF4) size = 4, smallest = 0x10000, code_point = s[0] & 0x07u;
    else return 0;
    if (len < size) return 0;
    for (size_t i = 1; i < size; i++) {
        if (!is_continuation(s[i])) return 0;
        code_point = code_point << 6 | (s[i] & 0x3Fu);
    }
    if (code_point < smallest || code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) return 0;
    if (out != NULL) *out = code_point;
    return size;
}

size_t cch_utf8_valid_prefix(const char *text, size_t len) {
    size_t at = 0;
    while (at < len) {
        uint64_t word;
        while (len - at >= sizeof word) { /* most text is ASCII: eight characters per step */
            memcpy(&word, text + at, sizeof word);
            if ((word & 0x8080808080808080u) != 0) break;
            at += sizeof word;
        }
        size_t size = cch_utf8_decode(text + at, len - at, NULL);
        if (size == 0) break;
        at += size;
    }
    return at;
}

size_t cch_utf8_encode(uint32_t code_point, char *dst) {
    if (code_point < 0x80) {
        dst[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        dst[0] = (char)(0xC0 | code_point >> 6);
        dst[1] = (char)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point < 0x10000) {
        if (code_point >= 0xD800 && code_point <= 0xDFFF) return 0;
        dst[0] = (char)(0xE0 | code_point >> 12);
        dst[1] = (char)(0x80 | (code_point >> 6 & 0x3F));
        dst[2] = (char)(0x80 | (code_point & 0x3F));
        return 3;
    }
    if (code_point > 0x10FFFF) return 0;
    dst[0] = (char)(0xF0 | code_point >> 18);
    dst[1] = (char)(0x80 | (code_point >> 12 & 0x3F));
    dst[2] = (char)(0x80 | (code_point >> 6 & 0x3F));
    dst[3] = (char)(0x80 | (code_point & 0x3F));
    return 4;
}

size_t cch_utf8_cut(const char *text, size_t len, size_t limit) {
    if (len <= limit) return len;
    for (size_t keep = limit; keep > 0 && limit - keep < 4; keep--) {
        if (!is_continuation((unsigned char)text[keep])) return keep;
    }
    return limit;
}

const char *cch_utf8_show(const char *text, size_t len, char dst[CCH_UTF8_SHOWN]) {
    size_t n = len < CCH_UTF8_SHOWN - 4 ? len : CCH_UTF8_SHOWN - 4;
    for (size_t i = 0; i < n; i++) dst[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    strcpy(dst + n, n < len ? "..." : "");
    return dst;
}
