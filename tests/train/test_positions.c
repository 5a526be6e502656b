/* test_positions.c - weights of one image size start a model of another. */
#include "train_support.h"

#include "train/positions.h"

/* ---- the arithmetic */

static void a_constant_stays_and_the_class_row_is_copied(void **state)
{
    (void)state;
    enum { WIDTH = 3 };
    const int64_t from[2] = {2, 5}, to[2] = {7, 3};
    float in[(1 + 10) * WIDTH], out[(1 + 21) * WIDTH];
    dg_error err;
    for (int i = 0; i < 11 * WIDTH; i++) in[i] = i < WIDTH ? (float)(100 + i) : (float)(i % WIDTH);
    ASSERT_OK(dg_positions_resize(in, from, to, 1, WIDTH, out, &err));
    for (int i = 0; i < 22 * WIDTH; i++) {
        float want = i < WIDTH ? (float)(100 + i) : (float)(i % WIDTH);
        assert_true(fabsf(out[i] - want) < 1e-5f);
    }
}

static void rows_and_columns_are_not_mixed_up(void **state)
{
    (void)state;
    const int64_t from[2] = {4, 2}, to[2] = {8, 2};
    float in[8], out[16];
    dg_error err;
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 2; x++) in[2 * y + x] = (float)(y + 100 * x);
    ASSERT_OK(dg_positions_resize(in, from, to, 0, 1, out, &err));
    /* Twice as many rows: place 4 lies at 1.75, and with a = -0.75 the rows 0..3 weigh -9/256, 67/256,
     * 225/256 and -27/256 there. */
    assert_true(fabsf(out[2 * 4] - 436.0f / 256) < 1e-5f);
    for (int i = 0; i < 8; i++) assert_true(fabsf(out[2 * i + 1] - out[2 * i] - 100) < 1e-4f);
}

static void a_grid_is_what_the_file_says_or_a_square(void **state)
{
    (void)state;
    int64_t g[2];
    assert_true(dg_positions_grid(197, 1, NULL, g));
    assert_true(g[0] == 14 && g[1] == 14);
    assert_true(dg_positions_grid(9, 1, "2x4", g));
    assert_true(g[0] == 2 && g[1] == 4);
    static const char *const wrong[] = {"2x3", "2x", "x4", "-2x-4", "2x4x1", "99999999999x1", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(dg_positions_grid(9, 1, wrong[i], g));
    assert_false(dg_positions_grid(9, 1, NULL, g)); /* 8 is no square */
    assert_false(dg_positions_grid(1, 1, NULL, g));
}

/* ---- from a run to another */

static void assert_interpolated(const char *donor, const int64_t from[2], const char *overrides,
                                const int64_t to[2])
{
    stepper s;
    dg_error err;
    dg_weights *w;
    char path[800];
    int64_t n;
    float *want = dg_calloc((size_t)(1 + to[0] * to[1]) * 16, sizeof *want),
          *theirs = dg_calloc((size_t)(1 + from[0] * from[1]) * 16, sizeof *theirs);
    snprintf(path, sizeof path, "%s/checkpoints/step-0000000001", test_path(donor));
    open_stepper(&s, overrides, false);
    ASSERT_OK(dg_state_init_from(&s.state, s.step.forward, path, &err));
    ASSERT_OK(dg_weights_open(path, &w, &err));
    const dg_weight *t = dg_weights_find(w, "pos_embed");
    assert_non_null(t);
    ASSERT_OK(dg_weight_read_f32(t, theirs, (size_t)t->count, &err));
    ASSERT_OK(dg_positions_resize(theirs, from, to, 1, 16, want, &err));
    float *have = state_of(&s, "model.pos_embed", &n);
    assert_int_equal(n, (1 + to[0] * to[1]) * 16);
    assert_memory_equal(have, want, (size_t)n * sizeof *have);
    dg_weights_close(w);
    dg_free(have);
    dg_free(want);
    dg_free(theirs);
    close_stepper(&s);
}

static void a_run_at_another_image_size_starts_with_interpolated_positions(void **state)
{
    (void)state;
    must_train("square", 0, "train.steps=1");
    must_train("wide", 0, "train.steps=1 data.image_size=[16,64]");
    assert_interpolated("square", (const int64_t[]){4, 4}, "data.image_size=[48,32]",
                        (const int64_t[]){6, 4});
    /* As many positions as before, but of another grid: known from what the checkpoint says. */
    assert_interpolated("wide", (const int64_t[]){2, 8}, "", (const int64_t[]){4, 4});
}

static void positions_of_an_unknown_grid_are_refused(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    char words[1024];
    static float values[9 * 16];
    const dg_st_tensor t = {"pos_embed", DG_STORED_F32, 3, {1, 9, 16}};
    const void *data[] = {values};
    ASSERT_OK(dg_st_write(test_path("oblong.safetensors"), &t, data, 1, NULL, 0, &err));
    snprintf(words, sizeof words, "train.init_from=%s", test_path("oblong.safetensors"));
    ASSERT_FAILS(train("oblong", 0, words, &result, &err), DG_ERR_MISMATCH,
                 "pos_embed wants [1,17,16], the file has pos_embed [1,9,16]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_constant_stays_and_the_class_row_is_copied),
        cmocka_unit_test(rows_and_columns_are_not_mixed_up),
        cmocka_unit_test(a_grid_is_what_the_file_says_or_a_square),
        cmocka_unit_test(a_run_at_another_image_size_starts_with_interpolated_positions),
        cmocka_unit_test(positions_of_an_unknown_grid_are_refused),
    };
    return cmocka_run_group_tests_name("train positions", tests, quiet, NULL);
}
