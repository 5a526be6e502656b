/* cmd_bench.c - `digpt bench`: how fast a recipe trains on this machine. */
#include "cli.h"

#include "io/jsonl.h"
#include "train/bench.h"
#include "train/token_error.h"

static int print_json(const dg_bench *b)
{
    dg_str row = {0}, line = {0};
    dg_row_number(&row, "images_per_second", b->images_per_second);
    dg_row_number(&row, "ms_per_step", b->ms_per_step);
    dg_row_number(&row, "gflop_per_image", b->gflop_per_image);
    dg_row_number(&row, "gflops", b->gflops);
    dg_row_number(&row, "peak_gflops", b->peak_gflops);
    dg_row_number(&row, "fraction_of_peak", b->fraction_of_peak);
    dg_row_number(&row, "data_wait_fraction", b->data_wait_fraction);
    dg_row_number(&row, "peak_rss_bytes", b->peak_rss_bytes);
    dg_row_text(&row, "backend", b->backend);
    dg_row_text(&row, "precision", b->precision);
    dg_row_int(&row, "batch", b->batch);
    dg_row_int(&row, "steps", b->steps);
    if (row.failed) line.failed = true;
    dg_str_printf(&line, "%s}\n", row.text ? row.text : "{");
    dg_str_free(&row);
    return cli_print(&line);
}

static int print_table(const dg_bench *b)
{
    dg_str rows = {0};
    char bytes[32];
    dg_str_printf(&rows, "speed\t%.4g images/s (%.1f ms a step of %lld, median of %lld)\n",
                  b->images_per_second, b->ms_per_step, (long long)b->batch, (long long)b->steps);
    dg_str_printf(&rows, "work\t%.4g GFLOP an image, %.1f GFLOP/s\n", b->gflop_per_image, b->gflops);
    dg_str_printf(&rows, "peak\t%.1f GFLOP/s of GEMM in %s, of which %.1f %% reached\n", b->peak_gflops,
                  b->precision, 100 * b->fraction_of_peak);
    dg_str_printf(&rows, "data wait\t%.1f %%\n", 100 * b->data_wait_fraction);
    dg_str_printf(&rows, "memory\t%s at most\n", cli_bytes(b->peak_rss_bytes, bytes, sizeof bytes));
    dg_str_printf(&rows, "backend\t%s\n", b->backend);
    return cli_table(&rows);
}

/* ---- in turns with another program: a line of standard input asks for a step, a line of JSON answers */

static bool next_line(void *user)
{
    bool *ready = user;
    if (!*ready) printf("{\"ready\": true}\n");
    *ready = true;
    fflush(stdout);
    for (int c = 0; c != '\n';) {
        c = getchar();
        if (c == EOF) return false;
    }
    return true;
}

static void print_ms(void *user, double ms)
{
    (void)user;
    printf("{\"ms\": %.3f}\n", ms);
}

static bool choose_part(const cli_args *args, dg_bench_part *part)
{
    static const char *const words[] = {
        [DG_BENCH_STEP] = "step", [DG_BENCH_TOKENIZER] = "tokenizer", [DG_BENCH_ENCODER] = "encoder"};
    const char *given = cli_value(args, "part");
    for (size_t i = 0; given && i < sizeof words / sizeof words[0]; i++)
        if (strcmp(given, words[i]) == 0) {
            *part = (dg_bench_part)i;
            return true;
        }
    if (given) fprintf(stderr, "digpt bench: --part is step, tokenizer or encoder, not '%s'\n", given);
    return !given;
}

static int run(const cli_args *args)
{
    cli_recipe r;
    bool ready = false;
    dg_bench_options o = {.steps = 10, .warmup = 2, .nodes = cli_has(args, "nodes")};
    if (cli_has(args, "paced")) {
        o.steps = 1000;
        o.before = next_line;
        o.after = print_ms;
        o.user = &ready;
    }
    if (!choose_part(args, &o.part)) return CLI_USAGE;
    if (!cli_number(args, "steps", 1, 1000000, &o.steps) ||
        !cli_number(args, "warmup", 0, 1000000, &o.warmup))
        return CLI_USAGE;
    int code = cli_recipe_open(args, args->words[0], args->words + 1, args->n_words - 1, &r);
    if (code != CLI_OK) return code;
    dg_bench b;
    dg_str nodes = {0};
    dg_error err = DG_ERROR_INIT;
    if (cli_has(args, "token-error")) {
        code = dg_token_error(r.recipe, r.plugins.registry, &nodes, &err) == DG_OK
                   ? cli_table(&nodes)
                   : cli_recipe_fail(&r, &err);
        dg_str_free(&nodes);
        cli_recipe_close(&r);
        return code;
    }
    if (dg_bench_run(r.recipe, r.plugins.registry, &o, &b, &nodes, &err) == DG_OK)
        code = cli_has(args, "json") || o.before ? print_json(&b) : print_table(&b);
    else
        code = cli_recipe_fail(&r, &err);
    if (code == CLI_OK && o.nodes) code = cli_table(&nodes);
    dg_str_free(&nodes);
    cli_recipe_close(&r);
    return code;
}

static const cli_option options[] = {
    {"steps", "N", "steps to time (10)"},
    {"warmup", "N", "steps before them (2)"},
    {"json", NULL, "one line of JSON"},
    {"part", "P", "step, tokenizer or encoder: what is run (step)"},
    {"paced", NULL,
     "do a step for each line of standard input, at most --steps (1000); bench/compare.py uses it"},
    {"token-error", NULL, "no times: what the tokenizer loses by its precision against f32, layer by layer"},
    {"nodes", NULL, "where the time goes, by op; timing costs a little"},
    CLI_PLUGIN_PATH,
    {NULL, NULL, NULL},
};

const cli_command cmd_bench = {
    .name = "bench",
    .words = "RECIPE [key=value ...]",
    .least = 1,
    .most = -1,
    .help = "time the training step of a recipe, or a part of it",
    .more = "Runs on the recipe's data without writing anything. The peak is a GEMM measured in the same "
            "process, on the\n"
            "shape of the program's largest product and on a square one; FLOPs are 2mnk of the program's "
            "products.",
    .options = options,
    .run = run,
};
