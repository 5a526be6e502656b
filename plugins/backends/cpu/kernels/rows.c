/* rows.c - what works on one row at a time: layer_norm, softmax, normalize, cross_entropy, and their
 * adjoints. The formulas are those of the op table (digpt/ops.h). */
#include "lanes.h"

/* ---- layer_norm: two passes, so that the variance is of what is left after the mean */

DG_CPU_DECLARE(layer_norm)
void DG_CPU(layer_norm)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_layer_norm *a = args;
    int64_t n = a->width;
    float *rest = scratch, *room = rest + n;
    for (int64_t r = begin; r < end; r++) {
        const float *x = dg_cpu_floats(a->x, a->x_dtype, r * n, n, room);
        float mean = dg_cpu_sum(x, n) / (float)n;
        for (int64_t i = 0; i < n; i++) rest[i] = x[i] - mean;
        float rstd = 1.0f / sqrtf(dg_cpu_dot(rest, rest, n) / (float)n + a->eps);
        a->mean[r] = mean;
        a->rstd[r] = rstd;
        for (int64_t i = 0; i < n; i++) rest[i] *= rstd;
        for (int64_t i = 0; i < n && a->gamma; i++) rest[i] *= a->gamma[i];
        for (int64_t i = 0; i < n && a->beta; i++) rest[i] += a->beta[i];
        dg_cpu_put(a->y, a->y_dtype, r * n, rest, n);
    }
}

/* dx = rstd (d - mean(d) - hat mean(d hat)), d = dy gamma, hat = (x - mean) rstd. */
static void norm_grad_row(const dg_cpu_layer_norm_grad *a, int64_t r, float *dgamma, float *dbeta,
                          float *room)
{
    int64_t n = a->width;
    float *restrict hat = room, *restrict d = room + n;
    const float *x = dg_cpu_floats(a->x, a->x_dtype, r * n, n, hat), *dy;
    dy = dg_cpu_floats(a->dy, a->dy_dtype, r * n, n, d);
    float mean = a->mean[r], rstd = a->rstd[r];
    for (int64_t i = 0; i < n; i++) hat[i] = (x[i] - mean) * rstd;
    for (int64_t i = 0; i < n; i++) dgamma[i] += dy[i] * hat[i];
    for (int64_t i = 0; i < n; i++) dbeta[i] += dy[i];
    if (a->gamma) {
        for (int64_t i = 0; i < n; i++) d[i] = dy[i] * a->gamma[i];
        dy = d;
    }
    float along = dg_cpu_dot(dy, hat, n) / (float)n, level = dg_cpu_sum(dy, n) / (float)n;
    for (int64_t i = 0; i < n; i++) hat[i] = rstd * (dy[i] - level - hat[i] * along);
    dg_cpu_put(a->dx, a->x_dtype, r * n, hat, n);
}

DG_CPU_DECLARE(layer_norm_grad)
void DG_CPU(layer_norm_grad)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_layer_norm_grad *a = args;
    for (int64_t c = begin; c < end; c++) {
        float *dgamma = a->partial + c * 2 * a->width, *dbeta = dgamma + a->width;
        memset(dgamma, 0, (size_t)(2 * a->width) * sizeof *dgamma);
        for (int64_t r = c * DG_CPU_CHUNK; r < (c + 1) * DG_CPU_CHUNK && r < a->rows; r++)
            norm_grad_row(a, r, dgamma, dbeta, scratch);
    }
}

/* ---- softmax, normalize */

DG_CPU_DECLARE(softmax)
void DG_CPU(softmax)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_rows *a = args;
    int64_t n = a->width;
    float *e = scratch;
    for (int64_t r = begin; r < end; r++) {
        const float *x = dg_cpu_floats(a->x, a->dtype, r * n, n, e);
        float most = dg_cpu_most(x, n);
        for (int64_t i = 0; i < n; i++) e[i] = dg_cpu_exp(x[i] - most);
        float sum = dg_cpu_sum(e, n);
        for (int64_t i = 0; i < n; i++) e[i] /= sum;
        dg_cpu_put(a->out, a->dtype, r * n, e, n);
    }
}

DG_CPU_DECLARE(normalize)
void DG_CPU(normalize)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_rows *a = args;
    int64_t n = a->width;
    float *y = scratch;
    for (int64_t r = begin; r < end; r++) {
        const float *x = dg_cpu_floats(a->x, a->dtype, r * n, n, y);
        float norm = sqrtf(dg_cpu_dot(x, x, n)), rnorm = 1.0f / (norm < a->eps ? a->eps : norm);
        a->rnorm[r] = rnorm;
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * rnorm;
        dg_cpu_put(a->out, a->dtype, r * n, y, n);
    }
}

/* dx = rnorm (dy - y (dy y)); where the length counted as eps, rnorm dy. */
DG_CPU_DECLARE(normalize_grad)
void DG_CPU(normalize_grad)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_rows *a = args;
    int64_t n = a->width;
    float *d = scratch, *room = d + n;
    for (int64_t r = begin; r < end; r++) {
        const float *dy = dg_cpu_floats(a->x, a->dtype, r * n, n, d),
                    *y = dg_cpu_floats(a->y, a->dtype, r * n, n, room);
        float rnorm = a->rnorm[r], along = rnorm * a->eps < 0.999999f ? dg_cpu_dot(dy, y, n) : 0;
        for (int64_t i = 0; i < n; i++) d[i] = rnorm * (dy[i] - y[i] * along);
        dg_cpu_put(a->out, a->dtype, r * n, d, n);
    }
}

/* ---- cross_entropy. The target of class i is t[i] = (1 - smoothing) given[i] + smoothing / classes. */

static float target(const dg_cpu_entropy *a, int64_t r, int64_t i)
{
    float given = a->soft ? a->soft[r * a->classes + i] : a->ids[r] == i ? 1.0f : 0.0f;
    return a->smoothing != 0 ? given * (1.0f - a->smoothing) + a->smoothing / (float)a->classes : given;
}

DG_CPU_DECLARE(cross_entropy)
void DG_CPU(cross_entropy)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_entropy *a = args;
    int64_t n = a->classes;
    float *e = scratch, *room = e + n;
    for (int64_t r = begin; r < end; r++) {
        const float *x = dg_cpu_floats(a->x, a->dtype, r * n, n, room);
        float most = dg_cpu_most(x, n);
        for (int64_t i = 0; i < n; i++) e[i] = dg_cpu_exp(x[i] - most);
        float lse = logf(dg_cpu_sum(e, n));
        a->lse[r] = most + lse;
        if (a->ids && a->ids[r] < 0) {
            a->loss[r] = 0;
        } else if (a->ids && a->smoothing == 0) {
            a->loss[r] = a->ids[r] < n ? lse - (x[a->ids[r]] - most) : 0;
        } else {
            /* t log p is 0 where t is 0, also for a class that is ruled out by a logit of -inf. */
            for (int64_t i = 0; i < n; i++) {
                float t = target(a, r, i);
                e[i] = t == 0 ? 0 : t * (lse - (x[i] - most));
            }
            a->loss[r] = dg_cpu_sum(e, n);
        }
    }
}

/* dx = dy (p sum(t) - t) */
DG_CPU_DECLARE(cross_entropy_grad)
void DG_CPU(cross_entropy_grad)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_entropy *a = args;
    int64_t n = a->classes;
    float *d = scratch, *t = d + n;
    for (int64_t r = begin; r < end; r++) {
        const float *x = dg_cpu_floats(a->x, a->dtype, r * n, n, d);
        float dy = a->ids && a->ids[r] < 0 ? 0 : a->dy[r], lse = a->lse[r];
        for (int64_t i = 0; i < n; i++) t[i] = target(a, r, i);
        float sum = dg_cpu_sum(t, n);
        for (int64_t i = 0; i < n; i++) d[i] = dy * (dg_cpu_exp(x[i] - lse) * sum - t[i]);
        dg_cpu_put(a->dx, a->dtype, r * n, d, n);
    }
}
