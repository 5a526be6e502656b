/* explain.h - what a recipe amounts to, said before any image is read. */
#ifndef DG_TRAIN_EXPLAIN_H
#define DG_TRAIN_EXPLAIN_H

#include "base/str.h"
#include "train/run.h"

/* Builds and checks the whole program and writes: tokens, predictions with shapes, parameters, FLOPs an image, memory,
 * steps, learning rate. `images`: how many the source has, 0: not known (steps are then left out). Errors name the
 * recipe key. */
dg_status dg_explain(const dg_parts *parts, int64_t images, dg_str *out, dg_error *err);

#endif
