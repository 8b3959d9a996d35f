/* cacher_run - continues a text with a model: the core on its own, without Python.
 *
 *     build/cacher_run FOLDER TEXT [-n TOKENS] [-t TEMPERATURE] [-s SEED] [-j THREADS]
 *
 * Prints the token ids of the text, then the continuation as it comes (greedy unless -t is given), then the speed of
 * reading and of writing.  Exits with 1 and one sentence when something is wrong.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h> /* getopt */

#include "include/cacher.h"

typedef struct run_options {
    const char *folder, *text;
    int32_t n_tokens, n_threads;
    cch_sampling sampling;
} run_options;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool parse(int argc, char **argv, run_options *out) {
    *out = (run_options){NULL, NULL, 100, 0, CCH_SAMPLING_INIT};
    out->sampling.temperature = 0.0f;
    for (int option; (option = getopt(argc, argv, "n:t:s:j:")) != -1;) {
        if (option == 'n') out->n_tokens = atoi(optarg);
        else if (option == 't') out->sampling.temperature = strtof(optarg, NULL);
        else if (option == 's') out->sampling.seed = strtoull(optarg, NULL, 10);
        else if (option == 'j') out->n_threads = atoi(optarg);
        else return false;
    }
    if (optind + 2 != argc) return false;
    out->folder = argv[optind];
    out->text = argv[optind + 1];
    return true;
}

/* Appends the text's tokens and prints their ids. */
static cch_status read_text(cch_state *state, const char *text, cch_error *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    cch_tokenizer *tok = cch_model_tokenizer_view(cch_state_model_view(state));
    cch_status status = cch_tokenizer_encode(tok, text, strlen(text), CCH_ENCODE_ADD_SPECIALS, &ids, &n, err);
    if (status != CCH_OK) return status;
    printf("ids:");
    for (size_t i = 0; i < n; i++) printf(" %d", ids[i]);
    printf("\n%s", text);
    status = cch_state_append(state, ids, n, err);
    cch_free(ids);
    return status;
}

/* Draws up to n_tokens tokens in a batch of one and prints their text. */
static cch_status write_text(cch_state *state, const run_options *options, int32_t *out_n, cch_error *err) {
    cch_status status;
    cch_batch *batch = NULL;
    cch_decoder *decoder = NULL;
    cch_model *model = cch_state_model_view(state);
    cch_step step[1];
    const char *piece = "";
    size_t n = 0, len = 0;
    int32_t row;
    cch_batch_options batch_options = CCH_BATCH_OPTIONS_INIT;
    batch_options.max_rows = 1;
    status = cch_decoder_new(cch_model_tokenizer_view(model), true, &decoder, err);
    if (status == CCH_OK) status = cch_batch_new(model, &batch_options, &batch, err);
    if (status == CCH_OK) status = cch_batch_add(batch, state, &options->sampling, 0, &row, err);
    while (status == CCH_OK && *out_n < options->n_tokens) {
        status = cch_batch_step(batch, step, &n, err);
        if (status != CCH_OK || n == 0) continue;
        if (step[0].finish != CCH_RUNNING) break;
        *out_n += 1;
        status = cch_decoder_push(decoder, step[0].sampled.token_id, &piece, &len, err);
        if (status == CCH_OK) fwrite(piece, 1, len, stdout);
        fflush(stdout);
    }
    if (status == CCH_OK) status = cch_decoder_finish(decoder, &piece, &len, err);
    if (status == CCH_OK) fwrite(piece, 1, len, stdout);
    cch_batch_free(batch);
    cch_decoder_free(decoder);
    return status;
}

static cch_status run(const run_options *options, cch_error *err) {
    cch_status status;
    cch_model *model = NULL;
    cch_state *state = NULL;
    cch_model_options model_options = CCH_MODEL_OPTIONS_INIT;
    int32_t n_written = 0;
    model_options.n_threads = options->n_threads;
    double start = seconds();
    status = cch_model_open(options->folder, &model_options, &model, err);
    double opened = seconds();
    if (status == CCH_OK) status = cch_state_new(model, &state, err);
    if (status == CCH_OK && cch_model_tokenizer_view(model) == NULL) {
        snprintf(err->message, sizeof err->message, "%s holds no tokenizer", options->folder);
        status = CCH_E_UNSUPPORTED;
    }
    if (status == CCH_OK) status = read_text(state, options->text, err);
    double before = seconds();
    if (status == CCH_OK) status = cch_eval(model, &state, 1, NULL, NULL, err);
    double read = seconds();
    int32_t n_read = status == CCH_OK ? cch_state_len(state) : 0;
    if (status == CCH_OK) status = write_text(state, options, &n_written, err);
    double written = seconds();
    if (status == CCH_OK)
        printf("\nopened in %.2f s; read %d tokens, %.0f tokens/s; wrote %d tokens, %.0f tokens/s\n", opened - start,
               n_read, n_read / (read - before), n_written, n_written / (written - read));
    cch_state_free(state);
    cch_model_unref(model);
    return status;
}

int main(int argc, char **argv) {
    run_options options;
    cch_error err = {0};
    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "usage: %s FOLDER TEXT [-n TOKENS] [-t TEMPERATURE] [-s SEED] [-j THREADS]\n", argv[0]);
        return 2;
    }
    if (run(&options, &err) == CCH_OK) return 0;
    fprintf(stderr, "%s: %s\n", argv[0], err.message);
    return 1;
}
