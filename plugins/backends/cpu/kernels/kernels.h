/* kernels.h - the compute kernels of the cpu backend and what each is told.
 *
 * A kernel is a function over a range of units: (args, scratch, begin, end) does the units begin..end-1 of
 * its work. What a unit computes does not depend on which range it was part of, so results are the same for
 * any number of threads. `scratch` is the calling worker's own room, of the size that the step asked for,
 * 64-byte aligned.
 *
 * The files in this folder are compiled once for each instruction set (see backends.cmake); DG_CPU(name)
 * gives each copy its own symbols, and dg_cpu_kernels_ISA lists them. No file here allocates, fails, or
 * starts threads. Element types: DG_F32, DG_BF16, DG_I32, DG_U8, DG_BOOL; arithmetic on floats is in f32. */
#ifndef DG_CPU_KERNELS_H
#define DG_CPU_KERNELS_H

#include "digpt/base.h"

typedef void (*dg_cpu_kernel)(const void *args, void *scratch, int64_t begin, int64_t end);

#define DG_CPU_CAT_(A, B) A##_##B
#define DG_CPU_CAT(A, B) DG_CPU_CAT_(A, B)
#define DG_CPU(NAME) DG_CPU_CAT(dg_cpu_##NAME, DG_CPU_ISA)

/* ---- expressions: chains of element-wise ops in one pass over memory (expr.c)
 *
 * The result is walked in flat blocks of DG_CPU_BLOCK elements. Instructions work on blocks of 4-byte lanes,
 * f32 or i32 (bool and u8 are widened to i32), kept in slots that stay in the first-level cache. A leaf is
 * read through strides, so that slices, transposes, broadcasts and pads cost no pass of their own. */

enum { DG_CPU_BLOCK = 512, DG_CPU_MOST_LEAVES = 12, DG_CPU_MOST_STEPS = 40, DG_CPU_MOST_SLOTS = 14 };

/* X(NAME, operands): F_ on f32 lanes, I_ on i32 lanes; comparisons give i32 0 or 1. */
#define DG_CPU_LANE_OPS(X)                                                                                   \
    X(F_NEG, 1)                                                                                              \
    X(F_ABS, 1)                                                                                              \
    X(F_SIGN, 1) X(F_FLOOR, 1) X(F_EXP, 1) X(F_LOG, 1) X(F_SQRT, 1) X(F_RSQRT, 1) X(F_TANH, 1) X(F_ERF, 1)   \
        X(F_SIN, 1) X(F_COS, 1) X(F_FINITE, 1) X(F_GELU, 1) X(F_QUICK_GELU, 1) X(F_ROUND, 1) X(F_TO_I, 1)    \
            X(F_TO_BOOL, 1) X(F_ADD, 2) X(F_SUB, 2) X(F_MUL, 2) X(F_DIV, 2) X(F_MAX, 2) X(F_MIN, 2)          \
                X(F_EQ, 2) X(F_NE, 2) X(F_LT, 2) X(F_LE, 2) X(F_GT, 2) X(F_GE, 2) X(F_GELU_GRAD, 2)          \
                    X(F_QUICK_GELU_GRAD, 2) X(I_NEG, 1) X(I_ABS, 1) X(I_SIGN, 1) X(I_NOT, 1) X(I_TO_F, 1)    \
                        X(I_TO_BOOL, 1) X(I_TO_U8, 1) X(I_WRAP_U8, 1) X(I_ADD, 2) X(I_SUB, 2) X(I_MUL, 2)    \
                            X(I_DIV, 2) X(I_MAX, 2) X(I_MIN, 2) X(I_AND, 2) X(I_OR, 2) X(I_EQ, 2) X(I_NE, 2) \
                                X(I_LT, 2) X(I_LE, 2) X(I_GT, 2) X(I_GE, 2) X(SELECT, 3)

#define DG_CPU_LANE_ENUM(NAME, N) DG_CPU_##NAME,
enum dg_cpu_lane_op { DG_CPU_LANE_OPS(DG_CPU_LANE_ENUM) DG_CPU_LOAD, DG_CPU_LANE_OP_COUNT };

typedef struct dg_cpu_expr_leaf {
    const void *base;
    int64_t offset;              /* elements from base to that of index 0, which may be outside when padded */
    int32_t dtype;               /* as stored */
    bool dense;                  /* element i of the result belongs to element i here */
    bool padded;                 /* outside low..high the lane is `pad` */
    uint32_t pad;                /* bits of an f32 or i32 lane */
    int64_t stride[DG_MAX_RANK]; /* elements; 0 where it is broadcast */
    int64_t low[DG_MAX_RANK], high[DG_MAX_RANK];
} dg_cpu_expr_leaf;

typedef struct dg_cpu_expr_step {
    uint8_t op;    /* dg_cpu_lane_op */
    uint8_t to;    /* slot */
    uint8_t in[3]; /* slots; of DG_CPU_LOAD: the leaf */
} dg_cpu_expr_step;

/* Units are blocks: ceil(count / DG_CPU_BLOCK). Scratch: DG_CPU_MOST_SLOTS blocks. */
typedef struct dg_cpu_expr {
    int32_t rank, n_leaves, n_steps;
    int32_t out_dtype;
    int64_t dims[DG_MAX_RANK], count;
    void *out;
    bool out_dense;
    int64_t out_stride[DG_MAX_RANK]; /* elements; for a part of a larger result */
    dg_cpu_expr_leaf leaves[DG_CPU_MOST_LEAVES];
    dg_cpu_expr_step steps[DG_CPU_MOST_STEPS]; /* the last one's slot is the result */
} dg_cpu_expr;

/* ---- rows (rows.c): units are rows; scratch: 2 width (or 2 classes) floats */

typedef struct dg_cpu_layer_norm {
    const void *x; // [rows, width]
    int32_t x_dtype, y_dtype;
    const float *gamma, *beta; // [width], or NULL
    void *y;
    float *mean, *rstd; // [rows]
    int64_t width;
    float eps;
} dg_cpu_layer_norm;

/* Units are chunks of DG_CPU_CHUNK rows; each writes its own share of dgamma and dbeta, which are then summed
 * by columns. */
enum { DG_CPU_CHUNK = 32 };
typedef struct dg_cpu_layer_norm_grad {
    const void *dy, *x; // [rows, width]
    int32_t dy_dtype, x_dtype;
    const float *mean, *rstd, *gamma; // gamma may be NULL
    void *dx;                         // as x
    float *partial;                   // [chunks, 2, width]: dgamma, dbeta
    int64_t rows, width;
} dg_cpu_layer_norm_grad;

/* softmax (x), normalize (x, gives rnorm too), normalize_grad (x is dy; y and rnorm are normalize's). */
typedef struct dg_cpu_rows {
    const void *x, *y;
    void *out;
    int32_t dtype;
    int64_t width;
    float *rnorm; // [rows]
    float eps;
} dg_cpu_rows;

/* cross_entropy and its gradient; x [rows, classes] f32 or bf16; either ids or soft. */
typedef struct dg_cpu_entropy {
    const void *x;
    int32_t dtype;
    const int32_t *ids;
    const float *soft;
    int64_t classes;
    float smoothing;
    float *loss, *lse; // [rows]; lse is read by the gradient
    const float *dy;   // [rows]
    void *dx;          // as x
} dg_cpu_entropy;

/* ---- reductions (reduce.c) */

/* x [outer, n, inner] over n. Pieces: n is cut into `pieces` parts of `piece`, each with a result of its own:
 * y [outer, pieces, inner]. Sums are in f32 (i32: wrapping), over runs of fixed length first.
 * reduce_inner: inner = 1; units are outer * pieces. reduce_outer: units are outer * pieces * column blocks.
 */
enum { DG_CPU_COLUMNS = 256 };
typedef struct dg_cpu_reduce {
    const void *x;
    void *y;
    int32_t x_dtype, y_dtype;
    bool max;
    int64_t outer, n, inner, pieces, piece;
} dg_cpu_reduce;

/* argmax: x [outer, n, inner], y i32 [outer, inner]; units: outer * inner.
 * top_k: x [outer, n], y as x [outer, k], ids [outer, k]; units: outer. Scratch: k floats. */
typedef struct dg_cpu_choose {
    const void *x;
    void *y;
    int32_t *ids;
    int32_t dtype;
    int64_t n, inner, k;
} dg_cpu_choose;

/* ---- rows by index, images, optimizer (misc.c) */

/* out[i] = x[group of i][ids[i]]; units: rows of the result. */
typedef struct dg_cpu_gather {
    const char *x;
    const int32_t *ids;
    char *out;
    int64_t per_group; /* ids in a group */
    int64_t rows;      /* rows of x in a group */
    int64_t bytes;     /* of a row */
} dg_cpu_gather;

/* scatter_sort (units: groups) makes lists of the updates of each row, in order; scatter_add (units: rows of
 * the result) sums them; scratch: 2 width floats. first [groups, rows + 1], order [groups, per_group]. */
typedef struct dg_cpu_scatter {
    const int32_t *ids;
    const void *updates; // [groups, per_group, width]
    void *out;           // [groups, rows, width]
    int32_t dtype;
    int32_t *first, *order;
    int64_t groups, per_group, rows, width;
} dg_cpu_scatter;

/* Units: rows of patches (batch * height / patch_h). Scratch: one patch of floats. */
typedef struct dg_cpu_patchify {
    const void *image; // [batch, height, width, channels], u8 or f32
    void *out;         // [batch * gh * gw, channels * ph * pw], f32 or bf16
    int32_t in_dtype, out_dtype;
    int64_t height, width, channels, ph, pw;
    const float *scale, *shift; // [channels]
    bool channel_last;
} dg_cpu_patchify;

/* Units: DG_CPU_BLOCK elements. New and old may be the same memory. */
typedef struct dg_cpu_adamw {
    const float *p, *grad, *m, *v, *scalars; // scalars [3]
    const uint8_t *ok;                       // NULL: always
    float *p_new, *m_new, *v_new;
    int64_t count;
    float beta1, beta2, one_less_beta1, one_less_beta2, eps, lr_scale, decay;
} dg_cpu_adamw;

/* count elements: widen: bf16 to f32; narrow: f32 to bf16; copy: f32; zero: f32 zeros. Units: DG_CPU_BLOCK
 * elements. */
typedef struct dg_cpu_recode {
    const void *x;
    void *y;
    int64_t count;
} dg_cpu_recode;

/* ---- 8-bit integers (int8.c) */

/* Rows of x [rows, width] as integers. Scratch: 2 width floats. */
typedef struct dg_cpu_quantize {
    const void *x;
    int32_t dtype;
    int64_t width;
    float outlier;  /* 0: nothing is one */
    int8_t *q;      // [rows, width]
    float *scale;   // [rows]
    int32_t *count; // [rows] of outliers; NULL: they are not wanted
    int32_t *ids;   // [rows, most] ascending
    float *rests;   // [rows, most] what exceeds the limit
    int64_t most;   /* more than a row can have */
} dg_cpu_quantize;

/* Sums of products of integers -> y; begin is 0. Scratch: 2 out_width floats and an int32_t a row. */
typedef struct dg_cpu_dequantize {
    float *sums;                  // [rows, out_width]
    const float *scale, *w_scale; // [rows], [out_width]
    const void *bias;             // [out_width], or NULL
    int32_t bias_dtype, w_dtype, y_dtype;
    const void *w; // [out_width, width], for outliers
    const int32_t *count, *ids;
    const float *rests;
    int64_t most, width, out_width;
    void *y; // [rows, out_width]
} dg_cpu_dequantize;

/* ---- attention (attention.c) */

/* One operand [batch, tokens, heads * d] f32 or bf16, element strides, innermost 1. */
typedef struct dg_cpu_heads {
    void *base;
    int64_t batch_stride, row_stride;
} dg_cpu_heads;

typedef struct dg_cpu_attention {
    int32_t dtype;
    int64_t batch, heads, nq, nk, d;
    float scale;
    bool strict;                            /* a query sees smaller groups only, its own not */
    dg_cpu_heads q, k, v, y;                /* y is read by the gradient */
    const int32_t *group_q, *group_k;       // [batch or 1, n], or NULL
    int64_t group_q_stride, group_k_stride; /* 0: one for all samples */
    const float *bias;                      // [batch or 1, heads, nq, nk], or NULL
    int64_t bias_stride;                    /* 0: one for all samples */
    float *lse;                             // [batch, heads, nq]
    dg_cpu_heads dy, dq, dk, dv;
    float *dbias; // as bias, or NULL
} dg_cpu_attention;

/* ---- the list */

typedef struct dg_cpu_kernels {
    const char *name;
    bool bf16_products; /* attention multiplies bf16 as it is */
    /* Units: attention: batch * heads; its gradient: the same, or heads when one bias serves all samples. */
    dg_cpu_kernel expr, layer_norm, layer_norm_grad, softmax, normalize, normalize_grad, cross_entropy,
        cross_entropy_grad, reduce_inner, reduce_outer, argmax, top_k, gather, scatter_sort, scatter_add,
        patchify, adamw, quantize, dequantize, widen, narrow, copy, zero, attention, attention_grad;
    /* Bytes of scratch a worker. */
    int64_t (*attention_scratch)(const dg_cpu_attention *a, bool gradient);
} dg_cpu_kernels;

/* The best list for this machine, or the one named; NULL when there is none of that name here. */
const dg_cpu_kernels *dg_cpu_kernels_pick(const char *name);
/* The index-th list that this machine can run, from plain to best; NULL past the last. */
const dg_cpu_kernels *dg_cpu_kernels_at(size_t index);

#define DG_CPU_DECLARE(NAME) void DG_CPU(NAME)(const void *args, void *scratch, int64_t begin, int64_t end);

#endif
