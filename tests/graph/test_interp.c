/* test_interp.c - the interpreter: primitives against results written by hand, dtypes, updates, the reference
 * backend. */
#include "run.h"

#include <math.h>
#include <stdlib.h>

/* ---- primitives */

/* Inputs and outputs as numbers, tensors parted by ';'. */
typedef struct example {
    const char *op, *types, *attrs, *in, *out;
} example;

static const example examples[] = {
    {"constant", "", "dtype=i32 dims=[3] data=[1,-2,3]", "", "1 -2 3"},
    {"constant", "", "dtype=f16 dims=[2] data=[0.5,-2]", "", "0.5 -2"},
    {"fill", "", "dtype=f32 dims=[2,2] value=1.5", "", "1.5 1.5 1.5 1.5"},
    {"fill", "", "dtype=i32 dims=[1] value=-2.7", "", "-2"},
    {"iota", "", "dtype=i32 dims=[2,3] axis=1", "", "0 1 2 0 1 2"},
    {"iota", "", "dtype=f32 dims=[2,3] axis=0", "", "0 0 0 1 1 1"},
    {"neg", "f32[3]", "", "1 -2 0.5", "-1 2 -0.5"},
    {"abs", "i32[2]", "", "-3 4", "3 4"},
    {"sign", "f32[3]", "", "-0.5 0 7", "-1 0 1"},
    {"floor", "f32[4]", "", "-0.5 0.5 2 -3", "-1 0 2 -3"},
    {"exp", "f32[2]", "", "0 1", "1 2.718281828459045"},
    {"log", "f32[3]", "", "1 0 7.38905609893065", "0 -inf 2"},
    {"sqrt", "f32[3]", "", "4 2.25 0", "2 1.5 0"},
    {"rsqrt", "f32[2]", "", "4 0.25", "0.5 2"},
    {"tanh", "f32[2]", "", "0 0.5", "0 0.46211715726000975"},
    {"erf", "f32[3]", "", "0 1 -0.5", "0 0.8427007929497149 -0.5204998778130465"},
    {"sin", "f32[1]", "", "0.5", "0.479425538604203"},
    {"cos", "f32[1]", "", "0.5", "0.8775825618903728"},
    {"not", "bool[2]", "", "0 1", "1 0"},
    {"is_finite", "f32[4]", "", "1 inf -inf nan", "1 0 0 0"},
    {"add", "f32[2,2] f32[2]", "", "1 2 3 4; 10 20", "11 22 13 24"},
    {"add", "i32[2] i32[2]", "", "2147483647 -2147483648; 1 -1", "-2147483648 2147483647"},
    {"sub", "f32[2,1] f32[1,2]", "", "1 2; 10 20", "-9 -19 -8 -18"},
    {"sub", "u8[1] u8[1]", "", "3; 5", "254"},
    {"mul", "f32[] f32[3]", "", "2; 1 2 3", "2 4 6"},
    {"mul", "i32[1] i32[1]", "", "1000003; 1000003", "-721379959"},
    {"div", "f32[3] f32[3]", "", "1 1 -1; 4 0 0", "0.25 inf -inf"},
    {"div", "i32[4] i32[4]", "", "7 -7 7 -7; 2 2 -2 -2", "3 -3 -3 3"},
    {"max", "f32[3] f32[]", "", "-1 0.5 nan; 0", "0 0.5 nan"},
    {"min", "f32[3] f32[3]", "", "-1 0.5 2; 0 nan 1", "-1 nan 1"},
    {"and", "bool[4] bool[4]", "", "0 0 1 1; 0 1 0 1", "0 0 0 1"},
    {"or", "bool[4] bool[4]", "", "0 0 1 1; 0 1 0 1", "0 1 1 1"},
    {"eq", "i32[3] i32[3]", "", "1 2 3; 1 0 4", "1 0 0"},
    {"ne", "f32[2] f32[2]", "", "1 nan; 1 nan", "0 1"},
    {"lt", "f32[3] f32[3]", "", "1 2 3; 2 2 2", "1 0 0"},
    {"le", "f32[3] f32[3]", "", "1 2 3; 2 2 2", "1 1 0"},
    {"gt", "f32[3] f32[3]", "", "1 2 3; 2 2 2", "0 0 1"},
    {"ge", "i32[2,1] i32[2]", "", "0 1; 0 1", "1 0 1 1"},
    {"select", "bool[2,1] f32[2] f32[]", "", "1 0; 1 2; 9", "1 2 9 9"},
    {"convert", "f32[7]", "dtype=i32", "1.9 -1.9 3e9 -3e9 nan inf 0",
     "1 -1 2147483647 -2147483648 0 2147483647 0"},
    {"convert", "f32[4]", "dtype=u8", "-1 255.9 300 7.5", "0 255 255 7"},
    {"convert", "f32[3]", "dtype=bool", "0 -0.25 nan", "0 1 1"},
    {"convert", "f32[5]", "dtype=bf16", "1.00390625 1.01171875 -1.00390625 1e39 3", "1 1.015625 -1 inf 3"},
    {"convert", "f32[4]", "dtype=f16", "65519 65520 1.00048828125 5.9604644775390625e-8",
     "65504 inf 1 5.9604644775390625e-8"},
    {"convert", "f32[5]", "dtype=f8e4m3", "448 464 465 0.3 0.001953125", "448 448 nan 0.3125 0.001953125"},
    {"reshape", "f32[2,3]", "dims=[3,-1]", "1 2 3 4 5 6", "1 2 3 4 5 6"},
    {"transpose", "f32[2,3]", "perm=[1,0]", "1 2 3 4 5 6", "1 4 2 5 3 6"},
    {"transpose", "f32[2,2,2]", "perm=[2,0,1]", "1 2 3 4 5 6 7 8", "1 3 5 7 2 4 6 8"},
    {"broadcast", "f32[2,1]", "dims=[2,2,3]", "1 2", "1 1 1 2 2 2 1 1 1 2 2 2"},
    {"slice", "f32[3,3]", "starts=[1,0] limits=[3,2]", "1 2 3 4 5 6 7 8 9", "4 5 7 8"},
    {"pad", "f32[2]", "low=[1] high=[2] value=-1", "5 6", "-1 5 6 -1 -1"},
    {"pad", "f32[1,2]", "low=[1,0] high=[0,1]", "5 6", "0 0 0 5 6 0"},
    {"concat", "f32[2,1] f32[2,2]", "axis=1", "1 2; 3 4 5 6", "1 3 4 2 5 6"},
    {"gather", "f32[3,2] i32[4]", "", "1 2 3 4 5 6; 2 0 -1 9", "5 6 1 2 1 2 5 6"},
    {"gather", "f32[2,2,1] i32[2,3]", "batch=1", "1 2 3 4; 0 1 1 1 1 0", "1 2 2 4 4 3"},
    {"scatter_add", "i32[4] f32[4,1]", "rows=3", "2 0 2 7; 1 2 3 4", "2 0 4"},
    {"scatter_add", "i32[2,2] f32[2,2]", "rows=2 batch=1", "0 0 1 -1; 1 2 3 4", "3 0 0 3"},
    {"reduce_sum", "f32[2,3]", "axes=[1]", "1 2 3 4 5 6", "6 15"},
    {"reduce_sum", "f32[2,1,2]", "axes=[0,2] keep=1", "1 2 3 4", "10"},
    {"reduce_sum", "i32[3]", "axes=[0]", "2147483647 1 5", "-2147483643"},
    {"reduce_max", "f32[2,3]", "axes=[0]", "1 5 nan 4 2 6", "4 5 nan"},
    {"argmax", "f32[2,3]", "axis=1", "1 3 3 9 2 9", "1 0"},
    {"argmax", "f32[3,2]", "axis=0", "1 3 3 9 3 2", "1 1"},
    {"top_k", "f32[2,4]", "k=2", "1 3 3 2 4 1 2 3", "3 3 4 3; 1 2 0 3"},
    {"top_k", "f32[3]", "k=3", "1 2 2", "2 2 1; 1 2 0"},
    {"matmul", "f32[2,2] f32[2,1]", "", "1 2 3 4; 5 6", "17 39"},
    {"matmul", "f32[2,3] f32[2,2]", "ta=1", "1 2 3 4 5 6; 1 0 0 1", "1 4 2 5 3 6"},
    {"matmul", "f32[1,2] f32[2,2]", "tb=1", "1 2; 1 2 3 4", "5 11"},
    {"matmul", "f32[2,1] f32[2,2]", "ta=1 tb=1", "1 2; 1 2 3 4", "5 11"},
    {"matmul", "f32[2,1,2] f32[2,2,1]", "", "1 2 3 4; 1 1 2 2", "3 14"},
    {"matmul", "bf16[1,2] bf16[2,1]", "out=bf16", "1 1; 1 0.00390625", "1"},
    {"all_reduce", "f32[2]", "", "1 2", "1 2"},
    {"reduce_scatter", "f32[2]", "ranks=1", "1 2", "1 2"},
    {"all_gather", "f32[2]", "ranks=1", "1 2", "1 2"},
    {"shard", "i32[2]", "ranks=1", "1 2", "1 2"},
};

/* Compares (or, with `to`, sets) the numbers of one tensor; moves *s behind its ';'. */
static void tensor_of(const char **s, int64_t n, double *to, const double *is, const example *e)
{
    for (int64_t i = 0; i < n; i++) {
        char *end;
        double x = strtod(*s, &end);
        if (end == *s) fail_msg("%s %s: too few numbers in '%s'", e->op, e->types, *s);
        *s = end;
        if (to)
            to[i] = x;
        else if (!(isnan(x) ? isnan(is[i]) : is[i] == x || fabs(is[i] - x) <= 1e-7 * fabs(x)))
            fail_msg("%s %s %s: element %d is %.17g, not %.17g", e->op, e->types, e->attrs, (int)i, is[i], x);
    }
    while (**s == ' ' || **s == ';') ++*s;
}

static void primitives_give_what_is_written_in_their_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        const example *e = &examples[i];
        const dg_case c = {e->op, e->types, e->attrs, ""};
        test_run r = test_case_run(&c, true);
        dg_type t = {0};
        const char *s = e->in;
        char name[32] = "in0";
        for (int k = 0; *s; k++) {
            snprintf(name, sizeof name, "in%d", k);
            double *x = test_run_leaf(&r, name, &t);
            assert_non_null(x);
            tensor_of(&s, dg_type_count(&t), x, NULL, e);
        }
        test_run_go(&r);
        s = e->out;
        for (int k = 0; k < dg_op_find(e->op)->n_out; k++) {
            snprintf(name, sizeof name, "y%d", k);
            const double *y = test_run_output(&r, name, &t);
            tensor_of(&s, dg_type_count(&t), NULL, y, e);
        }
        assert_int_equal(*s, 0);
        test_run_free(&r);
    }
}

static void every_primitive_has_a_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < dg_op_count(); i++) {
        bool found = dg_op_at(i)->cls != DG_PRIM;
        for (size_t k = 0; k < sizeof examples / sizeof examples[0]; k++)
            found |= strcmp(examples[k].op, dg_op_at(i)->name) == 0;
        if (!found) fail_msg("%s has no row", dg_op_at(i)->name);
    }
}

/* ---- dtypes */

static void small_floats_are_stored_as_their_formats_say(void **state)
{
    (void)state;
    static const struct {
        dg_dtype dtype;
        double x;
        uint16_t bits;
    } rows[] = {
        {DG_BF16, 1, 0x3f80},          {DG_BF16, -2.5, 0xc020},       {DG_BF16, INFINITY, 0x7f80},
        {DG_BF16, 1e39, 0x7f80},       {DG_BF16, 0x1p-133, 0x0001},   {DG_BF16, -0.0, 0x8000},
        {DG_BF16, 1.00390625, 0x3f80}, {DG_BF16, 1.01171875, 0x3f82}, {DG_BF16, 0x1.ffp-127, 0x0080},
        {DG_F16, 1, 0x3c00},           {DG_F16, 65504, 0x7bff},       {DG_F16, 65520, 0x7c00},
        {DG_F16, 0x1p-24, 0x0001},     {DG_F16, 0x1p-25, 0x0000},     {DG_F16, 0x1.8p-25, 0x0001},
        {DG_F16, -INFINITY, 0xfc00},   {DG_F16, 0x1p-14, 0x0400},     {DG_F8E4M3, 1, 0x38},
        {DG_F8E4M3, 448, 0x7e},        {DG_F8E4M3, -448, 0xfe},       {DG_F8E4M3, 500, 0x7f},
        {DG_F8E4M3, INFINITY, 0x7f},   {DG_F8E4M3, 0x1p-9, 0x01},     {DG_F8E4M3, 0x1p-6, 0x08},
        {DG_F8E4M3, 0x1p-10, 0x00},    {DG_F8E4M3, NAN, 0x7f},        {DG_F8E4M3, 17, 0x58},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint16_t bits = 0;
        dg_from_doubles(rows[i].dtype, &rows[i].x, 1, &bits);
        if (bits != rows[i].bits)
            fail_msg("%s of %g is %x, not %x", dg_dtype_name(rows[i].dtype), rows[i].x, bits, rows[i].bits);
    }
}

static void every_pattern_of_a_small_float_survives_the_round_trip(void **state)
{
    (void)state;
    static const dg_dtype dtypes[] = {DG_BF16, DG_F16, DG_F8E4M3};
    for (size_t d = 0; d < 3; d++) {
        unsigned n = dg_dtype_size(dtypes[d]) == 1 ? 256 : 65536;
        for (unsigned bits = 0; bits < n; bits++) {
            uint16_t in = (uint16_t)bits, out = 0;
            double x;
            dg_to_doubles(dtypes[d], &in, 1, &x);
            dg_from_doubles(dtypes[d], &x, 1, &out);
            if (!isnan(x)) assert_int_equal(in, out);
            if (dtypes[d] == DG_BF16 && !isnan(x)) assert_true(x == (double)dg_bf16_to_f32(in));
        }
    }
}

static void bf16_rounding_agrees_with_the_header(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x7f800000u; bits += 104729) {
        float f;
        uint16_t h;
        memcpy(&f, &bits, sizeof f);
        double x = f;
        dg_from_doubles(DG_BF16, &x, 1, &h);
        assert_int_equal(h, dg_f32_to_bf16(f));
    }
}

/* ---- running */

static dg_value state_leaf(dg_graph *g, const char *name, dg_dtype dtype)
{
    dg_leaf leaf = {.struct_size = (uint32_t)sizeof leaf,
                    .kind = DG_LEAF_STATE,
                    .name = name,
                    .type = {(int32_t)dtype, 1, {2}}};
    return g->api->leaf(g, &leaf);
}

static void updates_see_the_values_from_before_the_run(void **state)
{
    (void)state;
    dg_graph *g = dg_graph_create();
    dg_value a = state_leaf(g, "a", DG_F32), b = state_leaf(g, "b", DG_F32), n = state_leaf(g, "n", DG_F32);
    dg_graph_update(g, a, b); /* they swap */
    dg_graph_update(g, b, a);
    dg_graph_update(g, n, dg_add(g, n, a));
    test_run r = test_run_make(g, true, "swap");
    dg_graph_destroy(g);
    dg_type t;
    double *x = test_run_leaf(&r, "a", &t), *y = test_run_leaf(&r, "b", &t), *z = test_run_leaf(&r, "n", &t);
    x[0] = 1;
    y[0] = 10;
    for (int step = 0; step < 3; step++) {
        test_run_go(&r);
        dg_interp_update(r.interp);
    }
    assert_true(x[0] == 10 && y[0] == 1 && z[0] == 12);
    test_run_free(&r);
}

static void rounding_is_done_only_when_asked_for(void **state)
{
    (void)state;
    const dg_case c = {"fill", "", "dtype=f32 dims=[1] value=0.1", ""};
    for (int round = 0; round < 2; round++) {
        dg_type t;
        test_run r = test_case_run(&c, round);
        test_run_go(&r);
        assert_true(test_run_output(&r, "y0", &t)[0] == (round ? (double)0.1f : 0.1));
        test_run_free(&r);
    }
}

/* A program that still has a softmax. */
static dg_program *softmax_program(void)
{
    dg_error err = DG_ERROR_INIT;
    dg_program *p;
    dg_graph *g = dg_graph_create();
    dg_push(g, "head");
    dg_graph_output(g, dg_softmax(g, dg_input(g, "x", DG_F32, DG_LIST(3), DG_PER_BATCH)), "y");
    ASSERT_OK(dg_program_make(g, "eval", false, &p, &err));
    dg_graph_destroy(g);
    return p;
}

static void composites_are_refused_with_their_name_and_place(void **state)
{
    (void)state;
    dg_error err;
    dg_interp *it;
    dg_program *p = softmax_program();
    ASSERT_FAILS(dg_interp_create(p, true, &it, &err), DG_ERR_UNSUPPORTED, "in 'head' is 'softmax'");
    assert_null(it);
    dg_program_destroy(p);
    const dg_work work = {.struct_size = sizeof work, .op = "gelu"};
    ASSERT_FAILS(dg_eval(&work, NULL, NULL, &err), DG_ERR_UNSUPPORTED, "'gelu' is no primitive");
}

/* ---- the reference backend */

static const dg_backend_interface *reference(void)
{
    return dg_reference_backend.interface;
}

static void count(void *user, uint32_t node, const char *reason)
{
    assert_int_equal(node, 0);
    assert_non_null(strstr(reason, "primitives"));
    ++*(int *)user;
}

static void the_reference_backend_names_what_it_cannot_run(void **state)
{
    (void)state;
    const dg_backend_interface *b = reference();
    dg_error err;
    void *self;
    int complaints = 0;
    dg_program *p = softmax_program();
    ASSERT_OK(b->create(NULL, NULL, &self, &err));
    const dg_work work = {.struct_size = sizeof work, .op = "softmax"};
    assert_false(b->supports(self, &work));
    ASSERT_FAILS(b->check(self, p, count, &complaints, &err), DG_ERR_UNSUPPORTED, "'softmax' in 'head'");
    assert_int_equal(complaints, 1);
    b->destroy(self);
    dg_program_destroy(p);
}

/* total += x (bf16); y = total before it. */
static dg_program *counter_program(void)
{
    dg_error err = DG_ERROR_INIT;
    dg_program *p;
    dg_graph *g = dg_graph_create();
    dg_value total = state_leaf(g, "total", DG_BF16), x = dg_input(g, "x", DG_BF16, DG_LIST(2), DG_PER_BATCH);
    dg_graph_update(g, total, dg_add(g, total, x));
    dg_graph_output(g, dg_convert(g, total, DG_F32), "y");
    ASSERT_OK(dg_program_make(g, "count", false, &p, &err));
    dg_graph_destroy(g);
    return p;
}

static void the_reference_backend_keeps_state_between_runs(void **state)
{
    (void)state;
    const dg_backend_interface *b = reference();
    dg_error err;
    void *self;
    dg_backend_store *store;
    dg_backend_exe *exe;
    dg_program *p = counter_program();
    ASSERT_OK(b->create(NULL, NULL, &self, &err));
    ASSERT_OK(b->store_create(self, &store, &err));
    ASSERT_OK(b->compile(self, p, store, &exe, &err));
    const uint16_t start[2] = {dg_f32_to_bf16(256), dg_f32_to_bf16(1)},
                   x[2] = {dg_f32_to_bf16(1), dg_f32_to_bf16(2)};
    uint16_t end[2];
    float y[2];
    ASSERT_OK(b->store_write(store, "total", start, 0, sizeof start, &err));
    const void *inputs[] = {x};
    void *outputs[] = {y};
    const dg_run run = {(uint32_t)sizeof run, 1, inputs, 1, 0, outputs};
    b->profile(exe, true);
    for (int step = 0; step < 2; step++) ASSERT_OK(b->run(exe, &run, &err));
    ASSERT_OK(b->store_read(store, "total", end, 0, sizeof end, &err));
    /* 256 + 1 is a tie in bf16 and goes to the even 256, every time. */
    assert_true(dg_bf16_to_f32(end[0]) == 256 && dg_bf16_to_f32(end[1]) == 5);
    assert_true(y[0] == 256 && y[1] == 3);
    dg_node_time times[8];
    uint32_t n;
    ASSERT_OK(b->times(exe, times, 8, &n, &err));
    assert_int_equal(n, p->n_nodes);
    assert_int_equal(times[0].runs, 2);
    const dg_run none = {(uint32_t)sizeof none, 0, NULL, 1, 0, outputs};
    ASSERT_FAILS(b->run(exe, &none, &err), DG_ERR_INVALID, "takes 1 inputs and gives 1 outputs, not 0 and 1");
    b->release(exe);
    b->store_destroy(store);
    b->destroy(self);
    dg_program_destroy(p);
}

static void the_reference_store_checks_names_types_and_ranges(void **state)
{
    (void)state;
    const dg_backend_interface *b = reference();
    dg_error err;
    void *self;
    dg_backend_store *store;
    const dg_type t = {DG_F32, 1, {2}}, other = {DG_F32, 1, {3}};
    float x[2] = {1, 2};
    ASSERT_OK(b->create(NULL, NULL, &self, &err));
    ASSERT_OK(b->store_create(self, &store, &err));
    ASSERT_OK(b->store_add(store, "w", &t, &err));
    ASSERT_OK(b->store_add(store, "w", &t, &err));
    ASSERT_FAILS(b->store_add(store, "w", &other, &err), DG_ERR_MISMATCH, "'w' as f32[2], not f32[3]");
    ASSERT_FAILS(b->store_read(store, "v", x, 0, 4, &err), DG_ERR_NOT_FOUND, "no tensor 'v'");
    ASSERT_FAILS(b->store_write(store, "w", x, 4, 8, &err), DG_ERR_INVALID, "'w' has 8 bytes");
    ASSERT_FAILS(b->store_write(store, "w", x, UINT64_MAX, 2, &err), DG_ERR_INVALID, "outside");
    ASSERT_OK(b->store_write(store, "w", &x[1], 4, 4, &err));
    ASSERT_OK(b->store_read(store, "w", x, 0, 8, &err));
    assert_true(x[0] == 0 && x[1] == 2);
    b->store_destroy(store);
    b->destroy(self);
}

static void memory_failures_are_errors(void **state)
{
    (void)state;
    const dg_backend_interface *b = reference();
    dg_error err = DG_ERROR_INIT;
    void *self;
    dg_program *p = counter_program();
    ASSERT_OK(b->create(NULL, NULL, &self, &err));
    bool done = false;
    for (size_t n = 1; n < 200 && !done; n++) {
        dg_backend_store *store = NULL;
        dg_backend_exe *exe = NULL;
        dg_alloc_fail_at(n);
        dg_status s = b->store_create(self, &store, &err);
        if (s == DG_OK) s = b->compile(self, p, store, &exe, &err);
        dg_alloc_fail_at(0);
        assert_true(s == DG_OK || s == DG_ERR_NOMEM);
        done = s == DG_OK;
        b->release(exe);
        b->store_destroy(store);
    }
    assert_true(done);
    dg_program_destroy(p);
    b->destroy(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(primitives_give_what_is_written_in_their_row),
        cmocka_unit_test(every_primitive_has_a_row),
        cmocka_unit_test(small_floats_are_stored_as_their_formats_say),
        cmocka_unit_test(every_pattern_of_a_small_float_survives_the_round_trip),
        cmocka_unit_test(bf16_rounding_agrees_with_the_header),
        cmocka_unit_test(updates_see_the_values_from_before_the_run),
        cmocka_unit_test(rounding_is_done_only_when_asked_for),
        cmocka_unit_test(composites_are_refused_with_their_name_and_place),
        cmocka_unit_test(the_reference_backend_names_what_it_cannot_run),
        cmocka_unit_test(the_reference_backend_keeps_state_between_runs),
        cmocka_unit_test(the_reference_store_checks_names_types_and_ranges),
        cmocka_unit_test(memory_failures_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
