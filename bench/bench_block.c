/* bench_block.c - one encoder block's training step (forward, gradient, AdamW) on a backend, against the rate
 * of large matrix products measured in the same process.
 *
 *   bench_block PLUGIN.so [batch [tokens [width [heads [f32]]]]]
 *
 * Prints the time of a step, GFLOP/s and their share of the peak; then the slowest nodes by op and scope. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "digpt/vit.h"
#include "graph/graph.h"
#include "plugin/host.h"

typedef struct setting {
    int64_t batch, tokens, width, heads;
    dg_dtype compute;
} setting;

typedef struct running {
    const dg_backend_interface *f;
    void *self;
    dg_program *program;
    dg_backend_store *store;
    dg_backend_exe *exe;
    void **inputs, **outputs;
    uint32_t n_inputs;
} running;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(dg_status s, const dg_error *err)
{
    if (s == DG_OK) return;
    fprintf(stderr, "bench_block: %s\n", err->message);
    exit(1);
}

/* ---- graphs */

static dg_value moment(dg_graph *g, char kind, size_t i, dg_type t)
{
    char name[32];
    snprintf(name, sizeof name, "%c%zu", kind, i);
    dg_leaf leaf = {
        (uint32_t)sizeof leaf, DG_LEAF_STATE, name, t, dg_init_value(DG_INIT_CONSTANT, 0), 0, -1, 0};
    return g->api->leaf(g, &leaf);
}

typedef struct optimizer {
    dg_value scalars, ok;
    size_t n_params; /* the first so many gradients are of parameters */
} optimizer;

static void update(void *user, dg_graph *g, size_t i, dg_value grad)
{
    const optimizer *o = user;
    if (i >= o->n_params) {
        dg_graph_output(g, grad, "dx");
        return;
    }
    const char *name = NULL;
    for (int32_t k = 0, n = 0; k < dg_graph_count(g) && !name; k++) {
        const dg_leaf *leaf = dg_graph_node(g, k)->leaf;
        if (leaf && leaf->kind == DG_LEAF_PARAM && (size_t)n++ == i) name = leaf->name;
    }
    dg_value p = dg_graph_leaf(g, name);
    dg_graph_set_scope(g, "");
    dg_value m = moment(g, 'm', i, dg_type_of(g, p)), v = moment(g, 'v', i, dg_type_of(g, p));
    dg_graph_set_scope(g, "optimizer");
    dg_value next = dg_adamw(g, p, grad, m, v, o->scalars, o->ok, 0.9, 0.95, 1e-8, 1, 0.05);
    dg_graph_update(g, p, next);
    dg_graph_update(g, m, dg_output(next, 1));
    dg_graph_update(g, v, dg_output(next, 2));
}

/* Keys of three segments, as in D-iGPT: a token sees the segments up to its own. */
static dg_value groups(dg_graph *g, int64_t tokens)
{
    int32_t *x = dg_calloc((size_t)tokens, sizeof *x);
    for (int64_t i = 0; i < tokens; i++) x[i] = (int32_t)(3 * i / tokens);
    dg_value v = dg_constant(g, DG_I32, DG_LIST(1, tokens), x, (size_t)tokens * sizeof *x);
    dg_free(x);
    return v;
}

static dg_graph *forward(const setting *s)
{
    dg_graph *g = dg_graph_create();
    dg_value x = dg_input(g, "x", DG_F32, DG_LIST(s->batch, s->tokens, s->width), DG_PER_SAMPLE);
    dg_value dy = dg_input(g, "dy", DG_F32, DG_LIST(s->batch, s->tokens, s->width), DG_PER_SAMPLE);
    dg_vit v = {
        .g = g, .kind = DG_LEAF_PARAM, .layer = -1, .heads = s->heads, .hidden = 4 * s->width, .eps = 1e-6};
    dg_value seg = groups(g, s->tokens), y = dg_vit_block(&v, x, (dg_vit_groups){seg, seg}, DG_NO_VALUE);
    dg_graph_output(g, dg_reduce_sum(g, dg_mul(g, y, dy), DG_LIST(0, 1, 2), false, DG_NONE), "loss");
    return g;
}

static bool differentiable(void *user, const dg_work *work)
{
    (void)user;
    return dg_op_find(work->op)->grad != NULL;
}

static bool takes(void *user, const dg_work *work)
{
    const running *r = user;
    return r->f->supports(r->self, work);
}

/* *g becomes the graph that a pass made of it. */
static void replace(dg_graph **g, dg_graph *next)
{
    dg_graph_destroy(*g);
    *g = next;
}

static dg_program *training_step(const setting *s, running *r)
{
    dg_error err = DG_ERROR_INIT;
    dg_graph *g = forward(s), *next;
    dg_value wrt[64], grads[64];
    const dg_named_value *outputs;
    dg_program *p;
    check(dg_pass_lower(g, differentiable, NULL, &next, &err), &err);
    replace(&g, next);
    check(dg_pass_precision(g, s->compute, &next, &err), &err);
    replace(&g, next);
    dg_graph_outputs(g, &outputs);
    dg_value loss = outputs[0].value;
    optimizer o = {.ok = dg_is_finite(g, loss)};
    for (int32_t i = 0; i < dg_graph_count(g); i++) {
        const dg_leaf *leaf = dg_graph_node(g, i)->leaf;
        if (leaf && leaf->kind == DG_LEAF_PARAM) wrt[o.n_params++] = (dg_value){i, 0};
    }
    wrt[o.n_params] = dg_graph_leaf(g, "x");
    o.scalars = dg_input(g, "scalars", DG_F32, DG_LIST(3), DG_PER_BATCH);
    check(dg_gradient_each(g, loss, wrt, o.n_params + 1, grads, update, &o, &err), &err);
    check(dg_pass_lower(g, takes, r, &next, &err), &err);
    replace(&g, next);
    check(dg_pass_fold(g, &next, &err), &err);
    replace(&g, next);
    check(dg_pass_cse(g, &next, &err), &err);
    replace(&g, next);
    check(dg_program_make(g, "block", false, &p, &err), &err);
    dg_graph_destroy(g);
    return p;
}

static dg_program *large_product(dg_dtype dtype, int64_t n)
{
    dg_error err = DG_ERROR_INIT;
    dg_graph *g = dg_graph_create();
    dg_program *p;
    dg_value a = dg_input(g, "a", dtype, DG_LIST(n, n), DG_PER_BATCH);
    dg_value b = dg_input(g, "b", dtype, DG_LIST(n, n), DG_PER_BATCH);
    dg_graph_output(g, dg_matmul(g, a, b, false, true, DG_NONE), "y");
    check(dg_program_make(g, "gemm", false, &p, &err), &err);
    dg_graph_destroy(g);
    return p;
}

/* ---- running */

/* Small numbers, in whatever dtype. */
static void *numbers(const dg_type *t, double scale)
{
    int64_t n = dg_type_count(t);
    double *x = dg_calloc((size_t)n, sizeof *x);
    void *stored = dg_alloc_aligned((size_t)dg_type_bytes(t));
    for (int64_t i = 0; i < n; i++) x[i] = scale * ((double)(i * 7919 % 1009) / 504 - 1);
    dg_from_doubles((dg_dtype)t->dtype, x, n, stored);
    dg_free(x);
    return stored;
}

static void compile(running *r, dg_program *p)
{
    dg_error err = DG_ERROR_INIT;
    r->program = p;
    r->inputs = dg_calloc(p->n_leaves, sizeof *r->inputs);
    r->outputs = dg_calloc(p->n_outputs, sizeof *r->outputs);
    check(r->f->store_create(r->self, &r->store, &err), &err);
    check(r->f->compile(r->self, p, r->store, &r->exe, &err), &err);
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        const dg_type *t = &p->values[p->leaves[l].value].type;
        bool step = strcmp(p->leaves[l].name, "scalars") == 0;
        void *x = numbers(t, 0.02);
        if (step) memcpy(x, (const float[3]){1e-4f, 0.1f, 0.05f}, sizeof(float[3]));
        if (p->leaves[l].kind == DG_LEAF_INPUT) {
            r->inputs[r->n_inputs++] = x;
            continue;
        }
        if (p->leaves[l].kind == DG_LEAF_PARAM)
            check(r->f->store_write(r->store, p->leaves[l].name, x, 0, (uint64_t)dg_type_bytes(t), &err),
                  &err);
        dg_free(x);
    }
}

static double one_run(running *r)
{
    dg_error err = DG_ERROR_INIT;
    dg_run run = {(uint32_t)sizeof run,  r->n_inputs, (const void *const *)r->inputs,
                  r->program->n_outputs, 0,           r->outputs};
    double start = now();
    check(r->f->run(r->exe, &run, &err), &err);
    return now() - start;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct line {
    char text[128];
    double seconds, flops;
} line;

static int by_seconds(const void *a, const void *b)
{
    double x = ((const line *)a)->seconds, y = ((const line *)b)->seconds;
    return (x < y) - (x > y);
}

static void print_nodes(running *r)
{
    dg_error err = DG_ERROR_INIT;
    uint32_t n = r->program->n_nodes, n_lines = 0;
    dg_node_time *times = dg_calloc(n, sizeof *times);
    line *lines = dg_calloc(n, sizeof *lines);
    dg_type types[DG_WORK_MAX_IN];
    r->f->profile(r->exe, true);
    for (int i = 0; i < 10; i++) one_run(r);
    check(r->f->times(r->exe, times, n, &n, &err), &err);
    for (uint32_t i = 0; i < n; i++) {
        char text[128], shape[64];
        const dg_program_node *node = &r->program->nodes[i];
        dg_type_text(&r->program->values[node->out].type, shape, sizeof shape);
        snprintf(text, sizeof text, "%-16s %-28s %s", node->op, node->scope, shape);
        dg_work work;
        dg_program_work(r->program, i, types, &work);
        uint32_t k = 0;
        while (k < n_lines && strcmp(lines[k].text, text) != 0) k++;
        if (k == n_lines) memcpy(lines[n_lines++].text, text, sizeof text);
        lines[k].seconds += times[i].seconds / times[i].runs;
        lines[k].flops += dg_work_flops(&work);
    }
    qsort(lines, n_lines, sizeof *lines, by_seconds);
    for (uint32_t k = 0; k < n_lines && lines[k].seconds > 2e-5; k++)
        printf("%8.3f ms %8.1f GFLOP/s  %s\n", 1e3 * lines[k].seconds,
               1e-9 * lines[k].flops / lines[k].seconds, lines[k].text);
    dg_free(times);
    dg_free(lines);
}

int main(int argc, char **argv)
{
    dg_error err = DG_ERROR_INIT;
    setting s = {8, 148, 768, 12, DG_BF16};
    if (argc < 2) {
        fprintf(stderr, "use: bench_block PLUGIN.so [batch [tokens [width [heads [f32]]]]]\n");
        return 2;
    }
    int64_t *const numbers_of[] = {&s.batch, &s.tokens, &s.width, &s.heads};
    for (int i = 2; i < argc && i < 6; i++) *numbers_of[i - 2] = strtol(argv[i], NULL, 10);
    if (argc > 6) s.compute = DG_F32;
    void *object = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    dg_plugin_entry_function entry = NULL;
    if (object) *(void **)&entry = dlsym(object, DG_PLUGIN_ENTRY);
    if (!entry) {
        fprintf(stderr, "bench_block: %s\n", dlerror());
        return 1;
    }
    running block = {.f = entry(dg_host_table())->factory(DG_BACKEND_INTERFACE, 0)->interface};
    check(block.f->create(dg_host_table(), NULL, &block.self, &err), &err);
    char fingerprint[256];
    block.f->fingerprint(block.self, fingerprint, sizeof fingerprint);
    running gemm = block;
    compile(&block, training_step(&s, &block));
    compile(&gemm, large_product(s.compute, 2048));
    double flops = dg_program_cost(block.program).flops, times[41], peak = 0;
    /* In turns, so that what else the machine does weighs on both. */
    for (int i = 0; i < 41; i++) {
        times[i] = one_run(&block);
        double rate = 2.0 * 2048 * 2048 * 2048 / one_run(&gemm);
        peak = rate > peak ? rate : peak;
    }
    qsort(times, 41, sizeof *times, by_number);
    printf("%s\n", fingerprint);
    printf("block: batch %d, %d tokens, width %d, %d heads, %s: %.2f GFLOP\n", (int)s.batch, (int)s.tokens,
           (int)s.width, (int)s.heads, dg_dtype_name(s.compute), 1e-9 * flops);
    printf(
        "median %.2f ms, best %.2f ms; %.1f GFLOP/s (best %.1f); peak %.1f GFLOP/s; share %.3f (best %.3f)\n",
        1e3 * times[20], 1e3 * times[0], 1e-9 * flops / times[20], 1e-9 * flops / times[0], 1e-9 * peak,
        flops / times[20] / peak, flops / times[0] / peak);
    print_nodes(&block);
    return 0;
}
