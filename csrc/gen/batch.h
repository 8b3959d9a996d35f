/* batch - continuous batching: rows join and leave at token boundaries, each step is one forward pass for all.
 *
 * A step: rows that lack one token go first, then prompts in chunks, as many as the pass and the byte budget hold
 * (rows that joined earlier have the first right to KV pages, so that with a small budget they finish one after another
 * instead of evicting each other); logits; everything that the new tokens need is reserved; tokens are drawn; then,
 * with nothing left that could fail, they are appended.  Where a pass has shown more of a row than its next token, the
 * steps after it draw from that and run none (gen/speculate.h).
 *
 * Threads: one user at a time, except that cch_batch_remove, cch_batch_len and cch_batch_free may be called at any
 * time: a row that leaves during a step gets no token from it.
 * cch_batch_* of cacher.h and cacher_trace.h live here.
 */
#ifndef CCH_GEN_BATCH_H
#define CCH_GEN_BATCH_H

#include "gen/allowance.h"
#include "gen/lookup.h"
#include "gen/sampler.h"
#include "gen/speculate.h"
#include "gen/tracer.h"
#include "gen/work.h"

typedef struct cch_batch_row {
    int32_t id;
    cch_state *state;       /* held */
    cch_state *tape;        /* held: gets the tokens, too, and is what penalties and positions speak of; NULL: state */
    cch_sampling sampling;  /* its step: the next token's number in the run, which may have begun in another row */
    int32_t limit;          /* tokens of a full state */
    int32_t n_new;          /* tokens drawn since it joined */
    int32_t n_read;         /* leading tokens that the last pass left ready */
    int32_t *history;       /* owned [tokens of the tape + n_ctx of the model]: the tokens, if the sampling or guesses
                               read them; else NULL */
    int32_t n_history;
    cch_lookup lookup;      /* what is guessed to follow the history */
    cch_ahead ahead;        /* the prediction after its last token, once it is known */
    cch_tracer *tracer;     /* owned; NULL: the row is not traced */
    uint64_t drawn;         /* the step that drew its last token */
    bool leaves;            /* asked to leave during a step */
    bool reads;             /* nothing is drawn for it */
    cch_ask ask;            /* of the running step */
    bool complete;          /* its prediction is there: it gets a token in this step */
    cch_sampled sampled;
} cch_batch_row;

struct cch_batch {
    atomic_int refs;
    cch_model *model;       /* shared */
    cch_work work;
    int32_t max_rows, next_id;
    pthread_mutex_t lock;   /* guards rows, n_rows, running and `leaves`; not held during compute */
    bool running;
    cch_batch_row **rows;   /* owned [max_rows], oldest first */
    size_t n_rows;
    size_t turn;            /* where the search for rows that lack one token starts */
    cch_ask *asks;          /* owned [max_rows] */
    cch_batch_row **asking; /* owned [max_rows]: whose asks these are */
    cch_batch_row **drawing; /* owned [max_rows]: complete rows of the step; while it is planned, a place to sort in */
    size_t n_asks, n_drawing;
    cch_sampler_scratch *scratch; /* owned [n_scratch], one for each thread */
    cch_error *errors;      /* owned [n_scratch] */
    int n_scratch;
    uint64_t step;
    int64_t passes;
    cch_allowance allowance; /* of guesses */
};

/* Brings the row's history up to date.   E_MEMORY. */
cch_status cch_batch_row_read(cch_batch_row *row, cch_error *err);
/* Tokens that may still be drawn. */
int32_t cch_batch_row_room(const cch_batch_row *row);

#endif
