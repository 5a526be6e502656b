/* test_philox.c - random numbers: the published vectors, and that streams are what their names say. */
#include "test.h"

#include "digpt/philox.h"

/* Known answers of Random123 (Salmon et al., 2011): philox4x32, 10 rounds. */
static void philox_gives_the_published_vectors(void **state)
{
    (void)state;
    static const struct {
        uint32_t c[4], k[2], want[4];
    } rows[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t out[4];
        dg_philox(rows[i].c, rows[i].k, out);
        assert_memory_equal(out, rows[i].want, sizeof out);
    }
}

static void a_stream_depends_on_every_part_of_its_name(void **state)
{
    (void)state;
    dg_rng base = dg_rng_make(1, 2, 3, 4);
    dg_rng others[] = {dg_rng_make(0, 2, 3, 4), dg_rng_make(1, 3, 3, 4),  dg_rng_make(1, 2, 4, 4), dg_rng_make(1, 2, 3, 5),
                       dg_rng_make(1ull << 40, 2, 3, 4), dg_rng_make(1, 2, 3ull << 32, 4), dg_rng_make(1, 2, 3, 4ull << 32)};
    uint32_t first = dg_rng_u32(&base);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) assert_int_not_equal(dg_rng_u32(&others[i]), first);
    dg_rng again = dg_rng_make(1, 2, 3, 4);
    assert_int_equal(dg_rng_u32(&again), first);
}

/* Means and variances of 10^5 draws within five standard errors. */
static void draws_have_the_moments_they_should(void **state)
{
    (void)state;
    enum { N = 100000 };
    dg_rng r = dg_rng_make(7, DG_RNG_PLUGIN, 0, 0);
    double u = 0, n = 0, nn = 0, counts[7] = {0};
    for (int i = 0; i < N; i++) {
        double x = dg_rng_uniform(&r), z = dg_rng_normal(&r);
        assert_true(x >= 0 && x < 1);
        u += x;
        n += z;
        nn += z * z;
        counts[dg_rng_below(&r, 7)]++;
    }
    assert_true(fabs(u / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(n / N) < 5 * sqrt(1.0 / N));
    assert_true(fabs(nn / N - 1) < 5 * sqrt(2.0 / N));
    for (int i = 0; i < 7; i++) assert_true(fabs(counts[i] - N / 7.0) < 5 * sqrt(N * 6.0 / 49));
}

static void permutations_hold_each_number_once(void **state)
{
    (void)state;
    int32_t p[33], seen[33] = {0};
    dg_rng r = dg_rng_make(3, DG_RNG_MODEL, 9, 0);
    dg_rng_permutation(&r, p, 33);
    for (int i = 0; i < 33; i++) seen[p[i]]++;
    for (int i = 0; i < 33; i++) assert_int_equal(seen[i], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_vectors),
        cmocka_unit_test(a_stream_depends_on_every_part_of_its_name),
        cmocka_unit_test(draws_have_the_moments_they_should),
        cmocka_unit_test(permutations_hold_each_number_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
