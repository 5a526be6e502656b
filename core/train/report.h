/* report.h - report.html of a run: what was trained, on what, its curves and speed; one file, no network. */
#ifndef DG_TRAIN_REPORT_H
#define DG_TRAIN_REPORT_H

#include "digpt/base.h"

/* Reads run.json, recipe (origins.yaml), metrics.jsonl and timings.jsonl of the run's folder and writes
 * RUN/report.html. Missing pieces leave their part out. */
dg_status dg_report_write(const char *run_dir, dg_error *err);

#endif
