/* test_image.c - decoding gives Pillow's bytes, and bad bytes give messages. */
#include "data/image.h"

#include "base/file.h"
#include "base/mem.h"
#include "golden.h"

#define IMAGES DIGPT_TEST_DATA "/images/"
#define WIDTH 33
#define HEIGHT 21

static const char *const names[] = {"rgb420.jpg", "progressive422.jpg", "grey.jpg",    "cmyk.jpg",
                                    "ycck.jpg",   "exif_rotated.jpg",   "palette.png", "grey1.png",
                                    "rgba.png",   "rgb16.png",          "grey16.png",  "interlaced.png"};
#define COUNT (sizeof names / sizeof *names)

static void read_image(const char *name, char **bytes, size_t *size)
{
    dg_error err;
    char path[512];
    snprintf(path, sizeof path, IMAGES "%s", name);
    ASSERT_OK(dg_file_read(path, 1 << 20, bytes, size, &err));
}

static void every_kind_decodes_to_the_bytes_of_pillow(void **state)
{
    (void)state;
    dg_error err;
    dg_image image = {0};
    for (size_t i = 0; i < COUNT; i++) {
        char *bytes, *expected, want[64];
        size_t size, n;
        read_image(names[i], &bytes, &size);
        snprintf(want, sizeof want, "%.*s.rgb", (int)strcspn(names[i], "."), names[i]);
        read_image(want, &expected, &n);
        ASSERT_OK(dg_image_decode(bytes, size, 0, &image, &err));
        assert_int_equal(image.width, WIDTH);
        assert_int_equal(image.height, HEIGHT);
        assert_int_equal(n, WIDTH * HEIGHT * 3);
        if (memcmp(image.pixels, expected, n) != 0) fail_msg("%s differs", names[i]);
        int32_t w, h;
        ASSERT_OK(dg_image_read_size(bytes, size, &w, &h, &err));
        assert_int_equal(w, WIDTH);
        assert_int_equal(h, HEIGHT);
        dg_free(bytes);
        dg_free(expected);
    }
    dg_image_free(&image);
}

static void a_file_cut_anywhere_is_an_error_and_no_crash(void **state)
{
    (void)state;
    dg_image image = {0};
    for (size_t i = 0; i < COUNT; i++) {
        char *bytes;
        size_t size;
        read_image(names[i], &bytes, &size);
        for (size_t n = 0; n < size; n++) {
            dg_error err = DG_ERROR_INIT;
            void *part = dg_calloc(n, 1); /* its own block, so that a read past its end is seen */
            if (n) memcpy(part, bytes, n);
            if (dg_image_decode(part, n, 0, &image, &err) != DG_ERR_FORMAT)
                fail_msg("%s cut to %zu of %zu bytes: %s", names[i], n, size, err.message);
            assert_int_equal(image.width, 0);
            dg_free(part);
        }
        dg_free(bytes);
    }
    dg_image_free(&image);
}

static void flipped_bytes_never_crash(void **state)
{
    (void)state;
    dg_image image = {0};
    for (size_t i = 0; i < COUNT; i++) {
        char *bytes;
        size_t size;
        read_image(names[i], &bytes, &size);
        for (size_t n = 0; n < size; n++) {
            dg_error err = DG_ERROR_INIT;
            int32_t w, h;
            bytes[n] = (char)(bytes[n] ^ 0xff);
            dg_image_decode(bytes, size, 1 << 20, &image, &err);
            dg_image_read_size(bytes, size, &w, &h, &err);
            bytes[n] = (char)(bytes[n] ^ 0xff);
        }
        dg_free(bytes);
    }
    dg_image_free(&image);
}

static void messages_say_what_is_wrong(void **state)
{
    (void)state;
    dg_error err;
    dg_image image = {0};
    char *bytes;
    size_t size;
    ASSERT_FAILS(dg_image_decode("", 0, 0, &image, &err), DG_ERR_FORMAT, "0 bytes");
    ASSERT_FAILS(dg_image_decode("GIF89a..", 8, 0, &image, &err), DG_ERR_FORMAT, "a GIF");
    ASSERT_FAILS(dg_image_decode("hello", 5, 0, &image, &err), DG_ERR_FORMAT, "68 65 6c 6c");
    read_image("rgb420.jpg", &bytes, &size);
    ASSERT_FAILS(dg_image_decode(bytes, size / 2, 0, &image, &err), DG_ERR_FORMAT,
                 "Premature end of JPEG file");
    ASSERT_FAILS(dg_image_decode(bytes, size, WIDTH * HEIGHT - 1, &image, &err), DG_ERR_FORMAT,
                 "decompression bomb");
    ASSERT_OK(dg_image_decode(bytes, size, WIDTH * HEIGHT, &image, &err));
    dg_free(bytes);
    read_image("rgba.png", &bytes, &size);
    ASSERT_FAILS(dg_image_decode(bytes, size - 40, 0, &image, &err), DG_ERR_FORMAT,
                 "PNG: the file is truncated");
    bytes[60] ^= 1;
    ASSERT_FAILS(dg_image_decode(bytes, size, 0, &image, &err), DG_ERR_FORMAT, "PNG: ");
    memcpy(bytes + 16, "\x7f\xff\xff\xff", 4); /* a width of two thousand million */
    ASSERT_FAILS(dg_image_read_size(bytes, size, &image.width, &image.height, &err), DG_ERR_FORMAT,
                 "2147483647");
    dg_free(bytes);
    dg_image_free(&image);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    dg_error err;
    dg_image in = {0}, out = {0};
    void *bytes;
    size_t size;
    ASSERT_OK(dg_image_reserve(&in, 40, 30, &err));
    for (int i = 0; i < 40 * 30 * 3; i++) in.pixels[i] = (uint8_t)(128 + i / 120 + (i % 3) * 20);
    ASSERT_OK(dg_image_encode_png(in.pixels, 40, 30, &bytes, &size, &err));
    ASSERT_OK(dg_image_decode(bytes, size, 0, &out, &err));
    assert_memory_equal(in.pixels, out.pixels, 40 * 30 * 3);
    dg_free(bytes);
    ASSERT_OK(dg_image_encode_jpeg(in.pixels, 40, 30, 95, &bytes, &size, &err));
    ASSERT_OK(dg_image_decode(bytes, size, 0, &out, &err));
    assert_int_equal(out.width, 40);
    for (int i = 0; i < 40 * 30 * 3; i++) assert_in_range(out.pixels[i] + 8 - in.pixels[i], 0, 16);
    dg_free(bytes);
    ASSERT_FAILS(dg_image_encode_png(in.pixels, 0, 30, &bytes, &size, &err), DG_ERR_FORMAT, "0 x 30");
    dg_image_free(&in);
    dg_image_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_decodes_to_the_bytes_of_pillow),
        cmocka_unit_test(a_file_cut_anywhere_is_an_error_and_no_crash),
        cmocka_unit_test(flipped_bytes_never_crash),
        cmocka_unit_test(messages_say_what_is_wrong),
        cmocka_unit_test(what_is_written_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
