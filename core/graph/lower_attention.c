/* lower_attention.c - attention and its adjoint as primitives. */
#include "lower.h"

#include <math.h>

/* What both directions share. The optional inputs stand at `extra`. */
typedef struct heads {
    dg_graph *g;
    int64_t b, nq, nk, h, d; /* batch, queries, keys, heads, width of a head */
    double scale;
    bool strict;
    int32_t dtype;                   /* compute dtype */
    dg_value group_q, group_k, bias; /* DG_NO_VALUE when absent */
} heads;

static heads heads_of(const dg_lower *c, size_t q, size_t extra)
{
    dg_graph *g = c->g;
    int64_t h = dg_ai(c->attrs, 0), d = dg_dim(g, c->in[q], 2) / h;
    double scale = dg_af(c->attrs, 1);
    heads s = {.g = g,
               .b = dg_dim(g, c->in[q], 0),
               .nq = dg_dim(g, c->in[q], 1),
               .nk = dg_dim(g, c->in[q + 1], 1),
               .h = h,
               .d = d,
               .scale = scale != 0 ? scale : 1 / sqrt((double)d),
               .strict = dg_ai(c->attrs, 2) != 0,
               .dtype = dg_type_of(g, c->in[q]).dtype};
    dg_value *const to[] = {&s.group_q, &s.group_k, &s.bias};
    for (size_t k = 0; k < 3; k++) *to[k] = dg_has(c, extra + k) ? c->in[extra + k] : DG_NO_VALUE;
    return s;
}

/* [b, n, h d] -> [b, h, n, d] */
static dg_value split(const heads *s, dg_value v, int64_t n)
{
    return dg_transpose(s->g, dg_reshape(s->g, v, DG_LIST(s->b, n, s->h, s->d)), DG_LIST(0, 2, 1, 3));
}

/* [b, h, n, d] -> [b, n, h d] */
static dg_value join(const heads *s, dg_value v, int64_t n)
{
    return dg_reshape(s->g, dg_transpose(s->g, v, DG_LIST(0, 2, 1, 3)), DG_LIST(s->b, n, s->h * s->d));
}

/* v, or `instead` where v is -inf. */
static dg_value unless_minus_infinity(dg_graph *g, dg_value v, double instead)
{
    return dg_select(g, dg_eq(g, v, dg_number(g, -INFINITY)), dg_number(g, instead), v);
}

/* scale q k' + bias, -inf where the groups forbid to look: f32 [b, h, nq, nk]. */
static dg_value scores(const heads *s, dg_value q, dg_value k)
{
    dg_graph *g = s->g;
    dg_value v = dg_mul(g, dg_matmul(g, q, k, false, true, DG_F32), dg_number(g, s->scale));
    if (dg_is_value(s->bias)) v = dg_add(g, v, s->bias);
    if (!dg_is_value(s->group_q)) return v;
    dg_value gq = dg_reshape(g, s->group_q, DG_LIST(-1, 1, s->nq, 1)); // [b or 1, 1, nq, 1]
    dg_value gk = dg_reshape(g, s->group_k, DG_LIST(-1, 1, 1, s->nk)); // [b or 1, 1, 1, nk]
    dg_value sees = s->strict ? dg_gt(g, gq, gk) : dg_ge(g, gq, gk);
    return dg_select(g, sees, v, dg_number(g, -INFINITY));
}

void dg_lower_attention(const dg_lower *c)
{
    dg_graph *g = c->g;
    heads s = heads_of(c, 0, 3);
    dg_value v = scores(&s, split(&s, c->in[0], s.nq), split(&s, c->in[1], s.nk)); // [b, h, nq, nk]
    /* A row that sees nothing has the maximum -inf and the sum 0: both are replaced, so that it becomes zero.
     */
    dg_value most = unless_minus_infinity(g, dg_max_last(g, v), 0); // [b, h, nq, 1]
    dg_value e = dg_exp(g, dg_sub(g, v, most)), sum = dg_sum_last(g, e);
    dg_value empty = dg_eq(g, sum, dg_number(g, 0));
    dg_value p = dg_div(g, e, dg_select(g, empty, dg_number(g, 1), sum));
    dg_value y = dg_matmul(g, dg_as(g, p, s.dtype), split(&s, c->in[2], s.nk), false, false, DG_NONE);
    c->y[0] = join(&s, y, s.nq);
    c->y[1] = dg_drop_last(g, dg_add(g, most, dg_log(g, sum)));
}

void dg_lower_attention_grad(const dg_lower *c)
{
    dg_graph *g = c->g;
    heads s = heads_of(c, 1, 6);
    dg_value dy = split(&s, c->in[0], s.nq), y = split(&s, c->in[4], s.nq);
    dg_value q = split(&s, c->in[1], s.nq), k = split(&s, c->in[2], s.nk), v = split(&s, c->in[3], s.nk);
    dg_value lse = unless_minus_infinity(g, dg_add_last(g, c->in[5]), 0); // [b, h, nq, 1]
    dg_value p = dg_exp(g, dg_sub(g, scores(&s, q, k), lse));             // [b, h, nq, nk]
    dg_value delta = dg_sum_last(g, dg_mul(g, dg_as_f32(g, dy), dg_as_f32(g, y)));
    dg_value dp = dg_matmul(g, dy, v, false, true, DG_F32);
    dg_value ds = dg_mul(g, p, dg_sub(g, dp, delta)); // of the scores after scale and bias
    dg_value scaled = dg_as(g, dg_mul(g, ds, dg_number(g, s.scale)), s.dtype);
    c->y[0] = join(&s, dg_matmul(g, scaled, k, false, false, DG_NONE), s.nq);
    c->y[1] = join(&s, dg_matmul(g, scaled, q, true, false, DG_NONE), s.nk);
    c->y[2] = join(&s, dg_matmul(g, dg_as(g, p, s.dtype), dy, true, false, DG_NONE), s.nk);
    if (!dg_is_value(s.bias))
        c->y[3] = dg_number(g, 0);
    else if (dg_dim(g, s.bias, 0) == s.b)
        c->y[3] = ds;
    else
        c->y[3] = dg_reduce_sum(g, ds, DG_LIST(0), true, DG_NONE);
}
