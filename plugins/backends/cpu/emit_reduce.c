/* emit_reduce.c - reductions over any axes, as one or more sums over the middle of [outer, n, inner]. */
#include "cpu.h"

static int64_t round_up(int64_t n, int64_t d)
{
    return (n + d - 1) / d;
}

static void add_reduction(dg_cpu_plan *c, dg_cpu_reduce a)
{
    bool rows = a.inner == 1;
    int64_t blocks = rows ? 1 : round_up(a.inner, DG_CPU_COLUMNS), units = a.outer * a.pieces * blocks;
    int64_t work = a.piece * (rows ? 1 : DG_CPU_COLUMNS);
    DG_CPU_STEP(c, rows ? c->cpu->kernels->reduce_inner : c->cpu->kernels->reduce_outer, a, units,
                work >= 16384 ? 1 : 16384 / work, 0);
}

/* A reduction of few results is cut into pieces, so that there is work for all threads; the pieces depend on
 * the shape alone. */
void dg_cpu_emit_reduction(dg_cpu_plan *c, const void *x, int32_t x_dtype, int64_t outer, int64_t n,
                           int64_t inner, void *y, int32_t y_dtype, bool max)
{
    enum { FEW = 32, ROWS = 8192, COLUMNS = 128 };
    int64_t piece = inner == 1 ? ROWS : COLUMNS, units = outer * round_up(inner, DG_CPU_COLUMNS);
    dg_cpu_reduce a = {x, y, x_dtype, y_dtype, max, outer, n, inner, 1, n};
    if (units >= FEW || n < 2 * piece) {
        add_reduction(c, a);
        return;
    }
    a.piece = piece;
    a.pieces = round_up(n, piece);
    a.y_dtype = dg_dtype_is_float((dg_dtype)x_dtype) ? DG_F32 : x_dtype;
    a.y = dg_cpu_scratch(c, (uint64_t)(outer * a.pieces * inner) * dg_dtype_size((dg_dtype)a.y_dtype));
    add_reduction(c, a);
    dg_cpu_emit_reduction(c, a.y, a.y_dtype, outer, a.pieces, inner, y, y_dtype, max);
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

static void emit(dg_cpu_plan *c, uint32_t i, bool max)
{
    const dg_program_node *node = &c->p->nodes[i];
    const dg_type *t = dg_cpu_type(c, node->in[0]), *out = dg_cpu_type(c, node->out);
    groups g = groups_of(t, dg_cpu_attr(node, "axes"));
    const void *x = dg_cpu_in(c, node->in[0]);
    void *y = dg_cpu_out(c, node->out);
    int32_t dtype = t->dtype;
    int left = 0;
    for (int k = 0; k < g.n; k++) left += g.reduced[k];
    for (int k = g.n - 1; k >= 0; k--) {
        if (!g.reduced[k]) continue;
        int64_t outer = 1, inner = 1;
        for (int j = 0; j < k; j++) outer *= g.size[j];
        for (int j = k + 1; j < g.n; j++) inner *= g.size[j];
        int32_t to = --left == 0 ? out->dtype : dg_dtype_is_float((dg_dtype)dtype) ? DG_F32 : dtype;
        void *result =
            left == 0 ? y : dg_cpu_scratch(c, (uint64_t)(outer * inner) * dg_dtype_size((dg_dtype)to));
        dg_cpu_emit_reduction(c, x, dtype, outer, g.size[k], inner, result, to, max);
        g.size[k] = 1;
        x = result;
        dtype = to;
    }
}

void dg_cpu_emit_reduce_sum(dg_cpu_plan *c, uint32_t n)
{
    emit(c, n, false);
}

void dg_cpu_emit_reduce_max(dg_cpu_plan *c, uint32_t n)
{
    emit(c, n, true);
}

/* ---- choices */

void dg_cpu_emit_argmax(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *t = dg_cpu_type(c, n->in[0]);
    int64_t axis = dg_cpu_int(n, "axis");
    dg_cpu_choose a = {.x = dg_cpu_in(c, n->in[0]),
                       .ids = dg_cpu_out(c, n->out),
                       .dtype = t->dtype,
                       .n = t->dims[axis],
                       .inner = 1};
    for (int64_t k = axis + 1; k < t->rank; k++) a.inner *= t->dims[k];
    DG_CPU_STEP(c, c->cpu->kernels->argmax, a, dg_type_count(t) / a.n, a.n >= 4096 ? 1 : 4096 / a.n, 0);
}

void dg_cpu_emit_top_k(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *t = dg_cpu_type(c, n->in[0]);
    dg_cpu_choose a = {.x = dg_cpu_in(c, n->in[0]),
                       .y = dg_cpu_out(c, n->out),
                       .ids = dg_cpu_out(c, n->out + 1),
                       .dtype = t->dtype,
                       .n = t->dims[t->rank - 1],
                       .k = dg_cpu_int(n, "k")};
    DG_CPU_STEP(c, c->cpu->kernels->top_k, a, dg_type_count(t) / a.n, a.n >= 4096 ? 1 : 4096 / a.n,
                a.k * (int64_t)sizeof(float));
}
