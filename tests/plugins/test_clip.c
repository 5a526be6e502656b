/* The tokenizer `clip` against golden tokens (both namings, both GELUs), and what it says about files that do
 * not fit. */
#include "plugin_test.h"

#include "base/file.h"

#define B32 DIGPT_TEST_DATA "/C_b32_openclip.safetensors"
#define B32_IO DIGPT_TEST_DATA "/C_b32_io.safetensors"
#define H14 DIGPT_TEST_DATA "/C_h14_hf.safetensors"
#define H14_IO DIGPT_TEST_DATA "/C_h14_io.safetensors"

static const dg_tokenizer_env env = {.struct_size = sizeof env, .image_h = 224, .image_w = 224};

/* "KEY=PATH" in a ring, for settings. */
static const char *setting(const char *key, const char *value)
{
    static char ring[4][1024];
    static unsigned next;
    char *p = ring[next++ % 4];
    snprintf(p, sizeof ring[0], "%s=%s", key, value);
    return p;
}

static void copy_file(const char *from, const char *to)
{
    dg_error err;
    char *bytes;
    size_t size;
    ASSERT_OK(dg_file_read(from, 1 << 24, &bytes, &size, &err));
    test_write(to, bytes, size);
    dg_free(bytes);
}

/* Runs c on the fixture's images; the errors of the tokens after ln_post and at the output. */
static void run_clip(const dg_component *c, const char *io, double *ln_post_error, double *output_error)
{
    dg_error err;
    dg_weights *w;
    dg_tokenizer_info info = tokenizer_info(c);
    ASSERT_OK(dg_weights_open(io, &w, &err));
    dg_graph *g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(2, info.image_h, info.image_w, 3), DG_PER_SAMPLE),
             out;
    ASSERT_OK(build_tokenizer(c, g, image, &out, &err));
    assert_dims(g, out, DG_LIST(2, dg_token_count(&info), info.width));
    dg_graph_output(g, out, "tokens");
    runner r = {0};
    runner_start(&r, g);
    int64_t n, n_image;
    double *u8 = tensor_of(w, "input_u8", &n), *ln_post = tensor_of(w, "ln_post_tokens", NULL);
    double *projected = tensor_of(w, "proj_tokens", NULL), *to = runner_leaf(&r, "image", &n_image);
    assert_int_equal(n, n_image);
    memcpy(to, u8, (size_t)n * sizeof *to);
    runner_run(&r);
    const double *have = runner_output(&r, "tokenizer.ln_post", &n);
    *ln_post_error = error_of(have, ln_post, n);
    have = runner_output(&r, "tokens", &n);
    *output_error = error_of(have, projected, n);
    dg_free(u8);
    dg_free(ln_post);
    dg_free(projected);
    runner_end(&r);
    dg_graph_destroy(g);
    dg_weights_close(w);
}

static void openclip_names_and_quick_gelu_give_the_golden_tokens(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    double a, b;
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", B32), "activation=quick_gelu",
                   "heads=2"));
    dg_tokenizer_info info = tokenizer_info(&c);
    assert_int_equal(info.image_h, 96);
    assert_int_equal(info.grid_h, 3);
    assert_int_equal(info.grid_w, 3);
    assert_int_equal(info.class_token, 1);
    assert_int_equal(info.discrete, 0);
    assert_int_equal(info.width, 20);
    run_clip(&c, B32_IO, &a, &b);
    assert_true(a <= 3e-5 && b <= 3e-5);
    dg_component_destroy(&c);
}

static void hugging_face_names_and_exact_gelu_give_the_golden_tokens(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    double a, b;
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", H14), "activation=gelu",
                   "heads=3"));
    run_clip(&c, H14_IO, &a, &b);
    assert_true(a <= 3e-5 && b <= 3e-5);
    dg_component_destroy(&c);
}

static void the_wrong_gelu_gives_other_tokens(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    double a, b;
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", B32), "activation=gelu",
                   "heads=2"));
    run_clip(&c, B32_IO, &a, &b);
    assert_true(a > 1e-4 && b > 1e-4);
    dg_component_destroy(&c);
}

static void another_normalisation_gives_other_tokens(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    double a, b;
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", B32), "activation=quick_gelu",
                   "heads=2", "normalise=half"));
    run_clip(&c, B32_IO, &a, &b);
    assert_true(a > 1e-2 && b > 1e-2);
    dg_component_destroy(&c);
}

static void a_layer_and_no_projection_are_choices(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", B32), "activation=quick_gelu",
                   "heads=2", "projected=false", "layer=1"));
    assert_int_equal(tokenizer_info(&c).width, 32);
    dg_graph *g = dg_graph_create();
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(1, 96, 96, 3), DG_PER_SAMPLE), out;
    ASSERT_OK(build_tokenizer(&c, g, image, &out, &err));
    assert_dims(g, out, DG_LIST(1, 10, 32));
    assert_true(dg_is_value(dg_graph_leaf(g, "tokenizer.blocks.0.norm1.weight")));
    assert_false(dg_is_value(dg_graph_leaf(g, "tokenizer.blocks.1.norm1.weight")));
    assert_false(dg_is_value(dg_graph_leaf(g, "tokenizer.head.weight")));
    dg_graph_destroy(g);
    dg_component_destroy(&c);
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", B32),
                      "activation=quick_gelu", "heads=2", "layer=3"),
                 DG_ERR_INVALID, "2 blocks");
    assert_string_equal(err.key, "tokenizer.layer");
}

static void an_activation_that_cannot_be_told_has_to_be_said(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", B32), "heads=2"),
                 DG_ERR_INVALID, "does not tell which GELU");
    assert_string_equal(err.key, "tokenizer.activation");
}

/* The activation is found from what lies beside the file, and contradicting it is fatal. */
static void check_hint(const char *file, const char *known, const char *other)
{
    dg_error err;
    dg_component c;
    ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", file), "heads=2"));
    assert_non_null(strstr(tokenizer_info(&c).summary, strcmp(known, "gelu") ? "quick GELU" : "exact GELU"));
    dg_component_destroy(&c);
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", file), "heads=2",
                      setting("activation", other)),
                 DG_ERR_MISMATCH, known);
    assert_string_equal(err.key, "tokenizer.activation");
}

static void a_known_activation_is_used_and_a_wrong_one_is_fatal(void **state)
{
    (void)state;
    static const char hf_quick[] =
        "{\"model_type\": \"clip\", \"vision_config\": {\"hidden_act\": \"quick_gelu\"}}";
    static const char hf_exact[] =
        "{\"model_type\": \"clip\", \"text_config\": {\"hidden_act\": \"quick_gelu\"}, \"vision_config\": "
        "{\n  \"hidden_act\" : \"gelu\"}}";
    static const char open_exact[] = "{\"model_cfg\": {\"embed_dim\": 20, \"vision_cfg\": {\"width\": 32}}}";
    static const char open_quick[] =
        "{\"model_cfg\": {\"quick_gelu\": true, \"vision_cfg\": {\"width\": 32}}}";
    const char *named = test_path("ViT-B-32-QuickGELU.safetensors"), *plain = test_path("tower.safetensors");
    const char *config = test_path("config.json"), *open_config = test_path("open_clip_config.json");
    copy_file(B32, named);
    copy_file(B32, plain);
    check_hint(named, "quick_gelu", "gelu");
    test_write(config, hf_quick, strlen(hf_quick));
    check_hint(plain, "quick_gelu", "gelu");
    test_write(config, hf_exact, strlen(hf_exact));
    check_hint(plain, "gelu", "quick_gelu");
    remove(config);
    test_write(open_config, open_exact, strlen(open_exact));
    check_hint(plain, "gelu", "quick_gelu");
    test_write(open_config, open_quick, strlen(open_quick));
    check_hint(plain, "quick_gelu", "gelu");
    remove(open_config);
}

static void weights_of_another_architecture_are_named(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", B32), "arch=ViT-H/14"),
                 DG_ERR_MISMATCH,
                 "width 32, 2 layers, patch 32, and arch says ViT-H/14 (width 1280, 32 layers");
    assert_string_equal(err.key, "tokenizer.weights");
}

static void a_file_without_a_tower_is_explained(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env,
                      setting("weights", DIGPT_TEST_DATA "/F_pos_embed.safetensors")),
                 DG_ERR_FORMAT, "holds no CLIP vision transformer");
    assert_string_equal(err.key, "tokenizer.weights");
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, "weights=/nowhere/clip.pt"), DG_ERR_NOT_FOUND,
                 "/nowhere/clip.pt");
    assert_string_equal(err.key, "tokenizer.weights");
}

/* Writes a safetensors file of zeros, "NAME=DIM,DIM;..." with every tensor F32. */
static void write_zeros(const char *path, const char *const *names, const char *const *dims, size_t n)
{
    char header[4096];
    size_t at = 0, offset = 0;
    for (size_t i = 0; i < n; i++) {
        size_t count = 1;
        char list[64];
        snprintf(list, sizeof list, "%s", dims[i]);
        for (char *save = NULL, *d = strtok_r(list, ",", &save); d; d = strtok_r(NULL, ",", &save))
            count *= (size_t)atoi(d);
        at += (size_t)snprintf(header + at, sizeof header - at,
                               "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                               i ? "," : "{", names[i], dims[i], offset, offset + 4 * count);
        offset += 4 * count;
    }
    at += (size_t)snprintf(header + at, sizeof header - at, "}");
    char *bytes = dg_calloc(8 + at + offset, 1);
    assert_non_null(bytes);
    uint64_t size = at;
    memcpy(bytes, &size, 8);
    memcpy(bytes + 8, header, at);
    test_write(path, bytes, 8 + at + offset);
    dg_free(bytes);
}

static void a_missing_tensor_and_a_wrong_shape_are_named(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    static const char *const names[] = {
        "visual.conv1.weight", "visual.class_embedding", "visual.positional_embedding",
        "visual.transformer.resblocks.0.ln_1.weight", "visual.transformer.resblocks.0.mlp.c_fc.weight"};
    static const char *const no_pre_norm[] = {"64,3,2,2", "64", "5,64", "64", "256,64"};
    static const char *const long_class[] = {"64,3,2,2", "65", "5,64", "64", "256,64"};
    static const char *const no_square[] = {"64,3,2,2", "64", "7,64", "64", "256,64"};
    const char *path = test_path("zeros-quickgelu.safetensors");
    write_zeros(path, names, no_pre_norm, 5);
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", path)), DG_ERR_FORMAT,
                 "'visual.ln_pre.weight' is missing");
    write_zeros(path, names, long_class, 5);
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", path)), DG_ERR_FORMAT,
                 "'visual.class_embedding' is [65]; the rest of the tower needs [64]");
    write_zeros(path, names, no_square, 5);
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", path)), DG_ERR_FORMAT,
                 "not a square");
    write_zeros(path, names, no_pre_norm, 3);
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", path)), DG_ERR_FORMAT,
                 "no blocks");
}

static void heads_that_cannot_be_told_have_to_be_said(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_FAILS(
        MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", B32), "activation=quick_gelu"),
        DG_ERR_INVALID, "give tokenizer.heads");
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, setting("weights", B32),
                      "activation=quick_gelu", "heads=5"),
                 DG_ERR_INVALID, "5 heads");
    assert_string_equal(err.key, "tokenizer.heads");
}

static void random_weights_need_an_architecture_and_have_its_sizes(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    ASSERT_FAILS(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, "weights=random"), DG_ERR_INVALID,
                 "needs an arch");
    assert_string_equal(err.key, "tokenizer.arch");
    static const struct {
        const char *setting, *millions;
        int64_t grid, width;
    } rows[] = {
        {"arch=ViT-B/32", " 87.8 M", 7, 512}, /* OpenAI's and OpenCLIP's own counts of their image towers */
        {"arch=ViT-B/16", " 86.2 M", 14, 512},
        {"arch=ViT-L/14", " 304.0 M", 16, 768},
        {"arch=ViT-H/14", " 632.1 M", 16, 1024},
        {"arch=ViT-g/14", " 1012.6 M", 16, 1024}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ASSERT_OK(MAKE(&c, DG_TOKENIZER_INTERFACE, "clip", &env, "weights=random", rows[i].setting));
        dg_tokenizer_info info = tokenizer_info(&c);
        assert_int_equal(info.image_h, 224);
        assert_int_equal(info.grid_h, rows[i].grid);
        assert_int_equal(info.width, rows[i].width);
        if (!strstr(info.summary, rows[i].millions)) fail_msg("%s: %s", rows[i].setting, info.summary);
        dg_graph *g = dg_graph_create();
        dg_value image = dg_input(g, "image", DG_U8, DG_LIST(2, 224, 224, 3), DG_PER_SAMPLE), out;
        ASSERT_OK(build_tokenizer(&c, g, image, &out, &err));
        assert_dims(g, out, DG_LIST(2, dg_token_count(&info), info.width));
        dg_graph_destroy(g);
        dg_component_destroy(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openclip_names_and_quick_gelu_give_the_golden_tokens),
        cmocka_unit_test(hugging_face_names_and_exact_gelu_give_the_golden_tokens),
        cmocka_unit_test(the_wrong_gelu_gives_other_tokens),
        cmocka_unit_test(another_normalisation_gives_other_tokens),
        cmocka_unit_test(a_layer_and_no_projection_are_choices),
        cmocka_unit_test(an_activation_that_cannot_be_told_has_to_be_said),
        cmocka_unit_test(a_known_activation_is_used_and_a_wrong_one_is_fatal),
        cmocka_unit_test(weights_of_another_architecture_are_named),
        cmocka_unit_test(a_file_without_a_tower_is_explained),
        cmocka_unit_test(a_missing_tensor_and_a_wrong_shape_are_named),
        cmocka_unit_test(heads_that_cannot_be_told_have_to_be_said),
        cmocka_unit_test(random_weights_need_an_architecture_and_have_its_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
