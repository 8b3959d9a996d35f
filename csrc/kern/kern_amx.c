/* kern_amx - AVX-512 with VNNI and BF16, and products of 16-bit and 8-bit weights on tiles of registers (AMX).
 *
 * A tile instruction multiplies 16 rows of 16 words with 16 words of a panel; rows that are fewer leave the rest of a
 * tile unused, which costs nothing where memory is the bound.  Weights and rows lie in memory as tiles want them. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma,"   \
                                                   "amx-tile,amx-bf16,amx-int8"))),                                  \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma,amx-tile,amx-bf16,amx-int8")
#endif

#define NATIVE_DOTS
#define TILE_REGISTERS
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kern/simd_avx512.h"

#define T_ROWS ((size_t)16)          /* of a tile */
#define B_ROWS (2 * T_ROWS)          /* of a block */
#define CHUNK_BYTES ((size_t)512 << 10) /* of panels that all rows pass over in turn: a quarter of a 2 MiB cache */
#define T_AHEAD ((size_t)64)         /* words between fetching a weight and using it */
#define WORTH_TILES 4                /* rows from which on tiles are faster for 8-bit weights */

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Registers 0 to 3 hold sums: rows below are 0 and 1 (16 of them, or all there are), 2 and 3 the next `more` rows; 4
 * and 5 these rows of x; 6 and 7 words of two panels. */
static void configure(size_t rows, size_t more) {
    tile_config c = {.palette = 1};
    const size_t of[8] = {rows, rows, more, more, rows, more, CCH_WORDS, CCH_WORDS};
    for (int i = 0; i < 8; i++) {
        c.rows[i] = (uint8_t)of[i];
        c.row_bytes[i] = of[i] > 0 ? 64 : 0;
    }
    __asm__ volatile("" : : "r"(&c) : "memory"); /* compilers believe that the next line reads 8 bytes */
    _tile_loadconfig(&c);
}

/* Rows of words times panels: up to 32 rows and two panels (one where only one is left). */
typedef struct block {
    const float *x;     /* of the first row */
    size_t ldx;         /* words */
    const float *w[2];  /* words [k_len][16] of each panel */
    const float *ahead[2]; /* as many words of each, fetched meanwhile; NULL: nothing */
    size_t k_len;
    bool two_panels, more_rows;
} block;

INLINE void fetch(const block *b, size_t k) {
    for (int c = 0; c < 2; c++) {
        if (b->ahead[c] == NULL) continue;
        const float *line = b->ahead[c] + k * CCH_LANES;
#pragma GCC unroll 16
        for (size_t i = 0; i < CCH_WORDS; i++) __builtin_prefetch(line + i * CCH_LANES, 0, 3);
    }
}

/* Registers 0 to 3 += x w; `dot` is the instruction of the format. */
#define MULTIPLY_BLOCK(b, dot)                                                              \
    for (size_t i = 0; i < (b)->k_len; i += CCH_WORDS) {                                    \
        fetch(b, i);                                                                        \
        _tile_loadd(4, (b)->x + i, (b)->ldx * sizeof(float));                               \
        _tile_loadd(6, (b)->w[0] + i * CCH_LANES, 64);                                      \
        dot(0, 4, 6);                                                                       \
        if ((b)->two_panels) {                                                              \
            _tile_loadd(7, (b)->w[1] + i * CCH_LANES, 64);                                  \
            dot(1, 4, 7);                                                                   \
        }                                                                                   \
        if (!(b)->more_rows) continue;                                                      \
        _tile_loadd(5, (b)->x + T_ROWS * (b)->ldx + i, (b)->ldx * sizeof(float));           \
        dot(2, 5, 6);                                                                       \
        if ((b)->two_panels) dot(3, 5, 7);                                                  \
    }

static void zero_sums(const block *b) {
    _tile_zero(0);
    if (b->two_panels) _tile_zero(1);
    if (!b->more_rows) return;
    _tile_zero(2);
    if (b->two_panels) _tile_zero(3);
}

static void load_sums(const block *b, const float *y, size_t ldy) {
    const size_t bytes = ldy * sizeof *y;
    _tile_loadd(0, y, bytes);
    if (b->two_panels) _tile_loadd(1, y + CCH_LANES, bytes);
    if (!b->more_rows) return;
    _tile_loadd(2, y + T_ROWS * ldy, bytes);
    if (b->two_panels) _tile_loadd(3, y + T_ROWS * ldy + CCH_LANES, bytes);
}

static void store_sums(const block *b, float *y, size_t ldy) {
    const size_t bytes = ldy * sizeof *y;
    _tile_stored(0, y, bytes);
    if (b->two_panels) _tile_stored(1, y + CCH_LANES, bytes);
    if (!b->more_rows) return;
    _tile_stored(2, y + T_ROWS * ldy, bytes);
    if (b->two_panels) _tile_stored(3, y + T_ROWS * ldy + CCH_LANES, bytes);
}

static void add_bias(float *y, size_t ldy, size_t rows, size_t n, const float *bias) {
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i += CCH_LANES)
            v_store(y + r * ldy + i, v_add(v_load(y + r * ldy + i), v_load(bias + i)));
}

/* One product. */
typedef struct tiled {
    const float *x, *panels, *scales, *bias;
    size_t ldx, rows, n_panels, k_words, ldy;
    float *y;
} tiled;

/* Rows [first, first + n), n <= 32, of the pair of panels at p, for words [k, k + k_len of the block). */
typedef void (*block_step)(const tiled *t, const block *b, size_t first, size_t n, size_t p, size_t k);

/* The block's x and panels for words [k, end). */
static block block_at(const tiled *t, size_t first, size_t n, size_t p, size_t k, size_t end) {
    block b = {.x = t->x + first * t->ldx + k, .ldx = t->ldx, .k_len = end - k, .two_panels = p + 1 < t->n_panels,
               .more_rows = n > T_ROWS};
    for (size_t c = 0; c < 2; c++) b.w[c] = t->panels + ((p + c) * t->k_words + k) * CCH_LANES;
    return b;
}

static void configure_for(size_t n) {
    configure(n < T_ROWS ? n : T_ROWS, n > T_ROWS ? n - T_ROWS : 0);
}

/* The first n rows, up to 32, bound by memory: panels [p0, p1) are read from front to back, and T_AHEAD words behind
 * those at work, or at a panel's end the first of the next pair, are fetched. */
static void first_rows(const tiled *t, block_step run, size_t p0, size_t p1, size_t n) {
    const size_t head = t->k_words > T_AHEAD ? (t->k_words - T_AHEAD) / CCH_GROUP_WORDS * CCH_GROUP_WORDS : 0;
    configure_for(n);
    for (size_t p = p0; p < p1; p += 2) {
        for (size_t k = 0, end; k < t->k_words; k = end) {
            end = k < head ? head : t->k_words;
            block b = block_at(t, 0, n, p, k, end);
            const bool inside = end < t->k_words;
            for (size_t c = 0; c < 2; c++)
                if (p + c + (inside ? 0 : 2) < t->n_panels)
                    b.ahead[c] = b.w[c] + (inside ? T_AHEAD : 2 * t->k_words - k) * CCH_LANES;
            run(t, &b, 0, n, p, k);
        }
    }
}

/* n rows from `first` on, and panels that are in the second-level cache. */
static void later_rows(const tiled *t, block_step run, size_t p0, size_t p1, size_t first, size_t n) {
    for (size_t p = p0; p < p1; p += 2) {
        const block b = block_at(t, first, n, p, 0, t->k_words);
        run(t, &b, first, n, p, 0);
    }
}

static void walk(const tiled *t, block_step run) {
    const size_t pairs = CHUNK_BYTES / (2 * t->k_words * CCH_LANES * sizeof(float)), step = pairs > 0 ? 2 * pairs : 2;
    if (t->rows == 0) return;
    for (size_t p = 0; p < t->n_panels; p += step) {
        const size_t end = p + step < t->n_panels ? p + step : t->n_panels;
        first_rows(t, run, p, end, t->rows < B_ROWS ? t->rows : B_ROWS);
        for (size_t r = B_ROWS; r < t->rows; r += B_ROWS) {
            const size_t n = t->rows - r < B_ROWS ? t->rows - r : B_ROWS;
            if (n < B_ROWS) configure_for(n);
            later_rows(t, run, p, end, r, n);
        }
    }
    _tile_release();
}

static void bf16_step(const tiled *t, const block *b, size_t first, size_t n, size_t p, size_t k) {
    float *y = t->y + first * t->ldy + p * CCH_LANES;
    if (k == 0) zero_sums(b);
    else load_sums(b, y, t->ldy);
    MULTIPLY_BLOCK(b, _tile_dpbf16ps)
    store_sums(b, y, t->ldy);
    if (k + b->k_len == t->k_words && t->bias != NULL)
        add_bias(y, t->ldy, n, b->two_panels ? 2 * CCH_LANES : CCH_LANES, t->bias + p * CCH_LANES);
}

static void tiles_bf16(const float *x, size_t ldx, size_t rows, const float *panels, size_t n_panels, size_t k_words,
                       const float *bias, float *y, size_t ldy) {
    const tiled t = {.x = x, .ldx = ldx, .rows = rows, .panels = panels, .n_panels = n_panels, .k_words = k_words,
                     .bias = bias, .y = y, .ldy = ldy};
    walk(&t, bf16_step);
}

/* The chains of n rows and one panel go on by the sums of a group. */
static void add_group(const tiled *t, const float *sums, size_t first, size_t n, size_t p, size_t group) {
    const size_t groups = cch_n_groups(t->k_words);
    const v16 scale = v_load(t->scales + (p * groups + group) * CCH_LANES);
    const bool begin = group == 0, end = group + 1 == groups;
    const v16 bias = end && t->bias != NULL ? v_load(t->bias + p * CCH_LANES) : v_zero();
    for (size_t r = first; r < first + n; r++) {
        const float *x = t->x + r * t->ldx + t->k_words;
        float *y = t->y + r * t->ldy + p * CCH_LANES;
        const i16 exact = _mm512_add_epi32(i_cast(v_load(sums + (r - first) * CCH_LANES)), i_cast(v_word(x + group)));
        v16 sum = v_fma(i_to_f32(exact), scale, begin ? v_zero() : v_load(y));
        if (end) sum = v_mul(sum, v_word(x + groups));
        if (end && t->bias != NULL) sum = v_add(sum, bias);
        v_store(y, sum);
    }
}

static void int8_step(const tiled *t, const block *b, size_t first, size_t n, size_t p, size_t k) {
    _Alignas(64) float sums[4][T_ROWS * CCH_LANES];
    for (size_t at = 0; at < b->k_len; at += CCH_GROUP_WORDS) {
        block g = *b;
        g.k_len = b->k_len - at < CCH_GROUP_WORDS ? b->k_len - at : CCH_GROUP_WORDS;
        g.x += at;
        for (int c = 0; c < 2; c++) {
            g.w[c] += at * CCH_LANES;
            if (g.ahead[c] != NULL) g.ahead[c] += at * CCH_LANES;
        }
        zero_sums(&g);
        MULTIPLY_BLOCK(&g, _tile_dpbsud)
        _tile_stored(0, sums[0], 64);
        if (g.two_panels) _tile_stored(1, sums[1], 64);
        if (g.more_rows) _tile_stored(2, sums[2], 64);
        if (g.more_rows && g.two_panels) _tile_stored(3, sums[3], 64);
        for (size_t c = 0; c < (g.two_panels ? 2 : 1); c++) {
            const size_t group = (k + at) / CCH_GROUP_WORDS, top = n < T_ROWS ? n : T_ROWS;
            add_group(t, sums[c], first, top, p + c, group);
            if (g.more_rows) add_group(t, sums[2 + c], first + T_ROWS, n - T_ROWS, p + c, group);
        }
    }
}

static void tiles_int8(const float *x, size_t ldx, size_t rows, const float *panels, const float *scales,
                       size_t n_panels, size_t k_words, const float *bias, float *y, size_t ldy) {
    const tiled t = {.x = x, .ldx = ldx, .rows = rows, .panels = panels, .scales = scales, .n_panels = n_panels,
                     .k_words = k_words, .bias = bias, .y = y, .ldy = ldy};
    if (rows < WORTH_TILES) matmul_int8(x, ldx, rows, panels, scales, n_panels, k_words, bias, y, ldy);
    else walk(&t, int8_step);
}

const cch_kernels cch_kernels_amx = SIMD_TABLE("amx", "blocks", tiles_bf16, tiles_int8);

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
