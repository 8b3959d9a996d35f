/* protobuf - messages in the wire format of protocol buffers, field by field.
 *
 * A message is a run of fields: a varint of number << 3 | type, then by type a varint (0), 8 bytes (1), a varint of a
 * length and so many bytes (2), or 4 bytes (5).  A field inside a field is a message of its own over its bytes.
 * Hostile input: nothing is read past the end, nothing is allocated.  Groups (types 3 and 4), which no writer makes any
 * more, are refused.
 * Threads: pure.   Source: protobuf.dev/programming-guides/encoding.
 */
#ifndef CCH_IO_PROTOBUF_H
#define CCH_IO_PROTOBUF_H

#include "base/status.h"

typedef struct cch_proto { /* a message that is being read */
    const uint8_t *data;   /* borrowed */
    size_t size, at;
    const char *name;      /* borrowed; for messages: what it is, or the file it comes from */
} cch_proto;

typedef enum cch_proto_type {
    CCH_PROTO_VARINT = 0, CCH_PROTO_FIXED64 = 1, CCH_PROTO_BYTES = 2, CCH_PROTO_FIXED32 = 5
} cch_proto_type;

typedef struct cch_proto_field {
    uint32_t number;       /* 1 to 2^29 - 1 */
    cch_proto_type type;
    uint64_t value;        /* of a varint, or the bits of a fixed number */
    const uint8_t *data;   /* of bytes: view into the message */
    size_t size;
} cch_proto_field;

/* Reads the next field; *out_more is false, and *out zeroed, at the end of the message.
 *   E_FORMAT (position of the byte in the message): the message is cut, or a number is none. */
cch_status cch_proto_next(cch_proto *message, cch_proto_field *out, bool *out_more, cch_error *err);

/* What a field holds; `what` names it in messages.   E_FORMAT: it is of another type, or out of range. */
cch_status cch_proto_get_int(const cch_proto_field *field, int64_t low, int64_t high, const char *what, int32_t *out,
                             cch_error *err);
cch_status cch_proto_get_bool(const cch_proto_field *field, const char *what, bool *out, cch_error *err);
cch_status cch_proto_get_float(const cch_proto_field *field, const char *what, float *out, cch_error *err);
cch_status cch_proto_get_bytes(const cch_proto_field *field, const char *what, const char **out, size_t *out_size,
                               cch_error *err);
cch_status cch_proto_get_message(const cch_proto_field *field, const char *what, cch_proto *out, cch_error *err);

#endif
