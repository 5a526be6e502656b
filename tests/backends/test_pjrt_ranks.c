/* test_pjrt_ranks.c - ops over ranks, their gradients, and state of which each replica keeps a part, on
 * several devices that XLA's CPU plugin makes of one processor. */
#include "pjrt_support.h"

enum {
    MOST = 3,
    ROWS = 2,
    WIDTH = 3
}; /* ranks, and what each has: [ROWS, WIDTH], or [ranks * ROWS, WIDTH] */

static float data[MOST * MOST * ROWS * WIDTH], weights[MOST * MOST * ROWS * WIDTH];

static int fill(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++) {
        data[i] = (float)((i * 37) % 101) - 50;
        weights[i] = (float)((i * 23) % 89) - 44;
    }
    return 0;
}

static backend open_ranks(int ranks)
{
    backend b = pjrt_open((pjrt_options){.replicas = ranks});
    if (!b.self) skip();
    assert_int_equal(b.f->ranks(b.self), ranks);
    return b;
}

/* One run, in which rank r's share of the inputs lies behind those of the ranks before it. */
static void run_ranks(running *r, const void *const *inputs, int ranks)
{
    dg_error err;
    dg_run run = {.struct_size = sizeof run,
                  .inputs = inputs,
                  .ranks = (uint32_t)ranks,
                  .n_outputs = r->program->n_outputs,
                  .outputs = r->outputs};
    for (uint32_t l = 0; l < r->program->n_leaves; l++)
        run.n_inputs += r->program->leaves[l].kind == DG_LEAF_INPUT;
    ASSERT_OK(r->b.f->run(r->exe, &run, &err));
}

static void assert_floats(const char *what, const float *is, const float *want, int n)
{
    for (int i = 0; i < n; i++)
        if (is[i] != want[i]) fail_msg("%s: element %d is %g, not %g", what, i, is[i], want[i]);
}

static dg_value per_rank_input(dg_graph *g, const char *name, int64_t rows)
{
    return dg_input(g, name, DG_F32, DG_LIST(rows, WIDTH), DG_PER_SAMPLE);
}

/* ---- what the ops give: sums of small integers are exact in any order */

static void check_ops(int ranks)
{
    const int part = ROWS * WIDTH, all = ranks * part;
    float sum[MOST * ROWS * WIDTH] = {0};
    backend b = open_ranks(ranks);
    dg_graph *g = dg_graph_create();
    dg_value small = per_rank_input(g, "small", ROWS), large = per_rank_input(g, "large", ranks * ROWS);
    dg_value together = dg_all_gather(g, small, ranks);
    dg_graph_output(g, together, "all_gather");
    dg_graph_output(g, dg_all_gather(g, dg_reduce_scatter(g, large, ranks), ranks), "reduce_scatter");
    dg_graph_output(g, dg_all_gather(g, dg_shard(g, together, ranks), ranks), "shard");
    dg_graph_output(g, dg_all_reduce(g, large), "all_reduce");
    dg_value ids = dg_convert(g, together, DG_I32);
    dg_graph_output(g, dg_convert(g, dg_all_gather(g, dg_shard(g, ids, ranks), ranks), DG_F32), "i32");
    running r = start(b, g, NULL);
    run_ranks(&r, (const void *[]){data, weights}, ranks);
    for (int k = 0; k < ranks; k++)
        for (int i = 0; i < all; i++) sum[i] += weights[k * all + i];
    assert_floats("all_gather", r.outputs[0], data, all);
    assert_floats("reduce_scatter", r.outputs[1], sum, all);
    assert_floats("shard", r.outputs[2], data, all);
    assert_floats("all_reduce", r.outputs[3], sum, all);
    assert_floats("shard of i32", r.outputs[4], data, all);
    b.f->store_destroy(r.store);
    stop(&r);
    dg_graph_destroy(g);
    pjrt_close(b);
}

static void ops_over_ranks_move_and_sum_what_each_rank_has(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= MOST; ranks++) check_ops(ranks);
}

/* ---- gradients: of the sum over ranks of sum(w y), w being different on each rank */

typedef dg_value (*op_builder)(dg_graph *g, dg_value x, int64_t ranks);

/* The gradient in x [rows, WIDTH] of each rank, one after another. */
static void gradient_of(op_builder op, int64_t rows, int64_t rows_of_y, int ranks, float *out)
{
    dg_error err;
    backend b = open_ranks(ranks);
    dg_graph *g = dg_graph_create();
    dg_value x = per_rank_input(g, "x", rows), w = per_rank_input(g, "w", rows_of_y), grad;
    dg_value product = dg_mul(g, op(g, x, ranks), w);
    ASSERT_OK(dg_gradient(g, dg_reduce_sum(g, product, DG_LIST(0, 1), false, DG_NONE), &x, 1, &grad, &err));
    dg_graph_output(g, dg_all_gather(g, grad, ranks), "gradients");
    running r = start(b, g, NULL);
    run_ranks(&r, (const void *[]){weights}, ranks); /* x is not read */
    memcpy(out, r.outputs[0], (size_t)(ranks * rows * WIDTH) * sizeof *out);
    b.f->store_destroy(r.store);
    stop(&r);
    dg_graph_destroy(g);
    pjrt_close(b);
}

static dg_value gather_all(dg_graph *g, dg_value x, int64_t ranks)
{
    return dg_all_gather(g, x, ranks);
}
static dg_value scatter(dg_graph *g, dg_value x, int64_t ranks)
{
    return dg_reduce_scatter(g, x, ranks);
}
static dg_value keep(dg_graph *g, dg_value x, int64_t ranks)
{
    return dg_shard(g, x, ranks);
}

static void check_gradients(int ranks)
{
    const int part = ROWS * WIDTH, all = ranks * part;
    float got[MOST * MOST * ROWS * WIDTH], want[MOST * MOST * ROWS * WIDTH] = {0};
    gradient_of(gather_all, ROWS, ranks * ROWS, ranks, got);
    for (int r = 0; r < ranks; r++) /* part s of every rank's w goes back to rank s */
        for (int i = 0; i < all; i++) want[i] += weights[r * all + i];
    assert_floats("all_gather", got, want, all);
    gradient_of(scatter, ranks * ROWS, ROWS, ranks, got);
    for (int r = 0; r < ranks; r++) assert_floats("reduce_scatter", got + r * all, weights, all);
    gradient_of(keep, ranks * ROWS, ROWS, ranks, got);
    memset(want, 0, sizeof want);
    for (int r = 0; r < ranks; r++)
        memcpy(want + r * all + r * part, weights + r * part, (size_t)part * sizeof *want);
    assert_floats("shard", got, want, ranks * all);
}

static void gradients_over_ranks_are_those_of_the_sum_of_all_losses(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= MOST; ranks++) check_gradients(ranks);
}

/* ---- state in parts */

static dg_value state_of(dg_graph *g, const char *name, int64_t n, dg_per per)
{
    dg_leaf leaf = {.struct_size = (uint32_t)sizeof leaf,
                    .kind = DG_LEAF_STATE,
                    .name = name,
                    .type = dg_make_type(DG_F32, &n, 1),
                    .init = dg_init_value(DG_INIT_CONSTANT, 0),
                    .layer = -1,
                    .per = (uint32_t)per};
    return g->api->leaf(g, &leaf);
}

/* "sum" += what the rank was given. */
static dg_graph *adding(int64_t n)
{
    dg_graph *g = dg_graph_create();
    dg_value sum = state_of(g, "sum", n, DG_PER_RANK);
    dg_graph_update(g, sum, dg_add(g, sum, dg_input(g, "x", DG_F32, DG_LIST(n), DG_PER_SAMPLE)));
    return g;
}

static void each_rank_keeps_its_part_and_the_store_has_them_in_order(void **state)
{
    enum { RANKS = 3, PART = 4, N = RANKS * PART };
    (void)state;
    dg_error err;
    backend b = open_ranks(RANKS);
    float want[N], got[N], first[N - 1];
    const dg_type whole = {DG_F32, 1, {N}};
    dg_backend_store *store;
    dg_graph *g = adding(PART);
    for (int written = 0; written < 3; written++) { /* nothing; whole; all but the padding at the end */
        ASSERT_OK(b.f->store_create(b.self, &store, &err));
        ASSERT_OK(b.f->store_add(store, "sum", &whole, &err));
        for (int i = 0; i < N; i++) want[i] = written == 0 || (written == 2 && i == N - 1) ? 0 : weights[i];
        if (written)
            ASSERT_OK(
                b.f->store_write(store, "sum", want, 0, written == 1 ? sizeof want : sizeof first, &err));
        running r = start(b, g, store);
        for (int k = 0; k < 2; k++) {
            run_ranks(&r, (const void *[]){data}, RANKS);
            for (int i = 0; i < N; i++) want[i] += data[i];
        }
        ASSERT_OK(b.f->store_read(store, "sum", got, 0, sizeof got, &err));
        assert_floats("whole", got, want, N);
        ASSERT_OK(b.f->store_read(store, "sum", first, 0, sizeof first, &err));
        assert_floats("all but the end", first, want, N - 1);
        ASSERT_OK(b.f->store_write(store, "sum", weights, 0, sizeof got, &err));
        run_ranks(&r, (const void *[]){data}, RANKS);
        ASSERT_OK(b.f->store_read(store, "sum", got, 0, sizeof got, &err));
        for (int i = 0; i < N; i++) want[i] = weights[i] + data[i];
        assert_floats("written between runs", got, want, N);
        stop(&r);
        b.f->store_destroy(store);
    }
    dg_graph_destroy(g);
    pjrt_close(b);
}

static void a_tensor_is_not_whole_for_one_program_and_in_parts_for_another(void **state)
{
    enum { RANKS = 2, PART = 4 };
    (void)state;
    dg_error err;
    backend b = open_ranks(RANKS);
    dg_graph *parts = adding(PART), *whole = dg_graph_create();
    dg_graph_output(whole, dg_exp(whole, state_of(whole, "sum", RANKS * PART, DG_PER_BATCH)), "y");
    for (int k = 0; k < 2; k++) {
        dg_backend_exe *exe = NULL;
        dg_program *p;
        running first = start(b, k ? whole : parts, NULL);
        ASSERT_OK(dg_program_make(k ? parts : whole, "second", false, &p, &err));
        ASSERT_FAILS(b.f->compile(b.self, p, first.store, &exe, &err), DG_ERR_MISMATCH,
                     k ? "program second wants tensor sum in parts on each replica"
                       : "program second wants tensor sum whole on each replica");
        dg_program_destroy(p);
        b.f->store_destroy(first.store);
        stop(&first);
    }
    dg_graph_destroy(parts);
    dg_graph_destroy(whole);
    pjrt_close(b);
}

static void a_part_takes_a_share_of_the_memory(void **state)
{
    (void)state;
    dg_error err;
    backend b = open_ranks(2);
    dg_program *p;
    dg_memory_need need = {.struct_size = sizeof need};
    dg_graph *g = adding(1024);
    ASSERT_OK(dg_program_make(g, "step", false, &p, &err));
    ASSERT_OK(b.f->memory(b.self, p, &need, &err));
    assert_int_equal(need.state, 4096);
    dg_program_destroy(p);
    dg_graph_destroy(g);
    pjrt_close(b);
}

/* ---- refusals */

static void keep_reason(void *user, uint32_t node, const char *reason)
{
    (void)node;
    *(const char **)user = reason;
}

static void refuses(backend b, const dg_program *p, const char *because)
{
    dg_error err;
    const char *why = "";
    ASSERT_FAILS(b.f->check(b.self, p, keep_reason, &why, &err), DG_ERR_UNSUPPORTED, "1 ");
    if (!strstr(why, because)) fail_msg("'%s' does not say '%s'", why, because);
}

static void a_program_for_other_ranks_is_refused_by_every_backend(void **state)
{
    (void)state;
    dg_error err;
    dg_program *p;
    backend two = open_ranks(2), ref = reference_backend();
    dg_graph *g = dg_graph_create();
    dg_graph_output(g, dg_all_gather(g, per_rank_input(g, "x", ROWS), MOST), "y");
    ASSERT_OK(dg_program_make(g, "step", false, &p, &err));
    refuses(two, p, "another number of ranks than there are replicas");
    refuses(ref, p, "this backend is one rank");
    dg_backend_store *s;
    dg_backend_exe *exe;
    ASSERT_OK(two.f->store_create(two.self, &s, &err));
    ASSERT_FAILS(two.f->compile(two.self, p, s, &exe, &err), DG_ERR_UNSUPPORTED, "all_gather");
    two.f->store_destroy(s);
    dg_program_destroy(p);
    dg_graph_destroy(g);
    ref.f->destroy(ref.self);
    pjrt_close(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_over_ranks_move_and_sum_what_each_rank_has),
        cmocka_unit_test(gradients_over_ranks_are_those_of_the_sum_of_all_losses),
        cmocka_unit_test(each_rank_keeps_its_part_and_the_store_has_them_in_order),
        cmocka_unit_test(a_tensor_is_not_whole_for_one_program_and_in_parts_for_another),
        cmocka_unit_test(a_part_takes_a_share_of_the_memory),
        cmocka_unit_test(a_program_for_other_ranks_is_refused_by_every_backend),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
