/* test_randaugment.c - the operations are Pillow's, byte for byte; policies are timm's; draws fit the policy.
 */
#include "data/randaugment.h"

#include "golden.h"
#include "statistics.h"

enum { SIDE = 64, SRC_HEIGHT = 131, SRC_WIDTH = 97, DRAWS = 100000 };

static const char official[] = "rand-m9-mstd0.5-inc1";

static dg_randaugment policy_of(const char *text)
{
    dg_error err;
    dg_randaugment p;
    ASSERT_OK(dg_randaugment_parse(text, &p, &err));
    return p;
}

static void recorded_operations_are_exact(void **state)
{
    static const struct {
        const char *name;
        dg_ra_op op;
        double level;
        bool negated;
    } cases[] = {
        {"AutoContrast.0", DG_RA_AUTO_CONTRAST, 0, false},
        {"Equalize.0", DG_RA_EQUALIZE, 0, false},
        {"Invert.0", DG_RA_INVERT, 0, false},
        {"Rotate.0", DG_RA_ROTATE, 9, false},
        {"Rotate.1", DG_RA_ROTATE, 9, true},
        {"Rotate.2", DG_RA_ROTATE, 2.3, false},
        {"PosterizeIncreasing.0", DG_RA_POSTERIZE, 9, false},
        {"PosterizeIncreasing.1", DG_RA_POSTERIZE, 2.3, false},
        {"PosterizeIncreasing.2", DG_RA_POSTERIZE, 10, false},
        {"SolarizeIncreasing.0", DG_RA_SOLARIZE, 9, false},
        {"SolarizeIncreasing.1", DG_RA_SOLARIZE, 2.3, false},
        {"SolarizeAdd.0", DG_RA_SOLARIZE_ADD, 9, false},
        {"SolarizeAdd.1", DG_RA_SOLARIZE_ADD, 2.3, false},
        {"ColorIncreasing.0", DG_RA_COLOR, 9, false},
        {"ColorIncreasing.1", DG_RA_COLOR, 9, true},
        {"ColorIncreasing.2", DG_RA_COLOR, 2.3, false},
        {"ContrastIncreasing.0", DG_RA_CONTRAST, 9, false},
        {"ContrastIncreasing.1", DG_RA_CONTRAST, 9, true},
        {"ContrastIncreasing.2", DG_RA_CONTRAST, 2.3, false},
        {"BrightnessIncreasing.0", DG_RA_BRIGHTNESS, 9, false},
        {"BrightnessIncreasing.1", DG_RA_BRIGHTNESS, 9, true},
        {"BrightnessIncreasing.2", DG_RA_BRIGHTNESS, 2.3, false},
        {"SharpnessIncreasing.0", DG_RA_SHARPNESS, 9, false},
        {"SharpnessIncreasing.1", DG_RA_SHARPNESS, 9, true},
        {"SharpnessIncreasing.2", DG_RA_SHARPNESS, 2.3, false},
        {"ShearX.0", DG_RA_SHEAR_X, 9, false},
        {"ShearX.1", DG_RA_SHEAR_X, 9, true},
        {"ShearX.2", DG_RA_SHEAR_X, 2.3, false},
        {"ShearY.0", DG_RA_SHEAR_Y, 9, false},
        {"ShearY.1", DG_RA_SHEAR_Y, 9, true},
        {"ShearY.2", DG_RA_SHEAR_Y, 2.3, false},
        {"TranslateXRel.0", DG_RA_TRANSLATE_X, 9, false},
        {"TranslateXRel.1", DG_RA_TRANSLATE_X, 9, true},
        {"TranslateXRel.2", DG_RA_TRANSLATE_X, 2.3, false},
        {"TranslateYRel.0", DG_RA_TRANSLATE_Y, 9, false},
        {"TranslateYRel.1", DG_RA_TRANSLATE_Y, 9, true},
        {"TranslateYRel.2", DG_RA_TRANSLATE_Y, 2.3, false},
    };
    (void)state;
    dg_error err;
    size_t n;
    static uint8_t out[SIDE * SIDE * 3];
    dg_scratch scratch = {0};
    const dg_randaugment policy = policy_of(official);
    golden g = golden_open(DIGPT_TEST_DATA "/D_randaugment.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *name = dg_ra_name(&policy, cases[i].op);
        assert_memory_equal(cases[i].name, name, strlen(name));
        const double argument = dg_ra_argument(&policy, cases[i].op, cases[i].level, cases[i].negated);
        memcpy(out, golden_find(&g, "src", &n), sizeof out);
        ASSERT_OK(
            dg_ra_apply((dg_pixels){out, SIDE, SIDE}, cases[i].op, argument, policy.fill, &scratch, &err));
        if (memcmp(out, golden_find(&g, cases[i].name, &n), sizeof out) != 0)
            fail_msg("%s differs", cases[i].name);
    }
    dg_scratch_free(&scratch);
    golden_close(&g);
}

/* SHA-256 of what Pillow 9.5.0 makes of the 131 x 97 source of D_synth. */
static void operations_on_an_oblong_picture_are_exact(void **state)
{
    static const struct {
        dg_ra_op op;
        double argument;
        const char *sha256;
    } cases[] = {
        {DG_RA_AUTO_CONTRAST, 0, "fedef790cabefe45626d3af2ba9fe1b10540ca357129b03edacf72354ab6abee"},
        {DG_RA_EQUALIZE, 0, "07e7531d0174ac4b75b2269eb5e3372deecf0812b6bde9ed4e1a530b3873def8"},
        {DG_RA_ROTATE, -13.7, "520d61c590fedc3baa701eb7d5262b233ebb195a51143046fc0a83f2db290bfb"},
        {DG_RA_ROTATE, 30, "7249bee62e6f5ce5c7bcd574283e0664960d9b23aea83fac6dedfb98b3fabab3"},
        {DG_RA_COLOR, 0.37, "b0d3c07d1fbf3133dec8adab52e08929bb5d345e7cd85c4e080b6a7270e7102f"},
        {DG_RA_CONTRAST, 1.63, "36010e88b995b45e630f22ddfdcedd31c58f9cf1151dc2a7772d14f8d2b52352"},
        {DG_RA_SHARPNESS, 1.9, "aa512aefc4ea0fb3571c5ebfdf483add1064c99d734a2aa980d8aab89ee05a4f"},
        {DG_RA_SHEAR_X, -0.19, "158b878303419e37be88c78e9f6a6d1bfb4bea9f89cad4e81b92e09d5c5efa05"},
        {DG_RA_SHEAR_Y, 0.3, "ccaf60b7e34a1903ba758daa85d615824e90e9e8a781b74b39d10606b01bfa29"},
        {DG_RA_TRANSLATE_X, 0.123, "f1ab803e82030c914b3ca41fb90c280783b89de98573cf1c938ead5171da2aa8"},
        {DG_RA_TRANSLATE_Y, -0.45, "51b8b1d4ef6e65cdc8847e53e55449dce5b51fdbb316df88285ee5c6d1782a91"},
    };
    (void)state;
    dg_error err;
    size_t n;
    static uint8_t out[SRC_HEIGHT * SRC_WIDTH * 3];
    char digest[65];
    dg_scratch scratch = {0};
    const dg_randaugment policy = policy_of(official);
    golden g = golden_open(DIGPT_TEST_DATA "/D_synth.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(out, golden_find(&g, "src", &n), sizeof out);
        ASSERT_OK(dg_ra_apply((dg_pixels){out, SRC_HEIGHT, SRC_WIDTH}, cases[i].op, cases[i].argument,
                              policy.fill, &scratch, &err));
        sha256_hex(out, sizeof out, digest);
        if (strcmp(digest, cases[i].sha256) != 0)
            fail_msg("%s of %g differs", dg_ra_name(&policy, cases[i].op), cases[i].argument);
    }
    dg_scratch_free(&scratch);
    golden_close(&g);
}

static void pictures_of_a_few_pixels_are_within_bounds(void **state)
{
    (void)state;
    dg_error err;
    const dg_randaugment policy = policy_of(official);
    for (int32_t h = 1; h <= 4; h++)
        for (int32_t w = 1; w <= 4; w++)
            for (int op = 0; op < DG_RA_OPS; op++) {
                /* blocks of their own, so that a sanitizer sees every byte outside */
                dg_scratch scratch = {0};
                const size_t n = (size_t)(h * w) * 3;
                uint8_t *pixels = dg_calloc(n, 1);
                for (size_t i = 0; i < n; i++) pixels[i] = (uint8_t)(i * 41);
                for (int negated = 0; negated < 2; negated++) {
                    const double argument = dg_ra_argument(&policy, (dg_ra_op)op, 9, negated);
                    ASSERT_OK(dg_ra_apply((dg_pixels){pixels, h, w}, (dg_ra_op)op, argument, policy.fill,
                                          &scratch, &err));
                }
                dg_free(pixels);
                dg_scratch_free(&scratch);
            }
}

static void what_lies_outside_is_filled(void **state)
{
    (void)state;
    dg_error err;
    uint8_t pixels[10 * 10 * 3];
    const uint8_t fill[3] = {1, 2, 3};
    dg_scratch scratch = {0};
    memset(pixels, 200, sizeof pixels);
    ASSERT_OK(dg_ra_apply((dg_pixels){pixels, 10, 10}, DG_RA_TRANSLATE_X, 0.4, fill, &scratch, &err));
    for (int i = 0; i < 100; i++) {
        const uint8_t kept[3] = {200, 200, 200};
        assert_memory_equal(pixels + 3 * i, i % 10 < 6 ? kept : fill, 3);
    }
    dg_scratch_free(&scratch);
}

static void levels_become_arguments_as_in_timm(void **state)
{
    static const struct {
        dg_ra_op op;
        double plain[3], increasing[3]; /* at levels 0, 5 and 10 */
    } cases[] = {
        {DG_RA_AUTO_CONTRAST, {0, 0, 0}, {0, 0, 0}},
        {DG_RA_ROTATE, {0, 15, 30}, {0, 15, 30}},
        {DG_RA_POSTERIZE, {0, 2, 4}, {4, 2, 0}},
        {DG_RA_SOLARIZE, {0, 128, 256}, {256, 128, 0}},
        {DG_RA_SOLARIZE_ADD, {0, 55, 110}, {0, 55, 110}},
        {DG_RA_COLOR, {0.1, 1, 1.9}, {1, 1.45, 1.9}},
        {DG_RA_SHARPNESS, {0.1, 1, 1.9}, {1, 1.45, 1.9}},
        {DG_RA_SHEAR_Y, {0, 0.15, 0.3}, {0, 0.15, 0.3}},
        {DG_RA_TRANSLATE_X, {0, 0.225, 0.45}, {0, 0.225, 0.45}},
    };
    (void)state;
    const dg_randaugment plain = policy_of("rand-m9"), increasing = policy_of("rand-m9-inc1");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int k = 0; k < 3; k++) {
            assert_float_equal(dg_ra_argument(&plain, cases[i].op, 5 * k, false), cases[i].plain[k], 1e-12);
            assert_float_equal(dg_ra_argument(&increasing, cases[i].op, 5 * k, false), cases[i].increasing[k],
                               1e-12);
        }
    assert_float_equal(dg_ra_argument(&increasing, DG_RA_ROTATE, 5, true), -15, 1e-12);
    assert_float_equal(dg_ra_argument(&increasing, DG_RA_CONTRAST, 5, true), 0.55, 1e-12);
    assert_float_equal(dg_ra_argument(&increasing, DG_RA_CONTRAST, 10, true), 0.1, 1e-12);
    assert_float_equal(dg_ra_argument(&plain, DG_RA_CONTRAST, 5, true), 1, 1e-12);
    assert_string_equal(dg_ra_name(&plain, DG_RA_COLOR), "Color");
}

static void policies_are_read_and_wrong_ones_named(void **state)
{
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"", "starts with 'rand'"},
        {"augmix-m5", "'augmix-m5': it starts with 'rand'"},
        {"random", "starts with 'rand'"},
        {"rand-x3", "'x3' is none of m, mstd, inc, n, p"},
        {"rand-9", "'9' is none of"},
        {"rand--m9", "'' is none of"},
        {"rand-m9-", "'' is none of"},
        {"rand-m", "'m' needs a number after 'm'"},
        {"rand-m1.2.3", "'m1.2.3' needs a number"},
        {"rand-m9x", "'m9x' needs a number"},
        {"rand-m1e9", "'m1e9' needs a number"},
        {"rand-m11", "'m11': m is a number from 0 to 10"},
        {"rand-n17", "'n17': n is a whole number from 0 to 16"},
        {"rand-n1.5", "n is a whole number"},
        {"rand-inc2", "'inc2': inc is a whole number from 0 to 1"},
        {"rand-p1.01", "'p1.01': p is a number from 0 to 1"},
        {"rand-mstd0.00000000000000000000000000000000000000001", "needs a number"},
    };
    (void)state;
    dg_error err;
    dg_randaugment p = policy_of(official);
    assert_true(p.magnitude == 9 && p.deviation == 0.5 && p.probability == 0.5 && p.steps == 2 &&
                p.increasing);
    assert_true(p.fill[0] == 124 && p.fill[1] == 116 && p.fill[2] == 104);
    p = policy_of("rand");
    assert_true(p.magnitude == 10 && p.deviation == 0 && p.probability == 0.5 && p.steps == 2 &&
                !p.increasing);
    p = policy_of("rand-n3-p1-m4.5-inc0");
    assert_true(p.magnitude == 4.5 && p.probability == 1 && p.steps == 3 && !p.increasing);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ASSERT_FAILS(dg_randaugment_parse(wrong[i].text, &p, &err), DG_ERR_INVALID, wrong[i].message);
}

static void draws_fit_the_policy(void **state)
{
    (void)state;
    const dg_randaugment policy = policy_of(official);
    static int64_t ops[DG_RA_OPS], pairs[DG_RA_OPS * DG_RA_OPS];
    int64_t applied[2] = {0}, negated[2] = {0}, cut = 0, n = 0;
    double sum = 0, squares = 0;
    for (int64_t id = 0; id < DRAWS; id++) {
        dg_ra_step steps[DG_RA_MAX_STEPS];
        dg_rng rng = dg_rng_make(5, DG_RNG_AUGMENT, (uint64_t)id, 1);
        dg_randaugment_draw(&policy, &rng, steps);
        pairs[steps[0].op * DG_RA_OPS + steps[1].op]++;
        for (int i = 0; i < 2; i++, n++) {
            ops[steps[i].op]++;
            applied[steps[i].applied]++;
            negated[steps[i].negated]++;
            assert_true(steps[i].level >= 0 && steps[i].level <= 10);
            cut += steps[i].level == 10;
            sum += steps[i].level;
            squares += steps[i].level * steps[i].level;
            assert_true(steps[i].argument ==
                        dg_ra_argument(&policy, steps[i].op, steps[i].level, steps[i].negated));
        }
    }
    assert_fits("operations", ops, NULL, DG_RA_OPS);
    assert_fits("pairs of operations", pairs, NULL, DG_RA_OPS * DG_RA_OPS);
    assert_fits("applied", applied, NULL, 2);
    assert_fits("negated", negated, NULL, 2);
    /* N(9, 0.5) cut at 10: with t = 2, density f and distribution F of N(0, 1),
     * E = 9 + 0.5 (t (1 - F(t)) - f(t)), and 1 - F(2) of the draws are 10 */
    const double beyond = 0.5 * erfc(sqrt(2.0)), f = exp(-2.0) / sqrt(2 * 3.14159265358979323846);
    const double mean = 9 + 0.5 * (2 * beyond - f);
    const double second = (1 - beyond) - 2 * f + 4 * beyond; /* of min(z, 2) */
    const double variance = 0.25 * second - (mean - 9) * (mean - 9);
    const int64_t clipped[2] = {cut, n - cut};
    assert_mean("level", sum, n, mean, sqrt(variance));
    assert_mean("level squared", squares, n, variance + mean * mean, 2 * mean * sqrt(variance));
    assert_fits("levels at the top", clipped, (const double[]){beyond, 1 - beyond}, 2);
}

static void a_level_without_deviation_is_m(void **state)
{
    (void)state;
    const dg_randaugment policy = policy_of("rand-m7-p1-n4");
    dg_ra_step steps[DG_RA_MAX_STEPS];
    dg_rng rng = dg_rng_make(1, DG_RNG_AUGMENT, 2, 3);
    dg_randaugment_draw(&policy, &rng, steps);
    for (int i = 0; i < 4; i++) assert_true(steps[i].level == 7 && steps[i].applied);
}

static void without_memory_the_picture_is_as_it_was(void **state)
{
    (void)state;
    static const dg_ra_op needy[] = {DG_RA_ROTATE, DG_RA_SHARPNESS};
    dg_error err;
    uint8_t pixels[8 * 8 * 3], before[sizeof pixels];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * i);
    memcpy(before, pixels, sizeof pixels);
    for (int i = 0; i < 2; i++) {
        dg_scratch scratch = {0};
        dg_alloc_fail_at(1);
        ASSERT_FAILS(dg_ra_apply((dg_pixels){pixels, 8, 8}, needy[i], 1.5, before, &scratch, &err),
                     DG_ERR_NOMEM, "no memory for augmentation");
        dg_alloc_fail_at(0);
        assert_memory_equal(pixels, before, sizeof pixels);
        dg_scratch_free(&scratch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_operations_are_exact),
        cmocka_unit_test(operations_on_an_oblong_picture_are_exact),
        cmocka_unit_test(pictures_of_a_few_pixels_are_within_bounds),
        cmocka_unit_test(what_lies_outside_is_filled),
        cmocka_unit_test(levels_become_arguments_as_in_timm),
        cmocka_unit_test(policies_are_read_and_wrong_ones_named),
        cmocka_unit_test(draws_fit_the_policy),
        cmocka_unit_test(a_level_without_deviation_is_m),
        cmocka_unit_test(without_memory_the_picture_is_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
