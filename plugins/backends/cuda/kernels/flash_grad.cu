/* flash_grad.cu - the adjoint of attention on matrix units. Two kernels of one form: a block has 64 rows of
 * one side of a head (queries for dq, keys for dk and dv) and walks the other side in tiles of 32. Weights p
 * = exp(s - lse) and slopes ds = p (dy v' - delta) are made again in both, so that no sum needs atomics. */
#include "flash.h"

enum { COLUMNS = 32 };

/* A side of the product: rows of two tensors, q with dy or k with v. */
typedef struct side {
    const bf16 *one, *two;
    int64_t one_row, two_row, n;
} side;

__device__ static side side_of(const dg_cuda_attention *a, int64_t b, int h, bool keys)
{
    int64_t n = keys ? a->nk : a->nq, column = (int64_t)h * a->d;
    side s = {(const bf16 *)(keys ? a->k : a->q), (const bf16 *)(keys ? a->v : a->dy),
              keys ? a->k_row : a->q_row, keys ? a->v_row : a->dy_row, n};
    s.one += b * n * s.one_row + column;
    s.two += b * n * s.two_row + column;
    return s;
}

/* s: scores -> slopes; t: dy v' -> weights. Element e of column n: row row + e / 2 * 8 against column col +
 * .. */
template <bool KEYS>
__device__ static void slopes(const dg_cuda_attention *a, const int32_t *gq, const int32_t *gk, int64_t head,
                              int64_t row, int64_t column, int lane, float s[COLUMNS / 8][4],
                              float t[COLUMNS / 8][4])
{
    for (int n = 0; n < COLUMNS / 8; n++)
        for (int e = 0; e < 4; e++) {
            int64_t r = row + (lane >> 2) + (e >> 1) * 8, c = column + n * 8 + (lane & 3) * 2 + (e & 1);
            int64_t query = KEYS ? c : r, key = KEYS ? r : c;
            float weight = 0, slope = 0;
            if (flash_sees(a, gq, gk, query, key)) {
                float lse = a->lse_in[head * a->nq + query];
                weight = exp2f((s[n][e] * a->scale - (lse > -INFINITY ? lse : 0.f)) * FLASH_LOG2E);
                slope = weight * (t[n][e] - a->delta[head * a->nq + query]) * a->scale;
            }
            s[n][e] = slope;
            t[n][e] = weight;
        }
}

template <int D, bool KEYS> __device__ static void flash_backward(const dg_cuda_attention *a)
{
    DG_DYNAMIC(bf16, x1); // [2 FLASH_ROWS + 2 COLUMNS, D + 8]
    bf16 *x2 = x1 + FLASH_ROWS * (D + 8), *y1 = x2 + FLASH_ROWS * (D + 8), *y2 = y1 + COLUMNS * (D + 8);
    int lane = threadIdx.x % DG_WARP, warp = threadIdx.x / DG_WARP, h = blockIdx.y % a->h;
    int64_t b = blockIdx.y / a->h, first = (int64_t)blockIdx.x * FLASH_ROWS;
    side mine = side_of(a, b, h, KEYS), other = side_of(a, b, h, !KEYS);
    const int32_t *gq = flash_groups(a->group_q, a->group_q_each, b, a->nq);
    const int32_t *gk = flash_groups(a->group_k, a->group_k_each, b, a->nk);
    float sum1[D / 8][4] = {{0}}, sum2[KEYS ? D / 8 : 1][4] = {{0}}, s[COLUMNS / 8][4], t[COLUMNS / 8][4];
    const float ones[2] = {1, 1};
    flash_load<D>(x1, FLASH_ROWS, mine.one, mine.one_row, mine.n, first);
    flash_load<D>(x2, FLASH_ROWS, mine.two, mine.two_row, mine.n, first);
    for (int64_t column = 0; column < other.n; column += COLUMNS) {
        bool seen = KEYS ? flash_tile_seen(a, gq, gk, column, COLUMNS, first, FLASH_ROWS, lane)
                         : flash_tile_seen(a, gq, gk, first, FLASH_ROWS, column, COLUMNS, lane);
        if (!seen) continue;
        flash_load<D>(y1, COLUMNS, other.one, other.one_row, other.n, column);
        flash_load<D>(y2, COLUMNS, other.two, other.two_row, other.n, column);
        dg_copy_commit();
        dg_copy_wait();
        __syncthreads();
        flash_scores<D, COLUMNS>(s, x1 + warp * 16 * (D + 8), y1, lane);
        flash_scores<D, COLUMNS>(t, x2 + warp * 16 * (D + 8), y2, lane);
        slopes<KEYS>(a, gq, gk, b * a->h + h, first + warp * 16, column, lane, s, t);
        flash_add<D, COLUMNS>(sum1, s, y1, lane);
        if constexpr (KEYS) flash_add<D, COLUMNS>(sum2, t, y2, lane);
        __syncthreads(); /* before the next tile comes */
    }
    dg_copy_commit();
    dg_copy_wait(); /* of the rows, if no tile was seen */
    flash_store<D>(a, KEYS ? a->dk : a->dq, mine.n, b, h, first + warp * 16, sum1, ones, lane);
    if constexpr (KEYS) flash_store<D>(a, a->dv, mine.n, b, h, first + warp * 16, sum2, ones, lane);
}

DG_KERNEL(flash_queries_32, dg_cuda_attention, FLASH_THREADS)
{
    flash_backward<32, false>(&a);
}
DG_KERNEL(flash_queries_64, dg_cuda_attention, FLASH_THREADS)
{
    flash_backward<64, false>(&a);
}
DG_KERNEL(flash_queries_80, dg_cuda_attention, FLASH_THREADS)
{
    flash_backward<80, false>(&a);
}
DG_KERNEL(flash_keys_32, dg_cuda_attention, FLASH_THREADS)
{
    flash_backward<32, true>(&a);
}
DG_KERNEL(flash_keys_64, dg_cuda_attention, FLASH_THREADS)
{
    flash_backward<64, true>(&a);
}
DG_KERNEL(flash_keys_80, dg_cuda_attention, FLASH_THREADS)
{
    flash_backward<80, true>(&a);
}

extern "C" cudaError_t dg_cuda_launch_flash_grad(const void *args, cudaStream_t stream)
{
    const dg_cuda_attention *a = (const dg_cuda_attention *)args;
    dim3 queries(dg_blocks(a->nq, FLASH_ROWS), (unsigned)(a->b * a->h));
    dim3 keys(dg_blocks(a->nk, FLASH_ROWS), (unsigned)(a->b * a->h));
    size_t shared = sizeof(bf16) * (size_t)(2 * (FLASH_ROWS + COLUMNS) * (a->d + 8));
    cudaError_t e = dg_cuda_launch_attention_delta(args, stream);
    if (e != cudaSuccess) return e;
#define QUERIES(D) DG_LAUNCH(flash_queries_##D, queries, dim3(FLASH_THREADS), shared, stream, *a)
#define KEYS(D) DG_LAUNCH(flash_keys_##D, keys, dim3(FLASH_THREADS), shared, stream, *a)
    e = FLASH_WIDTHS(QUERIES, a->d);
    return e == cudaSuccess ? FLASH_WIDTHS(KEYS, a->d) : e;
}
