#include "tok/normalize.h"

#include "base/utf8.h"
#include "tok/unicode.h"

void cch_normalizer_deinit(cch_normalizer *n) {
    for (size_t i = 0; i < n->n_steps; i++) {
        cch_free(n->steps[i].from);
        cch_free(n->steps[i].to);
    }
    n->n_steps = 0;
}

bool cch_normalizer_add_bert(cch_normalizer *n, bool clean, bool chinese, bool strip_accents, bool lowercase) {
    const struct { bool wanted; int kind; cch_fold_kind fold; } steps[] = {
        {clean, CCH_NORMALIZE_FOLD, CCH_FOLD_CLEAN},
        {chinese, CCH_NORMALIZE_FOLD, CCH_FOLD_CHINESE},
        {strip_accents, CCH_NORMALIZE_NFD, 0},
        {strip_accents, CCH_NORMALIZE_FOLD, CCH_FOLD_MARKS},
        {lowercase, CCH_NORMALIZE_FOLD, CCH_FOLD_LOWER}};
    size_t n_steps = n->n_steps;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) n_steps += steps[i].wanted;
    if (n_steps > CCH_NORMALIZER_STEPS) return false;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (!steps[i].wanted) continue;
        n->steps[n->n_steps].kind = steps[i].kind;
        n->steps[n->n_steps++].fold = steps[i].fold;
    }
    return true;
}

/* -------------------------------------------------------------------------------------------- NFC and NFD ---- */

/* Hangul syllables are composed by arithmetic: (L * 21 + V) * 28 + T (Unicode standard, chapter 3.12). */
enum { S_BASE = 0xAC00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11A7, N_L = 19, N_V = 21, N_T = 28,
       N_S = N_L * N_V * N_T };

/* One stretch between two characters that NFC leaves alone, decomposed. */
typedef struct run {
    uint32_t *chars; /* owned */
    uint8_t *classes; /* owned: canonical combining classes */
    size_t n, cap;
} run;

static uint8_t combining_class(uint32_t c) {
    size_t low = 0, high = cch_n_ccc_ranges;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > cch_ccc_ranges[mid].last) low = mid + 1;
        else high = mid;
    }
    return low < cch_n_ccc_ranges && c >= cch_ccc_ranges[low].first ? cch_ccc_ranges[low].ccc : 0;
}

static const cch_decomposition *find_decomposition(uint32_t c) {
    size_t low = 0, high = cch_n_decompositions;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > cch_decompositions[mid].code_point) low = mid + 1;
        else high = mid;
    }
    return low < cch_n_decompositions && cch_decompositions[low].code_point == c ? &cch_decompositions[low] : NULL;
}

/* The primary composite of two characters, 0 when there is none. */
static uint32_t compose(uint32_t a, uint32_t b) {
    if (a - L_BASE < N_L && b - V_BASE < N_V) return S_BASE + ((a - L_BASE) * N_V + (b - V_BASE)) * N_T;
    if (a - S_BASE < N_S && (a - S_BASE) % N_T == 0 && b - T_BASE - 1 < N_T - 1) return a + (b - T_BASE);
    size_t low = 0, high = cch_n_compositions;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const cch_composition *at = &cch_compositions[mid];
        if (a > at->first || (a == at->first && b > at->second)) low = mid + 1;
        else high = mid;
    }
    const cch_composition *at = &cch_compositions[low];
    return low < cch_n_compositions && at->first == a && at->second == b ? at->composite : 0;
}

static cch_status run_push(run *r, uint32_t c, cch_error *err) {
    if (r->n == r->cap) {
        size_t cap = r->cap * 2 + 32;
        uint32_t *chars = cch_resize(r->chars, cap, sizeof *chars);
        if (chars != NULL) r->chars = chars;
        uint8_t *classes = chars == NULL ? NULL : cch_resize(r->classes, cap, 1);
        if (classes == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu characters", cap);
        r->classes = classes;
        r->cap = cap;
    }
    r->chars[r->n] = c;
    r->classes[r->n++] = combining_class(c);
    return CCH_OK;
}

static cch_status run_decompose(run *r, uint32_t c, cch_error *err) {
    if (c - S_BASE < N_S) {
        uint32_t s = c - S_BASE;
        CCH_RETURN_IF(run_push(r, L_BASE + s / (N_V * N_T), err));
        CCH_RETURN_IF(run_push(r, V_BASE + s % (N_V * N_T) / N_T, err));
        return s % N_T == 0 ? CCH_OK : run_push(r, T_BASE + s % N_T, err);
    }
    const cch_decomposition *d = find_decomposition(c);
    if (d == NULL) return run_push(r, c, err);
    for (size_t i = 0; i < d->len; i++) CCH_RETURN_IF(run_push(r, cch_decomposed[d->at + i], err));
    return CCH_OK;
}

/* Sorts each stretch of combining characters by class, equal classes in the order they came: a counting sort over the
 * 256 classes, since a stretch may be as long as the text.  `spare` is as long as the run. */
static void run_order(run *r, run *spare) {
    for (size_t first = 0, last; first < r->n; first = last + (last == first)) {
        size_t at[256] = {0}, sum = first;
        bool sorted = true;
        for (last = first; last < r->n && r->classes[last] != 0; last++) {
            if (last > first && r->classes[last] < r->classes[last - 1]) sorted = false;
            at[r->classes[last]]++;
        }
        if (sorted) continue;
        for (size_t class = 0; class < 256; class++) {
            size_t count = at[class];
            at[class] = sum;
            sum += count;
        }
        for (size_t i = first; i < last; i++) spare->chars[at[r->classes[i]]++] = r->chars[i];
        memcpy(r->chars + first, spare->chars + first, (last - first) * sizeof *r->chars);
        for (size_t i = first; i < last; i++) r->classes[i] = combining_class(r->chars[i]);
    }
}

/* Canonical composition in place (UAX #15): a character joins the last starter unless one of its own class or a
 * starter that did not join stands between. */
static void run_compose(run *r) {
    size_t starter = SIZE_MAX, n = 0;
    uint8_t last_class = 0;
    for (size_t i = 0; i < r->n; i++) {
        uint32_t c = r->chars[i];
        uint8_t class = r->classes[i];
        bool adjacent = starter != SIZE_MAX && starter + 1 == n;
        if (starter != SIZE_MAX && (adjacent || (last_class < class && last_class != 0))) {
            uint32_t composite = compose(r->chars[starter], c);
            if (composite != 0) {
                r->chars[starter] = composite;
                continue;
            }
        }
        if (class == 0) starter = n;
        last_class = class;
        r->chars[n++] = c;
    }
    r->n = n;
}

size_t cch_nfc_unchanged(const char *text, size_t len) {
    const uint8_t *p = (const uint8_t *)text;
    size_t at = 0, last = 0, char_len;
    while (at < len) {
        if (p[at] < 0xCC) { /* below U+0300 nothing combines */
            last = at;
            at += p[at] < 0x80 ? 1 : 2;
            continue;
        }
        if (cch_class_at(p + at, &char_len) & CCH_UNI_COMBINING) return last;
        last = at;
        at += char_len;
    }
    return len;
}

size_t cch_nfd_unchanged(const char *text, size_t len) {
    const uint8_t *p = (const uint8_t *)text;
    size_t at = 0, char_len;
    for (; at < len; at += char_len) {
        char_len = 1;
        if (p[at] >= 0x80 && (cch_class_at(p + at, &char_len) & CCH_UNI_DECOMPOSES)) break;
    }
    return at;
}

/* NFC or NFD of the stretch text [len], which starts with a character that nothing before it joins or changes places
 * with, and ends before another. */
static cch_status write_stretch(const uint8_t *text, size_t len, bool composed, run *r, run *spare, cch_bytes *out,
                                cch_error *err) {
    size_t char_len;
    char utf8[4];
    r->n = spare->n = 0;
    for (size_t at = 0; at < len; at += char_len)
        CCH_RETURN_IF(run_decompose(r, cch_char_at(text + at, &char_len), err));
    while (spare->cap < r->n) {
        spare->n = spare->cap;
        CCH_RETURN_IF(run_push(spare, 0, err));
    }
    run_order(r, spare);
    if (composed) run_compose(r);
    for (size_t i = 0; i < r->n; i++)
        CCH_RETURN_IF(cch_bytes_append(out, utf8, cch_utf8_encode(r->chars[i], utf8), err));
    return CCH_OK;
}

cch_status cch_nfc(const char *text, size_t len, cch_bytes *out, cch_error *err) {
    cch_status status = CCH_OK;
    run r = {0}, spare = {0};
    for (size_t at = 0, stop; at < len; at = stop) {
        size_t char_len, plain = cch_nfc_unchanged(text + at, len - at);
        CCH_TRY(cch_bytes_append(out, text + at, plain, err));
        at += plain;
        stop = at;
        if (at == len) break;
        cch_char_at((const uint8_t *)text + stop, &char_len); /* the character the combining ones may join */
        stop += char_len;
        while (stop < len && (cch_class_at((const uint8_t *)text + stop, &char_len) & CCH_UNI_COMBINING))
            stop += char_len;
        CCH_TRY(write_stretch((const uint8_t *)text + at, stop - at, true, &r, &spare, out, err));
    }
done:
    cch_free(r.chars);
    cch_free(r.classes);
    cch_free(spare.chars);
    cch_free(spare.classes);
    return status;
}

cch_status cch_nfd(const char *text, size_t len, cch_bytes *out, cch_error *err) {
    cch_status status = CCH_OK;
    run r = {0}, spare = {0};
    for (size_t at = 0, stop; at < len; at = stop) {
        size_t char_len, plain = cch_nfd_unchanged(text + at, len - at);
        CCH_TRY(cch_bytes_append(out, text + at, plain, err));
        at += plain;
        stop = at;
        while (stop < len && (cch_class_at((const uint8_t *)text + stop, &char_len) & CCH_UNI_DECOMPOSES))
            stop += char_len;
        CCH_TRY(write_stretch((const uint8_t *)text + at, stop - at, false, &r, &spare, out, err));
    }
done:
    cch_free(r.chars);
    cch_free(r.classes);
    cch_free(spare.chars);
    cch_free(spare.classes);
    return status;
}

/* -------------------------------------------------------------------------------------------------- steps ---- */

cch_status cch_replace(const char *text, size_t len, const char *from, size_t from_len, const char *to, size_t to_len,
                       cch_bytes *out, cch_error *err) {
    for (size_t at = 0; at < len;) {
        const char *hit = from_len == 1 ? memchr(text + at, from[0], len - at)
                                        : memmem(text + at, len - at, from, from_len);
        size_t stop = hit == NULL ? len : (size_t)(hit - text);
        CCH_RETURN_IF(cch_bytes_append(out, text + at, stop - at, err));
        if (hit == NULL) break;
        CCH_RETURN_IF(cch_bytes_append(out, to, to_len, err));
        at = stop + from_len;
    }
    return CCH_OK;
}

cch_status cch_normalize(const cch_normalizer *n, bool prepend, cch_bytes buffers[2], const char **text, size_t *len,
                         cch_error *err) {
    for (size_t i = 0; i < n->n_steps && *len > 0; i++) {
        const struct cch_normalizer_step *step = &n->steps[i];
        if (step->kind == CCH_NORMALIZE_PREPEND && !prepend) continue;
        cch_bytes *out = *text == buffers[0].data ? &buffers[1] : &buffers[0];
        out->n = 0;
        switch (step->kind) {
        case CCH_NORMALIZE_NFC:
            if (cch_nfc_unchanged(*text, *len) == *len) continue;
            CCH_RETURN_IF(cch_nfc(*text, *len, out, err));
            break;
        case CCH_NORMALIZE_NFD:
            if (cch_nfd_unchanged(*text, *len) == *len) continue;
            CCH_RETURN_IF(cch_nfd(*text, *len, out, err));
            break;
        case CCH_NORMALIZE_FOLD:
            if (cch_fold_unchanged(step->fold, *text, *len) == *len) continue;
            CCH_RETURN_IF(cch_fold(step->fold, *text, *len, out, err));
            break;
        case CCH_NORMALIZE_PREPEND:
            CCH_RETURN_IF(cch_bytes_append(out, step->to, step->to_len, err));
            CCH_RETURN_IF(cch_bytes_append(out, *text, *len, err));
            break;
        case CCH_NORMALIZE_REPLACE:
            CCH_RETURN_IF(cch_replace(*text, *len, step->from, step->from_len, step->to, step->to_len, out, err));
            break;
        }
        *text = out->data;
        *len = out->n;
    }
    return CCH_OK;
}
