/* recipe_support.h - what the recipe tests share: components that exist nowhere else, and whole lists of
 * complaints compared as text. */
#ifndef DG_TEST_RECIPE_SUPPORT_H
#define DG_TEST_RECIPE_SUPPORT_H

#include <unistd.h>

#include "recipe/recipe.h"
#include "test.h"

static const char *const clip_words[] = {"random", NULL};
static const char *const gelu_words[] = {"exact", "quick", NULL};
static const dg_param_spec clip_rows[] = {
    DG_PARAM(PATH, "weights", NULL, "", "weights file", 0, 0, clip_words),
    DG_PARAM(CHOICE, "activation", "exact", "", "of the teacher", 0, 0, gelu_words),
    DG_PARAM(INT, "width", "1280", "channels", "of the teacher", 1, 8192, NULL),
};
static const dg_param_spec pixel_rows[] = {
    DG_PARAM(INT, "patch", "16", "pixels", "side of a patch", 1, 256, NULL),
    DG_PARAM(FLOAT, "eps", "1e-6", "", "added to the variance", 0, 1, NULL),
};
static const dg_param_spec vit_rows[] = {
    DG_PARAM(INT, "depth", "12", "blocks", "number of blocks", 1, 1024, NULL),
    DG_PARAM_LIST(INTS, "segments", "[2, 2]", "", "segments of the grid", 1, 64, 2, 2),
    DG_PARAM(BOOL, "bias", "true", "", "of qkv", 0, 0, NULL),
};
static const dg_param_spec cosine_rows[] = {DG_PARAM(FLOAT, "scale", "2", "", "factor", 0, 100, NULL)};

static const struct component {
    const char *section, *name;
    const dg_param_spec *rows;
    size_t n;
} components[] = {
    {"tokenizer", "clip", clip_rows, 3}, {"tokenizer", "pixels", pixel_rows, 2},
    {"model", "vit", vit_rows, 3},       {"loss", "cosine", cosine_rows, 1},
    {"backend", "cpu", NULL, 0},
};

static char announced[1024]; /* the plugins that the recipe asked for */

static dg_status fake_plugins(void *user, const char *const *paths, size_t n, dg_error *err)
{
    (void)user;
    announced[0] = 0;
    for (size_t i = 0; i < n; i++) {
        strcat(strcat(announced, paths[i]), ";");
        if (strstr(paths[i], "broken")) return dg_fail(err, DG_ERR_FORMAT, "'%s' is not a plugin", paths[i]);
    }
    return DG_OK;
}

static dg_status fake_component(void *user, const char *section, const char *name,
                                const dg_param_spec **specs, size_t *n, dg_error *err)
{
    (void)user;
    for (size_t i = 0; i < sizeof components / sizeof components[0]; i++)
        if (!strcmp(components[i].section, section) && !strcmp(components[i].name, name)) {
            *specs = components[i].rows;
            *n = components[i].n;
            return DG_OK;
        }
    return dg_fail(err, DG_ERR_NOT_FOUND, "there is no %s '%s'; known are: clip, pixels", section, name);
}

static const dg_schema_source fake_source = {NULL, fake_plugins, fake_component};

/* The tests live in a folder of their own, so that positions read "a.yaml:3:5". */
static int enter_folder(void **state)
{
    (void)state;
    return chdir(test_dir());
}

static void write_text(const char *path, const char *text)
{
    test_write(path, text, strlen(text));
}

static void expect_text(const dg_diagnostics *d, const char *expected)
{
    dg_str text = {0};
    dg_diagnostics_print(d, &text);
    assert_string_equal(text.text ? text.text : "", expected);
    dg_str_free(&text);
}

#define COUNT(A) (sizeof(A) / sizeof(A)[0])

/* Loads a file that must be fine. */
static dg_recipe *load_good(const char *path, const char *const *overrides, size_t n)
{
    dg_recipe *r = NULL;
    dg_diagnostics d = {0};
    dg_status s = dg_recipe_load(path, overrides, n, &fake_source, &r, &d);
    if (s != DG_OK) {
        dg_str text = {0};
        dg_diagnostics_print(&d, &text);
        fail_msg("status %d: %s", (int)s, text.text ? text.text : "");
    }
    dg_diagnostics_free(&d);
    return r;
}

/* Loads a file that must fail with exactly these complaints. */
static DG_UNUSED void load_bad(const char *path, const char *const *overrides, size_t n, const char *expected)
{
    dg_recipe *r = NULL;
    dg_diagnostics d = {0};
    assert_int_equal(dg_recipe_load(path, overrides, n, &fake_source, &r, &d), DG_ERR_INVALID);
    assert_null(r);
    expect_text(&d, expected);
    dg_diagnostics_free(&d);
}

/* A small recipe on which others stand. */
static const char base_text[] = "# The smallest of all.\n"
                                "data:\n"
                                "  source: synthetic\n"
                                "tokenizer:\n"
                                "  name: pixels\n"
                                "  patch: 4\n"
                                "model: {name: vit}\n"
                                "loss:\n"
                                "  name: cosine\n";

#endif
