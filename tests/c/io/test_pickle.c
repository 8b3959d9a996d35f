#include "io/pickle.h"

#include "check.h"

static cch_error err;

#define READ(text, out) cch_pickle_read((const unsigned char *)(text), sizeof(text) - 1, "p", (out), &err)

static cch_status read_free(const char *data, size_t n) {
    cch_pickle p;
    cch_status status = cch_pickle_read((const unsigned char *)data, n, "p", &p, &err);
    CHECK(status == CCH_OK || (p.values == NULL && p.items == NULL));
    cch_pickle_free(&p);
    return status;
}

static int64_t integer(const char *data, size_t n) {
    cch_pickle p;
    CHECK_OK(cch_pickle_read((const unsigned char *)data, n, "p", &p, &err), err);
    const cch_pickle_value *v = cch_pickle_root(&p);
    int64_t value = v->as.integer;
    CHECK_EQ(v->kind, CCH_PICKLE_INT);
    cch_pickle_free(&p);
    return value;
}
#define INTEGER(text) integer((text), sizeof(text) - 1)

TEST(integers_of_all_lengths) {
    CHECK_EQ(INTEGER("K\xff."), 255);
    CHECK_EQ(INTEGER("M\xff\xff."), 65535);
    CHECK_EQ(INTEGER("J\xff\xff\xff\xff."), -1);
    CHECK_EQ(INTEGER("J\xff\xff\xff\x7f."), INT32_MAX);
    CHECK_EQ(INTEGER("J\x00\x00\x00\x80."), INT32_MIN);
    CHECK_EQ(INTEGER("\x8a\x00."), 0);
    CHECK_EQ(INTEGER("\x8a\x01\xfe."), -2);
    CHECK_EQ(INTEGER("\x8a\x05\x00\x00\x00\x00\x01."), (int64_t)1 << 32);
    CHECK_EQ(INTEGER("\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80."), INT64_MIN);
    cch_pickle p;
    CHECK_OK(READ("\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00.", &p), err);
    CHECK(cch_pickle_root(&p)->kind == CCH_PICKLE_LONG && cch_pickle_root(&p)->n == 9);
    cch_pickle_free(&p);
}

TEST(containers_keep_their_items_while_they_grow) {
    cch_pickle p;
    CHECK_OK(READ("\x80\x02](K\x00K\x01" "e]K\x07" "aa(K\x02K\x03" "eK\x04" "a.", &p), err);
    const cch_pickle_value *list = cch_pickle_root(&p);
    CHECK_EQ(list->n, 6);
    CHECK_EQ(list->depth, 2);
    for (size_t i = 0; i < 6; i++)
        if (i != 2) CHECK_EQ(cch_pickle_item(&p, list, i)->as.integer, (int64_t)(i < 2 ? i : i - 1));
    CHECK(cch_pickle_item(&p, list, 2)->placed);
    cch_pickle_free(&p);
}

TEST(the_last_of_two_equal_keys_counts) {
    cch_pickle p;
    CHECK_OK(READ("}(U\x01" "aK\x01U\x01" "bK\x02U\x01" "aK\x03u.", &p), err);
    CHECK_EQ(cch_pickle_find(&p, cch_pickle_root(&p), "a")->as.integer, 3);
    CHECK(cch_pickle_find(&p, cch_pickle_root(&p), "c") == NULL);
    cch_pickle_free(&p);
}

TEST(a_tensor_is_the_call_that_makes_it) {
    static const char data[] =
        "ctorch._utils\n_rebuild_parameter\n(ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nHalfStorage\n"
        "U\x02" "12U\x05" "mps:0K\x06tQK\x01K\x02K\x03\x86K\x03K\x01\x86\x89" "ccollections\nOrderedDict\n)RtR"
        "\x88" "ccollections\nOrderedDict\n)RtR.";
    cch_pickle p;
    CHECK_OK(READ(data, &p), err);
    const cch_pickle_value *t = cch_pickle_root(&p), *storage = cch_pickle_item(&p, t, 0);
    CHECK_EQ(t->kind, CCH_PICKLE_TENSOR);
    CHECK_EQ(cch_pickle_item(&p, storage, 0)->as.integer, CCH_PICKLE_HALF_STORAGE);
    CHECK(cch_pickle_is_text(cch_pickle_item(&p, storage, 1), "12"));
    CHECK_EQ(cch_pickle_item(&p, storage, 2)->as.integer, 6);
    CHECK_EQ(cch_pickle_item(&p, t, 1)->as.integer, 1);
    CHECK_EQ(cch_pickle_item(&p, cch_pickle_item(&p, t, 2), 1)->as.integer, 3);
    cch_pickle_free(&p);
    CHECK_OOM(read_free(data, sizeof data - 1));
    for (size_t n = 0; n < sizeof data - 1; n++) CHECK(read_free(data, n) != CCH_OK);
}

TEST(attributes_of_an_ordered_dict_are_dropped) {
    cch_pickle p;
    CHECK_OK(READ("ccollections\nOrderedDict\n)R(U\x01" "aNu}U\x01xK\x01sb.", &p), err);
    CHECK(cch_pickle_root(&p)->ordered);
    CHECK_EQ(cch_pickle_root(&p)->n, 2);
    cch_pickle_free(&p);
}

TEST(names_that_nobody_allowed_are_refused) {
    CHECK_STATUS(read_free("cos\nsystem\n.", 12), CCH_E_UNSUPPORTED, err, "os system");
    CHECK_EQ(err.position, 0);
    CHECK_STATUS(read_free("\x8c\x08" "builtins\x8c\x04" "eval\x93.", 18), CCH_E_UNSUPPORTED, err, "builtins eval");
    CHECK_STATUS(read_free("ctorc\xffh\na\x07z\n.", 13), CCH_E_UNSUPPORTED, err, "torc?h a?z");
    CHECK_STATUS(read_free("cos\nsystem", 10), CCH_E_FORMAT, err, "ends within");
}

CHECK_MAIN()
