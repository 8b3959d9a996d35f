#include "gen/lookup.h"

#include <string.h>

#include "base/alloc.h"

enum { SHORTEST = 2, LONGEST = 3, N_TABLES = 2, LEAST_BITS = 10, MOST_BITS = 28, MEMORY = 8 };

void cch_lookup_deinit(cch_lookup *lookup) {
    for (int i = 0; i < N_TABLES; i++) cch_free(lookup->places[i]);
    *lookup = (cch_lookup){0};
}

/* The table's entry for the `length` tokens before `end`. */
static int32_t *place(const cch_lookup *lookup, const int32_t *history, int32_t end, int32_t length) {
    uint64_t hash = 0;
    for (int32_t i = end - length; i < end; i++)
        hash = (hash ^ (uint64_t)(uint32_t)history[i]) * UINT64_C(0x9E3779B97F4A7C15);
    return &lookup->places[length - SHORTEST][hash >> (64 - lookup->bits)];
}

static void note(const cch_lookup *lookup, const int32_t *history, int32_t end) {
    for (int32_t length = SHORTEST; length <= LONGEST && length <= end; length++)
        *place(lookup, history, end, length) = end;
}

cch_status cch_lookup_reserve(cch_lookup *lookup, const int32_t *history, int32_t n, cch_error *err) {
    cch_status status = CCH_OK;
    int32_t bits = LEAST_BITS, *fresh[N_TABLES] = {NULL, NULL};
    while (bits < MOST_BITS && (1 << bits) < 2 * (int64_t)n) bits++; /* few share a place */
    if (bits <= lookup->bits) return CCH_OK;
    for (int i = 0; i < N_TABLES; i++) CCH_ZNEW(fresh[i], (size_t)1 << bits, err);
    for (int i = 0; i < N_TABLES; i++) {
        cch_free(lookup->places[i]);
        lookup->places[i] = fresh[i];
        fresh[i] = NULL;
    }
    lookup->bits = bits;
    for (int32_t end = 1; end <= lookup->n_seen; end++) note(lookup, history, end);
done:
    cch_free(fresh[0]);
    return status;
}

/* Where the last tokens of history [n] stood before: the index behind them, 0: nowhere. */
static int32_t find(const cch_lookup *lookup, const int32_t *history, int32_t n) {
    for (int32_t length = LONGEST; length >= SHORTEST; length--) {
        if (n <= length) continue;
        int32_t at = *place(lookup, history, n, length);
        if (at < length || at >= n) continue;
        if (memcmp(history + at - length, history + n - length, (size_t)length * sizeof *history) == 0) return at;
    }
    return 0;
}

/* history [n] has got its last token. */
static void judge(cch_lookup *lookup, const int32_t *history, int32_t n) {
    if (lookup->source == 0) return;
    bool right = history[lookup->source] == history[n - 1];
    lookup->rate += ((right ? CCH_LOOKUP_ONE : 0) - lookup->rate) / MEMORY;
    lookup->source = right ? lookup->source + 1 : 0;
}

void cch_lookup_see(cch_lookup *lookup, const int32_t *history, int32_t n, int32_t drawn) {
    for (int32_t end = lookup->n_seen + 1; end <= n; end++) {
        if (end > drawn) judge(lookup, history, end);
        if (end >= drawn && lookup->source == 0) lookup->source = find(lookup, history, end);
        note(lookup, history, end);
    }
    lookup->n_seen = n;
}

int32_t cch_lookup_length(const cch_lookup *lookup, int32_t n_rows, int32_t rows) {
    int32_t most = rows / n_rows - 1, length = 0;
    int64_t right = lookup->rate;
    if (lookup->source == 0) return 0;
    if (most > CCH_LOOKUP_MOST) most = CCH_LOOKUP_MOST;
    for (; length < most && right * rows > (int64_t)n_rows * CCH_LOOKUP_ONE; length++)
        right = right * lookup->rate / CCH_LOOKUP_ONE;
    return length;
}

void cch_lookup_guess(const cch_lookup *lookup, const int32_t *history, int32_t n, int32_t *dst) {
    for (int32_t i = 0; i < n; i++) {
        int32_t from = lookup->source + i;
        dst[i] = from < lookup->n_seen ? history[from] : dst[from - lookup->n_seen];
    }
}
