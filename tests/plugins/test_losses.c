/* The losses against their formulas, on numbers made here. */
#include "plugin_test.h"

enum { BATCH = 2, POSITIONS = 3, WIDTH = 5, COUNT = BATCH * POSITIONS * WIDTH };

/* Runs a loss on fixed numbers; out [BATCH, POSITIONS]. */
static void run_loss(const char *name, const char *setting, double *p, double *t, double *out)
{
    dg_error err;
    dg_component c;
    ASSERT_OK(
        dg_component_make(plugins(), DG_LOSS_INTERFACE, name, &setting, setting ? 1 : 0, NULL, &c, &err));
    dg_graph *g = dg_graph_create();
    dg_value prediction = dg_input(g, "p", DG_F32, DG_LIST(BATCH, POSITIONS, WIDTH), DG_PER_SAMPLE);
    dg_value target = dg_input(g, "t", DG_F32, DG_LIST(BATCH, POSITIONS, WIDTH), DG_PER_SAMPLE);
    dg_value loss = build_loss(&c, g, prediction, target);
    assert_dims(g, loss, DG_LIST(BATCH, POSITIONS));
    dg_graph_output(g, loss, "loss");
    runner r = {0};
    runner_start(&r, g);
    for (int i = 0; i < COUNT; i++) {
        p[i] = runner_leaf(&r, "p", NULL)[i] = sin(1.7 * i) * 2;
        t[i] = runner_leaf(&r, "t", NULL)[i] = cos(0.9 * i * i);
    }
    runner_run(&r);
    memcpy(out, runner_output(&r, "loss", NULL), BATCH * POSITIONS * sizeof *out);
    runner_end(&r);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void cosine_is_the_squared_distance_of_unit_vectors(void **state)
{
    (void)state;
    double p[COUNT], t[COUNT], loss[BATCH * POSITIONS], want[BATCH * POSITIONS];
    run_loss("cosine", NULL, p, t, loss);
    for (int i = 0; i < BATCH * POSITIONS; i++) {
        double pp = 0, tt = 0;
        for (int k = 0; k < WIDTH; k++)
            pp += p[i * WIDTH + k] * p[i * WIDTH + k], tt += t[i * WIDTH + k] * t[i * WIDTH + k];
        want[i] = 0;
        for (int k = 0; k < WIDTH; k++) {
            double d = p[i * WIDTH + k] / sqrt(pp) - t[i * WIDTH + k] / sqrt(tt);
            want[i] += d * d;
        }
    }
    assert_close("cosine", loss, want, BATCH * POSITIONS, 1e-12);
}

static void mse_is_a_mean_over_the_width(void **state)
{
    (void)state;
    double p[COUNT], t[COUNT], loss[BATCH * POSITIONS], want[BATCH * POSITIONS] = {0};
    run_loss("mse", NULL, p, t, loss);
    for (int i = 0; i < COUNT; i++) want[i / WIDTH] += (p[i] - t[i]) * (p[i] - t[i]) / WIDTH;
    assert_close("mse", loss, want, BATCH * POSITIONS, 1e-12);
}

static void smooth_l1_is_square_inside_beta_and_straight_outside(void **state)
{
    (void)state;
    double p[COUNT], t[COUNT], loss[BATCH * POSITIONS], want[BATCH * POSITIONS] = {0};
    int inside = 0;
    run_loss("smooth_l1", "beta=0.5", p, t, loss);
    for (int i = 0; i < COUNT; i++) {
        double d = fabs(p[i] - t[i]);
        inside += d < 0.5;
        want[i / WIDTH] += (d < 0.5 ? d * d : d - 0.25) / WIDTH;
    }
    assert_in_range(inside, 1, COUNT - 1);
    assert_close("smooth_l1", loss, want, BATCH * POSITIONS, 1e-12);
}

static void a_beta_of_zero_is_refused(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_FAILS(MAKE(&c, DG_LOSS_INTERFACE, "smooth_l1", NULL, "beta=0"), DG_ERR_INVALID, "beta");
}

static void shapes_that_differ_are_refused(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_OK(dg_component_make(plugins(), DG_LOSS_INTERFACE, "mse", NULL, 0, NULL, &c, &err));
    dg_graph *g = dg_graph_create();
    dg_value p = dg_input(g, "p", DG_F32, DG_LIST(2, 3, 5), DG_PER_SAMPLE), loss;
    dg_value t = dg_input(g, "t", DG_F32, DG_LIST(2, 3, 4), DG_PER_SAMPLE);
    const dg_loss_interface *table = table_of(&c);
    ASSERT_FAILS(table->build(c.self, g, p, t, &loss, &err), DG_ERR_INVALID, "sub");
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cosine_is_the_squared_distance_of_unit_vectors),
        cmocka_unit_test(mse_is_a_mean_over_the_width),
        cmocka_unit_test(smooth_l1_is_square_inside_beta_and_straight_outside),
        cmocka_unit_test(a_beta_of_zero_is_refused),
        cmocka_unit_test(shapes_that_differ_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
