/* mse.c - the loss `mse`: the mean over the width of (prediction - target)^2 for each position, as in MAE
 * (He et al., CVPR 2022). */
#include "digpt/loss.h"
#include "digpt/ops.h"

/* It has no parameters and keeps no state. */
static dg_status create(const dg_host *host, const dg_params *params, void **self, dg_error *err)
{
    (void)host, (void)params, (void)err;
    *self = NULL;
    return DG_OK;
}

static void destroy(void *self)
{
    (void)self;
}

static dg_status build(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss,
                       dg_error *err)
{
    (void)self;
    dg_value d = dg_sub(g, prediction, target);                                  // [batch, positions, width]
    dg_value sum = dg_reduce_sum(g, dg_mul(g, d, d), DG_LIST(2), false, DG_F32); // [batch, positions]
    *loss = dg_div(g, sum, dg_fill(g, DG_F32, NULL, 0, (double)dg_dim(g, d, 2)));
    return dg_graph_error(g, err);
}

static const dg_loss_interface mse_interface = {
    .struct_size = sizeof mse_interface,
    .targets = DG_TARGET_CONTINUOUS,
    .create = create,
    .destroy = destroy,
    .build = build,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .name = "mse",
    .help = "mean squared difference over the width of a token",
    .interface = &mse_interface,
}};

DG_PLUGIN("digpt.mse", "1.0.0", DG_LOSS_INTERFACE, factories)
