#include "gen/search.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

#define MAX_BEAMS 1024

struct cch_beams {
    cch_beam *beams; /* owned [n]; token and logprob views point into the two arrays below */
    size_t n;
    int32_t *tokens;      /* owned */
    float *logprobs;      /* owned */
    cch_beam_node *trace; /* owned */
    size_t n_trace;
};

static cch_status check_int(const char *name, int32_t value, int32_t low, int32_t high, cch_error *err) {
    if (value >= low && value <= high) return CCH_OK;
    CCH_FAIL(err, CCH_E_ARGUMENT, -1, "%s is %d, allowed: %d to %d", name, (int)value, (int)low, (int)high);
}

cch_status cch_beam_params_check(const cch_beam_params *p, cch_error *err) {
    CCH_RETURN_IF(check_int("n_beams", p->n_beams, 1, MAX_BEAMS, err));
    CCH_RETURN_IF(check_int("max_tokens", p->max_tokens, 1, INT32_MAX, err));
    CCH_RETURN_IF(check_int("early_stopping", p->early_stopping, 0, 2, err));
    CCH_RETURN_IF(check_int("n_groups", p->n_groups, 1, p->n_beams, err));
    CCH_RETURN_IF(check_int("no_repeat_ngram_size", p->no_repeat_ngram_size, 0, INT32_MAX, err));
    CCH_RETURN_IF(check_int("top_k", p->top_k, 0, INT32_MAX, err));
    CCH_RETURN_IF(check_int("min_tokens", p->min_tokens, 0, INT32_MAX, err));
    if (!isfinite(p->length_penalty))
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "length_penalty is %g, allowed: any finite number",
                 (double)p->length_penalty);
    if (!(p->diversity_penalty >= 0.0f) || isinf(p->diversity_penalty))
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "diversity_penalty is %g, allowed: at least 0", (double)p->diversity_penalty);
    if (!(p->min_p >= 0.0f && p->min_p <= 1.0f))
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "min_p is %g, allowed: 0 to 1", (double)p->min_p);
    if (!(p->repetition_penalty > 0.0f) || isinf(p->repetition_penalty))
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "repetition_penalty is %g, allowed: more than 0",
                 (double)p->repetition_penalty);
    return CCH_OK;
}

static int32_t ranked_candidates(const cch_search *s, int32_t size) {
    return (s->n_eos > 1 ? 1 + s->n_eos : 2) * size;
}

cch_status cch_search_init(cch_search *s, const cch_beam_params *params, int32_t vocab, int32_t max_tokens,
                           const int32_t *eos, int32_t n_eos, cch_beam_stop stop, void *stop_arg, cch_error *err) {
    cch_status status = CCH_OK;
    int32_t n = params->n_beams, first = 0;
    *s = (cch_search){.params = *params, .max_tokens = max_tokens, .eos = eos, .n_eos = n_eos, .stop = stop,
                      .stop_arg = stop_arg, .n_open = 1};
    CCH_RETURN_IF(cch_beam_params_check(params, err));
    s->n_groups = params->diversity_penalty > 0.0f ? params->n_groups : 1; /* equal groups would give equal beams */
    /* Earlier groups chose at most 2 n tokens; with that many more candidates the lowered ones cannot be missed. */
    s->width = ranked_candidates(s, (n + s->n_groups - 1) / s->n_groups) + (s->n_groups > 1 ? 2 * n : 0);
    CCH_ZNEW(s->groups, (size_t)s->n_groups, err);
    CCH_ZNEW(s->open, (size_t)n, err);
    CCH_NEW(s->next, (size_t)n, err);
    CCH_NEW(s->complete, (size_t)n, err);
    CCH_NEW(s->candidates, (size_t)n * (size_t)s->width, err);
    CCH_ZNEW(s->n_candidates, (size_t)n, err);
    CCH_NEW(s->head, (size_t)n, err);
    if (s->n_groups > 1) CCH_ZNEW(s->chosen, (size_t)vocab, err);
    if (stop != NULL) CCH_NEW(s->tokens, (size_t)max_tokens, err);
    for (int32_t g = 0; g < s->n_groups; g++) {
        int32_t size = n / s->n_groups + (g < n % s->n_groups);
        s->groups[g] = (cch_search_group){.size = size, .first = first, .n_open = 1};
        first += size;
    }
    s->open[0].node = -1;
    return CCH_OK;
done:
    cch_search_deinit(s);
    return status;
}

void cch_search_deinit(cch_search *s) {
    cch_free(s->groups);
    cch_free(s->open);
    cch_free(s->next);
    cch_free(s->complete);
    cch_free(s->candidates);
    cch_free(s->n_candidates);
    cch_free(s->head);
    cch_free(s->chosen);
    cch_free(s->tokens);
    cch_free(s->nodes);
    *s = (cch_search){0};
}

/* ---------------------------------------------------------------------------------------------- one step ---- */

static cch_status add_node(cch_search *s, cch_search_node node, cch_error *err) {
    if (s->n_nodes == s->nodes_cap) {
        size_t cap = s->nodes_cap == 0 ? 256 : 2 * s->nodes_cap;
        cch_search_node *grown = s->n_nodes < INT32_MAX / 2 ? cch_resize(s->nodes, cap, sizeof *grown) : NULL;
        if (grown == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu nodes of a beam search", cap);
        s->nodes = grown;
        s->nodes_cap = cap;
    }
    s->nodes[s->n_nodes++] = node;
    return CCH_OK;
}

static bool is_eos(const cch_search *s, int32_t token_id) {
    for (int32_t i = 0; i < s->n_eos; i++)
        if (s->eos[i] == token_id) return true;
    return false;
}

/* Sets what the candidates of beam b are chosen by; where earlier groups lowered some, restores the order. */
static void set_choices(cch_search *s, int32_t b) {
    cch_search_candidate *c = s->candidates + (size_t)b * (size_t)s->width;
    for (int32_t i = 0; i < s->n_candidates[b]; i++) {
        int32_t times = s->chosen != NULL ? s->chosen[c[i].token_id] : 0;
        c[i].choice = c[i].steer - (double)s->params.diversity_penalty * times;
    }
    for (int32_t i = 1; s->chosen != NULL && i < s->n_candidates[b]; i++) {
        cch_search_candidate moving = c[i];
        int32_t at = i;
        for (; at > 0 && c[at - 1].choice < moving.choice; at--) c[at] = c[at - 1];
        c[at] = moving;
    }
    s->head[b] = 0;
}

/* The best candidate of the group that is not ranked yet: sets *beam; NULL when none is left. */
static const cch_search_candidate *next_ranked(cch_search *s, const cch_search_group *group, int32_t *beam) {
    const cch_search_candidate *best = NULL;
    double best_choice = -(double)INFINITY;
    for (int32_t b = group->open_first; b < group->open_first + group->n_open; b++) {
        const cch_search_candidate *c = s->candidates + (size_t)b * (size_t)s->width + s->head[b];
        if (s->head[b] >= s->n_candidates[b]) continue;
        double choice = (s->open[b].node < 0 ? 0.0 : s->nodes[s->open[b].node].steer) + c->choice;
        if (choice > best_choice) {
            best = c;
            best_choice = choice;
            *beam = b;
        }
    }
    if (best != NULL) s->head[*beam]++;
    return best;
}

static bool matches_stop(cch_search *s, const cch_search_node *node) {
    if (s->stop == NULL || node->step < s->params.min_tokens) return false;
    if (node->parent >= 0) cch_search_path(s, node->parent, s->tokens);
    s->tokens[node->step - 1] = node->token_id;
    return s->stop(s->stop_arg, s->tokens, node->step);
}

static void complete(cch_search *s, cch_search_group *group, int32_t node_index, bool eos) {
    const cch_search_node *node = &s->nodes[node_index];
    double length = pow((double)node->step, (double)s->params.length_penalty);
    cch_search_complete fresh = {node_index, eos, node->steer / length, node->sum / length};
    cch_search_complete *kept = s->complete + group->first;
    int32_t at = group->n_complete;
    if (at == group->size && fresh.rank <= kept[at - 1].rank) return;
    if (at < group->size)
        group->n_complete++;
    else
        at--;
    for (; at > 0 && kept[at - 1].rank < fresh.rank; at--) kept[at] = kept[at - 1];
    kept[at] = fresh;
}

/* Rule 3, after a step. */
static bool is_done(const cch_search *s, const cch_search_group *group, const cch_search_open *open, int32_t n_open) {
    const cch_beam_params *p = &s->params;
    double best = -(double)INFINITY;
    if (n_open == 0) return true;
    if (group->n_complete < group->size) return false;
    if (p->early_stopping == 1 || p->n_beams == 1) return true;
    for (int32_t i = 0; i < n_open; i++) best = fmax(best, s->nodes[open[i].node].steer);
    double length = p->early_stopping == 2 && p->length_penalty > 0.0f ? s->max_tokens : s->step;
    return best / pow(length, (double)p->length_penalty) <= s->complete[group->first + group->size - 1].rank;
}

/* Nothing can follow any open beam of the group. */
static cch_status complete_as_they_stand(cch_search *s, cch_search_group *group, cch_error *err) {
    if (s->step == 1)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1,
                 "no first token is possible: no_repeat_ngram_size %d and min_tokens %d forbid all of them",
                 (int)s->params.no_repeat_ngram_size, (int)s->params.min_tokens);
    for (int32_t b = group->open_first; b < group->open_first + group->n_open; b++)
        complete(s, group, s->open[b].node, false);
    group->done = true;
    return CCH_OK;
}

/* The token that candidate c adds to open beam b. */
static cch_search_node make_node(const cch_search *s, int32_t g, int32_t b, const cch_search_candidate *c) {
    cch_search_node node = {.parent = s->open[b].node, .token_id = c->token_id, .step = s->step, .group = g,
                            .open_index = -1, .logprob = (float)c->logprob, .sum = c->logprob, .steer = c->steer};
    if (node.parent >= 0) {
        node.sum += s->nodes[node.parent].sum;
        node.steer += s->nodes[node.parent].steer;
    }
    return node;
}

/* Ranks the group's candidates; its open beams of the next step go to next [*n_next..]. */
static cch_status step_group(cch_search *s, int32_t g, int32_t *n_next, cch_error *err) {
    cch_search_group *group = &s->groups[g];
    int32_t n_ranked = ranked_candidates(s, group->size), first = *n_next, rank = 0;
    size_t first_node = s->n_nodes;
    for (int32_t b = group->open_first; b < group->open_first + group->n_open; b++) set_choices(s, b);
    for (; rank < n_ranked && *n_next - first < group->size; rank++) {
        int32_t b = 0;
        const cch_search_candidate *c = next_ranked(s, group, &b);
        if (c == NULL) break;
        cch_search_node node = make_node(s, g, b, c);
        bool eos = is_eos(s, c->token_id);
        bool ends = eos || s->step == s->max_tokens || matches_stop(s, &node);
        if (ends ? rank >= group->size : *n_next - first == group->size) continue;
        if (!ends) {
            node.open_index = *n_next;
            s->next[(*n_next)++] = (cch_search_open){b, (int32_t)s->n_nodes, c->token_id, g};
        }
        CCH_RETURN_IF(add_node(s, node, err));
        if (ends) complete(s, group, (int32_t)s->n_nodes - 1, eos);
    }
    if (rank == 0) return complete_as_they_stand(s, group, err);
    group->done = is_done(s, group, s->next + first, *n_next - first);
    for (size_t i = first_node; group->done && i < s->n_nodes; i++) s->nodes[i].open_index = -1;
    if (group->done) *n_next = first;
    for (size_t i = first_node; s->chosen != NULL && i < s->n_nodes; i++) s->chosen[s->nodes[i].token_id]++;
    return CCH_OK;
}

cch_status cch_search_step(cch_search *s, cch_error *err) {
    size_t first_node = s->n_nodes;
    int32_t n_next = 0;
    s->step++;
    for (int32_t g = 0; g < s->n_groups; g++) {
        int32_t first = n_next;
        if (!s->groups[g].done) CCH_RETURN_IF(step_group(s, g, &n_next, err));
        s->groups[g].open_first = first;
        s->groups[g].n_open = n_next - first;
    }
    for (size_t i = first_node; s->chosen != NULL && i < s->n_nodes; i++) s->chosen[s->nodes[i].token_id] = 0;
    cch_search_open *past = s->open;
    s->open = s->next;
    s->next = past;
    s->n_open = n_next;
    return CCH_OK;
}

/* ------------------------------------------------------------------------------------------------ result ---- */

void cch_search_path(const cch_search *s, int32_t node, int32_t *dst) {
    for (; node >= 0; node = s->nodes[node].parent) dst[s->nodes[node].step - 1] = s->nodes[node].token_id;
}

/* Open beams first, as the next step's parents are indices of them; then those that became complete. */
static cch_status make_trace(const cch_search *s, cch_beams *beams, cch_error *err) {
    cch_status status = CCH_OK;
    CCH_NEW(beams->trace, s->n_nodes, err);
    for (size_t first = 0, end; first < s->n_nodes; first = end) {
        end = first;
        while (end < s->n_nodes && s->nodes[end].step == s->nodes[first].step) end++;
        for (int is_open = 1; is_open >= 0; is_open--) {
            for (size_t i = first; i < end; i++) {
                const cch_search_node *node = &s->nodes[i];
                int32_t parent = node->parent < 0 ? 0 : s->nodes[node->parent].open_index;
                if ((node->open_index >= 0) == is_open)
                    beams->trace[beams->n_trace++] =
                        (cch_beam_node){node->step, node->group, node->token_id, parent, node->sum};
            }
        }
    }
done:
    return status;
}

static void fill_beam(const cch_search *s, const cch_search_complete *from, int32_t *tokens, float *logprobs,
                      cch_beam *out) {
    const cch_search_node *last = &s->nodes[from->node];
    *out = (cch_beam){from->score, last->sum, last->step - (from->eos ? 1 : 0), tokens, logprobs, last->group,
                      from->eos};
    cch_search_path(s, from->node, tokens);
    for (int32_t i = from->node; i >= 0; i = s->nodes[i].parent) logprobs[s->nodes[i].step - 1] = s->nodes[i].logprob;
}

cch_status cch_search_result(const cch_search *s, cch_beams **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_beams *beams = NULL;
    size_t n_tokens = 0, used = 0;
    *out = NULL;
    CCH_ZNEW(beams, 1, err);
    for (int32_t g = 0; g < s->n_groups; g++)
        for (int32_t i = 0; i < s->groups[g].n_complete; i++)
            n_tokens += (size_t)s->nodes[s->complete[s->groups[g].first + i].node].step;
    CCH_NEW(beams->beams, (size_t)s->params.n_beams, err);
    CCH_NEW(beams->tokens, n_tokens, err);
    CCH_NEW(beams->logprobs, n_tokens, err);
    for (int32_t g = 0; g < s->n_groups; g++) {
        for (int32_t i = 0; i < s->groups[g].n_complete; i++) {
            cch_beam beam;
            size_t at = beams->n++;
            const cch_search_complete *from = &s->complete[s->groups[g].first + i];
            fill_beam(s, from, beams->tokens + used, beams->logprobs + used, &beam);
            used += (size_t)s->nodes[from->node].step;
            for (; at > 0 && beams->beams[at - 1].score < beam.score; at--) beams->beams[at] = beams->beams[at - 1];
            beams->beams[at] = beam;
        }
    }
    if (s->params.trace) CCH_TRY(make_trace(s, beams, err));
    *out = beams;
    beams = NULL;
done:
    cch_beams_free(beams);
    return status;
}

void cch_beams_free(cch_beams *beams) {
    if (beams == NULL) return;
    cch_free(beams->beams);
    cch_free(beams->tokens);
    cch_free(beams->logprobs);
    cch_free(beams->trace);
    cch_free(beams);
}

size_t cch_beams_len(const cch_beams *beams) { return beams->n; }

void cch_beams_get(const cch_beams *beams, size_t i, cch_beam *out) { *out = beams->beams[i]; }

size_t cch_beams_trace_len(const cch_beams *beams) { return beams->n_trace; }

void cch_beams_trace_get(const cch_beams *beams, size_t i, cch_beam_node *out) { *out = beams->trace[i]; }
