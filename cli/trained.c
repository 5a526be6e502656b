/* trained.c - see trained.h. */
#include "trained.h"

#include "base/file.h"
#include "train/classes.h"
#include "train/rundir.h"

/* The recipe, without tokenizer and loss if it is only for its encoder. */
static int open_recipe(const cli_args *args, const char *path, char *const *overrides, int n, bool encoder,
                       cli_recipe *out)
{
    static char tokenizer[] = "~tokenizer", loss[] = "~loss";
    int code = cli_recipe_open(args, path, overrides, n, out), m = n;
    if (code != CLI_OK || !encoder) return code;
    char **more = dg_calloc((size_t)n + 2, sizeof *more);
    dg_error err = DG_ERROR_INIT;
    if (!more) {
        dg_fail(&err, DG_ERR_NOMEM, "out of memory");
        cli_recipe_close(out);
        return cli_fail(&err);
    }
    for (int i = 0; i < n; i++) more[i] = overrides[i];
    if (dg_recipe_component(out->recipe, "tokenizer", NULL)) more[m++] = tokenizer;
    if (dg_recipe_component(out->recipe, "loss", NULL)) more[m++] = loss;
    if (m > n) {
        cli_recipe_close(out);
        code = cli_recipe_open(args, path, more, m, out);
    }
    dg_free(more);
    return code;
}

static dg_status find_weights(const cli_args *args, const char *dir, cli_trained *t, dg_error *err)
{
    const char *said = cli_value(args, "weights"),
               *from = dg_recipe_string(t->recipe.recipe, "train.init_from");
    bool last = said && !strcmp(said, "last"), named = said && !last && strcmp(said, "best") != 0;
    if (!named) DG_TRY(dg_rundir_weights(dir, !last, &t->weights, err));
    if (!t->weights && (named || (!said && from))) {
        t->weights = dg_strdup(named ? said : from);
        if (!t->weights) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    if (t->weights) return DG_OK;
    return dg_fail(err, DG_ERR_NOT_FOUND,
                   "there is no checkpoint in '%s'; train first, or name a file with --weights", dir);
}

static dg_status find_classes(const char *dir, cli_trained *t, dg_error *err)
{
    char *path = dg_path_join(dir, DG_CLASSES_FILE);
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (dg_path_is_file(path))
        t->classes = path;
    else
        dg_free(path);
    return DG_OK;
}

int cli_trained_open(const cli_args *args, const char *word, char *const *overrides, int n, bool encoder,
                     cli_trained *out)
{
    char dir[1024], path[1100];
    bool is_run = dg_path_is_dir(word);
    dg_error err = DG_ERROR_INIT;
    *out = (cli_trained){0};
    if (is_run) {
        if (snprintf(dir, sizeof dir, "%s", word) >= (int)sizeof dir)
            return cli_usage("%s: the path is too long", args->command->name);
        snprintf(path, sizeof path, "%s/recipe.yaml", dir);
        if (!dg_path_is_file(path))
            return cli_usage("%s: '%s' is a folder without recipe.yaml: it is no run", args->command->name,
                             word);
    }
    int code = open_recipe(args, is_run ? path : word, overrides, n, encoder, &out->recipe);
    if (code != CLI_OK) return code;
    dg_status s = is_run ? DG_OK : dg_rundir_path(out->recipe.recipe, NULL, dir, sizeof dir, &err);
    if (s == DG_OK) s = find_weights(args, dir, out, &err);
    if (s == DG_OK) s = find_classes(dir, out, &err);
    if (s == DG_OK) return CLI_OK;
    code = cli_recipe_fail(&out->recipe, &err);
    cli_trained_close(out);
    return code;
}

void cli_trained_close(cli_trained *t)
{
    cli_recipe_close(&t->recipe);
    dg_free(t->weights);
    dg_free(t->classes);
    *t = (cli_trained){0};
}
