/* One reader over files and folders: shards, what is no weights file, and the fingerprint. */
#include "test.h"

#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "io/weights.h"

static dg_error err = DG_ERROR_INIT;

/* A file of one f32 tensor [2]. */
static void write_one(const char *path, const char *name, float first)
{
    const float v[2] = {first, first + 1};
    const dg_st_tensor t[] = {{name, DG_STORED_F32, 1, {2}}};
    ASSERT_OK(dg_st_write(path, t, (const void *const[]){v}, 1, NULL, 0, &err));
}

static const char *fresh_dir(const char *name)
{
    const char *dir = test_path(name);
    ASSERT_OK(dg_dir_remove(dir, &err));
    ASSERT_OK(dg_dir_make(dir, &err));
    return dir;
}

static const char *in_dir(const char *dir, const char *name)
{
    static char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_index(const char *dir, const char *json)
{
    test_write(in_dir(dir, "model.safetensors.index.json"), json, strlen(json));
}

static void a_folder_of_shards_is_one_reader(void **state)
{
    (void)state;
    dg_weights *w;
    float v[2];
    const char *dir = fresh_dir("shards");
    write_one(in_dir(dir, "m-1.safetensors"), "a", 1);
    write_one(in_dir(dir, "m-2.safetensors"), "b", 5);
    write_index(
        dir, "{\"metadata\": {}, \"weight_map\": {\"b\": \"m-2.safetensors\", \"a\": \"m-1.safetensors\"}}");
    ASSERT_OK(dg_weights_open(dir, &w, &err));
    assert_int_equal(dg_weights_count(w), 2);
    ASSERT_OK(dg_weight_read_f32(dg_weights_find(w, "b"), v, 2, &err));
    assert_true(v[0] == 5 && v[1] == 6);
    assert_string_equal(dg_weights_at(w, 0)->name, "a");
    assert_null(dg_weights_at(w, 2));
    dg_weights_close(w);
}

static void broken_indices_are_explained(void **state)
{
    (void)state;
    dg_weights *w;
    const char *dir = fresh_dir("broken");
    write_one(in_dir(dir, "m-1.safetensors"), "a", 1);
    write_one(in_dir(dir, "m-2.safetensors"), "a", 1);
    write_index(dir, "{\"weight_map\": {\"a\": \"m-1.safetensors\", \"c\": \"m-1.safetensors\"}}");
    ASSERT_FAILS(dg_weights_open(dir, &w, &err), DG_ERR_FORMAT,
                 "'m-1.safetensors' should hold the tensor 'c'");
    write_index(dir, "{\"weight_map\": {\"a\": \"m-1.safetensors\", \"c\": \"m-2.safetensors\"}}");
    ASSERT_FAILS(dg_weights_open(dir, &w, &err), DG_ERR_FORMAT, "the tensor 'a' is there twice");
    write_index(dir, "{\"weight_map\": {\"a\": \"../m-1.safetensors\"}}");
    ASSERT_FAILS(dg_weights_open(dir, &w, &err), DG_ERR_FORMAT, "must be a plain file name");
    write_index(dir, "{\"weight_map\": {\"a\": \"m-3.safetensors\"}}");
    ASSERT_FAILS(dg_weights_open(dir, &w, &err), DG_ERR_NOT_FOUND, "m-3.safetensors");
    write_index(dir, "{\"weights\": {}}");
    ASSERT_FAILS(dg_weights_open(dir, &w, &err), DG_ERR_FORMAT, "no object \"weight_map\"");
    write_index(dir, "{\"weight_map\":\n 3 4}");
    ASSERT_FAILS(dg_weights_open(dir, &w, &err), DG_ERR_FORMAT, "index.json:2:5: not valid JSON");
    ASSERT_FAILS(dg_weights_open(fresh_dir("empty"), &w, &err), DG_ERR_NOT_FOUND,
                 "holds no weights under a known name");
}

static void what_is_no_weights_file_is_named(void **state)
{
    (void)state;
    dg_weights *w;
    static const struct {
        const char *bytes, *message;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"},
        {"<!DOCTYPE html><html>", "a web page"},
        {"GGUF\3\0\0\0", "a GGUF file"},
        {"\x1f\x8b\x08", "compressed with gzip"},
        {"hello, these are no weights", "neither safetensors nor a PyTorch file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err = (dg_error)DG_ERROR_INIT;
        assert_int_not_equal(dg_weights_parse(cases[i].bytes, strlen(cases[i].bytes), "x", &w, &err), DG_OK);
        if (!strstr(err.message, cases[i].message))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].message);
    }
    ASSERT_FAILS(dg_weights_open("/nonexistent/weights", &w, &err), DG_ERR_NOT_FOUND,
                 "cannot open '/nonexistent/weights'");
    test_write(test_path("nothing"), "", 0);
    ASSERT_FAILS(dg_weights_open(test_path("nothing"), &w, &err), DG_ERR_FORMAT, "is empty");
}

static void a_missing_tensor_is_answered_with_the_nearest_name(void **state)
{
    (void)state;
    dg_weights *w;
    const dg_weight *t;
    write_one(test_path("near"), "blocks.0.weight", 1);
    ASSERT_OK(dg_weights_open(test_path("near"), &w, &err));
    ASSERT_OK(dg_weights_need(w, "blocks.0.weight", &t, &err));
    ASSERT_FAILS(dg_weights_need(w, "block.0.weight", &t, &err), DG_ERR_NOT_FOUND,
                 "holds no tensor 'block.0.weight' among its 1; the nearest name is 'blocks.0.weight'");
    assert_null(t);
    dg_weights_close(w);
}

static void fingerprints_differ_by_name_type_and_value_only(void **state)
{
    (void)state;
    static const struct {
        const char *file, *name;
        float first;
    } files[] = {{"f0", "a", 1}, {"f1", "a", 1}, {"f2", "b", 1}, {"f3", "a", 2}};
    char hash[4][33];
    for (int i = 0; i < 4; i++) {
        dg_weights *w;
        write_one(test_path(files[i].file), files[i].name, files[i].first);
        ASSERT_OK(dg_weights_open(test_path(files[i].file), &w, &err));
        ASSERT_OK(dg_weights_fingerprint(w, hash[i], &err));
        dg_weights_close(w);
    }
    assert_string_equal(hash[0], hash[1]);
    assert_string_not_equal(hash[0], hash[2]);
    assert_string_not_equal(hash[0], hash[3]);
}

static void running_out_of_memory_is_an_error_at_every_place(void **state)
{
    (void)state;
    static const char *const names[] = {"io/mixed.pth", "io/mixed_legacy.pth", "io/mixed_deflated.pth"};
    char path[512];
    dg_weights *w;
    write_one(test_path("memory"), "a", 1);
    for (int k = 0; k < 4; k++) {
        snprintf(path, sizeof path, "%s/%s", DIGPT_TEST_DATA, k < 3 ? names[k] : "");
        if (k == 3) snprintf(path, sizeof path, "%s", test_path("memory"));
        size_t n = 1;
        for (dg_status s = DG_ERR_NOMEM; s != DG_OK; n++) {
            dg_alloc_fail_at(n);
            s = dg_weights_open(path, &w, &err);
            dg_alloc_fail_at(0);
            assert_true(s == DG_OK || s == DG_ERR_NOMEM);
            assert_true(n < 100000);
        }
        dg_weights_close(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_of_shards_is_one_reader),
        cmocka_unit_test(broken_indices_are_explained),
        cmocka_unit_test(what_is_no_weights_file_is_named),
        cmocka_unit_test(a_missing_tensor_is_answered_with_the_nearest_name),
        cmocka_unit_test(fingerprints_differ_by_name_type_and_value_only),
        cmocka_unit_test(running_out_of_memory_is_an_error_at_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
