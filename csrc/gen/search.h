/* search - the bookkeeping of a beam search, without a model: which beams go on, which are complete, when it ends.
 *
 * The caller (gen/beam.c) holds one state per open beam.  Each step: for every open beam it offers the best
 * continuations (cch_search_offer), then cch_search_step chooses; the new open beams name the one they grew from.
 *
 *      offers of beam 0: a b c d ..  \                                     / rank < size: ends? -> complete
 *      offers of beam 1: e f g h ..   } merged by sum of logprobs, ranked {
 *      offers of beam 2: i j k l ..  /                                     \ else the first `size` that go on: open
 *
 * Rules.  Groups of `size` beams search on their own; a group ranks max(2, 1 + number of EOS ids) * size candidates.
 *   1. A candidate ends when it draws EOS, matches a stop sequence or has max_tokens tokens.  It becomes complete only
 *      when its rank is below `size`; the first `size` candidates that do not end stay open.
 *   2. The best `size` complete ones are kept, by sum / length^length_penalty; length counts a drawn EOS.
 *   3. A group is done when no beam is open; or when `size` are complete and: early_stopping is 1; or the best open
 *      sum, divided by its present length^length_penalty (early_stopping 2 and length_penalty > 0: by max_tokens^..),
 *      does not exceed the worst complete score.
 *   4. Ties: lower beam, then the order of its offers (higher logit, lower id); an older complete one stays.
 * These are the rules of transformers' generate(num_beams=..) of 2025 and later.  Ours differ, as specified, in:
 *   - one beam always stops at its first complete candidate: it is greedy decoding, also without early stopping;
 *   - `logprob` and `score` are the model's own: repetition, n-gram and diversity penalties steer which candidates are
 *     chosen and kept (`steer` below), and never show in the numbers; the diversity penalty is not carried to the next
 *     step;
 *   - top_k and min_p, which transformers leaves to sampling, bound what a beam offers (gen/beam.c);
 *   - groups may differ in size, and an EOS drawn by an earlier group counts as a choice of that token;
 *   - a group all of whose continuations are forbidden completes its open beams as they stand.
 *
 * Threads: one user.   Test: tests/c/gen/test_search.c, against a plain search that copies everything.
 */
#ifndef CCH_GEN_SEARCH_H
#define CCH_GEN_SEARCH_H

#include "base/status.h"

/* A token of the tree that the search grows; also what the trace shows. */
typedef struct cch_search_node {
    int32_t parent;     /* node, -1: the prompt */
    int32_t token_id;
    int32_t step;       /* from 1: tokens up to here */
    int32_t group;
    int32_t open_index; /* place among the open beams after its step, -1: complete */
    float logprob;      /* of the token */
    double sum;         /* logprobs up to here */
    double steer;       /* the sum that choices go by: penalties included */
} cch_search_node;

typedef struct cch_search_open {
    int32_t parent;   /* index of the open beam before the step that it grew from */
    int32_t node;
    int32_t token_id;
    int32_t group;
} cch_search_open;

typedef struct cch_search_complete {
    int32_t node;
    bool eos;
    double rank;  /* steer / length^length_penalty */
    double score; /* sum / length^length_penalty */
} cch_search_complete;

typedef struct cch_search_candidate {
    int32_t token_id;
    double logprob;
    double steer;  /* of the token; -inf: cannot be chosen */
    double choice; /* steer less diversity, set by cch_search_step */
} cch_search_candidate;

typedef struct cch_search_group {
    int32_t size, first; /* beams; place of its complete ones in `complete` */
    int32_t n_complete;
    int32_t open_first, n_open; /* its part of `open` */
    bool done;
} cch_search_group;

typedef struct cch_search {
    cch_beam_params params;
    int32_t max_tokens;           /* of params, or what the context has room for */
    const int32_t *eos;           /* borrowed from the caller */
    int32_t n_eos;
    cch_beam_stop stop;
    void *stop_arg;
    int32_t n_groups, n_open;
    int32_t width;                /* candidates of a beam at most */
    int32_t step;                 /* steps done */
    cch_search_group *groups;     /* owned [n_groups] */
    cch_search_open *open, *next; /* owned [n_beams] */
    cch_search_complete *complete;    /* owned [n_beams] */
    cch_search_candidate *candidates; /* owned [n_beams * width] */
    int32_t *n_candidates, *head;     /* owned [n_beams]: candidates of a beam; how many of them are ranked */
    int32_t *chosen;                  /* owned [vocab]: how often earlier groups chose a token at this step */
    int32_t *tokens;                  /* owned [max_tokens]: a candidate's tokens, for stop */
    cch_search_node *nodes;           /* owned */
    size_t n_nodes, nodes_cap;
} cch_search;

/* E_ARGUMENT naming the field, its value and its range. */
cch_status cch_beam_params_check(const cch_beam_params *params, cch_error *err);

/* One open beam: the prompt.  Ids are below vocab; max_tokens >= 1 replaces the one in params.   E_ARGUMENT (params),
 * E_MEMORY. */
cch_status cch_search_init(cch_search *search, const cch_beam_params *params, int32_t vocab, int32_t max_tokens,
                           const int32_t *eos, int32_t n_eos, cch_beam_stop stop, void *stop_arg, cch_error *err);
void cch_search_deinit(cch_search *search);

/* Room for the n <= width continuations of open beam `beam` at this step, largest steer first; the caller fills it. */
static inline cch_search_candidate *cch_search_offer(cch_search *search, int32_t beam, int32_t n) {
    search->n_candidates[beam] = n;
    return search->candidates + (size_t)beam * (size_t)search->width;
}

/* Chooses among the offers: open [n_open] holds the beams that go on, n_open 0 means the search is over.
 *   E_ARGUMENT (the first token has no possible choice), E_MEMORY: the search cannot go on. */
cch_status cch_search_step(cch_search *search, cch_error *err);

/* Ids of the tokens from the prompt to `node`: dst [nodes[node].step]. */
void cch_search_path(const cch_search *search, int32_t node, int32_t *dst);

/* The complete ones, best score first, and the trace when params ask for it.  E_MEMORY. */
cch_status cch_search_result(const cch_search *search, cch_beams **out, cch_error *err);

#endif
