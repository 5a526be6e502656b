/* silent.c - a loss that fails without a message for one of its settings. */
#include "module.h"

static const dg_param_spec params[] = {DG_PARAM(INT, "number", "1", "", "a number", 1, 9, NULL)};

static dg_status create(const dg_host *host, const dg_params *values, void **self, dg_error *err)
{
    return values->values[0].v.i == 9 ? DG_ERR_INVALID : good_create(host, values, self, err);
}

static const dg_loss_interface loss = {sizeof loss, DG_TARGET_CONTINUOUS, create, good_destroy, good_build};
static const dg_factory losses[] = {FACTORY("silent", params, &loss)};
DG_PLUGIN("test.silent", "1.0.0", DG_LOSS_INTERFACE, losses)
