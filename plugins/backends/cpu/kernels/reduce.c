/* reduce.c - sums and maxima along axes, the place of a maximum, the k largest. */
#include "lanes.h"

/* A sum is taken over runs of this length, and then over the runs: what is added to what is fixed by the
 * shape. */
enum { RUN = 1024 };

static const int32_t *ints(const void *x, int64_t at)
{
    return (const int32_t *)x + at;
}

static int32_t int_at(const void *x, int32_t dtype, int64_t at)
{
    return dtype == DG_I32 ? *ints(x, at) : ((const uint8_t *)x)[at];
}

static void put_int(void *y, int32_t dtype, int64_t at, int32_t v)
{
    if (dtype == DG_I32)
        ((int32_t *)y)[at] = v;
    else
        ((uint8_t *)y)[at] = (uint8_t)v;
}

static float larger(float a, float b)
{
    return b > a || b != b ? b : a;
}

/* A NaN among x is the result, as in the op table. */
static float most_or_nan(const float *x, int64_t n)
{
    float y = x[0];
    for (int64_t i = 1; i < n; i++) y = larger(y, x[i]);
    return y;
}

static float float_run(const dg_cpu_reduce *a, int64_t at, int64_t n)
{
    float room[RUN], y = a->max ? -INFINITY : 0;
    for (int64_t i = 0; i < n; i += RUN) {
        int64_t some = n - i < RUN ? n - i : RUN;
        const float *x = dg_cpu_floats(a->x, a->x_dtype, at + i, some, room);
        y = a->max ? larger(y, most_or_nan(x, some)) : y + dg_cpu_sum(x, some);
    }
    return y;
}

static int32_t int_run(const dg_cpu_reduce *a, int64_t at, int64_t stride, int64_t n)
{
    int32_t most = INT32_MIN;
    uint32_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t x = int_at(a->x, a->x_dtype, at + i * stride);
        sum += (uint32_t)x;
        most = x > most ? x : most;
    }
    return a->max ? most : (int32_t)sum;
}

static int64_t piece_length(const dg_cpu_reduce *a, int64_t piece)
{
    int64_t left = a->n - piece * a->piece;
    return left < a->piece ? left : a->piece;
}

DG_CPU_DECLARE(reduce_inner)
void DG_CPU(reduce_inner)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_reduce *a = args;
    (void)scratch;
    for (int64_t u = begin; u < end; u++) {
        int64_t piece = u % a->pieces, at = u / a->pieces * a->n + piece * a->piece,
                n = piece_length(a, piece);
        if (dg_dtype_is_float((dg_dtype)a->x_dtype)) {
            float y = float_run(a, at, n);
            dg_cpu_put(a->y, a->y_dtype, u, &y, 1);
        } else {
            put_int(a->y, a->y_dtype, u, int_run(a, at, 1, n));
        }
    }
}

/* Columns [c, c + w) of the n rows from element `at` on, in f32. */
static void float_columns(const dg_cpu_reduce *a, int64_t at, int64_t n, int64_t w, float *restrict y)
{
    float run[DG_CPU_COLUMNS], room[DG_CPU_COLUMNS];
    for (int64_t k = 0; k < w; k++) y[k] = a->max ? -INFINITY : 0;
    for (int64_t i = 0; i < n; i++) {
        const float *x = dg_cpu_floats(a->x, a->x_dtype, at + i * a->inner, w, room);
        if (a->max) {
            for (int64_t k = 0; k < w; k++) y[k] = larger(y[k], x[k]);
            continue;
        }
        if (i % RUN == 0)
            memcpy(run, x, (size_t)w * sizeof *run);
        else
            for (int64_t k = 0; k < w; k++) run[k] += x[k];
        if (i % RUN == RUN - 1 || i == n - 1)
            for (int64_t k = 0; k < w; k++) y[k] += run[k];
    }
}

DG_CPU_DECLARE(reduce_outer)
void DG_CPU(reduce_outer)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_reduce *a = args;
    int64_t blocks = (a->inner + DG_CPU_COLUMNS - 1) / DG_CPU_COLUMNS;
    (void)scratch;
    for (int64_t u = begin; u < end; u++) {
        int64_t column = u % blocks * DG_CPU_COLUMNS, result = u / blocks, piece = result % a->pieces;
        int64_t at = (result / a->pieces * a->n + piece * a->piece) * a->inner + column,
                n = piece_length(a, piece);
        int64_t w = a->inner - column < DG_CPU_COLUMNS ? a->inner - column : DG_CPU_COLUMNS;
        if (dg_dtype_is_float((dg_dtype)a->x_dtype)) {
            float y[DG_CPU_COLUMNS];
            float_columns(a, at, n, w, y);
            dg_cpu_put(a->y, a->y_dtype, result * a->inner + column, y, w);
        } else {
            for (int64_t k = 0; k < w; k++)
                put_int(a->y, a->y_dtype, result * a->inner + column + k, int_run(a, at + k, a->inner, n));
        }
    }
}

/* ---- choices */

static double value_at(const void *x, int32_t dtype, int64_t at)
{
    if (dtype == DG_F32) return ((const float *)x)[at];
    if (dtype == DG_BF16) return dg_cpu_widen(((const uint16_t *)x)[at]);
    return int_at(x, dtype, at);
}

DG_CPU_DECLARE(argmax)
void DG_CPU(argmax)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_choose *a = args;
    (void)scratch;
    for (int64_t u = begin; u < end; u++) {
        int64_t at = u / a->inner * a->inner * a->n + u % a->inner, best = 0;
        double most = value_at(a->x, a->dtype, at);
        for (int64_t i = 1; i < a->n; i++) {
            double x = value_at(a->x, a->dtype, at + i * a->inner);
            if (x > most) {
                most = x;
                best = i;
            }
        }
        a->ids[u] = (int32_t)best;
    }
}

/* Insertion into the best so far: meant for small k. */
DG_CPU_DECLARE(top_k)
void DG_CPU(top_k)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_choose *a = args;
    float *best = scratch;
    for (int64_t r = begin; r < end; r++) {
        int32_t *ids = a->ids + r * a->k;
        for (int64_t i = 0; i < a->n; i++) {
            float x = (float)value_at(a->x, a->dtype, r * a->n + i);
            int64_t have = i < a->k ? i : a->k, at = have;
            while (at > 0 && x > best[at - 1]) at--;
            if (at == a->k) continue;
            for (int64_t j = have < a->k ? have : a->k - 1; j > at; j--) {
                best[j] = best[j - 1];
                ids[j] = ids[j - 1];
            }
            best[at] = x;
            ids[at] = (int32_t)i;
        }
        dg_cpu_put(a->y, a->dtype, r * a->k, best, a->k);
    }
}
