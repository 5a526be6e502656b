/* Does an evaluation say of a classifier what its own run said, and of other data what is true? */
#include "program.h"
#include "probe_support.h"

#include "data/image.h"
#include "io/json.h"
#include "train/assess.h"

static dg_error err = DG_ERROR_INIT;

static const char finetune[] =
    "task=finetune data.synthetic_val_images=40 finetune.mixup=0 finetune.cutmix=0 finetune.erase=0 "
    "finetune.randaugment='' finetune.drop_path=0 finetune.head_std=0.5 train.epochs=3 ~train.steps";
enum { VALIDATION = 40, LAST = 48 };

static char last_weights[800];

/* One run for all the tests. */
static int train_once(void **state)
{
    quiet(state);
    must_train("run", 0, finetune);
    snprintf(last_weights, sizeof last_weights, "%s/checkpoints/step-%010d/model.safetensors",
             test_path("run"), LAST);
    return 0;
}

typedef struct evaluation {
    opened o;
    dg_assessor a;
    dg_source *source;
    dg_assessment x;
} evaluation;

/* Opens the run's classifier, and its validation data or what lies in `folder`. */
static void open_evaluation(evaluation *e, const char *overrides, const char *folder)
{
    char all[1024];
    memset(e, 0, sizeof *e);
    snprintf(all, sizeof all, "%s %s", finetune, overrides);
    open_recipe(&e->o, all);
    ASSERT_OK(dg_assessor_open(e->o.recipe, e->o.plugins.registry, last_weights, NULL, &e->a, &err));
    if (folder)
        ASSERT_OK(dg_source_open_folder(test_path(folder), &e->source, &err));
    else
        ASSERT_OK(dg_dataset_open_validation(e->o.recipe, NULL, NULL, &e->source, &err));
}

static void assess(evaluation *e, bool subset, const dg_real_labels *real)
{
    const dg_assess_options options = {subset, real};
    ASSERT_OK(dg_assess(&e->a, e->source, &options, &e->x, &err));
}

static void close_evaluation(evaluation *e)
{
    dg_assessment_free(&e->x);
    dg_source_close(e->source);
    dg_assessor_close(&e->a);
    close_recipe(&e->o);
}

/* Writes the validation images with a label below `most` to FOLDER/NAME/ID.png, NAME the class or its number.
 */
static int64_t write_folder(const char *folder, int32_t most, bool numbered)
{
    evaluation e;
    dg_sample sample = {0};
    char path[800];
    int64_t n = 0;
    open_evaluation(&e, "", NULL);
    for (int64_t id = 0; id < VALIDATION; id++) {
        void *bytes;
        size_t size;
        ASSERT_OK(dg_source_read_image(e.source, id, 0, &sample, &err));
        if (sample.label >= most) continue;
        if (numbered)
            snprintf(path, sizeof path, "%s/%d", test_path(folder), sample.label);
        else
            snprintf(path, sizeof path, "%s/%s", test_path(folder), e.a.classes.names[sample.label]);
        ASSERT_OK(dg_dir_make(path, &err));
        ASSERT_OK(dg_image_encode_png(sample.image.pixels, sample.image.width, sample.image.height, &bytes,
                                      &size, &err));
        snprintf(path + strlen(path), sizeof path - strlen(path), "/ILSVRC2012_val_%08lld.png",
                 (long long)id + 1);
        test_write(path, bytes, size);
        dg_free(bytes);
        n++;
    }
    dg_sample_free(&sample);
    close_evaluation(&e);
    return n;
}

/* ---- the run's own data */

static void it_says_what_the_run_said_last(void **state)
{
    (void)state;
    evaluation e;
    size_t n;
    char path[800], expected[256];
    open_evaluation(&e, "", NULL);
    assess(&e, false, NULL);
    dg_str row = {0};
    dg_json_put_number(&row, e.x.result.top1);
    dg_str_puts(&row, ",\"val_top5\":");
    dg_json_put_number(&row, e.x.result.top5);
    dg_str_puts(&row, ",\"val_loss\":");
    dg_json_put_number(&row, e.x.result.loss);
    snprintf(expected, sizeof expected, "{\"step\":%d,\"epoch\":3,\"val_top1\":%s}\n", LAST, row.text);
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_path("run"));
    char *text = read_file(path, &n);
    if (!strstr(text, expected)) fail_msg("%s is not in\n%s", expected, text);
    assert_true(e.x.result.loss > 0 && e.x.result.images == VALIDATION);
    dg_str_free(&row);
    dg_free(text);
    close_evaluation(&e);
}

static void what_is_said_of_each_image_adds_up(void **state)
{
    (void)state;
    evaluation e;
    double loss = 0;
    int64_t hits = 0, hits5 = 0, *order, n, wrong = 0;
    dg_confusion *list;
    open_evaluation(&e, "", NULL);
    assess(&e, false, NULL);
    const dg_eval_result *r = &e.x.result;
    for (int64_t i = 0; i < r->images; i++) {
        const dg_assessed *x = &e.x.images[i];
        assert_int_equal(x->id, i);
        loss += x->loss / (double)r->images;
        hits += x->best[0] == x->label;
        for (int k = 0; k < DG_ASSESS_BEST; k++) {
            hits5 += x->best[k] == x->label;
            for (int m = 0; m < k; m++) assert_int_not_equal(x->best[k], x->best[m]);
        }
        if (x->best[0] == x->label) assert_true(fabs(exp(-x->loss) - (double)x->probability) < 1e-5);
        assert_true(x->probability >= 0.1f && x->probability <= 1);
    }
    assert_true(fabs(loss - r->loss) < 1e-9);
    assert_true((double)hits / VALIDATION == r->top1 && (double)hits5 / VALIDATION == r->top5);
    ASSERT_OK(dg_confusions(&e.x, &list, &n, &err));
    for (int64_t i = 0; i < n; i++) {
        wrong += list[i].images;
        assert_int_not_equal(list[i].label, list[i].prediction);
        if (i) assert_true(list[i].images <= list[i - 1].images);
    }
    assert_int_equal(wrong, VALIDATION - hits);
    assert_true(n > 1);
    dg_free(list);
    ASSERT_OK(dg_worst_losses(&e.x, 7, &order, &n, &err));
    assert_int_equal(n, 7);
    int64_t worse = 0;
    for (int64_t i = 0; i < r->images; i++) worse += e.x.images[i].loss > e.x.images[order[6]].loss;
    assert_int_equal(worse, 6);
    for (int64_t i = 1; i < n; i++) assert_true(e.x.images[order[i]].loss <= e.x.images[order[i - 1]].loss);
    dg_free(order);
    close_evaluation(&e);
}

static void predictions_are_written_a_line_an_image(void **state)
{
    (void)state;
    evaluation e;
    size_t n;
    int64_t line = 0;
    open_evaluation(&e, "", NULL);
    assess(&e, false, NULL);
    ASSERT_OK(dg_assess_write(test_path("p.jsonl"), &e.a, e.source, &e.x, &err));
    char *text = read_file(test_path("p.jsonl"), &n);
    for (char *at = text, *end; (end = strchr(at, '\n')); at = end + 1, line++) {
        dg_arena arena = {0};
        const dg_json *row;
        ASSERT_OK(dg_json_parse(at, (size_t)(end - at), "p", &arena, &row, &err));
        assert_int_equal(dg_json_get(row, "id")->v.integer, line);
        assert_int_equal(dg_json_get(row, "label")->v.integer, e.x.images[line].label);
        assert_int_equal(dg_json_get(row, "prediction")->v.integer, e.x.images[line].best[0]);
        assert_int_equal(dg_json_get(row, "top5")->count, 5);
        assert_string_equal(dg_json_get(row, "class")->v.text, e.a.classes.names[e.x.images[line].label]);
        assert_true(dg_json_get(row, "loss")->v.number == e.x.images[line].loss);
        dg_arena_free(&arena);
    }
    assert_int_equal(line, VALIDATION);
    dg_free(text);
    close_evaluation(&e);
}

static void the_page_has_the_worst_images_in_it(void **state)
{
    (void)state;
    evaluation e;
    size_t n, pictures = 0;
    open_evaluation(&e, "", NULL);
    assess(&e, false, NULL);
    ASSERT_OK(dg_assess_page(test_path("page.html"), &e.a, e.source, &e.x, 3, &err));
    char *text = read_file(test_path("page.html"), &n);
    for (char *at = text; (at = strstr(at, "src=\"data:image/jpeg;base64,/9j/")); at++)
        pictures++; /* JPEG's first bytes */
    assert_int_equal(pictures, 3);
    assert_non_null(strstr(text, "<td>hexagon</td>"));
    assert_null(strstr(text, "http"));
    dg_free(text);
    close_evaluation(&e);
}

/* ---- other data */

/* The same images in folders give the same numbers, whether these have names or numbers. */
static void folders_by_name_and_by_number_are_the_same_data(void **state)
{
    (void)state;
    evaluation a, b;
    assert_int_equal(write_folder("named", 10, false), VALIDATION);
    assert_int_equal(write_folder("numbered", 10, true), VALIDATION);
    open_evaluation(&a, "", NULL);
    assess(&a, false, NULL);
    for (int i = 0; i < 2; i++) {
        open_evaluation(&b, "", i ? "numbered" : "named");
        assess(&b, false, NULL);
        assert_true(a.x.result.top1 == b.x.result.top1 && a.x.result.top5 == b.x.result.top5);
        assert_true(fabs(a.x.result.loss - b.x.result.loss) < 1e-6);
        assert_memory_equal(a.x.result.class_hits, b.x.result.class_hits, 10 * sizeof *a.x.result.class_hits);
        assert_memory_equal(a.x.result.class_images, b.x.result.class_images,
                            10 * sizeof *a.x.result.class_images);
        close_evaluation(&b);
    }
    close_evaluation(&a);
}

/* "2" stands before "10" in numbers and behind it in letters. */
static void numbered_folders_are_not_taken_in_the_order_of_letters(void **state)
{
    (void)state;
    static const char *const folders[] = {"v2/0", "v2/2", "v2/10", "v2/11"};
    dg_classes c;
    dg_source *s;
    int32_t *map;
    dg_str names = {0};
    for (int i = 0; i < 12; i++) dg_str_printf(&names, "n%02d\r\n", i);
    test_write(test_path("classes.txt"), names.text, names.length);
    for (int i = 0; i < 4; i++) {
        char path[600];
        uint8_t pixel[3] = {0};
        void *bytes;
        size_t size;
        ASSERT_OK(dg_dir_make(test_path(folders[i]), &err));
        ASSERT_OK(dg_image_encode_png(pixel, 1, 1, &bytes, &size, &err));
        snprintf(path, sizeof path, "%s/a.png", test_path(folders[i]));
        test_write(path, bytes, size);
        dg_free(bytes);
    }
    ASSERT_OK(dg_classes_read(test_path("classes.txt"), &c, &err));
    assert_int_equal(c.n, 12);
    ASSERT_OK(dg_source_open_folder(test_path("v2"), &s, &err));
    ASSERT_OK(dg_classes_map(&c, s, &map, &err));
    static const int32_t expected[] = {0, 10, 11, 2};
    assert_memory_equal(map, expected, sizeof expected);
    dg_free(map);
    dg_source_close(s);
    dg_classes_free(&c);
    dg_str_free(&names);
}

static void a_subset_is_scored_among_its_own_classes_when_asked(void **state)
{
    (void)state;
    evaluation all, own;
    int64_t n = write_folder("few", 3, false);
    open_evaluation(&all, "", "few");
    assess(&all, false, NULL);
    open_evaluation(&own, "", "few");
    assess(&own, true, NULL);
    assert_int_equal(all.x.among, 10);
    assert_int_equal(own.x.among, 3);
    assert_int_equal(own.x.result.images, n);
    assert_true(own.x.result.top5 == 1);
    assert_true(own.x.result.top1 >= all.x.result.top1 && own.x.result.loss < all.x.result.loss);
    for (int64_t i = 0; i < n; i++) {
        assert_in_range(own.x.images[i].best[0], 0, 2);
        assert_int_equal(own.x.images[i].best[3], -1);
        assert_int_equal(own.x.images[i].label, all.x.images[i].label);
    }
    close_evaluation(&all);
    close_evaluation(&own);
}

static void a_class_that_there_is_not_is_named_with_the_nearest(void **state)
{
    (void)state;
    evaluation e;
    char command[900];
    write_folder("odd", 10, false);
    snprintf(command, sizeof command, "mv %s/hexagon %s/hexagons", test_path("odd"), test_path("odd"));
    assert_int_equal(system(command), 0);
    open_evaluation(&e, "", "odd");
    ASSERT_FAILS(
        dg_assess(&e.a, e.source, &(dg_assess_options){false, NULL}, &e.x, &err), DG_ERR_MISMATCH,
        "'hexagons', is none of the classifier's 10 classes ('circle' .. 'arrow'); the nearest is 'hexagon'");
    close_evaluation(&e);
}

/* ---- ReaL labels */

static void write_real(const char *name, int64_t images, int kind)
{
    dg_str text = {0};
    for (int64_t i = 0; i < images; i++)
        dg_str_printf(&text, "%s%s", i ? ", " : "[",
                      kind == 0 ? "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
                      : i % 2   ? "[]"
                                : "[10]");
    dg_str_puts(&text, "]");
    test_write(test_path(name), text.text, text.length);
    dg_str_free(&text);
}

static void real_labels_score_images_that_have_any(void **state)
{
    (void)state;
    evaluation e;
    dg_real_labels real;
    write_real("all.json", VALIDATION, 0);
    ASSERT_OK(dg_real_labels_read(test_path("all.json"), 10, &real, &err));
    assert_int_equal(real.n, VALIDATION);
    open_evaluation(&e, "", NULL);
    assess(&e, false, &real); /* every class is right */
    assert_int_equal(e.x.real_images, VALIDATION);
    assert_int_equal(e.x.real_hits, VALIDATION);
    /* Image k of a list is found by its number, in whatever order the folders have it. */
    for (int64_t i = 0; i < VALIDATION; i++) {
        real.first[i + 1] = i + 1;
        real.labels[i] = e.x.images[i].best[0];
    }
    close_evaluation(&e);
    write_folder("real", 10, false);
    open_evaluation(&e, "", "real");
    assess(&e, false, &real);
    assert_int_equal(e.x.real_hits, VALIDATION);
    close_evaluation(&e);
    for (int64_t i = 21; i <= VALIDATION; i++) real.first[i] = 20; /* the later ones have none */
    open_evaluation(&e, "", "real");
    assess(&e, false, &real);
    assert_int_equal(e.x.real_images, 20);
    assert_int_equal(e.x.real_hits, 20);
    close_evaluation(&e);
    dg_real_labels_free(&real);
}

static void real_labels_that_are_not_for_this_data_are_refused(void **state)
{
    (void)state;
    evaluation e;
    dg_real_labels real;
    write_real("short.json", 7, 0);
    write_real("high.json", 4, 1);
    test_write(test_path("flat.json"), "[[1],\n 2]", 9);
    ASSERT_FAILS(dg_real_labels_read(test_path("high.json"), 10, &real, &err), DG_ERR_FORMAT,
                 "high.json:1:3: a label is a number from 0 to 9");
    ASSERT_FAILS(dg_real_labels_read(test_path("flat.json"), 10, &real, &err), DG_ERR_FORMAT,
                 "flat.json:2:2: an image's labels are a list");
    ASSERT_OK(dg_real_labels_read(test_path("short.json"), 10, &real, &err));
    open_evaluation(&e, "", NULL);
    ASSERT_FAILS(dg_assess(&e.a, e.source, &(dg_assess_options){false, &real}, &e.x, &err), DG_ERR_MISMATCH,
                 "there are ReaL labels of 7 images and the data has 40");
    close_evaluation(&e);
    dg_real_labels_free(&real);
}

/* ---- refusals, and the program */

static void lists_of_classes_that_cannot_be_are_refused(void **state)
{
    (void)state;
    dg_classes c;
    test_write(test_path("twice"), "cat\ndog\ncat\n", 12);
    ASSERT_FAILS(dg_classes_read(test_path("twice"), &c, &err), DG_ERR_FORMAT, "has the class 'cat' twice");
    test_write(test_path("none"), "\n\n", 2);
    ASSERT_FAILS(dg_classes_read(test_path("none"), &c, &err), DG_ERR_FORMAT, "names no class");
    test_write(test_path("number"), "[\"a\", 5]", 8);
    ASSERT_FAILS(dg_classes_read(test_path("number"), &c, &err), DG_ERR_FORMAT,
                 "number:1:7: the name of a class is a string");
    test_write(test_path("binary"), "a\0b\n", 4);
    ASSERT_FAILS(dg_classes_read(test_path("binary"), &c, &err), DG_ERR_FORMAT, "zero byte");
}

static void weights_that_are_not_the_whole_classifier_are_refused(void **state)
{
    (void)state;
    opened o;
    dg_assessor a = {0};
    char path[800];
    must_train("encoder", 0, "train.steps=1");
    snprintf(path, sizeof path, "%s/checkpoints/step-0000000001/model.safetensors", test_path("encoder"));
    open_recipe(&o, finetune);
    ASSERT_FAILS(dg_assessor_open(o.recipe, o.plugins.registry, path, NULL, &a, &err), DG_ERR_MISMATCH,
                 "has no tensor 'fc_norm.weight' (4 of ");
    dg_assessor_close(&a);
    close_recipe(&o);
    char overrides[1024];
    snprintf(overrides, sizeof overrides, "%s finetune.classes=12", finetune);
    open_recipe(&o, overrides);
    ASSERT_FAILS(dg_assessor_open(o.recipe, o.plugins.registry, last_weights, NULL, &a, &err),
                 DG_ERR_MISMATCH, "does not fit this model");
    dg_assessor_close(&a);
    close_recipe(&o);
}

static void the_program_evaluates_runs_and_says_what_is_wrong(void **state)
{
    (void)state;
    write_folder("program", 4, false);
    expect("eval run --weights last --per-class", 0, "images   40\n", "");
    expect("eval run", 0, "best.safetensors", "");
    expect("eval run --data program --subset --predictions q.jsonl --worst 2", 0,
           "classes  4 to choose among, 4 with images\n", "");
    assert_true(dg_path_is_file(test_path("q.jsonl")));
    expect("eval nothing", 1, "", "there is no recipe");
    expect("eval program", 2, "", "'program' is a folder without recipe.yaml: it is no run");
    expect("eval run --data gone", 1, "", "gone");
    expect("eval run --weights gone", 1, "", "gone");
    expect("eval run --worst -1", 2, "", "--worst -1: a whole number");
    must_train("pretrained", 0, "train.steps=1");
    expect("eval pretrained", 1, "", "a classifier is evaluated, and the task 'pretrain' trains none");
    char path[800];
    snprintf(path, sizeof path, "%s/checkpoints", test_path("pretrained"));
    expect("features pretrained program --out f.npy", 0, "features of width 16: f.npy\n", "");
    expect("features run program/circle --out f.safetensors --layer 1 --pool class --no-norm", 0,
           "features of width 16", "");
    expect("features run program", 2, "", "--out FILE is needed, ending in .safetensors or .npy");
    expect("features run nowhere.png --out f.npy", 1, "", "there is no file or folder 'nowhere.png'");
    expect("features run run/checkpoints --out f.npy", 1, "",
           "'run/checkpoints' has no .jpg, .jpeg or .png in it");
    expect("features run program --out f.npy --layer 7", 1, "", "the encoder has 2 blocks");
    expect("features run program --out f.npy --pool max", 2, "", "--pool max: it is mean or class");
    ASSERT_OK(dg_dir_remove(path, &err));
    expect("features pretrained program --out f.npy", 1, "", "there is no checkpoint in 'pretrained'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_says_what_the_run_said_last),
        cmocka_unit_test(what_is_said_of_each_image_adds_up),
        cmocka_unit_test(predictions_are_written_a_line_an_image),
        cmocka_unit_test(the_page_has_the_worst_images_in_it),
        cmocka_unit_test(folders_by_name_and_by_number_are_the_same_data),
        cmocka_unit_test(numbered_folders_are_not_taken_in_the_order_of_letters),
        cmocka_unit_test(a_subset_is_scored_among_its_own_classes_when_asked),
        cmocka_unit_test(a_class_that_there_is_not_is_named_with_the_nearest),
        cmocka_unit_test(real_labels_score_images_that_have_any),
        cmocka_unit_test(real_labels_that_are_not_for_this_data_are_refused),
        cmocka_unit_test(lists_of_classes_that_cannot_be_are_refused),
        cmocka_unit_test(weights_that_are_not_the_whole_classifier_are_refused),
        cmocka_unit_test(the_program_evaluates_runs_and_says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, train_once, NULL);
}
