/* cacher.h - the public C API of the cacher core: the manual of the library.
 *
 * The idea.  A language-model call is a pure function: logits = f(model, tokens), bit for bit, whatever else is in
 * the batch, however the tokens were split into chunks, on however many threads and on whichever instruction set.
 * So the key/value cache of a token sequence is only a cache: it can be shared, dropped and recomputed.
 *
 *   cch_model      immutable weights, tokenizer, fingerprint; owns the page pool and the worker threads
 *   cch_tokenizer  text <-> token ids (include/cacher_tokenizer.h, which comes with this header)
 *   cch_state      a token sequence; its pages form a tree shared with its forks and with every equal prefix
 *   cch_eval       runs the model over what is pending in some states: logits of their last tokens
 *   cch_batch      continuous batching: states join, get a sampled token per step, and leave
 *   cch_beam       beam search; beams are forks
 *   cch_checkpoint what is in a checkpoint of torch (include/cacher_checkpoint.h, which comes with this header)
 *   cch_index      rows under keys, and the nearest ones (include/cacher_index.h, which comes with this header)
 *   cch_embed      what an encoder makes of texts: one vector for each (include/cacher_embed.h, likewise)
 *   cch_trace      what a token was drawn from, and what the model attended to (include/cacher_trace.h, likewise)
 *
 * Usage
 *   cch_model *model = NULL; cch_state *state = NULL; cch_error err;
 *   if (cch_model_open("models/tales", NULL, &model, &err)) { puts(err.message); return 1; }
 *   cch_state_new(model, &state, &err);
 *   cch_tokenizer_encode(cch_model_tokenizer_view(model), "Once upon", 9, 0, &ids, &n, &err);
 *   cch_state_append(state, ids, n, &err);
 *   cch_eval(model, &state, 1, NULL, logits, &err);      // logits [vocab_size] after the last token
 *
 * Errors.  A function that can fail returns cch_status and fills *err (err may be NULL).  Results go through out_
 * parameters, which are written only on success and set to NULL or 0 on failure.  Nothing here prints, exits,
 * aborts or keeps a global last error.  Every call that changes a state either finishes or leaves it as it was.
 *
 * Threads.  Models and tokenizers are safe to share.  A state or batch has one user at a time; a second one gets
 * CCH_E_BUSY at once.  Different states may be used from different threads: forward passes of one model take turns, in
 * the order in which they were asked for.  Free and unref functions accept NULL, may run in any thread, also while
 * another one uses what is freed (it lives until that call returns), and do not wait for compute.  A process that is
 * forked leaves alone what was opened before: its threads are not there.
 *
 * Memory.  "view" results are borrowed from their parent; "copy" results belong to the caller, who gives them to
 * cch_free.  *out of a new, open, fork or search function belongs to the caller, who frees it with the function of that
 * type.  ref functions give their argument back.  A state, batch or search holds a reference to its model, a decoder to
 * its tokenizer.  Pointers that are not said to be optional are not NULL.
 *
 * Errors that are not listed: every call that takes a state can give E_BUSY, and every call that can fail E_MEMORY.
 */
#ifndef CCH_INCLUDE_CACHER_H
#define CCH_INCLUDE_CACHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CCH_API __attribute__((visibility("default")))
#else
#define CCH_API
#endif

#define CCH_VERSION "0.1.0"
#define CCH_PACKED_FILE "model.packed" /* the weights of a packed folder */
#define CCH_PAGE_TOKENS 16 /* tokens of one KV page */

/* ------------------------------------------------------------------------------------------------ status ---- */

/* code, value (append-only), text */
#define CCH_STATUS_LIST(X)                                                                   \
    X(OK, 0, "ok")                                                                           \
    X(E_MEMORY, 1, "memory could not be had")                                                \
    X(E_ARGUMENT, 2, "a value is outside what is allowed")                                   \
    X(E_IO, 3, "a file could not be read or written")                                        \
    X(E_FORMAT, 4, "a file is damaged or not of the expected format")                        \
    X(E_UNSUPPORTED, 5, "a model or tokenizer option is not supported")                      \
    X(E_TOKEN_ID, 6, "a token id is outside the vocabulary")                                 \
    X(E_CONTEXT, 7, "more tokens than the model's context holds")                            \
    X(E_BUDGET, 8, "the byte budget for KV pages is too small for this request")             \
    X(E_BUSY, 9, "the object is in use by another call")                                     \
    X(E_CANCELLED, 10, "the call was cancelled")                                             \
    X(E_ENCODING, 11, "the text is not valid UTF-8")                                         \
    X(E_MISMATCH, 12, "objects of different models were combined")                           \
    X(E_EMPTY, 13, "the state holds no tokens")                                              \
    X(E_INTERNAL, 14, "a check of the library's own invariants failed")                      \
    X(E_MODEL_TYPE, 15, "the model is of another type than the call is for")

typedef enum cch_status {
#define CCH_STATUS_ENUM(name, value, text) CCH_##name = value,
    CCH_STATUS_LIST(CCH_STATUS_ENUM)
#undef CCH_STATUS_ENUM
} cch_status;

typedef struct cch_error {
    cch_status code;
    const char *function; /* static: the function that noticed */
    int64_t position;     /* byte or token position the message is about, -1 when none */
    char message[400];    /* one sentence holding the wrong value, where it came from and what is allowed */
} cch_error;

/* "E_FORMAT"; like the text a static string for every input. */
CCH_API const char *cch_status_name(cch_status status);
/* "a file is damaged or not of the expected format". */
CCH_API const char *cch_status_text(cch_status status);

/* Frees a "copy" result.  NULL is a no-op. */
CCH_API void cch_free(void *ptr);

/* Bytes the library holds right now, all models together.  For leak tests and memory reports. */
CCH_API size_t cch_live_bytes(void);

/* Test hook: the n-th allocation from now on (1 = the next) fails once with CCH_E_MEMORY; 0 switches the hook off.
 * Returns the allocations made since the last call.  Not for use while other threads are in the library. */
CCH_API int64_t cch_fail_alloc(int64_t nth);

/* ------------------------------------------------------------------------------------------------- model ---- */

typedef struct cch_model cch_model;
typedef struct cch_tokenizer cch_tokenizer; /* cacher_tokenizer.h */

typedef enum cch_model_type {
    CCH_CAUSAL_LM = 0,              /* predicts the next token */
    CCH_SEQUENCE_CLASSIFICATION = 1, /* judges a text: a number for each of its labels, and no next token */
    CCH_ENCODER = 2                 /* reads a text in both directions and gives a vector for it */
} cch_model_type;

/* How an encoder makes one vector of a text's hidden states. */
typedef enum cch_pooling {
    CCH_POOL_MEAN = 0, /* of all tokens, special ones too */
    CCH_POOL_CLS = 1,  /* the first token's */
    CCH_POOL_LAST = 2  /* the last token's */
} cch_pooling;

typedef struct cch_model_options {
    int32_t n_threads;         /* 1..256; 0 = the cores this process may run on */
    size_t kv_budget_bytes;    /* bytes of KV pages kept at most; 0 = 1 GiB */
    const char *isa;           /* "amx", "avx512bf16", "avx512", "avx2", "generic"; NULL = CACHER_ISA from the
                                  environment, else the best */
    const char *tokenizer;     /* of a checkpoint: its spm.model; NULL = as cch_tokenizer_open_for finds it */
    const char *dtype;         /* of the matrices: "f32", "bf16", "int8" (a scale for each 256); NULL = "f32", or what
                                  a packed folder holds */
    const char *kv_dtype;      /* of KV pages: "f32", "bf16"; NULL = "f32"; nothing to an encoder, which keeps none */
} cch_model_options;
#define CCH_MODEL_OPTIONS_INIT { 0, 0, NULL, NULL, NULL, NULL }

typedef struct cch_model_info {
    cch_model_type model_type;
    char architecture[32];     /* model_type of config.json: "gpt2", "llama", ... */
    char isa[16];              /* kernels in use */
    char dtype[8];             /* of the matrices: "f32", "bf16", "int8" */
    char kv_dtype[8];          /* of KV pages: "f32", "bf16"; "" for an encoder */
    char fingerprint[65];      /* hex: hash of configuration, weights, dtypes and tokenizer; part of every cache key */
    int32_t vocab_size, hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads, head_dim;
    int32_t n_ctx;             /* most tokens of a state, or of a text that an encoder reads */
    int32_t bos_token_id;      /* -1 when the model has none */
    int32_t n_eos, eos_token_ids[8];
    int32_t pad_token_id;      /* of a classifier, which overlooks it at the end of a text; -1 when there is none */
    int32_t n_labels;          /* outputs of a classifier, >= 1; 0 for other models */
    cch_pooling pooling;       /* of an encoder */
    int32_t n_threads;
    int64_t n_parameters;
    size_t weight_bytes;       /* bytes held by packed weights */
    size_t page_bytes;         /* KV bytes of one page; 0 for an encoder, which keeps none */
} cch_model_info;

typedef struct cch_model_stats {
    int64_t pages_live;        /* pages reachable from a state */
    int64_t pages_cached;      /* full pages kept only because their prefix may come again */
    int64_t pages_shared;      /* live pages with more than one owner */
    size_t kv_bytes, kv_budget_bytes;
    int64_t tokens_computed;   /* tokens that went through the model since it was opened */
    int64_t tokens_reused;     /* tokens a new state or an append found already computed */
    int64_t pages_evicted;
    int64_t forwards;          /* forward passes run */
} cch_model_stats;

/* Opens a folder in the hub's layout: config.json, model.safetensors or its index and shards, and, when there is one,
 * a tokenizer; for an encoder also how it pools (modules.json, 1_Pooling, sentence_bert_config.json).  Weights are
 * converted to `dtype` and packed for the kernels; the file is not kept mapped.   With bf16 and int8 the inputs of a
 * product are rounded, too, row by row, so results are others than with f32, as is the fingerprint; all else holds.
 * With `kv_dtype` "bf16" keys and values are rounded as they are stored, which takes half the bytes; attention itself
 * computes in f32, and what is said of results and fingerprint goes for this, too.
 * Or a packed folder, where cch_model_pack has written model.packed in the place of these weights: the file is checked,
 * mapped, and stays so; its dtype is what it holds (E_ARGUMENT when options ask for another).
 * Or a file: a niels-gpt checkpoint, as torch.save writes it (include/cacher_checkpoint.h).
 *   options may be NULL.   E_IO, E_FORMAT, E_UNSUPPORTED (the option is named), E_ARGUMENT (options), E_MEMORY. */
CCH_API cch_status cch_model_open(const char *path, const cch_model_options *options, cch_model **out,
                                  cch_error *err);
/* Writes the weights, as they are packed, to the file `path`: model.packed of a folder that holds all other files of
 * the model's own folder.  Opened, that is the same model: fingerprint and results are equal on every machine of this
 * byte order.  The file is there whole or not at all.   E_IO, E_UNSUPPORTED (the model is a checkpoint), E_MEMORY. */
CCH_API cch_status cch_model_pack(const cch_model *model, const char *path, cch_error *err);
CCH_API cch_model *cch_model_ref(cch_model *model);
CCH_API void cch_model_unref(cch_model *model);
/* Facts that do not change, but for n_threads. */
CCH_API void cch_model_get_info(const cch_model *model, cch_model_info *out);
/* Name of output i of a classifier, 0 <= i < n_labels, as in config.json (id2label; LABEL_0, ... where it has none).
 * View: lives as long as the model. */
CCH_API const char *cch_model_label_view(const cch_model *model, int32_t i);
/* "causal_lm", "sequence_classification", "encoder": a static string. */
CCH_API const char *cch_model_type_name(cch_model_type type);
/* Counters of this moment.  Walks all pages. */
CCH_API void cch_model_get_stats(cch_model *model, cch_model_stats *out);
/* NULL if the folder had no tokenizer.  View: lives as long as the model, or until unref after a cch_tokenizer_ref. */
CCH_API cch_tokenizer *cch_model_tokenizer_view(const cch_model *model);
/* Changes the budget, 0 = 1 GiB; of the pages in use, those over it go when an evaluation needs room.  Drops the pages
 * that no state needs at once when drop_cached. */
CCH_API void cch_model_set_budget(cch_model *model, size_t kv_budget_bytes, bool drop_cached);
/* Worker threads from now on, 1..256 (waits for a running forward pass).  E_ARGUMENT, E_BUSY (in a progress callback),
 * E_MEMORY: the old ones stay. */
CCH_API cch_status cch_model_set_threads(cch_model *model, int32_t n_threads, cch_error *err);
/* Whether batches guess what follows from what followed before, and compute the guesses along (prompt lookup decoding);
 * true at first.  Never changes a result.  Any thread at any time. */
CCH_API void cch_model_set_prompt_lookup(cch_model *model, bool on);
/* Row `token_id` of the input embedding table, [hidden_size] f32, into dst.  E_TOKEN_ID. */
CCH_API cch_status cch_model_embedding(const cch_model *model, int32_t token_id, float *dst, cch_error *err);
/* Verifies the pool's invariants (counts, lists, bytes).  Waits for a running forward pass.  E_INTERNAL with the
 * reason, E_BUSY (in a progress callback). */
CCH_API cch_status cch_model_check(cch_model *model, cch_error *err);

/* ------------------------------------------------------------------------------------------------- state ---- */

typedef struct cch_state cch_state;

/* An empty state.  An encoder's holds a text without the template that is read around it, and is there to be looked
 * into: its attention and hidden states; what else a state is asked gives E_MODEL_TYPE. */
CCH_API cch_status cch_state_new(cch_model *model, cch_state **out, cch_error *err);
/* A second state with the same tokens that shares all pages: constant time and space. */
CCH_API cch_status cch_state_fork(cch_state *state, cch_state **out, cch_error *err);
CCH_API void cch_state_free(cch_state *state);
/* States share pages of equal prefixes only with states of the same salt, 0 at first; forks inherit it.  Never changes
 * a result: it hides from one user what another has computed.
 *   E_ARGUMENT (the state holds tokens), E_BUSY. */
CCH_API cch_status cch_state_set_salt(cch_state *state, uint64_t salt, cch_error *err);
/* View. */
CCH_API cch_model *cch_state_model_view(const cch_state *state);

/* Tokens of the state.  Any thread at any time: a batch that holds the state may add one at any moment. */
CCH_API int32_t cch_state_len(const cch_state *state);
/* Adds ids [n] at the end; nothing is computed.  Full pages equal to known ones (same whole prefix) are shared.
 *   E_TOKEN_ID (position: index into ids), E_CONTEXT. */
CCH_API cch_status cch_state_append(cch_state *state, const int32_t *ids, size_t n, cch_error *err);
/* From now on the state may hold more tokens than the model's context, and so may its forks: a tape, whose last tokens
 * other states hold.  What would need more than the context to be computed gives E_CONTEXT. */
CCH_API cch_status cch_state_unbound(cch_state *state, cch_error *err);
/* Keeps the first `len` tokens.  E_ARGUMENT when len < 0 or > the length. */
CCH_API cch_status cch_state_truncate(cch_state *state, int32_t len, cch_error *err);
/* Copies ids of tokens [first, first + n) into dst.  E_ARGUMENT when the state has no such tokens. */
CCH_API cch_status cch_state_tokens(cch_state *state, int32_t first, int32_t n, int32_t *dst, cch_error *err);
/* Length of the longest common token prefix; shared pages are not compared.  a may be b.  E_MISMATCH. */
CCH_API cch_status cch_state_common_prefix(cch_state *a, cch_state *b, int32_t *out, cch_error *err);
/* How many leading tokens have their KV entries in memory. */
CCH_API cch_status cch_state_ready(cch_state *state, int32_t *out, cch_error *err);
/* Drops the KV entries of all the state's pages (also for those who share them); they come back when needed.  Waits for
 * a running forward pass. */
CCH_API cch_status cch_state_evict(cch_state *state, cch_error *err);
/* Checks the state's own invariants.  E_INTERNAL with the reason. */
CCH_API cch_status cch_state_check(cch_state *state, cch_error *err);

/* What the state remembers of its own evaluation.  logprob[i]: natural log-probability of token first + i given the
 * tokens before it (position 0: given a lone BOS; -ln(vocab_size) without BOS); NaN when not known yet.
 * top_ids/top_logits [n * k]: the k largest logits of the prediction made after each token, largest first, ties by
 * lower id; id -1 and logit 0 where fewer than k are stored.  k 0..vocab_size.  Each of the three may be NULL.
 *   Runs no model.   E_ARGUMENT (the range, k). */
CCH_API cch_status cch_state_scores(cch_state *state, int32_t first, int32_t n, float *logprob, int32_t k,
                                    int32_t *top_ids, float *top_logits, cch_error *err);
/* The inverse, for restoring a saved state: stores what cch_state_scores gave.  NaN logprobs are skipped; a list ends
 * at its first id that is not in the vocabulary (-1).  What is known already stays, unless more predictions come.
 * The caller vouches for the numbers: they must come from a state of the same model and tokens.   logprob may be NULL,
 * so may top_ids and top_logits.   E_ARGUMENT (the range, k): nothing is stored; E_MEMORY: some may be. */
CCH_API cch_status cch_state_restore_scores(cch_state *state, int32_t first, int32_t n, const float *logprob, int32_t k,
                                            const int32_t *top_ids, const float *top_logits, cch_error *err);
/* lse[i]: log(sum(exp(logits))) of the prediction made after token first + i, which turns its stored logits into
 * log-probabilities; NaN when not known.  Runs no model.   E_ARGUMENT (the range). */
CCH_API cch_status cch_state_lse(cch_state *state, int32_t first, int32_t n, double *lse, cch_error *err);
/* The inverse, after cch_state_restore_scores: tokens without stored logits and those whose lse is known are skipped.
 *   E_ARGUMENT (the range). */
CCH_API cch_status cch_state_restore_lse(cch_state *state, int32_t first, int32_t n, const double *lse, cch_error *err);

/* -------------------------------------------------------------------------------------------- evaluation ---- */

typedef struct cch_eval_options {
    int32_t chunk_tokens;       /* tokens of one forward pass at most, 1..65536; 0 = 512; never changes a result */
    int32_t store_top_k;        /* scores: 0 = nothing is stored, k >= 1 = logprob and top k (at most the vocabulary) of
                                   every token that lacks them */
    const volatile int *cancel; /* read between layers; nonzero ends the call with E_CANCELLED; may be NULL */
    /* Called after each forward pass, in the calling thread, with the tokens computed so far and in all.  It may use
     * the library; calls that run the model give E_BUSY where this call keeps its turn, as it does when it shares a
     * small budget with others.  May be NULL. */
    void (*progress)(void *arg, int64_t done, int64_t total);
    void *progress_arg;
} cch_eval_options;
#define CCH_EVAL_OPTIONS_INIT { 0, 0, NULL, NULL, NULL }

/* Computes whatever is missing for states [n] (distinct objects) and the logits after each one's last token.
 * An empty state gives the prediction after a lone BOS (a model without BOS: all logits 0, the uniform distribution).
 *   options may be NULL.   logits [n, vocab_size] f32, may be NULL (then KV entries and scores are brought up to date,
 * nothing else); unspecified on failure.
 *   E_ARGUMENT (options), E_BUDGET, E_BUSY (also for a state that comes twice), E_CANCELLED, E_CONTEXT (a tape),
 * E_MISMATCH, E_MEMORY, E_MODEL_TYPE (a classifier has KV entries, but neither logits of tokens nor scores).  On
 * failure what was computed so far is kept: it is valid. */
CCH_API cch_status cch_eval(cch_model *model, cch_state *const *states, size_t n, const cch_eval_options *options,
                            float *logits, cch_error *err);

/* What a classifier makes of the states [n] (distinct objects): logits [n, n_labels] f32 after each one's last token,
 * where such models pool a text; with one label the number is a reward.
 *   options may be NULL, store_top_k is not used.   E_MODEL_TYPE, E_EMPTY (a state without tokens), and as cch_eval. */
CCH_API cch_status cch_classify(cch_model *model, cch_state *const *states, size_t n, const cch_eval_options *options,
                                float *logits, cch_error *err);

/* The distributions that tokens were predicted with.  Each pointer may be NULL; with k > 0 top_ids and top_logits are
 * given. */
typedef struct cch_predictions {
    float *logprob;    /* [n]: of the token that is there, as in cch_state_scores; NaN where none is yet */
    int32_t *rank;     /* [n]: of that token, from 1, ties by lower id; 0 where none is yet */
    float *entropy;    /* [n]: of the distribution, in nats */
    int32_t k;         /* 0..vocab_size */
    int32_t *top_ids;  /* [n, k]: the largest logits, largest first, ties by lower id */
    float *top_logits; /* [n, k] */
    double *lse;       /* [n]: log(sum(exp(logits))), which turns logits into log-probabilities */
    float *logits;     /* [n, vocab_size] */
} cch_predictions;

/* Looking into a state.  These recompute positions [first, first + n) as generation saw them; KV entries that are
 * missing up to there are computed first.  n 0 is allowed.  options may be NULL, store_top_k is not used.   dst is
 * unspecified on failure.   E_ARGUMENT (a range or index the state or model does not have), and as cch_eval. */

/* Logits after each of the tokens: dst [n, vocab_size].   E_MODEL_TYPE for a classifier, which predicts no tokens. */
CCH_API cch_status cch_state_logits(cch_state *state, int32_t first, int32_t n, float *dst,
                                    const cch_eval_options *options, cch_error *err);
/* The same of a classifier: what it makes of the text up to each of the tokens, dst [n, n_labels].   E_MODEL_TYPE for
 * another model. */
CCH_API cch_status cch_state_classify(cch_state *state, int32_t first, int32_t n, float *dst,
                                      const cch_eval_options *options, cch_error *err);
/* What the model predicted at positions [first, first + n), which may reach one behind the last token: the token to
 * come.  All of it comes from a single pass.   E_ARGUMENT also for k and for logits that are no numbers;
 * E_MODEL_TYPE as cch_state_logits. */
CCH_API cch_status cch_state_analyze(cch_state *state, int32_t first, int32_t n, const cch_predictions *out,
                                     const cch_eval_options *options, cch_error *err);
/* Softmax attention of query positions [first, first + n) over keys [0, first + n): dst [n_heads, n, first + n] f32
 * (head >= 0: only that head, dst [1, n, first + n]), zero above the diagonal.  layer 0..n_layers-1.
 *   Of an encoder's state over all of its keys, dst [.., n, length of the state]; what a row lacks to a sum of 1 went
 * to the template. */
CCH_API cch_status cch_state_attention(cch_state *state, int32_t layer, int32_t head, int32_t first, int32_t n,
                                       float *dst, const cch_eval_options *options, cch_error *err);
/* Called with the attention of one layer for rows [at, at + n) of those asked for: weights [n_heads or 1, n, context]
 * as in cch_state_attention, borrowed for the call.  In the calling thread; calls that run the model give E_BUSY. */
typedef void (*cch_attention_visit)(void *arg, int32_t layer, int32_t at, int32_t n, const float *weights);
/* As cch_state_attention for every layer in a single pass: for at most chunk_tokens rows at a time, layer after layer
 * goes to visit, and none is held longer. */
CCH_API cch_status cch_state_attention_layers(cch_state *state, int32_t head, int32_t first, int32_t n,
                                              cch_attention_visit visit, void *arg, const cch_eval_options *options,
                                              cch_error *err);
/* Hidden states of positions [first, first + n): dst [n, hidden_size].  layer 0 = input of the first layer, ...,
 * n_layers = output of the last, -1 = after the final norm. */
CCH_API cch_status cch_state_hidden(cch_state *state, int32_t layer, int32_t first, int32_t n, float *dst,
                                    const cch_eval_options *options, cch_error *err);
/* Keys and values of positions [first, first + n) of a layer (computed when missing), keys after RoPE:
 * keys, values [n_kv_heads, n, head_dim]; either may be NULL. */
CCH_API cch_status cch_state_kv(cch_state *state, int32_t layer, int32_t first, int32_t n, float *keys, float *values,
                                const cch_eval_options *options, cch_error *err);

/* ---------------------------------------------------------------------------------------------- sampling ---- */

/* Order: repetition penalty, n-gram blocking, temperature, softmax in f64, top_k, top_p, min_p, renormalise, draw.
 *
 * Settings that follow the step, computed in f64:
 *   schedule   with schedule_steps N > 0, step i has temperature + (temperature_end - temperature) * i / (N - 1): the
 *              first one exactly temperature (also for N = 1), those from N - 1 on exactly temperature_end;
 *   adaptive   h = entropy / ln(vocab), 0 to 1 (0 for a vocabulary of one): adaptive_top_p makes top_p into
 *              top_p * (0.5 + 0.5 h), adaptive_top_k makes top_k into max(1, round(top_k * (0.5 + 0.5 h))), half even.
 * The entropy is the one that cch_sampled reports: of the model's own distribution (temperature 1, nothing penalised or
 * removed).  The outcome is rounded to the field's type: a step draws exactly as it would with such constants. */
typedef struct cch_sampling {
    float temperature;            /* >= 0; below 1e-5: greedy, ties to the lowest id, nothing is drawn */
    int32_t top_k;                /* 0 = off */
    float top_p;                  /* 0..1; 1 = off; 0 keeps the most probable token */
    float min_p;                  /* 0..1; 0 = off; drop tokens below min_p x the top probability */
    float repetition_penalty;     /* > 0; 1 = off; of all tokens in the state: logit > 0 ? l / r : l * r */
    int32_t no_repeat_ngram_size; /* 0 = off; never complete an n-gram that is in the state already */
    uint64_t seed;                /* the draw for position p of a stream is a pure function of (seed, stream, p) */
    uint32_t stream;
    int32_t min_tokens;           /* EOS is impossible before this many new tokens */
    int32_t step;                 /* new tokens so far; a batch counts on from here, so that a run can be resumed */
    float temperature_end;        /* >= 0; read with schedule_steps > 0 */
    int32_t schedule_steps;       /* 0 = the temperature stays */
    bool adaptive_top_p;          /* like top_p and top_k themselves, both have no say in a greedy step */
    bool adaptive_top_k;          /* needs top_k > 0 */
    bool splitmix;                /* the draw is output `step` of SplitMix64 of the seed, wherever it is */
} cch_sampling;
#define CCH_SAMPLING_INIT { 1.0f, 0, 1.0f, 0.0f, 1.0f, 0, 0, 0, 0, 0, 0.0f, 0, false, false, false }

typedef struct cch_sampled {
    int32_t token_id;
    float probability; /* the model's own probability of the token: temperature 1, no truncation */
    float logprob;     /* its natural logarithm, never below -1e9 */
    float entropy;     /* of the model's own distribution, nats */
} cch_sampled;

/* E_ARGUMENT naming the field, its value and its range.  Threads: pure, like everything in this section. */
CCH_API cch_status cch_sampling_check(const cch_sampling *sampling, cch_error *err);

/* Draws one token from logits [vocab], vocab >= 1.  history [n]: the tokens before it (its position is n >= 0); may be
 * NULL when no setting reads it.  min_tokens is not used: it needs to know EOS.
 *   E_ARGUMENT (also for logits that are all -inf or hold NaN or +inf), E_TOKEN_ID (history, when a setting reads it),
 *   E_MEMORY. */
CCH_API cch_status cch_sample(const float *logits, int32_t vocab, const cch_sampling *sampling, const int32_t *history,
                              int32_t n, cch_sampled *out, cch_error *err);
/* The distribution cch_sample draws from: dst [vocab] f64, zero where dropped, sums to 1.   As cch_sample. */
CCH_API cch_status cch_distribution(const float *logits, int32_t vocab, const cch_sampling *sampling,
                                    const int32_t *history, int32_t n, double *dst, cch_error *err);
/* The uniform number in [0, 1) used for position `pos` of (seed, stream): Philox4x32-10, counter (pos, stream). */
CCH_API double cch_uniform(uint64_t seed, uint32_t stream, uint64_t pos);
/* The k largest of logits [vocab], largest first, ties by lower id; NaN counts as -inf.  ids, values [k].  *out_lse
 * (may be NULL) receives log(sum(exp(logits))) computed in f64, NaN when it is no number.  Returns how many were
 * written: min(k, vocab), 0 for k <= 0. */
CCH_API int32_t cch_top_logits(const float *logits, int32_t vocab, int32_t k, int32_t *ids, float *values,
                               double *out_lse);

/* ------------------------------------------------------------------------------------------------- batch ---- */

typedef struct cch_batch cch_batch;

typedef struct cch_batch_options {
    int32_t max_rows;           /* 1..4096; 0 = 256 */
    int32_t chunk_tokens;       /* tokens of one forward pass at most; 0 = 512; prompts are read in such chunks */
    int32_t store_top_k;        /* as in cch_eval_options */
    const volatile int *cancel; /* as in cch_eval_options */
} cch_batch_options;
#define CCH_BATCH_OPTIONS_INIT { 0, 0, 0, NULL }

typedef enum cch_finish {
    CCH_RUNNING = 0,
    CCH_FINISH_EOS = 1,     /* EOS was drawn; it is not added to the state */
    CCH_FINISH_CONTEXT = 2, /* the state is full */
    CCH_FINISH_READ = 3     /* all its tokens are read: the end of a row that only reads */
} cch_finish;

typedef struct cch_step {
    int32_t row;            /* as given by cch_batch_add */
    cch_finish finish;      /* not CCH_RUNNING: no token, and the row has left the batch */
    int32_t position;       /* the token's index in the state */
    cch_sampled sampled;
} cch_step;

/* options may be NULL.  E_ARGUMENT (options), E_MEMORY. */
CCH_API cch_status cch_batch_new(cch_model *model, const cch_batch_options *options, cch_batch **out, cch_error *err);
/* Frees the batch; states still in it are released as they are. */
CCH_API void cch_batch_free(cch_batch *batch);
/* Lets a state join; it stays busy until it leaves, and alive.  sampling may be NULL: the defaults.  n_ctx: full at
 * min(this, the model's context, and one more of an unbound state); 0 = the model's.   *out_row: -1 on failure.
 *   E_ARGUMENT (sampling, n_ctx, too many rows), E_BUSY (also during a step), E_MISMATCH, E_MODEL_TYPE (a classifier
 * draws nothing), E_MEMORY. */
CCH_API cch_status cch_batch_add(cch_batch *batch, cch_state *state, const cch_sampling *sampling, int32_t n_ctx,
                                 int32_t *out_row, cch_error *err);
/* Lets a state join whose tokens are only to be read, in turn with the other rows; its row leaves when they are.
 *   As cch_batch_add. */
CCH_API cch_status cch_batch_add_reader(cch_batch *batch, cch_state *state, int32_t *out_row, cch_error *err);
/* The prediction after the row's last token, logits [vocab_size] f32 (copied), known from an earlier call: the row's
 * next token is drawn from it without a forward pass.  For a row that has drawn nothing yet.
 *   E_ARGUMENT (unknown row, or it has drawn), E_BUSY (during a step). */
CCH_API cch_status cch_batch_give(cch_batch *batch, int32_t row, const float *logits, cch_error *err);
/* From now on a step's forward pass has at most this many tokens; 0 = 512.   E_ARGUMENT, E_BUSY (during a step). */
CCH_API cch_status cch_batch_set_chunk(cch_batch *batch, int32_t chunk_tokens, cch_error *err);
/* As cch_batch_add for a window: `state` holds the last tokens of `tape`, which is longer.  Tokens are drawn from what
 * the model makes of the state and are appended to both; penalties, positions and random numbers are the tape's.  The
 * tape is held, too.   As cch_batch_add. */
CCH_API cch_status cch_batch_add_window(cch_batch *batch, cch_state *state, cch_state *tape,
                                        const cch_sampling *sampling, int32_t n_ctx, int32_t *out_row, cch_error *err);
/* Lets a row leave; unknown rows are ignored.  Any thread at any time: during a step it gets no token any more and
 * leaves at its end.  Between steps it frees the row at once, which no other thread may be looking at then. */
CCH_API void cch_batch_remove(cch_batch *batch, int32_t row);
/* As cch_batch_remove, but between steps the row is only marked, and goes with the end of the next step or with the
 * next cch_batch_remove, of whatever row: while another thread looks at what its steps have drawn.  Any thread at any
 * time. */
CCH_API void cch_batch_leave(cch_batch *batch, int32_t row);
/* One forward pass over what the rows need (at most chunk_tokens; rows that need one token go first), then one token is
 * drawn and appended for each row that is complete.  out [cch_batch_len]: one entry for each such row, *out_n of them;
 * none when a step only read prompts.  While predictions of some rows are known ahead, because what an earlier step
 * guessed was right, a step draws for these rows alone and runs no pass.
 *   E_BUDGET (the oldest row alone is too long), E_ARGUMENT (nothing is left to draw for a row, or its logits are no
 *   numbers); both with the row as position: the others can go on once it is removed.   E_CANCELLED, E_MEMORY, E_BUSY.
 * On failure no token was appended. */
CCH_API cch_status cch_batch_step(cch_batch *batch, cch_step *out, size_t *out_n, cch_error *err);
/* Rows in the batch.  Any thread at any time. */
CCH_API size_t cch_batch_len(const cch_batch *batch);
/* Forward passes run by its steps.  Not during a step. */
CCH_API int64_t cch_batch_passes(const cch_batch *batch);
/* How many leading tokens of `row` the steps so far have found or made ready; 0 for an unknown row.  Not during a
 * step. */
CCH_API int32_t cch_batch_read(const cch_batch *batch, int32_t row);
/* Logits the last step drew `row`'s token from: [vocab_size] f32; NULL when it drew none for the row, or the row has
 * left.  View, valid until the next call on the batch.  Not during a step. */
CCH_API const float *cch_batch_logits_view(const cch_batch *batch, int32_t row);
/* The k largest of these logits, as cch_top_logits gives them: from what the step stored where that suffices.  Returns
 * how many were written, 0 where cch_batch_logits_view is NULL.  Not during a step. */
CCH_API int32_t cch_batch_top(const cch_batch *batch, int32_t row, int32_t k, int32_t *ids, float *values,
                              double *out_lse);

/* ------------------------------------------------------------------------------------------------- beams ---- */

typedef struct cch_beam_params {
    int32_t n_beams;              /* 1..1024 */
    int32_t max_tokens;           /* new tokens of a beam at most, >= 1 */
    float length_penalty;         /* score = logprob / length^length_penalty, length: new tokens, a drawn EOS counted */
    int32_t early_stopping;       /* 1: stop when n_beams are complete; 0: when no open beam can beat the worst
                                     complete one at its present length; 2 ("never"): at its best possible length */
    int32_t n_groups;             /* 1..n_beams: diverse groups, as equal as possible, larger ones first; one group
                                     when diversity_penalty is 0 */
    float diversity_penalty;      /* >= 0; used between groups */
    int32_t no_repeat_ngram_size; /* 0 = off */
    float repetition_penalty;     /* 1 = off */
    int32_t top_k;                /* 0 = off; a beam goes on only with its k likeliest tokens, penalties counted */
    float min_p;                  /* 0..1; 0 = off; and only with those of min_p x the likeliest's or more */
    int32_t min_tokens;           /* no EOS, and stop is not asked, before this many new tokens */
    cch_state *tape;              /* where the state is the window of one: penalties read all of it; may be NULL */
    bool trace;                   /* keep every step's beams */
    const volatile int *cancel;   /* as in cch_eval_options */
} cch_beam_params;
#define CCH_BEAM_PARAMS_INIT { 5, 50, 1.0f, 1, 1, 0.0f, 0, 1.0f, 0, 0.0f, 0, NULL, false, NULL }

typedef struct cch_beam {
    double score, logprob;
    int32_t n_tokens;        /* new tokens, EOS not among them */
    const int32_t *tokens;   /* view into the result */
    const float *logprobs;   /* view: logprob of each new token */
    int32_t group;
    bool eos;                /* ended by EOS */
} cch_beam;

typedef struct cch_beam_node { /* one beam after one step, for pictures */
    int32_t step;   /* from 1 */
    int32_t group, token_id;
    int32_t parent; /* index into the previous step's beams */
    double logprob; /* sum so far */
} cch_beam_node;

typedef struct cch_beams cch_beams;

/* Called in the calling thread with the new tokens of a candidate that would stay open; true completes it (a stop
 * sequence was matched).  tokens [n]: borrowed for the call.  It may use the library freely. */
typedef bool (*cch_beam_stop)(void *arg, const int32_t *tokens, int32_t n);

/* Searches from `state`, which is not changed and is held only while it is forked.  Deterministic.  stop may be NULL.
 *   E_ARGUMENT (params; no first token is possible), E_CONTEXT (no room for a token), E_MODEL_TYPE (a classifier), and
 * as cch_eval. */
CCH_API cch_status cch_beam_search(cch_state *state, const cch_beam_params *params, cch_beam_stop stop, void *stop_arg,
                                   cch_beams **out, cch_error *err);
CCH_API void cch_beams_free(cch_beams *beams);
/* Complete beams, best score first: at least 1, at most n_beams. */
CCH_API size_t cch_beams_len(const cch_beams *beams);
/* i < cch_beams_len. */
CCH_API void cch_beams_get(const cch_beams *beams, size_t i, cch_beam *out);
/* Nodes of the trace, step by step; 0 without params.trace. */
CCH_API size_t cch_beams_trace_len(const cch_beams *beams);
/* i < cch_beams_trace_len. */
CCH_API void cch_beams_trace_get(const cch_beams *beams, size_t i, cch_beam_node *out);

#ifdef __cplusplus
}
#endif

#include "include/cacher_checkpoint.h"
#include "include/cacher_embed.h"
#include "include/cacher_index.h"
#include "include/cacher_tokenizer.h"
#include "include/cacher_trace.h"

#endif
