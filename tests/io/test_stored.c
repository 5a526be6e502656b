/* Stored element types: sizes, names, and conversion to f32 over all small floats. */
#include "test.h"

#include <math.h>

#include "io/stored.h"

static float one(dg_stored t, const void *bits)
{
    float f;
    dg_stored_to_f32(t, bits, 1, &f);
    return f;
}

/* IEEE 754 binary interchange: (-1)^s 2^(e-bias) 1.m, and 2^(1-bias) 0.m for e = 0. */
static double by_formula(unsigned bits, int exponent, int mantissa)
{
    int e = (int)(bits >> mantissa) & ((1 << exponent) - 1), bias = (1 << (exponent - 1)) - 1;
    double m = (double)(bits & ((1u << mantissa) - 1)) / (1 << mantissa);
    double v = e ? (1 + m) * pow(2, e - bias) : m * pow(2, 1 - bias);
    return bits >> (exponent + mantissa) & 1 ? -v : v;
}

static void every_half_converts_exactly(void **state)
{
    (void)state;
    for (unsigned u = 0; u < 65536; u++) {
        uint16_t h = (uint16_t)u;
        float f = one(DG_STORED_F16, &h);
        if ((u >> 10 & 31) == 31)
            assert_true(u & 1023 ? isnan(f) : isinf(f) && (f < 0) == (u >> 15));
        else
            assert_true((double)f == by_formula(u, 5, 10) && !!signbit(f) == (u >> 15));
    }
}

static void every_byte_float_converts_exactly(void **state)
{
    (void)state;
    for (unsigned u = 0; u < 256; u++) {
        uint8_t b = (uint8_t)u;
        float e4 = one(DG_STORED_F8_E4M3, &b), e5 = one(DG_STORED_F8_E5M2, &b);
        if ((u & 127) == 127)
            assert_true(isnan(e4));
        else
            assert_true((double)e4 == by_formula(u, 4, 3));
        if ((u >> 2 & 31) == 31)
            assert_true(u & 3 ? isnan(e5) : isinf(e5));
        else
            assert_true((double)e5 == by_formula(u, 5, 2));
    }
    uint8_t largest = 0x7e;
    assert_true(one(DG_STORED_F8_E4M3, &largest) == 448.0f);
}

static void wide_types_round_to_nearest(void **state)
{
    (void)state;
    double d = 1.0 + 1.5 * 1.1920928955078125e-07;
    int64_t i = 16777217;
    uint64_t u = UINT64_MAX;
    uint16_t b = 0x3fc0;
    uint8_t yes = 2;
    int8_t minus = -1;
    assert_true(one(DG_STORED_F64, &d) == 1.0f + 2 * 1.1920928955078125e-07f);
    assert_true(one(DG_STORED_I64, &i) == 16777216.0f);
    assert_true(one(DG_STORED_U64, &u) == 18446744073709551616.0f);
    assert_true(one(DG_STORED_BF16, &b) == 1.5f);
    assert_true(one(DG_STORED_BOOL, &yes) == 1.0f);
    assert_true(one(DG_STORED_I8, &minus) == -1.0f);
}

static void names_and_program_types_map_both_ways(void **state)
{
    (void)state;
    for (int t = 1; t < DG_STORED_COUNT; t++) {
        assert_int_equal(dg_stored_from_name(dg_stored_name((dg_stored)t)), t);
        assert_in_range(dg_stored_size((dg_stored)t), 1, 8);
    }
    for (int t = 1; t < DG_DTYPE_COUNT; t++) {
        dg_stored s = dg_stored_from_dtype((dg_dtype)t);
        assert_int_equal(dg_stored_to_dtype(s), t);
        assert_int_equal(dg_stored_size(s), dg_dtype_size((dg_dtype)t));
    }
    assert_int_equal(dg_stored_from_name("F4"), DG_STORED_NONE);
    assert_int_equal(dg_stored_from_name("?"), DG_STORED_NONE);
    assert_int_equal(dg_stored_to_dtype(DG_STORED_I64), DG_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_converts_exactly),
        cmocka_unit_test(every_byte_float_converts_exactly),
        cmocka_unit_test(wide_types_round_to_nearest),
        cmocka_unit_test(names_and_program_types_map_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
