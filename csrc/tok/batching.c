/* batching - many texts, or rows of ids, at once.
 *
 * The threads take items one after the other, each the first that nobody has taken, so that long and short ones even
 * out.  What becomes of an item depends on it alone.  Whatever stands before the item that fails is taken and done, so
 * that which failure is told does not depend on the threads either.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/cpu.h"
#include "base/threads.h"
#include "tok/tokenizer.h"

#define WORTH_A_THREAD ((size_t)8192) /* bytes of text, or ids: less is done before a thread has started */

typedef struct batch {
    const cch_tokenizer *tok;
    size_t n;
    const char *const *texts;   /* [n] what is encoded, or NULL and then */
    const int32_t *const *rows; /* [n] what is decoded */
    const size_t *lens;         /* [n] of either */
    int flags;                  /* of encoding */
    bool skip_special;          /* of decoding */
    int32_t **out_ids;          /* [n] */
    char **out_texts;           /* [n] */
    size_t *out_lens;           /* [n] of either */
    atomic_size_t next;         /* the first item that nobody has taken */
    atomic_size_t failed;       /* the first that failed so far, n when none has */
    pthread_mutex_t lock;       /* of changes of `failed`, and of what follows */
    cch_status status;
    cch_error error;
} batch;

static cch_status run_item(const batch *b, size_t i, cch_error *err) {
    if (b->texts != NULL)
        return cch_tokenizer_encode(b->tok, b->texts[i], b->lens[i], b->flags, &b->out_ids[i], &b->out_lens[i], err);
    return cch_tokenizer_decode(b->tok, b->rows[i], b->lens[i], b->skip_special, &b->out_texts[i], &b->out_lens[i],
                                err);
}

static void note_failure(batch *b, size_t item, cch_status status, const cch_error *err) {
    pthread_mutex_lock(&b->lock);
    if (item < atomic_load(&b->failed)) {
        atomic_store(&b->failed, item);
        b->status = cch_fail(&b->error, status, err->function, err->position, "%s %zu: %s",
                             b->texts != NULL ? "text" : "row", item, err->message);
    }
    pthread_mutex_unlock(&b->lock);
}

static void take_items(void *arg, int thread, int n_threads) {
    batch *b = arg;
    cch_error err;
    (void)thread, (void)n_threads;
    for (size_t i; (i = atomic_fetch_add(&b->next, 1)) < atomic_load(&b->failed);) {
        cch_status status = run_item(b, i, &err);
        if (status != CCH_OK) note_failure(b, i, status, &err);
    }
}

/* At most n_threads (0: one a core), one for each item, and no more than there is work for. */
static int threads_worth(const batch *b, int n_threads) {
    size_t size = 0, most = b->n;
    if (n_threads == 0) n_threads = cch_cpu_cores();
    if (n_threads > CCH_MAX_THREADS) n_threads = CCH_MAX_THREADS;
    if (most > (size_t)n_threads) most = (size_t)n_threads;
    for (size_t i = 0; i < b->n && size / WORTH_A_THREAD < most; i++) size += b->lens[i];
    return size / WORTH_A_THREAD < most ? (int)(size / WORTH_A_THREAD) : (int)most;
}

static void run_threads(batch *b, int n_threads) {
    cch_threads *threads = NULL;
    pthread_mutex_init(&b->lock, NULL);
    if (n_threads > 1 && cch_threads_new(n_threads, &threads, NULL) == CCH_OK) cch_threads_run(threads, take_items, b);
    else take_items(b, 0, 1); /* as well where no thread is to be had: the result is the same */
    cch_threads_free(threads);
    pthread_mutex_destroy(&b->lock);
}

/* Frees nothing: for what was never made, and for what was freed. */
static void clear_item(const batch *b, size_t i) {
    if (b->texts != NULL) b->out_ids[i] = NULL;
    else b->out_texts[i] = NULL;
    b->out_lens[i] = 0;
}

static cch_status run_batch(batch *b, int n_threads, cch_error *err) {
    for (size_t i = 0; i < b->n; i++) clear_item(b, i);
    if (n_threads < 0 || n_threads > CCH_MAX_THREADS)
        CCH_FAIL(err, CCH_E_ARGUMENT, n_threads, "n_threads is %d, allowed: 0 to %d", n_threads, CCH_MAX_THREADS);
    atomic_init(&b->next, 0);
    atomic_init(&b->failed, b->n);
    run_threads(b, threads_worth(b, n_threads));
    if (b->status == CCH_OK) return CCH_OK;
    for (size_t i = 0; i < b->n; i++) {
        cch_free(b->texts != NULL ? (void *)b->out_ids[i] : b->out_texts[i]);
        clear_item(b, i);
    }
    if (err != NULL) *err = b->error;
    return b->status;
}

cch_status cch_tokenizer_encode_batch(const cch_tokenizer *tok, const char *const *texts, const size_t *lens, size_t n,
                                      int flags, int n_threads, int32_t **out_ids, size_t *out_n, cch_error *err) {
    batch b = {.tok = tok, .n = n, .texts = texts, .lens = lens, .flags = flags, .out_ids = out_ids, .out_lens = out_n};
    return run_batch(&b, n_threads, err);
}

cch_status cch_tokenizer_decode_batch(const cch_tokenizer *tok, const int32_t *const *rows, const size_t *lens,
                                      size_t n, bool skip_special, int n_threads, char **out_texts, size_t *out_lens,
                                      cch_error *err) {
    batch b = {.tok = tok, .n = n, .rows = rows, .lens = lens, .skip_special = skip_special, .out_texts = out_texts,
               .out_lens = out_lens};
    return run_batch(&b, n_threads, err);
}
