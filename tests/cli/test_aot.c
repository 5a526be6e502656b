/* test_aot.c - `digpt aot`: what it says about a target, a compiler or a recipe that it cannot use, and a
 * real compile where Google's TPU compiler is. */
#include "test.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char out[1 << 16], err_text[1 << 16];

static const char recipe[] =
    "name: tiny\n"
    "data: {source: synthetic, synthetic_images: 64, synthetic_size: 40, image_size: 32, batch: 8}\n"
    "tokenizer: {name: pixels, patch: 8}\n"
    "model: {name: digpt, size: free, width: 16, depth: 1, heads: 2, patch: 8, segments: [2, 2], taps: [1],\n"
    "        decoder_width: 16, decoder_depth: 1, decoder_heads: 2}\n"
    "loss: {name: mse}\n";

static void read_back(const char *path, char *into, size_t size)
{
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(into, 1, size - 1, f) : 0;
    into[n] = 0;
    if (f) fclose(f);
}

/* Runs `VARIABLES digpt aot tiny.yaml ARGUMENTS`: its exit code. */
static int aot(const char *variables, const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "%s exec %s/bin/digpt aot %s/tiny.yaml %s >%s/out 2>%s/err", variables,
             DIGPT_BINARY_DIR, test_dir(), arguments, test_dir(), test_dir());
    int status = system(command);
    read_back(test_path("out"), out, sizeof out);
    read_back(test_path("err"), err_text, sizeof err_text);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void fails(const char *variables, const char *arguments, int code, const char *because)
{
    int got = aot(variables, arguments);
    if (got != code || !strstr(err_text, because))
        fail_msg("digpt aot %s: exit code %d instead of %d, '%s' wanted in\n%s%s", arguments, got, code,
                 because, out, err_text);
}

static bool has_backend(void)
{
    return access(DIGPT_BINARY_DIR "/lib/digpt/plugins/backends-pjrt.so", R_OK) == 0;
}

/* Is there a libtpu where the backend looks? */
static bool has_compiler(void)
{
    return has_backend() && (aot("", "--target v5e:2x2") == 0 || !strstr(err_text, "no PJRT plugin for tpu"));
}

static void without_a_target_it_asks_for_one(void **state)
{
    (void)state;
    fails("", "", 1, "cannot compile for devices that are not here; give --target");
    if (!has_backend()) skip();
    fails("", "backend.name=pjrt backend.plugin=cpu backend.trial=never", 1,
          "Set backend.target, such as v5e:2x2");
}

static void a_wrong_recipe_is_told_before_anything_is_compiled(void **state)
{
    (void)state;
    if (!has_backend()) skip();
    fails("", "--target v5e:2x2 model.depht=2", 1, "depht");
    fails("", "--target v5e:2x2 model.heads=3", 1, "heads");
    fails("", "--target v5e:2x2 backend.replicas=3", 1, "8 images cannot be shared by 3 ranks evenly");
    fails("", "--target v5e:2x2 optimizer.shard=true", 1, "optimizer.shard");
    fails("", "--traget v5e:2x2", 2, "--target");
}

static void a_missing_or_broken_compiler_is_explained(void **state)
{
    (void)state;
    if (!has_backend()) skip();
    fails(
        "DIGPT_PJRT_TPU=/nowhere/libtpu.so", "--target v5e:2x2", 1,
        "there is no readable file /nowhere/libtpu.so, which the environment variable DIGPT_PJRT_TPU names");
    fails("DIGPT_PJRT_TPU=" DIGPT_BINARY_DIR "/tests/modules/pjrt_abort.so", "--target v5e:2x2", 1,
          "it ended its process (Aborted); its last words: F0000");
    fails("DIGPT_PJRT_TPU=" DIGPT_BINARY_DIR "/tests/modules/pjrt_old.so", "--target v5e:2x2", 1, "too old");
}

static void an_unknown_target_gets_examples(void **state)
{
    (void)state;
    if (!has_compiler()) skip();
    fails("", "--target v99:2x2", 1, "target v99:2x2 (such as v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x2)");
    fails("", "--target v5e:2x2 backend.replicas=8", 1, "target v5e:2x2 has 4 devices for 8 replicas");
}

static void a_step_is_compiled_for_devices_that_are_not_here(void **state)
{
    (void)state;
    if (!has_compiler()) skip();
    if (aot("", "--target v5e:2x2 --json backend.replicas=4 optimizer.shard=true") != 0)
        fail_msg("%s", err_text);
    static const char *const said[] = {
        "\"device\":\"TPU v5 lite\"", "\"program\":\"train\"", "\"replicas\":4",
        "\"images_per_device\":2",    "\"fits\":\"yes\"",      "\"precision\":\"bf16\""};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++)
        if (!strstr(out, said[i])) fail_msg("%s is not in\n%s", said[i], out);
    const char *flops = strstr(out, "\"compiler_flops\":"), *state_bytes = strstr(out, "\"argument_bytes\":");
    assert_true(flops && strtod(flops + 17, NULL) > 1e6);
    assert_true(state_bytes && strtod(state_bytes + 17, NULL) > 1e4);
    if (aot("", "--target v5e:2x2") != 0) fail_msg("%s", err_text);
    if (!strstr(out, "fits: ") || !strstr(out, "4 x TPU v5 lite")) fail_msg("%s", out);
}

static int setup(void **state)
{
    (void)state;
    test_write(test_path("tiny.yaml"), recipe, strlen(recipe));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_target_it_asks_for_one),
        cmocka_unit_test(a_wrong_recipe_is_told_before_anything_is_compiled),
        cmocka_unit_test(a_missing_or_broken_compiler_is_explained),
        cmocka_unit_test(an_unknown_target_gets_examples),
        cmocka_unit_test(a_step_is_compiled_for_devices_that_are_not_here),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
