/* talks.c - prints, and stays in a loop for ever when it is asked to build. */
#include <stdio.h>
#include <unistd.h>
#include "module.h"

static dg_status build(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss,
                       dg_error *err)
{
    printf("building\n");
    fflush(stdout);
    for (;;) pause();
    return good_build(self, g, prediction, target, loss, err);
}

static const dg_loss_interface loss = {sizeof loss, DG_TARGET_CONTINUOUS, good_create, good_destroy, build};
static const dg_factory losses[] = {PLAIN("talks", &loss)};
DG_PLUGIN("test.talks", "1.0.0", DG_LOSS_INTERFACE, losses)
