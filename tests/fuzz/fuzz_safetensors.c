/* safetensors: a file; or, when the first byte is '#', "#header NUL data", for which the length field is made here.
 * Every view of what opens must lie inside the file and be readable from end to end. */
#include "io/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const cch_tensors *t, const uint8_t *file, size_t size) {
    size_t covered = 0;
    for (size_t i = 0; i < cch_tensors_count(t); i++) {
        const cch_tensor_view *view = cch_tensors_at(t, i);
        char text[CCH_TENSOR_TEXT];
        float values[64];
        if (strlen(cch_tensor_show(view, text)) >= CCH_TENSOR_TEXT) abort();
        if (view->data < file || view->n_bytes > size - (size_t)(view->data - file)) abort();
        if (cch_tensors_find(t, view->name) != view) abort();
        covered += view->n_bytes;
        if (cch_tensor_check_dtype(view, NULL) != CCH_OK) continue;
        for (size_t at = 0, n; at < view->n_elements; at += n) {
            n = view->n_elements - at < 64 ? view->n_elements - at : 64;
            cch_tensor_read(view, at, n, values);
        }
    }
    if (covered > size) abort();
}

static void run_file(const uint8_t *file, size_t size) {
    cch_tensors *t = NULL;
    cch_error err;
    size_t live = cch_live_bytes();
    cch_status status = cch_tensors_parse(file, size, "fuzz", &t, &err);
    if (status == CCH_OK) read_all(t, file, size);
    else if (status != CCH_E_FORMAT || t != NULL) abort();
    cch_tensors_close(t);
    if (cch_live_bytes() != live) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || data[0] != '#') {
        run_file(data, size);
        return 0;
    }
    const uint8_t *end = memchr(data, 0, size);
    size_t header = end == NULL ? size - 1 : (size_t)(end - data) - 1, rest = end == NULL ? 0 : size - header - 2;
    uint8_t *file = malloc(8 + header + rest);
    if (file == NULL) return 0;
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)(header >> 8 * i);
    memcpy(file + 8, data + 1, header);
    if (rest > 0) memcpy(file + 8 + header, end + 1, rest);
    run_file(file, 8 + header + rest);
    free(file);
    return 0;
}
