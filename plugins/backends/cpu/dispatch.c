/* dispatch.c - which of the kernel lists this machine can run. backends.cmake says which were compiled. */
#include "cpu.h"

extern const dg_cpu_kernels dg_cpu_kernels_plain;

#if defined(DG_CPU_X86)
extern const dg_cpu_kernels dg_cpu_kernels_avx2, dg_cpu_kernels_avx512, dg_cpu_kernels_avx512_bf16;

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512cd");
}

static bool has_avx512_bf16(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}
#endif

static bool always(void)
{
    return true;
}

static const struct {
    bool (*usable)(void);
    const dg_cpu_kernels *kernels;
} lists[] = {
    {always, &dg_cpu_kernels_plain},
#if defined(DG_CPU_X86)
    {has_avx2, &dg_cpu_kernels_avx2},
    {has_avx512, &dg_cpu_kernels_avx512},
    {has_avx512_bf16, &dg_cpu_kernels_avx512_bf16},
#endif
};

const dg_cpu_kernels *dg_cpu_kernels_at(size_t index)
{
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (lists[i].usable() && index-- == 0) return lists[i].kernels;
    return NULL;
}

const dg_cpu_kernels *dg_cpu_kernels_pick(const char *name)
{
    const dg_cpu_kernels *best = NULL, *k;
    for (size_t i = 0; (k = dg_cpu_kernels_at(i)); i++)
        if (!name || strcmp(k->name, name) == 0) best = k;
    return best;
}
