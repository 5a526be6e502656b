/* The model `mae`: shapes, which patches are kept, who sees what, learning, errors. tests/reference compares
 * its numbers. */
#include "tiny_training.h"

static dg_tokenizer_info tokens_of(int64_t h, int64_t w, int64_t width)
{
    return (dg_tokenizer_info){.struct_size = sizeof(dg_tokenizer_info),
                               .grid_h = h,
                               .grid_w = w,
                               .width = width,
                               .summary = "made up"};
}

static dg_model_env env_of(int64_t h, int64_t w, const dg_tokenizer_info *tokens)
{
    return (dg_model_env){.struct_size = sizeof(dg_model_env), .image_h = h, .image_w = w, .tokens = tokens};
}

/* The pretraining pass for `batch` images under the scope "model"; inputs "image" and "tokens". */
static dg_model_output build_mae(const dg_component *c, const dg_model_env *env, int64_t batch, dg_graph *g)
{
    dg_error err;
    const dg_tokenizer_info *t = env->tokens;
    dg_value image =
        dg_input(g, "image", DG_U8, DG_LIST(batch, env->image_h, env->image_w, 3), DG_PER_SAMPLE);
    dg_value tokens =
        t->discrete
            ? dg_input(g, "tokens", DG_I32, DG_LIST(batch, dg_token_count(t)), DG_PER_SAMPLE)
            : dg_input(g, "tokens", DG_F32, DG_LIST(batch, dg_token_count(t), t->width), DG_PER_SAMPLE);
    const dg_field fields[] = {{"image", image}};
    dg_model_batch in = {
        .struct_size = sizeof in, .n_fields = 1, .batch = batch, .fields = fields, .tokens = tokens};
    dg_model_output out = {.struct_size = sizeof out, .loss = DG_NO_VALUE};
    dg_push(g, "model");
    ASSERT_OK(((const dg_model_interface *)table_of(c))->build(c->self, g, &in, &out, &err));
    dg_pop(g);
    return out;
}

static bool has(const dg_graph *g, const char *leaf)
{
    return dg_is_value(dg_graph_leaf(g, leaf));
}

#define TINY                                                                                                 \
    "size=free", "width=8", "heads=2", "depth=2", "decoder_width=8", "decoder_heads=2", "decoder_depth=1",   \
        "mlp_ratio=2"

/* ---- shapes */

static void the_default_is_the_official_setting(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_tokenizer_info tokens = tokens_of(14, 14, 768);
    dg_model_env env = env_of(224, 224, &tokens);
    ASSERT_OK(dg_component_make(plugins(), DG_MODEL_INTERFACE, "mae", NULL, 0, &env, &c, &err));
    dg_graph *g = dg_graph_create();
    dg_model_output out = build_mae(&c, &env, 2, g);
    assert_int_equal(out.n_predictions, 1);
    assert_dims(g, out.predictions[0].prediction, DG_LIST(2, 196, 768));
    assert_dims(g, out.predictions[0].target, DG_LIST(2, 196, 768));
    assert_dims(g, out.predictions[0].weight, DG_LIST(2, 196));
    assert_dims(g, dg_graph_leaf(g, "model.keep"), DG_LIST(2, 49));
    assert_dims(g, dg_graph_tap(g, "latent"), DG_LIST(2, 50, 768));
    assert_dims(g, dg_graph_tap(g, "dec_in"), DG_LIST(2, 197, 512));
    assert_dims(g, dg_graph_leaf(g, "model.decoder_embed.weight"), DG_LIST(512, 768));
    assert_dims(g, dg_graph_leaf(g, "model.decoder_pred.weight"), DG_LIST(768, 512));
    assert_dims(g, dg_graph_leaf(g, "model.mask_token"), DG_LIST(1, 1, 512));
    assert_true(has(g, "model.blocks.11.mlp.fc2.bias") && has(g, "model.decoder_blocks.7.mlp.fc2.bias"));
    assert_false(has(g, "model.blocks.12.norm1.bias") || has(g, "model.decoder_blocks.8.norm1.bias"));
    assert_true(has(g, "model.norm.weight") && has(g, "model.decoder_norm.weight"));
    const char *const frozen[] = {"model.pos_embed", "model.decoder_pos_embed"};
    for (int i = 0; i < 2; i++)
        assert_int_equal(dg_graph_node(g, dg_graph_leaf(g, frozen[i]).node)->leaf->kind, DG_LEAF_FROZEN);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void a_class_token_of_the_tokenizer_is_left_out_of_the_targets(void **state)
{
    (void)state;
    for (uint32_t discrete = 0; discrete < 2; discrete++) {
        dg_error err;
        dg_component c;
        dg_tokenizer_info tokens = tokens_of(2, 3, discrete ? 1 : 5);
        tokens.class_token = 1;
        tokens.discrete = discrete;
        tokens.vocabulary = 11;
        dg_model_env env = env_of(8, 12, &tokens);
        ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "mae", &env, TINY, "patch=4", "mask_ratio=0.5"));
        dg_graph *g = dg_graph_create();
        dg_model_output out = build_mae(&c, &env, 1, g);
        assert_dims(g, out.predictions[0].prediction, DG_LIST(1, 6, discrete ? 11 : 5));
        dg_graph_output(g, out.predictions[0].target, "target");
        runner r = {0};
        runner_start(&r, g);
        int64_t n, m;
        double *t = runner_leaf(&r, "tokens", &n);
        for (int64_t i = 0; i < n; i++) t[i] = (double)i;
        runner_run(&r);
        const double *target = runner_output(&r, "target", &m);
        assert_int_equal(m, n * 6 / 7);
        for (int64_t i = 0; i < m; i++) assert_true(target[i] == (double)(n / 7 + i));
        runner_end(&r);
        dg_graph_destroy(g);
        dg_component_destroy(&c);
    }
}

static void the_encoder_alone_sees_the_whole_image_and_trains_its_positions(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_tokenizer_info tokens = tokens_of(4, 4, 48);
    dg_model_env env = env_of(16, 16, &tokens);
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "mae", &env, TINY, "patch=4"));
    const dg_model_interface *table = table_of(&c);
    dg_graph *g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(2, 16, 16, 3), DG_PER_SAMPLE);
    dg_value keep = dg_input(g, "drop_path", DG_F32, DG_LIST(2, 4), DG_PER_SAMPLE);
    dg_features f;
    ASSERT_OK(table->encode(c.self, g, image, 0, keep, &f, &err));
    assert_dims(g, f.tokens, DG_LIST(2, 17, 8));
    assert_int_equal(f.n_classes, 1);
    assert_int_equal(f.depth, 2);
    const dg_leaf *pos = dg_graph_node(g, dg_graph_leaf(g, "pos_embed").node)->leaf;
    assert_int_equal(pos->kind, DG_LEAF_PARAM);
    assert_int_equal(pos->layer, 0);
    assert_int_equal(pos->decay, 0);
    assert_int_equal(dg_graph_node(g, dg_graph_leaf(g, "blocks.1.norm1.weight").node)->leaf->layer, 2);
    assert_false(has(g, "keep") || has(g, "norm.weight"));
    ASSERT_FAILS(table->encode(c.self, g, image, 3, DG_NO_VALUE, &f, &err), DG_ERR_INVALID, "2 blocks");
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

/* ---- what is kept */

static void kept_patches_are_pure_distinct_and_uniform(void **state)
{
    (void)state;
    enum { DRAWS = 40000, PATCHES = 16, KEEP = 4 };
    dg_error err;
    dg_component c;
    dg_tokenizer_info tokens = tokens_of(4, 4, 48);
    dg_model_env env = env_of(16, 16, &tokens);
    int count[PATCHES] = {0}, pairs[PATCHES][PATCHES] = {{0}}, different = 0;
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "mae", &env, TINY, "patch=4"));
    const dg_model_interface *table = table_of(&c);
    for (uint64_t i = 0; i < DRAWS; i++) {
        int32_t a[KEEP], again[KEEP], other[KEEP];
        ASSERT_OK(table->fill(c.self, "keep", 7, i, a, sizeof a, &err));
        ASSERT_OK(table->fill(c.self, "keep", 7, i, again, sizeof again, &err));
        ASSERT_OK(table->fill(c.self, "keep", 8, i, other, sizeof other, &err));
        assert_memory_equal(a, again, sizeof a);
        different += memcmp(a, other, sizeof a) != 0;
        for (int k = 0; k < KEEP; k++) {
            assert_in_range(a[k], 0, PATCHES - 1);
            count[a[k]]++;
            for (int l = 0; l < k; l++) {
                assert_int_not_equal(a[k], a[l]);
                pairs[a[k] < a[l] ? a[k] : a[l]][a[k] < a[l] ? a[l] : a[k]]++;
            }
        }
    }
    /* Each patch a quarter of the time, each pair 4 * 3 of 16 * 15; five standard deviations of a binomial.
     */
    for (int i = 0; i < PATCHES; i++) {
        assert_true(fabs(count[i] - DRAWS / 4.0) < 5 * sqrt(DRAWS * 0.25 * 0.75));
        for (int j = i + 1; j < PATCHES; j++)
            assert_true(fabs(pairs[i][j] - DRAWS * 0.05) < 5 * sqrt(DRAWS * 0.05 * 0.95));
    }
    assert_true(different > DRAWS * 9 / 10);
    int32_t out[KEEP + 1];
    ASSERT_FAILS(table->fill(c.self, "order", 1, 1, out, 16, &err), DG_ERR_INTERNAL, "order");
    ASSERT_FAILS(table->fill(c.self, "keep", 1, 1, out, 20, &err), DG_ERR_INTERNAL, "16 bytes");
    dg_component_destroy(&c);
}

static void the_number_that_is_kept_is_rounded_down(void **state)
{
    (void)state;
    static const struct {
        const char *ratio;
        int64_t keep;
    } rows[] = {
        {"mask_ratio=0.75", 3}, {"mask_ratio=0.9", 1}, {"mask_ratio=0.5", 7}, {"mask_ratio=0.05", 14}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dg_error err;
        dg_component c;
        dg_tokenizer_info tokens = tokens_of(3, 5, 48);
        dg_model_env env = env_of(12, 20, &tokens);
        ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "mae", &env, TINY, "patch=4", rows[i].ratio));
        dg_graph *g = dg_graph_create();
        build_mae(&c, &env, 2, g);
        assert_dims(g, dg_graph_leaf(g, "model.keep"), DG_LIST(2, rows[i].keep));
        dg_graph_destroy(g);
        dg_component_destroy(&c);
    }
}

/* ---- who sees what */

/* One image of 4x4 pixels, 2x2 patches; patches 2 and 0 are kept. `poke`: the patch whose pixels are changed.
 */
static void run_tiny(int poke, double *pred, double *mask)
{
    dg_error err;
    dg_component c;
    dg_tokenizer_info tokens = tokens_of(2, 2, 3);
    dg_model_env env = env_of(4, 4, &tokens);
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "mae", &env, TINY, "patch=2", "mask_ratio=0.5"));
    dg_graph *g = dg_graph_create();
    dg_model_output out = build_mae(&c, &env, 1, g);
    dg_graph_output(g, out.predictions[0].prediction, "prediction");
    dg_graph_output(g, out.predictions[0].weight, "weight");
    runner r = {0};
    runner_start(&r, g);
    tiny_randomise(&r, 1);
    double *pixel = runner_leaf(&r, "image", NULL), *keep = runner_leaf(&r, "model.keep", NULL);
    for (int i = 0; i < 4 * 4 * 3; i++) {
        int patch = i / 24 * 2 + i / 6 % 2;
        pixel[i] = (i * 41 % 256) ^ (patch == poke ? 255 : 0);
    }
    keep[0] = 2;
    keep[1] = 0;
    runner_run(&r);
    memcpy(pred, runner_output(&r, "prediction", NULL), 12 * sizeof *pred);
    memcpy(mask, runner_output(&r, "weight", NULL), 4 * sizeof *mask);
    runner_end(&r);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void only_kept_patches_are_seen_and_only_removed_ones_count(void **state)
{
    (void)state;
    double pred[12], other[12], mask[4];
    run_tiny(-1, pred, mask);
    for (int i = 0; i < 4; i++) assert_true(mask[i] == i % 2);
    for (int poke = 0; poke < 4; poke++) {
        run_tiny(poke, other, mask);
        for (int i = 0; i < 12; i++) assert_true((other[i] != pred[i]) == (poke % 2 == 0));
    }
    /* Two removed patches differ by their positions alone. */
    for (int i = 0; i < 3; i++) assert_true(pred[3 + i] != pred[9 + i]);
}

/* ---- learning */

static void it_learns_with_normalised_pixels_and_every_parameter_has_a_gradient(void **state)
{
    (void)state;
    enum { STEPS = 60 };
    dg_error err;
    dg_component c, pixels, mse;
    const dg_tokenizer_env tokenizer_env = {.struct_size = sizeof tokenizer_env, .image_h = 8, .image_w = 8};
    ASSERT_OK(MAKE(&pixels, DG_TOKENIZER_INTERFACE, "pixels", &tokenizer_env, "patch=2"));
    ASSERT_OK(dg_component_make(plugins(), DG_LOSS_INTERFACE, "mse", NULL, 0, NULL, &mse, &err));
    dg_tokenizer_info tokens = tokenizer_info(&pixels);
    dg_model_env env = env_of(8, 8, &tokens);
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "mae", &env, TINY, "patch=2"));
    dg_graph *g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(2, 8, 8, 3), DG_PER_SAMPLE), target;
    ASSERT_OK(build_tokenizer(&pixels, g, image, &target, &err));
    const dg_field fields[] = {{"image", image}};
    dg_model_batch in = {
        .struct_size = sizeof in, .n_fields = 1, .batch = 2, .fields = fields, .tokens = target};
    dg_model_output out = {.struct_size = sizeof out};
    ASSERT_OK(((const dg_model_interface *)table_of(&c))->build(c.self, g, &in, &out, &err));
    const dg_prediction *p = &out.predictions[0];
    dg_value each = dg_mul(g, build_loss(&mse, g, p->prediction, p->target), p->weight);
    dg_value sum = dg_reduce_sum(g, each, DG_LIST(0, 1), false, DG_NONE);
    dg_graph_output(g, dg_div(g, sum, dg_reduce_sum(g, p->weight, DG_LIST(0, 1), false, DG_NONE)), "loss");
    tiny t;
    tiny_start(&t, g);
    double *pixel = runner_leaf(&t.r, "image", NULL), *keep = runner_leaf(&t.r, "keep", NULL), first = 0,
           last = 0;
    for (int i = 0; i < 2 * 8 * 8 * 3; i++) pixel[i] = 127 + 100 * sin(0.37 * (i / 3) + i % 3);
    for (int i = 0; i < 8; i++) keep[i] = (double[]){1, 14, 4, 11, 3, 0, 9, 6}[i];
    for (int i = 0; i <= STEPS; i++) {
        last = tiny_step(&t, i, 0.01);
        if (i == 0) {
            first = last;
            tiny_assert_all_move(&t);
        }
    }
    if (!(last < 0.6 * first)) fail_msg("the loss went from %g to %g", first, last);
    tiny_end(&t);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
    dg_component_destroy(&mse);
    dg_component_destroy(&pixels);
}

/* ---- errors */

static void check_error(const dg_tokenizer_info *tokens, const char *setting, dg_status code, const char *key,
                        const char *text)
{
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(224, 224, tokens);
    ASSERT_FAILS(MAKE(&c, DG_MODEL_INTERFACE, "mae", &env, setting), code, text);
    assert_string_equal(err.key, key);
}

static void what_does_not_fit_is_explained(void **state)
{
    (void)state;
    const dg_tokenizer_info pixels = tokens_of(14, 14, 768), clip = tokens_of(16, 16, 1024);
    check_error(&clip, "size=B", DG_ERR_MISMATCH, "model.patch", "14x14 patches (of 16x16 pixels)");
    check_error(&clip, "size=B", DG_ERR_MISMATCH, "model.patch", "16x16 tokens (made up)");
    check_error(&pixels, "patch=15", DG_ERR_MISMATCH, "model.patch", "patches of 15x15");
    check_error(&pixels, "patch=[1, 2, 3]", DG_ERR_INVALID, "model.patch", "not 3 numbers");
    check_error(&pixels, "mask_ratio=0.999", DG_ERR_INVALID, "model.mask_ratio", "leaves 0 to see and 196");
    check_error(&pixels, "mask_ratio=0", DG_ERR_INVALID, "model.mask_ratio", "0 to predict");
    check_error(&pixels, "size=free", DG_ERR_INVALID, "model.size", "needs model.width");
    check_error(&pixels, "heads=7", DG_ERR_INVALID, "model.heads", "7 heads");
    check_error(&pixels, "width=770", DG_ERR_INVALID, "model.width", "multiple of 4");
    check_error(&pixels, "decoder_width=514", DG_ERR_INVALID, "model.decoder_width", "multiple of 4");
    check_error(&pixels, "decoder_heads=7", DG_ERR_INVALID, "model.decoder_heads", "512");
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(224, 224, &pixels);
    ASSERT_FAILS(MAKE(&c, DG_MODEL_INTERFACE, "mae", &env, "size=free", "width=4", "depth=1", "heads=1",
                      "mlp_ratio=0.125"),
                 DG_ERR_INVALID, "mlp_ratio");
}

static void without_a_tokenizer_there_is_an_encoder_and_no_pretraining(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(16, 16, NULL);
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "mae", &env, TINY, "patch=4"));
    const dg_model_interface *table = table_of(&c);
    dg_graph *g = dg_graph_create();
    dg_features f;
    const dg_field fields[] = {{"image", dg_input(g, "image", DG_U8, DG_LIST(2, 16, 16, 3), DG_PER_SAMPLE)}};
    ASSERT_OK(table->encode(c.self, g, fields[0].value, 0, DG_NO_VALUE, &f, &err));
    dg_model_batch in = {
        .struct_size = sizeof in, .n_fields = 1, .batch = 2, .fields = fields, .tokens = DG_NO_VALUE};
    dg_model_output out = {.struct_size = sizeof out, .loss = DG_NO_VALUE};
    ASSERT_FAILS(table->build(c.self, g, &in, &out, &err), DG_ERR_MISMATCH, "no tokenizer");
    assert_string_equal(err.key, "tokenizer");
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_is_the_official_setting),
        cmocka_unit_test(a_class_token_of_the_tokenizer_is_left_out_of_the_targets),
        cmocka_unit_test(the_encoder_alone_sees_the_whole_image_and_trains_its_positions),
        cmocka_unit_test(kept_patches_are_pure_distinct_and_uniform),
        cmocka_unit_test(the_number_that_is_kept_is_rounded_down),
        cmocka_unit_test(only_kept_patches_are_seen_and_only_removed_ones_count),
        cmocka_unit_test(it_learns_with_normalised_pixels_and_every_parameter_has_a_gradient),
        cmocka_unit_test(what_does_not_fit_is_explained),
        cmocka_unit_test(without_a_tokenizer_there_is_an_encoder_and_no_pretraining),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
