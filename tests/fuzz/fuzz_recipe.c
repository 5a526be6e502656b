/* fuzz_recipe.c - a whole recipe against a fixed schema: what is accepted must print, and load to the same.
 */
#include "fuzz.h"

#include "recipe/recipe.h"

static const char *const words[] = {"random", NULL};
static const char *const choices[] = {"exact", "quick", NULL};
static const dg_param_spec rows[] = {
    DG_PARAM(PATH, "weights", "", "", "file", 0, 0, words),
    DG_PARAM(CHOICE, "activation", "exact", "", "word", 0, 0, choices),
    DG_PARAM(INT, "width", "12", "channels", "whole number", 1, 8192, NULL),
    DG_PARAM(FLOAT, "eps", "1e-6", "", "number", 0, 1, NULL),
    DG_PARAM(BOOL, "bias", "true", "", "yes or no", 0, 0, NULL),
    DG_PARAM(STRING, "label", "", "", "text", 0, 0, NULL),
    DG_PARAM_LIST(INTS, "taps", "[1, 2]", "", "whole numbers", 1, 64, 1, 4),
};

static dg_status component(void *user, const char *section, const char *name, const dg_param_spec **specs,
                           size_t *n, dg_error *err)
{
    (void)user;
    (void)section;
    if (strlen(name) > 6)
        return dg_fail(err, DG_ERR_NOT_FOUND, "there is no %s '%s'; all short names are", section, name);
    *specs = rows;
    *n = sizeof rows / sizeof rows[0];
    return DG_OK;
}

static const dg_schema_source source = {NULL, NULL, component};
static const char path[] = "/nonexistent/fuzz.yaml"; /* so that relative paths of `extends` lead nowhere */

static void print(const dg_diagnostics *diags)
{
    dg_str text = {0};
    dg_diagnostics_print(diags, &text);
    FUZZ_CHECK(!text.failed);
    dg_str_free(&text);
}

static void round_trip(const dg_recipe *r)
{
    dg_str once = {0}, twice = {0}, origins = {0};
    dg_diagnostics diags = {0};
    dg_recipe *again = NULL;
    dg_recipe_print(r, true, &origins);
    dg_recipe_print(r, false, &once);
    FUZZ_CHECK(!once.failed && !origins.failed);
    if (dg_recipe_parse(once.text, once.length, path, NULL, 0, &source, &again, &diags) != DG_OK) {
        print(&diags);
        fprintf(stderr, "%s\n", once.text);
        FUZZ_CHECK(!"what was printed loads");
    }
    dg_recipe_print(again, false, &twice);
    FUZZ_CHECK(!strcmp(once.text, twice.text));
    dg_recipe_free(again);
    dg_diagnostics_free(&diags);
    dg_str_free(&once);
    dg_str_free(&twice);
    dg_str_free(&origins);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dg_diagnostics diags = {0};
    dg_recipe *r = NULL;
    dg_status s = dg_recipe_parse((const char *)data, size, path, NULL, 0, &source, &r, &diags);
    FUZZ_CHECK((s == DG_OK) == (r != NULL));
    FUZZ_CHECK(s == DG_OK || diags.n_errors || s == DG_ERR_NOMEM);
    print(&diags);
    if (r) round_trip(r);
    dg_recipe_free(r);
    dg_diagnostics_free(&diags);
    return 0;
}
