/* train_support.h - what the tests of training share: a tiny recipe, whole runs of it, single steps, files.
 */
#ifndef DG_TEST_TRAIN_SUPPORT_H
#define DG_TEST_TRAIN_SUPPORT_H

#include "test.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "io/weights.h"
#include "train/checkpoint.h"
#include "train/dataset.h"
#include "train/inputs.h"
#include "train/not_finite.h"
#include "train/run.h"
#include "train/rundir.h"
#include "train/state.h"

/* 16 patches in four segments, 26 thousand parameters: a step takes a few milliseconds on any backend. */
static const char tiny[] =
    "name: tiny\n"
    "seed: 5\n"
    "data: {source: synthetic, synthetic_images: 64, synthetic_size: 40, image_size: 32, batch: 4, workers: "
    "2}\n"
    "tokenizer: {name: pixels, patch: 8}\n"
    "model: {name: digpt, size: free, width: 16, depth: 2, heads: 2, patch: 8, segments: [2, 2], taps: [1, "
    "2],\n"
    "        decoder_width: 16, decoder_depth: 1, decoder_heads: 2}\n"
    "loss: {name: mse}\n"
    "backend: {name: reference}\n"
    "optimizer: {lr: 1e-2, warmup_steps: 3}\n"
    "train: {steps: 10, log_every: 1, checkpoint_every: 4, keep_last: 100, precision: f32, pictures: 0}\n";

/* ---- recipes */

typedef struct opened {
    dg_plugin_source plugins;
    dg_schema_source schemas;
    dg_recipe *recipe;
} opened;

/* The tiny recipe with overrides, "a.b=v" separated by blanks. */
static DG_UNUSED void open_recipe(opened *o, const char *overrides)
{
    char words[1024], *list[32], *save = NULL;
    size_t n = 0;
    dg_diagnostics diags = {0};
    snprintf(words, sizeof words, "%s", overrides);
    for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) list[n++] = w;
    memset(o, 0, sizeof *o);
    o->schemas = dg_plugin_schemas(&o->plugins);
    if (dg_recipe_parse(tiny, strlen(tiny), "tiny.yaml", (const char *const *)list, n, &o->schemas,
                        &o->recipe, &diags) != DG_OK) {
        dg_str text = {0};
        dg_diagnostics_print(&diags, &text);
        fail_msg("%s", text.text);
    }
    dg_diagnostics_free(&diags);
}

static DG_UNUSED void close_recipe(opened *o)
{
    dg_recipe_free(o->recipe);
    dg_registry_destroy(o->plugins.registry);
}

static DG_UNUSED bool has_backend(const char *name)
{
    opened o;
    dg_component_ref ref;
    open_recipe(&o, "");
    bool there = dg_registry_find(o.plugins.registry, DG_BACKEND_INTERFACE, name, &ref, NULL) == DG_OK;
    close_recipe(&o);
    return there;
}

/* ---- whole runs */

enum { RESUME = 1, FORCE = 2 };

/* Trains in the folder test_dir()/name. */
static DG_UNUSED dg_status train(const char *name, int flags, const char *overrides, dg_run_result *result,
                                 dg_error *err)
{
    opened o;
    open_recipe(&o, overrides);
    const dg_run_options options = {test_path(name), flags & RESUME, flags & FORCE, &o.schemas, NULL};
    dg_status s = dg_run_train(o.recipe, o.plugins.registry, &options, result, err);
    close_recipe(&o);
    return s;
}

/* Trains to the end, or to step `stop` as if the machine had been taken away after that checkpoint. */
static DG_UNUSED void must_train(const char *name, int flags, const char *overrides)
{
    dg_run_result result;
    dg_error err = DG_ERROR_INIT;
    ASSERT_OK(train(name, flags, overrides, &result, &err));
    assert_false(result.stopped);
    assert_int_equal(result.step, result.total);
}

/* Removes the checkpoints of a run above `step`, as if it had been killed before the next was written. */
static DG_UNUSED void forget_after(const char *name, int64_t step)
{
    char path[512];
    snprintf(path, sizeof path, "%s/checkpoints", test_path(name));
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char full[800];
        if (strncmp(e->d_name, "step-", 5) != 0 || atoll(e->d_name + 5) <= step) continue;
        snprintf(full, sizeof full, "%s/%s", path, e->d_name);
        dg_error err = DG_ERROR_INIT;
        ASSERT_OK(dg_dir_remove(full, &err));
    }
    closedir(d);
}

static DG_UNUSED bool has_checkpoint(const char *name, int64_t step)
{
    char path[512];
    snprintf(path, sizeof path, "%s/checkpoints/step-%010lld/state.json", test_path(name), (long long)step);
    return dg_path_is_file(path);
}

/* ---- files */

static DG_UNUSED char *read_file(const char *path, size_t *size)
{
    char *bytes = NULL;
    dg_error err = DG_ERROR_INIT;
    ASSERT_OK(dg_file_read(path, 64 << 20, &bytes, size, &err));
    return bytes;
}

static DG_UNUSED void assert_same_file(const char *run_a, const char *run_b, const char *file)
{
    char a[800], b[800];
    size_t n, m;
    snprintf(a, sizeof a, "%s/%s", test_path(run_a), file);
    snprintf(b, sizeof b, "%s/%s", test_path(run_b), file);
    char *x = read_file(a, &n), *y = read_file(b, &m);
    if (n != m || memcmp(x, y, n) != 0) fail_msg("%s and %s differ", a, b);
    dg_free(x);
    dg_free(y);
}

/* The last checkpoint and the metrics of two runs are the same, byte for byte. */
static DG_UNUSED void assert_same_run(const char *a, const char *b, int64_t step)
{
    char file[128];
    static const char *const files[] = {"model.safetensors", "optimizer.safetensors"};
    for (int i = 0; i < 2; i++) {
        snprintf(file, sizeof file, "checkpoints/step-%010lld/%s", (long long)step, files[i]);
        assert_same_file(a, b, file);
    }
    assert_same_file(a, b, "metrics.jsonl");
}

/* ---- the log */

static char log_text[1 << 16];

static DG_UNUSED void keep_log(void *user, dg_log_level level, const char *line)
{
    (void)user, (void)level;
    size_t n = strlen(log_text);
    snprintf(log_text + n, sizeof log_text - n, "%s\n", line);
}

/* Messages go to log_text, so that the tests' own output stays readable. */
static DG_UNUSED int quiet(void **state)
{
    (void)state;
    log_text[0] = 0;
    dg_log_set_sink(keep_log, NULL);
    return 0;
}

/* ---- single steps */

typedef struct stepper {
    opened o;
    dg_parts parts;
    dg_run_plan plan;
    dg_source *source;
    dg_step step;
    dg_state state;
    dg_inputs inputs;
    dg_loader *loader;
    const dg_batch *batch; /* the first of the run, held */
    dg_backend_exe *exe;
    void **outputs; /* [n_outputs] f32 */
} stepper;

/* The `train` program with first values and the first batch in its inputs; nothing has run. */
static DG_UNUSED void open_stepper(stepper *s, const char *overrides, bool gradients)
{
    dg_error err = DG_ERROR_INIT;
    memset(s, 0, sizeof *s);
    open_recipe(&s->o, overrides);
    ASSERT_OK(dg_parts_open(s->o.recipe, s->o.plugins.registry, true, &s->parts, &err));
    ASSERT_OK(dg_dataset_open(s->o.recipe, NULL, &s->source, &err));
    ASSERT_OK(dg_run_make_plan(&s->parts, dg_source_count(s->source), &s->plan, &err));
    const dg_step_spec spec = {.batch = s->plan.batch,
                               .accumulate = (int32_t)s->plan.accumulate,
                               .compute = s->plan.compute,
                               .gradients = gradients,
                               .optimizer = s->plan.optimizer};
    ASSERT_OK(dg_step_build(&s->parts, &spec, &s->step, &err));
    ASSERT_OK(dg_state_open(&s->parts, &s->state, &err));
    ASSERT_OK(dg_state_init(&s->state, s->step.forward, s->parts.seed, false, &err));
    ASSERT_OK(dg_inputs_open(&s->parts, s->step.train, &s->inputs, &err));
    const dg_program *p = s->step.train;
    ASSERT_OK(dg_backend_of(&s->parts)->compile(s->parts.backend.self, p, s->state.store, &s->exe, &err));
    s->outputs = dg_calloc(p->n_outputs, sizeof *s->outputs);
    for (uint32_t i = 0; i < p->n_outputs; i++)
        s->outputs[i] = dg_calloc((size_t)dg_type_count(&p->values[p->outputs[i].value].type), sizeof(float));
    const dg_loader_config c = dg_dataset_config(&s->parts, 0, 1);
    ASSERT_OK(dg_loader_open(&c, s->source, &s->loader, &err));
    ASSERT_OK(dg_loader_next(s->loader, &s->batch, &err));
}

static DG_UNUSED void run_stepper(stepper *s, double lr)
{
    dg_error err = DG_ERROR_INIT;
    const dg_optimizer *o = &s->plan.optimizer;
    const float scalars[3] = {(float)lr, (float)(1 - o->beta1), (float)(1 - o->beta2)};
    ASSERT_OK(dg_inputs_fill(&s->inputs, s->batch, scalars, &err));
    const dg_run io = {(uint32_t)sizeof io,      s->inputs.n, s->inputs.data,
                       s->step.train->n_outputs, 0,           s->outputs};
    ASSERT_OK(dg_backend_of(&s->parts)->run(s->exe, &io, &err));
}

static DG_UNUSED void close_stepper(stepper *s)
{
    for (uint32_t i = 0; i < s->step.train->n_outputs; i++) dg_free(s->outputs[i]);
    dg_free(s->outputs);
    dg_loader_close(s->loader);
    dg_backend_of(&s->parts)->release(s->exe);
    dg_inputs_close(&s->inputs);
    dg_state_close(&s->state);
    dg_step_destroy(&s->step);
    dg_source_close(s->source);
    dg_parts_close(&s->parts);
    close_recipe(&s->o);
}

/* An output by its name, with its number of elements. */
static DG_UNUSED const float *output_of(const stepper *s, const char *name, int64_t *n)
{
    const dg_program *p = s->step.train;
    for (uint32_t i = 0; i < p->n_outputs; i++)
        if (!strcmp(p->outputs[i].name, name)) {
            *n = dg_type_count(&p->values[p->outputs[i].value].type);
            return s->outputs[i];
        }
    fail_msg("there is no output '%s'", name);
    return NULL;
}

/* A tensor of the state, to be freed. */
static DG_UNUSED float *state_of(const stepper *s, const char *name, int64_t *n)
{
    dg_error err = DG_ERROR_INIT;
    for (uint32_t i = 0; i < s->step.train->n_leaves; i++) {
        const dg_program_leaf *leaf = &s->step.train->leaves[i];
        if (strcmp(leaf->name, name)) continue;
        const dg_type *t = &s->step.train->values[leaf->value].type;
        *n = dg_type_count(t);
        float *values = dg_calloc((size_t)*n, sizeof *values);
        ASSERT_OK(dg_state_read_f32(&s->state, name, t, values, &err));
        return values;
    }
    fail_msg("there is no tensor '%s'", name);
    return NULL;
}

#endif
