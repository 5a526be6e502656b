/* test_checkpoint.c - checkpoints on disk: which are kept, what happens to broken ones and to failed writes.
 */
#include "train_support.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void the_newest_and_the_multiples_are_kept(void **state)
{
    (void)state;
    must_train("kept", 0, "train.steps=13 train.checkpoint_every=2 train.keep_last=2 train.keep_every=4");
    for (int64_t step = 1; step <= 13; step++)
        if (has_checkpoint("kept", step) != (step == 4 || step == 8 || step == 12 || step == 13))
            fail_msg("the checkpoint of step %lld", (long long)step);
}

/* ---- saved and loaded by hand */

typedef struct saved {
    stepper s;
    dg_tensor_entry *entries;
    size_t n;
    dg_progress progress;
    char dir[512];
} saved;

static void open_saved(saved *x, const char *dir)
{
    dg_error err;
    memset(x, 0, sizeof *x);
    snprintf(x->dir, sizeof x->dir, "%s", test_path(dir));
    open_stepper(&x->s, "optimizer.clip_norm=1 train.accumulate=2", false);
    ASSERT_OK(dg_checkpoint_entries(&x->s.step, &x->entries, &x->n, &err));
    ASSERT_OK(dg_progress_describe(&x->progress, &x->s.parts, &x->s.plan, x->s.source, &x->s.state, &err));
    for (size_t i = 0; i < x->n; i++)
        ASSERT_OK(
            x->s.state.backend->store_add(x->s.state.store, x->entries[i].name, &x->entries[i].type, &err));
}

static void close_saved(saved *x)
{
    dg_free(x->entries);
    dg_progress_free(&x->progress);
    close_stepper(&x->s);
}

static dg_status save(saved *x, int64_t step, dg_error *err)
{
    x->progress.step = step;
    return dg_checkpoint_save(x->dir, &x->progress, &x->s.state, x->entries, x->n, 0, 0, err);
}

/* Fills the state with numbers that depend on `salt`. */
static void fill_state(saved *x, float salt)
{
    dg_error err;
    for (size_t i = 0; i < x->n; i++) {
        int64_t n = dg_type_count(&x->entries[i].type);
        float *values = dg_calloc((size_t)n, sizeof *values);
        for (int64_t k = 0; k < n; k++) values[k] = salt + (float)(i * 31 + (size_t)k % 1009) / 7;
        ASSERT_OK(dg_state_write_f32(&x->s.state, x->entries[i].name, &x->entries[i].type, values, &err));
        dg_free(values);
    }
}

static void assert_state(saved *x, float salt)
{
    dg_error err;
    for (size_t i = 0; i < x->n; i++) {
        int64_t n = dg_type_count(&x->entries[i].type);
        float *values = dg_calloc((size_t)n, sizeof *values);
        ASSERT_OK(dg_state_read_f32(&x->s.state, x->entries[i].name, &x->entries[i].type, values, &err));
        for (int64_t k = 0; k < n; k++)
            assert_true(values[k] == salt + (float)(i * 31 + (size_t)k % 1009) / 7);
        dg_free(values);
    }
}

static void what_was_saved_is_loaded(void **state)
{
    (void)state;
    saved x;
    dg_error err;
    char *path = NULL;
    dg_progress then;
    open_saved(&x, "round-trip");
    fill_state(&x, 1);
    x.progress.metrics_length = 12345;
    x.progress.timings_length = 678;
    x.progress.seconds = 1.5;
    x.progress.window = 3;
    x.progress.window_loss = 0.1 + 0.2; /* not a short number */
    x.progress.window_norm = 1e-300;
    x.progress.window_parts[7] = -2.0 / 3;
    ASSERT_OK(save(&x, 42, &err));
    fill_state(&x, 2);
    ASSERT_OK(dg_checkpoint_latest(x.dir, &path, &then, &err));
    assert_non_null(path);
    ASSERT_OK(dg_checkpoint_load(path, &x.s.state, x.entries, x.n, &err));
    assert_state(&x, 1);
    assert_int_equal(then.step, 42);
    assert_int_equal(then.metrics_length, 12345);
    assert_int_equal(then.timings_length, 678);
    assert_int_equal(then.window, 3);
    assert_true(then.seconds == 1.5 && then.window_loss == 0.1 + 0.2 && then.window_norm == 1e-300);
    assert_true(then.window_parts[7] == -2.0 / 3);
    assert_string_equal(then.recipe, x.progress.recipe);
    assert_string_equal(then.data, x.progress.data);
    dg_progress_free(&then);
    dg_free(path);
    close_saved(&x);
}

static void no_checkpoint_is_no_error(void **state)
{
    (void)state;
    dg_error err;
    char *path = NULL;
    dg_progress then;
    ASSERT_OK(dg_checkpoint_latest(test_path("nothing-here"), &path, &then, &err));
    assert_null(path);
}

static void accumulators_are_not_saved_and_moments_are(void **state)
{
    (void)state;
    saved x;
    int moments = 0;
    open_saved(&x, "entries");
    for (size_t i = 0; i < x.n; i++) {
        if (!strncmp(x.entries[i].name, "accumulated.", 12)) fail_msg("%s", x.entries[i].name);
        moments += !strncmp(x.entries[i].name, "optimizer.m.", 12);
    }
    assert_true(moments > 20);
    close_saved(&x);
}

static void a_tensor_of_another_shape_is_named(void **state)
{
    (void)state;
    saved x;
    dg_error err;
    char path[800];
    open_saved(&x, "other-shape");
    ASSERT_OK(save(&x, 1, &err));
    snprintf(path, sizeof path, "%s/checkpoints/step-0000000001", x.dir);
    for (size_t i = 0; i < x.n; i++)
        if (!strcmp(x.entries[i].name, "model.norm1.weight") ||
            strstr(x.entries[i].name, "blocks.0.norm1.weight"))
            x.entries[i].type.dims[0] = 17;
    ASSERT_FAILS(dg_checkpoint_load(path, &x.s.state, x.entries, x.n, &err), DG_ERR_MISMATCH,
                 "is f32[16] in the checkpoint and f32[17] in the recipe");
    close_saved(&x);
}

/* ---- broken ones */

/* Spoils the newest of two checkpoints in one way: which is then taken? */
static void check_passed_over(const char *dir, void (*spoil)(const char *path), const char *says)
{
    saved x;
    dg_error err;
    char newest[800], *path = NULL;
    dg_progress then;
    open_saved(&x, dir);
    fill_state(&x, 1);
    ASSERT_OK(save(&x, 1, &err));
    fill_state(&x, 2);
    ASSERT_OK(save(&x, 2, &err));
    snprintf(newest, sizeof newest, "%s/checkpoints/step-0000000002", x.dir);
    spoil(newest);
    log_text[0] = 0;
    ASSERT_OK(dg_checkpoint_latest(x.dir, &path, &then, &err));
    assert_int_equal(then.step, 1);
    if (!strstr(log_text, "passing over a broken checkpoint") || !strstr(log_text, says))
        fail_msg("'%s' does not say '%s'", log_text, says);
    ASSERT_OK(dg_checkpoint_load(path, &x.s.state, x.entries, x.n, &err));
    assert_state(&x, 1);
    dg_free(path);
    dg_progress_free(&then);
    /* Step 2 comes again and takes its place. */
    fill_state(&x, 3);
    ASSERT_OK(save(&x, 2, &err));
    ASSERT_OK(dg_checkpoint_latest(x.dir, &path, &then, &err));
    assert_int_equal(then.step, 2);
    ASSERT_OK(dg_checkpoint_load(path, &x.s.state, x.entries, x.n, &err));
    assert_state(&x, 3);
    dg_free(path);
    dg_progress_free(&then);
    close_saved(&x);
}

static void cut_file(const char *folder, const char *name)
{
    char path[800];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
}

static void cut_model(const char *folder)
{
    cut_file(folder, "model.safetensors");
}
static void cut_optimizer(const char *folder)
{
    cut_file(folder, "optimizer.safetensors");
}
static void cut_state(const char *folder)
{
    cut_file(folder, "state.json");
}

static void remove_state(const char *folder)
{
    char path[800];
    snprintf(path, sizeof path, "%s/state.json", folder);
    assert_int_equal(unlink(path), 0);
}

static void future_format(const char *folder)
{
    char path[800];
    snprintf(path, sizeof path, "%s/state.json", folder);
    test_write(path, "{\"format\":99}\n", 14);
}

static void a_broken_newest_checkpoint_is_passed_over_with_a_warning(void **state)
{
    (void)state;
    check_passed_over("cut-model", cut_model, "model.safetensors");
    check_passed_over("cut-optimizer", cut_optimizer, "optimizer.safetensors");
    check_passed_over("cut-state", cut_state, "state.json");
    check_passed_over("no-state", remove_state, "state.json");
    check_passed_over("future", future_format, "format 99");
}

static void broken_checkpoints_alone_are_an_error_and_not_a_new_start(void **state)
{
    (void)state;
    dg_run_result result;
    dg_error err;
    char folder[600];
    must_train("all-broken", 0, "train.steps=4 train.checkpoint_every=2");
    for (int64_t step = 2; step <= 4; step += 2) {
        snprintf(folder, sizeof folder, "%s/checkpoints/step-%010lld", test_path("all-broken"),
                 (long long)step);
        cut_model(folder);
    }
    ASSERT_FAILS(train("all-broken", RESUME, "train.steps=4 train.checkpoint_every=2", &result, &err),
                 DG_ERR_FORMAT, "every checkpoint in");
    assert_non_null(strstr(err.message, "model.safetensors"));
    assert_non_null(strstr(err.message, "Move the folder away to begin anew"));
    assert_true(has_checkpoint("all-broken", 4));
}

/* ---- writes that fail */

/* A write of step 2 that fails leaves step 1 as the newest, whole, and nothing half-written. */
static void assert_only_first(saved *x)
{
    dg_error err;
    char *path = NULL, half[800];
    dg_progress then;
    snprintf(half, sizeof half, "%s/checkpoints/writing", x->dir);
    assert_false(dg_path_is_dir(half));
    ASSERT_OK(dg_checkpoint_latest(x->dir, &path, &then, &err));
    assert_int_equal(then.step, 1);
    ASSERT_OK(dg_checkpoint_load(path, &x->s.state, x->entries, x->n, &err));
    assert_state(x, 1);
    dg_free(path);
    dg_progress_free(&then);
}

static void a_full_disk_leaves_earlier_checkpoints(void **state)
{
    (void)state;
    saved x;
    dg_error err;
    struct rlimit old, small;
    open_saved(&x, "full");
    fill_state(&x, 1);
    ASSERT_OK(save(&x, 1, &err));
    fill_state(&x, 2);
    signal(SIGXFSZ, SIG_IGN); /* so that write(2) fails, as on a full disk */
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){65536, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    dg_error failed = DG_ERROR_INIT;
    dg_status s = save(&x, 2, &failed);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(s, DG_ERR_IO);
    assert_non_null(
        strstr(failed.message, "the checkpoint of step 2 was not written (earlier ones are as they were)"));
    assert_only_first(&x);
    close_saved(&x);
}

static void a_folder_that_takes_nothing_leaves_earlier_checkpoints(void **state)
{
    (void)state;
    saved x;
    dg_error err;
    char obstacle[800];
    open_saved(&x, "obstacle");
    fill_state(&x, 1);
    ASSERT_OK(save(&x, 1, &err));
    fill_state(&x, 2);
    snprintf(obstacle, sizeof obstacle, "%s/checkpoints/writing", x.dir);
    test_write(obstacle, "", 0); /* works for root too, unlike a mode */
    ASSERT_FAILS(save(&x, 2, &err), DG_ERR_IO, "the checkpoint of step 2 was not written");
    assert_only_first(&x);
    close_saved(&x);
}

static void weights_that_are_not_finite_are_not_saved(void **state)
{
    (void)state;
    saved x;
    dg_error err;
    int64_t n;
    open_saved(&x, "spoilt");
    fill_state(&x, 1);
    ASSERT_OK(save(&x, 1, &err));
    float *w = state_of(&x.s, "model.blocks.0.norm1.weight", &n);
    const dg_type type = dg_make_type(DG_F32, DG_LIST(n));
    w[3] = INFINITY;
    ASSERT_OK(dg_state_write_f32(&x.s.state, "model.blocks.0.norm1.weight", &type, w, &err));
    ASSERT_FAILS(save(&x, 2, &err), DG_ERR_NOT_FINITE, "'model.blocks.0.norm1.weight' is not finite");
    assert_only_first(&x);
    dg_free(w);
    close_saved(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_and_the_multiples_are_kept),
        cmocka_unit_test(what_was_saved_is_loaded),
        cmocka_unit_test(no_checkpoint_is_no_error),
        cmocka_unit_test(accumulators_are_not_saved_and_moments_are),
        cmocka_unit_test(a_tensor_of_another_shape_is_named),
        cmocka_unit_test(a_broken_newest_checkpoint_is_passed_over_with_a_warning),
        cmocka_unit_test(broken_checkpoints_alone_are_an_error_and_not_a_new_start),
        cmocka_unit_test(a_full_disk_leaves_earlier_checkpoints),
        cmocka_unit_test(a_folder_that_takes_nothing_leaves_earlier_checkpoints),
        cmocka_unit_test(weights_that_are_not_finite_are_not_saved),
    };
    return cmocka_run_group_tests_name("train checkpoint", tests, quiet, NULL);
}
