/* test_cli.c - the program from outside: its words, its messages, its exit codes. */
#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/mem.h"

#define MODULES DIGPT_BINARY_DIR "/tests/modules/"
#define BACKEND " backend.name=reference"

static char out[1 << 20], err_text[1 << 16];

static void read_back(const char *path, char *into, size_t size)
{
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(into, 1, size - 1, f) : 0;
    into[n] = 0;
    if (f) fclose(f);
}

/* Runs `digpt ARGUMENTS` through the shell: its exit code, or 1000 + the signal that ended it. */
static int digpt(const char *arguments)
{
    char command[4096];
    snprintf(command, sizeof command, "exec %s/bin/digpt %s >%s 2>%s", DIGPT_BINARY_DIR, arguments,
             test_path("out"), test_path("err"));
    int status = system(command);
    read_back(test_path("out"), out, sizeof out);
    read_back(test_path("err"), err_text, sizeof err_text);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void expect(const char *arguments, int code, const char *in_out, const char *in_err)
{
    int got = digpt(arguments);
    if (got != code) fail_msg("digpt %s: exit code %d, not %d\n%s%s", arguments, got, code, out, err_text);
    if (!strstr(out, in_out)) fail_msg("digpt %s: '%s' is not in\n%s%s", arguments, in_out, out, err_text);
    if (!strstr(err_text, in_err)) fail_msg("digpt %s: '%s' is not in\n%s", arguments, in_err, err_text);
}

/* ---- words */

static const char *const commands[] = {
    "run",         "bench",     "recipe list", "recipe copy", "recipe check", "recipe show",
    "recipe diff", "graph",     "plugins",     "check",       "doctor",       "completion",
    "data check",  "data pack", "data import", "weights",     "convert"};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void help_lists_every_command_and_the_exit_codes(void **state)
{
    (void)state;
    expect("--help", 0, "75 stopped in good order", "");
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strstr(out, commands[i])) fail_msg("'%s' is not in the help", commands[i]);
    expect("", 2, "usage: digpt COMMAND", "");
    expect("--version", 0, "digpt " DIGPT_VERSION " (plugin ABI 1.", "");
}

static void every_command_explains_itself(void **state)
{
    (void)state;
    char arguments[64], usage[64];
    for (size_t i = 0; i < N_COMMANDS; i++) {
        snprintf(arguments, sizeof arguments, "%s --help", commands[i]);
        snprintf(usage, sizeof usage, "usage: digpt %s", commands[i]);
        expect(arguments, 0, usage, "");
        if (!strstr(out, "--help")) fail_msg("%s: no options in\n%s", commands[i], out);
    }
    expect("recipe --help", 0, "digpt recipe show RECIPE", "");
}

static void wrong_words_get_the_nearest_and_exit_code_2(void **state)
{
    (void)state;
    expect("doctr", 2, "", "there is no command 'doctr'; did you mean 'doctor'? See digpt --help");
    expect("recip", 2, "", "did you mean 'recipe'?");
    expect("recipe shwo x", 2, "", "there is no command 'recipe shwo'; did you mean 'show'?");
    expect("recipe", 2, "", "needs one more word");
    expect("xyzzy", 2, "", "there is no command 'xyzzy'. See");
    expect("plugins --wyh", 2, "", "plugins: there is no option '--wyh'; did you mean '--why'?");
    expect("plugins --why=1", 2, "", "the option --why takes no value");
    expect("plugins a b", 2, "", "'b' is one argument too many; usage: digpt plugins [ID or NAME]");
    expect("plugins --plugin-path", 2, "", "the option --plugin-path needs a value");
    expect("recipe show", 2, "", "too few arguments; usage: digpt recipe show RECIPE");
    expect("check --time-limit soon x.so", 2, "", "a whole number from 1 to 86400 is needed");
    expect("graph x --pass trian", 2, "", "there is no pass 'trian'; did you mean 'train'?");
    expect("completion tcsh", 2, "", "there are bash, zsh, fish");
}

static void a_full_disk_is_a_failure(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "%s/bin/digpt --help >/dev/full 2>%s", DIGPT_BINARY_DIR,
             test_path("err"));
    assert_int_equal(WEXITSTATUS(system(command)), 1);
    read_back(test_path("err"), err_text, sizeof err_text);
    assert_non_null(strstr(err_text, "cannot write to standard output: No space left"));
}

static void completion_scripts_name_the_commands(void **state)
{
    (void)state;
    static const char *const shells[] = {"bash", "zsh", "fish"};
    char arguments[64], command[256];
    for (size_t i = 0; i < 3; i++) {
        snprintf(arguments, sizeof arguments, "completion %s", shells[i]);
        expect(arguments, 0, "doctor", "");
        assert_non_null(strstr(out, "plugin-path"));
        if (i == 0) {
            snprintf(command, sizeof command, "bash -n %s", test_path("out"));
            assert_int_equal(system(command), 0);
        }
    }
    /* What bash offers after `digpt recipe sh`. */
    expect("completion bash", 0, "_digpt", "");
    snprintf(
        command, sizeof command,
        "bash -c '. %s; COMP_WORDS=(digpt recipe sh) COMP_CWORD=2; _digpt; test \"${COMPREPLY[*]}\" = show'",
        test_path("out"));
    assert_int_equal(system(command), 0);
}

/* ---- plugins */

static void plugins_are_listed_and_explained(void **state)
{
    (void)state;
    expect("plugins --plugin-path " MODULES "good.so", 0, "test.good", "");
    assert_non_null(strstr(out, "backend reference"));
    expect("plugins test.good --plugin-path " MODULES "good.so", 0, "integer 1..9, tokens; default: 3", "");
    expect("plugins good --plugin-path " MODULES "good.so", 0, "one of: one, two; default: two", "");
    expect("plugins goood --plugin-path " MODULES "good.so", 1, "", "named 'goood'; did you mean 'good'?");
}

static void a_plugin_that_cannot_be_used_is_always_told(void **state)
{
    (void)state;
    expect("plugins --plugin-path " MODULES "wrong_major.so", 0, "",
           "1 file could not be used: digpt plugins --why says why");
    expect("plugins --why --plugin-path " MODULES "wrong_major.so", 0,
           "NOT USED  it was built for plugin ABI 7.3", "");
    expect("doctor --plugin-path " MODULES "wrong_major.so", digpt("doctor"), "built for plugin ABI 7.3", "");
    expect("plugins --plugin-path /no/such", 1, "", "plugin path '/no/such' (--plugin-path): No such file");
}

static void a_plugin_that_crashes_is_named(void **state)
{
    (void)state;
    expect("plugins --plugin-path " MODULES "crash_entry.so", 1000 + SIGSEGV, "",
           "the plugin '" MODULES "crash_entry.so' crashed while it was being loaded");
}

static void the_doctor_looks_at_the_machine(void **state)
{
    (void)state;
    int code = digpt("doctor");
    assert_true(code == 0 || code == 1);
    static const char *const rows[] = {"processor", "cores",     "instructions", "memory",
                                       "disk",      "libraries", "plugins",      "backend reference"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!strstr(out, rows[i])) fail_msg("no row '%s' in\n%s", rows[i], out);
    assert_non_null(strstr(out, code ? "to do:" : "\n\n"));
}

/* ---- recipes */

static void recipes_are_found_by_name_and_copied(void **state)
{
    (void)state;
    char arguments[1024];
    expect("recipe list", 0, "quickstart", "");
    expect("recipe list --names", 0, "quickstart\n", "");
    assert_null(strstr(out, "RECIPE"));
    snprintf(arguments, sizeof arguments, "recipe copy quickstart %s", test_dir());
    expect(arguments, 0, "/quickstart.yaml", "");
    expect(arguments, 1, "", "is there already; --force replaces it");
    snprintf(arguments, sizeof arguments, "recipe copy --force quickstart %s", test_path("quickstart.yaml"));
    expect(arguments, 0, "", "");
    expect("recipe copy quickstrat", 1, "", "did you mean");
}

static void a_recipe_is_shown_with_origins(void **state)
{
    (void)state;
    expect("recipe show quickstart" BACKEND " seed=7", 0, "seed: 7", "");
    expect("recipe show --origins quickstart" BACKEND " seed=7", 0, "# command line, argument 2", "");
    assert_non_null(strstr(out, "quickstart.yaml:"));
}

/* quickstart on the reference backend with a small batch. */
static const char *small_recipe(void)
{
    static const char text[] = "extends: " DIGPT_SOURCE_DIR "/recipes/quickstart.yaml\n"
                               "backend:\n  name: reference\ndata:\n  batch: 4\n";
    const char *path = test_path("small.yaml");
    test_write(path, text, sizeof text - 1);
    return path;
}

static void two_recipes_differ_in_what_was_changed(void **state)
{
    (void)state;
    char arguments[1200];
    const char *path = small_recipe();
    snprintf(arguments, sizeof arguments, "recipe diff %s %s loss.name=cosine", path, path);
    expect(arguments, 0, "loss.name", "");
    assert_non_null(strstr(out, "cosine"));
    assert_null(strstr(out, "tokenizer.name"));
    snprintf(arguments, sizeof arguments, "recipe diff %s %s", path, path);
    expect(arguments, 0, "no difference", "");
}

static void wrong_recipes_say_where(void **state)
{
    (void)state;
    static const char text[] =
        "seed: 1\ntokenizer:\n  name: pixels\n  ptach: 4\nmodel:\n  name: digpt\nloss:\n  name: cosin\n"
        "backend:\n  name: reference\ndata:\n  source: synthetic\n";
    char arguments[600], where[600];
    const char *path = test_path("wrong.yaml");
    test_write(path, text, sizeof text - 1);
    snprintf(arguments, sizeof arguments, "recipe check %s", path);
    snprintf(where, sizeof where, "%s:4:3: error: ", path);
    expect(arguments, 1, "", where);
    assert_non_null(strstr(err_text, "did you mean 'patch'"));
    snprintf(where, sizeof where,
             "%s:8:9: error: loss.name: there is no loss 'cosin'; did you mean 'cosine'?", path);
    assert_non_null(strstr(err_text, where));
    expect("recipe check quickstart" BACKEND " sede=1", 1, "", "command line, argument 2");
}

static void check_says_what_a_recipe_would_do(void **state)
{
    (void)state;
    expect("recipe check quickstart" BACKEND " data.batch=4", 0, "parameters trained", "");
    static const char *const rows[] = {"tokenizer", "predicts", "work", "backend", "memory", "data", "steps"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!strstr(out, rows[i])) fail_msg("no row '%s' in\n%s", rows[i], out);
    /* The same small recipe with other tokens. */
    char arguments[1200];
    const char *path = small_recipe();
    snprintf(arguments, sizeof arguments, "recipe check %s tokenizer.patch=16 --against %s", path, path);
    expect(arguments, 0, "vectors of 768", "");
    assert_non_null(strstr(out, "\n  was      8 x 8 = 64, vectors of 192"));
}

static void a_mismatch_is_explained_at_its_key(void **state)
{
    (void)state;
    expect("recipe check quickstart" BACKEND " data.batch=4 model.segments=[3,3]", 1, "",
           "command line, argument 3: error: ");
    assert_non_null(strstr(err_text, "model.segments"));
}

static void the_program_is_printed_at_every_stage(void **state)
{
    (void)state;
    static const struct {
        const char *stage, *op;
    } stages[] = {{"forward", " linear("},
                  {"precision", " linear("},
                  {"train", " matmul("},
                  {"primitives", " matmul("}};
    char arguments[256];
    for (size_t i = 0; i < 4; i++) {
        snprintf(arguments, sizeof arguments, "graph quickstart" BACKEND " data.batch=2 --pass %s",
                 stages[i].stage);
        expect(arguments, 0, stages[i].op, "");
    }
    expect("graph quickstart" BACKEND " data.batch=2 --dot --pass forward", 0, "digraph", "");
    expect("graph quickstart" BACKEND " data.batch=2 --pass apply", 1, "", "without accumulation");
    expect("graph quickstart" BACKEND " data.batch=2 train.accumulate=2 --pass apply", 0, "accumulated", "");
}

/* ---- check */

static void a_good_plugin_passes_its_checks(void **state)
{
    (void)state;
    expect("check " MODULES "good.so", 0, "12 passed, 0 failed, 0 skipped", "");
}

static void every_fault_of_a_plugin_fails_its_check(void **state)
{
    (void)state;
    static const struct {
        const char *module, *text;
    } faults[] = {
        {"leaky", "FAIL  loss 'leaky': nothing left after destroy - 1 blocks are left"},
        {"silent", "FAIL  loss 'silent': random settings - status 1 with number=9: "},
        {"fragile", "FAIL  loss 'fragile': random settings - it crashes: signal 8"},
        {"fragile", "FAIL  loss 'fragile': memory that runs out - it crashes: signal 11"},
        {"fragile", "pass  loss 'fragile': gradient against finite differences"},
        {"wrong_numbers", "FAIL  loss 'infinite': finite - batch 1, 1 positions, width 1, vectors: element 0 "
                          "of its value is -inf"},
        {"wrong_numbers", "FAIL  loss 'scalar': builds for many shapes - batch 1, 1 positions, width 1, "
                          "vectors: it gives f32[]"},
        {"wrong_numbers",
         "FAIL  loss 'blind': finite - batch 1, 1 positions, width 1, vectors: it does not read both"},
        {"crash_entry", "FAIL  loads, and its descriptions are right - it crashes: signal 11"},
        {"wrong_magic", "FAIL  loads, and its descriptions are right - its descriptor begins with"},
        {"talks", "FAIL  loss 'talks': builds for many shapes - it takes longer than 1 seconds"},
        {"talks", "FAIL  prints nothing - it prints: building"},
    };
    char arguments[512];
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        snprintf(arguments, sizeof arguments, "check --time-limit %d " MODULES "%s.so",
                 strcmp(faults[i].module, "talks") ? 60 : 1, faults[i].module);
        expect(arguments, 1, faults[i].text, "");
    }
    expect("check /no/such.so", 1, "", "'/no/such.so' is no file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_lists_every_command_and_the_exit_codes),
        cmocka_unit_test(every_command_explains_itself),
        cmocka_unit_test(wrong_words_get_the_nearest_and_exit_code_2),
        cmocka_unit_test(a_full_disk_is_a_failure),
        cmocka_unit_test(completion_scripts_name_the_commands),
        cmocka_unit_test(plugins_are_listed_and_explained),
        cmocka_unit_test(a_plugin_that_cannot_be_used_is_always_told),
        cmocka_unit_test(a_plugin_that_crashes_is_named),
        cmocka_unit_test(the_doctor_looks_at_the_machine),
        cmocka_unit_test(recipes_are_found_by_name_and_copied),
        cmocka_unit_test(a_recipe_is_shown_with_origins),
        cmocka_unit_test(two_recipes_differ_in_what_was_changed),
        cmocka_unit_test(wrong_recipes_say_where),
        cmocka_unit_test(check_says_what_a_recipe_would_do),
        cmocka_unit_test(a_mismatch_is_explained_at_its_key),
        cmocka_unit_test(the_program_is_printed_at_every_stage),
        cmocka_unit_test(a_good_plugin_passes_its_checks),
        cmocka_unit_test(every_fault_of_a_plugin_fails_its_check),
    };
    setenv("DIGPT_RECIPE_PATH", DIGPT_SOURCE_DIR "/recipes", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
