/* cmd_plugins.c - `digpt plugins`: what was found, what it offers, what could not be used and why. */
#include "cli.h"

static void kinds(const dg_registry *r, const dg_plugin_file *f, dg_str *out)
{
    const char *last = "";
    for (size_t i = 0; i < dg_registry_components(r); i++) {
        const dg_component_ref *c = dg_registry_component(r, i);
        if (c->file != f) continue;
        if (strcmp(last, c->interface))
            dg_str_printf(out, "%s%s ", last[0] ? "; " : "", dg_interface_find(c->interface)->section);
        else
            dg_str_puts(out, ", ");
        dg_str_puts(out, c->factory->name);
        last = c->interface;
    }
}

static int list(const dg_registry *r)
{
    dg_str rows = {0};
    size_t n_failed = 0;
    dg_str_puts(&rows, "ID\tVERSION\tOFFERS\tFILE\n");
    for (size_t i = 0; i < dg_registry_files(r); i++) {
        const dg_plugin_file *f = dg_registry_file(r, i);
        if (f->status != DG_OK) {
            n_failed++;
            continue;
        }
        dg_str_printf(&rows, "%s\t%s\t", f->plugin->id, f->plugin->version);
        kinds(r, f, &rows);
        dg_str_printf(&rows, "\t%s\n", f->path);
    }
    int code = cli_table(&rows);
    if (n_failed)
        fprintf(stderr, "digpt: warning: %zu file%s could not be used: digpt plugins --why says why\n",
                n_failed, n_failed > 1 ? "s" : "");
    return code;
}

static int why(const dg_registry *r)
{
    dg_str text = {0};
    for (size_t i = 0; i < dg_registry_files(r); i++) {
        const dg_plugin_file *f = dg_registry_file(r, i);
        dg_str_printf(&text, "%s\n  found by  %s\n", f->path, f->from);
        if (f->status != DG_OK)
            dg_str_printf(&text, "  NOT USED  %s\n", f->why);
        else
            dg_str_printf(&text, "  loaded    %s %s in %.1f ms, ABI %u.%u, %s\n", f->plugin->id,
                          f->plugin->version, f->seconds * 1e3, f->plugin->abi_major, f->plugin->abi_minor,
                          f->plugin->build);
        if (f->hash[0]) dg_str_printf(&text, "  xxh3      %s\n", f->hash);
    }
    return cli_print(&text);
}

static void describe(const dg_component_ref *c, dg_str *out)
{
    dg_str_printf(out, "\n%s '%s' - %s\n", dg_interface_find(c->interface)->section, c->factory->name,
                  c->factory->help);
    if (c->factory->n_params)
        dg_schema_help(c->factory->params, c->factory->n_params, out);
    else
        dg_str_puts(out, "  no parameters\n");
}

/* Everything of the plugin with that id, or all components of that name. */
static int one(const dg_registry *r, const char *word)
{
    dg_str text = {0};
    const char *names[512];
    size_t n_names = 0, n_components = dg_registry_components(r);
    const dg_plugin_file *last = NULL;
    for (size_t i = 0; i < n_components; i++) {
        const dg_component_ref *c = dg_registry_component(r, i);
        const char *id = c->file->plugin->id;
        if (n_names + 2 <= sizeof names / sizeof names[0]) {
            names[n_names++] = id;
            names[n_names++] = c->factory->name;
        }
        if (strcmp(word, id) && strcmp(word, c->factory->name)) continue;
        if (c->file != last) {
            dg_str_printf(&text, "%s%s %s (%s)\n", last ? "\n" : "", id, c->file->plugin->version,
                          c->file->path);
            last = c->file;
        }
        describe(c, &text);
    }
    if (last) return cli_print(&text);
    const char *nearest = dg_nearest(word, names, n_names);
    dg_error err = DG_ERROR_INIT;
    dg_fail(&err, DG_ERR_NOT_FOUND, "no plugin has the id or a component named '%s'%s%s%s See digpt plugins",
            word, nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : ".");
    return cli_fail(&err);
}

static int run(const cli_args *args)
{
    dg_registry *r = NULL;
    int code = cli_registry(args, &r);
    if (code == CLI_OK)
        code = args->n_words ? one(r, args->words[0]) : cli_has(args, "why") ? why(r) : list(r);
    dg_registry_destroy(r);
    return code;
}

static const cli_option options[] = {
    {"why", NULL, "every file that was met, and why it is used or not"}, CLI_PLUGIN_PATH, {NULL, NULL, NULL}};

const cli_command cmd_plugins = {
    "plugins",
    "[ID or NAME]",
    0,
    1,
    "list plugins, or explain one and its parameters",
    "Plugins are searched in the recipe's `plugins`, --plugin-path, DIGPT_PLUGIN_PATH (separated by\n"
    "colons), $XDG_DATA_HOME/digpt/plugins, lib/digpt/plugins beside the program, the installed folder.",
    options,
    run};
