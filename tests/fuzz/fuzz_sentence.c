/* sentence: the files that sentence-transformers writes beside a model, one behind the other with NULs between them; an
 * empty one is missing.  Written to a folder in memory, since loading maps files. */
#include "io/sentence.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
                                    "tokenizer_config.json", "config_sentence_transformers.json"};
static char folder[64], path[128];

static const char *in_folder(const char *name) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void clean_up(void) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(in_folder(names[i]));
    rmdir(in_folder("1_Pooling"));
    rmdir(folder);
}

static void make_folder(void) {
    snprintf(folder, sizeof folder, "%s/cacher-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : P_tmpdir);
    if (mkdtemp(folder) == NULL || mkdir(in_folder("1_Pooling"), 0700) != 0) abort();
    atexit(clean_up);
}

static void write_file(const char *name, const uint8_t *data, size_t size) {
    if (size == 0) {
        unlink(in_folder(name));
        return;
    }
    FILE *file = fopen(in_folder(name), "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const cch_config config = {.architecture = "bert", .model_type = CCH_ENCODER, .max_position_embeddings = 512};
    const size_t live = cch_live_bytes();
    cch_sentence sentence;
    cch_error err;
    if (folder[0] == '\0') make_folder();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const uint8_t *end = size == 0 ? NULL : memchr(data, 0, size);
        const size_t len = end == NULL ? size : (size_t)(end - data);
        write_file(names[i], data, len);
        data += end == NULL ? len : len + 1;
        size -= end == NULL ? len : len + 1;
    }
    cch_status status = cch_sentence_open(folder, &config, &sentence, &err);
    if (status == CCH_OK) {
        if (sentence.max_tokens < 1 || sentence.max_tokens > 512) abort();
    } else if (status != CCH_E_FORMAT && status != CCH_E_UNSUPPORTED && status != CCH_E_IO) abort();
    if (cch_live_bytes() != live) abort();
    return 0;
}
