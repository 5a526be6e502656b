/* test_cpu_threads.c - the same bits for any number of threads: products of oneDNN, reductions, a whole
 * training step. */
#include "cpu_backend.h"

#include "digpt/vit.h"

static const int64_t counts[] = {1, 2, 3, 5};
enum { N_COUNTS = sizeof counts / sizeof counts[0] };

static uint64_t bytes_of(const dg_program *p, int32_t v)
{
    return (uint64_t)dg_type_bytes(&p->values[v].type);
}

/* Runs the graph with each number of threads, `runs` times, and compares all outputs and all that is stored.
 */
static void same_bits(const dg_graph *g, int runs)
{
    dg_error err;
    running first = {0};
    for (int i = 0; i < N_COUNTS; i++) {
        backend b = cpu_backend(counts[i], -1);
        running r = start(b, g, NULL);
        for (int k = 0; k < runs; k++) {
            if (k == 0) run_on_numbers(&r);
            /* Further steps go on from what is stored. */
            void *inputs[64] = {0};
            uint32_t n = 0;
            for (uint32_t l = 0; l < r.program->n_leaves && k; l++)
                if (r.program->leaves[l].kind == DG_LEAF_INPUT)
                    inputs[n++] = numbers(&r.program->values[l].type, r.program->leaves[l].name, 1);
            if (k) run_once(&r, (const void *const *)inputs);
            for (uint32_t j = 0; j < n; j++) dg_free(inputs[j]);
        }
        if (i == 0) {
            first = r;
            continue;
        }
        const dg_program *p = r.program;
        for (uint32_t k = 0; k < p->n_outputs; k++)
            if (memcmp(first.outputs[k], r.outputs[k], bytes_of(p, p->outputs[k].value)) != 0)
                fail_msg("%s differs with %d threads", p->outputs[k].name, (int)counts[i]);
        for (uint32_t l = 0; l < p->n_leaves; l++) {
            if (p->leaves[l].kind == DG_LEAF_INPUT) continue;
            uint64_t n = bytes_of(p, (int32_t)l);
            void *x = dg_calloc(n, 1), *y = dg_calloc(n, 1);
            ASSERT_OK(b.f->store_read(first.store, p->leaves[l].name, x, 0, n, &err));
            ASSERT_OK(b.f->store_read(r.store, p->leaves[l].name, y, 0, n, &err));
            if (memcmp(x, y, n) != 0)
                fail_msg("%s differs with %d threads", p->leaves[l].name, (int)counts[i]);
            dg_free(x);
            dg_free(y);
        }
        b.f->store_destroy(r.store);
        stop(&r);
        b.f->destroy(b.self);
    }
    first.b.f->store_destroy(first.store);
    stop(&first);
    first.b.f->destroy(first.b.self);
}

/* Shapes of which oneDNN 2.6 shares the sum between threads when asked to do the whole at once, and usual
 * ones. */
static void products_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{1, 192, 192, 8192}, {1, 48, 192, 8192}, {1, 64, 64, 20000},
                                       {1, 10, 7, 5000},    {2, 5, 3, 20000},   {1, 768, 1, 3000},
                                       {1, 768, 768, 600},  {1, 1100, 64, 300}, {1, 1, 1000, 768},
                                       {1, 600, 500, 2048}, {6, 33, 47, 129},   {1, 513, 40, 4096}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int t = 0; t < 8; t++) {
            int64_t b = sizes[i][0], m = sizes[i][1], n = sizes[i][2], k = sizes[i][3];
            bool ta = t & 1, tb = t & 2;
            dg_dtype dtype = t & 4 ? DG_BF16 : DG_F32;
            dg_graph *g = dg_graph_create();
            dg_value x = dg_input(g, "a", dtype, DG_LIST(b, ta ? k : m, ta ? m : k), DG_PER_BATCH);
            dg_value y = dg_input(g, "b", dtype, DG_LIST(b, tb ? n : k, tb ? k : n), DG_PER_BATCH);
            dg_graph_output(g, dg_matmul(g, x, y, ta, tb, DG_F32), "product");
            same_bits(g, 1);
            dg_graph_destroy(g);
        }
}

static void reductions_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    dg_graph *g = dg_graph_create();
    dg_value x = dg_input(g, "x", DG_F32, DG_LIST(50, 70, 33), DG_PER_BATCH);
    dg_value y = dg_input(g, "y", DG_BF16, DG_LIST(3000, 100), DG_PER_BATCH);
    dg_graph_output(g, dg_reduce_sum(g, x, DG_LIST(0, 1, 2), false, DG_NONE), "all");
    dg_graph_output(g, dg_reduce_sum(g, x, DG_LIST(0, 2), false, DG_NONE), "two");
    dg_graph_output(g, dg_reduce_sum(g, y, DG_LIST(0), false, DG_F32), "columns");
    dg_value ids = dg_input(g, "ids", DG_I32, DG_LIST(3000), DG_PER_BATCH);
    dg_graph_output(g, dg_scatter_add(g, ids, y, 3, false), "scatter");
    same_bits(g, 1);
    dg_graph_destroy(g);
}

/* ---- a block's training step */

static dg_value moment(dg_graph *g, char kind, size_t i, dg_type t)
{
    char name[32];
    snprintf(name, sizeof name, "%c%zu", kind, i);
    dg_leaf leaf = {.struct_size = (uint32_t)sizeof leaf,
                    .kind = DG_LEAF_STATE,
                    .name = name,
                    .type = t,
                    .init = dg_init_value(DG_INIT_CONSTANT, 0),
                    .layer = -1};
    return g->api->leaf(g, &leaf);
}

static dg_graph *training_step(dg_dtype compute)
{
    dg_error err;
    dg_graph *forward = dg_graph_create(), *g;
    enum { BATCH = 5, TOKENS = 37, WIDTH = 96 };
    dg_value x = dg_input(forward, "x", DG_F32, DG_LIST(BATCH, TOKENS, WIDTH), DG_PER_SAMPLE);
    dg_value groups = dg_input(forward, "groups", DG_I32, DG_LIST(BATCH, TOKENS), DG_PER_SAMPLE);
    dg_vit v = {
        .g = forward, .kind = DG_LEAF_PARAM, .layer = -1, .heads = 3, .hidden = 4 * WIDTH, .eps = 1e-6};
    dg_value y = dg_vit_block(&v, x, (dg_vit_groups){groups, groups}, DG_NO_VALUE);
    dg_value unit = dg_normalize(forward, y, 0);
    dg_graph_output(
        forward, dg_reduce_sum(forward, dg_mul(forward, unit, x), DG_LIST(0, 1, 2), false, DG_NONE), "loss");
    ASSERT_OK(dg_pass_precision(forward, compute, &g, &err));
    dg_graph_destroy(forward);
    const dg_named_value *outputs;
    dg_graph_outputs(g, &outputs);
    dg_value loss = outputs[0].value, params[32], grads[32],
             scalars = dg_input(g, "scalars", DG_F32, DG_LIST(3), DG_PER_BATCH);
    size_t n = 0;
    for (int32_t i = 0; i < dg_graph_count(g); i++) {
        const dg_leaf *leaf = dg_graph_node(g, i)->leaf;
        if (leaf && leaf->kind == DG_LEAF_PARAM) params[n++] = (dg_value){i, 0};
    }
    ASSERT_OK(dg_gradient(g, loss, params, n, grads, &err));
    /* numbers() may be negative; the step's are not. */
    scalars =
        dg_add(g, dg_mul(g, scalars, dg_fill(g, DG_F32, NULL, 0, 1e-3)), dg_fill(g, DG_F32, NULL, 0, 0.1));
    dg_graph_set_scope(g, "");
    for (size_t i = 0; i < n; i++) {
        dg_value m = moment(g, 'm', i, dg_type_of(g, params[i])),
                 s = moment(g, 'v', i, dg_type_of(g, params[i]));
        dg_value next = dg_adamw(g, params[i], grads[i], m, dg_abs(g, s), scalars, dg_is_finite(g, loss), 0.9,
                                 0.95, 1e-8, 1, 0.05);
        char name[32];
        snprintf(name, sizeof name, "grad%zu", i);
        dg_graph_output(g, grads[i], name);
        dg_graph_update(g, params[i], next);
        dg_graph_update(g, m, dg_output(next, 1));
        dg_graph_update(g, s, dg_output(next, 2));
    }
    ASSERT_OK(dg_graph_error(g, &err));
    return g;
}

static void training_steps_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        dg_graph *g = training_step(k ? DG_BF16 : DG_F32);
        same_bits(g, 3);
        dg_graph_destroy(g);
    }
}

static void a_training_step_agrees_with_the_reference(void **state)
{
    (void)state;
    dg_error err;
    backend b = cpu_backend(0, -1), ref = reference_backend();
    dg_graph *g = training_step(DG_F32);
    running mine = start(b, g, NULL), theirs = start(ref, g, NULL);
    run_on_numbers(&mine);
    run_on_numbers(&theirs);
    for (uint32_t k = 0; k < mine.program->n_outputs; k++) {
        const dg_program_output *out = &mine.program->outputs[k];
        double off = worst(&mine.program->values[out->value].type, mine.outputs[k], theirs.outputs[k]);
        if (off > 2e-5) fail_msg("%s is off by %.3g", out->name, off);
    }
    for (uint32_t l = 0; l < mine.program->n_leaves; l++) {
        const dg_program_leaf *leaf = &mine.program->leaves[l];
        const dg_type *t = &mine.program->values[l].type;
        if (leaf->update < 0) continue;
        uint64_t n = (uint64_t)dg_type_bytes(t);
        void *x = dg_calloc(n, 1), *y = dg_calloc(n, 1);
        ASSERT_OK(b.f->store_read(mine.store, leaf->name, x, 0, n, &err));
        ASSERT_OK(ref.f->store_read(theirs.store, leaf->name, y, 0, n, &err));
        double off = worst(t, x, y); /* the step divides by roots that may be small */
        if (off > 1e-3) fail_msg("%s is off by %.3g", leaf->name, off);
        dg_free(x);
        dg_free(y);
    }
    b.f->store_destroy(mine.store);
    ref.f->store_destroy(theirs.store);
    stop(&mine);
    stop(&theirs);
    dg_graph_destroy(g);
    b.f->destroy(b.self);
    ref.f->destroy(ref.self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(reductions_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(training_steps_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(a_training_step_agrees_with_the_reference),
    };
    return cmocka_run_group_tests(tests, open_module, NULL);
}
