/* test_pjrt_cache.c - compiled programs kept on disk, the trial of a plugin in a child process, and compiling
 * for devices that are not here. */
#include "pjrt_support.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"

static char log_text[1 << 16];

static void keep_log(void *user, dg_log_level level, const char *line)
{
    (void)user, (void)level;
    size_t n = strlen(log_text);
    snprintf(log_text + n, sizeof log_text - n, "%s\n", line);
}

/* y = exp(x) + k on a backend of its own; what was logged is in log_text. */
static void run_with_cache(const char *cache, double k)
{
    const float in[4] = {0, 1, 2, 3};
    const void *inputs[] = {in};
    backend b = pjrt_open((pjrt_options){.cache = cache});
    if (!b.self) skip();
    log_text[0] = 0;
    dg_graph *g = dg_graph_create();
    dg_value v = dg_input(g, "x", DG_F32, DG_LIST(4), DG_PER_BATCH);
    dg_graph_output(g, dg_add(g, dg_exp(g, v), dg_fill(g, DG_F32, NULL, 0, k)), "y");
    running r = start(b, g, NULL);
    run_once(&r, inputs);
    for (int i = 0; i < 4; i++) assert_float_equal(((float *)r.outputs[0])[i], exp(i) + k, 1e-5);
    b.f->store_destroy(r.store);
    stop(&r);
    dg_graph_destroy(g);
    pjrt_close(b);
}

/* How many compiled programs the folder has; the path of the last one seen. */
static int count_files(const char *folder, char path[512])
{
    int n = 0;
    DIR *d = opendir(folder);
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, ".exe")) {
            snprintf(path, 512, "%s/%.200s", folder, e->d_name);
            n++;
        }
    closedir(d);
    return n;
}

static void a_program_is_compiled_once(void **state)
{
    (void)state;
    char path[512];
    const char *cache = test_path("once/deep");
    run_with_cache(cache, 0.5);
    assert_null(strstr(log_text, "compiled before"));
    assert_int_equal(count_files(cache, path), 1);
    run_with_cache(cache, 0.5);
    assert_non_null(strstr(log_text, "compiled before"));
    run_with_cache(cache, 0.25);
    assert_null(strstr(log_text, "compiled before"));
    assert_int_equal(count_files(cache, path), 2);
}

static void a_damaged_file_is_told_and_replaced(void **state)
{
    (void)state;
    char path[512];
    dg_error err;
    const char *cache = test_path("damaged");
    run_with_cache(cache, 1);
    assert_int_equal(count_files(cache, path), 1);
    char *bytes;
    size_t size;
    ASSERT_OK(dg_file_read(path, 64 << 20, &bytes, &size, &err));
    static const struct {
        const char *what, *said;
    } cases[] = {{"cut", "cut short"}, {"flipped", "checksum is wrong"}, {"empty", "cut short"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes[size / 2] ^= i == 1;
        test_write(path, bytes, i == 0 ? size - 100 : i == 1 ? size : 0);
        bytes[size / 2] ^= i == 1;
        run_with_cache(cache, 1);
        if (!strstr(log_text, cases[i].said)) fail_msg("%s: %s", cases[i].what, log_text);
        run_with_cache(cache, 1);
        assert_non_null(strstr(log_text, "compiled before"));
    }
    dg_free(bytes);
}

/* A sound header around bytes that are no program: those of another version of the plugin, say. */
static void what_the_plugin_does_not_take_is_compiled_anew(void **state)
{
    (void)state;
    static const char strange[] = "these bytes are no program";
    struct {
        char magic[8];
        uint64_t bytes, hash;
        char data[sizeof strange];
    } file = {"DGPJRT1", sizeof strange, XXH3_64bits(strange, sizeof strange), ""};
    char path[512];
    const char *cache = test_path("strange");
    run_with_cache(cache, 2);
    assert_int_equal(count_files(cache, path), 1);
    memcpy(file.data, strange, sizeof strange);
    test_write(path, &file, offsetof(__typeof__(file), data) + sizeof strange);
    run_with_cache(cache, 2);
    assert_non_null(strstr(log_text, "does not take this file"));
    run_with_cache(cache, 2);
    assert_non_null(strstr(log_text, "compiled before"));
}

static void a_folder_that_others_may_write_is_not_used(void **state)
{
    (void)state;
    char path[512];
    dg_error err;
    const char *cache = test_path("open");
    ASSERT_OK(dg_dir_make(cache, &err));
    assert_int_equal(chmod(cache, 0777), 0);
    run_with_cache(cache, 4);
    assert_non_null(strstr(log_text, "writable by you only"));
    assert_int_equal(count_files(cache, path), 0);
    run_with_cache("/proc/nowhere", 4);
    assert_non_null(strstr(log_text, "no cache of compiled programs"));
}

/* ---- the trial: here, before any test has loaded the plugin */

static void a_trial_that_went_well_is_remembered(void **state)
{
    (void)state;
    const char *cache = test_path("trial");
    int stamps = 0;
    backend b = pjrt_open((pjrt_options){.cache = cache, .trial = "auto"});
    if (!b.self) skip();
    DIR *d = opendir(cache);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) stamps += strstr(e->d_name, ".good") != NULL;
    closedir(d);
    assert_int_equal(stamps, 1);
    pjrt_close(b);
}

/* ---- devices that are not here */

/* x^5 of a square matrix, with x^2 and x^3 alive at once. */
static dg_program *power_program(int64_t side)
{
    dg_error err;
    dg_program *p;
    dg_graph *g = dg_graph_create();
    dg_value x = dg_input(g, "x", DG_F32, DG_LIST(side, side), DG_PER_BATCH);
    dg_value x2 = dg_matmul(g, x, x, false, false, DG_F32), x3 = dg_matmul(g, x2, x, false, false, DG_F32);
    dg_graph_output(g, dg_matmul(g, x2, x3, false, false, DG_F32), "y");
    ASSERT_OK(dg_program_make(g, "power", false, &p, &err));
    dg_graph_destroy(g);
    return p;
}

static void compiling_ahead_needs_a_target_and_says_what_it_cannot(void **state)
{
    (void)state;
    dg_error err;
    dg_ahead out = {.struct_size = sizeof out};
    dg_backend_store *s;
    dg_program *p = power_program(64);
    backend b = pjrt_open((pjrt_options){0});
    if (!b.self) skip();
    ASSERT_FAILS(b.f->ahead(b.self, p, &out, &err), DG_ERR_INVALID, "Set backend.target");
    assert_string_equal(err.key, "backend.target");
    pjrt_close(b);
    /* A plugin that ends its process there takes nothing else along. */
    pjrt_options o = {.plugin = DIGPT_BINARY_DIR "/tests/modules/pjrt_abort.so", .target = "v5e:2x2"};
    ASSERT_OK(pjrt_create(o, &b.self, &err));
    ASSERT_FAILS(b.f->ahead(b.self, p, &out, &err), DG_ERR_UNSUPPORTED, "it ended its process (Aborted)");
    ASSERT_FAILS(b.f->store_create(b.self, &s, &err), DG_ERR_UNSUPPORTED, "leave out backend.target");
    uint32_t n;
    ASSERT_FAILS(b.f->devices(b.self, NULL, 0, &n, &err), DG_ERR_NOT_FOUND, "no device is used");
    assert_int_equal(b.f->preferred(b.self), DG_BF16);
    pjrt_close(b);
    dg_program_destroy(p);
}

static void a_program_is_compiled_for_a_tpu_that_is_not_here(void **state)
{
    (void)state;
    dg_error err;
    dg_ahead out = {.struct_size = sizeof out};
    backend b = {module_factory("backends-pjrt") ? module_factory("backends-pjrt")->interface : NULL, NULL};
    if (!b.f) skip();
    dg_program *p = power_program(64);
    ASSERT_OK(pjrt_create((pjrt_options){.target = "v5e:2x2"}, &b.self, &err));
    dg_status status = b.f->ahead(b.self, p, &out, &err);
    if (status != DG_OK && strstr(err.message, "no PJRT plugin for tpu")) skip();
    ASSERT_OK(status);
    assert_int_equal(out.devices, 4);
    assert_true(out.fits && out.memory > 1u << 30 && out.arguments >= 64 * 64 * 4 && out.flops > 0);
    assert_non_null(strstr(out.device, "TPU v5"));
    dg_program *large = power_program(40000); /* each matrix takes 6.4 GB */
    ASSERT_OK(b.f->ahead(b.self, large, &out, &err));
    assert_false(out.fits);
    assert_true(out.temporary > out.memory);
    dg_program_destroy(large);
    pjrt_close(b);
    ASSERT_OK(pjrt_create((pjrt_options){.target = "v5e:2x2", .replicas = 8}, &b.self, &err));
    ASSERT_FAILS(b.f->ahead(b.self, p, &out, &err), DG_ERR_INVALID, "has 4 devices for 8 replicas");
    pjrt_close(b);
    ASSERT_OK(pjrt_create((pjrt_options){.target = "v99:2x2"}, &b.self, &err));
    ASSERT_FAILS(b.f->ahead(b.self, p, &out, &err), DG_ERR_INVALID, "target v99:2x2 (such as v4:2x2x1");
    assert_string_equal(err.key, "backend.target");
    pjrt_close(b);
    dg_program_destroy(p);
}

static int setup(void **state)
{
    (void)state;
    dg_log_set_sink(keep_log, NULL);
    dg_log_set_level(DG_LOG_DEBUG);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trial_that_went_well_is_remembered),
        cmocka_unit_test(a_program_is_compiled_once),
        cmocka_unit_test(a_damaged_file_is_told_and_replaced),
        cmocka_unit_test(what_the_plugin_does_not_take_is_compiled_anew),
        cmocka_unit_test(a_folder_that_others_may_write_is_not_used),
        cmocka_unit_test(compiling_ahead_needs_a_target_and_says_what_it_cannot),
        cmocka_unit_test(a_program_is_compiled_for_a_tpu_that_is_not_here),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
