/* lanes.h - sums and rows in sixteen lanes: the same order of additions on every instruction set. */
#ifndef DG_CPU_LANES_H
#define DG_CPU_LANES_H

#include "kernels.h"
#include "scalar.h"

typedef float dg_cpu_v16 __attribute__((vector_size(64), aligned(4), may_alias));

static inline float dg_cpu_add_lanes(const dg_cpu_v16 *v)
{
    float x[16];
    memcpy(x, v, sizeof x);
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

static inline float dg_cpu_sum(const float *x, int64_t n)
{
    dg_cpu_v16 a = {0}, b = {0};
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        a += *(const dg_cpu_v16 *)(x + i);
        b += *(const dg_cpu_v16 *)(x + i + 16);
    }
    for (; i + 16 <= n; i += 16) a += *(const dg_cpu_v16 *)(x + i);
    a += b;
    float rest = 0;
    for (; i < n; i++) rest += x[i];
    return dg_cpu_add_lanes(&a) + rest;
}

static inline float dg_cpu_dot(const float *x, const float *y, int64_t n)
{
    dg_cpu_v16 a = {0}, b = {0};
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        a += *(const dg_cpu_v16 *)(x + i) * *(const dg_cpu_v16 *)(y + i);
        b += *(const dg_cpu_v16 *)(x + i + 16) * *(const dg_cpu_v16 *)(y + i + 16);
    }
    for (; i + 16 <= n; i += 16) a += *(const dg_cpu_v16 *)(x + i) * *(const dg_cpu_v16 *)(y + i);
    a += b;
    float rest = 0;
    for (; i < n; i++) rest += x[i] * y[i];
    return dg_cpu_add_lanes(&a) + rest;
}

/* Not of NaN: one that is there may be lost. */
static inline float dg_cpu_most(const float *x, int64_t n)
{
    float most[16], y;
    for (int k = 0; k < 16; k++) most[k] = -INFINITY;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++) most[k] = x[i + k] > most[k] ? x[i + k] : most[k];
    y = most[0];
    for (int k = 1; k < 16; k++) y = most[k] > y ? most[k] : y;
    for (; i < n; i++) y = x[i] > y ? x[i] : y;
    return y;
}

/* n floats from element `at` of an f32 or bf16 array: where they are, or widened into room. */
static inline const float *dg_cpu_floats(const void *x, int32_t dtype, int64_t at, int64_t n, float *room)
{
    if (dtype == DG_F32) return (const float *)x + at;
    const uint16_t *h = (const uint16_t *)x + at;
    for (int64_t i = 0; i < n; i++) room[i] = dg_cpu_widen(h[i]);
    return room;
}

static inline void dg_cpu_put(void *y, int32_t dtype, int64_t at, const float *x, int64_t n)
{
    if (dtype == DG_F32) {
        memcpy((float *)y + at, x, (size_t)n * sizeof *x);
        return;
    }
    uint16_t *h = (uint16_t *)y + at;
    for (int64_t i = 0; i < n; i++) h[i] = dg_cpu_narrow(x[i]);
}

#endif
