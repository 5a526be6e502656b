/* The tokenizer `vit`: tokens of a checkpoint are the features of the encoder that it holds; sizes, choices,
 * errors. */
#include "tiny_training.h"

#include "digpt/vit.h"
#include "save_leaves.h"

#define H_LEGACY DIGPT_TEST_DATA "/H_legacy.pth"

enum {
    SIDE = 12,
    PATCH = 4,
    WIDTH = 8,
    HEADS = 2,
    DEPTH = 2,
    CLASSES = 3,
    GRID = SIDE / PATCH,
    TOKENS = 1 + GRID * GRID
};

static const dg_tokenizer_env env = {.struct_size = sizeof env, .image_h = SIDE, .image_w = SIDE};

static const char *weights_setting(const char *path)
{
    static char ring[4][1024];
    static unsigned next;
    char *p = ring[next++ % 4];
    snprintf(p, sizeof ring[0], "weights=%s", path);
    return p;
}

/* ---- an encoder of model `mae` with a norm and a head, its features, and its weights in a file */

typedef struct saved {
    const char *without; /* a tensor to leave out, or NULL */
    const char *extra;   /* a tensor of 8 elements to add, or NULL */
    const char *prefix;
    double *features, *normed, *logits; /* of block DEPTH: [1, TOKENS, WIDTH] twice, [1, TOKENS, CLASSES] */
    double *first;                      /* of block 1 */
} saved;

static void fill_pixels(double *pixel)
{
    for (int i = 0; i < SIDE * SIDE * 3; i++) pixel[i] = i * 41 % 256;
}

static double *copy_output(const runner *r, const char *name)
{
    int64_t n;
    const double *x = runner_output(r, name, &n);
    double *out = dg_calloc((size_t)n, sizeof *out);
    memcpy(out, x, (size_t)n * sizeof *out);
    return out;
}

static void save_encoder(saved *s, const char *path)
{
    dg_error err;
    dg_component c;
    dg_tokenizer_info tokens = {.struct_size = sizeof tokens, .grid_h = GRID, .grid_w = GRID, .width = 5};
    dg_model_env model_env = {
        .struct_size = sizeof model_env, .image_h = SIDE, .image_w = SIDE, .tokens = &tokens};
    ASSERT_OK(MAKE(&c, DG_MODEL_INTERFACE, "mae", &model_env, "size=free", "width=8", "heads=2", "depth=2",
                   "patch=4", "decoder_heads=2"));
    dg_graph *g = dg_graph_create();
    dg_features f;
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(1, SIDE, SIDE, 3), DG_PER_SAMPLE);
    ASSERT_OK(((const dg_model_interface *)table_of(&c))->encode(c.self, g, image, 0, DG_NO_VALUE, &f, &err));
    dg_vit v = {.g = g, .kind = DG_LEAF_PARAM};
    dg_value normed = dg_vit_norm(&v, f.tokens, "norm", 1e-6);
    dg_graph_output(g, f.tokens, "features");
    dg_graph_output(g, normed, "normed");
    dg_graph_output(g, dg_vit_linear(&v, normed, "head", CLASSES, true), "logits");
    runner r = {0};
    runner_start(&r, g);
    tiny_randomise(&r, 5);
    double *gamma = runner_leaf(&r, "norm.weight", NULL), *bias = runner_leaf(&r, "head.bias", NULL);
    for (int i = 0; i < WIDTH; i++) gamma[i] = 0.5 + 0.125 * i;
    for (int i = 0; i < CLASSES; i++) bias[i] = i - 1;
    fill_pixels(runner_leaf(&r, "image", NULL));
    runner_run(&r);
    s->features = copy_output(&r, "features");
    s->normed = copy_output(&r, "normed");
    s->logits = copy_output(&r, "logits");
    s->first = copy_output(&r, "block.0");
    save_leaves(&r, path, s->prefix, s->without, s->extra);
    runner_end(&r);
    dg_graph_destroy(g);
    dg_component_destroy(&c);
}

static void free_saved(saved *s)
{
    dg_free(s->features);
    dg_free(s->normed);
    dg_free(s->logits);
    dg_free(s->first);
}

/* ---- tokens */

static void check_tokens(const dg_component *c, const char *what, const double *want, int64_t tokens,
                         int64_t width)
{
    dg_error err;
    dg_graph *g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(1, SIDE, SIDE, 3), DG_PER_SAMPLE), out;
    dg_tokenizer_info info = tokenizer_info(c);
    ASSERT_OK(build_tokenizer(c, g, image, &out, &err));
    assert_dims(g, out, DG_LIST(1, tokens, width));
    assert_int_equal(dg_token_count(&info), tokens);
    assert_int_equal(info.width, width);
    for (int32_t i = 0; i < dg_graph_count(g); i++) {
        const dg_leaf *leaf = dg_graph_node(g, i)->leaf;
        if (leaf && leaf->kind != DG_LEAF_INPUT) assert_int_equal(leaf->kind, DG_LEAF_FROZEN);
    }
    dg_graph_output(g, out, "tokens");
    runner r = {0};
    runner_start(&r, g);
    fill_pixels(runner_leaf(&r, "image", NULL));
    runner_run(&r);
    int64_t n;
    const double *have = runner_output(&r, "tokens", &n);
    assert_close(what, have, want, n, 1e-6);
    runner_end(&r);
    dg_graph_destroy(g);
}

static void tokens_are_the_features_of_the_checkpoint_s_encoder(void **state)
{
    (void)state;
    static const struct {
        const char *settings[3];
        int which; /* features, normed, logits, first */
        int64_t skip;
    } rows[] = {
        {{"norm=true", "layer=0", "class_token=true"}, 1, 0},
        {{"norm=false", "layer=2", "class_token=true"}, 0, 0},
        {{"norm=false", "layer=1", "class_token=true"}, 3, 0},
        {{"norm=true", "layer=0", "class_token=false"}, 1, 1},
        {{"projected=true", "layer=0", "class_token=true"}, 2, 0},
    };
    static const char *const prefixes[] = {"", "model.", "module."};
    for (int k = 0; k < 3; k++) {
        dg_error err;
        saved s = {.prefix = prefixes[k]};
        const char *path = test_path("encoder.safetensors");
        save_encoder(&s, path);
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            dg_component c;
            const char *const *set = rows[i].settings;
            int64_t width = rows[i].which == 2 ? CLASSES : WIDTH;
            const double *want = (const double *[]){s.features, s.normed, s.logits, s.first}[rows[i].which];
            ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &env, weights_setting(path), "heads=2",
                           "width=8", "depth=2", "patch=4", set[0], set[1], set[2]));
            check_tokens(&c, set[0], want + rows[i].skip * width, TOKENS - rows[i].skip, width);
            dg_component_destroy(&c);
        }
        free_saved(&s);
    }
}

static void a_file_without_norm_head_or_class_token_gives_what_it_has(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    const char *path = test_path("bare.safetensors");
    saved s = {.prefix = "", .without = "norm.weight"};
    save_encoder(&s, path);
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &env, weights_setting(path), "heads=2"));
    check_tokens(&c, "without norm", s.features, TOKENS, WIDTH);
    assert_non_null(strstr(tokenizer_info(&c).summary, "no final norm"));
    dg_component_destroy(&c);
    free_saved(&s);
    s = (saved){.prefix = "", .without = "cls_token"}; /* all ten positions are then of patches: no square */
    save_encoder(&s, path);
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &env, weights_setting(path), "heads=2"),
                 DG_ERR_MISMATCH, "10 rows: neither a square of patches,");
    const dg_tokenizer_env oblong = {
        .struct_size = sizeof oblong, .image_h = 2 * PATCH, .image_w = 5 * PATCH};
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &oblong, weights_setting(path), "heads=2"));
    dg_tokenizer_info info = tokenizer_info(&c);
    assert_int_equal(info.class_token, 0);
    assert_int_equal(info.grid_h, 2);
    assert_int_equal(info.grid_w, 5);
    dg_component_destroy(&c);
    free_saved(&s);
}

static void the_normalisation_of_colours_is_a_choice(void **state)
{
    (void)state;
    dg_error err;
    static const char *const words[] = {"normalise=imagenet", "normalise=clip", "normalise=half"};
    const char *path = test_path("colours.safetensors");
    double first[3];
    saved s = {.prefix = ""};
    save_encoder(&s, path);
    for (int k = 0; k < 3; k++) {
        dg_component c;
        ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &env, weights_setting(path), "heads=2", words[k]));
        dg_graph *g = dg_graph_create();
        dg_value image = dg_input(g, "image", DG_U8, DG_LIST(1, SIDE, SIDE, 3), DG_PER_SAMPLE), out;
        ASSERT_OK(build_tokenizer(&c, g, image, &out, &err));
        dg_graph_output(g, out, "tokens");
        runner r = {0};
        runner_start(&r, g);
        fill_pixels(runner_leaf(&r, "image", NULL));
        runner_run(&r);
        first[k] = runner_output(&r, "tokens", NULL)[WIDTH];
        runner_end(&r);
        dg_graph_destroy(g);
        dg_component_destroy(&c);
    }
    assert_true(fabs(first[0] - s.normed[WIDTH]) < 1e-6);
    assert_true(fabs(first[1] - first[0]) > 1e-5 && fabs(first[2] - first[0]) > 1e-5);
    free_saved(&s);
}

static void its_own_size_is_kept_when_the_student_s_differs(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    const char *path = test_path("size.safetensors");
    const dg_tokenizer_env large = {.struct_size = sizeof large, .image_h = 64, .image_w = 96};
    saved s = {.prefix = ""};
    save_encoder(&s, path);
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &large, weights_setting(path), "heads=2"));
    assert_int_equal(tokenizer_info(&c).image_h, SIDE);
    assert_int_equal(tokenizer_info(&c).grid_w, GRID);
    dg_component_destroy(&c);
    free_saved(&s);
}

static void a_d_igpt_checkpoint_is_a_teacher(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    const dg_tokenizer_env large = {.struct_size = sizeof large, .image_h = 224, .image_w = 224};
    dg_weights *w;
    const dg_weight *pos;
    ASSERT_OK(dg_weights_open(H_LEGACY, &w, &err));
    ASSERT_OK(dg_weights_need(w, "pos_embed", &pos, &err));
    ASSERT_OK(
        MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &large, weights_setting(H_LEGACY), "heads=1", "layer=3"));
    dg_tokenizer_info info = tokenizer_info(&c);
    assert_int_equal(info.width, pos->dims[2]);
    assert_int_equal(dg_token_count(&info), 197);
    dg_graph *g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(1, 224, 224, 3), DG_PER_SAMPLE), out;
    ASSERT_OK(build_tokenizer(&c, g, image, &out, &err));
    assert_true(dg_is_value(dg_graph_leaf(g, "tokenizer.blocks.2.mlp.fc2.bias")));
    assert_false(dg_is_value(dg_graph_leaf(g, "tokenizer.blocks.3.norm1.bias")));
    dg_graph_destroy(g);
    dg_component_destroy(&c);
    dg_weights_close(w);
}

static void random_weights_are_a_control_of_given_sizes(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &env, "weights=random", "width=24", "depth=3",
                   "patch=[3, 6]", "heads=4"));
    dg_tokenizer_info info = tokenizer_info(&c);
    assert_int_equal(info.grid_h, 4);
    assert_int_equal(info.grid_w, 2);
    assert_int_equal(info.width, 24);
    assert_non_null(strstr(info.summary, "random"));
    dg_component_destroy(&c);
    const dg_tokenizer_env large = {.struct_size = sizeof large, .image_h = 224, .image_w = 224};
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &large, "weights=random"));
    assert_int_equal(tokenizer_info(&c).width, 768);
    assert_int_equal(tokenizer_info(&c).grid_h, 14);
    dg_component_destroy(&c);
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &env, "weights=random", "width=24", "heads=4",
                      "depth=1", "patch=5"),
                 DG_ERR_MISMATCH, "patches of 5x5");
}

/* ---- errors */

static void check_file(const char *without, const char *extra, const char *setting, dg_status code,
                       const char *key, const char *text)
{
    dg_error err;
    dg_component c;
    const char *path = test_path("odd.safetensors");
    saved s = {.prefix = "", .without = without, .extra = extra};
    save_encoder(&s, path);
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &env, weights_setting(path), setting), code, text);
    assert_string_equal(err.key, key);
    free_saved(&s);
}

static void files_that_do_not_fit_are_explained(void **state)
{
    (void)state;
    const char *weights = "tokenizer.weights";
    dg_error err;
    dg_component c;
    check_file("blocks.1.attn.proj.bias", NULL, "heads=2", DG_ERR_FORMAT, weights,
               "'blocks.1.attn.proj.bias' is missing");
    check_file("blocks.1.norm1.weight", NULL, "depth=2", DG_ERR_MISMATCH, weights, "1 blocks");
    check_file("norm.bias", NULL, "heads=2", DG_ERR_FORMAT, weights, "'norm.bias' is missing");
    check_file("patch_embed.proj.weight", NULL, "heads=2", DG_ERR_FORMAT, weights, "no vision transformer");
    check_file(NULL, "blocks.0.ls1.gamma", "heads=2", DG_ERR_UNSUPPORTED, weights, "'blocks.0.ls1.gamma'");
    check_file(NULL, "reg_token", "heads=2", DG_ERR_UNSUPPORTED, weights, "'reg_token'");
    check_file("head.weight", NULL, "projected=true", DG_ERR_INVALID, "tokenizer.heads", "cannot be told");
    check_file(NULL, NULL, "heads=3", DG_ERR_INVALID, "tokenizer.heads", "3 heads");
    check_file(NULL, NULL, "width=16", DG_ERR_MISMATCH, weights, "width 8, 2 blocks and patches of 4x4");
    const char *path = test_path("odd.safetensors");
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &env, weights_setting(path), "heads=2", "layer=3"),
                 DG_ERR_INVALID, "2 blocks");
    assert_string_equal(err.key, "tokenizer.layer");
    saved s = {.prefix = "", .without = "head.weight"};
    save_encoder(&s, path);
    ASSERT_FAILS(
        MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &env, weights_setting(path), "heads=2", "projected=true"),
        DG_ERR_MISMATCH, "no classification head");
    free_saved(&s);
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "vit", &env, "weights=/nowhere/x.safetensors"),
                 DG_ERR_NOT_FOUND, "/nowhere/x.safetensors");
    assert_string_equal(err.key, weights);
}

static void a_tensor_of_another_shape_is_named_with_both_shapes(void **state)
{
    (void)state;
    check_file("blocks.0.mlp.fc1.bias", "blocks.0.mlp.fc1.bias", "heads=2", DG_ERR_FORMAT,
               "tokenizer.weights", "is [8]; the rest of the transformer needs [32]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_the_features_of_the_checkpoint_s_encoder),
        cmocka_unit_test(a_file_without_norm_head_or_class_token_gives_what_it_has),
        cmocka_unit_test(the_normalisation_of_colours_is_a_choice),
        cmocka_unit_test(its_own_size_is_kept_when_the_student_s_differs),
        cmocka_unit_test(a_d_igpt_checkpoint_is_a_teacher),
        cmocka_unit_test(random_weights_are_a_control_of_given_sizes),
        cmocka_unit_test(files_that_do_not_fit_are_explained),
        cmocka_unit_test(a_tensor_of_another_shape_is_named_with_both_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
