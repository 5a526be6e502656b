/* open.c - what commands work on: plugins, and a recipe with its plugins. */
#include "cli.h"

static void print_diagnostics(dg_diagnostics *diags)
{
    dg_str text = {0};
    dg_diagnostics_print(diags, &text);
    if (text.text) fputs(text.text, stderr);
    dg_str_free(&text);
    dg_diagnostics_free(diags);
}

int cli_registry(const cli_args *args, dg_registry **out)
{
    dg_error err = DG_ERROR_INIT;
    dg_search search = {0};
    const char **paths = cli_values(args, "plugin-path", &search.n_option);
    dg_status s = paths ? DG_OK : dg_fail(&err, DG_ERR_NOMEM, "out of memory");
    search.option_paths = paths;
    if (s == DG_OK) s = dg_registry_create(&search, out, &err);
    dg_free(paths);
    return s == DG_OK ? CLI_OK : cli_fail(&err);
}

/* A plugin that was not asked for may be broken without harm to this recipe; it is told all the same. */
static void warn_of_plugins(const dg_registry *r)
{
    for (size_t i = 0; r && i < dg_registry_files(r); i++) {
        const dg_plugin_file *f = dg_registry_file(r, i);
        if (f->status != DG_OK && !f->asked)
            fprintf(stderr, "digpt: warning: plugin '%s': %s\n", f->path, f->why);
    }
}

int cli_recipe_open(const cli_args *args, const char *name, char *const *overrides, int n, cli_recipe *out)
{
    dg_error err = DG_ERROR_INIT;
    dg_diagnostics diags = {0};
    *out = (cli_recipe){0};
    out->paths = cli_values(args, "plugin-path", &out->plugins.n_option);
    out->plugins.option_paths = out->paths;
    dg_status s =
        out->paths ? dg_recipe_find(name, &out->path, &err) : dg_fail(&err, DG_ERR_NOMEM, "out of memory");
    int code = s == DG_OK ? CLI_OK : cli_fail(&err);
    if (s == DG_OK) {
        dg_schema_source source = dg_plugin_schemas(&out->plugins);
        s = dg_recipe_load(out->path, (const char *const *)overrides, (size_t)n, &source, &out->recipe,
                           &diags);
        warn_of_plugins(out->plugins.registry);
        print_diagnostics(&diags);
        if (s != DG_OK) code = CLI_FAILED;
    }
    if (code != CLI_OK) cli_recipe_close(out);
    return code;
}

void cli_recipe_close(cli_recipe *r)
{
    dg_recipe_free(r->recipe);
    dg_registry_destroy(r->plugins.registry);
    dg_free(r->paths);
    dg_free(r->path);
    *r = (cli_recipe){0};
}

int cli_recipe_fail(const cli_recipe *r, const dg_error *err)
{
    dg_diagnostics diags = {0};
    if (!err->key[0] || err->code == DG_ERR_STOPPED) return cli_fail(err);
    dg_recipe_blame(r->recipe, err, &diags);
    print_diagnostics(&diags);
    return CLI_FAILED;
}
