/* stored.c - see stored.h. */
#include "stored.h"

#include <math.h>

static const struct {
    const char *name;
    uint8_t size;
    uint8_t dtype; /* dg_dtype of the same bits, or DG_NONE */
} types[DG_STORED_COUNT] = {
    [DG_STORED_NONE] = {"?", 0, DG_NONE},
    [DG_STORED_F64] = {"F64", 8, DG_NONE},
    [DG_STORED_F32] = {"F32", 4, DG_F32},
    [DG_STORED_F16] = {"F16", 2, DG_F16},
    [DG_STORED_BF16] = {"BF16", 2, DG_BF16},
    [DG_STORED_F8_E4M3] = {"F8_E4M3", 1, DG_F8E4M3},
    [DG_STORED_F8_E5M2] = {"F8_E5M2", 1, DG_NONE},
    [DG_STORED_I64] = {"I64", 8, DG_NONE},
    [DG_STORED_I32] = {"I32", 4, DG_I32},
    [DG_STORED_I16] = {"I16", 2, DG_NONE},
    [DG_STORED_I8] = {"I8", 1, DG_NONE},
    [DG_STORED_U64] = {"U64", 8, DG_NONE},
    [DG_STORED_U32] = {"U32", 4, DG_NONE},
    [DG_STORED_U16] = {"U16", 2, DG_NONE},
    [DG_STORED_U8] = {"U8", 1, DG_U8},
    [DG_STORED_BOOL] = {"BOOL", 1, DG_BOOL},
};

size_t dg_stored_size(dg_stored t)
{
    return (unsigned)t < DG_STORED_COUNT ? types[t].size : 0;
}

const char *dg_stored_name(dg_stored t)
{
    return (unsigned)t < DG_STORED_COUNT ? types[t].name : "?";
}

dg_stored dg_stored_from_name(const char *name)
{
    for (int t = 1; t < DG_STORED_COUNT; t++)
        if (!strcmp(types[t].name, name)) return (dg_stored)t;
    return DG_STORED_NONE;
}

dg_stored dg_stored_from_dtype(dg_dtype dtype)
{
    for (int t = 1; t < DG_STORED_COUNT; t++)
        if (dtype != DG_NONE && types[t].dtype == dtype) return (dg_stored)t;
    return DG_STORED_NONE;
}

dg_dtype dg_stored_to_dtype(dg_stored t)
{
    return (unsigned)t < DG_STORED_COUNT ? (dg_dtype)types[t].dtype : DG_NONE;
}

/* A float of 1 sign bit, `exponent` and `mantissa` bits, exactly. `finite`: the largest exponent holds
 * numbers too, and only its last code is NaN (E4M3). */
static float small_float(uint32_t bits, int exponent, int mantissa, bool finite)
{
    uint32_t m = bits & ((1u << mantissa) - 1), e = (bits >> mantissa) & ((1u << exponent) - 1);
    uint32_t top = (1u << exponent) - 1;
    int bias = (1 << (exponent - 1)) - 1;
    float f;
    if (e == top && !finite)
        f = m ? NAN : INFINITY;
    else if (e == top && m == (1u << mantissa) - 1)
        f = NAN;
    else if (e == 0)
        f = ldexpf((float)m, 1 - bias - mantissa);
    else
        f = ldexpf((float)(m | 1u << mantissa), (int)e - bias - mantissa);
    return copysignf(f, bits >> (exponent + mantissa) ? -1.0f : 1.0f);
}

/* The usual fast way for halves: rescale as f32, subnormals through an exact subtraction. */
static float half_to_f32(uint16_t h)
{
    uint32_t magic_bits = 113u << 23, u = (uint32_t)(h & 0x7fff) << 13, e = u & (0x7c00u << 13);
    float f, magic;
    memcpy(&magic, &magic_bits, sizeof magic);
    u += (127u - 15u) << 23;
    if (e == 0x7c00u << 13) u += (128u - 16u) << 23;
    if (e == 0) u += 1u << 23;
    memcpy(&f, &u, sizeof f);
    if (e == 0) f -= magic;
    memcpy(&u, &f, sizeof u);
    u |= (uint32_t)(h & 0x8000) << 16;
    memcpy(&f, &u, sizeof f);
    return f;
}

#define CONVERT(TYPE, EXPR)                                                                                  \
    for (size_t i = 0; i < n; i++) {                                                                         \
        TYPE x;                                                                                              \
        memcpy(&x, p + i * sizeof x, sizeof x);                                                              \
        out[i] = EXPR;                                                                                       \
    }                                                                                                        \
    break

void dg_stored_to_f32(dg_stored t, const void *in, size_t n, float *out)
{
    const unsigned char *p = in;
    switch (t) {
    case DG_STORED_F32:
        if (n) memcpy(out, p, n * sizeof *out);
        break;
    case DG_STORED_F64:
        CONVERT(double, (float)x);
    case DG_STORED_F16:
        CONVERT(uint16_t, half_to_f32(x));
    case DG_STORED_BF16:
        CONVERT(uint16_t, dg_bf16_to_f32(x));
    case DG_STORED_F8_E4M3:
        CONVERT(uint8_t, small_float(x, 4, 3, true));
    case DG_STORED_F8_E5M2:
        CONVERT(uint8_t, small_float(x, 5, 2, false));
    case DG_STORED_I64:
        CONVERT(int64_t, (float)x);
    case DG_STORED_I32:
        CONVERT(int32_t, (float)x);
    case DG_STORED_I16:
        CONVERT(int16_t, (float)x);
    case DG_STORED_I8:
        CONVERT(int8_t, (float)x);
    case DG_STORED_U64:
        CONVERT(uint64_t, (float)x);
    case DG_STORED_U32:
        CONVERT(uint32_t, (float)x);
    case DG_STORED_U16:
        CONVERT(uint16_t, (float)x);
    case DG_STORED_U8:
        CONVERT(uint8_t, (float)x);
    case DG_STORED_BOOL:
        CONVERT(uint8_t, x ? 1.0f : 0.0f);
    case DG_STORED_NONE:
    case DG_STORED_COUNT:
        break;
    }
}
