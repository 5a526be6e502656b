/* check_loss.c - checks of losses: shapes, finite values, gradients, the same on every backend; see checks.h.
 */
#include "checks.h"

#include <math.h>

static int64_t vocabulary = 5; /* ids and logits of discrete targets */

static const int64_t shapes[][3] = {
    {1, 1, 1}, {1, 1, 8}, {2, 3, 5}, {3, 7, 16}, {1, 49, 64}}; /* batch, positions, width */
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

/* The loss of a prediction and a target of one kind, as output "each" [batch, positions]. */
static dg_status build(const dg_component *loss, const int64_t dims[3], bool discrete, dg_graph *g,
                       dg_error *err)
{
    const dg_loss_interface *table = loss->ref.factory->interface;
    const int64_t ids[] = {dims[0], dims[1]}, width = discrete ? vocabulary : dims[2];
    dg_value each = DG_NO_VALUE;
    dg_value prediction = dg_input(g, "prediction", DG_F32, DG_LIST(dims[0], dims[1], width), DG_PER_SAMPLE);
    dg_value target = discrete
                          ? dg_input(g, "target", DG_I32, ids, 2, DG_PER_SAMPLE)
                          : dg_input(g, "target", DG_F32, DG_LIST(dims[0], dims[1], width), DG_PER_SAMPLE);
    DG_TRY(table->build(loss->self, g, prediction, target, &each, err));
    DG_TRY(dg_graph_error(g, err));
    dg_type t = dg_type_of(g, each);
    char text[96];
    if (t.dtype != DG_F32 || t.rank != 2 || t.dims[0] != dims[0] || t.dims[1] != dims[1])
        return dg_fail(err, DG_ERR_MISMATCH, "it gives %s and not f32[%lld,%lld]",
                       dg_type_text(&t, text, sizeof text), (long long)dims[0], (long long)dims[1]);
    dg_graph_output(g, each, "each");
    return dg_graph_error(g, err);
}

typedef dg_status (*for_graph)(const dg_checked *c, const dg_component *loss, dg_graph *g, dg_error *err);

/* Builds the loss for every shape and target kind it takes and calls `then` with each graph. */
static dg_verdict sweep(const dg_checked *c, for_graph then)
{
    dg_component loss;
    dg_check_env env;
    dg_verdict verdict = DG_CHECK_PASS;
    if (!dg_check_instance(c, &loss, &env, &verdict)) return verdict;
    uint32_t targets = ((const dg_loss_interface *)c->ref->factory->interface)->targets;
    for (int i = 0; i < 2 * N_SHAPES && verdict == DG_CHECK_PASS; i++) {
        bool discrete = i >= N_SHAPES;
        const int64_t *dims = shapes[i % N_SHAPES];
        if (!(targets & (discrete ? DG_TARGET_DISCRETE : DG_TARGET_CONTINUOUS))) continue;
        dg_error err = DG_ERROR_INIT;
        dg_graph *g = dg_graph_create();
        dg_status s =
            g ? build(&loss, dims, discrete, g, &err) : dg_fail(&err, DG_ERR_NOMEM, "out of memory");
        if (s == DG_OK && then) s = then(c, &loss, g, &err);
        if (s != DG_OK)
            verdict = dg_check_fail(c, "batch %lld, %lld positions, width %lld, %s: %s", (long long)dims[0],
                                    (long long)dims[1], (long long)(discrete ? vocabulary : dims[2]),
                                    discrete ? "ids" : "vectors", err.message);
        dg_graph_destroy(g);
    }
    dg_component_destroy(&loss);
    return verdict;
}

static dg_verdict builds(const dg_checked *c)
{
    return sweep(c, NULL);
}

/* ---- values */

static dg_status make_interp(const dg_graph *g, dg_program **p, dg_interp **it, dg_error *err)
{
    dg_graph *lowered = NULL;
    DG_TRY(dg_pass_lower(g, NULL, NULL, &lowered, err));
    dg_status s = dg_program_make(lowered, "loss", false, p, err);
    dg_graph_destroy(lowered);
    if (s == DG_OK) s = dg_interp_create(*p, false, it, err);
    return s;
}

static int32_t leaf_of(const dg_program *p, const char *name)
{
    for (uint32_t i = 0; i < p->n_leaves; i++)
        if (!strcmp(p->leaves[i].name, name)) return (int32_t)i;
    return -1;
}

static double *fill_leaf(const dg_program *p, dg_interp *it, const char *name, int64_t *n)
{
    int32_t leaf = leaf_of(p, name);
    *n = 0;
    if (leaf < 0) return NULL;
    const dg_type *t = &p->values[p->leaves[leaf].value].type;
    *n = dg_type_count(t);
    dg_check_fill(&vocabulary, name, t, dg_interp_leaf(it, leaf));
    return dg_interp_leaf(it, leaf);
}

static dg_status all_finite(const dg_program *p, const dg_interp *it, const char *when, dg_error *err)
{
    for (uint32_t k = 0; k < p->n_outputs; k++) {
        const double *x = dg_interp_value(it, p->outputs[k].value);
        int64_t n = dg_type_count(&p->values[p->outputs[k].value].type);
        for (int64_t i = 0; i < n; i++)
            if (!isfinite(x[i]))
                return dg_fail(err, DG_ERR_NOT_FINITE, "element %lld of its value is %g %s", (long long)i,
                               x[i], when);
    }
    return DG_OK;
}

static dg_status finite_at(const dg_checked *c, const dg_component *loss, dg_graph *g, dg_error *err)
{
    dg_program *p = NULL;
    dg_interp *it = NULL;
    (void)c;
    (void)loss;
    int64_t n = 0, n_target = 0;
    dg_status s = make_interp(g, &p, &it, err);
    if (s == DG_OK) {
        double *prediction = fill_leaf(p, it, "prediction", &n),
               *target = fill_leaf(p, it, "target", &n_target);
        if (!prediction || !target)
            s = dg_fail(err, DG_ERR_INVALID, "it does not read both prediction and target");
        if (s == DG_OK) s = dg_interp_run(it, err);
        if (s == DG_OK) s = all_finite(p, it, "for random numbers", err);
        if (s == DG_OK && n == n_target && leaf_of(p, "target") >= 0) {
            memcpy(prediction, target, (size_t)n * sizeof *target);
            s = dg_interp_run(it, err);
            if (s == DG_OK) s = all_finite(p, it, "where prediction and target are equal", err);
        }
    }
    dg_interp_destroy(it);
    dg_program_destroy(p);
    return s;
}

static dg_verdict finite_values(const dg_checked *c)
{
    return sweep(c, finite_at);
}

/* ---- gradients: of sum(w * each) with respect to the prediction, against central differences in doubles */

static double weighted(const dg_program *p, const dg_interp *it, const double *w)
{
    const double *each = dg_interp_value(it, p->outputs[0].value);
    int64_t n = dg_type_count(&p->values[p->outputs[0].value].type);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += w[i] * each[i];
    return sum;
}

static dg_status compare_gradient(const dg_program *p, dg_interp *it, dg_error *err)
{
    enum { MOST = 24 };
    const double h = 1e-5;
    int64_t n, n_target, n_w;
    double *x = fill_leaf(p, it, "prediction", &n), *w = fill_leaf(p, it, "w", &n_w), analytic[MOST],
           largest = 0;
    fill_leaf(p, it, "target", &n_target);
    if (!x || !w) return dg_fail(err, DG_ERR_INVALID, "it does not depend on the prediction");
    int64_t count = n < MOST ? n : MOST;
    DG_TRY(dg_interp_run(it, err));
    const double *grad = dg_interp_value(it, p->outputs[1].value);
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(grad[i]));
    for (int64_t k = 0; k < count; k++) analytic[k] = grad[k * n / count];
    for (int64_t k = 0; k < count; k++) {
        int64_t i = k * n / count;
        double old = x[i];
        x[i] = old + h;
        DG_TRY(dg_interp_run(it, err));
        double up = weighted(p, it, w);
        x[i] = old - h;
        DG_TRY(dg_interp_run(it, err));
        double numeric = (up - weighted(p, it, w)) / (2 * h);
        x[i] = old;
        if (!(fabs(numeric - analytic[k]) <= 1e-5 * fmax(1, largest)))
            return dg_fail(err, DG_ERR_MISMATCH,
                           "the gradient of element %lld is %.9g and finite differences say %.9g",
                           (long long)i, analytic[k], numeric);
    }
    return DG_OK;
}

static dg_status gradient_at(const dg_checked *c, const dg_component *loss, dg_graph *from, dg_error *err)
{
    dg_graph *g = NULL;
    dg_program *p = NULL;
    dg_interp *it = NULL;
    const dg_named_value *outputs;
    (void)c;
    (void)loss;
    dg_status s = dg_pass_lower(from, NULL, NULL, &g, err);
    if (s == DG_OK) {
        dg_graph_outputs(g, &outputs);
        dg_value each = outputs[0].value, prediction = dg_graph_leaf(g, "prediction"), grad;
        dg_type t = dg_type_of(g, each);
        dg_value w = dg_input(g, "w", DG_F32, t.dims, 2, DG_PER_SAMPLE);
        dg_value sum = dg_reduce_sum(g, dg_mul(g, each, w), DG_LIST(0, 1), false, DG_F32);
        s = dg_gradient(g, sum, &prediction, 1, &grad, err);
        if (s == DG_OK) dg_graph_output(g, grad, "grad");
        if (s == DG_OK) s = dg_graph_error(g, err);
    }
    if (s == DG_OK) s = make_interp(g, &p, &it, err);
    if (s == DG_OK) s = compare_gradient(p, it, err);
    dg_interp_destroy(it);
    dg_program_destroy(p);
    dg_graph_destroy(g);
    return s;
}

static dg_verdict gradient(const dg_checked *c)
{
    return sweep(c, gradient_at);
}

/* ---- the same numbers on all backends that work here */

/* Runs on one backend and compares with the reference. */
static dg_status same_on(const dg_component *backend, const dg_component *reference, const dg_graph *g,
                         dg_error *err)
{
    double *a = NULL, *b = NULL, largest = 0;
    size_t n, m;
    dg_status s = dg_check_run(reference, g, dg_check_fill, &vocabulary, &a, &n, err);
    if (s == DG_OK) s = dg_check_run(backend, g, dg_check_fill, &vocabulary, &b, &m, err);
    for (size_t i = 0; s == DG_OK && i < n; i++) largest = fmax(largest, fabs(a[i]));
    for (size_t i = 0; s == DG_OK && i < n; i++)
        if (!(fabs(a[i] - b[i]) <= 2e-5 * fmax(1, largest)))
            s = dg_fail(err, DG_ERR_MISMATCH, "backend '%s' gives %.9g and the reference %.9g at %zu",
                        backend->ref.factory->name, b[i], a[i], i);
    dg_free(a);
    dg_free(b);
    return s;
}

static dg_status same_everywhere(const dg_checked *c, const dg_component *loss, dg_graph *g, dg_error *err)
{
    const dg_search standard = {0};
    dg_registry *r = NULL;
    dg_component reference = {0};
    (void)c;
    (void)loss;
    dg_status s = dg_registry_create(&standard, &r, err);
    if (s == DG_OK) s = dg_component_make(r, "backend", "reference", NULL, 0, NULL, &reference, err);
    for (size_t i = 0; s == DG_OK && i < dg_registry_components(r); i++) {
        const dg_component_ref *ref = dg_registry_component(r, i);
        dg_component backend = {0};
        dg_error ignored = DG_ERROR_INIT;
        uint32_t n = 0;
        if (strcmp(ref->interface, DG_BACKEND_INTERFACE) || !strcmp(ref->factory->name, "reference"))
            continue;
        const dg_backend_interface *table = ref->factory->interface;
        /* A backend that has no device here is no fault of the loss. */
        if (dg_component_make(r, "backend", ref->factory->name, NULL, 0, NULL, &backend, &ignored) == DG_OK &&
            table->devices(backend.self, NULL, 0, &n, &ignored) == DG_OK)
            s = same_on(&backend, &reference, g, err);
        dg_component_destroy(&backend);
    }
    dg_component_destroy(&reference);
    dg_registry_destroy(r);
    return s;
}

static dg_verdict backends(const dg_checked *c)
{
    return sweep(c, same_everywhere);
}

const dg_check dg_loss_checks[] = {{"builds for many shapes", DG_LOSS_INTERFACE, builds},
                                   {"finite", DG_LOSS_INTERFACE, finite_values},
                                   {"gradient against finite differences", DG_LOSS_INTERFACE, gradient},
                                   {"the same on every backend", DG_LOSS_INTERFACE, backends},
                                   {NULL, NULL, NULL}};
