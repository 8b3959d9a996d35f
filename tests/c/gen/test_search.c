/* Beam bookkeeping against a plain search that copies whole sequences and sorts all continuations, on a toy language
 * model: the logits of a sequence are random numbers keyed by its tokens. */
#include "gen/search.h"

#include "base/rng.h"
#include "check.h"
#include "gen/logits.h"

#define VOCAB 12
#define EOS 3
#define MAX_STEPS 8
#define MAX_BEAMS 64

typedef struct toy {
    uint64_t seed;
    double eos_bias;
    int vocab, n_eos;
} toy;

static const int32_t eos_ids[] = {EOS, 5};

static void toy_logprobs(const toy *t, const int32_t *tokens, int n, double *dst) {
    uint64_t key = t->seed;
    double sum = 0.0;
    for (int i = 0; i < n; i++) key = cch_rng_bits53(key, 7, (uint64_t)tokens[i]);
    for (int i = 0; i < t->vocab; i++) {
        dst[i] = 5.0 * cch_uniform(key, 0, (uint64_t)i) + (i == EOS ? t->eos_bias : 0.0);
        sum += exp(dst[i]);
    }
    for (int i = 0; i < t->vocab; i++) dst[i] -= log(sum);
}

/* ------------------------------------------------------------------------------------------- the plain search */

typedef struct plain {
    int32_t tokens[MAX_STEPS];
    int n;
    bool eos, dead;
    double sum, score;
} plain;

static int by_sum(const void *a, const void *b) {
    const plain *x = a, *y = b;
    return x->sum > y->sum ? -1 : x->sum < y->sum;
}

static int by_score(const void *a, const void *b) {
    const plain *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score;
}

static bool ends_with_stop(const int32_t *tokens, int n) { return n >= 2 && tokens[n - 2] == 1 && tokens[n - 1] == 2; }

/* One group, as transformers words it.  Fills done, returns how many. */
static int plain_search(const toy *t, const cch_beam_params *p, bool use_stop, plain *done) {
    static plain open[MAX_BEAMS], all[MAX_BEAMS * VOCAB], merged[MAX_BEAMS * 4];
    int n_open = 1, n_done = 0, size = p->n_beams, keep = (t->n_eos > 1 ? 1 + t->n_eos : 2) * size;
    memset(open, 0, sizeof open);
    for (int step = 1; step <= p->max_tokens && n_open > 0; step++) {
        int n_all = 0, n_merged = n_done, n_next = 0;
        for (int b = 0; b < n_open; b++) {
            double logprobs[VOCAB];
            toy_logprobs(t, open[b].tokens, open[b].n, logprobs);
            for (int v = 0; v < t->vocab; v++) {
                plain c = open[b];
                c.tokens[c.n++] = v;
                c.sum += logprobs[v];
                c.eos = v == eos_ids[0] || (t->n_eos > 1 && v == eos_ids[1]);
                c.score = c.sum / pow(c.n, (double)p->length_penalty);
                all[n_all++] = c;
            }
        }
        qsort(all, (size_t)n_all, sizeof *all, by_sum);
        memcpy(merged, done, (size_t)n_done * sizeof *done);
        for (int i = 0; i < n_all && i < keep; i++) {
            bool ends = all[i].eos || step == p->max_tokens || (use_stop && ends_with_stop(all[i].tokens, step));
            if (ends && i < size) merged[n_merged++] = all[i];
            if (!ends && n_next < size) open[n_next++] = all[i];
        }
        n_open = n_next;
        qsort(merged, (size_t)n_merged, sizeof *merged, by_score);
        n_done = n_merged < size ? n_merged : size;
        memcpy(done, merged, (size_t)n_done * sizeof *done);
        if (n_done == size && n_open > 0) {
            double length = p->early_stopping == 2 && p->length_penalty > 0.0f ? p->max_tokens : step;
            bool can_improve = open[0].sum / pow(length, (double)p->length_penalty) > done[size - 1].score;
            if (p->early_stopping == 1 || size == 1 || !can_improve) break;
        }
    }
    return n_done;
}

/* -------------------------------------------------------------------------------------------- the one under test */

static bool stop_at(void *arg, const int32_t *tokens, int32_t n) {
    (*(int *)arg)++;
    return ends_with_stop(tokens, n);
}

/* Keeps the sequences of the open beams as a caller keeps states: by the parents that steps name. */
static cch_status run_search(const toy *t, const cch_beam_params *p, cch_beam_stop stop, void *arg, cch_beams **out,
                             cch_error *err) {
    cch_status status = CCH_OK;
    cch_search search;
    static int32_t now[MAX_BEAMS][MAX_STEPS], past[MAX_BEAMS][MAX_STEPS];
    *out = NULL;
    CCH_RETURN_IF(cch_search_init(&search, p, t->vocab, p->max_tokens, eos_ids, t->n_eos, stop, arg, err));
    while (search.n_open > 0) {
        for (int32_t b = 0; b < search.n_open; b++) {
            double logprobs[VOCAB];
            float logits[VOCAB], values[VOCAB];
            int32_t ids[VOCAB];
            toy_logprobs(t, now[b], search.step, logprobs);
            for (int i = 0; i < t->vocab; i++) logits[i] = (float)logprobs[i];
            int32_t n = cch_top_logits(logits, t->vocab, search.width, ids, values, NULL);
            cch_search_candidate *c = cch_search_offer(&search, b, n);
            for (int32_t i = 0; i < n; i++)
                c[i] = (cch_search_candidate){ids[i], logprobs[ids[i]], logprobs[ids[i]], 0.0};
        }
        CCH_TRY(cch_search_step(&search, err));
        memcpy(past, now, sizeof past);
        for (int32_t i = 0; i < search.n_open; i++) {
            int32_t path[MAX_STEPS];
            memcpy(now[i], past[search.open[i].parent], sizeof now[i]);
            now[i][search.step - 1] = search.open[i].token_id;
            cch_search_path(&search, search.open[i].node, path);
            CHECK(memcmp(path, now[i], (size_t)search.step * sizeof *path) == 0);
        }
    }
    status = cch_search_result(&search, out, err);
done:
    cch_search_deinit(&search);
    return status;
}

static void compare(const toy *t, const cch_beam_params *p, bool use_stop) {
    static plain want[MAX_BEAMS];
    int calls = 0, n = plain_search(t, p, use_stop, want);
    cch_beams *beams;
    cch_error err;
    CHECK_OK(run_search(t, p, use_stop ? stop_at : NULL, &calls, &beams, &err), err);
    CHECK_EQ(cch_beams_len(beams), n);
    for (int i = 0; i < n; i++) {
        cch_beam got;
        cch_beams_get(beams, (size_t)i, &got);
        double sum = 0.0;
        CHECK_EQ(got.n_tokens, want[i].n - want[i].eos);
        CHECK_EQ(got.eos, want[i].eos);
        CHECK(memcmp(got.tokens, want[i].tokens, (size_t)got.n_tokens * sizeof *got.tokens) == 0);
        CHECK(fabs(got.logprob - want[i].sum) < 1e-12 && fabs(got.score - want[i].score) < 1e-12);
        for (int j = 0; j < got.n_tokens; j++) sum += (double)got.logprobs[j];
        CHECK(got.eos ? sum >= got.logprob : fabs(sum - got.logprob) < 1e-5);
    }
    cch_beams_free(beams);
}

TEST(search_equals_the_plain_one) {
    static const int sizes[] = {1, 2, 3, 5, 8, 16};
    static const float penalties[] = {0.0f, 0.5f, 1.0f, 2.0f, -0.3f, -1.0f};
    for (uint64_t seed = 1; seed <= 40; seed++)
        for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++)
            for (size_t l = 0; l < sizeof penalties / sizeof *penalties; l++)
                for (int early = 0; early <= 2; early++) {
                    toy t = {seed, (double)(seed % 4) - 1.0, VOCAB, 1 + (int)(seed % 2)};
                    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
                    p.n_beams = sizes[n], p.length_penalty = penalties[l], p.early_stopping = early;
                    p.max_tokens = 1 + (int)(seed * 5 % MAX_STEPS);
                    compare(&t, &p, seed % 3 == 0);
                }
}

/* Below zero, scores get worse with length: what an open beam can still reach is told by the step it is at, not by the
 * last one.  Seeds for which that decides. */
TEST(a_negative_length_penalty_judges_open_beams_by_the_length_they_have) {
    static const struct {
        uint64_t seed;
        double eos_bias;
        int n_beams;
    } cases[] = {{128, 1.0, 5}, {340, 3.0, 2}, {340, 3.0, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        toy t = {cases[i].seed, cases[i].eos_bias, VOCAB, 1};
        cch_beam_params p = CCH_BEAM_PARAMS_INIT;
        p.n_beams = cases[i].n_beams, p.length_penalty = -0.3f, p.early_stopping = 2, p.max_tokens = MAX_STEPS;
        compare(&t, &p, false);
    }
}

/* Every sequence over the vocabulary, best score first. */
static int enumerate(const toy *t, const cch_beam_params *p, plain at, plain *all, int n) {
    double logprobs[VOCAB];
    toy_logprobs(t, at.tokens, at.n, logprobs);
    for (int v = 0; v < t->vocab; v++) {
        plain c = at;
        c.tokens[c.n++] = v;
        c.sum += logprobs[v];
        c.eos = v == EOS;
        c.score = c.sum / pow(c.n, (double)p->length_penalty);
        if (c.eos || c.n == p->max_tokens)
            all[n++] = c;
        else
            n = enumerate(t, p, c, all, n);
    }
    return n;
}

TEST(a_wide_search_that_never_stops_early_finds_the_best_of_all_sequences) {
    static plain all[400];
    for (uint64_t seed = 1; seed < 20; seed++) {
        toy t = {seed, 0.5, 4, 1};
        cch_beam_params p = CCH_BEAM_PARAMS_INIT;
        cch_beams *beams;
        cch_error err;
        p.n_beams = 64, p.max_tokens = 4, p.early_stopping = 2, p.length_penalty = 0.7f;
        int n = enumerate(&t, &p, (plain){.n = 0}, all, 0);
        qsort(all, (size_t)n, sizeof *all, by_score);
        CHECK_OK(run_search(&t, &p, NULL, NULL, &beams, &err), err);
        CHECK_EQ(cch_beams_len(beams), 64);
        for (size_t i = 0; i < 5; i++) { /* 81 open beams could exist before the last step: the front is safe */
            cch_beam got;
            cch_beams_get(beams, i, &got);
            CHECK(fabs(got.score - all[i].score) < 1e-12);
            CHECK(memcmp(got.tokens, all[i].tokens, (size_t)got.n_tokens * sizeof *got.tokens) == 0);
        }
        cch_beams_free(beams);
    }
}

TEST(fewer_beams_come_back_only_when_fewer_sequences_exist) {
    toy t = {5, 0.0, 4, 1};
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    cch_beams *beams;
    cch_error err;
    p.n_beams = 20, p.early_stopping = 0;
    for (p.max_tokens = 1; p.max_tokens <= 3; p.max_tokens++) {
        int exist = p.max_tokens == 1 ? 4 : p.max_tokens == 2 ? 1 + 3 * 4 : 1 + 3 + 9 * 4;
        CHECK_OK(run_search(&t, &p, NULL, NULL, &beams, &err), err);
        CHECK_EQ(cch_beams_len(beams), exist < 20 ? exist : 20);
        for (size_t i = 0; i < cch_beams_len(beams); i++) {
            for (size_t j = 0; j < i; j++) {
                cch_beam a, b;
                cch_beams_get(beams, i, &a), cch_beams_get(beams, j, &b);
                CHECK(a.n_tokens != b.n_tokens || a.eos != b.eos ||
                      memcmp(a.tokens, b.tokens, (size_t)a.n_tokens * sizeof *a.tokens) != 0);
            }
        }
        cch_beams_free(beams);
    }
}

TEST(groups_of_uneven_size_search_with_a_penalty_on_what_earlier_ones_chose) {
    toy t = {9, -3.0, VOCAB, 1};
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    cch_beams *beams, *alone;
    cch_error err;
    p.n_beams = 5, p.n_groups = 2, p.diversity_penalty = 100.0f, p.max_tokens = 1, p.early_stopping = 0;
    CHECK_OK(run_search(&t, &p, NULL, NULL, &beams, &err), err);
    int32_t sizes[2] = {0, 0}, seen = 0;
    for (size_t i = 0; i < 5; i++) { /* one step, penalty above all differences: the five best tokens, 3 and 2 */
        cch_beam got;
        double logprobs[VOCAB];
        cch_beams_get(beams, i, &got);
        toy_logprobs(&t, NULL, 0, logprobs);
        sizes[got.group]++;
        seen |= 1 << got.tokens[0];
        CHECK(got.logprob == logprobs[got.tokens[0]] && got.score == got.logprob); /* the penalty does not show */
        CHECK_EQ(got.group, i < 3 ? 0 : 1);
    }
    CHECK(sizes[0] == 3 && sizes[1] == 2);
    CHECK_EQ(__builtin_popcount((unsigned)seen), 5);
    cch_beams_free(beams);

    p.max_tokens = 6; /* the first group does not know of the second */
    CHECK_OK(run_search(&t, &p, NULL, NULL, &beams, &err), err);
    p.n_beams = 3, p.n_groups = 1;
    CHECK_OK(run_search(&t, &p, NULL, NULL, &alone, &err), err);
    for (size_t i = 0, j = 0; i < 5; i++) {
        cch_beam a, b;
        cch_beams_get(beams, i, &a);
        if (a.group != 0) continue;
        cch_beams_get(alone, j++, &b);
        CHECK(a.score == b.score && memcmp(a.tokens, b.tokens, (size_t)a.n_tokens * sizeof *a.tokens) == 0);
    }
    cch_beams_free(beams);
    cch_beams_free(alone);
}

TEST(a_strong_penalty_makes_first_tokens_pairwise_different) {
    for (uint64_t seed = 1; seed < 30; seed++) {
        toy t = {seed, 2.0, VOCAB, 1};
        cch_beam_params p = CCH_BEAM_PARAMS_INIT;
        cch_beams *beams;
        cch_error err;
        int32_t seen = 0;
        p.n_beams = p.n_groups = 3, p.diversity_penalty = 100.0f, p.max_tokens = MAX_STEPS;
        CHECK_OK(run_search(&t, &p, NULL, NULL, &beams, &err), err);
        for (size_t i = 0; i < cch_beams_len(beams); i++) {
            cch_beam got;
            cch_beams_get(beams, i, &got);
            seen |= 1 << (got.n_tokens == 0 ? EOS : got.tokens[0]);
        }
        CHECK_EQ(__builtin_popcount((unsigned)seen), 3);
        cch_beams_free(beams);
    }
}

TEST(the_trace_leads_from_every_node_to_the_first_step) {
    toy t = {3, 0.5, VOCAB, 1};
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    cch_beams *beams;
    cch_error err;
    p.n_beams = 4, p.max_tokens = 6, p.early_stopping = 2, p.trace = true;
    CHECK_OK(run_search(&t, &p, NULL, NULL, &beams, &err), err);
    size_t n = cch_beams_trace_len(beams), before = 0, first = 0;
    CHECK(n >= 4 * 2);
    for (size_t i = 0; i < n; i++) {
        cch_beam_node node, parent;
        cch_beams_trace_get(beams, i, &node);
        if (i > 0) cch_beams_trace_get(beams, i - 1, &parent);
        if (i > 0 && parent.step != node.step) {
            CHECK_EQ(node.step, parent.step + 1);
            before = first;
            first = i;
        }
        CHECK(node.parent >= 0 && (size_t)node.parent < (node.step == 1 ? 1 : first - before));
        if (node.step == 1) continue;
        cch_beams_trace_get(beams, before + (size_t)node.parent, &parent);
        CHECK(parent.step == node.step - 1 && parent.token_id != EOS && parent.logprob >= node.logprob);
    }
    cch_beams_free(beams);
    p.trace = false;
    CHECK_OK(run_search(&t, &p, NULL, NULL, &beams, &err), err);
    CHECK_EQ(cch_beams_trace_len(beams), 0);
    cch_beams_free(beams);
}

TEST(what_cannot_go_on_is_complete_as_it_stands) {
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    cch_search search;
    cch_beams *beams;
    cch_beam got;
    cch_error err;
    p.n_beams = 2;
    CHECK_OK(cch_search_init(&search, &p, VOCAB, 10, eos_ids, 1, NULL, NULL, &err), err);
    cch_search_candidate *c = cch_search_offer(&search, 0, 2);
    c[0] = (cch_search_candidate){1, -0.5, -0.5, 0.0};
    c[1] = (cch_search_candidate){2, -1.5, -(double)INFINITY, 0.0};
    CHECK_OK(cch_search_step(&search, &err), err);
    CHECK_EQ(search.n_open, 1); /* a continuation at -inf is none */
    *cch_search_offer(&search, 0, 1) = (cch_search_candidate){1, -0.1, -(double)INFINITY, 0.0};
    CHECK_OK(cch_search_step(&search, &err), err);
    CHECK_EQ(search.n_open, 0);
    CHECK_OK(cch_search_result(&search, &beams, &err), err);
    CHECK_EQ(cch_beams_len(beams), 1);
    cch_beams_get(beams, 0, &got);
    CHECK(got.n_tokens == 1 && got.tokens[0] == 1 && got.logprob == -0.5 && !got.eos);
    cch_beams_free(beams);
    cch_search_deinit(&search);

    CHECK_OK(cch_search_init(&search, &p, VOCAB, 10, eos_ids, 1, NULL, NULL, &err), err);
    *cch_search_offer(&search, 0, 1) = (cch_search_candidate){1, -0.1, -(double)INFINITY, 0.0};
    CHECK_STATUS(cch_search_step(&search, &err), CCH_E_ARGUMENT, err, "no first token is possible");
    cch_search_deinit(&search);
}

static cch_search_candidate choice(int32_t token_id, double logprob) {
    return (cch_search_candidate){token_id, logprob, logprob, 0.0};
}

/* All scores here are sums of halves and quarters or exact quotients. */
TEST(of_equal_scores_the_earlier_stays_and_a_search_that_can_only_draw_level_ends) {
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    cch_search search;
    cch_search_candidate *c;
    cch_beams *beams;
    cch_beam first, second;
    cch_beam_node node;
    cch_error err;
    p.n_beams = 2, p.early_stopping = 0, p.trace = true;
    CHECK_OK(cch_search_init(&search, &p, VOCAB, 10, eos_ids, 1, NULL, NULL, &err), err);
    c = cch_search_offer(&search, 0, 3);
    c[0] = choice(7, -0.5), c[1] = choice(EOS, -1.0), c[2] = choice(8, -1.25);
    CHECK_OK(cch_search_step(&search, &err), err); /* complete: -1 / 1 */
    CHECK_EQ(search.n_open, 2);
    c = cch_search_offer(&search, 0, 2);
    c[0] = choice(8, -0.5), c[1] = choice(EOS, -1.5);
    *cch_search_offer(&search, 1, 1) = choice(7, -1.25);
    CHECK_OK(cch_search_step(&search, &err), err); /* complete: -1 / 1, -2 / 2; open: -1, -2.5 */
    CHECK_EQ(search.n_open, 2);
    c = cch_search_offer(&search, 0, 2);
    c[0] = choice(EOS, -2.0), c[1] = choice(7, -2.0);
    *cch_search_offer(&search, 1, 1) = choice(8, -1.0);
    CHECK_OK(cch_search_step(&search, &err), err); /* -3 / 3 is no better, and -3 / 3 is the best of what is open */
    CHECK_EQ(search.n_open, 0);
    CHECK_OK(cch_search_result(&search, &beams, &err), err);
    CHECK_EQ(cch_beams_len(beams), 2);
    cch_beams_get(beams, 0, &first), cch_beams_get(beams, 1, &second);
    CHECK(first.score == -1.0 && first.n_tokens == 0 && first.eos);
    CHECK(second.score == -1.0 && second.n_tokens == 1 && second.tokens[0] == 7 && second.eos);
    cch_beams_trace_get(beams, cch_beams_trace_len(beams) - 3, &node); /* nothing is open: nodes as they were ranked */
    CHECK(node.step == 3 && node.token_id == EOS);
    cch_beams_free(beams);
    cch_search_deinit(&search);
}

TEST(beams_are_kept_by_what_steers_and_returned_by_what_the_model_says) {
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    cch_search search;
    cch_search_candidate *c;
    cch_beams *beams;
    cch_beam got;
    cch_error err;
    p.n_beams = 2, p.early_stopping = 0;
    CHECK_OK(cch_search_init(&search, &p, VOCAB, 10, eos_ids, 1, NULL, NULL, &err), err);
    c = cch_search_offer(&search, 0, 3);
    c[0] = (cch_search_candidate){EOS, -3.0, -1.0, 0.0};
    c[1] = choice(7, -1.5), c[2] = choice(8, -2.0);
    CHECK_OK(cch_search_step(&search, &err), err);
    c = cch_search_offer(&search, 0, 2);
    c[0] = choice(7, -1.5), c[1] = (cch_search_candidate){EOS, -0.5, -2.5, 0.0};
    *cch_search_offer(&search, 1, 1) = choice(9, -8.0);
    CHECK_OK(cch_search_step(&search, &err), err); /* ranks -1, -2; scores -3, -1; open at -3 */
    CHECK_EQ(search.n_open, 2);
    *cch_search_offer(&search, 0, 1) = (cch_search_candidate){EOS, -27.0, -1.5, 0.0};
    cch_search_offer(&search, 1, 0);
    CHECK_OK(cch_search_step(&search, &err), err); /* rank -1.5 is better than -2, though its score is -10 */
    CHECK_EQ(search.n_open, 0);
    CHECK_OK(cch_search_result(&search, &beams, &err), err);
    CHECK_EQ(cch_beams_len(beams), 2);
    cch_beams_get(beams, 0, &got);
    CHECK(got.score == -3.0);
    cch_beams_get(beams, 1, &got);
    CHECK(got.score == -10.0);
    cch_beams_free(beams);
    cch_search_deinit(&search);
}

TEST(parameters_out_of_range_are_named_with_value_and_range) {
    cch_error err;
#define REFUSED(field, value, words)                                                      \
    do {                                                                                  \
        cch_beam_params bad = CCH_BEAM_PARAMS_INIT;                                       \
        bad.field = value;                                                                \
        CHECK_STATUS(cch_beam_params_check(&bad, &err), CCH_E_ARGUMENT, err, words);      \
    } while (0)
    REFUSED(n_beams, 0, "n_beams is 0, allowed: 1 to 1024");
    REFUSED(n_beams, 1025, "n_beams is 1025");
    REFUSED(max_tokens, 0, "max_tokens is 0");
    REFUSED(early_stopping, 3, "early_stopping is 3, allowed: 0 to 2");
    REFUSED(n_groups, 6, "n_groups is 6, allowed: 1 to 5");
    REFUSED(diversity_penalty, -0.5f, "diversity_penalty is -0.5");
    REFUSED(diversity_penalty, NAN, "diversity_penalty is nan");
    REFUSED(length_penalty, INFINITY, "length_penalty is inf");
    REFUSED(repetition_penalty, 0.0f, "repetition_penalty is 0");
    REFUSED(no_repeat_ngram_size, -1, "no_repeat_ngram_size is -1");
    REFUSED(top_k, -1, "top_k is -1, allowed: 0 to");
    REFUSED(min_p, 1.5f, "min_p is 1.5, allowed: 0 to 1");
    REFUSED(min_p, NAN, "min_p is nan");
    REFUSED(min_tokens, -2, "min_tokens is -2");
}

static cch_status search_once(void) {
    toy t = {4, 0.5, VOCAB, 1};
    cch_beam_params p = CCH_BEAM_PARAMS_INIT;
    cch_beams *beams;
    int calls = 0;
    p.n_beams = 16, p.n_groups = 3, p.diversity_penalty = 0.5f, p.max_tokens = MAX_STEPS, p.trace = true;
    cch_status status = run_search(&t, &p, stop_at, &calls, &beams, NULL);
    cch_beams_free(beams);
    return status;
}

TEST(failing_allocations_are_reported_and_leak_nothing) { CHECK_OOM(search_once()); }

CHECK_MAIN()
