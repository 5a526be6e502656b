/* charbonnier.c - a plugin to start from: the loss `charbonnier`, for each position the mean over the width
 * of sqrt(d^2 + eps^2) - eps where d = prediction - target (Charbonnier et al., ICIP 1994).
 *
 * Near zero it is a parabola, far from it a straight line; eps is where one becomes the other. To make a loss
 * of your own, change the id at the end, the name, the parameters, and the formula in `build`. */
#include "digpt/loss.h"
#include "digpt/ops.h"

/* What a recipe may set; values arrive in this order, checked against the range. */
enum { EPS };
static const dg_param_spec schema[] = {
    DG_PARAM(FLOAT, "eps", "1e-3", "", "difference at which the parabola becomes a line", 1e-6, 1e3, NULL),
};

typedef struct charbonnier {
    const dg_host *host;
    double eps;
} charbonnier;

static dg_status create(const dg_host *host, const dg_params *params, void **self, dg_error *err)
{
    charbonnier *c = host->allocate(sizeof *c);
    if (!c) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    c->host = host;
    c->eps = params->values[EPS].v.f;
    *self = c;
    return DG_OK;
}

static void destroy(void *self)
{
    charbonnier *c = self;
    c->host->release(c);
}

static dg_value scalar(dg_graph *g, double value)
{
    return dg_fill(g, DG_F32, NULL, 0, value);
}

/* Writes down the forward formula; the core derives the gradient. Shapes broadcast as in numpy. */
static dg_status build(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss,
                       dg_error *err)
{
    const charbonnier *c = self;
    dg_value d = dg_sub(g, prediction, target); // [batch, positions, width]
    dg_value root = dg_sqrt(g, dg_add(g, dg_mul(g, d, d), scalar(g, c->eps * c->eps)));
    dg_value each = dg_sub(g, root, scalar(g, c->eps));
    dg_value sum = dg_reduce_sum(g, each, DG_LIST(2), false, DG_F32); // [batch, positions]
    *loss = dg_div(g, sum, scalar(g, (double)dg_dim(g, d, -1)));
    return dg_graph_error(g, err); // the first error of all the calls above, if there was one
}

static const dg_loss_interface charbonnier_interface = {
    .struct_size = sizeof charbonnier_interface,
    .targets = DG_TARGET_CONTINUOUS,
    .create = create,
    .destroy = destroy,
    .build = build,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .n_params = sizeof schema / sizeof schema[0],
    .name = "charbonnier",
    .help = "a smooth absolute difference",
    .params = schema,
    .interface = &charbonnier_interface,
}};

DG_PLUGIN("org.example.charbonnier", "1.0.0", DG_LOSS_INTERFACE, factories)
