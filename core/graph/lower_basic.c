/* lower_basic.c - linear, linear_int8, softmax, gelu, layer_norm and normalize as primitives, and their
 * adjoints. */
#include "lower.h"

void dg_lower_linear(const dg_lower *c)
{
    dg_graph *g = c->g;
    dg_type tx = dg_type_of(g, c->in[0]), y = tx, tw = dg_type_of(g, c->in[1]);
    int64_t out = dg_ai(c->attrs, 0) ? dg_ai(c->attrs, 0) : tx.dtype;
    if (tx.rank) y.dims[tx.rank - 1] = tw.dims[0];
    dg_value rows = dg_reshape(g, c->in[0], DG_LIST(-1, tw.dims[1])); // [rows, in]
    bool bias = dg_has(c, 2);
    dg_value v = dg_matmul(g, rows, c->in[1], false, true, bias ? DG_F32 : (dg_dtype)out); // [rows, out]
    if (bias) v = dg_as(g, dg_add(g, v, dg_as_f32(g, c->in[2])), (int32_t)out);
    c->y[0] = dg_reshape_like(g, v, y);
}

/* v [rows, n] as integers -127..127 in f32; *scale [rows, 1]. */
static dg_value quantized(dg_graph *g, dg_value v, dg_value *scale)
{
    dg_value most = dg_max_last(g, dg_abs(g, v));
    dg_value inverse = dg_div(g, dg_number(g, 127), dg_max(g, most, dg_number(g, 1e-30)));
    *scale = dg_mul(g, most, dg_number(g, 1.0 / 127));
    return dg_floor(g, dg_add(g, dg_mul(g, v, inverse), dg_number(g, 0.5)));
}

void dg_lower_linear_int8(const dg_lower *c)
{
    dg_graph *g = c->g;
    dg_type y = dg_type_of(g, c->in[0]), tw = dg_type_of(g, c->in[1]);
    int64_t out = dg_ai(c->attrs, 1) ? dg_ai(c->attrs, 1) : y.dtype;
    double outlier = dg_af(c->attrs, 0);
    dg_value x = dg_reshape(g, dg_as_f32(g, c->in[0]), DG_LIST(-1, tw.dims[1])), w = dg_as_f32(g, c->in[1]);
    dg_value kept = x, scale_x, scale_w;
    y.dims[y.rank - 1] = tw.dims[0];
    if (outlier > 0) {
        dg_value limit = dg_mul(g, dg_mean_last(g, dg_abs(g, x)), dg_number(g, outlier));
        dg_value beyond = dg_gt(g, dg_abs(g, x), limit);
        kept = dg_select(g, beyond, dg_mul(g, dg_sign(g, x), limit), x);
    }
    dg_value qx = quantized(g, kept, &scale_x), qw = quantized(g, w, &scale_w); // [rows, in], [out, in]
    dg_value v = dg_mul(g, dg_matmul(g, qx, qw, false, true, DG_F32), scale_x); // [rows, out]
    v = dg_mul(g, v, dg_reshape(g, scale_w, DG_LIST(tw.dims[0])));
    if (outlier > 0) v = dg_add(g, v, dg_matmul(g, dg_sub(g, x, kept), w, false, true, DG_F32));
    if (dg_has(c, 2)) v = dg_add(g, v, dg_as_f32(g, c->in[2]));
    c->y[0] = dg_reshape_like(g, dg_as(g, v, (int32_t)out), y);
}

void dg_lower_softmax(const dg_lower *c)
{
    dg_graph *g = c->g;
    dg_value x = dg_as_f32(g, c->in[0]);
    dg_value e = dg_exp(g, dg_sub(g, x, dg_max_last(g, x)));
    c->y[0] = dg_as(g, dg_div(g, e, dg_sum_last(g, e)), dg_type_of(g, c->in[0]).dtype);
}

/* ---- gelu */

/* 1 / (1 + exp(-x)); an exp that overflows gives 0, as it should. */
static dg_value sigmoid(dg_graph *g, dg_value x)
{
    dg_value one = dg_number(g, 1);
    return dg_div(g, one, dg_add(g, one, dg_exp(g, dg_neg(g, x))));
}

/* The normal distribution function, 0.5 (1 + erf(x / sqrt 2)). */
static dg_value phi(dg_graph *g, dg_value x)
{
    dg_value e = dg_erf(g, dg_mul(g, x, dg_number(g, 0.70710678118654752440)));
    return dg_mul(g, dg_number(g, 0.5), dg_add(g, dg_number(g, 1), e));
}

void dg_lower_gelu(const dg_lower *c)
{
    dg_graph *g = c->g;
    dg_value x = dg_as_f32(g, c->in[0]);
    dg_value gate = dg_ai(c->attrs, 0) ? sigmoid(g, dg_mul(g, x, dg_number(g, 1.702))) : phi(g, x);
    c->y[0] = dg_as(g, dg_mul(g, x, gate), dg_type_of(g, c->in[0]).dtype);
}

void dg_lower_gelu_grad(const dg_lower *c)
{
    dg_graph *g = c->g;
    dg_value dy = dg_as_f32(g, c->in[0]), x = dg_as_f32(g, c->in[1]), gate, slope;
    if (dg_ai(c->attrs, 0)) {
        gate = sigmoid(g, dg_mul(g, x, dg_number(g, 1.702)));
        slope = dg_mul(g, dg_number(g, 1.702), dg_mul(g, gate, dg_sub(g, dg_number(g, 1), gate)));
    } else {
        gate = phi(g, x);
        dg_value bell = dg_exp(g, dg_mul(g, dg_number(g, -0.5), dg_mul(g, x, x)));
        slope = dg_mul(g, dg_number(g, 0.39894228040143267794), bell); /* 1 / sqrt(2 pi) */
    }
    dg_value d = dg_add(g, gate, dg_mul(g, x, slope));
    c->y[0] = dg_as(g, dg_mul(g, dy, d), dg_type_of(g, c->in[1]).dtype);
}

/* ---- layer_norm, in two passes: the variance is of what is left after the mean */

void dg_lower_layer_norm(const dg_lower *c)
{
    dg_graph *g = c->g;
    int64_t out = dg_ai(c->attrs, 1) ? dg_ai(c->attrs, 1) : dg_type_of(g, c->in[0]).dtype;
    dg_value x = dg_as_f32(g, c->in[0]);
    dg_value mean = dg_mean_last(g, x), rest = dg_sub(g, x, mean); // [..., 1], [..., n]
    dg_value variance = dg_mean_last(g, dg_mul(g, rest, rest));
    dg_value rstd = dg_rsqrt(g, dg_add(g, variance, dg_number(g, dg_af(c->attrs, 0))));
    dg_value y = dg_mul(g, rest, rstd);
    if (dg_has(c, 1)) y = dg_mul(g, y, c->in[1]);
    if (dg_has(c, 2)) y = dg_add(g, y, c->in[2]);
    c->y[0] = dg_as(g, y, (int32_t)out);
    c->y[1] = dg_drop_last(g, mean);
    c->y[2] = dg_drop_last(g, rstd);
}

void dg_lower_layer_norm_grad(const dg_lower *c)
{
    dg_graph *g = c->g;
    dg_type t = dg_type_of(g, c->in[1]);
    dg_value dy = dg_as_f32(g, c->in[0]), x = dg_as_f32(g, c->in[1]);
    dg_value mean = dg_add_last(g, c->in[2]), rstd = dg_add_last(g, c->in[3]);
    dg_value hat = dg_mul(g, dg_sub(g, x, mean), rstd);
    dg_value d = dg_has(c, 4) ? dg_mul(g, dy, c->in[4]) : dy;
    dg_value along = dg_mul(g, hat, dg_mean_last(g, dg_mul(g, d, hat)));
    dg_value dx = dg_mul(g, rstd, dg_sub(g, dg_sub(g, d, dg_mean_last(g, d)), along));
    c->y[0] = dg_as(g, dx, t.dtype);
    const dg_value to_sum[] = {dg_mul(g, dy, hat), dy};
    for (int k = 0; k < 2; k++) {
        dg_value rows = dg_reshape(g, to_sum[k], DG_LIST(-1, dg_dim(g, c->in[1], -1)));
        c->y[1 + k] = dg_reduce_sum(g, rows, DG_LIST(0), false, DG_NONE);
    }
}

/* ---- normalize */

void dg_lower_normalize(const dg_lower *c)
{
    dg_graph *g = c->g;
    dg_value x = dg_as_f32(g, c->in[0]), norm = dg_sqrt(g, dg_sum_last(g, dg_mul(g, x, x)));
    dg_value rnorm = dg_div(g, dg_number(g, 1), dg_max(g, norm, dg_number(g, dg_af(c->attrs, 0))));
    c->y[0] = dg_as(g, dg_mul(g, x, rnorm), dg_type_of(g, c->in[0]).dtype);
    c->y[1] = dg_drop_last(g, rnorm);
}

void dg_lower_normalize_grad(const dg_lower *c)
{
    dg_graph *g = c->g;
    dg_value dy = dg_as_f32(g, c->in[0]), y = dg_as_f32(g, c->in[1]), rnorm = dg_add_last(g, c->in[2]);
    dg_value along = dg_mul(g, y, dg_sum_last(g, dg_mul(g, dy, y)));
    if (dg_af(c->attrs, 0) > 0) { /* a length of at most eps counts as eps, whatever x is */
        dg_value share = dg_mul(g, rnorm, dg_number(g, dg_af(c->attrs, 0)));
        along = dg_select(g, dg_lt(g, share, dg_number(g, 0.999999)), along, dg_number(g, 0));
    }
    c->y[0] = dg_as(g, dg_mul(g, rnorm, dg_sub(g, dy, along)), dg_type_of(g, c->in[1]).dtype);
}
