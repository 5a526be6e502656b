/* test_mix.c - mixup, cutmix, soft targets and erasing: recorded results, and draws against their
 * distributions. */
#include "data/mix.h"

#include "golden.h"
#include "statistics.h"

enum { BATCH = 4, CHANNELS = 3, HEIGHT = 12, WIDTH = 14, CLASSES = 10, DRAWS = 100000 };

static void assert_close(const char *what, const float *have, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(have[i] - want[i]) <= 1e-6f))
            fail_msg("%s: element %zu is %.9g, not %.9g", what, i, (double)have[i], (double)want[i]);
}

static void recorded_batches_are_mixed_alike(void **state)
{
    static const struct {
        double lambda, used;
        dg_box box; /* height 0: mixup */
    } cases[] = {
        {0.3107029514671397, 0.3107029514671397, {0}},
        {0.21466083838644076, 0.3571428571428571, {3, 2, 9, 12}},
        {0.6824936792499399, 0.6824936792499399, {0}},
        {0.6250165745950756, 0.8511904761904762, {0, 0, 5, 5}},
        {0.3496760348602582, 0.3496760348602582, {0}},
        {0.1464589739077837, 0.6071428571428572, {0, 3, 6, 11}},
    };
    (void)state;
    dg_error err;
    size_t n;
    static float x[BATCH * CHANNELS * HEIGHT * WIDTH], out[BATCH * CHANNELS * HEIGHT * WIDTH],
        targets[BATCH * CLASSES];
    static float want[BATCH * CHANNELS * HEIGHT * WIDTH];
    int32_t labels[BATCH];
    golden g = golden_open(DIGPT_TEST_DATA "/D_mixup.safetensors");
    memcpy(x, golden_find(&g, "x", &n), sizeof x);
    memcpy(labels, golden_find(&g, "labels", &n), sizeof labels);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[32];
        const dg_box *box = cases[i].box.height ? &cases[i].box : NULL;
        const dg_mix mix = dg_mix_of(cases[i].lambda, box, HEIGHT, WIDTH);
        assert_float_equal(mix.targets, cases[i].used, 1e-15);
        dg_mix_pixels(&mix, x, BATCH, CHANNELS, HEIGHT, WIDTH, out);
        snprintf(name, sizeof name, "out.%zu", i);
        memcpy(want, golden_find(&g, name, &n), sizeof want);
        assert_close(name, out, want, sizeof out / sizeof *out);
        ASSERT_OK(dg_soft_targets(&mix, labels, BATCH, CLASSES, 0.1, targets, &err));
        snprintf(name, sizeof name, "target.%zu", i);
        memcpy(want, golden_find(&g, name, &n), n);
        assert_close(name, targets, want, sizeof targets / sizeof *targets);
    }
    golden_close(&g);
}

static void a_label_out_of_range_is_named(void **state)
{
    (void)state;
    dg_error err;
    float out[3 * 5];
    const dg_mix mix = dg_mix_of(0.5, NULL, 4, 4);
    ASSERT_FAILS(dg_soft_targets(&mix, (const int32_t[]){0, 5, 1}, 3, 5, 0.1, out, &err), DG_ERR_INVALID,
                 "label 5 in place 1 of the batch: there are 5 classes, 0..4");
    ASSERT_FAILS(dg_soft_targets(&mix, (const int32_t[]){0, 4, -1}, 3, 5, 0.1, out, &err), DG_ERR_INVALID,
                 "label -1 in place 2");
}

static void beta_draws_have_betas_moments(void **state)
{
    static const double shapes[][2] = {{0.8, 0.8}, {1, 1}, {0.05, 0.05}, {0.3, 2.5}, {4, 4}};
    (void)state;
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        const double a = shapes[k][0], b = shapes[k][1], s = a + b;
        double sum = 0, squares = 0, cubes = 0;
        dg_rng rng = dg_rng_make(7, DG_RNG_MIX, k, 0);
        for (int i = 0; i < DRAWS; i++) {
            const double v = dg_rng_beta(&rng, a, b);
            assert_true(v >= 0 && v <= 1);
            sum += v;
            squares += v * v;
            cubes += v * v * v;
        }
        /* E[v^m] = prod (a + i) / (s + i), i < m */
        double moment[7] = {1};
        for (int i = 0; i < 6; i++) moment[i + 1] = moment[i] * (a + i) / (s + i);
        assert_mean("beta", sum, DRAWS, moment[1], sqrt(moment[2] - moment[1] * moment[1]));
        assert_mean("beta^2", squares, DRAWS, moment[2], sqrt(moment[4] - moment[2] * moment[2]));
        assert_mean("beta^3", cubes, DRAWS, moment[3], sqrt(moment[6] - moment[3] * moment[3]));
    }
}

static void uniform_is_a_beta(void **state)
{
    (void)state;
    int64_t bins[20] = {0};
    dg_rng rng = dg_rng_make(8, DG_RNG_MIX, 0, 0);
    for (int i = 0; i < DRAWS; i++) bins[(int)(dg_rng_beta(&rng, 1, 1) * 20)]++;
    assert_fits("Beta(1, 1)", bins, NULL, 20);
}

static void mixes_are_drawn_as_stated(void **state)
{
    (void)state;
    const dg_mixing mixing = DG_MIXING_INIT;
    int64_t kinds[2] = {0}, middles[8] = {0};
    double sum = 0, squares = 0;
    for (uint64_t step = 0; step < DRAWS; step++) {
        const dg_mix m = dg_draw_mix(&mixing, 3, step, 0, 224, 192);
        const bool cuts = m.pixels == 1.0;
        kinds[cuts]++;
        if (cuts) {
            assert_true(m.box.top >= 0 && m.box.left >= 0 && m.box.top + m.box.height <= 224 &&
                        m.box.left + m.box.width <= 192);
            assert_true(m.targets == 1.0 - (double)m.box.height * m.box.width / (224.0 * 192.0));
            /* a cut of less than 56 lines around the lines 28..195 meets no border */
            const int32_t middle = m.box.top + m.box.height / 2;
            if (m.box.height < 56 && middle >= 28 && middle < 196) middles[(middle - 28) / 21]++;
        } else {
            assert_true(m.pixels == m.targets && m.box.height == 0 && m.box.width == 0);
            sum += m.pixels;
            squares += m.pixels * m.pixels;
        }
    }
    assert_fits("mixup or cutmix", kinds, NULL, 2);
    assert_mean("lambda", sum, kinds[0], 0.5, sqrt(1 / 10.4)); /* Beta(a, a): variance 1/(8 a + 4) */
    /* E[v^m] = prod (a + i) / (2 a + i), i < m */
    const double second = 0.5 * 1.8 / 2.6, fourth = second * (2.8 / 3.6) * (3.8 / 4.6);
    assert_mean("lambda squared", squares, kinds[0], second, sqrt(fourth - second * second));
    assert_fits("centres of small cuts", middles, NULL, 8);
}

static void each_way_of_mixing_can_be_off(void **state)
{
    (void)state;
    const dg_mixing mixup = {.mixup = 0.8, .probability = 1, .switch_probability = 0.5};
    const dg_mixing cutmix = {.cutmix = 1.0, .probability = 1, .switch_probability = 0.5};
    const dg_mixing neither = {.probability = 1, .switch_probability = 0.5};
    const dg_mixing seldom = {.mixup = 0.8, .cutmix = 1.0, .probability = 0.25, .switch_probability = 0.5};
    int64_t mixed[2] = {0};
    for (uint64_t step = 0; step < 20000; step++) {
        assert_int_equal(dg_draw_mix(&mixup, 1, step, 0, 32, 32).box.height, 0);
        assert_true(dg_draw_mix(&cutmix, 1, step, 0, 32, 32).pixels == 1.0);
        const dg_mix none = dg_draw_mix(&neither, 1, step, 0, 32, 32),
                     m = dg_draw_mix(&seldom, 1, step, 0, 32, 32);
        assert_true(none.pixels == 1 && none.targets == 1 && none.box.height == 0);
        mixed[m.pixels < 1 || m.targets < 1]++;
    }
    /* a cut of less than 2 x 2 pixels is empty and counts as unmixed: 1 - lambda < (2/32)^2 */
    const double share = 0.25 * (0.5 + 0.5 * (1 - 4.0 / 1024));
    assert_fits("mixed", mixed, (const double[]){1 - share, share}, 2);
}

static void draws_depend_on_their_names_alone(void **state)
{
    (void)state;
    const dg_mixing mixing = DG_MIXING_INIT;
    const dg_erasing erasing = {.probability = 1, .area = {0.02, 0.3}, .aspect = {0.3, 1 / 0.3}};
    const dg_mix a = dg_draw_mix(&mixing, 1, 2, 3, 224, 224), b = dg_draw_mix(&mixing, 1, 2, 3, 224, 224),
                 step = dg_draw_mix(&mixing, 1, 4, 3, 224, 224),
                 rank = dg_draw_mix(&mixing, 1, 2, 4, 224, 224);
    assert_true(a.targets == b.targets && a.pixels == b.pixels);
    assert_true(a.targets != step.targets && a.targets != rank.targets);
    const dg_box c = dg_draw_erase(&erasing, 1, 2, 224, 224), d = dg_draw_erase(&erasing, 1, 2, 224, 224),
                 e = dg_draw_erase(&erasing, 1, 3, 224, 224);
    assert_memory_equal(&c, &d, sizeof c);
    assert_memory_not_equal(&c, &e, sizeof c);
}

static void erased_boxes_are_drawn_as_stated(void **state)
{
    (void)state;
    enum { H = 3000, W = 2000 };
    const dg_erasing erasing = DG_ERASING_INIT;
    int64_t erased[2] = {0}, areas[14] = {0}, aspects[10] = {0}, tops[10] = {0}, lefts[10] = {0};
    for (uint64_t ordinal = 0; ordinal < DRAWS; ordinal++) {
        const dg_box b = dg_draw_erase(&erasing, 11, ordinal, H, W);
        erased[b.height > 0]++;
        if (!b.height) {
            assert_true(b.top == 0 && b.left == 0 && b.width == 0);
            continue;
        }
        assert_true(b.top >= 0 && b.left >= 0 && b.height < H && b.width < W && b.top + b.height <= H &&
                    b.left + b.width <= W);
        const double area = (double)b.height * b.width / ((double)H * W), aspect = (double)b.height / b.width;
        /* up to an area of 0.2 no aspect is too long for 3000 x 2000, so nothing was drawn again */
        if (area >= 0.2 || area < 0.02) continue;
        areas[(int)((area - 0.02) / 0.18 * 14)]++;
        const int bin = (int)((log(aspect) / log(1 / 0.3) + 1) * 5);
        aspects[bin < 0 ? 0 : bin > 9 ? 9 : bin]++;
        tops[(int64_t)b.top * 10 / (H - b.height + 1)]++;
        lefts[(int64_t)b.left * 10 / (W - b.width + 1)]++;
    }
    assert_fits("erased", erased, (const double[]){0.75, 0.25}, 2);
    assert_fits("areas", areas, NULL, 14);
    assert_fits("aspects", aspects, NULL, 10);
    assert_fits("tops", tops, NULL, 10);
    assert_fits("lefts", lefts, NULL, 10);
}

static void an_erased_area_keeps_its_upper_bound(void **state)
{
    (void)state;
    dg_erasing erasing = DG_ERASING_INIT;
    erasing.probability = 1;
    double least = 1, most = 0;
    for (uint64_t ordinal = 0; ordinal < DRAWS; ordinal++) {
        const dg_box b = dg_draw_erase(&erasing, 12, ordinal, 1000, 1000);
        const double area = b.height * b.width / 1e6;
        assert_true(b.height > 0);
        least = fmin(least, area);
        most = fmax(most, area);
    }
    assert_true(least > 0.0198 && least < 0.0203 && most < 0.3343 && most > 0.332);
}

static void a_picture_too_small_to_erase_stays(void **state)
{
    (void)state;
    dg_erasing erasing = DG_ERASING_INIT;
    erasing.probability = 1;
    for (uint64_t ordinal = 0; ordinal < 1000; ordinal++) {
        const dg_box b = dg_draw_erase(&erasing, 13, ordinal, 1, 1);
        assert_int_equal((int64_t)b.height * b.width, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_batches_are_mixed_alike),
        cmocka_unit_test(a_label_out_of_range_is_named),
        cmocka_unit_test(beta_draws_have_betas_moments),
        cmocka_unit_test(uniform_is_a_beta),
        cmocka_unit_test(mixes_are_drawn_as_stated),
        cmocka_unit_test(each_way_of_mixing_can_be_off),
        cmocka_unit_test(draws_depend_on_their_names_alone),
        cmocka_unit_test(erased_boxes_are_drawn_as_stated),
        cmocka_unit_test(an_erased_area_keeps_its_upper_bound),
        cmocka_unit_test(a_picture_too_small_to_erase_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
