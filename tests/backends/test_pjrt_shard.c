/* test_pjrt_shard.c - optimizer.shard: replicas that each keep a part of the moments train as one device
 * does, and their checkpoints are those of anybody. */
#include "pjrt_train.h"

/* What n replicas must be told; more overrides follow. */
static const char *sharing(int replicas, const char *overrides)
{
    static char text[600];
    snprintf(text, sizeof text, "backend.replicas=%d optimizer.shard=true %s", replicas, overrides);
    return text;
}

/* Runs of 2, 3 or 4 replicas against one device. */
static void check_curve(const char *name, int replicas, const char *overrides)
{
    char one[64], run[64];
    snprintf(one, sizeof one, "%s-one", name);
    snprintf(run, sizeof run, "%s-%d", name, replicas);
    must_train(one, RESUME, with_cache(overrides)); /* once */
    must_train(run, 0, with_cache(sharing(replicas, overrides)));
    assert_same_curve(run, one, 2e-5);
}

static void sharing_replicas_train_as_one_device_does(void **state)
{
    (void)state;
    needs_device();
    check_curve("plain", 2, "");
    check_curve("plain", 4, "");
}

/* Three do not divide the parameters: their parts end in zeros. */
static void parts_that_do_not_come_out_even_are_padded(void **state)
{
    (void)state;
    needs_device();
    check_curve("padded", 3, "data.batch=6");
}

static void sharing_replicas_clip_accumulate_and_average_as_one_device_does(void **state)
{
    (void)state;
    needs_device();
    check_curve("clip", 3, "data.batch=6 optimizer.clip_norm=0.05");
    check_curve("both", 2, "optimizer.clip_norm=0.05 train.accumulate=2 train.ema_decay=0.9");
}

/* The optimizer's file of a checkpoint has the tensors that it would have without sharing. */
static void checkpoints_do_not_show_that_replicas_share(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_weights *files[2];
    char path[800];
    must_train("apart", 0, with_cache("backend.replicas=2"));
    must_train("shared", 0, with_cache(sharing(2, "")));
    assert_same_curve("shared", "apart", 1e-6);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/checkpoints/step-0000000010/optimizer.safetensors",
                 test_path(i ? "shared" : "apart"));
        ASSERT_OK(dg_weights_open(path, &files[i], &err));
    }
    assert_int_equal(dg_weights_count(files[0]), dg_weights_count(files[1]));
    for (size_t k = 0; k < dg_weights_count(files[0]); k++) {
        const dg_weight *a = dg_weights_at(files[0], k), *b;
        ASSERT_OK(dg_weights_need(files[1], a->name, &b, &err));
        assert_int_equal(a->rank, b->rank);
        assert_memory_equal(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]);
        float *x = dg_calloc((size_t)a->count, sizeof *x), *y = dg_calloc((size_t)a->count, sizeof *y);
        ASSERT_OK(dg_weight_read_f32(a, x, (size_t)a->count, &err));
        ASSERT_OK(dg_weight_read_f32(b, y, (size_t)a->count, &err));
        double most = 0, off = 0;
        for (int64_t i = 0; i < a->count; i++) {
            most = fmax(most, fabs((double)x[i]));
            off = fmax(off, fabs((double)x[i] - (double)y[i]));
        }
        if (!(off <= 1e-3 * most)) fail_msg("%s is off by %g of %g", a->name, off, most);
        dg_free(x);
        dg_free(y);
    }
    for (int i = 0; i < 2; i++) dg_weights_close(files[i]);
}

static void a_resumed_sharing_run_equals_one_that_was_not_stopped(void **state)
{
    (void)state;
    needs_device();
    check_resume("two", sharing(2, ""));
    check_resume("three", sharing(3, "data.batch=6"));
}

/* One device, three that share, two that do not, two that share: each goes on from the checkpoint of the one
 * before it. */
static void a_checkpoint_goes_on_with_any_number_of_replicas(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_run_result result;
    static const char batch[] = "data.batch=6 train.checkpoint_every=2";
    char others[3][600];
    snprintf(others[0], sizeof others[0], "%s", sharing(3, batch));
    snprintf(others[1], sizeof others[1], "backend.replicas=2 %s", batch);
    snprintf(others[2], sizeof others[2], "%s", sharing(2, batch));
    must_train("stays", 0, with_cache(batch));
    must_train("moves", 0, with_cache(batch));
    for (int i = 0; i < 3; i++) {
        forget_after("moves", 2 + 2 * i);
        ASSERT_FAILS(train("moves", RESUME, with_cache(others[i]), &result, &err), DG_ERR_MISMATCH,
                     "--force");
        must_train("moves", RESUME | FORCE, with_cache(others[i]));
        assert_same_curve("moves", "stays", 2e-5);
    }
}

static void one_rank_has_nothing_to_share(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    ASSERT_FAILS(train("alone", 0, "optimizer.shard=true", &result, &err), DG_ERR_UNSUPPORTED,
                 "the backend 'reference' drives one here");
    assert_string_equal(err.key, "optimizer.shard");
    needs_device();
    ASSERT_FAILS(train("alone", 0, with_cache("optimizer.shard=true"), &result, &err), DG_ERR_UNSUPPORTED,
                 "the backend 'pjrt' drives one here");
}

/* Bytes of state on one device. */
static uint64_t state_bytes(const char *overrides)
{
    opened o;
    dg_error err;
    dg_parts parts = {0};
    dg_run_plan plan = {0};
    dg_step step = {0};
    dg_memory_need need = {.struct_size = sizeof need};
    open_recipe(&o, with_cache(overrides));
    ASSERT_OK(dg_parts_open(o.recipe, o.plugins.registry, true, &parts, &err));
    ASSERT_OK(dg_run_make_plan(&parts, 64, &plan, &err));
    const dg_step_spec spec = {.batch = plan.batch,
                               .ranks = dg_ranks_of(&parts),
                               .accumulate = 1,
                               .compute = DG_F32,
                               .shard = dg_recipe_bool(o.recipe, "optimizer.shard"),
                               .optimizer = plan.optimizer};
    ASSERT_OK(dg_step_build(&parts, &spec, &step, &err));
    ASSERT_OK(dg_backend_of(&parts)->memory(parts.backend.self, step.train, &need, &err));
    dg_step_destroy(&step);
    dg_parts_close(&parts);
    close_recipe(&o);
    return need.state;
}

/* Without anything frozen, state is three equal thirds: parameters and two moments. */
static void a_device_keeps_its_share_of_the_moments_only(void **state)
{
    (void)state;
    needs_device();
    uint64_t all = state_bytes("backend.replicas=4"), shared = state_bytes(sharing(4, ""));
    print_message("state on one of four devices: %llu bytes, %llu with optimizer.shard\n",
                  (unsigned long long)all, (unsigned long long)shared);
    assert_true(shared < all);
    double want = (double)all * (1 + 2.0 / 4) / 3;
    assert_true(fabs((double)shared - want) < 0.01 * want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sharing_replicas_train_as_one_device_does),
        cmocka_unit_test(parts_that_do_not_come_out_even_are_padded),
        cmocka_unit_test(sharing_replicas_clip_accumulate_and_average_as_one_device_does),
        cmocka_unit_test(checkpoints_do_not_show_that_replicas_share),
        cmocka_unit_test(a_resumed_sharing_run_equals_one_that_was_not_stopped),
        cmocka_unit_test(a_checkpoint_goes_on_with_any_number_of_replicas),
        cmocka_unit_test(one_rank_has_nothing_to_share),
        cmocka_unit_test(a_device_keeps_its_share_of_the_moments_only),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
