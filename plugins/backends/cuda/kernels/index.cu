/* index.cu - rows by index: gather, and its adjoint without atomics. */
#include "cu.h"

enum { THREADS = 256, IDS = 256 };

/* A thread copies `size` bytes of a row. */
DG_KERNEL(gather, dg_cuda_gather, THREADS)
{
    int64_t per_row = a.bytes / a.size, unit = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (unit >= a.groups * a.per_group * per_row) return;
    int64_t i = unit / per_row, id = a.ids[i];
    int64_t row = id < 0 ? 0 : id >= a.rows ? a.rows - 1 : id;
    int64_t from = (i / a.per_group * a.rows + row) * per_row + unit % per_row;
    if (a.size == 16)
        DG_WIDE(uint4, a.out)[unit] = DG_WIDE(const uint4, a.x)[from];
    else if (a.size == 4)
        DG_WIDE(uint32_t, a.out)[unit] = DG_WIDE(const uint32_t, a.x)[from];
    else if (a.size == 2)
        DG_WIDE(uint16_t, a.out)[unit] = DG_WIDE(const uint16_t, a.x)[from];
    else
        ((uint8_t *)a.out)[unit] = ((const uint8_t *)a.x)[from];
}

extern "C" cudaError_t dg_cuda_launch_gather(const void *args, cudaStream_t stream)
{
    const dg_cuda_gather *a = (const dg_cuda_gather *)args;
    int64_t units = a->groups * a->per_group * (a->bytes / a->size);
    return DG_LAUNCH(gather, dim3(dg_blocks(units, THREADS)), dim3(THREADS), 0, stream, *a);
}

/* A block makes one row of the result: it looks for the row's number among all ids of the group, in order. */
DG_KERNEL(scatter_add, dg_cuda_scatter, THREADS)
{
    __shared__ int32_t ids[IDS];
    int64_t group = blockIdx.x / a.rows, row = blockIdx.x % a.rows;
    for (int64_t block = 0; block < a.width; block += THREADS) {
        int64_t c = block + threadIdx.x;
        float sum = 0;
        for (int64_t first = 0; first < a.per_group; first += IDS) {
            int n = (int)dg_min64(IDS, a.per_group - first);
            __syncthreads();
            if ((int)threadIdx.x < n) ids[threadIdx.x] = a.ids[group * a.per_group + first + threadIdx.x];
            __syncthreads();
            for (int k = 0; k < n; k++)
                if (ids[k] == row && c < a.width)
                    sum += dg_load(a.updates, (group * a.per_group + first + k) * a.width + c, a.dtype);
        }
        if (c < a.width) dg_store(a.out, (group * a.rows + row) * a.width + c, a.dtype, sum);
    }
}

extern "C" cudaError_t dg_cuda_launch_scatter_add(const void *args, cudaStream_t stream)
{
    const dg_cuda_scatter *a = (const dg_cuda_scatter *)args;
    return DG_LAUNCH(scatter_add, dim3((unsigned)(a->groups * a->rows)), dim3(THREADS), 0, stream, *a);
}
