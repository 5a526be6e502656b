/* attention.cu - attention and its adjoint for any head width up to 128 and both real dtypes, in f32
 * arithmetic, without ever writing the scores: for f32, and for what flash.cu does not take.
 *
 * A block has WARPS warps of ROWS rows of one head. It walks the other side in tiles of 32: a lane makes the
 * score of one pair, then owns every 32nd column of the sums. */
#include "cu.h"

enum {
    WARPS = 4,
    THREADS = WARPS * DG_WARP,
    ROWS = 4,
    BLOCK_ROWS = WARPS * ROWS,
    COLUMNS = DG_CUDA_HEAD_MOST / DG_WARP
};

typedef struct place {
    int64_t b;     /* sample */
    int h;         /* head */
    int64_t first; /* row of the block */
    int warp, lane;
} place;

__device__ static place place_of(const dg_cuda_attention *a)
{
    place p = {blockIdx.y / a->h, (int)(blockIdx.y % a->h), (int64_t)blockIdx.x * BLOCK_ROWS,
               (int)(threadIdx.x / DG_WARP), (int)(threadIdx.x % DG_WARP)};
    return p;
}

/* `rows` rows of one head from row `first` on, zeros past the end, into to [rows, step] in f32. */
__device__ static void load_rows(const dg_cuda_attention *a, const void *x, int64_t row, int64_t n,
                                 const place *p, int64_t first, int rows, int step, float *to)
{
    for (int i = threadIdx.x; i < rows * a->d; i += THREADS) {
        int r = i / a->d, c = i % a->d;
        int64_t at = first + r;
        to[r * step + c] =
            at < n ? dg_load(x, (p->b * n + at) * row + (int64_t)p->h * a->d + c, a->dtype) : 0.f;
    }
}

__device__ static float dot(const float *x, const float *y, int d)
{
    float s = 0;
    for (int c = 0; c < d; c++) s += x[c] * y[c];
    return s;
}

__device__ static bool sees(const dg_cuda_attention *a, int64_t b, int64_t query, int64_t key)
{
    if (query >= a->nq || key >= a->nk) return false;
    if (!a->group_q) return true;
    int32_t q = a->group_q[(a->group_q_each ? b * a->nq : 0) + query];
    int32_t k = a->group_k[(a->group_k_each ? b * a->nk : 0) + key];
    return a->strict ? k < q : k <= q;
}

/* sum[r][.] += sum over the tile's 32 rows j of weights[r][j] tile[j][.] */
__device__ static void add_weighted(float sum[ROWS][COLUMNS], const float *weights, const float *tile,
                                    int step, int d, int lane)
{
    for (int j = 0; j < DG_WARP; j++)
        for (int k = 0; k < COLUMNS; k++) {
            int c = lane + k * DG_WARP;
            if (c >= d) break;
            float x = tile[j * step + c];
            for (int r = 0; r < ROWS; r++) sum[r][k] += weights[r * DG_WARP + j] * x;
        }
}

__device__ static void store_rows(const dg_cuda_attention *a, void *y, int64_t n, const place *p,
                                  const float scale[ROWS], float sum[ROWS][COLUMNS])
{
    for (int r = 0; r < ROWS; r++) {
        int64_t row = p->first + p->warp * ROWS + r;
        if (row >= n) break;
        int64_t at = ((p->b * n + row) * a->h + p->h) * a->d;
        for (int k = 0; k < COLUMNS; k++) {
            int c = p->lane + k * DG_WARP;
            if (c < a->d) dg_store(y, at + c, a->dtype, sum[r][k] * scale[r]);
        }
    }
}

/* ---- forward */

/* Softmax while walking (Milakov and Gimelshein, 2018): `most` and `total` are of the scores so far. */
DG_KERNEL(forward, dg_cuda_attention, THREADS)
{
    place p = place_of(&a);
    int step = a.d + 1;
    DG_DYNAMIC(float, shared);
    float *tk = shared, *tv = tk + DG_WARP * step, *tq = tv + DG_WARP * step,
          *weights = tq + BLOCK_ROWS * step;
    float *mine = weights + p.warp * ROWS * DG_WARP;
    float sum[ROWS][COLUMNS] = {{0}}, most[ROWS], total[ROWS];
    for (int r = 0; r < ROWS; r++) most[r] = -INFINITY, total[r] = 0;
    load_rows(&a, a.q, a.q_row, a.nq, &p, p.first, BLOCK_ROWS, step, tq);
    for (int64_t key = 0; key < a.nk; key += DG_WARP) {
        __syncthreads();
        load_rows(&a, a.k, a.k_row, a.nk, &p, key, DG_WARP, step, tk);
        load_rows(&a, a.v, a.v_row, a.nk, &p, key, DG_WARP, step, tv);
        __syncthreads();
        for (int r = 0; r < ROWS; r++) {
            int at = p.warp * ROWS + r;
            float s = -INFINITY;
            if (sees(&a, p.b, p.first + at, key + p.lane))
                s = dot(tq + at * step, tk + p.lane * step, a.d) * a.scale;
            float next = fmaxf(most[r], dg_warp_max(s)), shrink = 1.f, w = 0.f;
            if (next > -INFINITY) {
                shrink = expf(most[r] - next);
                w = expf(s - next);
            }
            total[r] = total[r] * shrink + dg_warp_sum(w);
            most[r] = next;
            for (int k = 0; k < COLUMNS; k++) sum[r][k] *= shrink;
            mine[r * DG_WARP + p.lane] = w;
        }
        __syncwarp();
        add_weighted(sum, mine, tv, step, a.d, p.lane);
    }
    float scale[ROWS];
    for (int r = 0; r < ROWS; r++) {
        int64_t row = p.first + p.warp * ROWS + r;
        scale[r] = total[r] == 0.f ? 0.f : 1.f / total[r];
        if (p.lane == 0 && row < a.nq)
            a.lse[(p.b * a.h + p.h) * a.nq + row] = total[r] == 0.f ? -INFINITY : most[r] + logf(total[r]);
    }
    store_rows(&a, a.y, a.nq, &p, scale, sum);
}

extern "C" cudaError_t dg_cuda_launch_attention(const void *args, cudaStream_t stream)
{
    const dg_cuda_attention *a = (const dg_cuda_attention *)args;
    size_t shared = sizeof(float) * (size_t)((2 * DG_WARP + BLOCK_ROWS) * (a->d + 1) + BLOCK_ROWS * DG_WARP);
    DG_ALLOW_SHARED(forward, shared);
    return DG_LAUNCH(forward, dim3(dg_blocks(a->nq, BLOCK_ROWS), (unsigned)(a->b * a->h)), dim3(THREADS),
                     shared, stream, *a);
}

/* ---- adjoint (Dao et al., FlashAttention, 2022, appendix B): p = exp(s - lse), ds = p (dy v' - delta) */

/* delta: a warp takes a row of a head. */
DG_KERNEL(backward_delta, dg_cuda_attention, THREADS)
{
    int64_t unit = (int64_t)blockIdx.x * WARPS + threadIdx.x / DG_WARP;
    if (unit >= a.b * a.h * a.nq) return;
    int64_t row = unit % a.nq, h = unit / a.nq % a.h, b = unit / a.nq / a.h;
    float s = 0;
    for (int64_t c = threadIdx.x % DG_WARP; c < a.d; c += DG_WARP) {
        int64_t at = (b * a.nq + row), column = h * a.d + c;
        s += dg_load(a.dy, at * a.dy_row + column, a.dtype) * dg_load(a.y_in, at * a.y_row + column, a.dtype);
    }
    s = dg_warp_sum(s);
    if (threadIdx.x % DG_WARP == 0) a.delta[unit] = s;
}

extern "C" cudaError_t dg_cuda_launch_attention_delta(const void *args, cudaStream_t stream)
{
    const dg_cuda_attention *a = (const dg_cuda_attention *)args;
    return DG_LAUNCH(backward_delta, dim3(dg_blocks(a->b * a->h * a->nq, WARPS)), dim3(THREADS), 0, stream,
                     *a);
}

/* The weight of a pair, and the slope of its score; zeros where the query does not see the key. */
__device__ static void pair(const dg_cuda_attention *a, const place *p, int64_t query, int64_t key,
                            const float *q, const float *k, const float *dy, const float *v, float *weight,
                            float *slope)
{
    *weight = *slope = 0.f;
    if (!sees(a, p->b, query, key)) return;
    int64_t at = (p->b * a->h + p->h) * a->nq + query;
    float lse = a->lse_in[at];
    *weight = expf(dot(q, k, a->d) * a->scale - (lse > -INFINITY ? lse : 0.f));
    *slope = *weight * (dot(dy, v, a->d) - a->delta[at]) * a->scale;
}

DG_KERNEL(backward_q, dg_cuda_attention, THREADS)
{
    place p = place_of(&a);
    int step = a.d + 1;
    DG_DYNAMIC(float, shared);
    float *tk = shared, *tv = tk + DG_WARP * step, *tq = tv + DG_WARP * step, *tdy = tq + BLOCK_ROWS * step;
    float *mine = tdy + BLOCK_ROWS * step + p.warp * ROWS * DG_WARP;
    float dq[ROWS][COLUMNS] = {{0}};
    const float ones[ROWS] = {1, 1, 1, 1};
    load_rows(&a, a.q, a.q_row, a.nq, &p, p.first, BLOCK_ROWS, step, tq);
    load_rows(&a, a.dy, a.dy_row, a.nq, &p, p.first, BLOCK_ROWS, step, tdy);
    for (int64_t key = 0; key < a.nk; key += DG_WARP) {
        __syncthreads();
        load_rows(&a, a.k, a.k_row, a.nk, &p, key, DG_WARP, step, tk);
        load_rows(&a, a.v, a.v_row, a.nk, &p, key, DG_WARP, step, tv);
        __syncthreads();
        for (int r = 0; r < ROWS; r++) {
            int at = p.warp * ROWS + r;
            float weight, slope;
            pair(&a, &p, p.first + at, key + p.lane, tq + at * step, tk + p.lane * step, tdy + at * step,
                 tv + p.lane * step, &weight, &slope);
            mine[r * DG_WARP + p.lane] = slope;
        }
        __syncwarp();
        add_weighted(dq, mine, tk, step, a.d, p.lane);
    }
    store_rows(&a, a.dq, a.nq, &p, ones, dq);
}

DG_KERNEL(backward_kv, dg_cuda_attention, THREADS)
{
    place p = place_of(&a);
    int step = a.d + 1;
    DG_DYNAMIC(float, shared);
    float *tq = shared, *tdy = tq + DG_WARP * step, *tk = tdy + DG_WARP * step, *tv = tk + BLOCK_ROWS * step;
    float *weights = tv + BLOCK_ROWS * step + p.warp * ROWS * DG_WARP,
          *slopes = weights + BLOCK_ROWS * DG_WARP;
    float dk[ROWS][COLUMNS] = {{0}}, dv[ROWS][COLUMNS] = {{0}};
    const float ones[ROWS] = {1, 1, 1, 1};
    load_rows(&a, a.k, a.k_row, a.nk, &p, p.first, BLOCK_ROWS, step, tk);
    load_rows(&a, a.v, a.v_row, a.nk, &p, p.first, BLOCK_ROWS, step, tv);
    for (int64_t query = 0; query < a.nq; query += DG_WARP) {
        __syncthreads();
        load_rows(&a, a.q, a.q_row, a.nq, &p, query, DG_WARP, step, tq);
        load_rows(&a, a.dy, a.dy_row, a.nq, &p, query, DG_WARP, step, tdy);
        __syncthreads();
        for (int r = 0; r < ROWS; r++) {
            int at = p.warp * ROWS + r;
            pair(&a, &p, query + p.lane, p.first + at, tq + p.lane * step, tk + at * step,
                 tdy + p.lane * step, tv + at * step, &weights[r * DG_WARP + p.lane],
                 &slopes[r * DG_WARP + p.lane]);
        }
        __syncwarp();
        add_weighted(dk, slopes, tq, step, a.d, p.lane);
        add_weighted(dv, weights, tdy, step, a.d, p.lane);
    }
    store_rows(&a, a.dk, a.nk, &p, ones, dk);
    store_rows(&a, a.dv, a.nk, &p, ones, dv);
}

extern "C" cudaError_t dg_cuda_launch_attention_grad(const void *args, cudaStream_t stream)
{
    const dg_cuda_attention *a = (const dg_cuda_attention *)args;
    unsigned heads = (unsigned)(a->b * a->h);
    size_t tiles = sizeof(float) * (size_t)((2 * DG_WARP + 2 * BLOCK_ROWS) * (a->d + 1));
    size_t weights = sizeof(float) * BLOCK_ROWS * DG_WARP;
    cudaError_t e = dg_cuda_launch_attention_delta(args, stream);
    if (e != cudaSuccess) return e;
    DG_ALLOW_SHARED(backward_q, tiles + weights);
    e = DG_LAUNCH(backward_q, dim3(dg_blocks(a->nq, BLOCK_ROWS), heads), dim3(THREADS), tiles + weights,
                  stream, *a);
    if (e != cudaSuccess) return e;
    DG_ALLOW_SHARED(backward_kv, tiles + 2 * weights);
    return DG_LAUNCH(backward_kv, dim3(dg_blocks(a->nk, BLOCK_ROWS), heads), dim3(THREADS),
                     tiles + 2 * weights, stream, *a);
}
