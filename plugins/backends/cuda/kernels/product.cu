/* product.cu - a matrix product for the shapes and dtypes that cuBLASLt has no kernel for: a block makes a
 * tile of SIDE x SIDE results, a thread one of them. f32 sums, in the order of k. */
#include "cu.h"

enum { SIDE = 16 };

DG_KERNEL(product, dg_cuda_product, SIDE *SIDE)
{
    __shared__ float ta[SIDE][SIDE + 1], tb[SIDE][SIDE + 1];
    int64_t row = (int64_t)blockIdx.y * SIDE + threadIdx.y, column = (int64_t)blockIdx.x * SIDE + threadIdx.x;
    for (int64_t z = blockIdx.z; z < a.batch; z += gridDim.z) {
        int64_t at_a = z * a.m * a.k, at_b = z * a.k * a.n;
        float sum = 0;
        for (int64_t k = 0; k < a.k; k += SIDE) {
            int64_t ka = k + threadIdx.x, kb = k + threadIdx.y;
            __syncthreads();
            ta[threadIdx.y][threadIdx.x] =
                row < a.m && ka < a.k
                    ? dg_load(a.a, at_a + (a.ta ? ka * a.m + row : row * a.k + ka), a.a_dtype)
                    : 0.f;
            tb[threadIdx.y][threadIdx.x] =
                column < a.n && kb < a.k
                    ? dg_load(a.b, at_b + (a.tb ? column * a.k + kb : kb * a.n + column), a.b_dtype)
                    : 0.f;
            __syncthreads();
            for (int i = 0; i < SIDE; i++) sum += ta[threadIdx.y][i] * tb[i][threadIdx.x];
        }
        if (row >= a.m || column >= a.n) continue;
        if (a.bias) sum += dg_load(a.bias, column, a.bias_dtype);
        dg_store(a.y, (z * a.m + row) * a.n + column, a.y_dtype, sum);
    }
}

extern "C" cudaError_t dg_cuda_launch_product(const void *args, cudaStream_t stream)
{
    const dg_cuda_product *a = (const dg_cuda_product *)args;
    unsigned tall = dg_blocks(a->m, SIDE), batch = (unsigned)dg_min64(a->batch, 65535);
    if (tall > 65535) return cudaErrorInvalidConfiguration;
    return DG_LAUNCH(product, dim3(dg_blocks(a->n, SIDE), tall, batch), dim3(SIDE, SIDE), 0, stream, *a);
}
