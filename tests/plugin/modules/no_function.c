/* no_function.c - a loss without build. */
#include "module.h"

static const dg_loss_interface loss = {sizeof loss, DG_TARGET_CONTINUOUS, good_create, good_destroy, NULL};
static const dg_factory losses[] = {PLAIN("hollow", &loss)};
DG_PLUGIN("test.no_function", "1.0.0", DG_LOSS_INTERFACE, losses)
