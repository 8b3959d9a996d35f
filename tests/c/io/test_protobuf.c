/* Messages field by field: every wire type, and every way a message can be cut. */
#include "io/protobuf.h"

#include "check.h"

static cch_error err;

static cch_proto message(const void *data, size_t size) { return (cch_proto){data, size, 0, "m"}; }

static cch_proto_field field_of(const char *data, size_t size) {
    cch_proto m = message(data, size);
    cch_proto_field field;
    bool more;
    CHECK_OK(cch_proto_next(&m, &field, &more, &err), err);
    CHECK(more);
    return field;
}

TEST(all_types) {
    static const char data[] = "\x08\x96\x01" "\x11\1\2\3\4\5\6\7\x88" "\x1A\3abc" "\x25\0\0\x80\x3F"
                               "\xF8\xFF\xFF\xFF\x0F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01" "\x1A\0";
    cch_proto m = message(data, sizeof data - 1);
    cch_proto_field f;
    bool more;
    CHECK_OK(cch_proto_next(&m, &f, &more, &err), err);
    CHECK(more && f.number == 1 && f.type == CCH_PROTO_VARINT && f.value == 150);
    CHECK_OK(cch_proto_next(&m, &f, &more, &err), err);
    CHECK(more && f.number == 2 && f.type == CCH_PROTO_FIXED64 && f.value == 0x8807060504030201);
    CHECK_OK(cch_proto_next(&m, &f, &more, &err), err);
    CHECK(more && f.number == 3 && f.type == CCH_PROTO_BYTES && f.size == 3 && memcmp(f.data, "abc", 3) == 0);
    CHECK_OK(cch_proto_next(&m, &f, &more, &err), err);
    CHECK(more && f.number == 4 && f.type == CCH_PROTO_FIXED32 && f.value == 0x3F800000);
    CHECK_OK(cch_proto_next(&m, &f, &more, &err), err);
    CHECK(more && f.number == (1u << 29) - 1 && f.value == UINT64_MAX);
    CHECK_OK(cch_proto_next(&m, &f, &more, &err), err);
    CHECK(more && f.size == 0);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(cch_proto_next(&m, &f, &more, &err), err);
        CHECK(!more && f.number == 0);
    }
}

static void refused(const char *data, size_t size, int64_t position, const char *words) {
    cch_proto m = message(data, size);
    cch_proto_field f;
    bool more = true;
    CHECK_STATUS(cch_proto_next(&m, &f, &more, &err), CCH_E_FORMAT, err, words);
    CHECK(!more);
    CHECK_EQ(err.position, position);
}

TEST(damaged_messages) {
    refused("\x80", 1, 0, "m is cut at byte 1, inside a number");
    refused("\x08\x80", 2, 1, "m is cut at byte 2");
    refused("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02", 11, 1, "the number at byte 1 is over 64 bits");
    refused("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 12, 1, "over 64 bits");
    refused("\x00", 1, 0, "byte 0 begins no field");
    refused("\x80\x80\x80\x80\x10", 5, 0, "begins no field");
    refused("\x0B", 1, 0, "wire type 3, allowed: 0, 1, 2, 5");
    refused("\x0E", 1, 0, "wire type 6");
    refused("\x0A\x05" "abcd", 6, 2, "a field at byte 2 has 5 bytes, 4 are left");
    refused("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01" "a", 12, 11, "has 18446744073709551615 bytes");
    refused("\x0D\0\0\0", 4, 1, "has 4 bytes, 3 are left");
    refused("\x09\0\0\0\0\0\0\0", 8, 1, "has 8 bytes, 7 are left");
}

TEST(what_fields_hold) {
    cch_proto_field number = field_of("\x08\x05", 2), bytes = field_of("\x0A\x02\x08\x01", 4);
    cch_proto_field minus = field_of("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11);
    cch_proto_field one = field_of("\x0D\0\0\x80\x3F", 5);
    cch_proto inner;
    const char *text;
    size_t size;
    int32_t value = 0;
    bool flag = false;
    float f = 0;
    CHECK_OK(cch_proto_get_int(&number, 1, 5, "it", &value, &err), err);
    CHECK_EQ(value, 5);
    CHECK_OK(cch_proto_get_int(&minus, -1, 5, "it", &value, &err), err);
    CHECK_EQ(value, -1);
    CHECK_STATUS(cch_proto_get_int(&number, 1, 4, "it", &value, &err), CCH_E_FORMAT, err, "it is 5, allowed: 1 to 4");
    CHECK_STATUS(cch_proto_get_int(&minus, 0, 4, "it", &value, &err), CCH_E_FORMAT, err, "it is -1, allowed: 0 to 4");
    CHECK_STATUS(cch_proto_get_int(&bytes, 1, 4, "it", &value, &err), CCH_E_FORMAT, err,
                 "it is of wire type 2, expected 0");
    CHECK_OK(cch_proto_get_bool(&number, "it", &flag, &err), err);
    CHECK(flag);
    CHECK_STATUS(cch_proto_get_bool(&one, "it", &flag, &err), CCH_E_FORMAT, err, "expected 0");
    CHECK_OK(cch_proto_get_float(&one, "it", &f, &err), err);
    CHECK(f == 1.0f);
    CHECK_STATUS(cch_proto_get_float(&number, "it", &f, &err), CCH_E_FORMAT, err, "wire type 0, expected 5");
    CHECK_OK(cch_proto_get_bytes(&bytes, "it", &text, &size, &err), err);
    CHECK(size == 2 && text[1] == 1);
    CHECK_STATUS(cch_proto_get_bytes(&one, "it", &text, &size, &err), CCH_E_FORMAT, err, "expected 2");
    CHECK_OK(cch_proto_get_message(&bytes, "inner", &inner, &err), err);
    number = field_of((const char *)inner.data, inner.size);
    CHECK(number.number == 1 && number.value == 1 && strcmp(inner.name, "inner") == 0);
    CHECK_STATUS(cch_proto_get_message(&one, "it", &inner, &err), CCH_E_FORMAT, err, "expected 2");
}

CHECK_MAIN()
