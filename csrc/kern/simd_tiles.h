/* simd_tiles - tiles of R rows x C panels; included once by each kern_<isa>.c after simd_rows.h.  Attention and
 * products with weights, which are made of them, follow in simd_attention.h and simd_products.h.
 *
 * A tile keeps R * C accumulators of 16 lanes in registers and walks k upwards: one load per panel and one broadcast
 * per row feed R * C fused multiply-adds.  Whatever R and C are, an output element is the same chain, so the walks
 * below are free to choose tiles by speed alone: panels outside and rows inside, so that a group of panels comes from
 * memory once and is reused from cache by all rows.
 *
 * The ISA gives TILE_ROWS (most rows), TILE_PANELS (most panels), TILE_WIDTHS (panels for 1.. rows), TILE_LIST (the
 * tiles to be compiled) and WIDE_LIST (those of products alone: few rows wait for memory, which gives more when it is
 * read in more places; the heads of attention are a few groups of channels). */
#define ATTN_ROWS 6
#define ATTN_PANELS 4

typedef struct tile {
    const float *x; /* R rows of words (kern/kernels.h): what is said of k_len counts words, too */
    size_t ldx;
    const float *w[TILE_PANELS]; /* panels, [k_len][16] each */
    size_t k_len;
    const float *ahead[TILE_PANELS]; /* fetched into cache meanwhile, [k_len][16] each */
    bool resume;       /* continue the chains held in y */
    float scale;       /* y = chain * scale + bias; an intermediate result has scale 1 and no bias */
    const float *bias; /* 16 per panel, NULL for none */
    float *y;
    size_t ldy;
    /* Of 8-bit weights: */
    const float *w_scales[TILE_PANELS]; /* [groups][16] */
    const float *offsets;   /* of the first row and group: where the sums of its groups begin, int32 */
    const float *row_scale; /* of the first row, in the place of scale; NULL for an intermediate result */
} tile;

typedef enum word {
    WORD_F32,
    WORD_BF16,
    WORD_HALVES /* rows of f32, panels of single bf16 numbers */
} word;

/* Element i of a panel, and 16 of them. */
INLINE const float *panel_at(const word W, const float *w, size_t i) {
    return W == WORD_HALVES ? (const float *)(const void *)((const uint16_t *)(const void *)w + i) : w + i;
}
INLINE v16 panel_load(const word W, const float *w, size_t i) {
    return W == WORD_HALVES ? v_load_bf16(panel_at(W, w, i)) : v_load(w + i);
}

/* One word in all lanes. */
INLINE v16 v_word(const float *p) {
    float bits;
    memcpy(&bits, p, sizeof bits);
    return v_set1(bits);
}

/* One word: acc[r][c] += x[r * ldx] * w[c][offset ..]. */
INLINE void step(v16 acc[TILE_ROWS][TILE_PANELS], const word W, const int R, const int C, const float *x, size_t ldx,
                 const float *const *w, size_t offset) {
    v16 wk[TILE_PANELS];
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) wk[c] = panel_load(W, w[c], offset);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        const v16 xk = v_word(x + (size_t)r * ldx);
#pragma GCC unroll 8
        for (int c = 0; c < C; c++)
            acc[r][c] = W == WORD_BF16 ? v_dot_bf16(acc[r][c], xk, wk[c]) : v_fma(xk, wk[c], acc[r][c]);
    }
}

INLINE void begin_tile(const tile *t, v16 acc[TILE_ROWS][TILE_PANELS], const int R, const int C) {
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int c = 0; c < C; c++)
            acc[r][c] = t->resume ? v_load(t->y + (size_t)r * t->ldy + CCH_LANES * c) : v_zero();
    }
}

INLINE void end_tile(const tile *t, v16 acc[TILE_ROWS][TILE_PANELS], const int R, const int C) {
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        const v16 scale = t->row_scale != NULL ? v_word(t->row_scale + (size_t)r * t->ldx) : v_set1(t->scale);
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) {
            v16 a = v_mul(acc[r][c], scale);
            if (t->bias != NULL) a = v_add(a, v_load(t->bias + CCH_LANES * c));
            v_store(t->y + (size_t)r * t->ldy + CCH_LANES * c, a);
        }
    }
}

INLINE void run_tile(const tile *t, const word W, const int R, const int C) {
    v16 acc[TILE_ROWS][TILE_PANELS];
    const float *w[TILE_PANELS], *ahead[TILE_PANELS], *x = t->x;
    const size_t ldx = t->ldx, end = t->k_len * CCH_LANES;
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) w[c] = t->w[c], ahead[c] = t->ahead[c];
    begin_tile(t, acc, R, C);
    for (size_t at = 0; at < end; at += CCH_LANES, x++) {
        step(acc, W, R, C, x, ldx, w, at);
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) __builtin_prefetch(panel_at(W, ahead[c], at), 0, 2);
    }
    end_tile(t, acc, R, C);
}

typedef void (*const tile_table[TILE_ROWS][TILE_PANELS])(const tile *);

#define TILE_FUNCTION(R, C) static void tile_##R##x##C(const tile *t) { run_tile(t, WORD_F32, R, C); }
TILE_LIST(TILE_FUNCTION) WIDE_LIST(TILE_FUNCTION)
#define TILE_ENTRY(R, C) [(R) - 1][(C) - 1] = tile_##R##x##C,
static tile_table tiles = {TILE_LIST(TILE_ENTRY) WIDE_LIST(TILE_ENTRY)};
static const size_t tile_widths[TILE_ROWS] = TILE_WIDTHS;

INLINE size_t panels_at_once(size_t width, size_t left) {
    while (width > left) width = width > 4 ? 4 : width / 2;
    return width;
}

/* All rows over one group of C panels.  `next`: the C panels wanted after it, which the passes fetch in turns, so that
 * memory is read while the arithmetic runs; a single pass fetches all of them as it goes. */
static void run_rows(tile_table table, tile t, size_t rows, size_t n_tiles, size_t C, const float *const *next) {
    const float *x = t.x, *offsets = t.offsets, *row_scale = t.row_scale;
    float *y = t.y;
    for (size_t i = 0; i < n_tiles; i++) {
        const size_t first = cch_tile_row(rows, n_tiles, i), last = cch_tile_row(rows, n_tiles, i + 1);
        t.x = x + first * t.ldx;
        t.y = y + first * t.ldy;
        if (offsets != NULL) t.offsets = offsets + first * t.ldx;
        if (row_scale != NULL) t.row_scale = row_scale + first * t.ldx;
        for (size_t c = 0; c < C; c++) t.ahead[c] = c % n_tiles == i ? next[c] : t.w[c];
        table[last - first - 1][C - 1](&t);
    }
}

