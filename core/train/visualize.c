/* visualize.c - which images are shown, and with what weights. See visualize.h. */
#include "visualize.h"

#include "base/file.h"
#include "base/mem.h"
#include "train/assess.h"
#include "train/captions.h"
#include "train/dataset.h"
#include "train/pictures.h"

enum { CLASSIFIED = 256 }; /* validation images among which the greatest losses are looked for */

/* ---- pretraining */

/* A batch with names under its images. */
typedef struct few {
    dg_loader *loader;
    const dg_batch *batch;
    char **names; // [n]
    int64_t n;
} few;

static dg_status name_them(few *f, const dg_source *source, dg_error *err)
{
    dg_sample sample = {0};
    char buffer[64];
    dg_status s = DG_OK;
    f->names = dg_calloc((size_t)f->n + 1, sizeof *f->names);
    if (!f->names) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int64_t i = 0; i < f->n && s == DG_OK; i++) {
        dg_str text = {0};
        s = dg_source_read(source, f->batch->ids[i], &sample, err);
        if (s != DG_OK) break;
        const char *slash = strrchr(sample.name, '/');
        dg_str_puts(&text, slash ? slash + 1 : sample.name);
        if (sample.label >= 0 && sample.label < dg_source_classes(source))
            dg_str_printf(&text, "\n%s", dg_source_class_name(source, sample.label, buffer, sizeof buffer));
        f->names[i] = text.text ? dg_strdup(text.text) : NULL;
        if (!f->names[i]) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
        dg_str_free(&text);
    }
    dg_sample_free(&sample);
    return s;
}

static dg_status open_few(const dg_loader_config *config, const dg_source *source, few *f, dg_error *err)
{
    f->n = config->batch;
    DG_TRY(dg_loader_open(config, source, &f->loader, err));
    DG_TRY(dg_loader_next(f->loader, &f->batch, err));
    if (!f->batch) return dg_fail(err, DG_ERR_INVALID, "there are no images to show");
    return name_them(f, source, err);
}

static void close_few(few *f)
{
    for (int64_t i = 0; f->names && i < f->n; i++) dg_free(f->names[i]);
    dg_free(f->names);
    dg_loader_close(f->loader);
}

/* The first samples that the run trained on, cropped and ordered as then. */
static dg_loader_config first_of_run(const dg_parts *parts, int64_t images)
{
    dg_loader_config c = dg_dataset_config(parts, 0, 1);
    c.batch = (int32_t)images;
    c.threads = c.threads < 2 ? c.threads : 2;
    return c;
}

/* Images of one's own, as in an evaluation. */
static dg_loader_config whole_images(const dg_parts *parts, int64_t images)
{
    const dg_loader_config training = dg_dataset_config(parts, 0, 1);
    dg_loader_config c = dg_evaluation_config(parts, images);
    c.limit = 0;
    c.last_step = 1;
    c.second_height = training.second_height;
    c.second_width = training.second_width;
    c.captions = training.captions;
    c.on_bad = DG_BAD_FAIL;
    return c;
}

static dg_status show(dg_look *look, const dg_state *state, const dg_loader_config *config,
                      const dg_source *source, const char *about, dg_gallery *gallery, dg_error *err)
{
    few f = {0};
    dg_status s = open_few(config, source, &f, err);
    if (s == DG_OK) s = dg_look_run(look, state, f.batch, err);
    if (s == DG_OK) {
        const dg_shown shown = {f.batch, (const char *const *)f.names, about};
        s = dg_pictures_tokens(look, &shown, gallery, err);
    }
    close_few(&f);
    return s;
}

static const char of_training[] = "The first training images of the run, cropped as it saw them.";

/* ---- at the end of a run */

/* Four times as many of those that are only shown with words: they are small, and a model of captions needs
 * some to choose among. */
static int64_t wanted(const dg_recipe *recipe, const dg_source *source)
{
    bool words = strcmp(dg_recipe_string(recipe, "task"), "finetune") == 0 ||
                 dg_recipe_int(recipe, "data.caption_length") > 0;
    int64_t n = dg_recipe_int(recipe, "train.pictures") * (words ? 4 : 1),
            limit = dg_recipe_int(recipe, "data.limit"), count = dg_source_count(source);
    if (limit > 0 && limit < count) count = limit;
    if (n > DG_PICTURES_MOST) n = DG_PICTURES_MOST;
    return n < count ? n : count;
}

static dg_status show_classified(dg_evaluator *e, const dg_source *training, const dg_source *validation,
                                 dg_gallery *g, dg_error *err)
{
    dg_classes classes = {0};
    dg_status s = dg_classes_of(training, &classes, err);
    if (s == DG_OK)
        s = dg_pictures_classes(e, validation, classes.n >= e->classes ? classes.names : NULL, CLASSIFIED,
                                wanted(e->parts->recipe, validation), g, err);
    dg_classes_free(&classes);
    return s;
}

dg_status dg_pictures_of_run(const dg_pictured_run *run, dg_error *err)
{
    dg_gallery g = {0};
    dg_look look = {0};
    int64_t images = wanted(run->parts->recipe, run->training);
    bool classifier = strcmp(dg_recipe_string(run->parts->recipe, "task"), "finetune") == 0;
    if (images < 1 || (classifier && (!run->evaluator || !run->validation))) return DG_OK;
    char *dir = dg_path_join(run->dir, DG_PICTURES_FOLDER);
    g.dir = dir;
    dg_status s = dir ? dg_gallery_begin(&g, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK && classifier) {
        s = show_classified(run->evaluator, run->training, run->validation, &g, err);
    } else if (s == DG_OK) {
        dg_loader_config c = first_of_run(run->parts, images);
        s = dg_look_open(run->parts, images, run->plan->compute, &look, err);
        if (s == DG_OK) s = show(&look, run->state, &c, run->training, of_training, &g, err);
    }
    if (s == DG_OK) s = dg_gallery_end(&g, err);
    dg_look_close(&look);
    dg_gallery_close(&g);
    dg_free(dir);
    return s;
}

/* ---- from weights */

typedef struct visualizer {
    const dg_visualize_options *options;
    dg_parts parts;
    dg_state state;
    dg_look look;
    dg_source *own;          /* the recipe's data, if it is opened */
    const dg_source *images; /* what is shown */
    dg_vocabulary *vocabulary;
} visualizer;

static dg_status open_images(visualizer *v, const dg_recipe *recipe, int64_t *n, dg_error *err)
{
    bool captions = dg_recipe_int(recipe, "data.caption_length") > 0;
    v->images = v->options->source;
    if (!v->images || captions) DG_TRY(dg_dataset_open(recipe, NULL, &v->own, err));
    if (!v->images) v->images = v->own;
    *n = v->options->source ? dg_source_count(v->images) : wanted(recipe, v->images);
    if (*n < 1)
        return dg_fail_key(err, DG_ERR_INVALID, "train.pictures",
                           "0 images are asked for: name some, or set it");
    if (*n > DG_PICTURES_MOST)
        return dg_fail(err, DG_ERR_INVALID, "%lld images are more than the %d that are shown together",
                       (long long)*n, DG_PICTURES_MOST);
    if (!captions) return DG_OK;
    if (!dg_source_has_captions(v->images))
        return dg_fail(
            err, DG_ERR_INVALID,
            "the model '%s' compares images with captions, and these images have none: name a list file "
            "of lines PATH<TAB>LABEL<TAB>CAPTION, or no images for those of the run",
            v->parts.model.ref.factory->name);
    dg_status s = dg_captions_open(recipe, v->own, v->options->run_dir, &v->vocabulary, err);
    v->parts.vocabulary = v->vocabulary;
    return s;
}

static dg_status load(visualizer *v, dg_error *err)
{
    const dg_look *l = &v->look;
    DG_TRY(dg_state_open(&v->parts, &v->state, err));
    if (l->tokenizer.graph) DG_TRY(dg_state_init(&v->state, l->tokenizer.graph, v->parts.seed, false, err));
    if (!l->model.graph)
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "model.name",
                           "the model '%s' gives no predictions to show", v->parts.model.ref.factory->name);
    DG_TRY(dg_state_init(&v->state, l->model.graph, v->parts.seed, false, err));
    return dg_state_load(&v->state, l->model.graph, v->options->weights, NULL, err);
}

static dg_status visualize_tokens(visualizer *v, const dg_recipe *recipe, const dg_registry *registry,
                                  dg_gallery *g, dg_error *err)
{
    int64_t n;
    dg_run_plan plan;
    DG_TRY(dg_parts_open(recipe, registry, true, &v->parts, err));
    DG_TRY(open_images(v, recipe, &n, err));
    DG_TRY(dg_run_make_plan(&v->parts, 0, &plan, err));
    DG_TRY(dg_look_open(&v->parts, n, plan.compute, &v->look, err));
    DG_TRY(load(v, err));
    bool given = v->options->source != NULL;
    const dg_loader_config c = given ? whole_images(&v->parts, n) : first_of_run(&v->parts, n);
    return show(&v->look, &v->state, &c, v->images, given ? "Central crops of the images." : of_training, g,
                err);
}

static void close_visualizer(visualizer *v)
{
    dg_look_close(&v->look);
    dg_state_close(&v->state);
    dg_vocabulary_free(v->vocabulary);
    dg_source_close(v->own);
    dg_parts_close(&v->parts);
}

static dg_status visualize_classes(const dg_visualize_options *o, const dg_recipe *recipe,
                                   const dg_registry *registry, dg_gallery *g, dg_error *err)
{
    dg_assessor a = {0};
    dg_source *validation = NULL;
    dg_status s = dg_assessor_open(recipe, registry, o->weights, o->classes, &a, err);
    if (s == DG_OK && !o->source) s = dg_dataset_open_validation(recipe, NULL, NULL, &validation, err);
    if (s == DG_OK && !o->source && !validation)
        s = dg_fail_key(err, DG_ERR_INVALID, "data.val_path",
                        "the run has no validation images to show: name some");
    if (s == DG_OK)
        s = o->source ? dg_pictures_classes(&a.evaluator, o->source, a.classes.names, 0,
                                            dg_source_count(o->source), g, err)
                      : dg_pictures_classes(&a.evaluator, validation, a.classes.names, CLASSIFIED,
                                            wanted(recipe, validation), g, err);
    dg_source_close(validation);
    dg_assessor_close(&a);
    return s;
}

dg_status dg_visualize(const dg_recipe *recipe, const dg_registry *registry,
                       const dg_visualize_options *options, int64_t *pictures, dg_error *err)
{
    const char *task = dg_recipe_string(recipe, "task");
    dg_gallery g = {.dir = options->out};
    visualizer v = {.options = options};
    bool classes = strcmp(task, "finetune") == 0;
    *pictures = 0;
    if (!classes && strcmp(task, "pretrain") != 0)
        return dg_fail_key(
            err, DG_ERR_UNSUPPORTED, "task",
            "a run of the task '%s' has no pictures: show the run that its train.init_from is from", task);
    dg_status s = dg_gallery_begin(&g, err);
    if (s == DG_OK)
        s = classes ? visualize_classes(options, recipe, registry, &g, err)
                    : visualize_tokens(&v, recipe, registry, &g, err);
    if (s == DG_OK) s = dg_gallery_end(&g, err);
    if (s == DG_OK) *pictures = g.n;
    close_visualizer(&v);
    dg_gallery_close(&g);
    return s;
}
