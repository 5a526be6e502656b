/* test_cpu.c - the cpu backend: every op against the reference, each set of kernels, threads, state. */
#include "parity.h"

#include "digpt/philox.h"

static const char *const isas[] = {"plain", "avx2", "avx512", "avx512_bf16"};
enum { N_ISAS = sizeof isas / sizeof isas[0] };

static const dg_factory *factory;

/* threads 0: all; isa -1: the best. self NULL: this processor has no such kernels. */
static backend cpu_backend(int64_t threads, int isa)
{
    dg_error err = DG_ERROR_INIT;
    backend b = {factory->interface, NULL};
    const dg_param_value values[] = {{.type = DG_PARAM_INT, .is_set = 1, .v.i = threads, .text = ""},
                                     {.type = DG_PARAM_CHOICE, .is_set = 1, .v.i = isa + 1, .text = ""}};
    const dg_params params = {(uint32_t)sizeof params, 2, values};
    dg_status s = b.f->create(dg_host_table(), &params, &b.self, &err);
    if (s != DG_OK && (isa < 0 || s != DG_ERR_UNSUPPORTED)) fail_msg("%s", err.message);
    return b;
}

static int open_module(void **state)
{
    (void)state;
    factory = module_factory("backends-cpu");
    return factory ? 0 : -1;
}

/* ---- ops */

static void count_complaint(void *user, uint32_t node, const char *reason)
{
    (void)node;
    if (strstr(reason, "f16") || strstr(reason, "f8e4m3")) ++*(int *)user;
}

/* Cases in the small floats are complained about; the rest must run. */
static bool is_refused(backend b, const dg_case *c, bool gradients)
{
    dg_error err = DG_ERROR_INIT;
    int complaints = 0;
    dg_graph *g = case_graph(c, gradients), *lowered;
    dg_program *p;
    ASSERT_OK(dg_pass_lower(g, take_supported, &b, &lowered, &err));
    ASSERT_OK(dg_program_make(lowered, "test", false, &p, &err));
    dg_status s = b.f->check(b.self, p, count_complaint, &complaints, &err);
    dg_program_destroy(p);
    dg_graph_destroy(lowered);
    dg_graph_destroy(g);
    return s == DG_ERR_UNSUPPORTED && complaints > 0;
}

static bool has_gradient(const dg_case *c)
{
    dg_error err;
    dg_value in[DG_OP_MAX_IN], y;
    size_t n_in;
    dg_graph *g = dg_graph_create();
    ASSERT_OK(dg_case_build(c, g, in, &n_in, &y, &err));
    bool yes = is_differentiable(c, g, y);
    dg_graph_destroy(g);
    return yes;
}

static void with_every_set_of_kernels(bool gradients)
{
    backend ref = reference_backend();
    size_t bad = 0;
    for (int isa = 0; isa < N_ISAS; isa++) {
        backend b = cpu_backend(0, isa);
        if (!b.self) continue;
        for (size_t i = 0; i < dg_case_count(); i++) {
            const dg_case *c = dg_case_at(i);
            if ((gradients && !has_gradient(c)) || is_refused(b, c, gradients)) continue;
            if (case_agrees(b, ref, c, gradients)) continue;
            print_error("with the %s kernels\n", isas[isa]);
            bad++;
        }
        b.f->destroy(b.self);
    }
    ref.f->destroy(ref.self);
    if (bad) fail_msg("%zu cases disagree with the reference", bad);
}

static void every_case_agrees_with_the_reference(void **state)
{
    (void)state;
    with_every_set_of_kernels(false);
}

static void gradients_of_every_case_agree_with_the_reference(void **state)
{
    (void)state;
    with_every_set_of_kernels(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_agrees_with_the_reference),
        cmocka_unit_test(gradients_of_every_case_agree_with_the_reference),
    };
    return cmocka_run_group_tests(tests, open_module, NULL);
}
