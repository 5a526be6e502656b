/* report.h - report.html of a run: how it went, on what, its curves and pictures; one file, no network. */
#ifndef DG_TRAIN_REPORT_H
#define DG_TRAIN_REPORT_H

#include "digpt/base.h"

/* Reads what the run's folder holds (logbook.h, gallery.h, origins.yaml) and writes RUN/report.html. Missing
 * pieces leave their part out. */
dg_status dg_report_write(const char *run_dir, dg_error *err);

/* DIR/index.html with the pictures of the gallery in DIR. */
dg_status dg_pictures_page(const char *dir, const char *title, dg_error *err);

#endif
