/* parity.h - one backend against the reference interpreter: every case of the op table, forward and
 * gradients, and any graph that a test builds. */
#ifndef DG_PARITY_H
#define DG_PARITY_H

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

#include "test.h"

#include "base/mem.h"
#include "digpt/ops.h"
#include "graph/graph.h"
#include "plugin/host.h"

/* ---- a backend */

typedef struct backend {
    const dg_backend_interface *f;
    void *self;
} backend;

/* The first factory of a module of this build: "backends-cpu". NULL if it was not built. */
static DG_UNUSED const dg_factory *module_factory(const char *module)
{
    char path[512];
    snprintf(path, sizeof path, "%s/lib/digpt/plugins/%s.so", DIGPT_BINARY_DIR, module);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object) return NULL;
    dg_plugin_entry_function entry;
    *(void **)&entry = dlsym(object, DG_PLUGIN_ENTRY);
    if (!entry) fail_msg("%s has no %s", path, DG_PLUGIN_ENTRY);
    return entry(dg_host_table())->factory(DG_BACKEND_INTERFACE, 0);
}

static DG_UNUSED backend reference_backend(void)
{
    dg_error err;
    backend b = {dg_reference_backend.interface, NULL};
    ASSERT_OK(b.f->create(dg_host_table(), NULL, &b.self, &err));
    return b;
}

/* ---- a program on one backend */

typedef struct running {
    backend b;
    dg_graph *lowered;
    dg_program *program;
    dg_backend_store *store;
    dg_backend_exe *exe;
    void **outputs; /* [n_outputs] in stored form */
} running;

static bool take_supported(void *user, const dg_work *work)
{
    const backend *b = user;
    return b->f->supports(b->self, work);
}

/* Lowers g for b, compiles it with the store (made if NULL). */
static DG_UNUSED running start(backend b, const dg_graph *g, dg_backend_store *store)
{
    dg_error err;
    running r = {.b = b, .store = store};
    ASSERT_OK(dg_pass_lower(g, take_supported, &r.b, &r.lowered, &err));
    ASSERT_OK(dg_program_make(r.lowered, "test", false, &r.program, &err));
    ASSERT_OK(b.f->check(b.self, r.program, NULL, NULL, &err));
    if (!store) ASSERT_OK(b.f->store_create(b.self, &r.store, &err));
    ASSERT_OK(b.f->compile(b.self, r.program, r.store, &r.exe, &err));
    r.outputs = dg_calloc(r.program->n_outputs + 1, sizeof *r.outputs);
    for (uint32_t k = 0; k < r.program->n_outputs; k++)
        r.outputs[k] =
            dg_calloc((size_t)dg_type_bytes(&r.program->values[r.program->outputs[k].value].type), 1);
    return r;
}

/* The store is the caller's to destroy. */
static DG_UNUSED void stop(running *r)
{
    for (uint32_t k = 0; k < r->program->n_outputs; k++) dg_free(r->outputs[k]);
    dg_free(r->outputs);
    r->b.f->release(r->exe);
    dg_program_destroy(r->program);
    dg_graph_destroy(r->lowered);
}

static DG_UNUSED void run_once(running *r, const void *const *inputs)
{
    dg_error err;
    dg_run run = {.struct_size = sizeof run,
                  .inputs = inputs,
                  .n_outputs = r->program->n_outputs,
                  .outputs = r->outputs};
    for (uint32_t l = 0; l < r->program->n_leaves; l++)
        run.n_inputs += r->program->leaves[l].kind == DG_LEAF_INPUT;
    ASSERT_OK(r->b.f->run(r->exe, &run, &err));
}

/* ---- comparing */

/* Largest |a - b| over the largest finite |b|, or inf where one is nan or inf and the other is not the same.
 * Inputs are of order 1, so where sums cancel, 1e-7 of that remains; hence the floor of |b|. */
static DG_UNUSED double worst(const dg_type *t, const void *a, const void *b)
{
    int64_t n = dg_type_count(t);
    double *x = dg_calloc((size_t)n, sizeof *x), *y = dg_calloc((size_t)n, sizeof *y), most = 0.03, off = 0;
    dg_to_doubles((dg_dtype)t->dtype, a, n, x);
    dg_to_doubles((dg_dtype)t->dtype, b, n, y);
    for (int64_t i = 0; i < n; i++)
        if (isfinite(y[i])) most = fmax(most, fabs(y[i]));
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(x[i]) && isfinite(y[i]))
            off = fmax(off, fabs(x[i] - y[i]) / most);
        else if (!(x[i] == y[i] || (isnan(x[i]) && isnan(y[i]))))
            off = INFINITY;
    }
    dg_free(x);
    dg_free(y);
    return off;
}

/* What rounding allows: narrow floats anywhere in the program set the tone; integers are exact. */
static DG_UNUSED double allowed(const dg_program *p, const dg_type *t)
{
    if (!dg_dtype_is_float((dg_dtype)t->dtype)) return 0;
    double tolerance = 1e-5;
    for (uint32_t v = 0; v < p->n_values; v++) {
        int32_t d = p->values[v].type.dtype;
        if (dg_dtype_is_float((dg_dtype)d) && d != DG_F32) tolerance = 1.6e-2;
    }
    return tolerance;
}

/* ---- cases */

static DG_UNUSED bool is_differentiable(const dg_case *c, const dg_graph *g, dg_value y)
{
    const dg_op *op = dg_op_find(c->op);
    return (op->grad || op->cls == DG_COMP) && dg_dtype_is_float((dg_dtype)dg_type_of(g, y).dtype);
}

/* Adds sum(w y) and its gradients in the float inputs as outputs; w is a constant that differs from place to
 * place. */
static DG_UNUSED void add_gradients(dg_graph *g, const dg_value *in, size_t n_in, dg_value y)
{
    dg_error err;
    dg_value wrt[DG_OP_MAX_IN], grads[DG_OP_MAX_IN];
    char name[16];
    size_t n = 0;
    dg_type t = dg_type_of(g, y);
    int64_t axes[DG_MAX_RANK], count = dg_type_count(&t);
    float *w = dg_calloc((size_t)count, sizeof *w);
    for (int64_t i = 0; i < count; i++) w[i] = (float)(i * 7 % 5 - 2) * 0.5f;
    for (int i = 0; i < t.rank; i++) axes[i] = i;
    for (size_t k = 0; k < n_in; k++)
        if (dg_is_value(in[k]) && dg_dtype_is_float((dg_dtype)dg_type_of(g, in[k]).dtype)) wrt[n++] = in[k];
    dg_value weights = dg_constant(g, DG_F32, t.dims, (size_t)t.rank, w, (size_t)count * sizeof *w);
    dg_value loss = dg_mul(g, dg_convert(g, y, DG_F32), weights);
    if (t.rank) loss = dg_reduce_sum(g, loss, axes, (size_t)t.rank, false, DG_NONE);
    dg_free(w);
    ASSERT_OK(dg_gradient(g, loss, wrt, n, grads, &err));
    for (size_t k = 0; k < n; k++) {
        snprintf(name, sizeof name, "grad%zu", k);
        dg_graph_output(g, grads[k], name);
    }
}

/* The graph of a case: all outputs of its op, and with `gradients` those of its inputs too. */
static DG_UNUSED dg_graph *case_graph(const dg_case *c, bool gradients)
{
    dg_error err;
    dg_graph *g = dg_graph_create(), *lowered;
    dg_value in[DG_OP_MAX_IN], y;
    size_t n_in;
    char name[16];
    const dg_op *op = dg_op_find(c->op);
    ASSERT_OK(dg_case_build(c, g, in, &n_in, &y, &err));
    for (int k = 0; k < op->n_out; k++) {
        snprintf(name, sizeof name, "y%d", k);
        dg_graph_output(g, dg_output(y, k), name);
    }
    if (!gradients) return g;
    if (!op->grad) { /* a composite whose lowering has one */
        const dg_named_value *outputs;
        ASSERT_OK(dg_pass_lower(g, NULL, NULL, &lowered, &err));
        dg_graph_destroy(g);
        g = lowered;
        dg_graph_outputs(g, &outputs);
        y = outputs[0].value;
        for (size_t k = 0; k < n_in; k++) {
            snprintf(name, sizeof name, "in%zu", k);
            in[k] = dg_graph_leaf(g, name);
        }
    }
    add_gradients(g, in, n_in, y);
    ASSERT_OK(dg_graph_error(g, &err));
    return g;
}

static DG_UNUSED void run_case(running *r, const dg_case *c)
{
    const dg_program *p = r->program;
    void *inputs[DG_OP_MAX_IN];
    for (uint32_t l = 0; l < p->n_leaves; l++) { /* "in0", "in1", ... */
        const dg_type *t = &p->values[p->leaves[l].value].type;
        int64_t count = dg_type_count(t);
        double *x = dg_calloc((size_t)count, sizeof *x);
        inputs[l] = dg_calloc((size_t)dg_type_bytes(t), 1);
        dg_case_fill(c, strtoul(p->leaves[l].name + 2, NULL, 10), t, 42, x);
        dg_from_doubles((dg_dtype)t->dtype, x, count, inputs[l]);
        dg_free(x);
    }
    run_once(r, (const void *const *)inputs);
    for (uint32_t l = 0; l < p->n_leaves; l++) dg_free(inputs[l]);
}

/* Runs one case on both backends; says what is off and returns false where they disagree. */
static DG_UNUSED bool case_agrees(backend b, backend ref, const dg_case *c, bool gradients)
{
    dg_graph *g = case_graph(c, gradients);
    running mine = start(b, g, NULL), theirs = start(ref, g, NULL);
    const dg_program *p = mine.program;
    bool good = true;
    run_case(&mine, c);
    run_case(&theirs, c);
    for (uint32_t k = 0; k < p->n_outputs; k++) {
        const dg_type *t = &p->values[p->outputs[k].value].type;
        double off = worst(t, mine.outputs[k], theirs.outputs[k]), most = allowed(theirs.program, t);
        if (off <= most) continue;
        print_error("%s %s %s: %s is off by %.3g, more than %.3g\n", c->op, c->types, c->attrs,
                    p->outputs[k].name, off, most);
        good = false;
    }
    b.f->store_destroy(mine.store);
    ref.f->store_destroy(theirs.store);
    stop(&mine);
    stop(&theirs);
    dg_graph_destroy(g);
    return good;
}

/* Every case of the table, forward or with gradients; fails after the last one if any disagreed. */
static DG_UNUSED void cases_agree(backend b, bool gradients)
{
    backend ref = reference_backend();
    size_t bad = 0;
    for (size_t i = 0; i < dg_case_count(); i++) {
        const dg_case *c = dg_case_at(i);
        dg_error err;
        if (gradients) {
            dg_value in[DG_OP_MAX_IN], y;
            size_t n_in;
            dg_graph *g = dg_graph_create();
            ASSERT_OK(dg_case_build(c, g, in, &n_in, &y, &err));
            bool wanted = is_differentiable(c, g, y);
            dg_graph_destroy(g);
            if (!wanted) continue;
        }
        bad += !case_agrees(b, ref, c, gradients);
    }
    ref.f->destroy(ref.self);
    if (bad) fail_msg("%zu cases disagree with the reference", bad);
}

#endif
