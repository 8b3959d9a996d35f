/* Accuracy of the truth itself, against long double.  The other tables have its bits (test_kern_avx2, _avx512). */
#include "check.h"

#include <stdint.h>

#include "base/half.h"
#include "kern/kernels.h"

static const cch_kernels *generic(void) {
    const cch_kernels *kern = NULL;
    cch_kernels_get("generic", &kern, NULL);
    return kern;
}

/* Distance in units of the last place of `want` rounded to f32 (to f64 where f64 is set). */
static double ulps(long double got, long double want, bool f64) {
    int exponent;
    frexpl(want, &exponent);
    const int digits = f64 ? 53 : 24, least = f64 ? -1074 : -149;
    const int place = exponent - digits > least ? exponent - digits : least;
    return (double)fabsl(ldexpl(got - want, -place));
}

/* exp(x) for x < -17.4: there 1 + exp(x) rounds to 1, so that the softmax of {0, x} leaves exp(x) as it is. */
static float exp_of(float x) {
    float s[2] = {0.0f, x};
    generic()->softmax(s, 0, 2);
    CHECK(s[0] == 1.0f);
    return s[1];
}

/* s - max, up to 18, is rounded before exp sees it: that alone is a relative error of up to 18 * 2^-24. */
TEST(softmax_is_accurate_and_sums_to_one) {
    for (int n = 1; n < 200; n += 13) {
        float s[200];
        long double want[200], sum = 0.0L, total = 0.0L;
        for (int i = 0; i < n; i++) s[i] = 9.0f * (float)sin(i * 7.3 + n);
        for (int i = 0; i < n; i++) sum += want[i] = expl((long double)s[i]);
        generic()->softmax(s, 0, (size_t)n);
        for (int i = 0; i < n; i++) {
            CHECK(fabsl(s[i] - want[i] / sum) <= 24 * 0x1p-24L * want[i] / sum);
            total += s[i];
        }
        CHECK(fabsl(total - 1.0L) < 1e-6L);
    }
}

TEST(exp_is_within_two_ulps) {
    double worst = 0.0;
    for (float x = -87.0f; x < -17.4f; x += 0.00137f) {
        const double error = ulps((long double)exp_of(x), expl((long double)x), false);
        if (error > worst) worst = error;
    }
    CHECK(worst <= 2.0);
}

TEST(exp_underflows_gradually_then_to_zero) {
    for (float x = -104.5f; x < -87.0f; x += 0.0031f)
        CHECK(ulps((long double)exp_of(x), expl((long double)x), false) <= 2.0);
    CHECK(exp_of(-105.0f) == 0.0f && exp_of(-INFINITY) == 0.0f);
    CHECK(exp_of(-103.0f) > 0.0f);
}

TEST(a_nan_score_makes_the_row_nan) {
    float s[20] = {0};
    s[7] = NAN;
    generic()->softmax(s, 2, 20);
    CHECK(s[0] == 0.0f && isnan(s[2]) && isnan(s[19]));
}

TEST(exp_f64_is_accurate_and_sums_its_weights) {
    double w[1], sum, worst = 0.0;
    for (float x = -745.0f; x <= 709.0f; x += 0.0173f) {
        generic()->exp_f64(&x, 1, 0.0f, 1.0, w, &sum);
        const double error = ulps((long double)w[0], expl((long double)x), true);
        if (error > worst) worst = error;
        CHECK(sum == w[0]);
    }
    CHECK(worst <= 2.0);
    const float edge[] = {0.0f, -INFINITY, -800.0f, 711.0f, NAN};
    double at[5];
    generic()->exp_f64(edge, 5, 0.0f, 1.0, at, &sum);
    CHECK(at[0] == 1.0 && at[1] == 0.0 && at[2] == 0.0 && isinf(at[3]) && isnan(at[4]) && isnan(sum));
    generic()->exp_f64(edge, 1, 2.0f, 0.5, at, &sum);
    CHECK(ulps((long double)at[0], expl(-1.0L), true) <= 2.0);
}

TEST(dot_f64_weighs_distances_and_takes_minus_infinity) {
    const float x[] = {1.0f, -2.0f, 0.5f, -INFINITY, 3.0f, 2.0f, 1.0f, 0.0f, -1.0f, 2.5f};
    const double w[] = {0.5, 0.25, 2.0, 0.0, 1.0, 0.5, 4.0, 0.125, 8.0, 1.0};
    CHECK(generic()->dot_f64(w, x, 10, 3.0f) == -1.0 - 1.25 - 5.0 - 0.5 - 8.0 - 0.375 - 32.0 - 0.5);
    const float bad[] = {0.0f, NAN};
    CHECK(isnan(generic()->dot_f64(w, bad, 2, 0.0f)));
}

static long double silu(long double x) { return x / (1.0L + expl(-x)); }
static long double gelu_tanh(long double x) {
    return x * 0.5L * (1.0L + tanhl(0.79788456080286535588L * (x + 0.044715L * x * x * x)));
}
static long double gelu_erf(long double x) { return x * 0.5L * (1.0L + erfl(x / 1.41421356237309504880L)); }

/* Largest |error| / max(|want|, 1e-3 |x|) on [-10, 10]. */
static long double worst_of(void (*op)(const float *, const float *, size_t, float *), long double (*f)(long double)) {
    long double worst = 0.0L;
    for (float x = -10.0f; x <= 10.0f; x += 0.00037f) {
        float y;
        op(&x, NULL, 1, &y);
        const long double want = f((long double)x), size = fmaxl(fabsl(want), 1e-3L * fabsl((long double)x));
        const long double error = size > 0.0L ? fabsl((long double)y - want) / size : fabsl((long double)y);
        if (error > worst) worst = error;
    }
    return worst;
}

static void silu_alone(const float *x, const float *up, size_t n, float *y) {
    const float one = 1.0f;
    (void)up;
    for (size_t i = 0; i < n; i++) generic()->silu_mul(x + i, &one, 1, y + i);
}

TEST(activations_are_accurate) {
    CHECK(worst_of(silu_alone, silu) < 4e-7L);
    CHECK(worst_of(generic()->gelu_tanh_mul, gelu_tanh) < 2e-6L);
    CHECK(worst_of(generic()->gelu_erf_mul, gelu_erf) < 4e-5L); /* 1 + erf cancels in the left tail, as in torch */
}

TEST(activations_behave_at_the_ends) {
    const float x[] = {INFINITY, 200.0f, -200.0f, -0.0f, NAN}, one[] = {1, 1, 1, 1, 1};
    float y[5];
    void (*const ops[])(const float *, const float *, size_t, float *) = {
        generic()->silu_mul, generic()->gelu_tanh_mul, generic()->gelu_erf_mul};
    for (size_t i = 0; i < 3; i++) {
        ops[i](x, one, 5, y);
        CHECK(isinf(y[0]) && y[1] == 200.0f && y[2] == 0.0f && y[3] == 0.0f && isnan(y[4]));
    }
    generic()->relu(x, 5, y);
    CHECK(isinf(y[0]) && y[1] == 200.0f && y[2] == 0.0f && y[3] == 0.0f && isnan(y[4]));
}

TEST(gates_multiply_by_up) {
    const float gate[3] = {-1.0f, 0.5f, 3.0f}, up[3] = {2.0f, -3.0f, 0.0f}, one[3] = {1.0f, 1.0f, 1.0f};
    float plain[3], gated[3];
    void (*const ops[])(const float *, const float *, size_t, float *) = {
        generic()->silu_mul, generic()->gelu_tanh_mul, generic()->gelu_erf_mul};
    for (size_t i = 0; i < 3; i++) {
        ops[i](gate, one, 3, plain);
        ops[i](gate, up, 3, gated);
        for (int j = 0; j < 3; j++) CHECK(gated[j] == plain[j] * up[j]);
    }
}

TEST(norms_are_accurate) {
    for (int n = 1; n < 300; n += 23) {
        float x[300], w[300], b[300], y[300], z[300];
        long double mean = 0.0L, square = 0.0L, var = 0.0L;
        for (int i = 0; i < n; i++) {
            x[i] = 3.0f * (float)sin(i * 1.7 + n) + 0.5f;
            w[i] = (float)cos(i * 0.3);
            b[i] = 0.01f * (float)i;
            mean += x[i];
            square += (long double)x[i] * x[i];
        }
        mean /= n;
        square /= n;
        for (int i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean) / n;
        generic()->rms_norm(x, w, 1e-6f, (size_t)n, y);
        generic()->layer_norm(x, w, b, 1e-5f, (size_t)n, z);
        for (int i = 0; i < n; i++) {
            CHECK(fabsl(y[i] - x[i] / sqrtl(square + 1e-6L) * w[i]) < 3e-6L);
            CHECK(fabsl(z[i] - ((x[i] - mean) / sqrtl(var + 1e-5L) * w[i] + b[i])) < 3e-6L);
        }
    }
}

TEST(rope_turns_pairs_half_a_head_apart) {
    float x[6] = {1, 2, 3, 4, 5, 6};
    const float c[3] = {1.0f, 0.0f, 0.6f}, s[3] = {0.0f, 1.0f, 0.8f};
    generic()->rope(x, c, s, 6);
    CHECK(x[0] == 1.0f && x[3] == 4.0f && x[1] == -5.0f && x[4] == 2.0f);
    CHECK(fabsf(x[2] - (3 * 0.6f - 6 * 0.8f)) < 1e-6f && fabsf(x[5] - (6 * 0.6f + 3 * 0.8f)) < 1e-6f);
}

TEST(max_takes_the_first_of_equals_and_the_first_nan) {
    const float x[] = {-1.0f, 7.0f, 7.0f, NAN, 9.0f, NAN};
    float max;
    size_t index;
    generic()->max_f32(x, 3, &max, &index);
    CHECK(max == 7.0f && index == 1);
    generic()->max_f32(x, 6, &max, &index);
    CHECK(isnan(max) && index == 3);
    const float low[] = {-INFINITY, -INFINITY};
    generic()->max_f32(low, 2, &max, &index);
    CHECK(max == -INFINITY && index == 0);
}

/* Two pages, rows that see different ranges, against plain sums. */
TEST(attention_reads_keys_by_lane_and_values_by_row) {
    float keys[2][3 * 16], values[2][16 * 16], q[2][3], s[2][32], out[2][3];
    const float *k_pages[] = {keys[0], keys[1]}, *v_pages[] = {values[0], values[1]};
    const int32_t first[] = {0, 5}, last[] = {17, 18};
    for (int t = 0; t < 32; t++) {
        for (int c = 0; c < 3; c++) {
            keys[t / 16][c * 16 + t % 16] = (float)sin(t + 10 * c);
            values[t / 16][t % 16 * 16 + c] = (float)cos(3 * t + c);
        }
    }
    for (int c = 0; c < 3; c++) q[0][c] = (float)c - 1.0f, q[1][c] = 0.3f * (float)c;
    generic()->attn_scores(q[0], 3, 2, k_pages, false, 2, 3, 0.5f, s[0], 32);
    for (int r = 0; r < 2; r++) {
        for (int t = 0; t < 32; t++) {
            double want = 0.0;
            for (int c = 0; c < 3; c++) want += (double)q[r][c] * sin(t + 10 * c);
            CHECK(fabs((double)s[r][t] - 0.5 * want) < 1e-6);
        }
    }
    generic()->attn_mix(s[0], 32, 2, v_pages, false, first, last, 3, 16, false, out[0], 3);
    for (int r = 0; r < 2; r++) {
        for (int c = 0; c < 3; c++) {
            double want = 0.0;
            for (int t = first[r]; t < last[r]; t++) want += (double)s[r][t] * cos(3 * t + c);
            CHECK(fabs((double)out[r][c] - want) < 1e-5);
        }
    }
}

/* Pages of bf16 are pages of the f32 numbers with these upper halves, bit for bit. */
TEST(attention_over_bf16_pages_is_that_over_their_numbers) {
    float wide[2][16 * 16], q[2][16], p[2][32], s[2][2][32], out[2][2][16];
    uint16_t halves[2][16 * 16];
    const float *pages[] = {wide[0], wide[1]};
    const float *half_pages[] = {(const float *)(const void *)halves[0], (const float *)(const void *)halves[1]};
    const int32_t first[] = {0, 5}, last[] = {17, 32};
    for (int i = 0; i < 2 * 16 * 16; i++) {
        halves[i / 256][i % 256] = cch_bf16_round((float)sin(i));
        wide[i / 256][i % 256] = cch_bf16_to_f32(halves[i / 256][i % 256]);
    }
    for (int i = 0; i < 2 * 16; i++) q[i / 16][i % 16] = (float)cos(i);
    for (int i = 0; i < 2 * 32; i++) p[i / 32][i % 32] = (float)cos(5 * i);
    generic()->attn_scores(q[0], 16, 2, pages, false, 2, 16, 0.25f, s[0][0], 32);
    generic()->attn_scores(q[0], 16, 2, half_pages, true, 2, 16, 0.25f, s[1][0], 32);
    CHECK(memcmp(s[0], s[1], sizeof s[0]) == 0);
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 2 * 16; i++) out[half][i / 16][i % 16] = (float)i;
    generic()->attn_mix(p[0], 32, 2, pages, false, first, last, 16, 16, true, out[0][0], 16);
    generic()->attn_mix(p[0], 32, 2, half_pages, true, first, last, 16, 16, true, out[1][0], 16);
    CHECK(memcmp(out[0], out[1], sizeof out[0]) == 0);
}

TEST(a_mix_in_pieces_is_the_mix) {
    float values[3][16 * 16], p[2][48], whole[2][16], pieces[2][16];
    const float *v_pages[] = {values[0], values[1], values[2]};
    const int32_t first[] = {3, 0}, last[] = {40, 48}, head[] = {16, 16}, zero[] = {0, 0}, tail[] = {24, 32};
    for (int t = 0; t < 48; t++) {
        for (int c = 0; c < 16; c++) values[t / 16][t % 16 * 16 + c] = (float)cos(3 * t + c);
        p[0][t] = (float)sin(t), p[1][t] = (float)sin(2 * t);
    }
    generic()->attn_mix(p[0], 48, 2, v_pages, false, first, last, 16, 16, false, whole[0], 16);
    generic()->attn_mix(p[0], 48, 2, v_pages, false, first, head, 16, 16, false, pieces[0], 16);
    generic()->attn_mix(p[0] + 16, 48, 2, v_pages + 1, false, zero, tail, 16, 16, true, pieces[0], 16);
    CHECK(memcmp(whole, pieces, sizeof whole) == 0);
}

CHECK_MAIN()
