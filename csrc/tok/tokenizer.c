#include "tok/tokenizer.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "tok/unicode.h"

#define MAX_TEXT ((size_t)1 << 30)
#define KEEP_BYTES ((size_t)1 << 20) /* text scratch above this size is not kept between calls */

/* -------------------------------------------------------------------------------------------- scratch ---- */

static void scratch_free(cch_encode_scratch *s) {
    if (s == NULL) return;
    cch_bpe_work_free(s->work);
    cch_bytes_deinit(&s->normal[0]);
    cch_bytes_deinit(&s->normal[1]);
    cch_bytes_deinit(&s->metaspace);
    for (size_t i = 0; i < CCH_PRETOK_STAGES; i++) cch_bytes_deinit(&s->prefixed[i]);
    cch_unigram_work_deinit(&s->unigram);
    cch_free(s);
}

static cch_status scratch_take(cch_idle *idle, cch_encode_scratch **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_encode_scratch *s;
    pthread_mutex_lock(&idle->mutex);
    s = idle->first;
    if (s != NULL) idle->first = s->next;
    pthread_mutex_unlock(&idle->mutex);
    *out = s;
    if (s != NULL) return CCH_OK;
    CCH_ZNEW(s, 1, err);
    CCH_TRY(cch_bpe_work_new(&s->work, err));
    *out = s;
    s = NULL;
done:
    scratch_free(s);
    return status;
}

static void scratch_give(cch_idle *idle, cch_encode_scratch *s) {
    cch_bytes *texts[3 + CCH_PRETOK_STAGES] = {&s->normal[0], &s->normal[1], &s->metaspace};
    for (size_t i = 0; i < CCH_PRETOK_STAGES; i++) texts[3 + i] = &s->prefixed[i];
    for (size_t i = 0; i < 3 + CCH_PRETOK_STAGES; i++)
        if (texts[i]->cap > KEEP_BYTES) cch_bytes_deinit(texts[i]);
    cch_unigram_work_trim(&s->unigram, KEEP_BYTES);
    pthread_mutex_lock(&idle->mutex);
    s->next = idle->first;
    idle->first = s;
    pthread_mutex_unlock(&idle->mutex);
}

/* ------------------------------------------------------------------------------------------- encoding ---- */

typedef struct encoding {
    const cch_tokenizer *tok;
    cch_encode_scratch *scratch;
    bool skip_special;
    cch_place start; /* where the text as a whole stands */
} encoding;

/* Where a piece stands that begins `at` bytes into one that stands at `place`. */
static cch_place place_at(cch_place place, size_t at) { return at == 0 ? place : CCH_PLACE_LATER; }

static inline cch_status encode_word(encoding *e, const char *word, size_t len, cch_error *err) {
    const cch_tokenizer *tok = e->tok;
    if (tok->kind == CCH_TOKENIZER_WORDPIECE)
        return cch_wordpiece_word(&tok->wordpiece, e->scratch->work, word, len, err);
    return cch_bpe_word(&tok->bpe, e->scratch->work, word, len, err);
}

/* The Metaspace stage, or what stands in its place: the model itself. */
static cch_status encode_whole(encoding *e, const char *text, size_t len, cch_place place, cch_error *err) {
    const cch_metaspace *m = &e->tok->pretok.metaspace;
    if (m->len > 0) {
        cch_bytes *out = &e->scratch->metaspace;
        CCH_RETURN_IF(cch_metaspace_apply(m, text, len, place, out, err));
        text = out->data;
        len = out->n;
        for (size_t at = 0, stop; m->split && at < len; at = stop) {
            stop = cch_metaspace_split(m, text, at, len);
            CCH_RETURN_IF(encode_word(e, text + at, stop - at, err));
        }
        if (m->split) return CCH_OK;
    }
    if (e->tok->kind == CCH_TOKENIZER_WORDPIECE) return encode_word(e, text, len, err);
    if (e->tok->kind == CCH_TOKENIZER_UNIGRAM)
        return cch_unigram_text(&e->tok->unigram, &e->scratch->unigram, e->scratch->work, text, len,
                                place == CCH_PLACE_JOINT, e->skip_special, err);
    return cch_bpe_text(&e->tok->bpe, e->scratch->work, text, len, err);
}

static bool begins_with_space(const char *text) {
    size_t len;
    return (cch_class_at((const uint8_t *)text, &len) & CCH_UNI_SPACE) != 0;
}

/* Stage `stage` of the pre-tokenizer, and those behind it, on text [len > 0]. */
static cch_status encode_stage(encoding *e, size_t stage, const char *text, size_t len, cch_place place,
                               cch_error *err) {
    const cch_pretok *pretok = &e->tok->pretok;
    if (stage == CCH_PRETOK_STAGES || stage == pretok->n_stages) return encode_whole(e, text, len, place, err);
    if (pretok->stages[stage].prefix_space && place != CCH_PLACE_JOINT && text[0] != ' ') {
        cch_bytes *out = &e->scratch->prefixed[stage];
        out->n = 0;
        CCH_RETURN_IF(cch_bytes_append(out, " ", 1, err));
        CCH_RETURN_IF(cch_bytes_append(out, text, len, err));
        text = out->data;
        len = out->n;
    }
    cch_splitter split = pretok->stages[stage].split;
    bool last = stage + 1 == pretok->n_stages && pretok->metaspace.len == 0;
    for (size_t at = 0, stop; at < len; at = stop) {
        stop = split == NULL ? len : split((const uint8_t *)text, at, len);
        if (pretok->stages[stage].drops_spaces && begins_with_space(text + at)) continue;
        if (last) CCH_RETURN_IF(encode_word(e, text + at, stop - at, err));
        else CCH_RETURN_IF(encode_stage(e, stage + 1, text + at, stop - at, place_at(place, at), err));
    }
    return CCH_OK;
}

/* A stretch between added tokens that are looked for in the text as given. */
static cch_status encode_stretch(encoding *e, const char *text, size_t len, cch_place place, cch_error *err) {
    const cch_tokenizer *tok = e->tok;
    cch_added_cursor cursor = {0, 0};
    cch_added_match match;
    size_t at = 0;
    if (len == 0) return CCH_OK;
    CCH_RETURN_IF(cch_normalize(&tok->normalizer, place != CCH_PLACE_JOINT, e->scratch->normal, &text, &len, err));
    while (cch_added_next(&tok->added_normalized, text, len, e->skip_special, &cursor, &match)) {
        if (match.start > at) CCH_RETURN_IF(encode_stage(e, 0, text + at, match.start - at, place_at(place, at), err));
        CCH_RETURN_IF(cch_bpe_push(e->scratch->work, match.id, err));
        at = match.stop;
    }
    return at < len ? encode_stage(e, 0, text + at, len - at, place_at(place, at), err) : CCH_OK;
}

static cch_status encode_text(encoding *e, const char *text, size_t len, cch_error *err) {
    cch_added_cursor cursor = {0, 0};
    cch_added_match match;
    size_t at = 0;
    while (cch_added_next(&e->tok->added, text, len, e->skip_special, &cursor, &match)) {
        if (match.start > at)
            CCH_RETURN_IF(encode_stretch(e, text + at, match.start - at, place_at(e->start, at), err));
        CCH_RETURN_IF(cch_bpe_push(e->scratch->work, match.id, err));
        at = match.stop;
    }
    return at < len ? encode_stretch(e, text + at, len - at, place_at(e->start, at), err) : CCH_OK;
}

static cch_status push_all(cch_bpe_work *work, const int32_t *ids, size_t n, bool wanted, cch_error *err) {
    for (size_t i = 0; wanted && i < n; i++) CCH_RETURN_IF(cch_bpe_push(work, ids[i], err));
    return CCH_OK;
}

cch_status cch_tokenizer_encode(const cch_tokenizer *tok, const char *text, size_t len, int flags, int32_t **out_ids,
                                size_t *out_n, cch_error *err) {
    cch_status status = CCH_OK;
    encoding e = {tok, NULL, (flags & CCH_ENCODE_PLAIN_SPECIALS) != 0,
                  (flags & CCH_ENCODE_CONTINUES) != 0 ? CCH_PLACE_JOINT : CCH_PLACE_START};
    bool add = (flags & CCH_ENCODE_ADD_SPECIALS) != 0;
    cch_bpe_work *work;
    *out_ids = NULL;
    *out_n = 0;
    if (flags & ~(CCH_ENCODE_PLAIN_SPECIALS | CCH_ENCODE_ADD_SPECIALS | CCH_ENCODE_CONTINUES))
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "flags are %d, allowed: CCH_ENCODE_PLAIN_SPECIALS, CCH_ENCODE_ADD_SPECIALS, "
                 "CCH_ENCODE_CONTINUES", flags);
    if (len > MAX_TEXT)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "the text has %zu bytes, allowed: at most %zu", len, MAX_TEXT);
    size_t valid = cch_utf8_valid_prefix(text, len);
    if (valid < len)
        CCH_FAIL(err, CCH_E_ENCODING, valid, "the text is not UTF-8: byte 0x%02X at position %zu",
                 (unsigned char)text[valid], valid);
    CCH_TRY(scratch_take(tok->idle, &e.scratch, err));
    work = e.scratch->work;
    cch_bpe_work_begin(work);
    CCH_TRY(push_all(work, tok->prefix, tok->n_prefix, add, err));
    CCH_TRY(encode_text(&e, text, len, err));
    CCH_TRY(push_all(work, tok->suffix, tok->n_suffix, add, err));
    cch_bpe_work_take(work, out_ids, out_n);
done:
    if (e.scratch != NULL) scratch_give(tok->idle, e.scratch);
    return status;
}

cch_status cch_tokenizer_encode_cut(const cch_tokenizer *tok, const char *text, size_t len, int32_t limit,
                                    int32_t **out_ids, size_t *out_n, cch_error *err) {
    size_t around = tok->n_prefix + tok->n_suffix, room = limit < 0 ? 0 : (size_t)limit;
    *out_ids = NULL;
    *out_n = 0;
    if (room <= around)
        CCH_FAIL(err, CCH_E_ARGUMENT, -1, "the limit is %d tokens, allowed: more than the %zu of the template", limit,
                 around);
    CCH_RETURN_IF(cch_tokenizer_encode(tok, text, len, CCH_ENCODE_ADD_SPECIALS, out_ids, out_n, err));
    if (*out_n <= room) return CCH_OK;
    if (tok->n_suffix > 0) memcpy(*out_ids + room - tok->n_suffix, tok->suffix, tok->n_suffix * sizeof *tok->suffix);
    *out_n = room;
    return CCH_OK;
}

/* -------------------------------------------------------------------------------------- life and tokens ---- */

cch_tokenizer *cch_tokenizer_ref(cch_tokenizer *tok) {
    if (tok != NULL) atomic_fetch_add_explicit(&tok->refs, 1, memory_order_relaxed);
    return tok;
}

static void idle_free(cch_idle *idle) {
    if (idle == NULL) return;
    while (idle->first != NULL) {
        cch_encode_scratch *next = idle->first->next;
        scratch_free(idle->first);
        idle->first = next;
    }
    pthread_mutex_destroy(&idle->mutex);
    cch_free(idle);
}

void cch_tokenizer_unref(cch_tokenizer *tok) {
    if (tok == NULL || atomic_fetch_sub_explicit(&tok->refs, 1, memory_order_acq_rel) != 1) return;
    idle_free(tok->idle);
    cch_bpe_deinit(&tok->bpe);
    cch_wordpiece_deinit(&tok->wordpiece);
    cch_unigram_deinit(&tok->unigram);
    cch_normalizer_deinit(&tok->normalizer);
    cch_added_deinit(&tok->added);
    cch_added_deinit(&tok->added_normalized);
    cch_strmap_deinit(&tok->added_names);
    cch_free(tok->tokens);
    cch_free(tok->prefix);
    cch_free(tok->suffix);
    cch_decode_plan_deinit(&tok->decode);
    cch_free(tok);
}

int32_t cch_tokenizer_size(const cch_tokenizer *tok) { return tok->size; }

cch_tokenizer_kind cch_tokenizer_get_kind(const cch_tokenizer *tok) { return tok->kind; }

void cch_tokenizer_widen(cch_tokenizer *tok, int32_t n_ids) { tok->n_ids = n_ids; }

int32_t cch_tokenizer_find(const cch_tokenizer *tok, const char *token, size_t len) {
    int32_t id = -1;
    if (!cch_strmap_find(tok->vocab, token, len, &id)) cch_strmap_find(&tok->added_names, token, len, &id);
    return id;
}

const char *cch_tokenizer_token_view(const cch_tokenizer *tok, int32_t id, size_t *out_len) {
    int32_t value, n = (int32_t)tok->vocab->n;
    *out_len = 0;
    if (id < 0 || id >= tok->size || tok->tokens[id].entry < 0) return NULL;
    int32_t entry = tok->tokens[id].entry;
    if (entry < n) return cch_strmap_key_view(tok->vocab, (size_t)entry, out_len, &value);
    return cch_strmap_key_view(&tok->added_names, (size_t)(entry - n), out_len, &value);
}

const char *cch_token_source(const cch_tokenizer *tok, int32_t id, size_t *out_len) {
    int32_t pattern = tok->tokens[id].pattern;
    if (pattern < 0) return cch_tokenizer_token_view(tok, id, out_len);
    *out_len = tok->added_normalized.patterns[pattern].len;
    return tok->added_normalized.patterns[pattern].text;
}

const char *cch_tokenizer_bytes_view(const cch_tokenizer *tok, int32_t id, char *byte, size_t *out_len) {
    const cch_decode_plan *plan = &tok->decode;
    const cch_unigram *u = plan->unigram;
    const char *entry = cch_tokenizer_token_view(tok, id, out_len);
    if (entry == NULL) return NULL;
    if (plan->byte_of != NULL && plan->byte_of[id] >= 0) {
        *byte = (char)plan->byte_of[id];
        *out_len = 1;
        return byte;
    }
    if (u != NULL && (u->types[id] == CCH_PIECE_CONTROL || u->types[id] == CCH_PIECE_UNKNOWN)) return entry;
    *out_len = plan->ends[id + 1] - plan->ends[id];
    return plan->texts + plan->ends[id];
}

bool cch_tokenizer_is_special(const cch_tokenizer *tok, int32_t id) {
    return id >= 0 && id < tok->size && tok->tokens[id].special;
}
