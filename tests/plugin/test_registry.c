/* test_registry.c - finding, loading and refusing plugins. */
#include "test.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "plugin/component.h"
#include "plugin/host.h"
#include "digpt/loss.h"

#define MODULES DIGPT_BINARY_DIR "/tests/modules/"

/* A registry of these files or folders and nothing else; fails the test if it cannot be made. */
static dg_registry *registry_of(const char *const *paths, size_t n)
{
    dg_error err = DG_ERROR_INIT;
    dg_registry *r = NULL;
    const dg_search search = {NULL, 0, paths, n, true, NULL};
    ASSERT_OK(dg_registry_create(&search, &r, &err));
    return r;
}

#define REGISTRY(...)                                                                                        \
    registry_of((const char *const[]){__VA_ARGS__},                                                          \
                sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* Loads one bad module and expects it to be refused with this in the reason; the reference backend is always
 * there. */
static void expect_refused(const char *path, int status, const char *text)
{
    dg_registry *r = REGISTRY(path);
    assert_int_equal(dg_registry_files(r), 2);
    const dg_plugin_file *f = dg_registry_file(r, 1);
    assert_string_equal(f->path, path);
    assert_true(f->asked);
    if (f->status != status || !strstr(f->why, text))
        fail_msg("%s: status %d, '%s'", path, f->status, f->why);
    assert_null(f->plugin);
    for (size_t i = 0; i < dg_registry_components(r); i++)
        assert_ptr_not_equal(dg_registry_component(r, i)->file, f);
    dg_registry_destroy(r);
}

static void a_good_plugin_is_found_by_interface_and_name(void **state)
{
    (void)state;
    dg_error err;
    dg_component_ref ref;
    dg_registry *r = REGISTRY(MODULES "good.so");
    ASSERT_OK(dg_registry_find(r, DG_LOSS_INTERFACE, "good", &ref, &err));
    assert_string_equal(ref.file->plugin->id, "test.good");
    assert_string_equal(ref.factory->name, "good");
    assert_int_equal(strlen(ref.file->hash), 32);
    ASSERT_OK(dg_registry_find(r, "loss", "good", &ref, &err));
    dg_registry_destroy(r);
}

static void the_reference_backend_is_always_there(void **state)
{
    (void)state;
    dg_error err;
    dg_component_ref ref;
    dg_registry *r = registry_of(NULL, 0);
    ASSERT_OK(dg_registry_find(r, DG_BACKEND_INTERFACE, "reference", &ref, &err));
    assert_string_equal(ref.file->plugin->id, "digpt.core");
    dg_registry_destroy(r);
}

static void a_missing_name_is_answered_with_the_nearest_and_the_list(void **state)
{
    (void)state;
    dg_error err;
    dg_component_ref ref;
    dg_registry *r = REGISTRY(MODULES "good.so", MODULES "refuses.so");
    ASSERT_FAILS(dg_registry_find(r, "loss", "goood", &ref, &err), DG_ERR_NOT_FOUND,
                 "there is no loss 'goood'; did you mean 'good'? There are: good");
    ASSERT_FAILS(dg_registry_find(r, "loss", "something", &ref, &err), DG_ERR_NOT_FOUND,
                 "there is no loss 'something'; there are: good (1 plugin file could not be used: see digpt "
                 "plugins --why)");
    ASSERT_FAILS(dg_registry_find(r, "model", "vit", &ref, &err), DG_ERR_NOT_FOUND,
                 "there is no model 'vit'; there are none");
    ASSERT_FAILS(dg_registry_find(r, "digpt.loss/2", "good", &ref, &err), DG_ERR_INVALID,
                 "no interface 'digpt.loss/2'");
    dg_registry_destroy(r);
}

static void every_wrong_file_is_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int status;
        const char *text;
    } wrong[] = {
        {MODULES "no_entry.so", DG_ERR_FORMAT, "has no symbol digpt_plugin_entry"},
        {MODULES "wrong_magic.so", DG_ERR_FORMAT, "begins with 0x00001234, not 0x54504744"},
        {MODULES "wrong_major.so", DG_ERR_VERSION,
         "built for plugin ABI 7.3 and this digpt (" DIGPT_VERSION ") has 1."},
        {MODULES "short_struct.so", DG_ERR_FORMAT, "descriptor has 0 bytes"},
        {MODULES "bad_id.so", DG_ERR_FORMAT, "its id 'my plugin' is not a name"},
        {MODULES "refuses.so", DG_ERR_VERSION, "its entry returned nothing"},
        {MODULES "no_parts.so", DG_ERR_UNSUPPORTED, "nothing of a kind that this digpt"},
        {MODULES "bad_default.so", DG_ERR_INVALID,
         "loss 0 of test.bad_default: the default '12' of parameter 'depth'"},
        {MODULES "no_function.so", DG_ERR_INVALID, "lacks the function build"},
        {MODULES "unresolved.so", DG_ERR_FORMAT, "a_function_that_nobody_has"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        expect_refused(wrong[i].path, wrong[i].status, wrong[i].text);
}

static void a_getter_without_end_is_refused(void **state)
{
    (void)state;
    dg_registry *r = REGISTRY(MODULES "endless.so");
    assert_int_not_equal(dg_registry_file(r, 1)->status, DG_OK);
    dg_registry_destroy(r);
}

static void a_text_file_is_no_shared_object(void **state)
{
    (void)state;
    const char *path = test_path("text.so");
    test_write(path, "not a shared object at all, but long enough for a header of one\n", 64);
    expect_refused(path, DG_ERR_FORMAT, "cannot be loaded: ");
    test_write(path, "", 0);
    expect_refused(path, DG_ERR_FORMAT, "cannot be loaded: ");
}

static void the_same_id_in_two_files_names_both_and_uses_neither(void **state)
{
    (void)state;
    dg_error err;
    dg_component_ref ref;
    dg_registry *r = REGISTRY(MODULES "good.so", MODULES "twin.so");
    for (size_t i = 1; i < 3; i++) {
        const dg_plugin_file *f = dg_registry_file(r, i);
        assert_int_equal(f->status, DG_ERR_INVALID);
        if (!strstr(f->why, "test.good") || !strstr(f->why, "/good.so") || !strstr(f->why, "/twin.so"))
            fail_msg("%s", f->why);
    }
    assert_int_not_equal(dg_registry_find(r, "loss", "good", &ref, &err), DG_OK);
    dg_registry_destroy(r);
}

static void the_same_file_met_twice_counts_once(void **state)
{
    (void)state;
    const char *link = test_path("link.so");
    unlink(link);
    assert_int_equal(symlink(MODULES "good.so", link), 0);
    dg_registry *r = REGISTRY(MODULES "good.so", link, MODULES "../modules/good.so");
    assert_int_equal(dg_registry_files(r), 2);
    assert_int_equal(dg_registry_file(r, 1)->status, DG_OK);
    dg_registry_destroy(r);
}

static void one_name_in_two_plugins_is_ambiguous(void **state)
{
    (void)state;
    dg_error err;
    dg_component_ref ref;
    dg_registry *r = REGISTRY(MODULES "good.so", MODULES "same_name.so");
    ASSERT_FAILS(dg_registry_find(r, "loss", "good", &ref, &err), DG_ERR_INVALID,
                 "two plugins have a loss 'good': test.good");
    assert_non_null(strstr(err.message, "test.same_name"));
    dg_registry_destroy(r);
}

static void a_path_that_was_asked_for_must_be_there(void **state)
{
    (void)state;
    dg_error err;
    dg_registry *r;
    const char *const paths[] = {"/no/such/plugin.so"};
    const dg_search option = {NULL, 0, paths, 1, true, NULL}, recipe = {paths, 1, NULL, 0, true, NULL};
    ASSERT_FAILS(dg_registry_create(&option, &r, &err), DG_ERR_NOT_FOUND,
                 "'/no/such/plugin.so' (--plugin-path): No such file");
    ASSERT_FAILS(dg_registry_create(&recipe, &r, &err), DG_ERR_NOT_FOUND, "(recipe)");
    assert_null(r);
}

/* Copies a module, so that it is another file; the copies must have other ids to live together. */
static void copy(const char *from, const char *to)
{
    dg_error err;
    char *bytes;
    size_t size;
    ASSERT_OK(dg_file_read(from, 1 << 24, &bytes, &size, &err));
    test_write(to, bytes, size);
    dg_free(bytes);
}

static void folders_are_searched_in_order_and_sorted_by_name(void **state)
{
    (void)state;
    dg_error err;
    char recipe[512], option[512], data[512];
    snprintf(recipe, sizeof recipe, "%s/recipe.d", test_dir());
    snprintf(option, sizeof option, "%s/option.d", test_dir());
    snprintf(data, sizeof data, "%s/data", test_dir());
    ASSERT_OK(dg_dir_make(recipe, &err));
    ASSERT_OK(dg_dir_make(option, &err));
    ASSERT_OK(dg_dir_make(test_path("data/digpt/plugins"), &err));
    copy(MODULES "good.so", test_path("recipe.d/b.so"));
    copy(MODULES "refuses.so", test_path("recipe.d/a.so"));
    copy(MODULES "refuses.so", test_path("recipe.d/.hidden.so"));
    copy(MODULES "refuses.so", test_path("recipe.d/other.txt"));
    copy(MODULES "no_entry.so", test_path("option.d/c.so"));
    copy(MODULES "same_name.so", test_path("data/digpt/plugins/d.so"));
    char environment[1024];
    snprintf(environment, sizeof environment, "%s:/no/such/folder", MODULES "no_parts.so");
    char *old = getenv("DIGPT_PLUGIN_PATH");
    setenv("DIGPT_PLUGIN_PATH", environment, 1);
    setenv("XDG_DATA_HOME", data, 1);

    dg_registry *r = NULL;
    const char *const recipes[] = {recipe}, *const options[] = {option};
    const dg_search search = {recipes, 1, options, 1, false, NULL};
    ASSERT_OK(dg_registry_create(&search, &r, &err));
    static const struct {
        const char *end, *from;
    } want[] = {{"(built in)", "built in"},
                {"/recipe.d/a.so", "recipe"},
                {"/recipe.d/b.so", "recipe"},
                {"/option.d/c.so", "--plugin-path"},
                {"/no_parts.so", "DIGPT_PLUGIN_PATH"},
                {"/no/such/folder", "DIGPT_PLUGIN_PATH"},
                {"/data/digpt/plugins/d.so", "user's folder"}};
    size_t n = sizeof want / sizeof want[0];
    assert_true(dg_registry_files(r) >= n);
    for (size_t i = 0; i < n; i++) {
        const dg_plugin_file *f = dg_registry_file(r, i);
        if (!strstr(f->path, want[i].end) || strcmp(f->from, want[i].from))
            fail_msg("%zu: %s by %s", i, f->path, f->from);
        assert_false(f->asked);
    }
    /* The test program lies in build/tests, beside build/lib/digpt/plugins: the build tree's own plugins come
     * last. */
    for (size_t i = n; i < dg_registry_files(r); i++)
        assert_string_equal(dg_registry_file(r, i)->from, "beside the program");
    dg_registry_destroy(r);
    unsetenv("XDG_DATA_HOME");
    if (old) setenv("DIGPT_PLUGIN_PATH", old, 1);
}

static void every_plugin_of_this_tree_can_be_used(void **state)
{
    (void)state;
    static const char folder[] = DIGPT_BINARY_DIR "/lib/digpt/plugins";
    if (!dg_path_is_dir(folder)) skip();
    dg_registry *r = REGISTRY(folder);
    for (size_t i = 0; i < dg_registry_files(r); i++) {
        const dg_plugin_file *f = dg_registry_file(r, i);
        if (f->status != DG_OK) fail_msg("%s: %s", f->path, f->why);
    }
    dg_registry_destroy(r);
}

/* ---- components */

static void a_component_is_made_from_texts(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_registry *r = REGISTRY(MODULES "good.so");
    const char *const settings[] = {"number=4", "which=one", "grid=[1, 5]"};
    ASSERT_OK(dg_component_make(r, "loss", "good", settings, 3, NULL, &c, &err));
    assert_non_null(c.self);
    assert_int_equal(c.params->count, 8);
    assert_int_equal(c.params->values[0].v.i, 1);
    assert_int_equal(c.params->values[1].v.i, 4);
    assert_int_equal(c.params->values[3].is_set, 0);
    assert_int_equal(c.params->values[4].v.i, 0);
    assert_int_equal(c.params->values[6].v.ints.n, 2);
    assert_int_equal(c.params->values[6].v.ints.items[1], 5);
    assert_true(c.params->values[7].v.floats.items[0] == 0.9);
    dg_component_destroy(&c);
    const char *const wrong[] = {"number=40"};
    ASSERT_FAILS(dg_component_make(r, "loss", "good", wrong, 1, NULL, &c, &err), DG_ERR_INVALID,
                 "loss 'good': ");
    assert_null(c.self);
    dg_registry_destroy(r);
}

static void a_failing_create_is_reported_with_kind_name_and_id(void **state)
{
    (void)state;
    dg_error err;
    dg_component c;
    dg_registry *r = REGISTRY(MODULES "good.so");
    dg_component_ref ref;
    ASSERT_OK(dg_registry_find(r, "loss", "good", &ref, &err));
    const dg_params none = {(uint32_t)sizeof none, 0, NULL};
    c = (dg_component){0};
    dg_alloc_fail_at(1);
    dg_status s = dg_component_create(&ref, &none, NULL, NULL, &c, &err);
    dg_alloc_fail_at(0);
    assert_int_equal(s, DG_ERR_NOMEM);
    assert_string_equal(err.message, "loss 'good' of test.good: no memory for a loss");
    dg_registry_destroy(r);
}

static void memory_that_runs_out_is_an_error_at_every_allocation(void **state)
{
    (void)state;
    dg_error err;
    const char *const paths[] = {MODULES "good.so", MODULES "refuses.so"};
    const dg_search search = {NULL, 0, paths, 2, true, NULL};
    for (size_t n = 1; n < 100; n++) {
        dg_registry *r = NULL;
        dg_alloc_fail_at(n);
        err = (dg_error)DG_ERROR_INIT;
        dg_status s = dg_registry_create(&search, &r, &err);
        dg_alloc_fail_at(0);
        dg_registry_destroy(r);
        if (s == DG_OK) return;
        assert_int_equal(s, DG_ERR_NOMEM);
        assert_true(err.message[0] != 0);
    }
    fail_msg("it never succeeds");
}

/* ---- the host */

static void the_host_reads_weights(void **state)
{
    (void)state;
    dg_error err = DG_ERROR_INIT;
    dg_weights *w = NULL;
    const dg_host *host = dg_host_table();
    /* One tensor "a" f32 [2] = {1, 2}. */
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    unsigned char file[8 + sizeof header - 1 + 8] = {0};
    const float values[2] = {1, 2};
    file[0] = sizeof header - 1;
    memcpy(file + 8, header, sizeof header - 1);
    memcpy(file + 8 + sizeof header - 1, values, sizeof values);
    const char *path = test_path("a.safetensors");
    test_write(path, file, sizeof file);
    ASSERT_OK(host->weights_open(path, &w, &err));
    dg_tensor_info info;
    float out[2];
    assert_int_equal(host->weights_count(w), 1);
    assert_true(host->weights_at(w, 0, &info));
    assert_string_equal(info.name, "a");
    assert_string_equal(info.dtype, "F32");
    assert_int_equal(info.rank, 1);
    assert_int_equal(info.dims[0], 2);
    assert_false(host->weights_at(w, 1, &info));
    assert_false(host->weights_find(w, "b", &info));
    ASSERT_OK(host->weights_read(w, "a", out, &err));
    assert_true(out[0] == 1 && out[1] == 2);
    ASSERT_FAILS(host->weights_read(w, "b", out, &err), DG_ERR_NOT_FOUND, "'b'");
    host->weights_close(w);
    assert_null(host->extension("digpt.unheard/1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_plugin_is_found_by_interface_and_name),
        cmocka_unit_test(the_reference_backend_is_always_there),
        cmocka_unit_test(a_missing_name_is_answered_with_the_nearest_and_the_list),
        cmocka_unit_test(every_wrong_file_is_refused_with_the_reason),
        cmocka_unit_test(a_getter_without_end_is_refused),
        cmocka_unit_test(a_text_file_is_no_shared_object),
        cmocka_unit_test(the_same_id_in_two_files_names_both_and_uses_neither),
        cmocka_unit_test(the_same_file_met_twice_counts_once),
        cmocka_unit_test(one_name_in_two_plugins_is_ambiguous),
        cmocka_unit_test(a_path_that_was_asked_for_must_be_there),
        cmocka_unit_test(folders_are_searched_in_order_and_sorted_by_name),
        cmocka_unit_test(every_plugin_of_this_tree_can_be_used),
        cmocka_unit_test(a_component_is_made_from_texts),
        cmocka_unit_test(a_failing_create_is_reported_with_kind_name_and_id),
        cmocka_unit_test(memory_that_runs_out_is_an_error_at_every_allocation),
        cmocka_unit_test(the_host_reads_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
