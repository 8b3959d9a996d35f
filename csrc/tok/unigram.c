#include "tok/unigram.h"

#include <float.h> /* FLT_MAX */
#include <math.h>  /* isfinite */
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "tok/bpe_work.h"

#define UNKNOWN_PENALTY 10.0f
#define SYMBOL_SCORE 0.1f /* of a user-defined piece, for each byte behind its first: above what others have */
#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* The best way to a place of the text. */
typedef struct cch_unigram_step {
    float score;   /* of the whole way */
    int32_t id;    /* of its last piece; unk_id: a character that no piece covers */
    uint32_t back; /* bytes of that piece; 0: nothing leads here yet */
} cch_unigram_step;

void cch_unigram_deinit(cch_unigram *u) {
    cch_strmap_deinit(&u->vocab);
    cch_trie_deinit(&u->trie);
    cch_charmap_deinit(&u->map);
    cch_free(u->scores);
    cch_free(u->types);
    cch_free(u->unk_text);
    u->scores = NULL;
    u->types = NULL;
    u->unk_text = NULL;
}

void cch_unigram_work_deinit(cch_unigram_work *work) {
    cch_bytes_deinit(&work->normal);
    cch_free(work->steps);
    work->steps = NULL;
    work->steps_cap = 0;
}

void cch_unigram_work_trim(cch_unigram_work *work, size_t keep) {
    if (work->normal.cap + work->steps_cap * sizeof *work->steps > keep) cch_unigram_work_deinit(work);
}

/* ------------------------------------------------------------------------------------------------ pieces ---- */

static cch_status grow_pieces(cch_unigram *u, cch_error *err) {
    const size_t cap = u->cap * 2 + 256;
    float *scores = cch_resize(u->scores, cap, sizeof *scores);
    if (scores != NULL) u->scores = scores;
    uint8_t *types = scores == NULL ? NULL : cch_resize(u->types, cap, sizeof *types);
    if (types == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu pieces", cap);
    u->types = types;
    u->cap = cap;
    return CCH_OK;
}

cch_status cch_unigram_add(cch_unigram *u, const char *text, size_t len, float score, cch_piece_type type,
                           cch_error *err) {
    const size_t id = u->vocab.n;
    bool old;
    if (len == 0 || len > CCH_PIECE_MAX_BYTES)
        CCH_FAIL(err, CCH_E_FORMAT, id, "piece %zu has %zu bytes, allowed: 1 to %d", id, len, CCH_PIECE_MAX_BYTES);
    if (cch_utf8_valid_prefix(text, len) < len) CCH_FAIL(err, CCH_E_FORMAT, id, "piece %zu is not UTF-8", id);
    if (!isfinite(score))
        CCH_FAIL(err, CCH_E_FORMAT, id, "the score of piece %zu is %f, allowed: numbers", id, (double)score);
    if (id == u->cap) CCH_RETURN_IF(grow_pieces(u, err));
    CCH_RETURN_IF(cch_strmap_put(&u->vocab, text, len, (int32_t)id, &old, err));
    if (old)
        CCH_FAIL(err, CCH_E_FORMAT, id, "piece %zu repeats \"%.*s\"", id, (int)cch_utf8_cut(text, len, 80), text);
    u->scores[id] = score;
    u->types[id] = (uint8_t)type;
    return CCH_OK;
}

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* Takes piece `id`, spelled <0xNN>, as that byte. */
static cch_status put_byte(cch_unigram *u, const char *text, size_t len, int32_t id, cch_error *err) {
    int high = len == 6 ? hex_digit(text[3]) : -1, low = len == 6 ? hex_digit(text[4]) : -1;
    if (high < 0 || low < 0 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        CCH_FAIL(err, CCH_E_FORMAT, id, "byte piece %d is \"%.*s\", allowed: <0x00> to <0xFF>", id,
                 (int)cch_utf8_cut(text, len, 80), text);
    if (!u->byte_fallback)
        CCH_FAIL(err, CCH_E_FORMAT, id, "piece %d is a byte, but the model is without byte fallback", id);
    u->byte_ids[high * 16 + low] = id;
    return CCH_OK;
}

/* Sorts the pieces by what they are for; those that texts are cut into become keys [*n]. */
static cch_status sort_pieces(cch_unigram *u, cch_trie_key *keys, size_t *n, cch_error *err) {
    float low = FLT_MAX;
    for (int32_t id = 0; id < (int32_t)u->vocab.n; id++) {
        cch_trie_key key = {.id = id};
        key.text = cch_strmap_key_view(&u->vocab, (size_t)id, &key.len, NULL);
        switch ((cch_piece_type)u->types[id]) {
        case CCH_PIECE_BYTE: CCH_RETURN_IF(put_byte(u, key.text, key.len, id, err)); break;
        case CCH_PIECE_UNKNOWN:
            if (u->unk_id >= 0)
                CCH_FAIL(err, CCH_E_FORMAT, id, "pieces %d and %d are both the unknown piece", u->unk_id, id);
            u->unk_id = id;
            break;
        case CCH_PIECE_NORMAL:
            if (u->scores[id] < low) low = u->scores[id];
            keys[(*n)++] = key;
            break;
        case CCH_PIECE_USER_DEFINED:
        case CCH_PIECE_SPECIAL:
            u->symbol_starts[(uint8_t)key.text[0]] = true;
            keys[(*n)++] = key;
            break;
        case CCH_PIECE_CONTROL:
        case CCH_PIECE_UNUSED: break;
        }
    }
    u->unk_score = low - UNKNOWN_PENALTY;
    return CCH_OK;
}

cch_status cch_unigram_finish(cch_unigram *u, cch_error *err) {
    cch_status status = CCH_OK;
    cch_trie_key *keys = NULL;
    size_t n = 0;
    CCH_NEW(keys, u->vocab.n, err);
    u->unk_id = -1;
    for (int b = 0; b < 256; b++) u->byte_ids[b] = -1;
    CCH_TRY(sort_pieces(u, keys, &n, err));
    if (u->unk_id < 0) CCH_THROW(err, CCH_E_FORMAT, -1, "no piece is the unknown piece");
    for (int b = 0; u->byte_fallback && b < 256; b++)
        if (u->byte_ids[b] < 0) CCH_THROW(err, CCH_E_FORMAT, -1, "byte fallback without the byte piece <0x%02X>", b);
    CCH_TRY(cch_trie_build(&u->trie, keys, n, err));
done:
    cch_free(keys);
    return status;
}

/* --------------------------------------------------------------------------------------------- normalizing ---- */

static inline bool is_symbol(const cch_unigram *u, int32_t id, bool plain) {
    return u->types[id] == CCH_PIECE_USER_DEFINED || (u->types[id] == CCH_PIECE_SPECIAL && !plain);
}

/* Length of the longest user-defined piece that text [len > 0] starts with, 0 when none does. */
static size_t find_symbol(const cch_unigram *u, const char *text, size_t len, bool plain) {
    size_t found = 0;
    if (!u->symbol_starts[(uint8_t)text[0]]) return 0;
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        node = cch_trie_child(&u->trie, node, (uint8_t)text[i]);
        if (node == CCH_TRIE_NONE) break;
        const int32_t id = u->trie.nodes[node].id;
        if (id >= 0 && is_symbol(u, id, plain)) found = i + 1;
    }
    return found;
}

/* What the start of text [len > 0] is normalized to; returns how many bytes that takes. */
static size_t normalize_start(const cch_unigram *u, const char *text, size_t len, bool plain, const char **out,
                              size_t *out_len) {
    size_t taken = find_symbol(u, text, len, plain);
    if (taken == 0) {
        taken = cch_charmap_find(&u->map, text, len, out, out_len);
        if (taken > 0) return taken;
        taken = cch_utf8_decode(text, len, NULL);
    }
    *out = taken > 0 ? text : REPLACEMENT; /* the map may have taken the first byte of a character */
    *out_len = taken > 0 ? taken : sizeof REPLACEMENT - 1;
    return taken > 0 ? taken : 1;
}

static cch_status append_escaped(const cch_unigram *u, cch_bytes *out, const char *text, size_t len, cch_error *err) {
    if (u->plain_spaces) return cch_bytes_append(out, text, len, err);
    for (size_t at = 0, stop; at < len; at = stop) {
        const char *space = memchr(text + at, ' ', len - at);
        if (space == text + at) {
            CCH_RETURN_IF(cch_bytes_append(out, CCH_PIECE_SPACE, CCH_PIECE_SPACE_LEN, err));
            stop = at + 1;
        } else {
            stop = space == NULL ? len : (size_t)(space - text);
            CCH_RETURN_IF(cch_bytes_append(out, text + at, stop - at, err));
        }
    }
    return CCH_OK;
}

static void strip_end(const cch_unigram *u, cch_bytes *out) {
    const char *space = u->plain_spaces ? " " : CCH_PIECE_SPACE;
    const size_t len = strlen(space);
    while (out->n >= len && memcmp(out->data + out->n - len, space, len) == 0) out->n -= len;
}

static cch_status normalize(const cch_unigram *u, const char *text, size_t len, bool continues, bool plain,
                            cch_bytes *out, cch_error *err) {
    bool after_space = !u->keep_whitespace && !continues, begun = continues;
    out->n = 0;
    for (size_t at = 0, taken; at < len; at += taken) {
        const char *part;
        size_t n;
        taken = normalize_start(u, text + at, len - at, plain, &part, &n);
        if (!begun && !u->keep_whitespace && n == 1 && part[0] == ' ') continue;
        if (!begun && u->add_dummy_prefix) CCH_RETURN_IF(append_escaped(u, out, " ", 1, err));
        begun = true;
        for (; after_space && n > 0 && part[0] == ' '; n--) part++;
        if (n == 0) continue;
        CCH_RETURN_IF(append_escaped(u, out, part, n, err));
        after_space = !u->keep_whitespace && part[n - 1] == ' ';
    }
    if (!u->keep_whitespace) strip_end(u, out);
    return CCH_OK;
}

/* ---------------------------------------------------------------------------------------------- best path ---- */

/* Adds the ids of the way to steps[at], last piece first, then turns them round. */
static cch_status settle(const cch_unigram *u, const cch_unigram_work *work, const char *text, size_t at,
                         cch_bpe_work *ids, cch_error *err) {
    const size_t first = ids->n;
    while (at > 0) {
        const cch_unigram_step *step = &work->steps[at];
        at -= step->back;
        if (step->id != u->unk_id || !u->byte_fallback) {
            CCH_RETURN_IF(cch_bpe_push(ids, step->id, err));
            continue;
        }
        for (size_t i = step->back; i-- > 0;)
            CCH_RETURN_IF(cch_bpe_push(ids, u->byte_ids[(uint8_t)text[at + i]], err));
    }
    for (size_t low = first, high = ids->n; low + 1 < high; low++) {
        const int32_t id = ids->ids[low];
        ids->ids[low] = ids->ids[--high];
        ids->ids[high] = id;
    }
    return CCH_OK;
}

/* A way to a place with this last piece, which stays when it is the first or the best. */
static inline void offer(cch_unigram_step *step, float score, int32_t id, size_t back) {
    if (step->back > 0 && !(score > step->score)) return;
    *step = (cch_unigram_step){score, id, (uint32_t)back};
}

/* Offers what leads on from steps[at], where text [len > 0] is; returns the farthest place that is led to. */
static size_t extend(const cch_unigram *u, cch_unigram_step *steps, size_t at, const char *text, size_t len,
                     size_t char_len, bool plain) {
    const float so_far = steps[at].score;
    size_t reach = 0;
    bool covered = false;
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        node = cch_trie_child(&u->trie, node, (uint8_t)text[i]);
        if (node == CCH_TRIE_NONE) break;
        const int32_t id = u->trie.nodes[node].id;
        if (id < 0 || (plain && u->types[id] == CCH_PIECE_SPECIAL)) continue;
        reach = i + 1;
        const float score = is_symbol(u, id, plain) ? (float)(reach - 1) * SYMBOL_SCORE : u->scores[id];
        offer(&steps[at + reach], score + so_far, id, reach);
        covered |= reach == char_len;
    }
    if (!covered) offer(&steps[at + char_len], u->unk_score + so_far, u->unk_id, char_len);
    return at + (reach > char_len ? reach : char_len);
}

/* Makes all steps up to `until` ready to be led to; those before *clean are. */
static cch_status ready(cch_unigram_work *work, size_t *clean, size_t until, cch_error *err) {
    CCH_RETURN_IF(cch_bpe_work_grow(&work->steps, &work->steps_cap, until + 1, sizeof *work->steps, err));
    for (; *clean <= until; ++*clean) work->steps[*clean].back = 0;
    return CCH_OK;
}

static cch_status cut(const cch_unigram *u, cch_unigram_work *work, cch_bpe_work *ids, const char *text, size_t len,
                      bool plain, cch_error *err) {
    size_t at = 0, reach = 0, clean = 0; /* counted from `text`, which moves on to the last settled place */
    CCH_RETURN_IF(ready(work, &clean, 0, err));
    work->steps[0].score = 0;
    while (at < len) {
        if (at > 0 && at == reach) {
            CCH_RETURN_IF(settle(u, work, text, at, ids, err));
            work->steps[0].score = work->steps[at].score;
            for (size_t i = 1; i <= at; i++) work->steps[i].back = 0;
            text += at;
            len -= at;
            at = reach = 0;
        }
        const size_t left = len - at, longest = left < CCH_PIECE_MAX_BYTES ? left : CCH_PIECE_MAX_BYTES;
        const size_t char_len = cch_utf8_decode(text + at, left, NULL); /* what is normalized is UTF-8 */
        CCH_RETURN_IF(ready(work, &clean, at + longest, err));
        const size_t far = extend(u, work->steps, at, text + at, longest, char_len, plain);
        if (far > reach) reach = far;
        at += char_len;
    }
    return settle(u, work, text, at, ids, err);
}

/* Unknown pieces in a row are one. */
static void join_unknown(const cch_unigram *u, cch_bpe_work *ids, size_t first) {
    size_t n = first;
    for (size_t i = first; i < ids->n; i++)
        if (i == first || ids->ids[i] != u->unk_id || ids->ids[i - 1] != u->unk_id) ids->ids[n++] = ids->ids[i];
    ids->n = n;
}

cch_status cch_unigram_text(const cch_unigram *u, cch_unigram_work *work, cch_bpe_work *ids, const char *text,
                            size_t len, bool continues, bool plain, cch_error *err) {
    const size_t first = ids->n;
    CCH_RETURN_IF(normalize(u, text, len, continues, plain, &work->normal, err));
    CCH_RETURN_IF(cut(u, work, ids, work->normal.data, work->normal.n, plain, err));
    if (!u->byte_fallback) join_unknown(u, ids, first);
    return CCH_OK;
}
