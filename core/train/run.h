/* run.h - a pretraining run from its recipe to its last step. */
#ifndef DG_TRAIN_RUN_H
#define DG_TRAIN_RUN_H

#include "train/parts.h"
#include "train/step.h"

typedef struct dg_run_options {
    const char *dir; /* the run's folder; NULL: output/name of the recipe */
    bool resume;     /* go on from the newest checkpoint, or start if there is none */
    bool force;      /* resume although instruction set, library versions or precision differ */
    const dg_schema_source *schemas; /* for reading the recipe that a checkpoint holds */
    const char *command;             /* the command line, written to run.json; NULL: none */
} dg_run_options;

typedef struct dg_run_result {
    char dir[1024];
    int64_t step; /* steps done */
    int64_t total;
    double loss;        /* of the last logged step */
    bool stopped;       /* by a signal or the time limit, with a checkpoint: resume to go on */
    bool silent;        /* another rank tells people how it went */
    char summary[2048]; /* tasks knn and probe: what came out, for people; lines */
} dg_run_result;

/* Trains. Errors name the recipe's key where one is to blame. A folder that holds a run already is refused
 * unless resume is set. */
dg_status dg_run_train(const dg_recipe *recipe, const dg_registry *registry, const dg_run_options *options,
                       dg_run_result *result, dg_error *err);

/* How a recipe's numbers become steps: used by the loop and by `recipe check`. */
typedef struct dg_run_plan {
    int64_t batch, accumulate, effective_batch;
    int64_t images;          /* that an epoch goes over: the source's, or data.limit */
    int64_t steps_per_epoch; /* optimizer steps; 0 when not known */
    int64_t steps;           /* of the run */
    double lr, min_lr, warmup_steps;
    dg_dtype compute;
    dg_optimizer optimizer;
    double ema_decay; /* of the moving average of the weights; 0: none is kept */
} dg_run_plan;
/* `images`: how many the source has; 0: not known, and what follows from it is 0 too. */
dg_status dg_run_make_plan(const dg_parts *parts, int64_t images, dg_run_plan *plan, dg_error *err);

/* Asks for an orderly stop after the step in progress; safe in a signal handler. */
void dg_run_request_stop(void);

#endif
