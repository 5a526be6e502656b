/* scalar.h - exp, erf, tanh and gelu of one f32, without branches or calls, so that the compiler turns a loop
 * over them into vector code for whatever instruction set the file is compiled for.
 *
 * Relative errors against double precision, measured over the whole range
 * (tests/backends/test_cpu_kernels.c): below 4e-7 for exp, erf and tanh; gelu and its slope below 5e-7 of
 * max(1, |x|). The coefficients are our own minimax fits (iteratively reweighted least squares on Chebyshev
 * points). */
#ifndef DG_CPU_SCALAR_H
#define DG_CPU_SCALAR_H

#include <math.h>
#include "digpt/base.h"

static inline uint32_t dg_cpu_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float dg_cpu_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float dg_cpu_widen(uint16_t h)
{
    return dg_cpu_float((uint32_t)h << 16);
}

/* dg_f32_to_bf16 in a form that becomes vector code. */
static inline uint16_t dg_cpu_narrow(float x)
{
    uint32_t u = dg_cpu_bits(x), rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, nan = (u >> 16) | 0x40u;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

static inline float dg_cpu_round_bf16(float x)
{
    return dg_cpu_widen(dg_cpu_narrow(x));
}

/* e^x = 2^n e^r with |r| <= ln(2)/2; 2^n in two factors, so that subnormal results and overflow come out
 * right. */
static inline float dg_cpu_exp(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = x > 90.0f ? 90.0f : x;
    x = x < -105.0f ? -105.0f : x;
    float shifted = x * 1.44269504f + magic, n = shifted - magic;
    float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    float p = 0.00139517128f;
    p = p * r + 0.00836959854f;
    p = p * r + 0.0416661873f;
    p = p * r + 0.166665122f;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    int32_t k = (int32_t)(dg_cpu_bits(shifted) - dg_cpu_bits(magic)), half = k >> 1;
    return p * dg_cpu_float((uint32_t)(half + 127) << 23) * dg_cpu_float((uint32_t)(k - half + 127) << 23);
}

/* The tail 1 - Phi(a) = erfc(a / sqrt 2) / 2 for a >= 0, given exp(-a^2 / 2): t Q(t) exp(-a^2 / 2) with
 * t = 1 / (1 + 0.35 a / sqrt 2). */
static inline float dg_cpu_tail(float a, float bell)
{
    float t = 1.0f / (1.0f + 0.247487373f * a);
    float q = 0.0192009546f;
    q = q * t - 0.0794664770f;
    q = q * t + 0.0907361209f;
    q = q * t - 0.0138602136f;
    q = q * t + 0.0435155593f;
    q = q * t + 0.0730177537f;
    q = q * t + 0.0755942538f;
    q = q * t + 0.0939509496f;
    q = q * t + 0.0985692069f;
    q = q * t + 0.0987418890f;
    return q * t * bell;
}

static inline float dg_cpu_erf(float x)
{
    float s = x * x, a = fabsf(x), p = 7.88911208e-5f;
    p = p * s - 8.02083930e-4f;
    p = p * s + 5.18953521e-3f;
    p = p * s - 2.68544443e-2f;
    p = p * s + 0.112836003f;
    p = p * s - 0.376126260f;
    p = p * s + 1.12837911f;
    float far = 1.0f - 2.0f * dg_cpu_tail(a * 1.41421356f, dg_cpu_exp(-s));
    return a < 1.0f ? p * x : copysignf(far, x);
}

static inline float dg_cpu_tanh(float x)
{
    float s = x * x, a = fabsf(x), p = 2.04979233e-3f;
    p = p * s - 8.07171687e-3f;
    p = p * s + 2.16557682e-2f;
    p = p * s - 5.39379232e-2f;
    p = p * s + 0.133331254f;
    p = p * s - 0.333333284f;
    p = p * s + 1.0f;
    float e = dg_cpu_exp(-2.0f * a), far = (1.0f - e) / (1.0f + e);
    return a < 0.625f ? p * x : copysignf(far, x);
}

static inline float dg_cpu_gelu(float x)
{
    float tail = dg_cpu_tail(fabsf(x), dg_cpu_exp(-0.5f * x * x));
    return x * (x > 0.0f ? 1.0f - tail : tail);
}

/* d gelu / dx = Phi(x) + x phi(x) */
static inline float dg_cpu_gelu_slope(float x)
{
    float bell = dg_cpu_exp(-0.5f * x * x), tail = dg_cpu_tail(fabsf(x), bell);
    return (x > 0.0f ? 1.0f - tail : tail) + x * (0.398942280f * bell);
}

static inline float dg_cpu_sigmoid(float x)
{
    return 1.0f / (1.0f + dg_cpu_exp(-x));
}

/* x sigmoid(1.702 x) */
static inline float dg_cpu_quick_gelu(float x)
{
    return x * dg_cpu_sigmoid(1.702f * x);
}

static inline float dg_cpu_quick_gelu_slope(float x)
{
    float s = dg_cpu_sigmoid(1.702f * x);
    return s + 1.702f * x * s * (1.0f - s);
}

#endif
