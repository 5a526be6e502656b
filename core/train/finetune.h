/* finetune.h - the task `finetune`: what its recipe section means, its draws, its evaluation.
 *
 * Drawn per sample from its ordinal: drop path and erasing; per batch from the step: mixup and cutmix. */
#ifndef DG_TRAIN_FINETUNE_H
#define DG_TRAIN_FINETUNE_H

#include "train/classify.h"
#include "train/inputs.h"
#include "train/run.h"

typedef struct dg_finetune {
    dg_classify_spec classify;
    double layer_decay;
    double drop_path;
    double mixup, cutmix, mix_switch, mix_probability;
    double erase;
    const char *randaugment; /* NULL: none */
    double colour_jitter;
    uint64_t seed;
    int64_t image_h, image_w;
} dg_finetune;

/* classes: those of the training data, for finetune.classes 0; -1: not known here, taken as 1000. */
dg_status dg_finetune_read(const dg_parts *parts, int64_t classes, dg_finetune *f, dg_error *err);

/* What a step of the recipe's task is built from: spec->classify points into *f for the task finetune, and is
 * NULL for pretrain. */
dg_status dg_task_spec(const dg_parts *parts, const dg_run_plan *plan, int64_t classes, dg_finetune *f,
                       dg_step_spec *spec, dg_error *err);

/* A fill function for dg_inputs: "drop_path", "erase_box", "erase_noise", "mix". */
dg_status dg_finetune_fill(void *f, const char *name, const dg_batch *batch, void *dst, size_t bytes,
                           dg_error *err);

#endif
