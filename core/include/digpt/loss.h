/* digpt/loss.h - a loss: how far one prediction is from its target, position by position. */
#ifndef DIGPT_LOSS_H
#define DIGPT_LOSS_H

#include "digpt/plugin.h"

enum dg_target_kind { DG_TARGET_CONTINUOUS = 1, DG_TARGET_DISCRETE = 2 };

typedef struct dg_loss_interface {
    uint32_t struct_size;
    uint32_t targets; /* the dg_target_kind bits it takes; the core explains a mismatch before build is called */
    /* A loss without state sets *self to NULL. */
    dg_status (*create)(const dg_host *host, const dg_params *params, void **self, dg_error *err);
    void (*destroy)(void *self);
    /* prediction [batch, positions, width]; target the same, or i32 [batch, positions]. Sets *loss to
     * f32 [batch, positions]. */
    dg_status (*build)(void *self, dg_graph *g, dg_value prediction, dg_value target, dg_value *loss, dg_error *err);
} dg_loss_interface;

#endif
