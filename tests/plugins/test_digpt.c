/* The model `digpt`: shapes, orders, who sees what, errors. test_digpt_reference.c compares its numbers. */
#include "plugin_test.h"

/* ViT-H/14's tokens at 224 pixels, and grids without a class token. */
static const dg_tokenizer_info clip_tokens = {.struct_size = sizeof clip_tokens,
                                              .image_h = 224,
                                              .image_w = 224,
                                              .grid_h = 16,
                                              .grid_w = 16,
                                              .class_token = 1,
                                              .width = 1024,
                                              .summary = "a CLIP"};

static dg_tokenizer_info plain_tokens(int64_t h, int64_t w, int64_t width)
{
    return (dg_tokenizer_info){
        .struct_size = sizeof(dg_tokenizer_info), .grid_h = h, .grid_w = w, .width = width};
}

static dg_model_env env_of(int64_t h, int64_t w, const dg_tokenizer_info *tokens)
{
    return (dg_model_env){.struct_size = sizeof(dg_model_env), .image_h = h, .image_w = w, .tokens = tokens};
}

/* Builds the pretraining pass for 2 images under the scope "model"; inputs "image" and "tokens". */
static dg_status try_build(const dg_component *c, const dg_model_env *env, dg_graph *g, dg_model_output *out,
                           dg_error *err)
{
    const dg_tokenizer_info *t = env->tokens;
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(2, env->image_h, env->image_w, 3), DG_PER_SAMPLE);
    dg_value tokens =
        t->discrete ? dg_input(g, "tokens", DG_I32, DG_LIST(2, dg_token_count(t)), DG_PER_SAMPLE)
                    : dg_input(g, "tokens", DG_F32, DG_LIST(2, dg_token_count(t), t->width), DG_PER_SAMPLE);
    const dg_field fields[] = {{"image", image}};
    dg_model_batch batch = {
        .struct_size = sizeof batch, .n_fields = 1, .batch = 2, .fields = fields, .tokens = tokens};
    dg_push(g, "model");
    dg_status s = ((const dg_model_interface *)table_of(c))->build(c->self, g, &batch, out, err);
    dg_pop(g);
    return s;
}

static dg_model_output build_model(const dg_component *c, const dg_model_env *env, dg_graph *g)
{
    dg_error err;
    dg_model_output out = {.struct_size = sizeof out};
    ASSERT_OK(try_build(c, env, g, &out, &err));
    return out;
}

static bool has(const dg_graph *g, const char *leaf)
{
    return dg_is_value(dg_graph_leaf(g, leaf));
}

#define TINY "size=free", "width=8", "heads=2", "depth=3", "decoder_width=8", "decoder_heads=2", "mlp_ratio=2"

/* ---- shapes */

static void the_default_is_the_official_setting(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(224, 224, &clip_tokens);
    ASSERT_OK(dg_component_make(plugins(), DG_MODEL_INTERFACE, "digpt", NULL, 0, &env, &c, &err));
    dg_graph *g = dg_graph_create();
    dg_model_output out = build_model(&c, &env, g);
    assert_int_equal(out.n_predictions, 2);
    assert_string_equal(out.predictions[0].name, "next");
    assert_string_equal(out.predictions[1].name, "visible");
    for (int i = 0; i < 2; i++) {
        assert_dims(g, out.predictions[i].prediction, DG_LIST(2, 193, 1024));
        assert_dims(g, out.predictions[i].target, DG_LIST(2, 193, 1024));
        assert_true(out.predictions[i].scale == 1);
    }
    assert_dims(g, dg_graph_tap(g, "enc_in"), DG_LIST(2, 148, 768));
    assert_dims(g, dg_graph_tap(g, "ar_enc2dec"), DG_LIST(2, 148, 2048));
    assert_dims(g, dg_graph_tap(g, "kd_dec_block.1"), DG_LIST(2, 148, 1024));
    assert_dims(g, dg_graph_leaf(g, "model.order"), DG_LIST(2, 4));
    assert_dims(g, dg_graph_leaf(g, "model.ar_enc2dec.weight"), DG_LIST(2048, 4 * 768));
    assert_int_equal(dg_graph_node(g, dg_graph_leaf(g, "model.pos_embed").node)->leaf->kind, DG_LEAF_FROZEN);
    assert_int_equal(dg_graph_node(g, dg_graph_leaf(g, "model.cls_token").node)->leaf->decay, -1);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void sizes_are_presets_that_single_keys_override(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(224, 224, &clip_tokens);
    static const struct {
        const char *a, *b;
        int64_t width;
        const char *last, *beyond;
    } rows[] = {{"size=S", "depth=12", 384, "model.blocks.11.norm1.bias", "model.blocks.12.norm1.bias"},
                {"size=L", "order=raster", 1024, "model.blocks.23.norm1.bias", "model.blocks.24.norm1.bias"},
                {"size=H", "depth=5", 1280, "model.blocks.4.norm1.bias", "model.blocks.5.norm1.bias"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, rows[i].a, rows[i].b));
        dg_graph *g = dg_graph_create();
        build_model(&c, &env, g);
        assert_dims(g, dg_graph_leaf(g, "model.cls_token"), DG_LIST(1, 1, rows[i].width));
        assert_true(has(g, rows[i].last));
        assert_false(has(g, rows[i].beyond));
        dg_graph_destroy(g);
        dg_component_destroy(&c);
    }
}

static void tokens_without_a_class_and_of_the_same_grid_need_neither_query_nor_resize(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_tokenizer_info tokens = plain_tokens(14, 14, 768);
    dg_model_env env = env_of(224, 224, &tokens);
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY));
    dg_graph *g = dg_graph_create();
    dg_model_output out = build_model(&c, &env, g);
    assert_dims(g, out.predictions[0].prediction, DG_LIST(2, 147, 768));
    assert_dims(g, out.predictions[0].target, DG_LIST(2, 147, 768));
    assert_dims(g, dg_graph_tap(g, "ar_dec_in"), DG_LIST(2, 147, 8));
    assert_dims(g, dg_graph_tap(g, "ar_enc2dec"), DG_LIST(2, 148, 16)); /* the encoder has its class token */
    for (int32_t i = 0; i < dg_graph_count(g); i++) {
        const dg_node *node = dg_graph_node(g, i);
        assert_false(node->op && strcmp(node->op->name, "resize") == 0);
    }
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void oblong_images_patches_and_segment_grids_work(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_tokenizer_info tokens = plain_tokens(4, 9, 5);
    dg_model_env env = env_of(64, 96, &tokens);
    /* 8x6 patches in 2x3 segments of 4x2; the tokenizer's segments are 2x3 */
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY, "patch=[8, 16]", "segments=[2, 3]",
                   "decoder_depth=3"));
    dg_graph *g = dg_graph_create();
    dg_model_output out = build_model(&c, &env, g);
    assert_dims(g, dg_graph_tap(g, "enc_in"), DG_LIST(2, 5 * 8 + 1, 8));
    assert_dims(g, dg_graph_tap(g, "ar_enc2dec"), DG_LIST(2, 41, 24));
    assert_dims(g, out.predictions[1].prediction, DG_LIST(2, 5 * 6, 5));
    assert_dims(g, out.predictions[1].target, DG_LIST(2, 5 * 6, 5));
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void discrete_tokens_are_predicted_as_logits(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_tokenizer_info tokens = plain_tokens(14, 14, 1);
    tokens.discrete = 1;
    tokens.vocabulary = 50;
    dg_model_env env = env_of(224, 224, &tokens);
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY));
    dg_graph *g = dg_graph_create();
    dg_model_output out = build_model(&c, &env, g);
    assert_dims(g, out.predictions[0].prediction, DG_LIST(2, 147, 50));
    assert_dims(g, out.predictions[0].target, DG_LIST(2, 147));
    assert_int_equal(dg_type_of(g, out.predictions[0].target).dtype, DG_I32);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void one_branch_alone_has_its_own_parameters_only(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(224, 224, &clip_tokens);
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY, "branches=next"));
    dg_graph *g = dg_graph_create();
    dg_model_output out = build_model(&c, &env, g);
    assert_int_equal(out.n_predictions, 1);
    assert_string_equal(out.predictions[0].name, "next");
    /* crosswise: the decoder named ar reads the projection named kd */
    assert_true(has(g, "model.ar_token") && has(g, "model.kd_enc2dec.weight"));
    assert_false(has(g, "model.kd_token") || has(g, "model.ar_enc2dec.weight"));
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void the_encoder_alone_sees_the_whole_image_with_the_class_token_first(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(224, 224, &clip_tokens);
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY));
    const dg_model_interface *table = table_of(&c);
    dg_graph *g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(2, 224, 224, 3), DG_PER_SAMPLE);
    dg_value keep = dg_input(g, "keep", DG_F32, DG_LIST(2, 6), DG_PER_SAMPLE);
    dg_features f;
    ASSERT_OK(table->encode(c.self, g, image, 0, keep, &f, &err));
    assert_dims(g, f.tokens, DG_LIST(2, 197, 8));
    assert_int_equal(f.n_classes, 1);
    assert_int_equal(f.depth, 3);
    assert_int_equal(f.width, 8);
    const dg_leaf *pos = dg_graph_node(g, dg_graph_leaf(g, "pos_embed").node)->leaf;
    assert_int_equal(pos->kind, DG_LEAF_PARAM);
    assert_int_equal(pos->layer, 0);
    assert_int_equal(pos->decay, 0);
    assert_int_equal(dg_graph_node(g, dg_graph_leaf(g, "cls_token").node)->leaf->decay, 0);
    assert_int_equal(dg_graph_node(g, dg_graph_leaf(g, "blocks.2.norm1.weight").node)->leaf->layer, 3);
    dg_graph_destroy(g);
    g = dg_graph_create();
    image = dg_input(g, "image", DG_U8, DG_LIST(2, 224, 224, 3), DG_PER_SAMPLE);
    ASSERT_OK(table->encode(c.self, g, image, 2, DG_NO_VALUE, &f, &err));
    assert_true(has(g, "blocks.1.norm1.weight"));
    assert_false(has(g, "blocks.2.norm1.weight"));
    ASSERT_FAILS(table->encode(c.self, g, image, 4, DG_NO_VALUE, &f, &err), DG_ERR_INVALID, "3 blocks");
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

/* ---- orders */

static void fill_order(const dg_component *c, uint64_t seed, uint64_t ordinal, int32_t *out, size_t n)
{
    dg_error err;
    ASSERT_OK(((const dg_model_interface *)table_of(c))
                  ->fill(c->self, "order", seed, ordinal, out, n * sizeof *out, &err));
}

static void random_orders_are_pure_and_uniform(void **state)
{
    (void)state;
    enum { DRAWS = 24000 };
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(224, 224, &clip_tokens);
    int count[256] = {0}, different = 0, kinds = 0;
    double chi = 0;
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY));
    for (uint64_t i = 0; i < DRAWS; i++) {
        int32_t a[4], b[4], other[4];
        fill_order(&c, 7, i, a, 4);
        fill_order(&c, 7, i, b, 4);
        fill_order(&c, 8, i, other, 4);
        assert_memory_equal(a, b, sizeof a);
        different += memcmp(a, other, sizeof a) != 0;
        assert_int_equal((1 << a[0]) | (1 << a[1]) | (1 << a[2]) | (1 << a[3]), 15);
        count[a[0] * 64 + a[1] * 16 + a[2] * 4 + a[3]]++;
    }
    for (int i = 0; i < 256; i++) {
        kinds += count[i] > 0;
        if (count[i]) chi += pow(count[i] - DRAWS / 24.0, 2) / (DRAWS / 24.0);
    }
    assert_int_equal(kinds, 24);
    assert_true(chi < 49.7); /* 23 degrees of freedom, one in a thousand; the draws are fixed */
    assert_true(different > DRAWS * 9 / 10);
    dg_component_destroy(&c);
}

static void check_order(const char *segments, const char *order, const char *list, const int32_t *want,
                        size_t n)
{
    dg_error err;
    dg_component c;
    dg_tokenizer_info tokens = plain_tokens(12, 12, 4);
    dg_model_env env = env_of(48, 48, &tokens);
    int32_t have[64];
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY, "patch=4", segments, order, list));
    fill_order(&c, 1, 5, have, n);
    assert_memory_equal(have, want, n * sizeof *want);
    dg_component_destroy(&c);
}

static void raster_spiral_and_fixed_orders_are_what_they_say(void **state)
{
    (void)state;
    check_order("segments=[2, 2]", "order=raster", "depth=3", (int32_t[]){0, 1, 2, 3}, 4);
    check_order("segments=[2, 2]", "order=spiral", "depth=3", (int32_t[]){0, 1, 3, 2}, 4);
    check_order("segments=[3, 4]", "order=spiral", "depth=3",
                (int32_t[]){0, 1, 2, 3, 7, 11, 10, 9, 8, 4, 5, 6}, 12);
    check_order("segments=[4, 1]", "order=spiral", "depth=3", (int32_t[]){0, 1, 2, 3}, 4);
    check_order("segments=[1, 3]", "order=spiral", "depth=3", (int32_t[]){0, 1, 2}, 3);
    check_order("segments=[3, 1]", "order=fixed", "fixed_order=[2, 0, 1]", (int32_t[]){2, 0, 1}, 3);
}

static void other_host_inputs_are_refused(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(224, 224, &clip_tokens);
    int32_t out[8];
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY));
    const dg_model_interface *table = table_of(&c);
    ASSERT_FAILS(table->fill(c.self, "mask", 1, 1, out, 16, &err), DG_ERR_INTERNAL, "mask");
    ASSERT_FAILS(table->fill(c.self, "order", 1, 1, out, 32, &err), DG_ERR_INTERNAL, "16 bytes");
    dg_component_destroy(&c);
}

/* ---- who sees what */

/* The first of two images of 4x6 pixels: patches of 2x2: 2x3 patches in 1x3 segments of two patches. `poke`
 * pixels of that segment are changed (-1: none); segments in the order 2, 0, 1. */
static void run_tiny(int poke, double *next, double *visible, double *target)
{
    dg_error err;
    dg_component c;
    dg_tokenizer_info tokens = plain_tokens(2, 3, 2);
    tokens.class_token = 1;
    dg_model_env env = env_of(4, 6, &tokens);
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY, "patch=2", "segments=[1, 3]"));
    dg_graph *g = dg_graph_create();
    dg_model_output out = build_model(&c, &env, g);
    dg_graph_output(g, out.predictions[0].prediction, "next");
    dg_graph_output(g, out.predictions[1].prediction, "visible");
    dg_graph_output(g, out.predictions[0].target, "target");
    runner r = {0};
    runner_start(&r, g);
    for (uint32_t i = 0; i < r.program->n_leaves; i++) { /* weights without symmetry */
        int64_t n = 0;
        if (r.program->leaves[i].kind != DG_LEAF_PARAM) continue;
        double *w = runner_leaf(&r, r.program->leaves[i].name, &n);
        for (int64_t k = 0; k < n; k++) w[k] += 0.3 * sin(12.9 * (double)k + i);
    }
    double *pixel = runner_leaf(&r, "image", NULL), *order = runner_leaf(&r, "model.order", NULL);
    for (int i = 0; i < 2 * 4 * 6 * 3; i++) pixel[i] = i * 41 % 256 ^ (i / 3 % 6 / 2 == poke ? 255 : 0);
    for (int i = 0; i < 6; i++) order[i] = (int[]){2, 0, 1}[i % 3];
    double *token = runner_leaf(&r, "tokens", NULL);
    for (int i = 0; i < 2 * 7 * 2; i++) token[i] = i;
    runner_run(&r);
    memcpy(next, runner_output(&r, "next", NULL), 10 * sizeof *next);
    memcpy(visible, runner_output(&r, "visible", NULL), 10 * sizeof *visible);
    memcpy(target, runner_output(&r, "target", NULL), 10 * sizeof *target);
    runner_end(&r);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void a_prediction_depends_on_earlier_segments_only(void **state)
{
    (void)state;
    double next[10], visible[10], target[10], a[10], b[10], t[10];
    run_tiny(-1, next, visible, target);
    /* Targets of the next segments: 0 (patches 0, 3), 1 (patches 1, 4), and the class; rows are 1 + patch. */
    static const double want[10] = {2, 3, 8, 9, 4, 5, 10, 11, 0, 1};
    assert_memory_equal(target, want, sizeof want);
    run_tiny(1, a, b, t); /* the last of the order is never encoded */
    assert_memory_equal(a, next, sizeof a);
    assert_memory_equal(b, visible, sizeof b);
    run_tiny(0, a, b, t); /* the second: seen by the second prediction and the class, not by the first */
    assert_memory_equal(a, next, 4 * sizeof *a);
    assert_memory_equal(b, visible, 4 * sizeof *b);
    for (int i = 4; i < 10; i++) assert_true(a[i] != next[i] && b[i] != visible[i]);
    run_tiny(2, a, b, t); /* the first: seen by all */
    for (int i = 0; i < 10; i++) assert_true(a[i] != next[i] && b[i] != visible[i]);
}

/* ---- errors */

static void check_error(int64_t image, const dg_tokenizer_info *tokens, const char *setting, dg_status code,
                        const char *key, const char *text)
{
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(image, image, tokens);
    ASSERT_FAILS(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, setting), code, text);
    assert_string_equal(err.key, key);
}

static void what_does_not_fit_is_explained(void **state)
{
    (void)state;
    const dg_tokenizer_info *clip = &clip_tokens, odd = plain_tokens(7, 7, 8);
    check_error(224, clip, "patch=15", DG_ERR_MISMATCH, "model.patch", "patches of 15x15");
    check_error(224, clip, "segments=[3, 2]", DG_ERR_MISMATCH, "model.segments",
                "14x14 patches (of 16x16 pixels) cannot be cut into 3x2");
    check_error(224, clip, "segments=[7, 2]", DG_ERR_MISMATCH, "model.segments",
                "16x16 tokens (a CLIP) cannot");
    check_error(224, &odd, "size=B", DG_ERR_MISMATCH, "model.segments", "7x7 tokens");
    check_error(224, clip, "segments=[1, 1]", DG_ERR_INVALID, "model.segments", "there must be 2");
    check_error(224, clip, "segments=[2]", DG_ERR_INVALID, "model.segments", "not 1 numbers");
    check_error(224, clip, "size=free", DG_ERR_INVALID, "model.size", "needs model.width");
    check_error(224, clip, "heads=7", DG_ERR_INVALID, "model.heads", "7 heads");
    check_error(224, clip, "width=770", DG_ERR_INVALID, "model.width", "multiple of 4");
    check_error(224, clip, "decoder_heads=7", DG_ERR_INVALID, "model.decoder_heads", "1024");
    check_error(224, clip, "taps=[6, 6, 12]", DG_ERR_INVALID, "model.taps", "must rise");
    check_error(224, clip, "taps=[6, 13]", DG_ERR_INVALID, "model.taps", "12 blocks");
    check_error(224, clip, "taps=[6, 10]", DG_ERR_INVALID, "model.taps", "never learn");
    check_error(224, clip, "order=fixed", DG_ERR_INVALID, "model.fixed_order", "all 4 segments");
    check_error(224, clip, "fixed_order=[0, 1, 2, 3]", DG_ERR_INVALID, "model.fixed_order", "not for random");
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(224, 224, clip);
    ASSERT_FAILS(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, "order=fixed", "fixed_order=[0, 1, 1, 3]"),
                 DG_ERR_INVALID, "entry 2 is 1");
}

static void without_a_tokenizer_there_is_an_encoder_and_no_pretraining(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_model_env env = env_of(32, 32, NULL);
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY, "patch=8"));
    const dg_model_interface *table = table_of(&c);
    dg_graph *g = dg_graph_create();
    dg_features f;
    const dg_field fields[] = {{"image", dg_input(g, "image", DG_U8, DG_LIST(2, 32, 32, 3), DG_PER_SAMPLE)}};
    ASSERT_OK(table->encode(c.self, g, fields[0].value, 0, DG_NO_VALUE, &f, &err));
    dg_model_batch in = {
        .struct_size = sizeof in, .n_fields = 1, .batch = 2, .fields = fields, .tokens = DG_NO_VALUE};
    dg_model_output out = {.struct_size = sizeof out, .loss = DG_NO_VALUE};
    ASSERT_FAILS(table->build(c.self, g, &in, &out, &err), DG_ERR_MISMATCH, "no tokenizer");
    assert_string_equal(err.key, "tokenizer");
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void running_out_of_memory_at_any_point_is_an_error_and_leaves_nothing_behind(void **state)
{
    (void)state;
    dg_model_env env = env_of(224, 224, &clip_tokens);
    dg_status s = DG_ERR_NOMEM;
    plugins(); /* loaded before memory runs short */
    for (size_t n = 1; s != DG_OK; n += 1 + n / 8) {
        dg_error err = DG_ERROR_INIT;
        dg_component c = {0};
        dg_model_output out = {.struct_size = sizeof out};
        dg_alloc_fail_at(n);
        dg_graph *g = dg_graph_create();
        s = g ? MAKE(&c, DG_MODEL_INTERFACE, "digpt", &env, TINY) : DG_ERR_NOMEM;
        if (s == DG_OK) s = try_build(&c, &env, g, &out, &err);
        dg_alloc_fail_at(0);
        if (s != DG_OK) assert_int_equal(s, DG_ERR_NOMEM);
        dg_graph_destroy(g);
        dg_component_destroy(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_is_the_official_setting),
        cmocka_unit_test(sizes_are_presets_that_single_keys_override),
        cmocka_unit_test(tokens_without_a_class_and_of_the_same_grid_need_neither_query_nor_resize),
        cmocka_unit_test(oblong_images_patches_and_segment_grids_work),
        cmocka_unit_test(discrete_tokens_are_predicted_as_logits),
        cmocka_unit_test(one_branch_alone_has_its_own_parameters_only),
        cmocka_unit_test(the_encoder_alone_sees_the_whole_image_with_the_class_token_first),
        cmocka_unit_test(random_orders_are_pure_and_uniform),
        cmocka_unit_test(raster_spiral_and_fixed_orders_are_what_they_say),
        cmocka_unit_test(other_host_inputs_are_refused),
        cmocka_unit_test(a_prediction_depends_on_earlier_segments_only),
        cmocka_unit_test(what_does_not_fit_is_explained),
        cmocka_unit_test(without_a_tokenizer_there_is_an_encoder_and_no_pretraining),
        cmocka_unit_test(running_out_of_memory_at_any_point_is_an_error_and_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
