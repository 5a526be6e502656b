/* test_cuda.c - the real cuda plugin on any machine: it loads, plans without a device, and where there is
 * none says so in one line. */
#include "../backends/parity.h"

static const dg_factory *factory; /* NULL: not built */

static int open_module(void **state)
{
    (void)state;
    factory = module_factory("backends-cuda");
    return 0;
}

static backend open_backend(void)
{
    dg_error err;
    backend b = {NULL, NULL};
    if (!factory) skip();
    b.f = factory->interface;
    ASSERT_OK(b.f->create(dg_host_table(), NULL, &b.self, &err));
    return b;
}

static bool has_device(backend b)
{
    dg_error err = DG_ERROR_INIT;
    uint32_t n = 0;
    return b.f->devices(b.self, NULL, 0, &n, &err) == DG_OK;
}

static dg_program *small_program(void)
{
    dg_error err;
    dg_program *p;
    dg_graph *g = dg_graph_create();
    dg_value v = dg_input(g, "x", DG_F32, DG_LIST(256, 256), DG_PER_BATCH);
    for (int i = 0; i < 4; i++) v = dg_matmul(g, v, v, false, false, DG_NONE); /* two of them at a time */
    dg_graph_output(g, v, "y");
    ASSERT_OK(dg_program_make(g, "small", false, &p, &err));
    dg_graph_destroy(g);
    return p;
}

static void without_a_device_it_says_so_in_one_line(void **state)
{
    (void)state;
    dg_error err;
    char print[128];
    uint32_t n = 7;
    dg_backend_store *s;
    dg_backend_exe *exe;
    backend b = open_backend();
    if (has_device(b)) {
        b.f->destroy(b.self);
        skip();
    }
    ASSERT_FAILS(b.f->devices(b.self, NULL, 0, &n, &err), DG_ERR_NOT_FOUND, "NVIDIA driver");
    assert_null(strchr(err.message, '\n'));
    assert_int_equal(n, 0);
    ASSERT_FAILS(b.f->store_create(b.self, &s, &err), DG_ERR_NOT_FOUND, "NVIDIA driver");
    dg_program *p = small_program();
    ASSERT_FAILS(b.f->compile(b.self, p, NULL, &exe, &err), DG_ERR_NOT_FOUND, "NVIDIA driver");
    assert_null(exe);
    b.f->fingerprint(b.self, print, sizeof print);
    assert_string_equal(print, "cuda: no device");
    dg_program_destroy(p);
    b.f->destroy(b.self);
}

static void programs_are_checked_and_their_memory_is_known_without_a_device(void **state)
{
    (void)state;
    dg_error err;
    dg_memory_need need = {.struct_size = sizeof need};
    backend b = open_backend();
    dg_program *p = small_program();
    ASSERT_OK(b.f->check(b.self, p, NULL, NULL, &err));
    ASSERT_OK(b.f->memory(b.self, p, &need, &err));
    assert_int_equal(need.state, 0);
    assert_int_equal(need.temporary, 2 * 256 * 256 * 4 + (32 << 20)); /* and the workspace of products */
    dg_program_destroy(p);
    b.f->destroy(b.self);
}

/* Does a shared object whose name holds `word` lie in this process? */
static bool is_loaded(const char *word)
{
    char line[1024];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) return false;
    while (fgets(line, sizeof line, maps)) found |= strstr(line, word) != NULL;
    fclose(maps);
    return found;
}

static void nothing_of_cuda_is_loaded_before_there_is_a_device(void **state)
{
    (void)state;
    backend b = open_backend();
    bool device = has_device(b);
    if (!device) assert_false(is_loaded("libcublasLt"));
    assert_false(is_loaded("libcudart"));
    b.f->destroy(b.self);
    if (device) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_device_it_says_so_in_one_line),
        cmocka_unit_test(programs_are_checked_and_their_memory_is_known_without_a_device),
        cmocka_unit_test(nothing_of_cuda_is_loaded_before_there_is_a_device),
    };
    return cmocka_run_group_tests(tests, open_module, NULL);
}
