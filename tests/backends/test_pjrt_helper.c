/* test_pjrt_helper.c - a plugin that aborts while it compiles a program of ours: that is one message, and the
 * process lives on. Here no plugin may be loaded before the first backend is made. */
#include "pjrt_support.h"

#include <sys/wait.h>

#include "base/log.h"

static char log_text[1 << 14];

static void keep_log(void *user, dg_log_level level, const char *line)
{
    (void)user, (void)level;
    size_t n = strlen(log_text);
    snprintf(log_text + n, sizeof log_text - n, "%s\n", line);
}

/* exp of a vector of n. */
static dg_graph *vector_graph(int64_t n)
{
    dg_graph *g = dg_graph_create();
    dg_graph_output(g, dg_exp(g, dg_input(g, "x", DG_F32, &n, 1, DG_PER_BATCH)), "y");
    return g;
}

static void compiles(backend b, int64_t n, const char *logged)
{
    const float in[16] = {0, 1, 2};
    log_text[0] = 0;
    dg_graph *g = vector_graph(n);
    running r = start(b, g, NULL);
    if (!strstr(log_text, logged)) fail_msg("'%s' is not in the log:\n%s", logged, log_text);
    run_once(&r, (const void *[]){in});
    assert_float_equal(((float *)r.outputs[0])[1], 2.7182818f, 1e-5);
    b.f->store_destroy(r.store);
    stop(&r);
    dg_graph_destroy(g);
}

static void ends_its_process(backend b)
{
    dg_error err;
    dg_program *p;
    dg_backend_store *s;
    dg_backend_exe *exe = NULL;
    dg_graph *g = vector_graph(13);
    ASSERT_OK(dg_program_make(g, "unlucky", false, &p, &err));
    ASSERT_OK(b.f->store_create(b.self, &s, &err));
    ASSERT_FAILS(b.f->compile(b.self, p, s, &exe, &err), DG_ERR_UNSUPPORTED,
                 "compiling program unlucky in a child process: it ended its process (Aborted)");
    assert_non_null(strstr(err.message, "pjrt_trap.so"));
    assert_non_null(
        strstr(err.message, "its last words: F0000 00:00:0 1 layout.cc:13] Check failed: unlucky shape"));
    b.f->store_destroy(s);
    dg_program_destroy(p);
    dg_graph_destroy(g);
}

static void a_program_that_the_plugin_dies_of_is_a_message_and_others_run(void **state)
{
    (void)state;
    static const char trap[] = DIGPT_BINARY_DIR "/tests/modules/pjrt_trap.so";
    const dg_factory *factory = module_factory("backends-pjrt");
    dg_error err;
    if (!factory) skip();
    backend b = {factory->interface, NULL};
    dg_status status = pjrt_create(
        (pjrt_options){.plugin = trap, .trial = "auto", .cache = test_path("cache")}, &b.self, &err);
    if (status != DG_OK && strstr(err.message, "gave no table")) skip(); /* there is no CPU plugin */
    ASSERT_OK(status);
    compiles(b, 5, "compiled in a child process");
    ends_its_process(b);
    compiles(b, 5, "compiled before");
    compiles(b, 7, "compiled in a child process");
    ends_its_process(b);
    pjrt_close(b);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* the helper ended with the backend */
}

/* Where the plugin is loaded already, there is no helper, and it is compiled here. */
static void a_second_backend_compiles_by_itself(void **state)
{
    (void)state;
    backend b = pjrt_open((pjrt_options){.trial = "auto"});
    if (!b.self) skip();
    compiles(b, 6, "program test: arguments");
    assert_null(strstr(log_text, "child"));
    pjrt_close(b);
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
        cmocka_unit_test(a_program_that_the_plugin_dies_of_is_a_message_and_others_run),
        cmocka_unit_test(a_second_backend_compiles_by_itself),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
