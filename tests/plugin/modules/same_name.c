/* same_name.c - another plugin with a loss named as the one of good.c. */
#include "module.h"

static const dg_factory losses[] = {PLAIN("good", &good_loss)};
DG_PLUGIN("test.same_name", "1.0.0", DG_LOSS_INTERFACE, losses)
