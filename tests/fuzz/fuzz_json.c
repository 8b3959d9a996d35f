/* json: any bytes.  What parses is walked and read in every way. */
#include "io/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(cch_json value) {
    cch_error err;
    char text[CCH_JSON_TEXT];
    bool b;
    int64_t i;
    double d;
    const char *s;
    size_t len;
    cch_json child;
    if (strlen(cch_json_where(value, text)) >= CCH_JSON_TEXT || strlen(cch_json_show(value, text)) >= CCH_JSON_TEXT)
        abort();
    int read = (cch_json_get_bool(value, &b, &err) == CCH_OK) +
               (cch_json_get_int(value, -1000, 1000, &i, &err) == CCH_OK) +
               (cch_json_get_string(value, &s, &len, &err) == CCH_OK);
    if (read > 1) abort();
    if (cch_json_get_double(value, -1, 1, &d, &err) == CCH_OK && !(d >= -1 && d <= 1)) abort();
    if (cch_json_get_kind(value) == CCH_JSON_ARRAY)
        for (size_t n = 0; n < cch_json_len(value); n++) walk(cch_json_at(value, n));
    size_t members = 0;
    cch_json_iter it = cch_json_members(value);
    while (cch_json_next(&it, &s, &len, &child)) {
        cch_json again;
        if (!cch_json_find(value, s, &again) || again.node != child.node) abort(); /* keys are unique */
        walk(child);
        members++;
    }
    if (cch_json_get_kind(value) == CCH_JSON_OBJECT && members != cch_json_len(value)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cch_json_doc *doc = NULL;
    cch_error err;
    size_t live = cch_live_bytes();
    cch_status status = cch_json_parse((const char *)data, size, "fuzz", 8, &doc, &err);
    if (status == CCH_OK) walk(cch_json_root(doc));
    else if (status != CCH_E_FORMAT || doc != NULL) abort();
    cch_json_close(doc);
    if (cch_live_bytes() != live) abort();
    return 0;
}
