/* assess.h - a fine-tuned classifier on data of one's choice: which classes its labels are, subsets, ReaL
 * labels, and what was said of every image.
 *
 * Data: ImageNet folders by wnid or lists; data of some of the classes (ImageNet-A, -R, -Sketch); numbered
 * folders (ImageNet-V2). With `subset` the classifier chooses among the data's own classes only, as
 * ImageNet-A and -R are evaluated (Hendrycks et al., "Natural Adversarial Examples", CVPR 2021). */
#ifndef DG_TRAIN_ASSESS_H
#define DG_TRAIN_ASSESS_H

#include "train/classes.h"
#include "train/evaluate.h"
#include "train/run.h"

/* A classifier with its weights, ready for any source. Starts as {0}; ends with dg_assessor_close. */
typedef struct dg_assessor {
    dg_parts parts;
    dg_classes classes;
    dg_state state;
    dg_evaluator evaluator;
} dg_assessor;

/* The recipe's task must be finetune. weights: a checkpoint's model or any weights file that has the whole
 * model and head. classes: a file for dg_classes_read; NULL: those of the recipe's training data. Where
 * finetune.classes is more than there are names, the rest is named by number. */
dg_status dg_assessor_open(const dg_recipe *recipe, const dg_registry *registry, const char *weights,
                           const char *classes, dg_assessor *a, dg_error *err);
void dg_assessor_close(dg_assessor *a);

/* Several right labels an image: Beyer et al., "Are we done with ImageNet?", 2020. */
typedef struct dg_real_labels {
    int64_t n;
    int64_t *first;  // [n + 1] where an image's labels begin in `labels`
    int32_t *labels; // [first[n]]
} dg_real_labels;
/* Reads a JSON list of lists of class numbers below `classes`. Free it with dg_real_labels_free. */
dg_status dg_real_labels_read(const char *path, int32_t classes, dg_real_labels *out, dg_error *err);
void dg_real_labels_free(dg_real_labels *r);

enum { DG_ASSESS_BEST = 5 };

typedef struct dg_assessed {
    int64_t id;
    int32_t label;                /* its class */
    int32_t best[DG_ASSESS_BEST]; /* classes, the most probable first; -1: there are fewer */
    float probability;            /* of best[0] */
    double loss;
} dg_assessed;

typedef struct dg_assessment {
    dg_eval_result result;
    dg_assessed *images; /* [result.images] in the source's order */
    int32_t among;       /* classes that could be chosen */
    int64_t real_images,
        real_hits; /* with ReaL labels: images that have any, and those whose best is one of them */
} dg_assessment;

typedef struct dg_assess_options {
    bool subset;
    /* Of image K - 1 where a file is named ILSVRC2012_val_K, else in the source's order, which then must have
     * as many. NULL: none. */
    const dg_real_labels *real;
} dg_assess_options;

/* Goes over the source once. Free *out with dg_assessment_free, also after a failure. */
dg_status dg_assess(dg_assessor *a, const dg_source *source, const dg_assess_options *options,
                    dg_assessment *out, dg_error *err);
void dg_assessment_free(dg_assessment *a);

/* A line of JSON an image: id, name, label, class, prediction, top5 (class numbers), probability, loss. */
dg_status dg_assess_write(const char *path, const dg_assessor *a, const dg_source *source,
                          const dg_assessment *x, dg_error *err);

/* A page with the numbers, the most confused classes, the accuracy of every class, and the `worst` images
 * with the greatest losses as pictures; it needs nothing else to be looked at. */
dg_status dg_assess_page(const char *path, const dg_assessor *a, const dg_source *source,
                         const dg_assessment *x, int64_t worst, dg_error *err);

/* Two classes that are taken for each other: images of `label` that were called `prediction`. */
typedef struct dg_confusion {
    int32_t label, prediction;
    int64_t images;
} dg_confusion;
/* All that there are, the most frequent first, then by classes; *list [n] is dg_free'd by the caller. */
dg_status dg_confusions(const dg_assessment *x, dg_confusion **list, int64_t *n, dg_error *err);
/* The numbers in x->images of the `most` images with the greatest loss, the worst first, of equal ones the
 * earlier; order [*n] is dg_free'd by the caller. */
dg_status dg_worst_losses(const dg_assessment *x, int64_t most, int64_t **order, int64_t *n, dg_error *err);

#endif
