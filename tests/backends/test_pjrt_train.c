/* test_pjrt_train.c - whole runs on the pjrt backend: the curve of the other backends, exact resume,
 * checkpoints that move between backends, and replicas that train as one device does. */
#include "pjrt_train.h"

static const char *other_backend(void)
{
    return has_backend("cpu") ? "backend.name=cpu" : "";
}

static void the_curve_is_that_of_the_other_backend(void **state)
{
    (void)state;
    needs_device();
    must_train("there", 0, other_backend());
    must_train("here", 0, with_cache(""));
    assert_same_curve("here", "there", 1e-4);
}

static void a_resumed_run_equals_one_that_was_not_stopped(void **state)
{
    (void)state;
    needs_device();
    check_resume("plain", "");
}

static void a_resumed_run_on_two_replicas_equals_one_that_was_not_stopped(void **state)
{
    (void)state;
    needs_device();
    check_resume("two", "backend.replicas=2");
}

static void a_checkpoint_moves_between_backends_when_told_to(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_run_result result;
    char there[64];
    snprintf(there, sizeof there, "%s", other_backend());
    must_train("stays", 0, there);
    must_train("moves", 0, there);
    forget_after("moves", 4);
    ASSERT_FAILS(train("moves", RESUME, with_cache(""), &result, &err), DG_ERR_MISMATCH, "--force");
    assert_non_null(strstr(err.message, "backend"));
    must_train("moves", RESUME | FORCE, with_cache(""));
    assert_same_curve("moves", "stays", 1e-4);
    forget_after("moves", 8); /* written by pjrt */
    must_train("moves", RESUME | FORCE, there);
    assert_same_curve("moves", "stays", 1e-4);
}

/* ---- replicas */

/* Runs of 2, 4, ... up to `most` replicas against one. */
static void check_replicas(const char *name, int most, const char *overrides)
{
    char run[64], one[64], text[512];
    snprintf(one, sizeof one, "%s-1", name);
    must_train(one, 0, with_cache(overrides));
    for (int n = 2; n <= most; n *= 2) {
        snprintf(run, sizeof run, "%s-%d", name, n);
        snprintf(text, sizeof text, "backend.replicas=%d %s", n, overrides);
        must_train(run, 0, with_cache(text));
        assert_same_curve(run, one, 2e-5);
    }
}

static void replicas_train_as_one_device_does(void **state)
{
    (void)state;
    needs_device();
    check_replicas("replicas", 4, "");
}

static void replicas_clip_and_accumulate_as_one_device_does(void **state)
{
    (void)state;
    needs_device();
    check_replicas("both", 2, "optimizer.clip_norm=0.05 train.accumulate=2");
}

/* The loss of MAE is a weighted mean, whose weights are summed over replicas too. */
static void replicas_share_a_weighted_mean(void **state)
{
    (void)state;
    needs_device();
    check_replicas("weighted", 2,
                   "model.name=mae model.size=free model.width=16 model.depth=1 model.heads=2 "
                   "model.patch=8 model.decoder_width=16 model.decoder_depth=1 model.decoder_heads=2");
}

static void a_batch_that_replicas_cannot_share_is_refused(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_run_result result;
    ASSERT_FAILS(train("uneven", 0, with_cache("backend.replicas=4 data.batch=6"), &result, &err),
                 DG_ERR_INVALID, "6 images cannot be shared by 4 ranks evenly");
    assert_string_equal(err.key, "data.batch");
}

/* A weight that is not a number is found on whichever replica it shows. */
static void a_loss_that_is_not_finite_is_traced_on_replicas(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_run_result result;
    ASSERT_FAILS(train("nan", 0, with_cache("backend.replicas=2 optimizer.lr=1e38"), &result, &err),
                 DG_ERR_NOT_FINITE, "First tensor that is not finite");
    assert_null(strstr(err.message, "not known"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_curve_is_that_of_the_other_backend),
        cmocka_unit_test(a_resumed_run_equals_one_that_was_not_stopped),
        cmocka_unit_test(a_resumed_run_on_two_replicas_equals_one_that_was_not_stopped),
        cmocka_unit_test(a_checkpoint_moves_between_backends_when_told_to),
        cmocka_unit_test(replicas_train_as_one_device_does),
        cmocka_unit_test(replicas_clip_and_accumulate_as_one_device_does),
        cmocka_unit_test(replicas_share_a_weighted_mean),
        cmocka_unit_test(a_batch_that_replicas_cannot_share_is_refused),
        cmocka_unit_test(a_loss_that_is_not_finite_is_traced_on_replicas),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
