/* leaky.c - a loss that forgets its memory. */
#include "module.h"

static void forget(void *self)
{
    (void)self;
}
static const dg_loss_interface loss = {sizeof loss, DG_TARGET_CONTINUOUS, good_create, forget, good_build};
static const dg_factory losses[] = {PLAIN("leaky", &loss)};
DG_PLUGIN("test.leaky", "1.0.0", DG_LOSS_INTERFACE, losses)
