#include "io/json.h"

#include "base/alloc.h"
#include "check.h"

static cch_error err;

static cch_status parse(const char *text, cch_json_doc **out) {
    return cch_json_parse(text, strlen(text), "a.json", CCH_JSON_DEPTH, out, &err);
}

static cch_status parse_and_close(const char *text, size_t len, int max_depth) {
    cch_json_doc *doc;
    cch_status status = cch_json_parse(text, len, "a.json", max_depth, &doc, &err);
    if ((status == CCH_OK) != (doc != NULL)) return CCH_E_INTERNAL;
    cch_json_close(doc);
    return status;
}

static void check_refused(const char *text, const char *words, int64_t position) {
    CHECK_STATUS(parse_and_close(text, strlen(text), 3), CCH_E_FORMAT, err, words);
    CHECK_EQ(err.position, position);
}

static cch_json get(const cch_json_doc *doc, const char *key) {
    cch_json value = {0};
    CHECK_OK(cch_json_get(cch_json_root(doc), key, &value, &err), err);
    return value;
}

TEST(every_kind_of_value_is_read) {
    cch_json_doc *doc = NULL;
    bool b = false;
    int64_t n = 0;
    double d = 0;
    const char *s = NULL;
    size_t len = 0;
    CHECK_OK(parse(" {\"n\": -12, \"d\": 1.5e-3, \"b\": true, \"s\": \"a\\u0000\\ud83d\\ude00\", \"z\": null,"
                   "  \"a\": [1, [], {}], \"\": \"empty\"}\n", &doc), err);
    CHECK_OK(cch_json_get_int(get(doc, "n"), -12, 0, &n, &err), err);
    CHECK_EQ(n, -12);
    CHECK_OK(cch_json_get_double(get(doc, "d"), 0, 1, &d, &err), err);
    CHECK(d == 1.5e-3);
    CHECK_OK(cch_json_get_double(get(doc, "n"), -20, 1, &d, &err), err);
    CHECK(d == -12);
    CHECK_OK(cch_json_get_bool(get(doc, "b"), &b, &err), err);
    CHECK(b);
    CHECK_OK(cch_json_get_string(get(doc, "s"), &s, &len, &err), err);
    CHECK_EQ(len, 6);
    CHECK(memcmp(s, "a\0\xF0\x9F\x98\x80", 7) == 0);
    CHECK_EQ(cch_json_get_kind(get(doc, "z")), CCH_JSON_NULL);
    CHECK_EQ(cch_json_len(get(doc, "a")), 3);
    CHECK_EQ(cch_json_get_kind(cch_json_at(get(doc, "a"), 2)), CCH_JSON_OBJECT);
    CHECK_OK(cch_json_get_string(get(doc, ""), &s, &len, &err), err);
    cch_json_close(doc);
}

TEST(scalars_and_null_stand_alone) {
    const char *const texts[] = {"null", " 12", "-0.5E+2 ", "\"x\"", "true", "false", "[]", "{}", "[null]", "0"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK_OK(parse_and_close(texts[i], strlen(texts[i]), 1), err);
}

TEST(what_is_not_strict_json_is_refused_with_its_position) {
    check_refused("", "ends at byte 0", 0);
    check_refused("{", "ends at byte 1", 1);
    check_refused("[1,]", "']' at byte 3", 3);
    check_refused("{\"a\":1,}", "'}' at byte 7", 7);
    check_refused("{'a':1}", "''' at byte 1", 1);
    check_refused("[1] x", "'x' at byte 4", 4);
    check_refused("NaN", "'N' at byte 0", 0);
    check_refused("[-Infinity]", "'I' at byte 2", 2);
    check_refused("[Infinity]", "'I' at byte 1", 1);
    check_refused("[nan]", "'n' at byte 1", 1);
    check_refused("[01]", "'1' at byte 2", 2);
    check_refused("[1.]", "']' at byte 3", 3);
    check_refused("[.5]", "'.' at byte 1", 1);
    check_refused("[+1]", "'+' at byte 1", 1);
    check_refused("[1e]", "']' at byte 3", 3);
    check_refused("[0x10]", "'x' at byte 2", 2);
    check_refused("/**/[]", "'/' at byte 0", 0);
    check_refused("[tru]", "'t' at byte 1", 1);
    check_refused("[\"\t\"]", "byte 0x09 at 2", 2);
    check_refused("[\"\\x\"]", "'x' at byte 3", 3);
    check_refused("[\"\\u12g4\"]", "'g' at byte 6", 6);
    check_refused("[\"\\ud800\"]", "unpaired surrogate \\uD800 at byte 2", 2);
    check_refused("[\"\\udc00\\ud800\"]", "unpaired surrogate \\uDC00 at byte 2", 2);
    check_refused("[\"\\ud800\\u0041\"]", "unpaired surrogate", 2);
    check_refused("[\"a", "ends at byte 3", 3);
    check_refused("[\"\xC3\x28\"]", "byte 0xC3 at 2", 2);
    check_refused("[\"\xED\xA0\x80\"]", "byte 0xED at 2", 2);
    check_refused("\xEF\xBB\xBF[]", "at byte 0", 0);
    check_refused("{\"a\" 1}", "'1' at byte 5", 5);
    check_refused("{1:1}", "'1' at byte 1", 1);
    check_refused("[[[[1]]]]", "nests deeper than 3 at byte 3", 3);
    check_refused("{\"a\\u0000b\": 1}", "holds \\u0000", 1);
    CHECK_STATUS(parse_and_close("[\"\0\"]", 5, 3), CCH_E_FORMAT, err, "byte 0x00 at 2");
    CHECK_STATUS(parse_and_close("[]\0", 3, 3), CCH_E_FORMAT, err, "byte 0x00 at 2");
    CHECK_STATUS(parse_and_close("[]", 2, 0), CCH_E_ARGUMENT, err, "max_depth is 0");
    CHECK_STATUS(parse_and_close("[]", 2, 65), CCH_E_ARGUMENT, err, "max_depth is 65");
}

TEST(depth_is_counted_in_containers) {
    char text[2 * CCH_JSON_MAX_DEPTH + 2];
    for (int depth = 1; depth <= CCH_JSON_MAX_DEPTH; depth++) {
        memset(text, '[', (size_t)depth);
        text[depth] = '7';
        memset(text + depth + 1, ']', (size_t)depth);
        CHECK_OK(parse_and_close(text, 2 * (size_t)depth + 1, depth), err);
        if (depth > 1)
            CHECK_STATUS(parse_and_close(text, 2 * (size_t)depth + 1, depth - 1), CCH_E_FORMAT, err, "deeper");
    }
}

TEST(a_repeated_key_is_named_however_it_is_spelled) {
    check_refused("{\"a\":1,\"b\":2,\"a\":3}", "key \"a\" at byte 13 is there twice", 13);
    check_refused("{\"x\":{\"abc\":1,\"\\u0061bc\":2}}", "key \"abc\" at byte 14", 14);
    check_refused("{\"a\":{\"b\":[1,2]},\"a\":{\"b\":[1,2]}}", "key \"a\" at byte 17", 17);
    check_refused("[{\"\":1,\"\":1}]", "key \"\" at byte 7", 7);
    CHECK_OK(parse_and_close("[{\"a\":1},{\"a\":1}]", 17, 3), err);
}

TEST(numbers_are_neither_clamped_nor_rounded) {
    cch_json_doc *doc = NULL;
    int64_t n = 5;
    double d = 5;
    CHECK_OK(parse("{\"a\": 18446744073709551615, \"b\": 1e400, \"c\": 99999999999999999999999, \"d\": 2.0, \"e\": -1,"
                   "\"f\": -99999999999999999999999, \"g\": \"1\", \"h\": true, \"i\": -9223372036854775809}",
                   &doc), err);
    CHECK_STATUS(cch_json_get_int(get(doc, "a"), 0, 1000, &n, &err), CCH_E_FORMAT, err,
                 "a.json: a is 18446744073709551615, expected a whole number from 0 to 1000");
    CHECK_STATUS(cch_json_get_int(get(doc, "c"), 0, 1000, &n, &err), CCH_E_FORMAT, err, "a.json: c is ");
    CHECK_STATUS(cch_json_get_int(get(doc, "d"), 0, 1000, &n, &err), CCH_E_FORMAT, err, "a.json: d is 2");
    CHECK_STATUS(cch_json_get_int(get(doc, "e"), 0, 1000, &n, &err), CCH_E_FORMAT, err, "a.json: e is -1");
    CHECK_STATUS(cch_json_get_int(get(doc, "f"), -5, 1000, &n, &err), CCH_E_FORMAT, err, "a.json: f is -1e+23");
    CHECK_STATUS(cch_json_get_int(get(doc, "g"), 0, 5, &n, &err), CCH_E_FORMAT, err, "a.json: g is \"1\"");
    CHECK_STATUS(cch_json_get_int(get(doc, "h"), 0, 5, &n, &err), CCH_E_FORMAT, err, "a.json: h is true");
    CHECK_STATUS(cch_json_get_double(get(doc, "b"), -INFINITY, INFINITY, &d, &err), CCH_E_FORMAT, err, "b is inf");
    CHECK_STATUS(cch_json_get_double(get(doc, "e"), 0, 1, &d, &err), CCH_E_FORMAT, err,
                 "a.json: e is -1, expected a number from 0 to 1");
    CHECK_STATUS(cch_json_get_double(get(doc, "g"), 0, 1, &d, &err), CCH_E_FORMAT, err, "g is \"1\"");
    CHECK_EQ(n, 5);
    CHECK(d == 5);
    CHECK_OK(cch_json_get_double(get(doc, "i"), -1e30, 1e30, &d, &err), err);
    CHECK(d == -0x1p63); /* a number below all integers keeps its sign */
    cch_json_close(doc);
}

TEST(messages_say_where) {
    cch_json_doc *doc = NULL;
    cch_json model, vocab, hello;
    bool b;
    CHECK_OK(parse("{\"model\": {\"x\": {}, \"vocab\": {\"hello\": [1, 2, 3, [\"text\"]]}}}", &doc), err);
    CHECK_OK(cch_json_get(cch_json_root(doc), "model", &model, &err), err);
    CHECK_OK(cch_json_get(model, "vocab", &vocab, &err), err);
    CHECK_OK(cch_json_get(vocab, "hello", &hello, &err), err);
    CHECK_STATUS(cch_json_get_bool(cch_json_at(hello, 2), &b, &err), CCH_E_FORMAT, err,
                 "a.json: model.vocab.hello[2] is 3, expected true or false");
    CHECK_STATUS(cch_json_get_bool(cch_json_at(cch_json_at(hello, 3), 0), &b, &err), CCH_E_FORMAT, err,
                 "a.json: model.vocab.hello[3][0] is \"text\"");
    CHECK_STATUS(cch_json_expect(hello, CCH_JSON_OBJECT, &err), CCH_E_FORMAT, err,
                 "a.json: model.vocab.hello is an array of 4, expected an object");
    CHECK_STATUS(cch_json_get(vocab, "bye", &hello, &err), CCH_E_FORMAT, err, "a.json: model.vocab has no key \"bye\"");
    CHECK_STATUS(cch_json_get(cch_json_at(hello, 0), "x", &hello, &err), CCH_E_FORMAT, err,
                 "hello[0] is 1, expected an object");
    CHECK_STATUS(cch_json_get_bool(cch_json_root(doc), &b, &err), CCH_E_FORMAT, err,
                 "a.json: the whole text is an object of 1, expected true or false");
    cch_json_close(doc);
}

TEST(members_come_in_file_order) {
    cch_json_doc *doc = NULL;
    const char *key = NULL, *want[] = {"z", "a", "m"};
    size_t len, n = 0;
    int64_t number;
    cch_json value;
    CHECK_OK(parse("{\"z\": 0, \"a\": 1, \"m\": 2}", &doc), err);
    cch_json_iter it = cch_json_members(cch_json_root(doc));
    while (cch_json_next(&it, &key, &len, &value)) {
        CHECK(n < 3 && strcmp(key, want[n]) == 0 && len == 1);
        CHECK_OK(cch_json_get_int(value, (int64_t)n, (int64_t)n, &number, &err), err);
        n++;
    }
    CHECK_EQ(n, 3);
    it = cch_json_members(value);
    CHECK(!cch_json_next(&it, &key, &len, &value));
    CHECK(!cch_json_find(value, "a", &value));
    CHECK_EQ(cch_json_len(value), 0);
    cch_json_close(doc);
}

TEST(long_texts_are_cut_in_messages_between_characters) {
    char name[1000], text[4000];
    cch_json_doc *doc = NULL;
    cch_json value;
    bool b;
    memset(name, 'd', sizeof name - 1);
    memcpy(name + sizeof name - 8, "/x.json", 8);
    strcpy(text, "{\"k\": \"");
    for (int i = 0; i < 500; i++) strcat(text, "\xE2\x82\xAC");
    strcat(text, "\"}");
    CHECK_OK(cch_json_parse(text, strlen(text), name, 4, &doc, &err), err);
    CHECK_OK(cch_json_get(cch_json_root(doc), "k", &value, &err), err);
    CHECK_STATUS(cch_json_get_bool(value, &b, &err), CCH_E_FORMAT, err, "d/x.json: k is \"\xE2\x82\xAC");
    CHECK(strstr(err.message, "\xE2\x82\xAC...\", expected true or false") != NULL);
    cch_json_close(doc);
}

TEST(a_vocabulary_of_150000_entries_is_read) {
    size_t cap = 150000 * 24, at = 0, n = 0, len;
    char *text = cch_alloc(cap, 1);
    const char *key;
    cch_json_doc *doc = NULL;
    cch_json value;
    at += (size_t)snprintf(text, cap, "{");
    for (int i = 0; i < 150000; i++) at += (size_t)snprintf(text + at, cap - at, "%s\"t%d\":%d", i ? "," : "", i, i);
    at += (size_t)snprintf(text + at, cap - at, "}");
    CHECK_OK(cch_json_parse(text, at, "vocab", 2, &doc, &err), err);
    cch_json_iter it = cch_json_members(cch_json_root(doc));
    while (cch_json_next(&it, &key, &len, &value)) {
        int64_t id = -1;
        if (cch_json_get_int(value, 0, 149999, &id, &err) != CCH_OK || id != (int64_t)n) break;
        n++;
    }
    CHECK_EQ(n, 150000);
    cch_json_close(doc);
    cch_free(text);
}

TEST(no_memory_leaves_nothing_behind) {
    CHECK_OOM(parse_and_close("{\"a\":[1,{\"b\":\"c\"}]}", 19, 4)); /* json-c's own: test_json_memory.c */
}

TEST(a_missing_file_is_an_io_error) {
    cch_json_doc *doc = NULL;
    CHECK_STATUS(cch_json_open("/nonexistent/a.json", 4, &doc, &err), CCH_E_IO, err,
                 "/nonexistent/a.json: No such file");
    CHECK(doc == NULL);
}

CHECK_MAIN()
