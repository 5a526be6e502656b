/* emu.h - what kernel files (plugins/backends/cuda/kernels/cu.h) get where a C++ compiler builds them: CUDA's
 * words, carried out on the processor. For tests only.
 *
 * One thread of the system plays the device. The threads of a block are fibers; a fiber runs until it waits
 * at a barrier or a warp collective, so that every missing one shows as a wrong order. With the environment
 * variable DIGPT_EMU_SEED above 0 the next fiber, the first block and the next stream are drawn at random.
 * Shared memory is filled with NaN before each block and ends at a page that cannot be touched; device memory
 * is out of the host's reach except while the device works. What is against the rules is written to stderr,
 * counted, and makes the next cudaStreamSynchronize fail with cudaErrorLaunchFailure. */
#ifndef DG_EMU_H
#define DG_EMU_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "digpt/base.h"

#define __noinline__ __attribute__((noinline))
#include <cuda_runtime_api.h> /* types and prototypes; runtime.c implements what is used */

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __launch_bounds__
#undef __align__
#define __global__ static
#define __device__
#define __host__
#define __align__(N) __attribute__((aligned(N)))
#define __launch_bounds__(...)
/* Found through the symbols __start_dg_emu_shared and __stop_dg_emu_shared. */
#define __shared__ static __attribute__((section("dg_emu_shared")))

#ifdef __cplusplus
extern "C" {
#endif

typedef struct emu_copy {
    void *to;
    const void *from;
    bool valid;
    int group; /* how many groups were closed since */
} emu_copy;

enum { EMU_COPIES = 512 };

typedef struct emu_fiber {
    void *sp;
    uint3 index; /* threadIdx */
    int linear, warp, lane, state;
    uint32_t block_epoch, warp_epoch; /* barriers passed */
    uint32_t op, mask;                /* of the collective that it waits at */
    const void *a, *b;                /* what it brings there */
    void *c;
    uint64_t slot[2]; /* values for shuffles */
    int phase;
    int n_copies;
    emu_copy *copies; /* [EMU_COPIES] */
    char *stack;
} emu_fiber;

extern emu_fiber *emu_current;
extern dim3 emu_block_dim, emu_grid_dim;
extern uint3 emu_block;
extern unsigned char *emu_dynamic;

/* Ops of warp collectives. */
enum { EMU_SYNC = 1, EMU_XOR, EMU_INDEX, EMU_MMA = 16, EMU_LDMATRIX, EMU_LDMATRIX_T };

void emu_barrier(uint32_t line);
void emu_collective(uint32_t op, uint32_t mask);
uint64_t emu_shuffle(uint32_t op, uint32_t mask, uint64_t value, int source);
void emu_copy_async(void *to, const void *from, bool valid);
void emu_copy_commit(void);
void emu_copy_wait(int groups_left);
cudaError_t emu_launch(void (*kernel)(const void *args), const char *name, dim3 grid, dim3 block,
                       size_t shared, cudaStream_t stream, const void *args, size_t size);
/* Says what is against the rules, and where. */
void emu_report(const char *what);
int emu_reports(void);
/* 0: everything in order. */
void emu_seed(uint32_t seed);

#ifdef __cplusplus
}

#define threadIdx (emu_current->index)
#define blockIdx emu_block
#define blockDim emu_block_dim
#define gridDim emu_grid_dim
#define __syncthreads() emu_barrier(__LINE__)
#define __syncwarp() emu_collective(EMU_SYNC, 0xffffffffu)

#define DG_KERNEL(NAME, ARGS, THREADS)                                                                       \
    static void NAME(const ARGS &a);                                                                         \
    static void NAME##_entry(const void *args)                                                               \
    {                                                                                                        \
        NAME(*(const ARGS *)args);                                                                           \
    }                                                                                                        \
    static void NAME(const ARGS &a)
#define DG_LAUNCH(NAME, GRID, BLOCK, SHARED, STREAM, ARGS)                                                   \
    emu_launch(NAME##_entry, #NAME, (GRID), (BLOCK), (SHARED), (STREAM), &(ARGS), sizeof(ARGS))
#define DG_DYNAMIC(T, NAME) T *NAME = (T *)emu_dynamic
#define DG_WIDE(T, P) ((T *)emu_aligned((P), sizeof(T)))
#define DG_ALLOW_SHARED(NAME, BYTES) (void)(BYTES)

template <class P> static inline P emu_aligned(P p, size_t to)
{
    if ((uintptr_t)p % to) emu_report("a misaligned access");
    return p;
}

static inline float __shfl_xor_sync(uint32_t mask, float value, int bits)
{
    uint32_t u;
    memcpy(&u, &value, sizeof u);
    u = (uint32_t)emu_shuffle(EMU_XOR, mask, u, emu_current->lane ^ bits);
    memcpy(&value, &u, sizeof u);
    return value;
}
static inline int32_t __shfl_xor_sync(uint32_t mask, int32_t value, int bits)
{
    return (int32_t)emu_shuffle(EMU_XOR, mask, (uint32_t)value, emu_current->lane ^ bits);
}

static inline uint32_t __float_as_uint(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline float __uint_as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Warp collectives on fragments: every lane brings its pointers, the last one to arrive computes for all. */
static inline void emu_fragments(uint32_t op, const void *a, const void *b, void *c)
{
    emu_current->a = a;
    emu_current->b = b;
    emu_current->c = c;
    emu_collective(op, 0xffffffffu);
}
static inline void dg_mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    emu_fragments(EMU_MMA, a, b, c);
}
static inline void dg_ldmatrix(uint32_t r[4], const void *row)
{
    emu_fragments(EMU_LDMATRIX, row, NULL, r);
}
static inline void dg_ldmatrix_t(uint32_t r[4], const void *row)
{
    emu_fragments(EMU_LDMATRIX_T, row, NULL, r);
}
static inline void dg_copy_async(void *to, const void *from, bool valid)
{
    emu_copy_async(to, from, valid);
}
static inline void dg_copy_commit(void)
{
    emu_copy_commit();
}
static inline void dg_copy_wait(void)
{
    emu_copy_wait(0);
}
static inline void dg_copy_wait_but_one(void)
{
    emu_copy_wait(1);
}

#endif
#endif
