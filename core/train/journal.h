/* journal.h - what a run writes down while it trains: metrics.jsonl (comparable byte for byte),
 * timings.jsonl, TensorBoard events, and a line or a bar for whoever watches. */
#ifndef DG_TRAIN_JOURNAL_H
#define DG_TRAIN_JOURNAL_H

#include "train/step.h"

typedef struct dg_journal dg_journal;

/* One logged step. Losses are means over the steps since the last one. */
typedef struct dg_record {
    int64_t step; /* steps done, 1 for the first */
    double epoch;
    double lr;
    double loss;
    double parts[DG_MAX_PREDICTIONS];    /* in the order of dg_step.prediction_names */
    double grad_norm;                    /* negative: not measured */
    double images_per_second, data_wait; /* share of the time spent waiting for data; to timings only */
    double eta;                          /* seconds to the end */
    int64_t bad_images;
} dg_record;

/* metrics_keep and timings_keep: lengths to cut the files to (0 for a new run). `total`: steps of the run. */
dg_status dg_journal_open(const char *run_dir, const dg_step *step, int64_t first_step, int64_t total,
                          uint64_t metrics_keep, uint64_t timings_keep, dg_journal **out, dg_error *err);
dg_status dg_journal_write(dg_journal *j, const dg_record *r, dg_error *err);
/* The result of an evaluation after `step`: a row of metrics.jsonl with val_top1, val_top5 and val_loss. */
dg_status dg_journal_evaluation(dg_journal *j, int64_t step, double epoch, double top1, double top5,
                                double loss, dg_error *err);
/* Numbers of a probe after `step`: a row of metrics.jsonl with their names, events "probe/NAME", and a line
 * of the log. */
typedef struct dg_named_number {
    const char *name;
    double value;
} dg_named_number;
dg_status dg_journal_probe(dg_journal *j, int64_t step, double epoch, const dg_named_number *v, size_t n,
                           dg_error *err);
/* After every step: moves the bar on a terminal, a few times a second. Lines of the log, from whatever
 * thread, go above the bar. */
void dg_journal_tick(dg_journal *j, int64_t step, double loss, int64_t images_a_step);
/* Syncs the files and says how long they are: what a checkpoint records. */
dg_status dg_journal_sync(dg_journal *j, uint64_t *metrics_length, uint64_t *timings_length, dg_error *err);
void dg_journal_close(dg_journal *j);

#endif
