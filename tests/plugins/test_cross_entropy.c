/* The loss `cross_entropy` against its formula, its gradient, and its errors. */
#include "tiny_training.h"

enum { BATCH = 2, POSITIONS = 3, WORDS = 5 };

static const int32_t ids[BATCH * POSITIONS] = {0, 4, 2, 3, -1, 1};

static dg_graph *build_graph(const dg_component *c)
{
    dg_graph *g = dg_graph_create();
    dg_value x = dg_param(g, "x", DG_LIST(BATCH, POSITIONS, WORDS), dg_init_value(DG_INIT_NORMAL, 1), -1);
    dg_value target = dg_constant(g, DG_I32, DG_LIST(BATCH, POSITIONS), ids, sizeof ids);
    dg_value each = build_loss(c, g, x, target);
    assert_dims(g, each, DG_LIST(BATCH, POSITIONS));
    dg_graph_output(g, each, "each");
    dg_graph_output(g, dg_reduce_sum(g, each, DG_LIST(0, 1), false, DG_NONE), "loss");
    return g;
}

static void check_formula(const char *setting, double smoothing)
{
    dg_error err;
    dg_component c;
    double want[BATCH * POSITIONS];
    ASSERT_OK(MAKE(&c, DG_LOSS_INTERFACE, "cross_entropy", NULL, setting));
    dg_graph *g = build_graph(&c);
    runner r = {0};
    runner_start(&r, g);
    double *x = runner_leaf(&r, "x", NULL);
    for (int i = 0; i < BATCH * POSITIONS * WORDS; i++) x[i] = 3 * sin(1.7 * i);
    for (int i = 0; i < BATCH * POSITIONS; i++) {
        double sum = 0;
        want[i] = 0;
        for (int k = 0; k < WORDS; k++) sum += exp(x[i * WORDS + k]);
        for (int k = 0; k < WORDS && ids[i] >= 0; k++)
            want[i] -= ((k == ids[i]) * (1 - smoothing) + smoothing / WORDS) * (x[i * WORDS + k] - log(sum));
    }
    runner_run(&r);
    assert_close(setting, runner_output(&r, "each", NULL), want, BATCH * POSITIONS, 1e-12);
    runner_end(&r);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void it_is_minus_the_logarithm_of_the_target_s_probability(void **state)
{
    (void)state;
    check_formula("smoothing=0", 0);
}

static void smoothing_spreads_a_share_over_all_words(void **state)
{
    (void)state;
    check_formula("smoothing=0.1", 0.1);
}

static void going_down_its_gradient_finds_the_targets(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    tiny t;
    ASSERT_OK(dg_component_make(plugins(), DG_LOSS_INTERFACE, "cross_entropy", NULL, 0, NULL, &c, &err));
    dg_graph *g = build_graph(&c);
    tiny_start(&t, g);
    for (int i = 0; i < 200; i++) tiny_step(&t, i, 0.1);
    const double *x = runner_leaf(&t.r, "x", NULL);
    for (int i = 0; i < BATCH * POSITIONS; i++)
        for (int k = 0; k < WORDS && ids[i] >= 0; k++)
            if (k != ids[i]) assert_true(x[i * WORDS + ids[i]] > x[i * WORDS + k] + 2);
    tiny_end(&t);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void it_takes_ids_only_and_smoothing_below_1(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_FAILS(MAKE(&c, DG_LOSS_INTERFACE, "cross_entropy", NULL, "smoothing=1"), DG_ERR_INVALID,
                 "below 1");
    assert_string_equal(err.key, "loss.smoothing");
    ASSERT_OK(dg_component_make(plugins(), DG_LOSS_INTERFACE, "cross_entropy", NULL, 0, NULL, &c, &err));
    assert_int_equal(((const dg_loss_interface *)table_of(&c))->targets, DG_TARGET_DISCRETE);
    dg_component_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_minus_the_logarithm_of_the_target_s_probability),
        cmocka_unit_test(smoothing_spreads_a_share_over_all_words),
        cmocka_unit_test(going_down_its_gradient_finds_the_targets),
        cmocka_unit_test(it_takes_ids_only_and_smoothing_below_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
