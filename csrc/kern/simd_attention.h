/* simd_attention - scores of queries over K pages, their softmax, and the mix of V pages; included once by each
 * kern_<isa>.c after simd_tiles.h, whose tiles it walks; over pages of bf16 with WORD_HALVES in the place of WORD_F32.
 *
 * Scores are a product whose panels are K pages.  The mix is one of probabilities and V pages, whose rows see different
 * tokens: the tokens that all rows of a tile see are walked together. */

#define HALVES_TILE(R, C) static void tile_halves_##R##x##C(const tile *t) { run_tile(t, WORD_HALVES, R, C); }
TILE_LIST(HALVES_TILE)
#define HALVES_ENTRY(R, C) [(R) - 1][(C) - 1] = tile_halves_##R##x##C,
static tile_table halves_tiles = {TILE_LIST(HALVES_ENTRY)};

/* Pages, or groups of channels, for tiles of up to `rows` rows. */
INLINE size_t attn_panels(size_t rows, size_t left) {
    return panels_at_once(tile_widths[rows - 1] < ATTN_PANELS ? tile_widths[rows - 1] : ATTN_PANELS, left);
}

static void attn_scores(const float *q, size_t ldq, size_t rows, const float *const *k_pages, bool halves,
                        size_t n_pages, size_t dim, float scale, float *s, size_t lds) {
    if (rows == 0) return;
    const size_t n_tiles = (rows + ATTN_ROWS - 1) / ATTN_ROWS, most = (rows + n_tiles - 1) / n_tiles;
    for (size_t p = 0, C; p < n_pages; p += C) {
        C = attn_panels(most, n_pages - p);
        tile t = {.x = q, .ldx = ldq, .k_len = dim, .scale = scale, .y = s + CCH_LANES * p, .ldy = lds};
        const float *next[ATTN_PANELS];
        for (size_t c = 0; c < C; c++) {
            t.w[c] = k_pages[p + c];
            next[c] = k_pages[p + C + c < n_pages ? p + C + c : p + c];
        }
        run_rows(halves ? halves_tiles : tiles, t, rows, n_tiles, C, next);
    }
}

/* --------------------------------------------------------------------------------------------------- softmax ---- */

/* All 16 lanes from i on lie in [first, last): the step needs no mask. */
INLINE bool m_whole(size_t i, size_t first, size_t last) { return first <= i && last >= i + CCH_LANES; }

/* Largest of s[first..last).  Four steps side by side, as their order gives the same. */
INLINE float row_largest(const float *s, size_t first, size_t last) {
    v16 max[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) max[k] = v_set1(-INFINITY);
    for (size_t i = first / CCH_LANES * CCH_LANES; i < last; i += CCH_LANES) {
        if (i >= first && last >= i + 4 * CCH_LANES) {
#pragma GCC unroll 4
            for (size_t k = 0; k < 4; k++) max[k] = v_max(max[k], v_load(s + i + CCH_LANES * k));
            i += 3 * CCH_LANES;
            continue;
        }
        const m16 in = m_of(i, first, last);
        max[0] = v_max(max[0], v_select(in, v_load_m(in, s + i), v_set1(-INFINITY)));
    }
    return v_largest(v_max(v_max(max[0], max[1]), v_max(max[2], max[3])));
}

static void softmax(float *s, size_t first, size_t last) {
    const size_t start = first / CCH_LANES * CCH_LANES;
    const v16 max = v_set1(row_largest(s, first, last));
    v16 sum = v_zero();
    for (size_t i = start; i < last; i += CCH_LANES) {
        if (m_whole(i, first, last)) {
            const v16 e = v_exp(v_sub(v_load(s + i), max));
            sum = v_add(sum, e);
            v_store(s + i, e);
            continue;
        }
        const m16 in = m_of(i, first, last);
        const v16 e = v_exp(v_sub(v_load_m(in, s + i), max));
        sum = v_add(sum, v_select(in, e, v_zero()));
        v_store_m(s + i, in, e);
    }
    const v16 inv = v_set1(1.0f / v_sum(sum));
    for (size_t i = start; i < last; i += CCH_LANES) {
        if (m_whole(i, first, last)) {
            v_store(s + i, v_mul(v_load(s + i), inv));
            continue;
        }
        const m16 in = m_of(i, first, last);
        v_store_m(s + i, in, v_mul(v_load_m(in, s + i), inv));
    }
}

/* ------------------------------------------------------------------------------------------------------- mix ---- */

typedef struct mix {
    const float *p; /* R rows */
    size_t ldp;
    const float *const *v_pages;
    size_t ldv, channel; /* first channel */
    float (*acc)[ATTN_PANELS * CCH_LANES]; /* R chains, continued */
} mix;

/* Chains of R rows x C channel groups continue over tokens [first, last). */
INLINE void run_mix(const mix *m, size_t first, size_t last, const word W, const int R, const int C) {
    v16 acc[TILE_ROWS][TILE_PANELS];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) acc[r][c] = v_load(m->acc[r] + CCH_LANES * c);
    }
    for (size_t t = first, n; t < last; t += n) {
        const size_t slot = t % CCH_LANES;
        const size_t offset = slot * m->ldv + m->channel;
        const float *v = panel_at(W, m->v_pages[t / CCH_LANES], offset), *w[TILE_PANELS];
        n = last - t < CCH_LANES - slot ? last - t : CCH_LANES - slot;
        const float *ahead = t + n < last ? panel_at(W, m->v_pages[t / CCH_LANES + 1], offset) : v;
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) w[c] = panel_at(W, v, (size_t)(CCH_LANES * c));
        for (size_t i = 0; i < n; i++) {
            step(acc, W, R, C, m->p + t + i, m->ldp, w, i * m->ldv);
#pragma GCC unroll 8
            for (int c = 0; c < C; c++)
                __builtin_prefetch(panel_at(W, ahead, i * m->ldv + (size_t)(CCH_LANES * c)), 0, 2);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) v_store(m->acc[r] + CCH_LANES * c, acc[r][c]);
    }
}

typedef void (*const mix_table[TILE_ROWS][TILE_PANELS])(const mix *, size_t, size_t);

#define MIX_FUNCTIONS(R, C)                                                                                            \
    static void mix_##R##x##C(const mix *m, size_t first, size_t last) { run_mix(m, first, last, WORD_F32, R, C); }    \
    static void mix_halves_##R##x##C(const mix *m, size_t first, size_t last) {                                        \
        run_mix(m, first, last, WORD_HALVES, R, C);                                                                    \
    }
TILE_LIST(MIX_FUNCTIONS)
#define MIX_ENTRY(R, C) [(R) - 1][(C) - 1] = mix_##R##x##C,
static mix_table mixes = {TILE_LIST(MIX_ENTRY)};
#define HALVES_MIX_ENTRY(R, C) [(R) - 1][(C) - 1] = mix_halves_##R##x##C,
static mix_table halves_mixes = {TILE_LIST(HALVES_MIX_ENTRY)};

static void mix_one(mix_table table, const mix *m, size_t row, size_t first, size_t last, size_t C) {
    const mix one = {m->p + row * m->ldp, m->ldp, m->v_pages, m->ldv, m->channel, m->acc + row};
    if (first < last) table[0][C - 1](&one, first, last);
}

/* R rows x C channel groups: what only some rows see before and after the common range goes row by row, in order. */
static void mix_rows(mix_table table, const mix *m, const int32_t *first, const int32_t *last, size_t R, size_t C) {
    size_t begin = 0, end = SIZE_MAX;
    for (size_t r = 0; r < R; r++) {
        if ((size_t)first[r] > begin) begin = (size_t)first[r];
        if ((size_t)last[r] < end) end = (size_t)last[r];
    }
    if (end < begin) end = begin;
    for (size_t r = 0; r < R; r++)
        mix_one(table, m, r, (size_t)first[r], (size_t)last[r] < begin ? (size_t)last[r] : begin, C);
    if (begin < end) table[R - 1][C - 1](m, begin, end);
    for (size_t r = 0; r < R; r++) mix_one(table, m, r, end, (size_t)last[r], C);
}

static void attn_mix(const float *p, size_t ldp, size_t rows, const float *const *v_pages, bool halves,
                     const int32_t *first, const int32_t *last, size_t dim, size_t ldv, bool resume, float *out,
                     size_t ldo) {
    if (rows == 0) return;
    const size_t n_tiles = (rows + ATTN_ROWS - 1) / ATTN_ROWS, most = (rows + n_tiles - 1) / n_tiles;
    const size_t n_groups = (dim + CCH_LANES - 1) / CCH_LANES;
    for (size_t i = 0; i < n_tiles; i++) {
        const size_t row = cch_tile_row(rows, n_tiles, i), R = cch_tile_row(rows, n_tiles, i + 1) - row;
        for (size_t g = 0, C; g < n_groups; g += C) {
            float acc[ATTN_ROWS][ATTN_PANELS * CCH_LANES] = {{0}};
            const size_t c = g * CCH_LANES;
            C = attn_panels(most, n_groups - g);
            const size_t width = C * CCH_LANES < dim - c ? C * CCH_LANES : dim - c;
            const mix m = {p + row * ldp, ldp, v_pages, ldv, c, acc};
            for (size_t r = 0; resume && r < R; r++) memcpy(acc[r], out + (row + r) * ldo + c, width * sizeof(float));
            mix_rows(halves ? halves_mixes : mixes, &m, first + row, last + row, R, C);
            for (size_t r = 0; r < R; r++) memcpy(out + (row + r) * ldo + c, acc[r], width * sizeof(float));
        }
    }
}
