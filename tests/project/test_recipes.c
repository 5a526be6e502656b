/* test_recipes.c - the recipes that come with digpt: they load with the plugins of this build, build their
 * programs, and say what the papers say. */
#include "test.h"

#include <unistd.h>

#include "train/run.h"
#include "train/step.h"

#define MOST 8 /* overrides of a recipe */

/* What a user has to give. A recipe that is not here needs nothing. */
static const struct needs {
    const char *recipe, *overrides[MOST];
} needs[] = {
    {"digpt-vit-s16-in1k", {"data.path=images", "tokenizer.weights=random"}},
    {"digpt-vit-b16-in1k", {"data.path=images", "tokenizer.weights=random"}},
    {"digpt-vit-l16-in1k", {"data.path=images", "tokenizer.weights=random"}},
    {"digpt-vit-h16-in1k", {"data.path=images", "tokenizer.weights=random"}},
    {"digpt-cifar10", {"data.path=train.tar"}},
    {"mae-vit-b16-in1k", {"data.path=images"}},
    {"mae-vit-l16-in1k", {"data.path=images"}},
    {"mae-cifar10", {"data.path=train.tar"}},
};

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

/* With what it needs, on the reference backend, and up to its components. */
static void open_recipe(opened *o, const char *name)
{
    const char *overrides[MOST] = {"backend.name=reference"};
    size_t n = 1;
    dg_diagnostics diags = {0};
    dg_error err;
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++)
        for (size_t k = 0; strcmp(needs[i].recipe, name) == 0 && needs[i].overrides[k]; k++)
            overrides[n++] = needs[i].overrides[k];
    if (load(o, name, overrides, n, &diags) != DG_OK || diags.n) {
        dg_str text = {0};
        dg_diagnostics_print(&diags, &text);
        fail_msg("%s: %s", name, text.text ? text.text : "");
    }
    dg_diagnostics_free(&diags);
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
        dg_step names = {0};
        dg_graph *g = NULL;
        seen++;
        if (!entries[i].help[0]) fail_msg("%s does not begin with a comment", entries[i].path);
        open_recipe(&o, entries[i].name);
        if (dg_step_forward(&o.parts, 2, &g, &names, &err) != DG_OK)
            fail_msg("%s: %s", entries[i].name, err.message);
        assert_in_range(names.n_predictions, 1, 2);
        dg_graph_destroy(g);
        close_recipe(&o);
    }
    assert_int_equal(seen, 9);
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
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        opened o;
        dg_diagnostics diags = {0};
        dg_str text = {0};
        static const char *const overrides[] = {"backend.name=reference"};
        assert_int_equal(load(&o, needs[i].recipe, overrides, 1, &diags), DG_ERR_INVALID);
        dg_diagnostics_print(&diags, &text);
        assert_non_null(text.text);
        for (size_t k = 0; needs[i].overrides[k]; k++) {
            char said[64];
            snprintf(said, sizeof said, "'%.*s' is required", (int)strcspn(needs[i].overrides[k], "="),
                     needs[i].overrides[k]);
            if (!strstr(text.text, said))
                fail_msg("%s: '%s' does not say \"%s\"", needs[i].recipe, text.text, said);
        }
        dg_str_free(&text);
        dg_diagnostics_free(&diags);
        dg_registry_destroy(o.plugins.registry);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recipe_says_what_it_is_and_builds_its_forward_pass),
        cmocka_unit_test(imagenet_recipes_have_the_published_schedule),
        cmocka_unit_test(mae_recipes_have_the_published_schedule),
        cmocka_unit_test(what_a_user_must_give_is_named),
    };
    return cmocka_run_group_tests(tests, enter_source, NULL);
}
