/* image.h - RGB8 pictures in memory: decoding JPEG and PNG, writing them.
 *
 * Pixels are [height, width, 3] unsigned bytes, dense. Decoding gives the bytes that Pillow's
 * Image.open(...).convert("RGB") gives over the same libjpeg-turbo: ISLOW transform and fancy upsampling;
 * greyscale replicated; CMYK and YCCK taken as Adobe writes them (inverted); EXIF rotation and colour
 * profiles ignored; of PNG, palettes expanded, alpha dropped, the high byte of 16-bit samples taken.
 *
 * The bytes are taken as hostile: nothing aborts, and no more is allocated than max_pixels allow. All
 * functions are thread-safe on different images. */
#ifndef DG_DATA_IMAGE_H
#define DG_DATA_IMAGE_H

#include "digpt/base.h"

/* What Pillow refuses as a decompression bomb. */
#define DG_IMAGE_MAX_PIXELS ((int64_t)178956970)

/* Starts as {0}. Decoding into a used image takes its buffer over where it is large enough. */
typedef struct dg_image {
    uint8_t *pixels; /* [height, width, 3] */
    int32_t width, height;
    size_t capacity; /* bytes allocated */
} dg_image;

/* Sets the size and makes room; the pixels are not set. */
dg_status dg_image_reserve(dg_image *image, int32_t width, int32_t height, dg_error *err);
void dg_image_free(dg_image *image);

/* Decodes a JPEG or PNG file in memory; which of them is told by its first bytes. max_pixels 0 means
 * DG_IMAGE_MAX_PIXELS. DG_ERR_FORMAT: empty, unknown, corrupt or truncated, with the library's own words.
 * On failure the image keeps its buffer and has width and height 0. */
dg_status dg_image_decode(const void *bytes, size_t size, int64_t max_pixels, dg_image *image, dg_error *err);

/* ---- a part of a picture, scaled down while it is decoded */

/* A rectangle of the whole picture in its pixels, and the size that it will be resized to. */
typedef struct dg_image_want {
    int32_t top, left, height, width;
    int32_t to_height, to_width;
} dg_image_want;

/* Which part a decoded image is: its pixel (0, 0) is at (top, left) of the picture divided by scale. */
typedef struct dg_image_part {
    int32_t scale; /* 1, 2, 4 or 8 */
    int32_t top, left;
} dg_image_part;

/* Told the picture's size; says what is wanted of it. */
typedef void (*dg_image_choose)(void *user, int32_t height, int32_t width, dg_image_want *want);

/* As dg_image_decode, for what `choose` wants: a JPEG is scaled by the power of two that leaves the rectangle
 * at least as large as it will be, and rows and columns that it does not need are not made; of a PNG all is.
 * What lies below the rectangle is not read, so damage there is not found. */
dg_status dg_image_decode_part(const void *bytes, size_t size, int64_t max_pixels, dg_image_choose choose,
                               void *user, dg_image *image, dg_image_part *part, dg_error *err);

/* Width and height from the header alone; no pixel is decoded. */
dg_status dg_image_read_size(const void *bytes, size_t size, int32_t *width, int32_t *height, dg_error *err);

/* Writes pixels [height, width, 3] as a PNG, or as a JPEG (4:2:0, quality 1..100), into a new block: dg_free
 * it. */
dg_status dg_image_encode_png(const uint8_t *pixels, int32_t width, int32_t height, void **bytes,
                              size_t *size, dg_error *err);
dg_status dg_image_encode_jpeg(const uint8_t *pixels, int32_t width, int32_t height, int quality,
                               void **bytes, size_t *size, dg_error *err);

#endif
