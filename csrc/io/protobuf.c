#include "io/protobuf.h"

#include <string.h> /* memcpy */

static cch_status read_varint(cch_proto *m, uint64_t *out, cch_error *err) {
    const size_t start = m->at;
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (m->at == m->size)
            CCH_FAIL(err, CCH_E_FORMAT, start, "%s is cut at byte %zu, inside a number", m->name, m->at);
        const uint8_t byte = m->data[m->at++];
        if (shift == 63 && byte > 1) break;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return CCH_OK;
        }
    }
    CCH_FAIL(err, CCH_E_FORMAT, start, "%s: the number at byte %zu is over 64 bits", m->name, start);
}

/* `size` bytes of the message, as a view. */
static cch_status take(cch_proto *m, uint64_t size, const uint8_t **out, cch_error *err) {
    if (size > m->size - m->at)
        CCH_FAIL(err, CCH_E_FORMAT, m->at, "%s is cut: a field at byte %zu has %llu bytes, %zu are left", m->name,
                 m->at, (unsigned long long)size, m->size - m->at);
    *out = m->data + m->at;
    m->at += (size_t)size;
    return CCH_OK;
}

static uint64_t little_endian(const uint8_t *bytes, unsigned n) {
    uint64_t value = 0;
    for (unsigned i = n; i-- > 0;) value = value << 8 | bytes[i];
    return value;
}

cch_status cch_proto_next(cch_proto *message, cch_proto_field *out, bool *out_more, cch_error *err) {
    const size_t start = message->at;
    uint64_t tag, size;
    *out = (cch_proto_field){0};
    *out_more = false;
    if (message->at == message->size) return CCH_OK;
    CCH_RETURN_IF(read_varint(message, &tag, err));
    if (tag >> 3 == 0 || tag > UINT32_MAX)
        CCH_FAIL(err, CCH_E_FORMAT, start, "%s: byte %zu begins no field", message->name, start);
    out->number = (uint32_t)(tag >> 3);
    out->type = (cch_proto_type)(tag & 7);
    switch (tag & 7) {
    case CCH_PROTO_VARINT: CCH_RETURN_IF(read_varint(message, &out->value, err)); break;
    case CCH_PROTO_FIXED64:
    case CCH_PROTO_FIXED32:
        size = out->type == CCH_PROTO_FIXED64 ? 8 : 4;
        CCH_RETURN_IF(take(message, size, &out->data, err));
        out->value = little_endian(out->data, (unsigned)size);
        break;
    case CCH_PROTO_BYTES:
        CCH_RETURN_IF(read_varint(message, &size, err));
        CCH_RETURN_IF(take(message, size, &out->data, err));
        out->size = (size_t)size;
        break;
    default:
        CCH_FAIL(err, CCH_E_FORMAT, start, "%s: the field at byte %zu is of wire type %u, allowed: 0, 1, 2, 5",
                 message->name, start, (unsigned)(tag & 7));
    }
    *out_more = true;
    return CCH_OK;
}

static cch_status expect(const cch_proto_field *field, cch_proto_type type, const char *what, cch_error *err) {
    if (field->type == type) return CCH_OK;
    CCH_FAIL(err, CCH_E_FORMAT, -1, "%s is of wire type %d, expected %d", what, (int)field->type, (int)type);
}

cch_status cch_proto_get_int(const cch_proto_field *field, int64_t low, int64_t high, const char *what, int32_t *out,
                             cch_error *err) {
    CCH_RETURN_IF(expect(field, CCH_PROTO_VARINT, what, err));
    const int64_t value = (int64_t)field->value;
    if (value < low || value > high)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s is %lld, allowed: %lld to %lld", what, (long long)value, (long long)low,
                 (long long)high);
    *out = (int32_t)value;
    return CCH_OK;
}

cch_status cch_proto_get_bool(const cch_proto_field *field, const char *what, bool *out, cch_error *err) {
    CCH_RETURN_IF(expect(field, CCH_PROTO_VARINT, what, err));
    *out = field->value != 0;
    return CCH_OK;
}

cch_status cch_proto_get_float(const cch_proto_field *field, const char *what, float *out, cch_error *err) {
    CCH_RETURN_IF(expect(field, CCH_PROTO_FIXED32, what, err));
    const uint32_t bits = (uint32_t)field->value;
    memcpy(out, &bits, sizeof *out);
    return CCH_OK;
}

cch_status cch_proto_get_bytes(const cch_proto_field *field, const char *what, const char **out, size_t *out_size,
                               cch_error *err) {
    CCH_RETURN_IF(expect(field, CCH_PROTO_BYTES, what, err));
    *out = (const char *)field->data;
    *out_size = field->size;
    return CCH_OK;
}

cch_status cch_proto_get_message(const cch_proto_field *field, const char *what, cch_proto *out, cch_error *err) {
    CCH_RETURN_IF(expect(field, CCH_PROTO_BYTES, what, err));
    *out = (cch_proto){field->data, field->size, 0, what};
    return CCH_OK;
}
