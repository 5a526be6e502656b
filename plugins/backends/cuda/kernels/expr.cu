/* expr.cu - element-wise expressions: one pass over memory for a chain of ops. Every thread carries four
 * elements through all steps; lanes are 32 bits, f32 or i32. */
#include "cu.h"

enum { THREADS = 256, EACH = 4 };

/* ---- the narrow floats; bf16 is in cu.h. To nearest, ties to even. */

/* IEEE 754 binary16. */
__device__ static uint32_t to_f16(float x)
{
    uint32_t u = __float_as_uint(x), sign = u >> 16 & 0x8000u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return sign | 0x7e00u;
    if (u >= 0x477ff000u) return sign | 0x7c00u; /* 65520 and above: infinity */
    if (u < 0x38800000u)
        return sign | (uint32_t)(int)rintf(__uint_as_float(u) * 16777216.f); /* subnormal: units of 2^-24 */
    u += 0xfffu + (u >> 13 & 1u);
    return sign | (u - 0x38000000u) >> 13;
}

__device__ static float from_f16(uint32_t h)
{
    uint32_t sign = (h & 0x8000u) << 16, rest = h & 0x7fffu;
    if (rest >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    if (rest < 0x400u) return __uint_as_float(sign | __float_as_uint((float)rest * (1.f / 16777216.f)));
    return __uint_as_float(sign | ((rest << 13) + 0x38000000u));
}

/* OCP 8-bit e4m3fn (2023): largest value 448, no infinities, one nan. */
__device__ static uint32_t to_f8(float x)
{
    uint32_t u = __float_as_uint(x), sign = u >> 24 & 0x80u;
    u &= 0x7fffffffu;
    if (u > 0x43e80000u) return 0x7fu; /* above 464, which rounds to 448 */
    if (u < 0x3c800000u)
        return sign | (uint32_t)(int)rintf(__uint_as_float(u) * 512.f); /* subnormal: units of 2^-9 */
    u += 0x7ffffu + (u >> 20 & 1u);
    return sign | (u - 0x3c000000u) >> 20;
}

__device__ static float from_f8(uint32_t h)
{
    uint32_t sign = (h & 0x80u) << 24, rest = h & 0x7fu;
    if (rest == 0x7fu) return __uint_as_float(0x7fc00000u);
    if (rest < 8u) return __uint_as_float(sign | __float_as_uint((float)rest * (1.f / 512.f)));
    return __uint_as_float(sign | ((rest << 20) + 0x3c000000u));
}

/* ---- conversions */

__device__ static int32_t to_i32(float x)
{
    return x != x ? 0 : x >= 2147483648.f ? INT32_MAX : x <= -2147483648.f ? INT32_MIN : (int32_t)x;
}

__device__ static int32_t to_u8(float x)
{
    return !(x > 0) ? 0 : x >= 255.f ? 255 : (int32_t)x;
}

__device__ static uint32_t load_lane(const void *p, int64_t i, int dtype)
{
    switch (dtype) {
    case DG_F32:
    case DG_I32:
        return ((const uint32_t *)p)[i];
    case DG_BF16:
        return (uint32_t)((const uint16_t *)p)[i] << 16;
    case DG_F16:
        return __float_as_uint(from_f16(((const uint16_t *)p)[i]));
    case DG_F8E4M3:
        return __float_as_uint(from_f8(((const uint8_t *)p)[i]));
    default:
        return ((const uint8_t *)p)[i];
    }
}

__device__ static void store_lane(void *p, int64_t i, int dtype, uint32_t lane)
{
    float x = __uint_as_float(lane);
    switch (dtype) {
    case DG_F32:
    case DG_I32:
        ((uint32_t *)p)[i] = lane;
        break;
    case DG_BF16:
        ((uint16_t *)p)[i] = dg_to_bf16(x);
        break;
    case DG_F16:
        ((uint16_t *)p)[i] = (uint16_t)to_f16(x);
        break;
    case DG_F8E4M3:
        ((uint8_t *)p)[i] = (uint8_t)to_f8(x);
        break;
    default:
        ((uint8_t *)p)[i] = (uint8_t)lane;
        break;
    }
}

/* ---- the ops */

__device__ static float phi(float x)
{
    return 0.5f * (1.f + erff(x * 0.70710678118654752f));
}
__device__ static float sigmoid(float x)
{
    return 1.f / (1.f + expf(-x));
}
__device__ static float gelu_grad(float dy, float x)
{
    return dy * (phi(x) + x * 0.39894228040143268f * expf(-0.5f * x * x)); /* 1 / sqrt(2 pi) */
}
__device__ static float gelu_quick_grad(float dy, float x)
{
    float gate = sigmoid(1.702f * x);
    return dy * (gate + x * 1.702f * gate * (1.f - gate));
}

#define STEP(OP, VALUE)                                                                                      \
    case OP:                                                                                                 \
        for (int e = 0; e < EACH; e++) to[e] = (VALUE);                                                      \
        break
#define FLOATS(OP, VALUE)                                                                                    \
    case OP:                                                                                                 \
        for (int e = 0; e < EACH; e++) {                                                                     \
            float x = __uint_as_float(a[e]), y = __uint_as_float(b[e]);                                      \
            (void)y;                                                                                         \
            to[e] = __float_as_uint(VALUE);                                                                  \
        }                                                                                                    \
        break
#define ANSWER(OP, VALUE)                                                                                    \
    case OP:                                                                                                 \
        for (int e = 0; e < EACH; e++) {                                                                     \
            float x = __uint_as_float(a[e]), y = __uint_as_float(b[e]);                                      \
            (void)y;                                                                                         \
            to[e] = (uint32_t)(VALUE);                                                                       \
        }                                                                                                    \
        break

/* Registers a, b, c of the four elements e -> to. Integers wrap around; a quotient by zero is -1. */
__device__ static void apply_floats(int op, const uint32_t *a, const uint32_t *b, uint32_t *to)
{
    switch (op) {
        FLOATS(DG_CUDA_F_NEG, -x);
        FLOATS(DG_CUDA_F_ABS, fabsf(x));
        FLOATS(DG_CUDA_F_SIGN, x > 0 ? 1.f : x < 0 ? -1.f : x);
        FLOATS(DG_CUDA_F_FLOOR, floorf(x));
        FLOATS(DG_CUDA_F_EXP, expf(x));
        FLOATS(DG_CUDA_F_LOG, logf(x));
        FLOATS(DG_CUDA_F_SQRT, sqrtf(x));
        FLOATS(DG_CUDA_F_RSQRT, 1.f / sqrtf(x));
        FLOATS(DG_CUDA_F_TANH, tanhf(x));
        FLOATS(DG_CUDA_F_ERF, erff(x));
        FLOATS(DG_CUDA_F_SIN, sinf(x));
        FLOATS(DG_CUDA_F_COS, cosf(x));
        FLOATS(DG_CUDA_F_GELU, x * phi(x));
        FLOATS(DG_CUDA_F_GELU_QUICK, x * sigmoid(1.702f * x));
        FLOATS(DG_CUDA_F_ADD, x + y);
        FLOATS(DG_CUDA_F_SUB, x - y);
        FLOATS(DG_CUDA_F_MUL, x * y);
        FLOATS(DG_CUDA_F_DIV, x / y);
        FLOATS(DG_CUDA_F_MAX, x != x || x > y ? x : y);
        FLOATS(DG_CUDA_F_MIN, x != x || x < y ? x : y);
        FLOATS(DG_CUDA_F_GELU_GRAD, gelu_grad(x, y));
        FLOATS(DG_CUDA_F_GELU_QUICK_GRAD, gelu_quick_grad(x, y));
        FLOATS(DG_CUDA_F_ROUND_BF16, dg_from_bf16(dg_to_bf16(x)));
        FLOATS(DG_CUDA_F_ROUND_F16, from_f16(to_f16(x)));
        FLOATS(DG_CUDA_F_ROUND_F8, from_f8(to_f8(x)));
        ANSWER(DG_CUDA_F_IS_FINITE, fabsf(x) <= FLT_MAX);
        ANSWER(DG_CUDA_F_EQ, x == y);
        ANSWER(DG_CUDA_F_NE, x != y);
        ANSWER(DG_CUDA_F_LT, x < y);
        ANSWER(DG_CUDA_F_LE, x <= y);
        ANSWER(DG_CUDA_F_GT, x > y);
        ANSWER(DG_CUDA_F_GE, x >= y);
        ANSWER(DG_CUDA_F_TO_I32, to_i32(x));
        ANSWER(DG_CUDA_F_TO_U8, to_u8(x));
        ANSWER(DG_CUDA_F_TO_BOOL, x != 0.f);
    }
}

__device__ static void apply_ints(int op, const uint32_t *a, const uint32_t *b, const uint32_t *c,
                                  uint32_t *to)
{
    switch (op) {
        STEP(DG_CUDA_I_NEG, 0u - a[e]);
        STEP(DG_CUDA_I_ABS, (int32_t)a[e] < 0 ? 0u - a[e] : a[e]);
        STEP(DG_CUDA_I_SIGN, (uint32_t)(((int32_t)a[e] > 0) - ((int32_t)a[e] < 0)));
        STEP(DG_CUDA_I_NOT, a[e] == 0);
        STEP(DG_CUDA_I_ADD, a[e] + b[e]);
        STEP(DG_CUDA_I_SUB, a[e] - b[e]);
        STEP(DG_CUDA_I_MUL, a[e] * b[e]);
        STEP(DG_CUDA_I_DIV, b[e] == 0     ? ~0u
                            : b[e] == ~0u ? 0u - a[e]
                                          : (uint32_t)((int32_t)a[e] / (int32_t)b[e]));
        STEP(DG_CUDA_I_MAX, (int32_t)a[e] > (int32_t)b[e] ? a[e] : b[e]);
        STEP(DG_CUDA_I_MIN, (int32_t)a[e] < (int32_t)b[e] ? a[e] : b[e]);
        STEP(DG_CUDA_I_AND, a[e] != 0 && b[e] != 0);
        STEP(DG_CUDA_I_OR, a[e] != 0 || b[e] != 0);
        STEP(DG_CUDA_I_EQ, a[e] == b[e]);
        STEP(DG_CUDA_I_NE, a[e] != b[e]);
        STEP(DG_CUDA_I_LT, (int32_t)a[e] < (int32_t)b[e]);
        STEP(DG_CUDA_I_LE, (int32_t)a[e] <= (int32_t)b[e]);
        STEP(DG_CUDA_I_GT, (int32_t)a[e] > (int32_t)b[e]);
        STEP(DG_CUDA_I_GE, (int32_t)a[e] >= (int32_t)b[e]);
        STEP(DG_CUDA_I_WRAP_U8, a[e] & 0xffu);
        STEP(DG_CUDA_I_CLAMP_U8, (int32_t)a[e] < 0 ? 0u : a[e] > 255u ? 255u : a[e]);
        STEP(DG_CUDA_I_TO_BOOL, a[e] != 0);
        STEP(DG_CUDA_I_TO_F, __float_as_uint((float)(int32_t)a[e]));
        STEP(DG_CUDA_SELECT, a[e] != 0 ? b[e] : c[e]);
    }
}

/* ---- four elements in and out */

__device__ static void load_flat(const dg_cuda_leaf *leaf, int64_t first, uint32_t r[EACH])
{
    if (leaf->dtype == DG_F32 || leaf->dtype == DG_I32) {
        uint4 v = *DG_WIDE(const uint4, (const uint32_t *)leaf->at + first);
        r[0] = v.x, r[1] = v.y, r[2] = v.z, r[3] = v.w;
    } else if (leaf->dtype == DG_BF16) {
        uint2 v = *DG_WIDE(const uint2, (const uint16_t *)leaf->at + first);
        r[0] = v.x << 16, r[1] = v.x & 0xffff0000u, r[2] = v.y << 16, r[3] = v.y & 0xffff0000u;
    } else {
        for (int e = 0; e < EACH; e++) r[e] = load_lane(leaf->at, first + e, leaf->dtype);
    }
}

__device__ static void store_flat(void *out, int64_t first, int dtype, const uint32_t r[EACH])
{
    if (dtype == DG_F32 || dtype == DG_I32) {
        uint4 v = {r[0], r[1], r[2], r[3]};
        *DG_WIDE(uint4, (uint32_t *)out + first) = v;
    } else if (dtype == DG_BF16) {
        uint2 v = {dg_pack(__uint_as_float(r[0]), __uint_as_float(r[1])),
                   dg_pack(__uint_as_float(r[2]), __uint_as_float(r[3]))};
        *DG_WIDE(uint2, (uint16_t *)out + first) = v;
    } else {
        for (int e = 0; e < EACH; e++) store_lane(out, first + e, dtype, r[e]);
    }
}

/* Where element i is, for strides over a's dims; -1 outside the box of a padded leaf. */
__device__ static int64_t place(const dg_cuda_expr *a, const int64_t *stride, const dg_cuda_leaf *box,
                                int64_t i)
{
    int64_t at = 0;
    bool outside = false;
    uint64_t rest = (uint64_t)i;
    for (int k = a->rank - 1; k >= 0; k--) {
        uint64_t dim = (uint64_t)a->dims[k], next;
        /* 32-bit division is several times faster than 64-bit. */
        if (rest <= 0xffffffffu && dim <= 0xffffffffu)
            next = (uint32_t)rest / (uint32_t)dim;
        else
            next = rest / dim;
        int64_t index = (int64_t)(rest - next * dim);
        if (box) outside |= index < box->low[k] || index >= box->high[k];
        at += index * stride[k];
        rest = next;
    }
    return outside ? -1 : at;
}

__device__ static void load_leaf(const dg_cuda_expr *a, const dg_cuda_leaf *leaf, int64_t first, bool four,
                                 uint32_t r[EACH])
{
    if (!leaf->at) {
        for (int e = 0; e < EACH; e++) r[e] = leaf->bits;
    } else if (four && (a->rank == 0 || leaf->stride[a->rank - 1] != 0)) {
        load_flat(leaf, first, r);
    } else {
        for (int e = 0; e < EACH; e++) {
            int64_t at =
                place(a, leaf->stride, leaf->padded ? leaf : NULL, dg_min64(first + e, a->count - 1));
            r[e] = at < 0 ? leaf->bits : load_lane(leaf->at, at, leaf->dtype);
        }
    }
}

DG_KERNEL(expr, dg_cuda_expr, THREADS)
{
    uint32_t r[DG_CUDA_LEAVES + DG_CUDA_STEPS][EACH];
    int64_t first = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EACH;
    if (first >= a.count) return;
    bool four = a.flat && first + EACH <= a.count;
    for (int k = 0; k < a.n_leaves; k++) load_leaf(&a, &a.leaves[k], first, four, r[k]);
    int last = a.n_leaves - 1;
    for (int i = 0; i < a.n_steps; i++) {
        dg_cuda_step_op s = a.steps[i];
        last++;
        if (s.op <= DG_CUDA_F_TO_BOOL)
            apply_floats(s.op, r[s.in[0]], r[s.in[1]], r[last]);
        else
            apply_ints(s.op, r[s.in[0]], r[s.in[1]], r[s.in[2]], r[last]);
    }
    if (four) {
        store_flat(a.out, first, a.out_dtype, r[last]);
        return;
    }
    for (int e = 0; e < EACH && first + e < a.count; e++)
        store_lane(a.out, place(&a, a.out_stride, NULL, first + e), a.out_dtype, r[last][e]);
}

extern "C" cudaError_t dg_cuda_launch_expr(const void *args, cudaStream_t stream)
{
    const dg_cuda_expr *a = (const dg_cuda_expr *)args;
    return DG_LAUNCH(expr, dim3(dg_blocks(a->count, THREADS * EACH)), dim3(THREADS), 0, stream, *a);
}
