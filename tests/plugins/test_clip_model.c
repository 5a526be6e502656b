/* The model `clip`: shapes and names, what a caption is read as, the loss, learning, its checkpoint as a
 * tokenizer, errors. */
#include "tiny_training.h"

#include "digpt/vit.h"
#include "save_leaves.h"

enum { BATCH = 4, SIDE = 8, LENGTH = 6, WORDS = 12, END = WORDS - 1, START = WORDS - 2, OUT = 5, TOKENS = 5 };

static const dg_model_env env = {.struct_size = sizeof env, .image_h = SIDE, .image_w = SIDE};

#define TINY                                                                                                 \
    "size=free", "width=8", "heads=2", "depth=2", "patch=4", "mlp_ratio=2", "text_width=6", "text_heads=3",  \
        "text_depth=1", "out=5", "context_length=6", "vocabulary=12"

static const int32_t captions[BATCH][LENGTH] = {
    {START, 1, 2, END, 0, 0}, {START, 3, 2, 4, 5, END}, {START, 7, END, 0, 0, 0}, {START, 2, 1, END, 0, 0}};

/* A graph with the output "loss" and inputs "image" and "caption". */
static dg_graph *build_graph(const dg_component *c)
{
    dg_error err;
    dg_graph *g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(BATCH, SIDE, SIDE, 3), DG_PER_SAMPLE);
    dg_value caption = dg_input(g, "caption", DG_I32, DG_LIST(BATCH, LENGTH), DG_PER_SAMPLE);
    const dg_field fields[] = {{"image", image}, {"caption", caption}};
    dg_model_batch in = {
        .struct_size = sizeof in, .n_fields = 2, .batch = BATCH, .fields = fields, .tokens = DG_NO_VALUE};
    dg_model_output out = {.struct_size = sizeof out, .loss = DG_NO_VALUE};
    ASSERT_OK(((const dg_model_interface *)table_of(c))->build(c->self, g, &in, &out, &err));
    assert_int_equal(out.n_predictions, 0);
    assert_dims(g, out.loss, NULL, 0);
    dg_graph_output(g, out.loss, "loss");
    return g;
}

static void give(const runner *r)
{
    double *pixel = runner_leaf(r, "image", NULL), *caption = runner_leaf(r, "caption", NULL);
    for (int i = 0; i < BATCH * SIDE * SIDE * 3; i++) pixel[i] = (i * 41 + i / 192 * 77) % 256;
    for (int i = 0; i < BATCH * LENGTH; i++) caption[i] = captions[i / LENGTH][i % LENGTH];
}

/* ---- shapes */

static void names_are_openclip_s(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, TINY));
    dg_graph *g = build_graph(&c);
    static const struct {
        const char *name;
        int64_t dims[4];
        size_t rank;
    } rows[] = {
        {"visual.conv1.weight", {8, 3, 4, 4}, 4},
        {"visual.class_embedding", {8}, 1},
        {"visual.positional_embedding", {TOKENS, 8}, 2},
        {"visual.ln_pre.weight", {8}, 1},
        {"visual.transformer.resblocks.1.attn.in_proj_weight", {24, 8}, 2},
        {"visual.transformer.resblocks.1.attn.out_proj.bias", {8}, 1},
        {"visual.transformer.resblocks.1.mlp.c_fc.weight", {16, 8}, 2},
        {"visual.ln_post.bias", {8}, 1},
        {"visual.proj", {8, OUT}, 2},
        {"token_embedding.weight", {WORDS, 6}, 2},
        {"positional_embedding", {LENGTH, 6}, 2},
        {"transformer.resblocks.0.attn.in_proj_bias", {18}, 1},
        {"transformer.resblocks.0.mlp.c_proj.weight", {6, 12}, 2},
        {"ln_final.weight", {6}, 1},
        {"text_projection", {6, OUT}, 2},
        {"logit_scale", {0}, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_dims(g, dg_graph_leaf(g, rows[i].name), rows[i].dims, rows[i].rank);
    assert_dims(g, dg_graph_tap(g, "image_features"), DG_LIST(BATCH, OUT));
    assert_dims(g, dg_graph_tap(g, "text_features"), DG_LIST(BATCH, OUT));
    assert_dims(g, dg_graph_tap(g, "logits"), DG_LIST(BATCH, BATCH));
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void sizes_have_text_towers_of_their_own(void **state)
{
    (void)state;
    static const struct {
        const char *size;
        int64_t width, out;
    } rows[] = {{"size=S", 384, 384}, {"size=B", 512, 512}, {"size=L", 768, 768}, {"size=H", 1024, 1024}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dg_error err;
        dg_component c;
        ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, rows[i].size, "patch=4", "context_length=6"));
        dg_graph *g = build_graph(&c);
        assert_dims(g, dg_graph_leaf(g, "text_projection"), DG_LIST(rows[i].width, rows[i].out));
        assert_dims(g, dg_graph_leaf(g, "token_embedding.weight"), DG_LIST(4096, rows[i].width));
        dg_graph_destroy(g);
        dg_component_destroy(&c);
    }
}

/* ---- captions */

static void a_caption_is_read_up_to_its_end_and_word_by_word(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    double before[BATCH * OUT];
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, TINY));
    dg_graph *g = build_graph(&c);
    runner r = {0};
    runner_start(&r, g);
    tiny_randomise(&r, 3);
    give(&r);
    runner_run(&r);
    memcpy(before, runner_output(&r, "text_features", NULL), sizeof before);
    for (int i = 0; i < BATCH; i++) { /* of length one */
        double sum = 0;
        for (int k = 0; k < OUT; k++) sum += before[i * OUT + k] * before[i * OUT + k];
        assert_true(fabs(sum - 1) < 1e-9);
    }
    double *caption = runner_leaf(&r, "caption", NULL);
    caption[4] = 9;          /* behind the end of the first */
    caption[1 * LENGTH] = 6; /* the first word of the second */
    runner_run(&r);
    const double *after = runner_output(&r, "text_features", NULL);
    for (int i = 0; i < BATCH * OUT; i++) assert_true((after[i] != before[i]) == (i / OUT == 1));
    /* The same words in another order are another caption: the first and the last. */
    for (int k = 0; k < OUT; k++) assert_true(before[k] != before[3 * OUT + k]);
    runner_end(&r);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

/* ---- the loss */

static void the_loss_is_the_mean_cross_entropy_of_rows_and_columns(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, TINY));
    dg_graph *g = build_graph(&c);
    runner r = {0};
    runner_start(&r, g);
    tiny_randomise(&r, 3);
    give(&r);
    for (int large = 0; large < 2; large++) {
        double *scale = runner_leaf(&r, "logit_scale", NULL), want = 0;
        if (large) *scale = 50; /* stops at 100 */
        runner_run(&r);
        const double *images = runner_output(&r, "image_features", NULL);
        const double *texts = runner_output(&r, "text_features", NULL);
        double logits[BATCH][BATCH];
        for (int i = 0; i < BATCH; i++)
            for (int k = 0; k < BATCH; k++) {
                logits[i][k] = 0;
                for (int l = 0; l < OUT; l++) logits[i][k] += images[i * OUT + l] * texts[k * OUT + l];
                logits[i][k] *= large ? 100 : 1 / 0.07;
            }
        for (int i = 0; i < BATCH; i++) {
            double row = 0, column = 0;
            for (int k = 0; k < BATCH; k++) row += exp(logits[i][k]), column += exp(logits[k][i]);
            want += (log(row) + log(column) - 2 * logits[i][i]) / (2 * BATCH);
        }
        assert_close("loss", runner_output(&r, "loss", NULL), &want, 1, 1e-6);
    }
    runner_end(&r);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void it_learns_which_caption_is_whose_and_every_parameter_has_a_gradient(void **state)
{
    (void)state;
    enum { STEPS = 100 };
    dg_error err;
    dg_component c;
    double first = 0, last = 0;
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, TINY));
    dg_graph *g = build_graph(&c);
    tiny t;
    tiny_start(&t, g);
    give(&t.r);
    for (int i = 0; i <= STEPS; i++) {
        last = tiny_step(&t, i, 0.003);
        if (i == 0) {
            first = last;
            tiny_assert_all_move(&t);
        }
    }
    if (!(last < 0.05)) fail_msg("the loss went from %g to %g", first, last);
    tiny_end(&t);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

/* ---- the image tower elsewhere */

static void its_checkpoint_is_a_clip_tokenizer(void **state)
{
    (void)state;
    dg_error err;
    dg_component c, tokenizer;
    char weights[600];
    const char *path = test_path("clip.safetensors");
    const dg_tokenizer_env tokenizer_env = {
        .struct_size = sizeof tokenizer_env, .image_h = 32, .image_w = 32};
    double want[BATCH * OUT], have[BATCH * OUT];
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, TINY));
    dg_graph *g = build_graph(&c);
    runner r = {0};
    runner_start(&r, g);
    tiny_randomise(&r, 3);
    give(&r);
    runner_run(&r);
    memcpy(want, runner_output(&r, "image_features", NULL), sizeof want);
    save_leaves(&r, path, "", NULL, NULL);
    runner_end(&r);
    dg_graph_destroy(g);
    dg_component_destroy(&c);

    snprintf(weights, sizeof weights, "weights=%s", path);
    ASSERT_OK(MAKE(&tokenizer, DG_TOKENIZER_INTERFACE, "clip", &tokenizer_env, weights, "activation=gelu",
                   "heads=2"));
    dg_tokenizer_info info = tokenizer_info(&tokenizer);
    assert_int_equal(info.image_h, SIDE);
    assert_int_equal(info.width, OUT);
    g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(BATCH, SIDE, SIDE, 3), DG_PER_SAMPLE), tokens;
    ASSERT_OK(build_tokenizer(&tokenizer, g, image, &tokens, &err));
    dg_graph_output(g, dg_normalize(g, dg_vit_rows(g, tokens, 0, 1), 0), "class");
    runner_start(&r, g);
    double *pixel = runner_leaf(&r, "image", NULL);
    for (int i = 0; i < BATCH * SIDE * SIDE * 3; i++) pixel[i] = (i * 41 + i / 192 * 77) % 256;
    runner_run(&r);
    memcpy(have, runner_output(&r, "class", NULL), sizeof have);
    assert_close("class token", have, want, BATCH * OUT, 1e-5);
    runner_end(&r);
    dg_graph_destroy(g);
    dg_component_destroy(&tokenizer);
}

/* Features of the encoder for an image in bytes, or normalised for ImageNet. */
static void encode(const dg_component *c, bool bytes, double *out)
{
    dg_error err;
    dg_graph *g = dg_graph_create();
    dg_features f;
    dg_value image = dg_input(g, "image", bytes ? DG_U8 : DG_F32, DG_LIST(1, SIDE, SIDE, 3), DG_PER_SAMPLE);
    ASSERT_OK(((const dg_model_interface *)table_of(c))->encode(c->self, g, image, 1, DG_NO_VALUE, &f, &err));
    assert_dims(g, f.tokens, DG_LIST(1, TOKENS, 8));
    const dg_leaf *pos = dg_graph_node(g, dg_graph_leaf(g, "visual.positional_embedding").node)->leaf;
    assert_int_equal(pos->decay, 0);
    assert_int_equal(pos->layer, 0);
    assert_false(dg_is_value(dg_graph_leaf(g, "visual.proj")) ||
                 dg_is_value(dg_graph_leaf(g, "logit_scale")));
    assert_false(dg_is_value(dg_graph_leaf(g, "visual.transformer.resblocks.1.ln_1.bias")));
    dg_graph_output(g, f.tokens, "features");
    runner r = {0};
    runner_start(&r, g);
    tiny_randomise(&r, 3);
    double *pixel = runner_leaf(&r, "image", NULL);
    for (int i = 0; i < SIDE * SIDE * 3; i++) {
        pixel[i] = i * 41 % 256;
        if (!bytes) pixel[i] = (pixel[i] / 255 - dg_imagenet_mean[i % 3]) / dg_imagenet_std[i % 3];
    }
    runner_run(&r);
    memcpy(out, runner_output(&r, "features", NULL), TOKENS * 8 * sizeof *out);
    runner_end(&r);
    dg_graph_destroy(g);
}

static void the_encoder_takes_bytes_and_normalised_pictures_alike(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    double a[TOKENS * 8], b[TOKENS * 8];
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, TINY));
    encode(&c, true, a);
    encode(&c, false, b);
    assert_close("features", b, a, TOKENS * 8, 1e-6);
    dg_component_destroy(&c);
}

/* ---- errors */

static void what_does_not_fit_is_explained(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    const dg_tokenizer_info tokens = {.struct_size = sizeof tokens, .summary = "made up"};
    dg_model_env with_tokens = env;
    with_tokens.tokens = &tokens;
    ASSERT_FAILS(MAKE(&c, DG_MODEL_INTERFACE, "clip", &with_tokens, "patch=4"), DG_ERR_MISMATCH,
                 "remove the tokenizer (made up)");
    assert_string_equal(err.key, "tokenizer");
    ASSERT_FAILS(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, "patch=3"), DG_ERR_MISMATCH, "patches of 3x3");
    ASSERT_FAILS(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, "patch=4", "heads=7"), DG_ERR_INVALID,
                 "image tower's width 768 cannot be divided among 7");
    ASSERT_FAILS(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, "patch=4", "text_heads=7"), DG_ERR_INVALID,
                 "text tower's width 512 cannot be divided among 7");
    ASSERT_FAILS(
        MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, "size=free", "width=8", "heads=1", "depth=1", "patch=4"),
        DG_ERR_INVALID, "needs model.text_width");
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "clip", &env, TINY));
    dg_graph *g = dg_graph_create();
    const dg_model_interface *table = table_of(&c);
    dg_field fields[] = {{"image", dg_input(g, "image", DG_U8, DG_LIST(2, SIDE, SIDE, 3), DG_PER_SAMPLE)},
                         {"caption", dg_input(g, "caption", DG_I32, DG_LIST(2, 7), DG_PER_SAMPLE)}};
    dg_model_batch in = {
        .struct_size = sizeof in, .n_fields = 1, .batch = 2, .fields = fields, .tokens = DG_NO_VALUE};
    dg_model_output out = {.struct_size = sizeof out, .loss = DG_NO_VALUE};
    dg_features f;
    ASSERT_FAILS(table->build(c.self, g, &in, &out, &err), DG_ERR_UNSUPPORTED, "learns from captions");
    in.n_fields = 2;
    ASSERT_FAILS(table->build(c.self, g, &in, &out, &err), DG_ERR_MISMATCH,
                 "i32[2,7], and model clip reads i32 [batch, 6]");
    assert_string_equal(err.key, "model.context_length");
    ASSERT_FAILS(table->encode(c.self, g, fields[0].value, 3, DG_NO_VALUE, &f, &err), DG_ERR_INVALID,
                 "2 blocks");
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_openclip_s),
        cmocka_unit_test(sizes_have_text_towers_of_their_own),
        cmocka_unit_test(a_caption_is_read_up_to_its_end_and_word_by_word),
        cmocka_unit_test(the_loss_is_the_mean_cross_entropy_of_rows_and_columns),
        cmocka_unit_test(it_learns_which_caption_is_whose_and_every_parameter_has_a_gradient),
        cmocka_unit_test(its_checkpoint_is_a_clip_tokenizer),
        cmocka_unit_test(the_encoder_takes_bytes_and_normalised_pictures_alike),
        cmocka_unit_test(what_does_not_fit_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
