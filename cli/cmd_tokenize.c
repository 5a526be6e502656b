/* cmd_tokenize.c - `digpt tokenize`: teacher tokens of fixed views, written once. */
#include "cli.h"

#include <unistd.h>

#include "train/token_cache.h"

static void show(void *user, int64_t done, int64_t total)
{
    int64_t *last = user;
    if (!isatty(STDERR_FILENO) || (done * 1000 / total == *last && done != total)) return;
    *last = done * 1000 / total;
    fprintf(stderr, "\r%lld of %lld views (%.1f %%)%s", (long long)done, (long long)total,
            100.0 * (double)done / (double)total, done == total ? "\n" : "");
}

static int run(const cli_args *args)
{
    cli_recipe r;
    int code = cli_recipe_open(args, args->words[0], args->words + 1, args->n_words - 1, &r);
    if (code != CLI_OK) return code;
    const char *dir = cli_value(args, "out");
    dg_parts parts = {0};
    dg_error err = DG_ERROR_INIT;
    int64_t last = -1;
    dg_status s = dir ? dg_parts_open(r.recipe, r.plugins.registry, true, &parts, &err)
                      : dg_fail(&err, DG_ERR_INVALID, "--out DIR must say where the tokens go");
    if (s == DG_OK) s = dg_token_cache_make(&parts, dir, cli_has(args, "int8"), show, &last, &err);
    if (s == DG_OK)
        printf("train from it with: tokens.cache=%s\n", dir);
    else
        code = cli_recipe_fail(&r, &err);
    dg_parts_close(&parts);
    cli_recipe_close(&r);
    return code;
}

static const cli_option options[] = {
    {"out", "DIR", "folder of the cache; one that is there is gone on with"},
    {"int8", NULL, "8 bits a number and one scale a token, instead of bf16"},
    CLI_PLUGIN_PATH,
    {NULL, NULL, NULL},
};

const cli_command cmd_tokenize = {
    .name = "tokenize",
    .words = "RECIPE [key=value ...]",
    .least = 1,
    .most = -1,
    .help = "write the teacher's tokens of data.views fixed crops of each image",
    .more = "A run with tokens.cache=DIR reads them: no teacher is in memory, and it sees the same crops as "
            "a run with the\n"
            "live teacher and the same data.views.",
    .options = options,
    .run = run,
};
