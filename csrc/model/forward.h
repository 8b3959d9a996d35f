/* forward - one transformer pass over a ragged batch of token spans: prefill chunks and decode steps together.
 *
 * A span is a run of consecutive positions of one sequence.  Its tokens and all earlier KV entries are reached through
 * the sequence's page array.  For each layer: norm, q/k/v, RoPE, K and V of every row into its page, barrier,
 * attention of every row over positions [0, its own], output, MLP.  Since all K and V of a layer are written before any
 * attention of that layer, spans of one call may depend on each other (a state may attend to a page that another span
 * computes in the same call).
 *
 * Laws 1-5 hold because every op keeps one order per output element (kern/kernels.h) and attention of a query is:
 * scores over its pages, one softmax over [first visible, own position], one mix in ascending position.
 */
#ifndef CCH_MODEL_FORWARD_H
#define CCH_MODEL_FORWARD_H

#include "kv/page.h"
#include "model/weights.h"

/* Attention that is kept beside what a pass is for. */
typedef struct cch_watch {
    int32_t layer;
    float *attention;       /* borrowed [n_heads, first + n of the span]: of the span's last position in that layer */
} cch_watch;

typedef struct cch_span {
    cch_page *const *pages; /* borrowed: pages [0, ceil((first + n) / 16)) of the sequence; every page that holds a
                               position < first + n has its kv block allocated */
    int32_t first, n;       /* positions to compute */
    bool keep_kv;           /* false: recompute for inspection, K and V of the pages are there and not written */
    int32_t n_out;          /* final hidden states wanted for the last n_out positions, 0..n */
    const cch_watch *watch; /* borrowed: of a span with n_out > 0; NULL: none */
} cch_span;

/* What an inspection wants to see; all pointers may be NULL. */
typedef struct cch_probe {
    int32_t attention_layer, attention_head; /* layer -1 = each in turn, head -1 = all */
    float *attention;        /* [n_heads or 1, rows, ld_attention]: probabilities of each batch row; zero elsewhere */
    size_t ld_attention;     /* >= longest context of the batch */
    void (*attended)(void *arg, int32_t layer); /* called when `attention` holds a layer */
    void *arg;
    int32_t hidden_layer;    /* 0 = input of the first layer .. n_layers = output of the last; -1 = after final norm */
    float *hidden;           /* [rows, hidden_size] */
    bool stop_early;         /* nothing after the probed layer is needed */
    int32_t first_row, n_rows, first_key; /* of an encoder, which reads its text whole: the rows that are shown, and the
                                             key of their first column (ld_attention: how many); else 0 */
} cch_probe;

static inline bool cch_probes_attention(const cch_probe *probe, int32_t layer) {
    return probe != NULL && probe->attention != NULL && (probe->attention_layer < 0 || probe->attention_layer == layer);
}

/* hidden_out [sum of n_out, hidden_size]: hidden states after the final norm, spans in order; may be NULL when all
 * n_out are 0 (then the last layer stops once its K and V are written).
 *   cancel: read per layer, E_CANCELLED.   E_MEMORY (scratch could not grow).   On failure KV blocks of the spans' own
 * positions hold unspecified finite values: the caller must not count them as ready.
 * Threads: one call at a time per model (the model's run lock is held by the caller). */
cch_status cch_forward(cch_model *model, const cch_span *spans, size_t n_spans, float *hidden_out,
                       const cch_probe *probe, const volatile int *cancel, cch_error *err);

/* The stage after which a probe that stops early has seen everything: 2 l = before layer l, 2 l + 1 = after its
 * attention; INT32_MAX: never.   probe may be NULL. */
int32_t cch_probe_last_stage(const cch_probe *probe, int32_t n_layers);

/* logits [rows, n_outputs rounded up to 16] = hidden [rows, hidden_size] times the output matrix; n_outputs: the
 * vocabulary, or the labels of a classifier.   E_MEMORY (scratch could not grow).   Threads: as cch_forward. */
cch_status cch_output_logits(cch_model *model, const float *hidden, size_t rows, float *logits, cch_error *err);

#endif
