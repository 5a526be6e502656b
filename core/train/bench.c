/* bench.c - see bench.h. */
#include "bench.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/mem.h"
#include "train/dataset.h"
#include "train/features.h"
#include "train/finetune.h"
#include "train/inputs.h"
#include "train/state.h"
#include "train/tokenize.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* ---- the GEMM rate */

/* y = a b as a program of its own whose operands and result stay on the device. */
static dg_status gemm_program(const dg_parts *parts, dg_dtype dtype, int64_t m, int64_t n, int64_t k,
                              dg_program **out, dg_error *err)
{
    dg_graph *g = dg_graph_create();
    if (!g) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_init zero = dg_init_value(DG_INIT_CONSTANT, 0);
    struct {
        const char *name;
        int64_t rows, cols;
    } shapes[] = {{"a", m, k}, {"b", n, k}, {"y", m, n}};
    dg_value v[3];
    for (int i = 0; i < 3; i++) {
        dg_leaf leaf = {.struct_size = (uint32_t)sizeof leaf,
                        .kind = DG_LEAF_STATE,
                        .name = shapes[i].name,
                        .type = dg_make_type(dtype, DG_LIST(shapes[i].rows, shapes[i].cols)),
                        .init = zero,
                        .layer = -1};
        v[i] = g->api->leaf(g, &leaf);
    }
    dg_graph_update(g, v[2], dg_matmul(g, v[0], v[1], false, true, dtype));
    dg_status s = dg_finish_program(g, parts, "gemm", false, out, err);
    dg_graph_destroy(g);
    return s;
}

/* Best of several runs of one GEMM, in FLOP/s; operands are small random numbers. */
static dg_status time_gemm(const dg_parts *parts, dg_dtype dtype, int64_t m, int64_t n, int64_t k,
                           double *best, dg_error *err)
{
    const dg_backend_interface *b = dg_backend_of(parts);
    dg_program *p = NULL;
    dg_state state = {0};
    dg_backend_exe *exe = NULL;
    float *values = dg_calloc((size_t)(m > n ? m : n) * (size_t)k, sizeof *values);
    dg_status s =
        values ? gemm_program(parts, dtype, m, n, k, &p, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = dg_state_open(parts, &state, err);
    for (int i = 0; i < 2 && s == DG_OK; i++) {
        dg_type t = dg_make_type(dtype, DG_LIST(i ? n : m, k));
        for (int64_t e = 0; e < dg_type_count(&t); e++) values[e] = (float)(e % 17 - 8) / 16;
        s = dg_state_write_f32(&state, i ? "b" : "a", &t, values, err);
    }
    if (s == DG_OK) s = b->compile(parts->backend.self, p, state.store, &exe, err);
    dg_run io = {(uint32_t)sizeof io, 0, NULL, 0, 0, NULL};
    double until = now() + 0.4;
    for (int i = 0; s == DG_OK && (i < 3 || now() < until); i++) {
        double t = now();
        s = b->run(exe, &io, err);
        double rate = 2.0 * (double)m * (double)n * (double)k / (now() - t);
        if (i > 0 && rate > *best) *best = rate;
    }
    if (exe) b->release(exe);
    dg_state_close(&state);
    dg_program_destroy(p);
    dg_free(values);
    return s;
}

/* The shape of the program's largest product, and a large one. */
static dg_status measure_peak(const dg_parts *parts, const dg_program *p, dg_dtype dtype, double *peak,
                              dg_error *err)
{
    int64_t m = 0, n = 0, k = 0;
    double most = 0;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        dg_type types[DG_WORK_MAX_IN];
        dg_work w;
        if (p->nodes[i].n_in + p->nodes[i].n_out > DG_WORK_MAX_IN) continue;
        dg_program_work(p, i, types, &w);
        double flops = dg_work_flops(&w);
        if (strcmp(w.op, "linear") != 0 || flops <= most) continue;
        most = flops;
        n = w.in[1].dims[0];
        k = w.in[1].dims[1];
        m = dg_type_count(&w.in[0]) / k;
    }
    *peak = 0;
    if (most > 0) DG_TRY(time_gemm(parts, dtype, m, n, k, peak, err));
    return time_gemm(parts, dtype, 2048, 2048, 2048, peak, err);
}

/* ---- the nodes */

typedef struct total {
    const char *name;
    double seconds, flops;
} total;

static int by_seconds(const void *a, const void *b)
{
    double x = ((const total *)a)->seconds, y = ((const total *)b)->seconds;
    return x > y ? -1 : x < y;
}

static dg_status table_of_nodes(const dg_parts *parts, const dg_program *p, dg_backend_exe *exe, int64_t runs,
                                dg_str *out, dg_error *err)
{
    dg_node_time *times = dg_calloc(p->n_nodes + 1, sizeof *times);
    total *totals = dg_calloc(p->n_nodes + 1, sizeof *totals);
    uint32_t n = 0;
    size_t n_totals = 0;
    double all = 0;
    dg_status s = times && totals ? dg_backend_of(parts)->times(exe, times, p->n_nodes, &n, err)
                                  : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (uint32_t i = 0; s == DG_OK && i < n; i++) {
        const dg_program_node *node = &p->nodes[times[i].node];
        dg_type types[DG_WORK_MAX_IN];
        dg_work w;
        size_t k = 0;
        while (k < n_totals && strcmp(totals[k].name, node->op) != 0) k++;
        if (k == n_totals) totals[n_totals++].name = node->op;
        totals[k].seconds += times[i].seconds;
        all += times[i].seconds;
        if (node->n_in + node->n_out > DG_WORK_MAX_IN) continue;
        dg_program_work(p, times[i].node, types, &w);
        totals[k].flops += dg_work_flops(&w) * (double)times[i].runs;
    }
    if (s == DG_OK) {
        qsort(totals, n_totals, sizeof *totals, by_seconds);
        dg_str_printf(out, "OP\tMS A STEP\tSHARE\tGFLOP/S\n");
        for (size_t k = 0; k < n_totals; k++) {
            const total *t = &totals[k];
            dg_str_printf(out, "%s\t%.3f\t%.1f %%\t", t->name, 1e3 * t->seconds / (double)runs,
                          all > 0 ? 100 * t->seconds / all : 0);
            if (t->flops > 0 && t->seconds > 0)
                dg_str_printf(out, "%.1f\n", 1e-9 * t->flops / t->seconds);
            else
                dg_str_puts(out, "-\n");
        }
        s = dg_str_check(out, err);
    }
    dg_free(times);
    dg_free(totals);
    return s;
}

/* ---- the steps */

typedef struct bench {
    dg_parts parts;
    dg_run_plan plan;
    dg_source *source;
    dg_finetune finetune;
    dg_step step;
    dg_graph *tokens;
    dg_program *tokenize;
    dg_extractor encoder;
    const dg_graph *forward;   /* of the part, and */
    const dg_program *program; /* what is timed; of one of those above */
    dg_state state;
    dg_inputs inputs;
    dg_loader *loader;
    dg_backend_exe *exe;
    void **outputs;
    double *ms;
} bench;

static dg_status build_step(bench *b, dg_error *err)
{
    dg_step_spec spec;
    DG_TRY(dg_task_spec(&b->parts, &b->plan, dg_source_classes(b->source), &b->finetune, &spec, err));
    spec.accumulate = 1;
    DG_TRY(dg_step_build(&b->parts, &spec, &b->step, err));
    b->forward = b->step.forward;
    b->program = b->step.train;
    b->inputs.ranks = b->step.ranks;
    b->inputs.fill = spec.classify ? dg_finetune_fill : NULL;
    b->inputs.user = &b->finetune;
    return DG_OK;
}

static dg_status build_tokenizer(bench *b, dg_error *err)
{
    DG_TRY(dg_tokenize_graph(&b->parts, b->plan.batch, b->plan.compute, &b->tokens, err));
    DG_TRY(dg_finish_program(b->tokens, &b->parts, "tokenize", false, &b->tokenize, err));
    b->forward = b->tokens;
    b->program = b->tokenize;
    return DG_OK;
}

static dg_status build_encoder(bench *b, dg_error *err)
{
    const dg_feature_spec spec = dg_feature_spec_read(b->parts.recipe, "knn");
    DG_TRY(dg_extractor_open(&b->parts, &spec, b->plan.batch, b->plan.compute, &b->encoder, err));
    b->forward = b->encoder.graph;
    b->program = b->encoder.program;
    return DG_OK;
}

static dg_status set_up(bench *b, const dg_recipe *recipe, const dg_registry *registry,
                        const dg_bench_options *o, dg_error *err)
{
    static dg_status (*const build[])(bench *, dg_error *) = {[DG_BENCH_STEP] = build_step,
                                                              [DG_BENCH_TOKENIZER] = build_tokenizer,
                                                              [DG_BENCH_ENCODER] = build_encoder};
    DG_TRY(dg_parts_open(recipe, registry, true, &b->parts, err));
    DG_TRY(dg_dataset_open(recipe, NULL, &b->source, err));
    DG_TRY(dg_run_make_plan(&b->parts, dg_source_count(b->source), &b->plan, err));
    DG_TRY(build[o->part](b, err));
    DG_TRY(dg_state_open(&b->parts, &b->state, err));
    DG_TRY(dg_state_init(&b->state, b->forward, b->parts.seed, false, err));
    DG_TRY(dg_inputs_open(&b->parts, b->program, &b->inputs, err));
    DG_TRY(
        dg_backend_of(&b->parts)->compile(b->parts.backend.self, b->program, b->state.store, &b->exe, err));
    dg_loader_config c = dg_dataset_config(&b->parts, 0, o->before ? -1 : o->steps + o->warmup);
    DG_TRY(dg_loader_open(&c, b->source, &b->loader, err));
    b->outputs = dg_calloc(b->program->n_outputs + 1, sizeof *b->outputs);
    b->ms = dg_calloc((size_t)o->steps + 1, sizeof *b->ms);
    return b->outputs && b->ms ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

/* *done: counted steps; fewer than asked for where options->before says no. */
static dg_status steps(bench *b, const dg_bench_options *o, int64_t *done, double *wait, dg_error *err)
{
    const dg_backend_interface *backend = dg_backend_of(&b->parts);
    const float scalars[3] = {1e-6f, 0.1f, 0.05f};
    double before = 0;
    for (int64_t i = 0; i < o->warmup + o->steps; i++) {
        const dg_batch *batch;
        if (i == o->warmup) {
            before = dg_loader_get_stats(b->loader).wait_seconds;
            if (o->nodes) backend->profile(b->exe, true);
        }
        if (i >= o->warmup && o->before && !o->before(o->user)) break;
        double t = now();
        DG_TRY(dg_loader_next(b->loader, &batch, err));
        dg_status s = dg_inputs_fill(&b->inputs, batch, scalars, err);
        dg_run io = {(uint32_t)sizeof io,   b->inputs.n,     b->inputs.data,
                     b->program->n_outputs, b->inputs.ranks, b->outputs};
        if (s == DG_OK) s = backend->run(b->exe, &io, err);
        dg_loader_release(b->loader, batch);
        DG_TRY(s);
        if (i < o->warmup) continue;
        b->ms[*done] = 1e3 * (now() - t);
        if (o->after) o->after(o->user, b->ms[*done]);
        ++*done;
    }
    *wait = dg_loader_get_stats(b->loader).wait_seconds - before;
    return DG_OK;
}

static void tear_down(bench *b)
{
    dg_loader_close(b->loader);
    if (b->exe) dg_backend_of(&b->parts)->release(b->exe);
    dg_inputs_close(&b->inputs);
    dg_state_close(&b->state);
    dg_extractor_close(&b->encoder);
    dg_program_destroy(b->tokenize);
    dg_graph_destroy(b->tokens);
    dg_step_destroy(&b->step);
    dg_source_close(b->source);
    dg_parts_close(&b->parts);
    dg_free(b->outputs);
    dg_free(b->ms);
}

static void conclude(bench *b, int64_t done, double wait, dg_bench *out)
{
    double sum = 0, *ms = b->ms;
    struct rusage usage;
    for (int64_t i = 0; i < done; i++) sum += ms[i];
    qsort(ms, (size_t)done, sizeof *ms, ascending);
    out->ms_per_step = done % 2 ? ms[done / 2] : 0.5 * (ms[done / 2 - 1] + ms[done / 2]);
    out->batch = b->plan.batch;
    out->steps = done;
    out->images_per_second = 1e3 * (double)out->batch / out->ms_per_step;
    out->gflop_per_image = 1e-9 * dg_program_cost(b->program).flops *
                           (b->inputs.ranks > 1 ? b->inputs.ranks : 1) / (double)out->batch;
    out->gflops = out->gflop_per_image * out->images_per_second;
    out->fraction_of_peak = out->gflops / out->peak_gflops;
    out->data_wait_fraction = sum > 0 ? 1e3 * wait / sum : 0;
    getrusage(RUSAGE_SELF, &usage);
    out->peak_rss_bytes = 1024.0 * (double)usage.ru_maxrss;
    snprintf(out->precision, sizeof out->precision, "%s", dg_dtype_name(b->plan.compute));
    dg_backend_of(&b->parts)->fingerprint(b->parts.backend.self, out->backend, sizeof out->backend);
}

dg_status dg_bench_run(const dg_recipe *recipe, const dg_registry *registry, const dg_bench_options *options,
                       dg_bench *out, dg_str *nodes, dg_error *err)
{
    bench b = {0};
    double wait = 0;
    int64_t done = 0;
    memset(out, 0, sizeof *out);
    dg_status s = set_up(&b, recipe, registry, options, err);
    if (s == DG_OK) s = measure_peak(&b.parts, b.program, b.plan.compute, &out->peak_gflops, err);
    out->peak_gflops *= 1e-9;
    if (s == DG_OK) s = steps(&b, options, &done, &wait, err);
    if (s == DG_OK && done > 0) conclude(&b, done, wait, out);
    if (s == DG_OK && options->nodes && done > 0)
        s = table_of_nodes(&b.parts, b.program, b.exe, done, nodes, err);
    tear_down(&b);
    return s;
}
