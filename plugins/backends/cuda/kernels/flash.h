/* flash.h - what the two attention kernels on matrix units share: tiles of bf16 rows in shared memory, and
 * products of 16 rows that a warp has with all rows of a tile.
 *
 * A fragment is what a lane holds of a matrix (PTX ISA, mma.m16n8k16): of a 16 x 8 result, rows lane / 4 and
 * lane / 4 + 8, columns lane % 4 * 2 and the next one. Rows in shared memory are D + 8 elements apart, so
 * that the 8 rows of an ldmatrix fall into different banks. */
#ifndef DG_CUDA_FLASH_H
#define DG_CUDA_FLASH_H

#include "cu.h"

enum { FLASH_WARPS = 4, FLASH_THREADS = FLASH_WARPS * DG_WARP, FLASH_ROWS = FLASH_WARPS * 16 };

typedef uint16_t bf16;

#define FLASH_LOG2E 1.4426950408889634f

/* Asks for rows first .. first + rows - 1 of one head, zeros past the end; the caller commits and waits. */
template <int D>
__device__ static void flash_load(bf16 *tile, int rows, const void *x, int64_t row, int64_t n, int64_t first)
{
    for (int i = threadIdx.x; i < rows * (D / 8); i += FLASH_THREADS) {
        int r = i / (D / 8), c = i % (D / 8) * 8;
        bool valid = first + r < n;
        dg_copy_async(tile + r * (D + 8) + c, (const bf16 *)x + (valid ? first + r : 0) * row + c, valid);
    }
}

/* s[.][4] = the 16 rows from `mine` on times the N rows of tile, transposed: scores of 16 x N. */
template <int D, int N>
__device__ static void flash_scores(float s[N / 8][4], const bf16 *mine, const bf16 *tile, int lane)
{
    for (int n = 0; n < N / 8; n++)
        for (int e = 0; e < 4; e++) s[n][e] = 0;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t a[4], b[4];
        dg_ldmatrix(a, mine + (lane & 15) * (D + 8) + k + (lane >> 4) * 8);
#pragma unroll
        for (int n = 0; n < N / 8; n += 2) {
            dg_ldmatrix(b, tile + (n * 8 + (lane & 7) + ((lane >> 4) << 3)) * (D + 8) + k +
                               ((lane >> 3) & 1) * 8);
            dg_mma(s[n], a, b);
            dg_mma(s[n + 1], a, b + 2);
        }
    }
}

/* sum [16, D] += weights [16, N], rounded to bf16, times the N rows of tile. */
template <int D, int N>
__device__ static void flash_add(float sum[D / 8][4], const float w[N / 8][4], const bf16 *tile, int lane)
{
#pragma unroll
    for (int k = 0; k < N / 16; k++) {
        uint32_t a[4] = {dg_pack(w[2 * k][0], w[2 * k][1]), dg_pack(w[2 * k][2], w[2 * k][3]),
                         dg_pack(w[2 * k + 1][0], w[2 * k + 1][1]),
                         dg_pack(w[2 * k + 1][2], w[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            uint32_t b[4];
            dg_ldmatrix_t(b, tile + (k * 16 + (lane & 15)) * (D + 8) + n * 8 + (lane >> 4) * 8);
            dg_mma(sum[n], a, b);
            dg_mma(sum[n + 1], a, b + 2);
        }
    }
}

/* Writes 16 rows of one head, `scale` times: y is dense [b, n, h, D]. */
template <int D>
__device__ static void flash_store(const dg_cuda_attention *a, void *y, int64_t n, int64_t b, int h,
                                   int64_t row, float sum[D / 8][4], const float scale[2], int lane)
{
    for (int i = 0; i < 2; i++) {
        int64_t at = row + (lane >> 2) + i * 8;
        if (at >= n) continue;
        bf16 *to = (bf16 *)y + ((b * n + at) * a->h + h) * D + (lane & 3) * 2;
        for (int c = 0; c < D / 8; c++)
            *DG_WIDE(uint32_t, to + c * 8) = dg_pack(sum[c][i * 2] * scale[i], sum[c][i * 2 + 1] * scale[i]);
    }
}

/* Smallest (sign 1) or negated largest (sign -1) group of rows first .. first + n - 1; of no rows, the
 * largest int. */
__device__ static inline int32_t flash_least(const int32_t *groups, int64_t first, int n, int64_t all,
                                             int sign, int lane)
{
    int32_t least = INT32_MAX;
    for (int i = lane; i < n && first + i < all; i += DG_WARP) {
        int32_t g = groups[first + i] * sign;
        least = g < least ? g : least;
    }
    for (int o = DG_WARP / 2; o; o >>= 1) {
        int32_t other = __shfl_xor_sync(DG_ALL_LANES, least, o);
        least = other < least ? other : least;
    }
    return least;
}

/* The sample's groups, or NULL. */
__device__ static inline const int32_t *flash_groups(const int32_t *groups, int each, int64_t b, int64_t n)
{
    return groups ? groups + (each ? b * n : 0) : NULL;
}

/* May the queries from `query` on see any of the keys from `key` on? The same for all threads. */
__device__ static inline bool flash_tile_seen(const dg_cuda_attention *a, const int32_t *gq,
                                              const int32_t *gk, int64_t query, int n_queries, int64_t key,
                                              int n_keys, int lane)
{
    if (!gq) return true;
    int32_t most = -flash_least(gq, query, n_queries, a->nq, -1, lane),
            least = flash_least(gk, key, n_keys, a->nk, 1, lane);
    return a->strict ? least < most : least <= most;
}

__device__ static inline bool flash_sees(const dg_cuda_attention *a, const int32_t *gq, const int32_t *gk,
                                         int64_t query, int64_t key)
{
    if (query >= a->nq || key >= a->nk) return false;
    if (!gq) return true;
    return a->strict ? gk[key] < gq[query] : gk[key] <= gq[query];
}

/* A switch over the head widths that there are kernels for. */
#define FLASH_WIDTHS(CALL, D)                                                                                \
    (D) == 32 ? CALL(32) : (D) == 64 ? CALL(64) : (D) == 80 ? CALL(80) : cudaErrorInvalidValue

#endif
