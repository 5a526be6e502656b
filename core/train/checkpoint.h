/* checkpoint.h - what a run needs to go on as if it had never stopped.
 *
 * A checkpoint is a folder RUN/checkpoints/step-NNNNNNNNNN with
 *   model.safetensors      parameters and fixed tables of the model, under their own names
 *   optimizer.safetensors  moments and other state
 *   average.safetensors    with train.ema_decay: the model with the moving averages of its parameters
 *   state.json             step, lengths of the logs, and what must be the same on a resume
 * It is written beside, synced, then renamed: it is there whole or not at all. Accumulators are not in it: it
 * is written between steps, when they are zero. */
#ifndef DG_TRAIN_CHECKPOINT_H
#define DG_TRAIN_CHECKPOINT_H

#include "train/state.h"

/* What state.json holds. Texts are owned by the struct when it was loaded (dg_progress_free). */
typedef struct dg_progress {
    int64_t step;            /* optimizer steps done */
    uint64_t metrics_length; /* bytes of metrics.jsonl */
    uint64_t timings_length; /* bytes of timings.jsonl */
    char *recipe;            /* the resolved recipe, as YAML */
    char *backend;           /* its fingerprint */
    char *data;              /* fingerprint of the source, hexadecimal */
    char *precision;         /* "f32", "bf16" */
    char *plugins;           /* id and version of each component's plugin */
    char *weights;           /* fingerprint of weights that are not the model's own, hexadecimal */
    int64_t ranks;           /* that shared each batch; 0: not known */
    double seconds;          /* of training so far */
    int64_t window;          /* steps since the last logged one, and the sums over them: */
    double window_loss, window_norm, window_parts[DG_MAX_PREDICTIONS];
} dg_progress;

void dg_progress_free(dg_progress *p);

/* The tensors of a run: every PARAM and STATE leaf of the programs but the accumulators, and the model's own
 * FROZEN ones. A moving average goes with its parameter. */
typedef struct dg_tensor_entry {
    const char *name; /* lives as long as the programs */
    dg_type type;   /* in the file, whatever ranks share */
    dg_type stored; /* in the store: the same, or a vector with zeros at its end (dg_step_whole_type) */
    bool is_model;
    const char *average; /* of a parameter: the name of its moving average; NULL: it has none */
    int64_t grid[2]; /* as dg_leaf's; said in the file, as "grid.NAME" */
} dg_tensor_entry;
dg_status dg_checkpoint_entries(const dg_step *step, dg_tensor_entry **entries, size_t *n, dg_error *err);

/* Writes RUN/checkpoints/step-N, then removes older ones: the newest `keep_last` stay (0: all), and those
 * whose step is a multiple of keep_every (0: none). A model that has an inf or a NaN is refused
 * (DG_ERR_NOT_FINITE), and what is there stays. */
dg_status dg_checkpoint_save(const char *run_dir, const dg_progress *progress, const dg_state *state,
                             const dg_tensor_entry *entries, size_t n, int64_t keep_last, int64_t keep_every,
                             dg_error *err);

/* The path of the newest checkpoint of which all files can be opened and are complete; *path NULL when there
 * is none (not an error). What is broken is named in the log and passed over, unless all are: then, or where
 * the system cannot read one (DG_ERR_IO), nobody may begin anew unasked. dg_free *path. */
dg_status dg_checkpoint_latest(const char *run_dir, char **path, dg_progress *progress, dg_error *err);

/* Fills the store from a checkpoint; every entry must be there with its type. */
dg_status dg_checkpoint_load(const char *path, const dg_state *state, const dg_tensor_entry *entries,
                             size_t n, dg_error *err);

/* The model's tensors alone, averages where there are any, as one file that replaces an older one. */
dg_status dg_checkpoint_export(const char *path, const dg_progress *progress, const dg_state *state,
                               const dg_tensor_entry *entries, size_t n, dg_error *err);

#endif
