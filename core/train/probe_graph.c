/* probe_graph.c - see probe_graph.h. */
#include "probe_graph.h"

static const double norm_eps = 1e-6, norm_momentum = 0.1; /* MAE's BatchNorm1d(affine=False, eps=1e-6) */
static const double trust = 1e-3;                         /* MAE's LARS */
static const double head_std = 0.01;                      /* MAE's trunc_normal_ of the head */

typedef struct build {
    const dg_probe_spec *spec;
    dg_graph *g;
    int64_t batch, heads, classes, width;
    dg_value weight, bias; /* [heads classes, width], [heads classes] */
} build;

static dg_value number(dg_graph *g, double x)
{
    return dg_fill(g, DG_F32, NULL, 0, x);
}

static dg_value state_leaf(dg_graph *g, const char *name, const int64_t *dims, size_t rank, double first)
{
    dg_leaf leaf = {.struct_size = (uint32_t)sizeof leaf,
                    .kind = DG_LEAF_STATE,
                    .name = name,
                    .type = dg_make_type(DG_F32, dims, rank),
                    .init = dg_init_value(DG_INIT_CONSTANT, first),
                    .layer = -1};
    return g->api->leaf(g, &leaf);
}

static dg_value running_mean(const build *b)
{
    return state_leaf(b->g, "probe.running_mean", DG_LIST(1, b->width), 0);
}

static dg_value running_variance(const build *b)
{
    return state_leaf(b->g, DG_PROBE_VARIANCE, DG_LIST(1, b->width), 1);
}

/* x standardised by [1, width] statistics. */
static dg_value standardised(const build *b, dg_value x, dg_value mean, dg_value variance)
{
    dg_value scale = dg_rsqrt(b->g, dg_add(b->g, variance, number(b->g, norm_eps)));
    return dg_mul(b->g, dg_sub(b->g, x, mean), scale);
}

/* f32 [batch, heads classes] of standardised x. */
static dg_value heads(build *b, dg_value x)
{
    int64_t rows = b->heads * b->classes;
    b->weight = dg_param(b->g, DG_PROBE_WEIGHT, DG_LIST(rows, b->width),
                         dg_init_value(DG_INIT_TRUNC_NORMAL, head_std), 0);
    b->bias = dg_param(b->g, "probe.bias", DG_LIST(rows), dg_init_value(DG_INIT_CONSTANT, 0), 0);
    return dg_linear(b->g, x, b->weight, b->bias, DG_F32);
}

/* Standardises by the batch's own statistics and moves the running ones, the variance unbiased, as torch
 * does. */
static dg_value batch_norm(const build *b, dg_value x)
{
    dg_graph *g = b->g;
    dg_value n = number(g, 1.0 / (double)b->batch), keep = number(g, 1 - norm_momentum);
    dg_value mean = dg_mul(g, dg_reduce_sum(g, x, DG_LIST(0), true, DG_F32), n); // [1, width]
    dg_value centred = dg_sub(g, x, mean);
    dg_value variance = dg_mul(g, dg_reduce_sum(g, dg_mul(g, centred, centred), DG_LIST(0), true, DG_F32), n);
    double unbiased = norm_momentum * (b->batch > 1 ? (double)b->batch / (double)(b->batch - 1) : 1);
    dg_value old_mean = running_mean(b), old_variance = running_variance(b);
    dg_graph_update(g, old_mean,
                    dg_add(g, dg_mul(g, old_mean, keep), dg_mul(g, mean, number(g, norm_momentum))));
    dg_graph_update(g, old_variance,
                    dg_add(g, dg_mul(g, old_variance, keep), dg_mul(g, variance, number(g, unbiased))));
    return standardised(b, x, mean, variance);
}

/* LARS: each head's gradient [heads, classes, width] times trust |w| / |gradient|, where neither is zero. */
static dg_value trusted(const build *b, dg_value w, dg_value grad)
{
    dg_graph *g = b->g;
    dg_value w_norm =
        dg_sqrt(g, dg_reduce_sum(g, dg_mul(g, w, w), DG_LIST(1, 2), true, DG_F32)); // [heads, 1, 1]
    dg_value g_norm = dg_sqrt(g, dg_reduce_sum(g, dg_mul(g, grad, grad), DG_LIST(1, 2), true, DG_F32));
    dg_value both = dg_and(g, dg_gt(g, w_norm, number(g, 0)), dg_gt(g, g_norm, number(g, 0)));
    dg_value ratio = dg_div(g, dg_mul(g, w_norm, number(g, trust)), dg_select(g, both, g_norm, number(g, 1)));
    return dg_mul(g, grad, dg_select(g, both, ratio, number(g, 1)));
}

/* torch's SGD: m = momentum m + gradient; p = p - lr m. p [heads classes, ..], lr [heads]. */
static void update(const build *b, dg_value p, dg_value grad, const char *momentum, dg_value lr, bool lars)
{
    dg_graph *g = b->g;
    dg_type t = dg_type_of(g, p);
    int64_t inner = t.rank > 1 ? b->width : 1;
    dg_value p3 = dg_reshape(g, p, DG_LIST(b->heads, b->classes, inner));
    grad = dg_reshape(g, grad, DG_LIST(b->heads, b->classes, inner));
    if (lars) grad = trusted(b, p3, grad);
    dg_value m = state_leaf(g, momentum, DG_LIST(b->heads, b->classes, inner), 0);
    dg_value next = dg_add(g, dg_mul(g, m, number(g, b->spec->momentum)), grad);
    dg_value step = dg_mul(g, next, dg_reshape(g, lr, DG_LIST(b->heads, 1, 1)));
    dg_graph_update(g, m, next);
    dg_graph_update(g, p, dg_reshape(g, dg_sub(g, p3, step), t.dims, (size_t)t.rank));
}

static dg_status train_graph(build *b, dg_error *err)
{
    dg_graph *g = b->g;
    dg_value x = dg_input(g, "x", DG_F32, DG_LIST(b->batch, b->width), DG_PER_BATCH), grads[2];
    dg_value label = dg_input(g, "label", DG_I32, DG_LIST(b->batch), DG_PER_BATCH);
    dg_value lr = dg_input(g, "lr", DG_F32, DG_LIST(b->heads), DG_PER_BATCH);
    dg_value logits = dg_reshape(g, heads(b, batch_norm(b, x)), DG_LIST(b->batch, b->heads, b->classes));
    dg_value ids = dg_broadcast(g, dg_reshape(g, label, DG_LIST(b->batch, 1)), DG_LIST(b->batch, b->heads));
    dg_value each = dg_cross_entropy(g, logits, ids, 0); // [batch, heads]
    dg_value losses =
        dg_mul(g, dg_reduce_sum(g, each, DG_LIST(0), false, DG_F32), number(g, 1.0 / (double)b->batch));
    dg_graph_output(g, losses, "losses");
    const dg_value params[] = {b->weight, b->bias};
    DG_TRY(dg_graph_error(g, err));
    /* The sum, so that each head has its own loss's gradient. */
    DG_TRY(dg_gradient(g, dg_reduce_sum(g, losses, DG_LIST(0), false, DG_F32), params, 2, grads, err));
    update(b, b->weight, grads[0], "probe.weight_momentum", lr, b->spec->lars);
    update(b, b->bias, grads[1], "probe.bias_momentum", lr, false);
    return dg_graph_error(g, err);
}

static dg_status eval_graph(build *b, dg_error *err)
{
    dg_value x = dg_input(b->g, "x", DG_F32, DG_LIST(b->batch, b->width), DG_PER_BATCH);
    dg_graph_output(b->g, heads(b, standardised(b, x, running_mean(b), running_variance(b))), "logits");
    return dg_graph_error(b->g, err);
}

static dg_status make(const dg_probe_spec *spec, int64_t width, dg_status (*fill)(build *, dg_error *),
                      dg_graph **out, dg_error *err)
{
    build b = {.spec = spec,
               .g = dg_graph_create(),
               .batch = spec->batch,
               .heads = (int64_t)spec->n,
               .classes = spec->classes,
               .width = width};
    *out = NULL;
    if (!b.g) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = fill(&b, err);
    if (s == DG_OK)
        *out = b.g;
    else
        dg_graph_destroy(b.g);
    return s;
}

dg_status dg_probe_train_graph(const dg_probe_spec *spec, int64_t width, dg_graph **out, dg_error *err)
{
    return make(spec, width, train_graph, out, err);
}

dg_status dg_probe_eval_graph(const dg_probe_spec *spec, int64_t width, dg_graph **out, dg_error *err)
{
    return make(spec, width, eval_graph, out, err);
}
