#include "io/pickle.h"

#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

#define NOTHING UINT32_MAX
#define MARKS_MAX 10000
#define PROTOCOL_MAX 5

/* Growing array of indices. */
typedef struct list {
    uint32_t *at; /* owned */
    size_t n, cap;
} list;

typedef struct reader {
    const unsigned char *data;
    size_t size, at, op_at; /* next byte; byte of the instruction at work */
    const char *path;
    cch_pickle *p;
    list stack, marks, memo;
    size_t pushed;
    cch_error *err;
} reader;

static const struct { const char *module, *name; } names[] = {
    [CCH_PICKLE_ORDERED_DICT] = {"collections", "OrderedDict"},
    [CCH_PICKLE_REBUILD_TENSOR] = {"torch._utils", "_rebuild_tensor_v2"},
    [CCH_PICKLE_REBUILD_PARAMETER] = {"torch._utils", "_rebuild_parameter"},
    [CCH_PICKLE_FLOAT_STORAGE] = {"torch", "FloatStorage"},
    [CCH_PICKLE_DOUBLE_STORAGE] = {"torch", "DoubleStorage"},
    [CCH_PICKLE_HALF_STORAGE] = {"torch", "HalfStorage"},
    [CCH_PICKLE_BFLOAT16_STORAGE] = {"torch", "BFloat16Storage"},
    [CCH_PICKLE_LONG_STORAGE] = {"torch", "LongStorage"},
    [CCH_PICKLE_INT_STORAGE] = {"torch", "IntStorage"},
    [CCH_PICKLE_SHORT_STORAGE] = {"torch", "ShortStorage"},
    [CCH_PICKLE_CHAR_STORAGE] = {"torch", "CharStorage"},
    [CCH_PICKLE_BYTE_STORAGE] = {"torch", "ByteStorage"},
    [CCH_PICKLE_BOOL_STORAGE] = {"torch", "BoolStorage"},
};

#define REFUSE(r, ...) CCH_FAIL((r)->err, CCH_E_FORMAT, (r)->op_at, __VA_ARGS__)

/* ------------------------------------------------------------------------------------------------- bytes ---- */

static cch_status take(reader *r, size_t n, const unsigned char **out) {
    if (n > r->size - r->at)
        REFUSE(r, "%s: the pickle ends within the instruction at byte %zu", r->path, r->op_at);
    *out = r->data + r->at;
    r->at += n;
    return CCH_OK;
}

/* An unsigned number of n <= 8 bytes, little end first. */
static cch_status take_number(reader *r, size_t n, uint64_t *out) {
    const unsigned char *p = NULL;
    *out = 0;
    CCH_RETURN_IF(take(r, n, &p));
    for (size_t i = 0; i < n; i++) *out |= (uint64_t)p[i] << 8 * i;
    return CCH_OK;
}

/* Bytes that follow their length, itself a number of length_size bytes. */
static cch_status take_counted(reader *r, size_t length_size, const char **out, size_t *out_n) {
    const unsigned char *p = NULL;
    uint64_t n = 0;
    CCH_RETURN_IF(take_number(r, length_size, &n));
    CCH_RETURN_IF(take(r, n > SIZE_MAX ? SIZE_MAX : (size_t)n, &p));
    *out = (const char *)p;
    *out_n = (size_t)n;
    return CCH_OK;
}

/* Bytes up to a line feed, which is taken too. */
static cch_status take_line(reader *r, const char **out, size_t *out_n) {
    const unsigned char *p = r->data + r->at, *end = memchr(p, '\n', r->size - r->at);
    if (end == NULL) REFUSE(r, "%s: the pickle ends within the instruction at byte %zu", r->path, r->op_at);
    *out = (const char *)p;
    *out_n = (size_t)(end - p);
    r->at += *out_n + 1;
    return CCH_OK;
}

/* ---------------------------------------------------------------------------------------- stack and memo ---- */

static cch_status grow(reader *r, uint32_t **array, size_t *cap, size_t wanted) {
    if (wanted <= *cap) return CCH_OK;
    size_t fresh_cap = wanted < 64 ? 64 : wanted + wanted / 2;
    uint32_t *fresh = cch_resize(*array, fresh_cap, sizeof *fresh);
    if (fresh == NULL) CCH_FAIL(r->err, CCH_E_MEMORY, -1, "could not allocate %zu items of a pickle", fresh_cap);
    *array = fresh;
    *cap = fresh_cap;
    return CCH_OK;
}

static cch_status list_push(reader *r, list *l, uint32_t value) {
    CCH_RETURN_IF(grow(r, &l->at, &l->cap, l->n + 1));
    l->at[l->n++] = value;
    return CCH_OK;
}

static cch_status push(reader *r, uint32_t index) {
    if (++r->pushed > CCH_PICKLE_OBJECTS)
        REFUSE(r, "%s: the pickle has more than %d objects", r->path, CCH_PICKLE_OBJECTS);
    return list_push(r, &r->stack, index);
}

static cch_status push_value(reader *r, cch_pickle_value value) {
    cch_pickle *p = r->p;
    if (p->n_values == p->cap_values) {
        size_t cap = p->cap_values < 64 ? 64 : p->cap_values + p->cap_values / 2;
        cch_pickle_value *fresh = cch_resize(p->values, cap, sizeof *fresh);
        if (fresh == NULL) CCH_FAIL(r->err, CCH_E_MEMORY, -1, "could not allocate %zu objects of a pickle", cap);
        p->values = fresh;
        p->cap_values = cap;
    }
    p->values[p->n_values++] = value;
    return push(r, (uint32_t)(p->n_values - 1));
}

/* Values above the last mark. */
static size_t above_mark(const reader *r) {
    return r->stack.n - (r->marks.n > 0 ? r->marks.at[r->marks.n - 1] : 0);
}

static cch_status need(const reader *r, size_t n) {
    if (above_mark(r) >= n) return CCH_OK;
    REFUSE(r, "%s: the instruction at byte %zu of the pickle needs %zu values, there are %zu", r->path, r->op_at, n,
           above_mark(r));
}

/* The value `back` places below the top, 0 being the top.  Invalid once something is pushed. */
static cch_pickle_value *top(const reader *r, size_t back) { return &r->p->values[r->stack.at[r->stack.n - 1 - back]]; }

/* Ends the last mark: how many values lie above it. */
static cch_status take_mark(reader *r, size_t *out_n) {
    if (r->marks.n == 0) REFUSE(r, "%s: byte %zu of the pickle ends a group that never began", r->path, r->op_at);
    *out_n = above_mark(r);
    r->marks.n--;
    return CCH_OK;
}

static cch_status put_memo(reader *r, uint64_t index) {
    CCH_RETURN_IF(need(r, 1));
    if (index > CCH_PICKLE_OBJECTS)
        REFUSE(r, "%s: memo %llu of the pickle is over %d", r->path, (unsigned long long)index, CCH_PICKLE_OBJECTS);
    while (r->memo.n <= index) CCH_RETURN_IF(list_push(r, &r->memo, NOTHING));
    r->memo.at[index] = r->stack.at[r->stack.n - 1];
    return CCH_OK;
}

static cch_status get_memo(reader *r, uint64_t index) {
    if (index >= r->memo.n || r->memo.at[index] == NOTHING)
        REFUSE(r, "%s: memo %llu of the pickle is empty", r->path, (unsigned long long)index);
    return push(r, r->memo.at[index]);
}

/* The decimal number of a line. */
static cch_status take_decimal(reader *r, uint64_t *out) {
    const char *line = NULL;
    size_t n = 0;
    CCH_RETURN_IF(take_line(r, &line, &n));
    *out = 0;
    bool good = n > 0 && n < 10;
    for (size_t i = 0; i < n && good; i++) {
        good = line[i] >= '0' && line[i] <= '9';
        *out = *out * 10 + (uint64_t)(line[i] - '0');
    }
    if (!good) REFUSE(r, "%s: byte %zu of the pickle has no memo's number", r->path, r->op_at);
    return CCH_OK;
}

/* -------------------------------------------------------------------------------------------- containers ---- */

static bool is_container(const cch_pickle_value *v) { return v->kind >= CCH_PICKLE_LIST && v->kind <= CCH_PICKLE_DICT; }

static cch_status check_key(const reader *r, const cch_pickle_value *key) {
    if (key->kind <= CCH_PICKLE_BYTES) return CCH_OK;
    REFUSE(r, "%s: byte %zu of the pickle has %s as a key", r->path, r->op_at, cch_pickle_kind_name(key));
}

/* Appends n values, which lie at `from` in the stack, to the container `index`. */
static cch_status add_items(reader *r, uint32_t index, size_t from, size_t n) {
    cch_pickle *p = r->p;
    cch_pickle_value *to = &p->values[index];
    if (to->placed)
        REFUSE(r, "%s: byte %zu of the pickle changes %s that is in a container already: values may form no cycle",
               r->path, r->op_at, cch_pickle_kind_name(to));
    if (to->n + n > to->cap) { /* moves to the end of the items; what it had stays behind unused */
        size_t cap = to->n + n < 2 * (size_t)to->cap ? 2 * (size_t)to->cap : to->n + n;
        CCH_RETURN_IF(grow(r, &p->items, &p->cap_items, p->n_items + cap));
        if (to->n > 0) memcpy(p->items + p->n_items, p->items + to->as.first, to->n * sizeof *p->items);
        to->as.first = p->n_items;
        to->cap = (uint32_t)cap;
        p->n_items += cap;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t item = r->stack.at[from + i];
        cch_pickle_value *v = &p->values[item];
        if (item == index || v->depth + 1 > CCH_PICKLE_DEPTH)
            REFUSE(r, "%s: values of the pickle are nested more than %d deep", r->path, CCH_PICKLE_DEPTH);
        if (v->depth + 1 > to->depth) to->depth = (uint8_t)(v->depth + 1);
        v->placed = v->placed || is_container(v);
        p->items[to->as.first + to->n++] = item;
    }
    return CCH_OK;
}

/* Replaces the top n values by a container of them. */
static cch_status collect(reader *r, cch_pickle_kind kind, size_t n) {
    cch_pickle_value value = {.kind = (uint8_t)kind, .depth = 1};
    size_t from = r->stack.n - n;
    if (kind == CCH_PICKLE_DICT && n % 2 != 0)
        REFUSE(r, "%s: byte %zu of the pickle makes a dict of %zu values", r->path, r->op_at, n);
    for (size_t i = 0; kind == CCH_PICKLE_DICT && i < n; i += 2)
        CCH_RETURN_IF(check_key(r, &r->p->values[r->stack.at[from + i]]));
    CCH_RETURN_IF(push_value(r, value));
    uint32_t index = r->stack.at[r->stack.n - 1];
    CCH_RETURN_IF(add_items(r, index, from, n));
    r->stack.at[from] = index;
    r->stack.n = from + 1;
    return CCH_OK;
}

/* Adds the top n values to the container below them. */
static cch_status extend(reader *r, cch_pickle_kind kind, size_t n) {
    CCH_RETURN_IF(need(r, n + 1));
    size_t from = r->stack.n - n;
    const cch_pickle_value *to = top(r, n);
    if (to->kind != kind || (kind == CCH_PICKLE_DICT && n % 2 != 0))
        REFUSE(r, "%s: byte %zu of the pickle adds %zu values to %s", r->path, r->op_at, n, cch_pickle_kind_name(to));
    for (size_t i = 0; kind == CCH_PICKLE_DICT && i < n; i += 2)
        CCH_RETURN_IF(check_key(r, &r->p->values[r->stack.at[from + i]]));
    CCH_RETURN_IF(add_items(r, r->stack.at[from - 1], from, n));
    r->stack.n = from;
    return CCH_OK;
}

/* ------------------------------------------------------------------------------------------ simple values ---- */

static cch_status push_integer(reader *r, cch_pickle_kind kind, int64_t value) {
    return push_value(r, (cch_pickle_value){.kind = (uint8_t)kind, .as.integer = value});
}

static cch_status push_text(reader *r, size_t length_size) {
    const char *text = NULL;
    size_t n = 0;
    CCH_RETURN_IF(take_counted(r, length_size, &text, &n));
    if (cch_utf8_valid_prefix(text, n) != n)
        REFUSE(r, "%s: the text at byte %zu of the pickle is not UTF-8", r->path, r->op_at);
    return push_value(r, (cch_pickle_value){.kind = CCH_PICKLE_TEXT, .n = (uint32_t)n, .as.bytes = text});
}

static cch_status push_bytes(reader *r, cch_pickle_kind kind, size_t length_size) {
    const char *bytes = NULL;
    size_t n = 0;
    CCH_RETURN_IF(take_counted(r, length_size, &bytes, &n));
    return push_value(r, (cch_pickle_value){.kind = (uint8_t)kind, .n = (uint32_t)n, .as.bytes = bytes});
}

/* LONG1: a length, then two's complement. */
static cch_status push_long(reader *r) {
    CCH_RETURN_IF(push_bytes(r, CCH_PICKLE_LONG, 1));
    cch_pickle_value *v = top(r, 0);
    if (v->n > 8) return CCH_OK;
    uint64_t bits = v->n > 0 && (unsigned char)v->as.bytes[v->n - 1] >= 0x80 ? UINT64_MAX : 0;
    for (size_t i = v->n; i-- > 0;) bits = bits << 8 | (unsigned char)v->as.bytes[i];
    *v = (cch_pickle_value){.kind = CCH_PICKLE_INT};
    memcpy(&v->as.integer, &bits, sizeof bits);
    return CCH_OK;
}

static cch_status push_int32(reader *r) {
    uint64_t bits = 0;
    CCH_RETURN_IF(take_number(r, 4, &bits));
    return push_integer(r, CCH_PICKLE_INT, bits > INT32_MAX ? (int64_t)bits - ((int64_t)1 << 32) : (int64_t)bits);
}

static cch_status push_number(reader *r, size_t size) {
    uint64_t bits = 0;
    CCH_RETURN_IF(take_number(r, size, &bits));
    return push_integer(r, CCH_PICKLE_INT, (int64_t)bits);
}

/* BINFLOAT: a double, big end first. */
static cch_status push_double(reader *r) {
    const unsigned char *p = NULL;
    cch_pickle_value value = {.kind = CCH_PICKLE_FLOAT};
    uint64_t bits = 0;
    CCH_RETURN_IF(take(r, 8, &p));
    for (size_t i = 0; i < 8; i++) bits = bits << 8 | p[i];
    memcpy(&value.as.real, &bits, sizeof bits);
    return push_value(r, value);
}

/* ------------------------------------------------------------------------------------------ names and calls ---- */

static cch_status push_name(reader *r, const char *module, size_t module_n, const char *name, size_t name_n) {
    char a[CCH_UTF8_SHOWN], b[CCH_UTF8_SHOWN];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].module) == module_n && memcmp(names[i].module, module, module_n) == 0 &&
            strlen(names[i].name) == name_n && memcmp(names[i].name, name, name_n) == 0)
            return push_integer(r, CCH_PICKLE_NAME, (int64_t)i);
    CCH_FAIL(r->err, CCH_E_UNSUPPORTED, r->op_at,
             "%s: the pickle refers to %s %s, which is no part of a checkpoint and is not imported", r->path,
             cch_utf8_show(module, module_n, a), cch_utf8_show(name, name_n, b));
}

static cch_status read_name(reader *r) {
    const char *module = NULL, *name = NULL;
    size_t module_n = 0, name_n = 0;
    CCH_RETURN_IF(take_line(r, &module, &module_n));
    CCH_RETURN_IF(take_line(r, &name, &name_n));
    return push_name(r, module, module_n, name, name_n);
}

static cch_status stack_name(reader *r) {
    CCH_RETURN_IF(need(r, 2));
    const cch_pickle_value module = *top(r, 1), name = *top(r, 0);
    if (module.kind != CCH_PICKLE_TEXT || name.kind != CCH_PICKLE_TEXT)
        REFUSE(r, "%s: byte %zu of the pickle names something by %s", r->path, r->op_at, cch_pickle_kind_name(&name));
    r->stack.n -= 2;
    return push_name(r, module.as.bytes, module.n, name.as.bytes, name.n);
}

static bool all_integers(const cch_pickle *p, const cch_pickle_value *tuple) {
    if (tuple->kind != CCH_PICKLE_TUPLE) return false;
    for (size_t i = 0; i < tuple->n; i++)
        if (cch_pickle_item(p, tuple, i)->kind != CCH_PICKLE_INT) return false;
    return true;
}

static bool is_tensor_call(const cch_pickle *p, const cch_pickle_value *args) {
    return (args->n == 6 || args->n == 7) && cch_pickle_item(p, args, 0)->kind == CCH_PICKLE_STORAGE &&
           cch_pickle_item(p, args, 1)->kind == CCH_PICKLE_INT && all_integers(p, cch_pickle_item(p, args, 2)) &&
           all_integers(p, cch_pickle_item(p, args, 3)) &&
           cch_pickle_item(p, args, 2)->n == cch_pickle_item(p, args, 3)->n;
}

/* REDUCE: calls the second value from the top with the tuple at the top. */
static cch_status call(reader *r) {
    cch_pickle *p = r->p;
    CCH_RETURN_IF(need(r, 2));
    const cch_pickle_value *name = top(r, 1);
    cch_pickle_value args = *top(r, 0);
    if (name->kind != CCH_PICKLE_NAME || args.kind != CCH_PICKLE_TUPLE)
        REFUSE(r, "%s: byte %zu of the pickle calls %s with %s", r->path, r->op_at, cch_pickle_kind_name(name),
               cch_pickle_kind_name(&args));
    const int64_t callee = name->as.integer;
    r->stack.n -= 2;
    if (callee == CCH_PICKLE_ORDERED_DICT && args.n == 0)
        return push_value(r, (cch_pickle_value){.kind = CCH_PICKLE_DICT, .depth = 1, .ordered = true});
    if (callee == CCH_PICKLE_REBUILD_TENSOR && is_tensor_call(p, &args)) {
        args.kind = CCH_PICKLE_TENSOR; /* the first of the tuple's items */
        args.n = args.cap = 4;
        args.depth = 0;
        return push_value(r, args);
    }
    if (callee == CCH_PICKLE_REBUILD_PARAMETER && args.n == 3 &&
        cch_pickle_item(p, &args, 0)->kind == CCH_PICKLE_TENSOR)
        return push(r, p->items[args.as.first]);
    REFUSE(r, "%s: byte %zu of the pickle calls %s with %u values that it does not take", r->path, r->op_at,
           names[callee].name, args.n);
}

/* BUILD: the attributes of an OrderedDict, which say nothing about its content. */
static cch_status drop_attributes(reader *r) {
    CCH_RETURN_IF(need(r, 2));
    const cch_pickle_value *to = top(r, 1);
    if (to->kind != CCH_PICKLE_DICT || !to->ordered)
        REFUSE(r, "%s: byte %zu of the pickle sets attributes of %s", r->path, r->op_at, cch_pickle_kind_name(to));
    r->stack.n--;
    return CCH_OK;
}

/* BINPERSID: the tuple ("storage", class, key, location, count) stands for a storage. */
static cch_status make_storage(reader *r) {
    cch_pickle *p = r->p;
    CCH_RETURN_IF(need(r, 1));
    const cch_pickle_value id = *top(r, 0);
    if (id.kind != CCH_PICKLE_TUPLE || id.n != 5 || !cch_pickle_is_text(cch_pickle_item(p, &id, 0), "storage") ||
        cch_pickle_item(p, &id, 1)->kind != CCH_PICKLE_NAME ||
        cch_pickle_item(p, &id, 1)->as.integer < CCH_PICKLE_FLOAT_STORAGE ||
        cch_pickle_item(p, &id, 2)->kind != CCH_PICKLE_TEXT || cch_pickle_item(p, &id, 4)->kind != CCH_PICKLE_INT)
        REFUSE(r, "%s: byte %zu of the pickle refers to something other than a storage", r->path, r->op_at);
    const uint32_t *from = p->items + id.as.first, items[3] = {from[1], from[2], from[4]};
    CCH_RETURN_IF(grow(r, &p->items, &p->cap_items, p->n_items + 3));
    memcpy(p->items + p->n_items, items, sizeof items);
    r->stack.n--;
    p->n_items += 3;
    return push_value(r, (cch_pickle_value){.kind = CCH_PICKLE_STORAGE, .n = 3, .as.first = p->n_items - 3});
}

/* -------------------------------------------------------------------------------------------- instructions ---- */

static cch_status check_protocol(reader *r) {
    uint64_t version = 0;
    CCH_RETURN_IF(take_number(r, 1, &version));
    if (version > PROTOCOL_MAX)
        CCH_FAIL(r->err, CCH_E_UNSUPPORTED, r->op_at, "%s: the pickle is of protocol %u, supported: up to %d", r->path,
                 (unsigned)version, PROTOCOL_MAX);
    return CCH_OK;
}

static cch_status set_mark(reader *r) {
    if (r->marks.n == MARKS_MAX) REFUSE(r, "%s: the pickle opens more than %d groups", r->path, MARKS_MAX);
    return list_push(r, &r->marks, (uint32_t)r->stack.n);
}

static cch_status pop(reader *r) {
    if (above_mark(r) == 0 && r->marks.n > 0) r->marks.n--; /* as Python does */
    else {
        CCH_RETURN_IF(need(r, 1));
        r->stack.n--;
    }
    return CCH_OK;
}

/* Containers; the groups that begin with a mark. */
static cch_status run_container(reader *r, unsigned op) {
    size_t n = 0;
    if (strchr("tdleu", (int)op) != NULL) CCH_RETURN_IF(take_mark(r, &n));
    switch (op) {
    case '}': return push_value(r, (cch_pickle_value){.kind = CCH_PICKLE_DICT, .depth = 1});
    case ']': return push_value(r, (cch_pickle_value){.kind = CCH_PICKLE_LIST, .depth = 1});
    case ')': return push_value(r, (cch_pickle_value){.kind = CCH_PICKLE_TUPLE, .depth = 1});
    case 't': return collect(r, CCH_PICKLE_TUPLE, n);
    case 'd': return collect(r, CCH_PICKLE_DICT, n);
    case 'l': return collect(r, CCH_PICKLE_LIST, n);
    case 'a': return extend(r, CCH_PICKLE_LIST, 1);
    case 's': return extend(r, CCH_PICKLE_DICT, 2);
    case 'e': return extend(r, CCH_PICKLE_LIST, n);
    default: return extend(r, CCH_PICKLE_DICT, n); /* 'u' */
    }
}

static cch_status run_memo(reader *r, unsigned op) {
    uint64_t index = r->memo.n;
    switch (op) {
    case 'q':
    case 'h': CCH_RETURN_IF(take_number(r, 1, &index)); break;
    case 'r':
    case 'j': CCH_RETURN_IF(take_number(r, 4, &index)); break;
    case 'p':
    case 'g': CCH_RETURN_IF(take_decimal(r, &index)); break;
    default: break; /* MEMOIZE: the next one */
    }
    return op == 'h' || op == 'j' || op == 'g' ? get_memo(r, index) : put_memo(r, index);
}

static cch_status run_one(reader *r, unsigned op) {
    const unsigned char *skipped;
    switch (op) {
    case 0x80: return check_protocol(r);
    case 0x95: return take(r, 8, &skipped); /* FRAME: how many bytes follow together */
    case '(': return set_mark(r);
    case '0': return pop(r);
    case 'q': case 'h': case 'r': case 'j': case 'p': case 'g': case 0x94: return run_memo(r, op);
    case 'N': return push_integer(r, CCH_PICKLE_NONE, 0);
    case 0x88: return push_integer(r, CCH_PICKLE_BOOL, 1);
    case 0x89: return push_integer(r, CCH_PICKLE_BOOL, 0);
    case 'J': return push_int32(r);
    case 'K': return push_number(r, 1);
    case 'M': return push_number(r, 2);
    case 0x8A: return push_long(r);
    case 'G': return push_double(r);
    case 'U': case 0x8C: return push_text(r, 1); /* Python 2's strings are read as text */
    case 'T': case 'X': return push_text(r, 4);
    case 0x8D: return push_text(r, 8);
    case 'C': return push_bytes(r, CCH_PICKLE_BYTES, 1);
    case 'B': return push_bytes(r, CCH_PICKLE_BYTES, 4);
    case 0x8E: return push_bytes(r, CCH_PICKLE_BYTES, 8);
    case '}': case 'd': case ']': case 'l': case 'a': case 'e': case 's': case 'u': case ')': case 't':
        return run_container(r, op);
    case 0x85: case 0x86: case 0x87:
        CCH_RETURN_IF(need(r, op - 0x84));
        return collect(r, CCH_PICKLE_TUPLE, op - 0x84);
    case 'c': return read_name(r);
    case 0x93: return stack_name(r);
    case 'R': return call(r);
    case 'b': return drop_attributes(r);
    case 'Q': return make_storage(r);
    default: break;
    }
    CCH_FAIL(r->err, CCH_E_UNSUPPORTED, r->op_at,
             "%s: byte %zu of the pickle is the instruction 0x%02x, which checkpoints do not use", r->path, r->op_at,
             op);
}

static cch_status run(reader *r) {
    for (;;) {
        r->op_at = r->at;
        if (r->at == r->size) REFUSE(r, "%s: the pickle ends at byte %zu without saying so", r->path, r->at);
        unsigned op = r->data[r->at++];
        if (op == '.') break;
        CCH_RETURN_IF(run_one(r, op));
    }
    if (r->stack.n != 1 || r->marks.n != 0)
        REFUSE(r, "%s: the pickle ends with %zu values, expected one", r->path, r->stack.n);
    r->p->root = r->stack.at[0];
    return CCH_OK;
}

cch_status cch_pickle_read(const unsigned char *data, size_t size, const char *path, cch_pickle *out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_pickle p = {0};
    reader r = {.data = data, .size = size, .path = path, .p = &p, .err = err};
    *out = p;
    if (size > CCH_PICKLE_MAX)
        CCH_FAIL(err, CCH_E_FORMAT, size, "%s: the pickle has %zu bytes, allowed: at most %zu", path, size,
                 CCH_PICKLE_MAX);
    CCH_TRY(run(&r));
    *out = p;
    p = (cch_pickle){0};
done:
    cch_free(r.stack.at);
    cch_free(r.marks.at);
    cch_free(r.memo.at);
    cch_pickle_free(&p);
    return status;
}

void cch_pickle_free(cch_pickle *pickle) {
    cch_free(pickle->values);
    cch_free(pickle->items);
    *pickle = (cch_pickle){0};
}

/* ------------------------------------------------------------------------------------------------ reading ---- */

bool cch_pickle_is_text(const cch_pickle_value *v, const char *text) {
    return v->kind == CCH_PICKLE_TEXT && v->n == strlen(text) && memcmp(v->as.bytes, text, v->n) == 0;
}

const cch_pickle_value *cch_pickle_find(const cch_pickle *p, const cch_pickle_value *dict, const char *key) {
    for (size_t i = dict->n; i >= 2; i -= 2)
        if (cch_pickle_is_text(cch_pickle_item(p, dict, i - 2), key)) return cch_pickle_item(p, dict, i - 1);
    return NULL;
}

const char *cch_pickle_kind_name(const cch_pickle_value *v) {
    static const char *const kinds[] = {"None", "a bool", "an int", "an int", "a float", "a text", "bytes", "a list",
                                        "a tuple", "a dict", "a name", "a storage", "a tensor"};
    return kinds[v->kind];
}
