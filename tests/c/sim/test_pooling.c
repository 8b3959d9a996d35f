/* Pooling by hand, and lengths that overflow or vanish. */
#include "check.h"
#include "sim/pooling.h"

enum { ROWS = 5, DIM = 19, LD = 32 };

static void fill(float *rows) {
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < LD; i++) rows[r * LD + i] = (float)((r * 37 + i * 11) % 29) - 14.0f;
}

TEST(a_row_or_the_mean_of_all) {
    float rows[ROWS * LD], got[3][DIM];
    static const char *const isas[] = {"generic", "avx2", "avx512"};
    fill(rows);
    for (int isa = 0; isa < 3; isa++) {
        const cch_kernels *kern;
        if (cch_kernels_get(isas[isa], &kern, NULL) != CCH_OK) continue; /* not on this CPU */
        for (size_t n = 1; n <= ROWS; n++) {
            cch_pool_rows(kern, CCH_POOL_MEAN, rows, LD, n, DIM, got[0]);
            cch_pool_rows(kern, CCH_POOL_CLS, rows, LD, n, DIM, got[1]);
            cch_pool_rows(kern, CCH_POOL_LAST, rows, LD, n, DIM, got[2]);
            CHECK(memcmp(got[1], rows, sizeof got[1]) == 0);
            CHECK(memcmp(got[2], rows + (n - 1) * LD, sizeof got[2]) == 0);
            for (size_t i = 0; i < DIM; i++) {
                float sum = rows[i];
                for (size_t r = 1; r < n; r++) sum += rows[r * LD + i];
                float mean = sum * (1.0f / (float)n);
                CHECK(memcmp(&mean, &got[0][i], sizeof mean) == 0);
            }
        }
    }
}

TEST(vectors_get_length_one) {
    float x[DIM];
    double sum = 0;
    for (int i = 0; i < DIM; i++) x[i] = (float)(i - 7) * 1e20f; /* squares beyond f32 */
    CHECK(cch_unit(x, DIM));
    for (int i = 0; i < DIM; i++) sum += (double)x[i] * (double)x[i];
    CHECK(fabs(sum - 1) < 1e-6 && x[7] == 0.0f && x[0] < 0.0f);
    for (int i = 0; i < DIM; i++) x[i] = (float)(i - 7) * 1e-30f;
    CHECK(cch_unit(x, DIM) && fabsf(x[18] - 0.432789f) < 1e-6f);
    memset(x, 0, sizeof x);
    CHECK(cch_unit(x, DIM) && x[0] == 0.0f);
    x[3] = NAN;
    CHECK(!cch_unit(x, DIM));
    x[3] = -INFINITY;
    CHECK(!cch_unit(x, DIM));
}

CHECK_MAIN()
