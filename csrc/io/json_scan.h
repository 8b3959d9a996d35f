/* json_scan - reads strict JSON (RFC 8259, UTF-8) and tells a sink what it sees, in order.
 *
 * Refuses what is not exactly one value, nests deeper than allowed, or has a key that holds \u0000 (json-c's keys end
 * there).  Knows nothing of trees: json.c makes one from the events.
 * Threads: pure but for the sink.
 */
#ifndef CCH_IO_JSON_SCAN_H
#define CCH_IO_JSON_SCAN_H

#include "base/status.h"

/* Events of one text.  A status other than CCH_OK ends the scan and is passed on.  `text` is valid during the call. */
typedef struct cch_json_sink {
    void *arg;
    cch_status (*open)(void *arg, bool object);                                        /* { or [ */
    void (*close)(void *arg);                                                          /* } or ] */
    cch_status (*key)(void *arg, const char *text, size_t len, size_t position);       /* decoded, NUL behind it */
    cch_status (*string)(void *arg, const char *text, size_t len);                     /* decoded */
    cch_status (*number)(void *arg, const char *text, size_t len, bool is_whole);      /* as written */
    cch_status (*word)(void *arg, char first);                                         /* 't', 'f' or 'n' */
    char *buffer; /* where strings are decoded to; needs as many bytes as the text has left, the sink may advance it */
} cch_json_sink;

/* Scans text [len]; `name` starts every message.  E_FORMAT with the byte position, or what the sink returned. */
cch_status cch_json_scan(const char *text, size_t len, const char *name, int max_depth, cch_json_sink *sink,
                         cch_error *err);

#endif
