/* simd_tiles - matrix products as tiles of R rows x C panels; included once by each kern_<isa>.c after simd_rows.h.
 *
 * A tile keeps R * C accumulators of 16 lanes in registers and walks k upwards: one load per panel and one broadcast
 * per row feed R * C fused multiply-adds.  Whatever R and C are, an output element is the same chain, so the walks
 * below are free to choose tiles by speed alone: panels outside and rows inside, so that a group of panels comes from
 * memory once and is reused from cache by all rows.
 *
 * The ISA gives TILE_ROWS (most rows), TILE_PANELS (most panels), TILE_WIDTHS (panels for 1.. rows) and TILE_LIST (the
 * tiles to be compiled). */

typedef struct tile {
    const float *x; /* R rows */
    size_t ldx;
    const float *w[TILE_PANELS]; /* panels, [k_len][16] each */
    size_t k_len;
    const float *ahead[TILE_PANELS]; /* fetched into cache meanwhile, [k_len][16] each */
    bool resume;       /* continue the chains held in y */
    float scale;       /* y = chain * scale + bias; an intermediate result has scale 1 and no bias */
    const float *bias; /* 16 per panel, NULL for none */
    float *y;
    size_t ldy;
} tile;

/* One k: acc[r][c] = fma(x[r * ldx], w[c][offset ..], acc[r][c]). */
INLINE void step(v16 acc[TILE_ROWS][TILE_PANELS], const int R, const int C, const float *x, size_t ldx,
                 const float *const *w, size_t offset) {
    v16 wk[TILE_PANELS];
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) wk[c] = v_load(w[c] + offset);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        const v16 xk = v_set1(x[(size_t)r * ldx]);
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) acc[r][c] = v_fma(xk, wk[c], acc[r][c]);
    }
}

INLINE void run_tile(const tile *t, const int R, const int C) {
    v16 acc[TILE_ROWS][TILE_PANELS];
    const float *w[TILE_PANELS], *ahead[TILE_PANELS];
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) w[c] = t->w[c], ahead[c] = t->ahead[c];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int c = 0; c < C; c++)
            acc[r][c] = t->resume ? v_load(t->y + (size_t)r * t->ldy + CCH_LANES * c) : v_zero();
    }
    const float *x = t->x;
    const size_t ldx = t->ldx, end = t->k_len * CCH_LANES;
    for (size_t at = 0; at < end; at += CCH_LANES, x++) {
        step(acc, R, C, x, ldx, w, at);
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) __builtin_prefetch(ahead[c] + at, 0, 2);
    }
    const v16 scale = v_set1(t->scale);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) {
            v16 a = v_mul(acc[r][c], scale);
            if (t->bias != NULL) a = v_add(a, v_load(t->bias + CCH_LANES * c));
            v_store(t->y + (size_t)r * t->ldy + CCH_LANES * c, a);
        }
    }
}

#define TILE_FUNCTION(R, C) static void tile_##R##x##C(const tile *t) { run_tile(t, R, C); }
TILE_LIST(TILE_FUNCTION)
#define TILE_ENTRY(R, C) [(R) - 1][(C) - 1] = tile_##R##x##C,
static void (*const tiles[TILE_ROWS][TILE_PANELS])(const tile *) = {TILE_LIST(TILE_ENTRY)};
static const size_t tile_widths[TILE_ROWS] = TILE_WIDTHS;

/* Rows of tile i when `rows` are spread evenly over `n` tiles: [first, last). */
INLINE size_t rows_before(size_t rows, size_t n, size_t i) { return rows * i / n; }

INLINE size_t panels_at_once(size_t width, size_t left) {
    while (width > left) width /= 2;
    return width;
}

/* All rows over one group of C panels.  `next`: the C panels wanted after it; two of them are fetched during each of
 * the first passes, so that memory is read while the arithmetic runs.  A single pass fetches all of them as it goes. */
static void run_rows(tile t, size_t rows, size_t n_tiles, size_t C, const float *const *next) {
    const float *x = t.x;
    float *y = t.y;
    for (size_t i = 0; i < n_tiles; i++) {
        const size_t first = rows_before(rows, n_tiles, i), last = rows_before(rows, n_tiles, i + 1);
        t.x = x + first * t.ldx;
        t.y = y + first * t.ldy;
        for (size_t c = 0; c < C; c++) t.ahead[c] = n_tiles == 1 || c / 2 == i ? next[c] : t.w[c];
        tiles[last - first - 1][C - 1](&t);
    }
}

#define K_BLOCK 1024 /* 4 panels of so many inputs, and the next 4, stay in half of a 1 MiB cache */
#define AHEAD 24     /* lines between fetching a weight and using it */

/* The block of k that starts at `k` ends here.  Many passes: blocks that fit the cache.  One pass: all but the last
 * lines, which have nothing left to fetch in their own panel and turn to the next group's first lines. */
static size_t block_end(size_t k, size_t k_len, bool one_pass) {
    if (one_pass) return k == 0 && k_len > AHEAD ? k_len - AHEAD : k_len;
    return k_len - k <= K_BLOCK ? k_len : k + K_BLOCK;
}

static void matmul_f32(const float *x, size_t ldx, size_t rows, const float *panels, size_t n_panels, size_t k_len,
                       const float *bias, float *y, size_t ldy) {
    if (rows == 0) return;
    const size_t n_tiles = (rows + TILE_ROWS - 1) / TILE_ROWS, most = (rows + n_tiles - 1) / n_tiles;
    for (size_t p = 0, C; p < n_panels; p += C) {
        C = panels_at_once(tile_widths[most - 1], n_panels - p);
        for (size_t k = 0, end = 0; k == 0 || k < k_len; k = end) {
            end = block_end(k, k_len, n_tiles == 1);
            const bool done = end == k_len;
            const float *next[TILE_PANELS];
            tile t = {.x = x + k, .ldx = ldx, .k_len = end - k, .resume = k > 0, .scale = 1.0f,
                      .bias = done && bias != NULL ? bias + CCH_LANES * p : NULL, .y = y + CCH_LANES * p, .ldy = ldy};
            for (size_t c = 0; c < C; c++) {
                t.w[c] = panels + ((p + c) * k_len + k) * CCH_LANES;
                next[c] = t.w[c];
                if (!done) next[c] += (n_tiles == 1 ? AHEAD : end - k) * CCH_LANES;
                else if (p + C + c < n_panels) next[c] += (C * k_len - k) * CCH_LANES;
            }
            run_rows(t, rows, n_tiles, C, next);
        }
    }
}

#define SIMD_TABLE(isa)                                                                                          \
    {                                                                                                            \
        .name = isa, .matmul_f32 = matmul_f32, .rms_norm = rms_norm, .layer_norm = layer_norm, .add = add,       \
        .silu_mul = silu_mul, .gelu_tanh_mul = gelu_tanh_mul, .gelu_erf_mul = gelu_erf_mul, .relu = relu,        \
        .rope = rope, .attn_scores = attn_scores, .softmax = softmax, .attn_mix = attn_mix, .exp_f64 = exp_f64,  \
        .dot_f64 = dot_f64, .dot_f32 = dot_f32, .scan_i8 = scan_i8, .pick_i8 = pick_i8, .scan_signs = scan_signs,\
        .sift_signs = sift_signs, .max_f32 = max_f32                                                             \
    }
