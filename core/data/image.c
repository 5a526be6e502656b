/* image.c - buffers, and the choice of a codec by the first bytes. See image.h. */
#include "image_codecs.h"

#include "base/mem.h"

/* What a JPEG can say; a PNG could say more, and would cost resampling tables without end. */
#define MAX_SIDE 65535

dg_status dg_image_check_size(int64_t width, int64_t height, int64_t max_pixels, dg_error *err)
{
    if (max_pixels <= 0) max_pixels = DG_IMAGE_MAX_PIXELS;
    if (width <= 0 || height <= 0 || width > MAX_SIDE || height > MAX_SIDE)
        return dg_fail(err, DG_ERR_FORMAT, "the image says it is %lld x %lld pixels; a side has 1 to %d",
                       (long long)width, (long long)height, MAX_SIDE);
    if (width > max_pixels / height)
        return dg_fail(
            err, DG_ERR_FORMAT,
            "the image says it is %lld x %lld pixels, more than the %lld allowed (a decompression bomb?)",
            (long long)width, (long long)height, (long long)max_pixels);
    return DG_OK;
}

dg_status dg_image_reserve(dg_image *image, int32_t width, int32_t height, dg_error *err)
{
    DG_TRY(dg_image_check_size(width, height, INT64_MAX / 3, err));
    size_t need = (size_t)width * (size_t)height * 3;
    if (need > image->capacity) {
        dg_free(image->pixels);
        image->capacity = 0;
        image->pixels = dg_alloc_aligned(need);
        if (!image->pixels) {
            image->width = image->height = 0;
            return dg_fail(err, DG_ERR_NOMEM, "no memory for an image of %d x %d", width, height);
        }
        image->capacity = need;
    }
    image->width = width;
    image->height = height;
    return DG_OK;
}

void dg_image_free(dg_image *image)
{
    dg_free(image->pixels);
    *image = (dg_image){0};
}

static const unsigned char png_magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

static bool is_jpeg(const unsigned char *b, size_t size)
{
    return size >= 2 && b[0] == 0xff && b[1] == 0xd8;
}
static bool is_png(const unsigned char *b, size_t size)
{
    return size >= 8 && !memcmp(b, png_magic, 8);
}

static dg_status unknown(const unsigned char *b, size_t size, dg_error *err)
{
    static const struct {
        const char *magic;
        size_t at, length;
        const char *name;
    } others[] = {
        {"GIF8", 0, 4, "a GIF"},         {"WEBP", 8, 4, "a WebP"},
        {"BM", 0, 2, "a BMP"},           {"II*\0", 0, 4, "a TIFF"},
        {"MM\0*", 0, 4, "a TIFF"},       {"ftypavif", 4, 8, "an AVIF"},
        {"<html", 0, 5, "an HTML page"}, {"<!DOCTYPE", 0, 9, "an HTML page"},
    };
    if (size == 0) return dg_fail(err, DG_ERR_FORMAT, "the file is empty (0 bytes)");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (size >= others[i].at + others[i].length &&
            !memcmp(b + others[i].at, others[i].magic, others[i].length))
            return dg_fail(err, DG_ERR_FORMAT, "neither a JPEG nor a PNG but %s file", others[i].name);
    unsigned char head[4] = {0};
    memcpy(head, b, size < 4 ? size : 4);
    return dg_fail(err, DG_ERR_FORMAT,
                   "neither a JPEG nor a PNG: the %zu bytes begin with %02x %02x %02x %02x", size, head[0],
                   head[1], head[2], head[3]);
}

static dg_status decode(const void *bytes, size_t size, int64_t max_pixels, dg_image_choose choose,
                        void *user, dg_image *image, dg_image_part *part, dg_error *err)
{
    dg_status s = is_jpeg(bytes, size)
                      ? dg_jpeg_decode_part(bytes, size, max_pixels, choose, user, image, part, err)
                  : is_png(bytes, size) ? dg_png_decode(bytes, size, max_pixels, image, err)
                                        : unknown(bytes, size, err);
    if (s != DG_OK) image->width = image->height = 0;
    return s;
}

dg_status dg_image_decode(const void *bytes, size_t size, int64_t max_pixels, dg_image *image, dg_error *err)
{
    return decode(bytes, size, max_pixels, NULL, NULL, image, NULL, err);
}

dg_status dg_image_decode_part(const void *bytes, size_t size, int64_t max_pixels, dg_image_choose choose,
                               void *user, dg_image *image, dg_image_part *part, dg_error *err)
{
    *part = (dg_image_part){.scale = 1};
    DG_TRY(decode(bytes, size, max_pixels, choose, user, image, part, err));
    dg_image_want whole;
    if (is_png(bytes, size)) choose(user, image->height, image->width, &whole);
    return DG_OK;
}

dg_status dg_image_read_size(const void *bytes, size_t size, int32_t *width, int32_t *height, dg_error *err)
{
    const unsigned char *b = bytes;
    if (is_jpeg(b, size)) return dg_jpeg_read_size(bytes, size, width, height, err);
    if (!is_png(b, size)) return unknown(b, size, err);
    if (size < 24 || memcmp(b + 12, "IHDR", 4) != 0)
        return dg_fail(err, DG_ERR_FORMAT, "PNG: no header chunk after the signature");
    int64_t side[2];
    for (int i = 0; i < 2; i++) {
        const unsigned char *p = b + 16 + 4 * i;
        side[i] = (int64_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
    }
    DG_TRY(dg_image_check_size(side[0], side[1], INT64_MAX, err));
    *width = (int32_t)side[0];
    *height = (int32_t)side[1];
    return DG_OK;
}
