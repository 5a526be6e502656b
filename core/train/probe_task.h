/* probe_task.h - the tasks knn and probe: what frozen features are worth, by neighbours or by a linear
 * classifier.
 *
 * The encoder's weights are those of train.init_from; without it they are random, which is said and is a
 * control. The run's folder gets recipe.yaml, run.json, metrics.jsonl (knn: a row for each k, and one with
 * effective_rank and spread of the validation features; probe: a row an epoch), report.html, and features/
 * with what was extracted. */
#ifndef DG_TRAIN_PROBE_TASK_H
#define DG_TRAIN_PROBE_TASK_H

#include "train/run.h"

/* Whether the recipe's task is one of the two. */
bool dg_is_probe_task(const dg_recipe *recipe);

/* Runs it. A folder that holds a training run is refused; an earlier probe's numbers there are written anew.
 */
dg_status dg_probe_task(const dg_recipe *recipe, const dg_registry *registry, const dg_run_options *options,
                        dg_run_result *result, dg_error *err);

#endif
