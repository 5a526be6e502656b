/* probe_watch.h - looks at the features during pretraining: neighbours' accuracy, effective rank, spread. */
#ifndef DG_TRAIN_PROBE_WATCH_H
#define DG_TRAIN_PROBE_WATCH_H

#include "train/checkpoint.h"
#include "train/features.h"
#include "train/journal.h"
#include "train/run.h"

/* Starts as {0}; ends with dg_probe_watch_close. */
typedef struct dg_probe_watch {
    const dg_parts *parts;
    int64_t every; /* optimizer steps; 0: never */
    const dg_source *training;
    dg_source *validation; /* NULL: there is none */
    bool labels;           /* both have classes: neighbours can be asked */
    dg_feature_range bank, queries;
    dg_extractor extractor;
} dg_probe_watch;

/* Reads train.probe_every and the section knn; without the former nothing is opened. `trained` is the graph
 * of the run's step and `state` its state. Without validation data, features are measured on training images,
 * and without labels only their rank and spread are; both are said in the log. */
dg_status dg_probe_watch_open(const dg_parts *parts, const dg_run_plan *plan, const dg_source *training,
                              const dg_graph *trained, dg_state *state, const char *run_dir,
                              dg_probe_watch *w, dg_error *err);
void dg_probe_watch_close(dg_probe_watch *w);

/* After `step` steps: looks if it is time (or `last`) and writes a row: knnK_top1 and knnK_top5 for every K
 * of knn.k, effective_rank, spread. Leaves the training's state alone. */
dg_status dg_probe_watch_step(dg_probe_watch *w, bool last, int64_t step, double epoch, dg_journal *journal,
                              dg_error *err);

#endif
