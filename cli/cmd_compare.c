/* cmd_compare.c - `digpt compare RUN...`: several runs as a table, and as a page. */
#include "cli.h"

#include "train/compare.h"

/* Values that are longer are cut in the middle: a terminal has no room for paths side by side. */
static void put_short(dg_str *out, const char *text)
{
    enum { MOST = 36 };
    size_t n = strlen(text);
    if (n <= MOST) {
        dg_str_puts(out, text);
        return;
    }
    dg_str_bytes(out, text, MOST / 2 - 2);
    dg_str_puts(out, "...");
    dg_str_puts(out, text + n - MOST / 2);
}

/* A column a group, a row a key. */
static dg_status print_differences(dg_comparison *c, const char *task, dg_error *err)
{
    dg_difference *items;
    size_t n;
    dg_str rows = {0};
    DG_TRY(dg_comparison_differences(c, task, &items, &n, err));
    if (n == 0) return DG_OK;
    dg_str_printf(&rows, "\n%s: key", task);
    for (size_t g = 0; g < c->n_groups; g++)
        if (!strcmp(c->groups[g].runs[0]->task, task)) dg_str_printf(&rows, "\t%s", c->groups[g].label);
    dg_str_puts(&rows, "\n");
    for (size_t i = 0; i < n; i++) {
        dg_str_puts(&rows, items[i].key);
        for (size_t g = 0; g < c->n_groups; g++) {
            if (strcmp(c->groups[g].runs[0]->task, task) != 0) continue;
            dg_str_puts(&rows, "\t");
            put_short(&rows, items[i].values[g] ? items[i].values[g] : "-");
        }
        dg_str_puts(&rows, "\n");
    }
    cli_table(&rows);
    return DG_OK;
}

static int run(const cli_args *args)
{
    dg_comparison c = {0};
    dg_error err = DG_ERROR_INIT;
    dg_str rows = {0};
    const char *out = cli_value(args, "out");
    dg_status s = dg_comparison_open((const char *const *)args->words, (size_t)args->n_words, &c, &err);
    if (s == DG_OK && out) s = dg_comparison_page(&c, out, &err);
    if (s == DG_OK) {
        dg_comparison_table(&c, &rows);
        cli_table(&rows);
    }
    for (size_t g = 0; s == DG_OK && g < c.n_groups; g++) {
        const char *task = dg_comparison_task(&c, g);
        if (task) s = print_differences(&c, task, &err);
    }
    if (s == DG_OK && out) printf("\npage: %s\n", out);
    dg_comparison_close(&c);
    return s == DG_OK ? CLI_OK : cli_fail(&err);
}

static const cli_option options[] = {
    {"out", "FILE.html", "also write one page with all this, the curves, and the runs' pictures"},
    {NULL, NULL, NULL},
};

const cli_command cmd_compare = {
    .name = "compare",
    .words = "[LABEL=]RUN...",
    .least = 1,
    .most = -1,
    .help = "put several runs side by side: figures, recipe differences, curves",
    .more =
        "A RUN is the folder that `digpt run` made, of any task. Runs whose recipes differ in name, output "
        "and seed\n"
        "only are repeats: one row, with mean and standard deviation. Weights that come from another run "
        "count as\n"
        "that run's recipe, so that a chain of runs may be repeated with another seed.",
    .options = options,
    .run = run,
};
