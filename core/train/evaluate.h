/* evaluate.h - accuracy of a classifier over a whole source. */
#ifndef DG_TRAIN_EVALUATE_H
#define DG_TRAIN_EVALUATE_H

#include "data/loader.h"
#include "train/classify.h"
#include "train/inputs.h"
#include "train/ranks.h"
#include "train/state.h"

/* An evaluation program bound to the state of a run. Starts as {0}; ends with dg_evaluator_close. */
typedef struct dg_evaluator {
    const dg_parts *parts;
    dg_graph *graph;
    dg_program *program;
    dg_backend_exe *exe;
    dg_inputs inputs;
    int64_t batch, classes;
    float *logits; // [batch, classes]
    /* For other data than the run's; set by the caller after open, who keeps them: the class of each of the
     * source's labels (NULL: they are the classes), and which classes can be chosen (NULL: all). */
    const int32_t *class_of; // [n_class_of]
    int32_t n_class_of;
    const bool *among; // [classes]
} dg_evaluator;

/* The graph is made by dg_classify_forward with the run's own spec. Leaves that the store does not have yet
 * get no first values here: bind it to a state that was initialised by the training program or a checkpoint.
 * With `average` it reads the moving averages of the parameters (step.h) instead of the parameters. */
dg_status dg_evaluator_open(const dg_parts *parts, const dg_classify_spec *spec, int64_t batch,
                            dg_dtype compute, bool average, const dg_state *state, dg_evaluator *e,
                            dg_error *err);
void dg_evaluator_close(dg_evaluator *e);

typedef struct dg_eval_result {
    int64_t images;
    double top1, top5, loss;            /* shares of 1; mean cross-entropy of the plain labels */
    int64_t *class_images, *class_hits; // [classes]
    int64_t classes;
} dg_eval_result;

/* What is told for every image, in the order of the source; NULL: nothing. logits f32 [classes]. */
typedef dg_status (*dg_eval_sink)(void *user, int64_t id, int32_t label, const float *logits, double loss,
                                  dg_error *err);

/* How many classes stand before the label, as top-k counts; of equal logits the smaller class comes first,
 * and a label whose logit is not a number comes last. */
int64_t dg_rank_of(const float *logits, int64_t classes, int32_t label);

/* Runs over the whole source once: padded at the end, and weighted so that each image counts once. A label
 * outside the classes is an error that names the sample. With `ranks` all of them call it, each with its
 * share of the source in `config`, and get the same result; NULL: this process alone. Free the result with
 * dg_eval_result_free. */
dg_status dg_evaluate(dg_evaluator *e, const dg_source *source, const dg_loader_config *config,
                      dg_ranks *ranks, dg_eval_sink sink, void *user, dg_eval_result *out, dg_error *err);
void dg_eval_result_free(dg_eval_result *r);

/* The loader of an evaluation: all of a source, in order, central crops, no captions. */
dg_loader_config dg_evaluation_config(const dg_parts *parts, int64_t batch);

#endif
