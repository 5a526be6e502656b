/* fuzz_image.c - JPEG and PNG: the size in the header, the pixels, and a part of them scaled down; of a PNG
 * once as it is, and once with the chunks' checksums put right, since few changes would get past them. */
#include "fuzz.h"

#include <zlib.h>

#include "data/image.h"

enum { MOST_PIXELS = 1 << 18 };

/* Every pixel is set: for the memory sanitizer. */
static void read_pixels(const dg_image *image)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < (size_t)image->width * (size_t)image->height * 3; i++) sum += image->pixels[i];
    FUZZ_CHECK(sum <= 3u * 255u * MOST_PIXELS);
}

/* A rectangle of the picture, and a smaller size, from the last bytes of the file. */
static void choose(void *user, int32_t height, int32_t width, dg_image_want *want)
{
    const uint8_t *draw = user;
    want->top = draw[0] % height;
    want->left = draw[1] % width;
    want->height = 1 + draw[2] % (height - want->top);
    want->width = 1 + draw[3] % (width - want->left);
    want->to_height = 1 + draw[4] % 64;
    want->to_width = 1 + draw[5] % 64;
}

static void run_part(const uint8_t *data, size_t size)
{
    uint8_t draw[6] = {0};
    dg_error err = DG_ERROR_INIT;
    dg_image image = {0};
    dg_image_part part = {.scale = 1};
    if (size >= sizeof draw) memcpy(draw, data + size - sizeof draw, sizeof draw);
    dg_status s = dg_image_decode_part(data, size, MOST_PIXELS, choose, draw, &image, &part, &err);
    if (s == DG_OK) {
        FUZZ_CHECK(image.width > 0 && image.height > 0 && part.top >= 0 && part.left >= 0);
        FUZZ_CHECK(part.scale == 1 || part.scale == 2 || part.scale == 4 || part.scale == 8);
        read_pixels(&image);
    } else {
        fuzz_check_failure(s, &err);
    }
    dg_image_free(&image);
}

static void run(const uint8_t *data, size_t size)
{
    int32_t width = 0, height = 0;
    dg_error err = DG_ERROR_INIT;
    dg_image image = {0};
    dg_status s = dg_image_read_size(data, size, &width, &height, &err);
    if (s == DG_OK)
        FUZZ_CHECK(width > 0 && height > 0);
    else
        fuzz_check_failure(s, &err);
    bool sized = s == DG_OK;
    err = (dg_error)DG_ERROR_INIT;
    s = dg_image_decode(data, size, MOST_PIXELS, &image, &err);
    if (s == DG_OK) {
        FUZZ_CHECK(sized && image.width == width && image.height == height);
        FUZZ_CHECK((int64_t)width * height <= MOST_PIXELS);
        read_pixels(&image);
    } else {
        fuzz_check_failure(s, &err);
        FUZZ_CHECK(image.width == 0 && image.height == 0);
    }
    dg_image_free(&image);
    run_part(data, size);
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A chunk is its length, four letters, the data, and the CRC-32 of letters and data. False if all were right.
 */
static bool seal(uint8_t *data, size_t size)
{
    bool changed = false;
    if (size < 8 || memcmp(data + 1, "PNG", 3) != 0) return false;
    for (size_t at = 8; size - at >= 12;) {
        const size_t length = big_endian(data + at);
        if (length > size - at - 12) break;
        uint8_t *end = data + at + 8 + length;
        const uint32_t crc = (uint32_t)crc32(0, data + at + 4, (uInt)(length + 4));
        changed |= crc != big_endian(end);
        for (int i = 0; i < 4; i++) end[i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + length;
    }
    return changed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    run(data, size);
    uint8_t *copy = dg_calloc(size, 1);
    if (copy && size) memcpy(copy, data, size);
    if (copy && seal(copy, size)) run(copy, size);
    dg_free(copy);
    return 0;
}
