/* cmd_visualize.c - `digpt visualize RUN [IMAGE...]`: what a model sees in images, and says of them, as PNG
 * files. */
#include "cli.h"

#include "base/file.h"
#include "data.h"
#include "train/report.h"
#include "train/rundir.h"
#include "train/visualize.h"
#include "trained.h"

/* Image files and folders as they are, else a list or tar shards. */
static dg_status open_images(char *const *words, int n, dg_source **source, dg_error *err)
{
    if (n == 0) return DG_OK;
    if (n == 1 && !dg_path_is_dir(words[0]) && !dg_source_is_image(words[0]))
        return cli_source_open(words[0], source, err);
    return dg_source_open_images((const char *const *)words, (size_t)n, source, err);
}

/* A classifier is looked at without tokenizer and loss; images of one's own are in no cache of tokens. */
static int open_trained(const cli_args *args, bool own_images, cli_trained *t)
{
    static char no_cache[] = "tokens.cache=null";
    char *overrides[] = {no_cache};
    int code = cli_trained_open(args, args->words[0], overrides, own_images, false, t);
    if (code != CLI_OK || strcmp(dg_recipe_string(t->recipe.recipe, "task"), "finetune") != 0) return code;
    cli_trained_close(t);
    return cli_trained_open(args, args->words[0], NULL, 0, true, t);
}

static dg_status write_pages(const cli_args *args, const char *dir, const char *out, bool own_images,
                             dg_error *err)
{
    char title[160];
    snprintf(title, sizeof title, "Pictures of %.100s", args->words[0]);
    DG_TRY(dg_pictures_page(out, title, err));
    char *recipe = dg_path_join(dir, "recipe.yaml");
    bool report = !own_images && !cli_has(args, "out") && recipe && dg_path_is_file(recipe);
    dg_free(recipe);
    return report ? dg_report_write(dir, err) : DG_OK;
}

static int run(const cli_args *args)
{
    const char *out = cli_value(args, "out");
    char dir[1024], folder[1100];
    int64_t pictures = 0;
    bool own_images = args->n_words > 1;
    dg_error err = DG_ERROR_INIT;
    dg_source *source = NULL;
    cli_trained t;
    int code = open_trained(args, own_images, &t);
    if (code != CLI_OK) return code;
    const char *word = dg_path_is_dir(args->words[0]) ? args->words[0] : NULL;
    dg_status s = dg_rundir_path(t.recipe.recipe, word, dir, sizeof dir, &err);
    snprintf(folder, sizeof folder, "%s/%s", dir, own_images ? "visualized" : DG_PICTURES_FOLDER);
    if (!out) out = folder;
    dg_visualize_options o = {.weights = t.weights, .classes = t.classes, .run_dir = dir, .out = out};
    if (s == DG_OK) s = open_images(args->words + 1, args->n_words - 1, &source, &err);
    o.source = source;
    if (s == DG_OK) s = dg_visualize(t.recipe.recipe, t.recipe.plugins.registry, &o, &pictures, &err);
    if (s == DG_OK) s = write_pages(args, dir, out, own_images, &err);
    if (s == DG_OK)
        printf("%lld pictures: %s/*.png, all together: %s/index.html\n", (long long)pictures, out, out);
    code = s == DG_OK ? CLI_OK : cli_recipe_fail(&t.recipe, &err);
    dg_source_close(source);
    cli_trained_close(&t);
    return code;
}

static const cli_option options[] = {
    {"out", "DIR",
     "where the pictures go; otherwise RUN/visualized, or RUN/pictures for the run's own images"},
    CLI_WEIGHTS,
    CLI_PLUGIN_PATH,
    {NULL, NULL, NULL},
};

const cli_command cmd_visualize = {
    .name = "visualize",
    .words = "RUN|RECIPE [IMAGE...]",
    .least = 1,
    .most = -1,
    .help = "draw what a model sees in images, predicts, and gets wrong",
    .more =
        "Of a pretrained model: the crop, the order of segments or what is hidden, the tokens, predictions "
        "and "
        "losses.\n"
        "Of a classifier: its classes. IMAGES are image files, folders of them, one list file or one .tar, "
        "central\n"
        "crops of which are taken; without any, the run's own images are drawn again as for its report, "
        "which "
        "is\n"
        "written anew.",
    .options = options,
    .run = run,
};
