/* augment_pixels.h - changes of one RGB8 picture in place, byte for byte as Pillow 9.5 makes them: ImageOps,
 * ImageEnhance, Image.transform (AFFINE, BICUBIC) and the hue shift of torchvision's PIL back end.
 *
 * Each is thread-safe on different pictures. What needs room takes a scratch, one for each thread; only those
 * can fail, with DG_ERR_NOMEM, and then the picture is as it was. */
#ifndef DG_DATA_AUGMENT_PIXELS_H
#define DG_DATA_AUGMENT_PIXELS_H

#include "digpt/base.h"

/* Sides of 1..65535; the pixels belong to the caller. */
typedef struct dg_pixels {
    uint8_t *rgb; /* [height, width, 3] */
    int32_t height, width;
} dg_pixels;

/* Kept between calls. Starts as {0}. */
typedef struct dg_scratch {
    void *block;
    size_t capacity;
} dg_scratch;

void dg_scratch_free(dg_scratch *s);

/* ---- by a table of 256 values, one for all channels or one for each */

/* Stretches every channel to 0..255. */
void dg_auto_contrast(dg_pixels p);
/* Gives every channel a flat histogram. */
void dg_equalize(dg_pixels p);
void dg_invert(dg_pixels p);
/* Keeps the upper `bits` bits, 0..8; 0 gives black. */
void dg_posterize(dg_pixels p, int32_t bits);
/* Inverts what is not below the threshold. */
void dg_solarize(dg_pixels p, double threshold);
/* Adds to what is below 128, up to 255. */
void dg_solarize_add(dg_pixels p, int32_t add);

/* ---- degenerate + factor * (picture - degenerate), in f32, truncated; factor 0..1e6. 1 changes nothing, 0
 * gives the degenerate picture: black; its mean grey; its greys; itself smoothed by [1 1 1; 1 5 1; 1 1 1]
 * / 13. */

void dg_adjust_brightness(dg_pixels p, double factor);
void dg_adjust_contrast(dg_pixels p, double factor);
void dg_adjust_saturation(dg_pixels p, double factor);
dg_status dg_adjust_sharpness(dg_pixels p, double factor, dg_scratch *scratch, dg_error *err);

/* Turns the hue by `turns` of the circle, in steps of 1/256 towards 0; -0.5..0.5. */
void dg_adjust_hue(dg_pixels p, double turns);

/* Out(x, y) = in(m0 x + m1 y + m2, m3 x + m4 y + m5) at pixel centres (half-integers), by the cubic with a =
 * -1 on a picture whose border goes on, truncated; `fill` where the source point is outside. */
dg_status dg_affine(dg_pixels p, const double m[6], const uint8_t fill[3], dg_scratch *scratch,
                    dg_error *err);

#endif
