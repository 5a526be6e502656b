/* statistics.h - for tests: do counted draws fit their stated distribution? */
#ifndef DG_TEST_STATISTICS_H
#define DG_TEST_STATISTICS_H

#include <math.h>

#include "test.h"

/* Fails when Pearson's chi-square of counts [n] against the shares [n] (NULL: equal ones) is above the value
 * that one in 2000 right samples exceeds (Wilson and Hilferty's approximation). */
static DG_UNUSED void assert_fits(const char *what, const int64_t *counts, const double *share, int n)
{
    double total = 0, chi = 0;
    for (int i = 0; i < n; i++) total += (double)counts[i];
    for (int i = 0; i < n; i++) {
        const double expected = total * (share ? share[i] : 1.0 / n), d = (double)counts[i] - expected;
        chi += d * d / expected;
    }
    const double k = n - 1, c = 2.0 / (9.0 * k), root = 1.0 - c + 3.29 * sqrt(c),
                 limit = k * root * root * root;
    if (!(chi < limit)) fail_msg("%s: chi-square %.1f of %d bins is above %.1f", what, chi, n, limit);
}

/* Fails when the mean of `n` draws of deviation `sigma` is more than 3.5 standard errors away from `mean`. */
static DG_UNUSED void assert_mean(const char *what, double sum, int64_t n, double mean, double sigma)
{
    const double have = sum / (double)n, limit = 3.5 * sigma / sqrt((double)n);
    if (!(fabs(have - mean) < limit))
        fail_msg("%s: mean %.6f, it should be %.6f +- %.6f", what, have, mean, limit);
}

#endif
