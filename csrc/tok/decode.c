#include "tok/decode.h"

#include "base/utf8.h"
#include "tok/tokenizer.h"
#include "tok/unicode.h"

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */
#define REPLACEMENT_LEN 3
#define UNKNOWN_TEXT " \xE2\x81\x87 " /* what SentencePiece writes for the unknown piece */
#define COPY_BYTES 16 /* a text up to this long is copied as so many bytes: a fixed size is one move */

/* ------------------------------------------------------------------------------------------ the plan ---- */

void cch_decode_plan_deinit(cch_decode_plan *plan) {
    for (size_t i = 0; i < plan->n_steps; i++) {
        cch_free(plan->steps[i].from);
        cch_free(plan->steps[i].to);
    }
    plan->n_steps = plan->n_before = 0;
    cch_free(plan->texts);
    cch_free(plan->ends);
    cch_free(plan->byte_of);
    plan->texts = NULL;
    plan->ends = NULL;
    plan->byte_of = NULL;
}

/* Length of the run of at most `count` copies of `unit` at the start of text. */
static size_t leading(const char *text, size_t len, const char *unit, size_t unit_len, size_t count) {
    size_t at = 0;
    while (count-- > 0 && len - at >= unit_len && memcmp(text + at, unit, unit_len) == 0) at += unit_len;
    return at;
}

static cch_status add_step(cch_decode_plan *plan, int kind, const char *from, size_t from_len, const char *to,
                           cch_error *err) {
    cch_decode_step *step = &plan->steps[plan->n_steps++];
    step->kind = kind;
    step->from_len = from_len;
    step->to_len = strlen(to);
    step->from = cch_strndup(from, from_len);
    step->to = cch_strndup(to, step->to_len);
    if (step->from == NULL || step->to == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate a decoder");
    plan->n_before = plan->n_steps;
    return CCH_OK;
}

cch_status cch_decode_wordpiece(cch_decode_plan *plan, const char *prefix, size_t len, bool cleanup, cch_error *err) {
    static const char *const tidy[][2] = {
        {" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
        {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    CCH_RETURN_IF(add_step(plan, CCH_DECODE_WORDPIECE, prefix, len, " ", err));
    for (size_t i = 0; cleanup && i < sizeof tidy / sizeof *tidy; i++)
        CCH_RETURN_IF(add_step(plan, CCH_DECODE_REPLACE, tidy[i][0], strlen(tidy[i][0]), tidy[i][1], err));
    return CCH_OK;
}

static cch_status wordpiece_text(const cch_decode_step *step, const char *text, size_t len, cch_bytes *out,
                                 cch_error *err) {
    size_t cut = leading(text, len, step->from, step->from_len, 1);
    bool continues = len >= step->from_len && cut == step->from_len;
    if (!continues) CCH_RETURN_IF(cch_bytes_append(out, step->to, step->to_len, err));
    return cch_bytes_append(out, text + cut, len - cut, err);
}

static cch_status apply_step(const cch_decode_step *step, const char *text, size_t len, bool first, cch_bytes *out,
                             cch_error *err) {
    if (step->kind == CCH_DECODE_STRIP) {
        size_t cut = leading(text, len, step->from, step->from_len, step->count);
        return cch_bytes_append(out, text + cut, len - cut, err);
    }
    if (step->kind == CCH_DECODE_WORDPIECE)
        return first ? cch_bytes_append(out, text, len, err) : wordpiece_text(step, text, len, out, err);
    size_t to_len = step->kind == CCH_DECODE_METASPACE && step->drops_first && first ? 0 : step->to_len;
    return cch_replace(text, len, step->from, step->from_len, step->to, to_len, out, err);
}

/* Steps [first_step, last_step) on text [*len]; *text and *len then name the result, in a buffer or the text itself. */
static cch_status apply_steps(const cch_decode_plan *plan, size_t first_step, size_t last_step, bool first,
                              cch_bytes buffers[2], const char **text, size_t *len, cch_error *err) {
    for (size_t i = first_step; i < last_step; i++) {
        if (*len == 0 && plan->steps[i].kind != CCH_DECODE_WORDPIECE) continue;
        cch_bytes *out = *text == buffers[0].data ? &buffers[1] : &buffers[0];
        out->n = 0;
        CCH_RETURN_IF(apply_step(&plan->steps[i], *text, *len, first, out, err));
        *text = out->data;
        *len = out->n;
    }
    return CCH_OK;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a token "<0xNN>" stands for, -1 for any other. */
static int16_t byte_token(const char *text, size_t len) {
    if (len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return (int16_t)(high < 0 || low < 0 ? -1 : high * 16 + low);
}

/* The text of one id, and the byte it stands for when it is a byte token. */
static cch_status token_text(const cch_decode_plan *plan, const char *token, size_t len, bool first,
                             cch_bytes buffers[2], const char **out, size_t *out_len, int16_t *byte, cch_error *err) {
    *byte = -1;
    *out = token;
    *out_len = len;
    if (plan->bytes) {
        buffers[0].n = 0;
        CCH_RETURN_IF(cch_bytes_reserve(&buffers[0], len, err));
        size_t n = cch_token_bytes(token, len, buffers[0].data);
        if (n == SIZE_MAX) return CCH_OK; /* holds a character that spells no byte: taken as it is */
        *out = buffers[0].data;
        *out_len = n;
        return CCH_OK;
    }
    CCH_RETURN_IF(apply_steps(plan, 0, plan->n_before, first, buffers, out, out_len, err));
    if (plan->byte_fallback) *byte = byte_token(*out, *out_len);
    if (*byte >= 0) return CCH_OK;
    return apply_steps(plan, plan->n_before, plan->n_steps, first, buffers, out, out_len, err);
}

/* The text of a piece, or the byte it stands for. */
static cch_status piece_text(const cch_unigram *u, int32_t id, const char *token, size_t len, cch_bytes *buffer,
                             const char **out, size_t *out_len, int16_t *byte, cch_error *err) {
    const cch_piece_type type = (cch_piece_type)u->types[id];
    *byte = type == CCH_PIECE_BYTE ? byte_token(token, len) : -1;
    *out = "";
    *out_len = 0;
    if (type == CCH_PIECE_BYTE || type == CCH_PIECE_CONTROL) return CCH_OK;
    if (type == CCH_PIECE_UNKNOWN) {
        *out = u->unk_text == NULL ? UNKNOWN_TEXT : u->unk_text;
        *out_len = u->unk_text == NULL ? sizeof UNKNOWN_TEXT - 1 : u->unk_text_len;
        return CCH_OK;
    }
    buffer->n = 0;
    CCH_RETURN_IF(cch_replace(token, len, CCH_PIECE_SPACE, CCH_PIECE_SPACE_LEN, " ", 1, buffer, err));
    *out = buffer->data;
    *out_len = buffer->n;
    return CCH_OK;
}

cch_status cch_decode_plan_finish(cch_decode_plan *plan, const cch_tokenizer *tok, cch_error *err) {
    cch_status status = CCH_OK;
    cch_bytes texts = {0}, buffers[2] = {{0}, {0}};
    size_t len;
    int16_t byte;
    CCH_NEW(plan->ends, (size_t)tok->size + 1, err);
    if (plan->byte_fallback || plan->unigram != NULL) CCH_NEW(plan->byte_of, (size_t)tok->size, err);
    for (int32_t id = 0; id < tok->size; id++) {
        plan->ends[id] = (uint32_t)texts.n;
        const char *token = tok->tokens[id].entry < 0 ? NULL : cch_token_source(tok, id, &len), *text = "";
        byte = -1;
        if (plan->unigram != NULL)
            CCH_TRY(piece_text(plan->unigram, id, token, len, &buffers[0], &text, &len, &byte, err));
        else if (token != NULL) CCH_TRY(token_text(plan, token, len, false, buffers, &text, &len, &byte, err));
        if (plan->byte_of != NULL) plan->byte_of[id] = byte;
        if (token != NULL && byte < 0) CCH_TRY(cch_bytes_append(&texts, text, len, err));
        if (texts.n > UINT32_MAX) CCH_THROW(err, CCH_E_FORMAT, id, "the tokens' texts are over 4 GiB");
    }
    plan->ends[tok->size] = (uint32_t)texts.n;
    CCH_TRY(cch_bytes_append(&texts, (char[COPY_BYTES]){0}, COPY_BYTES, err));
    plan->texts = texts.data;
    texts = (cch_bytes){0};
done:
    cch_bytes_deinit(&texts);
    cch_bytes_deinit(&buffers[0]);
    cch_bytes_deinit(&buffers[1]);
    return status;
}

/* ---------------------------------------------------------------------------------------- the decoder ---- */

struct cch_decoder {
    cch_tokenizer *tok; /* shared */
    bool skip_special;
    bool first;         /* no token has come yet */
    size_t strip;       /* characters that may still be stripped */
    cch_bytes held;     /* bytes of an unfinished character, or of a run of byte tokens */
    cch_bytes joined;   /* what this call adds, before bytes become characters */
    cch_bytes buffers[2];
    cch_bytes out;
};

static void reset(cch_decoder *dec) {
    dec->first = true;
    dec->strip = dec->tok->decode.strip;
    dec->held.n = 0;
}

/* How many bytes at the start of p [n > 0] are the start of one character; *complete when they are all of it. */
static size_t char_start(const uint8_t *p, size_t n, bool *complete) {
    uint8_t low = 0x80, high = 0xBF;
    size_t need = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : p[0] < 0xF5 ? 4 : 0, have = 1;
    *complete = false;
    if (need == 0) return 0;
    if (p[0] == 0xE0) low = 0xA0;
    if (p[0] == 0xED) high = 0x9F;
    if (p[0] == 0xF0) low = 0x90;
    if (p[0] == 0xF4) high = 0x8F;
    for (; have < need && have < n && p[have] >= low && p[have] <= high; have++) low = 0x80, high = 0xBF;
    *complete = have == need;
    return have;
}

/* Writes text to out, what is no UTF-8 as U+FFFD, up to an unfinished character at the end; returns where that starts.
 * out has room for 3 * len bytes. */
static size_t write_lossy(cch_bytes *out, const char *text, size_t len) {
    const uint8_t *p = (const uint8_t *)text;
    bool complete;
    for (size_t at = 0; at < len;) {
        size_t good = at;
        while (good < len && p[good] < 0x80) good++;
        memcpy(out->data + out->n, text + at, good - at);
        out->n += good - at;
        at = good;
        if (at == len) break;
        size_t n = char_start(p + at, len - at, &complete);
        if (!complete && n > 0 && at + n == len) return at;
        memcpy(out->data + out->n, complete ? text + at : REPLACEMENT, complete ? n : REPLACEMENT_LEN);
        out->n += complete ? n : REPLACEMENT_LEN;
        at += n > 0 ? n : 1;
    }
    return len;
}

/* Adds the text of the byte tokens held: what they spell, or one U+FFFD each. */
static cch_status join_run(cch_decoder *dec, cch_error *err) {
    const cch_decode_plan *plan = &dec->tok->decode;
    const char *text = dec->held.data;
    size_t n = dec->held.n, len = n;
    if (n == 0) return CCH_OK;
    if (cch_utf8_valid_prefix(text, n) == n) {
        CCH_RETURN_IF(apply_steps(plan, plan->n_before, plan->n_steps, dec->first, dec->buffers, &text, &len, err));
        return cch_bytes_append(&dec->joined, text, len, err);
    }
    for (size_t i = 0; i < n; i++) {
        text = REPLACEMENT;
        len = REPLACEMENT_LEN;
        CCH_RETURN_IF(apply_steps(plan, plan->n_before, plan->n_steps, false, dec->buffers, &text, &len, err));
        CCH_RETURN_IF(cch_bytes_append(&dec->joined, text, len, err));
    }
    return CCH_OK;
}

/* The bytes that `text` adds to the output go to dec->out, behind what is there.  All that can fail comes before the
 * first change of the decoder. */
static cch_status emit(cch_decoder *dec, const char *text, size_t len, cch_error *err) {
    const cch_decode_plan *plan = &dec->tok->decode;
    size_t room;
    if (!cch_mul(len, REPLACEMENT_LEN, &room) || !cch_add(room, 1, &room)) /* and the NUL */
        CCH_FAIL(err, CCH_E_MEMORY, -1, "a piece of %zu bytes", len);
    CCH_RETURN_IF(cch_bytes_reserve(&dec->out, room, err));
    if (plan->bytes) {
        CCH_RETURN_IF(cch_bytes_reserve(&dec->held, 4, err));
        size_t done = write_lossy(&dec->out, text, len);
        memcpy(dec->held.data, text + done, len - done); /* at most 3 bytes */
        dec->held.n = len - done;
        return CCH_OK;
    }
    if (dec->strip > 0 && len > 0) {
        size_t cut = leading(text, len, plan->strip_char, plan->strip_len, dec->strip);
        text += cut;
        len -= cut;
        dec->strip = len > 0 ? 0 : dec->strip - cut / plan->strip_len;
    }
    dec->held.n = 0;
    return cch_bytes_append(&dec->out, text, len, err);
}

/* Writes the characters that the bytes held have completed; what cannot be completed is U+FFFD, and with `all` so is
 * what only could be. */
static cch_status write_held(cch_decoder *dec, bool all, cch_error *err) {
    const uint8_t *p = (const uint8_t *)dec->held.data;
    size_t at = 0;
    bool complete;
    CCH_RETURN_IF(cch_bytes_reserve(&dec->out, dec->held.n * REPLACEMENT_LEN + 1, err));
    while (at < dec->held.n) {
        const size_t n = char_start(p + at, dec->held.n - at, &complete);
        if (!complete && !all && at + n == dec->held.n) break;
        CCH_RETURN_IF(complete ? cch_bytes_append(&dec->out, dec->held.data + at, n, err)
                               : cch_bytes_append(&dec->out, REPLACEMENT, REPLACEMENT_LEN, err));
        at += complete ? n : 1;
        dec->first = false;
    }
    if (at > 0) memmove(dec->held.data, dec->held.data + at, dec->held.n - at);
    dec->held.n -= at;
    return CCH_OK;
}

static cch_status push_piece(cch_decoder *dec, int32_t id, cch_error *err) {
    const cch_decode_plan *plan = &dec->tok->decode;
    const cch_unigram *u = plan->unigram;
    const char byte = (char)plan->byte_of[id], *text = plan->texts + plan->ends[id], *token;
    size_t len = plan->ends[id + 1] - plan->ends[id], token_len;
    CCH_RETURN_IF(cch_bytes_reserve(&dec->out, (dec->held.n + 1) * REPLACEMENT_LEN + len + 1, err));
    if (plan->byte_of[id] >= 0) {
        CCH_RETURN_IF(cch_bytes_append(&dec->held, &byte, 1, err)); /* from here on nothing can fail */
        return write_held(dec, false, err);
    }
    CCH_RETURN_IF(write_held(dec, true, err));
    if (dec->first && (u->add_dummy_prefix || !u->keep_whitespace)) {
        token = cch_token_source(dec->tok, id, &token_len);
        if (len > 0 && leading(token, token_len, CCH_PIECE_SPACE, CCH_PIECE_SPACE_LEN, 1) > 0) {
            text++;
            len--;
            dec->first = !u->keep_whitespace;
        }
    }
    if (len > 0) dec->first = false;
    return cch_bytes_append(&dec->out, text, len, err);
}

static cch_status no_such_id(const cch_tokenizer *tok, int32_t id, int64_t position, cch_error *err) {
    CCH_FAIL(err, CCH_E_TOKEN_ID, position, "token id %d is not in the vocabulary, allowed: 0..%d", id,
             tok->n_ids - 1);
}

static cch_status push(cch_decoder *dec, int32_t id, int64_t position, cch_error *err) {
    const cch_tokenizer *tok = dec->tok;
    const cch_decode_plan *plan = &tok->decode;
    if (id < 0 || id >= tok->n_ids) return no_such_id(tok, id, position, err);
    if (id >= tok->size || tok->tokens[id].entry < 0) return CCH_OK;
    if (dec->skip_special && tok->tokens[id].skipped) return CCH_OK;
    if (plan->unigram != NULL) return push_piece(dec, id, err);
    int16_t byte = plan->byte_of == NULL ? -1 : plan->byte_of[id];
    if (byte >= 0) {
        char text = (char)byte;
        CCH_RETURN_IF(cch_bytes_append(&dec->held, &text, 1, err));
        return CCH_OK;
    }
    const char *text = plan->texts + plan->ends[id];
    size_t len = plan->ends[id + 1] - plan->ends[id];
    dec->joined.n = 0;
    if (dec->held.n > 0 && plan->bytes) CCH_RETURN_IF(cch_bytes_append(&dec->joined, dec->held.data, dec->held.n, err));
    if (dec->held.n > 0 && !plan->bytes) CCH_RETURN_IF(join_run(dec, err));
    if (plan->join_spaces && !dec->first) CCH_RETURN_IF(cch_bytes_append(&dec->joined, " ", 1, err));
    if (dec->first && dec->held.n == 0 && plan->n_steps > 0) {
        const char *token = cch_token_source(tok, id, &len);
        CCH_RETURN_IF(token_text(plan, token, len, true, dec->buffers, &text, &len, &byte, err));
    }
    if (dec->joined.n > 0) {
        CCH_RETURN_IF(cch_bytes_append(&dec->joined, text, len, err));
        text = dec->joined.data;
        len = dec->joined.n;
    }
    CCH_RETURN_IF(emit(dec, text, len, err));
    dec->first = false;
    return CCH_OK;
}

/* What is held back, as the end of the text; the decoder is then as new. */
static cch_status finish(cch_decoder *dec, cch_error *err) {
    CCH_RETURN_IF(cch_bytes_reserve(&dec->out, REPLACEMENT_LEN + 1, err));
    if (dec->tok->decode.unigram != NULL) {
        CCH_RETURN_IF(write_held(dec, true, err));
    } else if (dec->held.n > 0 && dec->tok->decode.bytes) {
        CCH_RETURN_IF(cch_bytes_append(&dec->out, REPLACEMENT, REPLACEMENT_LEN, err));
    } else if (dec->held.n > 0) {
        dec->joined.n = 0;
        CCH_RETURN_IF(join_run(dec, err));
        CCH_RETURN_IF(emit(dec, dec->joined.data, dec->joined.n, err));
    }
    reset(dec);
    return CCH_OK;
}

/* How many bytes at the end of p [n] are the start of a character that is not finished. */
static size_t unfinished(const uint8_t *p, size_t n) {
    bool complete;
    for (size_t k = n < 3 ? n : 3; k > 0; k--)
        if (char_start(p + n - k, k, &complete) == k && !complete) return k;
    return 0;
}

/* As push and finish of all but an unfinished character at the end, and without their text. */
static cch_status prime(cch_decoder *dec, const int32_t *ids, size_t n, cch_error *err) {
    char tail[4];
    for (size_t i = 0; i < n; i++) {
        dec->out.n = 0;
        CCH_RETURN_IF(push(dec, ids[i], (int64_t)i, err));
    }
    size_t keep = unfinished((const uint8_t *)dec->held.data, dec->held.n);
    if (keep == dec->held.n) return CCH_OK;
    memcpy(tail, dec->held.data + dec->held.n - keep, keep);
    dec->held.n -= keep;
    dec->joined.n = 0;
    CCH_RETURN_IF(join_run(dec, err));
    CCH_RETURN_IF(emit(dec, dec->joined.data, dec->joined.n, err));
    dec->first = false;
    return cch_bytes_append(&dec->held, tail, keep, err);
}

static void deinit(cch_decoder *dec) {
    cch_bytes_deinit(&dec->held);
    cch_bytes_deinit(&dec->joined);
    cch_bytes_deinit(&dec->buffers[0]);
    cch_bytes_deinit(&dec->buffers[1]);
    cch_bytes_deinit(&dec->out);
}

/* --------------------------------------------------------------------------------------- whole texts ---- */

/* The text of an id in the middle of a text: nothing for one without a token and for one that is skipped. */
static inline const char *text_of(const cch_tokenizer *tok, int32_t id, bool skip_special, size_t *len) {
    const cch_decode_plan *plan = &tok->decode;
    const bool told = id < tok->size && !(skip_special && tok->tokens[id].skipped);
    *len = told ? plan->ends[id + 1] - plan->ends[id] : 0;
    return told ? plan->texts + plan->ends[id] : plan->texts;
}

/* Adds the bytes of all ids to `out`, whose size is known before the first is written. */
static cch_status join_texts(const cch_tokenizer *tok, const int32_t *ids, size_t n, bool skip_special, cch_bytes *out,
                             cch_error *err) {
    size_t total = COPY_BYTES, len;
    if (n > SIZE_MAX / UINT32_MAX / 2) CCH_FAIL(err, CCH_E_MEMORY, -1, "%zu ids", n); /* the sum must not overflow */
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= tok->n_ids) return no_such_id(tok, ids[i], (int64_t)i, err);
        text_of(tok, ids[i], skip_special, &len);
        total += len;
    }
    CCH_RETURN_IF(cch_bytes_reserve(out, total, err));
    char *to = out->data + out->n;
    for (size_t i = 0; i < n; i++) {
        const char *text = text_of(tok, ids[i], skip_special, &len);
        if (len <= COPY_BYTES) memcpy(to, text, COPY_BYTES);
        else memcpy(to, text, len);
        to += len;
    }
    out->n = (size_t)(to - out->data);
    return CCH_OK;
}

/* A byte-level text is the characters that the bytes of all ids spell, whatever comes first or last: no need to go id
 * by id. */
static cch_status decode_bytes(cch_decoder *dec, const int32_t *ids, size_t n, cch_error *err) {
    CCH_RETURN_IF(join_texts(dec->tok, ids, n, dec->skip_special, &dec->out, err));
    if (cch_utf8_valid_prefix(dec->out.data, dec->out.n) == dec->out.n) return CCH_OK;
    const cch_bytes joined = dec->joined;
    dec->joined = dec->out;
    dec->out = joined;
    return emit(dec, dec->joined.data, dec->joined.n, err);
}

/* ------------------------------------------------------------------------------------- public functions ---- */

cch_status cch_tokenizer_decode(const cch_tokenizer *tok, const int32_t *ids, size_t n, bool skip_special,
                                char **out_text, size_t *out_len, cch_error *err) {
    cch_status status = CCH_OK;
    cch_decoder dec = {.tok = (cch_tokenizer *)(uintptr_t)tok, .skip_special = skip_special}; /* read only in here */
    *out_text = NULL;
    *out_len = 0;
    reset(&dec);
    if (tok->decode.bytes) CCH_TRY(decode_bytes(&dec, ids, n, err));
    else
        for (size_t i = 0; i < n; i++) CCH_TRY(push(&dec, ids[i], (int64_t)i, err));
    CCH_TRY(finish(&dec, err));
    CCH_TRY(cch_bytes_append(&dec.out, "", 1, err));
    *out_text = dec.out.data;
    *out_len = dec.out.n - 1;
    dec.out = (cch_bytes){0};
done:
    deinit(&dec);
    return status;
}

cch_status cch_decoder_new(cch_tokenizer *tok, bool skip_special, cch_decoder **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_decoder *dec = NULL;
    *out = NULL;
    CCH_ZNEW(dec, 1, err);
    dec->tok = cch_tokenizer_ref(tok);
    dec->skip_special = skip_special;
    reset(dec);
    *out = dec;
done:
    return status;
}

cch_status cch_decoder_prime(cch_decoder *dec, const int32_t *ids, size_t n, cch_error *err) {
    cch_status status = prime(dec, ids, n, err);
    if (status != CCH_OK) reset(dec);
    return status;
}

static cch_status give_text(cch_decoder *dec, cch_status status, const char **out_text, size_t *out_len,
                            cch_error *err) {
    if (status == CCH_OK) status = cch_bytes_append(&dec->out, "", 1, err);
    *out_text = status == CCH_OK ? dec->out.data : NULL;
    *out_len = status == CCH_OK ? dec->out.n - 1 : 0;
    return status;
}

cch_status cch_decoder_push(cch_decoder *dec, int32_t id, const char **out_text, size_t *out_len, cch_error *err) {
    dec->out.n = 0;
    CCH_RETURN_IF(cch_bytes_reserve(&dec->out, 1, err)); /* the NUL: nothing may fail once the token is taken in */
    return give_text(dec, push(dec, id, -1, err), out_text, out_len, err);
}

cch_status cch_decoder_finish(cch_decoder *dec, const char **out_text, size_t *out_len, cch_error *err) {
    dec->out.n = 0;
    return give_text(dec, finish(dec, err), out_text, out_len, err);
}

void cch_decoder_free(cch_decoder *dec) {
    if (dec == NULL) return;
    deinit(dec);
    cch_tokenizer_unref(dec->tok);
    cch_free(dec);
}
