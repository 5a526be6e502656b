/* cosine.c - the loss `cosine`: 2 - 2 cos(prediction, target) for each position, in [0, 4].
 *
 * It is the squared distance of the two vectors scaled to length one, and what D-iGPT (Ren et al., ICML 2024)
 * and EVA use for CLIP features. This file is all that a loss takes: build writes down the formula, whose
 * gradient the core derives, and the tables below make it a plugin. */
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

/* Both are [batch, positions, width]; *loss becomes [batch, positions]. The core takes the mean. */
static dg_status build(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss,
                       dg_error *err)
{
    (void)self;
    dg_value p = dg_normalize(g, prediction, 0);
    dg_value t = dg_normalize(g, target, 0);
    dg_value cosine = dg_reduce_sum(g, dg_mul(g, p, t), DG_LIST(2), false, DG_F32);
    dg_value two = dg_fill(g, DG_F32, NULL, 0, 2.0);
    *loss = dg_sub(g, two, dg_mul(g, two, cosine));
    return dg_graph_error(g, err);
}

static const dg_loss_interface cosine_interface = {
    .struct_size = sizeof cosine_interface,
    .targets = DG_TARGET_CONTINUOUS,
    .create = create,
    .destroy = destroy,
    .build = build,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .name = "cosine",
    .help = "2 - 2 cos(prediction, target): the angle counts, the length does not",
    .interface = &cosine_interface,
}};

DG_PLUGIN("digpt.cosine", "1.0.0", DG_LOSS_INTERFACE, factories)
