/* refuses.c - an entry that returns nothing. */
#include "digpt/plugin.h"

DG_EXPORT const dg_plugin *digpt_plugin_entry(const dg_host *host);
const dg_plugin *digpt_plugin_entry(const dg_host *host)
{
    (void)host;
    return NULL;
}
