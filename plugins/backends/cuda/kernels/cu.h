/* cu.h - what every kernel file includes: CUDA where nvcc compiles it; where a plain C++ compiler does, the
 * emulator whose header emu.h (tests/cuda/emu) gives the same words a meaning on the processor.
 *
 * A kernel takes one record of arguments, `a`, so that a launch is a copy of bytes:
 *     DG_KERNEL(scale, scale_args, 256) { ... a.x[i] ... }
 *     DG_LAUNCH(scale, blocks, threads, shared_bytes, stream, args)        a cudaError_t */
#ifndef DG_CUDA_CU_H
#define DG_CUDA_CU_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define DG_KERNEL(NAME, ARGS, THREADS)                                                                       \
    static __global__ void __launch_bounds__(THREADS) NAME(const __grid_constant__ ARGS a)
#define DG_LAUNCH(NAME, GRID, BLOCK, SHARED, STREAM, ARGS)                                                   \
    (NAME<<<(GRID), (BLOCK), (SHARED), (STREAM)>>>(ARGS), cudaGetLastError())
/* Shared memory whose size the launch gives. */
#define DG_DYNAMIC(T, NAME)                                                                                  \
    extern __shared__ __align__(128) unsigned char dg_dynamic_shared[];                                      \
    T *NAME = (T *)dg_dynamic_shared
/* Allows a kernel more dynamic shared memory than the 48 KiB that every launch may have. */
#define DG_ALLOW_SHARED(NAME, BYTES)                                                                         \
    cudaFuncSetAttribute((const void *)(NAME), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(BYTES))

/* P as a pointer to T, which is wider than what P points to; the emulator checks the alignment that the
 * device needs. */
#define DG_WIDE(T, P) ((T *)(P))

/* ---- warp-wide matrix instructions (PTX ISA, mma.m16n8k16, ldmatrix, cp.async) */

/* c [16, 8] += a [16, 16] b [16, 8]; bf16 in, f32 sums. */
__device__ static inline void dg_mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. */
__device__ static inline void dg_ldmatrix(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* As dg_ldmatrix, each matrix transposed. */
__device__ static inline void dg_ldmatrix_t(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* 16 bytes from global to shared memory while the thread goes on; zeros unless valid. Both 16-byte aligned.
 */
__device__ static inline void dg_copy_async(void *to, const void *from, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
}
__device__ static inline void dg_copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits for all groups of this thread's copies. */
__device__ static inline void dg_copy_wait(void)
{
    asm volatile("cp.async.wait_group 0;" ::: "memory");
}
/* Waits for all groups but the last one. */
__device__ static inline void dg_copy_wait_but_one(void)
{
    asm volatile("cp.async.wait_group 1;" ::: "memory");
}

__device__ static inline uint16_t dg_to_bf16(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

#else

#include "emu.h"

__device__ static inline uint16_t dg_to_bf16(float x)
{
    return dg_f32_to_bf16(x);
}

#endif

enum { DG_WARP = 32 };
#define DG_ALL_LANES 0xffffffffu

__host__ __device__ static inline int64_t dg_min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
__device__ static inline float dg_from_bf16(uint16_t h)
{
    return __uint_as_float((uint32_t)h << 16);
}

/* Two bf16 in a register, the first in the lower half. */
__device__ static inline uint32_t dg_pack(float lo, float hi)
{
    return dg_to_bf16(lo) | (uint32_t)dg_to_bf16(hi) << 16;
}

/* ---- over a warp: every lane gets the result, which does not depend on which lane asks */

__device__ static inline float dg_warp_sum(float v)
{
    for (int o = DG_WARP / 2; o; o >>= 1) v += __shfl_xor_sync(DG_ALL_LANES, v, o);
    return v;
}

__device__ static inline float dg_warp_max(float v)
{
    for (int o = DG_WARP / 2; o; o >>= 1) {
        float w = __shfl_xor_sync(DG_ALL_LANES, v, o);
        v = v != v || v > w ? v : w; /* nan stays */
    }
    return v;
}

/* ---- elements of f32 and bf16 memory; the dtype is the same for all threads, so the branch costs little */

__device__ static inline float dg_load(const void *p, int64_t i, int dtype)
{
    return dtype == DG_F32 ? ((const float *)p)[i] : dg_from_bf16(((const uint16_t *)p)[i]);
}

__device__ static inline void dg_store(void *p, int64_t i, int dtype, float x)
{
    if (dtype == DG_F32)
        ((float *)p)[i] = x;
    else
        ((uint16_t *)p)[i] = dg_to_bf16(x);
}

/* Four elements at a time: i is a multiple of 4, and p aligned to four elements. */
__device__ static inline void dg_load4(const void *p, int64_t i, int dtype, float x[4])
{
    if (dtype == DG_F32) {
        float4 v = *DG_WIDE(const float4, (const float *)p + i);
        x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    } else {
        uint2 v = *DG_WIDE(const uint2, (const uint16_t *)p + i);
        x[0] = __uint_as_float(v.x << 16), x[1] = __uint_as_float(v.x & 0xffff0000u);
        x[2] = __uint_as_float(v.y << 16), x[3] = __uint_as_float(v.y & 0xffff0000u);
    }
}

__device__ static inline void dg_store4(void *p, int64_t i, int dtype, const float x[4])
{
    if (dtype == DG_F32) {
        float4 v = {x[0], x[1], x[2], x[3]};
        *DG_WIDE(float4, (float *)p + i) = v;
    } else {
        uint2 v = {dg_pack(x[0], x[1]), dg_pack(x[2], x[3])};
        *DG_WIDE(uint2, (uint16_t *)p + i) = v;
    }
}

/* Blocks for n units of work at `each` a block; never more than a grid may have. */
static inline unsigned dg_blocks(int64_t n, int64_t each)
{
    int64_t blocks = (n + each - 1) / each;
    return (unsigned)(blocks < 1 ? 1 : blocks > 0x7fffffff ? 0x7fffffff : blocks);
}

#endif
