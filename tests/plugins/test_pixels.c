/* The tokenizer `pixels` against its formula, and its errors. */
#include "plugin_test.h"

#include "digpt/vit.h"

enum { H = 4, W = 8, PH = 2, PW = 4, GRID = 4, WIDTH = 3 * PH * PW };

static const dg_tokenizer_env env = {.struct_size = sizeof env, .image_h = H, .image_w = W};

/* Runs it on fixed pixels: tokens [GRID, WIDTH]; pixels [H, W, 3] normalised as for ImageNet. */
static void run_pixels(const char *setting, double *pixels, double *tokens)
{
    dg_error err;
    dg_component c;
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "pixels", &env, "patch=[2, 4]", setting));
    dg_graph *g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(1, H, W, 3), DG_PER_SAMPLE), out;
    ASSERT_OK(build_tokenizer(&c, g, image, &out, &err));
    assert_dims(g, out, DG_LIST(1, GRID, WIDTH));
    dg_graph_output(g, out, "tokens");
    runner r = {0};
    runner_start(&r, g);
    double *u8 = runner_leaf(&r, "image", NULL);
    for (int i = 0; i < H * W * 3; i++) {
        u8[i] = (i * 53 + i / 7) % 256;
        pixels[i] = (u8[i] / 255 - dg_imagenet_mean[i % 3]) / dg_imagenet_std[i % 3];
    }
    runner_run(&r);
    memcpy(tokens, runner_output(&r, "tokens", NULL), GRID * WIDTH * sizeof *tokens);
    runner_end(&r);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

/* pixels [H, W, 3] -> [GRID, WIDTH] in (row, column, channel) order. */
static void cut(const double *pixels, double *tokens)
{
    for (int p = 0; p < GRID; p++)
        for (int k = 0; k < WIDTH; k++) {
            int row = p / 2 * PH + k / (3 * PW), col = p % 2 * PW + k / 3 % PW;
            tokens[p * WIDTH + k] = pixels[(row * W + col) * 3 + k % 3];
        }
}

static void tokens_are_pixels_row_by_row_with_the_channel_last(void **state)
{
    (void)state;
    double pixels[H * W * 3], tokens[GRID * WIDTH], want[GRID * WIDTH];
    run_pixels("normalise=false", pixels, tokens);
    cut(pixels, want);
    assert_close("pixels", tokens, want, GRID * WIDTH, 1e-6);
}

static void each_patch_is_normalised_with_the_unbiased_variance(void **state)
{
    (void)state;
    double pixels[H * W * 3], tokens[GRID * WIDTH], want[GRID * WIDTH];
    run_pixels("normalise=true", pixels, tokens);
    cut(pixels, want);
    for (int p = 0; p < GRID; p++) {
        double *t = want + p * WIDTH, mean = 0, variance = 0;
        for (int k = 0; k < WIDTH; k++) mean += t[k] / WIDTH;
        for (int k = 0; k < WIDTH; k++) variance += (t[k] - mean) * (t[k] - mean) / (WIDTH - 1);
        for (int k = 0; k < WIDTH; k++) t[k] = (t[k] - mean) / sqrt(variance + 1e-6);
    }
    assert_close("normalised pixels", tokens, want, GRID * WIDTH, 1e-5);
}

static void it_says_what_its_tokens_are(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    const dg_tokenizer_env large = {.struct_size = sizeof large, .image_h = 224, .image_w = 160};
    ASSERT_OK(dg_component_make(plugins(), DG_TOKENIZER_INTERFACE, "pixels", NULL, 0, &large, &c, &err));
    dg_tokenizer_info info = tokenizer_info(&c);
    assert_int_equal(info.discrete, 0);
    assert_int_equal(info.class_token, 0);
    assert_int_equal(info.grid_h, 14);
    assert_int_equal(info.grid_w, 10);
    assert_int_equal(info.image_h, 224);
    assert_int_equal(info.image_w, 160);
    assert_int_equal(info.width, 768);
    dg_component_destroy(&c);
}

static void a_patch_that_does_not_divide_the_image_is_explained(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "pixels", &env, "patch=3"), DG_ERR_MISMATCH, "4x8 pixels");
    assert_string_equal(err.key, "tokenizer.patch");
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "pixels", &env, "patch=[1, 2, 3]"), DG_ERR_INVALID,
                 "not 3 numbers");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_pixels_row_by_row_with_the_channel_last),
        cmocka_unit_test(each_patch_is_normalised_with_the_unbiased_variance),
        cmocka_unit_test(it_says_what_its_tokens_are),
        cmocka_unit_test(a_patch_that_does_not_divide_the_image_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
