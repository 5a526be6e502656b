/* host.h - what the core offers to plugins (dg_host of digpt/plugin.h). */
#ifndef DG_PLUGIN_HOST_H
#define DG_PLUGIN_HOST_H

#include "digpt/plugin.h"

/* The one table of this process; always valid. */
const dg_host *dg_host_table(void);

#endif
