/* wrong_major.c - built for an ABI that is yet to come. */
#include "module.h"

ENTRY(BRACES(DG_PLUGIN_MAGIC, sizeof(dg_plugin), 7, 3, "test.wrong_major", "1", "", get))
