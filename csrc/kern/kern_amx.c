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
#define PAIRS_AHEAD ((size_t)4)      /* pairs of panels that are fetched side by side */
#define WORTH_TILES 4                /* rows from which on tiles are faster for 8-bit weights */

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Registers 0 to 3 hold sums of n rows, up to 32: 0 and 1 the first 16 rows and two panels, 2 and 3 the next 16; 4 and
 * 5 these rows of x; 6 and 7 words of the two panels. */
static void configure(size_t n) {
    const size_t rows = n < T_ROWS ? n : T_ROWS, more = n - rows;
    const size_t of[8] = {rows, rows, more, more, rows, more, CCH_WORDS, CCH_WORDS};
    tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.rows[i] = (uint8_t)of[i];
        c.row_bytes[i] = of[i] > 0 ? 64 : 0;
    }
    __asm__ volatile("" : : "r"(&c) : "memory"); /* compilers believe that the next line reads 8 bytes */
    _tile_loadconfig(&c);
}

/* One product. */
typedef struct tiled {
    const float *x, *panels, *scales, *bias;
    size_t ldx, rows, n_panels, k_words, ldy;
    float *y;
} tiled;

/* Rows [row, row + rows), up to 32, times panels p and p + 1 (`pair`; else p alone, the last). */
typedef struct block {
    const tiled *t;
    size_t row, rows, p;
    bool pair, more; /* more: than 16 rows */
} block;

/* What comes from memory into the second-level cache while words [k, k + 16) of panels p and p + 1 are multiplied: a
 * quarter as many words of each of the next four pairs, the last quarter of the next one to the first of the fourth.
 * Memory gives more when it is read in more places. */
INLINE void fetch(const tiled *t, size_t p, size_t k) {
    for (size_t j = 1; j <= PAIRS_AHEAD && p + 2 * j < t->n_panels; j++) {
        const size_t first = (p + 2 * j) * t->k_words + ((PAIRS_AHEAD - j) * t->k_words + k) / PAIRS_AHEAD;
        const uintptr_t line = (uintptr_t)t->panels + 64 * first;
#pragma GCC unroll 4
        for (size_t i = 0; i < CCH_WORDS / PAIRS_AHEAD; i++) {
            __builtin_prefetch((const void *)(line + 64 * i), 0, 2);
            __builtin_prefetch((const void *)(line + 64 * (t->k_words + i)), 0, 2);
        }
    }
}

/* Registers 0 to 3 += x w for words [from, end); `dot` is the instruction of the format. */
#define MULTIPLY_BLOCK(b, from, end, dot)                                                      \
    do {                                                                                       \
        const tiled *t_ = (b)->t;                                                              \
        const size_t line = t_->ldx * sizeof(float), panel = t_->k_words * CCH_LANES;          \
        const float *x_ = t_->x + (b)->row * t_->ldx, *w = t_->panels + (b)->p * panel;        \
        for (size_t i = (from), last = (end); i < last; i += CCH_WORDS) {                      \
            if ((b)->row == 0) fetch(t_, (b)->p, i);                                           \
            _tile_loadd(4, x_ + i, line);                                                      \
            _tile_loadd(6, w + i * CCH_LANES, 64);                                             \
            dot(0, 4, 6);                                                                      \
            if ((b)->more) {                                                                   \
                _tile_loadd(5, x_ + T_ROWS * t_->ldx + i, line);                               \
                dot(2, 5, 6);                                                                  \
            }                                                                                  \
            if (!(b)->pair) continue;                                                          \
            _tile_loadd(7, w + panel + i * CCH_LANES, 64);                                     \
            dot(1, 4, 7);                                                                      \
            if ((b)->more) dot(3, 5, 7);                                                       \
        }                                                                                      \
    } while (0)

static void zero_sums(const block *b) {
    _tile_zero(0);
    if (b->pair) _tile_zero(1);
    if (!b->more) return;
    _tile_zero(2);
    if (b->pair) _tile_zero(3);
}

/* next_panel, next_rows: from the sums of one panel, or 16 rows, to those of the next. */
static void store_sums(const block *b, float *y, size_t ldy, size_t next_panel, size_t next_rows) {
    const size_t bytes = ldy * sizeof *y;
    _tile_stored(0, y, bytes);
    if (b->pair) _tile_stored(1, y + next_panel, bytes);
    if (!b->more) return;
    _tile_stored(2, y + next_rows, bytes);
    if (b->pair) _tile_stored(3, y + next_rows + next_panel, bytes);
}

/* y = sums + bias; of n panels. */
INLINE void add_bias(const float *sums, size_t rows, size_t n, const float *bias, float *y, size_t ldy) {
    const v16 b0 = v_load(bias), b1 = n > 1 ? v_load(bias + CCH_LANES) : v_zero();
    for (size_t r = 0; r < rows; r++) {
        v_store(y + r * ldy, v_add(v_load(sums + r * 2 * CCH_LANES), b0));
        if (n > 1) v_store(y + r * ldy + CCH_LANES, v_add(v_load(sums + (r * 2 + 1) * CCH_LANES), b1));
    }
}

typedef void (*block_step)(const block *b);

/* The first 32 rows read the panels from memory, the others from the second-level cache. */
static void walk(const tiled *t, block_step run) {
    const size_t pairs = CHUNK_BYTES / (2 * t->k_words * CCH_LANES * sizeof(float)), step = pairs > 0 ? 2 * pairs : 2;
    for (size_t p0 = 0; p0 < t->n_panels; p0 += step) {
        const size_t p1 = p0 + step < t->n_panels ? p0 + step : t->n_panels;
        for (size_t r = 0; r < t->rows; r += B_ROWS) {
            block b = {.t = t, .row = r, .rows = t->rows - r < B_ROWS ? t->rows - r : B_ROWS};
            b.more = b.rows > T_ROWS;
            if (r == 0 || b.rows < B_ROWS) configure(b.rows);
            for (b.p = p0; b.p < p1; b.p += 2) {
                b.pair = b.p + 1 < p1;
                run(&b);
            }
        }
    }
    _tile_release();
}

static void bf16_step(const block *b) {
    const tiled *t = b->t;
    float *y = t->y + b->row * t->ldy + b->p * CCH_LANES;
    zero_sums(b);
    MULTIPLY_BLOCK(b, 0, t->k_words, _tile_dpbf16ps);
    if (t->bias == NULL) {
        store_sums(b, y, t->ldy, CCH_LANES, T_ROWS * t->ldy);
        return;
    }
    _Alignas(64) float sums[B_ROWS * 2 * CCH_LANES];
    store_sums(b, sums, 2 * CCH_LANES, CCH_LANES, T_ROWS * 2 * CCH_LANES);
    add_bias(sums, b->rows, b->pair ? 2 : 1, t->bias + b->p * CCH_LANES, y, t->ldy);
}

static void tiles_bf16(const float *x, size_t ldx, size_t rows, const float *panels, size_t n_panels, size_t k_words,
                       const float *bias, float *y, size_t ldy) {
    const tiled t = {.x = x, .ldx = ldx, .rows = rows, .panels = panels, .n_panels = n_panels, .k_words = k_words,
                     .bias = bias, .y = y, .ldy = ldy};
    walk(&t, bf16_step);
}

#define BATCH 4 /* groups whose integer sums are kept before chains go on by them */

/* The chains of rows [row, row + rows) and panel p go on by the sums of groups [group, group + n). */
typedef struct chains {
    const float *sums;
    size_t row, rows, p, group, n;
} chains;

/* R: rows or more. */
INLINE void run_chains(const tiled *t, const chains *c, const size_t R) {
    const size_t groups = cch_n_groups(t->k_words);
    const float *scales = t->scales + (c->p * groups + c->group) * CCH_LANES;
    const float *row_scale = t->x + c->row * t->ldx + t->k_words + groups;
    float *y = t->y + c->row * t->ldy + c->p * CCH_LANES;
    v16 sum[T_ROWS];
#pragma GCC unroll 16
    for (size_t r = 0; r < R; r++) sum[r] = c->group > 0 && r < c->rows ? v_load(y + r * t->ldy) : v_zero();
    for (size_t g = 0; g < c->n; g++) {
        const float *exact = c->sums + g * T_ROWS * CCH_LANES;
        const v16 scale = v_load(scales + g * CCH_LANES);
#pragma GCC unroll 16
        for (size_t r = 0; r < R; r++) sum[r] = v_fma(i_to_f32(i_cast(v_load(exact + r * CCH_LANES))), scale, sum[r]);
    }
    const bool end = c->group + c->n == groups;
    const v16 bias = end && t->bias != NULL ? v_load(t->bias + c->p * CCH_LANES) : v_zero();
#pragma GCC unroll 16
    for (size_t r = 0; r < R; r++) {
        if (r == c->rows) return;
        if (end) sum[r] = v_mul(sum[r], v_word(row_scale + r * t->ldx));
        if (end && t->bias != NULL) sum[r] = v_add(sum[r], bias);
        v_store(y + r * t->ldy, sum[r]);
    }
}

static void go_on(const tiled *t, const chains *c) {
    if (c->rows <= 4) run_chains(t, c, 4);
    else if (c->rows <= 8) run_chains(t, c, 8);
    else run_chains(t, c, 16);
}

static void int8_step(const block *b) {
    const tiled *t = b->t;
    const size_t top = b->rows < T_ROWS ? b->rows : T_ROWS, size = T_ROWS * CCH_LANES;
    _Alignas(64) float sums[4][BATCH][T_ROWS * CCH_LANES]; /* of 16 rows and a panel, as in registers 0 to 3 */
    for (size_t k = 0, n; k < t->k_words; k += n * CCH_GROUP_WORDS) {
        const size_t left = cch_n_groups(t->k_words - k);
        n = left < BATCH ? left : BATCH;
        for (size_t g = 0; g < n; g++) {
            const size_t from = k + g * CCH_GROUP_WORDS, room = t->k_words - from;
            zero_sums(b);
            MULTIPLY_BLOCK(b, from, from + (room < CCH_GROUP_WORDS ? room : CCH_GROUP_WORDS), _tile_dpbssd);
            store_sums(b, sums[0][g], CCH_LANES, BATCH * size, 2 * BATCH * size);
        }
        for (size_t c = 0; c < (b->pair ? 2 : 1); c++) {
            chains chain = {sums[c][0], b->row, top, b->p + c, k / CCH_GROUP_WORDS, n};
            go_on(t, &chain);
            if (!b->more) continue;
            chain = (chains){sums[2 + c][0], b->row + T_ROWS, b->rows - T_ROWS, b->p + c, chain.group, n};
            go_on(t, &chain);
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
