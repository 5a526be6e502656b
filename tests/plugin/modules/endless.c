/* endless.c - a getter that gives the same factory to every question. */
#include "module.h"

static const dg_factory one = PLAIN("one", &good_loss);
static const dg_factory *any(const char *interface, uint32_t i)
{
    (void)interface;
    (void)i;
    return &one;
}
DG_EXPORT const dg_plugin *digpt_plugin_entry(const dg_host *host);
const dg_plugin *digpt_plugin_entry(const dg_host *host)
{
    static const dg_plugin plugin = {DG_PLUGIN_MAGIC, sizeof plugin, DG_ABI_MAJOR, DG_ABI_MINOR,
                                     "test.endless",  "1",           "",           any};
    (void)host;
    return &plugin;
}
