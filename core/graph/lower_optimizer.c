/* lower_optimizer.c - adamw as primitives, in the order of operations of torch.optim.AdamW. */
#include "lower.h"

/* Element k of a vector, as a scalar. */
static dg_value element(dg_graph *g, dg_value v, int64_t k)
{
    return dg_reshape(g, dg_slice(g, v, DG_LIST(k), DG_LIST(k + 1)), NULL, 0);
}

/* rate * old + (1 - rate) * x */
static dg_value decayed(dg_graph *g, double rate, dg_value old, dg_value x)
{
    return dg_add(g, dg_mul(g, dg_number(g, rate), old), dg_mul(g, dg_number(g, 1 - rate), x));
}

void dg_lower_adamw(const dg_lower *c)
{
    dg_graph *g = c->g;
    double beta1 = dg_af(c->attrs, 0), beta2 = dg_af(c->attrs, 1), eps = dg_af(c->attrs, 2);
    double lr_scale = dg_af(c->attrs, 3), decay = dg_af(c->attrs, 4);
    dg_value grad = c->in[1], one = dg_number(g, 1);
    dg_value lr = dg_mul(g, element(g, c->in[4], 0), dg_number(g, lr_scale));
    dg_value p = dg_mul(g, c->in[0], dg_sub(g, one, dg_mul(g, lr, dg_number(g, decay))));
    dg_value m = decayed(g, beta1, c->in[2], grad), v = decayed(g, beta2, c->in[3], dg_mul(g, grad, grad));
    dg_value root = dg_div(g, dg_sqrt(g, v), dg_sqrt(g, element(g, c->in[4], 2)));
    dg_value denom = dg_add(g, root, dg_number(g, eps));
    dg_value step = dg_div(g, lr, element(g, c->in[4], 1));
    p = dg_sub(g, p, dg_mul(g, step, dg_div(g, m, denom)));
    const dg_value new[] = {p, m, v}, old[] = {c->in[0], c->in[2], c->in[3]};
    for (int k = 0; k < 3; k++) c->y[k] = dg_has(c, 5) ? dg_select(g, c->in[5], new[k], old[k]) : new[k];
}
