#include "gen/logits.h"

#include "base/rng.h"
#include "check.h"

#define VOCAB 50257

static float logits[VOCAB], changed[VOCAB];
static double weights[VOCAB];

/* About normal, standard deviation `spread`. */
static void fill(float *x, int n, double spread, uint64_t seed) {
    for (int i = 0; i < n; i++) {
        double sum = -6.0;
        for (uint32_t k = 0; k < 12; k++) sum += cch_uniform(seed, k, (uint64_t)i);
        x[i] = (float)(sum * spread);
    }
}

TEST(summary_agrees_with_long_double_sums) {
    const cch_kernels *kern = cch_logits_kernels();
    for (int n = 1; n <= VOCAB; n = n * 3 + 1) {
        cch_logits_summary s;
        cch_error err;
        fill(logits, n, 3.0, (uint64_t)n);
        if (n > 5) logits[3] = -INFINITY;
        CHECK_OK(cch_logits_summarize(kern, logits, n, weights, &s, &err), err);
        long double sum = 0.0L, mean = 0.0L;
        int best = 0;
        for (int i = 0; i < n; i++) best = logits[i] > logits[best] ? i : best;
        for (int i = 0; i < n; i++) {
            long double d = (long double)logits[i] - logits[best], w = expl(d);
            sum += w;
            mean += w > 0.0L ? w * d : 0.0L;
            CHECK(fabsl(weights[i] - w) <= 4e-16L * w);
        }
        CHECK_EQ(s.argmax, best);
        CHECK(s.max == logits[best]);
        CHECK(fabsl(s.sum - sum) <= 1e-14L * sum);
        CHECK(fabsl(s.log_sum - logl(sum)) <= 1e-14L * (1.0L + logl(sum)));
        CHECK(fabsl(s.entropy - (logl(sum) - mean / sum)) < 1e-13L);
        CHECK(fabsl(cch_logits_logprob(logits, &s, n / 2) - (logits[n / 2] - (long double)s.max - logl(sum))) < 1e-13L);
        CHECK(fabs(cch_logits_probability(kern, logits, &s, n / 2) - exp(cch_logits_logprob(logits, &s, n / 2))) <
              1e-15);
    }
}

TEST(every_instruction_set_gives_the_same_summary) {
    static const char *const isas[] = {"generic", "avx2", "avx512"};
    cch_logits_summary want, got;
    const cch_kernels *kern;
    fill(logits, VOCAB, 4.0, 5);
    CHECK_EQ(cch_kernels_get("generic", &kern, NULL), CCH_OK);
    CHECK_EQ(cch_logits_summarize(kern, logits, VOCAB, NULL, &want, NULL), CCH_OK);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        if (cch_kernels_get(isas[i], &kern, NULL) != CCH_OK) continue;
        CHECK_EQ(cch_logits_summarize(kern, logits, VOCAB, NULL, &got, NULL), CCH_OK);
        CHECK(memcmp(&got, &want, sizeof got) == 0);
    }
}

TEST(a_certain_token_has_entropy_zero_and_logprob_zero) {
    float x[3] = {-INFINITY, 5.0f, -INFINITY};
    cch_logits_summary s;
    CHECK_EQ(cch_logits_summarize(cch_logits_kernels(), x, 3, NULL, &s, NULL), CCH_OK);
    CHECK(s.entropy == 0.0 && s.log_sum == 0.0);
    CHECK(cch_logits_logprob(x, &s, 1) == 0.0 && cch_logits_logprob(x, &s, 0) == -1e9);
    CHECK(cch_logits_probability(cch_logits_kernels(), x, &s, 0) == 0.0);
}

TEST(evenness_goes_from_certain_to_uniform) {
    const cch_kernels *kern = cch_logits_kernels();
    cch_logits_summary s;
    for (int n = 1; n <= 1000; n += 37) {
        for (int i = 0; i < n; i++) logits[i] = -3.25f;
        CHECK_EQ(cch_logits_summarize(kern, logits, n, NULL, &s, NULL), CCH_OK);
        CHECK(n == 1 ? cch_logits_evenness(&s, n) == 0.0 : fabs(cch_logits_evenness(&s, n) - 1.0) < 1e-14);
        CHECK(cch_logits_evenness(&s, n) <= 1.0);
        fill(logits, n, 2.0, (uint64_t)n);
        CHECK_EQ(cch_logits_summarize(kern, logits, n, NULL, &s, NULL), CCH_OK);
        if (n > 1) CHECK(fabs(cch_logits_evenness(&s, n) - s.entropy / log((double)n)) < 1e-14);
    }
    s.entropy = 0.0;
    CHECK(cch_logits_evenness(&s, 1000) == 0.0);
}

TEST(bad_logits_are_refused_with_their_index) {
    const cch_kernels *kern = cch_logits_kernels();
    cch_logits_summary s;
    cch_error err;
    fill(logits, 1000, 1.0, 9);
    logits[777] = NAN;
    CHECK_STATUS(cch_logits_summarize(kern, logits, 1000, NULL, &s, &err), CCH_E_ARGUMENT, err, "logit 777 is NaN");
    CHECK_EQ(err.position, 777);
    logits[777] = INFINITY;
    CHECK_STATUS(cch_logits_summarize(kern, logits, 1000, NULL, &s, &err), CCH_E_ARGUMENT, err, "logit 777 is +inf");
    for (int i = 0; i < 1000; i++) logits[i] = -INFINITY;
    CHECK_STATUS(cch_logits_summarize(kern, logits, 1000, NULL, &s, &err), CCH_E_ARGUMENT, err, "all 1000 logits");
    CHECK_STATUS(cch_logits_summarize(kern, logits, 0, NULL, &s, &err), CCH_E_ARGUMENT, err, "0 tokens");
}

TEST(a_repeated_token_is_penalised_once) {
    const int32_t history[] = {2, 0, 2, 2};
    const float x[4] = {-1.0f, 1.0f, 3.0f, -INFINITY};
    float y[4];
    cch_error err;
    CHECK_OK(cch_logits_penalize(x, 4, 1.5f, 0, history, 4, NULL, 0, y, &err), err);
    CHECK(y[0] == -1.5f && y[1] == 1.0f && y[2] == 2.0f && y[3] == -INFINITY);
}

static int32_t banned_by(const int32_t *history, int32_t n, int32_t ngram, int vocab) {
    float x[32] = {0}, y[32];
    int32_t mask = 0;
    CHECK_EQ(cch_logits_penalize(x, vocab, 1.0f, ngram, history, n, NULL, 0, y, NULL), CCH_OK);
    for (int i = 0; i < vocab; i++) mask |= (int32_t)(y[i] == -INFINITY) << i;
    return mask;
}

TEST(ngram_blocking_forbids_exactly_the_completions_seen) {
    const int32_t history[] = {1, 2, 3, 1, 2, 4, 1, 2};
    CHECK_EQ(banned_by(history, 8, 3, 6), 1 << 3 | 1 << 4);
    CHECK_EQ(banned_by(history, 8, 2, 6), 1 << 3 | 1 << 4);
    CHECK_EQ(banned_by(history, 7, 2, 6), 1 << 2);
    CHECK_EQ(banned_by(history, 8, 1, 6), 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4); /* one token: none may come twice */
    CHECK_EQ(banned_by(history, 2, 3, 6), 0);
    CHECK_EQ(banned_by(history, 8, 100, 6), 0);
    CHECK_EQ(banned_by(NULL, 0, 1, 6), 0);
    const int32_t same[] = {5, 5, 5};
    CHECK_EQ(banned_by(same, 3, 2, 6), 1 << 5);
    CHECK_EQ(banned_by(same, 3, 3, 6), 1 << 5);
    CHECK_EQ(banned_by(same, 3, 4, 6), 0);
}

TEST(ids_outside_the_vocabulary_are_refused_with_their_position) {
    const int32_t history[] = {1, 2, 6}, banned[] = {0, -1};
    float x[6] = {0}, y[6];
    cch_error err;
    CHECK_STATUS(cch_logits_penalize(x, 6, 1.1f, 0, history, 3, NULL, 0, y, &err), CCH_E_TOKEN_ID, err, "token id 6");
    CHECK_EQ(err.position, 2);
    CHECK_STATUS(cch_logits_penalize(x, 6, 1.0f, 0, history, 2, banned, 2, y, &err), CCH_E_TOKEN_ID, err, "id -1");
    CHECK_OK(cch_logits_penalize(x, 6, 1.0f, 0, history, 3, banned, 1, y, &err), err); /* history is not read */
    CHECK(y[0] == -INFINITY && y[1] == 0.0f);
}

static const float *sorted_by;

static int larger_first(const void *a, const void *b) {
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (sorted_by[i] != sorted_by[j]) return sorted_by[i] > sorted_by[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

TEST(top_logits_are_the_front_of_the_full_sort) {
    static int32_t order[VOCAB], ids[VOCAB];
    static float values[VOCAB];
    static const int vocabs[] = {1, 2, 15, 16, 17, 100, 1000, 8191};
    for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++) {
        int n = vocabs[v];
        fill(logits, n, 2.0, 77 + v);
        for (int i = 0; v % 2 && i < n; i++) logits[i] = roundf(logits[i]); /* many ties */
        for (int i = 0; i < n; i++) order[i] = i;
        sorted_by = logits;
        qsort(order, (size_t)n, sizeof *order, larger_first);
        static const int ks[] = {0, 1, 2, 7, 16, 50, 1000, 20000};
        for (size_t j = 0; j < sizeof ks / sizeof *ks; j++) {
            int k = ks[j] < n ? ks[j] : n, wrong = 0;
            double lse;
            CHECK_EQ(cch_top_logits(logits, n, ks[j], ids, values, &lse), k);
            for (int i = 0; i < k; i++) wrong += ids[i] != order[i] || values[i] != logits[order[i]];
            CHECK_EQ(wrong, 0);
            long double sum = 0.0L;
            for (int i = 0; i < n; i++) sum += expl(logits[i]);
            CHECK(fabsl(lse - logl(sum)) < 1e-13L);
        }
    }
}

TEST(top_logits_of_equal_or_bad_values) {
    int32_t ids[4];
    float values[4];
    double lse;
    for (int i = 0; i < 100; i++) changed[i] = 1.0f;
    cch_top_logits(changed, 100, 4, ids, values, &lse);
    CHECK(ids[0] == 0 && ids[1] == 1 && ids[2] == 2 && ids[3] == 3);
    changed[0] = changed[50] = NAN;
    changed[99] = 2.0f;
    cch_top_logits(changed, 100, 2, ids, values, &lse);
    CHECK(ids[0] == 99 && ids[1] == 1 && isnan(lse));
}

CHECK_MAIN()
