/* emit_reduce.c - steps of reductions and choices. A reduction over several groups of neighbouring axes goes
 * group by group, the last first; each is over the middle of [outer, n, inner]. */
#include "cuda.h"

/* A long reduction of few results is cut into pieces, so that there is work for all multiprocessors; the
 * pieces depend on the shape alone, and so do the bits of the result. */
void dg_cuda_emit_reduction(dg_cuda_plan *c, const void *x, int32_t x_dtype, int64_t outer, int64_t n,
                            int64_t inner, void *y, int32_t y_dtype, bool max)
{
    enum { ENOUGH = 1 << 16, ROW_PIECE = 4096, COLUMN_PIECE = 64 };
    int64_t piece = inner == 1 ? ROW_PIECE : COLUMN_PIECE;
    dg_cuda_reduce a = {.x = x,
                        .y = y,
                        .outer = outer,
                        .n = n,
                        .inner = inner,
                        .pieces = 1,
                        .piece = n,
                        .x_dtype = x_dtype,
                        .y_dtype = y_dtype,
                        .max = max};
    if (n < 2 * piece || outer * inner >= ENOUGH) {
        DG_CUDA_STEP(c, dg_cuda_launch_reduce, a);
        return;
    }
    a.piece = piece;
    a.pieces = (n + piece - 1) / piece;
    a.y_dtype = dg_dtype_is_float((dg_dtype)x_dtype) ? DG_F32 : x_dtype;
    a.y = dg_cuda_scratch(c, (uint64_t)(outer * a.pieces * inner) * dg_dtype_size((dg_dtype)a.y_dtype));
    DG_CUDA_STEP(c, dg_cuda_launch_reduce, a);
    dg_cuda_emit_reduction(c, a.y, a.y_dtype, outer, a.pieces, inner, y, y_dtype, max);
}

/* Groups of axes that are kept or reduced together. */
typedef struct groups {
    int n;
    int64_t size[DG_MAX_RANK];
    bool reduced[DG_MAX_RANK];
} groups;

static groups groups_of(const dg_type *t, const dg_attr *axes)
{
    groups g = {0};
    for (int a = 0; a < t->rank; a++) {
        bool reduced = false;
        for (uint64_t k = 0; k < axes->n; k++) reduced |= axes->v.is[k] == a;
        if (g.n == 0 || g.reduced[g.n - 1] != reduced) {
            g.size[g.n] = 1;
            g.reduced[g.n++] = reduced;
        }
        g.size[g.n - 1] *= t->dims[a];
    }
    return g;
}

static void emit(dg_cuda_plan *c, uint32_t i, bool max)
{
    const dg_program_node *node = &c->p->nodes[i];
    const dg_type *t = dg_cuda_type(c, node->in[0]), *out = dg_cuda_type(c, node->out);
    groups g = groups_of(t, dg_cuda_attr(node, "axes"));
    const void *x = dg_cuda_in(c, node->in[0]);
    void *y = dg_cuda_out(c, node->out);
    int32_t dtype = t->dtype;
    int left = 0;
    for (int k = 0; k < g.n; k++) left += g.reduced[k];
    if (left == 0) { /* over no axis: the elements themselves */
        dg_cuda_emit_reduction(c, x, dtype, dg_type_count(t), 1, 1, y, out->dtype, max);
        return;
    }
    for (int k = g.n - 1; k >= 0; k--) {
        if (!g.reduced[k]) continue;
        int64_t outer = 1, inner = 1;
        for (int j = 0; j < k; j++) outer *= g.size[j];
        for (int j = k + 1; j < g.n; j++) inner *= g.size[j];
        int32_t to = --left == 0 ? out->dtype : dg_dtype_is_float((dg_dtype)dtype) ? DG_F32 : dtype;
        void *result =
            left == 0 ? y : dg_cuda_scratch(c, (uint64_t)(outer * inner) * dg_dtype_size((dg_dtype)to));
        dg_cuda_emit_reduction(c, x, dtype, outer, g.size[k], inner, result, to, max);
        g.size[k] = 1;
        x = result;
        dtype = to;
    }
}

void dg_cuda_emit_reduce_sum(dg_cuda_plan *c, uint32_t n)
{
    emit(c, n, false);
}

void dg_cuda_emit_reduce_max(dg_cuda_plan *c, uint32_t n)
{
    emit(c, n, true);
}

/* ---- choices */

void dg_cuda_emit_argmax(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *t = dg_cuda_type(c, n->in[0]);
    int64_t axis = dg_cuda_int(n, "axis");
    dg_cuda_choose a = {.x = dg_cuda_in(c, n->in[0]),
                        .ids = dg_cuda_out(c, n->out),
                        .outer = 1,
                        .n = t->dims[axis],
                        .inner = 1,
                        .dtype = t->dtype};
    for (int64_t k = 0; k < axis; k++) a.outer *= t->dims[k];
    for (int64_t k = axis + 1; k < t->rank; k++) a.inner *= t->dims[k];
    DG_CUDA_STEP(c, dg_cuda_launch_argmax, a);
}

void dg_cuda_emit_top_k(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *t = dg_cuda_type(c, n->in[0]);
    dg_cuda_choose a = {.x = dg_cuda_in(c, n->in[0]),
                        .y = dg_cuda_out(c, n->out),
                        .ids = dg_cuda_out(c, n->out + 1),
                        .n = dg_cuda_last_dim(t),
                        .inner = 1,
                        .k = dg_cuda_int(n, "k"),
                        .dtype = t->dtype};
    a.outer = dg_type_count(t) / a.n;
    DG_CUDA_STEP(c, dg_cuda_launch_top_k, a);
}
