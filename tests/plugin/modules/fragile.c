/* fragile.c - a loss that dies of odd settings and when memory runs out, and is right otherwise. */
#include <signal.h>
#include "module.h"

static const dg_param_spec params[] = {DG_PARAM(INT, "number", "1", "", "a number", 1, 9, NULL)};

static dg_status create(const dg_host *host, const dg_params *values, void **self, dg_error *err)
{
    (void)err;
    if (values->values[0].v.i == 9) raise(SIGFPE);
    *self = host->allocate(sizeof host);
    if (!*self) raise(SIGSEGV); /* what a write to NULL would do */
    memcpy(*self, &host, sizeof host);
    return DG_OK;
}

static const dg_loss_interface loss = {sizeof loss, DG_TARGET_CONTINUOUS, create, good_destroy, good_build};
static const dg_factory losses[] = {FACTORY("fragile", params, &loss)};
DG_PLUGIN("test.fragile", "1.0.0", DG_LOSS_INTERFACE, losses)
