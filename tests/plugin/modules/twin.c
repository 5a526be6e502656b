/* twin.c - another file with the id of good.c. */
#include "module.h"

static const dg_factory losses[] = {PLAIN("twin", &good_loss)};
DG_PLUGIN("test.good", "2.0.0", DG_LOSS_INTERFACE, losses)
