/* matmul - packed weights and the parallel walk over them.
 *
 * A weight matrix W [n, k] (as in torch.nn.Linear: y = x W^T + b) is packed once at load into panels of 16 output rows,
 * k-major: panels[n / 16][k][16], the last panel padded with zeros.  Decode (1 row) streams the panels at memory
 * bandwidth; prefill (many rows) reuses them from cache; each output element is the same chain in both.
 */
#ifndef CCH_KERN_MATMUL_H
#define CCH_KERN_MATMUL_H

#include "base/threads.h"
#include "kern/kernels.h"

typedef struct cch_packed {
    float *panels;           /* owned: [n_panels][k][16], 64-byte aligned */
    float *bias;             /* owned: [16 * n_panels], zero-padded; NULL when there is none */
    size_t n, k, n_panels;   /* logical outputs and inputs */
} cch_packed;

/* Panels for W [n, k], in large pages where the system has them, and a zero bias.  Rows are uninitialised until
 * cch_pack_rows fills them, padding is zero.  E_MEMORY.   *out: owned by the caller, all zero on failure. */
cch_status cch_packed_init(size_t n, size_t k, bool with_bias, cch_packed *out, cch_error *err);
void cch_packed_deinit(cch_packed *w);
size_t cch_packed_bytes(const cch_packed *w);
/* Rows [row, row + rows) of W come from src (f32): src[i * row_stride + j * col_stride] is W[row + i, j].  GPT-2 stores
 * W transposed: row_stride 1, col_stride n.  Fast for both orders.
 *   Threads: disjoint rows may be packed at the same time. */
void cch_pack_rows(cch_packed *w, size_t row, size_t rows, const float *src, size_t row_stride, size_t col_stride);
/* Copies row `row` of W into dst [k] (an embedding look-up in a tied output matrix). */
void cch_packed_row(const cch_packed *w, size_t row, float *dst);

/* y [rows, ldy] = x [rows, ldx] W^T + bias, split over the threads by panels (by rows when there are few panels; not at
 * all when the product is small).  ldy >= n rounded up to 16 (whole panels are written); y must not overlap x. */
void cch_matmul(const cch_kernels *kern, cch_threads *threads, const cch_packed *w, const float *x, size_t ldx,
                size_t rows, float *y, size_t ldy);

#endif
