/* visualize.h - pictures of a run: at its end, of its own images; and later, of images of one's choice. */
#ifndef DG_TRAIN_VISUALIZE_H
#define DG_TRAIN_VISUALIZE_H

#include "train/evaluate.h"
#include "train/run.h"
#include "train/state.h"

/* The folder of a run's own pictures in the run's folder. */
#define DG_PICTURES_FOLDER "pictures"

/* What a run in progress has. */
typedef struct dg_pictured_run {
    const char *dir; /* the run's */
    const dg_parts *parts;
    const dg_run_plan *plan;
    const dg_state *state;
    const dg_source *training, *validation; /* validation NULL: there is none */
    dg_evaluator *evaluator;                /* of the task finetune; NULL: it is another task, or has none */
} dg_pictured_run;

/* Writes RUN/pictures with the recipe's train.pictures images (0: does nothing): of a pretraining run its
 * first training samples, cropped as they were when it trained on them; of a classifier validation images. */
dg_status dg_pictures_of_run(const dg_pictured_run *run, dg_error *err);

typedef struct dg_visualize_options {
    const char *weights;     /* of the model */
    const char *classes;     /* a file of class names for the task finetune; NULL: the training data's */
    const char *run_dir;     /* where the vocabulary of captions is; NULL: made anew */
    const dg_source *source; /* the images; NULL: those of the run itself, as dg_pictures_of_run */
    const char *out;         /* the gallery's folder */
} dg_visualize_options;

/* The same from a recipe and weights. Tasks that train no model are refused, with what to do. *pictures: how
 * many were written. */
dg_status dg_visualize(const dg_recipe *recipe, const dg_registry *registry,
                       const dg_visualize_options *options, int64_t *pictures, dg_error *err);

#endif
