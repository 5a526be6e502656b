/* misc.c - rows by index, patches of images, the optimizer's step, and changing between f32 and bf16. */
#include "lanes.h"

/* ---- rows by index */

DG_CPU_DECLARE(gather)
void DG_CPU(gather)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_gather *a = args;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        int64_t id = a->ids[i], row = id < 0 ? 0 : id >= a->rows ? a->rows - 1 : id;
        memcpy(a->out + i * a->bytes, a->x + (i / a->per_group * a->rows + row) * a->bytes, (size_t)a->bytes);
    }
}

/* A counting sort: first[row] becomes where the row's updates begin in order. Ids outside belong to no row.
 */
DG_CPU_DECLARE(scatter_sort)
void DG_CPU(scatter_sort)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_scatter *a = args;
    (void)scratch;
    for (int64_t g = begin; g < end; g++) {
        const int32_t *ids = a->ids + g * a->per_group;
        int32_t *first = a->first + g * (a->rows + 1), *order = a->order + g * a->per_group, at = 0;
        memset(first, 0, (size_t)(a->rows + 1) * sizeof *first);
        for (int64_t i = 0; i < a->per_group; i++)
            if (ids[i] >= 0 && ids[i] < a->rows) first[ids[i]]++;
        for (int64_t r = 0; r <= a->rows; r++) {
            int32_t n = first[r];
            first[r] = at;
            at += n;
        }
        for (int64_t i = 0; i < a->per_group; i++)
            if (ids[i] >= 0 && ids[i] < a->rows) order[first[ids[i]]++] = (int32_t)i;
        for (int64_t r = a->rows; r > 0; r--) first[r] = first[r - 1];
        first[0] = 0;
    }
}

DG_CPU_DECLARE(scatter_add)
void DG_CPU(scatter_add)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_scatter *a = args;
    int64_t n = a->width;
    float *sum = scratch, *room = sum + n;
    for (int64_t u = begin; u < end; u++) {
        int64_t g = u / a->rows, r = u % a->rows;
        const int32_t *first = a->first + g * (a->rows + 1) + r, *order = a->order + g * a->per_group;
        memset(sum, 0, (size_t)n * sizeof *sum);
        for (int32_t k = first[0]; k < first[1]; k++) {
            const float *x = dg_cpu_floats(a->updates, a->dtype, (g * a->per_group + order[k]) * n, n, room);
            for (int64_t i = 0; i < n; i++) sum[i] += x[i];
        }
        dg_cpu_put(a->out, a->dtype, u * n, sum, n);
    }
}

/* ---- patches */

static float pixel(const dg_cpu_patchify *a, int64_t at)
{
    return a->in_dtype == DG_U8 ? (float)((const uint8_t *)a->image)[at] : ((const float *)a->image)[at];
}

DG_CPU_DECLARE(patchify)
void DG_CPU(patchify)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_patchify *a = args;
    int64_t gw = a->width / a->pw, size = a->channels * a->ph * a->pw;
    int64_t step_c = a->channel_last ? 1 : a->ph * a->pw,
            step_y = a->channel_last ? a->pw * a->channels : a->pw;
    int64_t step_x = a->channel_last ? a->channels : 1;
    float *out = scratch;
    for (int64_t u = begin * gw; u < end * gw; u++) {
        int64_t row = u / gw, column = u % gw; /* rows of patches follow each other across images */
        int64_t from = row * a->ph * a->width + column * a->pw;
        for (int64_t y = 0; y < a->ph; y++)
            for (int64_t x = 0; x < a->pw; x++)
                for (int64_t c = 0; c < a->channels; c++) {
                    float v = pixel(a, (from + y * a->width + x) * a->channels + c);
                    out[c * step_c + y * step_y + x * step_x] = v * a->scale[c] + a->shift[c];
                }
        dg_cpu_put(a->out, a->out_dtype, u * size, out, size);
    }
}

/* ---- AdamW, in torch's order of operations */

DG_CPU_DECLARE(adamw)
void DG_CPU(adamw)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_adamw *a = args;
    (void)scratch;
    int64_t from = begin * DG_CPU_BLOCK, to = end * DG_CPU_BLOCK < a->count ? end * DG_CPU_BLOCK : a->count;
    if (a->ok && !*a->ok) {
        size_t bytes = (size_t)(to - from) * sizeof(float);
        if (a->p_new != a->p) memcpy(a->p_new + from, a->p + from, bytes);
        if (a->m_new != a->m) memcpy(a->m_new + from, a->m + from, bytes);
        if (a->v_new != a->v) memcpy(a->v_new + from, a->v + from, bytes);
        return;
    }
    float lr = a->scalars[0] * a->lr_scale, keep = 1.0f - lr * a->decay, step = lr / a->scalars[1];
    float root = sqrtf(a->scalars[2]), beta1 = a->beta1, beta2 = a->beta2, eps = a->eps;
    float less1 = a->one_less_beta1, less2 = a->one_less_beta2;
    const float *p = a->p, *m = a->m, *v = a->v, *grad = a->grad;
    float *p_new = a->p_new, *m_new = a->m_new, *v_new = a->v_new;
    _Pragma("omp simd") for (int64_t i = from; i < to; i++)
    {
        float g = grad[i], mi = beta1 * m[i] + less1 * g, vi = beta2 * v[i] + less2 * (g * g);
        m_new[i] = mi;
        v_new[i] = vi;
        p_new[i] = p[i] * keep - step * (mi / (sqrtf(vi) / root + eps));
    }
}

/* ---- f32 and bf16 */

/* The elements [from, to) of the units [begin, end). */
static int64_t until(const dg_cpu_recode *a, int64_t end)
{
    return end * DG_CPU_BLOCK < a->count ? end * DG_CPU_BLOCK : a->count;
}

DG_CPU_DECLARE(widen)
void DG_CPU(widen)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_recode *a = args;
    int64_t from = begin * DG_CPU_BLOCK, to = until(a, end);
    (void)scratch;
    dg_cpu_floats(a->x, DG_BF16, from, to - from, (float *)a->y + from);
}

DG_CPU_DECLARE(narrow)
void DG_CPU(narrow)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_recode *a = args;
    int64_t from = begin * DG_CPU_BLOCK, to = until(a, end);
    (void)scratch;
    dg_cpu_put(a->y, DG_BF16, from, (const float *)a->x + from, to - from);
}

DG_CPU_DECLARE(copy)
void DG_CPU(copy)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_recode *a = args;
    int64_t from = begin * DG_CPU_BLOCK, to = until(a, end);
    (void)scratch;
    dg_cpu_put(a->y, DG_F32, from, (const float *)a->x + from, to - from);
}

DG_CPU_DECLARE(zero)
void DG_CPU(zero)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_recode *a = args;
    int64_t from = begin * DG_CPU_BLOCK, to = until(a, end);
    (void)scratch;
    memset((float *)a->y + from, 0, (size_t)(to - from) * sizeof(float));
}
