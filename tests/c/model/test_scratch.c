/* The workspace: measured, then placed; it grows once and is reused. */
#include "model/scratch.h"

#include "check.h"

typedef struct layout {
    char *a;
    double *b;
} layout;

static void lay_out(cch_scratch *s, size_t n, layout *out) {
    cch_scratch_begin(s);
    out->a = cch_scratch_take(s, n, 1);
    out->b = cch_scratch_take(s, n, sizeof *out->b);
}

TEST(buffers_are_aligned_and_apart) {
    cch_scratch s = {0};
    layout l;
    cch_error err;
    for (size_t n = 1; n < 300; n += 37) {
        lay_out(&s, n, &l);
        CHECK_OK(cch_scratch_reserve(&s, &err), err);
        lay_out(&s, n, &l);
        CHECK_EQ((uintptr_t)l.a % 64, 0);
        CHECK_EQ((uintptr_t)l.b % 64, 0);
        CHECK((char *)l.b >= l.a + n);
        memset(l.a, 1, n);
        memset(l.b, 2, n * sizeof *l.b);
    }
    cch_scratch_deinit(&s);
}

TEST(a_smaller_pass_allocates_nothing) {
    cch_scratch s = {0};
    layout l;
    cch_error err;
    lay_out(&s, 1000, &l);
    CHECK_OK(cch_scratch_reserve(&s, &err), err);
    cch_fail_alloc(0);
    for (size_t n = 1000; n > 0; n /= 2) {
        lay_out(&s, n, &l);
        CHECK_OK(cch_scratch_reserve(&s, &err), err);
    }
    CHECK_EQ(cch_fail_alloc(0), 0);
    cch_scratch_deinit(&s);
}

TEST(a_sum_that_overflows_or_cannot_be_had_is_refused) {
    cch_scratch s = {0};
    layout l;
    cch_error err;
    lay_out(&s, SIZE_MAX / 8, &l);
    CHECK_STATUS(cch_scratch_reserve(&s, &err), CCH_E_MEMORY, err, "workspace");
    lay_out(&s, SIZE_MAX / 4, &l);
    CHECK_STATUS(cch_scratch_reserve(&s, &err), CCH_E_MEMORY, err, "workspace");
    lay_out(&s, 10, &l);
    cch_fail_alloc(1);
    CHECK_STATUS(cch_scratch_reserve(&s, &err), CCH_E_MEMORY, err, "workspace");
    CHECK_OK(cch_scratch_reserve(&s, &err), err);
    cch_scratch_deinit(&s);
}

CHECK_MAIN()
