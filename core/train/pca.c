/* pca.c - three principal components by orthogonal iteration (Golub and Van Loan, "Matrix Computations",
 * section 8.2). See pca.h. */
#include "pca.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

enum { ROUNDS = 120 };

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Unit vectors, orthogonal to those before; what is nothing by then becomes zero. */
static void orthonormalise(double *v, int64_t width)
{
    for (int k = 0; k < 3; k++) {
        double *a = v + k * width, before = sqrt(dot(a, a, width));
        for (int twice = 0; twice < 2; twice++)
            for (int j = 0; j < k; j++) {
                double share = dot(a, v + j * width, width);
                for (int64_t i = 0; i < width; i++) a[i] -= share * v[j * width + i];
            }
        double length = sqrt(dot(a, a, width)), scale = length > 1e-9 * before ? 1 / length : 0;
        for (int64_t i = 0; i < width; i++) a[i] *= scale;
    }
}

/* x [n, width] as unit vectors around their mean. */
static void centre(const float *x, int64_t n, int64_t width, double *out, double *mean)
{
    for (int64_t r = 0; r < n; r++) {
        double square = 0;
        for (int64_t i = 0; i < width; i++) square += (double)x[r * width + i] * (double)x[r * width + i];
        double scale = square > 0 && isfinite(square) ? 1 / sqrt(square) : 0;
        for (int64_t i = 0; i < width; i++) {
            double v = scale > 0 ? (double)x[r * width + i] * scale : 0;
            out[r * width + i] = v;
            mean[i] += v / (double)n;
        }
    }
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < width; i++) out[r * width + i] -= mean[i];
}

/* next = C v, where C is the covariance of x times n. */
static void multiply(const double *x, int64_t n, int64_t width, const double *v, double *next)
{
    for (int64_t i = 0; i < 3 * width; i++) next[i] = 0;
    for (int64_t r = 0; r < n; r++)
        for (int k = 0; k < 3; k++) {
            double along = dot(x + r * width, v + k * width, width);
            for (int64_t i = 0; i < width; i++) next[k * width + i] += along * x[r * width + i];
        }
}

static void fix_sign(double *a, int64_t width)
{
    int64_t most = 0;
    for (int64_t i = 1; i < width; i++)
        if (fabs(a[i]) > fabs(a[most])) most = i;
    double sign = a[most] < 0 ? -1 : 1;
    for (int64_t i = 0; i < width; i++) a[i] *= sign;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void find_range(dg_pca *p, const double *x, int64_t n, double *along)
{
    for (int k = 0; k < 3; k++) {
        for (int64_t r = 0; r < n; r++) along[r] = dot(x + r * p->width, p->axes + k * p->width, p->width);
        qsort(along, (size_t)n, sizeof *along, rising);
        p->low[k] = along[n * 2 / 100];
        p->high[k] = along[n - 1 - n * 2 / 100];
    }
}

dg_status dg_pca_fit(const float *x, int64_t n, int64_t width, dg_pca *p, dg_error *err)
{
    double *centred = dg_calloc((size_t)n * (size_t)width + 1, sizeof *centred);
    double *next = dg_calloc((size_t)(3 * width) + 1, sizeof *next);
    double *along = dg_calloc((size_t)n + 1, sizeof *along);
    p->width = width;
    p->mean = dg_calloc((size_t)width + 1, sizeof *p->mean);
    p->axes = dg_calloc((size_t)(3 * width) + 1, sizeof *p->axes);
    dg_status s =
        centred && next && along && p->mean && p->axes ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK && n > 0) {
        centre(x, n, width, centred, p->mean);
        for (int64_t i = 0; i < 3 * width; i++) /* three starts with a share of every direction */
            p->axes[i] = sin((double)(i % width + 1) * (double)(i / width + 1) * 0.7);
        orthonormalise(p->axes, width);
        for (int round = 0; round < ROUNDS; round++) {
            multiply(centred, n, width, p->axes, next);
            memcpy(p->axes, next, (size_t)(3 * width) * sizeof *next);
            orthonormalise(p->axes, width);
        }
        for (int k = 0; k < 3; k++) fix_sign(p->axes + k * width, width);
        find_range(p, centred, n, along);
    }
    dg_free(centred);
    dg_free(next);
    dg_free(along);
    return s;
}

void dg_pca_free(dg_pca *p)
{
    dg_free(p->mean);
    dg_free(p->axes);
    *p = (dg_pca){0};
}

dg_colour dg_pca_colour(const dg_pca *p, const float *v)
{
    double square = 0, rgb[3];
    for (int64_t i = 0; i < p->width; i++) square += (double)v[i] * (double)v[i];
    double scale = square > 0 ? 1 / sqrt(square) : 0;
    for (int k = 0; k < 3; k++) {
        double along = 0, span = p->high[k] - p->low[k];
        for (int64_t i = 0; i < p->width; i++)
            along += ((double)v[i] * scale - p->mean[i]) * p->axes[k * p->width + i];
        double t = span > 0 && isfinite(along) ? (along - p->low[k]) / span : 0.5;
        rgb[k] = 20 + 220 * fmin(1, fmax(0, t));
    }
    return (dg_colour){(uint8_t)lrint(rgb[0]), (uint8_t)lrint(rgb[1]), (uint8_t)lrint(rgb[2])};
}
