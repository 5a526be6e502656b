/* cmd_recipe.c - `digpt recipe list|copy|check|show|diff`: recipes as text, before anything runs. */
#include "cli.h"

#include "base/file.h"

/* ---- list */

static int run_list(const cli_args *args)
{
    dg_arena arena = {0};
    dg_recipe_entry *entries = NULL;
    size_t n = 0;
    dg_error err = DG_ERROR_INIT;
    dg_str rows = {0};
    int code;
    if (dg_recipe_list(&arena, &entries, &n, &err) == DG_OK) {
        bool names = cli_has(args, "names");
        if (!names) dg_str_puts(&rows, "RECIPE\tABOUT\tFILE\n");
        for (size_t i = 0; i < n; i++)
            if (names)
                dg_str_printf(&rows, "%s\n", entries[i].name);
            else
                dg_str_printf(&rows, "%s\t%s\t%s\n", entries[i].name, entries[i].help, entries[i].path);
        code = cli_table(&rows);
    } else
        code = cli_fail(&err);
    dg_arena_free(&arena);
    return code;
}

static const cli_option list_options[] = {{"names", NULL, "only their names, one a line"},
                                          {NULL, NULL, NULL}};

const cli_command cmd_recipe_list = {
    "recipe list",
    "",
    0,
    0,
    "list the recipes that can be named without a path",
    "Looks in ./recipes, the folders of DIGPT_RECIPE_PATH (separated by colons), and the installed folder.",
    list_options,
    run_list};

/* ---- copy */

static int run_copy(const cli_args *args)
{
    dg_error err = DG_ERROR_INIT;
    char *path = NULL, *bytes = NULL, *to = NULL;
    size_t size = 0;
    dg_status s = dg_recipe_find(args->words[0], &path, &err);
    if (s == DG_OK) {
        const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
        const char *target = args->n_words > 1 ? args->words[1] : ".";
        to = dg_path_is_dir(target) ? dg_path_join(target, base) : dg_strdup(target);
        s = dg_file_read(path, DG_YAML_MAX_BYTES, &bytes, &size, &err);
    }
    if (s == DG_OK && !to) s = dg_fail(&err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK && dg_path_is_file(to) && !cli_has(args, "force"))
        s = dg_fail(&err, DG_ERR_INVALID, "'%s' is there already; --force replaces it", to);
    if (s == DG_OK) s = dg_file_write_atomic(to, bytes, size, &err);
    int code = CLI_OK;
    if (s == DG_OK)
        printf("%s\n", to);
    else
        code = cli_fail(&err);
    dg_free(to);
    dg_free(bytes);
    dg_free(path);
    return code;
}

static const cli_option copy_options[] = {{"force", NULL, "replace a file that is there"},
                                          {NULL, NULL, NULL}};

const cli_command cmd_recipe_copy = {
    "recipe copy",
    "RECIPE [PATH]",
    1,
    2,
    "copy a recipe to a file or folder of yours, to change it",
    "The copy says what the original says; relative paths in it start at its new folder.",
    copy_options,
    run_copy};

/* ---- show */

static int run_show(const cli_args *args)
{
    cli_recipe r;
    int code = cli_recipe_open(args, args->words[0], args->words + 1, args->n_words - 1, &r);
    if (code != CLI_OK) return code;
    dg_str text = {0};
    dg_recipe_print(r.recipe, cli_has(args, "origins"), &text);
    code = cli_print(&text);
    cli_recipe_close(&r);
    return code;
}

static const cli_option show_options[] = {
    {"origins", NULL, "say behind each value where it was written"}, CLI_PLUGIN_PATH, {NULL, NULL, NULL}};

const cli_command cmd_recipe_show = {"recipe show",
                                     "RECIPE [key=value ...]",
                                     1,
                                     -1,
                                     "print a recipe with all values, as it would run",
                                     NULL,
                                     show_options,
                                     run_show};

/* ---- diff */

static void print_difference(const dg_recipe_difference *d, dg_str *rows)
{
    char a[512], b[512];
    dg_str_printf(rows, "%s\t%s\t%s\t%s\t%s\n", d->key, d->a ? d->a : "-", d->b ? d->b : "-",
                  d->a ? dg_pos_text(d->a_pos, a, sizeof a) : "-",
                  d->b ? dg_pos_text(d->b_pos, b, sizeof b) : "-");
}

static int run_diff(const cli_args *args)
{
    cli_recipe a, b;
    int code = cli_recipe_open(args, args->words[0], NULL, 0, &a);
    if (code != CLI_OK) return code;
    code = cli_recipe_open(args, args->words[1], args->words + 2, args->n_words - 2, &b);
    if (code == CLI_OK) {
        dg_arena arena = {0};
        dg_recipe_difference *items = NULL;
        size_t n = 0;
        dg_error err = DG_ERROR_INIT;
        dg_str rows = {0};
        if (dg_recipe_diff(a.recipe, b.recipe, &arena, &items, &n, &err) == DG_OK) {
            if (n) dg_str_puts(&rows, "KEY\tFIRST\tSECOND\tWRITTEN IN FIRST\tWRITTEN IN SECOND\n");
            for (size_t i = 0; i < n; i++) print_difference(&items[i], &rows);
            code = n ? cli_table(&rows) : CLI_OK;
            if (n == 0) puts("no difference");
        } else
            code = cli_fail(&err);
        dg_arena_free(&arena);
        cli_recipe_close(&b);
    }
    cli_recipe_close(&a);
    return code;
}

static const cli_option diff_options[] = {CLI_PLUGIN_PATH, {NULL, NULL, NULL}};

const cli_command cmd_recipe_diff = {
    "recipe diff",
    "RECIPE RECIPE [key=value ...]",
    2,
    -1,
    "list the values in which two recipes differ",
    "Overrides go to the second: `digpt recipe diff a a tokenizer.name=pixels` shows what they do.",
    diff_options,
    run_diff};
