/* test_pjrt.c - the pjrt backend on XLA's CPU plugin, which scripts/fetch-pjrt brings; without it most tests
 * are skipped. */
#include "pjrt_support.h"

#include <unistd.h>

static backend pjrt; /* self NULL: there is no PJRT plugin here */

static int open_backend(void **state)
{
    (void)state;
    pjrt = pjrt_open((pjrt_options){0});
    return 0;
}

static int close_backend(void **state)
{
    (void)state;
    pjrt_close(pjrt);
    return 0;
}

static void needs_device(void)
{
    if (!pjrt.self) skip();
}

/* ---- ops */

static void every_case_agrees_with_the_reference(void **state)
{
    (void)state;
    needs_device();
    cases_agree(pjrt, false);
}

static void gradients_of_every_case_agree_with_the_reference(void **state)
{
    (void)state;
    needs_device();
    cases_agree(pjrt, true);
}

/* Runs y = f(x) for one value on both backends and compares. */
static void converts_as_reference(dg_dtype from, dg_dtype to, const double *x, int64_t n)
{
    dg_graph *g = dg_graph_create();
    unsigned char stored[256];
    dg_from_doubles(from, x, n, stored);
    dg_graph_output(g, dg_convert(g, dg_input(g, "x", from, &n, 1, DG_PER_BATCH), to), "y");
    backend ref = reference_backend();
    running mine = start(pjrt, g, NULL), theirs = start(ref, g, NULL);
    const void *inputs[] = {stored};
    run_once(&mine, inputs);
    run_once(&theirs, inputs);
    const dg_type t = dg_make_type(to, &n, 1);
    if (worst(&t, mine.outputs[0], theirs.outputs[0]) > 0) {
        double a[64], b[64];
        dg_to_doubles(to, mine.outputs[0], n, a);
        dg_to_doubles(to, theirs.outputs[0], n, b);
        for (int64_t i = 0; i < n; i++)
            if (!(a[i] == b[i] || (isnan(a[i]) && isnan(b[i]))))
                print_error("%s %g -> %s: %g, not %g\n", dg_dtype_name(from), x[i], dg_dtype_name(to), a[i],
                            b[i]);
        fail();
    }
    pjrt.f->store_destroy(mine.store);
    ref.f->store_destroy(theirs.store);
    stop(&mine);
    stop(&theirs);
    dg_graph_destroy(g);
}

static void every_pair_of_dtypes_converts_as_the_reference(void **state)
{
    (void)state;
    needs_device();
    static const double x[] = {0,     -0.0,  1,   -1,   0.5,      -0.5,      1.5, -1.5, 2.5,
                               200,   255.9, 256, 300,  -3,       448,       500, 1e-3, 1e-7,
                               65504, 70000, 3e9, -3e9, INFINITY, -INFINITY, NAN};
    const int64_t n = sizeof x / sizeof x[0];
    for (int from = DG_F32; from < DG_DTYPE_COUNT; from++)
        for (int to = DG_F32; to < DG_DTYPE_COUNT; to++)
            converts_as_reference((dg_dtype)from, (dg_dtype)to, x, n);
}

/* ---- state */

/* y = x w + b fitted to targets by gradient descent. */
static dg_graph *regression(void)
{
    dg_error err;
    dg_graph *g = dg_graph_create();
    dg_value x = dg_input(g, "x", DG_F32, DG_LIST(16, 5), DG_PER_SAMPLE);
    dg_value target = dg_input(g, "target", DG_F32, DG_LIST(16, 3), DG_PER_SAMPLE);
    dg_value scalars = dg_input(g, "scalars", DG_F32, DG_LIST(3), DG_PER_BATCH);
    const dg_init zero = dg_init_value(DG_INIT_CONSTANT, 0);
    dg_value p[2] = {dg_param(g, "w", DG_LIST(3, 5), zero, -1), dg_param(g, "b", DG_LIST(3), zero, -1)},
             grads[2];
    dg_value off = dg_sub(g, dg_linear(g, x, p[0], p[1], DG_NONE), target);
    dg_value loss = dg_reduce_sum(g, dg_mul(g, off, off), DG_LIST(0, 1), false, DG_NONE);
    dg_graph_output(g, loss, "loss");
    ASSERT_OK(dg_gradient(g, loss, p, 2, grads, &err));
    for (int k = 0; k < 2; k++) {
        char name[16];
        dg_value moment[2];
        dg_type t = dg_type_of(g, p[k]);
        for (int i = 0; i < 2; i++) {
            snprintf(name, sizeof name, "%c%d", "mv"[i], k);
            dg_leaf leaf = {(uint32_t)sizeof leaf, DG_LEAF_STATE, name, t, zero, 0, -1, 0, {0, 0}};
            moment[i] = g->api->leaf(g, &leaf);
        }
        dg_value step =
            dg_adamw(g, p[k], grads[k], moment[0], moment[1], scalars, DG_NO_VALUE, 0.9, 0.95, 1e-8, 1, 0.01);
        dg_graph_update(g, p[k], step);
        dg_graph_update(g, moment[0], dg_output(step, 1));
        dg_graph_update(g, moment[1], dg_output(step, 2));
    }
    ASSERT_OK(dg_graph_error(g, &err));
    return g;
}

static float x[16 * 5], target[16 * 3];

static void fill_data(void)
{
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 5; k++) x[i * 5 + k] = (float)((i * 31 + k * 17) % 13 - 6) / 6;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 3; j++) target[i * 3 + j] = x[i * 5 + j] - 0.5f * x[i * 5 + 4] + 0.25f * (float)j;
}

static float train_step(running *r, int step)
{
    const float scalars[3] = {0.05f, (float)(1 - pow(0.9, step)), (float)(1 - pow(0.95, step))};
    const void *inputs[3] = {0};
    for (uint32_t l = 0, k = 0; l < r->program->n_leaves; l++) {
        const char *name = r->program->leaves[l].name;
        if (r->program->leaves[l].kind != DG_LEAF_INPUT) continue;
        inputs[k++] = strcmp(name, "x") == 0 ? x : strcmp(name, "target") == 0 ? target : scalars;
    }
    run_once(r, inputs);
    return *(float *)r->outputs[0];
}

static void a_training_loop_follows_the_reference(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_graph *g = regression();
    backend ref = reference_backend();
    running mine = start(pjrt, g, NULL), theirs = start(ref, g, NULL);
    float first = 0, last = 0, w[2][15];
    fill_data();
    for (int step = 1; step <= 60; step++) {
        last = train_step(&mine, step);
        float want = train_step(&theirs, step);
        if (step == 1) first = last;
        assert_float_equal(last, want, 1e-4 * first);
    }
    assert_true(last < 0.05f * first);
    ASSERT_OK(pjrt.f->store_read(mine.store, "w", w[0], 0, sizeof w[0], &err));
    ASSERT_OK(ref.f->store_read(theirs.store, "w", w[1], 0, sizeof w[1], &err));
    for (int i = 0; i < 15; i++) assert_float_equal(w[0][i], w[1][i], 1e-3);
    pjrt.f->store_destroy(mine.store);
    ref.f->store_destroy(theirs.store);
    stop(&mine);
    stop(&theirs);
    dg_graph_destroy(g);
}

static void training_again_gives_the_same_bits(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_graph *g = regression();
    float w[2][15];
    fill_data();
    for (int k = 0; k < 2; k++) {
        running r = start(pjrt, g, NULL);
        for (int step = 1; step <= 10; step++) train_step(&r, step);
        ASSERT_OK(pjrt.f->store_read(r.store, "w", w[k], 0, sizeof w[k], &err));
        pjrt.f->store_destroy(r.store);
        stop(&r);
    }
    assert_memory_equal(w[0], w[1], sizeof w[0]);
    dg_graph_destroy(g);
}

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

/* Donated buffers must not be read after they were written. */
static void leaves_can_trade_places_and_be_read(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    const float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8};
    float got[4];
    dg_graph *g = dg_graph_create();
    dg_value va = state_leaf(g, "a", 4), vb = state_leaf(g, "b", 4);
    dg_graph_update(g, va, vb);
    dg_graph_update(g, vb, va);
    dg_graph_output(g, va, "old a");
    dg_graph_output(g, dg_add(g, va, vb), "sum");
    running r = start(pjrt, g, NULL);
    ASSERT_OK(pjrt.f->store_write(r.store, "a", a, 0, sizeof a, &err));
    ASSERT_OK(pjrt.f->store_write(r.store, "b", b, 0, sizeof b, &err));
    for (int i = 0; i < 3; i++) {
        run_once(&r, NULL);
        assert_memory_equal(r.outputs[0], i % 2 ? b : a, sizeof a);
        assert_float_equal(((float *)r.outputs[1])[3], 12, 0);
    }
    ASSERT_OK(pjrt.f->store_read(r.store, "a", got, 0, sizeof got, &err));
    assert_memory_equal(got, b, sizeof b);
    pjrt.f->store_destroy(r.store);
    stop(&r);
    dg_graph_destroy(g);
}

static void programs_share_a_store(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    const float one[4] = {1, 1, 1, 1};
    dg_graph *twice = dg_graph_create(), *look = dg_graph_create();
    dg_value v = state_leaf(twice, "a", 4);
    dg_graph_update(twice, v, dg_add(twice, v, v));
    dg_graph_output(look, state_leaf(look, "a", 4), "a");
    running writer = start(pjrt, twice, NULL), reader = start(pjrt, look, writer.store);
    ASSERT_OK(pjrt.f->store_write(writer.store, "a", one, 0, sizeof one, &err));
    for (int i = 0; i < 3; i++) run_once(&writer, NULL);
    run_once(&reader, NULL);
    assert_float_equal(((float *)reader.outputs[0])[0], 8, 0);
    dg_graph *other = dg_graph_create(), *lowered;
    dg_program *p;
    dg_backend_exe *exe;
    dg_graph_output(other, state_leaf(other, "a", 5), "a");
    ASSERT_OK(dg_pass_lower(other, NULL, NULL, &lowered, &err));
    ASSERT_OK(dg_program_make(lowered, "other", false, &p, &err));
    ASSERT_FAILS(pjrt.f->compile(pjrt.self, p, writer.store, &exe, &err), DG_ERR_MISMATCH, "f32[4]");
    dg_program_destroy(p);
    dg_graph_destroy(lowered);
    dg_graph_destroy(other);
    stop(&writer);
    stop(&reader);
    pjrt.f->store_destroy(writer.store);
    dg_graph_destroy(twice);
    dg_graph_destroy(look);
}

static void a_tensor_goes_to_the_store_and_back_whole_and_in_parts(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_backend_store *s;
    unsigned char data[1000], got[1000] = {1};
    const dg_type type = {DG_BF16, 2, {5, 100}};
    for (int i = 0; i < 1000; i++) data[i] = (unsigned char)(i * 7);
    ASSERT_OK(pjrt.f->store_create(pjrt.self, &s, &err));
    ASSERT_OK(pjrt.f->store_add(s, "t", &type, &err));
    ASSERT_OK(pjrt.f->store_add(s, "t", &type, &err));
    ASSERT_OK(pjrt.f->store_read(s, "t", got, 0, 1000, &err));
    for (int i = 0; i < 1000; i++) assert_int_equal(got[i], 0);
    ASSERT_OK(pjrt.f->store_write(s, "t", data, 0, 1000, &err));
    ASSERT_OK(pjrt.f->store_read(s, "t", got, 0, 1000, &err));
    assert_memory_equal(got, data, 1000);
    /* In parts, backwards, and a read between. */
    for (int i = 0; i < 1000; i++) data[i] = (unsigned char)(i * 11);
    for (int at = 700; at >= 0; at -= 350) {
        ASSERT_OK(pjrt.f->store_write(s, "t", data + at, (uint64_t)at, at == 700 ? 300 : 350, &err));
        ASSERT_OK(pjrt.f->store_read(s, "t", got, (uint64_t)at, 10, &err));
        assert_memory_equal(got, data + at, 10);
    }
    for (int at = 0; at < 1000; at += 100)
        ASSERT_OK(pjrt.f->store_read(s, "t", got + at, (uint64_t)at, 100, &err));
    assert_memory_equal(got, data, 1000);
    ASSERT_FAILS(pjrt.f->store_read(s, "u", got, 0, 10, &err), DG_ERR_NOT_FOUND, "no tensor u");
    ASSERT_FAILS(pjrt.f->store_write(s, "t", data, 900, 101, &err), DG_ERR_INVALID, "which has 1000");
    ASSERT_FAILS(pjrt.f->store_write(s, "t", data, UINT64_MAX, 2, &err), DG_ERR_INVALID, "which has 1000");
    pjrt.f->store_destroy(s);
}

/* ---- what it says */

static void count_complaint(void *user, uint32_t node, const char *reason)
{
    (void)node;
    assert_non_null(strstr(reason, "lowered"));
    ++*(int *)user;
}

static void every_composite_that_was_not_lowered_is_complained_about(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    int complaints = 0;
    dg_program *p;
    dg_graph *g = dg_graph_create();
    dg_value v = dg_input(g, "x", DG_F32, DG_LIST(3, 5), DG_PER_BATCH);
    dg_graph_output(g, dg_softmax(g, dg_gelu(g, dg_exp(g, v), false)), "y");
    ASSERT_OK(dg_program_make(g, "step", false, &p, &err));
    ASSERT_FAILS(pjrt.f->check(pjrt.self, p, count_complaint, &complaints, &err), DG_ERR_UNSUPPORTED,
                 "2 of the 3 nodes");
    assert_int_equal(complaints, 2);
    dg_program_destroy(p);
    dg_graph_destroy(g);
}

static void it_says_what_it_runs_on(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_device_info info[2];
    uint32_t n = 0;
    char print[256];
    ASSERT_OK(pjrt.f->devices(pjrt.self, info, 2, &n, &err));
    assert_int_equal(n, 1);
    assert_string_equal(info[0].name, "cpu");
    pjrt.f->fingerprint(pjrt.self, print, sizeof print);
    assert_non_null(strstr(print, "pjrt cpu"));
    assert_non_null(strstr(print, "threads"));
    dg_dtype dtype = pjrt.f->preferred(pjrt.self);
    assert_true(dtype == DG_BF16 || dtype == DG_F32);
}

static void memory_counts_state_and_what_lives_at_once(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_program *p;
    dg_memory_need need = {.struct_size = sizeof need};
    dg_graph *g = dg_graph_create();
    dg_value a = state_leaf(g, "a", 1024), v = a;
    for (int i = 0; i < 5; i++) v = dg_exp(g, v); /* two of them at a time */
    dg_graph_update(g, a, v);
    ASSERT_OK(dg_program_make(g, "step", false, &p, &err));
    ASSERT_OK(pjrt.f->memory(pjrt.self, p, &need, &err));
    assert_int_equal(need.state, 4096);
    assert_int_equal(need.temporary, 8192);
    dg_program_destroy(p);
    dg_graph_destroy(g);
}

static void a_run_with_other_inputs_is_refused_and_unwanted_outputs_are_left_out(void **state)
{
    (void)state;
    needs_device();
    dg_error err;
    dg_node_time times[1];
    uint32_t n;
    const float in[4] = {1, 2, 3, 4};
    float out[4];
    const void *inputs[] = {in};
    void *outputs[] = {NULL, out};
    dg_graph *g = dg_graph_create();
    dg_value v = dg_input(g, "x", DG_F32, DG_LIST(4), DG_PER_BATCH);
    dg_graph_output(g, dg_exp(g, v), "exp");
    dg_graph_output(g, dg_neg(g, v), "neg");
    running r = start(pjrt, g, NULL);
    const dg_run good = {(uint32_t)sizeof good, 1, inputs, 2, 0, outputs},
                 bad = {(uint32_t)sizeof bad, 0, NULL, 2, 0, outputs};
    ASSERT_OK(pjrt.f->run(r.exe, &good, &err));
    assert_float_equal(out[3], -4, 0);
    ASSERT_FAILS(pjrt.f->run(r.exe, &bad, &err), DG_ERR_INVALID, "1 inputs and 2 outputs, not 0 and 2");
    ASSERT_FAILS(pjrt.f->times(r.exe, times, 1, &n, &err), DG_ERR_UNSUPPORTED, "fuses");
    pjrt.f->store_destroy(r.store);
    stop(&r);
    dg_graph_destroy(g);
}

/* 40 outputs of 4 TiB: more than a process can address, whatever the system promises. */
static void too_much_memory_is_an_error_and_the_backend_lives_on(void **state)
{
    enum { N = 40 };
    (void)state;
    needs_device();
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* its allocator ends the process */
#endif
    dg_error err;
    char name[16];
    dg_graph *g = dg_graph_create();
    dg_value big = dg_iota(g, DG_F32, DG_LIST(1 << 20, 1 << 20), 0);
    for (int k = 0; k < N; k++) {
        snprintf(name, sizeof name, "y%d", k);
        dg_graph_output(g, dg_add(g, big, dg_fill(g, DG_F32, NULL, 0, k)), name);
    }
    dg_program *p;
    dg_backend_store *s;
    dg_backend_exe *exe = NULL;
    void *outputs[N] = {NULL};
    const dg_run run = {(uint32_t)sizeof run, 0, NULL, N, 0, outputs};
    ASSERT_OK(dg_program_make(g, "huge", false, &p, &err));
    ASSERT_OK(pjrt.f->store_create(pjrt.self, &s, &err));
    dg_status status = pjrt.f->compile(pjrt.self, p, s, &exe, &err);
    if (status == DG_OK) status = pjrt.f->run(exe, &run, &err);
    if (status != DG_ERR_NOMEM) fail_msg("status %d: %s", status, err.message);
    assert_non_null(strstr(err.message, "program huge"));
    pjrt.f->release(exe);
    pjrt.f->store_destroy(s);
    dg_program_destroy(p);
    dg_graph_destroy(g);
    leaves_can_trade_places_and_be_read(state);
}

/* ---- plugins that do not work */

static dg_status create(const char *plugin, dg_error *err)
{
    void *self;
    return pjrt_create((pjrt_options){.plugin = plugin}, &self, err);
}

static void plugins_that_do_not_work_are_explained(void **state)
{
    (void)state;
    static const char text[] = "this is not a shared object";
    static const char modules[] = DIGPT_BINARY_DIR "/tests/modules/";
    dg_error err;
    char path[512];
    if (!pjrt.f) skip();
    test_write(test_path("text.so"), text, sizeof text);
    ASSERT_FAILS(create(test_path("text.so"), &err), DG_ERR_FORMAT, "cannot load the PJRT plugin");
    assert_string_equal(err.key, "backend.plugin");
    ASSERT_FAILS(create("/nowhere/plugin.so", &err), DG_ERR_NOT_FOUND, "no readable file /nowhere/plugin.so");
    snprintf(path, sizeof path, "%s/lib/digpt/plugins/backends-pjrt.so", DIGPT_BINARY_DIR);
    ASSERT_FAILS(create(path, &err), DG_ERR_FORMAT, "no function GetPjrtApi");
    snprintf(path, sizeof path, "%spjrt_old.so", modules);
    ASSERT_FAILS(create(path, &err), DG_ERR_VERSION, "too old: its PJRT API 0.1 lacks PJRT_");
    snprintf(path, sizeof path, "%spjrt_major.so", modules);
    ASSERT_FAILS(create(path, &err), DG_ERR_VERSION, "needs major version");
    snprintf(path, sizeof path, "%spjrt_empty.so", modules);
    ASSERT_FAILS(create(path, &err), DG_ERR_FORMAT, "gave no table");
    setenv("DIGPT_PJRT_CUDA", "/nowhere/cuda.so", 1);
    ASSERT_FAILS(create("cuda", &err), DG_ERR_NOT_FOUND,
                 "which the environment variable DIGPT_PJRT_CUDA names");
    unsetenv("DIGPT_PJRT_CUDA");
    ASSERT_FAILS(create("cuda", &err), DG_ERR_NOT_FOUND, "set DIGPT_PJRT_CUDA to its path");
    setenv("DIGPT_PJRT_TPU", path, 1); /* any shared object: the machine is looked at first */
    if (access("/dev/accel0", F_OK) != 0 && access("/dev/vfio", F_OK) != 0)
        ASSERT_FAILS(create("tpu", &err), DG_ERR_NOT_FOUND, "no /dev/accel*, no /dev/vfio/[0-9]*");
    unsetenv("DIGPT_PJRT_TPU");
}

static void a_plugin_that_aborts_is_a_message(void **state)
{
    (void)state;
    static const char path[] = DIGPT_BINARY_DIR "/tests/modules/pjrt_abort.so";
    dg_error err;
    void *self;
    if (!pjrt.f) skip();
    pjrt_options o = {.plugin = path, .trial = "auto"};
    ASSERT_FAILS(pjrt_create(o, &self, &err), DG_ERR_UNSUPPORTED, "it ended its process (Aborted)");
    assert_non_null(strstr(err.message, "pjrt_abort.so"));
    assert_non_null(strstr(err.message, "its last words: F0000 00:00:0 1 device.cc:7] Check failed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_agrees_with_the_reference),
        cmocka_unit_test(gradients_of_every_case_agree_with_the_reference),
        cmocka_unit_test(every_pair_of_dtypes_converts_as_the_reference),
        cmocka_unit_test(a_training_loop_follows_the_reference),
        cmocka_unit_test(training_again_gives_the_same_bits),
        cmocka_unit_test(leaves_can_trade_places_and_be_read),
        cmocka_unit_test(programs_share_a_store),
        cmocka_unit_test(a_tensor_goes_to_the_store_and_back_whole_and_in_parts),
        cmocka_unit_test(every_composite_that_was_not_lowered_is_complained_about),
        cmocka_unit_test(it_says_what_it_runs_on),
        cmocka_unit_test(memory_counts_state_and_what_lives_at_once),
        cmocka_unit_test(a_run_with_other_inputs_is_refused_and_unwanted_outputs_are_left_out),
        cmocka_unit_test(too_much_memory_is_an_error_and_the_backend_lives_on),
        cmocka_unit_test(plugins_that_do_not_work_are_explained),
        cmocka_unit_test(a_plugin_that_aborts_is_a_message),
    };
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
