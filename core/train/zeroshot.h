/* zeroshot.h - classification without training: pictures against the texts of the classes (Radford et al.,
 * "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021). For models whose
 * forward pass taps "image_features" and "text_features" [batch, width], as the model clip does. */
#ifndef DG_TRAIN_ZEROSHOT_H
#define DG_TRAIN_ZEROSHOT_H

#include "data/source.h"
#include "train/parts.h"

typedef struct dg_zeroshot_options {
    const char *weights;          /* model.safetensors of a checkpoint */
    const char *const *templates; /* [n_templates], each with "{}" where the class's name goes; their features
                                     are averaged */
    size_t n_templates;
} dg_zeroshot_options;

typedef struct dg_zeroshot_result {
    int64_t images, classes;
    double top1, top5; /* shares of 1 */
} dg_zeroshot_result;

/* parts->vocabulary must be the training run's. Class names are the source's, '_' read as a blank. */
dg_status dg_zeroshot(const dg_parts *parts, const dg_source *source, const dg_zeroshot_options *options,
                      dg_zeroshot_result *out, dg_error *err);

#endif
