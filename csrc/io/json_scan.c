#include "io/json_scan.h"

#include <string.h>

#include "base/utf8.h"

typedef struct scan {
    const char *text, *name;
    size_t len, at;
    int depth, max_depth;
    cch_json_sink *sink;
    cch_error *err;
} scan;

#define SCAN_FAIL(s, position, ...) CCH_FAIL((s)->err, CCH_E_FORMAT, (position), __VA_ARGS__)

static cch_status scan_value(scan *s);

static void skip_space(scan *s) {
    for (; s->at < s->len; s->at++) {
        char c = s->text[s->at];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') break;
    }
}

static bool is_next(const scan *s, char c) { return s->at < s->len && s->text[s->at] == c; }

static bool is_digit(const scan *s) { return s->at < s->len && s->text[s->at] >= '0' && s->text[s->at] <= '9'; }

static cch_status fail_unexpected(const scan *s, const char *expected) {
    if (s->at >= s->len)
        SCAN_FAIL(s, s->at, "%s: ends at byte %zu, where %s is expected", s->name, s->at, expected);
    size_t size = cch_utf8_decode(s->text + s->at, s->len - s->at, NULL);
    unsigned char byte = (unsigned char)s->text[s->at];
    if (size == 0 || byte < 0x20)
        SCAN_FAIL(s, s->at, "%s: byte 0x%02X at %zu, where %s is expected", s->name, byte, s->at, expected);
    SCAN_FAIL(s, s->at, "%s: '%.*s' at byte %zu, where %s is expected", s->name, (int)size, s->text + s->at, s->at,
              expected);
}

/* Four hex digits at s->at. */
static cch_status scan_hex(scan *s, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        char c = s->at < s->len ? s->text[s->at] : '\0';
        if (c >= '0' && c <= '9') *out = *out << 4 | (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') *out = *out << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
        else return fail_unexpected(s, "a hexadecimal digit");
    }
    return CCH_OK;
}

/* Behind "\u": one unit or a surrogate pair. */
static cch_status scan_unicode_escape(scan *s, uint32_t *out) {
    size_t first = s->at - 2;
    uint32_t low;
    CCH_RETURN_IF(scan_hex(s, out));
    if (*out < 0xD800 || *out > 0xDFFF) return CCH_OK;
    if (*out <= 0xDBFF && s->len - s->at >= 2 && memcmp(s->text + s->at, "\\u", 2) == 0) {
        s->at += 2;
        CCH_RETURN_IF(scan_hex(s, &low));
        if (low >= 0xDC00 && low <= 0xDFFF) {
            *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
            return CCH_OK;
        }
    }
    SCAN_FAIL(s, first, "%s: unpaired surrogate \\u%04X at byte %zu", s->name, *out, first);
}

/* Behind a backslash. */
static cch_status scan_escape(scan *s, uint32_t *out) {
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char c = s->at < s->len ? s->text[s->at] : '\0';
    const char *letter = c == '\0' ? NULL : strchr(letters, c);
    if (letter != NULL) {
        s->at++;
        *out = (unsigned char)values[letter - letters];
        return CCH_OK;
    }
    if (c != 'u') return fail_unexpected(s, "one of \"\\/bfnrtu");
    s->at++;
    return scan_unicode_escape(s, out);
}

/* A string from its opening quote on, decoded into the sink's buffer: never longer than the literal without a quote. */
static cch_status scan_string(scan *s, size_t *out_len, bool *out_has_nul) {
    char *dst = s->sink->buffer;
    size_t n = 0;
    *out_has_nul = false;
    s->at++;
    for (;;) {
        size_t size = 1;
        uint32_t code_point = 0;
        unsigned char c = s->at < s->len ? (unsigned char)s->text[s->at] : 0;
        if (c == '"') break;
        if (c == '\\') {
            s->at++;
            CCH_RETURN_IF(scan_escape(s, &code_point));
            if (code_point == 0) *out_has_nul = true;
            n += cch_utf8_encode(code_point, dst + n);
            continue;
        }
        if (c >= 0x80) size = cch_utf8_decode(s->text + s->at, s->len - s->at, NULL);
        if (c < 0x20 || size == 0)
            return fail_unexpected(s, size == 0 ? "UTF-8" : "the rest of a string (control characters are escaped)");
        for (size_t i = 0; i < size; i++) dst[n++] = s->text[s->at++];
    }
    s->at++;
    dst[n] = '\0';
    *out_len = n;
    return CCH_OK;
}

static cch_status scan_digits(scan *s) {
    if (!is_digit(s)) return fail_unexpected(s, "a digit");
    while (is_digit(s)) s->at++;
    return CCH_OK;
}

static cch_status scan_number(scan *s) {
    size_t first = s->at;
    bool is_whole = true;
    if (is_next(s, '-')) s->at++;
    if (is_next(s, '0')) s->at++;
    else CCH_RETURN_IF(scan_digits(s));
    if (is_next(s, '.')) {
        is_whole = false;
        s->at++;
        CCH_RETURN_IF(scan_digits(s));
    }
    if (is_next(s, 'e') || is_next(s, 'E')) {
        is_whole = false;
        s->at++;
        if (is_next(s, '+') || is_next(s, '-')) s->at++;
        CCH_RETURN_IF(scan_digits(s));
    }
    return s->sink->number(s->sink->arg, s->text + first, s->at - first, is_whole);
}

static cch_status scan_word(scan *s, const char *word) {
    size_t n = strlen(word);
    if (s->len - s->at < n || memcmp(s->text + s->at, word, n) != 0) return fail_unexpected(s, "a value");
    s->at += n;
    return s->sink->word(s->sink->arg, word[0]);
}

static cch_status scan_array(scan *s) {
    s->at++;
    skip_space(s);
    if (!is_next(s, ']')) {
        for (;;) {
            CCH_RETURN_IF(scan_value(s));
            skip_space(s);
            if (is_next(s, ']')) break;
            if (!is_next(s, ',')) return fail_unexpected(s, "',' or ']'");
            s->at++;
        }
    }
    s->at++;
    return CCH_OK;
}

static cch_status scan_member(scan *s) {
    size_t first, len;
    bool has_nul;
    skip_space(s);
    if (!is_next(s, '"')) return fail_unexpected(s, "a key in double quotes");
    first = s->at;
    CCH_RETURN_IF(scan_string(s, &len, &has_nul));
    if (has_nul) SCAN_FAIL(s, first, "%s: the key at byte %zu holds \\u0000, which is not supported", s->name, first);
    CCH_RETURN_IF(s->sink->key(s->sink->arg, s->sink->buffer, len, first));
    skip_space(s);
    if (!is_next(s, ':')) return fail_unexpected(s, "':'");
    s->at++;
    return scan_value(s);
}

static cch_status scan_object(scan *s) {
    s->at++;
    skip_space(s);
    if (!is_next(s, '}')) {
        for (;;) {
            CCH_RETURN_IF(scan_member(s));
            skip_space(s);
            if (is_next(s, '}')) break;
            if (!is_next(s, ',')) return fail_unexpected(s, "',' or '}'");
            s->at++;
        }
    }
    s->at++;
    return CCH_OK;
}

static cch_status scan_container(scan *s, bool object) {
    if (s->depth == s->max_depth)
        SCAN_FAIL(s, s->at, "%s: nests deeper than %d at byte %zu", s->name, s->max_depth, s->at);
    s->depth++;
    CCH_RETURN_IF(s->sink->open(s->sink->arg, object));
    CCH_RETURN_IF(object ? scan_object(s) : scan_array(s));
    s->sink->close(s->sink->arg);
    s->depth--;
    return CCH_OK;
}

static cch_status scan_value(scan *s) {
    skip_space(s);
    char c = s->at < s->len ? s->text[s->at] : '\0';
    if (c == '{' || c == '[') return scan_container(s, c == '{');
    if (c == '"') {
        size_t len;
        bool has_nul;
        CCH_RETURN_IF(scan_string(s, &len, &has_nul));
        return s->sink->string(s->sink->arg, s->sink->buffer, len);
    }
    if (c == '-' || (c >= '0' && c <= '9')) return scan_number(s);
    if (c == 't') return scan_word(s, "true");
    if (c == 'f') return scan_word(s, "false");
    if (c == 'n') return scan_word(s, "null");
    return fail_unexpected(s, "a value");
}

cch_status cch_json_scan(const char *text, size_t len, const char *name, int max_depth, cch_json_sink *sink,
                         cch_error *err) {
    scan s = {.text = text, .name = name, .len = len, .max_depth = max_depth, .sink = sink, .err = err};
    CCH_RETURN_IF(scan_value(&s));
    skip_space(&s);
    return s.at < s.len ? fail_unexpected(&s, "the end") : CCH_OK;
}
