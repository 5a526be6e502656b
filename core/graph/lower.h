/* lower.h - what the lowerings write with. A lowering computes in f32 whatever arrives, and converts to the
 * output's dtype once, at its end. */
#ifndef DG_GRAPH_LOWER_H
#define DG_GRAPH_LOWER_H

#include "rules.h"

static inline DG_UNUSED bool dg_has(const dg_lower *c, size_t k)
{
    return k < c->n_in && dg_is_value(c->in[k]);
}

static inline DG_UNUSED dg_value dg_as(dg_graph *g, dg_value v, int32_t dtype)
{
    return dg_type_of(g, v).dtype == dtype ? v : dg_convert(g, v, (dg_dtype)dtype);
}

static inline DG_UNUSED dg_value dg_as_f32(dg_graph *g, dg_value v)
{
    return dg_as(g, v, DG_F32);
}

/* An f32 scalar. */
static inline DG_UNUSED dg_value dg_number(dg_graph *g, double x)
{
    return dg_fill(g, DG_F32, NULL, 0, x);
}

/* Sum and maximum over the last axis, which stays as 1. */
static inline DG_UNUSED dg_value dg_sum_last(dg_graph *g, dg_value v)
{
    return dg_reduce_sum(g, v, DG_LIST(dg_type_of(g, v).rank - 1), true, DG_NONE);
}

static inline DG_UNUSED dg_value dg_max_last(dg_graph *g, dg_value v)
{
    return dg_reduce_max(g, v, DG_LIST(dg_type_of(g, v).rank - 1), true);
}

static inline DG_UNUSED dg_value dg_mean_last(dg_graph *g, dg_value v)
{
    return dg_div(g, dg_sum_last(g, v), dg_number(g, (double)dg_dim(g, v, -1)));
}

/* [..., 1] -> [...] and back. */
static inline DG_UNUSED dg_value dg_drop_last(dg_graph *g, dg_value v)
{
    dg_type t = dg_type_of(g, v);
    return dg_reshape(g, v, t.dims, t.rank ? (size_t)t.rank - 1 : 0);
}

static inline DG_UNUSED dg_value dg_add_last(dg_graph *g, dg_value v)
{
    dg_type t = dg_type_of(g, v);
    if (t.rank < DG_MAX_RANK) t.dims[t.rank] = 1;
    return dg_reshape(g, v, t.dims, (size_t)t.rank + 1);
}

static inline DG_UNUSED dg_value dg_reshape_like(dg_graph *g, dg_value v, dg_type t)
{
    return dg_reshape(g, v, t.dims, (size_t)t.rank);
}

#endif
