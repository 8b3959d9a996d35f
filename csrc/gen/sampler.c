#include "gen/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "gen/logits.h"

#define BLOCK 16
#define GREEDY_BELOW 1e-5f
#define MAX_FRACTION_BITS 50
#define MANTISSA ((UINT64_C(1) << 52) - 1)
#define PART 64 /* blocks worked on at a time */
#define MAGIC 0x1p52 /* x + MAGIC rounds 0 <= x < 2^51 to an integer and leaves it in the low bits of the double */

/* One row, its weights as integers (head comment of sampler.h, 1 and 2). */
typedef struct row {
    const double *weights, *tops; /* MAGIC + q, padded with q = 0 to whole blocks; the largest of each block */
    uint64_t *keys;
    size_t n, n_blocks;
    int id_bits, fraction_bits;
    uint64_t total, largest; /* sum and maximum of q */
    const float *x;          /* what the weights are made of: exp((x - max) * inv_t) */
    float max;
    double inv_t;
} row;

static uint64_t to_integer(double weight) {
    uint64_t bits;
    memcpy(&bits, &weight, sizeof bits);
    return bits & MANTISSA;
}

static double to_weight(uint64_t q) { return MAGIC + (double)q; }

static uint64_t key_mass(const row *r, uint64_t key) { return key >> r->id_bits; }

static int32_t key_id(const row *r, uint64_t key) {
    uint64_t mask = (UINT64_C(1) << r->id_bits) - 1;
    return (int32_t)(mask - (key & mask));
}

static double larger(double a, double b) { return a > b ? a : b; }

/* Turns one block of exp() weights into integers, in place; adds them to sums and gives the largest. */
static double quantize_block(double *w, double scale, uint64_t *sums) {
    uint64_t bits[BLOCK];
    double top[BLOCK / 2];
    for (size_t j = 0; j < BLOCK; j++) w[j] = w[j] * scale + MAGIC;
    memcpy(bits, w, sizeof bits);
    for (size_t j = 0; j < BLOCK; j++) sums[j] += bits[j] & MANTISSA;
    for (size_t j = 0; j < BLOCK / 2; j++) top[j] = larger(w[j], w[j + BLOCK / 2]);
    for (size_t j = 0; j < BLOCK / 4; j++) top[j] = larger(top[j], top[j + BLOCK / 4]);
    return larger(larger(top[0], top[1]), larger(top[2], top[3]));
}

/* The row of integer weights of exp((x - max) * inv_t), in parts that stay in the first-level cache.  made: the
 * weights are in the scratch already. */
static void make_row(const cch_kernels *kern, const float *x, bool made, float max, double inv_t,
                     cch_sampler_scratch *scratch, int32_t vocab, row *r) {
    uint64_t sums[BLOCK] = {0}, total = 0;
    double largest = MAGIC, unused;
    int id_bits = 1;
    while ((UINT64_C(1) << id_bits) < (uint64_t)vocab) id_bits++;
    int fraction_bits = 63 - id_bits < MAX_FRACTION_BITS ? 63 - id_bits : MAX_FRACTION_BITS;
    double scale = ldexp(1.0, fraction_bits);
    size_t n = (size_t)vocab, n_blocks = (n + BLOCK - 1) / BLOCK;
    for (size_t first = 0; first < n_blocks; first += PART) {
        size_t last = first + PART < n_blocks ? first + PART : n_blocks, at = first * BLOCK;
        size_t len = last * BLOCK < n ? last * BLOCK - at : n - at;
        if (!made) kern->exp_f64(x + at, len, max, inv_t, scratch->weights + at, &unused);
        for (size_t i = at + len; i < last * BLOCK; i++) scratch->weights[i] = 0.0;
        for (size_t b = first; b < last; b++) {
            scratch->tops[b] = quantize_block(scratch->weights + b * BLOCK, scale, sums);
            largest = larger(scratch->tops[b], largest);
        }
    }
    for (size_t j = 0; j < BLOCK; j++) total += sums[j];
    *r = (row){.weights = scratch->weights, .tops = scratch->tops, .keys = scratch->keys, .n = n, .n_blocks = n_blocks,
               .id_bits = id_bits, .fraction_bits = fraction_bits, .total = total, .largest = to_integer(largest),
               .x = x, .max = max, .inv_t = inv_t};
}

/* Keys of all tokens with q >= least, into r->keys; returns how many. */
static size_t gather(const row *r, uint64_t least) {
    double bound = to_weight(least);
    uint64_t mask = (UINT64_C(1) << r->id_bits) - 1;
    size_t found = 0;
    for (size_t b = 0; b < r->n_blocks; b++) {
        if (r->tops[b] < bound) continue;
        size_t end = (b + 1) * BLOCK < r->n ? (b + 1) * BLOCK : r->n;
        for (size_t i = b * BLOCK; i < end; i++) {
            r->keys[found] = to_integer(r->weights[i]) << r->id_bits | (mask - i);
            found += r->weights[i] >= bound;
        }
    }
    return found;
}

/* Index of the middle one of three keys of [low, high), taken where `random` says: sorted or equal rows are common, and
 * fixed places fall into their patterns. */
static size_t pick_pivot(const uint64_t *keys, size_t low, size_t high, uint64_t *random) {
    size_t at[3];
    for (size_t i = 0; i < 3; i++) {
        *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        at[i] = low + (size_t)((*random >> 32) * (high - low) >> 32);
    }
    size_t small = keys[at[0]] < keys[at[1]] ? at[0] : at[1], large = at[0] + at[1] - small;
    return keys[at[2]] < keys[small] ? small : keys[at[2]] > keys[large] ? large : at[2];
}

/* Moves the shortest prefix of the descending order that measures at least `need` >= 1 to the front of keys [n]; its
 * last key stands last.  A key measures its mass (key >> shift), or 1 when counting.  Returns the prefix's length, n
 * when all keys together measure less.  *measured (may be NULL): what the prefix measures. */
static inline size_t select_prefix(uint64_t *keys, size_t n, bool counting, int shift, uint64_t need,
                                   uint64_t *measured) {
    size_t low = 0, high = n; /* keys before low are in the prefix and measure have < need; keys from high on are not */
    uint64_t have = 0, random = 1;
    while (low < high) {
        size_t at = pick_pivot(keys, low, high, &random), store = low + 1;
        uint64_t pivot = keys[at], above = 0;
        keys[at] = keys[low];
        for (size_t i = low + 1; i < high; i++) {
            uint64_t key = keys[i], is_above = key > pivot;
            keys[i] = keys[store];
            keys[store] = key;
            store += is_above;
            above += is_above ? (counting ? 1 : key >> shift) : 0;
        }
        keys[low] = keys[store - 1];
        keys[store - 1] = pivot;
        if (have + above >= need) {
            high = store - 1;
            continue;
        }
        have += above + (counting ? 1 : pivot >> shift);
        low = store;
        if (have >= need) break;
    }
    if (measured != NULL) *measured = have;
    return low;
}

static size_t keep_mass(const row *r, size_t n, uint64_t need, uint64_t *mass) {
    return select_prefix(r->keys, n, false, r->id_bits, need, mass);
}

/* The `count` largest tokens of the row. */
static size_t keep_count(const row *r, size_t count, uint64_t *mass) {
    uint64_t bound = 0;
    if (count <= r->n_blocks) {
        for (size_t b = 0; b < r->n_blocks; b++) r->keys[b] = to_integer(r->tops[b]);
        bound = r->keys[select_prefix(r->keys, r->n_blocks, true, 0, count, NULL) - 1];
    }
    size_t kept = select_prefix(r->keys, gather(r, bound), true, 0, count, NULL);
    *mass = 0;
    for (size_t i = 0; i < kept; i++) *mass += key_mass(r, r->keys[i]);
    return kept;
}

static size_t keep_least(const row *r, size_t n, uint64_t least, uint64_t *mass) {
    size_t kept = 0;
    *mass = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = r->keys[i], q = key_mass(r, key);
        r->keys[kept] = key;
        kept += q >= least;
        *mass += q >= least ? q : 0;
    }
    return kept;
}

/* Keys of a prefix of mass >= need: those above the bound of the head comment, 4, or above a multiple of it when their
 * mass shows that this is enough. */
static size_t gather_mass(const row *r, uint64_t need) {
    uint64_t bound = (r->total - need) / r->n + 1;
    for (int shift = 9; shift > 0; shift -= 3) {
        uint64_t mass = 0;
        if (bound > r->largest >> shift) continue;
        size_t n = gather(r, bound << shift);
        for (size_t i = 0; i < n; i++) mass += key_mass(r, r->keys[i]);
        if (mass >= need) return n;
    }
    return gather(r, bound);
}

static uint64_t share(float part, uint64_t of) {
    double wanted = ceil((double)part * (double)of);
    return wanted < 1.0 ? 1 : wanted < (double)of ? (uint64_t)wanted : of;
}

static uint64_t draw_target(uint64_t bits53, uint64_t mass) {
    return (uint64_t)((unsigned __int128)bits53 * mass >> 53) + 1;
}

static bool cuts_count(const row *r, const cch_sampling *s) { return s->top_k > 0 && (size_t)s->top_k < r->n; }

static bool cuts(const row *r, const cch_sampling *s) {
    return cuts_count(r, s) || s->top_p < 1.0f || s->min_p > 0.0f;
}

/* Keys of the tokens that the cuts leave, in any order; *mass: their sum.  Without cuts, only keys needed for the
 * prefix that answers a draw of bits53. */
static size_t cut(const row *r, const cch_sampling *s, uint64_t bits53, uint64_t *mass) {
    bool use_k = cuts_count(r, s);
    uint64_t least = share(s->min_p, r->largest);
    size_t n;
    *mass = r->total;
    if (use_k)
        n = keep_count(r, (size_t)s->top_k, mass);
    else if (s->top_p < 1.0f)
        n = gather_mass(r, share(s->top_p, r->total));
    else if (s->min_p > 0.0f)
        n = gather(r, least);
    else
        n = gather_mass(r, draw_target(bits53, r->total));
    if (s->top_p < 1.0f) n = keep_mass(r, n, share(s->top_p, *mass), mass);
    if (s->min_p > 0.0f) n = keep_least(r, n, least, mass);
    return n;
}

static bool has_penalties(const cch_sampling *s, int32_t n_banned) {
    return s->repetition_penalty != 1.0f || s->no_repeat_ngram_size > 0 || n_banned > 0;
}

/* The penalised copy in the scratch, its largest logit and where that is. */
static cch_status penalize(const cch_kernels *kern, cch_sampler_scratch *scratch, const float *logits, int32_t vocab,
                           const cch_sampling *s, const int32_t *history, int32_t n, const int32_t *banned,
                           int32_t n_banned, float *max, int32_t *argmax, cch_error *err) {
    size_t at;
    CCH_RETURN_IF(cch_logits_penalize(logits, vocab, s->repetition_penalty, s->no_repeat_ngram_size, history, n, banned,
                                      n_banned, scratch->logits, err));
    kern->max_f32(scratch->logits, (size_t)vocab, max, &at);
    if (!isfinite(*max))
        CCH_FAIL(err, CCH_E_ARGUMENT, -1,
                 "no token is left to draw: repetition_penalty %g, no_repeat_ngram_size %d and %d forbidden ids leave "
                 "%g as the largest logit",
                 (double)s->repetition_penalty, (int)s->no_repeat_ngram_size, (int)n_banned, (double)*max);
    *argmax = (int32_t)at;
    return CCH_OK;
}

static float scheduled(const cch_sampling *s) {
    int32_t last = s->schedule_steps - 1;
    if (last < 1 || s->step == 0) return s->temperature;
    if (s->step >= last) return s->temperature_end;
    double start = (double)s->temperature, end = (double)s->temperature_end;
    return (float)(start + (end - start) * s->step / last);
}

static void adapt(cch_sampling *s, const cch_logits_summary *summary, int32_t vocab) {
    double part = 0.5 + 0.5 * cch_logits_evenness(summary, vocab);
    if (s->adaptive_top_p) s->top_p = (float)((double)s->top_p * part);
    if (s->adaptive_top_k) s->top_k = (int32_t)larger(1.0, rint((double)s->top_k * part));
}

/* What cch_sample and cch_distribution share: summary of the raw row; the greedy choice; unless greedy, the row of
 * integer weights.  Without temperature and penalties the summary's weights serve the row, too.  What follows the step
 * in *s becomes its value at this step. */
static cch_status prepare(const cch_kernels *kern, cch_sampler_scratch *scratch, const float *logits, int32_t vocab,
                          cch_sampling *s, const int32_t *history, int32_t n, const int32_t *banned, int32_t n_banned,
                          cch_logits_summary *summary, int32_t *best, row *r, cch_error *err) {
    CCH_RETURN_IF(cch_sampling_check(s, err));
    CCH_RETURN_IF(cch_sampler_scratch_reserve(scratch, vocab, err));
    s->temperature = scheduled(s);
    bool penalized = has_penalties(s, n_banned), is_raw = !penalized && s->temperature == 1.0f;
    CCH_RETURN_IF(cch_logits_summarize(kern, logits, vocab, is_raw ? scratch->weights : NULL, summary, err));
    if (s->adaptive_top_p || s->adaptive_top_k) adapt(s, summary, vocab);
    float max = summary->max;
    *best = summary->argmax;
    if (penalized)
        CCH_RETURN_IF(penalize(kern, scratch, logits, vocab, s, history, n, banned, n_banned, &max, best, err));
    if (s->temperature >= GREEDY_BELOW)
        make_row(kern, penalized ? scratch->logits : logits, is_raw, max, 1.0 / (double)s->temperature, scratch, vocab,
                 r);
    return CCH_OK;
}

cch_status cch_sampler_scratch_reserve(cch_sampler_scratch *scratch, int32_t vocab, cch_error *err) {
    cch_status status = CCH_OK;
    cch_sampler_scratch fresh = CCH_SAMPLER_SCRATCH_INIT;
    if (vocab < 1)
        CCH_FAIL(err, CCH_E_ARGUMENT, vocab, "the vocabulary has %d tokens, at least 1 is needed", (int)vocab);
    if (vocab <= scratch->cap) return CCH_OK;
    size_t n = (size_t)vocab, n_blocks = (n + BLOCK - 1) / BLOCK;
    fresh.cap = vocab;
    CCH_NEW(fresh.weights, n_blocks * BLOCK, err);
    CCH_NEW(fresh.tops, n_blocks, err);
    CCH_NEW(fresh.keys, n, err);
    CCH_NEW(fresh.logits, n, err);
    cch_sampler_scratch_deinit(scratch);
    *scratch = fresh;
    return CCH_OK;
done:
    cch_sampler_scratch_deinit(&fresh);
    return status;
}

void cch_sampler_scratch_deinit(cch_sampler_scratch *scratch) {
    cch_free(scratch->weights);
    cch_free(scratch->tops);
    cch_free(scratch->keys);
    cch_free(scratch->logits);
    *scratch = (cch_sampler_scratch)CCH_SAMPLER_SCRATCH_INIT;
}

/* ---- traces ---- */

/* Fills the list with tokens of probability 0, those of the lowest ids that are not in it. */
static void fill_top(cch_trace *trace, int32_t n, int32_t vocab) {
    trace->n_top = vocab < CCH_TRACE_TOP ? vocab : CCH_TRACE_TOP;
    for (int32_t id = 0; n < trace->n_top; id++) {
        bool listed = false;
        for (int32_t i = 0; i < n; i++) listed |= trace->ids[i] == id;
        if (listed) continue;
        trace->ids[n] = id;
        trace->probabilities[n++] = 0.0;
    }
}

/* Lists the likeliest of keys [n], whose order it changes. */
static void list_top(const row *r, size_t n, uint64_t mass, cch_trace *trace) {
    size_t found = select_prefix(r->keys, n, true, 0, CCH_TRACE_TOP, NULL);
    for (size_t i = 1; i < found; i++) { /* falling keys: falling probabilities, equal ones by id */
        uint64_t key = r->keys[i];
        size_t at = i;
        for (; at > 0 && r->keys[at - 1] < key; at--) r->keys[at] = r->keys[at - 1];
        r->keys[at] = key;
    }
    for (size_t i = 0; i < found; i++) {
        trace->ids[i] = key_id(r, r->keys[i]);
        trace->probabilities[i] = (double)key_mass(r, r->keys[i]) / (double)mass;
    }
    fill_top(trace, (int32_t)found, (int32_t)r->n);
}

/* Sum of q z over keys [n], or over the whole row where keys are not given: z = x - max, so that q = e^(z / T) 2^B. */
static double weighted_distance(const cch_kernels *kern, const row *r, const uint64_t *keys, size_t n) {
    double sum = 0.0, block[PART * BLOCK];
    for (size_t i = 0; i < n && keys != NULL; i++) {
        uint64_t q = key_mass(r, keys[i]);
        if (q > 0) sum += (double)q * ((double)r->x[key_id(r, keys[i])] - (double)r->max);
    }
    for (size_t at = 0; at < r->n && keys == NULL; at += PART * BLOCK) {
        size_t len = r->n - at < PART * BLOCK ? r->n - at : PART * BLOCK;
        for (size_t i = 0; i < len; i++) block[i] = r->weights[at + i] - MAGIC;
        sum += kern->dot_f64(block, r->x + at, len, r->max);
    }
    return sum;
}

/* What is drawn from: keys [kept] of that mass, or all tokens without cuts.  The order of keys changes. */
static void trace_row(const cch_kernels *kern, const row *r, bool all, size_t kept, uint64_t mass, cch_trace *trace) {
    uint64_t listed;
    double distance = weighted_distance(kern, r, all ? NULL : r->keys, kept);
    double entropy = cch_log_f64(ldexp((double)mass, -r->fraction_bits)) - r->inv_t * distance / (double)mass;
    trace->entropy = entropy > 0.0 ? entropy : 0.0;
    list_top(r, all ? keep_count(r, r->n < CCH_TRACE_TOP ? r->n : CCH_TRACE_TOP, &listed) : kept, mass, trace);
}

static uint64_t random_bits(const cch_sampling *s, int32_t position) {
    return s->splitmix ? cch_rng_splitmix53(s->seed, (uint64_t)s->step)
                       : cch_rng_bits53(s->seed, s->stream, (uint64_t)position);
}

cch_status cch_sample_scratch(const cch_kernels *kern, cch_sampler_scratch *scratch, const float *logits, int32_t vocab,
                              const cch_sampling *sampling, const int32_t *history, int32_t n, const int32_t *banned,
                              int32_t n_banned, cch_trace *trace, cch_sampled *out, cch_error *err) {
    cch_sampling s = *sampling;
    cch_logits_summary summary;
    row r;
    int32_t token_id;
    *out = (cch_sampled){0};
    CCH_RETURN_IF(
        prepare(kern, scratch, logits, vocab, &s, history, n, banned, n_banned, &summary, &token_id, &r, err));
    if (s.temperature >= GREEDY_BELOW) {
        uint64_t mass, bits53 = random_bits(&s, n);
        bool all = !cuts(&r, &s);
        if (trace != NULL && all) trace_row(kern, &r, true, r.n, r.total, trace);
        size_t kept = cut(&r, &s, bits53, &mass);
        if (trace != NULL && !all) trace_row(kern, &r, false, kept, mass, trace);
        kept = keep_mass(&r, kept, draw_target(bits53, mass), NULL);
        token_id = key_id(&r, r.keys[kept - 1]);
    } else if (trace != NULL) {
        trace->entropy = 0.0;
        trace->ids[0] = token_id;
        trace->probabilities[0] = 1.0;
        fill_top(trace, 1, vocab);
    }
    out->token_id = token_id;
    out->probability = (float)cch_logits_probability(kern, logits, &summary, token_id);
    out->logprob = (float)cch_logits_logprob(logits, &summary, token_id);
    out->entropy = (float)summary.entropy;
    return CCH_OK;
}

/* value as printed, not NaN and within [low, high] (low itself excluded when open) */
static cch_status check_field(const char *name, double value, double low, double high, bool open, cch_error *err) {
    if (value <= high && (open ? value > low : value >= low)) return CCH_OK;
    if (isinf(high)) CCH_FAIL(err, CCH_E_ARGUMENT, -1, "%s is %g, allowed: %s %g", name, value,
                              open ? "more than" : "at least", low);
    CCH_FAIL(err, CCH_E_ARGUMENT, -1, "%s is %g, allowed: %s%g to %g", name, value, open ? "more than " : "",
             low, high);
}

cch_status cch_sampling_check(const cch_sampling *s, cch_error *err) {
    CCH_RETURN_IF(check_field("temperature", (double)s->temperature, 0.0, (double)FLT_MAX, false, err));
    CCH_RETURN_IF(check_field("top_k", s->top_k, 0.0, INT32_MAX, false, err));
    CCH_RETURN_IF(check_field("top_p", (double)s->top_p, 0.0, 1.0, false, err));
    CCH_RETURN_IF(check_field("min_p", (double)s->min_p, 0.0, 1.0, false, err));
    CCH_RETURN_IF(check_field("repetition_penalty", (double)s->repetition_penalty, 0.0, 1e6, true, err));
    CCH_RETURN_IF(check_field("no_repeat_ngram_size", s->no_repeat_ngram_size, 0.0, INT32_MAX, false, err));
    CCH_RETURN_IF(check_field("min_tokens", s->min_tokens, 0.0, INT32_MAX, false, err));
    CCH_RETURN_IF(check_field("step", s->step, 0.0, INT32_MAX, false, err));
    CCH_RETURN_IF(check_field("temperature_end", (double)s->temperature_end, 0.0, (double)FLT_MAX, false, err));
    CCH_RETURN_IF(check_field("schedule_steps", s->schedule_steps, 0.0, INT32_MAX, false, err));
    if (s->adaptive_top_k && s->top_k == 0)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "top_k is 0, allowed with adaptive_top_k: at least 1");
    return CCH_OK;
}

cch_status cch_sample_traced(const float *logits, int32_t vocab, const cch_sampling *sampling, const int32_t *history,
                             int32_t n, cch_trace *trace, cch_sampled *out, cch_error *err) {
    cch_sampler_scratch scratch = CCH_SAMPLER_SCRATCH_INIT;
    cch_status status = cch_sample_scratch(cch_logits_kernels(), &scratch, logits, vocab, sampling, history, n, NULL, 0,
                                           trace, out, err);
    cch_sampler_scratch_deinit(&scratch);
    return status;
}

cch_status cch_sample(const float *logits, int32_t vocab, const cch_sampling *sampling, const int32_t *history,
                      int32_t n, cch_sampled *out, cch_error *err) {
    return cch_sample_traced(logits, vocab, sampling, history, n, NULL, out, err);
}

cch_status cch_distribution(const float *logits, int32_t vocab, const cch_sampling *sampling, const int32_t *history,
                            int32_t n, double *dst, cch_error *err) {
    cch_status status = CCH_OK;
    cch_sampler_scratch scratch = CCH_SAMPLER_SCRATCH_INIT;
    cch_sampling s = *sampling;
    cch_logits_summary summary;
    int32_t best;
    row r;
    uint64_t mass;
    size_t kept;
    CCH_TRY(prepare(cch_logits_kernels(), &scratch, logits, vocab, &s, history, n, NULL, 0, &summary, &best, &r, err));
    memset(dst, 0, (size_t)vocab * sizeof *dst);
    if (s.temperature < GREEDY_BELOW) {
        dst[best] = 1.0;
        goto done;
    }
    kept = cut(&r, &s, (UINT64_C(1) << 53) - 1, &mass);
    for (size_t i = 0; i < kept; i++)
        dst[key_id(&r, r.keys[i])] = (double)key_mass(&r, r.keys[i]) / (double)mass;
done:
    cch_sampler_scratch_deinit(&scratch);
    return status;
}
