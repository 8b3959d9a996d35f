#include "gen/logits.h"

#include <math.h>
#include <string.h>

#define SUM_BLOCK 1024
#define TOP_BLOCK 16
#define LOWEST_LOGPROB (-1e9)

/* x = m * 2^e, m near 1, and ln m = 2 atanh((m - 1) / (m + 1)). */
double cch_log_f64(double x) {
    int e;
    double m = frexp(x, &e);
    if (m < 0x1.6a09e667f3bcdp-1) { /* sqrt(1/2) */
        m *= 2.0;
        e--;
    }
    double s = (m - 1.0) / (m + 1.0), z = s * s, tail = 0.0;
    for (int k = 10; k >= 1; k--) tail = tail * z + 2.0 / (2 * k + 1); /* z <= 0.0295: the next term is below 2^-56 */
    return (double)e * 0x1.62e42fefa39efp-1 + (2.0 * s + s * z * tail);
}

static cch_status check_max(const float *logits, int32_t vocab, float max, size_t at, cch_error *err) {
    if (isfinite(max)) return CCH_OK;
    if (isnan(max)) {
        at = 0;
        while (at + 1 < (size_t)vocab && !isnan(logits[at])) at++;
        CCH_FAIL(err, CCH_E_ARGUMENT, at, "logit %zu is NaN, allowed: numbers and -inf", at);
    }
    if (max > 0.0f) CCH_FAIL(err, CCH_E_ARGUMENT, at, "logit %zu is +inf, allowed: numbers and -inf", at);
    CCH_FAIL(err, CCH_E_ARGUMENT, -1, "all %d logits are -inf, at least one must be a number", (int)vocab);
}

cch_status cch_logits_summarize(const cch_kernels *kern, const float *logits, int32_t vocab, double *weights,
                                cch_logits_summary *out, cch_error *err) {
    double block[SUM_BLOCK], sum = 0.0, distance = 0.0;
    size_t n = (size_t)vocab, argmax;
    float max;
    if (vocab < 1)
        CCH_FAIL(err, CCH_E_ARGUMENT, vocab, "the vocabulary has %d tokens, at least 1 is needed", (int)vocab);
    kern->max_f32(logits, n, &max, &argmax);
    CCH_RETURN_IF(check_max(logits, vocab, max, argmax, err));
    for (size_t i = 0; i < n; i += SUM_BLOCK) {
        size_t len = n - i < SUM_BLOCK ? n - i : SUM_BLOCK;
        double *w = weights != NULL ? weights + i : block, part;
        kern->exp_f64(logits + i, len, max, 1.0, w, &part);
        sum += part;
        distance += kern->dot_f64(w, logits + i, len, max);
    }
    out->max = max;
    out->argmax = (int32_t)argmax;
    out->sum = sum;
    out->log_sum = cch_log_f64(sum);
    out->entropy = out->log_sum - distance / sum;
    if (out->entropy < 0.0) out->entropy = 0.0; /* rounding, when one token has everything */
    return CCH_OK;
}

double cch_logits_evenness(const cch_logits_summary *summary, int32_t vocab) {
    double even = vocab > 1 ? summary->entropy / cch_log_f64((double)vocab) : 0.0;
    return even < 1.0 ? even : 1.0; /* of a uniform row, rounding */
}

double cch_logits_logprob(const float *logits, const cch_logits_summary *summary, int32_t id) {
    double logprob = ((double)logits[id] - (double)summary->max) - summary->log_sum;
    return logprob > LOWEST_LOGPROB ? logprob : LOWEST_LOGPROB;
}

double cch_logits_probability(const cch_kernels *kern, const float *logits, const cch_logits_summary *summary,
                              int32_t id) {
    double weight, unused;
    kern->exp_f64(logits + id, 1, summary->max, 1.0, &weight, &unused);
    return weight / summary->sum;
}

void cch_ngram_followers(const int32_t *history, int32_t n, int32_t ngram, void (*visit)(void *arg, int32_t id),
                         void *arg) {
    int32_t prefix = ngram - 1;
    if (n <= prefix) return;
    const int32_t *last = history + (n - prefix);
    for (int32_t end = prefix; end < n; end++) { /* history[end] followed the prefix that ends before it */
        if (memcmp(history + (end - prefix), last, (size_t)prefix * sizeof *last) == 0) visit(arg, history[end]);
    }
}

static void forbid(void *arg, int32_t id) { ((float *)arg)[id] = -INFINITY; }

cch_status cch_logits_penalize(const float *logits, int32_t vocab, float penalty, int32_t ngram, const int32_t *history,
                               int32_t n, const int32_t *banned, int32_t n_banned, float *dst, cch_error *err) {
    bool reads_history = penalty != 1.0f || ngram > 0;
    for (int32_t i = 0; reads_history && i < n; i++) {
        if (history[i] < 0 || history[i] >= vocab)
            CCH_FAIL(err, CCH_E_TOKEN_ID, i, "token id %d at position %d of the history, allowed: 0 to %d",
                     (int)history[i], (int)i, (int)vocab - 1);
    }
    for (int32_t i = 0; i < n_banned; i++) {
        if (banned[i] < 0 || banned[i] >= vocab)
            CCH_FAIL(err, CCH_E_TOKEN_ID, i, "forbidden token id %d, allowed: 0 to %d", (int)banned[i], (int)vocab - 1);
    }
    memcpy(dst, logits, (size_t)vocab * sizeof *dst);
    for (int32_t i = 0; penalty != 1.0f && i < n; i++) {
        float l = logits[history[i]];
        dst[history[i]] = l > 0.0f ? l / penalty : l * penalty;
    }
    if (ngram > 0) cch_ngram_followers(history, n, ngram, forbid, dst);
    for (int32_t i = 0; i < n_banned; i++) dst[banned[i]] = -INFINITY;
    return CCH_OK;
}

const cch_kernels *cch_logits_kernels(void) {
    const cch_kernels *kern = NULL;
    if (cch_kernels_get(NULL, &kern, NULL) != CCH_OK) cch_kernels_get("generic", &kern, NULL);
    return kern;
}

/* A heap of the largest so far; its root is the one to go next: smallest value, then highest id. */
static bool goes_first(float value_a, int32_t id_a, float value_b, int32_t id_b) {
    return value_a < value_b || (value_a == value_b && id_a > id_b);
}

static void sift_down(int32_t *ids, float *values, int32_t k, int32_t at, int32_t id, float value) {
    for (int32_t child; (child = 2 * at + 1) < k; at = child) {
        if (child + 1 < k && goes_first(values[child + 1], ids[child + 1], values[child], ids[child])) child++;
        if (!goes_first(values[child], ids[child], value, id)) break;
        ids[at] = ids[child];
        values[at] = values[child];
    }
    ids[at] = id;
    values[at] = value;
}

/* Offers x [n], ids first .. first + n - 1, all higher than any in the heap: an equal value never enters. */
static void offer(const float *x, int32_t first, int32_t n, int32_t *ids, float *values, int32_t k) {
    for (int32_t j = 0; j < n; j++) {
        if (x[j] > values[0]) sift_down(ids, values, k, 0, first + j, x[j]);
    }
}

static void select_top(const float *logits, int32_t vocab, int32_t k, int32_t *ids, float *values) {
    int32_t i = k;
    for (int32_t j = 0; j < k; j++) {
        ids[j] = j;
        values[j] = isnan(logits[j]) ? -INFINITY : logits[j];
    }
    for (int32_t at = k / 2 - 1; at >= 0; at--) sift_down(ids, values, k, at, ids[at], values[at]);
    for (; i + TOP_BLOCK <= vocab; i += TOP_BLOCK) {
        int above = 0;
        for (int32_t j = 0; j < TOP_BLOCK; j++) above |= logits[i + j] > values[0];
        if (above) offer(logits + i, i, TOP_BLOCK, ids, values, k);
    }
    offer(logits + i, i, vocab - i, ids, values, k);
    for (int32_t end = k - 1; end > 0; end--) { /* heap sort: the one to go next moves to the end */
        int32_t id = ids[end];
        float value = values[end];
        ids[end] = ids[0];
        values[end] = values[0];
        sift_down(ids, values, end, 0, id, value);
    }
}

int32_t cch_top_logits(const float *logits, int32_t vocab, int32_t k, int32_t *ids, float *values, double *out_lse) {
    if (k > vocab) k = vocab;
    if (k > 0) select_top(logits, vocab, k, ids, values);
    if (out_lse != NULL) {
        cch_logits_summary summary;
        bool ok = cch_logits_summarize(cch_logits_kernels(), logits, vocab, NULL, &summary, NULL) == CCH_OK;
        *out_lse = ok ? (double)summary.max + summary.log_sum : (double)NAN;
    }
    return k > 0 ? k : 0;
}
