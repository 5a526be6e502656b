/* grad.c - gradient rules. dy has y's shape, and y's dtype or f32; so has dx for x. */
#include "rules.h"

#define IN(K) (c->in[K])

static dg_type type_of(const dg_grad *c, dg_value v)
{
    return dg_type_of(c->g, v);
}

static dg_value as_dtype(dg_graph *g, dg_value v, int32_t dtype)
{
    return dg_type_of(g, v).dtype == dtype ? v : dg_convert(g, v, (dg_dtype)dtype);
}

/* dy in the dtype of v. */
static dg_value dy_like(const dg_grad *c, dg_value v)
{
    return as_dtype(c->g, c->dy[0], type_of(c, v).dtype);
}

static dg_value number(dg_graph *g, int32_t dtype, double value)
{
    return dg_fill(g, (dg_dtype)dtype, NULL, 0, value);
}

/* The adjoint of broadcasting: sums v over the axes that were stretched from `to`. */
static dg_value sum_to(dg_graph *g, dg_value v, dg_type to)
{
    dg_type t = dg_type_of(g, v);
    int64_t axes[DG_MAX_RANK];
    size_t n = 0;
    int lead = t.rank - to.rank;
    for (int i = 0; i < t.rank; i++)
        if (i < lead || (to.dims[i - lead] == 1 && t.dims[i] != 1)) axes[n++] = i;
    if (n) v = dg_reduce_sum(g, v, axes, n, true, DG_NONE);
    return lead ? dg_reshape(g, v, to.dims, (size_t)to.rank) : v;
}

static dg_value sum_like(const dg_grad *c, dg_value v, dg_value like)
{
    return sum_to(c->g, v, type_of(c, like));
}

/* ---- element-wise */

static void grad_neg(const dg_grad *c)
{
    c->dx[0] = dg_neg(c->g, c->dy[0]);
}
static void grad_exp(const dg_grad *c)
{
    c->dx[0] = dg_mul(c->g, dy_like(c, c->y[0]), c->y[0]);
}
static void grad_log(const dg_grad *c)
{
    c->dx[0] = dg_div(c->g, dy_like(c, IN(0)), IN(0));
}
static void grad_abs(const dg_grad *c)
{
    c->dx[0] = dg_mul(c->g, dy_like(c, IN(0)), dg_sign(c->g, IN(0)));
}
static void grad_sin(const dg_grad *c)
{
    c->dx[0] = dg_mul(c->g, dy_like(c, IN(0)), dg_cos(c->g, IN(0)));
}
static void grad_cos(const dg_grad *c)
{
    c->dx[0] = dg_neg(c->g, dg_mul(c->g, dy_like(c, IN(0)), dg_sin(c->g, IN(0))));
}

static void grad_sqrt(const dg_grad *c)
{
    dg_value dy = dy_like(c, IN(0));
    c->dx[0] = dg_div(c->g, dg_mul(c->g, dy, number(c->g, type_of(c, dy).dtype, 0.5)), c->y[0]);
}

static void grad_rsqrt(const dg_grad *c)
{
    dg_value y = c->y[0], dy = dy_like(c, y), cube = dg_mul(c->g, dg_mul(c->g, y, y), y);
    c->dx[0] = dg_mul(c->g, dg_mul(c->g, dy, cube), number(c->g, type_of(c, y).dtype, -0.5));
}

static void grad_tanh(const dg_grad *c)
{
    dg_value y = c->y[0], one = number(c->g, type_of(c, y).dtype, 1);
    c->dx[0] = dg_mul(c->g, dy_like(c, y), dg_sub(c->g, one, dg_mul(c->g, y, y)));
}

static void grad_erf(const dg_grad *c)
{
    dg_value x = IN(0), bell = dg_exp(c->g, dg_neg(c->g, dg_mul(c->g, x, x)));
    dg_value k = number(c->g, type_of(c, x).dtype, 1.1283791670955126); /* 2 / sqrt(pi) */
    c->dx[0] = dg_mul(c->g, dg_mul(c->g, dy_like(c, x), bell), k);
}

static void grad_add(const dg_grad *c)
{
    for (int k = 0; k < 2; k++)
        if (c->needed[k]) c->dx[k] = sum_like(c, c->dy[0], IN(k));
}

static void grad_sub(const dg_grad *c)
{
    if (c->needed[0]) c->dx[0] = sum_like(c, c->dy[0], IN(0));
    if (c->needed[1]) c->dx[1] = sum_like(c, dg_neg(c->g, c->dy[0]), IN(1));
}

static void grad_mul(const dg_grad *c)
{
    dg_value dy = dy_like(c, IN(0));
    for (int k = 0; k < 2; k++)
        if (c->needed[k]) c->dx[k] = sum_like(c, dg_mul(c->g, dy, IN(1 - k)), IN(k));
}

static void grad_div(const dg_grad *c)
{
    dg_value quotient = dg_div(c->g, dy_like(c, IN(1)), IN(1));
    if (c->needed[0]) c->dx[0] = sum_like(c, quotient, IN(0));
    if (c->needed[1]) c->dx[1] = sum_like(c, dg_neg(c->g, dg_mul(c->g, quotient, c->y[0])), IN(1));
}

/* The gradient of the pick goes to a where `to_a`, to b elsewhere. */
static void route(const dg_grad *c, dg_value to_a, int a, int b)
{
    dg_value zero = number(c->g, type_of(c, c->dy[0]).dtype, 0);
    if (c->needed[a]) c->dx[a] = sum_like(c, dg_select(c->g, to_a, c->dy[0], zero), IN(a));
    if (c->needed[b]) c->dx[b] = sum_like(c, dg_select(c->g, to_a, zero, c->dy[0]), IN(b));
}

static void grad_max(const dg_grad *c)
{
    route(c, dg_ge(c->g, IN(0), IN(1)), 0, 1);
}
static void grad_min(const dg_grad *c)
{
    route(c, dg_le(c->g, IN(0), IN(1)), 0, 1);
}
static void grad_select(const dg_grad *c)
{
    route(c, IN(0), 1, 2);
}

/* ---- types and shapes */

static void grad_convert(const dg_grad *c)
{
    if (dg_dtype_is_float((dg_dtype)type_of(c, c->y[0]).dtype)) c->dx[0] = dy_like(c, IN(0));
}

static void grad_reshape(const dg_grad *c)
{
    dg_type t = type_of(c, IN(0));
    c->dx[0] = dg_reshape(c->g, c->dy[0], t.dims, (size_t)t.rank);
}

static void grad_transpose(const dg_grad *c)
{
    const dg_attr *perm = &c->node->attrs[0];
    int64_t inverse[DG_MAX_RANK];
    for (uint64_t i = 0; i < perm->n; i++) inverse[perm->v.is[i]] = (int64_t)i;
    c->dx[0] = dg_transpose(c->g, c->dy[0], inverse, perm->n);
}

static void grad_broadcast(const dg_grad *c)
{
    c->dx[0] = sum_like(c, c->dy[0], IN(0));
}

static void grad_slice(const dg_grad *c)
{
    const dg_attr *starts = &c->node->attrs[0], *limits = &c->node->attrs[1];
    dg_type t = type_of(c, IN(0));
    int64_t high[DG_MAX_RANK];
    for (int i = 0; i < t.rank; i++) high[i] = t.dims[i] - limits->v.is[i];
    c->dx[0] = dg_pad(c->g, c->dy[0], starts->v.is, starts->n, high, (size_t)t.rank, 0);
}

static void grad_pad(const dg_grad *c)
{
    const dg_attr *low = &c->node->attrs[0];
    dg_type t = type_of(c, IN(0));
    int64_t limits[DG_MAX_RANK];
    for (int i = 0; i < t.rank; i++) limits[i] = low->v.is[i] + t.dims[i];
    c->dx[0] = dg_slice(c->g, c->dy[0], low->v.is, low->n, limits, (size_t)t.rank);
}

static void grad_concat(const dg_grad *c)
{
    int64_t axis = dg_ai(c->node->attrs, 0), at = 0;
    dg_type y = type_of(c, c->y[0]);
    int64_t starts[DG_MAX_RANK] = {0}, limits[DG_MAX_RANK];
    memcpy(limits, y.dims, sizeof limits);
    for (int32_t k = 0; k < c->node->n_in; k++) {
        starts[axis] = at;
        at += type_of(c, IN(k)).dims[axis];
        limits[axis] = at;
        if (c->needed[k]) c->dx[k] = dg_slice(c->g, c->dy[0], starts, (size_t)y.rank, limits, (size_t)y.rank);
    }
}

/* ---- rows by index */

static void grad_gather(const dg_grad *c)
{
    bool batch = dg_ai(c->node->attrs, 0) != 0;
    int64_t rows = type_of(c, IN(0)).dims[batch];
    dg_value ids = dg_max(c->g, IN(1), number(c->g, DG_I32, 0)); /* to the rows that were read */
    ids = dg_min(c->g, ids, number(c->g, DG_I32, (double)(rows - 1)));
    c->dx[0] = dg_scatter_add(c->g, ids, c->dy[0], rows, batch);
}

static void grad_scatter_add(const dg_grad *c)
{
    int64_t rows = dg_ai(c->node->attrs, 0);
    dg_value ids = IN(0), inside = dg_and(c->g, dg_ge(c->g, ids, number(c->g, DG_I32, 0)),
                                          dg_lt(c->g, ids, number(c->g, DG_I32, (double)rows)));
    dg_value taken = dg_gather(c->g, c->dy[0], ids, dg_ai(c->node->attrs, 1) != 0);
    dg_type t = type_of(c, ids), wide = type_of(c, IN(1));
    for (int i = t.rank; i < wide.rank; i++) t.dims[i] = 1;
    inside = dg_reshape(c->g, inside, t.dims, (size_t)wide.rank);
    c->dx[1] = dg_select(c->g, inside, taken, number(c->g, type_of(c, taken).dtype, 0));
}

/* ---- reductions */

/* v, which lacks the reduced axes, with 1 in their place. */
static dg_value kept(const dg_grad *c, dg_value v)
{
    const dg_attr *axes = &c->node->attrs[0];
    dg_type t = type_of(c, IN(0));
    for (uint64_t i = 0; i < axes->n; i++) t.dims[axes->v.is[i]] = 1;
    return dg_reshape(c->g, v, t.dims, (size_t)t.rank);
}

static void grad_reduce_sum(const dg_grad *c)
{
    dg_type t = type_of(c, IN(0));
    c->dx[0] = dg_broadcast(c->g, as_dtype(c->g, kept(c, c->dy[0]), t.dtype), t.dims, (size_t)t.rank);
}

/* Shared evenly among equal maxima. */
static void grad_reduce_max(const dg_grad *c)
{
    const dg_attr *axes = &c->node->attrs[0];
    dg_type t = type_of(c, IN(0));
    dg_value hit = dg_convert(c->g, dg_eq(c->g, IN(0), kept(c, c->y[0])), (dg_dtype)t.dtype);
    dg_value share = dg_div(c->g, kept(c, dy_like(c, IN(0))),
                            dg_reduce_sum(c->g, hit, axes->v.is, axes->n, true, DG_NONE));
    c->dx[0] = dg_mul(c->g, hit, share);
}

static void grad_all_reduce(const dg_grad *c)
{
    c->dx[0] = dg_all_reduce(c->g, c->dy[0]);
}

/* Every rank's loss may depend on what a rank gave away, so that its gradient is summed over them. */
static void grad_all_gather(const dg_grad *c)
{
    c->dx[0] = dg_reduce_scatter(c->g, c->dy[0], dg_ai(c->node->attrs, 0));
}

static void grad_reduce_scatter(const dg_grad *c)
{
    c->dx[0] = dg_all_gather(c->g, c->dy[0], dg_ai(c->node->attrs, 0));
}

/* dy stands where this rank's part was, among zeros. */
static void grad_shard(const dg_grad *c)
{
    int64_t rows = type_of(c, IN(0)).dims[0];
    dg_value places = dg_iota(c->g, DG_I32, DG_LIST(rows), 0);
    c->dx[0] = dg_scatter_add(c->g, dg_shard(c->g, places, dg_ai(c->node->attrs, 0)), c->dy[0], rows, false);
}

/* ---- products */

static void grad_matmul(const dg_grad *c)
{
    bool ta = dg_ai(c->node->attrs, 0) != 0, tb = dg_ai(c->node->attrs, 1) != 0;
    dg_value a = IN(0), b = IN(1), dy = dy_like(c, a);
    if (c->needed[0])
        c->dx[0] =
            ta ? dg_matmul(c->g, b, dy, tb, true, DG_NONE) : dg_matmul(c->g, dy, b, false, !tb, DG_NONE);
    if (c->needed[1])
        c->dx[1] =
            tb ? dg_matmul(c->g, dy, a, true, ta, DG_NONE) : dg_matmul(c->g, a, dy, !ta, false, DG_NONE);
}

static void grad_linear(const dg_grad *c)
{
    dg_graph *g = c->g;
    dg_value x = IN(0), w = IN(1), dy = dy_like(c, x);
    dg_type tx = type_of(c, x), tw = type_of(c, w);
    dg_value dy2 = dg_reshape(g, dy, DG_LIST(-1, tw.dims[0])); // [rows, out]
    if (c->needed[0])
        c->dx[0] = dg_reshape(g, dg_matmul(g, dy2, w, false, false, DG_NONE), tx.dims, (size_t)tx.rank);
    if (c->needed[1]) {
        dg_value x2 = dg_reshape(g, x, DG_LIST(-1, tw.dims[1])); // [rows, in]
        c->dx[1] = dg_matmul(g, dy2, x2, true, false, DG_F32);
    }
    if (c->needed[2]) c->dx[2] = dg_reduce_sum(g, dy2, DG_LIST(0), false, DG_F32);
}

/* ---- composites */

static void grad_layer_norm(const dg_grad *c)
{
    dg_value d = dg_layer_norm_grad(c->g, c->dy[0], IN(0), c->y[1], c->y[2], IN(1));
    for (int k = 0; k < 3; k++)
        if (c->needed[k]) c->dx[k] = dg_output(d, k);
}

static void grad_softmax(const dg_grad *c)
{
    dg_value y = c->y[0], dy = dy_like(c, y), product = dg_mul(c->g, dy, y);
    dg_value total = dg_reduce_sum(c->g, product, DG_LIST(type_of(c, y).rank - 1), true, DG_NONE);
    c->dx[0] = dg_mul(c->g, y, dg_sub(c->g, dy, total));
}

static void grad_gelu(const dg_grad *c)
{
    c->dx[0] = dg_gelu_grad(c->g, dy_like(c, IN(0)), IN(0), dg_ai(c->node->attrs, 0) != 0);
}

static void grad_attention(const dg_grad *c)
{
    const dg_attr *a = c->node->attrs;
    dg_value d = dg_attention_grad(c->g, dy_like(c, c->y[0]), IN(0), IN(1), IN(2), c->y[0], c->y[1], IN(3),
                                   IN(4), IN(5), dg_ai(a, 0), dg_af(a, 1), dg_ai(a, 2) != 0);
    for (int k = 0; k < 3; k++)
        if (c->needed[k]) c->dx[k] = dg_output(d, k);
    if (c->needed[5]) c->dx[5] = dg_output(d, 3);
}

static void grad_normalize(const dg_grad *c)
{
    c->dx[0] = dg_normalize_grad(c->g, dy_like(c, c->y[0]), c->y[0], c->y[1], dg_af(c->node->attrs, 0));
}

static void grad_cross_entropy(const dg_grad *c)
{
    c->dx[0] = dg_cross_entropy_grad(c->g, c->dy[0], IN(0), IN(1), c->y[1], dg_af(c->node->attrs, 0));
}

/* Ops that are not here let no gradient through: comparisons, ids, rounding; or are lowered first: resize,
 * patchify. */
static const struct {
    const char *op;
    void (*rule)(const dg_grad *c);
} rules[] = {
    {"neg", grad_neg},
    {"abs", grad_abs},
    {"exp", grad_exp},
    {"log", grad_log},
    {"sqrt", grad_sqrt},
    {"rsqrt", grad_rsqrt},
    {"tanh", grad_tanh},
    {"erf", grad_erf},
    {"sin", grad_sin},
    {"cos", grad_cos},
    {"add", grad_add},
    {"sub", grad_sub},
    {"mul", grad_mul},
    {"div", grad_div},
    {"max", grad_max},
    {"min", grad_min},
    {"select", grad_select},
    {"convert", grad_convert},
    {"reshape", grad_reshape},
    {"transpose", grad_transpose},
    {"broadcast", grad_broadcast},
    {"slice", grad_slice},
    {"pad", grad_pad},
    {"concat", grad_concat},
    {"gather", grad_gather},
    {"scatter_add", grad_scatter_add},
    {"reduce_sum", grad_reduce_sum},
    {"reduce_max", grad_reduce_max},
    {"all_reduce", grad_all_reduce},
    {"reduce_scatter", grad_reduce_scatter},
    {"all_gather", grad_all_gather},
    {"shard", grad_shard},
    {"matmul", grad_matmul},
    {"linear", grad_linear},
    {"layer_norm", grad_layer_norm},
    {"softmax", grad_softmax},
    {"gelu", grad_gelu},
    {"attention", grad_attention},
    {"normalize", grad_normalize},
    {"cross_entropy", grad_cross_entropy},
};

void (*dg_grad_rule(const char *op))(const dg_grad *c)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strcmp(rules[i].op, op) == 0) return rules[i].rule;
    return NULL;
}
