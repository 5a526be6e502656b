/* test_cpu_shapes.c - shapes and combinations beyond the op table's small cases: blocks, tails, strides,
 * fused chains; against the reference, with every set of kernels. */
#include "cpu_backend.h"

/* What a test builds on numbers: adds outputs to g, in the compute dtype. */
typedef void (*builder)(dg_graph *g, dg_dtype dtype);

static dg_value in(dg_graph *g, const char *name, dg_dtype dtype, const int64_t *dims, size_t rank)
{
    return dg_input(g, name, dtype, dims, rank, DG_PER_BATCH);
}

static bool agrees(backend b, backend ref, builder build, dg_dtype dtype)
{
    dg_error err;
    dg_graph *g = dg_graph_create();
    build(g, dtype);
    ASSERT_OK(dg_graph_error(g, &err));
    running mine = start(b, g, NULL), theirs = start(ref, g, NULL);
    const dg_program *p = mine.program;
    bool good = true;
    run_on_numbers(&mine);
    run_on_numbers(&theirs);
    for (uint32_t k = 0; k < p->n_outputs; k++) {
        const dg_type *t = &p->values[p->outputs[k].value].type;
        double off = worst(t, mine.outputs[k], theirs.outputs[k]), most = allowed(theirs.program, t);
        if (off <= most) continue;
        print_error("%s: %s is off by %.3g, more than %.3g\n", dg_dtype_name(dtype), p->outputs[k].name, off,
                    most);
        good = false;
    }
    b.f->store_destroy(mine.store);
    ref.f->store_destroy(theirs.store);
    stop(&mine);
    stop(&theirs);
    dg_graph_destroy(g);
    return good;
}

/* In f32 and bf16, with every set of kernels. */
static void with_every_set_of_kernels(builder build)
{
    backend ref = reference_backend();
    int bad = 0;
    for (int isa = 0; isa < N_ISAS; isa++) {
        backend b = cpu_backend(2, isa);
        if (!b.self) continue;
        for (int k = 0; k < 2; k++) {
            if (agrees(b, ref, build, k ? DG_BF16 : DG_F32)) continue;
            print_error("with the %s kernels\n", isas[isa]);
            bad++;
        }
        b.f->destroy(b.self);
    }
    ref.f->destroy(ref.self);
    assert_int_equal(bad, 0);
}

static void put_out(dg_graph *g, dg_value v, const char *name)
{
    dg_graph_output(g, v, name);
}

/* ---- attention: blocks of queries, tails of 16, odd widths, parts of a qkv, groups that end early, bias */

typedef struct attention_shape {
    int64_t batch, heads, nq, nk, d;
    int groups; /* 0 none, 1 for all samples, 2 for each */
    bool strict, bias, packed;
} attention_shape;

static const attention_shape shapes[] = {
    {2, 3, 70, 70, 16, 0, false, false, true}, {1, 2, 53, 131, 20, 2, false, false, false},
    {2, 2, 49, 33, 7, 1, true, true, false},   {3, 1, 100, 17, 64, 1, false, false, false},
    {1, 1, 13, 15, 1, 0, false, true, false},  {2, 2, 65, 65, 48, 1, false, true, true},
};

static void build_attention(dg_graph *g, dg_dtype dtype)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const attention_shape *s = &shapes[i];
        int64_t width = s->heads * s->d;
        char name[32];
        dg_value q, k, v, gq = DG_NO_VALUE, gk = DG_NO_VALUE, bias = DG_NO_VALUE;
        snprintf(name, sizeof name, "a%zu", i);
        dg_push(g, "%s", name);
        if (s->packed) {
            dg_value qkv = in(g, "qkv", dtype, DG_LIST(s->batch, s->nq, 3 * width));
            dg_value *const part[] = {&q, &k, &v};
            for (int64_t p = 0; p < 3; p++)
                *part[p] =
                    dg_slice(g, qkv, DG_LIST(0, 0, p * width), DG_LIST(s->batch, s->nq, (p + 1) * width));
        } else {
            q = in(g, "q", dtype, DG_LIST(s->batch, s->nq, width));
            k = in(g, "k", dtype, DG_LIST(s->batch, s->nk, width));
            v = in(g, "v", dtype, DG_LIST(s->batch, s->nk, width));
        }
        int64_t b = s->groups == 2 ? s->batch : 1;
        if (s->groups) gq = in(g, "gq", DG_I32, DG_LIST(b, s->nq));
        if (s->groups) gk = in(g, "gk", DG_I32, DG_LIST(b, s->nk));
        if (s->bias) bias = in(g, "bias", DG_F32, DG_LIST(1, s->heads, s->nq, s->nk));
        dg_value y = dg_attention(g, q, k, v, gq, gk, bias, s->heads, 0, s->strict);
        dg_value dy = in(g, "dy", dtype, DG_LIST(s->batch, s->nq, width));
        dg_value d =
            dg_attention_grad(g, dy, q, k, v, y, dg_output(y, 1), gq, gk, bias, s->heads, 0, s->strict);
        dg_pop(g);
        const dg_value out[] = {y, dg_output(y, 1), d, dg_output(d, 1), dg_output(d, 2), dg_output(d, 3)};
        static const char *const names[] = {"y", "lse", "dq", "dk", "dv", "dbias"};
        for (int o = 0; o < 6; o++) {
            snprintf(name, sizeof name, "a%zu.%s", i, names[o]);
            put_out(g, out[o], name);
        }
    }
}

static void attention_of_many_shapes_agrees(void **state)
{
    (void)state;
    with_every_set_of_kernels(build_attention);
}

/* ---- rows wider and narrower than a vector, more rows than a chunk */

static void build_rows(dg_graph *g, dg_dtype dtype)
{
    static const int64_t widths[] = {1, 15, 16, 31, 33, 100, 1000};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        int64_t w = widths[i], rows = w > 100 ? 40 : 70;
        char name[32];
        snprintf(name, sizeof name, "w%d", (int)w);
        dg_push(g, "%s", name);
        dg_value x = in(g, "x", dtype, DG_LIST(rows, w)), dy = in(g, "dy", DG_F32, DG_LIST(rows, w));
        dg_value gamma = in(g, "gamma", DG_F32, DG_LIST(w));
        dg_value y = dg_layer_norm(g, x, gamma, DG_NO_VALUE, 1e-3, DG_F32);
        dg_value d = dg_layer_norm_grad(g, dy, x, dg_output(y, 1), dg_output(y, 2), gamma);
        dg_value soft = dg_softmax(g, x), unit = dg_normalize(g, x, 1e-6);
        dg_value ids = in(g, "ids", DG_I32, DG_LIST(rows)), entropy = dg_cross_entropy(g, x, ids, 0.1);
        dg_pop(g);
        const dg_value out[] = {y, d, dg_output(d, 1), dg_output(d, 2), soft, unit, entropy};
        static const char *const names[] = {"norm", "dx", "dgamma", "dbeta", "softmax", "unit", "entropy"};
        for (int o = 0; o < 7; o++) {
            snprintf(name, sizeof name, "w%d.%s", (int)w, names[o]);
            put_out(g, out[o], name);
        }
    }
}

static void rows_of_many_widths_agree(void **state)
{
    (void)state;
    with_every_set_of_kernels(build_rows);
}

/* ---- reductions that are cut into pieces, and products that are cut into strips */

static void build_reductions(dg_graph *g, dg_dtype dtype)
{
    dg_value tall = in(g, "tall", dtype, DG_LIST(1100, 70)), long_ = in(g, "long", dtype, DG_LIST(3, 20000));
    dg_value box = in(g, "box", dtype, DG_LIST(5, 300, 3, 7)),
             wide = in(g, "wide", DG_I32, DG_LIST(700, 300));
    put_out(g, dg_reduce_sum(g, tall, DG_LIST(0), false, DG_F32), "columns");
    put_out(g, dg_reduce_sum(g, long_, DG_LIST(1), false, DG_F32), "rows");
    put_out(g, dg_reduce_sum(g, box, DG_LIST(1, 3), true, DG_F32), "middle and last");
    put_out(g, dg_reduce_sum(g, box, DG_LIST(0, 2), false, DG_F32), "first and third");
    put_out(g, dg_reduce_max(g, box, DG_LIST(0, 1), false), "maximum");
    put_out(g, dg_reduce_max(g, long_, DG_LIST(0, 1), false), "maximum of all");
    put_out(g, dg_reduce_sum(g, wide, DG_LIST(0), false, DG_NONE), "whole numbers");
    put_out(g, dg_argmax(g, tall, 0), "argmax");
}

static void reductions_in_pieces_agree(void **state)
{
    (void)state;
    with_every_set_of_kernels(build_reductions);
}

static void build_products(dg_graph *g, dg_dtype dtype)
{
    static const int64_t sizes[][4] = {
        {1, 130, 33, 200}, {1, 64, 1, 77}, {1, 1, 50, 3}, {3, 65, 20, 40}, {1, 1100, 5, 9}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int t = 0; t < 4; t++) {
            int64_t b = sizes[i][0], m = sizes[i][1], n = sizes[i][2], k = sizes[i][3];
            bool ta = t & 1, tb = t & 2;
            char name[32];
            snprintf(name, sizeof name, "p%zu%d", i, t);
            dg_push(g, "%s", name);
            dg_value x = in(g, "a", dtype, DG_LIST(b, ta ? k : m, ta ? m : k));
            dg_value y = in(g, "b", dtype, DG_LIST(b, tb ? n : k, tb ? k : n));
            dg_pop(g);
            put_out(g, dg_matmul(g, x, y, ta, tb, t ? DG_F32 : DG_NONE), name);
        }
}

static void products_of_many_shapes_agree(void **state)
{
    (void)state;
    with_every_set_of_kernels(build_products);
}

/* ---- chains: long ones, strided leaves, pads that add up, one value for several readers */

static void build_chains(dg_graph *g, dg_dtype dtype)
{
    dg_value x = in(g, "x", dtype, DG_LIST(6, 37, 50)), row = in(g, "row", dtype, DG_LIST(50));
    dg_value column = in(g, "column", dtype, DG_LIST(37, 1)),
             flag = in(g, "flag", DG_BOOL, DG_LIST(6, 1, 50));
    dg_value sum = dg_add(g, dg_mul(g, x, row), column);
    put_out(g, dg_select(g, flag, dg_tanh(g, sum), dg_neg(g, sum)), "shared sum");
    dg_value turned = dg_transpose(g, x, DG_LIST(2, 0, 1)); // [50, 6, 37]
    put_out(g, dg_mul(g, turned, turned), "turned");
    put_out(g, dg_exp(g, dg_reshape(g, turned, DG_LIST(300, 37))), "turned and reshaped");
    put_out(g, dg_reshape(g, dg_abs(g, dg_reshape(g, x, DG_LIST(6 * 37, 50))), DG_LIST(37, 300)),
            "reshaped inside");
    put_out(g, dg_reshape(g, turned, DG_LIST(-1)), "turned flat");
    dg_value total = DG_NO_VALUE;
    for (int64_t p = 0; p < 3; p++) {
        dg_value part = dg_slice(g, x, DG_LIST(0, 0, 10 * p), DG_LIST(6, 37, 10 * p + 10));
        dg_value wide =
            dg_convert(g, dg_pad(g, part, DG_LIST(0, 0, 10 * p), DG_LIST(0, 0, 20 - 10 * p), 0), DG_F32);
        total = p ? dg_add(g, total, wide) : wide;
    }
    put_out(g, dg_convert(g, total, dtype), "pads that add up");
    put_out(g,
            dg_pad(g, dg_slice(g, x, DG_LIST(1, 2, 3), DG_LIST(5, 30, 40)), DG_LIST(0, 1, 2),
                   DG_LIST(3, 0, 1), -1.5),
            "pad of a slice");
    const dg_value parts[] = {dg_neg(g, x), turned, dg_fill(g, dtype, DG_LIST(6, 2, 50), 0.25)};
    put_out(g, dg_concat(g, (const dg_value[]){parts[0], x, parts[2]}, 3, 1), "concat of computed parts");
    put_out(g, dg_concat(g, (const dg_value[]){turned, turned}, 2, 2), "concat of turned parts");
    dg_value deep = x;
    for (int i = 0; i < 30; i++) deep = dg_add(g, dg_mul(g, deep, row), i % 2 ? x : column);
    put_out(g, dg_tanh(g, deep), "deep");
    dg_value tree[16];
    for (int i = 0; i < 16; i++) tree[i] = i % 3 ? dg_mul(g, x, row) : dg_sub(g, column, x);
    for (int n = 16; n > 1; n /= 2)
        for (int i = 0; i < n / 2; i++) tree[i] = dg_max(g, tree[2 * i], dg_neg(g, tree[2 * i + 1]));
    put_out(g, tree[0], "tree");
    put_out(g, dg_broadcast(g, dg_gelu(g, column, false), DG_LIST(6, 37, 50)), "broadcast of computed");
    put_out(g, dg_broadcast(g, dg_fill(g, dtype, NULL, 0, 3), DG_LIST(2, 3)), "broadcast fill");
    put_out(g, dg_softmax(g, dg_slice(g, x, DG_LIST(0, 5, 5), DG_LIST(6, 10, 45))), "softmax of a slice");
    put_out(g, dg_slice(g, x, DG_LIST(2, 0, 0), DG_LIST(4, 37, 50)), "slice in one piece");
}

static void chains_and_views_agree(void **state)
{
    (void)state;
    with_every_set_of_kernels(build_chains);
}

/* ---- rows by index */

static void build_index(dg_graph *g, dg_dtype dtype)
{
    dg_value table = in(g, "table", dtype, DG_LIST(3, 40)), ids = in(g, "ids", DG_I32, DG_LIST(500));
    dg_value many = in(g, "many", dtype, DG_LIST(500, 40));
    put_out(g, dg_gather(g, table, ids, false), "gather");
    put_out(g, dg_scatter_add(g, ids, many, 3, false), "scatter");
    dg_value ids2 = in(g, "ids2", DG_I32, DG_LIST(4, 125));
    put_out(g, dg_scatter_add(g, ids2, dg_reshape(g, many, DG_LIST(4, 125, 40)), 5, true),
            "scatter in groups");
    put_out(g, dg_top_k(g, many, 7), "top");
}

static void rows_by_index_agree(void **state)
{
    (void)state;
    with_every_set_of_kernels(build_index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_of_many_shapes_agrees), cmocka_unit_test(rows_of_many_widths_agree),
        cmocka_unit_test(reductions_in_pieces_agree),      cmocka_unit_test(products_of_many_shapes_agree),
        cmocka_unit_test(chains_and_views_agree),          cmocka_unit_test(rows_by_index_agree),
    };
    return cmocka_run_group_tests(tests, open_module, NULL);
}
