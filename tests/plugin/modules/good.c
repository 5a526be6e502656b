/* good.c - a plugin with nothing wrong, and parameters of every type. */
#include "module.h"

static const char *const words[] = {"one", "two", NULL};
static const dg_param_spec params[] = {
    DG_PARAM(BOOL, "flag", "true", "", "a bool", 0, 0, NULL),
    DG_PARAM(INT, "number", "3", "tokens", "an int", 1, 9, NULL),
    DG_PARAM(FLOAT, "scale", "0.5", "", "a float", 0, 1, NULL),
    DG_PARAM(STRING, "label", "", "", "a string", 0, 0, NULL),
    DG_PARAM(CHOICE, "which", "two", "", "a choice", 0, 0, words),
    DG_PARAM(PATH, "file", "", "", "a path", 0, 0, NULL),
    DG_PARAM(INTS, "grid", "[2, 2]", "", "ints", 1, 64, NULL),
    DG_PARAM(FLOATS, "betas", "[0.9, 0.95]", "", "floats", 0, 1, NULL),
};
static const dg_factory losses[] = {FACTORY("good", params, &good_loss)};
DG_PLUGIN("test.good", "1.0.0", DG_LOSS_INTERFACE, losses)
