#include "gen/embed.h"

#include <string.h>

#include "gen/work.h"
#include "model/encode.h"
#include "sim/pooling.h"

/* Some texts on their way. */
typedef struct job {
    cch_model *model;
    const int32_t *ids, *lengths;
    size_t n_texts;
    const cch_eval_options *options;
    bool pooled; /* a vector for each text, else one for each token */
    float *dst;
} job;

/* *out_total: tokens of all texts. */
static cch_status check_texts(const job *j, int64_t *out_total, cch_error *err) {
    const int32_t vocab = j->model->config.vocab_size, most = j->model->sentence.max_tokens;
    int64_t total = 0;
    for (size_t i = 0; i < j->n_texts; i++) {
        if (j->lengths[i] < 1) CCH_FAIL(err, CCH_E_EMPTY, i, "text %zu holds no tokens: it has no vector", i);
        if (j->lengths[i] > most)
            CCH_FAIL(err, CCH_E_CONTEXT, i, "text %zu has %d tokens, the model reads at most %d", i, j->lengths[i],
                     most);
        total += j->lengths[i];
    }
    for (int64_t i = 0; i < total; i++)
        if (j->ids[i] < 0 || j->ids[i] >= vocab)
            CCH_FAIL(err, CCH_E_TOKEN_ID, i, "token id %d is outside the vocabulary, allowed: 0 to %d", j->ids[i],
                     vocab - 1);
    *out_total = total;
    return CCH_OK;
}

/* The pass of texts [first, first + n), whose ids begin at `at`, and what comes of it in dst. */
static cch_status run_pass(const job *j, size_t first, size_t n, int64_t at, cch_error *err) {
    const size_t dim = (size_t)j->model->config.hidden_size;
    const float *hidden = NULL;
    size_t ld = 0;
    CCH_RETURN_IF(cch_encode(j->model, j->ids + at, j->lengths + first, n, NULL, j->options->cancel,
                             &hidden, &ld, err));
    for (size_t i = first; i < first + n; i++) {
        const size_t rows = (size_t)j->lengths[i];
        float *dst = j->dst + i * dim;
        if (!j->pooled) {
            for (size_t r = 0; r < rows; r++) memcpy(dst + r * dim, hidden + r * ld, dim * sizeof *dst);
        } else {
            cch_pool_rows(j->model->kern, j->model->sentence.pooling, hidden, ld, rows, dim, dst);
            if (!cch_unit(dst, dim))
                CCH_FAIL(err, CCH_E_ARGUMENT, i, "the vector of text %zu is no numbers: the model's weights overflow",
                         i);
        }
        hidden += rows * ld;
    }
    return CCH_OK;
}

static cch_status run(const job *j, cch_error *err) {
    int64_t total = 0, done = 0;
    CCH_RETURN_IF(cch_model_expect(j->model, CCH_ENCODER, "embedding", err));
    CCH_RETURN_IF(cch_work_check(j->options->chunk_tokens, 0, err));
    CCH_RETURN_IF(check_texts(j, &total, err));
    const int32_t chunk = cch_work_chunk(j->options->chunk_tokens);
    for (size_t i = 0, n; i < j->n_texts; i += n) {
        int64_t rows = j->lengths[i];
        for (n = 1; i + n < j->n_texts && rows + j->lengths[i + n] <= chunk; n++) rows += j->lengths[i + n];
        CCH_RETURN_IF(cch_run_lock(j->model, err));
        cch_status status = run_pass(j, i, n, done, err);
        cch_run_unlock(j->model);
        CCH_RETURN_IF(status);
        done += rows;
        atomic_fetch_add(&j->model->tokens_computed, rows);
        atomic_fetch_add(&j->model->forwards, 1);
        if (j->options->progress != NULL) j->options->progress(j->options->progress_arg, done, total);
    }
    return CCH_OK;
}

static const cch_eval_options defaults = CCH_EVAL_OPTIONS_INIT;

cch_status cch_embed(cch_model *model, const int32_t *ids, const int32_t *lengths, size_t n_texts,
                     const cch_eval_options *options, float *dst, cch_error *err) {
    job j = {model, ids, lengths, n_texts, options == NULL ? &defaults : options, true, dst};
    return run(&j, err);
}

cch_status cch_embed_tokens(cch_model *model, const int32_t *ids, int32_t n, const cch_eval_options *options,
                            float *dst, cch_error *err) {
    job j = {model, ids, &n, 1, options == NULL ? &defaults : options, false, dst};
    return run(&j, err);
}
