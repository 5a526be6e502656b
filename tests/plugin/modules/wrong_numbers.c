/* wrong_numbers.c - losses whose numbers or shapes are wrong. */
#include "module.h"

/* log of zero where prediction and target are equal. */
static dg_status infinite(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss,
                          dg_error *err)
{
    DG_TRY(good_build(self, g, prediction, target, loss, err));
    *loss = dg_log(g, *loss);
    return dg_graph_error(g, err);
}

/* A mean over everything where one over the width is asked for. */
static dg_status scalar(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss,
                        dg_error *err)
{
    DG_TRY(good_build(self, g, prediction, target, loss, err));
    *loss = dg_reduce_sum(g, *loss, DG_LIST(0, 1), false, DG_F32);
    return dg_graph_error(g, err);
}

/* A loss of the target alone. */
static dg_status blind(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss,
                       dg_error *err)
{
    (void)prediction;
    return good_build(self, g, target, target, loss, err);
}

#define LOSS(BUILD)                                                                                          \
    {                                                                                                        \
        sizeof(dg_loss_interface), DG_TARGET_CONTINUOUS, good_create, good_destroy, BUILD                    \
    }
static const dg_loss_interface infinite_loss = LOSS(infinite), scalar_loss = LOSS(scalar),
                               blind_loss = LOSS(blind);
static const dg_factory losses[] = {PLAIN("infinite", &infinite_loss), PLAIN("scalar", &scalar_loss),
                                    PLAIN("blind", &blind_loss)};
DG_PLUGIN("test.wrong_numbers", "1.0.0", DG_LOSS_INTERFACE, losses)
