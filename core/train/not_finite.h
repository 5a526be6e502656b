/* not_finite.h - where a step went wrong: the first tensor of a forward pass with an inf or a NaN. */
#ifndef DG_TRAIN_NOT_FINITE_H
#define DG_TRAIN_NOT_FINITE_H

#include "train/inputs.h"
#include "train/state.h"

/* Runs the forward pass of the step whose inputs are given again on `batch` and the state as it is, as a
 * program that counts the bad elements of every node, and writes "model.blocks.0.attn.qkv.weight (1 element)"
 * for the first, or that there is none. Changes nothing. */
dg_status dg_find_not_finite(const dg_inputs *inputs, const dg_step *step, const dg_state *state,
                             const dg_batch *batch, char *out, size_t size, dg_error *err);

#endif
