/* lower_loss.c - cross_entropy and its adjoint as primitives. */
#include "lower.h"

/* The target as smoothed probabilities f32 [..., c], and (ids only) where there is one: bool [..., 1]. */
typedef struct target {
    dg_value t, valid;
} target;

static target target_of(dg_graph *g, dg_value x, dg_value given, double smoothing)
{
    dg_type t = dg_type_of(g, x);
    target r = {DG_NO_VALUE, DG_NO_VALUE};
    if (dg_type_of(g, given).dtype == DG_I32) {
        dg_value ids = dg_add_last(g, given);
        dg_value classes = dg_iota(g, DG_I32, t.dims, (size_t)t.rank, t.rank - 1);
        r.t = dg_convert(g, dg_eq(g, classes, ids), DG_F32);
        r.valid = dg_ge(g, ids, dg_fill(g, DG_I32, NULL, 0, 0));
    } else {
        r.t = given;
    }
    if (smoothing != 0) {
        dg_value share = dg_number(g, smoothing / (double)dg_dim(g, x, -1));
        r.t = dg_add(g, dg_mul(g, r.t, dg_number(g, 1 - smoothing)), share);
    }
    return r;
}

/* v [..., 1] or [..., c], or 0 where the id says that there is no target. */
static dg_value where_valid(dg_graph *g, const target *t, dg_value v)
{
    return dg_is_value(t->valid) ? dg_select(g, t->valid, v, dg_number(g, 0)) : v;
}

void dg_lower_cross_entropy(const dg_lower *c)
{
    dg_graph *g = c->g;
    dg_value x = dg_as_f32(g, c->in[0]), most = dg_max_last(g, x), z = dg_sub(g, x, most);
    dg_value log_sum = dg_log(g, dg_sum_last(g, dg_exp(g, z))); // [..., 1]
    target t = target_of(g, x, c->in[1], dg_af(c->attrs, 0));
    /* -t log p is 0 where t is 0, also for a class that is ruled out by a logit of -inf. */
    dg_value none = dg_eq(g, t.t, dg_number(g, 0));
    dg_value terms = dg_select(g, none, dg_number(g, 0), dg_mul(g, t.t, dg_sub(g, log_sum, z)));
    c->y[0] = dg_drop_last(g, where_valid(g, &t, dg_sum_last(g, terms)));
    c->y[1] = dg_drop_last(g, dg_add(g, most, log_sum));
}

void dg_lower_cross_entropy_grad(const dg_lower *c)
{
    dg_graph *g = c->g;
    dg_value dy = dg_add_last(g, c->in[0]), x = dg_as_f32(g, c->in[1]), lse = dg_add_last(g, c->in[3]);
    target t = target_of(g, x, c->in[2], dg_af(c->attrs, 0));
    dg_value p = dg_exp(g, dg_sub(g, x, lse));
    dg_value d = dg_sub(g, dg_mul(g, p, dg_sum_last(g, t.t)), t.t);
    c->y[0] = dg_as(g, where_valid(g, &t, dg_mul(g, dy, d)), dg_type_of(g, c->in[1]).dtype);
}
