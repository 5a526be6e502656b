/* run.c - the training loop (run.h): batches in, steps, logs, checkpoints, orderly stops. */
#include "run.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/captions.h"
#include "train/checkpoint.h"
#include "train/dataset.h"
#include "train/finetune.h"
#include "train/inputs.h"
#include "train/journal.h"
#include "train/not_finite.h"
#include "train/probe_task.h"
#include "train/probe_watch.h"
#include "train/ranks.h"
#include "train/report.h"
#include "train/rundir.h"
#include "train/schedule.h"
#include "train/validate.h"
#include "train/visualize.h"

static volatile sig_atomic_t stop_requested;

void dg_run_request_stop(void)
{
    stop_requested = 1;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Everything that a run holds; torn down in one place. */
typedef struct run {
    const dg_run_options *options;
    char dir[1024];
    int lock;
    dg_ranks ranks; /* only the first one writes into the folder */
    dg_parts parts;
    dg_run_plan plan;
    dg_source *source;
    dg_vocabulary *vocabulary; /* NULL: captions are not read */
    bool finetuning;           /* the task is finetune: */
    dg_finetune finetune;
    dg_validation validation;
    dg_probe_watch watch; /* of the task pretrain: */
    dg_step step;
    dg_state state;
    dg_tensor_entry *entries;
    size_t n_entries;
    dg_backend_exe *train, *apply;
    dg_inputs inputs, apply_inputs;
    dg_loader *loader;
    dg_journal *journal;
    dg_progress progress;
    float losses[1 + DG_MAX_PREDICTIONS], norm; /* outputs of the last run of the program */
    void *outputs[2 + DG_MAX_PREDICTIONS]; /* where the outputs of `train` go, in its order: losses and the
                                              norm */
    void *apply_outputs[1];
    double started, seconds_before; /* of this process; of the processes before it */
    double wait_logged, time_logged;
    double last_loss;
    int64_t logged_at;
} run;

/* ---- setting up */

static void bind_outputs(run *r)
{
    const dg_program *p = r->step.train;
    for (uint32_t i = 0; i < p->n_outputs && i < sizeof r->outputs / sizeof r->outputs[0]; i++) {
        const char *name = p->outputs[i].name;
        if (strcmp(name, "loss") == 0) r->outputs[i] = &r->losses[0];
        if (strcmp(name, "grad_norm") == 0) r->outputs[i] = &r->norm;
        for (uint32_t k = 0; k < r->step.n_predictions; k++)
            if (strncmp(name, "loss.", 5) == 0 && strcmp(name + 5, r->step.prediction_names[k]) == 0)
                r->outputs[i] = &r->losses[1 + k];
    }
    if (r->step.apply && r->step.apply->n_outputs) r->apply_outputs[0] = &r->norm; /* it has no other */
}

/* The newest checkpoint of the folder, if one may be gone on from and there is one; *path is dg_free'd by the
 * caller. */
static dg_status find_checkpoint(const run *r, char **path, dg_progress *then, dg_error *err)
{
    char metrics[1100];
    DG_TRY(dg_checkpoint_latest(r->dir, path, then, err));
    if (r->options->resume) return DG_OK;
    if (*path)
        return dg_fail(err, DG_ERR_INVALID,
                       "'%s' holds a run with a checkpoint: add --resume to go on, or take another folder "
                       "with --dir or name=...",
                       r->dir);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", r->dir);
    if (dg_path_is_file(metrics))
        return dg_fail(err, DG_ERR_INVALID,
                       "'%s' holds a run that has no checkpoint yet: add --resume to begin it anew, or take "
                       "another folder with --dir or name=...",
                       r->dir);
    return DG_OK;
}

/* Goes on where the checkpoint was written. */
static void take_up(run *r, const dg_progress *then)
{
    r->progress.step = then->step;
    r->progress.metrics_length = then->metrics_length;
    r->progress.timings_length = then->timings_length;
    r->progress.window = then->window;
    r->progress.window_loss = then->window_loss;
    r->progress.window_norm = then->window_norm;
    memcpy(r->progress.window_parts, then->window_parts, sizeof then->window_parts);
    r->seconds_before = then->seconds;
    if (then->ranks && then->ranks != r->progress.ranks)
        dg_logf(DG_LOG_INFO,
                "the checkpoint was written with ranks=%lld, and this is ranks=%lld: the run goes on the "
                "same within rounding, "
                "not bit for bit",
                (long long)then->ranks, (long long)r->progress.ranks);
}

static void announce(const run *r)
{
    dg_cost c = dg_program_cost(r->step.train);
    dg_memory_need need = {.struct_size = (uint32_t)sizeof need};
    dg_error ignored = DG_ERROR_INIT;
    char memory[64] = "";
    if (dg_backend_of(&r->parts)->memory(r->parts.backend.self, r->step.train, &need, &ignored) == DG_OK)
        snprintf(memory, sizeof memory, ", %.2f GiB",
                 (double)(need.state + need.temporary + need.packed) / (1 << 30));
    dg_logf(DG_LOG_INFO, "%s: %s; %.4g M parameters, %.4g M frozen, %.4g GFLOP an image, %s%s",
            dg_recipe_string(r->parts.recipe, "name"), dg_source_describe(r->source),
            1e-6 * (double)c.parameters, 1e-6 * (double)c.frozen,
            1e-9 * c.flops * r->step.ranks / (double)r->plan.batch, r->progress.backend, memory);
    dg_logf(DG_LOG_INFO, "%lld steps of %lld images in %s, from step %lld, in '%s'", (long long)r->plan.steps,
            (long long)(r->plan.batch * r->plan.accumulate), dg_dtype_name(r->plan.compute),
            (long long)r->progress.step, r->dir);
    if (!dg_ranks_alone(&r->ranks))
        dg_logf(DG_LOG_INFO, "%d processes share each batch, over %s", r->ranks.all.world,
                r->ranks.engine.ref.factory->name);
}

/* What the ranks could disagree about, such as instruction sets of different machines. */
static dg_status check_ranks(run *r, dg_error *err)
{
    static const char *const names[] = {
        "recipe", "list of plugins", "backend", "data", "tokenizer's weights", "precision", "checkpoint"};
    const dg_progress *p = &r->progress;
    char step[32];
    snprintf(step, sizeof step, "of step %lld", (long long)p->step);
    const char *const texts[] = {p->recipe, p->plugins, p->backend, p->data, p->weights, p->precision, step};
    return dg_ranks_same(&r->ranks, names, texts, sizeof names / sizeof names[0], err);
}

/* The programs, and the state that they start from; nothing runs yet. */
static dg_status build(run *r, const char *checkpoint, const dg_progress *then, dg_error *err)
{
    const dg_recipe *recipe = r->parts.recipe;
    dg_step_spec spec;
    DG_TRY(dg_task_spec(&r->parts, &r->plan, dg_source_classes(r->source), &r->finetune, &spec, err));
    r->finetuning = spec.classify != NULL;
    spec.ranks *= (uint32_t)r->ranks.all.world;
    DG_TRY(dg_step_build(&r->parts, &spec, &r->step, err));
    DG_TRY(dg_checkpoint_entries(&r->step, &r->entries, &r->n_entries, err));
    DG_TRY(dg_state_open(&r->parts, &r->state, err));
    DG_TRY(dg_state_init(&r->state, r->step.forward, r->parts.seed, checkpoint != NULL, err));
    DG_TRY(dg_progress_describe(&r->progress, &r->parts, &r->plan, r->source, &r->state, err));
    r->progress.ranks = r->step.ranks;
    if (!checkpoint) {
        const char *from = dg_recipe_string(recipe, "train.init_from");
        if (from) DG_TRY(dg_state_init_from(&r->state, r->step.forward, from, err));
        return dg_state_start_averages(&r->state, &r->step, err);
    }
    if (dg_ranks_first(&r->ranks))
        DG_TRY(dg_rundir_compare(then, &r->progress, recipe, r->options->schemas, r->options->force, err));
    take_up(r, then);
    return dg_checkpoint_load(checkpoint, &r->state, r->entries, r->n_entries, err);
}

static dg_status compile(run *r, dg_error *err)
{
    const dg_backend_interface *b = dg_backend_of(&r->parts);
    r->inputs.ranks = r->step.ranks / (uint32_t)r->ranks.all.world;
    DG_TRY(dg_inputs_open(&r->parts, r->step.train, &r->inputs, err));
    if (r->finetuning) {
        r->inputs.fill = dg_finetune_fill;
        r->inputs.user = &r->finetune;
    }
    if (r->step.apply) DG_TRY(dg_inputs_open(&r->parts, r->step.apply, &r->apply_inputs, err));
    bind_outputs(r);
    DG_TRY(b->compile(r->parts.backend.self, r->step.train, r->state.store, &r->train, err));
    if (r->step.apply)
        DG_TRY(b->compile(r->parts.backend.self, r->step.apply, r->state.store, &r->apply, err));
    return DG_OK;
}

static dg_loader_config loader_config(const run *r)
{
    dg_loader_config c = dg_dataset_config(&r->parts, r->progress.step * r->plan.accumulate,
                                           r->plan.steps * r->plan.accumulate);
    if (r->finetuning) {
        double strength = r->finetune.colour_jitter;
        c.randaugment = r->finetune.randaugment;
        c.jitter = (dg_colour_jitter){strength, strength, strength, 0};
        c.second_height = c.second_width = 0;
    }
    dg_ranks_loader(&r->ranks, r->parts.recipe, false, &c);
    return c;
}

/* The data, and what is read from it once and kept in the folder. */
static dg_status open_data(run *r, dg_error *err)
{
    const dg_recipe *recipe = r->parts.recipe;
    char cache[1100];
    snprintf(cache, sizeof cache, "%s/index", r->dir);
    DG_TRY(dg_dataset_open(recipe, cache, &r->source, err));
    DG_TRY(dg_run_make_plan(&r->parts, dg_source_count(r->source), &r->plan, err));
    DG_TRY(dg_captions_open(recipe, r->source, r->dir, &r->vocabulary, err));
    r->parts.vocabulary = r->vocabulary;
    return DG_OK;
}

/* What only the first rank does, once nothing can be refused any more: it is the only one that writes. */
static dg_status open_folder(run *r, dg_error *err)
{
    DG_TRY(dg_rundir_describe(r->dir, &r->parts, &r->plan, r->source, r->options->command, err));
    announce(r);
    DG_TRY(dg_journal_open(r->dir, &r->step, r->progress.step, r->plan.steps, r->progress.metrics_length,
                           r->progress.timings_length, &r->journal, err));
    if (r->finetuning) return DG_OK;
    return dg_probe_watch_open(&r->parts, &r->plan, r->source, r->step.forward, &r->state, r->dir, &r->watch,
                               err);
}

static dg_status set_up(run *r, const dg_recipe *recipe, const dg_registry *registry, dg_error *err)
{
    char *checkpoint = NULL;
    dg_progress then = {0};
    dg_status s = DG_OK;
    DG_TRY(dg_ranks_open(registry, &r->ranks, err));
    DG_TRY(dg_rundir_path(recipe, r->options->dir, r->dir, sizeof r->dir, err));
    DG_TRY(dg_parts_open(recipe, registry, true, &r->parts, err));
    DG_TRY(dg_ranks_join_backend(&r->ranks, &r->parts, err));
    if (dg_ranks_first(&r->ranks)) { /* the others read what it makes */
        s = dg_rundir_lock(r->dir, &r->lock, err);
        if (s == DG_OK) s = open_data(r, err);
    }
    DG_TRY(dg_ranks_agree(&r->ranks, s, err));
    if (!dg_ranks_first(&r->ranks)) DG_TRY(open_data(r, err));
    s = find_checkpoint(r, &checkpoint, &then, err);
    if (s == DG_OK) s = build(r, checkpoint, &then, err);
    dg_free(checkpoint);
    dg_progress_free(&then);
    DG_TRY(s);
    DG_TRY(compile(r, err));
    DG_TRY(check_ranks(r, err)); /* nobody has changed anything in the folder before */
    if (dg_ranks_first(&r->ranks)) DG_TRY(open_folder(r, err));
    dg_loader_config c = loader_config(r);
    if (r->progress.step < r->plan.steps) DG_TRY(dg_loader_open(&c, r->source, &r->loader, err));
    if (!r->finetuning) return DG_OK;
    return dg_validation_open(&r->parts, &r->finetune, &r->plan, r->source, &r->state, r->dir, &r->ranks,
                              &r->validation, err);
}

static void tear_down(run *r)
{
    const dg_backend_interface *b = r->parts.backend.self ? dg_backend_of(&r->parts) : NULL;
    dg_journal_close(r->journal);
    dg_loader_close(r->loader);
    dg_validation_close(&r->validation);
    dg_probe_watch_close(&r->watch);
    if (r->train) b->release(r->train);
    if (r->apply) b->release(r->apply);
    dg_inputs_close(&r->inputs);
    dg_inputs_close(&r->apply_inputs);
    dg_state_close(&r->state);
    dg_free(r->entries);
    dg_step_destroy(&r->step);
    dg_source_close(r->source);
    dg_vocabulary_free(r->vocabulary);
    dg_parts_close(&r->parts);
    dg_progress_free(&r->progress);
    dg_rundir_unlock(&r->lock);
    dg_ranks_close(&r->ranks);
}

/* ---- when a loss is not finite */

/* "17 4 ...": the ids of the samples that all ranks have in this batch. */
static dg_status list_samples(run *r, const dg_batch *batch, char *out, size_t size, dg_error *err)
{
    int64_t n = (int64_t)batch->size * r->ranks.all.world, *ids = dg_calloc((size_t)n, sizeof *ids);
    dg_status s = ids ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    s = dg_ranks_gather(&r->ranks, s, batch->ids, ids, (uint64_t)batch->size * sizeof *ids, err);
    for (int64_t i = 0; s == DG_OK && i < n; i++) {
        size_t at = strlen(out);
        if (at > size - 32) {
            snprintf(out + at, size - at, " ...");
            break;
        }
        snprintf(out + at, size - at, "%s%lld", i ? " " : "", (long long)ids[i]);
    }
    dg_free(ids);
    return s;
}

/* Nothing was updated: names the step, the first bad tensor and the samples, and leaves the last checkpoint
 * alone. */
static dg_status not_finite(run *r, const dg_batch *batch, const char *what, double value, dg_error *err)
{
    char first[600], ids[256] = "";
    dg_error why = DG_ERROR_INIT;
    dg_status s = dg_find_not_finite(&r->inputs, &r->step, &r->state, batch, first, sizeof first, &why);
    if (s != DG_OK && !dg_ranks_alone(&r->ranks)) {
        *err = why;
        return dg_ranks_give_up(&r->ranks, s, err);
    }
    if (s != DG_OK) snprintf(first, sizeof first, "not known (%.500s)", why.message);
    DG_TRY(list_samples(r, batch, ids, sizeof ids, err));
    return dg_fail(err, DG_ERR_NOT_FINITE,
                   "the %s is %g at step %lld; nothing was updated. First tensor that is not finite: %s. "
                   "Samples: %s. The last checkpoint is intact; a lower learning rate, clip_norm or f32 may "
                   "help",
                   what, value, (long long)r->progress.step + 1, first, ids);
}

/* ---- steps */

/* Where gradients are clipped their norm is known: here, or after `apply`. */
static dg_status check_numbers(run *r, const dg_batch *batch, bool norm, dg_error *err)
{
    if (!isfinite(r->losses[0])) return not_finite(r, batch, "loss", (double)r->losses[0], err);
    if (norm && !isfinite(r->norm)) return not_finite(r, batch, "norm of the gradient", (double)r->norm, err);
    return DG_OK;
}

/* Who fails here leaves the others waiting in sums over ranks. */
static dg_status run_program(run *r, dg_backend_exe *exe, const dg_program *p, const dg_inputs *in,
                             void *const *outputs, dg_error *err)
{
    const dg_run io = {(uint32_t)sizeof io, in->n, in->data, p->n_outputs, r->inputs.ranks, outputs};
    dg_status s = dg_backend_of(&r->parts)->run(exe, &io, err);
    return s == DG_OK ? DG_OK : dg_ranks_give_up(&r->ranks, s, err);
}

/* One batch through `train`, and after the last one of a step the update. */
static dg_status one_batch(run *r, const float scalars[3], bool last, dg_error *err)
{
    const dg_batch *batch;
    DG_TRY(dg_loader_next(r->loader, &batch, err));
    dg_status s = dg_inputs_fill(&r->inputs, batch, scalars, err);
    if (s == DG_OK) s = dg_ranks_agree(&r->ranks, DG_OK, err); /* all of them have their batch */
    if (s == DG_OK) s = run_program(r, r->train, r->step.train, &r->inputs, r->outputs, err);
    if (s == DG_OK) s = check_numbers(r, batch, !r->apply, err);
    if (s == DG_OK && r->apply && last) {
        s = dg_inputs_fill(&r->apply_inputs, NULL, scalars, err);
        if (s == DG_OK) s = run_program(r, r->apply, r->step.apply, &r->apply_inputs, r->apply_outputs, err);
        if (s == DG_OK) s = check_numbers(r, batch, true, err);
    }
    dg_loader_release(r->loader, batch);
    return s;
}

/* One optimizer step: `accumulate` batches, then the update. */
static dg_status one_step(run *r, double lr, dg_error *err)
{
    dg_progress *p = &r->progress;
    double t = (double)(p->step + 1), sums[1 + DG_MAX_PREDICTIONS] = {0}, parts = (double)r->plan.accumulate;
    const float scalars[3] = {(float)lr, (float)(1 - pow(r->plan.optimizer.beta1, t)),
                              (float)(1 - pow(r->plan.optimizer.beta2, t))};
    for (int64_t k = 0; k < r->plan.accumulate; k++) {
        DG_TRY(one_batch(r, scalars, k + 1 == r->plan.accumulate, err));
        for (int i = 0; i < 1 + DG_MAX_PREDICTIONS; i++) sums[i] += (double)r->losses[i];
    }
    p->window++;
    p->window_loss += sums[0] / parts;
    p->window_norm += (double)r->norm;
    for (int i = 0; i < DG_MAX_PREDICTIONS; i++) p->window_parts[i] += sums[1 + i] / parts;
    p->step++;
    return DG_OK;
}

static double epoch_of(const run *r)
{
    int64_t batches = r->plan.images / r->plan.batch; /* of an epoch */
    return (double)(r->progress.step * r->plan.accumulate) / (double)batches;
}

static dg_status log_step(run *r, double lr, dg_error *err)
{
    dg_progress *p = &r->progress;
    dg_loader_stats stats = dg_loader_get_stats(r->loader);
    double n = (double)p->window, t = now(), span = t - r->time_logged;
    int64_t steps = p->step - r->logged_at;
    double speed = span > 0 ? (double)(steps * r->plan.batch * r->plan.accumulate) / span : 0;
    dg_record record = {.step = p->step,
                        .epoch = epoch_of(r),
                        .lr = lr,
                        .loss = p->window_loss / n,
                        .grad_norm = r->plan.optimizer.clip_norm > 0 ? p->window_norm / n : -1,
                        .images_per_second = speed,
                        .data_wait = span > 0 ? (stats.wait_seconds - r->wait_logged) / span : 0,
                        .eta = steps > 0 ? span / (double)steps * (double)(r->plan.steps - p->step) : 0,
                        .bad_images = stats.bad_images};
    for (int i = 0; i < DG_MAX_PREDICTIONS; i++) record.parts[i] = p->window_parts[i] / n;
    DG_TRY(dg_ranks_sum(&r->ranks, DG_OK, &record.bad_images, 1, DG_SUM_I64, err));
    if (r->journal) DG_TRY(dg_journal_write(r->journal, &record, err));
    r->last_loss = record.loss;
    r->wait_logged = stats.wait_seconds;
    r->time_logged = t;
    r->logged_at = p->step;
    p->window = 0;
    p->window_loss = p->window_norm = 0;
    memset(p->window_parts, 0, sizeof p->window_parts);
    return DG_OK;
}

static dg_status save(run *r, dg_error *err)
{
    const dg_recipe *recipe = r->parts.recipe;
    dg_progress *p = &r->progress;
    if (!dg_ranks_first(&r->ranks)) return DG_OK;
    DG_TRY(dg_journal_sync(r->journal, &p->metrics_length, &p->timings_length, err));
    p->seconds = r->seconds_before + now() - r->started;
    int64_t keep_every =
        dg_recipe_is_set(recipe, "train.keep_every") ? dg_recipe_int(recipe, "train.keep_every") : 0;
    return dg_checkpoint_save(r->dir, p, &r->state, r->entries, r->n_entries,
                              dg_recipe_int(recipe, "train.keep_last"), keep_every, err);
}

/* A run is not lost for want of a report. */
static void report(const run *r)
{
    dg_error err = DG_ERROR_INIT;
    if (dg_report_write(r->dir, &err) != DG_OK) dg_logf(DG_LOG_WARNING, "no report: %s", err.message);
}

static dg_status loop(run *r, dg_run_result *result, dg_error *err)
{
    const dg_recipe *recipe = r->parts.recipe;
    dg_schedule schedule = {r->plan.lr, r->plan.min_lr, r->plan.warmup_steps, (double)r->plan.steps};
    int64_t log_every = dg_recipe_int(recipe, "train.log_every"),
            save_every = dg_recipe_int(recipe, "train.checkpoint_every");
    double limit = dg_recipe_is_set(recipe, "train.time_limit")
                       ? 60 * dg_recipe_float(recipe, "train.time_limit")
                       : INFINITY;
    r->time_logged = now();
    r->logged_at = r->progress.step;
    while (r->progress.step < r->plan.steps) {
        double lr = dg_schedule_lr(&schedule, (double)r->progress.step);
        DG_TRY(one_step(r, lr, err));
        bool last = r->progress.step == r->plan.steps;
        bool stop = stop_requested || now() - r->started > limit;
        DG_TRY(dg_ranks_any(&r->ranks, DG_OK, &stop, err));
        result->stopped = stop && !last;
        if (r->progress.step % log_every == 0 || last) DG_TRY(log_step(r, lr, err));
        if (r->journal)
            dg_journal_tick(r->journal, r->progress.step, (double)r->losses[0],
                            r->plan.batch * r->plan.accumulate);
        DG_TRY(dg_probe_watch_step(&r->watch, last, r->progress.step, epoch_of(r), r->journal, err));
        if (r->finetuning)
            DG_TRY(dg_validation_step(&r->validation, last, &r->progress, epoch_of(r), &r->state, r->entries,
                                      r->n_entries, r->journal, err));
        if (r->progress.step % save_every == 0 || last || result->stopped) DG_TRY(save(r, err));
        if (r->progress.step % save_every == 0 && !last && !result->stopped && r->journal)
            report(r); /* the end writes it too */
        if (result->stopped) break;
    }
    return DG_OK;
}

/* For the report. The programs of training make room first. */
static void picture(run *r)
{
    const dg_backend_interface *b = dg_backend_of(&r->parts);
    dg_error err = DG_ERROR_INIT;
    const dg_pictured_run what = {.dir = r->dir,
                                  .parts = &r->parts,
                                  .plan = &r->plan,
                                  .state = &r->state,
                                  .training = r->source,
                                  .validation = r->validation.source,
                                  .evaluator = r->validation.source ? &r->validation.evaluator : NULL};
    if (r->train) b->release(r->train);
    if (r->apply) b->release(r->apply);
    r->train = r->apply = NULL;
    if (dg_pictures_of_run(&what, &err) != DG_OK) dg_logf(DG_LOG_WARNING, "no pictures: %s", err.message);
}

static dg_status probe(const dg_recipe *recipe, const dg_registry *registry, const dg_run_options *options,
                       dg_run_result *result, dg_error *err)
{
    int64_t rank, world;
    const char *launcher;
    memset(result, 0, sizeof *result);
    DG_TRY(dg_ranks_announced(&rank, &world, &launcher, err));
    if (world == 1) return dg_probe_task(recipe, registry, options, result, err);
    result->silent = rank > 0;
    return dg_fail_key(err, DG_ERR_UNSUPPORTED, "task", "this task runs in one process, and %s started %lld",
                       launcher, (long long)world);
}

dg_status dg_run_train(const dg_recipe *recipe, const dg_registry *registry, const dg_run_options *options,
                       dg_run_result *result, dg_error *err)
{
    if (dg_is_probe_task(recipe)) return probe(recipe, registry, options, result, err);
    run *r = dg_calloc(1, sizeof *r);
    if (!r) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    r->options = options;
    r->started = now();
    r->lock = -1;
    r->last_loss = NAN;
    memset(result, 0, sizeof *result);
    dg_status s = set_up(r, recipe, registry, err);
    if (s == DG_OK) s = loop(r, result, err);
    s = dg_ranks_agree(&r->ranks, s, err);
    result->silent = !dg_ranks_first(&r->ranks) && (s == DG_OK || dg_ranks_told(&r->ranks));
    result->step = r->progress.step;
    result->total = r->plan.steps;
    result->loss = r->last_loss;
    snprintf(result->dir, sizeof result->dir, "%s", r->dir);
    if (r->journal) {
        dg_error ignored = DG_ERROR_INIT;
        dg_journal_sync(r->journal, &r->progress.metrics_length, &r->progress.timings_length, &ignored);
        if (s == DG_OK && !result->stopped) picture(r); /* who stops it is in a hurry */
        report(r);
    }
    tear_down(r);
    dg_free(r);
    stop_requested = 0;
    return s;
}
