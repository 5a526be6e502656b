/* The building blocks of digpt/vit.h: positions against numpy's, names and kinds of parameters, shapes. */
#include "plugin_test.h"

#include "digpt/vit.h"

static void check_sincos(const dg_weights *w, const char *name, int64_t width)
{
    int64_t n;
    double *want = tensor_of(w, name, &n);
    assert_int_equal(n, 197 * width);
    float *have = dg_calloc((size_t)n, sizeof *have);
    assert_non_null(have);
    dg_vit_sincos(have, 14, 14, width);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)have[i] - want[i]) <= 3e-6))
            fail_msg("%s: element %lld is %.9g, not %.9g", name, (long long)i, (double)have[i], want[i]);
    dg_free(have);
    dg_free(want);
}

static void positions_are_those_of_the_official_code(void **state)
{
    (void)state;
    dg_error err;
    dg_weights *w;
    ASSERT_OK(dg_weights_open(DIGPT_TEST_DATA "/F_pos_embed.safetensors", &w, &err));
    check_sincos(w, "sincos.96.grid14", 96);
    check_sincos(w, "sincos.64.grid14", 64);
    dg_weights_close(w);
}

static void positions_of_an_oblong_grid_tell_row_from_column(void **state)
{
    (void)state;
    float square[(1 + 3 * 3) * 8], oblong[(1 + 2 * 3) * 8]; /* grids of 3x3 and 2x3 */
    dg_vit_sincos(square, 3, 3, 8);
    dg_vit_sincos(oblong, 2, 3, 8);
    assert_memory_equal(square, oblong, sizeof oblong); /* the first two rows of patches */
    for (int i = 0; i < 8; i++) assert_true(oblong[i] == 0);
    const float *right = oblong + 2 * 8, *below = oblong + 4 * 8, *first = oblong + 8;
    assert_memory_equal(right + 4, first + 4,
                        4 * sizeof(float)); /* a step right changes the first half only */
    assert_memory_equal(below, first, 4 * sizeof(float));
    assert_true(right[0] == below[4] && right[0] != first[0]);
}

/* The leaf is there, of this kind and these dims. */
static void assert_leaf(const dg_graph *g, const char *name, uint32_t kind, int32_t layer,
                        const int64_t *dims, size_t n)
{
    dg_value v = dg_graph_leaf(g, name);
    if (!dg_is_value(v)) fail_msg("there is no parameter '%s'", name);
    const dg_leaf *leaf = dg_graph_node(g, v.node)->leaf;
    assert_int_equal(leaf->kind, kind);
    if (kind == DG_LEAF_PARAM) assert_int_equal(leaf->layer, layer);
    assert_dims(g, v, dims, n);
}

static void blocks_have_timm_names_and_the_kind_asked_for(void **state)
{
    (void)state;
    dg_error err;
    static const uint32_t kinds[] = {DG_LEAF_PARAM, DG_LEAF_FROZEN};
    for (int k = 0; k < 2; k++) {
        dg_graph *g = dg_graph_create();
        dg_value x = dg_input(g, "x", DG_F32, DG_LIST(2, 5, 12), DG_PER_SAMPLE);
        dg_value m = dg_input(g, "m", DG_F32, DG_LIST(2, 7, 12), DG_PER_SAMPLE);
        dg_vit v = {.g = g, .kind = kinds[k], .layer = 3, .heads = 3, .hidden = 48, .eps = 1e-6};
        dg_push(g, "blocks.2");
        x = dg_vit_block(&v, x, DG_VIT_ALL, DG_NO_VALUE);
        dg_pop(g);
        dg_push(g, "ar_blocks.0");
        x = dg_vit_cross_block(&v, x, m, DG_VIT_ALL, DG_VIT_ALL);
        dg_pop(g);
        ASSERT_OK(dg_graph_error(g, &err));
        assert_dims(g, x, DG_LIST(2, 5, 12));
        assert_leaf(g, "blocks.2.norm1.weight", kinds[k], 3, DG_LIST(12));
        assert_leaf(g, "blocks.2.attn.qkv.weight", kinds[k], 3, DG_LIST(36, 12));
        assert_leaf(g, "blocks.2.attn.qkv.bias", kinds[k], 3, DG_LIST(36));
        assert_leaf(g, "blocks.2.attn.proj.weight", kinds[k], 3, DG_LIST(12, 12));
        assert_leaf(g, "blocks.2.norm2.bias", kinds[k], 3, DG_LIST(12));
        assert_leaf(g, "blocks.2.mlp.fc1.weight", kinds[k], 3, DG_LIST(48, 12));
        assert_leaf(g, "blocks.2.mlp.fc2.weight", kinds[k], 3, DG_LIST(12, 48));
        assert_leaf(g, "ar_blocks.0.attn1.qkv.weight", kinds[k], 3, DG_LIST(36, 12));
        assert_leaf(g, "ar_blocks.0.norm2_1.weight", kinds[k], 3, DG_LIST(12));
        assert_leaf(g, "ar_blocks.0.norm2_2.weight", kinds[k], 3, DG_LIST(12));
        assert_leaf(g, "ar_blocks.0.attn2.q.weight", kinds[k], 3, DG_LIST(12, 12));
        assert_leaf(g, "ar_blocks.0.attn2.kv.weight", kinds[k], 3, DG_LIST(24, 12));
        assert_leaf(g, "ar_blocks.0.attn2.proj.bias", kinds[k], 3, DG_LIST(12));
        dg_graph_destroy(g);
    }
}

/* A block whose branches are dropped gives back what it got; kept ones change it. */
static void drop_path_leaves_a_dropped_sample_as_it_was(void **state)
{
    (void)state;
    enum { SAMPLE = 4 * 8 };
    dg_graph *g = dg_graph_create();
    dg_value x = dg_input(g, "x", DG_F32, DG_LIST(2, 4, 8), DG_PER_SAMPLE);
    dg_value keep = dg_input(g, "keep", DG_F32, DG_LIST(2, 2), DG_PER_SAMPLE);
    dg_vit v = {.g = g, .kind = DG_LEAF_PARAM, .heads = 2, .hidden = 16, .eps = 1e-6};
    dg_graph_output(g, dg_vit_block(&v, x, DG_VIT_ALL, keep), "y");
    runner r = {0};
    runner_start(&r, g);
    int64_t n = 0;
    static const char *const names[] = {"attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight",
                                        "mlp.fc2.weight"};
    for (int k = 0; k < 4; k++) {
        double *w = runner_leaf(&r, names[k], &n);
        for (int64_t i = 0; i < n; i++) w[i] = sin((double)(i * 7 + k));
    }
    double *in = runner_leaf(&r, "x", NULL), *kept = runner_leaf(&r, "keep", NULL);
    for (int i = 0; i < 2 * SAMPLE; i++) in[i] = cos(i);
    kept[0] = kept[1] = 0;
    kept[2] = kept[3] = 1.25;
    runner_run(&r);
    const double *y = runner_output(&r, "y", NULL);
    assert_memory_equal(y, in, SAMPLE * sizeof *y);
    assert_true(error_of(y + SAMPLE, in + SAMPLE, SAMPLE) > 0.01);
    runner_end(&r);
    dg_graph_destroy(g);
}

/* A patch embedding is a convolution whose stride is its kernel. */
static void patches_are_embedded_as_by_a_convolution(void **state)
{
    (void)state;
    enum { H = 4, W = 6, PH = 2, PW = 3, D = 4 };
    dg_graph *g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(1, H, W, 3), DG_PER_SAMPLE);
    dg_vit v = {.g = g, .kind = DG_LEAF_FROZEN};
    dg_value x = dg_vit_patches(g, image, PH, PW, dg_imagenet_mean, dg_imagenet_std, false);
    dg_graph_output(g, dg_vit_patch_embed(&v, x, PH, PW, D, true), "y");
    runner r = {0};
    runner_start(&r, g);
    double *pixel = runner_leaf(&r, "image", NULL), *w = runner_leaf(&r, "patch_embed.proj.weight", NULL),
           want[16];
    double *bias = runner_leaf(&r, "patch_embed.proj.bias", NULL);
    for (int i = 0; i < H * W * 3; i++) pixel[i] = i * 37 % 256;
    for (int i = 0; i < D * 3 * PH * PW; i++) w[i] = sin(i);
    for (int i = 0; i < D; i++) bias[i] = i;
    runner_run(&r);
    for (int p = 0; p < 4; p++)
        for (int d = 0; d < D; d++) {
            double sum = bias[d];
            for (int k = 0; k < 3 * PH * PW; k++) {
                int c = k / (PH * PW), row = p / 2 * PH + k / PW % PH, col = p % 2 * PW + k % PW;
                double u = pixel[(row * W + col) * 3 + c] / 255;
                sum += w[d * 3 * PH * PW + k] * (u - dg_imagenet_mean[c]) / dg_imagenet_std[c];
            }
            want[p * D + d] = sum;
        }
    assert_close("patch embedding", runner_output(&r, "y", NULL), want, 16, 1e-6);
    runner_end(&r);
    dg_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(positions_are_those_of_the_official_code),
        cmocka_unit_test(positions_of_an_oblong_grid_tell_row_from_column),
        cmocka_unit_test(blocks_have_timm_names_and_the_kind_asked_for),
        cmocka_unit_test(drop_path_leaves_a_dropped_sample_as_it_was),
        cmocka_unit_test(patches_are_embedded_as_by_a_convolution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
