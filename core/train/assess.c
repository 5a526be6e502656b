/* assess.c - opening a classifier and running it over data. See assess.h. */
#include "assess.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io/json.h"
#include "train/dataset.h"
#include "train/finetune.h"

/* ---- opening */

static dg_status open_classes(const dg_recipe *recipe, const char *path, dg_classes *out, dg_error *err)
{
    dg_source *training = NULL;
    if (path) return dg_classes_read(path, out, err);
    dg_status s = dg_dataset_open(recipe, NULL, &training, err);
    if (s == DG_OK) s = dg_classes_of(training, out, err);
    dg_source_close(training);
    return s == DG_OK ? DG_OK : dg_fail_in(err, "the classes are those of the training data");
}

/* Classes without a name, up to n, are named by their number. */
static dg_status name_by_number(dg_classes *c, int64_t n, dg_error *err)
{
    char text[32];
    if (n <= c->n) return DG_OK;
    const char **names = dg_realloc(c->names, (size_t)n * sizeof *names);
    if (!names) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (c->names = names; c->n < n; c->n++) {
        snprintf(text, sizeof text, "%d", c->n);
        names[c->n] = dg_arena_strdup(&c->arena, text);
        if (!names[c->n]) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    return DG_OK;
}

dg_status dg_assessor_open(const dg_recipe *recipe, const dg_registry *registry, const char *weights,
                           const char *classes, dg_assessor *a, dg_error *err)
{
    dg_finetune f;
    dg_run_plan plan;
    if (strcmp(dg_recipe_string(recipe, "task"), "finetune") != 0)
        return dg_fail_key(err, DG_ERR_INVALID, "task",
                           "a classifier is evaluated, and the task '%s' trains none; for the features of an "
                           "encoder there are the "
                           "tasks knn and probe",
                           dg_recipe_string(recipe, "task"));
    DG_TRY(dg_parts_open(recipe, registry, true, &a->parts, err));
    DG_TRY(open_classes(recipe, classes, &a->classes, err));
    DG_TRY(dg_run_make_plan(&a->parts, 0, &plan, err));
    DG_TRY(dg_finetune_read(&a->parts, a->classes.n, &f, err));
    DG_TRY(name_by_number(&a->classes, f.classify.classes, err));
    int64_t batch = dg_recipe_int(recipe, "finetune.evaluate_batch");
    dg_graph *g = NULL;
    dg_step names = {0};
    DG_TRY(dg_state_open(&a->parts, &a->state, err));
    DG_TRY(dg_classify_forward(&a->parts, &f.classify, 1, 0, &g, &names, err));
    dg_status s = dg_state_init(&a->state, g, a->parts.seed, true, err);
    if (s == DG_OK) s = dg_state_load(&a->state, g, weights, NULL, err);
    dg_graph_destroy(g);
    DG_TRY(s);
    return dg_evaluator_open(&a->parts, &f.classify, batch ? batch : plan.batch, plan.compute, false,
                             &a->state, &a->evaluator, err);
}

void dg_assessor_close(dg_assessor *a)
{
    dg_evaluator_close(&a->evaluator);
    dg_state_close(&a->state);
    dg_classes_free(&a->classes);
    dg_parts_close(&a->parts);
    memset(a, 0, sizeof *a);
}

/* ---- ReaL labels */

void dg_real_labels_free(dg_real_labels *r)
{
    dg_free(r->first);
    dg_free(r->labels);
    *r = (dg_real_labels){0};
}

static dg_status take_labels(const dg_json *image, int32_t classes, const char *path, dg_real_labels *r,
                             size_t *n, size_t *room, dg_error *err)
{
    for (const dg_json *v = image->v.first; v; v = v->next) {
        if (v->type != DG_JSON_INT || v->v.integer < 0 || v->v.integer >= classes)
            return dg_fail(err, DG_ERR_FORMAT, "%s:%u:%u: a label is a number from 0 to %d", path, v->line,
                           v->col, classes - 1);
        if (!dg_grow(&r->labels, *n, room, sizeof *r->labels))
            return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", path);
        r->labels[(*n)++] = (int32_t)v->v.integer;
    }
    return DG_OK;
}

dg_status dg_real_labels_read(const char *path, int32_t classes, dg_real_labels *r, dg_error *err)
{
    dg_arena arena = {0};
    const dg_json *root;
    size_t n = 0, room = 0;
    *r = (dg_real_labels){0};
    dg_status s = dg_json_read_file(path, (size_t)256 << 20, &arena, &root, err);
    if (s == DG_OK && root->type != DG_JSON_ARRAY)
        s = dg_fail(err, DG_ERR_FORMAT, "'%s' is not a JSON list of lists of labels", path);
    if (s == DG_OK && !(r->first = dg_calloc((size_t)root->count + 1, sizeof *r->first)))
        s = dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", path);
    for (const dg_json *v = s == DG_OK ? root->v.first : NULL; v && s == DG_OK; v = v->next) {
        s = v->type == DG_JSON_ARRAY ? take_labels(v, classes, path, r, &n, &room, err)
                                     : dg_fail(err, DG_ERR_FORMAT, "%s:%u:%u: an image's labels are a list",
                                               path, v->line, v->col);
        r->first[++r->n] = (int64_t)n;
    }
    dg_arena_free(&arena);
    if (s != DG_OK) dg_real_labels_free(r);
    return s;
}

/* K - 1 of a name with ILSVRC2012_val_K in it, or -1. */
static int64_t validation_number(const char *name)
{
    static const char mark[] = "ILSVRC2012_val_";
    const char *at = strstr(name, mark);
    if (!at || !isdigit((unsigned char)at[sizeof mark - 1])) return -1;
    return strtoll(at + sizeof mark - 1, NULL, 10) - 1;
}

/* Which image of the list sample `id` is. */
static dg_status place_in_real(const dg_real_labels *real, const dg_source *source, int64_t id,
                               dg_sample *sample, int64_t *place, dg_error *err)
{
    DG_TRY(dg_source_read(source, id, sample, err));
    int64_t number = validation_number(sample->name);
    *place = number >= 0 ? number : id;
    if (number < 0 && dg_source_count(source) != real->n)
        return dg_fail(err, DG_ERR_MISMATCH,
                       "there are ReaL labels of %lld images and the data has %lld, whose names ('%s') have "
                       "no ILSVRC2012_val_NUMBER",
                       (long long)real->n, (long long)dg_source_count(source), sample->name);
    if (*place < real->n) return DG_OK;
    return dg_fail(err, DG_ERR_MISMATCH, "'%s' is beyond the %lld images of the ReaL labels", sample->name,
                   (long long)real->n);
}

/* ---- one pass */

typedef struct pass {
    const dg_source *source;
    const dg_assess_options *options;
    dg_assessment *out;
    size_t room;
    int64_t n, classes;
    dg_sample sample;
} pass;

/* The most probable classes into x->best, and the probability of the first. Classes at -inf cannot be chosen.
 */
static void choose(const float *logits, int64_t classes, dg_assessed *x)
{
    double sum = 0;
    for (int i = 0; i < DG_ASSESS_BEST; i++) x->best[i] = -1;
    for (int32_t c = 0; c < classes; c++) {
        int at = DG_ASSESS_BEST;
        if (logits[c] == -INFINITY) continue;
        while (at > 0 && (x->best[at - 1] < 0 || logits[c] > logits[x->best[at - 1]])) at--;
        for (int i = DG_ASSESS_BEST - 1; i > at; i--) x->best[i] = x->best[i - 1];
        if (at < DG_ASSESS_BEST) x->best[at] = c;
    }
    for (int64_t c = 0; c < classes; c++) sum += exp((double)logits[c] - (double)logits[x->best[0]]);
    x->probability = (float)(1 / sum);
}

static dg_status count_real(pass *p, const dg_assessed *x, dg_error *err)
{
    const dg_real_labels *real = p->options->real;
    int64_t place;
    bool hit = false;
    DG_TRY(place_in_real(real, p->source, x->id, &p->sample, &place, err));
    if (real->first[place] == real->first[place + 1])
        return DG_OK; /* nothing in it was recognised by people */
    for (int64_t i = real->first[place]; i < real->first[place + 1]; i++)
        hit |= real->labels[i] == x->best[0];
    p->out->real_images++;
    p->out->real_hits += hit;
    return DG_OK;
}

static dg_status on_image(void *user, int64_t id, int32_t label, const float *logits, double loss,
                          dg_error *err)
{
    pass *p = user;
    if (!isfinite(loss) && loss != INFINITY)
        return dg_fail(err, DG_ERR_NOT_FINITE,
                       "the logits of sample %lld are not finite: the weights are spoilt", (long long)id);
    if (!dg_grow(&p->out->images, (size_t)p->n, &p->room, sizeof *p->out->images))
        return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_assessed *x = &p->out->images[p->n++];
    *x = (dg_assessed){.id = id, .label = label, .loss = loss};
    choose(logits, p->classes, x);
    return p->options->real ? count_real(p, x, err) : DG_OK;
}

/* Which classes the data has images of, by its own list of classes. */
static bool *present(const dg_assessor *a, const dg_source *source, const int32_t *class_of, int32_t *n)
{
    bool *there = dg_calloc((size_t)a->classes.n, sizeof *there);
    *n = 0;
    for (int32_t i = 0; there && i < dg_source_classes(source); i++) {
        *n += !there[class_of[i]];
        there[class_of[i]] = true;
    }
    return there;
}

dg_status dg_assess(dg_assessor *a, const dg_source *source, const dg_assess_options *options,
                    dg_assessment *out, dg_error *err)
{
    dg_evaluator *e = &a->evaluator;
    dg_loader_config c = dg_evaluation_config(&a->parts, e->batch);
    pass p = {.source = source, .options = options, .out = out, .classes = a->classes.n};
    int32_t *class_of = NULL;
    memset(out, 0, sizeof *out);
    DG_TRY(dg_classes_map(&a->classes, source, &class_of, err));
    bool *there = present(a, source, class_of, &out->among);
    dg_status s = there ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (!options->subset) out->among = a->classes.n;
    e->class_of = class_of;
    e->n_class_of = dg_source_classes(source);
    e->among = options->subset ? there : NULL;
    if (s == DG_OK) s = dg_evaluate(e, source, &c, NULL, on_image, &p, &out->result, err);
    e->class_of = NULL;
    e->among = NULL;
    dg_sample_free(&p.sample);
    dg_free(class_of);
    dg_free(there);
    return s;
}

void dg_assessment_free(dg_assessment *a)
{
    dg_eval_result_free(&a->result);
    dg_free(a->images);
    memset(a, 0, sizeof *a);
}
