#include "io/tensors.h"

#include "check.h"

static cch_error err;

static cch_tensor_view view_of(cch_dtype dtype, const void *data, int32_t n_dims, const size_t *shape) {
    cch_tensor_view v = {.name = "t", .dtype_name = "T", .dtype = dtype, .n_dims = n_dims, .n_elements = 1,
                         .data = data};
    for (int32_t d = 0; d < n_dims; d++) v.n_elements *= v.shape[d] = shape[d];
    return v;
}

TEST(doubles_are_rounded_once) {
    const double values[4] = {0.1, -1e300, 5e-324, 1.0 + 0x1p-24};
    float got[4];
    cch_tensor_view v = view_of(CCH_DTYPE_F64, values, 1, (const size_t[]){4});
    CHECK_OK(cch_tensor_check_dtype(&v, &err), err);
    cch_tensor_read(&v, 0, 4, got);
    CHECK(got[0] == 0.1f && isinf(got[1]) && got[1] < 0 && got[2] == 0 && got[3] == 1.0f);
}

/* Every run of elements of a view with strides is what a loop over all indices gives. */
TEST(strides_are_followed_from_any_element) {
    float data[400], want[60], got[60];
    const size_t strides[][3] = {{20, 5, 1}, {1, 3, 12}, {0, 7, 2}, {60, 1, 4}, {40, 10, 2}};
    for (int i = 0; i < 400; i++) data[i] = (float)i;
    for (size_t s = 0; s < sizeof strides / sizeof *strides; s++) {
        cch_tensor_view v = view_of(CCH_DTYPE_F32, data, 3, (const size_t[]){3, 4, 5});
        v.strided = true;
        memcpy(v.strides, strides[s], sizeof strides[s]);
        for (size_t i = 0; i < 60; i++)
            want[i] = (float)(i / 20 * v.strides[0] + i / 5 % 4 * v.strides[1] + i % 5 * v.strides[2]);
        for (size_t first = 0; first < 60; first++)
            for (size_t n = 0; n <= 60 - first; n++) {
                cch_tensor_read(&v, first, n, got);
                CHECK(memcmp(got, want + first, n * sizeof *got) == 0);
            }
    }
}

TEST(a_scalar_may_have_strides) {
    const float data[1] = {3};
    float got = 0;
    cch_tensor_view v = view_of(CCH_DTYPE_F32, data, 0, NULL);
    v.strided = true;
    cch_tensor_read(&v, 0, 1, &got);
    CHECK(got == 3);
}

static cch_status make(const char *first, const char *second) {
    cch_tensors *t = NULL;
    CCH_RETURN_IF(cch_tensors_new(1, &t, &err));
    cch_status status = cch_tensors_reserve(t, 2, &err);
    if (status == CCH_OK) {
        t->views[t->n++] = (cch_tensor_view){.name = first};
        t->views[t->n++] = (cch_tensor_view){.name = second};
        status = cch_tensors_sort(t, &err);
    }
    if (status == CCH_OK) CHECK(cch_tensors_find(t, first) != NULL && cch_tensors_find(t, "x") == NULL);
    cch_tensors_close(t);
    return status;
}

TEST(two_tensors_have_two_names) {
    CHECK_OK(make("b", "a"), err);
    CHECK_STATUS(make("b", "b"), CCH_E_FORMAT, err, "tensor b is in");
    CHECK_OOM(make("a", "b"));
    cch_tensors_close(NULL);
}

CHECK_MAIN()
