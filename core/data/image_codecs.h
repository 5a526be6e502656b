/* image_codecs.h - the two codecs behind image.h. Sizes are checked against max_pixels before any is
 * allocated. */
#ifndef DG_DATA_IMAGE_CODECS_H
#define DG_DATA_IMAGE_CODECS_H

#include "image.h"

dg_status dg_jpeg_read_size(const void *bytes, size_t size, int32_t *width, int32_t *height, dg_error *err);
/* choose NULL: the whole picture as it is, and part is not set. */
dg_status dg_jpeg_decode_part(const void *bytes, size_t size, int64_t max_pixels, dg_image_choose choose,
                              void *user, dg_image *image, dg_image_part *part, dg_error *err);
dg_status dg_png_decode(const void *bytes, size_t size, int64_t max_pixels, dg_image *image, dg_error *err);

/* DG_ERR_FORMAT for a side that is not positive or more pixels than allowed. */
dg_status dg_image_check_size(int64_t width, int64_t height, int64_t max_pixels, dg_error *err);

#endif
