/* Are the neighbours the nearest, and do they vote as they should? */
#include "probe_support.h"

#include "train/knn.h"

static probe_parts p;

static int open_all(void **state)
{
    quiet(state);
    open_parts(&p, "");
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    close_parts(&p);
    return 0;
}

static double cosine_of(const dg_feature_set *a, int64_t i, const dg_feature_set *b, int64_t j)
{
    double dot = 0, x = 0, y = 0;
    for (int64_t k = 0; k < a->width; k++) {
        double u = (double)a->x[i * a->width + k], v = (double)b->x[j * b->width + k];
        dot += u * v;
        x += u * u;
        y += v * v;
    }
    return dot / sqrt(x * y);
}

/* 300 queries are more than one run of the program takes. */
static void neighbours_are_those_of_a_plain_search(void **state)
{
    (void)state;
    enum { K = 7 };
    dg_feature_set bank = planted(500, 24, 10, 1, 1), queries = planted(300, 24, 10, 1, 2);
    dg_neighbours found;
    dg_error err;
    ASSERT_OK(dg_knn_search(&p.parts, &bank, &queries, K, &found, &err));
    for (int64_t q = 0; q < queries.n; q++) {
        for (int64_t i = 0; i < K; i++) {
            int64_t j = found.index[q * K + i];
            double c = cosine_of(&queries, q, &bank, j);
            assert_in_range(j, 0, bank.n - 1);
            if (fabs(c - (double)found.cosine[q * K + i]) > 1e-6)
                fail_msg("query %lld: %g, not %g", (long long)q, (double)found.cosine[q * K + i], c);
            if (i) assert_true(found.cosine[q * K + i] <= found.cosine[q * K + i - 1]);
        }
        int64_t nearer = 0;
        for (int64_t j = 0; j < bank.n; j++)
            nearer += cosine_of(&queries, q, &bank, j) > (double)found.cosine[q * K + K - 1] + 1e-6;
        assert_true(nearer < K);
    }
    dg_neighbours_free(&found);
    dg_feature_set_free(&bank);
    dg_feature_set_free(&queries);
}

/* 70000 images are more than the program holds at once. */
static void a_bank_in_pieces_is_one_bank(void **state)
{
    (void)state;
    enum { N = 70000, K = 4 };
    static const int64_t places[K] = {69999, 5, 66000, 65535}; /* of the nearest, from the first on */
    dg_feature_set bank = planted(N, 2, 1, 0, 1), queries = planted(2, 2, 1, 0, 2);
    dg_neighbours found;
    dg_error err;
    for (int64_t i = 0; i < N; i++) bank.x[2 * i + 1] = 5;
    for (int i = 0; i < K; i++) bank.x[2 * places[i] + 1] = 0.1f * (float)i;
    ASSERT_OK(dg_knn_search(&p.parts, &bank, &queries, K, &found, &err));
    for (int i = 0; i < K; i++) {
        assert_int_equal(found.index[i], places[i]);
        assert_int_equal(found.index[K + i], places[i]);
    }
    dg_neighbours_free(&found);
    dg_feature_set_free(&bank);
    dg_feature_set_free(&queries);
}

static void equally_near_ones_come_in_the_order_of_the_bank(void **state)
{
    (void)state;
    dg_feature_set bank = planted(20, 2, 1, 0, 1), queries = planted(1, 2, 1, 0, 2);
    dg_neighbours found;
    dg_error err;
    ASSERT_OK(dg_knn_search(&p.parts, &bank, &queries, 20, &found, &err));
    for (int64_t i = 0; i < 20; i++) assert_int_equal(found.index[i], i);
    dg_neighbours_free(&found);
    dg_feature_set_free(&bank);
    dg_feature_set_free(&queries);
}

static dg_knn_score score(const dg_feature_set *bank, const dg_feature_set *queries, int32_t classes,
                          int64_t k, double temperature)
{
    dg_neighbours found;
    dg_knn_score s;
    dg_error err;
    ASSERT_OK(dg_knn_search(&p.parts, bank, queries, k, &found, &err));
    ASSERT_OK(dg_knn_vote(&found, bank, queries, classes, k, temperature, &s, &err));
    dg_neighbours_free(&found);
    return s;
}

static void separable_features_are_always_told_apart(void **state)
{
    (void)state;
    dg_feature_set bank = planted(200, 16, 10, 0.1, 1), queries = planted(100, 16, 10, 0.1, 2);
    dg_knn_score s = score(&bank, &queries, 10, 10, 0.07);
    assert_true(s.top1 == 1 && s.top5 == 1);
    for (int64_t i = 0; i < queries.n; i++) queries.labels[i] = (queries.labels[i] + 1) % 10;
    s = score(&bank, &queries, 10, 10, 0.07);
    assert_true(s.top1 == 0);
    dg_feature_set_free(&bank);
    dg_feature_set_free(&queries);
}

/* One near image of class 0 against two farther ones of class 1: a low temperature listens to the near one.
 */
static void votes_weigh_by_similarity_and_temperature(void **state)
{
    (void)state;
    static const float x[] = {1, 0.1f, 1, 0.8f, 1, 0.9f};
    dg_feature_set bank = planted(3, 2, 3, 0, 1), queries = planted(1, 2, 1, 0, 2);
    memcpy(bank.x, x, sizeof x);
    bank.labels[0] = 0;
    bank.labels[1] = bank.labels[2] = 1;
    assert_true(score(&bank, &queries, 3, 3, 0.07).top1 == 1);
    assert_true(score(&bank, &queries, 3, 3, 10).top1 == 0);
    assert_true(score(&bank, &queries, 3, 1, 10).top1 == 1);
    assert_true(score(&bank, &queries, 3, 3, 1e-4).top1 == 1); /* exp of thousands does not overflow */
    queries.labels[0] = 2; /* of which there is no image: no vote, so not among five of three classes */
    assert_true(score(&bank, &queries, 3, 3, 0.07).top5 == 0);
    queries.labels[0] = 1;
    assert_true(score(&bank, &queries, 3, 3, 0.07).top5 == 1);
    dg_feature_set_free(&bank);
    dg_feature_set_free(&queries);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    dg_feature_set bank = planted(5, 4, 2, 1, 1), queries = planted(3, 4, 2, 1, 2),
                   wide = planted(3, 5, 2, 1, 2);
    dg_neighbours found;
    dg_knn_score s;
    dg_error err;
    ASSERT_FAILS(dg_knn_search(&p.parts, &bank, &queries, 6, &found, &err), DG_ERR_INVALID,
                 "6 neighbours are asked for and there are 5 images");
    assert_string_equal(err.key, "knn.k");
    dg_neighbours_free(&found);
    ASSERT_FAILS(dg_knn_search(&p.parts, &bank, &wide, 2, &found, &err), DG_ERR_MISMATCH,
                 "features of width 5 are compared");
    dg_neighbours_free(&found);
    ASSERT_OK(dg_knn_search(&p.parts, &bank, &queries, 2, &found, &err));
    queries.labels[1] = 2;
    ASSERT_FAILS(dg_knn_vote(&found, &bank, &queries, 2, 2, 1, &s, &err), DG_ERR_MISMATCH,
                 "sample 1 of the validation data has the label 2; the classes are 0 to 1");
    bank.labels[4] = -1;
    ASSERT_FAILS(dg_knn_vote(&found, &bank, &queries, 2, 2, 1, &s, &err), DG_ERR_MISMATCH,
                 "sample 4 of the training data has no label");
    dg_neighbours_free(&found);
    for (int64_t i = 0; i < bank.width; i++) bank.x[i] = NAN;
    ASSERT_FAILS(dg_knn_search(&p.parts, &bank, &queries, 5, &found, &err), DG_ERR_NOT_FINITE,
                 "are not finite");
    dg_neighbours_free(&found);
    dg_feature_set_free(&bank);
    dg_feature_set_free(&queries);
    dg_feature_set_free(&wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_are_those_of_a_plain_search),
        cmocka_unit_test(a_bank_in_pieces_is_one_bank),
        cmocka_unit_test(equally_near_ones_come_in_the_order_of_the_bank),
        cmocka_unit_test(separable_features_are_always_told_apart),
        cmocka_unit_test(votes_weigh_by_similarity_and_temperature),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
