/* test_resample.c - crops, evaluation views and flips are Pillow's, byte for byte. */
#include "data/resample.h"

#include <math.h>

#include "data/image.h"
#include "golden.h"

#define SRC_HEIGHT 131
#define SRC_WIDTH 97

static uint8_t out[256 * 256 * 3];

static void crop_to(dg_resampler *r, const uint8_t *src, int32_t h, int32_t w, const int32_t ijhw[4],
                    int32_t size)
{
    dg_error err;
    const dg_view view = dg_view_of_box((dg_box){ijhw[0], ijhw[1], ijhw[2], ijhw[3]}, size, size);
    ASSERT_OK(dg_resample(r, src, h, w, &view, out, &err));
}

static void golden_crops_are_exact(void **state)
{
    static const struct {
        const char *name;
        int32_t size, box;
    } cases[] = {{"rrc64.0", 64, 0}, {"rrc64.1", 64, 1},   {"rrc64.2", 64, 2},
                 {"rrc64.3", 64, 3}, {"rrc224.0", 224, 0}, {"rrc32.0", 32, 0}};
    (void)state;
    dg_error err;
    size_t n;
    dg_resampler r = {0};
    golden g = golden_open(DIGPT_TEST_DATA "/D_synth.safetensors");
    const uint8_t *src = golden_find(&g, "src", &n);
    int32_t boxes[4][4];
    memcpy(boxes, golden_find(&g, "boxes_ijhw", &n), sizeof boxes);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        crop_to(&r, src, SRC_HEIGHT, SRC_WIDTH, boxes[cases[i].box], cases[i].size);
        const void *want = golden_find(&g, cases[i].name, &n);
        if (memcmp(out, want, n) != 0) fail_msg("%s differs", cases[i].name);
    }
    crop_to(&r, src, SRC_HEIGHT, SRC_WIDTH, boxes[0], 64);
    dg_flip_horizontal(out, 64, 64, 3);
    assert_memory_equal(out, golden_find(&g, "rrc64.0.hflip", &n), n);
    const dg_view centre = dg_view_of_centre(SRC_HEIGHT, SRC_WIDTH, 224, 224, 0.875, DG_FIT_SQUASH);
    assert_int_equal(centre.height, 256);
    ASSERT_OK(dg_resample(&r, src, SRC_HEIGHT, SRC_WIDTH, &centre, out, &err));
    assert_memory_equal(out, golden_find(&g, "eval224", &n), n);
    dg_resampler_free(&r);
    golden_close(&g);
}

static void a_window_is_a_part_of_the_whole(void **state)
{
    (void)state;
    dg_error err;
    size_t n;
    static uint8_t part[20 * 31 * 3];
    dg_resampler r = {0};
    golden g = golden_open(DIGPT_TEST_DATA "/D_synth.safetensors");
    const uint8_t *src = golden_find(&g, "src", &n);
    dg_view view = dg_view_of_box((dg_box){3, 5, 100, 80}, 70, 90);
    ASSERT_OK(dg_resample(&r, src, SRC_HEIGHT, SRC_WIDTH, &view, out, &err));
    view.window = (dg_box){11, 40, 20, 31};
    ASSERT_OK(dg_resample(&r, src, SRC_HEIGHT, SRC_WIDTH, &view, part, &err));
    for (int y = 0; y < 20; y++)
        assert_memory_equal(part + y * 31 * 3, out + ((11 + y) * 90 + 40) * 3, 31 * 3);
    dg_resampler_free(&r);
    golden_close(&g);
}

static void the_same_size_gives_the_same_bytes(void **state)
{
    (void)state;
    dg_error err;
    size_t n;
    dg_resampler r = {0};
    golden g = golden_open(DIGPT_TEST_DATA "/D_synth.safetensors");
    const uint8_t *src = golden_find(&g, "src", &n);
    const dg_view view = dg_view_of_box((dg_box){0, 0, SRC_HEIGHT, SRC_WIDTH}, SRC_HEIGHT, SRC_WIDTH);
    ASSERT_OK(dg_resample(&r, src, SRC_HEIGHT, SRC_WIDTH, &view, out, &err));
    assert_memory_equal(out, src, n);
    dg_resampler_free(&r);
    golden_close(&g);
}

static void a_box_outside_is_refused(void **state)
{
    (void)state;
    dg_error err;
    dg_resampler r = {0};
    static const dg_box bad[] = {{-1, 0, 2, 2}, {0, -1, 2, 2}, {0, 0, 0, 2},
                                 {0, 0, 2, 0},  {3, 0, 6, 2},  {0, 0, 2, 9}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const dg_view view = dg_view_of_box(bad[i], 4, 4);
        ASSERT_FAILS(dg_resample(&r, out, 8, 8, &view, out, &err), DG_ERR_INVALID,
                     "is not inside the picture");
    }
    dg_view view = dg_view_of_box((dg_box){0, 0, 8, 8}, 4, 4);
    view.window.left = 1;
    ASSERT_FAILS(dg_resample(&r, out, 8, 8, &view, out, &err), DG_ERR_INVALID, "window");
    dg_resampler_free(&r);
}

static void drawn_boxes_lie_inside_and_fill_the_asked_share(void **state)
{
    (void)state;
    const double scale[2] = {0.2, 1.0}, ratio[2] = {3.0 / 4, 4.0 / 3};
    double least = 1, most = 0, sum = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        dg_rng rng = dg_rng_make(1, DG_RNG_CROP, i, 0);
        const dg_box b = dg_draw_crop(&rng, 300, 400, scale, ratio);
        assert_true(b.top >= 0 && b.left >= 0 && b.height >= 1 && b.width >= 1);
        assert_true(b.top + b.height <= 300 && b.left + b.width <= 400);
        const double share = (double)b.height * b.width / (300 * 400), r = (double)b.width / b.height;
        assert_true(r > 0.74 && r < 1.35);
        least = share < least ? share : least;
        most = share > most ? share : most;
        sum += share;
    }
    assert_true(least > 0.19 && least < 0.21 && most > 0.95 && most <= 1.0);
    /* 0.4956 by simulation of torchvision's code: large areas often do not fit and are drawn again. */
    assert_true(fabs(sum / 20000 - 0.4956) < 0.006);
}

static void a_picture_too_long_falls_back_to_its_middle(void **state)
{
    (void)state;
    const double all[2] = {1.0, 1.0}, ratio[2] = {3.0 / 4, 4.0 / 3};
    dg_rng rng = dg_rng_make(1, DG_RNG_CROP, 0, 0);
    dg_box b = dg_draw_crop(&rng, 100, 1001, all, ratio);
    assert_int_equal(b.height, 100);
    assert_int_equal(b.width, 133);
    assert_int_equal(b.left, (1001 - 133) / 2);
    b = dg_draw_crop(&rng, 1001, 100, all, ratio);
    assert_int_equal(b.width, 100);
    assert_int_equal(b.height, 133);
    b = dg_draw_crop(&rng, 1, 1, all, ratio);
    assert_int_equal(b.width * b.height, 1);
}

static void the_shorter_side_fit_keeps_the_aspect_ratio(void **state)
{
    (void)state;
    dg_view v = dg_view_of_centre(300, 401, 224, 224, 0.875, DG_FIT_SHORTER);
    assert_int_equal(v.height, 256);
    assert_int_equal(v.width, 342); /* int(256 * 401 / 300) */
    assert_int_equal(v.window.left, 59);
    v = dg_view_of_centre(401, 300, 224, 224, 0.875, DG_FIT_SHORTER);
    assert_int_equal(v.height, 342);
    assert_int_equal(v.window.top, 59);
    /* (343 - 224) / 2 = 59.5: to even, as Python rounds */
    v = dg_view_of_centre(402, 300, 224, 224, 0.875, DG_FIT_SHORTER);
    assert_int_equal(v.height, 343);
    assert_int_equal(v.window.top, 60);
}

static void masks_take_the_nearest_pixel(void **state)
{
    (void)state;
    dg_error err;
    static const uint8_t map[4 * 4] = {1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4};
    static const uint8_t want[] = {1, 2, 3, 4};
    uint8_t small[4];
    const dg_view view = dg_view_of_box((dg_box){0, 0, 4, 4}, 2, 2);
    ASSERT_OK(dg_resample_nearest(map, 4, 4, &view, small, &err));
    assert_memory_equal(small, want, 4);
}

/* ---- photographs */

static void check_photo(const char *data, const char *entry, golden *g, dg_resampler *r)
{
    dg_error err;
    int k = -1;
    char file[256], path[1024], name[64], digest[65], *bytes;
    size_t size, n;
    const char *at = strstr(entry, "\"file\":"), *box = strstr(entry, "\"boxes_ijhw\":");
    const char *sha = strstr(entry, "\"sha256_decoded_rgb\":");
    assert_int_equal(sscanf(entry, "\"k\": %d", &k), 1);
    assert_int_equal(sscanf(at, "\"file\": \"%255[^\"]", file), 1);
    int32_t b[2][4];
    assert_int_equal(sscanf(box, "\"boxes_ijhw\": [ [ %d , %d , %d , %d ] , [ %d , %d , %d , %d", &b[0][0],
                            &b[0][1], &b[0][2], &b[0][3], &b[1][0], &b[1][1], &b[1][2], &b[1][3]),
                     8);
    snprintf(path, sizeof path, "%s/%s", data, file);
    ASSERT_OK(dg_file_read(path, 1 << 26, &bytes, &size, &err));
    dg_image image = {0};
    ASSERT_OK(dg_image_decode(bytes, size, 0, &image, &err));
    sha256_hex(image.pixels, (size_t)image.width * (size_t)image.height * 3, digest);
    if (!strstr(sha, digest)) fail_msg("%s: decoded pixels differ", file);
    for (int i = 0; i < 3; i++) {
        if (i < 2) {
            crop_to(r, image.pixels, image.height, image.width, b[i], 224);
            snprintf(name, sizeof name, "\"p%d.rrc224.%d\": \"", k, i);
        } else {
            const dg_view v = dg_view_of_centre(image.height, image.width, 224, 224, 0.875, DG_FIT_SQUASH);
            ASSERT_OK(dg_resample(r, image.pixels, image.height, image.width, &v, out, &err));
            snprintf(name, sizeof name, "\"p%d.eval224\": \"", k);
        }
        sha256_hex(out, 224 * 224 * 3, digest);
        const char *want = strstr(sha, name);
        if (!want || strncmp(want + strlen(name), digest, 64) != 0) fail_msg("%s: %s differs", file, name);
        if (i == 2) break;
        crop_to(r, image.pixels, image.height, image.width, b[i], 64);
        snprintf(name, sizeof name, "p%d.rrc64.%d", k, i);
        const void *tensor = golden_find(g, name, &n);
        assert_memory_equal(out, tensor, n);
    }
    dg_image_free(&image);
    dg_free(bytes);
}

static void photographs_are_exact(void **state)
{
    (void)state;
    const char *reference = getenv("DIGPT_REFERENCE"), *data = getenv("DIGPT_DATA");
    if (!reference || !data) skip();
    dg_error err;
    char path[1024], *manifest;
    size_t size, photos = 0;
    dg_resampler r = {0};
    snprintf(path, sizeof path, "%s/manifest.json", reference);
    ASSERT_OK(dg_file_read(path, 1 << 26, &manifest, &size, &err));
    snprintf(path, sizeof path, "%s/D_photos.safetensors", reference);
    golden g = golden_open(path);
    const char *at = strstr(manifest, "\"photos\":"), *end = at ? strstr(at, "\"randaugment\":") : NULL;
    assert_non_null(end);
    while ((at = strstr(at, "\"k\":")) && at < end) {
        check_photo(data, at, &g, &r);
        at++;
        photos++;
    }
    assert_int_equal(photos, 6);
    golden_close(&g);
    dg_free(manifest);
    dg_resampler_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_crops_are_exact),
        cmocka_unit_test(a_window_is_a_part_of_the_whole),
        cmocka_unit_test(the_same_size_gives_the_same_bytes),
        cmocka_unit_test(a_box_outside_is_refused),
        cmocka_unit_test(drawn_boxes_lie_inside_and_fill_the_asked_share),
        cmocka_unit_test(a_picture_too_long_falls_back_to_its_middle),
        cmocka_unit_test(the_shorter_side_fit_keeps_the_aspect_ratio),
        cmocka_unit_test(masks_take_the_nearest_pixel),
        cmocka_unit_test(photographs_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
