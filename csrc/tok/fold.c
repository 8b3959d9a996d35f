#include "tok/fold.h"

#include "base/utf8.h"
#include "tok/unicode.h"

/* The blocks that BERT calls Chinese: Han ideographs alone, and of Unicode 8 (as in the published code). */
static bool is_chinese(uint32_t c) {
    static const struct { uint32_t first, last; } blocks[] = {
        {0x3400, 0x4DBF}, {0x4E00, 0x9FFF}, {0xF900, 0xFAFF}, {0x20000, 0x2A6DF},
        {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (c >= blocks[i].first && c <= blocks[i].last) return true;
    return false;
}

static bool changes(cch_fold_kind kind, uint32_t c) {
    switch (kind) {
    case CCH_FOLD_CLEAN: return c != ' ' && (cch_unicode_class(c) & (CCH_UNI_CONTROL | CCH_UNI_SPACE)) != 0;
    case CCH_FOLD_CHINESE: return is_chinese(c);
    case CCH_FOLD_MARKS: return (cch_unicode_class(c) & CCH_UNI_MARK) != 0;
    case CCH_FOLD_LOWER: return (cch_unicode_class(c) & CCH_UNI_CASED) != 0;
    }
    return false;
}

size_t cch_fold_unchanged(cch_fold_kind kind, const char *text, size_t len) {
    const uint8_t *p = (const uint8_t *)text;
    const bool ascii_stays = kind == CCH_FOLD_CHINESE || kind == CCH_FOLD_MARKS;
    size_t at = 0, char_len;
    for (; at < len; at += char_len) {
        char_len = 1;
        if (p[at] < 0x80 && ascii_stays) continue;
        if (changes(kind, cch_char_at(p + at, &char_len))) break;
    }
    return at;
}

static const cch_lower_case *find_lower(uint32_t c) {
    size_t low = 0, high = cch_n_lower_cases;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > cch_lower_cases[mid].code_point) low = mid + 1;
        else high = mid;
    }
    return &cch_lower_cases[low];
}

/* What becomes of c, which the step changes: dst [8].  Returns the bytes written. */
static size_t fold_char(cch_fold_kind kind, uint32_t c, char *dst) {
    size_t n = 0;
    switch (kind) {
    case CCH_FOLD_MARKS: return 0;
    case CCH_FOLD_CLEAN:
        if (cch_unicode_class(c) & CCH_UNI_CONTROL) return 0;
        dst[n++] = ' ';
        return n;
    case CCH_FOLD_CHINESE:
        dst[n++] = ' ';
        n += cch_utf8_encode(c, dst + n);
        dst[n++] = ' ';
        return n;
    case CCH_FOLD_LOWER: {
        const cch_lower_case *to = find_lower(c);
        n = cch_utf8_encode(to->lower[0], dst);
        return to->lower[1] == 0 ? n : n + cch_utf8_encode(to->lower[1], dst + n);
    }
    }
    return n;
}

cch_status cch_fold(cch_fold_kind kind, const char *text, size_t len, cch_bytes *out, cch_error *err) {
    char folded[8];
    for (size_t at = 0, char_len; at < len; at += char_len) {
        size_t same = cch_fold_unchanged(kind, text + at, len - at);
        CCH_RETURN_IF(cch_bytes_append(out, text + at, same, err));
        at += same;
        if (at == len) break;
        size_t n = fold_char(kind, cch_char_at((const uint8_t *)text + at, &char_len), folded);
        CCH_RETURN_IF(cch_bytes_append(out, folded, n, err));
    }
    return CCH_OK;
}
