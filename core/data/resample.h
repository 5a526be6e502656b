/* resample.h - Pillow's antialiased bicubic on RGB8, byte for byte, and the geometry of crops.
 *
 * The kernel is the cubic with a = -0.5, stretched by the scale when shrinking; weights are rounded to 22
 * fraction bits; the horizontal pass comes first, with unsigned bytes between the passes (Pillow 9.5,
 * Resample.c). The crop comes before the resampling: nothing outside the box is read. Boxes, fallbacks and
 * rounding are torchvision's. */
#ifndef DG_DATA_RESAMPLE_H
#define DG_DATA_RESAMPLE_H

#include "digpt/philox.h"

/* A rectangle in pixels, in torchvision's order (i, j, h, w). */
typedef struct dg_box {
    int32_t top, left, height, width;
} dg_box;

/* "The box of the source is resized to height x width, and of that the window is wanted." */
typedef struct dg_view {
    dg_box box;            /* of the source */
    int32_t height, width; /* of the whole resized box */
    dg_box window;         /* of the resized box: what is written */
    /* Where the box itself was rounded outwards: the exact top, left, height and width within it; height 0:
     * all of it. */
    double exact[4];
} dg_view;

/* Buffers of one thread, kept between calls. Starts as {0}. */
typedef struct dg_resampler {
    void *block;
    size_t capacity;
} dg_resampler;

void dg_resampler_free(dg_resampler *r);

/* Renders a view of the RGB8 picture src [src_height, src_width, 3] to out [window.height, window.width, 3].
 * DG_ERR_INVALID if the box is not inside the picture, or the window not inside height x width. */
dg_status dg_resample(dg_resampler *r, const uint8_t *src, int32_t src_height, int32_t src_width,
                      const dg_view *view, uint8_t *out, dg_error *err);
/* The same geometry for a map of classes, to the nearest: src [src_height, src_width], out [window]. */
dg_status dg_resample_nearest(const uint8_t *src, int32_t src_height, int32_t src_width, const dg_view *view,
                              uint8_t *out, dg_error *err);
/* Mirrors every row in place: pixels [height, width, channels]. */
void dg_flip_horizontal(uint8_t *pixels, int32_t height, int32_t width, int32_t channels);

/* The whole box resized to height x width. */
dg_view dg_view_of_box(dg_box box, int32_t height, int32_t width);

/* The same where the picture at hand is divided by `scale` and begins at (top, left) of it; it has
 * src_height x src_width pixels. */
dg_view dg_view_of_part(dg_box box, int32_t scale, int32_t top, int32_t left, int32_t src_height,
                        int32_t src_width, int32_t height, int32_t width);

/* RandomResizedCrop's box: an area in scale[0..1] of the picture's, a ratio width/height log-uniform in
 * ratio[0..1]; ten tries, then the largest central box of an allowed ratio. */
dg_box dg_draw_crop(dg_rng *rng, int32_t src_height, int32_t src_width, const double scale[2],
                    const double ratio[2]);

typedef enum dg_fit {
    DG_FIT_SQUASH =
        0, /* both sides are resized to crop/fraction: Resize((256, 256)), as the official code does */
    DG_FIT_SHORTER = 1 /* the shorter side is; the aspect ratio stays: Resize(256) */
} dg_fit;

/* The evaluation view: resize by `fit` to int(crop / fraction), then the central crop of height x width.
 * fraction 0.875 and 224 give 256. */
dg_view dg_view_of_centre(int32_t src_height, int32_t src_width, int32_t height, int32_t width,
                          double fraction, dg_fit fit);

#endif
