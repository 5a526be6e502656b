/* Foreign names: prefixes, Hugging Face's rules, and the report of what does not fit. */
#include "test.h"

#include "io/names.h"
#include "io/safetensors.h"

static dg_error err = DG_ERROR_INIT;

static const float values[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

/* Opens a file of f32 tensors of rows x 2; name i begins with value values[i]. */
static dg_weights *file_of(const char *const *names, const int64_t *rows, size_t n)
{
    dg_st_tensor tensors[16] = {{0}};
    const void *data[16];
    dg_weights *w;
    for (size_t i = 0; i < n; i++) {
        tensors[i] = (dg_st_tensor){names[i], DG_STORED_F32, 2, {rows[i], 2}};
        data[i] = &values[i];
    }
    ASSERT_OK(dg_st_write(test_path("names"), tensors, data, n, NULL, 0, &err));
    ASSERT_OK(dg_weights_open(test_path("names"), &w, &err));
    return w;
}

#define N(A) (sizeof(A) / sizeof *(A))

static void official_names_are_ours(void **state)
{
    (void)state;
    static const char *const names[] = {"cls_token", "blocks.0.attn.qkv.weight"};
    const dg_wanted wanted[] = {{"blocks.0.attn.qkv.weight", 2, {3, 2}}, {"cls_token", 2, {1, 2}}};
    dg_weights *w = file_of(names, (const int64_t[]){1, 3}, 2);
    dg_names m;
    ASSERT_OK(dg_names_match(w, wanted, 2, &m, &err));
    assert_int_equal(m.n_found, 2);
    assert_int_equal(m.n_missing + m.n_other_shape + m.n_left_over, 0);
    assert_string_equal(m.prefix, "");
    assert_string_equal(m.matches[0].parts[0]->name, "blocks.0.attn.qkv.weight");
    dg_names_free(&m);
    dg_weights_close(w);
}

static void the_prefix_with_most_matches_is_stripped(void **state)
{
    (void)state;
    static const char *const names[] = {
        "module.visual.a", "module.visual.b", "module.visual.d", "module.text.a", "c", "b"};
    const dg_wanted wanted[] = {{"a", 2, {1, 2}}, {"b", 2, {1, 2}}, {"c", 2, {1, 2}}, {"d", 2, {1, 2}}};
    dg_weights *w = file_of(names, (const int64_t[]){1, 1, 1, 1, 1, 1}, N(names));
    dg_names m;
    ASSERT_OK(dg_names_match(w, wanted, 4, &m, &err));
    assert_string_equal(m.prefix, "module.visual.");
    assert_int_equal(m.n_found, 4);
    assert_string_equal(m.matches[1].parts[0]->name, "module.visual.b"); /* before the bare "b" */
    assert_string_equal(m.matches[2].parts[0]->name, "c");
    assert_int_equal(m.n_left_over, 2);
    dg_names_free(&m);
    dg_weights_close(w);
}

static void hugging_face_query_key_and_value_become_one(void **state)
{
    (void)state;
    static const char *const names[] = {"vit.encoder.layer.10.attention.attention.key.weight",
                                        "vit.encoder.layer.10.attention.attention.query.weight",
                                        "vit.encoder.layer.10.attention.attention.value.weight",
                                        "vit.encoder.layer.10.output.dense.weight",
                                        "classifier.weight",
                                        "vit.encoder.layer.11.attention.attention.query.weight"};
    const dg_wanted wanted[] = {{"blocks.10.attn.qkv.weight", 2, {3, 2}},
                                {"blocks.10.mlp.fc2.weight", 2, {1, 2}},
                                {"head.weight", 2, {1, 2}},
                                {"blocks.11.attn.qkv.weight", 2, {3, 2}}};
    dg_weights *w = file_of(names, (const int64_t[]){1, 1, 1, 1, 1, 1}, N(names));
    dg_names m;
    float v[6];
    ASSERT_OK(dg_names_match(w, wanted, 4, &m, &err));
    assert_string_equal(m.prefix, "vit.");
    assert_int_equal(m.n_found, 3);
    assert_int_equal(m.n_missing, 1); /* block 11 has a query only */
    assert_int_equal(m.matches[0].n_parts, 3);
    ASSERT_OK(dg_name_match_read_f32(&m.matches[0], v, 6, &err));
    assert_true(v[0] == 2 && v[2] == 1 && v[4] == 3); /* query, key, value */
    ASSERT_FAILS(dg_name_match_read_f32(&m.matches[0], v, 5, &err), DG_ERR_INVALID, "there is room for 1");
    dg_names_free(&m);
    dg_weights_close(w);
}

static void openclip_names_are_found_and_the_projection_is_transposed(void **state)
{
    (void)state;
    static const char *const names[] = {"visual.conv1.weight", "visual.positional_embedding", "visual.proj",
                                        "transformer.resblocks.0.ln_1.weight", "positional_embedding"};
    const dg_wanted wanted[] = {{"patch_embed.proj.weight", 2, {1, 2}},
                                {"pos_embed", 3, {1, 5, 2}},
                                {"head.weight", 2, {2, 3}},
                                {"blocks.0.norm1.weight", 2, {1, 2}}};
    dg_weights *w = file_of(names, (const int64_t[]){1, 5, 3, 1, 7}, N(names));
    dg_names m;
    float v[6];
    ASSERT_OK(dg_names_match(w, wanted, 4, &m, &err));
    assert_string_equal(m.prefix, "visual.");
    assert_int_equal(m.n_found, 3);
    assert_int_equal(m.n_missing, 1); /* the block outside "visual." is the text tower's */
    assert_true(m.matches[2].transpose && m.matches[1].lead == 1);
    ASSERT_OK(dg_name_match_read_f32(&m.matches[2], v, 6, &err));
    const float turned[6] = {3, 5, 7, 4, 6, 8}; /* of [3, 2]: 3 4 5 6 7 8 */
    assert_memory_equal(v, turned, sizeof v);
    dg_names_free(&m);
    dg_weights_close(w);
}

static void a_file_without_a_model_tells_what_it_has(void **state)
{
    (void)state;
    static const char *const names[] = {"module.patch_embed.proj.weight", "module.blocks.3.norm1.bias",
                                        "module.optimizer.step", "head.bias"};
    dg_weights *w = file_of(names, (const int64_t[]){1, 2, 3, 4}, N(names));
    dg_arena arena = {0};
    dg_wanted *known;
    size_t n;
    ASSERT_OK(dg_names_known(w, &arena, &known, &n, &err));
    assert_int_equal(n, 3);
    assert_string_equal(known[0].name, "blocks.3.norm1.bias");
    assert_string_equal(known[1].name, "head.bias");
    assert_string_equal(known[2].name, "patch_embed.proj.weight");
    assert_true(known[1].rank == 2 && known[1].dims[0] == 4 && known[1].dims[1] == 2);
    dg_weights_close(w);
    w = file_of(names + 1, (const int64_t[]){2, 3, 4}, 3);
    ASSERT_OK(dg_names_known(w, &arena, &known, &n, &err));
    assert_int_equal(n, 0); /* no patch embedding */
    dg_weights_close(w);
    dg_arena_free(&arena);
}

static void the_report_lists_rules_missing_shapes_and_left_over(void **state)
{
    (void)state;
    static const char *const names[] = {"embeddings.cls_token", "norm.weight", "x1", "x2"};
    const dg_wanted wanted[] = {
        {"cls_token", 2, {1, 2}}, {"norm.weight", 2, {5, 2}}, {"pos_embed", 3, {1, 4, 2}}};
    dg_weights *w = file_of(names, (const int64_t[]){1, 4, 1, 1}, N(names));
    dg_names m;
    dg_str text = {0};
    ASSERT_OK(dg_names_match(w, wanted, 3, &m, &err));
    dg_names_report(&m, wanted, 1, &text);
    assert_string_equal(text.text, "1 of 3 tensors found\n"
                                   "rule embeddings.cls_token -> cls_token: 1 tensors\n"
                                   "missing in the file: 1\n"
                                   "  pos_embed [1,4,2]\n"
                                   "of another shape: 1\n"
                                   "  norm.weight wants [5,2], the file has norm.weight [4,2]\n"
                                   "left over in the file: 2\n"
                                   "  x1 [1,2]\n"
                                   "  ... and 1 more\n");
    assert_false(m.matches[1].same_shape);
    dg_str_free(&text);
    dg_names_print_rules(&text);
    assert_non_null(strstr(text.text, "encoder.layer.#.output.dense.* -> blocks.#.mlp.fc2.*\n"));
    assert_non_null(strstr(text.text, "blocks.#.attn.qkv.* (part 2 of 3)\n"));
    dg_str_free(&text);
    dg_names_free(&m);
    dg_weights_close(w);
}

static void two_names_for_one_tensor_are_an_error(void **state)
{
    (void)state;
    static const char *const names[] = {"embeddings.cls_token", "cls_token"};
    const dg_wanted wanted[] = {{"cls_token", 2, {1, 2}}};
    dg_weights *w = file_of(names, (const int64_t[]){1, 1}, 2);
    dg_names m;
    ASSERT_FAILS(dg_names_match(w, wanted, 1, &m, &err), DG_ERR_MISMATCH,
                 "'cls_token' and 'embeddings.cls_token' both mean 'cls_token'");
    dg_names_free(&m);
    dg_weights_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(official_names_are_ours),
        cmocka_unit_test(the_prefix_with_most_matches_is_stripped),
        cmocka_unit_test(hugging_face_query_key_and_value_become_one),
        cmocka_unit_test(openclip_names_are_found_and_the_projection_is_transposed),
        cmocka_unit_test(a_file_without_a_model_tells_what_it_has),
        cmocka_unit_test(the_report_lists_rules_missing_shapes_and_left_over),
        cmocka_unit_test(two_names_for_one_tensor_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
