/* planted.cu - a kernel that is right, and the same with one mistake at a time: what the emulator must find
 * (test_emulator.c). Built with a watch on all accesses. */
#include "cu.h"

#include "planted.h"

enum { THREADS = 64, EACH = 4, SPARE = 32 };

typedef struct planted_args {
    const float *x; // [blocks, THREADS * EACH]
    float *y;       // [blocks, THREADS], and one more, so that the size is not what it is rounded up to
    int mistake;
} planted_args;

/* y[t] = the sum over its warp of (the first element of thread t's mirror image, and of its neighbour's). */
DG_KERNEL(sums, planted_args, THREADS)
{
    __shared__ float mine[THREADS];
    DG_DYNAMIC(float, tile); // [THREADS * EACH + SPARE]
    int t = (int)threadIdx.x;
    const float *x = a.x + (int64_t)blockIdx.x * THREADS * EACH;
    dg_copy_async(tile + t * EACH, x + t * EACH, true);
    dg_copy_commit();
    if (a.mistake != PLANTED_NO_COPY_WAIT) dg_copy_wait();
    if (a.mistake == PLANTED_DIVERGENT_BARRIER && t < DG_WARP) __syncthreads();
    if (a.mistake != PLANTED_NO_BARRIER) __syncthreads();
    float v = tile[(THREADS - 1 - t) * EACH];
    if (a.mistake != PLANTED_NO_SECOND_BARRIER) __syncthreads();
    tile[t * EACH] = v;
    if (a.mistake == PLANTED_SHARED_OVERRUN && t == 0) tile[THREADS * EACH + SPARE] = v;
    mine[t] = v;
    if (a.mistake != PLANTED_NO_WARP_BARRIER) __syncwarp();
    v += mine[t ^ 1];
    if (a.mistake == PLANTED_UNINITIALISED) v += tile[THREADS * EACH + 1];
    if (a.mistake == PLANTED_MISALIGNED) v += DG_WIDE(const float4, x + 1)->x;
    if (a.mistake == PLANTED_DIVERGENT_COLLECTIVE && t % DG_WARP < 16)
        __syncwarp();
    else
        v = dg_warp_sum(v);
    if (a.mistake == PLANTED_GLOBAL_OVERREAD && blockIdx.x == gridDim.x - 1)
        v += a.y[gridDim.x * THREADS + 1];
    int64_t at = (int64_t)(a.mistake == PLANTED_TWO_BLOCKS ? 0 : blockIdx.x) * THREADS + t;
    if (a.mistake == PLANTED_GLOBAL_OVERRUN && t == 0) at += 2 * (int64_t)gridDim.x * THREADS;
    a.y[at] = v;
}

static float right(const float *x, int t)
{
    float sum = 0;
    for (int k = t / DG_WARP * DG_WARP, e = k + DG_WARP; k < e; k++)
        sum += x[(THREADS - 1 - k) * EACH] + x[(THREADS - 1 - (k ^ 1)) * EACH];
    return sum;
}

static cudaError_t run(cudaStream_t compute, cudaStream_t copy, const float *device_x, float *device_y,
                       int mistake)
{
    cudaEvent_t done;
    cudaError_t e = cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
    planted_args a = {device_x, device_y, mistake};
    if (e == cudaSuccess)
        e = DG_LAUNCH(sums, dim3(PLANTED_BLOCKS), dim3(THREADS), (THREADS * EACH + SPARE) * sizeof(float),
                      compute, a);
    if (e == cudaSuccess) e = cudaEventRecord(done, compute);
    if (e == cudaSuccess && mistake != PLANTED_NO_STREAM_WAIT) e = cudaStreamWaitEvent(copy, done, 0);
    return e;
}

extern "C" __attribute__((visibility("default"))) planted_outcome planted_run(int mistake, uint32_t seed)
{
    static float x[PLANTED_BLOCKS * THREADS * EACH], y[PLANTED_BLOCKS * THREADS];
    float *dx, *dy;
    cudaStream_t compute, copy;
    int before = emu_reports();
    emu_seed(seed);
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) x[i] = (float)(i % 13);
    if (cudaMalloc((void **)&dx, sizeof x) != cudaSuccess ||
        cudaMalloc((void **)&dy, sizeof y + sizeof *y) != cudaSuccess ||
        cudaStreamCreateWithFlags(&copy, 0) != cudaSuccess ||
        cudaStreamCreateWithFlags(&compute, 0) != cudaSuccess)
        return PLANTED_BROKEN;
    cudaMemcpyAsync(dx, x, sizeof x, cudaMemcpyHostToDevice, compute);
    cudaStreamSynchronize(compute);
    const float *given = mistake == PLANTED_HOST_MEMORY ? x : dx;
    if (run(compute, copy, given, dy, mistake) != cudaSuccess) return PLANTED_BROKEN;
    if (mistake == PLANTED_HOST_TOUCHES_DEVICE) y[0] = dy[0];
    cudaMemcpyAsync(y, dy, sizeof y, cudaMemcpyDeviceToHost, copy);
    cudaError_t e = cudaStreamSynchronize(copy);
    if (emu_reports() > before) return PLANTED_REPORTED;
    if (e != cudaSuccess) return PLANTED_BROKEN;
    for (int i = 0; i < PLANTED_BLOCKS * THREADS; i++)
        if (!(y[i] == right(x + i / THREADS * THREADS * EACH, i % THREADS))) return PLANTED_WRONG;
    return PLANTED_RIGHT;
}
