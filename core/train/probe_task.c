/* probe_task.c - see probe_task.h. */
#include "probe_task.h"

#include <math.h>

#include "base/file.h"
#include "base/log.h"
#include "io/jsonl.h"
#include "train/collapse.h"
#include "train/dataset.h"
#include "train/knn.h"
#include "train/probe.h"
#include "train/report.h"
#include "train/rundir.h"

/* Everything that is open; torn down in one place. */
typedef struct task {
    char dir[1024];
    int lock;
    dg_parts parts;
    dg_run_plan plan;
    dg_source *training, *validation;
    dg_state state;
    dg_extractor extractor;
    dg_feature_set bank, queries;
    dg_jsonl *metrics;
    dg_run_result *result;
} task;

bool dg_is_probe_task(const dg_recipe *recipe)
{
    const char *name = dg_recipe_string(recipe, "task");
    return strcmp(name, "knn") == 0 || strcmp(name, "probe") == 0;
}

/* ---- setting up */

static dg_status open_folder(task *t, const dg_recipe *recipe, const dg_run_options *options, dg_error *err)
{
    char path[1100];
    DG_TRY(dg_rundir_path(recipe, options->dir, t->dir, sizeof t->dir, err));
    snprintf(path, sizeof path, "%s/timings.jsonl",
             t->dir); /* which training writes from its first step on */
    if (dg_path_is_file(path))
        return dg_fail_key(err, DG_ERR_INVALID, "name",
                           "'%s' holds a training run: take another folder with --dir or name=...", t->dir);
    return dg_rundir_lock(t->dir, &t->lock, err);
}

static dg_status open_data(task *t, const dg_recipe *recipe, dg_error *err)
{
    char cache[1100];
    snprintf(cache, sizeof cache, "%s/index", t->dir);
    DG_TRY(dg_dataset_open(recipe, cache, &t->training, err));
    if (dg_source_classes(t->training) < 2)
        return dg_fail_key(err, DG_ERR_INVALID, "data.path",
                           "the training data has %d classes: the task '%s' needs labels of at least two",
                           dg_source_classes(t->training), dg_recipe_string(recipe, "task"));
    DG_TRY(dg_dataset_open_validation(recipe, cache, t->training, &t->validation, err));
    if (t->validation) return DG_OK;
    return dg_fail_key(err, DG_ERR_INVALID, "data.val_path",
                       "the task '%s' needs data to evaluate on: set data.val_path",
                       dg_recipe_string(recipe, "task"));
}

static dg_status open_encoder(task *t, const dg_recipe *recipe, dg_error *err)
{
    const dg_feature_spec spec = dg_feature_spec_read(recipe, dg_recipe_string(recipe, "task"));
    DG_TRY(dg_run_make_plan(&t->parts, 0, &t->plan, err));
    DG_TRY(dg_extractor_open(&t->parts, &spec, t->plan.batch, t->plan.compute, &t->extractor, err));
    DG_TRY(dg_state_open(&t->parts, &t->state, err));
    DG_TRY(dg_state_init(&t->state, t->extractor.graph, t->parts.seed, false, err));
    if (dg_recipe_is_set(recipe, "train.init_from")) {
        dg_status s = dg_state_load(&t->state, t->extractor.graph,
                                    dg_recipe_string(recipe, "train.init_from"), "norm.", err);
        if (s != DG_OK && err && !err->key[0]) snprintf(err->key, sizeof err->key, "train.init_from");
        DG_TRY(s);
    } else {
        dg_logf(DG_LOG_WARNING, "train.init_from is not set: these are the features of random weights");
    }
    return dg_extractor_bind(&t->extractor, &t->state, NULL, err);
}

/* Classes that no training image has cannot be found by anything that was made from these. */
static void warn_of_empty_classes(const task *t, int32_t classes)
{
    int32_t empty = 0, first = -1;
    char buffer[64];
    bool *seen = dg_calloc((size_t)classes, sizeof *seen);
    for (int64_t i = 0; seen && i < t->bank.n; i++) seen[t->bank.labels[i]] = true;
    for (int32_t c = 0; seen && c < classes; c++) {
        if (seen[c]) continue;
        if (first < 0) first = c;
        empty++;
    }
    if (empty)
        dg_logf(DG_LOG_WARNING, "%d of %d classes have no training image, such as %d ('%s')", empty, classes,
                first, dg_source_class_name(t->training, first, buffer, sizeof buffer));
    dg_free(seen);
}

static dg_status make_features(task *t, const dg_recipe *recipe, dg_error *err)
{
    char dir[1100], key[32];
    int32_t classes = dg_source_classes(t->training);
    snprintf(dir, sizeof dir, "%s/features", t->dir);
    snprintf(key, sizeof key, "%s.cache", dg_recipe_string(recipe, "task"));
    const char *cache = dg_recipe_bool(recipe, key) ? dir : NULL;
    const dg_feature_range training = {dg_recipe_int(recipe, "data.limit"), 0}, validation = {0, 0};
    DG_TRY(dg_features_cached(&t->extractor, t->training, training, cache, &t->bank, NULL, err));
    DG_TRY(dg_features_cached(&t->extractor, t->validation, validation, cache, &t->queries, NULL, err));
    DG_TRY(dg_features_check_labels(&t->bank, classes, "training", err));
    DG_TRY(dg_features_check_labels(&t->queries, classes, "validation", err));
    warn_of_empty_classes(t, classes);
    dg_logf(DG_LOG_INFO, "%lld training and %lld validation images, features of width %lld",
            (long long)t->bank.n, (long long)t->queries.n, (long long)t->bank.width);
    return DG_OK;
}

static dg_status open_metrics(task *t, dg_error *err)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/metrics.jsonl", t->dir);
    return dg_jsonl_open(path, 0, &t->metrics, err);
}

static void say(task *t, const char *text)
{
    size_t n = strlen(t->result->summary);
    snprintf(t->result->summary + n, sizeof t->result->summary - n, "%s\n", text);
}

/* ---- knn */

static dg_status write_collapse(task *t, dg_error *err)
{
    dg_collapse c;
    dg_str row = {0};
    char text[128];
    if (t->queries.n < 2) return DG_OK;
    DG_TRY(dg_collapse_measure(t->queries.x, t->queries.n, t->queries.width, &c, err));
    dg_row_number(&row, "effective_rank", c.effective_rank);
    dg_row_number(&row, "spread", c.spread);
    dg_status s = dg_jsonl_append(t->metrics, &row, err);
    dg_str_free(&row);
    snprintf(text, sizeof text, "effective rank %.4g of %lld, spread %.4g", c.effective_rank,
             (long long)t->queries.width, c.spread);
    say(t, text);
    return s;
}

static dg_status run_knn(task *t, const dg_recipe *recipe, dg_error *err)
{
    size_t n;
    const int64_t *k = dg_recipe_ints(recipe, "knn.k", &n);
    int64_t most = 0;
    dg_neighbours found = {0};
    for (size_t i = 0; i < n; i++) most = k[i] > most ? k[i] : most;
    dg_status s = dg_knn_search(&t->parts, &t->bank, &t->queries, most, &found, err);
    for (size_t i = 0; i < n && s == DG_OK; i++) {
        dg_knn_score score;
        dg_str row = {0};
        char text[128];
        s = dg_knn_vote(&found, &t->bank, &t->queries, dg_source_classes(t->training), k[i],
                        dg_recipe_float(recipe, "knn.temperature"), &score, err);
        if (s != DG_OK) break;
        dg_row_int(&row, "k", k[i]);
        dg_row_number(&row, "knn_top1", score.top1);
        dg_row_number(&row, "knn_top5", score.top5);
        s = dg_jsonl_append(t->metrics, &row, err);
        dg_str_free(&row);
        snprintf(text, sizeof text, "%lld nearest neighbours: top-1 %.2f %%, top-5 %.2f %%", (long long)k[i],
                 100 * score.top1, 100 * score.top5);
        say(t, text);
    }
    dg_neighbours_free(&found);
    return s == DG_OK ? write_collapse(t, err) : s;
}

/* ---- probe */

typedef struct watcher {
    task *t;
    const dg_probe_spec *spec;
} watcher;

/* A row an epoch; with several learning rates their keys end in "_lr0.1". */
static dg_status on_epoch(void *user, int64_t step, int64_t epoch, const dg_probe_score *score, dg_error *err)
{
    const watcher *w = user;
    dg_str row = {0};
    double best = -1;
    dg_row_int(&row, "step", step);
    dg_row_int(&row, "epoch", epoch);
    for (size_t h = 0; h < w->spec->n; h++) {
        char tail[40] = "", key[64];
        const struct {
            const char *name;
            double value;
        } cells[] = {{"loss", score[h].loss},
                     {"val_top1", score[h].val_top1},
                     {"val_top5", score[h].val_top5},
                     {"val_loss", score[h].val_loss}};
        if (w->spec->n > 1) snprintf(tail, sizeof tail, "_lr%.6g", w->spec->base_lr[h]);
        for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
            snprintf(key, sizeof key, "%s%s", cells[i].name, tail);
            dg_row_number(&row, key, cells[i].value);
        }
        if (score[h].val_top1 > best) best = score[h].val_top1;
    }
    dg_status s = dg_jsonl_append(w->t->metrics, &row, err);
    dg_str_free(&row);
    if (epoch % 10 == 0 || epoch == 1)
        dg_logf(DG_LOG_INFO, "epoch %lld/%lld: top-1 %.2f %%%s", (long long)epoch, (long long)w->spec->epochs,
                100 * best, w->spec->n > 1 ? " with the best learning rate" : "");
    return s;
}

static dg_status run_probe(task *t, const dg_recipe *recipe, dg_error *err)
{
    dg_probe_score score[DG_PROBE_MAX_LR];
    dg_probe_spec spec = {.classes = dg_source_classes(t->training),
                          .batch = dg_recipe_int(recipe, "probe.batch"),
                          .epochs = dg_recipe_int(recipe, "probe.epochs"),
                          .warmup = dg_recipe_float(recipe, "probe.warmup_epochs"),
                          .momentum = dg_recipe_float(recipe, "probe.momentum"),
                          .lars = dg_recipe_choice(recipe, "probe.optimizer") == 1,
                          .seed = t->parts.seed};
    watcher w = {t, &spec};
    char text[160];
    size_t best = 0;
    spec.base_lr = dg_recipe_floats(recipe, "probe.base_lr", &spec.n);
    DG_TRY(dg_probe_train(&t->parts, &spec, &t->bank, &t->queries, on_epoch, &w, score, err));
    for (size_t h = 0; h < spec.n; h++) {
        if (score[h].val_top1 > score[best].val_top1) best = h;
        snprintf(text, sizeof text, "linear probe, base_lr %.6g: top-1 %.2f %%, top-5 %.2f %%, loss %.4f",
                 spec.base_lr[h], 100 * score[h].val_top1, 100 * score[h].val_top5, score[h].val_loss);
        say(t, text);
    }
    if (spec.n > 1) {
        snprintf(text, sizeof text, "best on this validation data: base_lr %.6g", spec.base_lr[best]);
        say(t, text);
    }
    t->result->loss = score[best].val_loss;
    return DG_OK;
}

/* ---- */

static dg_status run_task(task *t, const dg_recipe *recipe, const dg_registry *registry,
                          const dg_run_options *options, dg_error *err)
{
    DG_TRY(open_folder(t, recipe, options, err));
    DG_TRY(dg_parts_open(recipe, registry, true, &t->parts, err));
    DG_TRY(open_data(t, recipe, err));
    DG_TRY(open_encoder(t, recipe, err));
    DG_TRY(dg_rundir_describe(t->dir, &t->parts, &t->plan, t->training, options->command, err));
    DG_TRY(open_metrics(t, err));
    DG_TRY(make_features(t, recipe, err));
    return strcmp(dg_recipe_string(recipe, "task"), "knn") == 0 ? run_knn(t, recipe, err)
                                                                : run_probe(t, recipe, err);
}

dg_status dg_probe_task(const dg_recipe *recipe, const dg_registry *registry, const dg_run_options *options,
                        dg_run_result *result, dg_error *err)
{
    dg_error ignored = DG_ERROR_INIT;
    task t = {.lock = -1, .result = result};
    memset(result, 0, sizeof *result);
    result->loss = NAN;
    dg_status s = run_task(&t, recipe, registry, options, err);
    snprintf(result->dir, sizeof result->dir, "%s", t.dir);
    if (t.metrics) dg_jsonl_sync(t.metrics, &ignored);
    dg_jsonl_close(t.metrics);
    if (s == DG_OK && dg_report_write(t.dir, &ignored) != DG_OK)
        dg_logf(DG_LOG_WARNING, "no report: %s", ignored.message);
    dg_feature_set_free(&t.bank);
    dg_feature_set_free(&t.queries);
    dg_extractor_close(&t.extractor);
    dg_state_close(&t.state);
    dg_source_close(t.training);
    dg_source_close(t.validation);
    dg_parts_close(&t.parts);
    dg_rundir_unlock(&t.lock);
    return s;
}
