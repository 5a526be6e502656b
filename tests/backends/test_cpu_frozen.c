/* test_cpu_frozen.c - frozen weights of the cpu backend: the order in which they are kept, and their products
 * in 8-bit integers. */
#include "cpu_backend.h"

enum { ROWS = 300, IN = 320, OUT = 192 };

/* y = linear(x, w), or linear_int8 with `outlier`, of a frozen w. */
static dg_graph *product(dg_dtype dtype, bool int8, double outlier)
{
    dg_graph *g = dg_graph_create();
    dg_value x = dg_input(g, "x", dtype, DG_LIST(ROWS, IN), DG_PER_BATCH);
    dg_leaf leaf = {.struct_size = sizeof leaf,
                    .kind = DG_LEAF_FROZEN,
                    .name = "w",
                    .type = dg_make_type(dtype, DG_LIST(OUT, IN)),
                    .layer = -1};
    dg_value w = g->api->leaf(g, &leaf);
    dg_graph_output(g,
                    int8 ? dg_linear_int8(g, x, w, DG_NO_VALUE, outlier, DG_F32)
                         : dg_linear(g, x, w, DG_NO_VALUE, DG_F32),
                    "y");
    return g;
}

static void write_w(running *r, const void *w, uint64_t bytes)
{
    dg_error err;
    ASSERT_OK(r->b.f->store_write(r->store, "w", w, 0, bytes, &err));
}

static void a_packed_weight_is_read_and_written_as_if_it_were_not(void **state)
{
    (void)state;
    dg_error err;
    backend b = cpu_backend(2, -1);
    dg_graph *g = product(DG_BF16, false, 0);
    running r = start(b, g, NULL);
    dg_type tw = dg_make_type(DG_BF16, DG_LIST(OUT, IN)), tx = dg_make_type(DG_BF16, DG_LIST(ROWS, IN)),
            ty = dg_make_type(DG_F32, DG_LIST(ROWS, OUT));
    uint64_t bytes = (uint64_t)dg_type_bytes(&tw), half = bytes / 2;
    void *w = numbers(&tw, "w", 1), *x = numbers(&tx, "x", 1), *back = dg_calloc(1, bytes),
         *first = dg_calloc(1, (size_t)dg_type_bytes(&ty));
    write_w(&r, w, bytes);
    run_once(&r, (const void *const[]){x});
    memcpy(first, r.outputs[0], (size_t)dg_type_bytes(&ty));
    ASSERT_OK(b.f->store_read(r.store, "w", back, 0, bytes, &err));
    assert_memory_equal(back, w, bytes);
    run_once(&r, (const void *const[]){x});
    assert_memory_equal(first, r.outputs[0], (size_t)dg_type_bytes(&ty));
    /* Half of it is written anew, to what it was: the result stays. */
    ASSERT_OK(b.f->store_write(r.store, "w", (char *)w + half, half, bytes - half, &err));
    run_once(&r, (const void *const[]){x});
    assert_memory_equal(first, r.outputs[0], (size_t)dg_type_bytes(&ty));
    /* Another program reads the same weight in turn with the first one. */
    dg_graph *h = product(DG_BF16, true, 10);
    running other = start(b, h, r.store);
    for (int i = 0; i < 2; i++) {
        run_once(&other, (const void *const[]){x});
        run_once(&r, (const void *const[]){x});
        assert_memory_equal(first, r.outputs[0], (size_t)dg_type_bytes(&ty));
    }
    stop(&other);
    stop(&r);
    b.f->store_destroy(r.store);
    b.f->destroy(b.self);
    dg_graph_destroy(g);
    dg_graph_destroy(h);
    dg_free(w);
    dg_free(x);
    dg_free(back);
    dg_free(first);
}

/* Mean over rows of the cosine between the product in integers and in double precision. */
static double mean_cosine(const float *x, const float *w, double outlier, int64_t threads, float *y)
{
    backend b = cpu_backend(threads, -1);
    dg_graph *g = product(DG_F32, true, outlier);
    running r = start(b, g, NULL);
    write_w(&r, w, (uint64_t)OUT * IN * sizeof *w);
    run_once(&r, (const void *const[]){x});
    memcpy(y, r.outputs[0], sizeof(float) * ROWS * OUT);
    double sum = 0;
    for (int i = 0; i < ROWS; i++) {
        double ee = 0, yy = 0, ey = 0;
        for (int j = 0; j < OUT; j++) {
            double e = 0, v = y[i * OUT + j];
            for (int k = 0; k < IN; k++) e += (double)x[i * IN + k] * w[j * IN + k];
            ee += e * e;
            yy += v * v;
            ey += e * v;
        }
        sum += ey / sqrt(ee * yy);
    }
    stop(&r);
    b.f->store_destroy(r.store);
    b.f->destroy(b.self);
    dg_graph_destroy(g);
    return sum / ROWS;
}

static void planted_outliers_cost_no_accuracy_in_integers(void **state)
{
    (void)state;
    dg_type tw = dg_make_type(DG_F32, DG_LIST(OUT, IN)), tx = dg_make_type(DG_F32, DG_LIST(ROWS, IN));
    float *w = numbers(&tw, "w", 1), *x = numbers(&tx, "x", 1);
    float *y = dg_calloc(ROWS * OUT, sizeof *y), *again = dg_calloc(ROWS * OUT, sizeof *again);
    assert_true(mean_cosine(x, w, 0, 0, y) > 0.9999);
    /* As in large transformers: few channels, the same in all tokens, a hundred times the others. Their own
     * part of the result is taken out, so that what is left of the others shows. */
    for (int i = 0; i < ROWS; i++) x[i * IN + 7] = x[i * IN + 200] = 100 + (float)(i % 3);
    for (int j = 0; j < OUT; j++) w[j * IN + 200] = -w[j * IN + 7];
    assert_true(mean_cosine(x, w, 0, 0, y) < 0.98);
    assert_true(mean_cosine(x, w, 10, 1, y) > 0.999);
    mean_cosine(x, w, 10, 3, again);
    assert_memory_equal(y, again, ROWS * OUT * sizeof *y);
    dg_free(w);
    dg_free(x);
    dg_free(y);
    dg_free(again);
}

static void a_row_that_is_not_finite_stays_so(void **state)
{
    (void)state;
    dg_type tw = dg_make_type(DG_F32, DG_LIST(OUT, IN)), tx = dg_make_type(DG_F32, DG_LIST(ROWS, IN));
    float *w = numbers(&tw, "w", 1), *x = numbers(&tx, "x", 1), *y = dg_calloc(ROWS * OUT, sizeof *y);
    x[5 * IN + 3] = NAN;
    x[6 * IN + 4] = INFINITY;
    mean_cosine(x, w, 10, 0, y);
    for (int j = 0; j < OUT; j++) {
        assert_false(isfinite(y[5 * OUT + j]));
        assert_false(isfinite(y[6 * OUT + j]));
        assert_true(isfinite(y[7 * OUT + j]));
    }
    dg_free(w);
    dg_free(x);
    dg_free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packed_weight_is_read_and_written_as_if_it_were_not),
        cmocka_unit_test(planted_outliers_cost_no_accuracy_in_integers),
        cmocka_unit_test(a_row_that_is_not_finite_stays_so),
    };
    return cmocka_run_group_tests(tests, open_module, NULL);
}
