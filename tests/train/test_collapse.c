/* Do the collapse metrics say what they should of features whose shape is known? */
#include "probe_support.h"

#include "train/collapse.h"

static dg_collapse measure(const dg_feature_set *f)
{
    dg_error err;
    dg_collapse c;
    ASSERT_OK(dg_collapse_measure(f->x, f->n, f->width, &c, &err));
    return c;
}

static void the_eigenvalues_of_a_known_matrix_are_found(void **state)
{
    (void)state;
    /* The second difference of n points has the eigenvalues 2 - 2 cos(pi k / (n + 1)). */
    enum { N = 37 };
    double *a = dg_calloc(N * N, sizeof *a), values[N];
    dg_error err;
    for (int i = 0; i < N; i++) {
        a[i * N + i] = 2;
        if (i) a[i * N + i - 1] = a[(i - 1) * N + i] = -1;
    }
    ASSERT_OK(dg_symmetric_eigenvalues(a, N, values, &err));
    for (int k = 1; k <= N; k++) {
        double expected = 2 - 2 * cos(3.14159265358979323846 * k / (N + 1)), nearest = INFINITY;
        for (int i = 0; i < N; i++) nearest = fmin(nearest, fabs(values[i] - expected));
        if (nearest > 1e-12) fail_msg("no eigenvalue is %.15g; the nearest is %g off", expected, nearest);
    }
    dg_free(a);
}

/* a = r d r' for a random reflection r keeps the values of d, of which many are equal and one is zero. */
static void the_eigenvalues_of_a_full_matrix_are_found(void **state)
{
    (void)state;
    enum { N = 60 };
    double *a = dg_calloc(N * N, sizeof *a), values[N], u[N], norm = 0, most = 0, sum = 0;
    dg_rng rng = dg_rng_make(3, DG_RNG_PLUGIN, 0, 0);
    dg_error err;
    for (int i = 0; i < N; i++) {
        u[i] = dg_rng_normal(&rng);
        norm += u[i] * u[i];
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            for (int k = 0; k < N; k++) {
                double d = k == 0 ? 100 : k == 1 ? 0 : 2;
                double ri = (i == k) - 2 * u[i] * u[k] / norm, rj = (j == k) - 2 * u[j] * u[k] / norm;
                a[i * N + j] += ri * d * rj;
            }
    ASSERT_OK(dg_symmetric_eigenvalues(a, N, values, &err));
    int twos = 0, zeros = 0;
    for (int i = 0; i < N; i++) {
        most = fmax(most, values[i]);
        sum += values[i];
        twos += fabs(values[i] - 2) < 1e-11;
        zeros += fabs(values[i]) < 1e-11;
    }
    assert_int_equal(twos, N - 2);
    assert_int_equal(zeros, 1);
    assert_true(fabs(most - 100) < 1e-10 && fabs(sum - 100 - 2 * (N - 2)) < 1e-9);
    dg_free(a);
}

static void features_that_fill_the_space_have_full_rank(void **state)
{
    (void)state;
    dg_feature_set f = planted(4000, 16, 1, 1, 5);
    dg_collapse c = measure(&f);
    assert_true(c.effective_rank > 15.9 && c.effective_rank <= 16);
    assert_true(fabs(c.spread - 0.25) < 0.01); /* 1 / sqrt(16) */
    dg_feature_set_free(&f);
}

static void features_on_a_line_have_rank_one(void **state)
{
    (void)state;
    dg_feature_set f = planted(100, 8, 1, 0, 5);
    dg_rng rng = dg_rng_make(9, DG_RNG_PLUGIN, 0, 0);
    for (int64_t i = 0; i < f.n; i++) {
        double t = dg_rng_normal(&rng);
        for (int64_t k = 0; k < f.width; k++) f.x[i * f.width + k] = (float)(t * (double)(1 << k) + 4);
    }
    assert_true(fabs(measure(&f).effective_rank - 1) < 1e-3);
    dg_feature_set_free(&f);
}

static void equal_features_are_collapsed(void **state)
{
    (void)state;
    dg_feature_set f = planted(50, 8, 1, 0, 5);
    for (int64_t i = 0; i < f.n * f.width; i++) f.x[i] = (float)(1 + i % f.width) * 0.25f;
    dg_collapse c = measure(&f);
    assert_true(c.effective_rank == 0);
    assert_true(c.spread < 1e-7);
    dg_feature_set_free(&f);
}

/* Half of the variance in one direction and the rest in another: exp of the entropy of (a, b) / (a + b). */
static void the_rank_is_that_of_its_formula(void **state)
{
    (void)state;
    dg_feature_set f = planted(4, 3, 1, 0, 5);
    static const float x[12] = {3, 0, 7, -3, 0, 7, 0, 1, 7, 0, -1, 7};
    memcpy(f.x, x, sizeof x);
    double p = 3.0 / 4, q = 1.0 / 4; /* singular values sqrt(18) and sqrt(2) */
    assert_true(fabs(measure(&f).effective_rank - exp(-p * log(p) - q * log(q))) < 1e-12);
    dg_feature_set_free(&f);
}

static void what_is_not_finite_or_too_little_is_refused(void **state)
{
    (void)state;
    dg_feature_set f = planted(4, 3, 1, 1, 5);
    dg_collapse c;
    dg_error err;
    ASSERT_FAILS(dg_collapse_measure(f.x, 1, 3, &c, &err), DG_ERR_INVALID, "need two images");
    f.x[7] = NAN;
    ASSERT_FAILS(dg_collapse_measure(f.x, 4, 3, &c, &err), DG_ERR_NOT_FINITE, "feature 1 of image 2 is nan");
    dg_feature_set_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_eigenvalues_of_a_known_matrix_are_found),
        cmocka_unit_test(the_eigenvalues_of_a_full_matrix_are_found),
        cmocka_unit_test(features_that_fill_the_space_have_full_rank),
        cmocka_unit_test(features_on_a_line_have_rank_one),
        cmocka_unit_test(equal_features_are_collapsed),
        cmocka_unit_test(the_rank_is_that_of_its_formula),
        cmocka_unit_test(what_is_not_finite_or_too_little_is_refused),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
