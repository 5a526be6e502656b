/* fuzz_image.c - JPEG and PNG: the size in the header, and the pixels; of a PNG once as it is, and once with
 * the chunks' checksums put right, since few changes would get past them. */
#include "fuzz.h"

#include <zlib.h>

#include "data/image.h"

enum { MOST_PIXELS = 1 << 18 };

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
        uint32_t sum = 0; /* every pixel is set: for the memory sanitizer */
        for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++) sum += image.pixels[i];
        FUZZ_CHECK(sum <= 3u * 255u * MOST_PIXELS);
    } else {
        fuzz_check_failure(s, &err);
        FUZZ_CHECK(image.width == 0 && image.height == 0);
    }
    dg_image_free(&image);
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
