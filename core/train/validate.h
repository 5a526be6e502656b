/* validate.h - the evaluations of a fine-tuning run: when, on what, and the best weights so far. With
 * train.ema_decay it is the moving average of the weights that is evaluated and kept. */
#ifndef DG_TRAIN_VALIDATE_H
#define DG_TRAIN_VALIDATE_H

#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/finetune.h"
#include "train/journal.h"
#include "train/ranks.h"
#include "train/run.h"

typedef struct dg_validation {
    const dg_parts *parts;
    dg_ranks *ranks;   /* that share the validation data */
    dg_source *source; /* NULL: there is nothing to evaluate on */
    dg_evaluator evaluator;
    dg_loader_config loader;
    int64_t every; /* optimizer steps */
    double best;   /* top-1 so far; -1: none yet */
    char best_path[1100];
} dg_validation;

/* On every rank: opens the validation data and program. For a resume `best` is taken from the run's
 * metrics.jsonl, which has been cut to the checkpoint's length before. */
dg_status dg_validation_open(const dg_parts *parts, const dg_finetune *f, const dg_run_plan *plan,
                             const dg_source *training, const dg_state *state, const char *run_dir,
                             dg_ranks *ranks, dg_validation *v, dg_error *err);
void dg_validation_close(dg_validation *v);

/* After `progress->step`: evaluates if it is time (or `last`); the first rank writes the row, and keeps
 * RUN/best.safetensors when it is the best so far. All ranks call it. */
dg_status dg_validation_step(dg_validation *v, bool last, const dg_progress *progress, double epoch,
                             const dg_state *state, const dg_tensor_entry *entries, size_t n,
                             dg_journal *journal, dg_error *err);

#endif
