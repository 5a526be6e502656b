/* int8.c - the parts of linear_int8 around the product of integers. The formulas are those of the op table
 * (digpt/ops.h). */
#include "lanes.h"

/* Integers of one row, its scale, and what exceeds `limit`. */
static float quantize_row(const float *x, int64_t n, float limit, int8_t *q)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++) {
        float m = fabsf(x[i]);
        most = m > most ? m : most;
    }
    most = most < limit ? most : limit;
    const float inverse = 127.0f / (most > 1e-30f ? most : 1e-30f);
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] > limit ? limit : x[i];
        v = v < -limit ? -limit : v;
        v = v == v ? v : 0; /* the scale says that the row is not finite */
        q[i] = (int8_t)floorf(v * inverse + 0.5f);
    }
    return most * (1.0f / 127);
}

DG_CPU_DECLARE(quantize)
void DG_CPU(quantize)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_quantize *a = args;
    const int64_t n = a->width;
    for (int64_t r = begin; r < end; r++) {
        const float *x = dg_cpu_floats(a->x, a->dtype, r * n, n, scratch);
        float limit = INFINITY, mean = 0;
        if (a->outlier > 0) {
            float *sizes = (float *)scratch + n;
            for (int64_t i = 0; i < n; i++) sizes[i] = fabsf(x[i]);
            mean = dg_cpu_sum(sizes, n) * (1.0f / (float)n);
            limit = mean * a->outlier;
        }
        a->scale[r] = quantize_row(x, n, limit, a->q + r * n);
        if (!a->count) continue;
        int32_t found = 0;
        for (int64_t i = 0; i < n && a->outlier > 0; i++) {
            if (!(fabsf(x[i]) > limit)) continue;
            a->ids[r * a->most + found] = (int32_t)i;
            a->rests[r * a->most + found++] = x[i] > 0 ? x[i] - limit : x[i] + limit;
        }
        a->count[r] = found;
        a->scale[r] += mean - mean; /* what is not finite makes the row so */
    }
}

/* The columns of w in ascending order that some row has something beyond the limit for; each is gathered once
 * for all rows. */
static void add_outliers(const dg_cpu_dequantize *a, int64_t rows, float *column, int32_t *next)
{
    memset(next, 0, (size_t)rows * sizeof *next);
    for (;;) {
        int32_t k = INT32_MAX;
        for (int64_t r = 0; r < rows; r++)
            if (next[r] < a->count[r] && a->ids[r * a->most + next[r]] < k) k = a->ids[r * a->most + next[r]];
        if (k == INT32_MAX) return;
        for (int64_t i = 0; i < a->out_width; i++) {
            const int64_t at = i * a->width + k;
            column[i] = a->w_dtype == DG_BF16 ? dg_cpu_widen(((const uint16_t *)a->w)[at])
                                              : ((const float *)a->w)[at];
        }
        for (int64_t r = 0; r < rows; r++) {
            if (next[r] >= a->count[r] || a->ids[r * a->most + next[r]] != k) continue;
            const float rest = a->rests[r * a->most + next[r]++];
            float *y = a->sums + r * a->out_width;
            for (int64_t i = 0; i < a->out_width; i++) y[i] += rest * column[i];
        }
    }
}

DG_CPU_DECLARE(dequantize)
void DG_CPU(dequantize)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_dequantize *a = args;
    const int64_t n = a->out_width;
    float *column = scratch, *bias = column + n;
    for (int64_t i = 0; i < n; i++) bias[i] = 0;
    const float *b = a->bias ? dg_cpu_floats(a->bias, a->bias_dtype, 0, n, bias) : bias;
    for (int64_t r = begin; r < end; r++) {
        float *y = a->sums + r * n;
        const float scale = a->scale[r];
        for (int64_t i = 0; i < n; i++) y[i] = y[i] * (scale * a->w_scale[i]) + b[i];
    }
    add_outliers(a, end, column, (int32_t *)(bias + n));
    for (int64_t r = begin; r < end; r++) dg_cpu_put(a->y, a->y_dtype, r * n, a->sums + r * n, n);
}
