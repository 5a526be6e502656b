/* smooth_l1.c - the loss `smooth_l1`: for each position the mean over the width of d^2 / (2 beta) where d =
 * |prediction - target| is below beta, and of d - beta / 2 elsewhere (Girshick, "Fast R-CNN", ICCV 2015).
 *
 * Read cosine first; this one shows a parameter, and the state that holds it. */
#include "digpt/loss.h"
#include "digpt/ops.h"

static const dg_param_spec schema[] = {
    DG_PARAM(FLOAT, "beta", "1.0", "", "difference at which the square becomes a line", 1e-6, 1e6, NULL),
};

typedef struct smooth_l1 {
    const dg_host *host;
    double beta;
} smooth_l1;

static dg_status create(const dg_host *host, const dg_params *params, void **self, dg_error *err)
{
    smooth_l1 *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    s->host = host;
    s->beta = params->values[0].v.f;
    *self = s;
    return DG_OK;
}

static void destroy(void *self)
{
    smooth_l1 *s = self;
    s->host->release(s);
}

static dg_value scalar(dg_graph *g, double value)
{
    return dg_fill(g, DG_F32, NULL, 0, value);
}

static dg_status build(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss,
                       dg_error *err)
{
    const smooth_l1 *s = self;
    dg_value d = dg_abs(g, dg_sub(g, prediction, target)); // [batch, positions, width]
    dg_value square = dg_mul(g, dg_mul(g, d, d), scalar(g, 0.5 / s->beta));
    dg_value line = dg_sub(g, d, scalar(g, 0.5 * s->beta));
    dg_value each = dg_select(g, dg_lt(g, d, scalar(g, s->beta)), square, line);
    dg_value sum = dg_reduce_sum(g, each, DG_LIST(2), false, DG_F32); // [batch, positions]
    *loss = dg_div(g, sum, scalar(g, (double)dg_dim(g, d, 2)));
    return dg_graph_error(g, err);
}

static const dg_loss_interface smooth_l1_interface = {
    .struct_size = sizeof smooth_l1_interface,
    .targets = DG_TARGET_CONTINUOUS,
    .create = create,
    .destroy = destroy,
    .build = build,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .n_params = sizeof schema / sizeof schema[0],
    .name = "smooth_l1",
    .help = "squared difference near zero, absolute difference beyond beta",
    .params = schema,
    .interface = &smooth_l1_interface,
}};

DG_PLUGIN("digpt.smooth_l1", "1.0.0", DG_LOSS_INTERFACE, factories)
