/* cross_entropy.c - the loss `cross_entropy`: -sum t log softmax(prediction) for each position, where t is 1
 * at the target's id, smoothed over the vocabulary if asked (Szegedy et al., CVPR 2016, section 7). For
 * discrete tokens, as in iGPT (Chen et al., ICML 2020) and BEiT (Bao et al., ICLR 2022). */
#include "digpt/loss.h"
#include "digpt/ops.h"

enum { SMOOTHING, N_PARAMS };

static const dg_param_spec schema[N_PARAMS] = {
    [SMOOTHING] = DG_PARAM(FLOAT, "smoothing", "0", "",
                           "share of the target that is spread evenly over the vocabulary", 0, 1, NULL),
};

typedef struct cross_entropy {
    const dg_host *host;
    double smoothing;
} cross_entropy;

static dg_status create(const dg_host *host, const dg_params *params, void **self, dg_error *err)
{
    const dg_param_value *smoothing = &params->values[SMOOTHING];
    if (smoothing->v.f >= 1)
        return dg_fail_key(err, DG_ERR_INVALID, "loss.smoothing",
                           "smoothing %s leaves nothing of the target; it must be below 1", smoothing->text);
    cross_entropy *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    *s = (cross_entropy){host, smoothing->v.f};
    *self = s;
    return DG_OK;
}

static void destroy(void *self)
{
    cross_entropy *s = self;
    s->host->release(s);
}

/* prediction [batch, positions, vocabulary], target i32 [batch, positions]; an id below 0 counts as no loss.
 */
static dg_status build(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss,
                       dg_error *err)
{
    *loss = dg_cross_entropy(g, prediction, target, ((const cross_entropy *)self)->smoothing);
    return dg_graph_error(g, err);
}

static const dg_loss_interface cross_entropy_interface = {
    .struct_size = sizeof cross_entropy_interface,
    .targets = DG_TARGET_DISCRETE,
    .create = create,
    .destroy = destroy,
    .build = build,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .n_params = N_PARAMS,
    .name = "cross_entropy",
    .help = "cross-entropy with the target's id: for discrete tokens",
    .params = schema,
    .interface = &cross_entropy_interface,
}};

DG_PLUGIN("digpt.cross_entropy", "1.0.0", DG_LOSS_INTERFACE, factories)
