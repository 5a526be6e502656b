/* test_average.c - moving averages of the weights: their values, in checkpoints, in evaluations. */
#include "probe_support.h"

#include "io/json.h"
#include "train/assess.h"

static dg_error err = DG_ERROR_INIT;

static const char finetune[] =
    "task=finetune data.synthetic_val_images=40 finetune.mixup=0 finetune.cutmix=0 finetune.erase=0 "
    "finetune.randaugment='' finetune.drop_path=0 finetune.head_std=0.5 train.epochs=2 ~train.steps "
    "train.checkpoint_every=1 train.ema_decay=0.9";
enum { LAST = 32, VALIDATION = 40 }; /* two epochs of 64 images, 4 a step */

static dg_weights *open_file(const char *run, int64_t step, const char *file)
{
    char path[800];
    dg_weights *w;
    snprintf(path, sizeof path, "%s/checkpoints/step-%010lld/%s", test_path(run), (long long)step, file);
    ASSERT_OK(dg_weights_open(path, &w, &err));
    return w;
}

static float *values_of(const dg_weights *w, const char *name)
{
    const dg_weight *t = dg_weights_find(w, name);
    assert_non_null(t);
    float *x = dg_calloc((size_t)t->count, sizeof *x);
    ASSERT_OK(dg_weight_read_f32(t, x, (size_t)t->count, &err));
    return x;
}

/* after = d before + (1 - d) weights, tensor by tensor; how far the weights are from the average. */
static double check_average(const dg_weights *before, const dg_weights *weights, const dg_weights *after,
                            double d)
{
    double apart = 0;
    assert_int_equal(dg_weights_count(after), dg_weights_count(weights));
    for (size_t i = 0; i < dg_weights_count(weights); i++) {
        const dg_weight *t = dg_weights_at(weights, i);
        float *a = values_of(before, t->name), *w = values_of(weights, t->name),
              *b = values_of(after, t->name);
        for (int64_t k = 0; k < t->count; k++) {
            double want = d * (double)a[k] + (1 - d) * (double)w[k];
            if (!(fabs((double)b[k] - want) <= 1e-6 * fmax(1, fabs(want))))
                fail_msg("%s, element %lld: %.9g, not %.9g", t->name, (long long)k, (double)b[k], want);
            apart = fmax(apart, fabs((double)w[k] - (double)b[k]));
        }
        dg_free(a);
        dg_free(w);
        dg_free(b);
    }
    return apart;
}

static void check_steps(const char *name, const char *overrides)
{
    char all[1024], start[900];
    snprintf(start, sizeof start, "%s/checkpoints/step-0000000001/model.safetensors", test_path("start"));
    must_train("start", RESUME, "train.steps=1 seed=8");
    snprintf(all, sizeof all,
             "optimizer.warmup_steps=0 train.ema_decay=0.75 train.steps=3 train.checkpoint_every=1 "
             "train.init_from=%s %s",
             start, overrides);
    must_train(name, 0, all);
    dg_weights *before;
    ASSERT_OK(dg_weights_open(start, &before, &err));
    for (int64_t step = 1; step <= 3; step++) {
        dg_weights *weights = open_file(name, step, "model.safetensors"),
                   *after = open_file(name, step, "average.safetensors");
        assert_true(check_average(before, weights, after, 0.75) > 1e-4);
        dg_weights_close(before);
        dg_weights_close(weights);
        before = after;
    }
    dg_weights_close(before);
}

static void the_average_begins_as_the_weights_and_follows_them_by_the_decay(void **state)
{
    (void)state;
    check_steps("plain", "");
}

static void with_accumulation_and_clipping_it_follows_each_update(void **state)
{
    (void)state;
    check_steps("both", "train.accumulate=2 optimizer.clip_norm=0.5 data.batch=2");
}

static void a_backend_that_updates_in_place_gives_the_same(void **state)
{
    (void)state;
    if (!has_backend("cpu")) skip();
    check_steps("cpu", "backend.name=cpu");
}

static void it_changes_nothing_in_the_weights(void **state)
{
    (void)state;
    char a[33], b[33];
    must_train("without", 0, "train.steps=3");
    must_train("with", 0, "train.steps=3 train.ema_decay=0.9");
    assert_same_file("without", "with", "metrics.jsonl");
    dg_weights *x = open_file("without", 3, "model.safetensors"),
               *y = open_file("with", 3, "model.safetensors");
    ASSERT_OK(dg_weights_fingerprint(x, a, &err));
    ASSERT_OK(dg_weights_fingerprint(y, b, &err));
    assert_string_equal(a, b);
    dg_weights_close(x);
    dg_weights_close(y);
}

static void a_resumed_run_has_the_same_average(void **state)
{
    (void)state;
    static const char overrides[] = "train.ema_decay=0.9 train.accumulate=2 data.batch=2";
    must_train("straight", 0, overrides);
    must_train("resumed", 0, overrides);
    forget_after("resumed", 4);
    must_train("resumed", RESUME, overrides);
    assert_same_run("straight", "resumed", 10);
    assert_same_file("straight", "resumed", "checkpoints/step-0000000010/average.safetensors");
}

static void a_resume_with_another_decay_or_without_the_file_is_refused(void **state)
{
    (void)state;
    char path[800];
    dg_run_result result;
    must_train("other", 0, "train.ema_decay=0.9");
    forget_after("other", 4);
    ASSERT_FAILS(train("other", RESUME, "train.ema_decay=0.5", &result, &err), DG_ERR_MISMATCH,
                 "train.ema_decay: 0.9 then, 0.5 now");
    snprintf(path, sizeof path, "%s/checkpoints/step-0000000004/average.safetensors", test_path("other"));
    assert_int_equal(remove(path), 0);
    assert_int_not_equal(train("other", RESUME, "train.ema_decay=0.9", &result, &err), DG_OK);
    assert_non_null(strstr(err.message, "average.safetensors"));
}

/* The shares and the loss of the validation data with a file of weights. */
static dg_eval_result evaluate(const char *weights)
{
    opened o;
    dg_assessor a = {0};
    dg_source *source;
    dg_assessment x;
    open_recipe(&o, finetune);
    ASSERT_OK(dg_assessor_open(o.recipe, o.plugins.registry, weights, NULL, &a, &err));
    ASSERT_OK(dg_dataset_open_validation(o.recipe, NULL, NULL, &source, &err));
    ASSERT_OK(dg_assess(&a, source, &(dg_assess_options){false, NULL}, &x, &err));
    dg_eval_result r = x.result;
    dg_assessment_free(&x);
    dg_source_close(source);
    dg_assessor_close(&a);
    close_recipe(&o);
    assert_int_equal(r.images, VALIDATION);
    return r;
}

static void expect_row(const char *metrics, int64_t step, const char *weights, bool there)
{
    dg_eval_result r = evaluate(weights);
    dg_str row = {0};
    dg_str_printf(&row, "{\"step\":%lld,\"epoch\":%lld,\"val_top1\":", (long long)step, (long long)step / 16);
    dg_json_put_number(&row, r.top1);
    dg_str_puts(&row, ",\"val_top5\":");
    dg_json_put_number(&row, r.top5);
    dg_str_puts(&row, ",\"val_loss\":");
    dg_json_put_number(&row, r.loss);
    if (!strstr(metrics, row.text) == there)
        fail_msg("%s is%s in\n%s", row.text, there ? " not" : "", metrics);
    dg_str_free(&row);
}

/* Which of the two epochs was the better, and its row is of the averages. */
static void a_fine_tuning_evaluates_and_keeps_the_average(void **state)
{
    (void)state;
    char path[900];
    size_t n;
    must_train("fine", 0, finetune);
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_path("fine"));
    char *metrics = read_file(path, &n);
    double top1[2];
    for (int64_t epoch = 1; epoch <= 2; epoch++) {
        snprintf(path, sizeof path, "%s/checkpoints/step-%010lld/average.safetensors", test_path("fine"),
                 (long long)epoch * 16);
        expect_row(metrics, epoch * 16, path, true);
        top1[epoch - 1] = evaluate(path).top1;
        snprintf(path, sizeof path, "%s/checkpoints/step-%010lld/model.safetensors", test_path("fine"),
                 (long long)epoch * 16);
        expect_row(metrics, epoch * 16, path, false);
    }
    char a[33], b[33], *last = NULL;
    dg_weights *best,
        *average = open_file("fine", top1[1] > top1[0] ? LAST : LAST / 2, "average.safetensors");
    snprintf(path, sizeof path, "%s/best.safetensors", test_path("fine"));
    ASSERT_OK(dg_weights_open(path, &best, &err));
    ASSERT_OK(dg_weights_fingerprint(best, a, &err));
    ASSERT_OK(dg_weights_fingerprint(average, b, &err));
    assert_string_equal(a, b);
    dg_weights_close(best);
    dg_weights_close(average);
    ASSERT_OK(dg_rundir_weights(test_path("fine"), false, &last, &err));
    assert_non_null(strstr(last, "step-0000000032/average.safetensors"));
    dg_free(last);
    dg_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_average_begins_as_the_weights_and_follows_them_by_the_decay),
        cmocka_unit_test(with_accumulation_and_clipping_it_follows_each_update),
        cmocka_unit_test(a_backend_that_updates_in_place_gives_the_same),
        cmocka_unit_test(it_changes_nothing_in_the_weights),
        cmocka_unit_test(a_resumed_run_has_the_same_average),
        cmocka_unit_test(a_resume_with_another_decay_or_without_the_file_is_refused),
        cmocka_unit_test(a_fine_tuning_evaluates_and_keeps_the_average),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
