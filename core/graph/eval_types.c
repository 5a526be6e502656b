/* eval_types.c - elements of every dtype from and to doubles: rounding, saturation, encoding. */
#include "eval.h"

#include <math.h>

/* The small floats: `bits` of significand with the hidden one, exponents from `lowest`, largest value; f8e4m3
 * is the OCP "fn" format, which has no infinities and the one nan 0x7f (OCP 8-bit Floating Point
 * Specification, 2023). */
typedef struct small_float {
    int bits, lowest, exponent_bits;
    double most;
    bool infinite;
    uint16_t nan;
} small_float;

static const small_float small_floats[DG_DTYPE_COUNT] = {
    [DG_BF16] = {8, -126, 8, 0x1.fep127, true, 0x7fc0},
    [DG_F16] = {11, -14, 5, 65504, true, 0x7e00},
    [DG_F8E4M3] = {4, -6, 4, 448, false, 0x7f},
};

/* Exponent of the unit in which |x|, finite and not 0, is counted. */
static int unit_of(const small_float *f, double x)
{
    int e;
    frexp(x, &e);
    return (e - 1 > f->lowest ? e - 1 : f->lowest) - (f->bits - 1);
}

/* To nearest, ties to even; past the largest value infinity, or nan where there is none. */
static double round_small(const small_float *f, double x)
{
    if (isnan(x) || x == 0) return x;
    if (isfinite(x)) {
        int unit = unit_of(f, x);
        x = ldexp(rint(ldexp(x, -unit)), unit);
    }
    if (fabs(x) <= f->most) return x;
    return f->infinite ? copysign(INFINITY, x) : NAN;
}

static uint16_t encode_small(const small_float *f, double x)
{
    x = round_small(f, x);
    uint16_t sign = (uint16_t)((signbit(x) ? 1u : 0u) << (f->bits - 1 + f->exponent_bits));
    if (isnan(x)) return f->nan;
    if (x == 0) return sign;
    int fraction_bits = f->bits - 1;
    if (isinf(x)) return (uint16_t)(sign | ((1u << f->exponent_bits) - 1) << fraction_bits);
    int unit = unit_of(f, x);
    unsigned count = (unsigned)ldexp(fabs(x), -unit);
    /* A normal number's hidden one adds 1 to the exponent field; a subnormal one has none. */
    unsigned field = (unsigned)(unit + fraction_bits - f->lowest);
    return (uint16_t)(sign | ((field << fraction_bits) + count));
}

static double decode_small(const small_float *f, uint16_t h)
{
    int fraction_bits = f->bits - 1;
    unsigned top = (1u << f->exponent_bits) - 1, low = (1u << fraction_bits) - 1;
    unsigned field = h >> fraction_bits & top, fraction = h & low;
    double sign = h >> (fraction_bits + f->exponent_bits) & 1 ? -1 : 1;
    if (f->infinite && field == top) return fraction ? NAN : sign * INFINITY;
    if (!f->infinite && field == top && fraction == low) return NAN;
    if (field == 0) return sign * ldexp(fraction, f->lowest - fraction_bits);
    return sign * ldexp(fraction + low + 1u, (int)field - 1 + f->lowest - fraction_bits);
}

double dg_to_integer(dg_dtype dtype, double x)
{
    if (dtype == DG_BOOL) return x != 0;
    double low = dtype == DG_U8 ? 0 : INT32_MIN, high = dtype == DG_U8 ? UINT8_MAX : INT32_MAX;
    if (isnan(x)) return 0;
    return x < low ? low : x > high ? high : trunc(x) + 0.0;
}

void dg_round_doubles(dg_dtype dtype, double *x, int64_t n)
{
    if (dtype == DG_F32)
        for (int64_t i = 0; i < n; i++) x[i] = (float)x[i];
    else if (dg_dtype_is_float(dtype))
        for (int64_t i = 0; i < n; i++) x[i] = round_small(&small_floats[dtype], x[i]);
    else
        for (int64_t i = 0; i < n; i++) x[i] = dg_to_integer(dtype, x[i]);
}

static double load_f32(const unsigned char *at)
{
    float e;
    memcpy(&e, at, sizeof e);
    return e;
}

static double load_i32(const unsigned char *at)
{
    int32_t e;
    memcpy(&e, at, sizeof e);
    return e;
}

static double load_byte(const unsigned char *at)
{
    return *at;
}
static double load_bool(const unsigned char *at)
{
    return *at != 0;
}

static uint16_t half_at(const unsigned char *at)
{
    uint16_t e;
    memcpy(&e, at, sizeof e);
    return e;
}

static double load_bf16(const unsigned char *at)
{
    return decode_small(&small_floats[DG_BF16], half_at(at));
}
static double load_f16(const unsigned char *at)
{
    return decode_small(&small_floats[DG_F16], half_at(at));
}
static double load_f8(const unsigned char *at)
{
    return decode_small(&small_floats[DG_F8E4M3], *at);
}

static void store_f32(double x, unsigned char *at)
{
    float e = (float)x;
    memcpy(at, &e, sizeof e);
}

static void store_i32(double x, unsigned char *at)
{
    int32_t e = (int32_t)dg_to_integer(DG_I32, x);
    memcpy(at, &e, sizeof e);
}

static void store_half(const small_float *f, double x, unsigned char *at)
{
    uint16_t e = encode_small(f, x);
    memcpy(at, &e, sizeof e);
}

static void store_u8(double x, unsigned char *at)
{
    *at = (unsigned char)dg_to_integer(DG_U8, x);
}
static void store_bool(double x, unsigned char *at)
{
    *at = x != 0;
}
static void store_bf16(double x, unsigned char *at)
{
    store_half(&small_floats[DG_BF16], x, at);
}
static void store_f16(double x, unsigned char *at)
{
    store_half(&small_floats[DG_F16], x, at);
}
static void store_f8(double x, unsigned char *at)
{
    *at = (unsigned char)encode_small(&small_floats[DG_F8E4M3], x);
}

static const struct {
    double (*load)(const unsigned char *at);
    void (*store)(double x, unsigned char *at);
} forms[DG_DTYPE_COUNT] = {
    [DG_F32] = {load_f32, store_f32},    [DG_BF16] = {load_bf16, store_bf16},
    [DG_F16] = {load_f16, store_f16},    [DG_F8E4M3] = {load_f8, store_f8},
    [DG_I32] = {load_i32, store_i32},    [DG_U8] = {load_byte, store_u8},
    [DG_BOOL] = {load_bool, store_bool},
};

void dg_to_doubles(dg_dtype dtype, const void *stored, int64_t n, double *out)
{
    const unsigned char *at = stored;
    size_t size = dg_dtype_size(dtype);
    for (int64_t i = 0; i < n; i++, at += size) out[i] = forms[dtype].load(at);
}

void dg_from_doubles(dg_dtype dtype, const double *in, int64_t n, void *stored)
{
    unsigned char *at = stored;
    size_t size = dg_dtype_size(dtype);
    for (int64_t i = 0; i < n; i++, at += size) forms[dtype].store(in[i], at);
}
