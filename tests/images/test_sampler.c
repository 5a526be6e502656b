/* test_sampler.c - an epoch is a permutation, and ranks cut it up without overlap. */
#include "data/sampler.h"

#include <stdlib.h>

#include "test.h"

static void every_epoch_is_a_permutation_of_the_whole_set(void **state)
{
    static const int64_t sizes[] = {1, 2, 3, 5, 16, 255, 256, 257, 800, 4096, 50000};
    (void)state;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            const int64_t n = sizes[k];
            const dg_sampler s = {.seed = 7, .count = n, .batch = 1, .world = 1, .shuffle = true};
            char *seen = calloc((size_t)n, 1);
            for (int64_t i = 0; i < n; i++) {
                const int64_t id = dg_sampler_id(&s, epoch, i);
                assert_true(id >= 0 && id < n && !seen[id]);
                seen[id] = 1;
            }
            free(seen);
        }
}

static void epochs_and_seeds_give_other_orders(void **state)
{
    (void)state;
    const dg_sampler a = {.seed = 7, .count = 1000, .batch = 1, .world = 1, .shuffle = true};
    dg_sampler b = a;
    b.seed = 8;
    int same_epoch = 0, same_seed = 0, fixed = 0;
    for (int64_t i = 0; i < 1000; i++) {
        same_epoch += dg_sampler_id(&a, 0, i) == dg_sampler_id(&a, 1, i);
        same_seed += dg_sampler_id(&a, 0, i) == dg_sampler_id(&b, 0, i);
        fixed += dg_sampler_id(&a, 0, i) == i;
    }
    assert_true(same_epoch < 12 && same_seed < 12 && fixed < 12);
}

static void every_sample_is_as_likely_in_every_place(void **state)
{
    (void)state;
    enum { N = 5, EPOCHS = 20000 };
    const dg_sampler s = {.seed = 3, .count = N, .batch = 1, .world = 1, .shuffle = true};
    int counts[N][N] = {{0}};
    for (int64_t epoch = 0; epoch < EPOCHS; epoch++)
        for (int64_t i = 0; i < N; i++) counts[i][dg_sampler_id(&s, epoch, i)]++;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) assert_in_range(counts[i][j], EPOCHS / N - 300, EPOCHS / N + 300);
}

static void neighbours_do_not_stay_neighbours(void **state)
{
    (void)state;
    const dg_sampler s = {.seed = 3, .count = 10000, .batch = 1, .world = 1, .shuffle = true};
    double sum = 0;
    for (int64_t i = 0; i + 1 < 10000; i++)
        sum += labs((long)(dg_sampler_id(&s, 0, i) - dg_sampler_id(&s, 0, i + 1)));
    assert_true(sum / 9999 > 3200 && sum / 9999 < 3470); /* a third of the set */
}

static void ranks_together_see_what_one_rank_sees(void **state)
{
    (void)state;
    const dg_sampler one = {
        .seed = 7, .count = 103, .batch = 12, .world = 1, .shuffle = true, .drop_last = true};
    assert_int_equal(dg_sampler_steps(&one), 8);
    for (int64_t step = 0; step < 20; step++)
        for (int32_t rank = 0; rank < 3; rank++)
            for (int32_t i = 0; i < 4; i++) {
                dg_sampler s = one;
                s.batch = 4;
                s.rank = rank;
                s.world = 3;
                int64_t a, b;
                assert_int_equal(dg_sampler_at(&s, step, i, &a), dg_sampler_at(&one, step, rank * 4 + i, &b));
                assert_int_equal(a, b);
                assert_int_equal(a, step * 12 + rank * 4 + i);
            }
}

static void evaluation_sees_every_sample_once_and_pads(void **state)
{
    (void)state;
    int seen[103] = {0}, padded = 0;
    for (int32_t rank = 0; rank < 2; rank++) {
        const dg_sampler s = {.count = 103, .batch = 10, .rank = rank, .world = 2};
        assert_int_equal(dg_sampler_steps(&s), 6);
        for (int64_t step = 0; step < 6; step++)
            for (int32_t i = 0; i < 10; i++) {
                const int64_t id = dg_sampler_at(&s, step, i, NULL);
                if (id < 0)
                    padded++;
                else
                    seen[id]++;
            }
    }
    assert_int_equal(padded, 17);
    for (int i = 0; i < 103; i++) assert_int_equal(seen[i], 1);
}

static void impossible_settings_are_explained(void **state)
{
    (void)state;
    dg_error err;
    dg_sampler s = {.count = 7, .batch = 4, .world = 2, .drop_last = true};
    ASSERT_FAILS(dg_sampler_check(&s, &err), DG_ERR_INVALID, "7 samples, fewer than one batch of 8");
    s.drop_last = false;
    ASSERT_OK(dg_sampler_check(&s, &err));
    s.rank = 2;
    ASSERT_FAILS(dg_sampler_check(&s, &err), DG_ERR_INVALID, "rank 2 of 2");
    s = (dg_sampler){.count = 0, .batch = 4, .world = 1};
    ASSERT_FAILS(dg_sampler_check(&s, &err), DG_ERR_INVALID, "no samples");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_epoch_is_a_permutation_of_the_whole_set),
        cmocka_unit_test(epochs_and_seeds_give_other_orders),
        cmocka_unit_test(every_sample_is_as_likely_in_every_place),
        cmocka_unit_test(neighbours_do_not_stay_neighbours),
        cmocka_unit_test(ranks_together_see_what_one_rank_sees),
        cmocka_unit_test(evaluation_sees_every_sample_once_and_pads),
        cmocka_unit_test(impossible_settings_are_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
