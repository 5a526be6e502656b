/* test_augment.c - colour jitter, and what the loader does with it and with RandAugment. */
#include "data/augment.h"

#include "data/loader.h"
#include "golden.h"
#include "statistics.h"

enum { SRC_HEIGHT = 131, SRC_WIDTH = 97, COUNT = 23, BATCH = 4, SIDE = 32, BYTES = SIDE * SIDE * 3 };

/* SHA-256 of what Pillow 9.5.0 makes of the source of D_synth, as torchvision calls it. */
static void colours_change_as_in_torchvision(void **state)
{
    static const struct {
        double turns;
        const char *sha256;
    } hues[] = {
        {0.1, "d27b8988a721676f1b529444df85d26e0ccb41e69534ec1a7c3feb4651cfecbe"},
        {-0.25, "374e09bd57d539bc62c5801f61ac3177c029f079d1c82b13cc1b0b9b4a489344"},
        {0.5, "ad36f7e7153c3d5595454a6e9882b5a8d2543d1ecdecb2eac8cf0dc92b973b85"},
    };
    (void)state;
    size_t n;
    char digest[65];
    static uint8_t out[SRC_HEIGHT * SRC_WIDTH * 3];
    const dg_pixels p = {out, SRC_HEIGHT, SRC_WIDTH};
    golden g = golden_open(DIGPT_TEST_DATA "/D_synth.safetensors");
    for (size_t i = 0; i < sizeof hues / sizeof *hues; i++) {
        memcpy(out, golden_find(&g, "src", &n), sizeof out);
        dg_adjust_hue(p, hues[i].turns);
        sha256_hex(out, sizeof out, digest);
        assert_string_equal(digest, hues[i].sha256);
    }
    memcpy(out, golden_find(&g, "src", &n), sizeof out);
    dg_adjust_brightness(p, 1.3);
    dg_adjust_contrast(p, 0.7);
    dg_adjust_saturation(p, 1.25);
    sha256_hex(out, sizeof out, digest);
    assert_string_equal(digest, "5fcfae09b37ff16826b924f469f2ccb8c09575f68b3b1f63c5e673f68af2605d");
    golden_close(&g);
}

static void jitter_factors_are_uniform_around_one(void **state)
{
    (void)state;
    enum { DRAWS = 100000 };
    const dg_colour_jitter jitter = {.brightness = 0.4};
    int64_t bins[8] = {0};
    for (uint64_t id = 0; id < DRAWS; id++) {
        uint8_t pixel[3] = {100, 100, 100};
        dg_rng rng = dg_rng_make(1, DG_RNG_AUGMENT, id, 0);
        dg_colour_jitter_run(&jitter, &rng, (dg_pixels){pixel, 1, 1});
        assert_true(pixel[0] >= 60 && pixel[0] < 140);
        bins[(pixel[0] - 60) / 10]++;
    }
    assert_fits("brightness", bins, NULL, 8);
    /* strong jitter: factors end at 0 below and at 1 + v above */
    const dg_colour_jitter strong = {.brightness = 3};
    int64_t halves[2] = {0};
    for (uint64_t id = 0; id < DRAWS; id++) {
        uint8_t pixel[3] = {50, 50, 50};
        dg_rng rng = dg_rng_make(2, DG_RNG_AUGMENT, id, 0);
        dg_colour_jitter_run(&strong, &rng, (dg_pixels){pixel, 1, 1});
        assert_true(pixel[0] < 200);
        halves[pixel[0] >= 100]++;
    }
    assert_fits("strong brightness", halves, NULL, 2);
}

/* Brightness and contrast do not commute; both orders of them occur equally often. */
static void jitter_comes_in_every_order(void **state)
{
    (void)state;
    const dg_colour_jitter jitter = {.brightness = 0.5, .contrast = 0.5};
    int64_t orders[2] = {0};
    for (uint64_t id = 0; id < 20000; id++) {
        uint8_t pixels[2 * 3] = {200, 200, 200, 255, 255, 255}, forth[6], back[6];
        int32_t order[4];
        dg_rng rng = dg_rng_make(3, DG_RNG_AUGMENT, id, 0), again = rng;
        memcpy(forth, pixels, sizeof pixels);
        memcpy(back, pixels, sizeof pixels);
        dg_colour_jitter_run(&jitter, &rng, (dg_pixels){pixels, 1, 2});
        dg_rng_permutation(&again, order, 4);
        const double first = 0.5 + dg_rng_uniform(&again), second = 0.5 + dg_rng_uniform(&again);
        dg_adjust_brightness((dg_pixels){forth, 1, 2}, first);
        dg_adjust_contrast((dg_pixels){forth, 1, 2}, second);
        dg_adjust_contrast((dg_pixels){back, 1, 2}, first);
        dg_adjust_brightness((dg_pixels){back, 1, 2}, second);
        const bool as_forth = memcmp(pixels, forth, sizeof pixels) == 0,
                   as_back = memcmp(pixels, back, sizeof pixels) == 0;
        assert_true(as_forth || as_back);
        if (as_forth != as_back) orders[as_back]++;
    }
    assert_true(orders[0] + orders[1] > 10000);
    assert_fits("orders", orders, NULL, 2);
}

static void jitter_out_of_range_is_named(void **state)
{
    (void)state;
    dg_error err;
    ASSERT_OK(dg_colour_jitter_check(&(dg_colour_jitter){0.4, 0.4, 0.4, 0.1}, &err));
    ASSERT_FAILS(dg_colour_jitter_check(&(dg_colour_jitter){.hue = 0.6}, &err), DG_ERR_INVALID,
                 "hue 0.6, it is a number from 0 to 0.5");
    ASSERT_FAILS(dg_colour_jitter_check(&(dg_colour_jitter){.contrast = -1}, &err), DG_ERR_INVALID,
                 "contrast -1");
    ASSERT_FAILS(dg_colour_jitter_check(&(dg_colour_jitter){.saturation = (double)NAN}, &err), DG_ERR_INVALID,
                 "saturation");
}

/* ---- the loader */

static dg_source *shapes(void)
{
    dg_error err;
    dg_source *s;
    const dg_synthetic_config config = {DG_SYNTHETIC_SCENE, .seed = 9, .count = COUNT, .height = 40, .width = 52, .classes = 10};
    ASSERT_OK(dg_source_open_synthetic(&config, &s, &err));
    return s;
}

static dg_loader_config plain(void)
{
    dg_loader_config c = DG_LOADER_CONFIG_INIT;
    c.seed = 3;
    c.view_seed = 4;
    c.batch = BATCH;
    c.height = c.width = c.second_height = c.second_width = SIDE;
    return c;
}

/* The images, and the second ones, of the first `steps` steps. */
static void collect(const dg_loader_config *c, const dg_source *source, int steps, uint8_t *images,
                    uint8_t *second, int64_t *ids)
{
    dg_error err;
    dg_loader *l;
    ASSERT_OK(dg_loader_open(c, source, &l, &err));
    for (int i = 0; i < steps; i++) {
        const dg_batch *b;
        ASSERT_OK(dg_loader_next(l, &b, &err));
        memcpy(images + (size_t)i * BATCH * BYTES, b->images, (size_t)BATCH * BYTES);
        memcpy(second + (size_t)i * BATCH * BYTES, b->second, (size_t)BATCH * BYTES);
        memcpy(ids + (size_t)i * BATCH, b->ids, BATCH * sizeof *ids);
        dg_loader_release(l, b);
    }
    dg_loader_close(l);
}

enum { STEPS = 10, PLACES = STEPS * BATCH }; /* two epochs of 5 steps */

static uint8_t before[PLACES * BYTES], images[PLACES * BYTES], second[PLACES * BYTES], again[PLACES * BYTES];

static void the_students_image_is_augmented_and_the_second_is_not(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s = shapes();
    dg_loader_config c = plain();
    int64_t ids[PLACES];
    dg_scratch scratch = {0};
    dg_augmenter augmenter = {.jitter = {.saturation = 0.5, .hue = 0.2}};
    collect(&c, s, STEPS, before, second, ids);
    assert_memory_equal(before, second, sizeof before);

    char text[] = "rand-m9-mstd0.5-inc1";
    c.randaugment = text;
    c.jitter = augmenter.jitter;
    ASSERT_OK(dg_randaugment_parse(text, &augmenter.randaugment, &err));
    collect(&c, s, STEPS, images, second, ids);
    assert_memory_equal(before, second, sizeof before);
    for (int i = 0; i < PLACES; i++) {
        uint8_t *want = before + (size_t)i * BYTES;
        assert_memory_not_equal(want, images + (size_t)i * BYTES, BYTES);
        ASSERT_OK(dg_augment_view(&augmenter, c.view_seed, ids[i], (uint64_t)(i / (PLACES / 2)),
                                  (dg_pixels){want, SIDE, SIDE}, &scratch, &err));
        assert_memory_equal(want, images + (size_t)i * BYTES, BYTES);
    }
    c.threads = 5;
    c.depth = 4;
    collect(&c, s, STEPS, again, second, ids);
    assert_memory_equal(images, again, sizeof images);
    dg_scratch_free(&scratch);
    dg_source_close(s);
}

static void augmented_views_come_round_again(void **state)
{
    (void)state;
    dg_source *s = shapes();
    dg_loader_config c = plain();
    int64_t ids[PLACES];
    c.randaugment = "rand-m9-mstd0.5-inc1-p1";
    for (int live = 0; live < 2; live++) {
        c.views = live ? 0 : 1;
        collect(&c, s, STEPS, images, second, ids);
        int both = 0, same = 0;
        for (int i = 0; i < PLACES / 2; i++)
            for (int k = PLACES / 2; k < PLACES; k++) {
                both += ids[i] == ids[k];
                same += ids[i] == ids[k] &&
                        !memcmp(images + (size_t)i * BYTES, images + (size_t)k * BYTES, BYTES);
            }
        assert_true(both > 10);
        assert_int_equal(same, live ? 0 : both);
    }
    dg_source_close(s);
}

static void evaluation_is_never_augmented(void **state)
{
    (void)state;
    dg_source *s = shapes();
    dg_loader_config c = plain();
    int64_t ids[PLACES];
    c.augment = DG_AUGMENT_CENTRE;
    collect(&c, s, STEPS, before, second, ids);
    c.randaugment = "rand-m9-p1";
    c.jitter.brightness = 0.4;
    collect(&c, s, STEPS, images, second, ids);
    assert_memory_equal(before, images, sizeof images);
    dg_source_close(s);
}

static void settings_that_cannot_be_are_refused(void **state)
{
    (void)state;
    dg_error err;
    dg_loader *l;
    dg_source *s = shapes();
    dg_loader_config c = plain();
    c.randaugment = "rand-m99";
    ASSERT_FAILS(dg_loader_open(&c, s, &l, &err), DG_ERR_INVALID, "'m99': m is a number from 0 to 10");
    c.randaugment = "rand-m9";
    c.masks = true;
    ASSERT_FAILS(dg_loader_open(&c, s, &l, &err), DG_ERR_MISMATCH, "not its mask");
    c = plain();
    c.jitter.hue = 1;
    ASSERT_FAILS(dg_loader_open(&c, s, &l, &err), DG_ERR_INVALID, "colour jitter: hue 1");
    dg_source_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(colours_change_as_in_torchvision),
        cmocka_unit_test(jitter_factors_are_uniform_around_one),
        cmocka_unit_test(jitter_comes_in_every_order),
        cmocka_unit_test(jitter_out_of_range_is_named),
        cmocka_unit_test(the_students_image_is_augmented_and_the_second_is_not),
        cmocka_unit_test(augmented_views_come_round_again),
        cmocka_unit_test(evaluation_is_never_augmented),
        cmocka_unit_test(settings_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
