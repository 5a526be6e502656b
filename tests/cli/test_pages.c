/* `digpt visualize` and `digpt compare`: what they write and print, and what they say of bad input. */
#include "program.h"

#include "base/file.h"
#include "base/mem.h"
#include "data/image.h"

static void shell(const char *commands)
{
    char line[2048];
    snprintf(line, sizeof line, "cd %s && %s", test_dir(), commands);
    if (system(line) != 0) fail_msg("%s", line);
}

static void write_text(const char *file, const char *text)
{
    test_write(test_path(file), text, strlen(text));
}

static const char recipe[] = "data: {source: synthetic, synthetic_images: 32, synthetic_val_images: 8, "
                             "synthetic_size: 40, image_size: 32, "
                             "batch: 4, workers: 1}\n"
                             "tokenizer: {name: pixels, patch: 8}\n"
                             "model: {name: digpt, size: free, width: 16, depth: 2, heads: 2, patch: 8, "
                             "segments: [2, 2], taps: [1, 2],\n"
                             "        decoder_width: 16, decoder_depth: 1, decoder_heads: 2}\n"
                             "loss: {name: mse}\nbackend: {name: reference}\n"
                             "train: {steps: 2, log_every: 1, precision: f32, pictures: 1}\n";

/* A picture of size x size. */
static void write_picture(const char *file, int size)
{
    dg_error err = DG_ERROR_INIT;
    uint8_t *pixels = dg_calloc((size_t)(size * size), 3);
    void *bytes;
    size_t n;
    for (int i = 0; i < size * size * 3; i++) pixels[i] = (uint8_t)(i * 7);
    ASSERT_OK(dg_image_encode_png(pixels, size, size, &bytes, &n, &err));
    test_write(test_path(file), bytes, n);
    dg_free(bytes);
    dg_free(pixels);
}

static int make_runs(void **state)
{
    (void)state;
    write_text("tiny.yaml", recipe);
    write_picture("a.png", 50);
    write_picture("b.png", 64);
    expect("run tiny.yaml --dir one", 0, "report: one/report.html", "");
    expect("run tiny.yaml seed=1 --dir two", 0, "report: two/report.html", "");
    expect("run tiny.yaml task=finetune '~tokenizer' '~loss' --dir tuned "
           "train.init_from=one/checkpoints/step-0000000002/model.safetensors",
           0, "report: tuned/report.html", "");
    shell("mkdir nothing");
    return 0;
}

static bool is_there(const char *file)
{
    return dg_path_is_file(test_path(file));
}

/* ---- visualize */

static void images_of_ones_own_are_drawn_into_a_folder(void **state)
{
    (void)state;
    expect("visualize one a.png b.png --out drawn", 0, "12 pictures: drawn/*.png", "");
    assert_true(is_there("drawn/000-crop.png"));
    assert_true(is_there("drawn/001-visible-loss.png"));
    assert_true(is_there("drawn/index.html"));
    expect("visualize tuned a.png", 0, "1 pictures: tuned/visualized/*.png", "");
    assert_true(is_there("tuned/visualized/picture-000.png"));
}

static void without_images_the_runs_own_are_drawn_and_the_report_written_anew(void **state)
{
    (void)state;
    shell("rm -r two/pictures two/report.html");
    expect("visualize two", 0, "6 pictures: two/pictures/*.png", "");
    assert_true(is_there("two/report.html"));
    shell("grep -q 'data:image/png' two/report.html");
}

static void an_image_that_cannot_be_read_is_named(void **state)
{
    (void)state;
    write_text("broken.png", "\x89PNG\r\n\x1a\nno more");
    expect("visualize one a.png broken.png", 1, "", "broken.png");
    expect("visualize one gone.png", 1, "", "there is no file or folder 'gone.png'");
    expect("visualize one nothing", 1, "", "'nothing' has no .jpg, .jpeg or .png in it");
}

static void what_is_no_run_is_refused(void **state)
{
    (void)state;
    expect("visualize nothing", 2, "", "'nothing' is a folder without recipe.yaml: it is no run");
    expect("visualize gone", 1, "", "there is no recipe 'gone'");
    expect("visualize", 2, "", "too few arguments; usage: digpt visualize RUN|RECIPE [IMAGE...]");
}

static void a_run_without_a_checkpoint_is_refused(void **state)
{
    (void)state;
    shell("cp -r two bare && rm -r bare/checkpoints");
    expect("visualize bare a.png", 1, "",
           "there is no checkpoint in 'bare'; train first, or name a file with "
           "--weights");
}

static void a_recipe_of_another_version_is_refused_at_its_place(void **state)
{
    (void)state;
    shell("cp -r two newer && sed -i 's/^train:/train:\\n  invented: 1/' newer/recipe.yaml");
    expect("visualize newer a.png", 1, "", "newer/recipe.yaml:");
    assert_non_null(strstr(err_text, "invented"));
    expect("compare newer one", 0, "train.invented", ""); /* comparing needs no such thing to be known */
}

static void a_probe_has_no_pictures(void **state)
{
    (void)state;
    expect("run tiny.yaml task=knn '~tokenizer' '~loss' knn.k=3 --dir near "
           "train.init_from=one/checkpoints/step-0000000002/model.safetensors",
           0, "nearest neighbours", "");
    expect("visualize near a.png", 1, "",
           "a run of the task 'knn' has no pictures: show the run that its "
           "train.init_from is from");
}

static void too_many_images_are_refused(void **state)
{
    (void)state;
    shell("mkdir -p many && for i in $(seq 65); do cp a.png many/$i.png; done");
    expect("visualize one many", 1, "", "65 images are more than the 64 that are shown together");
}

/* ---- compare */

static void repeats_are_one_row_and_the_page_is_written(void **state)
{
    (void)state;
    expect("compare first=one first=two Tuned=tuned --out page.html", 0, "first  pretrain  2     2 ", "");
    assert_non_null(strstr(out, "Tuned  finetune  1     2 "));
    assert_non_null(strstr(out, "page: page.html"));
    shell("grep -q '2 runs with\\|3 runs with 2 recipes' page.html && grep -q 'data:image/png' page.html");
}

static void differences_are_printed_by_key(void **state)
{
    (void)state;
    expect("run tiny.yaml optimizer.lr=0.5 --dir fast", 0, "", "");
    expect("compare one fast", 0, "pretrain: key  one", "");
    assert_non_null(strstr(out, "optimizer.lr "));
    assert_null(strstr(out, "model.width"));
}

static void a_folder_that_is_no_run_is_not_compared(void **state)
{
    (void)state;
    expect("compare one nothing", 1, "", "'nothing' is no run: it has no recipe.yaml");
    expect("compare one gone", 1, "", "there is no folder 'gone'");
    expect("compare one X=gone", 1, "", "there is no folder 'gone'");
    expect("compare one --out nothing/deep/page.html", 1, "", "nothing/deep/page.html");
    shell("cp -r one spoilt && echo '{\"step\":' >>spoilt/metrics.jsonl");
    expect("compare spoilt", 1, "", "spoilt/metrics.jsonl:1:");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_of_ones_own_are_drawn_into_a_folder),
        cmocka_unit_test(without_images_the_runs_own_are_drawn_and_the_report_written_anew),
        cmocka_unit_test(an_image_that_cannot_be_read_is_named),
        cmocka_unit_test(what_is_no_run_is_refused),
        cmocka_unit_test(a_run_without_a_checkpoint_is_refused),
        cmocka_unit_test(a_recipe_of_another_version_is_refused_at_its_place),
        cmocka_unit_test(a_probe_has_no_pictures),
        cmocka_unit_test(too_many_images_are_refused),
        cmocka_unit_test(repeats_are_one_row_and_the_page_is_written),
        cmocka_unit_test(differences_are_printed_by_key),
        cmocka_unit_test(a_folder_that_is_no_run_is_not_compared),
    };
    return cmocka_run_group_tests(tests, make_runs, NULL);
}
