/* test_run.c - whole runs: a run that was stopped equals one that was not; refusals; orderly stops. */
#include "train_support.h"

#include "io/json.h"

/* ---- straight and resumed are one */

/* As if the machine had been taken away after the checkpoint of step 4, with lines in the logs from later on.
 */
static void check_resume(const char *name, const char *overrides)
{
    char straight[64], other[64];
    snprintf(straight, sizeof straight, "%s-straight", name);
    snprintf(other, sizeof other, "%s-resumed", name);
    must_train(straight, 0, overrides);
    must_train(other, 0, overrides);
    forget_after(other, 4);
    must_train(other, RESUME, overrides);
    assert_same_run(straight, other, 10);
}

static void a_resumed_run_equals_one_that_was_not_stopped(void **state)
{
    (void)state;
    check_resume("plain", "");
}

static void a_resume_may_stand_between_two_lines_of_the_log(void **state)
{
    (void)state;
    check_resume("window", "train.log_every=3");
}

static void a_resume_with_accumulation_and_clipping_is_exact(void **state)
{
    (void)state;
    check_resume("both", "train.accumulate=2 optimizer.clip_norm=0.5 data.batch=2");
}

/* The weights of the last checkpoint; its text about the recipe is left out. */
static void fingerprint(const char *run, char out[33])
{
    char path[800];
    dg_weights *w;
    dg_error err;
    snprintf(path, sizeof path, "%s/checkpoints/step-0000000010", test_path(run));
    ASSERT_OK(dg_weights_open(path, &w, &err));
    ASSERT_OK(dg_weights_fingerprint(w, out, &err));
    dg_weights_close(w);
}

static void the_number_of_loader_threads_changes_nothing(void **state)
{
    (void)state;
    char a[33], b[33];
    must_train("threads-1", 0, "data.workers=1");
    must_train("threads-5", 0, "data.workers=1");
    forget_after("threads-5", 4);
    must_train("threads-5", RESUME, "data.workers=5 data.prefetch=2");
    assert_same_file("threads-1", "threads-5", "metrics.jsonl");
    assert_same_file("threads-1", "threads-5", "checkpoints/step-0000000010/optimizer.safetensors");
    fingerprint("threads-1", a);
    fingerprint("threads-5", b);
    assert_string_equal(a, b);
}

static void a_resume_without_a_checkpoint_begins_anew(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    must_train("anew-straight", 0, "");
    must_train("anew", 0, "");
    forget_after("anew", 0);
    ASSERT_FAILS(train("anew", 0, "", &result, &err), DG_ERR_INVALID, "no checkpoint yet: add --resume");
    must_train("anew", RESUME, "");
    assert_same_run("anew-straight", "anew", 10);
}

static void another_seed_gives_another_run(void **state)
{
    (void)state;
    char a[800], b[800];
    size_t n, m;
    must_train("seed-5", 0, "");
    must_train("seed-6", 0, "seed=6");
    snprintf(a, sizeof a, "%s/metrics.jsonl", test_path("seed-5"));
    snprintf(b, sizeof b, "%s/metrics.jsonl", test_path("seed-6"));
    char *x = read_file(a, &n), *y = read_file(b, &m);
    assert_true(n != m || memcmp(x, y, n) != 0);
    dg_free(x);
    dg_free(y);
}

/* The largest difference of two runs' first moments after step 1, each tensor in units of its own largest. */
static double moments_apart(const char *run_a, const char *run_b)
{
    char path[2][800];
    dg_weights *w[2];
    dg_error err;
    double worst = 0;
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/checkpoints/step-0000000001/optimizer.safetensors",
                 test_path(i ? run_b : run_a));
        ASSERT_OK(dg_weights_open(path[i], &w[i], &err));
    }
    for (size_t i = 0; i < dg_weights_count(w[0]); i++) {
        const dg_weight *a = dg_weights_at(w[0], i), *b = dg_weights_find(w[1], a->name);
        if (strncmp(a->name, "optimizer.m.", 12)) continue;
        if (strstr(a->name, "kv.bias")) continue; /* their true gradient is partly zero: only rounding */
        assert_non_null(b);
        float *x = dg_calloc((size_t)a->count, sizeof *x), *y = dg_calloc((size_t)a->count, sizeof *y);
        double most = 0, apart = 0;
        ASSERT_OK(dg_weight_read_f32(a, x, (size_t)a->count, &err));
        ASSERT_OK(dg_weight_read_f32(b, y, (size_t)a->count, &err));
        for (int64_t k = 0; k < a->count; k++) {
            most = fmax(most, fabs((double)x[k]));
            apart = fmax(apart, fabs((double)x[k] - (double)y[k]));
        }
        worst = fmax(worst, apart / most);
        dg_free(x);
        dg_free(y);
    }
    dg_weights_close(w[0]);
    dg_weights_close(w[1]);
    return worst;
}

static void two_half_batches_are_one_batch_within_rounding(void **state)
{
    (void)state;
    must_train("batch-8", 0, "data.batch=8 train.steps=1");
    must_train("batch-4", 0, "data.batch=4 train.accumulate=2 train.steps=1");
    double apart = moments_apart("batch-8", "batch-4");
    if (!(apart < 1e-5)) fail_msg("the moments are %g apart", apart);
    must_train("batch-4-once", 0, "data.batch=4 train.steps=1");
    assert_true(moments_apart("batch-8", "batch-4-once") > 1e-2); /* and a test that could not fail is none */
}

/* ---- what a folder holds */

static void the_folder_says_what_was_run(void **state)
{
    (void)state;
    static const char *const files[] = {"recipe.yaml",   "origins.yaml",  "run.json",
                                        "metrics.jsonl", "timings.jsonl", "report.html"};
    char path[800];
    dg_arena arena = {0};
    const dg_json *root;
    dg_error err;
    must_train("folder", 0, "");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", test_path("folder"), files[i]);
        if (!dg_path_is_file(path)) fail_msg("there is no %s", path);
    }
    snprintf(path, sizeof path, "%s/run.json", test_path("folder"));
    ASSERT_OK(dg_json_read_file(path, 1 << 20, &arena, &root, &err));
    assert_string_equal(dg_json_get(root, "precision")->v.text, "f32");
    assert_non_null(strstr(dg_json_get(root, "model")->v.text, "digpt.digpt"));
    dg_arena_free(&arena);
    snprintf(path, sizeof path, "%s/report.html", test_path("folder"));
    size_t n;
    char *html = read_file(path, &n);
    assert_non_null(strstr(html, "<path class=\"line\""));
    assert_null(strstr(html, "http://"));
    assert_null(strstr(html, "https://"));
    dg_free(html);
}

static void the_resolved_recipe_gives_the_same_run(void **state)
{
    (void)state;
    opened o = {0};
    char path[800];
    dg_diagnostics diags = {0};
    dg_error err;
    dg_run_result result;
    must_train("resolved", 0, "");
    snprintf(path, sizeof path, "%s/recipe.yaml", test_path("resolved"));
    o.schemas = dg_plugin_schemas(&o.plugins);
    assert_int_equal(dg_recipe_load(path, NULL, 0, &o.schemas, &o.recipe, &diags), DG_OK);
    const dg_run_options options = {test_path("resolved-again"), false, false, &o.schemas, NULL};
    ASSERT_OK(dg_run_train(o.recipe, o.plugins.registry, &options, &result, &err));
    assert_same_run("resolved", "resolved-again", 10);
    dg_diagnostics_free(&diags);
    close_recipe(&o);
}

/* ---- refusals */

static void a_folder_with_a_run_is_not_overwritten(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    must_train("taken", 0, "");
    ASSERT_FAILS(train("taken", 0, "", &result, &err), DG_ERR_INVALID, "add --resume to go on");
}

static void a_folder_in_use_is_refused(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    int lock = -1;
    ASSERT_OK(dg_rundir_lock(test_path("in-use"), &lock, &err));
    ASSERT_FAILS(train("in-use", 0, "", &result, &err), DG_ERR_INVALID, "another process is training in");
    dg_rundir_unlock(&lock);
    must_train("in-use", 0, "");
}

static void a_resume_with_other_values_lists_them_all(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    must_train("refused", 0, "");
    forget_after("refused", 4);
    ASSERT_FAILS(train("refused", RESUME, "optimizer.lr=2e-2 data.flip=0 train.log_every=2", &result, &err),
                 DG_ERR_MISMATCH, "--force");
    assert_non_null(strstr(err.message, "optimizer.lr: 1e-2 then, 2e-2 now"));
    assert_non_null(strstr(err.message, "data.flip: 0.5 then, 0 now"));
    assert_null(strstr(err.message, "log_every"));
    must_train("refused", RESUME | FORCE, "optimizer.lr=2e-2 data.flip=0");
    assert_non_null(strstr(log_text, "resuming although this differs"));
}

static void a_resume_on_other_data_or_hardware_is_refused(void **state)
{
    (void)state;
    opened o;
    dg_error err;
    open_recipe(&o, "");
    dg_str text = {0};
    dg_recipe_print(o.recipe, false, &text);
    dg_progress then = {.recipe = text.text,
                        .backend = "cpu AVX2",
                        .data = "01",
                        .precision = "f32",
                        .plugins = "a 1",
                        .weights = "7"};
    dg_progress now = {.recipe = text.text,
                       .backend = "cpu AVX-512",
                       .data = "02",
                       .precision = "bf16",
                       .plugins = "a 2",
                       .weights = "8"};
    ASSERT_OK(dg_rundir_compare(&then, &then, o.recipe, &o.schemas, false, &err));
    ASSERT_FAILS(dg_rundir_compare(&then, &now, o.recipe, &o.schemas, false, &err), DG_ERR_MISMATCH,
                 "backend: cpu AVX2 then, cpu AVX-512 now");
    static const char *const lines[] = {"precision: f32 then, bf16 now", "plugins: a 1 then, a 2 now",
                                        "fingerprint of the data: 01 then, 02 now",
                                        "fingerprint of the tokenizer's weights: 7 then, 8 now"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(err.message, lines[i])) fail_msg("'%s' is not in '%s'", lines[i], err.message);
    ASSERT_OK(dg_rundir_compare(&then, &now, o.recipe, &o.schemas, true, &err));
    dg_str_free(&text);
    close_recipe(&o);
}

static void metrics_that_were_cut_are_noticed(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    char path[800];
    must_train("cut", 0, "");
    forget_after("cut", 4);
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_path("cut"));
    test_write(path, "{}\n", 3);
    ASSERT_FAILS(train("cut", RESUME, "", &result, &err), DG_ERR_MISMATCH, "it was cut or replaced");
}

/* ---- orderly stops */

static void a_time_limit_stops_with_a_checkpoint(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    ASSERT_OK(train("limit", 0, "train.time_limit=0.01 train.steps=1000000 train.checkpoint_every=1000000",
                    &result, &err));
    assert_true(result.stopped);
    assert_true(result.step > 0 && result.step < 1000000);
    assert_true(has_checkpoint("limit", result.step));
}

static void a_request_stops_after_the_step_and_the_rest_follows_exactly(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    must_train("asked-straight", 0, "train.log_every=3");
    dg_run_request_stop();
    ASSERT_OK(train("asked", 0, "train.log_every=3", &result, &err));
    assert_true(result.stopped);
    assert_int_equal(result.step, 1);
    assert_true(has_checkpoint("asked", 1));
    must_train("asked", RESUME, "train.log_every=3");
    assert_same_run("asked-straight", "asked", 10);
}

static void a_finished_run_that_is_resumed_does_nothing(void **state)
{
    (void)state;
    must_train("finished", 0, "");
    must_train("finished-copy", 0, "");
    must_train("finished", RESUME, "");
    assert_same_run("finished", "finished-copy", 10);
}

/* ---- numbers that are not finite */

static void a_nan_leaves_the_state_as_it_was_and_is_named(void **state)
{
    (void)state;
    stepper s;
    dg_error err;
    char first[256];
    int64_t n, m;
    open_stepper(&s, "", false);
    float *weight = state_of(&s, "model.blocks.1.mlp.fc1.weight", &n);
    weight[7] = NAN;
    const dg_type type =
        dg_type_of(s.step.forward, dg_graph_leaf(s.step.forward, "model.blocks.1.mlp.fc1.weight"));
    ASSERT_OK(dg_state_write_f32(&s.state, "model.blocks.1.mlp.fc1.weight", &type, weight, &err));
    float *before = state_of(&s, "model.blocks.0.attn.qkv.weight", &n);
    run_stepper(&s, 0.1);
    assert_true(isnan(output_of(&s, "loss", &m)[0]));
    float *after = state_of(&s, "model.blocks.0.attn.qkv.weight", &n);
    float *moment = state_of(&s, "optimizer.m.model.blocks.0.attn.qkv.weight", &m);
    assert_memory_equal(before, after, (size_t)n * sizeof *after);
    for (int64_t i = 0; i < m; i++) assert_true(moment[i] == 0);
    ASSERT_OK(dg_find_not_finite(&s.inputs, &s.step, &s.state, s.batch, first, sizeof first, &err));
    assert_string_equal(first, "model.blocks.1.mlp.fc1.weight (1 element)");
    dg_free(weight);
    dg_free(before);
    dg_free(after);
    dg_free(moment);
    close_stepper(&s);
}

/* Rewrites the tensor `name` of a safetensors file with NaN as its first element. */
static void plant_nan(const char *path, const char *name)
{
    dg_error err;
    dg_weights *w;
    ASSERT_OK(dg_weights_open(path, &w, &err));
    size_t size, offset = (size_t)(dg_weights_find(w, name)->data - dg_weights_at(w, 0)->data);
    const unsigned char *lowest = dg_weights_at(w, 0)->data;
    for (size_t i = 0; i < dg_weights_count(w); i++)
        if (dg_weights_at(w, i)->data < lowest) lowest = dg_weights_at(w, i)->data;
    offset = (size_t)(dg_weights_find(w, name)->data - lowest);
    dg_weights_close(w);
    char *bytes = read_file(path, &size);
    uint64_t header;
    const float bad = NAN;
    memcpy(&header, bytes, sizeof header);
    memcpy(bytes + 8 + header + offset, &bad, sizeof bad);
    test_write(path, bytes, size);
    dg_free(bytes);
}

static void a_run_ends_with_step_tensor_and_samples_and_the_checkpoint_stays(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    char path[800];
    must_train("nan", 0, "");
    forget_after("nan", 4);
    snprintf(path, sizeof path, "%s/checkpoints/step-0000000004/model.safetensors", test_path("nan"));
    plant_nan(path, "blocks.0.norm2.weight");
    ASSERT_FAILS(train("nan", RESUME, "", &result, &err), DG_ERR_NOT_FINITE,
                 "the loss is nan at step 5; nothing was updated. First tensor that is not finite: "
                 "model.blocks.0.norm2.weight (1 element). Samples: ");
    assert_int_equal(result.step, 4);
    assert_true(has_checkpoint("nan", 4));
    assert_false(has_checkpoint("nan", 5));
}

/* Of predictions near zero the cosine is harmless, and the squares of its gradient are beyond f32. */
static void a_gradient_that_is_not_finite_changes_nothing_when_clipping(void **state)
{
    (void)state;
    static const char *const heads[] = {"model.ar_pred.weight", "model.kd_pred.weight"};
    stepper s;
    dg_error err;
    char first[256];
    int64_t n, m;
    open_stepper(&s, "loss.name=cosine optimizer.clip_norm=1", false);
    for (int i = 0; i < 2; i++) {
        float *weight = state_of(&s, heads[i], &n);
        for (int64_t k = 0; k < n; k++) weight[k] *= 1e-21f;
        const dg_type type = dg_type_of(s.step.forward, dg_graph_leaf(s.step.forward, heads[i]));
        ASSERT_OK(dg_state_write_f32(&s.state, heads[i], &type, weight, &err));
        dg_free(weight);
    }
    float *before = state_of(&s, "model.blocks.0.attn.qkv.weight", &n);
    run_stepper(&s, 0.1);
    assert_true(isfinite(output_of(&s, "loss", &m)[0]));
    assert_false(isfinite(output_of(&s, "grad_norm", &m)[0]));
    float *after = state_of(&s, "model.blocks.0.attn.qkv.weight", &n);
    assert_memory_equal(before, after, (size_t)n * sizeof *after);
    ASSERT_OK(dg_find_not_finite(&s.inputs, &s.step, &s.state, s.batch, first, sizeof first, &err));
    assert_string_equal(first, "none of the forward pass; a gradient is not finite");
    dg_free(before);
    dg_free(after);
    close_stepper(&s);
}

/* ---- memory that runs out */

static void an_allocation_that_fails_is_an_error_and_no_crash(void **state)
{
    (void)state;
    opened o;
    dg_error err;
    dg_run_result result;
    char name[32];
    int failed = 0;
    open_recipe(&o, "train.steps=2 train.checkpoint_every=1 data.workers=1");
    for (size_t n = 1; n < 100000; n += 1 + n / 12) {
        snprintf(name, sizeof name, "memory-%zu", n);
        const dg_run_options options = {test_path(name), false, false, &o.schemas, NULL};
        err = (dg_error)DG_ERROR_INIT;
        dg_alloc_fail_at(n);
        dg_status s = dg_run_train(o.recipe, o.plugins.registry, &options, &result, &err);
        dg_alloc_fail_at(0);
        if (s == DG_OK) continue;
        failed++;
        if (!err.message[0]) fail_msg("allocation %zu failed without a message", n);
    }
    assert_true(failed > 20);
    close_recipe(&o);
}

/* ---- first weights */

static void weights_of_another_run_are_taken_by_their_official_names(void **state)
{
    (void)state;
    stepper s;
    dg_error err;
    char path[800];
    int64_t n;
    must_train("donor", 0, "");
    snprintf(path, sizeof path, "%s/checkpoints/step-0000000010", test_path("donor"));
    dg_weights *w;
    ASSERT_OK(dg_weights_open(path, &w, &err));
    const dg_weight *t = dg_weights_find(w, "blocks.0.attn.qkv.weight");
    assert_non_null(t);
    open_stepper(&s, "seed=9", false);
    ASSERT_OK(dg_state_init_from(&s.state, s.step.forward, path, &err));
    float *have = state_of(&s, "model.blocks.0.attn.qkv.weight", &n);
    assert_memory_equal(have, t->data, t->bytes);
    dg_free(have);
    dg_weights_close(w);
    close_stepper(&s);
    char words[1024];
    snprintf(words, sizeof words, "train.init_from=%s seed=9 train.steps=1", path);
    must_train("heir", 0, words);
}

static void weights_of_another_shape_are_refused_with_both_shapes(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    char words[1024];
    must_train("narrow", 0, "train.steps=1");
    snprintf(words, sizeof words, "train.init_from=%s/checkpoints/step-0000000001 model.width=24",
             test_path("narrow"));
    ASSERT_FAILS(train("wide", 0, words, &result, &err), DG_ERR_MISMATCH, "does not fit this model");
    assert_string_equal(err.key, "train.init_from");
    assert_non_null(strstr(err.message, "pos_embed wants [1,17,24], the file has pos_embed [1,17,16]"));
}

static void weights_that_have_nothing_in_common_are_refused(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    const dg_st_tensor t = {"something.else", DG_STORED_F32, 1, {2}};
    const float values[2] = {1, 2};
    const void *data[] = {values};
    char words[1024];
    ASSERT_OK(dg_st_write(test_path("foreign.safetensors"), &t, data, 1, NULL, 0, &err));
    snprintf(words, sizeof words, "train.init_from=%s", test_path("foreign.safetensors"));
    ASSERT_FAILS(train("foreign", 0, words, &result, &err), DG_ERR_MISMATCH, "has no tensor of this model");
    snprintf(words, sizeof words, "train.init_from=%s", test_path("nowhere.safetensors"));
    ASSERT_FAILS(train("foreign", 0, words, &result, &err), DG_ERR_NOT_FOUND, "nowhere.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resumed_run_equals_one_that_was_not_stopped),
        cmocka_unit_test(a_resume_may_stand_between_two_lines_of_the_log),
        cmocka_unit_test(a_resume_with_accumulation_and_clipping_is_exact),
        cmocka_unit_test(the_number_of_loader_threads_changes_nothing),
        cmocka_unit_test(a_resume_without_a_checkpoint_begins_anew),
        cmocka_unit_test(another_seed_gives_another_run),
        cmocka_unit_test(two_half_batches_are_one_batch_within_rounding),
        cmocka_unit_test(the_folder_says_what_was_run),
        cmocka_unit_test(the_resolved_recipe_gives_the_same_run),
        cmocka_unit_test(a_folder_with_a_run_is_not_overwritten),
        cmocka_unit_test(a_folder_in_use_is_refused),
        cmocka_unit_test(a_resume_with_other_values_lists_them_all),
        cmocka_unit_test(a_resume_on_other_data_or_hardware_is_refused),
        cmocka_unit_test(metrics_that_were_cut_are_noticed),
        cmocka_unit_test(a_time_limit_stops_with_a_checkpoint),
        cmocka_unit_test(a_request_stops_after_the_step_and_the_rest_follows_exactly),
        cmocka_unit_test(a_finished_run_that_is_resumed_does_nothing),
        cmocka_unit_test(a_nan_leaves_the_state_as_it_was_and_is_named),
        cmocka_unit_test(a_run_ends_with_step_tensor_and_samples_and_the_checkpoint_stays),
        cmocka_unit_test(a_gradient_that_is_not_finite_changes_nothing_when_clipping),
        cmocka_unit_test(an_allocation_that_fails_is_an_error_and_no_crash),
        cmocka_unit_test(weights_of_another_run_are_taken_by_their_official_names),
        cmocka_unit_test(weights_of_another_shape_are_refused_with_both_shapes),
        cmocka_unit_test(weights_that_have_nothing_in_common_are_refused),
    };
    return cmocka_run_group_tests_name("train run", tests, quiet, NULL);
}
