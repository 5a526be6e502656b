/* probe.h - a linear classifier on frozen features, as MAE evaluates them (He et al., "Masked Autoencoders
 * Are Scalable Vision Learners", CVPR 2022, appendix A.1): batch-norm without weights, one linear layer, SGD
 * with momentum or LARS (You et al., "Large Batch Training of Convolutional Networks", 2017), no weight
 * decay, cosine schedule. Features are fixed, so that there is no augmentation. Several learning rates are
 * trained side by side, each a head of its own from the same first weights on the same batches. It is short
 * and is not resumed: a repetition takes the features from the cache and gives the same numbers. */
#ifndef DG_TRAIN_PROBE_H
#define DG_TRAIN_PROBE_H

#include "train/features.h"

#define DG_PROBE_MAX_LR 16

typedef struct dg_probe_spec {
    int32_t classes;
    int64_t batch; /* made smaller where there are fewer images */
    int64_t epochs;
    double warmup; /* epochs */
    double momentum;
    bool lars;             /* trust coefficient 0.001, for matrices and not for biases, as MAE */
    const double *base_lr; /* [n] learning rates for a batch of 256, scaled linearly */
    size_t n;              /* 1..DG_PROBE_MAX_LR */
    uint64_t seed;
} dg_probe_spec;

/* One head after an epoch. A head whose numbers are not finite has hit nothing. */
typedef struct dg_probe_score {
    double loss;               /* mean over the epoch's batches of training */
    double val_loss;           /* of the validation features */
    double val_top1, val_top5; /* shares of 1 */
} dg_probe_score;

/* Told after every epoch, 1 for the first; score[n]. */
typedef dg_status (*dg_probe_sink)(void *user, int64_t step, int64_t epoch, const dg_probe_score *score,
                                   dg_error *err);

/* Trains and leaves the last epoch's scores in score[n]. Labels of both sets are in [0, classes). */
dg_status dg_probe_train(const dg_parts *parts, const dg_probe_spec *spec, const dg_feature_set *training,
                         const dg_feature_set *validation, dg_probe_sink sink, void *user,
                         dg_probe_score *score, dg_error *err);

#endif
