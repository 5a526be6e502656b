/* cmd_zeroshot.c - `digpt zeroshot RUN`: how well a trained CLIP names what it never saw labels of. */
#include "cli.h"

#include "base/file.h"
#include "data/text.h"
#include "train/captions.h"
#include "train/dataset.h"
#include "train/rundir.h"
#include "train/zeroshot.h"

static dg_status classify(const cli_recipe *r, const char *dir, const char *const *templates, size_t n,
                          dg_zeroshot_result *result, dg_error *err)
{
    static const char *const usual[] = {"a {}"};
    dg_parts parts = {0};
    dg_source *training = NULL, *source = NULL;
    dg_vocabulary *words = NULL;
    char *weights = NULL;
    dg_status s = dg_rundir_weights(dir, false, &weights, err);
    if (s == DG_OK && !weights) s = dg_fail(err, DG_ERR_NOT_FOUND, "'%s' holds no checkpoint", dir);
    if (s == DG_OK) s = dg_parts_open(r->recipe, r->plugins.registry, true, &parts, err);
    if (s == DG_OK) s = dg_dataset_open(r->recipe, NULL, &training, err);
    if (s == DG_OK) s = dg_dataset_open_validation(r->recipe, NULL, training, &source, err);
    if (s == DG_OK && !source)
        s = dg_fail_key(err, DG_ERR_INVALID, "data.val_path", "data.val_path must say what to classify");
    if (s == DG_OK) s = dg_captions_open(r->recipe, training, dir, &words, err);
    if (s == DG_OK && !words)
        s = dg_fail_key(err, DG_ERR_INVALID, "data.caption_length", "the run's model reads no captions");
    parts.vocabulary = words;
    const dg_zeroshot_options options = {weights, n ? templates : usual, n ? n : 1};
    if (s == DG_OK) s = dg_zeroshot(&parts, source, &options, result, err);
    dg_vocabulary_free(words);
    dg_source_close(source);
    dg_source_close(training);
    dg_parts_close(&parts);
    dg_free(weights);
    return s;
}

static int run(const cli_args *args)
{
    size_t n = 0;
    dg_error err = DG_ERROR_INIT;
    dg_zeroshot_result result;
    cli_recipe r;
    char *path = dg_path_join(args->words[0], "recipe.yaml");
    const char **templates = cli_values(args, "template", &n);
    int code = path ? cli_recipe_open(args, path, args->words + 1, args->n_words - 1, &r) : CLI_FAILED;
    if (code == CLI_OK) {
        if (classify(&r, args->words[0], templates, n, &result, &err) == DG_OK)
            printf(
                "zero-shot on %lld images of %lld classes: top-1 %.2f %%, top-5 %.2f %% (chance %.2f %%)\n",
                (long long)result.images, (long long)result.classes, 100 * result.top1, 100 * result.top5,
                100.0 / (double)result.classes);
        else
            code = cli_recipe_fail(&r, &err);
        cli_recipe_close(&r);
    }
    dg_free(templates);
    dg_free(path);
    return code;
}

static const cli_option options[] = {
    {"template", "TEXT",
     "text of a class, with {} for its name (\"a {}\"); given again, their features are averaged"},
    CLI_PLUGIN_PATH,
    {NULL, NULL, NULL},
};

const cli_command cmd_zeroshot = {
    .name = "zeroshot",
    .words = "RUN [key=value ...]",
    .least = 1,
    .most = -1,
    .help = "classify with a trained clip, by the texts of the classes",
    .more = "RUN is the folder of a run of the model clip. Pictures are those of data.val_path, or other "
            "rendered shapes.",
    .options = options,
    .run = run,
};
