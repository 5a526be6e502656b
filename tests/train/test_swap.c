/* test_swap.c - another tokenizer by changing two lines: what a check says of it, and how a mismatch is
 * explained with its place in the recipe. */
#include "train_support.h"

#include <sys/wait.h>
#include <unistd.h>

#define IDS "--plugin-path " DIGPT_BINARY_DIR "/tests/modules/ids.so "

/* Two lines to change. */
static const char recipe[] = "name: swap\n"                                          /* 1 */
                             "data: {source: synthetic, image_size: 64, batch: 2}\n" /* 2 */
                             "tokenizer: %s\n"                                       /* 3 */
                             "model:\n"                                              /* 4 */
                             "  name: digpt\n"                                       /* 5 */
                             "  size: free\n"                                        /* 6 */
                             "  width: 32\n"                                         /* 7 */
                             "  depth: 2\n"                                          /* 8 */
                             "  heads: 2\n"                                          /* 9 */
                             "  patch: 16\n"                                         /* 10 */
                             "  segments: %s\n"                                      /* 11 */
                             "  taps: [1, 2]\n"                                      /* 12 */
                             "  decoder_width: 32\n"                                 /* 13 */
                             "  decoder_depth: 1\n"                                  /* 14 */
                             "  decoder_heads: 2\n"                                  /* 15 */
                             "loss:\n"                                               /* 16 */
                             "  name: %s\n"                                          /* 17 */
                             "backend: {name: reference}\n"                          /* 18 */
                             "train: {steps: 2}\n"                                   /* 19 */
                             "optimizer: {lr: 1e-3, warmup_steps: 1}\n";             /* 20 */

static char out[1 << 16];

/* Writes the recipe as x.yaml in the working folder, and runs `digpt WORDS`: its exit code. */
static int digpt(const char *tokenizer, const char *segments, const char *loss, const char *words)
{
    char text[2048], command[1024];
    snprintf(text, sizeof text, recipe, tokenizer, segments, loss);
    test_write(test_path("x.yaml"), text, strlen(text));
    snprintf(command, sizeof command, "cd %s && %s/bin/digpt %s 2>&1", test_dir(), DIGPT_BINARY_DIR, words);
    FILE *f = popen(command, "r");
    out[fread(out, 1, sizeof out - 1, f)] = 0;
    return WEXITSTATUS(pclose(f));
}

static void expect(int code, const char *text)
{
    if (code < 0 || !strstr(out, text)) fail_msg("'%s' is not in:\n%s", text, out);
}

static void check(const char *tokenizer, const char *segments, const char *loss, int code, const char *text)
{
    int got = digpt(tokenizer, segments, loss, "recipe check " IDS "x.yaml");
    if (got != code) fail_msg("exit code %d, not %d:\n%s", got, code, out);
    expect(code, text);
}

static const char pixels[] = "{name: pixels, patch: 16}";

static void the_check_says_what_the_swap_did_to_the_tokens(void **state)
{
    (void)state;
    check(pixels, "[2, 2]", "mse", 0, "tokens     4 x 4 = 16, vectors of 768, from 64 x 64 pixels");
    expect(0, "predicts   next: 12 positions an image, compared by mse");
    assert_null(strstr(out, "frozen with the tokenizer: clip"));
    check("{name: clip, weights: random, arch: ViT-B/16}", "[2, 2]", "cosine", 0,
          "tokens     14 x 14 and a class token = 197, vectors of 512, from 224 x 224 pixels");
    expect(0, "compared by cosine");
    expect(0, "ViT-B/16 has random weights");
    assert_true(strstr(out, "predicts   next: 12 positions") == NULL); /* 147 and the class token */
    check("{name: ids}", "[2, 2]", "cross_entropy", 0, "tokens     8 x 8 = 64, ids of 16");
}

static void ids_do_not_go_with_a_loss_of_vectors(void **state)
{
    (void)state;
    check("{name: ids}", "[2, 2]", "cosine", 1,
          "x.yaml:17:9: error: loss.name: the loss 'cosine' compares vectors; "
          "the tokenizer 'ids' gives discrete ids: take cross_entropy");
    check(pixels, "[2, 2]", "cross_entropy", 1,
          "x.yaml:17:9: error: loss.name: the loss 'cross_entropy' compares ids");
}

static void segments_that_do_not_divide_the_grid_are_explained(void **state)
{
    (void)state;
    check(pixels, "[3, 2]", "mse", 1, "x.yaml:11:13: error: model.segments: ");
    expect(1, "4x4 patches (of 16x16 pixels) cannot be cut into 3x2 equal segments");
    /* The student's 4 x 4 can be cut in four, the 7 x 7 of the tokenizer not. */
    check("{name: clip, weights: random, arch: ViT-B/32}", "[2, 2]", "cosine", 1,
          "x.yaml:11:13: error: model.segments: ");
    expect(1, "7x7 tokens");
}

static void weights_of_another_tower_are_explained(void **state)
{
    (void)state;
    check("{name: clip, weights: " DIGPT_TEST_DATA "/C_b32_openclip.safetensors, arch: ViT-H/14}", "[2, 2]",
          "cosine", 1, "x.yaml:3:");
    expect(1, "width 32, 2 layers, patch 32, and arch says ViT-H/14 (width 1280, 32 layers, patch 14)");
}

static void weights_that_are_not_there_are_named_with_the_place(void **state)
{
    (void)state;
    check("{name: clip, weights: nowhere.safetensors}", "[2, 2]", "cosine", 1,
          "x.yaml:3:34: error: tokenizer.weights");
    expect(1, "nowhere.safetensors");
}

static void a_model_that_predicts_ids_trains(void **state)
{
    (void)state;
    int code = digpt("{name: ids}", "[2, 2]", "cross_entropy", "run " IDS "x.yaml --dir ids-run");
    if (code != 0) fail_msg("exit code %d:\n%s", code, out);
    expect(0, "2 steps done; report: ids-run/report.html");
}

static void no_image_is_read_by_a_check(void **state)
{
    (void)state;
    /* A list whose only images do not exist: the run fails, the check does not. */
    test_write(test_path("list.txt"), "a.jpg\t0\nb.jpg\t1\n", 16);
    int code = digpt(pixels, "[2, 2]", "mse", "recipe check x.yaml data.source=list data.path=list.txt");
    if (code != 0) fail_msg("exit code %d:\n%s", code, out);
    expect(0, "2 images");
    code = digpt(pixels, "[2, 2]", "mse", "run x.yaml --dir no-images data.source=list data.path=list.txt");
    assert_int_equal(code, 1);
    expect(1, "images in a row are bad; the last: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_check_says_what_the_swap_did_to_the_tokens),
        cmocka_unit_test(ids_do_not_go_with_a_loss_of_vectors),
        cmocka_unit_test(segments_that_do_not_divide_the_grid_are_explained),
        cmocka_unit_test(weights_of_another_tower_are_explained),
        cmocka_unit_test(weights_that_are_not_there_are_named_with_the_place),
        cmocka_unit_test(a_model_that_predicts_ids_trains),
        cmocka_unit_test(no_image_is_read_by_a_check),
    };
    return cmocka_run_group_tests_name("train swap", tests, NULL, NULL);
}
