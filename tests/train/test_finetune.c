/* test_finetune.c - fine-tuning: what the program makes of pictures and labels, whole runs, labels that do
 * not fit. */
#include "train_support.h"

#include "data/image.h"
#include "data/mix.h"
#include "digpt/philox.h"
#include "digpt/vit.h"
#include "train/classify.h"
#include "train/finetune.h"

static dg_error err = DG_ERROR_INIT;

static const char finetune[] =
    "task=finetune data.synthetic_val_images=20 finetune.evaluate_batch=8 finetune.head_std=0.1";
enum { BATCH = 4, SIDE = 32, CLASSES = 10, PIXELS = SIDE * SIDE * 3 };

/* ---- pictures and targets in the program */

/* The first batch of a fine-tuning step with all its taps; s->plan.batch must be BATCH. */
static void open_classifier(stepper *s, dg_finetune *f, const char *overrides)
{
    char all[1024];
    dg_step_spec spec;
    memset(s, 0, sizeof *s);
    snprintf(all, sizeof all, "%s %s", finetune, overrides);
    open_recipe(&s->o, all);
    ASSERT_OK(dg_parts_open(s->o.recipe, s->o.plugins.registry, true, &s->parts, &err));
    ASSERT_OK(dg_dataset_open(s->o.recipe, NULL, &s->source, &err));
    ASSERT_OK(dg_run_make_plan(&s->parts, dg_source_count(s->source), &s->plan, &err));
    ASSERT_OK(dg_task_spec(&s->parts, &s->plan, CLASSES, f, &spec, &err));
    spec.taps = true;
    ASSERT_OK(dg_step_build(&s->parts, &spec, &s->step, &err));
    ASSERT_OK(dg_state_open(&s->parts, &s->state, &err));
    ASSERT_OK(dg_state_init(&s->state, s->step.forward, s->parts.seed, false, &err));
    ASSERT_OK(dg_inputs_open(&s->parts, s->step.train, &s->inputs, &err));
    s->inputs.fill = dg_finetune_fill;
    s->inputs.user = f;
    const dg_program *p = s->step.train;
    ASSERT_OK(dg_backend_of(&s->parts)->compile(s->parts.backend.self, p, s->state.store, &s->exe, &err));
    s->outputs = dg_calloc(p->n_outputs, sizeof *s->outputs);
    for (uint32_t i = 0; i < p->n_outputs; i++)
        s->outputs[i] = dg_calloc((size_t)dg_type_count(&p->values[p->outputs[i].value].type), sizeof(float));
    dg_loader_config c = dg_dataset_config(&s->parts, 0, 1);
    c.second_height = c.second_width = 0;
    ASSERT_OK(dg_loader_open(&c, s->source, &s->loader, &err));
    ASSERT_OK(dg_loader_next(s->loader, &s->batch, &err));
}

/* timm's order by hand: normalise, erase by noise, mix. x [batch, channels, h, w], for dg_mix_pixels. */
static void by_hand(const stepper *s, const dg_finetune *f, float *out)
{
    static float x[BATCH * PIXELS], noise[PIXELS];
    dg_erasing erasing = DG_ERASING_INIT;
    dg_mixing mixing = {f->mixup, f->cutmix, f->mix_probability, f->mix_switch};
    erasing.probability = f->erase;
    for (int i = 0; i < BATCH; i++) {
        uint64_t ordinal = (uint64_t)s->batch->ordinals[i];
        dg_box box = dg_draw_erase(&erasing, s->parts.seed, ordinal, SIDE, SIDE);
        if (f->erase > 0)
            ASSERT_OK(dg_finetune_fill((void *)(uintptr_t)f, "erase_noise",
                                       &(dg_batch){.size = 1, .ordinals = &s->batch->ordinals[i]}, noise,
                                       sizeof noise, &err));
        for (int k = 0; k < PIXELS; k++) {
            int c = k % 3, at = k / 3, row = at / SIDE, column = at % SIDE;
            bool gone = row >= box.top && row < box.top + box.height && column >= box.left &&
                        column < box.left + box.width;
            double v = (s->batch->images[i * PIXELS + k] / 255.0 - dg_imagenet_mean[c]) / dg_imagenet_std[c];
            x[(i * 3 + c) * SIDE * SIDE + at] = gone ? noise[k] : (float)v;
        }
    }
    dg_mix mix = dg_draw_mix(&mixing, s->parts.seed, 0, 0, SIDE, SIDE);
    dg_mix_pixels(&mix, x, BATCH, 3, SIDE, SIDE, out);
}

static void check_pictures(const char *overrides)
{
    static float want[BATCH * PIXELS], targets[BATCH * CLASSES];
    stepper s;
    dg_finetune f;
    int64_t n;
    open_classifier(&s, &f, overrides);
    run_stepper(&s, 0);
    const float *seen = output_of(&s, "seen", &n);
    assert_int_equal(n, BATCH * PIXELS);
    by_hand(&s, &f, want);
    for (int i = 0; i < BATCH; i++)
        for (int k = 0; k < PIXELS; k++) {
            double have = (double)seen[i * PIXELS + k],
                   expected = (double)want[(i * 3 + k % 3) * SIDE * SIDE + k / 3];
            if (!(fabs(have - expected) < 1e-5))
                fail_msg("%s: picture %d, number %d is %g, not %g", overrides, i, k, have, expected);
        }
    dg_mixing mixing = {f.mixup, f.cutmix, f.mix_probability, f.mix_switch};
    dg_mix mix = dg_draw_mix(&mixing, s.parts.seed, 0, 0, SIDE, SIDE);
    ASSERT_OK(dg_soft_targets(&mix, s.batch->labels, BATCH, CLASSES, f.classify.smoothing, targets, &err));
    const float *have = output_of(&s, "targets", &n);
    assert_int_equal(n, BATCH * CLASSES);
    for (int i = 0; i < n; i++) assert_true(fabsf(have[i] - targets[i]) < 1e-6f);
    close_stepper(&s);
}

static void the_program_erases_and_mixes_as_the_reference_does(void **state)
{
    (void)state;
    check_pictures("finetune.cutmix=0 finetune.erase=0");
    check_pictures("finetune.mixup=0 finetune.erase=0");
    check_pictures("finetune.mixup=0 finetune.cutmix=0 finetune.erase=1");
    check_pictures("finetune.erase=1 seed=3");
    check_pictures("finetune.erase=1 seed=4");
}

static void the_loss_is_the_cross_entropy_with_the_soft_targets(void **state)
{
    (void)state;
    stepper s;
    dg_finetune f;
    int64_t n;
    double sum = 0;
    open_classifier(&s, &f, "");
    run_stepper(&s, 0);
    const float *logits = output_of(&s, "logits", &n), *targets = output_of(&s, "targets", &n);
    for (int i = 0; i < BATCH; i++) {
        double all = 0;
        for (int c = 0; c < CLASSES; c++) all += exp((double)logits[i * CLASSES + c]);
        for (int c = 0; c < CLASSES; c++)
            sum -= (double)targets[i * CLASSES + c] * ((double)logits[i * CLASSES + c] - log(all));
    }
    assert_true(fabs((double)output_of(&s, "loss", &n)[0] - sum / BATCH) < 1e-5);
    close_stepper(&s);
}

/* ---- drop path */

/* 12 blocks, of which the k-th is dropped with 0.2 k / 11; what is kept is scaled so that the mean is 1. */
static void branches_are_dropped_at_rates_that_grow_with_depth(void **state)
{
    (void)state;
    enum { DRAWS = 100000, DEPTH = 12, AT_ONCE = 100 };
    static float keep[AT_ONCE][2 * DEPTH];
    dg_finetune f = {.drop_path = 0.2, .seed = 3};
    int64_t dropped[2 * DEPTH] = {0}, ordinals[AT_ONCE];
    double sum = 0;
    for (int at = 0; at < DRAWS; at += AT_ONCE) {
        for (int i = 0; i < AT_ONCE; i++) ordinals[i] = at + i;
        const dg_batch batch = {.size = AT_ONCE, .ordinals = ordinals};
        ASSERT_OK(dg_finetune_fill(&f, "drop_path", &batch, keep, sizeof keep, &err));
        for (int i = 0; i < AT_ONCE; i++)
            for (int k = 0; k < 2 * DEPTH; k++) {
                double rate = 0.2 * (k / 2) / (DEPTH - 1), value = (double)keep[i][k];
                assert_true(value == 0 || fabs(value - 1 / (1 - rate)) < 1e-6);
                dropped[k] += value == 0;
                sum += value;
            }
    }
    for (int k = 0; k < 2 * DEPTH; k++) {
        double rate = 0.2 * (k / 2) / (DEPTH - 1), share = (double)dropped[k] / DRAWS;
        if (!(fabs(share - rate) <= 4 * sqrt(rate * (1 - rate) / DRAWS)))
            fail_msg("branch %d: dropped %g of the time, not %g", k, share, rate);
    }
    assert_true(fabs(sum / (DRAWS * 2.0 * DEPTH) - 1) < 1e-3);
}

/* ---- whole runs */

static void a_run_with_everything_on_resumes_exactly(void **state)
{
    (void)state;
    char all[512];
    snprintf(all, sizeof all,
             "%s finetune.colour_jitter=0.3 finetune.drop_path=0.3 optimizer.clip_norm=1 "
             "train.steps=20 train.checkpoint_every=5",
             finetune);
    must_train("straight", 0, all);
    must_train("resumed", 0, all);
    forget_after("resumed", 15); /* one epoch of 16 is still to be evaluated */
    must_train("resumed", RESUME, all);
    assert_same_run("straight", "resumed", 20);
    assert_same_file("straight", "resumed", "best.safetensors");
}

/* Accuracy is told to the program's own evaluation; the best weights stay when a later epoch is worse. */
static void the_best_weights_stay_when_it_gets_worse(void **state)
{
    (void)state;
    char path[600], a[33], b[33];
    size_t n;
    dg_weights *best, *first;
    char all[600];
    snprintf(all, sizeof all,
             "%s train.steps=32 train.checkpoint_every=16 optimizer.warmup_steps=0 "
             "optimizer.lr=0 data.synthetic_val_images=20",
             finetune);
    must_train("flat", 0, all); /* nothing is learnt: the second epoch is as good, not better */
    snprintf(path, sizeof path, "%s/best.safetensors", test_path("flat"));
    ASSERT_OK(dg_weights_open(path, &best, &err));
    assert_string_equal(dg_weights_meta(best, "step"), "16");
    dg_weights_close(best);
    snprintf(path, sizeof path, "%s/checkpoints/step-0000000016", test_path("flat"));
    ASSERT_OK(dg_weights_open(path, &first, &err));
    snprintf(path, sizeof path, "%s/best.safetensors", test_path("flat"));
    ASSERT_OK(dg_weights_open(path, &best, &err));
    ASSERT_OK(dg_weights_fingerprint(best, a, &err));
    ASSERT_OK(dg_weights_fingerprint(first, b, &err));
    assert_string_equal(a, b);
    dg_weights_close(best);
    dg_weights_close(first);
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_path("flat"));
    char *text = read_file(path, &n);
    assert_non_null(strstr(text, "\"step\":16,\"epoch\":1,\"val_top1\":"));
    assert_non_null(strstr(text, "\"step\":32,\"epoch\":2,\"val_top1\":"));
    dg_free(text);
}

static void a_few_images_are_learnt_by_heart(void **state)
{
    (void)state;
    dg_run_result result;
    char all[600];
    snprintf(
        all, sizeof all,
        "%s finetune.mixup=0 finetune.cutmix=0 finetune.erase=0 finetune.randaugment='' finetune.smoothing=0 "
        "finetune.drop_path=0 finetune.layer_decay=1 data.synthetic_images=8 data.batch=8 data.flip=0 "
        "data.views=1 train.steps=60 optimizer.lr=1e-2 optimizer.weight_decay=0 train.log_every=60",
        finetune);
    ASSERT_OK(train("heart", 0, all, &result, &err));
    if (!(result.loss < 0.7)) fail_msg("the mean loss is %g", result.loss); /* it begins at ln 10 */
}

/* ---- labels and classes that do not fit */

/* Pictures of one colour: NAME/CLASS/0.png, and a list NAME.txt of the same with labels. */
static void write_folder(const char *name, const char *const *classes, int n, int empty)
{
    uint8_t pixels[8 * 8 * 3];
    char path[600];
    void *bytes;
    size_t size;
    for (int i = 0; i < n; i++) {
        memset(pixels, 20 * i, sizeof pixels);
        snprintf(path, sizeof path, "%s/%s", test_path(name), classes[i]);
        ASSERT_OK(dg_dir_make(path, &err));
        ASSERT_OK(dg_image_encode_png(pixels, 8, 8, &bytes, &size, &err));
        for (int k = 0; k < 4 && i != empty; k++) {
            snprintf(path, sizeof path, "%s/%s/%d.png", test_path(name), classes[i], k);
            test_write(path, bytes, size);
        }
        dg_free(bytes);
    }
}

static dg_status train_on(const char *run, const char *kind, const char *data, const char *val,
                          const char *more)
{
    char all[1024], a[300], b[300];
    dg_run_result result;
    snprintf(a, sizeof a, "%s", test_path(data));
    snprintf(b, sizeof b, "%s", test_path(val));
    snprintf(all, sizeof all, "%s data.source=%s data.path=%s data.val_path=%s train.steps=2 %s", finetune,
             kind, a, b, more);
    log_text[0] = 0;
    return train(run, 0, all, &result, &err);
}

static int write_data(void **state)
{
    static const char *const animals[] = {"cat", "dog", "emu"}, *const others[] = {"cat", "cow", "emu"},
                             *const more[] = {"cat", "dog", "emu", "fox"};
    quiet(state);
    write_folder("animals", animals, 3, -1);
    write_folder("others", others, 3, -1);
    write_folder("more", more, 4, -1);
    write_folder("gap", animals, 3, 1);
    dg_str list = {0};
    for (int i = 0; i < 12; i++)
        dg_str_printf(&list, "animals/%s/%d.png%s\n", animals[i % 3], i / 3,
                      i == 7       ? ""
                      : i % 3 == 0 ? "\t0"
                                   : "\t1");
    test_write(test_path("unlabelled.txt"), list.text, list.length);
    dg_str_free(&list);
    test_write(test_path("high.txt"), "animals/cat/0.png\t0\nanimals/dog/0.png\t7\n", 40);
    return 0;
}

static void classes_that_differ_are_named(void **state)
{
    (void)state;
    ASSERT_FAILS(train_on("differ", "folder", "animals", "others", ""), DG_ERR_MISMATCH,
                 "class 1 is 'dog' in the training data and 'cow' in the validation data");
    assert_string_equal(err.key, "data.val_path");
    ASSERT_FAILS(train_on("more-classes", "folder", "animals", "more", ""), DG_ERR_MISMATCH,
                 "the validation data has 4 classes and the training data 3");
    ASSERT_OK(train_on("same", "folder", "animals", "animals", ""));
}

static void a_class_without_images_keeps_its_number_and_is_told(void **state)
{
    (void)state;
    ASSERT_OK(train_on("gap-train", "folder", "gap", "animals", "data.batch=2"));
    assert_non_null(strstr(log_text, "class folder 'dog' has no image"));
    ASSERT_OK(train_on("gap-val", "folder", "animals", "gap", ""));
    assert_non_null(strstr(log_text, "class folder 'dog' has no image"));
}

static void a_label_out_of_range_is_refused(void **state)
{
    (void)state;
    ASSERT_FAILS(train_on("said", "folder", "more", "more", "finetune.classes=3"), DG_ERR_MISMATCH,
                 "3 classes are asked for and the training data has 4");
    assert_string_equal(err.key, "finetune.classes");
    ASSERT_OK(train_on("head", "folder", "animals", "animals", "finetune.classes=5")); /* more are fine */
    ASSERT_FAILS(train_on("high", "list", "unlabelled.txt", "high.txt", "data.batch=2"), DG_ERR_MISMATCH,
                 "the validation data has 8 classes and the training data 2");
}

static void an_image_without_a_label_is_named(void **state)
{
    (void)state;
    char all[64] = "data.batch=12";
    ASSERT_FAILS(train_on("unlabelled", "list", "unlabelled.txt", "unlabelled.txt", all), DG_ERR_MISMATCH,
                 "sample 7 has no label, and a classifier is trained with labels");
    test_write(test_path("none.txt"), "animals/cat/0.png\nanimals/dog/0.png\n", 36);
    ASSERT_FAILS(train_on("none", "list", "none.txt", "none.txt", "data.batch=2"), DG_ERR_INVALID,
                 "the training data has 0 classes: fine-tuning needs labels of at least two");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_program_erases_and_mixes_as_the_reference_does),
        cmocka_unit_test(the_loss_is_the_cross_entropy_with_the_soft_targets),
        cmocka_unit_test(branches_are_dropped_at_rates_that_grow_with_depth),
        cmocka_unit_test(a_run_with_everything_on_resumes_exactly),
        cmocka_unit_test(the_best_weights_stay_when_it_gets_worse),
        cmocka_unit_test(a_few_images_are_learnt_by_heart),
        cmocka_unit_test(classes_that_differ_are_named),
        cmocka_unit_test(a_class_without_images_keeps_its_number_and_is_told),
        cmocka_unit_test(a_label_out_of_range_is_refused),
        cmocka_unit_test(an_image_without_a_label_is_named),
    };
    return cmocka_run_group_tests(tests, write_data, NULL);
}
