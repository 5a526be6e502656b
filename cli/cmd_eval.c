/* cmd_eval.c - `digpt eval RUN|RECIPE`: a fine-tuned classifier on its validation data, or on other data. */
#include "cli.h"

#include "base/file.h"
#include "data.h"
#include "train/assess.h"
#include "train/dataset.h"
#include "trained.h"

/* What was asked for, and what is open. */
typedef struct evaluation {
    const cli_args *args;
    cli_trained trained;
    dg_assessor assessor;
    dg_source *source;
    dg_real_labels real;
    dg_assessment x;
    int64_t confusions, worst; /* how many of them to list */
} evaluation;

static dg_status open_all(evaluation *e, dg_error *err)
{
    const char *classes = cli_value(e->args, "classes"), *data = cli_value(e->args, "data"),
               *real = cli_value(e->args, "real");
    const dg_recipe *recipe = e->trained.recipe.recipe;
    DG_TRY(dg_assessor_open(recipe, e->trained.recipe.plugins.registry, e->trained.weights,
                            classes ? classes : e->trained.classes, &e->assessor, err));
    DG_TRY(data ? cli_source_open(data, &e->source, err)
                : dg_dataset_open_validation(recipe, NULL, NULL, &e->source, err));
    if (!e->source)
        return dg_fail_key(
            err, DG_ERR_INVALID, "data.val_path",
            "the recipe has no data to evaluate on: name some with --data, or set data.val_path");
    return real ? dg_real_labels_read(real, e->assessor.classes.n, &e->real, err) : DG_OK;
}

/* ---- printing */

static void put_accuracy(const evaluation *e, dg_str *out)
{
    const dg_eval_result *r = &e->x.result;
    int32_t without = 0;
    for (int64_t c = 0; c < r->classes; c++) without += r->class_images[c] == 0;
    dg_str_printf(out, "weights\t%s\n", e->trained.weights);
    dg_str_printf(out, "data\t%s\n", dg_source_describe(e->source));
    dg_str_printf(out, "images\t%lld\n", (long long)r->images);
    dg_str_printf(out, "classes\t%lld to choose among, %lld with images\n", (long long)e->x.among,
                  (long long)r->classes - without);
    dg_str_printf(out, "top-1\t%.3f %%\n", 100 * r->top1);
    dg_str_printf(out, "top-5\t%.3f %%\n", 100 * r->top5);
    dg_str_printf(out, "loss\t%.5f\n", r->loss);
    if (cli_has(e->args, "real"))
        dg_str_printf(out, "ReaL\t%.3f %% of %lld images that have such labels\n",
                      e->x.real_images ? 100 * (double)e->x.real_hits / (double)e->x.real_images : 0,
                      (long long)e->x.real_images);
}

static void print_classes(const evaluation *e)
{
    const dg_eval_result *r = &e->x.result;
    dg_str out = {0};
    dg_str_puts(&out, "\nclass\tname\timages\ttop-1\n");
    for (int64_t c = 0; c < r->classes; c++) {
        dg_str_printf(&out, "%lld\t%s\t%lld\t", (long long)c, e->assessor.classes.names[c],
                      (long long)r->class_images[c]);
        if (r->class_images[c])
            dg_str_printf(&out, "%.2f %%\n", 100 * (double)r->class_hits[c] / (double)r->class_images[c]);
        else
            dg_str_puts(&out, "-\n");
    }
    cli_table(&out);
}

static dg_status print_confusions(const evaluation *e, dg_error *err)
{
    const char **names = e->assessor.classes.names;
    dg_confusion *list = NULL;
    int64_t n = 0;
    dg_str out = {0};
    dg_status s = dg_confusions(&e->x, &list, &n, err);
    if (n) dg_str_printf(&out, "\nmost confused\tcalled\timages\tof its class\n");
    for (int64_t i = 0; i < n && i < e->confusions; i++)
        dg_str_printf(&out, "%s\t%s\t%lld\t%.1f %%\n", names[list[i].label], names[list[i].prediction],
                      (long long)list[i].images,
                      100 * (double)list[i].images / (double)e->x.result.class_images[list[i].label]);
    dg_free(list);
    cli_table(&out);
    return s;
}

static dg_status print_worst(const evaluation *e, dg_error *err)
{
    const char **names = e->assessor.classes.names;
    int64_t *order = NULL, n = 0;
    dg_str out = {0};
    dg_sample sample = {0};
    dg_status s = dg_worst_losses(&e->x, e->worst, &order, &n, err);
    if (s == DG_OK && n) dg_str_puts(&out, "\nworst loss\tclass\tcalled\tprobability\timage\n");
    for (int64_t i = 0; i < n && s == DG_OK; i++) {
        const dg_assessed *x = &e->x.images[order[i]];
        s = dg_source_read(e->source, x->id, &sample, err);
        if (s == DG_OK)
            dg_str_printf(&out, "%.3f\t%s\t%s\t%.3f\t%s\n", x->loss, names[x->label], names[x->best[0]],
                          (double)x->probability, sample.name);
    }
    dg_sample_free(&sample);
    dg_free(order);
    cli_table(&out);
    return s;
}

static dg_status print_all(evaluation *e, dg_error *err)
{
    dg_str out = {0};
    put_accuracy(e, &out);
    cli_table(&out);
    if (cli_has(e->args, "per-class")) print_classes(e);
    if (e->confusions) DG_TRY(print_confusions(e, err));
    return e->worst ? print_worst(e, err) : DG_OK;
}

static int run(const cli_args *args)
{
    evaluation e = {.args = args, .confusions = 10, .worst = 5};
    dg_error err = DG_ERROR_INIT;
    if (!cli_number(args, "confusions", 0, 1000000, &e.confusions) ||
        !cli_number(args, "worst", 0, 1000000, &e.worst))
        return CLI_USAGE;
    int code = cli_trained_open(args, args->words[0], args->words + 1, args->n_words - 1, true, &e.trained);
    if (code != CLI_OK) return code;
    const dg_assess_options options = {cli_has(args, "subset"), cli_has(args, "real") ? &e.real : NULL};
    const char *predictions = cli_value(args, "predictions"), *page = cli_value(args, "report");
    dg_status s = open_all(&e, &err);
    if (s == DG_OK) s = dg_assess(&e.assessor, e.source, &options, &e.x, &err);
    if (s == DG_OK && predictions) s = dg_assess_write(predictions, &e.assessor, e.source, &e.x, &err);
    if (s == DG_OK && page) s = dg_assess_page(page, &e.assessor, e.source, &e.x, e.worst, &err);
    if (s == DG_OK) s = print_all(&e, &err);
    code = s == DG_OK ? CLI_OK : cli_recipe_fail(&e.trained.recipe, &err);
    dg_assessment_free(&e.x);
    dg_real_labels_free(&e.real);
    dg_source_close(e.source);
    dg_assessor_close(&e.assessor);
    cli_trained_close(&e.trained);
    return code;
}

static const cli_option options[] = {
    {"data", "PATH", "evaluate on these images: class folders, a .tar or a folder of them, a list file"},
    CLI_WEIGHTS,
    {"classes", "FILE", "the classifier's classes, in order: a JSON list, or a name a line"},
    {"subset", NULL, "choose only among the classes that the data has"},
    {"real", "FILE", "also score by ReaL labels: a JSON list of lists of class numbers"},
    {"predictions", "FILE", "write what was said of every image, as JSON lines"},
    {"report", "FILE.html", "write a page with all this, and the images of the worst losses as pictures"},
    {"per-class", NULL, "print the accuracy of every class"},
    {"confusions", "N", "list so many pairs of confused classes; otherwise 10"},
    {"worst", "N", "list so many images with the worst losses; otherwise 5"},
    CLI_PLUGIN_PATH,
    {NULL, NULL, NULL},
};

const cli_command cmd_eval = {
    .name = "eval",
    .words = "RUN|RECIPE [key=value ...]",
    .least = 1,
    .most = -1,
    .help = "evaluate a fine-tuned classifier",
    .more = "RUN is the folder of a run; a RECIPE's run is the one in its output folder.\n"
            "Labels of other data are matched by the names of classes (wnids), so that it may have some of "
            "them only,\n"
            "as ImageNet-A, -R and -Sketch; names that are numbers, as ImageNet-V2's, are the classes of "
            "those numbers.",
    .options = options,
    .run = run,
};
