/* cmd_features.c - `digpt features RUN|RECIPE IMAGES...`: an encoder's features of images, into a file. */
#include "cli.h"

#include <string.h>

#include "base/file.h"
#include "data.h"
#include "train/features.h"
#include "train/run.h"
#include "trained.h"

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* What lies there: images and folders of them are taken as they are, else a list or tar shards. */
static dg_status open_images(char *const *words, int n, dg_source **source, dg_error *err)
{
    if (n == 1 && !dg_path_is_dir(words[0]) && !dg_source_is_image(words[0]))
        return cli_source_open(words[0], source, err);
    return dg_source_open_images((const char *const *)words, (size_t)n, source, err);
}

static dg_status extract(const cli_trained *t, const dg_feature_spec *spec, const dg_source *source,
                         dg_feature_set *out, dg_error *err)
{
    dg_parts parts = {0};
    dg_run_plan plan = {0};
    dg_state state = {0};
    dg_extractor e = {0};
    dg_status s = dg_parts_open(t->recipe.recipe, t->recipe.plugins.registry, true, &parts, err);
    if (s == DG_OK) s = dg_run_make_plan(&parts, 0, &plan, err);
    if (s == DG_OK) s = dg_extractor_open(&parts, spec, plan.batch, plan.compute, &e, err);
    if (s == DG_OK) s = dg_state_open(&parts, &state, err);
    if (s == DG_OK) s = dg_state_init(&state, e.graph, parts.seed, false, err);
    if (s == DG_OK) s = dg_state_load(&state, e.graph, t->weights, "norm.", err);
    if (s == DG_OK) s = dg_extractor_bind(&e, &state, NULL, err);
    if (s == DG_OK) s = dg_features_extract(&e, source, (dg_feature_range){0, 0}, out, err);
    dg_extractor_close(&e);
    dg_state_close(&state);
    dg_parts_close(&parts);
    return s;
}

static dg_status write_out(const char *path, const dg_feature_spec *spec, const dg_feature_set *f,
                           dg_error *err)
{
    char key[200];
    snprintf(key, sizeof key, "layer %lld, %s%s", (long long)spec->layer,
             spec->pool == DG_POOL_CLASS ? "class token" : "mean", spec->norm ? ", normed" : "");
    return ends_in(path, ".npy") ? dg_features_write_npy(path, f, err) : dg_features_write(path, key, f, err);
}

static int run(const cli_args *args)
{
    const char *out = cli_value(args, "out"), *pool = cli_value(args, "pool");
    dg_feature_spec spec = {0, DG_POOL_MEAN, !cli_has(args, "no-norm")};
    dg_error err = DG_ERROR_INIT;
    cli_trained t;
    dg_source *source = NULL;
    dg_feature_set f = {0};
    if (!out || (!ends_in(out, ".npy") && !ends_in(out, ".safetensors")))
        return cli_usage("features: --out FILE is needed, ending in .safetensors or .npy");
    if (pool && strcmp(pool, "mean") != 0 && strcmp(pool, "class") != 0)
        return cli_usage("features: --pool %s: it is mean or class", pool);
    if (!cli_number(args, "layer", 0, 1024, &spec.layer)) return CLI_USAGE;
    if (pool && strcmp(pool, "class") == 0) spec.pool = DG_POOL_CLASS;
    int code = cli_trained_open(args, args->words[0], NULL, 0, true, &t);
    if (code != CLI_OK) return code;
    dg_status s = open_images(args->words + 1, args->n_words - 1, &source, &err);
    if (s == DG_OK) s = extract(&t, &spec, source, &f, &err);
    if (s == DG_OK) s = write_out(out, &spec, &f, &err);
    if (s == DG_OK)
        printf("%lld images, features of width %lld: %s\n", (long long)f.n, (long long)f.width, out);
    code = s == DG_OK ? CLI_OK : cli_recipe_fail(&t.recipe, &err);
    dg_feature_set_free(&f);
    dg_source_close(source);
    cli_trained_close(&t);
    return code;
}

static const cli_option options[] = {
    {"out", "FILE", "FILE.safetensors (features, labels, ids) or FILE.npy (features alone)"},
    {"layer", "N", "features after N blocks; otherwise, and 0: after all"},
    {"pool", "mean|class", "mean of the patch tokens (otherwise), or the class token"},
    {"no-norm", NULL, "without the encoder's last norm"},
    CLI_WEIGHTS,
    CLI_PLUGIN_PATH,
    {NULL, NULL, NULL},
};

const cli_command cmd_features = {
    .name = "features",
    .words = "RUN|RECIPE IMAGES...",
    .least = 2,
    .most = -1,
    .help = "write an encoder's features of images",
    .more = "RUN is the folder of a run; a RECIPE's run is the one in its output folder, or else its weights "
            "are\n"
            "train.init_from's. IMAGES are image files and folders, which are searched and sorted by name; "
            "or one list\n"
            "file, or one .tar. Pictures are central crops of the recipe's data.image_size.",
    .options = options,
    .run = run,
};
