/* module.h - parts of the small plugins that the tests load: a loss that is right, and descriptors that are
 * wrong in one place each. */
#ifndef DG_TEST_MODULE_H
#define DG_TEST_MODULE_H

#include "digpt/loss.h"
#include "digpt/ops.h"

static dg_status good_create(const dg_host *host, const dg_params *params, void **self, dg_error *err)
{
    (void)params;
    *self = host->allocate(16);
    if (*self) memcpy(*self, &host, sizeof host);
    return *self ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "no memory for a loss");
}

static void good_destroy(void *self)
{
    const dg_host *host;
    memcpy(&host, self, sizeof host);
    host->release(self);
}

/* Mean of squares. */
static dg_status good_build(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss,
                            dg_error *err)
{
    (void)self;
    dg_value d = dg_sub(g, prediction, target);
    dg_value sum = dg_reduce_sum(g, dg_mul(g, d, d), DG_LIST(2), false, DG_F32);
    *loss = dg_mul(g, sum, dg_fill(g, DG_F32, NULL, 0, 1.0 / (double)dg_dim(g, prediction, -1)));
    return dg_graph_error(g, err);
}

#define GOOD_LOSS                                                                                            \
    {                                                                                                        \
        (uint32_t)sizeof(dg_loss_interface), DG_TARGET_CONTINUOUS, good_create, good_destroy, good_build     \
    }
static DG_UNUSED const dg_loss_interface good_loss = GOOD_LOSS;

#define FACTORY(NAME, PARAMS, INTERFACE)                                                                     \
    {                                                                                                        \
        (uint32_t)sizeof(dg_factory), (uint32_t)(sizeof(PARAMS) / sizeof(PARAMS)[0]), NAME, "for tests",     \
            PARAMS, INTERFACE                                                                                \
    }
#define PLAIN(NAME, INTERFACE)                                                                               \
    {                                                                                                        \
        (uint32_t)sizeof(dg_factory), 0, NAME, "for tests", NULL, INTERFACE                                  \
    }

/* A plugin whose descriptor is written out: for what DG_PLUGIN would not do wrong. */
#define ENTRY(DESCRIPTOR)                                                                                    \
    static const dg_factory factory = PLAIN("wrong", &good_loss);                                            \
    static DG_UNUSED const dg_factory *get(const char *interface, uint32_t i)                                \
    {                                                                                                        \
        return !strcmp(interface, DG_LOSS_INTERFACE) && i == 0 ? &factory : NULL;                            \
    }                                                                                                        \
    DG_EXPORT const dg_plugin *digpt_plugin_entry(const dg_host *host);                                      \
    const dg_plugin *digpt_plugin_entry(const dg_host *host)                                                 \
    {                                                                                                        \
        static const dg_plugin plugin = DESCRIPTOR;                                                          \
        (void)host;                                                                                          \
        return &plugin;                                                                                      \
    }
#define BRACES(...)                                                                                          \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

#endif
