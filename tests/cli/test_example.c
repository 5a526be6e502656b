/* test_example.c - the plugin that authors start from, built outside the tree in both ways that its guide
 * names. */
#include "test.h"

#include <stdlib.h>

#define SOURCE DIGPT_SOURCE_DIR "/examples/plugin"

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *fmt, ...)
{
    char command[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    if (system(command) != 0) fail_msg("failed: %s", command);
}

/* A folder as an installation has it: include/digpt with the generated header. */
static const char *prefix(void)
{
    static char path[512];
    if (!path[0]) {
        snprintf(path, sizeof path, "%s/usr", test_dir());
        shell("mkdir -p %s/include && cp -r %s/core/include/digpt %s/include/ && cp %s/include/digpt/ops.h "
              "%s/include/digpt/",
              path, DIGPT_SOURCE_DIR, path, DIGPT_BINARY_DIR, path);
    }
    return path;
}

static void check(const char *file)
{
    shell("%s/bin/digpt check %s >%s 2>&1 || { cat %s; exit 1; }", DIGPT_BINARY_DIR, file, test_path("log"),
          test_path("log"));
    shell("grep -q ' passed, 0 failed, 0 skipped' %s || { cat %s; exit 1; }", test_path("log"),
          test_path("log"));
}

static void one_cc_line_makes_a_plugin_that_passes_its_checks(void **state)
{
    (void)state;
    const char *file = test_path("charbonnier.so");
    shell("${CC:-cc} -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -I%s/include "
          "%s/charbonnier.c -o %s",
          prefix(), SOURCE, file);
    check(file);
    shell("%s/bin/digpt plugins charbonnier --plugin-path %s | grep -q 'difference at which'",
          DIGPT_BINARY_DIR, file);
}

static void it_exports_one_symbol(void **state)
{
    (void)state;
    shell("test \"$(nm -D --defined-only %s/charbonnier.so | awk '{print $3}')\" = digpt_plugin_entry",
          test_dir());
}

static void cmake_makes_the_same_plugin(void **state)
{
    (void)state;
    const char *build = test_path("build");
    /* The generator of this build: a machine may have ninja and no make. */
    shell("cmake -S %s -B %s -G '%s' -DCMAKE_PREFIX_PATH=%s >%s 2>&1 && cmake --build %s >>%s 2>&1", SOURCE,
          build, DIGPT_GENERATOR, prefix(), test_path("cmake.log"), build, test_path("cmake.log"));
    check(test_path("build/charbonnier.so"));
}

static void a_recipe_uses_it_by_its_path(void **state)
{
    (void)state;
    static const char text[] =
        "extends: " DIGPT_SOURCE_DIR "/recipes/quickstart.yaml\nplugins: [charbonnier.so]\n"
        "backend:\n  name: reference\ndata:\n  batch: 2\nloss:\n  name: charbonnier\n  eps: 0.01\n";
    const char *path = test_path("own.yaml");
    test_write(path, text, sizeof text - 1);
    shell("%s/bin/digpt recipe check %s | grep -q 'compared by charbonnier'", DIGPT_BINARY_DIR, path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_cc_line_makes_a_plugin_that_passes_its_checks),
        cmocka_unit_test(it_exports_one_symbol),
        cmocka_unit_test(cmake_makes_the_same_plugin),
        cmocka_unit_test(a_recipe_uses_it_by_its_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
