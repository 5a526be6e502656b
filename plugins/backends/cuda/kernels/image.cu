/* image.cu - patches of normalised pixels, from bytes or reals. */
#include "cu.h"

enum { THREADS = 256 };

/* A thread makes one element: patch (y, x) of image b, and in it channel c of pixel (py, px). */
DG_KERNEL(patchify, dg_cuda_patchify, THREADS)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, count = a.b * a.height * a.width * a.channels;
    if (i >= count) return;
    int64_t grid_w = a.width / a.pw, grid_h = a.height / a.ph;
    int per_patch = a.channels * a.ph * a.pw, k = (int)(i % per_patch), c, px, py;
    int64_t patch = i / per_patch, x = patch % grid_w, y = patch / grid_w % grid_h,
            b = patch / grid_w / grid_h;
    if (a.channel_last) {
        c = k % a.channels;
        px = k / a.channels % a.pw;
        py = k / a.channels / a.pw;
    } else {
        px = k % a.pw;
        py = k / a.pw % a.ph;
        c = k / a.pw / a.ph;
    }
    int64_t at = ((b * a.height + y * a.ph + py) * a.width + x * a.pw + px) * a.channels + c;
    float v = a.in_dtype == DG_U8 ? (float)((const uint8_t *)a.image)[at] : dg_load(a.image, at, a.in_dtype);
    dg_store(a.out, i, a.out_dtype, v * a.scale[c] + a.shift[c]);
}

extern "C" cudaError_t dg_cuda_launch_patchify(const void *args, cudaStream_t stream)
{
    const dg_cuda_patchify *a = (const dg_cuda_patchify *)args;
    int64_t count = a->b * a->height * a->width * a->channels;
    return DG_LAUNCH(patchify, dim3(dg_blocks(count, THREADS)), dim3(THREADS), 0, stream, *a);
}
