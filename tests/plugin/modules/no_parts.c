/* no_parts.c - a plugin with nothing in it that this version knows. */
#include "module.h"

static const dg_factory parts[] = {PLAIN("thing", &good_loss)};
DG_PLUGIN("test.no_parts", "1.0.0", "digpt.thing/9", parts)
