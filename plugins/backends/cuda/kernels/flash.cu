/* flash.cu - attention on matrix units (Dao, FlashAttention-2, 2023): a block has 64 queries of one head, a
 * warp 16 of them, and walks the keys in tiles of 64, in bf16 with f32 sums. Tiles that no query of the block
 * sees are left out. */
#include "flash.h"

enum { KEYS = 64 };

/* One tile's scores become weights; what was summed before shrinks to the new maximum. In units of log 2. */
template <int D>
__device__ static void soften(float s[KEYS / 8][4], float sum[D / 8][4], float most[2], float total[2])
{
    for (int i = 0; i < 2; i++) {
        float next = most[i], part = 0;
        for (int n = 0; n < KEYS / 8; n++) next = fmaxf(next, fmaxf(s[n][i * 2], s[n][i * 2 + 1]));
        next = fmaxf(next, __shfl_xor_sync(DG_ALL_LANES, next, 1));
        next = fmaxf(next, __shfl_xor_sync(DG_ALL_LANES, next, 2));
        float zero = next == -INFINITY ? 0.f : next, shrink = exp2f(most[i] - zero);
        for (int n = 0; n < KEYS / 8; n++)
            for (int j = i * 2; j < i * 2 + 2; j++) {
                s[n][j] = exp2f(s[n][j] - zero);
                part += s[n][j];
            }
        most[i] = next;
        total[i] = total[i] * shrink + part;
        for (int n = 0; n < D / 8; n++) {
            sum[n][i * 2] *= shrink;
            sum[n][i * 2 + 1] *= shrink;
        }
    }
}

template <int D> __device__ static void flash_forward(const dg_cuda_attention *a)
{
    DG_DYNAMIC(bf16, tq); // [FLASH_ROWS + 2 KEYS, D + 8]
    bf16 *tk = tq + FLASH_ROWS * (D + 8), *tv = tk + KEYS * (D + 8);
    int lane = threadIdx.x % DG_WARP, warp = threadIdx.x / DG_WARP, h = blockIdx.y % a->h;
    int64_t b = blockIdx.y / a->h, first = (int64_t)blockIdx.x * FLASH_ROWS,
            row = first + warp * 16 + (lane >> 2);
    const bf16 *q = (const bf16 *)a->q + b * a->nq * a->q_row + h * D;
    const bf16 *k = (const bf16 *)a->k + b * a->nk * a->k_row + h * D;
    const bf16 *v = (const bf16 *)a->v + b * a->nk * a->v_row + h * D;
    const int32_t *gq = flash_groups(a->group_q, a->group_q_each, b, a->nq);
    const int32_t *gk = flash_groups(a->group_k, a->group_k_each, b, a->nk);
    float sum[D / 8][4] = {{0}}, s[KEYS / 8][4], most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0},
                  scale[2];
    flash_load<D>(tq, FLASH_ROWS, q, a->q_row, a->nq, first);
    dg_copy_commit();
    for (int64_t key = 0; key < a->nk; key += KEYS) {
        if (!flash_tile_seen(a, gq, gk, first, FLASH_ROWS, key, KEYS, lane)) continue;
        flash_load<D>(tk, KEYS, k, a->k_row, a->nk, key);
        dg_copy_commit();
        flash_load<D>(tv, KEYS, v, a->v_row, a->nk, key);
        dg_copy_commit();
        dg_copy_wait_but_one(); /* queries and keys are here */
        __syncthreads();
        flash_scores<D, KEYS>(s, tq + warp * 16 * (D + 8), tk, lane);
        for (int n = 0; n < KEYS / 8; n++)
            for (int e = 0; e < 4; e++) {
                bool seen = flash_sees(a, gq, gk, row + (e >> 1) * 8, key + n * 8 + (lane & 3) * 2 + (e & 1));
                s[n][e] = seen ? s[n][e] * (a->scale * FLASH_LOG2E) : -INFINITY;
            }
        soften<D>(s, sum, most, total);
        dg_copy_wait();
        __syncthreads();
        flash_add<D, KEYS>(sum, s, tv, lane);
        __syncthreads(); /* before the next tile comes */
    }
    dg_copy_wait(); /* of the queries, if no tile was seen */
    for (int i = 0; i < 2; i++) {
        float t = total[i];
        t += __shfl_xor_sync(DG_ALL_LANES, t, 1);
        t += __shfl_xor_sync(DG_ALL_LANES, t, 2);
        scale[i] = t == 0.f ? 0.f : 1.f / t;
        int64_t at = row + i * 8;
        if (lane % 4 == 0 && at < a->nq)
            a->lse[(b * a->h + h) * a->nq + at] = t == 0.f ? -INFINITY : most[i] / FLASH_LOG2E + logf(t);
    }
    flash_store<D>(a, a->y, a->nq, b, h, first + warp * 16, sum, scale, lane);
}

DG_KERNEL(flash_32, dg_cuda_attention, FLASH_THREADS)
{
    flash_forward<32>(&a);
}
DG_KERNEL(flash_64, dg_cuda_attention, FLASH_THREADS)
{
    flash_forward<64>(&a);
}
DG_KERNEL(flash_80, dg_cuda_attention, FLASH_THREADS)
{
    flash_forward<80>(&a);
}

static bool rows_fit(const void *x, int64_t row)
{
    return (uintptr_t)x % 16 == 0 && row % 8 == 0;
}

extern "C" bool dg_cuda_flash_takes(const dg_cuda_attention *a)
{
    if (a->dtype != DG_BF16 || (a->d != 32 && a->d != 64 && a->d != 80)) return false;
    return rows_fit(a->q, a->q_row) && rows_fit(a->k, a->k_row) && rows_fit(a->v, a->v_row) &&
           rows_fit(a->dy, a->dy_row) && rows_fit(a->y, 0);
}

extern "C" cudaError_t dg_cuda_launch_flash(const void *args, cudaStream_t stream)
{
    const dg_cuda_attention *a = (const dg_cuda_attention *)args;
    dim3 grid(dg_blocks(a->nq, FLASH_ROWS), (unsigned)(a->b * a->h));
    size_t shared = sizeof(bf16) * (size_t)((FLASH_ROWS + 2 * KEYS) * (a->d + 8));
#define CALL(D) DG_LAUNCH(flash_##D, grid, dim3(FLASH_THREADS), shared, stream, *a)
    return FLASH_WIDTHS(CALL, a->d);
#undef CALL
}
