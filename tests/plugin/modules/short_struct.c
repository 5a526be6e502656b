/* short_struct.c - forgot its own size. */
#include "module.h"

ENTRY(BRACES(DG_PLUGIN_MAGIC, 0, DG_ABI_MAJOR, DG_ABI_MINOR, "test.short_struct", "1", "", get))
