/* crash_entry.c - dies while it is being loaded. */
#include <signal.h>
#include "digpt/plugin.h"

DG_EXPORT const dg_plugin *digpt_plugin_entry(const dg_host *host);
const dg_plugin *digpt_plugin_entry(const dg_host *host)
{
    (void)host;
    raise(SIGSEGV);
    return NULL;
}
