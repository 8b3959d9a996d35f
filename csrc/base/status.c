#include "base/status.h"

#include <stdarg.h>
#include <stdio.h> /* vsnprintf */
#include <string.h>

const char *cch_status_name(cch_status status) {
    switch (status) {
#define CCH_STATUS_CASE(name, value, text) \
    case CCH_##name: return #name;
        CCH_STATUS_LIST(CCH_STATUS_CASE)
#undef CCH_STATUS_CASE
    }
    return "E_UNKNOWN";
}

const char *cch_status_text(cch_status status) {
    switch (status) {
#define CCH_STATUS_CASE(name, value, text) \
    case CCH_##name: return text;
        CCH_STATUS_LIST(CCH_STATUS_CASE)
#undef CCH_STATUS_CASE
    }
    return "unknown status";
}

/* Drops the start of a UTF-8 character whose end was cut off. */
static void trim_partial_utf8(char *text) {
    size_t n = strlen(text), back = 0;
    while (back < 3 && back < n && ((unsigned char)text[n - 1 - back] & 0xC0) == 0x80) back++;
    if (back >= n) return;
    unsigned char lead = (unsigned char)text[n - 1 - back];
    size_t want = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (back < want) text[n - 1 - back] = '\0';
}

cch_status cch_fail(cch_error *err, cch_status status, const char *function, int64_t position, const char *format,
                    ...) {
    if (err != NULL) {
        va_list args;
        err->code = status;
        err->function = function;
        err->position = position;
        va_start(args, format);
        int wanted = vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        if (wanted >= (int)sizeof err->message) trim_partial_utf8(err->message);
    }
    return status;
}
