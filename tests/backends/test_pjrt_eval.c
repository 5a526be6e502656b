/* test_pjrt_eval.c - evaluating a classifier on replicas: every image counts once, whatever batch and
 * replicas are. */
#include "pjrt_train.h"

#include "train/assess.h"

static const char finetune[] =
    "task=finetune data.synthetic_val_images=17 data.synthetic_images=16 finetune.mixup=0 finetune.cutmix=0 "
    "finetune.erase=0 finetune.randaugment='' finetune.drop_path=0 finetune.head_std=0.5 train.steps=2";
enum { IMAGES = 17 };

static dg_eval_result evaluate(const char *overrides)
{
    opened o;
    dg_error err;
    dg_assessor a = {0};
    dg_source *source;
    dg_eval_result r;
    char all[1500], weights[800];
    snprintf(all, sizeof all, "%s %s", finetune, overrides);
    snprintf(weights, sizeof weights, "%s/checkpoints/step-0000000002/model.safetensors", test_path("run"));
    open_recipe(&o, all);
    ASSERT_OK(dg_assessor_open(o.recipe, o.plugins.registry, weights, NULL, &a, &err));
    ASSERT_OK(dg_dataset_open_validation(o.recipe, NULL, NULL, &source, &err));
    dg_loader_config c = dg_evaluation_config(&a.parts, a.evaluator.batch);
    ASSERT_OK(dg_evaluate(&a.evaluator, source, &c, NULL, NULL, NULL, &r, &err));
    dg_source_close(source);
    dg_assessor_close(&a);
    close_recipe(&o);
    return r;
}

/* Batches of 5 and 4 leave a part of 2 and of 1 at the end; neither is shared evenly by 3 replicas. */
static void every_image_counts_once_on_replicas_too(void **state)
{
    (void)state;
    needs_device();
    static const char *const ways[] = {"finetune.evaluate_batch=5",
                                       "backend.replicas=2 finetune.evaluate_batch=4",
                                       "backend.replicas=3 finetune.evaluate_batch=5"};
    must_train("run", 0, finetune);
    dg_eval_result want = evaluate("");
    assert_int_equal(want.images, IMAGES);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        dg_eval_result r = evaluate(with_cache(ways[i]));
        assert_int_equal(r.images, IMAGES);
        assert_float_equal(r.top1, want.top1, 1e-12);
        assert_float_equal(r.top5, want.top5, 1e-12);
        assert_float_equal(r.loss, want.loss, 1e-5 * want.loss);
        int64_t counted = 0;
        for (int64_t c = 0; c < r.classes; c++) {
            assert_int_equal(r.class_images[c], want.class_images[c]);
            counted += r.class_images[c];
        }
        assert_int_equal(counted, IMAGES);
        dg_eval_result_free(&r);
    }
    dg_eval_result_free(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_image_counts_once_on_replicas_too),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
