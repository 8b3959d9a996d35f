/* simd_products - rows times packed weights in f32, bf16 and 8-bit numbers; included once by each kern_<isa>.c after
 * simd_tiles.h.  One walk for all formats: a word of weights is one, two or four of them. */

#define K_BLOCK 1024 /* 4 panels of so many words, and the next 4, stay in half of a 1 MiB cache */
#define FEW_TILES 4  /* so many passes or fewer are near the bound of memory: they take turns at short blocks, of */
#define K_SHORT 96   /* which the next comes from memory meanwhile, and this one stays in the first-level cache */
#define AHEAD 24     /* lines between fetching a weight and using it */
#define NEAR_PANEL 128 /* floats between fetching a weight from the second-level cache and using it */
#define NEAR_ROWS 256  /* the same of rows that were dealt */

/* ------------------------------------------------------------------------------------------------ tiles ---- */

#ifndef TILE_REGISTERS
#define BF16_FUNCTION(R, C) static void bf16_##R##x##C(const tile *t) { run_tile(t, WORD_BF16, R, C); }
TILE_LIST(BF16_FUNCTION) WIDE_LIST(BF16_FUNCTION)
#define BF16_ENTRY(R, C) [(R) - 1][(C) - 1] = bf16_##R##x##C,
static tile_table bf16_tiles = {TILE_LIST(BF16_ENTRY) WIDE_LIST(BF16_ENTRY)};
#endif

/* R rows, dealt, over C panels, which are read from the second-level cache: what is wanted next of all three comes into
 * the first-level one meanwhile. */
INLINE void run_dealt(const tile *t, const int R, const int C) {
    v16 acc[TILE_ROWS][TILE_PANELS];
    const float *w[TILE_PANELS], *ahead[TILE_PANELS], *x = t->x;
    const size_t end = t->k_len * CCH_LANES;
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) w[c] = t->w[c], ahead[c] = t->ahead[c];
    for (size_t r = 0; r < (size_t)R; r++)
        for (size_t c = 0; c < (size_t)C; c++) __builtin_prefetch(t->y + r * t->ldy + CCH_LANES * c, 1, 3);
    begin_tile(t, acc, R, C);
    for (size_t at = 0; at < end; at += CCH_LANES, x += R) {
        step(acc, WORD_F32, R, C, x, 1, w, at);
        __builtin_prefetch(x + NEAR_ROWS, 0, 3);
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) {
            __builtin_prefetch(w[c] + at + NEAR_PANEL, 0, 3);
            __builtin_prefetch(ahead[c] + at, 0, 2);
        }
    }
    end_tile(t, acc, R, C);
}

#define DEALT_FUNCTION(R, C) static void dealt_##R##x##C(const tile *t) { run_dealt(t, R, C); }
DEALT_LIST(DEALT_FUNCTION)
#define DEALT_ENTRY(R, C) [(R) - 1][(C) - 1] = dealt_##R##x##C,
static tile_table dealt_tiles = {DEALT_LIST(DEALT_ENTRY)};

/* One word of 8-bit numbers: acc[r][c] += their four products, weights taken as unsigned: 128 more than they are, which
 * the sums' beginnings make up for. */
INLINE void step_int8(i16 acc[TILE_ROWS][TILE_PANELS], const int R, const int C, const float *x, size_t ldx,
                      const float *const *w, size_t offset) {
    const v16 signs = v_set1(-0x1.0101p-126f); /* 0x80808080 */
    i16 wk[TILE_PANELS];
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) wk[c] = i_cast(v_xor(v_load(w[c] + offset), signs));
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        const i16 xk = i_cast(v_word(x + (size_t)r * ldx));
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) acc[r][c] = i_dot(acc[r][c], xk, wk[c]);
    }
}

/* The integer sums of one group, scaled and added to the chains. */
INLINE void run_group(const tile *t, v16 sum[TILE_ROWS][TILE_PANELS], const int R, const int C, size_t k, size_t end) {
    const size_t group = k / CCH_GROUP_WORDS;
    i16 acc[TILE_ROWS][TILE_PANELS];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        const i16 first = i_cast(v_word(t->offsets + (size_t)r * t->ldx + group));
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) acc[r][c] = first;
    }
    for (; k < end; k++) {
        step_int8(acc, R, C, t->x + k, t->ldx, t->w, k * CCH_LANES);
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) __builtin_prefetch(t->ahead[c] + k * CCH_LANES, 0, 2);
    }
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) {
        const v16 scale = v_load(t->w_scales[c] + group * CCH_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) sum[r][c] = v_fma(i_to_f32(acc[r][c]), scale, sum[r][c]);
    }
}

INLINE void run_tile_int8(const tile *t, const int R, const int C) {
    v16 sum[TILE_ROWS][TILE_PANELS];
    begin_tile(t, sum, R, C);
    for (size_t k = 0, end; k < t->k_len; k = end) {
        end = t->k_len - k < CCH_GROUP_WORDS ? t->k_len : k + CCH_GROUP_WORDS;
        run_group(t, sum, R, C, k, end);
    }
    end_tile(t, sum, R, C);
}

#define INT8_FUNCTION(R, C) static void int8_##R##x##C(const tile *t) { run_tile_int8(t, R, C); }
TILE_LIST(INT8_FUNCTION) WIDE_LIST(INT8_FUNCTION)
#define INT8_ENTRY(R, C) [(R) - 1][(C) - 1] = int8_##R##x##C,
static tile_table int8_tiles = {TILE_LIST(INT8_ENTRY) WIDE_LIST(INT8_ENTRY)};

/* ---------------------------------------------------------------------------------------- rows as words ---- */

/* Lanes of x [n] from i on, zeros behind its end.  Most are whole, and masks cost as much as the work here. */
INLINE v16 v_load_upto(const float *x, size_t i, size_t n) {
    if (i + CCH_LANES <= n) return v_load(x + i);
    return i < n ? v_load_m(m_range(0, n - i), x + i) : v_zero();
}

static void round_bf16(const float *x, size_t n, float *words) {
    uint16_t *out = (uint16_t *)(void *)words;
    const size_t end = 2 * cch_n_words(n, 2); /* a multiple of the lanes */
    for (size_t i = 0; i < end; i += CCH_LANES) v_store_bf16(out + i, v_load_upto(x, i, n));
}

/* The largest magnitude, NaN if any is NaN. */
static float magnitude(const float *x, size_t n) {
    v16 most[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    m16 nan = m_range(0, 0);
    for (size_t i = 0; i < n; i += 4 * CCH_LANES) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            const v16 a = v_load_upto(x, i + j * CCH_LANES, n);
            most[j] = v_max(most[j], v_abs(a));
            nan = m_or(nan, m_nan(a));
        }
    }
    return m_bits(nan) != 0 ? NAN : v_largest4(most);
}

static void quantize_int8(const float *x, size_t n, float *words) {
    const size_t k_words = cch_n_words(n, 4), groups = cch_n_groups(k_words);
    const float most = magnitude(x, n);
    const float scale = most < CCH_LEAST_ROW ? 0.0f : most < INFINITY ? most / 127.0f : NAN;
    const v16 steps = v_set1(127.0f / most);
    int8_t *out = (int8_t *)(void *)words;
    for (size_t g = 0; g < groups; g++) {
        const size_t first = 4 * CCH_GROUP_WORDS * g, room = 4 * k_words - first;
        const size_t end = first + (room < 4 * CCH_GROUP_WORDS ? room : 4 * CCH_GROUP_WORDS);
        i16 sum = i_set1(0);
        for (size_t i = first; i < end; i += CCH_LANES)
            sum = v_store_i8(out + i, scale > 0.0f ? v_round(v_mul(v_load_upto(x, i, n), steps)) : v_zero(), sum);
        const int32_t offset = -128 * i_sum(sum);
        memcpy(words + k_words + g, &offset, sizeof offset);
    }
    memcpy(words + k_words + groups, &scale, sizeof scale);
}

/* ------------------------------------------------------------------------------------------------- walk ---- */

/* The block of words that starts at `k` ends here, at a multiple of `unit`.  Many passes: blocks that fit the cache.
 * One pass: all but the last lines, which have nothing left to fetch in their own panel and turn to the next group's
 * first lines. */
static size_t block_end(size_t k, size_t k_len, size_t n_tiles, size_t unit) {
    const size_t least = n_tiles > FEW_TILES ? K_BLOCK : K_SHORT, block = (least + unit - 1) / unit * unit;
    const size_t head = k_len > AHEAD ? (k_len - AHEAD) / unit * unit : 0;
    if (n_tiles == 1) return k == 0 && head > 0 ? head : k_len;
    return k_len - k <= block ? k_len : k + block;
}

/* y [rows, ldy] = x [rows, ldx] times n_panels panels [k_len][16].  scales [n_panels][groups][16]: of 8-bit weights,
 * else NULL. */
static void multiply(tile_table table, const float *x, size_t ldx, size_t rows, const float *panels,
                     const float *scales, size_t n_panels, size_t k_len, const float *bias, float *y, size_t ldy) {
    const size_t n_tiles = (rows + TILE_ROWS - 1) / TILE_ROWS, groups = cch_n_groups(k_len);
    const size_t unit = scales != NULL ? CCH_GROUP_WORDS : CCH_WORDS;
    if (rows == 0) return;
    for (size_t p = 0, C; p < n_panels; p += C) {
        C = panels_at_once(tile_widths[(rows + n_tiles - 1) / n_tiles - 1], n_panels - p);
        for (size_t k = 0, end = 0; k == 0 || k < k_len; k = end) {
            end = block_end(k, k_len, n_tiles, unit);
            const bool done = end == k_len;
            const float *next[TILE_PANELS];
            tile t = {.x = x + k, .ldx = ldx, .k_len = end - k, .resume = k > 0, .scale = 1.0f,
                      .bias = done && bias != NULL ? bias + CCH_LANES * p : NULL, .y = y + CCH_LANES * p, .ldy = ldy};
            if (scales != NULL) {
                t.offsets = x + k_len + k / CCH_GROUP_WORDS;
                t.row_scale = done ? x + k_len + groups : NULL;
                for (size_t c = 0; c < C; c++)
                    t.w_scales[c] = scales + ((p + c) * groups + k / CCH_GROUP_WORDS) * CCH_LANES;
            }
            for (size_t c = 0; c < C; c++) {
                t.w[c] = panels + ((p + c) * k_len + k) * CCH_LANES;
                next[c] = t.w[c];
                if (!done) next[c] += (n_tiles == 1 ? AHEAD : end - k) * CCH_LANES;
                else if (p + C + c < n_panels) next[c] += (C * k_len - k) * CCH_LANES;
            }
            run_rows(table, t, rows, n_tiles, C, next);
        }
    }
}

static void matmul_f32(const float *x, size_t ldx, size_t rows, const float *panels, size_t n_panels, size_t k_len,
                       const float *bias, float *y, size_t ldy) {
    multiply(tiles, x, ldx, rows, panels, NULL, n_panels, k_len, bias, y, ldy);
}

/* One group of panels after the other passes over all rows; the first passes fetch the next group. */
static void matmul_dealt(const float *dealt, size_t rows, const float *panels, size_t n_panels, size_t k_len,
                         const float *bias, float *y, size_t ldy) {
    const size_t n_tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t p = 0, C; p < n_panels; p += C) {
        C = panels_at_once(tile_widths[TILE_ROWS - 1], n_panels - p);
        for (size_t i = 0; i < n_tiles; i++) {
            const size_t first = cch_tile_row(rows, n_tiles, i), R = cch_tile_row(rows, n_tiles, i + 1) - first;
            tile t = {.x = dealt + first * k_len, .k_len = k_len, .scale = 1.0f, .y = y + first * ldy + CCH_LANES * p,
                      .ldy = ldy, .bias = bias != NULL ? bias + CCH_LANES * p : NULL};
            for (size_t c = 0; c < C; c++) {
                t.w[c] = panels + (p + c) * k_len * CCH_LANES;
                t.ahead[c] = c == i && p + C + c < n_panels ? t.w[c] + C * k_len * CCH_LANES : t.w[c];
            }
            dealt_tiles[R - 1][C - 1](&t);
        }
    }
}

#ifndef TILE_REGISTERS
static void matmul_bf16(const float *x, size_t ldx, size_t rows, const float *panels, size_t n_panels, size_t k_words,
                        const float *bias, float *y, size_t ldy) {
    multiply(bf16_tiles, x, ldx, rows, panels, NULL, n_panels, k_words, bias, y, ldy);
}
#endif

static void matmul_int8(const float *x, size_t ldx, size_t rows, const float *panels, const float *scales,
                        size_t n_panels, size_t k_words, const float *bias, float *y, size_t ldy) {
    multiply(int8_tiles, x, ldx, rows, panels, scales, n_panels, k_words, bias, y, ldy);
}

#define SIMD_TABLE(isa, order, bf16, int8)                                                                        \
    {                                                                                                             \
        .name = isa, .bf16_order = order, .matmul_f32 = matmul_f32, .matmul_dealt = matmul_dealt,                 \
        .deal_rows = TILE_ROWS, .matmul_bf16 = bf16, .matmul_int8 = int8,                                         \
        .round_bf16 = round_bf16, .quantize_int8 = quantize_int8, .rms_norm = rms_norm, .layer_norm = layer_norm, \
        .add = add, .silu_mul = silu_mul, .gelu_tanh_mul = gelu_tanh_mul, .gelu_erf_mul = gelu_erf_mul,           \
        .relu = relu, .rope = rope, .attn_scores = attn_scores, .softmax = softmax, .attn_mix = attn_mix,         \
        .exp_f64 = exp_f64, .dot_f64 = dot_f64, .dot_f32 = dot_f32, .scan_i8 = scan_i8, .pick_i8 = pick_i8,       \
        .scan_signs = scan_signs, .sift_signs = sift_signs, .max_f32 = max_f32                                    \
    }
