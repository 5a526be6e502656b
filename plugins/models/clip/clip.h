/* clip.h - the model `clip` inside: what its recipe says, worked out by clip.c, and read by build.c.
 *
 * CLIP (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021):
 * an image tower and a text tower map a picture and its caption to two vectors of one space; within a batch,
 * each picture is to find its own caption and each caption its own picture.
 *
 * Captions are i32 [batch, context_length]: ids of words, after which comes the end token, whose id is the
 * largest of the sequence, and then padding, 0. */
#ifndef DIGPT_MODEL_CLIP_H
#define DIGPT_MODEL_CLIP_H

#include "digpt/encoder.h"

typedef struct clip_text {
    int64_t width, depth, heads, hidden;
    int64_t length, vocabulary; /* tokens of a caption; ids */
} clip_text;

typedef struct clip {
    dg_encoder image;
    clip_text text;
    int64_t out; /* width of the space that both share */
    bool quick;  /* OpenAI's x * sigmoid(1.702 x) in place of exact GELU */
} clip;

dg_status clip_build(void *self, dg_graph *g, const dg_model_batch *batch, dg_model_output *out,
                     dg_error *err);
dg_status clip_encode(void *self, dg_graph *g, dg_value image, int64_t layer, dg_value keep, dg_features *out,
                      dg_error *err);

#endif
