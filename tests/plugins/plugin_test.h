/* plugin_test.h - what tests of our plugins share: components from the built modules, and a graph run by the
 * reference interpreter with the initial values that its leaves ask for. */
#ifndef DG_PLUGIN_TEST_H
#define DG_PLUGIN_TEST_H

#include <math.h>
#include <stdlib.h>

#include "test.h"

#include "base/mem.h"
#include "digpt/loss.h"
#include "digpt/model.h"
#include "digpt/ops.h"
#include "graph/graph.h"
#include "io/weights.h"
#include "plugin/component.h"

/* ---- components */

/* The plugins of this build and no others. */
static DG_UNUSED const dg_registry *plugins(void)
{
    static dg_registry *registry;
    static const char *const paths[] = {DIGPT_BINARY_DIR "/lib/digpt/plugins"};
    dg_error err;
    const dg_search search = {.option_paths = paths, .n_option = 1, .only_these = true};
    if (!registry) ASSERT_OK(dg_registry_create(&search, &registry, &err));
    return registry;
}

#define MAKE(OUT, INTERFACE, NAME, ENV, ...)                                                                 \
    dg_component_make(plugins(), INTERFACE, NAME, (const char *const[]){__VA_ARGS__},                        \
                      sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), ENV, OUT, &err)

static DG_UNUSED const void *table_of(const dg_component *c)
{
    return c->ref.factory->interface;
}

static DG_UNUSED dg_status build_tokenizer(const dg_component *c, dg_graph *g, dg_value image,
                                           dg_value *tokens, dg_error *err)
{
    dg_push(g, "tokenizer");
    dg_status s = ((const dg_tokenizer_interface *)table_of(c))->build(c->self, g, image, tokens, err);
    dg_pop(g);
    return s;
}

static DG_UNUSED dg_tokenizer_info tokenizer_info(const dg_component *c)
{
    dg_error err;
    dg_tokenizer_info info = {.struct_size = sizeof info};
    ASSERT_OK(((const dg_tokenizer_interface *)table_of(c))->info(c->self, &info, &err));
    return info;
}

static DG_UNUSED dg_value build_loss(const dg_component *c, dg_graph *g, dg_value prediction, dg_value target)
{
    dg_error err;
    dg_value loss = DG_NO_VALUE;
    ASSERT_OK(((const dg_loss_interface *)table_of(c))->build(c->self, g, prediction, target, &loss, &err));
    return loss;
}

static DG_UNUSED void assert_dims(const dg_graph *g, dg_value v, const int64_t *dims, size_t n)
{
    char have[96], want[96];
    dg_type t = dg_type_of(g, v), w = dg_make_type((dg_dtype)t.dtype, dims, n);
    if (!dg_same_dims(&t, &w))
        fail_msg("%s, not %s", dg_type_text(&t, have, sizeof have), dg_type_text(&w, want, sizeof want));
}

/* ---- running */

typedef struct runner {
    dg_graph *lowered;
    dg_program *program;
    dg_interp *interp;
} runner;

static DG_UNUSED double *runner_leaf(const runner *r, const char *name, int64_t *count)
{
    for (uint32_t i = 0; i < r->program->n_leaves; i++)
        if (strcmp(r->program->leaves[i].name, name) == 0) {
            if (count) *count = dg_type_count(&r->program->values[r->program->leaves[i].value].type);
            return dg_interp_leaf(r->interp, (int32_t)i);
        }
    fail_msg("there is no leaf '%s'", name);
    return NULL;
}

static DG_UNUSED const double *runner_output(const runner *r, const char *name, int64_t *count)
{
    for (uint32_t i = 0; i < r->program->n_outputs; i++)
        if (strcmp(r->program->outputs[i].name, name) == 0) {
            int32_t v = r->program->outputs[i].value;
            if (count) *count = dg_type_count(&r->program->values[v].type);
            return dg_interp_value(r->interp, v);
        }
    fail_msg("there is no output '%s'", name);
    return NULL;
}

/* The whole tensor as doubles, to be freed with dg_free. */
static DG_UNUSED double *tensor_of(const dg_weights *w, const char *name, int64_t *count)
{
    dg_error err;
    const dg_weight *t = NULL;
    ASSERT_OK(dg_weights_need(w, name, &t, &err));
    float *f = dg_calloc((size_t)t->count + 1, sizeof *f);
    double *d = dg_calloc((size_t)t->count + 1, sizeof *d);
    assert_non_null(f);
    assert_non_null(d);
    ASSERT_OK(dg_weight_read_f32(t, f, (size_t)t->count, &err));
    for (int64_t i = 0; i < t->count; i++) d[i] = (double)f[i];
    dg_free(f);
    if (count) *count = t->count;
    return d;
}

/* One leaf's DATA, CONSTANT or WEIGHTS; others stay zero. */
static DG_UNUSED void fill_leaf(const dg_leaf *leaf, double *to)
{
    const dg_init *init = &leaf->init;
    int64_t n = dg_type_count(&leaf->type), at = 0, cols = leaf->type.rank == 2 ? leaf->type.dims[1] : 1;
    for (int64_t i = 0; init->kind == DG_INIT_CONSTANT && i < n; i++) to[i] = init->value;
    for (int64_t i = 0; init->kind == DG_INIT_DATA && i < n; i++) to[i] = (double)init->data[i];
    for (int k = 0; init->kind == DG_INIT_WEIGHTS && k < 4 && init->names[k]; k++) {
        int64_t count, rows = n / cols;
        double *part = tensor_of(init->weights, init->names[k], &count);
        for (int64_t i = 0; i < count; i++, at++)
            to[init->flags & DG_INIT_TRANSPOSE ? at % rows * cols + at / rows : at] = part[i];
        dg_free(part);
    }
    if (init->kind == DG_INIT_WEIGHTS) assert_int_equal(at, n);
}

/* Lowers the graph, taps included, and gives leaves their initial values. `outputs` of the graph stay. */
static DG_UNUSED void runner_start(runner *r, const dg_graph *g)
{
    dg_error err;
    ASSERT_OK(dg_pass_lower(g, NULL, NULL, &r->lowered, &err));
    ASSERT_OK(dg_program_make(r->lowered, "test", true, &r->program, &err));
    ASSERT_OK(dg_interp_create(r->program, false, &r->interp, &err));
    for (uint32_t i = 0; i < r->program->n_leaves; i++) {
        dg_value v = dg_graph_leaf(r->lowered, r->program->leaves[i].name);
        if (r->program->leaves[i].kind != DG_LEAF_INPUT)
            fill_leaf(dg_graph_node(r->lowered, v.node)->leaf, dg_interp_leaf(r->interp, (int32_t)i));
    }
}

static DG_UNUSED void runner_run(const runner *r)
{
    dg_error err;
    ASSERT_OK(dg_interp_run(r->interp, &err));
}

static DG_UNUSED void runner_end(runner *r)
{
    dg_interp_destroy(r->interp);
    dg_program_destroy(r->program);
    dg_graph_destroy(r->lowered);
    *r = (runner){0};
}

/* ---- comparing */

/* max |a - b| / max |b|. */
static DG_UNUSED double error_of(const double *a, const double *b, int64_t n)
{
    double worst = 0, largest = 1e-300;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(a[i] - b[i]);
        if (!(d <= worst)) worst = d; /* a NaN too */
        if (fabs(b[i]) > largest) largest = fabs(b[i]);
    }
    return worst / largest;
}

static DG_UNUSED void assert_close(const char *what, const double *a, const double *b, int64_t n,
                                   double tolerance)
{
    double e = error_of(a, b, n);
    if (!(e <= tolerance)) fail_msg("%s: error %.3g, tolerance %.3g", what, e, tolerance);
}

#endif
