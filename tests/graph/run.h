/* run.h - for the graph's tests: a graph, lowered, made a program and run by the interpreter. */
#ifndef DG_TEST_GRAPH_RUN_H
#define DG_TEST_GRAPH_RUN_H

#include "base/mem.h"
#include "graph/graph.h"
#include "test.h"

typedef struct test_run {
    dg_program *program;
    dg_interp *interp;
} test_run;

/* Fails the test, naming `what`, unless all goes well. The graph stays the caller's. */
static inline test_run test_run_make(const dg_graph *g, bool round, const char *what)
{
    dg_error err = DG_ERROR_INIT;
    dg_graph *low = NULL;
    test_run r = {NULL, NULL};
    if (dg_pass_lower(g, NULL, NULL, &low, &err) != DG_OK) fail_msg("%s: %s", what, err.message);
    if (dg_program_make(low, what, false, &r.program, &err) != DG_OK) fail_msg("%s: %s", what, err.message);
    dg_graph_destroy(low);
    if (dg_interp_create(r.program, round, &r.interp, &err) != DG_OK) fail_msg("%s: %s", what, err.message);
    return r;
}

static inline void test_run_free(test_run *r)
{
    dg_interp_destroy(r->interp);
    dg_program_destroy(r->program);
}

static inline void test_run_go(test_run *r)
{
    dg_error err = DG_ERROR_INIT;
    if (dg_interp_run(r->interp, &err) != DG_OK) fail_msg("%s", err.message);
}

/* Elements of a leaf by its name, and its type; NULL when the program does not read it. */
static inline double *test_run_leaf(test_run *r, const char *name, dg_type *type)
{
    for (uint32_t l = 0; l < r->program->n_leaves; l++) {
        if (strcmp(r->program->leaves[l].name, name) != 0) continue;
        *type = r->program->values[r->program->leaves[l].value].type;
        return dg_interp_leaf(r->interp, (int32_t)l);
    }
    return NULL;
}

/* Elements of an output by its name, and its type. */
static inline const double *test_run_output(test_run *r, const char *name, dg_type *type)
{
    for (uint32_t k = 0; k < r->program->n_outputs; k++) {
        if (strcmp(r->program->outputs[k].name, name) != 0) continue;
        *type = r->program->values[r->program->outputs[k].value].type;
        return dg_interp_value(r->interp, r->program->outputs[k].value);
    }
    fail_msg("no output '%s'", name);
    return NULL;
}

/* Fills the leaves in0, in1, ... of a case. */
static inline void test_run_fill(test_run *r, const dg_case *c, uint64_t seed)
{
    for (size_t k = 0; k < DG_OP_MAX_IN; k++) {
        char name[32];
        dg_type t;
        snprintf(name, sizeof name, "in%zu", k);
        double *x = test_run_leaf(r, name, &t);
        if (x) dg_case_fill(c, k, &t, seed, x);
    }
}

/* Builds a case and names all its outputs y0, y1, ...; fails the test if it cannot. */
static inline dg_graph *test_case_graph(const dg_case *c, dg_value *in, size_t *n_in, dg_value *y)
{
    dg_error err = DG_ERROR_INIT;
    dg_graph *g = dg_graph_create();
    assert_non_null(g);
    if (dg_case_build(c, g, in, n_in, y, &err) != DG_OK)
        fail_msg("%s %s %s: %s", c->op, c->types, c->attrs, err.message);
    for (int32_t k = 0; k < dg_op_find(c->op)->n_out; k++) {
        char name[32];
        snprintf(name, sizeof name, "y%d", k);
        dg_graph_output(g, dg_output(*y, k), name);
    }
    return g;
}

static inline test_run test_case_run(const dg_case *c, bool round)
{
    dg_value in[DG_OP_MAX_IN], y;
    size_t n_in;
    dg_graph *g = test_case_graph(c, in, &n_in, &y);
    test_run r = test_run_make(g, round, c->op);
    dg_graph_destroy(g);
    return r;
}

#endif
