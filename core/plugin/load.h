/* load.h - one shared object opened and checked, without a place in any list. */
#ifndef DG_PLUGIN_LOAD_H
#define DG_PLUGIN_LOAD_H

#include "registry.h"

/* Opens file->path and sets plugin, hash and seconds; on failure plugin is NULL and the message says why. */
dg_status dg_plugin_load(dg_plugin_file *file, const dg_host *host, dg_error *err);

#endif
