/* matmul - packed weights and the parallel walk over them.
 *
 * A weight matrix W [n, k] (as in torch.nn.Linear: y = x W^T + b) is packed once at load into panels of 16 output rows,
 * k-major: panels[n / 16][k_words][16], a word being one f32, two bf16 or four 8-bit numbers (kern/kernels.h), the last
 * panel and the last word padded with zeros.  Decode (1 row) streams the panels at memory bandwidth; prefill (many
 * rows) reuses them from cache; each output element is the same chain in both.
 *
 * 8-bit weights have a scale for each output and group of 256 inputs: w = scale * byte, scale = largest
 * magnitude of the group / 127.  Rows of inputs are brought to the weights' format by cch_matmul, row by row.
 */
#ifndef CCH_KERN_MATMUL_H
#define CCH_KERN_MATMUL_H

#include "base/threads.h"
#include "kern/kernels.h"

typedef enum cch_format {
    CCH_FORMAT_F32,
    CCH_FORMAT_BF16,
    CCH_FORMAT_INT8
} cch_format;

typedef struct cch_packed {
    cch_format format;
    float *panels;           /* owned, or a view: words [n_panels][k_words][16], 64-byte aligned */
    float *scales;           /* behind them: [n_panels][groups][16] of 8-bit weights, else NULL */
    float *bias;             /* behind them: [16 * n_panels], zero-padded; NULL when there is none */
    size_t n, k, n_panels;   /* logical outputs and inputs */
    size_t k_words;
    size_t bytes;            /* of panels, scales and bias, which are one block */
} cch_packed;

/* Panels for W [n, k], in large pages where the system has them, and a zero bias.  Rows are uninitialised until
 * cch_pack_rows fills them, padding is zero.  E_MEMORY.   *out: owned by the caller, all zero on failure. */
cch_status cch_packed_init(cch_format format, size_t n, size_t k, bool with_bias, cch_packed *out, cch_error *err);
void cch_packed_deinit(cch_packed *w);
/* The bytes of such a matrix.  False: more than can be counted. */
bool cch_packed_size(cch_format format, size_t n, size_t k, bool with_bias, size_t *out_bytes);
/* A matrix of which that many bytes lie at `block`, 64-byte aligned: a view, which is not given to deinit. */
void cch_packed_view(cch_format format, size_t n, size_t k, bool with_bias, float *block, cch_packed *out);
/* Rows [row, row + rows) of W come from src (f32): src[i * row_stride + j * col_stride] is W[row + i, j].  GPT-2 stores
 * W transposed: row_stride 1, col_stride n.  Fast for both orders.   A group of 8-bit weights that holds a NaN or an
 * infinity is all NaN.
 *   Threads: disjoint rows may be packed at the same time. */
void cch_pack_rows(cch_packed *w, size_t row, size_t rows, const float *src, size_t row_stride, size_t col_stride);
/* Row `row` of W as f32 into dst [k] (an embedding look-up in a tied output matrix): what the format has left of it. */
void cch_packed_row(const cch_packed *w, size_t row, float *dst);

/* dst[k * rows + r] = src[r * row_stride + k]: a tile of matmul_dealt.   1 <= rows, dst [k_len][rows]. */
void cch_deal(float *dst, const float *src, size_t row_stride, size_t rows, size_t k_len);
/* Floats that a product with w needs for each row of x. */
size_t cch_matmul_words(const cch_packed *w);
/* y [rows, ldy] = x [rows, ldx] W^T + bias, split over the threads by panels (by rows when there are few panels; not at
 * all when the product is small).  ldy >= n rounded up to 16 (whole panels are written); y must not overlap x.
 *   words [rows * cch_matmul_words(w)]: scratch. */
void cch_matmul(const cch_kernels *kern, cch_threads *threads, const cch_packed *w, const float *x, size_t ldx,
                size_t rows, float *words, float *y, size_t ldy);

#endif
