/* kernels.h - the kernels as the backend's C code sees them: a record of arguments and a launcher each.
 *
 * All pointers are to device memory. Tensors are dense and row-major unless strides are given, in elements.
 * Dtypes are dg_dtype; where a kernel says "real", f32 and bf16 are taken. A launcher puts work on the stream
 * and returns at once; its error is that of the launch. Every kernel gives the same bits every time: sums run
 * in an order that the shape alone decides, and none uses float atomics. */
#ifndef DG_CUDA_KERNELS_H
#define DG_CUDA_KERNELS_H

#include <cuda_runtime_api.h>

#include "digpt/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- element-wise expressions (expr.cu) */

/* Ops of a step. F: on f32 lanes, I: on i32 lanes. */
typedef enum dg_cuda_op {
    DG_CUDA_F_NEG,
    DG_CUDA_F_ABS,
    DG_CUDA_F_SIGN,
    DG_CUDA_F_FLOOR,
    DG_CUDA_F_EXP,
    DG_CUDA_F_LOG,
    DG_CUDA_F_SQRT,
    DG_CUDA_F_RSQRT,
    DG_CUDA_F_TANH,
    DG_CUDA_F_ERF,
    DG_CUDA_F_SIN,
    DG_CUDA_F_COS,
    DG_CUDA_F_IS_FINITE,
    DG_CUDA_F_GELU,
    DG_CUDA_F_GELU_QUICK,
    DG_CUDA_F_ADD,
    DG_CUDA_F_SUB,
    DG_CUDA_F_MUL,
    DG_CUDA_F_DIV,
    DG_CUDA_F_MAX,
    DG_CUDA_F_MIN,
    DG_CUDA_F_EQ,
    DG_CUDA_F_NE,
    DG_CUDA_F_LT,
    DG_CUDA_F_LE,
    DG_CUDA_F_GT,
    DG_CUDA_F_GE,
    DG_CUDA_F_GELU_GRAD,
    DG_CUDA_F_GELU_QUICK_GRAD,
    DG_CUDA_F_ROUND_BF16,
    DG_CUDA_F_ROUND_F16,
    DG_CUDA_F_ROUND_F8,
    DG_CUDA_F_TO_I32,
    DG_CUDA_F_TO_U8,
    DG_CUDA_F_TO_BOOL,
    DG_CUDA_I_NEG,
    DG_CUDA_I_ABS,
    DG_CUDA_I_SIGN,
    DG_CUDA_I_NOT,
    DG_CUDA_I_ADD,
    DG_CUDA_I_SUB,
    DG_CUDA_I_MUL,
    DG_CUDA_I_DIV,
    DG_CUDA_I_MAX,
    DG_CUDA_I_MIN,
    DG_CUDA_I_AND,
    DG_CUDA_I_OR,
    DG_CUDA_I_EQ,
    DG_CUDA_I_NE,
    DG_CUDA_I_LT,
    DG_CUDA_I_LE,
    DG_CUDA_I_GT,
    DG_CUDA_I_GE,
    DG_CUDA_I_WRAP_U8,  /* the lowest 8 bits */
    DG_CUDA_I_CLAMP_U8, /* 0..255 */
    DG_CUDA_I_TO_BOOL,
    DG_CUDA_I_TO_F,
    DG_CUDA_SELECT, /* b where a is not 0, else c */
    DG_CUDA_NO_OP
} dg_cuda_op;

enum { DG_CUDA_LEAVES = 6, DG_CUDA_STEPS = 18 };

typedef struct dg_cuda_leaf {
    const void *at; /* first element; NULL: the constant in `bits` */
    int64_t stride[DG_MAX_RANK];
    int32_t dtype;
    uint32_t bits; /* a lane: f32 or i32; also what is outside, when padded */
    int32_t
        padded; /* the leaf is only where low <= index < high on every axis; `at` is where index 0 would be */
    int32_t reserved;
    int64_t low[DG_MAX_RANK], high[DG_MAX_RANK];
} dg_cuda_leaf;

/* Registers 0 .. n_leaves - 1 hold the leaves; step i writes register n_leaves + i; the last one is stored.
 */
typedef struct dg_cuda_step_op {
    uint8_t op; /* dg_cuda_op */
    uint8_t in[3];
} dg_cuda_step_op;

typedef struct dg_cuda_expr {
    void *out;
    int64_t count;
    int64_t dims[DG_MAX_RANK];
    int64_t out_stride[DG_MAX_RANK];
    int32_t out_dtype, rank, n_leaves, n_steps;
    int32_t flat; /* everything is dense, or a scalar, and starts where four elements are aligned: four at a
                     time */
    int32_t reserved;
    dg_cuda_leaf leaves[DG_CUDA_LEAVES];
    dg_cuda_step_op steps[DG_CUDA_STEPS];
} dg_cuda_expr;

cudaError_t dg_cuda_launch_expr(const void *expr, cudaStream_t stream);

/* ---- rows (rows.cu): x [rows, width], real */

typedef struct dg_cuda_layer_norm {
    const void *x;
    const float *gamma, *beta; // [width]; NULL: absent
    void *y;                   // [rows, width]
    float *mean, *rstd;        // [rows]
    int64_t rows, width;
    int32_t x_dtype, y_dtype;
    float eps;
    int32_t vector; /* width and pointers allow four elements at a time */
} dg_cuda_layer_norm;

cudaError_t dg_cuda_launch_layer_norm(const void *args, cudaStream_t stream);

typedef struct dg_cuda_layer_norm_grad {
    const void *dy, *x;       // [rows, width]
    const float *mean, *rstd; // [rows]
    const float *gamma;       // [width]; NULL: ones
    void *dx;                 // [rows, width], of x's dtype
    float *partial;           // [blocks, 2, width]: sums for dgamma, then for dbeta, of each block's rows
    int64_t rows, width, blocks;
    int32_t x_dtype, dy_dtype;
} dg_cuda_layer_norm_grad;

cudaError_t dg_cuda_launch_layer_norm_grad(const void *args, cudaStream_t stream);
/* Blocks that `partial` must have room for. */
int64_t dg_cuda_layer_norm_grad_blocks(int64_t rows);

/* softmax, normalize, normalize_grad: y and rnorm are inputs of the last one */
typedef struct dg_cuda_rows {
    const void *x; // [rows, width]; normalize_grad: dy
    const void *y; // [rows, width]
    void *out;     // [rows, width], of x's dtype
    float *rnorm;  // [rows]
    int64_t rows, width;
    int32_t dtype, y_dtype, out_dtype;
    float eps;
} dg_cuda_rows;

cudaError_t dg_cuda_launch_softmax(const void *args, cudaStream_t stream);
cudaError_t dg_cuda_launch_normalize(const void *args, cudaStream_t stream);
cudaError_t dg_cuda_launch_normalize_grad(const void *args, cudaStream_t stream);

typedef struct dg_cuda_entropy {
    const void *x;      // [rows, classes]
    const int32_t *ids; // [rows], or NULL
    const float *soft;  // [rows, classes], or NULL
    float *loss, *lse;  // [rows]
    const float *dy;    // [rows]; of the gradient, which reads lse
    void *dx;           // [rows, classes], of x's dtype
    int64_t rows, classes;
    int32_t dtype;
    float smoothing;
} dg_cuda_entropy;

cudaError_t dg_cuda_launch_cross_entropy(const void *args, cudaStream_t stream);
cudaError_t dg_cuda_launch_cross_entropy_grad(const void *args, cudaStream_t stream);

/* ---- reductions and choices (reduce.cu) */

/* x [outer, n, inner] -> y [outer, pieces, inner]: piece p is over x's n from p * piece on. Real or i32. */
typedef struct dg_cuda_reduce {
    const void *x;
    void *y;
    int64_t outer, n, inner, pieces, piece;
    int32_t x_dtype, y_dtype;
    int32_t max; /* 0: sum */
    int32_t reserved;
} dg_cuda_reduce;

cudaError_t dg_cuda_launch_reduce(const void *args, cudaStream_t stream);

/* x [outer, n, inner]; argmax: ids [outer, inner]. top_k: inner 1, y and ids [outer, k]. Real or i32. */
typedef struct dg_cuda_choose {
    const void *x;
    void *y;
    int32_t *ids;
    int64_t outer, n, inner, k;
    int32_t dtype, reserved;
} dg_cuda_choose;

cudaError_t dg_cuda_launch_argmax(const void *args, cudaStream_t stream);
cudaError_t dg_cuda_launch_top_k(const void *args, cudaStream_t stream);

/* ---- rows by index (index.cu) */

/* out [groups, per_group, width] = x [groups, rows, width] at ids [groups, per_group]; elements of `size`
 * bytes. */
typedef struct dg_cuda_gather {
    const void *x;
    const int32_t *ids;
    void *out;
    int64_t groups, per_group, rows, bytes; /* bytes: of a row */
    int32_t size, reserved;                 /* 16, 4, 2 or 1: divides bytes and the alignment of x and out */
} dg_cuda_gather;

cudaError_t dg_cuda_launch_gather(const void *args, cudaStream_t stream);

/* out [groups, rows, width] = sums of updates [groups, per_group, width], in the order of the ids. Real. */
typedef struct dg_cuda_scatter {
    const int32_t *ids; // [groups, per_group]
    const void *updates;
    void *out;
    int64_t groups, per_group, rows, width;
    int32_t dtype, reserved;
} dg_cuda_scatter;

cudaError_t dg_cuda_launch_scatter_add(const void *args, cudaStream_t stream);

/* ---- images (image.cu) */

enum { DG_CUDA_CHANNELS = 8 };

typedef struct dg_cuda_patchify {
    const void *image; // [b, height, width, channels] u8 or real
    void *out;         // [b, height/ph * width/pw, channels * ph * pw], real
    int64_t b, height, width;
    int32_t channels, ph, pw, channel_last, in_dtype, out_dtype;
    float scale[DG_CUDA_CHANNELS], shift[DG_CUDA_CHANNELS];
} dg_cuda_patchify;

cudaError_t dg_cuda_launch_patchify(const void *args, cudaStream_t stream);

/* ---- products (product.cu): for shapes and dtypes that cuBLASLt has no kernel for */

/* y [batch, m, n] = a [batch, m, k] (ta: [batch, k, m]) b [batch, k, n] (tb: [batch, n, k]) + bias [n]. Real.
 */
typedef struct dg_cuda_product {
    const void *a, *b, *bias; /* bias NULL: none */
    void *y;
    int64_t batch, m, n, k;
    int32_t ta, tb, a_dtype, b_dtype, bias_dtype, y_dtype;
} dg_cuda_product;

cudaError_t dg_cuda_launch_product(const void *args, cudaStream_t stream);

/* ---- attention (attention.cu in f32 arithmetic; flash.cu and flash_grad.cu on matrix units) */

/* q [b, nq, h d], k, v [b, nk, h d], rows of which may lie apart: element (b, i, c) of q is at
 * q[(b * nq + i) * q_row + c]. Query i sees key j if group_k[j] <= group_q[i] (strict: <). */
typedef struct dg_cuda_attention {
    const void *q, *k, *v;
    const int32_t *group_q, *group_k; // [b or 1, nq], [b or 1, nk]; NULL: all is seen
    void *y;                          // [b, nq, h d]
    float *lse;                       // [b, h, nq]
    /* the gradient's: dy and y [b, nq, h d] are read, delta is the sum of dy y over a head's width */
    const void *dy, *y_in;
    const float *lse_in;
    float *delta;       // [b, h, nq]
    void *dq, *dk, *dv; // as q, k, v, dense
    int64_t q_row, k_row, v_row, dy_row, y_row;
    int64_t b, nq, nk;
    int32_t h, d, dtype, strict;
    int32_t group_q_each, group_k_each; /* one row of groups a sample, not one for all */
    float scale;
    int32_t reserved;
} dg_cuda_attention;

enum { DG_CUDA_HEAD_MOST = 128 }; /* widest head */

cudaError_t dg_cuda_launch_attention(const void *args, cudaStream_t stream);
/* delta alone; then delta, dq, dk and dv. */
cudaError_t dg_cuda_launch_attention_delta(const void *args, cudaStream_t stream);
cudaError_t dg_cuda_launch_attention_grad(const void *args, cudaStream_t stream);

/* bf16 heads of width 32, 64 or 80 whose rows are 16-byte aligned. */
bool dg_cuda_flash_takes(const dg_cuda_attention *args);
cudaError_t dg_cuda_launch_flash(const void *args, cudaStream_t stream);
cudaError_t dg_cuda_launch_flash_grad(const void *args, cudaStream_t stream);

/* ---- the optimizer (adamw.cu) */

typedef struct dg_cuda_adamw {
    const float *p, *grad, *m, *v;
    const float *scalars; // lr, 1 - beta1^t, 1 - beta2^t
    const uint8_t *ok;    // NULL: always
    float *p_new, *m_new, *v_new;
    int64_t count;
    float beta1, beta2, one_less_beta1, one_less_beta2, eps, lr_scale, decay;
    int32_t vector; /* all pointers are 16-byte aligned */
} dg_cuda_adamw;

cudaError_t dg_cuda_launch_adamw(const void *args, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
