/* classify.h - classification on an encoder: the graph of fine-tuning and of evaluation.
 *
 * Inputs of the graph: "image" u8 [batch, h, w, 3]; for training also "label" i32 [batch], "erase_box" i32
 * [batch, 4] (top, left, height, width; height 0: nothing), "erase_noise" f32 [batch, h, w, 3] (standard
 * normal where the box is), "drop_path" f32 [batch, 2 depth] (0, or 1 / (1 - p)), and "mix" f32 [7] for mixup
 * and cutmix within the batch: the share that a picture keeps inside the box and outside it, the share of its
 * own label, and the box (top, bottom, left, right). The partner of sample i is sample batch - 1 - i, as in
 * timm. Order: normalise, erase, mix (timm's). */
#ifndef DG_TRAIN_CLASSIFY_H
#define DG_TRAIN_CLASSIFY_H

#include "train/step.h"

enum {
    DG_MIX_INSIDE,
    DG_MIX_OUTSIDE,
    DG_MIX_LABEL,
    DG_MIX_TOP,
    DG_MIX_BOTTOM,
    DG_MIX_LEFT,
    DG_MIX_RIGHT,
    DG_MIX_SIZE
};

typedef enum dg_pool { DG_POOL_MEAN = 0, DG_POOL_CLASS = 1 } dg_pool;

typedef struct dg_classify_spec {
    int64_t classes;
    dg_pool pool;               /* mean of the patch tokens, then fc_norm; or the class token after norm */
    double smoothing;           /* of labels */
    double head_std;            /* of the head's first weights: 2e-5 officially */
    bool mix, erase, drop_path; /* which inputs the training graph has */
} dg_classify_spec;

/* With ranks > 0 the training graph, of one of so many ranks, which has `batch` samples: output "loss" f32[]
 * (mean cross-entropy with the soft targets) and the taps "seen" (the pictures as the encoder gets them: f32
 * [batch, h, w, 3], or bytes where nothing erases or mixes), "logits" and "targets", both f32 [batch,
 * classes]; or, with ranks 0, only the output "logits" f32 [batch, classes]. Leaves are those of the model's
 * encoder, and "model.fc_norm.*" or "model.norm.*", "model.head.*".
 */
dg_status dg_classify_forward(const dg_parts *parts, const dg_classify_spec *spec, int64_t batch,
                              uint32_t ranks, dg_graph **graph, dg_step *names, dg_error *err);

#endif
