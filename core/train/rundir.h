/* rundir.h - the folder of a run: what it holds besides checkpoints and logs, and whether a resume may use
 * it. */
#ifndef DG_TRAIN_RUNDIR_H
#define DG_TRAIN_RUNDIR_H

#include "data/source.h"
#include "train/checkpoint.h"
#include "train/run.h"

/* output/name of the recipe, or `dir`. */
dg_status dg_rundir_path(const dg_recipe *recipe, const char *dir, char *out, size_t size, dg_error *err);

/* Makes the folder and takes it for this process: another run in it fails with DG_ERR_INVALID, until this one
 * gives it back or dies. *lock: -1 before; close it with dg_rundir_unlock. */
dg_status dg_rundir_lock(const char *dir, int *lock, dg_error *err);
void dg_rundir_unlock(int *lock);

/* Writes recipe.yaml (resolved), origins.yaml, classes.json (of a source that has any) and run.json (plugins
 * with versions and hashes, backend, precision, data, seed, machine, command). */
dg_status dg_rundir_describe(const char *dir, const dg_parts *parts, const dg_run_plan *plan,
                             const dg_source *source, const char *command, dg_error *err);

/* The weights of a run: RUN/best.safetensors if there is one and `best` is asked for, else the newest
 * checkpoint's average.safetensors or model.safetensors. *path NULL when it has neither; dg_free it. */
dg_status dg_rundir_weights(const char *dir, bool best, char **path, dg_error *err);

/* Compares what a checkpoint was made with and what this run would use. DG_ERR_MISMATCH lists every
 * difference that could change results; with `force` it is logged and allowed. Keys that only say how a run
 * is watched, stored or fed (workers, logging, checkpoints, output, time limit) may differ. */
dg_status dg_rundir_compare(const dg_progress *then, const dg_progress *now, const dg_recipe *recipe,
                            const dg_schema_source *schemas, bool force, dg_error *err);

/* Fills recipe, backend, data, precision, plugins and weights (state->frozen). */
dg_status dg_progress_describe(dg_progress *p, const dg_parts *parts, const dg_run_plan *plan,
                               const dg_source *source, const dg_state *state, dg_error *err);

#endif
