/* logbook.h - what the folder of a run says of it: recipe, facts, curves.
 *
 * Only files are read, and no plugin is needed, so that runs of other versions and machines can be looked at.
 * A resolved recipe is a YAML map of maps; here it is a flat list of dotted keys. */
#ifndef DG_TRAIN_LOGBOOK_H
#define DG_TRAIN_LOGBOOK_H

#include "base/mem.h"
#include "base/str.h"

/* One number of metrics.jsonl or timings.jsonl against its step; rows without a step (of the task knn) count
 * as step 0. Not-finite values are kept. */
typedef struct dg_series {
    char name[64];
    double *step, *value; // [n]
    size_t n, room, value_room;
} dg_series;

typedef struct dg_series_list {
    dg_series *items;
    size_t n, room;
} dg_series_list;

typedef struct dg_entry {
    const char *key, *value; /* "model.width", "192" */
    const char *identity; /* of the recipe: the value, but for a path into the folder of another run, which is
                             what that run's recipe is, whatever its seed */
} dg_entry;

/* Starts as {0}; ends with dg_logbook_close, also after a failure. */
typedef struct dg_logbook {
    char *dir;
    const char *name; /* the last part of dir */
    const char *task; /* "pretrain", ... */
    const char *seed; /* as written */
    dg_entry *recipe; /* [n_recipe] in the file's order */
    size_t n_recipe;
    dg_entry *facts; /* [n_facts] of run.json */
    size_t n_facts;
    dg_series_list metrics, timings;
    uint64_t identity; /* of all of the recipe but name, output and seed: equal for repeats of a run */
    dg_arena arena;
} dg_logbook;

/* DG_ERR_NOT_FOUND: no such folder, or it is no run's. DG_ERR_FORMAT: a file in it is broken. Files other
 * than recipe.yaml may be missing; a last line without its end is passed over. */
dg_status dg_logbook_open(const char *dir, dg_logbook *book, dg_error *err);
void dg_logbook_close(dg_logbook *book);

/* The value of a key of the recipe, or of run.json; NULL: there is none. */
const char *dg_logbook_recipe(const dg_logbook *book, const char *key);
const char *dg_logbook_fact(const dg_logbook *book, const char *key);
/* NULL: no such column. */
const dg_series *dg_series_find(const dg_series_list *list, const char *name);
/* Whether a column repeats the column "loss": the loss of a prediction that is the only one. */
bool dg_series_repeats_loss(const dg_series_list *list, const dg_series *series);
/* Whether a column is of shares of 1, which read best in per cent. */
bool dg_series_is_share(const char *name);
/* Whether a key says only which of several repeats a run is, or where it lies: name, output, seed. */
bool dg_logbook_is_label(const char *key);

#endif
