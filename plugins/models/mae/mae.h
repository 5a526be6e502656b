/* mae.h - the model `mae` inside: what its recipe says, worked out by mae.c, and read by build.c.
 *
 * MAE (He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022): most patches of an image
 * are removed at random; the encoder sees the rest only; a light decoder gets their features and one learned
 * token in place of each removed patch, and predicts the tokens of the removed patches. */
#ifndef DIGPT_MODEL_MAE_H
#define DIGPT_MODEL_MAE_H

#include "digpt/encoder.h"

typedef struct mae {
    dg_encoder encoder;
    int64_t decoder_width, decoder_depth, decoder_heads, decoder_hidden;
    int64_t n_patches;
    int64_t n_keep;       /* patches that the encoder sees: 1 to n_patches - 1 */
    int64_t target_width; /* of a prediction: the tokenizer's width, or its vocabulary */
    bool target_class;    /* the tokenizer gives a class token, which is not predicted */
    bool target_discrete;
} mae;

dg_status mae_build(void *self, dg_graph *g, const dg_model_batch *batch, dg_model_output *out,
                    dg_error *err);

#endif
