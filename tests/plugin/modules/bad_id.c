/* bad_id.c - an id with a space. */
#include "module.h"

ENTRY(BRACES(DG_PLUGIN_MAGIC, sizeof(dg_plugin), DG_ABI_MAJOR, DG_ABI_MINOR, "my plugin", "1", "", get))
