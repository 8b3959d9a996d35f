/* checkpoint: the bytes of a .pt file, opened and shown as cch_checkpoint_open does; half of the inputs are only the
 * pickle in it, which spares the fuzzer the archive.  Written to a folder in memory, since loading maps files. */
#include "../c/ptfile.h"
#include "io/pickle.h"

#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64];

static void clean_up(void) { unlink(path); }

static void write_file(const uint8_t *data, size_t size) {
    if (path[0] == '\0') {
        snprintf(path, sizeof path, "%s/cacher-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : P_tmpdir);
        int fd = mkstemp(path);
        if (fd < 0 || close(fd) != 0) abort();
        atexit(clean_up);
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) abort();
}

/* The archive around a pickle, with the storages of a model of generation 1. */
static void write_pickle(const uint8_t *data, size_t size) {
    static ptfile f;
    memset(&f, 0, sizeof f);
    if (size > sizeof f.pickle) size = sizeof f.pickle;
    for (int s = 0; s < 16; s++) {
        f.first[s] = (size_t)s * 64;
        f.size[s] = s == 0 ? 8192 : 1024;
    }
    f.n_storages = 16;
    memcpy(f.pickle, data, size);
    f.n_pickle = size;
    pt_archive(&f);
    write_file(f.file, f.n_file);
}

/* Looks at every value once: they may be shared, and all paths to them are too many. */
static void walk(const cch_checkpoint *c, const cch_value *value, bool *seen, int depth) {
    if (value->id < 0 || value->id >= cch_checkpoint_values(c) || depth > CCH_PICKLE_DEPTH) abort();
    if (seen[value->id]) return;
    seen[value->id] = true;
    uint8_t sum = 0;
    if (value->bytes != NULL)
        for (size_t i = 0; i < value->n; i++) sum = (uint8_t)(sum + (uint8_t)value->bytes[i]);
    for (size_t i = 0; value->kind >= CCH_VALUE_LIST && value->kind <= CCH_VALUE_DICT && i < value->n; i++) {
        cch_value item;
        cch_checkpoint_item(c, value, i, &item);
        walk(c, &item, seen, depth + 1);
    }
}

static void read_all(const cch_checkpoint *c) {
    static const char *const keys[] = {"model_cfg", "train_cfg", "step", "best_val_loss", "optimizer_state"};
    bool *seen = calloc((size_t)cch_checkpoint_values(c), 1);
    cch_value value;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (cch_checkpoint_get(c, keys[i], &value)) walk(c, &value, seen, 0);
    free(seen);
    for (size_t i = 0; i < cch_checkpoint_tensors(c); i++) {
        cch_checkpoint_tensor tensor;
        cch_checkpoint_get_tensor(c, i, &tensor);
        float *numbers = malloc((size_t)tensor.n_numbers * sizeof *numbers + 1);
        if (numbers == NULL) abort(); /* there are no more of them than the file has bytes */
        cch_checkpoint_read_tensor(c, i, numbers);
        free(numbers);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t live = cch_live_bytes();
    cch_checkpoint *checkpoint = NULL;
    cch_model *model = NULL;
    cch_error err;
    cch_model_options options = {.n_threads = 1, .isa = "generic"};
    if (size > 0 && data[0] == 'P') write_file(data, size); /* an archive */
    else write_pickle(data, size);
    cch_status status = cch_checkpoint_open(path, &checkpoint, &err);
    if (status == CCH_OK) read_all(checkpoint);
    else if (status != CCH_E_FORMAT && status != CCH_E_UNSUPPORTED) abort();
    cch_status opened = status == CCH_OK ? cch_model_open(path, &options, &model, &err) : CCH_E_FORMAT;
    if (opened != CCH_OK && opened != CCH_E_FORMAT && opened != CCH_E_UNSUPPORTED) abort();
    cch_checkpoint_close(checkpoint);
    cch_model_unref(model);
    if (cch_live_bytes() != live) abort();
    return 0;
}
