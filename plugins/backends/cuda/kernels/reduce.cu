/* reduce.cu - sums and maxima over an axis, the place of the maximum, and the k largest. */
#include "cu.h"

enum { THREADS = 128, WARPS = THREADS / DG_WARP };

/* A running sum or maximum: f32 for reals, i32 for integers. */
typedef struct total {
    float f;
    int32_t i;
} total;

__device__ static float larger(float a, float b)
{
    return a != a || a > b ? a : b;
}

__device__ static total total_none(int max)
{
    total t = {max ? -INFINITY : 0.f, max ? INT32_MIN : 0};
    return t;
}

__device__ static void take(total *t, const dg_cuda_reduce *a, int64_t at)
{
    if (a->x_dtype == DG_I32) {
        int32_t v = ((const int32_t *)a->x)[at];
        t->i = a->max ? (v > t->i ? v : t->i) : (int32_t)((uint32_t)t->i + (uint32_t)v);
    } else {
        float v = dg_load(a->x, at, a->x_dtype);
        t->f = a->max ? larger(t->f, v) : t->f + v;
    }
}

__device__ static void put(const dg_cuda_reduce *a, int64_t at, total t)
{
    if (a->x_dtype == DG_I32)
        ((int32_t *)a->y)[at] = t.i;
    else
        dg_store(a->y, at, a->y_dtype, t.f);
}

/* inner is 1: a warp takes a piece of a row. */
DG_KERNEL(reduce_rows, dg_cuda_reduce, THREADS)
{
    int64_t unit = (int64_t)blockIdx.x * WARPS + threadIdx.x / DG_WARP;
    int lane = threadIdx.x % DG_WARP;
    if (unit >= a.outer * a.pieces) return;
    int64_t row = unit / a.pieces, first = unit % a.pieces * a.piece, end = dg_min64(first + a.piece, a.n);
    total t = total_none(a.max);
    for (int64_t k = first + lane; k < end; k += DG_WARP) take(&t, &a, row * a.n + k);
    for (int o = DG_WARP / 2; o; o >>= 1) {
        float f = __shfl_xor_sync(DG_ALL_LANES, t.f, o);
        int32_t i = __shfl_xor_sync(DG_ALL_LANES, t.i, o);
        t.f = a.max ? larger(t.f, f) : t.f + f;
        t.i = a.max ? (i > t.i ? i : t.i) : (int32_t)((uint32_t)t.i + (uint32_t)i);
    }
    if (lane == 0) put(&a, unit, t);
}

/* A thread takes a piece of a column. */
DG_KERNEL(reduce_columns, dg_cuda_reduce, THREADS)
{
    int64_t unit = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (unit >= a.outer * a.pieces * a.inner) return;
    int64_t column = unit % a.inner, part = unit / a.inner;
    int64_t first = part % a.pieces * a.piece, end = dg_min64(first + a.piece, a.n);
    total t = total_none(a.max);
    for (int64_t k = first; k < end; k++) take(&t, &a, (part / a.pieces * a.n + k) * a.inner + column);
    put(&a, unit, t);
}

extern "C" cudaError_t dg_cuda_launch_reduce(const void *args, cudaStream_t stream)
{
    const dg_cuda_reduce *a = (const dg_cuda_reduce *)args;
    int64_t units = a->outer * a->pieces;
    if (a->inner == 1)
        return DG_LAUNCH(reduce_rows, dim3(dg_blocks(units, WARPS)), dim3(THREADS), 0, stream, *a);
    return DG_LAUNCH(reduce_columns, dim3(dg_blocks(units * a->inner, THREADS)), dim3(THREADS), 0, stream,
                     *a);
}

/* ---- choices, a thread each: small things of evaluation */

__device__ static bool is_larger(const dg_cuda_choose *a, int64_t i, int64_t j)
{
    if (a->dtype == DG_I32) return ((const int32_t *)a->x)[i] > ((const int32_t *)a->x)[j];
    return dg_load(a->x, i, a->dtype) > dg_load(a->x, j, a->dtype);
}

DG_KERNEL(argmax, dg_cuda_choose, THREADS)
{
    int64_t unit = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (unit >= a.outer * a.inner) return;
    int64_t base = unit / a.inner * a.n * a.inner + unit % a.inner, best = 0;
    for (int64_t k = 1; k < a.n; k++)
        if (is_larger(&a, base + k * a.inner, base + best * a.inner)) best = k;
    a.ids[unit] = (int32_t)best;
}

extern "C" cudaError_t dg_cuda_launch_argmax(const void *args, cudaStream_t stream)
{
    const dg_cuda_choose *a = (const dg_cuda_choose *)args;
    return DG_LAUNCH(argmax, dim3(dg_blocks(a->outer * a->inner, THREADS)), dim3(THREADS), 0, stream, *a);
}

/* Insertion into the best so far, by index. */
DG_KERNEL(top_k, dg_cuda_choose, THREADS)
{
    int64_t row = (int64_t)blockIdx.x * THREADS + threadIdx.x, base = row * a.n;
    if (row >= a.outer) return;
    int32_t *ids = a.ids + row * a.k;
    for (int64_t i = 0; i < a.n; i++) {
        int64_t have = dg_min64(i, a.k), at = have;
        while (at > 0 && is_larger(&a, base + i, base + ids[at - 1])) at--;
        if (at == a.k) continue;
        for (int64_t j = dg_min64(have, a.k - 1); j > at; j--) ids[j] = ids[j - 1];
        ids[at] = (int32_t)i;
    }
    for (int64_t i = 0; i < a.k; i++)
        if (a.dtype == DG_I32)
            ((int32_t *)a.y)[row * a.k + i] = ((const int32_t *)a.x)[base + ids[i]];
        else
            dg_store(a.y, row * a.k + i, a.dtype, dg_load(a.x, base + ids[i], a.dtype));
}

extern "C" cudaError_t dg_cuda_launch_top_k(const void *args, cudaStream_t stream)
{
    const dg_cuda_choose *a = (const dg_cuda_choose *)args;
    return DG_LAUNCH(top_k, dim3(dg_blocks(a->outer, THREADS)), dim3(THREADS), 0, stream, *a);
}
