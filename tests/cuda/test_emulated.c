/* test_emulated.c - the cuda backend's own host code and kernels on the emulator (tests/cuda/emu): every op
 * against the reference interpreter, in order and in random schedules, with and without a watch on all
 * accesses; training, graphs, shared stores, and what it says. Skipped where the build has no CUDA headers.
 */
#include "../backends/parity.h"

#include <unistd.h>

/* In the environment DIGPT_CUDA_MODULE names another module to test, relative to the folder of plugins and
 * without .so: backends-cuda, where there is a device. */
#define EMULATED "../../../tests/reference/cuda-emulated"
#define RACED "../../../tests/reference/module-cuda-raced"

/* self NULL: not built. `graph` 0: kernel by kernel. `seed` above 0: a random schedule. */
static backend open_module(const char *module, int graph, const char *seed)
{
    dg_error err;
    backend b = {NULL, NULL};
    char path[512];
    const char *other = getenv("DIGPT_CUDA_MODULE");
    if (other && strcmp(module, RACED) == 0) return b;
    if (other) module = other;
    snprintf(path, sizeof path, "%s/lib/digpt/plugins/%s.so", DIGPT_BINARY_DIR, module);
    if (access(path, R_OK) != 0) return b;
    const dg_factory *factory = module_factory(module);
    if (!factory) fail_msg("%s cannot be opened", path);
    const dg_param_value values[] = {
        {.type = DG_PARAM_INT, .is_set = 1, .v.i = 0, .text = "0"},
        {.type = DG_PARAM_BOOL, .is_set = 1, .v.i = graph, .text = graph ? "true" : "false"}};
    const dg_params params = {(uint32_t)sizeof params, 2, values};
    setenv("DIGPT_EMU_SEED", seed, 1);
    b.f = factory->interface;
    ASSERT_OK(b.f->create(dg_host_table(), &params, &b.self, &err));
    uint32_t n = 0;
    ASSERT_OK(b.f->devices(b.self, NULL, 0, &n, &err)); /* takes the seed */
    assert_true(n >= 1);
    return b;
}

static backend open_emulated(void)
{
    backend b = open_module(EMULATED, 1, "0");
    if (!b.self) skip();
    return b;
}

static void close_backend(backend b)
{
    b.f->destroy(b.self);
}

/* ---- ops */

static void agree(const char *module, const char *seed, bool gradients)
{
    backend b = open_module(module, 1, seed);
    if (!b.self) skip();
    cases_agree(b, gradients);
    close_backend(b);
}

static void every_case_agrees_with_the_reference(void **state)
{
    (void)state;
    agree(EMULATED, "0", false);
}

static void gradients_of_every_case_agree_with_the_reference(void **state)
{
    (void)state;
    agree(EMULATED, "0", true);
}

static void every_case_agrees_in_random_schedules(void **state)
{
    (void)state;
    agree(EMULATED, "1", false);
    agree(EMULATED, "2", false);
    agree(EMULATED, "3", true);
}

static void no_kernel_races(void **state)
{
    (void)state;
    agree(RACED, "0", false);
    agree(RACED, "5", true);
}

static void converts_as_reference(backend b, backend ref, dg_dtype from, dg_dtype to, const double *x,
                                  int64_t n)
{
    unsigned char stored[256];
    dg_graph *g = dg_graph_create();
    dg_from_doubles(from, x, n, stored);
    dg_graph_output(g, dg_convert(g, dg_input(g, "x", from, &n, 1, DG_PER_BATCH), to), "y");
    running mine = start(b, g, NULL), theirs = start(ref, g, NULL);
    const void *inputs[] = {stored};
    const dg_type t = dg_make_type(to, &n, 1);
    run_once(&mine, inputs);
    run_once(&theirs, inputs);
    if (worst(&t, mine.outputs[0], theirs.outputs[0]) > 0) {
        double p[64], q[64];
        dg_to_doubles(to, mine.outputs[0], n, p);
        dg_to_doubles(to, theirs.outputs[0], n, q);
        for (int64_t i = 0; i < n; i++)
            if (!(p[i] == q[i] || (isnan(p[i]) && isnan(q[i]))))
                print_error("%s %g -> %s: %g, not %g\n", dg_dtype_name(from), x[i], dg_dtype_name(to), p[i],
                            q[i]);
        fail();
    }
    b.f->store_destroy(mine.store);
    ref.f->store_destroy(theirs.store);
    stop(&mine);
    stop(&theirs);
    dg_graph_destroy(g);
}

static void every_pair_of_dtypes_converts_as_the_reference(void **state)
{
    (void)state;
    static const double x[] = {0,     -0.0,  1,     -1,  0.5,  -0.5,     1.5,       -1.5, 2.5,  200,
                               255.9, 256,   300,   -3,  448,  464,      465,       500,  1e-3, 1e-7,
                               65504, 65519, 65520, 3e9, -3e9, INFINITY, -INFINITY, NAN};
    backend b = open_emulated(), ref = reference_backend();
    for (int from = DG_F32; from < DG_DTYPE_COUNT; from++)
        for (int to = DG_F32; to < DG_DTYPE_COUNT; to++)
            converts_as_reference(b, ref, (dg_dtype)from, (dg_dtype)to, x, sizeof x / sizeof x[0]);
    ref.f->destroy(ref.self);
    close_backend(b);
}

/* ---- attention at the sizes of the kernels on matrix units, which the table's small cases do not reach */

typedef struct attention_case {
    dg_dtype dtype;
    int64_t b, nq, nk, heads, d;
    bool joined; /* q, k and v are parts of one tensor, so that their rows lie apart */
    int groups;  /* 0: all is seen; else how many */
    bool strict;
} attention_case;

/* A number of order 1 for element i of input `which`. */
static double noise(int64_t i, int which)
{
    uint32_t u = (uint32_t)(i * 8 + which) * 2654435761u;
    u ^= u >> 15;
    return (double)(u * 2246822519u) / 2147483648.0 - 1;
}

static dg_graph *attention_graph(const attention_case *t)
{
    dg_error err;
    dg_graph *g = dg_graph_create();
    int64_t width = t->heads * t->d;
    dg_value in[3], q, k, v, gq = DG_NO_VALUE, gk = DG_NO_VALUE;
    size_t n_in = 0;
    if (t->joined) {
        in[n_in++] = dg_input(g, "qkv", t->dtype, DG_LIST(t->b, t->nq, 3 * width), DG_PER_SAMPLE);
        q = dg_slice(g, in[0], DG_LIST(0, 0, 0), DG_LIST(t->b, t->nq, width));
        k = dg_slice(g, in[0], DG_LIST(0, 0, width), DG_LIST(t->b, t->nk, 2 * width));
        v = dg_slice(g, in[0], DG_LIST(0, 0, 2 * width), DG_LIST(t->b, t->nk, 3 * width));
    } else {
        q = in[n_in++] = dg_input(g, "q", t->dtype, DG_LIST(t->b, t->nq, width), DG_PER_SAMPLE);
        k = in[n_in++] = dg_input(g, "k", t->dtype, DG_LIST(t->b, t->nk, width), DG_PER_SAMPLE);
        v = in[n_in++] = dg_input(g, "v", t->dtype, DG_LIST(t->b, t->nk, width), DG_PER_SAMPLE);
    }
    if (t->groups) {
        gq = dg_input(g, "gq", DG_I32, DG_LIST(t->b, t->nq), DG_PER_SAMPLE);
        gk = dg_input(g, "gk", DG_I32, DG_LIST(1, t->nk), DG_PER_BATCH);
    }
    dg_value y = dg_attention(g, q, k, v, gq, gk, DG_NO_VALUE, t->heads, 0, t->strict);
    dg_graph_output(g, y, "y");
    dg_graph_output(g, dg_output(y, 1), "lse");
    add_gradients(g, in, n_in, y);
    ASSERT_OK(dg_graph_error(g, &err));
    return g;
}

static void run_attention(running *r, const attention_case *t)
{
    const dg_program *p = r->program;
    void *inputs[8];
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        const dg_type *type = &p->values[p->leaves[l].value].type;
        int64_t n = dg_type_count(type), tokens = type->dims[1];
        double *x = dg_calloc((size_t)n, sizeof *x);
        for (int64_t i = 0; i < n; i++) /* groups in runs; the last sample's first queries see nothing */
            x[i] = type->dtype != DG_I32 ? noise(i, (int)l)
                                         : (double)(i % tokens * t->groups / tokens - (i / tokens == 1));
        inputs[l] = dg_calloc((size_t)dg_type_bytes(type), 1);
        dg_from_doubles((dg_dtype)type->dtype, x, n, inputs[l]);
        dg_free(x);
    }
    run_once(r, (const void *const *)inputs);
    for (uint32_t l = 0; l < p->n_leaves; l++) dg_free(inputs[l]);
}

static void attention_agrees(const char *module, const char *seed, const attention_case *t)
{
    backend b = open_module(module, 1, seed), ref = reference_backend();
    if (!b.self) skip();
    dg_graph *g = attention_graph(t);
    running mine = start(b, g, NULL), theirs = start(ref, g, NULL);
    run_attention(&mine, t);
    run_attention(&theirs, t);
    for (uint32_t k = 0; k < mine.program->n_outputs; k++) {
        const dg_type *type = &mine.program->values[mine.program->outputs[k].value].type;
        double off = worst(type, mine.outputs[k], theirs.outputs[k]),
               most = t->dtype == DG_F32 ? 1e-5 : 1.6e-2;
        if (off > most)
            fail_msg("heads of %d, %d x %d: %s is off by %g", (int)t->d, (int)t->nq, (int)t->nk,
                     mine.program->outputs[k].name, off);
    }
    b.f->store_destroy(mine.store);
    ref.f->store_destroy(theirs.store);
    stop(&mine);
    stop(&theirs);
    dg_graph_destroy(g);
    ref.f->destroy(ref.self);
    close_backend(b);
}

static const attention_case attention_cases[] = {
    {DG_BF16, 2, 148, 148, 2, 64, true, 3, false}, {DG_BF16, 2, 70, 148, 2, 32, false, 4, false},
    {DG_BF16, 1, 130, 65, 1, 80, false, 0, false}, {DG_BF16, 2, 65, 33, 1, 80, false, 5, true},
    {DG_BF16, 1, 7, 200, 3, 64, false, 0, false},  {DG_BF16, 2, 33, 33, 2, 40, true, 3, true},
    {DG_BF16, 2, 20, 30, 1, 64, false, 1, true}, /* nobody sees anything */
    {DG_F32, 2, 50, 70, 2, 80, false, 3, false},   {DG_F32, 1, 37, 37, 1, 128, true, 0, false},
};

enum { ATTENTION_CASES = sizeof attention_cases / sizeof attention_cases[0] };

static void attention_of_real_widths_agrees_with_the_reference(void **state)
{
    (void)state;
    for (int i = 0; i < ATTENTION_CASES; i++)
        attention_agrees(EMULATED, i % 2 ? "9" : "0", &attention_cases[i]);
}

static void attention_kernels_do_not_race(void **state)
{
    (void)state;
    for (int i = 1; i < ATTENTION_CASES; i++) attention_agrees(RACED, "0", &attention_cases[i]);
}

/* ---- rows by index: more ids, and wider rows, than a block takes at a time */

static void scatter_agrees(const char *module)
{
    enum { IDS = 300, WIDTH = 270, ROWS = 5 };
    backend b = open_module(module, 1, "0"), ref = reference_backend();
    if (!b.self) skip();
    dg_graph *g = dg_graph_create();
    dg_value ids = dg_input(g, "ids", DG_I32, DG_LIST(IDS), DG_PER_BATCH);
    dg_value x = dg_input(g, "x", DG_F32, DG_LIST(IDS, WIDTH), DG_PER_BATCH);
    dg_graph_output(g, dg_scatter_add(g, ids, x, ROWS, false), "y");
    running mine = start(b, g, NULL), theirs = start(ref, g, NULL);
    int32_t *id = dg_calloc(IDS, sizeof *id);
    float *data = dg_calloc(IDS * WIDTH, sizeof *data);
    const void *inputs[] = {id, data};
    for (int i = 0; i < IDS; i++) id[i] = i % (ROWS + 1);
    for (int i = 0; i < IDS * WIDTH; i++) data[i] = (float)noise(i, 0);
    run_once(&mine, inputs);
    run_once(&theirs, inputs);
    const dg_type t = mine.program->values[mine.program->outputs[0].value].type;
    assert_true(worst(&t, mine.outputs[0], theirs.outputs[0]) < 1e-5);
    dg_free(id);
    dg_free(data);
    b.f->store_destroy(mine.store);
    ref.f->store_destroy(theirs.store);
    stop(&mine);
    stop(&theirs);
    dg_graph_destroy(g);
    ref.f->destroy(ref.self);
    close_backend(b);
}

static void a_large_scatter_add_agrees_with_the_reference(void **state)
{
    (void)state;
    scatter_agrees(EMULATED);
}

static void a_large_scatter_add_does_not_race(void **state)
{
    (void)state;
    scatter_agrees(RACED);
}

/* ---- training */

static dg_value state_leaf(dg_graph *g, const char *name, const int64_t *dims, size_t rank)
{
    dg_leaf leaf = {.struct_size = (uint32_t)sizeof leaf,
                    .kind = DG_LEAF_STATE,
                    .name = name,
                    .type = dg_make_type(DG_F32, dims, rank),
                    .init = dg_init_value(DG_INIT_CONSTANT, 0),
                    .layer = -1};
    return g->api->leaf(g, &leaf);
}

/* y = gelu(norm(x) w' + b) fitted to targets by AdamW. */
static dg_graph *regression(dg_dtype compute)
{
    dg_error err;
    dg_graph *g = dg_graph_create();
    const dg_init zero = dg_init_value(DG_INIT_CONSTANT, 0);
    dg_value x = dg_input(g, "x", DG_F32, DG_LIST(16, 5), DG_PER_SAMPLE);
    dg_value target = dg_input(g, "target", DG_F32, DG_LIST(16, 3), DG_PER_SAMPLE);
    dg_value scalars = dg_input(g, "scalars", DG_F32, DG_LIST(3), DG_PER_BATCH), grads[2];
    dg_value p[2] = {dg_param(g, "w", DG_LIST(3, 5), zero, -1), dg_param(g, "b", DG_LIST(3), zero, -1)};
    dg_value y = dg_linear(g, dg_convert(g, x, compute), dg_convert(g, p[0], compute), p[1], DG_NONE);
    dg_value off = dg_sub(g, dg_convert(g, dg_gelu(g, y, false), DG_F32), target);
    dg_value loss = dg_reduce_sum(g, dg_mul(g, off, off), DG_LIST(0, 1), false, DG_NONE);
    dg_graph_output(g, loss, "loss");
    ASSERT_OK(dg_gradient(g, loss, p, 2, grads, &err));
    for (int k = 0; k < 2; k++) {
        char name[16];
        dg_value moment[2];
        dg_type t = dg_type_of(g, p[k]);
        for (int i = 0; i < 2; i++) {
            snprintf(name, sizeof name, "%c%d", "mv"[i], k);
            moment[i] = state_leaf(g, name, t.dims, (size_t)t.rank);
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

enum { STEPS = 8 };

typedef struct outcome {
    float loss[STEPS], w[15];
} outcome;

static outcome train(backend b, const dg_graph *g)
{
    dg_error err;
    outcome o;
    float x[16 * 5], target[16 * 3];
    for (int i = 0; i < 80; i++) x[i] = (float)(i * 37 % 23) / 11.f - 1;
    for (int i = 0; i < 48; i++) target[i] = x[i] * 0.5f + (float)(i % 3);
    running r = start(b, g, NULL);
    for (int step = 1; step <= STEPS; step++) {
        const float scalars[] = {0.05f, (float)(1 - pow(0.9, step)), (float)(1 - pow(0.95, step))};
        const void *inputs[] = {x, target, scalars};
        run_once(&r, inputs);
        o.loss[step - 1] = *(float *)r.outputs[0];
    }
    ASSERT_OK(b.f->store_read(r.store, "w", o.w, 0, sizeof o.w, &err));
    b.f->store_destroy(r.store);
    stop(&r);
    return o;
}

static void training_follows_the_reference(dg_dtype compute, double tolerance)
{
    backend b = open_emulated(), ref = reference_backend();
    dg_graph *g = regression(compute);
    outcome mine = train(b, g), theirs = train(ref, g);
    for (int i = 0; i < STEPS; i++)
        assert_float_equal(mine.loss[i], theirs.loss[i], tolerance * theirs.loss[0]);
    for (int i = 0; i < 15; i++) assert_float_equal(mine.w[i], theirs.w[i], tolerance);
    assert_true(mine.loss[STEPS - 1] < 0.9f * mine.loss[0]);
    dg_graph_destroy(g);
    ref.f->destroy(ref.self);
    close_backend(b);
}

static void training_in_f32_follows_the_reference(void **state)
{
    (void)state;
    training_follows_the_reference(DG_F32, 1e-4);
}

static void training_in_bf16_follows_the_reference(void **state)
{
    (void)state;
    training_follows_the_reference(DG_BF16, 2e-2);
}

/* The first step runs kernel by kernel, the others as a graph. */
static void graph_eager_and_every_schedule_give_the_same_bits(void **state)
{
    (void)state;
    static const struct {
        int graph;
        const char *seed;
    } ways[] = {{1, "0"}, {0, "0"}, {1, "1"}, {0, "2"}, {1, "77"}};
    outcome first;
    dg_graph *g = regression(DG_BF16);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        backend b = open_module(EMULATED, ways[i].graph, ways[i].seed);
        if (!b.self) skip();
        outcome o = train(b, g);
        if (i == 0) first = o;
        assert_memory_equal(&o, &first, sizeof o);
        close_backend(b);
    }
    dg_graph_destroy(g);
}

/* ---- state */

static void leaves_can_trade_places_and_be_read(void **state)
{
    (void)state;
    dg_error err;
    backend b = open_emulated();
    const float p[4] = {1, 2, 3, 4}, q[4] = {5, 6, 7, 8};
    float got[4];
    dg_graph *g = dg_graph_create();
    dg_value vp = state_leaf(g, "p", DG_LIST(4)), vq = state_leaf(g, "q", DG_LIST(4));
    dg_graph_update(g, vp, vq);
    dg_graph_update(g, vq, vp);
    dg_graph_output(g, vp, "old p");
    dg_graph_output(g, dg_add(g, vp, vq), "sum");
    running r = start(b, g, NULL);
    ASSERT_OK(b.f->store_write(r.store, "p", p, 0, sizeof p, &err));
    ASSERT_OK(b.f->store_write(r.store, "q", q, 0, sizeof q, &err));
    for (int i = 0; i < 3; i++) {
        run_once(&r, NULL);
        assert_memory_equal(r.outputs[0], i % 2 ? q : p, sizeof p);
        assert_float_equal(((float *)r.outputs[1])[3], 12, 0);
    }
    ASSERT_OK(b.f->store_read(r.store, "p", got, 0, sizeof got, &err));
    assert_memory_equal(got, q, sizeof q);
    b.f->store_destroy(r.store);
    stop(&r);
    dg_graph_destroy(g);
    close_backend(b);
}

/* In place only where every thread reads what it overwrites. */
static void an_update_that_reads_its_leaf_in_another_order_is_not_made_in_place(void **state)
{
    (void)state;
    dg_error err;
    backend b = open_emulated();
    float in[9], got[9];
    dg_graph *g = dg_graph_create();
    dg_value v = state_leaf(g, "m", DG_LIST(3, 3)), s = state_leaf(g, "s", DG_LIST(3, 3));
    dg_graph_update(g, v, dg_add(g, dg_transpose(g, v, DG_LIST(1, 0)), dg_fill(g, DG_F32, NULL, 0, 100)));
    dg_graph_update(g, s, dg_add(g, s, s));
    running r = start(b, g, NULL);
    for (int i = 0; i < 9; i++) in[i] = (float)i;
    ASSERT_OK(b.f->store_write(r.store, "m", in, 0, sizeof in, &err));
    ASSERT_OK(b.f->store_write(r.store, "s", in, 0, sizeof in, &err));
    run_once(&r, NULL);
    ASSERT_OK(b.f->store_read(r.store, "m", got, 0, sizeof got, &err));
    for (int i = 0; i < 9; i++) assert_float_equal(got[i], (float)(i % 3 * 3 + i / 3) + 100, 0);
    ASSERT_OK(b.f->store_read(r.store, "s", got, 0, sizeof got, &err));
    for (int i = 0; i < 9; i++) assert_float_equal(got[i], 2.f * (float)i, 0);
    b.f->store_destroy(r.store);
    stop(&r);
    dg_graph_destroy(g);
    close_backend(b);
}

static void a_tensor_larger_than_the_pinned_buffers_goes_to_the_store_and_back(void **state)
{
    (void)state;
    dg_error err;
    backend b = open_emulated();
    dg_backend_store *s;
    enum { N = 2500001 };
    const int64_t dims[] = {N};
    const dg_type type = dg_make_type(DG_F32, dims, 1);
    float *in = dg_calloc(N, sizeof *in), *out = dg_calloc(N, sizeof *out);
    for (int i = 0; i < N; i++) in[i] = (float)i;
    ASSERT_OK(b.f->store_create(b.self, &s, &err));
    ASSERT_OK(b.f->store_add(s, "t", &type, &err));
    ASSERT_OK(b.f->store_read(s, "t", out, 0, N * sizeof *out, &err));
    assert_float_equal(out[N - 1], 0, 0);
    ASSERT_OK(b.f->store_write(s, "t", in, 0, N * sizeof *in, &err));
    ASSERT_OK(b.f->store_write(s, "t", in, 400, 4, &err));
    in[100] = 0;
    ASSERT_OK(b.f->store_read(s, "t", out, 0, N * sizeof *out, &err));
    assert_memory_equal(in, out, N * sizeof *in);
    ASSERT_FAILS(b.f->store_read(s, "u", out, 0, 4, &err), DG_ERR_NOT_FOUND, "no tensor 'u'");
    ASSERT_FAILS(b.f->store_write(s, "t", in, 4, N * sizeof *in, &err), DG_ERR_INVALID, "which has 10000004");
    dg_free(in);
    dg_free(out);
    b.f->store_destroy(s);
    close_backend(b);
}

/* ---- what it says */

static void too_much_memory_is_an_error_that_says_how_much_and_the_backend_lives_on(void **state)
{
    (void)state;
    dg_error err;
    dg_program *p;
    dg_backend_store *s;
    dg_backend_exe *exe;
    backend b = open_emulated();
    dg_graph *g = dg_graph_create();
    dg_value v = dg_input(g, "x", DG_F32, DG_LIST(1 << 20, 1), DG_PER_BATCH);
    dg_graph_output(g, dg_exp(g, dg_broadcast(g, v, DG_LIST(1 << 20, 1 << 17))), "y");
    ASSERT_OK(dg_program_make(g, "huge", false, &p, &err));
    ASSERT_OK(b.f->store_create(b.self, &s, &err));
    ASSERT_FAILS(b.f->compile(b.self, p, s, &exe, &err), DG_ERR_NOMEM, "program huge: out of device memory");
    b.f->store_destroy(s);
    dg_program_destroy(p);
    dg_graph_destroy(g);
    close_backend(b);
    leaves_can_trade_places_and_be_read(state);
}

static void count_complaint(void *user, uint32_t node, const char *reason)
{
    (void)node;
    (void)reason;
    ++*(int *)user;
}

static void every_node_that_it_cannot_run_is_complained_about(void **state)
{
    (void)state;
    dg_error err;
    dg_program *p;
    int complaints = 0;
    backend b = open_emulated();
    dg_graph *g = dg_graph_create();
    dg_value v = dg_input(g, "x", DG_F16, DG_LIST(4, 4), DG_PER_BATCH);
    dg_graph_output(g, dg_matmul(g, v, v, false, false, DG_NONE), "product");
    dg_graph_output(g, dg_softmax(g, v), "softmax");
    dg_graph_output(g, dg_neg(g, v), "neg");
    ASSERT_OK(dg_program_make(g, "step", false, &p, &err));
    ASSERT_FAILS(b.f->check(b.self, p, count_complaint, &complaints, &err), DG_ERR_UNSUPPORTED,
                 "2 of the 3 nodes");
    assert_int_equal(complaints, 2);
    dg_program_destroy(p);
    dg_graph_destroy(g);
    close_backend(b);
}

static void times_of_nodes_are_gathered_while_profiling(void **state)
{
    (void)state;
    dg_error err;
    backend b = open_emulated();
    dg_node_time times[8];
    uint32_t n = 0;
    const float in[4] = {1, 2, 3, 4};
    const void *inputs[] = {in};
    dg_graph *g = dg_graph_create();
    dg_value v = dg_input(g, "x", DG_F32, DG_LIST(4), DG_PER_BATCH);
    dg_graph_output(g, dg_reduce_sum(g, dg_exp(g, v), DG_LIST(0), false, DG_NONE), "y");
    running r = start(b, g, NULL);
    run_once(&r, inputs);
    b.f->profile(r.exe, true);
    for (int i = 0; i < 3; i++) run_once(&r, inputs);
    ASSERT_OK(b.f->times(r.exe, times, 8, &n, &err));
    assert_int_equal(n, r.program->n_nodes);
    assert_int_equal(times[n - 1].runs, 3);
    assert_true(times[n - 1].seconds > 0);
    b.f->profile(r.exe, false);
    run_once(&r, inputs);
    b.f->store_destroy(r.store);
    stop(&r);
    dg_graph_destroy(g);
    close_backend(b);
}

/* With an argument only the tests whose names hold it. */
int main(int argc, char **argv)
{
    char pattern[64];
    snprintf(pattern, sizeof pattern, "*%s*", argc > 1 ? argv[1] : "");
    cmocka_set_test_filter(pattern);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_agrees_with_the_reference),
        cmocka_unit_test(gradients_of_every_case_agree_with_the_reference),
        cmocka_unit_test(every_case_agrees_in_random_schedules),
        cmocka_unit_test(no_kernel_races),
        cmocka_unit_test(every_pair_of_dtypes_converts_as_the_reference),
        cmocka_unit_test(attention_of_real_widths_agrees_with_the_reference),
        cmocka_unit_test(attention_kernels_do_not_race),
        cmocka_unit_test(a_large_scatter_add_agrees_with_the_reference),
        cmocka_unit_test(a_large_scatter_add_does_not_race),
        cmocka_unit_test(training_in_f32_follows_the_reference),
        cmocka_unit_test(training_in_bf16_follows_the_reference),
        cmocka_unit_test(graph_eager_and_every_schedule_give_the_same_bits),
        cmocka_unit_test(leaves_can_trade_places_and_be_read),
        cmocka_unit_test(an_update_that_reads_its_leaf_in_another_order_is_not_made_in_place),
        cmocka_unit_test(a_tensor_larger_than_the_pinned_buffers_goes_to_the_store_and_back),
        cmocka_unit_test(too_much_memory_is_an_error_that_says_how_much_and_the_backend_lives_on),
        cmocka_unit_test(every_node_that_it_cannot_run_is_complained_about),
        cmocka_unit_test(times_of_nodes_are_gathered_while_profiling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
