/* cmd_recipe_reference.c - `digpt recipe reference`: every key that a recipe may have, from the schemas. */
#include "cli.h"

#include "recipe/schema.h"

static void components(const dg_registry *r, dg_str *out)
{
    for (size_t k = 0; k < dg_interface_count(); k++) {
        const dg_interface *kind = dg_interface_at(k);
        if (!dg_schema_section(kind->section)) continue; /* no recipe names one */
        for (size_t i = 0; i < dg_registry_components(r); i++) {
            const dg_component_ref *c = dg_registry_component(r, i);
            if (strcmp(c->interface, kind->name) != 0) continue;
            dg_str_printf(out, "\n## %s: %s\n\n%s.\n\n", kind->section, c->factory->name, c->factory->help);
            if (c->factory->n_params)
                dg_schema_markdown(c->factory->params, c->factory->n_params, out);
            else
                dg_str_puts(out, "It has no parameters.\n");
        }
    }
}

static int run(const cli_args *args)
{
    dg_registry *r = NULL;
    dg_str out = {0};
    int code = cli_registry(args, &r);
    if (code != CLI_OK) return code;
    if (cli_has(args, "markdown")) {
        dg_schema_markdown_all(&out);
        components(r, &out);
    } else {
        dg_schema_help_all(&out);
        dg_str_puts(&out, "\n`digpt plugins NAME` lists the keys of a tokenizer, model, loss or backend.\n");
    }
    code = cli_print(&out);
    dg_registry_destroy(r);
    return code;
}

static const cli_option options[] = {
    {"markdown", NULL, "with the parameters of all components, as docs/recipes.md"},
    CLI_PLUGIN_PATH,
    {NULL, NULL, NULL},
};

const cli_command cmd_recipe_reference = {
    .name = "recipe reference",
    .words = "",
    .least = 0,
    .most = 0,
    .help = "list every key that a recipe may have",
    .more = NULL,
    .options = options,
    .run = run,
};
