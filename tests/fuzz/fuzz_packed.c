/* packed: a packed file for one of the tiny configs; the first byte picks it, and when it is 16 or more, digests are
 * made to fit.  What opens must be read, saved and opened again without harm. */
#include "model/packedfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../c/model/packedfile_fields.h"
#include "configs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const cch_weights *w, const cch_config *config, cch_threads *threads) {
    char path[64];
    float row[4];
    cch_weights again;
    if (config->model_type == CCH_CAUSAL_LM || w->embedding != NULL)
        for (int32_t id = 0; id < config->vocab_size; id++) cch_weights_embedding(w, id, row);
    const char *folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : P_tmpdir; /* saving waits for a disk */
    snprintf(path, sizeof path, "%s/cacher-fuzz-packed-%ld", folder, (long)getpid());
    if (cch_packedfile_save(w, path, NULL) != CCH_OK) abort();
    if (cch_packedfile_open(path, config, threads, &again, NULL) != CCH_OK) abort();
    if (again.n_parts != w->n_parts || again.bytes != w->bytes) abort();
    for (size_t i = 0; i < w->n_parts; i++)
        if (memcmp(again.parts[i].data, w->parts[i].data, w->parts[i].bytes) != 0) abort();
    cch_weights_close(&again);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    const size_t live = cch_live_bytes();
    cch_threads *threads = NULL;
    cch_weights weights;
    cch_error err;
    if (size == 0) return 0;
    const cch_config *config = &configs[data[0] % 16 % N_CONFIGS];
    uint8_t *file = malloc(size);
    const int fd = memfd_create("packed", 0);
    if (file == NULL || fd < 0 || cch_threads_new(1, &threads, &err) != CCH_OK) abort();
    memcpy(file, data + 1, size - 1);
    if (data[0] >= 16 && size > HEADER_BYTES) fit_digests(file, size - 1);
    if (write(fd, file, size - 1) != (ssize_t)(size - 1)) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const cch_status status = cch_packedfile_open(path, config, threads, &weights, &err);
    if (status == CCH_OK) use(&weights, config, threads);
    else if ((status != CCH_E_FORMAT && status != CCH_E_UNSUPPORTED) || weights.parts != NULL) abort();
    cch_weights_close(&weights);
    cch_threads_free(threads);
    close(fd);
    free(file);
    if (cch_live_bytes() != live) abort();
    return 0;
}
