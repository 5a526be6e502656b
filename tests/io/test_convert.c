/* Weights from one naming into another: there and back, what is refused, what is reported. */
#include "test.h"

#include "base/file.h"
#include "base/mem.h"
#include "io/convert.h"
#include "io/safetensors.h"

static dg_error err = DG_ERROR_INIT;

enum { OFFICIAL, TIMM, HUGGINGFACE, MAE, OPENCLIP };

static dg_status convert(const char *from, int32_t to, const char *path, dg_str *report)
{
    dg_weights *w = NULL;
    DG_TRY(dg_weights_open(from, &w, &err));
    dg_str text = {0};
    dg_status s = dg_convert(w, to, path, report ? report : &text, &err);
    dg_str_free(&text);
    dg_weights_close(w);
    return s;
}

static void assert_same_file(const char *a, const char *b)
{
    char *x, *y;
    size_t n, m;
    ASSERT_OK(dg_file_read(a, 1 << 28, &x, &n, &err));
    ASSERT_OK(dg_file_read(b, 1 << 28, &y, &m, &err));
    if (n != m || memcmp(x, y, n)) fail_msg("%s and %s differ", a, b);
    dg_free(x);
    dg_free(y);
}

/* A file, written once as `home` to have our metadata, goes through `by` and comes back the same. */
static void there_and_back(const char *file, int32_t home, int32_t by)
{
    ASSERT_OK(convert(file, home, test_path("home"), NULL));
    ASSERT_OK(convert(test_path("home"), by, test_path("away"), NULL));
    ASSERT_OK(convert(test_path("away"), home, test_path("back"), NULL));
    assert_same_file(test_path("home"), test_path("back"));
}

static void clip_towers_come_back_from_every_naming_with_the_same_bytes(void **state)
{
    (void)state;
    there_and_back(DIGPT_TEST_DATA "/C_b32_openclip.safetensors", OPENCLIP, HUGGINGFACE);
    there_and_back(DIGPT_TEST_DATA "/C_b32_openclip.safetensors", OPENCLIP, TIMM);
    there_and_back(DIGPT_TEST_DATA "/C_b32_openclip.safetensors", OPENCLIP, OFFICIAL);
    there_and_back(DIGPT_TEST_DATA "/C_h14_hf.safetensors", HUGGINGFACE, OPENCLIP);
    there_and_back(DIGPT_TEST_DATA "/C_h14_hf.safetensors", HUGGINGFACE, TIMM);
}

static void the_tensors_of_a_clip_tower_keep_their_bits(void **state)
{
    (void)state;
    dg_weights *a, *b;
    const char *from = DIGPT_TEST_DATA "/C_h14_hf.safetensors", *to = test_path("h14");
    ASSERT_OK(convert(from, OPENCLIP, to, NULL));
    ASSERT_OK(dg_weights_open(from, &a, &err));
    ASSERT_OK(dg_weights_open(to, &b, &err));
    const dg_weight *p = dg_weights_find(a, "visual_projection.weight"),
                    *q = dg_weights_find(b, "visual.proj");
    assert_true(p && q && p->dtype == q->dtype && p->dims[0] == q->dims[1] && p->dims[1] == q->dims[0]);
    const uint16_t *x = (const uint16_t *)(const void *)p->data, *y = (const uint16_t *)(const void *)q->data;
    for (int64_t i = 0; i < p->dims[0]; i++)
        for (int64_t j = 0; j < p->dims[1]; j++)
            assert_int_equal(x[i * p->dims[1] + j], y[j * p->dims[0] + i]);
    p = dg_weights_find(a, "vision_model.encoder.layers.1.self_attn.v_proj.bias");
    q = dg_weights_find(b, "visual.transformer.resblocks.1.attn.in_proj_bias");
    assert_true(p && q && q->bytes == 3 * p->bytes);
    assert_memory_equal(q->data + 2 * p->bytes, p->data, p->bytes);
    q = dg_weights_find(b, "visual.class_embedding");
    assert_true(q && q->rank == 1);
    dg_weights_close(a);
    dg_weights_close(b);
}

static void a_pretraining_checkpoint_becomes_an_encoder_and_says_what_stays_behind(void **state)
{
    (void)state;
    const char *from = DIGPT_TEST_DATA "/H_checkpoint-3.pth";
    dg_str report = {0};
    dg_weights *w;
    there_and_back(from, OFFICIAL, OFFICIAL);
    there_and_back(from, TIMM, HUGGINGFACE);
    there_and_back(from, TIMM, MAE);
    ASSERT_OK(convert(from, HUGGINGFACE, test_path("hf"), &report));
    assert_non_null(strstr(report.text, "left out, since huggingface has no place for them"));
    assert_non_null(strstr(report.text, "  ar_blocks.0.attn1.proj.bias\n"));
    assert_non_null(strstr(report.text, "missing in the source: norm.*, which a model of huggingface has"));
    assert_non_null(strstr(report.text, "written by encoder.layer.#.attention.attention.key.* -> "
                                        "blocks.#.attn.qkv.* (part 2 of 3), backwards: "));
    dg_str_free(&report);
    ASSERT_OK(dg_weights_open(test_path("hf"), &w, &err));
    assert_non_null(dg_weights_find(w, "encoder.layer.0.attention.attention.query.weight"));
    assert_non_null(dg_weights_find(w, "embeddings.position_embeddings"));
    assert_null(dg_weights_find(w, "decoder.decoder_pos_embed")); /* D-iGPT's own, not MAE's */
    assert_string_equal(dg_weights_meta(w, "format"), "pt");
    assert_null(dg_weights_meta(w, "epoch"));
    dg_weights_close(w);
    ASSERT_OK(dg_weights_open(test_path("home"), &w, &err));
    assert_null(dg_weights_find(w, "decoder_pos_embed"));
    dg_weights_close(w);
}

/* ---- small files made here */

typedef struct made {
    const char *name;
    int32_t rank;
    int64_t dims[4];
} made;

static const float zeros[4096];

static const char *write_made(const char *name, const made *list, size_t n)
{
    dg_st_tensor tensors[32] = {{0}};
    const void *data[32];
    for (size_t i = 0; i < n; i++) {
        tensors[i] = (dg_st_tensor){.name = list[i].name, .dtype = DG_STORED_F32, .rank = list[i].rank};
        memcpy(tensors[i].dims, list[i].dims, sizeof list[i].dims);
        data[i] = zeros;
    }
    ASSERT_OK(dg_st_write(test_path(name), tensors, data, n, NULL, 0, &err));
    return test_path(name);
}

#define N(A) (sizeof(A) / sizeof *(A))

static void a_mae_keeps_its_decoder_where_the_target_has_one(void **state)
{
    (void)state;
    static const made list[] = {{"patch_embed.proj.weight", 4, {4, 3, 2, 2}},
                                {"cls_token", 3, {1, 1, 4}},
                                {"pos_embed", 3, {1, 5, 4}},
                                {"norm.weight", 1, {4}},
                                {"mask_token", 3, {1, 1, 2}},
                                {"decoder_pos_embed", 3, {1, 5, 2}},
                                {"decoder_embed.weight", 2, {2, 4}},
                                {"decoder_blocks.0.attn.qkv.weight", 2, {6, 2}},
                                {"decoder_pred.weight", 2, {12, 2}}};
    const char *mae = write_made("mae", list, N(list));
    dg_weights *w;
    there_and_back(mae, MAE, HUGGINGFACE);
    ASSERT_OK(dg_weights_open(test_path("away"), &w, &err));
    assert_int_equal(dg_weights_count(w), N(list) + 2);
    assert_non_null(dg_weights_find(w, "vit.embeddings.cls_token"));
    assert_non_null(dg_weights_find(w, "decoder.decoder_pos_embed"));
    assert_non_null(dg_weights_find(w, "decoder.decoder_layers.0.attention.attention.key.weight"));
    dg_weights_close(w);
    dg_str report = {0};
    ASSERT_OK(convert(mae, TIMM, test_path("timm"), &report));
    assert_non_null(strstr(report.text, "left out, since timm has no place for them: 5\n"));
    dg_str_free(&report);
}

static void a_text_tower_stays_behind(void **state)
{
    (void)state;
    /* More text blocks than image blocks: the image tower is still the one with the patch embedding. */
    static const made list[] = {{"visual.conv1.weight", 4, {4, 3, 2, 2}},
                                {"visual.ln_pre.weight", 1, {4}},
                                {"visual.transformer.resblocks.0.ln_1.weight", 1, {4}},
                                {"transformer.resblocks.0.ln_1.weight", 1, {8}},
                                {"transformer.resblocks.1.ln_1.weight", 1, {8}},
                                {"transformer.resblocks.2.ln_1.weight", 1, {8}},
                                {"transformer.resblocks.2.ln_2.weight", 1, {8}},
                                {"positional_embedding", 2, {77, 8}}};
    dg_weights *w;
    dg_str report = {0};
    ASSERT_OK(convert(write_made("both", list, N(list)), TIMM, test_path("timm"), &report));
    assert_non_null(strstr(report.text, "prefix 'visual.' stripped"));
    assert_non_null(strstr(report.text, "left over in the file: 5"));
    assert_non_null(strstr(report.text, "missing in the source: pos_embed, which a model of timm has"));
    dg_str_free(&report);
    ASSERT_OK(dg_weights_open(test_path("timm"), &w, &err));
    assert_int_equal(dg_weights_count(w), 3);
    assert_int_equal(dg_weights_find(w, "blocks.0.norm1.weight")->dims[0], 4);
    dg_weights_close(w);
}

static void what_cannot_be_converted_is_explained_and_nothing_is_written(void **state)
{
    (void)state;
    static const made plain[] = {{"patch_embed.proj.weight", 4, {4, 3, 2, 2}}, {"cls_token", 3, {1, 1, 4}}};
    static const made other[] = {{"layer1.conv.weight", 4, {4, 3, 2, 2}}};
    static const made holes[] = {{"patch_embed.proj.weight", 4, {4, 3, 2, 2}},
                                 {"blocks.0.norm1.weight", 1, {4}},
                                 {"blocks.2.norm1.weight", 1, {4}}};
    static const made third[] = {{"embeddings.patch_embeddings.projection.weight", 4, {4, 3, 2, 2}},
                                 {"encoder.layer.0.attention.attention.query.bias", 1, {4}},
                                 {"encoder.layer.0.attention.attention.value.bias", 1, {4}}};
    static const made uneven[] = {{"embeddings.patch_embeddings.projection.weight", 4, {4, 3, 2, 2}},
                                  {"encoder.layer.0.attention.attention.query.weight", 2, {4, 4}},
                                  {"encoder.layer.0.attention.attention.key.weight", 2, {4, 3}},
                                  {"encoder.layer.0.attention.attention.value.weight", 2, {4, 4}}};
    static const made seven[] = {{"patch_embed.proj.weight", 4, {4, 3, 2, 2}},
                                 {"blocks.0.attn.qkv.weight", 2, {7, 4}}};
    char out[512]; /* the ring of test_path is shorter than this test */
    snprintf(out, sizeof out, "%s", test_path("not-there"));
    ASSERT_FAILS(convert(write_made("plain", plain, N(plain)), OPENCLIP, out, NULL), DG_ERR_MISMATCH,
                 "it cannot become one; timm, huggingface");
    ASSERT_FAILS(convert(DIGPT_TEST_DATA "/C_b32_openclip.safetensors", MAE, out, NULL), DG_ERR_MISMATCH,
                 "which MAE's models lack");
    ASSERT_FAILS(convert(write_made("other", other, N(other)), TIMM, out, NULL), DG_ERR_FORMAT,
                 "no vision transformer is in it: among its 1 tensors");
    ASSERT_FAILS(convert(write_made("holes", holes, N(holes)), TIMM, out, NULL), DG_ERR_FORMAT,
                 "'blocks.2.norm1.weight' is there and 'blocks.1.norm1.weight' is not");
    ASSERT_FAILS(convert(write_made("third", third, N(third)), TIMM, out, NULL), DG_ERR_FORMAT,
                 "of 'blocks.0.attn.qkv.bias', which is stored in three parts, one or two are missing");
    ASSERT_FAILS(convert(write_made("uneven", uneven, N(uneven)), TIMM, out, NULL), DG_ERR_FORMAT,
                 "parts that do not go together");
    ASSERT_FAILS(convert(write_made("seven", seven, N(seven)), HUGGINGFACE, out, NULL), DG_ERR_FORMAT,
                 "has a shape that cannot be stored as 'encoder.layer.0.attention.attention.query.weight'");
    assert_false(dg_path_is_file(out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clip_towers_come_back_from_every_naming_with_the_same_bytes),
        cmocka_unit_test(the_tensors_of_a_clip_tower_keep_their_bits),
        cmocka_unit_test(a_pretraining_checkpoint_becomes_an_encoder_and_says_what_stays_behind),
        cmocka_unit_test(a_mae_keeps_its_decoder_where_the_target_has_one),
        cmocka_unit_test(a_text_tower_stays_behind),
        cmocka_unit_test(what_cannot_be_converted_is_explained_and_nothing_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
