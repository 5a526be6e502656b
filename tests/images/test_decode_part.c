/* test_decode_part.c - decoding a part of a picture, scaled: what `data.decode: fast` rests on. */
#include "test.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "data/image.h"
#include "data/resample.h"

enum { WIDTH = 701, HEIGHT = 533, SIDE = 96 };

/* A smooth picture with some edges. */
static uint8_t *picture(void)
{
    uint8_t *p = dg_calloc((size_t)WIDTH * HEIGHT, 3);
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            uint8_t *at = p + ((size_t)y * WIDTH + (size_t)x) * 3;
            at[0] = (uint8_t)(127 + 100 * sin(x * 0.03) * cos(y * 0.02));
            at[1] = (uint8_t)(x * 255 / WIDTH);
            at[2] = (uint8_t)((x / 60 + y / 60) % 2 ? 200 : 60);
        }
    return p;
}

static void choose(void *user, int32_t height, int32_t width, dg_image_want *want)
{
    assert_int_equal(height, HEIGHT);
    assert_int_equal(width, WIDTH);
    *want = *(const dg_image_want *)user;
}

typedef struct files {
    void *jpeg, *png;
    size_t jpeg_size, png_size;
} files;

static files make_files(void)
{
    dg_error err;
    files f;
    uint8_t *p = picture();
    ASSERT_OK(dg_image_encode_jpeg(p, WIDTH, HEIGHT, 92, &f.jpeg, &f.jpeg_size, &err));
    ASSERT_OK(dg_image_encode_png(p, WIDTH, HEIGHT, &f.png, &f.png_size, &err));
    dg_free(p);
    return f;
}

static void free_files(files *f)
{
    dg_free(f->jpeg);
    dg_free(f->png);
}

static void an_unscaled_part_has_the_pixels_of_the_whole(void **state)
{
    (void)state;
    dg_error err;
    files f = make_files();
    dg_image whole = {0}, image = {0};
    dg_image_part part;
    const dg_image_want wants[] = {{0, 0, HEIGHT, WIDTH, HEIGHT, WIDTH},
                                   {17, 301, 211, 97, 200, 90},
                                   {HEIGHT - 33, WIDTH - 41, 33, 41, 33, 41},
                                   {100, 0, 1, WIDTH, 1, WIDTH}};
    ASSERT_OK(dg_image_decode(f.jpeg, f.jpeg_size, 0, &whole, &err));
    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++) {
        dg_image_want w = wants[i];
        ASSERT_OK(dg_image_decode_part(f.jpeg, f.jpeg_size, 0, choose, &w, &image, &part, &err));
        assert_int_equal(part.scale, 1);
        for (int32_t y = 0; y < w.height; y++)
            assert_memory_equal(
                image.pixels +
                    ((size_t)(w.top + y - part.top) * (size_t)image.width + (size_t)(w.left - part.left)) * 3,
                whole.pixels + ((size_t)(w.top + y) * WIDTH + (size_t)w.left) * 3, (size_t)w.width * 3);
    }
    dg_image_free(&whole);
    dg_image_free(&image);
    free_files(&f);
}

static void resample(const dg_image *image, dg_view view, uint8_t *out)
{
    dg_error err;
    dg_resampler r = {0};
    ASSERT_OK(dg_resample(&r, image->pixels, image->height, image->width, &view, out, &err));
    dg_resampler_free(&r);
}

static void a_scaled_part_shows_what_the_whole_shows(void **state)
{
    (void)state;
    static const struct {
        dg_box box;
        int32_t scale;
    } cases[] = {
        {{3, 5, 193, 200}, 2}, {{31, 77, 401, 395}, 4}, {{0, 0, HEIGHT, WIDTH}, 4}, {{51, 101, 191, 333}, 1}};
    dg_error err;
    files f = make_files();
    dg_image whole = {0}, image = {0};
    static uint8_t exact[SIDE * SIDE * 3], fast[SIDE * SIDE * 3];
    ASSERT_OK(dg_image_decode(f.jpeg, f.jpeg_size, 0, &whole, &err));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const dg_box b = cases[i].box;
        dg_image_want w = {b.top, b.left, b.height, b.width, SIDE, SIDE};
        dg_image_part part;
        ASSERT_OK(dg_image_decode_part(f.jpeg, f.jpeg_size, 0, choose, &w, &image, &part, &err));
        assert_int_equal(part.scale, cases[i].scale);
        assert_true(part.scale == 1 || image.width < WIDTH / part.scale + 8);
        resample(&whole, dg_view_of_box(b, SIDE, SIDE), exact);
        resample(&image,
                 dg_view_of_part(b, part.scale, part.top, part.left, image.height, image.width, SIDE, SIDE),
                 fast);
        double off = 0, shifted = 0;
        for (int k = 0; k < SIDE * SIDE * 3; k++) off += abs(exact[k] - fast[k]);
        for (int k = 3; k < SIDE * SIDE * 3; k++) shifted += abs(exact[k] - exact[k - 3]);
        /* Half a pixel off would cost half of what a whole one does. */
        if (off > 0.35 * shifted || off / (SIDE * SIDE * 3) > 2)
            fail_msg("case %zu: off by %.2f a byte, a pixel's shift by %.2f", i, off / (SIDE * SIDE * 3),
                     shifted / (SIDE * SIDE * 3));
    }
    dg_image_free(&whole);
    dg_image_free(&image);
    free_files(&f);
}

static void of_a_png_the_whole_is_decoded(void **state)
{
    (void)state;
    dg_error err;
    files f = make_files();
    dg_image image = {0};
    dg_image_part part;
    dg_image_want w = {10, 20, 400, 400, 50, 50};
    ASSERT_OK(dg_image_decode_part(f.png, f.png_size, 0, choose, &w, &image, &part, &err));
    assert_int_equal(part.scale, 1);
    assert_int_equal(part.top, 0);
    assert_int_equal(image.width, WIDTH);
    dg_image_free(&image);
    free_files(&f);
}

static void a_broken_file_is_an_error(void **state)
{
    (void)state;
    dg_error err;
    files f = make_files();
    dg_image image = {0};
    dg_image_part part;
    dg_image_want w = {0, 0, HEIGHT, WIDTH, 50, 50};
    ASSERT_FAILS(dg_image_decode_part(f.jpeg, f.jpeg_size / 2, 0, choose, &w, &image, &part, &err),
                 DG_ERR_FORMAT, "JPEG");
    ASSERT_FAILS(dg_image_decode_part(f.jpeg, f.jpeg_size, 1000, choose, &w, &image, &part, &err),
                 DG_ERR_FORMAT, "more than the 1000 allowed");
    assert_int_equal(image.width, 0);
    dg_image_free(&image);
    free_files(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unscaled_part_has_the_pixels_of_the_whole),
        cmocka_unit_test(a_scaled_part_shows_what_the_whole_shows),
        cmocka_unit_test(of_a_png_the_whole_is_decoded),
        cmocka_unit_test(a_broken_file_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
