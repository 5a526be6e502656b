/* rows.cu - layer norm, softmax, unit vectors and cross-entropy: a warp takes a row, and reads it again for
 * each pass, from the cache. Sums are in f32. */
#include "cu.h"

enum { WARPS = 4, THREADS = WARPS * DG_WARP };

/* The row of this warp; there may be none. */
#define MY_ROW ((int64_t)blockIdx.x * WARPS + threadIdx.x / DG_WARP)
#define MY_LANE ((int)(threadIdx.x % DG_WARP))

static unsigned row_blocks(int64_t rows)
{
    return dg_blocks(rows, WARPS);
}

/* n = 4 or 1 elements from i on. */
__device__ static void load_some(const void *p, int64_t i, int dtype, int n, float x[4])
{
    if (n == 4)
        dg_load4(p, i, dtype, x);
    else
        x[0] = dg_load(p, i, dtype);
}

/* ---- layer norm */

__device__ static void norm_four(const dg_cuda_layer_norm *a, int64_t row, int64_t c, float mean, float rstd)
{
    float x[4], g[4], b[4];
    dg_load4(a->x, row * a->width + c, a->x_dtype, x);
    if (a->gamma) dg_load4(a->gamma, c, DG_F32, g);
    if (a->beta) dg_load4(a->beta, c, DG_F32, b);
    for (int e = 0; e < 4; e++) {
        x[e] = (x[e] - mean) * rstd;
        if (a->gamma) x[e] *= g[e];
        if (a->beta) x[e] += b[e];
    }
    dg_store4(a->y, row * a->width + c, a->y_dtype, x);
}

__device__ static void norm_one(const dg_cuda_layer_norm *a, int64_t row, int64_t c, float mean, float rstd)
{
    float x = (dg_load(a->x, row * a->width + c, a->x_dtype) - mean) * rstd;
    if (a->gamma) x *= a->gamma[c];
    if (a->beta) x += a->beta[c];
    dg_store(a->y, row * a->width + c, a->y_dtype, x);
}

DG_KERNEL(layer_norm, dg_cuda_layer_norm, THREADS)
{
    int64_t row = MY_ROW, at = row * a.width;
    int lane = MY_LANE, n = a.vector ? 4 : 1;
    float x[4], sum = 0, square = 0;
    if (row >= a.rows) return;
    for (int64_t c = lane * n; c < a.width; c += DG_WARP * n) {
        load_some(a.x, at + c, a.x_dtype, n, x);
        for (int e = 0; e < n; e++) sum += x[e];
    }
    float mean = dg_warp_sum(sum) / (float)a.width;
    for (int64_t c = lane * n; c < a.width; c += DG_WARP * n) {
        load_some(a.x, at + c, a.x_dtype, n, x);
        for (int e = 0; e < n; e++) square += (x[e] - mean) * (x[e] - mean);
    }
    float rstd = 1.f / sqrtf(dg_warp_sum(square) / (float)a.width + a.eps);
    if (lane == 0) {
        a.mean[row] = mean;
        a.rstd[row] = rstd;
    }
    for (int64_t c = lane * n; c < a.width; c += DG_WARP * n)
        if (n == 4)
            norm_four(&a, row, c, mean, rstd);
        else
            norm_one(&a, row, c, mean, rstd);
}

extern "C" cudaError_t dg_cuda_launch_layer_norm(const void *args, cudaStream_t stream)
{
    const dg_cuda_layer_norm *a = (const dg_cuda_layer_norm *)args;
    return DG_LAUNCH(layer_norm, dim3(row_blocks(a->rows)), dim3(THREADS), 0, stream, *a);
}

/* A block takes GRAD_ROWS rows: first dx, a warp each; then its share of the sums over rows, a thread a
 * column. */
enum { GRAD_WARPS = 8, GRAD_THREADS = GRAD_WARPS * DG_WARP, GRAD_ROWS = 32 };

__device__ static void grad_row(const dg_cuda_layer_norm_grad *a, int64_t row, int lane)
{
    int64_t at = row * a->width;
    float mean = a->mean[row], rstd = a->rstd[row], s = 0, t = 0;
    for (int64_t c = lane; c < a->width; c += DG_WARP) {
        float d = dg_load(a->dy, at + c, a->dy_dtype) * (a->gamma ? a->gamma[c] : 1.f);
        s += d;
        t += d * (dg_load(a->x, at + c, a->x_dtype) - mean) * rstd;
    }
    s = dg_warp_sum(s) / (float)a->width;
    t = dg_warp_sum(t) / (float)a->width;
    for (int64_t c = lane; c < a->width; c += DG_WARP) {
        float d = dg_load(a->dy, at + c, a->dy_dtype) * (a->gamma ? a->gamma[c] : 1.f);
        float hat = (dg_load(a->x, at + c, a->x_dtype) - mean) * rstd;
        dg_store(a->dx, at + c, a->x_dtype, rstd * (d - s - hat * t));
    }
}

DG_KERNEL(layer_norm_grad, dg_cuda_layer_norm_grad, GRAD_THREADS)
{
    int64_t first = (int64_t)blockIdx.x * GRAD_ROWS, end = dg_min64(first + GRAD_ROWS, a.rows);
    for (int64_t row = first + threadIdx.x / DG_WARP; row < end; row += GRAD_WARPS)
        grad_row(&a, row, MY_LANE);
    for (int64_t c = threadIdx.x; c < a.width; c += GRAD_THREADS) {
        float dgamma = 0, dbeta = 0;
        for (int64_t row = first; row < end; row++) {
            float d = dg_load(a.dy, row * a.width + c, a.dy_dtype);
            dgamma += d * (dg_load(a.x, row * a.width + c, a.x_dtype) - a.mean[row]) * a.rstd[row];
            dbeta += d;
        }
        a.partial[(int64_t)blockIdx.x * a.width + c] = dgamma;
        a.partial[(a.blocks + blockIdx.x) * a.width + c] = dbeta;
    }
}

extern "C" int64_t dg_cuda_layer_norm_grad_blocks(int64_t rows)
{
    return (rows + GRAD_ROWS - 1) / GRAD_ROWS;
}

extern "C" cudaError_t dg_cuda_launch_layer_norm_grad(const void *args, cudaStream_t stream)
{
    const dg_cuda_layer_norm_grad *a = (const dg_cuda_layer_norm_grad *)args;
    return DG_LAUNCH(layer_norm_grad, dim3((unsigned)a->blocks), dim3(GRAD_THREADS), 0, stream, *a);
}

/* ---- softmax */

/* The largest element of a row, and the sum of exp(x - largest). */
__device__ static float row_exp_sum(const void *x, int64_t at, int64_t width, int dtype, int lane,
                                    float *largest)
{
    float most = -INFINITY, sum = 0;
    for (int64_t c = lane; c < width; c += DG_WARP) {
        float v = dg_load(x, at + c, dtype);
        most = most != most || most > v ? most : v;
    }
    most = dg_warp_max(most);
    for (int64_t c = lane; c < width; c += DG_WARP) sum += expf(dg_load(x, at + c, dtype) - most);
    *largest = most;
    return dg_warp_sum(sum);
}

DG_KERNEL(softmax, dg_cuda_rows, THREADS)
{
    int64_t row = MY_ROW, at = row * a.width;
    float most;
    if (row >= a.rows) return;
    float sum = row_exp_sum(a.x, at, a.width, a.dtype, MY_LANE, &most);
    for (int64_t c = MY_LANE; c < a.width; c += DG_WARP)
        dg_store(a.out, at + c, a.out_dtype, expf(dg_load(a.x, at + c, a.dtype) - most) / sum);
}

extern "C" cudaError_t dg_cuda_launch_softmax(const void *args, cudaStream_t stream)
{
    const dg_cuda_rows *a = (const dg_cuda_rows *)args;
    return DG_LAUNCH(softmax, dim3(row_blocks(a->rows)), dim3(THREADS), 0, stream, *a);
}

/* ---- unit vectors */

DG_KERNEL(normalize, dg_cuda_rows, THREADS)
{
    int64_t row = MY_ROW, at = row * a.width;
    float square = 0;
    if (row >= a.rows) return;
    for (int64_t c = MY_LANE; c < a.width; c += DG_WARP) {
        float v = dg_load(a.x, at + c, a.dtype);
        square += v * v;
    }
    float norm = sqrtf(dg_warp_sum(square)), rnorm = 1.f / (norm != norm || norm > a.eps ? norm : a.eps);
    if (MY_LANE == 0) a.rnorm[row] = rnorm;
    for (int64_t c = MY_LANE; c < a.width; c += DG_WARP)
        dg_store(a.out, at + c, a.out_dtype, dg_load(a.x, at + c, a.dtype) * rnorm);
}

extern "C" cudaError_t dg_cuda_launch_normalize(const void *args, cudaStream_t stream)
{
    const dg_cuda_rows *a = (const dg_cuda_rows *)args;
    return DG_LAUNCH(normalize, dim3(row_blocks(a->rows)), dim3(THREADS), 0, stream, *a);
}

DG_KERNEL(normalize_grad, dg_cuda_rows, THREADS)
{
    int64_t row = MY_ROW, at = row * a.width;
    float along = 0;
    if (row >= a.rows) return;
    for (int64_t c = MY_LANE; c < a.width; c += DG_WARP)
        along += dg_load(a.x, at + c, a.dtype) * dg_load(a.y, at + c, a.y_dtype);
    along = dg_warp_sum(along);
    if (!(a.rnorm[row] * a.eps < 0.999999f)) along = 0; /* the length counted as eps */
    for (int64_t c = MY_LANE; c < a.width; c += DG_WARP) {
        float rest = dg_load(a.x, at + c, a.dtype) - dg_load(a.y, at + c, a.y_dtype) * along;
        dg_store(a.out, at + c, a.out_dtype, a.rnorm[row] * rest);
    }
}

extern "C" cudaError_t dg_cuda_launch_normalize_grad(const void *args, cudaStream_t stream)
{
    const dg_cuda_rows *a = (const dg_cuda_rows *)args;
    return DG_LAUNCH(normalize_grad, dim3(row_blocks(a->rows)), dim3(THREADS), 0, stream, *a);
}

/* ---- cross-entropy */

/* The smoothed target of class c. */
__device__ static float target_of(const dg_cuda_entropy *a, int64_t row, int64_t c)
{
    float t = a->ids ? (float)(a->ids[row] == c) : a->soft[row * a->classes + c];
    return t * (1.f - a->smoothing) + a->smoothing / (float)a->classes;
}

DG_KERNEL(cross_entropy, dg_cuda_entropy, THREADS)
{
    int64_t row = MY_ROW, at = row * a.classes;
    float most, loss = 0;
    if (row >= a.rows) return;
    float log_sum = logf(row_exp_sum(a.x, at, a.classes, a.dtype, MY_LANE, &most));
    for (int64_t c = MY_LANE; c < a.classes; c += DG_WARP) {
        float t = target_of(&a, row, c);
        /* 0 where t is 0, also for a class that is ruled out by a logit of -inf */
        if (t != 0.f) loss += t * (log_sum - (dg_load(a.x, at + c, a.dtype) - most));
    }
    loss = dg_warp_sum(loss);
    if (MY_LANE) return;
    a.loss[row] = a.ids && a.ids[row] < 0 ? 0.f : loss;
    a.lse[row] = most + log_sum;
}

extern "C" cudaError_t dg_cuda_launch_cross_entropy(const void *args, cudaStream_t stream)
{
    const dg_cuda_entropy *a = (const dg_cuda_entropy *)args;
    return DG_LAUNCH(cross_entropy, dim3(row_blocks(a->rows)), dim3(THREADS), 0, stream, *a);
}

DG_KERNEL(cross_entropy_grad, dg_cuda_entropy, THREADS)
{
    int64_t row = MY_ROW, at = row * a.classes;
    float total = 0;
    if (row >= a.rows) return;
    for (int64_t c = MY_LANE; c < a.classes; c += DG_WARP) total += target_of(&a, row, c);
    total = dg_warp_sum(total);
    float dy = a.ids && a.ids[row] < 0 ? 0.f : a.dy[row], lse = a.lse[row];
    for (int64_t c = MY_LANE; c < a.classes; c += DG_WARP) {
        float d = expf(dg_load(a.x, at + c, a.dtype) - lse) * total - target_of(&a, row, c);
        dg_store(a.dx, at + c, a.dtype, dy == 0.f ? 0.f : dy * d);
    }
}

extern "C" cudaError_t dg_cuda_launch_cross_entropy_grad(const void *args, cudaStream_t stream)
{
    const dg_cuda_entropy *a = (const dg_cuda_entropy *)args;
    return DG_LAUNCH(cross_entropy_grad, dim3(row_blocks(a->rows)), dim3(THREADS), 0, stream, *a);
}
