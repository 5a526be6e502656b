/* tiny_training.h - a few Adam steps of a graph in the reference interpreter: whether a model learns at all,
 * and whether its gradient reaches every parameter. */
#ifndef DG_TINY_TRAINING_H
#define DG_TINY_TRAINING_H

#include "plugin_test.h"

#include "train/state.h"

typedef struct tiny {
    dg_graph *g;
    runner r;
    dg_value *params, *grads; /* [n] */
    double **m, **v;          /* [n] moments */
    size_t n;
} tiny;

static DG_UNUSED bool tiny_has_gradient(void *user, const dg_work *work)
{
    (void)user;
    return dg_op_find(work->op)->grad != NULL;
}

/* Random first values, as a run would draw them; a DATA leaf's, of a graph that is lowered, are there
 * already. */
static DG_UNUSED void tiny_randomise(const runner *r, uint64_t seed)
{
    dg_error err;
    for (uint32_t i = 0; i < r->program->n_leaves; i++) {
        const char *name = r->program->leaves[i].name;
        if (r->program->leaves[i].kind == DG_LEAF_INPUT) continue;
        const dg_leaf *leaf = dg_graph_node(r->lowered, dg_graph_leaf(r->lowered, name).node)->leaf;
        int64_t n = dg_type_count(&leaf->type);
        float *values = dg_calloc((size_t)n + 1, sizeof *values);
        assert_non_null(values);
        ASSERT_OK(dg_init_values(leaf, seed, values, &err));
        double *to = runner_leaf(r, name, NULL);
        for (int64_t k = 0; k < n; k++) to[k] = (double)values[k];
        dg_free(values);
    }
}

/* `forward` has the scalar output "loss". */
static DG_UNUSED void tiny_start(tiny *t, const dg_graph *forward)
{
    dg_error err;
    const dg_named_value *outputs;
    dg_value loss = DG_NO_VALUE;
    *t = (tiny){0};
    ASSERT_OK(dg_pass_lower(forward, tiny_has_gradient, NULL, &t->g, &err));
    size_t n_outputs = dg_graph_outputs(t->g, &outputs), count = (size_t)dg_graph_count(t->g);
    for (size_t i = 0; i < n_outputs; i++)
        if (strcmp(outputs[i].name, "loss") == 0) loss = outputs[i].value;
    t->params = dg_calloc(count, sizeof *t->params);
    t->grads = dg_calloc(count, sizeof *t->grads);
    t->m = dg_calloc(count, sizeof *t->m);
    t->v = dg_calloc(count, sizeof *t->v);
    for (int32_t i = 0; i < (int32_t)count; i++) {
        const dg_leaf *leaf = dg_graph_node(t->g, i)->leaf;
        if (!leaf || leaf->kind != DG_LEAF_PARAM) continue;
        t->m[t->n] = dg_calloc((size_t)dg_type_count(&leaf->type), sizeof(double));
        t->v[t->n] = dg_calloc((size_t)dg_type_count(&leaf->type), sizeof(double));
        t->params[t->n++] = (dg_value){i, 0};
    }
    ASSERT_OK(dg_gradient(t->g, loss, t->params, t->n, t->grads, &err));
    for (size_t i = 0; i < t->n; i++) {
        char name[200];
        snprintf(name, sizeof name, "grad.%s", dg_graph_node(t->g, t->params[i].node)->leaf->name);
        dg_graph_output(t->g, t->grads[i], name);
    }
    runner_start(&t->r, t->g);
    tiny_randomise(&t->r, 1);
}

/* Runs, and updates if lr > 0: the loss before the update. Every gradient must be finite. */
static DG_UNUSED double tiny_step(tiny *t, int step, double lr)
{
    runner_run(&t->r);
    double loss = runner_output(&t->r, "loss", NULL)[0];
    for (size_t i = 0; i < t->n; i++) {
        char name[200];
        const char *param = dg_graph_node(t->g, t->params[i].node)->leaf->name;
        int64_t n;
        snprintf(name, sizeof name, "grad.%s", param);
        const double *g = runner_output(&t->r, name, &n);
        double *w = runner_leaf(&t->r, param, NULL);
        for (int64_t k = 0; k < n; k++) {
            if (!isfinite(g[k])) fail_msg("%s is not finite", name);
            double *m = &t->m[i][k], *v = &t->v[i][k];
            *m = 0.9 * *m + 0.1 * g[k];
            *v = 0.95 * *v + 0.05 * g[k] * g[k];
            w[k] -= lr * *m / (1 - pow(0.9, step + 1)) / (sqrt(*v / (1 - pow(0.95, step + 1))) + 1e-8);
        }
    }
    return loss;
}

/* After a step: no parameter's gradient is all zero. */
static DG_UNUSED void tiny_assert_all_move(const tiny *t)
{
    for (size_t i = 0; i < t->n; i++) {
        char name[200];
        int64_t n;
        double largest = 0;
        snprintf(name, sizeof name, "grad.%s", dg_graph_node(t->g, t->params[i].node)->leaf->name);
        const double *g = runner_output(&t->r, name, &n);
        for (int64_t k = 0; k < n; k++) largest = fmax(largest, fabs(g[k]));
        if (!(largest > 1e-12)) fail_msg("the loss does not depend on %s", name + 5);
    }
}

static DG_UNUSED void tiny_end(tiny *t)
{
    for (size_t i = 0; i < t->n; i++) {
        dg_free(t->m[i]);
        dg_free(t->v[i]);
    }
    dg_free(t->m);
    dg_free(t->v);
    dg_free(t->params);
    dg_free(t->grads);
    runner_end(&t->r);
    dg_graph_destroy(t->g);
}

#endif
