/* weights: the bytes of a model.safetensors for one of five tiny configs; the first byte picks it.  Written to a
 * folder in memory, since loading maps files. */
#include "model/weights.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "configs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64], path[128];

static void clean_up(void) {
    unlink(path);
    rmdir(folder);
}

static bool write_file(const uint8_t *data, size_t size) {
    if (folder[0] == '\0') {
        snprintf(folder, sizeof folder, "%s/cacher-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : P_tmpdir);
        if (mkdtemp(folder) == NULL) abort();
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        atexit(clean_up);
    }
    FILE *file = fopen(path, "wb");
    return file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cch_threads *threads = NULL;
    cch_weights weights;
    cch_error err;
    size_t live = cch_live_bytes();
    if (size == 0 || !write_file(data + 1, size - 1)) return 0;
    if (cch_threads_new(1, &threads, &err) != CCH_OK) abort();
    const cch_config *config = &configs[data[0] % N_CONFIGS];
    cch_status status = cch_weights_open(folder, config, CCH_FORMAT_F32, threads, &weights, &err);
    if (status == CCH_OK) {
        float row[4];
        for (int32_t id = 0; id < config->vocab_size; id++) cch_weights_embedding(&weights, id, row);
    } else if (status != CCH_E_FORMAT && status != CCH_E_UNSUPPORTED) abort();
    cch_weights_close(&weights);
    cch_threads_free(threads);
    if (cch_live_bytes() != live) abort();
    return 0;
}
