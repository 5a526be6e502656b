/* test_plan.c - from a recipe's numbers to steps: schedule, plan, weight decay, clipping. */
#include "train_support.h"

#include "train/schedule.h"

/* ---- schedule */

static void warm_up_is_linear_from_zero_and_the_cosine_ends_at_the_least(void **state)
{
    (void)state;
    const dg_schedule s = {2.0, 0.5, 10, 110};
    assert_true(dg_schedule_lr(&s, 0) == 0);
    assert_true(dg_schedule_lr(&s, 5) == 1);
    assert_true(dg_schedule_lr(&s, 10) == 2);
    assert_true(fabs(dg_schedule_lr(&s, 60) - 1.25) < 1e-12);
    assert_true(fabs(dg_schedule_lr(&s, 110) - 0.5) < 1e-12);
    assert_true(fabs(dg_schedule_lr(&s, 1000) - 0.5) < 1e-12);
    const dg_schedule none = {2.0, 0, 0, 4};
    assert_true(dg_schedule_lr(&none, 0) == 2);
    const dg_schedule only_warm_up = {2.0, 0, 8, 4};
    assert_true(dg_schedule_lr(&only_warm_up, 4) == 1);
}

/* ---- plan */

static dg_run_plan plan_of(const char *overrides, int64_t images)
{
    opened o;
    dg_parts parts = {0};
    dg_run_plan plan;
    dg_error err = DG_ERROR_INIT;
    open_recipe(&o, overrides);
    ASSERT_OK(dg_parts_open(o.recipe, o.plugins.registry, true, &parts, &err));
    ASSERT_OK(dg_run_make_plan(&parts, images, &plan, &err));
    dg_parts_close(&parts);
    close_recipe(&o);
    return plan;
}

static void epochs_leave_the_last_partial_batch_out(void **state)
{
    (void)state;
    dg_run_plan p = plan_of("~train.steps train.epochs=3 data.batch=10", 64);
    assert_int_equal(p.steps_per_epoch, 6);
    assert_int_equal(p.steps, 18);
    p = plan_of("~train.steps train.epochs=3 data.batch=10 train.accumulate=4", 64);
    assert_int_equal(p.steps, 4); /* of 18 batches */
}

static void steps_go_before_epochs(void **state)
{
    (void)state;
    dg_run_plan p = plan_of("train.steps=7 train.epochs=3", 64);
    assert_int_equal(p.steps, 7);
}

static void a_limit_makes_the_epoch_shorter(void **state)
{
    (void)state;
    dg_run_plan p = plan_of("~train.steps train.epochs=2 data.limit=20", 64);
    assert_int_equal(p.images, 20);
    assert_int_equal(p.steps, 10);
    assert_int_equal(plan_of("data.limit=200", 64).images, 64);
}

static void the_learning_rate_follows_the_effective_batch(void **state)
{
    (void)state;
    const char *base = "~optimizer.lr optimizer.base_lr=1e-3 ";
    char words[256];
    snprintf(words, sizeof words, "%s train.accumulate=4", base);
    assert_true(fabs(plan_of(words, 64).lr - 1e-3 * 16 / 256) < 1e-15);
    snprintf(words, sizeof words, "%s train.effective_batch=512", base);
    assert_true(fabs(plan_of(words, 64).lr - 2e-3) < 1e-15);
    assert_true(plan_of("optimizer.lr=0.5 train.effective_batch=512", 64).lr == 0.5);
}

static void warm_up_in_epochs_becomes_steps(void **state)
{
    (void)state;
    dg_run_plan p = plan_of("~optimizer.warmup_steps optimizer.warmup_epochs=1.5 train.accumulate=2", 64);
    assert_true(p.warmup_steps == 12); /* 1.5 epochs of 8 steps */
}

static void the_official_recipe_gives_the_official_numbers(void **state)
{
    (void)state;
    dg_run_plan p = plan_of("~train.steps train.epochs=300 data.batch=64 train.accumulate=64 ~optimizer.lr "
                            "~optimizer.warmup_steps optimizer.warmup_epochs=40",
                            1281167);
    assert_int_equal(p.effective_batch, 4096);
    assert_true(fabs(p.lr - 2.4e-3) < 1e-12);
    assert_int_equal(p.steps_per_epoch, 312);
    assert_true(p.optimizer.beta1 == 0.9 && p.optimizer.beta2 == 0.95 && p.optimizer.weight_decay == 0.05);
}

static void a_batch_larger_than_the_data_names_its_key(void **state)
{
    (void)state;
    opened o;
    dg_parts parts = {0};
    dg_run_plan plan;
    dg_error err = DG_ERROR_INIT;
    open_recipe(&o, "data.batch=65");
    ASSERT_OK(dg_parts_open(o.recipe, o.plugins.registry, true, &parts, &err));
    ASSERT_FAILS(dg_run_make_plan(&parts, 64, &plan, &err), DG_ERR_INVALID, "more than the 64 images");
    assert_string_equal(err.key, "data.batch");
    dg_parts_close(&parts);
    close_recipe(&o);
}

static void only_samples_below_the_limit_are_used(void **state)
{
    (void)state;
    opened o;
    dg_parts parts = {0};
    dg_source *source = NULL;
    dg_loader *loader = NULL;
    dg_error err = DG_ERROR_INIT;
    int seen[64] = {0};
    open_recipe(&o, "data.limit=12");
    ASSERT_OK(dg_parts_open(o.recipe, o.plugins.registry, true, &parts, &err));
    ASSERT_OK(dg_dataset_open(o.recipe, NULL, &source, &err));
    const dg_loader_config c = dg_dataset_config(&parts, 0, 6);
    ASSERT_OK(dg_loader_open(&c, source, &loader, &err));
    for (int i = 0; i < 6; i++) {
        const dg_batch *batch;
        ASSERT_OK(dg_loader_next(loader, &batch, &err));
        for (int32_t k = 0; k < batch->size; k++) seen[batch->ids[k]]++;
        dg_loader_release(loader, batch);
    }
    for (int i = 0; i < 64; i++) assert_int_equal(seen[i], i < 12 ? 2 : 0);
    dg_loader_close(loader);
    dg_source_close(source);
    dg_parts_close(&parts);
    close_recipe(&o);
}

/* ---- weight decay */

static void matrices_and_tokens_are_decayed_and_biases_and_norms_are_not(void **state)
{
    (void)state;
    stepper with, without;
    const double lr = 0.5, decay = 0.25;
    int decayed = 0, not_decayed = 0;
    open_stepper(&with, "optimizer.weight_decay=0.25", false);
    open_stepper(&without, "optimizer.weight_decay=0", false);
    run_stepper(&with, lr);
    run_stepper(&without, lr);
    for (uint32_t i = 0; i < with.step.train->n_leaves; i++) {
        const dg_program_leaf *leaf = &with.step.train->leaves[i];
        if (leaf->kind != DG_LEAF_PARAM) continue;
        const dg_type *t = &with.step.train->values[leaf->value].type;
        const dg_leaf *made =
            dg_graph_node(with.step.forward, dg_graph_leaf(with.step.forward, leaf->name).node)->leaf;
        int64_t n;
        float *a = state_of(&with, leaf->name, &n), *b = state_of(&without, leaf->name, &n),
              *first = dg_calloc((size_t)n, sizeof *first);
        dg_error err = DG_ERROR_INIT;
        ASSERT_OK(dg_init_values(made, with.parts.seed, first, &err));
        bool expected = t->rank > 1; /* the tokens are of rank 3 */
        for (int64_t k = 0; k < n; k++) {
            double want = expected ? -lr * decay * (double)first[k] : 0;
            if (!(fabs((double)a[k] - (double)b[k] - want) < 1e-6))
                fail_msg("%s[%lld]: %g with decay, %g without, %g at first", leaf->name, (long long)k,
                         (double)a[k], (double)b[k], (double)first[k]);
        }
        if (expected)
            decayed++;
        else
            not_decayed++;
        dg_free(a);
        dg_free(b);
        dg_free(first);
    }
    assert_true(decayed > 10 && not_decayed > 10);
    close_stepper(&with);
    close_stepper(&without);
}

/* ---- clipping */

/* The first moments after one step are (1 - beta1) times the clipped gradients. */
static void check_clipping(double clip, const char *overrides)
{
    stepper plain, clipped;
    double square = 0;
    int64_t n, m;
    open_stepper(&plain, "", true);
    open_stepper(&clipped, overrides, false);
    run_stepper(&plain, 0.01);
    run_stepper(&clipped, 0.01);
    for (uint32_t i = 0; i < plain.step.train->n_outputs; i++) {
        const char *name = plain.step.train->outputs[i].name;
        if (strncmp(name, "grad.", 5)) continue;
        const float *g = output_of(&plain, name, &n);
        for (int64_t k = 0; k < n; k++) square += (double)g[k] * (double)g[k];
    }
    const double norm = sqrt(square), factor = clip / (norm + 1e-6) < 1 ? clip / (norm + 1e-6) : 1;
    const float *said = output_of(&clipped, "grad_norm", &n);
    if (!(fabs((double)said[0] - norm) < 1e-5 * norm)) fail_msg("norm %g, not %g", (double)said[0], norm);
    for (uint32_t i = 0; i < plain.step.train->n_outputs; i++) {
        char moment[256];
        const char *name = plain.step.train->outputs[i].name;
        if (strncmp(name, "grad.", 5)) continue;
        snprintf(moment, sizeof moment, "optimizer.m.%s", name + 5);
        const float *g = output_of(&plain, name, &n);
        float *have = state_of(&clipped, moment, &m), most = 0;
        for (int64_t k = 0; k < n; k++) most = fmaxf(most, fabsf(g[k]));
        for (int64_t k = 0; k < n; k++)
            if (!(fabs((double)have[k] - 0.1 * factor * (double)g[k]) <=
                  1e-5 * factor * (double)most + 1e-12))
                fail_msg("%s[%lld] is %g, not %g", moment, (long long)k, (double)have[k],
                         0.1 * factor * (double)g[k]);
        dg_free(have);
    }
    close_stepper(&plain);
    close_stepper(&clipped);
}

static void a_long_gradient_is_cut_to_the_norm(void **state)
{
    (void)state;
    check_clipping(0.01, "optimizer.clip_norm=0.01");
}

static void a_short_gradient_stays(void **state)
{
    (void)state;
    check_clipping(1e6, "optimizer.clip_norm=1e6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up_is_linear_from_zero_and_the_cosine_ends_at_the_least),
        cmocka_unit_test(epochs_leave_the_last_partial_batch_out),
        cmocka_unit_test(steps_go_before_epochs),
        cmocka_unit_test(a_limit_makes_the_epoch_shorter),
        cmocka_unit_test(the_learning_rate_follows_the_effective_batch),
        cmocka_unit_test(warm_up_in_epochs_becomes_steps),
        cmocka_unit_test(the_official_recipe_gives_the_official_numbers),
        cmocka_unit_test(a_batch_larger_than_the_data_names_its_key),
        cmocka_unit_test(only_samples_below_the_limit_are_used),
        cmocka_unit_test(matrices_and_tokens_are_decayed_and_biases_and_norms_are_not),
        cmocka_unit_test(a_long_gradient_is_cut_to_the_norm),
        cmocka_unit_test(a_short_gradient_stays),
    };
    return cmocka_run_group_tests_name("train plan", tests, NULL, NULL);
}
