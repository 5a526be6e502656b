/* cmd_tokenize.c - `digpt tokenize`: teacher tokens of fixed views, written once. */
#include "cli.h"

#include <unistd.h>

#include "base/mem.h"
#include "train/token_cache.h"

typedef struct told {
    const dg_parts *parts;
    const char *dir;
    bool int8;
    int64_t last; /* thousandths shown */
} told;

static void show(void *user, int64_t done, int64_t total)
{
    told *t = user;
    char size[32];
    if (done == 0)
        fprintf(
            stderr, "%lld views, %s in all, in '%s'\n", (long long)total,
            cli_bytes((double)dg_token_cache_bytes(&t->parts->tokens, total, 1, t->int8), size, sizeof size),
            t->dir);
    if (!isatty(STDERR_FILENO) || (done * 1000 / total == t->last && done != total)) return;
    t->last = done * 1000 / total;
    fprintf(stderr, "\r%lld of %lld views (%.1f %%)%s", (long long)done, (long long)total,
            100.0 * (double)done / (double)total, done == total ? "\n" : "");
}

/* The recipe without its cache, which is yet to be made; *dir is where, to be dg_free'd. The exit code. */
static int open_recipe(const cli_args *args, cli_recipe *r, char **dir)
{
    static char no_cache[] = "tokens.cache=null";
    int n = args->n_words - 1, code = cli_recipe_open(args, args->words[0], args->words + 1, n, r);
    const char *said = cli_value(args, "out");
    *dir = NULL;
    if (code != CLI_OK) return code;
    if (!said) said = dg_recipe_string(r->recipe, "tokens.cache");
    char **more = dg_calloc((size_t)n + 1, sizeof *more);
    *dir = said ? dg_strdup(said) : NULL;
    for (int i = 0; more && i < n; i++) more[i] = args->words[1 + i];
    if (more) more[n] = no_cache;
    cli_recipe_close(r);
    code = more ? cli_recipe_open(args, args->words[0], more, n + 1, r) : CLI_FAILED;
    dg_free(more);
    return code;
}

static int run(const cli_args *args)
{
    cli_recipe r;
    char *dir;
    int code = open_recipe(args, &r, &dir);
    dg_parts parts = {0};
    dg_error err = DG_ERROR_INIT;
    if (code == CLI_OK) {
        told t = {&parts, dir, cli_has(args, "int8"), -1};
        dg_status s = dir ? dg_parts_open(r.recipe, r.plugins.registry, true, &parts, &err)
                          : dg_fail(&err, DG_ERR_INVALID,
                                    "--out DIR or the recipe's tokens.cache must say where the tokens go");
        if (s == DG_OK) s = dg_token_cache_make(&parts, dir, t.int8, show, &t, &err);
        if (s == DG_OK)
            printf("train from it with: tokens.cache=%s\n", dir);
        else
            code = cli_recipe_fail(&r, &err);
        dg_parts_close(&parts);
        cli_recipe_close(&r);
    }
    dg_free(dir);
    return code;
}

static const cli_option options[] = {
    {"out", "DIR",
     "folder of the cache, otherwise the recipe's tokens.cache; one that is there is gone on with"},
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
