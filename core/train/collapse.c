/* collapse.c - see collapse.h. */
#include "collapse.h"

#include <math.h>

#include "base/mem.h"

/* ---- eigenvalues */

/* Householder: a [n, n] to the diagonal d [n] and the one beside it e [n], where e[i] stands between i - 1
 * and i. */
static void tridiagonalise(double *a, int64_t n, double *d, double *e)
{
    for (int64_t i = n - 1; i > 0; i--) {
        double *u = a + i * n, scale = 0, h = 0;
        for (int64_t k = 0; k < i; k++) scale += fabs(u[k]);
        if (i == 1 || scale == 0) {
            e[i] = u[i - 1];
            d[i] = u[i];
            continue;
        }
        for (int64_t k = 0; k < i; k++) {
            u[k] /= scale;
            h += u[k] * u[k];
        }
        double f = u[i - 1], g = f >= 0 ? -sqrt(h) : sqrt(h), sum = 0;
        e[i] = scale * g;
        d[i] = u[i];
        h -= f * g;
        u[i - 1] = f - g;
        for (int64_t j = 0; j < i; j++) e[j] = 0; /* p = a u / h, by rows of the lower triangle */
        for (int64_t j = 0; j < i; j++) {
            const double *row = a + j * n;
            double p = row[j] * u[j];
            for (int64_t k = 0; k < j; k++) {
                p += row[k] * u[k];
                e[k] += row[k] * u[j];
            }
            e[j] += p;
        }
        for (int64_t j = 0; j < i; j++) {
            e[j] /= h;
            sum += e[j] * u[j];
        }
        for (int64_t j = 0; j < i; j++) e[j] -= sum / (h + h) * u[j];
        for (int64_t j = 0; j < i; j++)
            for (int64_t k = 0; k <= j; k++) a[j * n + k] -= u[j] * e[k] + e[j] * u[k];
    }
    d[0] = a[0];
    e[0] = 0;
}

/* One QL sweep with implicit shift of the block l..m. */
static void sweep(double *d, double *e, int64_t l, int64_t m)
{
    double g = (d[l + 1] - d[l]) / (2 * e[l]), r = hypot(g, 1), s = 1, c = 1, p = 0;
    g = d[m] - d[l] + e[l] / (g + copysign(r, g));
    for (int64_t i = m - 1; i >= l; i--) {
        double f = s * e[i], b = c * e[i];
        r = hypot(f, g);
        e[i + 1] = r;
        if (r == 0) {
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
}

dg_status dg_symmetric_eigenvalues(double *a, int64_t n, double *d, dg_error *err)
{
    enum { MOST_SWEEPS = 60 };
    double *e = dg_calloc((size_t)n + 1, sizeof *e);
    if (!e) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    tridiagonalise(a, n, d, e);
    for (int64_t i = 1; i < n; i++) e[i - 1] = e[i]; /* now e[i] stands between i and i + 1 */
    e[n - 1] = 0;
    dg_status s = DG_OK;
    for (int64_t l = 0; l < n && s == DG_OK; l++)
        for (int sweeps = 0;; sweeps++) {
            int64_t m = l;
            while (m + 1 < n && fabs(e[m]) > 1e-16 * (fabs(d[m]) + fabs(d[m + 1]))) m++;
            if (m == l) break;
            if (sweeps == MOST_SWEEPS) {
                s = dg_fail(err, DG_ERR_NOT_FINITE, "the eigenvalues of the covariance do not converge");
                break;
            }
            sweep(d, e, l, m);
        }
    dg_free(e);
    return s;
}

/* ---- features */

/* c [width, width], the lower triangle: the sum over samples of the products of centred features. */
static void scatter_matrix(const float *x, int64_t n, int64_t width, const double *mean, double *row,
                           double *c)
{
    for (int64_t s = 0; s < n; s++) {
        for (int64_t i = 0; i < width; i++) row[i] = (double)x[s * width + i] - mean[i];
        for (int64_t i = 0; i < width; i++) {
            double xi = row[i], *to = c + i * width;
            for (int64_t j = 0; j <= i; j++) to[j] += xi * row[j];
        }
    }
}

/* exp(-sum p log p) with p = s / sum s of the singular values s, whose squares are given. */
static double effective_rank(const double *squares, int64_t n)
{
    double most = 0, sum = 0, entropy = 0;
    for (int64_t i = 0; i < n; i++)
        if (squares[i] > most) most = squares[i];
    double least = most * 1e-14; /* below is rounding */
    for (int64_t i = 0; i < n; i++)
        if (squares[i] > least) sum += sqrt(squares[i]);
    for (int64_t i = 0; i < n; i++) {
        if (squares[i] <= least) continue;
        double p = sqrt(squares[i]) / sum;
        entropy -= p * log(p);
    }
    return sum > 0 ? exp(entropy) : 0;
}

/* sums and squares: [width] zeros for the work. */
static double spread(const float *x, int64_t n, int64_t width, double *sums, double *squares)
{
    double total = 0;
    for (int64_t s = 0; s < n; s++) {
        const float *v = x + s * width;
        double norm = 0;
        for (int64_t i = 0; i < width; i++) norm += (double)v[i] * (double)v[i];
        norm = norm > 0 ? 1 / sqrt(norm) : 0;
        for (int64_t i = 0; i < width; i++) {
            double y = (double)v[i] * norm;
            sums[i] += y;
            squares[i] += y * y;
        }
    }
    for (int64_t i = 0; i < width; i++) {
        double mean = sums[i] / (double)n, variance = squares[i] / (double)n - mean * mean;
        total += variance > 0 ? sqrt(variance) : 0;
    }
    return total / (double)width;
}

dg_status dg_collapse_measure(const float *x, int64_t n, int64_t width, dg_collapse *out, dg_error *err)
{
    *out = (dg_collapse){0, 0};
    if (n < 2) return dg_fail(err, DG_ERR_INVALID, "collapse metrics need two images at least");
    for (int64_t i = 0; i < n * width; i++)
        if (!isfinite(x[i]))
            return dg_fail(err, DG_ERR_NOT_FINITE, "feature %lld of image %lld is %g", (long long)(i % width),
                           (long long)(i / width), (double)x[i]);
    double *c = dg_calloc((size_t)width, (size_t)width * sizeof *c),
           *work = dg_calloc((size_t)width * 4, sizeof *work);
    dg_status s = c && work ? DG_OK
                            : dg_fail(err, DG_ERR_NOMEM, "no memory for the covariance of %lld features",
                                      (long long)width);
    if (s == DG_OK) {
        double *mean = work, *values = work + 3 * width;
        out->spread = spread(x, n, width, work + width, work + 2 * width);
        for (int64_t k = 0; k < n; k++)
            for (int64_t i = 0; i < width; i++) mean[i] += (double)x[k * width + i];
        for (int64_t i = 0; i < width; i++) mean[i] /= (double)n;
        scatter_matrix(x, n, width, mean, work + width, c);
        s = dg_symmetric_eigenvalues(c, width, values, err);
        out->effective_rank = effective_rank(values, width);
    }
    dg_free(c);
    dg_free(work);
    return s;
}
