/* The sampler against a full sort in f64 (oracle below), its laws, and its refusals. */
#include "gen/sampler.h"

#include "base/rng.h"
#include "check.h"
#include "gen/logits.h"

#define VOCAB 5000

static float logits[VOCAB];
static double got[VOCAB], want[VOCAB], weight[VOCAB];
static int32_t order[VOCAB];

static void fill(float *x, int n, double spread, uint64_t seed) {
    for (int i = 0; i < n; i++) {
        double sum = -6.0;
        for (uint32_t k = 0; k < 12; k++) sum += cch_uniform(seed, k, (uint64_t)i);
        x[i] = (float)(sum * spread);
    }
}

static int heavier_first(const void *a, const void *b) {
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (weight[i] != weight[j]) return weight[i] > weight[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

/* Softmax, full sort, the three cuts, as the documentation words them: fills want and order, returns how many tokens
 * are kept.  *margin: how close the top_p cut is to taking one token more or less, as a share. */
static int oracle(const float *x, int n, const cch_sampling *s, double *margin) {
    double total = 0.0, sum = 0.0;
    float max = x[0];
    int kept = n;
    *margin = 1.0;
    for (int i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n; i++) weight[i] = exp(((double)x[i] - (double)max) / (double)s->temperature);
    for (int i = 0; i < n; i++) order[i] = i;
    qsort(order, (size_t)n, sizeof *order, heavier_first);
    if (s->top_k > 0 && s->top_k < kept) kept = s->top_k;
    for (int i = 0; i < kept; i++) total += weight[order[i]];
    if (s->top_p < 1.0f) {
        int m = 0;
        double p = (double)s->top_p, before = 0.0;
        do {
            before = sum;
            sum += weight[order[m++]];
        } while (m < kept && sum < p * total);
        kept = m;
        *margin = fmin(fabs(sum / total - p), fabs(before / total - p));
    }
    while (s->min_p > 0.0f && kept > 1 && weight[order[kept - 1]] < (double)s->min_p) kept--;
    sum = 0.0;
    for (int i = 0; i < kept; i++) sum += weight[order[i]];
    memset(want, 0, (size_t)n * sizeof *want);
    for (int i = 0; i < kept; i++) want[order[i]] = weight[order[i]] / sum;
    return kept;
}

static const float temperatures[] = {0.3f, 0.7f, 1.0f, 2.5f, 10.0f};
static const int32_t top_ks[] = {0, 1, 5, 50, 400, VOCAB + 1};
static const float top_ps[] = {1.0f, 0.999f, 0.9f, 0.5f, 0.0f};
static const float min_ps[] = {0.0f, 0.05f, 0.5f, 1.0f};

/* Calls check for the product of all settings above on a random row of n logits. */
static void sweep(int n, double spread, uint64_t seed, void (*check)(int n, const cch_sampling *s)) {
    fill(logits, n, spread, seed);
    for (size_t t = 0; t < sizeof temperatures / sizeof *temperatures; t++)
        for (size_t k = 0; k < sizeof top_ks / sizeof *top_ks; k++)
            for (size_t p = 0; p < sizeof top_ps / sizeof *top_ps; p++)
                for (size_t m = 0; m < sizeof min_ps / sizeof *min_ps; m++) {
                    cch_sampling s = CCH_SAMPLING_INIT;
                    s.temperature = temperatures[t], s.top_k = top_ks[k], s.top_p = top_ps[p], s.min_p = min_ps[m];
                    s.seed = seed;
                    check(n, &s);
                }
}

static void check_distribution(int n, const cch_sampling *s) {
    double margin, worst = 0.0, sum = 0.0;
    cch_error err;
    oracle(logits, n, s, &margin);
    CHECK_OK(cch_distribution(logits, n, s, NULL, 0, got, &err), err);
    for (int i = 0; i < n; i++) {
        sum += got[i];
        worst = fmax(worst, fabs(got[i] - want[i]));
    }
    CHECK(fabs(sum - 1.0) < 1e-12);
    if (margin > 1e-9) CHECK(worst < 1e-9);
}

TEST(distribution_equals_the_full_sort) {
    sweep(1, 1.0, 1, check_distribution);
    sweep(15, 2.0, 2, check_distribution);
    sweep(16, 2.0, 3, check_distribution);
    sweep(333, 2.0, 4, check_distribution);
    sweep(VOCAB, 0.5, 5, check_distribution);
    sweep(VOCAB, 3.0, 6, check_distribution);
}

static int larger_last(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

TEST(distribution_of_rows_in_order_equals_the_full_sort) {
    double margin;
    for (int falling = 0; falling <= 1; falling++) {
        fill(logits, VOCAB, 2.0, 8);
        qsort(logits, VOCAB, sizeof *logits, larger_last);
        for (int i = 0; falling && i < VOCAB / 2; i++) {
            float moved = logits[i];
            logits[i] = logits[VOCAB - 1 - i];
            logits[VOCAB - 1 - i] = moved;
        }
        for (int i = 0; i < 12; i++) {
            cch_sampling s = CCH_SAMPLING_INIT;
            s.temperature = 1.3f, s.top_k = i % 3 == 0 ? 0 : i * i * 10, s.top_p = i % 2 ? 0.97f : 1.0f;
            oracle(logits, VOCAB, &s, &margin);
            CHECK_EQ(cch_distribution(logits, VOCAB, &s, NULL, 0, got, NULL), CCH_OK);
            double worst = 0.0;
            for (int j = 0; j < VOCAB; j++) worst = fmax(worst, fabs(got[j] - want[j]));
            CHECK(margin < 1e-9 || worst < 1e-9);
        }
    }
}

/* The draw walks the very distribution that cch_distribution reports, in sorted order. */
static void check_draws(int n, const cch_sampling *s) {
    double margin;
    int kept = oracle(logits, n, s, &margin);
    CHECK_EQ(cch_distribution(logits, n, s, NULL, 0, got, NULL), CCH_OK);
    for (int32_t pos = 0; pos < 12; pos++) {
        cch_sampled out;
        double u = cch_uniform(s->seed, s->stream, (uint64_t)pos), cdf = 0.0;
        CHECK_EQ(cch_sample(logits, n, s, NULL, pos, &out, NULL), CCH_OK);
        int i = 0;
        while (i < kept - 1 && cdf + got[order[i]] <= u) cdf += got[order[i++]];
        bool close = fabs(u - cdf) < 1e-9 || fabs(u - (cdf + got[order[i]])) < 1e-9;
        if (margin > 1e-9 && !close) CHECK_EQ(out.token_id, order[i]);
        CHECK(got[out.token_id] > 0.0);
    }
}

TEST(draws_are_the_inverse_cdf_in_sorted_order) {
    sweep(17, 1.5, 11, check_draws);
    sweep(900, 2.0, 12, check_draws);
}

TEST(equal_logits_are_ordered_by_id) {
    for (int i = 0; i < VOCAB; i++) logits[i] = i % 10 == 3 ? 2.0f : 0.0f;
    cch_sampling s = CCH_SAMPLING_INIT;
    s.top_k = 7;
    CHECK_EQ(cch_distribution(logits, VOCAB, &s, NULL, 0, got, NULL), CCH_OK);
    for (int i = 0; i < 100; i++) CHECK(fabs(got[i] - (i % 10 == 3 && i < 70 ? 1.0 / 7.0 : 0.0)) < 1e-15);
    for (int32_t pos = 0; pos < 50; pos++) {
        cch_sampled out;
        CHECK_EQ(cch_sample(logits, VOCAB, &s, NULL, pos, &out, NULL), CCH_OK);
        CHECK_EQ(out.token_id, 3 + 10 * (int)(cch_uniform(0, 0, (uint64_t)pos) * 7.0));
    }
}

TEST(greedy_takes_the_lowest_of_the_largest_and_reads_no_seed) {
    float x[6] = {1.0f, 4.0f, 0.0f, 4.0f, -INFINITY, 4.0f};
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_sampled out;
    s.temperature = 0.0f;
    for (s.seed = 0; s.seed < 20; s.seed++) {
        CHECK_EQ(cch_sample(x, 6, &s, NULL, 3, &out, NULL), CCH_OK);
        CHECK_EQ(out.token_id, 1);
    }
    CHECK_EQ(cch_distribution(x, 6, &s, NULL, 0, got, NULL), CCH_OK);
    CHECK(got[1] == 1.0 && got[3] == 0.0 && got[0] == 0.0);
    s.temperature = 0.00002f; /* drawn, but only from the three largest */
    CHECK_EQ(cch_distribution(x, 6, &s, NULL, 0, got, NULL), CCH_OK);
    CHECK(got[1] == got[3] && got[3] == got[5] && got[0] == 0.0 && got[4] == 0.0);
}

TEST(reported_numbers_are_the_models_own_whatever_the_settings) {
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_logits_summary summary;
    cch_sampled out;
    const int32_t history[] = {1, 2, 3, 1, 2};
    fill(logits, 500, 2.0, 3);
    CHECK_EQ(cch_logits_summarize(cch_logits_kernels(), logits, 500, NULL, &summary, NULL), CCH_OK);
    s.temperature = 0.4f, s.top_k = 20, s.top_p = 0.8f, s.repetition_penalty = 1.7f, s.no_repeat_ngram_size = 3;
    for (s.seed = 0; s.seed < 30; s.seed++) {
        CHECK_EQ(cch_sample(logits, 500, &s, history, 5, &out, NULL), CCH_OK);
        CHECK(out.logprob == (float)cch_logits_logprob(logits, &summary, out.token_id));
        CHECK(fabsf(out.probability - expf(out.logprob)) < 1e-6f);
        CHECK(out.entropy == (float)summary.entropy);
        CHECK(out.token_id != 3);
    }
}

TEST(penalties_change_what_is_drawn_from) {
    const float x[4] = {2.0f, 1.9f, 1.0f, -1.0f};
    const int32_t history[] = {0, 1, 0};
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_sampled out;
    s.repetition_penalty = 2.0f; /* {1, 0.95, 1, -1} */
    CHECK_EQ(cch_distribution(x, 4, &s, history, 3, got, NULL), CCH_OK);
    CHECK(fabs(got[0] - got[2]) < 1e-12 && fabs(got[1] / got[0] - exp((double)(1.9f / 2.0f) - 1.0)) < 1e-12);
    s.temperature = 0.0f;
    s.no_repeat_ngram_size = 2; /* 0 was followed by 1; token 0 keeps the tie with 2 by its lower id */
    CHECK_EQ(cch_sample(x, 4, &s, history, 3, &out, NULL), CCH_OK);
    CHECK_EQ(out.token_id, 0);
    s.no_repeat_ngram_size = 1;
    CHECK_EQ(cch_sample(x, 4, &s, history, 3, &out, NULL), CCH_OK);
    CHECK_EQ(out.token_id, 2);
}

TEST(scratch_may_be_reused_for_rows_of_any_size_and_forbids_ids) {
    cch_sampler_scratch scratch = CCH_SAMPLER_SCRATCH_INIT;
    const cch_kernels *kern = cch_logits_kernels();
    static const int sizes[] = {100, VOCAB, 33, 4999, 100};
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_error err;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cch_sampled a, b;
        fill(logits, sizes[i], 2.0, i);
        CHECK_OK(cch_sample_scratch(kern, &scratch, logits, sizes[i], &s, NULL, 9, NULL, 0, NULL, &a, &err), err);
        CHECK_OK(cch_sample(logits, sizes[i], &s, NULL, 9, &b, &err), err);
        CHECK(memcmp(&a, &b, sizeof a) == 0);
        s.temperature = 0.0f;
        CHECK_OK(cch_sample(logits, sizes[i], &s, NULL, 9, &b, &err), err);
        const int32_t *banned = &b.token_id;
        CHECK_OK(cch_sample_scratch(kern, &scratch, logits, sizes[i], &s, NULL, 9, banned, 1, NULL, &a, &err), err);
        CHECK(a.token_id != b.token_id && a.logprob < b.logprob && a.entropy == b.entropy);
        s.temperature = 1.0f;
    }
    cch_fail_alloc(1); /* no allocation is left to fail */
    cch_sampled out;
    CHECK_OK(cch_sample_scratch(kern, &scratch, logits, 100, &s, NULL, 9, NULL, 0, NULL, &out, &err), err);
    CHECK_EQ(cch_fail_alloc(0), 0);
    cch_sampler_scratch_deinit(&scratch);
}

TEST(every_instruction_set_draws_the_same) {
    static const char *const isas[] = {"avx2", "avx512"};
    cch_sampler_scratch scratch = CCH_SAMPLER_SCRATCH_INIT;
    const cch_kernels *generic, *kern;
    cch_sampling s = CCH_SAMPLING_INIT;
    s.temperature = 0.7f, s.top_p = 0.95f, s.top_k = 900, s.adaptive_top_p = s.adaptive_top_k = true;
    s.temperature_end = 1.9f, s.schedule_steps = 200;
    fill(logits, VOCAB, 3.0, 21);
    CHECK_EQ(cch_kernels_get("generic", &generic, NULL), CCH_OK);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        if (cch_kernels_get(isas[i], &kern, NULL) != CCH_OK) continue;
        for (int32_t pos = 0; pos < 200; pos++) {
            cch_sampled a, b;
            s.step = pos;
            cch_sample_scratch(generic, &scratch, logits, VOCAB, &s, NULL, pos, NULL, 0, NULL, &a, NULL);
            cch_sample_scratch(kern, &scratch, logits, VOCAB, &s, NULL, pos, NULL, 0, NULL, &b, NULL);
            CHECK(memcmp(&a, &b, sizeof a) == 0);
        }
    }
    cch_sampler_scratch_deinit(&scratch);
}

TEST(settings_out_of_range_are_named_with_value_and_range) {
    cch_error err;
    cch_sampling s = CCH_SAMPLING_INIT;
    CHECK_OK(cch_sampling_check(&s, &err), err);
#define REFUSED(field, value, words)                                                   \
    do {                                                                               \
        cch_sampling bad = CCH_SAMPLING_INIT;                                          \
        bad.field = value;                                                             \
        CHECK_STATUS(cch_sampling_check(&bad, &err), CCH_E_ARGUMENT, err, words);      \
    } while (0)
    REFUSED(temperature, -0.5f, "temperature is -0.5, allowed: 0 to 3.40282e+38");
    REFUSED(temperature, INFINITY, "temperature is inf");
    REFUSED(temperature, NAN, "temperature is nan");
    REFUSED(top_k, -1, "top_k is -1");
    REFUSED(top_p, 1.5f, "top_p is 1.5, allowed: 0 to 1");
    REFUSED(min_p, -0.1f, "min_p is -0.1");
    REFUSED(repetition_penalty, 0.0f, "repetition_penalty is 0, allowed: more than 0");
    REFUSED(repetition_penalty, INFINITY, "repetition_penalty is inf");
    REFUSED(no_repeat_ngram_size, -3, "no_repeat_ngram_size is -3");
    REFUSED(min_tokens, -2, "min_tokens is -2");
    REFUSED(step, -1, "step is -1, allowed: 0 to");
    REFUSED(temperature_end, -1.0f, "temperature_end is -1, allowed: 0 to 3.40282e+38");
    REFUSED(temperature_end, NAN, "temperature_end is nan");
    REFUSED(schedule_steps, -5, "schedule_steps is -5");
    REFUSED(adaptive_top_k, true, "top_k is 0, allowed with adaptive_top_k: at least 1");
    s.top_p = 2.0f;
    cch_sampled out;
    CHECK_STATUS(cch_sample(logits, 10, &s, NULL, 0, &out, &err), CCH_E_ARGUMENT, err, "top_p is 2");
    CHECK_STATUS(cch_distribution(logits, 10, &s, NULL, 0, got, &err), CCH_E_ARGUMENT, err, "top_p is 2");
}

/* The distributions of two settings, bit for bit. */
static bool same_distribution(int n, const cch_sampling *a, const cch_sampling *b) {
    CHECK_EQ(cch_distribution(logits, n, a, NULL, 0, got, NULL), CCH_OK);
    CHECK_EQ(cch_distribution(logits, n, b, NULL, 0, want, NULL), CCH_OK);
    return memcmp(got, want, (size_t)n * sizeof *got) == 0;
}

TEST(a_scheduled_step_is_a_step_at_that_temperature) {
    static const int32_t lengths[] = {1, 2, 3, 10, 101, INT32_MAX};
    fill(logits, 400, 2.0, 31);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int32_t n = lengths[i];
        const int32_t steps[] = {0, 1, n / 3, n / 2, n - 2, n - 1, n, INT32_MAX};
        for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
            cch_sampling scheduled = CCH_SAMPLING_INIT, constant = CCH_SAMPLING_INIT;
            if (steps[k] < 0) continue;
            scheduled.top_p = constant.top_p = 0.9f;
            scheduled.temperature = 1.7f, scheduled.temperature_end = 0.3f;
            scheduled.schedule_steps = n, scheduled.step = steps[k];
            double part = n == 1 ? 0.0 : fmin(1.0, (double)steps[k] / ((double)n - 1.0));
            double temperature = (double)1.7f + ((double)0.3f - (double)1.7f) * part;
            constant.temperature = part == 1.0 ? 0.3f : (float)temperature;
            if (same_distribution(400, &scheduled, &constant)) continue;
            constant.temperature = nextafterf(constant.temperature, 2.0f); /* the division comes last, there */
            bool above = same_distribution(400, &scheduled, &constant);
            constant.temperature = nextafterf(nextafterf(constant.temperature, 0.0f), 0.0f);
            CHECK(part > 0.0 && part < 1.0 && (above || same_distribution(400, &scheduled, &constant)));
        }
    }
}

TEST(a_schedule_may_begin_or_end_with_greedy_steps) {
    cch_sampling s = CCH_SAMPLING_INIT;
    fill(logits, 400, 0.5, 32);
    s.temperature_end = 0.0f, s.schedule_steps = 5;
    for (s.step = 0; s.step < 6; s.step++) {
        double largest = 0.0;
        CHECK_EQ(cch_distribution(logits, 400, &s, NULL, 0, got, NULL), CCH_OK);
        for (int i = 0; i < 400; i++) largest = fmax(largest, got[i]);
        CHECK_EQ(largest == 1.0, s.step >= 4);
    }
    s.temperature = 0.0f, s.temperature_end = 1.0f;
    for (s.step = 0; s.step < 2; s.step++) {
        cch_sampled out;
        int32_t drawn = -1, different = 0;
        for (s.seed = 0; s.seed < 20; s.seed++) {
            CHECK_EQ(cch_sample(logits, 400, &s, NULL, 0, &out, NULL), CCH_OK);
            different += drawn >= 0 && drawn != out.token_id;
            drawn = out.token_id;
        }
        CHECK_EQ(different > 0, s.step == 1);
    }
}

/* An adaptive step draws what constants computed from the reported entropy give, whatever the penalties. */
TEST(an_adaptive_step_is_a_step_with_the_cuts_its_entropy_gives) {
    const cch_kernels *kern = cch_logits_kernels();
    const int32_t history[] = {3, 1, 4, 1, 5};
    for (int i = 0; i < 40; i++) {
        int n = i % 4 == 0 ? 17 : 1200;
        cch_logits_summary summary;
        cch_sampling adaptive = CCH_SAMPLING_INIT, constant = CCH_SAMPLING_INIT;
        fill(logits, n, 0.2 * i, (uint64_t)i);
        CHECK_EQ(cch_logits_summarize(kern, logits, n, NULL, &summary, NULL), CCH_OK);
        double part = 0.5 + 0.5 * cch_logits_evenness(&summary, n);
        adaptive.temperature = constant.temperature = i % 3 == 0 ? 1.0f : 1.6f;
        adaptive.repetition_penalty = constant.repetition_penalty = i % 5 == 0 ? 1.4f : 1.0f;
        adaptive.top_p = i % 2 ? 1.0f : 0.8f, adaptive.adaptive_top_p = true;
        constant.top_p = (float)((double)adaptive.top_p * part);
        adaptive.top_k = 1 + i * 7, adaptive.adaptive_top_k = i % 4 != 1;
        double k = (double)adaptive.top_k * part, whole = floor(k);
        bool up = k - whole > 0.5 || (k - whole == 0.5 && fmod(whole, 2.0) == 1.0);
        constant.top_k = adaptive.adaptive_top_k ? (int32_t)fmax(1.0, whole + up) : adaptive.top_k;
        CHECK_EQ(cch_distribution(logits, n, &adaptive, history, 5, got, NULL), CCH_OK);
        CHECK_EQ(cch_distribution(logits, n, &constant, history, 5, want, NULL), CCH_OK);
        CHECK(memcmp(got, want, (size_t)n * sizeof *got) == 0);
    }
}

TEST(an_adaptive_top_k_rounds_half_to_even_and_keeps_one) {
    static const int32_t given[] = {1, 2, 3, 4, 5, 6, 7, 9}, kept[] = {1, 1, 2, 2, 2, 3, 4, 4};
    cch_sampling s = CCH_SAMPLING_INIT;
    for (int i = 0; i < 50; i++) logits[i] = i == 0 ? 0.0f : -60.0f; /* certain at temperature 1: 1 + h is 1 */
    s.temperature = 10.0f, s.adaptive_top_k = true;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        int32_t n = 0;
        s.top_k = given[i];
        CHECK_EQ(cch_distribution(logits, 50, &s, NULL, 0, got, NULL), CCH_OK);
        for (int j = 0; j < 50; j++) n += got[j] > 0.0;
        CHECK_EQ(n, kept[i]);
    }
    for (int i = 0; i < 50; i++) logits[i] = 2.5f; /* even: h = 1 */
    s.top_k = 30;
    CHECK_EQ(cch_distribution(logits, 50, &s, NULL, 0, got, NULL), CCH_OK);
    CHECK(got[29] > 0.0 && got[30] == 0.0);
    CHECK_EQ(cch_distribution(logits, 1, &s, NULL, 0, got, NULL), CCH_OK);
    CHECK(got[0] == 1.0);
}

TEST(logits_that_leave_nothing_to_draw_are_refused) {
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_sampled out;
    cch_error err;
    const int32_t history[] = {0, 1, 2};
    float x[3] = {1.0f, NAN, 2.0f};
    CHECK_STATUS(cch_sample(x, 3, &s, NULL, 0, &out, &err), CCH_E_ARGUMENT, err, "logit 1 is NaN");
    x[1] = 0.0f;
    s.no_repeat_ngram_size = 1;
    CHECK_STATUS(cch_sample(x, 3, &s, history, 3, &out, &err), CCH_E_ARGUMENT, err, "no token is left to draw");
    s.no_repeat_ngram_size = 0;
    s.repetition_penalty = 1e-38f;
    x[2] = 1e10f;
    CHECK_STATUS(cch_sample(x, 3, &s, history, 3, &out, &err), CCH_E_ARGUMENT, err, "inf as the largest logit");
    s.repetition_penalty = 2.0f;
    const int32_t outside[] = {0, 3};
    CHECK_STATUS(cch_sample(x, 3, &s, outside, 2, &out, &err), CCH_E_TOKEN_ID, err, "token id 3 at position 1");
    CHECK_STATUS(cch_sample(x, 0, &s, NULL, 0, &out, &err), CCH_E_ARGUMENT, err, "0 tokens");
}

static cch_status sample_once(void) {
    cch_sampling s = CCH_SAMPLING_INIT;
    cch_sampled out;
    return cch_sample(logits, 100, &s, NULL, 0, &out, NULL);
}

static cch_status distribution_once(void) {
    cch_sampling s = CCH_SAMPLING_INIT;
    return cch_distribution(logits, 100, &s, NULL, 0, got, NULL);
}

TEST(failing_allocations_are_reported_and_leak_nothing) {
    fill(logits, 100, 1.0, 1);
    CHECK_OOM(sample_once());
    CHECK_OOM(distribution_once());
}

CHECK_MAIN()
