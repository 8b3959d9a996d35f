#include "tok/bpe.h"

#include <stdio.h>  /* snprintf */
#include <string.h> /* memcpy, memcmp, memmem */

#include "base/alloc.h"
#include "base/utf8.h"
#include "tok/bpe_work.h"
#include "tok/unicode.h"

#define CACHE_SETS ((size_t)1 << 13) /* of two 64-byte entries: 1 MiB */
#define KEEP_BYTES ((size_t)1 << 20) /* scratch above this size is not kept between calls */
#define SEPARATOR "\xE2\x96\x81"     /* U+2581 */

/* -------------------------------------------------------------------------------- the byte alphabet ---- */

/* The printable bytes of Latin-1 spell themselves, the other 68 follow in order from U+0100. */
static bool spells_itself(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

uint32_t cch_byte_to_char(uint8_t byte) {
    if (spells_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x100u + 33 + (byte - 0x7Fu);
}

int cch_char_to_byte(uint32_t c) {
    if (c < 0x100) return spells_itself(c) ? (int)c : -1;
    if (c <= 0x120) return (int)c - 0x100;
    if (c < 0x143) return (int)c - 0x121 + 0x7F;
    return c == 0x143 ? 0xAD : -1;
}

size_t cch_token_bytes(const char *token, size_t len, char *dst) {
    size_t n = 0, char_len;
    for (size_t at = 0; at < len; at += char_len) {
        int byte = cch_char_to_byte(cch_char_at((const uint8_t *)token + at, &char_len));
        if (byte < 0) return SIZE_MAX;
        dst[n++] = (char)byte;
    }
    return n;
}

/* ------------------------------------------------------------------------------------------- loading ---- */

void cch_bpe_deinit(cch_bpe *bpe) {
    cch_strmap_deinit(&bpe->vocab);
    cch_strmap_deinit(&bpe->words);
    cch_free(bpe->merges);
    bpe->merges = NULL;
}

cch_status cch_bpe_reserve_merges(cch_bpe *bpe, size_t n, cch_error *err) {
    cch_status status = CCH_OK;
    size_t slots = 16;
    while (slots / 2 < n) slots *= 2; /* at most half full */
    CCH_NEW(bpe->merges, slots, err);
    bpe->merge_mask = slots - 1;
    for (size_t i = 0; i < slots; i++) bpe->merges[i] = (cch_merge){CCH_NO_PAIR, 0, -1};
done:
    return status;
}

static cch_status not_a_token(uint32_t rank, const char *a, size_t a_len, const char *b, size_t b_len, cch_error *err) {
    CCH_FAIL(err, CCH_E_FORMAT, rank, "merge %u: \"%.*s%.*s\" is not in the vocabulary", rank,
             (int)cch_utf8_cut(a, a_len, 80), a, (int)cch_utf8_cut(b, b_len, 80), b);
}

static void put_merge(cch_bpe *bpe, cch_merge merge) {
    uint64_t hash = merge.pair * 0x9E3779B97F4A7C15u;
    size_t i = (hash ^ hash >> 32) & bpe->merge_mask;
    while (bpe->merges[i].pair != CCH_NO_PAIR && bpe->merges[i].pair != merge.pair) i = (i + 1) & bpe->merge_mask;
    bpe->merges[i] = merge;
}

cch_status cch_bpe_add_merge(cch_bpe *bpe, const char *a, size_t a_len, const char *b, size_t b_len, uint32_t rank,
                             cch_error *err) {
    char stack[256], *both = stack;
    int32_t left, right, id;
    size_t len;
    if (!cch_strmap_find(&bpe->vocab, a, a_len, &left)) return not_a_token(rank, a, a_len, "", 0, err);
    if (!cch_strmap_find(&bpe->vocab, b, b_len, &right)) return not_a_token(rank, b, b_len, "", 0, err);
    if (!cch_add(a_len, b_len, &len) || (len > sizeof stack && (both = cch_alloc(len, 1)) == NULL))
        CCH_FAIL(err, CCH_E_MEMORY, rank, "could not allocate %zu + %zu bytes", a_len, b_len);
    memcpy(both, a, a_len);
    memcpy(both + a_len, b, b_len);
    bool known = cch_strmap_find(&bpe->vocab, both, len, &id);
    if (both != stack) cch_free(both);
    if (!known) return not_a_token(rank, a, a_len, b, b_len, err);
    put_merge(bpe, (cch_merge){(uint64_t)(uint32_t)left << 32 | (uint32_t)right, rank, id});
    return CCH_OK;
}

static int32_t vocab_id(const cch_bpe *bpe, const char *token, size_t len) {
    int32_t id = -1;
    cch_strmap_find(&bpe->vocab, token, len, &id);
    return id;
}

/* May a text be cut before each U+2581 that follows another character?  Yes when no merge joins something that ends
 * in another character with something that starts with U+2581, and U+2581 itself is a token (so that it ends a run of
 * unknown characters), and no character vanishes (which would make neighbours of two U+2581). */
static bool may_cut(const cch_bpe *bpe, const char *const *names, const uint32_t *lens, size_t n_ids) {
    const size_t sep = sizeof SEPARATOR - 1;
    if (bpe->byte_alphabet || bpe->ignore_merges || bpe->unk_id < 0 || vocab_id(bpe, SEPARATOR, sep) < 0) return false;
    for (size_t i = 0; i <= bpe->merge_mask; i++) {
        if (bpe->merges[i].pair == CCH_NO_PAIR) continue;
        size_t left = (size_t)(bpe->merges[i].pair >> 32), right = (size_t)(bpe->merges[i].pair & UINT32_MAX);
        if (left >= n_ids || right >= n_ids || lens[left] == 0) return false;
        bool ends = lens[left] >= sep && memcmp(names[left] + lens[left] - sep, SEPARATOR, sep) == 0;
        bool starts = lens[right] >= sep && memcmp(names[right], SEPARATOR, sep) == 0;
        if (starts && !ends) return false;
    }
    return true;
}

static cch_status find_cuts(cch_bpe *bpe, cch_error *err) {
    cch_status status = CCH_OK;
    const char **names = NULL;
    uint32_t *lens = NULL;
    size_t n_ids = 0, len;
    int32_t id;
    for (size_t i = 0; i < bpe->vocab.n; i++) {
        cch_strmap_key_view(&bpe->vocab, i, &len, &id);
        if ((size_t)id >= n_ids) n_ids = (size_t)id + 1;
    }
    CCH_ZNEW(names, n_ids, err);
    CCH_ZNEW(lens, n_ids, err);
    for (size_t i = 0; i < bpe->vocab.n; i++) {
        const char *name = cch_strmap_key_view(&bpe->vocab, i, &len, &id);
        names[id] = name;
        lens[id] = (uint32_t)len;
    }
    bpe->cuts = may_cut(bpe, names, lens, n_ids);
done:
    cch_free(names);
    cch_free(lens);
    return status;
}

static cch_status add_words(cch_bpe *bpe, cch_error *err) {
    cch_status status = CCH_OK;
    char *bytes = NULL;
    size_t longest = 1, len;
    int32_t id;
    for (size_t i = 0; i < bpe->vocab.n; i++) {
        cch_strmap_key_view(&bpe->vocab, i, &len, &id);
        if (len > longest) longest = len;
    }
    CCH_NEW(bytes, longest, err);
    CCH_TRY(cch_strmap_reserve(&bpe->words, bpe->vocab.n, bpe->vocab.n_bytes, err));
    for (size_t i = 0; i < bpe->vocab.n; i++) {
        const char *token = cch_strmap_key_view(&bpe->vocab, i, &len, &id);
        size_t n = cch_token_bytes(token, len, bytes);
        if (n != SIZE_MAX) CCH_TRY(cch_strmap_put(&bpe->words, bytes, n, id, NULL, err));
    }
done:
    cch_free(bytes);
    return status;
}

cch_status cch_bpe_finish(cch_bpe *bpe, cch_error *err) {
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        size_t len = cch_utf8_encode(bpe->byte_alphabet ? cch_byte_to_char((uint8_t)b) : b, text);
        bpe->byte_ids[b] = vocab_id(bpe, text, len);
        snprintf(text, sizeof text, "<0x%02X>", b);
        bpe->fallback_ids[b] = vocab_id(bpe, text, 6);
    }
    if (bpe->byte_alphabet && bpe->ignore_merges) CCH_RETURN_IF(add_words(bpe, err));
    return find_cuts(bpe, err);
}

/* ----------------------------------------------------------------------------------------- work area ---- */

cch_status cch_bpe_work_grow(void *array, size_t *cap, size_t n, size_t size, cch_error *err) {
    void *old, *fresh;
    if (n <= *cap) return CCH_OK;
    size_t wanted = n + n / 2;
    memcpy(&old, array, sizeof old);
    fresh = cch_resize(old, wanted, size);
    if (fresh == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu x %zu bytes", wanted, size);
    memcpy(array, &fresh, sizeof fresh);
    *cap = wanted;
    return CCH_OK;
}

cch_status cch_bpe_work_new(cch_bpe_work **out, cch_error *err) {
    cch_status status = CCH_OK;
    cch_bpe_work *work = NULL;
    *out = NULL;
    CCH_ZNEW(work, 1, err);
    CCH_ZNEW(work->cache, 2 * CACHE_SETS, err);
    *out = work;
    work = NULL;
done:
    cch_bpe_work_free(work);
    return status;
}

void cch_bpe_work_free(cch_bpe_work *work) {
    if (work == NULL) return;
    cch_free(work->cache);
    cch_free(work->ids);
    cch_free(work->symbols);
    cch_free(work->links);
    cch_free(work->heap);
    cch_free(work);
}

void cch_bpe_work_begin(cch_bpe_work *work) { work->n = 0; }

static void give_back(void *array, size_t *cap, size_t size) {
    void *old;
    if (*cap * size <= KEEP_BYTES) return;
    memcpy(&old, array, sizeof old);
    cch_free(old);
    old = NULL;
    memcpy(array, &old, sizeof old);
    *cap = 0;
}

void cch_bpe_work_take(cch_bpe_work *work, int32_t **out_ids, size_t *out_n) {
    *out_n = work->n;
    *out_ids = work->n == 0 ? NULL : work->ids;
    if (work->n > 0) {
        work->ids = NULL;
        work->cap = 0;
    }
    work->n = 0;
    give_back(&work->symbols, &work->symbols_cap, sizeof *work->symbols);
    give_back(&work->links, &work->links_cap, sizeof *work->links);
    give_back(&work->heap, &work->heap_cap, sizeof *work->heap);
}

cch_status cch_bpe_push(cch_bpe_work *work, int32_t id, cch_error *err) {
    CCH_RETURN_IF(cch_bpe_work_grow(&work->ids, &work->cap, work->n + 1, sizeof *work->ids, err));
    work->ids[work->n++] = id;
    return CCH_OK;
}

/* ------------------------------------------------------------------------------------ words to symbols ---- */

/* The ids of one word's characters so far, and an unknown stretch that is not written yet. */
typedef struct spelling {
    int32_t *symbols;
    size_t n;
    bool unknown;
} spelling;

/* A character outside the vocabulary: its UTF-8 as byte tokens when all of them exist, else the unknown token, once
 * for a whole stretch with fuse_unk. */
static void spell_unknown(const cch_bpe *bpe, spelling *s, const char *utf8, size_t len) {
    if (bpe->byte_fallback) {
        size_t known = 0;
        while (known < len && bpe->fallback_ids[(uint8_t)utf8[known]] >= 0) known++;
        if (known == len) {
            for (size_t i = 0; i < len; i++) s->symbols[s->n++] = bpe->fallback_ids[(uint8_t)utf8[i]];
            return;
        }
    }
    if (bpe->unk_id < 0) return;
    if (s->unknown && !bpe->fuse_unk) s->symbols[s->n++] = bpe->unk_id;
    s->unknown = true;
}

static void spell_known(const cch_bpe *bpe, spelling *s, int32_t id) {
    if (s->unknown) s->symbols[s->n++] = bpe->unk_id;
    s->unknown = false;
    s->symbols[s->n++] = id;
}

/* symbols has room for 2 * len + 1 ids.  Returns how many were written. */
static size_t spell(const cch_bpe *bpe, const char *word, size_t len, int32_t *symbols) {
    spelling s = {symbols, 0, false};
    char utf8[4];
    for (size_t at = 0, step; at < len; at += step) {
        uint8_t byte = (uint8_t)word[at];
        step = 1;
        if (bpe->byte_alphabet || byte < 0x80) {
            if (bpe->byte_ids[byte] >= 0) spell_known(bpe, &s, bpe->byte_ids[byte]);
            else if (bpe->byte_alphabet) spell_unknown(bpe, &s, utf8, cch_utf8_encode(cch_byte_to_char(byte), utf8));
            else spell_unknown(bpe, &s, word + at, 1);
            continue;
        }
        cch_char_at((const uint8_t *)word + at, &step);
        int32_t id = vocab_id(bpe, word + at, step);
        if (id >= 0) spell_known(bpe, &s, id);
        else spell_unknown(bpe, &s, word + at, step);
    }
    if (s.unknown) symbols[s.n++] = bpe->unk_id;
    return s.n;
}

/* Adds the ids of a word that is not in the cache. */
static cch_status encode_word(const cch_bpe *bpe, cch_bpe_work *work, const char *word, size_t len, cch_error *err) {
    size_t n, room;
    int32_t id;
    if (bpe->ignore_merges && cch_strmap_find(bpe->byte_alphabet ? &bpe->words : &bpe->vocab, word, len, &id))
        return cch_bpe_push(work, id, err);
    if (!cch_mul(len, 2, &room) || !cch_add(room, 1, &room))
        CCH_FAIL(err, CCH_E_MEMORY, -1, "a word of %zu bytes", len);
    CCH_RETURN_IF(cch_bpe_work_grow(&work->symbols, &work->symbols_cap, room, sizeof *work->symbols, err));
    n = spell(bpe, word, len, work->symbols);
    CCH_RETURN_IF(cch_bpe_merge(bpe, work, work->symbols, &n, err));
    CCH_RETURN_IF(cch_bpe_work_grow(&work->ids, &work->cap, work->n + n, sizeof *work->ids, err));
    if (n > 0) memcpy(work->ids + work->n, work->symbols, n * sizeof *work->symbols);
    work->n += n;
    return CCH_OK;
}

/* -------------------------------------------------------------------------------------- the word cache ---- */

static inline cch_cached_word *cache_set(cch_bpe_work *work, const cch_word_key *key) {
    uint64_t h = key->words[0] * 0x9E3779B97F4A7C15u ^ key->words[1] * 0xC2B2AE3D27D4EB4Fu;
    h ^= key->words[2] * 0x165667B19E3779F9u ^ key->words[3] * 0xD6E8FEB86659FD93u;
    h = (h ^ h >> 32) * 0x9E3779B97F4A7C15u;
    return work->cache + (size_t)(h >> 40) % CACHE_SETS * 2;
}

static inline bool same_key(const cch_word_key *a, const cch_word_key *b) {
    return ((a->words[0] ^ b->words[0]) | (a->words[1] ^ b->words[1]) | (a->words[2] ^ b->words[2]) |
            (a->words[3] ^ b->words[3])) == 0;
}

cch_status cch_bpe_word(const cch_bpe *bpe, cch_bpe_work *work, const char *word, size_t len, cch_error *err) {
    cch_word_key key = {{0, 0, 0, 0}};
    if (len > CCH_WORD_BYTES) return encode_word(bpe, work, word, len, err);
    memcpy(&key, word, len);
    ((unsigned char *)&key)[CCH_WORD_BYTES] = (unsigned char)len;
    cch_cached_word *set = cache_set(work, &key);
    if (same_key(&set[1].key, &key)) {
        cch_cached_word hit = set[1];
        set[1] = set[0];
        set[0] = hit;
    } else if (!same_key(&set[0].key, &key)) {
        size_t first = work->n;
        CCH_RETURN_IF(encode_word(bpe, work, word, len, err));
        if (work->n - first <= CCH_WORD_IDS) {
            set[1] = set[0];
            set[0].key = key;
            set[0].n = (int32_t)(work->n - first);
            if (work->n > first) memcpy(set[0].ids, work->ids + first, (work->n - first) * sizeof *work->ids);
        }
        return CCH_OK;
    }
    if (work->cap - work->n < CCH_WORD_IDS)
        CCH_RETURN_IF(cch_bpe_work_grow(&work->ids, &work->cap, work->n + CCH_WORD_IDS, sizeof *work->ids, err));
    memcpy(work->ids + work->n, set[0].ids, sizeof set[0].ids); /* all of them: a fixed size is one or two moves */
    work->n += (size_t)set[0].n;
    return CCH_OK;
}

cch_status cch_bpe_text(const cch_bpe *bpe, cch_bpe_work *work, const char *text, size_t len, cch_error *err) {
    const size_t sep = sizeof SEPARATOR - 1;
    if (!bpe->cuts) return cch_bpe_word(bpe, work, text, len, err);
    for (size_t at = 0, stop; at < len; at = stop) {
        stop = at;
        while (len - stop >= sep && memcmp(text + stop, SEPARATOR, sep) == 0) stop += sep;
        const char *next = stop == len ? NULL : memmem(text + stop, len - stop, SEPARATOR, sep);
        stop = next == NULL ? len : (size_t)(next - text);
        CCH_RETURN_IF(cch_bpe_word(bpe, work, text + at, stop - at, err));
    }
    return CCH_OK;
}
