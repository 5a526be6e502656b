/* eval.h - inside the evaluation of primitives: what eval*.c share.
 *
 * Every function evaluates one op on dense row-major doubles. Integers and booleans are doubles too: every
 * i32 is exact in one. Types were checked by the shape rules; nothing here can fail. */
#ifndef DG_GRAPH_EVAL_H
#define DG_GRAPH_EVAL_H

#include "graph.h"

/* in[i]: an input's elements; out[i]: room for an output's. */
typedef void (*dg_eval_function)(const dg_work *w, const double *const *in, double *const *out);

/* Walks the elements of a shape in order and, along with them, up to three strided operands. */
#define DG_CURSOR_OPERANDS 3
typedef struct dg_cursor {
    int rank, n;
    int64_t dims[DG_MAX_RANK], at[DG_MAX_RANK];
    int64_t stride[DG_CURSOR_OPERANDS][DG_MAX_RANK];
    int64_t offset[DG_CURSOR_OPERANDS];
} dg_cursor;

/* Row-major strides of t. */
void dg_strides(const dg_type *t, int64_t *stride);
dg_cursor dg_cursor_make(const dg_type *shape);
/* Adds an operand of type t, stretched to the cursor's shape as in numpy. */
void dg_cursor_add(dg_cursor *c, const dg_type *t);
void dg_cursor_next(dg_cursor *c);

/* Shapes and rows (eval_shape.c). */
void dg_eval_transpose(const dg_work *w, const double *const *in, double *const *out);
void dg_eval_broadcast(const dg_work *w, const double *const *in, double *const *out);
void dg_eval_slice(const dg_work *w, const double *const *in, double *const *out);
void dg_eval_pad(const dg_work *w, const double *const *in, double *const *out);
void dg_eval_concat(const dg_work *w, const double *const *in, double *const *out);
void dg_eval_gather(const dg_work *w, const double *const *in, double *const *out);
void dg_eval_scatter_add(const dg_work *w, const double *const *in, double *const *out);

/* Reductions and products (eval_reduce.c). */
void dg_eval_reduce_sum(const dg_work *w, const double *const *in, double *const *out);
void dg_eval_reduce_max(const dg_work *w, const double *const *in, double *const *out);
void dg_eval_argmax(const dg_work *w, const double *const *in, double *const *out);
void dg_eval_top_k(const dg_work *w, const double *const *in, double *const *out);
void dg_eval_matmul(const dg_work *w, const double *const *in, double *const *out);

/* x as an element of an integer dtype or bool: truncated and saturated (nan: 0), or x != 0. */
double dg_to_integer(dg_dtype dtype, double x);

#endif
