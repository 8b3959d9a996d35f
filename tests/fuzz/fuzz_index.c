/* An index file; or, when the first byte is '#', what follows it with digests that are made to fit.
 * Whatever opens must be searched, changed, saved and opened again without harm. */
#include "../c/sim/indexfile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "include/cacher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MOST 64 /* rows looked for */

static void use(cch_index *index, const char *path) {
    cch_index_info info;
    cch_index_get_info(index, &info);
    float *row = calloc((size_t)info.dimension, sizeof *row);
    int64_t *keys = NULL, found[MOST];
    double scores[MOST];
    size_t n, n_found;
    if (row == NULL || cch_index_keys(index, &keys, &n, NULL) != CCH_OK || n != info.n_rows) abort();
    for (int32_t i = 0; i < info.dimension; i++) row[i] = (float)(i % 5 - 2);
    if (cch_index_search(index, row, 1, MOST, -1.0, NULL, found, scores, &n_found, NULL) != CCH_OK) abort();
    if (n_found > n || n_found > MOST) abort();
    for (size_t i = 0; i < n_found; i++)
        if (!cch_index_has(index, found[i]) || !(fabs(scores[i]) <= 1.0)) abort();
    for (size_t i = 0; i < n; i++)
        if (cch_index_row(index, keys[i], row, NULL) != CCH_OK) abort();
    size_t removed;
    if (cch_index_remove(index, keys, n - n / 3, &removed, NULL) != CCH_OK || removed != n - n / 3) abort();
    cch_free(keys);
    for (int32_t i = 0; i < info.dimension; i++) row[i] = 1.0f;
    const cch_status added = cch_index_add(index, row, 1, NULL, NULL, NULL);
    if (added != CCH_OK && added != CCH_E_ARGUMENT) abort(); /* the keys may be used up */
    if (cch_index_save(index, path, NULL) != CCH_OK) abort();
    free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char saved[64];
    char path[64];
    const size_t live = cch_live_bytes();
    const bool fit = size > HEADER_BYTES && data[0] == '#';
    const cch_index_options options = {CCH_ROWS_F32, 1, NULL};
    cch_index *index = NULL;
    cch_error err;
    if (saved[0] == '\0') snprintf(saved, sizeof saved, P_tmpdir "/cacher-fuzz-index-%ld", (long)getpid());
    uint8_t *file = malloc(size + 1);
    const int fd = memfd_create("index", 0);
    if (file == NULL || fd < 0) abort();
    if (fit) size--;
    memcpy(file, data + (fit ? 1 : 0), size);
    if (fit) fit_digests(file, size);
    if (write(fd, file, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const cch_status status = cch_index_open(path, &options, &index, &err);
    if (status == CCH_OK) {
        use(index, saved);
        cch_index_unref(index);
        if (cch_index_open(saved, &options, &index, NULL) != CCH_OK) abort();
        unlink(saved);
    } else if ((status != CCH_E_FORMAT && status != CCH_E_UNSUPPORTED) || index != NULL) {
        abort();
    }
    cch_index_unref(index);
    close(fd);
    free(file);
    if (cch_live_bytes() != live) abort();
    return 0;
}
