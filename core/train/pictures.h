/* pictures.h - what a model sees and says, drawn: for a report, or for images of one's choice.
 *
 * Pretraining: the crop, the order of segments or the patches that are hidden, the tokens, and for each
 * prediction its tokens and the loss of each position. Tokens that are vectors are coloured by the first
 * three principal components of the tokenizer's tokens of all images together (as in DINOv2: Oquab et al.,
 * 2023, figure 1), which the predictions are shown in too; ids have a colour each; tokens that are pixels,
 * which is told by their numbers, are put back into the image as MAE's figures do (He et al., CVPR 2022,
 * figure 2). A model of pictures and texts (features of both) is shown by the similarities of the images with
 * each other's captions.
 *
 * What a model calls its inputs matters in one place: a host input `order` i32 [batch, rows * columns] of a
 * model with the recipe key `segments: [rows, columns]` is the order of segments. */
#ifndef DG_TRAIN_PICTURES_H
#define DG_TRAIN_PICTURES_H

#include "train/evaluate.h"
#include "train/gallery.h"
#include "train/look.h"

enum { DG_PICTURES_MOST = 64 }; /* images that are looked at together */

typedef struct dg_shown {
    const dg_batch *batch;    /* the images */
    const char *const *names; // [batch->size] under each crop
    const char *about;        /* which images these are: a sentence */
} dg_shown;

/* After dg_look_run: adds a section for the tokens, or one for the captions. A model with neither adds the
 * images. */
dg_status dg_pictures_tokens(dg_look *look, const dg_shown *shown, dg_gallery *gallery, dg_error *err);

/* What a classifier says of up to `most` images of a source, drawn by the run's seed (0: all, in the source's
 * order): a section of `show` of them, and where they have labels one of the `show` with the greatest losses.
 * classes [e->classes]: names; NULL: numbers. */
dg_status dg_pictures_classes(dg_evaluator *e, const dg_source *source, const char *const *classes,
                              int64_t most, int64_t show, dg_gallery *gallery, dg_error *err);

/* Whether the tokens are the image's own pixels, patch by patch in the order [rows, columns, colours], up to
 * a scale and a shift of each colour of each patch: tokens [batch, grid_h * grid_w, width] of images u8
 * [batch, h, w, 3]. */
bool dg_tokens_are_pixels(const float *tokens, const uint8_t *images, int64_t batch, int64_t grid_h,
                          int64_t grid_w, int64_t width, int64_t h, int64_t w);

#endif
