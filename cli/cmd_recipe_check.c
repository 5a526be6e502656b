/* cmd_recipe_check.c - `digpt recipe check`: everything that a recipe would do, before an image is read. */
#include "cli.h"

#include "data/source.h"
#include "train/dataset.h"
#include "train/features.h"
#include "train/finetune.h"
#include "train/probe_task.h"
#include "train/run.h"
#include "train/token_cache.h"

/* A number with a unit of thousands: "85.8 M". */
static const char *many(double n, char *out, size_t size)
{
    static const char *const unit[] = {"", " k", " M", " G", " T", " P"};
    int u = 0;
    for (; n >= 1000 && u < 5; u++) n /= 1000;
    snprintf(out, size, u ? "%.4g%s" : "%.0f%s", n, unit[u]);
    return out;
}

static void about_parts(const dg_parts *p, dg_str *rows)
{
    const dg_tokenizer_info *t = &p->tokens;
    dg_str_printf(rows, "image\t%lld x %lld pixels\n", (long long)p->image_h, (long long)p->image_w);
    if (t->struct_size) {
        dg_str_printf(rows, "tokenizer\t%s: %s\n", dg_recipe_component(p->recipe, "tokenizer", NULL),
                      t->summary);
        dg_str_printf(rows, "tokens\t%lld x %lld%s = %lld, ", (long long)t->grid_h, (long long)t->grid_w,
                      t->class_token ? " and a class token" : "", (long long)dg_token_count(t));
        if (t->discrete)
            dg_str_printf(rows, "ids of %lld", (long long)t->vocabulary);
        else
            dg_str_printf(rows, "vectors of %lld", (long long)t->width);
        dg_str_printf(rows, ", from %lld x %lld pixels\n", (long long)t->image_h, (long long)t->image_w);
    }
}

static void about_program(const dg_parts *p, const dg_run_plan *plan, const dg_step *step, dg_str *rows)
{
    char a[32], b[32];
    dg_cost cost = dg_program_cost(step->train);
    dg_str_printf(rows, "model\t%s: %s parameters trained", p->model.ref.factory->name,
                  many((double)cost.parameters, a, sizeof a));
    if (cost.frozen)
        dg_str_printf(rows, ", %s frozen with the tokenizer", many((double)cost.frozen, b, sizeof b));
    dg_str_puts(rows, "\n");
    for (uint32_t i = 0; i < step->n_predictions; i++) {
        char tap[64];
        snprintf(tap, sizeof tap, "loss_tokens.%s", step->prediction_names[i]);
        dg_value v = dg_graph_tap(step->forward, tap);
        dg_type t;
        if (!dg_is_value(v) || step->forward->api->type(step->forward, v, &t) != DG_OK) continue;
        dg_str_printf(rows, "predicts\t%s: %lld positions an image, compared by %s\n",
                      step->prediction_names[i], (long long)t.dims[1], p->loss.ref.factory->name);
    }
    dg_str_printf(rows, "work\t%sFLOP an image, forward and backward; %u nodes in the program\n",
                  many(cost.flops * step->ranks / (double)plan->batch, a, sizeof a), step->train->n_nodes);
}

static dg_status about_backend(const dg_parts *p, const dg_run_plan *plan, const dg_program *program,
                               dg_str *rows, dg_error *err)
{
    char a[32], b[32], c[32], all[32], print[256] = "";
    dg_memory_need need = {.struct_size = (uint32_t)sizeof need};
    dg_backend_of(p)->fingerprint(p->backend.self, print, sizeof print);
    dg_str_printf(rows, "backend\t%s, computes in %s; %s\n", p->backend.ref.factory->name,
                  dg_dtype_name(plan->compute), print);
    DG_TRY(dg_backend_of(p)->memory(p->backend.self, program, &need, err));
    dg_str_printf(rows, "memory\t%s: %s of state, %s during a step, %s of packed weights\n",
                  cli_bytes((double)(need.state + need.temporary + need.packed), all, sizeof all),
                  cli_bytes((double)need.state, a, sizeof a), cli_bytes((double)need.temporary, b, sizeof b),
                  cli_bytes((double)need.packed, c, sizeof c));
    return DG_OK;
}

static void about_steps(const dg_run_plan *plan, dg_str *rows)
{
    dg_str_printf(rows, "batch\t%lld images", (long long)plan->batch);
    if (plan->accumulate > 1)
        dg_str_printf(rows, ", %lld of them for an update", (long long)plan->accumulate);
    dg_str_printf(rows, "; learning rate for %lld: %.4g, down to %.4g\n", (long long)plan->effective_batch,
                  plan->lr, plan->min_lr);
    dg_str_printf(rows, "steps\t%lld, %lld an epoch, %.0f of warm-up\n", (long long)plan->steps,
                  (long long)plan->steps_per_epoch, plan->warmup_steps);
}

/* What `digpt tokenize` would write, where data.views allows it. */
static void about_cache(const dg_parts *p, int64_t images, dg_str *rows)
{
    char a[32], b[32];
    int64_t views = dg_recipe_int(p->recipe, "data.views");
    if (!p->tokens.struct_size || p->tokens.discrete || views < 1 || p->cache) return;
    images = dg_token_cache_images(p->recipe, images);
    dg_str_printf(rows, "token cache\t%s for %lld views of %lld images, %s with --int8 (digpt tokenize)\n",
                  cli_bytes((double)dg_token_cache_bytes(&p->tokens, images, views, false), a, sizeof a),
                  (long long)views, (long long)images,
                  cli_bytes((double)dg_token_cache_bytes(&p->tokens, images, views, true), b, sizeof b));
}

/* What a step is built from, and what is said of it. */
static dg_status check_step(const dg_parts *parts, const dg_run_plan *plan, dg_str *rows, dg_error *err)
{
    dg_step step = {0};
    dg_finetune finetune;
    dg_step_spec spec;
    dg_status s = dg_task_spec(parts, plan, -1, &finetune, &spec, err);
    if (s == DG_OK) s = dg_step_build(parts, &spec, &step, err);
    if (s == DG_OK) about_program(parts, plan, &step, rows);
    if (s == DG_OK) s = about_backend(parts, plan, step.train, rows, err);
    dg_step_destroy(&step);
    return s;
}

/* The tasks knn and probe run the encoder once over each image; the rest is small. */
static dg_status check_features(const dg_parts *parts, const dg_run_plan *plan, dg_str *rows, dg_error *err)
{
    char a[32], b[32];
    dg_extractor e = {0};
    const dg_feature_spec spec = dg_feature_spec_read(parts->recipe, dg_recipe_string(parts->recipe, "task"));
    dg_status s = dg_extractor_open(parts, &spec, plan->batch, plan->compute, &e, err);
    if (s == DG_OK) {
        dg_cost cost = dg_program_cost(e.program);
        dg_str_printf(rows, "model\t%s: %s parameters, frozen\n", parts->model.ref.factory->name,
                      many((double)cost.parameters, a, sizeof a));
        dg_str_printf(rows, "features\t%lld an image, %s%s\n", (long long)e.width,
                      spec.pool == DG_POOL_CLASS ? "of the class token" : "the mean of the patch tokens",
                      spec.norm ? ", after the last norm" : "");
        dg_str_printf(rows, "work\t%sFLOP an image, forward\n",
                      many(cost.flops / (double)plan->batch, b, sizeof b));
        s = about_backend(parts, plan, e.program, rows, err);
    }
    dg_extractor_close(&e);
    return s;
}

static dg_status check(const cli_recipe *r, dg_str *rows, dg_error *err)
{
    dg_parts parts = {0};
    dg_run_plan plan = {0};
    dg_source *source = NULL;
    bool probe = dg_is_probe_task(r->recipe);
    dg_status s = dg_parts_open(r->recipe, r->plugins.registry, true, &parts, err);
    if (s == DG_OK) {
        about_parts(&parts, rows);
        s = dg_run_make_plan(&parts, 0, &plan, err);
    }
    if (s == DG_OK)
        s = probe ? check_features(&parts, &plan, rows, err) : check_step(&parts, &plan, rows, err);
    /* The data comes last: a recipe can be looked at where its data is not, and all the rest is said. */
    if (s == DG_OK) s = dg_dataset_open(r->recipe, NULL, &source, err);
    if (s == DG_OK) {
        dg_str_printf(rows, "data\t%s\n", dg_source_describe(source));
        about_cache(&parts, dg_source_count(source), rows);
        s = dg_run_make_plan(&parts, dg_source_count(source), &plan, err);
    }
    if (s == DG_OK && !probe) about_steps(&plan, rows);
    dg_source_close(source);
    dg_parts_close(&parts);
    return s;
}

/* ---- beside another recipe */

/* The k-th row of `rows` with the key that `row` begins with, up to its end; NULL if there is none. */
static const char *same_key(const char *rows, const char *row, int k)
{
    size_t n = strcspn(row, "\t") + 1;
    for (const char *p = rows; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (!strncmp(p, row, n) && k-- == 0) return p;
    return NULL;
}

/* The rows of a, and under each that is another in b what it is there; rows that only b has come last. */
static void merge(const char *a, const char *b, dg_str *out)
{
    const char *last = "";
    int k = 0;
    for (const char *p = a; *p; p += strcspn(p, "\n") + 1) {
        size_t key = strcspn(p, "\t") + 1, n = strcspn(p, "\n");
        k = strncmp(last, p, key) ? 0 : k + 1;
        last = p;
        const char *q = same_key(b, p, k);
        size_t m = q ? strcspn(q, "\n") : 0;
        dg_str_bytes(out, p, n + 1);
        if (!q || n != m || strncmp(p, q, n))
            dg_str_printf(out, "  was\t%.*s\n", q ? (int)(m - key) : 7, q ? q + key : "nothing");
    }
    for (const char *q = b; *q; q += strcspn(q, "\n") + 1)
        if (!same_key(a, q, 0))
            dg_str_printf(out, "  was\t%.*s: %.*s\n", (int)strcspn(q, "\t"), q,
                          (int)strcspn(q + strcspn(q, "\t") + 1, "\n"), q + strcspn(q, "\t") + 1);
}

/* Opens and checks one recipe into rows; the exit code. With `origins`, its values are added to `values`. */
static int check_one(const cli_args *args, const char *name, char *const *overrides, int n, dg_str *rows,
                     dg_str *values)
{
    cli_recipe r;
    dg_error err = DG_ERROR_INIT;
    int code = cli_recipe_open(args, name, overrides, n, &r);
    if (code != CLI_OK) return code;
    dg_str_printf(rows, "recipe\t%s\n", r.path);
    if (check(&r, rows, &err) != DG_OK) {
        code = cli_recipe_fail(&r, &err);
    } else if (values) {
        dg_str_puts(values, "\n");
        dg_recipe_print(r.recipe, true, values);
    }
    cli_recipe_close(&r);
    return code;
}

static int run(const cli_args *args)
{
    dg_str rows = {0}, other = {0}, merged = {0}, values = {0};
    const char *against = cli_value(args, "against");
    int code = check_one(args, args->words[0], args->words + 1, args->n_words - 1, &rows,
                         cli_has(args, "origins") ? &values : NULL);
    if (code == CLI_OK && against) code = check_one(args, against, NULL, 0, &other, NULL);
    if (code == CLI_OK && against && rows.text && other.text) {
        merge(rows.text, other.text, &merged);
        dg_str_free(&rows);
        rows = merged;
    }
    int printed = cli_table(&rows);
    if (code == CLI_OK) code = printed;
    if (code == CLI_OK) code = cli_print(&values);
    dg_str_free(&values);
    dg_str_free(&other);
    return code;
}

static const cli_option options[] = {
    {"against", "RECIPE", "say under each line what it would be for another recipe"},
    {"origins", NULL, "print all values too, with where each was written"},
    CLI_PLUGIN_PATH,
    {NULL, NULL, NULL}};

const cli_command cmd_recipe_check = {"recipe check",
                                      "RECIPE [key=value ...]",
                                      1,
                                      -1,
                                      "check a recipe and say what it would do",
                                      "Loads the plugins, reads the headers of weights, builds the whole "
                                      "program and asks the backend about it;\n"
                                      "reads no image. What would another tokenizer change?\n"
                                      "  digpt recipe check RECIPE tokenizer.name=pixels --against RECIPE",
                                      options,
                                      run};
