/* bad_default.c - a default outside its own range. */
#include "module.h"

static const dg_param_spec params[] = {DG_PARAM(INT, "depth", "12", "blocks", "a depth", 1, 8, NULL)};
static const dg_factory losses[] = {FACTORY("bad", params, &good_loss)};
DG_PLUGIN("test.bad_default", "1.0.0", DG_LOSS_INTERFACE, losses)
