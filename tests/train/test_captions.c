/* test_captions.c - models that read text: vocabularies of runs, captions that are missing, zero-shot. */
#include "program.h"
#include "train_support.h"

#include "data/image.h"
#include "data/text.h"

static dg_error err = DG_ERROR_INIT;

/* A small clip on pictures of one colour, whose captions name it. */
static const char clip[] =
    "~tokenizer ~loss model.name=clip model.size=free model.width=16 model.depth=1 model.heads=2 "
    "model.patch=16 model.out=8 model.text_width=16 model.text_depth=1 model.text_heads=2 "
    "model.context_length=6 model.vocabulary=%d data.caption_length=6 data.source=list data.path=%s "
    "data.val_path=%s data.batch=4 data.flip=0 train.steps=%d optimizer.warmup_steps=0 %s";

static const struct {
    const char *name;
    uint8_t pixel[3];
} colours[] = {{"deep_blue", {20, 30, 200}},
               {"green", {20, 180, 40}},
               {"red", {220, 30, 20}},
               {"white", {250, 250, 250}}};
enum { COLOURS = 4, EACH = 4, SIDE = 32 };

static void write_picture(const char *path, const uint8_t pixel[3], int darker)
{
    static uint8_t pixels[SIDE * SIDE * 3];
    void *bytes;
    size_t size;
    for (int i = 0; i < SIDE * SIDE * 3; i++)
        pixels[i] = (uint8_t)(pixel[i % 3] - pixel[i % 3] * darker / 20);
    ASSERT_OK(dg_image_encode_png(pixels, SIDE, SIDE, &bytes, &size, &err));
    test_write(path, bytes, size);
    dg_free(bytes);
}

/* The list NAME.txt; caption(i, colour) "a green thing" unless `missing` says that the i-th has none. */
static void write_list(const char *name, int first, int missing, bool captions)
{
    dg_str list = {0};
    char path[600], file[64];
    for (int i = 0; i < COLOURS * EACH; i++) {
        int c = i % COLOURS;
        const char *word = c == 0 ? "deep blue" : colours[c].name;
        snprintf(file, sizeof file, "%s-%d.png", name, i);
        write_picture(test_path(file), colours[c].pixel, first + i / COLOURS);
        dg_str_printf(&list, "%s\t%s", file, colours[c].name);
        if (captions && i != missing) dg_str_printf(&list, "\ta %s thing", word);
        dg_str_puts(&list, i == missing ? "\t \n" : "\n");
    }
    snprintf(path, sizeof path, "%s.txt", test_path(name));
    test_write(path, list.text, list.length);
    dg_str_free(&list);
}

static int write_lists(void **state)
{
    quiet(state);
    write_list("pictures", 0, -1, true);
    write_list("others", 2, -1, false);
    write_list("gap", 0, 5, true);
    return 0;
}

static dg_status train_clip(const char *run, const char *list, int vocabulary, int steps, const char *more,
                            dg_run_result *result)
{
    char all[1024], data[300], val[300];
    snprintf(data, sizeof data, "%s.txt", test_path(list));
    snprintf(val, sizeof val, "%s.txt", test_path("others"));
    snprintf(all, sizeof all, clip, vocabulary, data, val, steps, more);
    return train(run, 0, all, result, &err);
}

static char *vocabulary_of(const char *run)
{
    char path[600];
    size_t n;
    snprintf(path, sizeof path, "%s/vocabulary.txt", test_path(run));
    return read_file(path, &n);
}

/* ---- vocabularies */

static void a_run_makes_a_vocabulary_of_its_captions(void **state)
{
    (void)state;
    dg_run_result result;
    ASSERT_OK(train_clip("words", "pictures", 64, 2, "", &result));
    char *text = vocabulary_of("words");
    assert_string_equal(text, "a\nthing\nblue\ndeep\ngreen\nred\nwhite\n");
    dg_free(text);
}

static void a_run_learns_byte_pairs_where_it_is_told_to(void **state)
{
    (void)state;
    dg_run_result result;
    char path[600];
    dg_vocabulary *v;
    int32_t ids[6];
    ASSERT_OK(train_clip("pairs", "pictures", 600, 2,
                         "data.vocabulary_kind=byte_pairs data.vocabulary_size=600", &result));
    snprintf(path, sizeof path, "%s/vocabulary.txt", test_path("pairs"));
    ASSERT_OK(dg_vocabulary_load(path, &v, &err));
    assert_int_equal(dg_vocabulary_kind(v), DG_TEXT_PAIRS);
    ASSERT_OK(dg_vocabulary_encode(v, "a deep blue thing", ids, 6, &err));
    assert_string_equal(dg_vocabulary_word(v, ids[2]), "deep</w>"); /* words that come often are one symbol */
    assert_string_equal(dg_vocabulary_word(v, ids[4]), "thing</w>");
    dg_vocabulary_free(v);
    assert_int_not_equal(train_clip("few", "pictures", 600, 2,
                                    "data.vocabulary_kind=byte_pairs data.vocabulary_size=100", &result),
                         DG_OK);
    assert_string_equal(err.key, "data.vocabulary_size");
    assert_non_null(strstr(err.message, "needs room for 514 ids at least"));
}

static void a_vocabulary_beyond_the_models_rows_is_refused_with_what_to_do(void **state)
{
    (void)state;
    dg_run_result result;
    ASSERT_FAILS(
        train_clip("rows", "pictures", 8, 2, "", &result), DG_ERR_MISMATCH,
        "vocabulary.txt' has 11 ids and the model 'clip' has rows for 8: set model.vocabulary to 11");
    assert_string_equal(err.key, "model.vocabulary");
    ASSERT_OK(train_clip("fits", "pictures", 11, 1, "", &result));
}

static void a_vocabulary_file_that_is_none_is_blamed_on_its_key(void **state)
{
    (void)state;
    dg_run_result result;
    char more[700];
    test_write(test_path("broken.txt"), "Not A Word\n", 11);
    snprintf(more, sizeof more, "data.vocabulary=%s", test_path("broken.txt"));
    ASSERT_FAILS(train_clip("broken", "pictures", 64, 2, more, &result), DG_ERR_FORMAT,
                 "broken.txt:1: 'Not A Word' is no word");
    assert_string_equal(err.key, "data.vocabulary");
}

/* ---- captions that are not there */

static void data_without_captions_is_refused(void **state)
{
    (void)state;
    dg_run_result result;
    ASSERT_FAILS(train_clip("none", "others", 64, 2, "", &result), DG_ERR_MISMATCH,
                 "the model reads captions and the data has none");
    assert_string_equal(err.key, "data.caption_length");
}

static void an_image_without_a_caption_is_treated_as_a_bad_one(void **state)
{
    (void)state;
    dg_run_result result;
    log_text[0] = 0;
    ASSERT_OK(train_clip("skip", "gap", 64, 4, "", &result)); /* an epoch */
    if (!strstr(log_text, "the next one takes its place: ") || !strstr(log_text, "gap-5.png' has no caption"))
        fail_msg("%s", log_text);
    ASSERT_FAILS(train_clip("fail", "gap", 64, 4, "data.on_bad_image=fail", &result), DG_ERR_FORMAT,
                 "gap-5.png' has no caption");
}

/* ---- zero-shot, by the program */

/* Pictures that it did not see, named by the texts of their classes alone; whatever the batch and the number
 * of templates. */
static void a_trained_clip_names_what_it_sees(void **state)
{
    (void)state;
    dg_run_result result;
    static const char all_right[] =
        "zero-shot on 16 images of 4 classes: top-1 100.00 %, top-5 100.00 % (chance "
        "25.00 %)\n";
    ASSERT_OK(train_clip("named", "pictures", 64, 200,
                         "data.crop_scale=[0.9,1] data.batch=8 optimizer.lr=3e-3", &result));
    expect("zeroshot named --template 'a {} thing'", 0, all_right, "");
    expect("zeroshot named --template 'a {} thing' data.batch=7", 0, all_right, "");
    expect("zeroshot named --template 'a {} thing' --template '{}' --template 'the {}'", 0, all_right, "");
    expect("zeroshot named --template 'a {} thing' data.limit=3", 0, "zero-shot on 16 images", "");
}

static void what_zero_shot_cannot_do_is_explained(void **state)
{
    (void)state;
    dg_run_result result;
    ASSERT_OK(train_clip("untrained", "pictures", 64, 1, "", &result));
    expect("zeroshot untrained --template 'a thing'", 1, "",
           "the text 'a thing' has no {} where the name of a class");
    expect("zeroshot untrained ~data.val_path", 1, "", "data.val_path must say what to classify");
    expect("zeroshot untrained data.caption_length=0", 1, "", "captions");
    expect("zeroshot nowhere", 1, "", "nowhere");
    must_train("digpt", 0, "train.steps=1");
    expect("zeroshot digpt", 1, "", "reads no captions");
    expect("zeroshot untrained model.width=32", 1, "", "does not fit this model");
    char path[600];
    snprintf(path, sizeof path, "%s/checkpoints", test_path("untrained"));
    ASSERT_OK(dg_dir_remove(path, &err));
    expect("zeroshot untrained", 1, "", "'untrained' holds no checkpoint");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_makes_a_vocabulary_of_its_captions),
        cmocka_unit_test(a_run_learns_byte_pairs_where_it_is_told_to),
        cmocka_unit_test(a_vocabulary_beyond_the_models_rows_is_refused_with_what_to_do),
        cmocka_unit_test(a_vocabulary_file_that_is_none_is_blamed_on_its_key),
        cmocka_unit_test(data_without_captions_is_refused),
        cmocka_unit_test(an_image_without_a_caption_is_treated_as_a_bad_one),
        cmocka_unit_test(a_trained_clip_names_what_it_sees),
        cmocka_unit_test(what_zero_shot_cannot_do_is_explained),
    };
    return cmocka_run_group_tests(tests, write_lists, NULL);
}
