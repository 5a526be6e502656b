/* test_cpu.c - the cpu backend: every op against the reference, each set of kernels, threads, state. */
#include "cpu_backend.h"

/* ---- ops */

static void count_complaint(void *user, uint32_t node, const char *reason)
{
    (void)node;
    if (strstr(reason, "f16") || strstr(reason, "f8e4m3")) ++*(int *)user;
}

/* Cases in the small floats are complained about; the rest must run. */
static bool is_refused(backend b, const dg_case *c, bool gradients)
{
    dg_error err = DG_ERROR_INIT;
    int complaints = 0;
    dg_graph *g = case_graph(c, gradients), *lowered;
    dg_program *p;
    ASSERT_OK(dg_pass_lower(g, take_supported, &b, &lowered, &err));
    ASSERT_OK(dg_program_make(lowered, "test", false, &p, &err));
    dg_status s = b.f->check(b.self, p, count_complaint, &complaints, &err);
    dg_program_destroy(p);
    dg_graph_destroy(lowered);
    dg_graph_destroy(g);
    return s == DG_ERR_UNSUPPORTED && complaints > 0;
}

static bool has_gradient(const dg_case *c)
{
    dg_error err;
    dg_value in[DG_OP_MAX_IN], y;
    size_t n_in;
    dg_graph *g = dg_graph_create();
    ASSERT_OK(dg_case_build(c, g, in, &n_in, &y, &err));
    bool yes = is_differentiable(c, g, y);
    dg_graph_destroy(g);
    return yes;
}

static void with_every_set_of_kernels(bool gradients)
{
    backend ref = reference_backend();
    size_t bad = 0;
    for (int isa = 0; isa < N_ISAS; isa++) {
        backend b = cpu_backend(0, isa);
        if (!b.self) continue;
        for (size_t i = 0; i < dg_case_count(); i++) {
            const dg_case *c = dg_case_at(i);
            if ((gradients && !has_gradient(c)) || is_refused(b, c, gradients)) continue;
            if (case_agrees(b, ref, c, gradients)) continue;
            print_error("with the %s kernels\n", isas[isa]);
            bad++;
        }
        b.f->destroy(b.self);
    }
    ref.f->destroy(ref.self);
    if (bad) fail_msg("%zu cases disagree with the reference", bad);
}

static void every_case_agrees_with_the_reference(void **state)
{
    (void)state;
    with_every_set_of_kernels(false);
}

static void gradients_of_every_case_agree_with_the_reference(void **state)
{
    (void)state;
    with_every_set_of_kernels(true);
}

/* ---- state */

static dg_value state_leaf(dg_graph *g, const char *name, int64_t n)
{
    dg_leaf leaf = {.struct_size = (uint32_t)sizeof leaf,
                    .kind = DG_LEAF_STATE,
                    .name = name,
                    .type = dg_make_type(DG_F32, &n, 1),
                    .init = dg_init_value(DG_INIT_CONSTANT, 0),
                    .layer = -1};
    return g->api->leaf(g, &leaf);
}

/* Runs g `runs` times on both backends from the same state; the outputs and the state must agree. */
static void follows_the_reference(const dg_graph *g, int runs)
{
    dg_error err;
    backend b = cpu_backend(2, -1), ref = reference_backend();
    running mine = start(b, g, NULL), theirs = start(ref, g, NULL);
    const dg_program *p = mine.program;
    run_on_numbers(&mine);
    run_on_numbers(&theirs);
    for (int i = 1; i < runs; i++) {
        run_once(&mine, NULL);
        run_once(&theirs, NULL);
    }
    for (uint32_t k = 0; k < p->n_outputs; k++)
        assert_true(worst(&p->values[p->outputs[k].value].type, mine.outputs[k], theirs.outputs[k]) < 1e-5);
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        const dg_type *t = &p->values[l].type;
        uint64_t n = (uint64_t)dg_type_bytes(t);
        void *x = dg_calloc(n, 1), *y = dg_calloc(n, 1);
        ASSERT_OK(b.f->store_read(mine.store, p->leaves[l].name, x, 0, n, &err));
        ASSERT_OK(ref.f->store_read(theirs.store, p->leaves[l].name, y, 0, n, &err));
        if (worst(t, x, y) > 1e-5) fail_msg("%s is off by %.3g", p->leaves[l].name, worst(t, x, y));
        dg_free(x);
        dg_free(y);
    }
    b.f->store_destroy(mine.store);
    ref.f->store_destroy(theirs.store);
    stop(&mine);
    stop(&theirs);
    b.f->destroy(b.self);
    ref.f->destroy(ref.self);
}

static void leaves_can_trade_places_and_be_read(void **state)
{
    (void)state;
    dg_graph *g = dg_graph_create();
    dg_value a = state_leaf(g, "a", 1000), b = state_leaf(g, "b", 1000), c = state_leaf(g, "c", 1000);
    dg_graph_update(g, a, b);
    dg_graph_update(g, b, c);
    dg_graph_update(g, c, a);
    dg_graph_output(g, a, "old a");
    dg_graph_output(g, dg_add(g, a, b), "sum");
    follows_the_reference(g, 4);
    dg_graph_destroy(g);
}

/* In each case the leaf is read in a way that forbids, or seems to forbid, to write the update over it. */
static void updates_never_overwrite_what_is_still_read(void **state)
{
    (void)state;
    dg_graph *g = dg_graph_create();
    dg_value half = dg_fill(g, DG_F32, NULL, 0, 0.5), x[9];
    for (int i = 0; i < 9; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        x[i] = state_leaf(g, name, 600);
    }
    dg_value average = dg_add(g, dg_mul(g, x[0], half), dg_mul(g, x[1], half));
    dg_graph_update(g, x[0], average); /* in place: the same elements are read */
    dg_value square = dg_reshape(g, x[1], DG_LIST(20, 30));
    dg_graph_update(
        g, x[1],
        dg_reshape(g, dg_neg(g, dg_transpose(g, dg_reshape(g, x[1], DG_LIST(30, 20)), DG_LIST(1, 0))),
                   DG_LIST(600)));
    dg_value first = dg_slice(g, x[2], DG_LIST(0), DG_LIST(1));
    dg_graph_update(g, x[2], dg_add(g, x[2], first)); /* every element reads the first */
    dg_value moved = dg_neg(g, x[3]);
    dg_graph_update(g, x[3], moved);
    dg_graph_output(g, dg_exp(g, dg_mul(g, x[3], half)), "read after"); /* a later reader of the old value */
    dg_graph_output(g, moved, "read as an output");
    dg_graph_update(g, x[4], moved); /* one value for two leaves */
    dg_value turned = dg_concat(g,
                                (const dg_value[]){dg_slice(g, x[5], DG_LIST(300), DG_LIST(600)),
                                                   dg_slice(g, x[5], DG_LIST(0), DG_LIST(300))},
                                2, 0);
    dg_graph_update(g, x[5], turned);
    dg_graph_update(g, x[6], dg_fill(g, DG_F32, DG_LIST(600), 0.25));
    dg_value m = dg_pad(g, dg_slice(g, x[7], DG_LIST(0), DG_LIST(599)), DG_LIST(1), DG_LIST(0), 0);
    dg_graph_update(g, x[7], m);
    dg_graph_update(
        g, x[8],
        dg_broadcast(g, dg_reduce_sum(g, dg_mul(g, x[8], x[8]), DG_LIST(0), true, DG_NONE), DG_LIST(600)));
    dg_graph_output(g, dg_reduce_sum(g, square, DG_LIST(0), false, DG_NONE), "columns");
    follows_the_reference(g, 2);
    dg_graph_destroy(g);
}

static void adamw_can_share_its_inputs(void **state)
{
    (void)state;
    dg_graph *g = dg_graph_create();
    dg_value p = state_leaf(g, "p", 700), m = state_leaf(g, "m", 700), v = state_leaf(g, "v", 700);
    const float three[] = {1e-2f, 0.1f, 0.05f};
    dg_value scalars = dg_constant(g, DG_F32, DG_LIST(3), three, sizeof three);
    /* The gradient is the parameter itself, and the squares are of what m was. */
    dg_value next = dg_adamw(g, p, p, m, dg_mul(g, v, v), scalars, DG_NO_VALUE, 0.9, 0.95, 1e-2, 1, 0.05);
    dg_graph_update(g, p, next);
    dg_graph_update(g, m, dg_output(next, 1));
    dg_graph_update(g, v, dg_output(next, 2));
    follows_the_reference(g, 3);
    dg_graph_destroy(g);
}

static void programs_share_a_store(void **state)
{
    (void)state;
    dg_error err;
    backend b = cpu_backend(0, -1);
    const float one[4] = {1, 1, 1, 1};
    dg_graph *twice = dg_graph_create(), *look = dg_graph_create(), *other = dg_graph_create();
    dg_value v = state_leaf(twice, "a", 4);
    dg_graph_update(twice, v, dg_add(twice, v, v));
    dg_graph_output(look, state_leaf(look, "a", 4), "a");
    running writer = start(b, twice, NULL), reader = start(b, look, writer.store);
    ASSERT_OK(b.f->store_write(writer.store, "a", one, 0, sizeof one, &err));
    for (int i = 0; i < 3; i++) run_once(&writer, NULL);
    run_once(&reader, NULL);
    assert_float_equal(((float *)reader.outputs[0])[0], 8, 0);
    dg_program *p;
    dg_backend_exe *exe;
    dg_graph_output(other, state_leaf(other, "a", 5), "a");
    ASSERT_OK(dg_program_make(other, "other", false, &p, &err));
    ASSERT_FAILS(b.f->compile(b.self, p, writer.store, &exe, &err), DG_ERR_MISMATCH, "f32[4]");
    assert_null(exe);
    dg_program_destroy(p);
    stop(&writer);
    stop(&reader);
    b.f->store_destroy(writer.store);
    dg_graph_destroy(twice);
    dg_graph_destroy(look);
    dg_graph_destroy(other);
    b.f->destroy(b.self);
}

static void a_tensor_goes_to_the_store_and_back_whole_and_in_parts(void **state)
{
    (void)state;
    dg_error err;
    backend b = cpu_backend(0, -1);
    dg_backend_store *s;
    unsigned char data[1000], got[1000] = {1};
    const dg_type type = {DG_BF16, 2, {5, 100}};
    for (int i = 0; i < 1000; i++) data[i] = (unsigned char)(i * 7);
    ASSERT_OK(b.f->store_create(b.self, &s, &err));
    for (int i = 0; i < 200; i++) { /* names in no order */
        char name[16];
        snprintf(name, sizeof name, "t%d", i * 37 % 200);
        ASSERT_OK(b.f->store_add(s, name, &type, &err));
    }
    ASSERT_OK(b.f->store_add(s, "t7", &type, &err));
    ASSERT_OK(b.f->store_read(s, "t7", got, 0, 1000, &err));
    for (int i = 0; i < 1000; i++) assert_int_equal(got[i], 0);
    ASSERT_OK(b.f->store_write(s, "t7", data, 0, 600, &err));
    ASSERT_OK(b.f->store_write(s, "t7", data + 600, 600, 400, &err));
    ASSERT_OK(b.f->store_read(s, "t7", got, 0, 1000, &err));
    assert_memory_equal(got, data, 1000);
    ASSERT_OK(b.f->store_read(s, "t7", got, 500, 10, &err));
    assert_memory_equal(got, data + 500, 10);
    ASSERT_FAILS(b.f->store_read(s, "u", got, 0, 10, &err), DG_ERR_NOT_FOUND, "no tensor 'u'");
    ASSERT_FAILS(b.f->store_write(s, "t7", data, 900, 101, &err), DG_ERR_INVALID, "which has 1000");
    ASSERT_FAILS(b.f->store_write(s, "t7", data, UINT64_MAX, 2, &err), DG_ERR_INVALID, "which has 1000");
    b.f->store_destroy(s);
    b.f->destroy(b.self);
}

/* ---- what it says */

static void what_it_cannot_run_is_named_with_the_reason(void **state)
{
    (void)state;
    dg_error err;
    backend b = cpu_backend(0, -1);
    int complaints = 0;
    dg_program *p;
    dg_memory_need need;
    dg_graph *g = dg_graph_create();
    dg_push(g, "here");
    dg_value x = dg_input(g, "x", DG_F16, DG_LIST(3, 5), DG_PER_BATCH);
    dg_graph_output(g, dg_neg(g, dg_convert(g, dg_exp(g, x), DG_F8E4M3)), "y");
    dg_pop(g);
    ASSERT_OK(dg_program_make(g, "step", false, &p, &err));
    ASSERT_FAILS(b.f->check(b.self, p, count_complaint, &complaints, &err), DG_ERR_UNSUPPORTED,
                 "3 node(s) of 'step'");
    assert_non_null(strstr(err.message, "'exp' in 'here'"));
    assert_non_null(strstr(err.message, "use bf16 or f32"));
    assert_int_equal(complaints, 3);
    ASSERT_FAILS(b.f->memory(b.self, p, &need, &err), DG_ERR_UNSUPPORTED, "f16");
    dg_program_destroy(p);
    dg_graph_destroy(g);
    g = dg_graph_create();
    dg_graph_output(g, dg_resize(g, dg_input(g, "x", DG_F32, DG_LIST(1, 4, 4, 1), DG_PER_BATCH), 8, 8, false),
                    "y");
    ASSERT_OK(dg_program_make(g, "step", false, &p, &err));
    ASSERT_FAILS(b.f->check(b.self, p, NULL, NULL, &err), DG_ERR_UNSUPPORTED, "does not have this op");
    dg_program_destroy(p);
    dg_graph_destroy(g);
    b.f->destroy(b.self);
}

static void it_says_what_it_runs_on(void **state)
{
    (void)state;
    dg_error err;
    backend b = cpu_backend(3, 0);
    dg_device_info info[2];
    uint32_t n = 0;
    char print[256];
    ASSERT_OK(b.f->devices(b.self, info, 2, &n, &err));
    assert_int_equal(n, 1);
    assert_string_equal(info[0].name, "cpu, 3 threads");
    assert_true(info[0].memory > 0);
    b.f->fingerprint(b.self, print, sizeof print);
    assert_non_null(strstr(print, "kernels plain; oneDNN "));
    dg_dtype dtype = b.f->preferred(b.self);
    assert_true(dtype == DG_BF16 || dtype == DG_F32);
    b.f->destroy(b.self);
}

static void memory_counts_state_and_what_lives_at_once(void **state)
{
    (void)state;
    dg_error err;
    backend b = cpu_backend(1, -1);
    dg_program *p;
    dg_memory_need need = {.struct_size = sizeof need};
    enum { N = 1 << 20 };
    dg_graph *g = dg_graph_create();
    dg_value a = state_leaf(g, "a", N), v = dg_reshape(g, a, DG_LIST(1024, 1024));
    for (int i = 0; i < 5; i++)
        v = dg_softmax(g, v); /* two of them at a time, the last in place of the leaf */
    dg_graph_update(g, a, dg_reshape(g, v, DG_LIST(N)));
    ASSERT_OK(dg_program_make(g, "step", false, &p, &err));
    ASSERT_OK(b.f->memory(b.self, p, &need, &err));
    assert_int_equal(need.state, 4 * N);
    assert_in_range(need.temporary, 8 * N, 8 * N + 65536);
    dg_program_destroy(p);
    dg_graph_destroy(g);
    b.f->destroy(b.self);
}

static void element_wise_chains_take_no_memory_between(void **state)
{
    (void)state;
    dg_error err;
    backend b = cpu_backend(1, -1);
    dg_program *p;
    dg_memory_need need = {.struct_size = sizeof need};
    enum { N = 1 << 20 };
    dg_graph *g = dg_graph_create();
    dg_value a = state_leaf(g, "a", N), v = a;
    for (int i = 0; i < 8; i++) v = dg_tanh(g, dg_add(g, v, a));
    dg_graph_update(g, a, v);
    ASSERT_OK(dg_program_make(g, "step", false, &p, &err));
    ASSERT_OK(b.f->memory(b.self, p, &need, &err));
    assert_in_range(need.temporary, 0, 65536);
    dg_program_destroy(p);
    dg_graph_destroy(g);
    b.f->destroy(b.self);
}

static void a_run_with_other_inputs_is_refused_and_unwanted_outputs_are_left_out(void **state)
{
    (void)state;
    dg_error err;
    backend b = cpu_backend(0, -1);
    dg_node_time times[8];
    uint32_t n;
    const float in[4] = {1, 2, 3, 4};
    float out[4];
    const void *inputs[] = {in};
    void *outputs[] = {NULL, out};
    dg_graph *g = dg_graph_create();
    dg_value v = dg_input(g, "x", DG_F32, DG_LIST(4), DG_PER_BATCH);
    dg_graph_output(g, dg_exp(g, v), "exp");
    dg_graph_output(g, dg_neg(g, v), "neg");
    running r = start(b, g, NULL);
    const dg_run good = {(uint32_t)sizeof good, 1, inputs, 2, 0, outputs},
                 bad = {(uint32_t)sizeof bad, 0, inputs, 2, 0, outputs};
    b.f->profile(r.exe, true);
    ASSERT_OK(b.f->run(r.exe, &good, &err));
    ASSERT_OK(b.f->run(r.exe, &good, &err));
    assert_float_equal(out[3], -4, 0);
    ASSERT_FAILS(b.f->run(r.exe, &bad, &err), DG_ERR_INVALID,
                 "takes 1 inputs and gives 2 outputs, not 0 and 2");
    ASSERT_OK(b.f->times(r.exe, times, 8, &n, &err));
    assert_int_equal(n, 2);
    assert_int_equal(times[1].runs, 2);
    assert_true(times[0].seconds > 0 && times[0].seconds < 1);
    b.f->store_destroy(r.store);
    stop(&r);
    dg_graph_destroy(g);
    b.f->destroy(b.self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_agrees_with_the_reference),
        cmocka_unit_test(gradients_of_every_case_agree_with_the_reference),
        cmocka_unit_test(leaves_can_trade_places_and_be_read),
        cmocka_unit_test(updates_never_overwrite_what_is_still_read),
        cmocka_unit_test(adamw_can_share_its_inputs),
        cmocka_unit_test(programs_share_a_store),
        cmocka_unit_test(a_tensor_goes_to_the_store_and_back_whole_and_in_parts),
        cmocka_unit_test(what_it_cannot_run_is_named_with_the_reason),
        cmocka_unit_test(it_says_what_it_runs_on),
        cmocka_unit_test(memory_counts_state_and_what_lives_at_once),
        cmocka_unit_test(element_wise_chains_take_no_memory_between),
        cmocka_unit_test(a_run_with_other_inputs_is_refused_and_unwanted_outputs_are_left_out),
    };
    return cmocka_run_group_tests(tests, open_module, NULL);
}
