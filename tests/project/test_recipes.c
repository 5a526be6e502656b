/* test_recipes.c - the recipes that come with digpt: they load with the plugins of this build, build their
 * programs, and say what the papers say. */
#include "test.h"

#include <unistd.h>

#include "train/finetune.h"
#include "train/finetune.h"
#include "train/features.h"
#include "train/probe_task.h"
#include "train/run.h"
#include "train/step.h"

/* What a recipe may leave to its user, and something that stands for it. */
static const struct stand_in {
    const char *required, *value;
} stand_ins[] = {
    {"'data.path' is required", "data.path=images"},
    {"'tokenizer.weights' is required", "tokenizer.weights=random"},
};
#define STAND_INS (sizeof stand_ins / sizeof stand_ins[0])

/* A teacher of the story's size, of which `random` knows none: the control that its recipe names. */
static const char *const story_teacher[] = {"tokenizer.name=vit", "tokenizer.weights=random",
                                            "tokenizer.width=128", "tokenizer.depth=6", "tokenizer.patch=8"};
#define MOST_GIVEN (sizeof story_teacher / sizeof story_teacher[0])

static const char *const plugin_paths[] = {DIGPT_BINARY_DIR "/lib/digpt/plugins"};

typedef struct opened {
    dg_plugin_source plugins;
    dg_schema_source schemas;
    dg_recipe *recipe;
    dg_parts parts;
} opened;

static dg_status load(opened *o, const char *name, const char *const *overrides, size_t n,
                      dg_diagnostics *diags)
{
    dg_error err = DG_ERROR_INIT;
    char *path;
    memset(o, 0, sizeof *o);
    o->plugins.option_paths = plugin_paths;
    o->plugins.n_option = 1;
    ASSERT_OK(dg_recipe_find(name, &path, &err));
    o->schemas = dg_plugin_schemas(&o->plugins);
    dg_status s = dg_recipe_load(path, overrides, n, &o->schemas, &o->recipe, diags);
    dg_free(path);
    return s;
}

/* Loads a recipe on the reference backend as it stands: true, or false and its complaints, to be freed. */
static bool load_bare(opened *o, const char *name, const char *const *more, size_t n_more, dg_str *complaints)
{
    const char *overrides[1 + MOST_GIVEN] = {"backend.name=reference"};
    dg_diagnostics diags = {0};
    for (size_t i = 0; i < n_more; i++) overrides[1 + i] = more[i];
    bool good = load(o, name, overrides, 1 + n_more, &diags) == DG_OK && diags.n == 0;
    dg_diagnostics_print(&diags, complaints);
    dg_diagnostics_free(&diags);
    if (!good) dg_registry_destroy(o->plugins.registry);
    return good;
}

/* With what it requires, and up to its components. */
static void open_recipe(opened *o, const char *name)
{
    const char *given[MOST_GIVEN];
    size_t n = 0;
    dg_str complaints = {0};
    dg_error err;
    if (strcmp(name, "story-digpt") == 0) {
        if (!load_bare(o, name, story_teacher, MOST_GIVEN, &complaints))
            fail_msg("%s: %s", name, complaints.text);
    } else if (!load_bare(o, name, NULL, 0, &complaints)) {
        for (size_t i = 0; i < STAND_INS; i++)
            if (strstr(complaints.text, stand_ins[i].required)) given[n++] = stand_ins[i].value;
        dg_str_free(&complaints);
        if (!load_bare(o, name, given, n, &complaints)) fail_msg("%s: %s", name, complaints.text);
    }
    dg_str_free(&complaints);
    ASSERT_OK(dg_parts_open(o->recipe, o->plugins.registry, false, &o->parts, &err));
}

static void close_recipe(opened *o)
{
    dg_parts_close(&o->parts);
    dg_recipe_free(o->recipe);
    dg_registry_destroy(o->plugins.registry);
}

static int enter_source(void **state)
{
    (void)state;
    return chdir(DIGPT_SOURCE_DIR);
}

static void every_recipe_says_what_it_is_and_builds_its_forward_pass(void **state)
{
    (void)state;
    dg_arena arena = {0};
    dg_recipe_entry *entries;
    size_t n, seen = 0;
    dg_error err;
    ASSERT_OK(dg_recipe_list(&arena, &entries, &n, &err));
    for (size_t i = 0; i < n; i++) {
        if (strncmp(entries[i].path, "recipes/", 8) != 0) continue; /* a user's own */
        opened o;
        dg_run_plan plan = {0};
        dg_finetune finetune;
        dg_step_spec spec;
        dg_step names = {0};
        dg_graph *g = NULL;
        seen++;
        if (!entries[i].help[0]) fail_msg("%s does not begin with a comment", entries[i].path);
        open_recipe(&o, entries[i].name);
        ASSERT_OK(dg_run_make_plan(&o.parts, 0, &plan, &err));
        if (dg_is_probe_task(o.recipe)) {
            const dg_feature_spec features =
                dg_feature_spec_read(o.recipe, dg_recipe_string(o.recipe, "task"));
            dg_extractor e = {0};
            if (dg_extractor_open(&o.parts, &features, 2, DG_F32, &e, &err) != DG_OK)
                fail_msg("%s: %s", entries[i].name, err.message);
            dg_extractor_close(&e);
            close_recipe(&o);
            continue;
        }
        ASSERT_OK(dg_task_spec(&o.parts, &plan, 10, &finetune, &spec, &err));
        spec.batch = 2;
        if (dg_step_forward(&o.parts, &spec, &g, &names, &err) != DG_OK)
            fail_msg("%s: %s", entries[i].name, err.message);
        dg_graph_destroy(g);
        close_recipe(&o);
    }
    assert_true(seen > 0);
    dg_arena_free(&arena);
}

/* The schedule of Ren et al., ICML 2024, and of He et al., CVPR 2022: they share all but the epochs. */
static void check_schedule(opened *o, int64_t epochs)
{
    const int64_t images = 1281167;
    dg_run_plan plan = {0};
    dg_error err;
    ASSERT_OK(dg_run_make_plan(&o->parts, images, &plan, &err));
    assert_int_equal(plan.batch * plan.accumulate, 4096);
    assert_int_equal(plan.effective_batch, 4096);
    assert_int_equal(plan.steps_per_epoch, 312);
    assert_in_range(plan.steps, epochs * 312, epochs * 313);
    assert_true(fabs(plan.lr - 2.4e-3) < 1e-12 && plan.min_lr == 0);
    assert_true(fabs(plan.warmup_steps / (double)plan.steps - 40.0 / (double)epochs) < 1e-4);
    assert_true(plan.optimizer.beta1 == 0.9 && plan.optimizer.beta2 == 0.95);
    assert_true(plan.optimizer.weight_decay == 0.05 && plan.optimizer.clip_norm == 0);
}

static void mae_recipes_have_the_published_schedule(void **state)
{
    (void)state;
    static const char *const names[] = {"mae-vit-b16-in1k", "mae-vit-l16-in1k"};
    for (size_t i = 0; i < 2; i++) {
        opened o;
        open_recipe(&o, names[i]);
        check_schedule(&o, 800);
        assert_int_equal(dg_token_count(&o.parts.tokens), 196);
        assert_true(dg_recipe_float(o.recipe, "model.mask_ratio") == 0.75);
        assert_int_equal(dg_recipe_int(o.recipe, "model.decoder_depth"), 8);
        close_recipe(&o);
    }
}

static void imagenet_recipes_have_the_published_schedule(void **state)
{
    (void)state;
    static const struct {
        const char *recipe;
        int64_t last_tap;
    } rows[] = {
        {"digpt-vit-s16-in1k", 12},
        {"digpt-vit-b16-in1k", 12},
        {"digpt-vit-l16-in1k", 24},
        {"digpt-vit-h16-in1k", 32},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        opened o;
        size_t n;
        open_recipe(&o, rows[i].recipe);
        check_schedule(&o, 300);
        assert_int_equal(o.parts.tokens.width, 1024);
        assert_int_equal(dg_token_count(&o.parts.tokens), 257);
        const int64_t *taps = dg_recipe_ints(o.recipe, "model.taps", &n);
        assert_int_equal(n, 4);
        assert_int_equal(taps[3], rows[i].last_tap);
        close_recipe(&o);
    }
}

static void what_a_user_must_give_is_named(void **state)
{
    (void)state;
    static const char *const names[] = {"digpt-vit-b16-in1k", "digpt-vit-l16-in1k"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        opened o;
        dg_str complaints = {0};
        assert_false(load_bare(&o, names[i], NULL, 0, &complaints));
        for (size_t k = 0; k < STAND_INS; k++)
            if (!strstr(complaints.text, stand_ins[k].required))
                fail_msg("%s: \"%s\" does not say \"%s\"", names[i], complaints.text, stand_ins[k].required);
        dg_str_free(&complaints);
    }
}

static void recipes_for_a_first_try_need_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {"quickstart", "story-clip", "story-mae", "story-finetune"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        opened o;
        dg_str complaints = {0};
        if (!load_bare(&o, names[i], NULL, 0, &complaints)) fail_msg("%s: %s", names[i], complaints.text);
        dg_recipe_free(o.recipe);
        dg_registry_destroy(o.plugins.registry);
        dg_str_free(&complaints);
    }
}

/* What scripts/story compares has one encoder, the same pictures and the same number of steps. */
static void parts_of_the_story_are_comparable(void **state)
{
    (void)state;
    static const char *const names[] = {"story-digpt", "story-mae", "story-clip", "story-finetune"};
    static const char *const keys[] = {"model.width", "model.depth", "model.heads", "data.synthetic_classes"};
    int64_t first[4] = {0}, steps = 0;
    for (size_t i = 0; i < 4; i++) {
        opened o;
        size_t n;
        open_recipe(&o, names[i]);
        for (size_t k = 0; k < 4; k++) {
            int64_t value = dg_recipe_int(o.recipe, keys[k]);
            if (i == 0) first[k] = value;
            if (value != first[k]) fail_msg("%s: another %s", names[i], keys[k]);
        }
        assert_int_equal(dg_recipe_ints(o.recipe, "model.patch", &n)[0], 8);
        if (i == 0) steps = dg_recipe_int(o.recipe, "train.steps");
        if (i == 1) assert_int_equal(dg_recipe_int(o.recipe, "train.steps"), steps);
        close_recipe(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recipe_says_what_it_is_and_builds_its_forward_pass),
        cmocka_unit_test(imagenet_recipes_have_the_published_schedule),
        cmocka_unit_test(mae_recipes_have_the_published_schedule),
        cmocka_unit_test(what_a_user_must_give_is_named),
        cmocka_unit_test(recipes_for_a_first_try_need_nothing),
        cmocka_unit_test(parts_of_the_story_are_comparable),
    };
    return cmocka_run_group_tests(tests, enter_source, NULL);
}
