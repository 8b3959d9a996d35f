/* Codes of rows and queries: what is lost is never more than the bound says. */
#include "vectors.h"

static const cch_kernels *kernels(void) {
    const cch_kernels *kern = NULL;
    cch_kernels_get(NULL, &kern, NULL);
    return kern;
}

static double cosine_of(const float *q, const float *x, size_t d) {
    const cch_kernels *kern = kernels();
    return cch_cosine(kern, q, kern->dot_f32(q, q, d), x, d);
}

TEST(estimates_are_as_near_as_they_promise) {
    const size_t dims[] = {1, 2, 31, 32, 33, 384, 5000};
    for (size_t c = 0; c < sizeof dims / sizeof *dims; c++) {
        const size_t d = dims[c], stride = cch_codes_stride(d), n = 40;
        float *x = draw_rows(n, d);
        int8_t *codes = malloc(stride);
        int16_t *query_codes = malloc(stride * sizeof *query_codes);
        CHECK_EQ(stride % CCH_CODE_LANES, 0);
        for (size_t q = 0; q < n; q++) {
            cch_coded_query query;
            cch_codes_of_query(kernels(), x + q * d, d, query_codes, &query);
            for (size_t r = 0; r < n; r++) {
                float weight, error;
                int32_t sum;
                cch_codes_of_row(kernels(), x + r * d, d, codes, &weight, &error);
                kernels()->scan_i8(codes, 1, stride, query_codes, 1, &sum, 1);
                const float estimate = (float)sum * weight * query.gain, bound = error * query.factor + query.slack;
                CHECK(fabs(cosine_of(x + q * d, x + r * d, d) - (double)estimate) <= (double)bound);
            }
        }
        free(x), free(codes), free(query_codes);
    }
}

TEST(bounds_of_usual_vectors_are_tight) {
    float x[768], weight, error;
    int8_t codes[768];
    int16_t query_codes[768];
    cch_coded_query query;
    draw_row(x, x, 768, 0);
    cch_codes_of_row(kernels(), x, 768, codes, &weight, &error);
    cch_codes_of_query(kernels(), x, 768, query_codes, &query);
    CHECK(error < 0.006f && query.slack < 1e-4f && query.factor < 1.001f);
}

TEST(the_largest_number_gets_the_largest_code) {
    const float x[5] = {0.5f, -3e38f, 0.0f, 1.5e38f, 1e-45f};
    int8_t codes[32];
    float weight, error;
    cch_codes_of_row(kernels(), x, 5, codes, &weight, &error);
    CHECK_EQ(codes[1], -127);
    CHECK(codes[3] == 63 || codes[3] == 64);
    for (size_t i = 5; i < 32; i++) CHECK_EQ(codes[i], 0);
    const float tiny[2] = {1e-45f, -1e-45f};
    cch_codes_of_row(kernels(), tiny, 2, codes, &weight, &error);
    CHECK(codes[0] == 127 && codes[1] == -127 && error < 1e-6f);
}

TEST(zeros_are_certain) {
    const float x[3] = {0};
    int8_t codes[32];
    int16_t query_codes[32];
    float weight, error;
    cch_coded_query query;
    cch_codes_of_row(kernels(), x, 3, codes, &weight, &error);
    CHECK(weight == 0.0f && error == 0.0f && codes[0] == 0 && cch_codes_weight(codes, 3) == 0.0f);
    cch_codes_of_query(kernels(), x, 3, query_codes, &query);
    CHECK(query.square == 0.0 && query.slack == 0.0f && query.factor == 0.0f);
    CHECK(cosine_of(x, x, 3) == 0.0);
}

TEST(sums_of_the_largest_query_stay_inside_an_int32) {
    const size_t d = CCH_INDEX_MAX_DIMENSION;
    float *x = malloc(d * sizeof *x), weight, error;
    int8_t *codes = malloc(d);
    int16_t *query_codes = malloc(d * sizeof *query_codes);
    cch_coded_query query;
    int32_t sum;
    for (size_t i = 0; i < d; i++) x[i] = 3e38f;
    cch_codes_of_row(kernels(), x, d, codes, &weight, &error);
    cch_codes_of_query(kernels(), x, d, query_codes, &query);
    kernels()->scan_i8(codes, 1, d, query_codes, 1, &sum, 1);
    CHECK(sum > 0 && fabsf((float)sum * weight * query.gain - 1.0f) < 1e-5f);
    free(x), free(codes), free(query_codes);
}

TEST(a_row_is_as_similar_to_itself_as_one_exactly) {
    for (int kind = 0; kind < 8; kind++) {
        float x[77];
        draw_row(x, x, 77, 0);
        draw_row(x, x, 77, kind);
        CHECK(cosine_of(x, x, 77) == (kind == 3 ? 0.0 : 1.0));
    }
}

CHECK_MAIN()
