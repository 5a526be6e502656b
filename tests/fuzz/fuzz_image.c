/* fuzz_image.c - JPEG and PNG: the size in the header, and the pixels. */
#include "fuzz.h"

#include "data/image.h"

enum { MOST_PIXELS = 1 << 18 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
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
    return 0;
}
